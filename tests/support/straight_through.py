"""A float model for numerical differentiation, with which tests compare the reference's integer gradients.

Activations are those of an integer forward pass plus the unrounded effect of a change of the adapter. Rounding and
clamping count as the identity (straight-through), except where a fused activation masks the gradient.

Many changes are evaluated at once: values are [positions, channels, changes]; the last axis is 1 if nothing changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from reference import (
    Trace,
    forward_frames,
    gathered,
    ids_of,
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
from edgelora.core.formats.network import PAIR_KINDS, STREAM_KINDS, TRANSFORMER_KINDS, Op, QuantModel

Floats = NDArray[np.float64]
ATONCE = 64  # changes evaluated at once


class FloatModel:
    """The loss of one sample as a smooth function of A and B: nats, or half the squared error in int8 steps."""

    def __init__(self, model: QuantModel, adapter: Adapter, x: NDArray[np.int8], target: int | NDArray) -> None:
        self.model, self.target = model, target
        self.traces: list[Trace] = forward_frames(model, x, adapter)
        self.layers = {layer.op: layer for layer in adapter.layers}
        ops = list(enumerate(model.ops))
        self.factors = {index: _factor(op) for index, op in ops if op.multiplier is not None}
        self.weights = {index: weight_matrix(op).astype(np.float64) for index, op in ops if op.is_matrix}
        # of each frame: False where masked; y of each tensor; z of each op, and t of each adapter (keyed -1 - op)
        self.passes = [[~_masked(op, trace.y[index + 1])[..., None] for index, op in ops] for trace in self.traces]
        self.unchanged = [[trace.y[0].astype(np.float64)[..., None]] for trace in self.traces]
        self.origin: list[dict[int, Floats]] = [{} for _ in self.traces]
        for frame, (y, seen) in enumerate(self._run({})):
            self.unchanged[frame], self.origin[frame] = y, seen

    def loss(self, changed: dict[tuple[int, str], Floats]) -> Floats:
        """The losses with one matrix, key (op, "a" or "b"), replaced by each of several."""
        y = list(self._run(changed))[-1][0][self.model.loss_index]
        y = y.reshape(-1, y.shape[-1])
        tensor, target = self.model.loss_tensor, np.reshape(self.target, (-1, 1))
        if self.model.loss == "mean_squared_error":
            return np.square(y - target).sum(axis=0) / 2
        logits = step_in_nats(self.model) * (y - tensor.zero_point)
        if self.model.learns_sequences:
            rows = logits.reshape(tensor.positions, -1, y.shape[-1])
            return sum(_cross_entropy(rows[place], label) for place, label in self._labels)
        if self.model.loss == "binary_cross_entropy":
            return (np.logaddexp(0, logits) - logits * target).sum(axis=0)
        return _cross_entropy(logits, self.target)

    @property
    def _labels(self) -> list[tuple[int, int]]:
        """Place and label of each position of a sequence that has a loss."""
        ids = ids_of(np.asarray(self.target, np.int64).reshape(self.model.loss_tensor.positions, -1))
        return [(place, int(label)) for place, label in enumerate(ids) if label < self.model.classes]

    @property
    def is_stuck(self) -> NDArray[np.bool_]:
        """Which logits are at an end of their grid and pushed further by the loss; integers give them no gradient."""
        q = self.traces[-1].y[self.model.loss_index].reshape(-1)
        if self.model.loss == "mean_squared_error":
            return np.zeros(len(q), bool)
        if self.model.loss == "binary_cross_entropy":
            wanted = np.asarray(self.target).reshape(-1) == 1
        elif self.model.learns_sequences:  # of the many that are unlikely, those at the low end have no gradient anyway
            return q[[place * self.model.classes + label for place, label in self._labels]] == 127
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

    def _run(self, changed: dict[tuple[int, str], Floats]) -> Iterator[tuple[list[Floats], dict[int, Floats]]]:
        """y and z of each frame in turn."""
        first = min((index for index, _ in changed), default=0)  # ops before it are unchanged
        held: dict[int, Floats] = {}  # a stream's histories
        for frame, trace in enumerate(self.traces):
            y, seen = self.unchanged[frame][: first + 1], {}
            for index in range(first, len(self.model.ops)):
                z = seen[index] = self._op(index, frame, y, changed, seen, held)
                before = self.origin[frame].get(index, z)
                y.append(trace.y[index + 1][..., None] + self.passes[frame][index] * (z - before))
            yield y, seen

    def _op(
        self, index: int, frame: int, y: list[Floats], changed: dict, seen: dict[int, Floats], held: dict[int, Floats]
    ) -> Floats:
        """The op's output before rounding, up to a constant, from its real-valued inputs."""
        model, op = self.model, self.model.ops[index]
        x, other, whole = y[op.input], y[op.input2], self.traces[frame].y[op.input]
        source = x - model.tensors[op.input].zero_point
        if op.kind in STREAM_KINDS:
            stream = y[op.input2] if op.input2 else 0.0
            if op.kind == "project":
                stream = stream + self._matrix(index, frame, source, changed, seen) * self.factors[index][:, None]
            return stream + (self.factors[index] * source if op.kind == "widen" else np.zeros((1, 1, 1)))
        if op.kind in TRANSFORMER_KINDS:
            return self._transformed(op, x, y)
        if op.is_matrix:
            return self._matrix(index, frame, source, changed, seen) * self.factors[index][:, None]
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
        if op.kind == "matmul":
            return self._product_of_two(index, source, other - model.tensors[op.input2].zero_point)
        if op.kind in PAIR_KINDS:
            return self._pair(index, frame, x, _taken(repeated(model, op, _places(other)), other))
        if op.kind == "constant":
            return op.values.astype(np.float64).reshape(-1, op.values.shape[2], 1)
        if op.kind == "lookup":  # its table is too coarse to differentiate
            return x * (op.slope[whole + 128] * 2.0 ** float(op.shift[0]))[..., None]
        if op.kind == "svdf_features":  # second bytes change, by real numbers
            value = op.weights.astype(float) @ source.reshape(-1, source.shape[-1]) * self.factors[index] / 256
            return np.stack([0 * value, value], axis=1).reshape(1, -1, value.shape[-1])
        if op.kind == "svdf_time":
            units, memory, rank = op.taps.shape
            value = 256 * x.reshape(memory, units, rank, 2, -1)[..., 1, :]
            return (op.taps[..., None] * value.transpose(1, 0, 2, 3)).sum(axis=(1, 2))[None] * self.factors[index]
        if op.kind == "softmax":
            real = np.exp((x - x.max()) * float(np.float32(model.tensors[op.input].scale)))
            return 256 * real / real.sum(axis=1, keepdims=True)
        if op.kind == "history":
            held[index] = self._history(op, x, held.get(index))
            return held[index]
        return self._moved(op, x, other)

    def _transformed(self, op: Op, x: Floats, y: list[Floats]) -> Floats:
        """A norm, a rotation or attention."""
        if op.kind == "norm":
            centred = x - x.mean(axis=1, keepdims=True) if op.centred else x
            variance = np.square(centred).mean(axis=1, keepdims=True) + op.multiplier[0] / x.shape[1] ** 2
            return centred / np.sqrt(variance) * op.gain[:, None] * 2.0 ** -float(op.shift[0])
        if op.kind == "rotate":
            half = op.angles.shape[1]
            pairs = x.reshape(len(x), -1, 2, half, x.shape[-1])
            turn = (op.angles[..., 0] + 1j * op.angles[..., 1]) / 2.0**15
            turned = (pairs[:, :, 0] + 1j * pairs[:, :, 1]) * turn[:, None, :, None]
            return np.stack([turned.real, turned.imag], axis=2).reshape(x.shape)
        (heads, shared), scales = op.heads, [self.model.tensors[i].scale for i in (*op.inputs, op.output)]
        size = x.shape[1] // heads
        q, k, v = (y[i].reshape(len(x), -1, size, y[i].shape[-1]) for i in op.inputs)
        k, v = (part.repeat(heads // shared, axis=1) for part in (k, v))
        scores = np.einsum("ihcn,jhcn->hijn", *_alike(q, k)) * scales[0] * scales[1] / np.sqrt(size)
        if op.causal:
            scores[:, ~np.tri(len(x), dtype=bool)] = -np.inf
        p = np.exp(scores - scores.max(axis=2, keepdims=True))
        made = np.einsum("hijn,jhcn->ihcn", *_alike(p / p.sum(axis=2, keepdims=True), v)) * scales[2] / scales[3]
        return made.reshape(len(x), -1, made.shape[-1])

    def _history(self, op: Op, x: Floats, held: Floats | None) -> Floats:
        """The newest values of the history, with x appended. held: None before the first frame, initially constant."""
        height, width, channels = self.model.tensors[op.output].shape
        before = np.zeros((height * width * channels, 1)) if held is None else held.reshape(-1, held.shape[-1])
        newest = x.reshape(-1, x.shape[-1])
        changes = max(before.shape[1], newest.shape[1])
        parts = [np.broadcast_to(part, (len(part), changes)) for part in (before, newest)]
        return np.concatenate(parts)[-len(before) :].reshape(-1, channels, changes)

    def _pair(self, index: int, frame: int, a: Floats, b: Floats) -> Floats:
        """An op of two inputs, element by element."""
        model, op = self.model, self.model.ops[index]
        trace = self.traces[frame]
        now, then = trace.y[op.input][..., None], repeated(model, op, trace.y[op.input2])[..., None]
        if op.kind in ("minimum", "maximum"):  # follows the input that is taken now
            return np.where(now <= then if op.kind == "minimum" else now >= then, a, b)
        factor = self.factors[index]
        if op.kind == "add":
            return (a * factor[0] + b * factor[1]) * 2**20 * factor[2]
        zero = model.tensors[op.input].zero_point
        if op.kind == "squared_difference":
            apart = [x - model.tensors[i].zero_point for x, i in zip((a, b), op.inputs, strict=True)]
            return np.square(2**7 * (apart[0] * factor[0] - apart[1] * factor[1])) * factor[2]
        product = (a - zero) * (b - model.tensors[op.input2].zero_point) * factor[-1]
        return product if op.kind == "multiply" else np.where(now < zero, product, (a - zero) * factor[0])

    def _product_of_two(self, index: int, a: Floats, b: Floats) -> Floats:
        """Two activations, less their zero points, as matrices: rows of the one by rows of the other."""
        images = [self.model.tensors[i].shape for i in self.model.ops[index].inputs]
        a, b = (x.reshape(*shape, x.shape[-1]) for x, shape in zip((a, b), images, strict=True))
        made = np.einsum("htcn,hscn->htsn", *_alike(a, b)) * self.factors[index]
        return made.reshape(-1, *made.shape[2:])

    def _moved(self, op: Op, x: Floats, other: Floats) -> Floats:
        """Ops that only move values: concatenate, slice, pad, reshape, gather."""
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
        else:
            moved = np.zeros(self.model.tensors[op.output].shape, int)
            moved[inner(self.model, op)] = image(self.model, op.input, places)
        return _taken(moved.reshape(-1, moved.shape[2]), x)

    def _matrix(self, index: int, frame: int, source: Floats, changed: dict, seen: dict[int, Floats]) -> Floats:
        op = self.model.ops[index]
        rows = source[None] if op.kind == "dense" else windows(self.model, op, source, 0)
        rows = rows.reshape(len(rows), -1, source.shape[-1])
        z = self.weights[index] @ rows
        layer = self.layers.get(index)
        if layer is not None:
            a, b = changed.get((index, "a"), layer.a), changed.get((index, "b"), layer.b)
            seen[-1 - index] = exact = _product(a, rows) / 2.0**layer.t_shift
            t = self.traces[frame].t[index][..., None] + exact - self.origin[frame].get(-1 - index, exact)
            z = z + _product(b, t) * 2.0**layer.branch_shift
        return z


def _product(matrix: Floats, rows: Floats) -> Floats:
    """[outputs, inputs] times [positions, inputs, changes]; or [changes, outputs, inputs], each with the same rows."""
    if matrix.ndim == 2:
        return matrix @ rows
    flat = rows[:, :, 0] @ matrix.reshape(-1, matrix.shape[2]).T
    return flat.reshape(len(rows), *matrix.shape[:2]).transpose(0, 2, 1)


def _cross_entropy(logits: Floats, label: int) -> Floats:
    highest = logits.max(axis=0)
    return np.log(np.exp(logits - highest).sum(axis=0)) + highest - logits[label]


def _alike(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Both with the same number of changes."""
    changes = max(a.shape[-1], b.shape[-1])
    return np.broadcast_to(a, (*a.shape[:-1], changes)), np.broadcast_to(b, (*b.shape[:-1], changes))


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
