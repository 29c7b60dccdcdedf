"""A float model to differentiate numerically: what the integer gradients of the reference are measured against.

Activations are those of an integer forward pass plus what a change of the adapter adds to them, unrounded. Rounding
and clamping count as the identity, except where a fused activation masks the gradient.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray
from reference import Trace, forward, taps, weight_matrix

from edgelora.formats import Adapter
from edgelora.model import QuantModel

Floats = NDArray[np.float64]


class FloatModel:
    """The loss of one sample, in nats over the logit scale's unit, as a smooth function of A and B."""

    def __init__(self, model: QuantModel, adapter: Adapter, x: NDArray[np.int8], label: int) -> None:
        self.model, self.label = model, label
        self.trace = forward(model, x, adapter)
        self.layers = {layer.op: layer for layer in adapter.layers}
        self.origin: dict[
            int, Floats
        ] = {}  # z of each op, and t of each adapter (keyed -1 - op), at the adapter itself
        self.origin = self._run({})[1]

    def loss(self, changed: dict[tuple[int, str], Floats]) -> float:
        """The loss with some matrices replaced; keys are (op, "a" or "b")."""
        y = self._run(changed)[0]
        logits = float(np.float32(self.model.output.scale)) * y[0]
        return float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[self.label])

    def gradient(self, key: tuple[int, str]) -> Floats:
        """Central differences of one matrix."""
        matrix = getattr(self.layers[key[0]], key[1]).astype(np.float64)
        result = np.zeros_like(matrix)
        for place in np.ndindex(matrix.shape):
            sides = []
            for step in (0.01, -0.01):
                other = copy.copy(matrix)
                other[place] += step
                sides.append(self.loss({key: other}))
            result[place] = (sides[0] - sides[1]) / 0.02
        return result

    def _run(self, changed: dict[tuple[int, str], Floats]) -> tuple[Floats, dict[int, Floats]]:
        y, seen = self.trace.y[0].astype(np.float64), {}
        for index, op in enumerate(self.model.ops):
            source = y - self.model.tensors[op.input].zero_point
            if op.kind == "average_pool":
                z = _gather(self.model, op, source).sum(axis=1) / _counts(self.model, op)
            elif op.kind == "mean":
                z = source.sum(axis=0, keepdims=True) * _factor(op)
            else:
                z = self._matrix(index, source, changed, seen) * _factor(op)
            seen[index] = z
            fixed: Trace = self.trace
            whole = fixed.y[index + 1]
            masked = (op.mask_low & (whole == op.act_min)) | (op.mask_high & (whole == op.act_max))
            y = whole + np.where(masked, 0, z - self.origin.get(index, z))
        return y, seen

    def _matrix(self, index: int, source: Floats, changed: dict, seen: dict[int, Floats]) -> Floats:
        op = self.model.ops[index]
        rows = source.reshape(1, -1)
        if op.kind == "conv":
            rows = _gather(self.model, op, source)
            rows = rows.reshape(len(rows), -1)
        z = rows @ weight_matrix(op).T
        layer = self.layers.get(index)
        if layer is not None:
            a, b = changed.get((index, "a"), layer.a), changed.get((index, "b"), layer.b)
            seen[-1 - index] = exact = rows @ a.T / 2.0**layer.t_shift
            t = self.trace.t[index] + exact - self.origin.get(-1 - index, exact)
            z = z + t @ b.T * 2.0**layer.branch_shift
        return z


def _factor(op) -> Floats:
    return op.multiplier * 2.0 ** (op.shift.astype(np.float64) - 31)


def _gather(model: QuantModel, op, source: Floats) -> Floats:
    return np.vstack([source, np.zeros_like(source[:1])])[taps(model, op)]


def _counts(model: QuantModel, op) -> Floats:
    height, width, _ = model.tensors[op.input].shape
    return (taps(model, op) < height * width).sum(axis=1, keepdims=True)
