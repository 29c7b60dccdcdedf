"""A float model for numerical differentiation, with which tests compare the reference's integer gradients.

Activations are those of an integer forward pass plus the unrounded effect of a change of the adapter. Rounding and
clamping count as the identity (straight-through), except where a fused activation masks the gradient.

Many changes are evaluated at once: values are [positions, channels, changes]; the last axis is 1 if nothing changed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from reference import (
    Trace,
    forward_sample,
    gathered,
    image,
    inner,
    repeated,
    sliced,
    step_in_nats,
    taps,
    weight_matrix,
    windows,
)

from edgelora.core.formats.ela import Adapter
from edgelora.core.formats.network import PAIR_KINDS, Op, QuantModel

Floats = NDArray[np.float64]
ATONCE = 64  # changes evaluated at once


class FloatModel:
    """The loss of one sample as a smooth function of A and B: nats, or half the squared error in int8 steps."""

    def __init__(self, model: QuantModel, adapter: Adapter, x: NDArray[np.int8], target: int | NDArray) -> None:
        self.model, self.target = model, target
        self.trace: Trace = forward_sample(model, x, adapter)
        self.layers = {layer.op: layer for layer in adapter.layers}
        ops = list(enumerate(model.ops))
        self.factors = {index: _factor(op) for index, op in ops if op.multiplier is not None}
        self.weights = {index: weight_matrix(op).astype(np.float64) for index, op in ops if op.is_matrix}
        self.passes = [~_masked(op, self.trace.y[index + 1])[..., None] for index, op in ops]  # False if masked
        # z of each op, and t of each adapter (keyed -1 - op), with the unchanged adapter
        self.origin: dict[int, Floats] = {}
        self.unchanged = [self.trace.y[0].astype(np.float64)[..., None]]  # y of each tensor, unchanged
        self.unchanged, self.origin = self._run({})

    def loss(self, changed: dict[tuple[int, str], Floats]) -> Floats:
        """The losses with one matrix, key (op, "a" or "b"), replaced by each of several."""
        y = self._run(changed)[0][self.model.loss_index]
        y = y.reshape(-1, y.shape[-1])
        tensor, target = self.model.loss_tensor, np.reshape(self.target, (-1, 1))
        if self.model.loss == "mean_squared_error":
            return np.square(y - target).sum(axis=0) / 2
        logits = step_in_nats(self.model) * (y - tensor.zero_point)
        if self.model.loss == "binary_cross_entropy":
            return (np.logaddexp(0, logits) - logits * target).sum(axis=0)
        highest = logits.max(axis=0)
        return np.log(np.exp(logits - highest).sum(axis=0)) + highest - logits[self.target]

    @property
    def is_stuck(self) -> NDArray[np.bool_]:
        """Which logits are at an end of their grid and pushed further by the loss; integers give them no gradient."""
        q = self.trace.y[self.model.loss_index].reshape(-1)
        if self.model.loss == "mean_squared_error":
            return np.zeros(len(q), bool)
        if self.model.loss == "binary_cross_entropy":
            wanted = np.asarray(self.target).reshape(-1) == 1
        else:
            wanted = np.arange(len(q)) == self.target
        return (q == 127) & wanted | (q == -128) & ~wanted

    def gradient(self, key: tuple[int, str]) -> Floats:
        """The gradient of one matrix by central differences."""
        matrix = getattr(self.layers[key[0]], key[1]).astype(np.float64)
        steps = 0.01 * np.eye(matrix.size).reshape(-1, *matrix.shape)
        found = [
            self.loss({key: matrix + some}) - self.loss({key: matrix - some})
            for some in np.split(steps, range(ATONCE, len(steps), ATONCE))
        ]
        return np.concatenate(found).reshape(matrix.shape) / 0.02

    def _run(self, changed: dict[tuple[int, str], Floats]) -> tuple[list[Floats], dict[int, Floats]]:
        first = min((index for index, _ in changed), default=0)  # ops before it are unchanged
        y, seen = self.unchanged[: first + 1], {}
        for index in range(first, len(self.model.ops)):
            z = seen[index] = self._op(index, y, changed, seen)
            y.append(self.trace.y[index + 1][..., None] + self.passes[index] * (z - self.origin.get(index, z)))
        return y, seen

    def _op(self, index: int, y: list[Floats], changed: dict, seen: dict[int, Floats]) -> Floats:
        """The op's output before rounding, up to a constant, from its real-valued inputs."""
        model, op = self.model, self.model.ops[index]
        x, other, whole = y[op.input], y[op.input2], self.trace.y[op.input]
        source = x - model.tensors[op.input].zero_point
        if op.is_matrix:
            return self._matrix(index, source, changed, seen) * self.factors[index][:, None]
        if op.kind == "depthwise":
            outputs = model.tensors[op.output].shape[2]
            rows = windows(model, op, source, 0).repeat(outputs // source.shape[1], axis=2)
            return (rows * op.weights.reshape(-1, outputs, 1)).sum(axis=1) * self.factors[index][:, None]
        if op.kind == "average_pool":
            return windows(model, op, source, 0).sum(axis=1) / _counts(model, op)[..., None]
        if op.kind == "max_pool":  # follows the element that is the largest now
            first = windows(model, op, whole, -129).argmax(axis=1)[:, None, :, None]
            return np.take_along_axis(windows(model, op, x, 0), first, axis=1)[:, 0]
        if op.kind == "mean":
            return source.sum(axis=0, keepdims=True) * self.factors[index]
        if op.kind in PAIR_KINDS:
            return self._pair(index, x, _taken(repeated(model, op, _places(other)), other))
        if op.kind == "constant":
            return op.values.astype(np.float64).reshape(-1, op.values.shape[2], 1)
        if op.kind == "lookup":  # its table is too coarse to differentiate
            return x * (op.slope[whole + 128] * 2.0 ** float(op.shift[0]))[..., None]
        if op.kind == "softmax":
            real = np.exp((x - x.max()) * float(np.float32(model.tensors[op.input].scale)))
            return 256 * real / real.sum(axis=1, keepdims=True)
        return self._moved(op, x, other)

    def _pair(self, index: int, a: Floats, b: Floats) -> Floats:
        """An op of two inputs, element by element."""
        model, op = self.model, self.model.ops[index]
        now, then = self.trace.y[op.input][..., None], repeated(model, op, self.trace.y[op.input2])[..., None]
        if op.kind in ("minimum", "maximum"):  # follows the input that is taken now
            return np.where(now <= then if op.kind == "minimum" else now >= then, a, b)
        factor = self.factors[index]
        if op.kind == "add":
            return (a * factor[0] + b * factor[1]) * 2**20 * factor[2]
        zero = model.tensors[op.input].zero_point
        product = (a - zero) * (b - model.tensors[op.input2].zero_point) * factor[-1]
        return product if op.kind == "multiply" else np.where(now < zero, product, (a - zero) * factor[0])

    def _moved(self, op: Op, x: Floats, other: Floats) -> Floats:
        """Ops that only move values: concatenate, slice, history, pad, reshape, gather."""
        places = _places(x)
        if op.kind == "reshape":
            return x.reshape(-1, self.model.tensors[op.output].shape[2], x.shape[-1])
        if op.kind == "concatenate":
            mine, theirs = image(self.model, op.input, places), image(self.model, op.input2, _places(other))
            parts = [(mine, 0 * theirs), (0 * mine, theirs)]
            first, second = (np.concatenate(part, axis=op.axis - 1) for part in parts)
            channels = first.shape[2]
            return _taken(first.reshape(-1, channels), x) + _taken(second.reshape(-1, channels), other)
        if op.kind == "slice":
            moved = np.take(image(self.model, op.input, places), sliced(self.model, op), axis=op.axis - 1)
        elif op.kind == "gather":
            moved = gathered(self.model, op, image(self.model, op.input, places))
        elif op.kind == "history":  # its values of earlier frames are constant
            moved = np.zeros(self.model.tensors[op.output].shape, int)
            moved.reshape(-1)[-places.size :] = places.reshape(-1)
        else:
            moved = np.zeros(self.model.tensors[op.output].shape, int)
            moved[inner(self.model, op)] = image(self.model, op.input, places)
        return _taken(moved.reshape(-1, moved.shape[2]), x)

    def _matrix(self, index: int, source: Floats, changed: dict, seen: dict[int, Floats]) -> Floats:
        op = self.model.ops[index]
        rows = windows(self.model, op, source, 0) if op.kind == "conv" else source[None]
        rows = rows.reshape(len(rows), -1, source.shape[-1])
        z = self.weights[index] @ rows
        layer = self.layers.get(index)
        if layer is not None:
            a, b = changed.get((index, "a"), layer.a), changed.get((index, "b"), layer.b)
            seen[-1 - index] = exact = _product(a, rows) / 2.0**layer.t_shift
            t = self.trace.t[index][..., None] + exact - self.origin.get(-1 - index, exact)
            z = z + _product(b, t) * 2.0**layer.branch_shift
        return z


def _product(matrix: Floats, rows: Floats) -> Floats:
    """[outputs, inputs] times [positions, inputs, changes]; or [changes, outputs, inputs], each with the same rows."""
    if matrix.ndim == 2:
        return matrix @ rows
    flat = rows[:, :, 0] @ matrix.reshape(-1, matrix.shape[2]).T
    return flat.reshape(len(rows), *matrix.shape[:2]).transpose(0, 2, 1)


def _places(x: Floats) -> NDArray[np.int64]:
    """The elements' numbers, from 1, in the shape of an activation."""
    return np.arange(1, x.shape[0] * x.shape[1] + 1).reshape(x.shape[:2])


def _taken(places: NDArray[np.int64], x: Floats) -> Floats:
    """The elements with these numbers; 0 for number 0."""
    flat = x.reshape(-1, x.shape[-1])
    return np.concatenate([np.zeros((1, x.shape[-1])), flat])[places]


def _masked(op: Op, y: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The outputs at which the activation blocks the gradient."""
    return (op.mask_low & (y == op.act_min)) | (op.mask_high & (y == op.act_max))


def _factor(op: Op) -> Floats:
    return op.multiplier * 2.0 ** (op.shift.astype(np.float64) - 31)


def _counts(model: QuantModel, op: Op) -> Floats:
    height, width, _ = model.tensors[op.input].shape
    return (taps(model, op) < height * width).sum(axis=1, keepdims=True)
