"""Merging adapters into a network's weights.

`merged` merges as boards do (SPEC.md, section 3), by the core itself. `refitted` takes more time on the host: it
refits scales, roundings and biases, so that the INT8 network is closer to the base with the adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats import fixed_point, limits
from edgelora.core.formats.ela import AdapterLayer, unpack_adapter
from edgelora.core.formats.elm import base_id, folded_bias, pack_model
from edgelora.core.formats.fixed_point import bounded_bias
from edgelora.core.formats.network import Op, QuantModel, layer_size
from edgelora.core.twin.session import Session

from .adapter_fit import CALIBRATION_ELEMENTS, Matrix, op_patches, weight_change, weight_scales

DAMPING = 0.01  # of the inputs' mean power, added to that of every input: few samples don't tell all directions
MOST_COMPENSATED = 2048  # inputs of a layer: with more, each weight is rounded independently
APART = 8  # samples from which on fitting and measuring use separate ones


@dataclass(frozen=True)
class Freedom:
    """What can be refitted in an op: its bias, and a scale per channel, or else one for all."""

    bias: bool = True
    by_channel: bool = True


@dataclass(frozen=True)
class MergedLayer:
    """One layer. Errors are relative root mean square errors of the branch's share in the accumulators, on samples.

    clamped: weights beyond int8; board_error: merged as on boards; error: of the result; rescaled:
    channels with a new scale.
    """

    op: int
    rank: int
    clamped: int
    board_error: float
    error: float
    rescaled: int = 0


@dataclass(frozen=True)
class Distance:
    """Outputs of a merged network compared with those of the base with the adapter, on samples.

    steps: the largest difference, in int8 steps; mean: of its size; same: share of samples of the same class, or None
    if outputs are not classes.
    """

    samples: int
    steps: int
    mean: float
    same: float | None


@dataclass(frozen=True)
class Merging:
    """A network with a merged adapter and its `.elm`, and the errors of merging."""

    model: QuantModel
    elm: bytes
    layers: list[MergedLayer]
    distance: Distance


def merge(
    elm: bytes, model: QuantModel, ela: bytes, x: NDArray[np.int8], refit: Mapping[int, Freedom] | None = None
) -> Merging:
    """The base `model`, whose file is `elm`, with the adapter `ela` merged into its weights.

    x: samples [N, frames, height, width, channels]; every other one is measured on. refit: None: as boards merge; else
    scales, roundings and biases are chosen on the rest, with the freedom that each op is given. Raises FormatError for
    an adapter of another base.
    """
    adapter = unpack_adapter(ela, model, base_id(elm))
    session = Session(elm, adapter.ranks(len(model.ops)), "infer", frames=x.shape[1])
    session.use(ela)
    few = len(x) < APART
    seen, chosen = _Seen(session, model, x if few else x[1::2]), _Seen(session, model, x if few else x[::2])
    ops, layers = list(model.ops), []
    for layer in adapter.layers:
        plain = _merged_op(session, model, layer)
        freedom = None if refit is None else refit[layer.op]
        patches = seen.patches(layer.op)
        op, row = _judged(model, layer, plain, patches)
        if freedom is not None:
            fit = _Fit(model, model.ops[layer.op], _wanted(model, layer), chosen.patches(layer.op), freedom)
            op, row = _nearer(row, op, fit, patches, layer)
        ops[layer.op] = op
        layers.append(row)
    result = replace(model, ops=ops)
    packed = pack_model(result)
    return Merging(result, packed, layers, _distance(seen, packed, result))


class _Seen:
    """All tensors of the base with the adapter, for the last frame of each sample."""

    def __init__(self, session: Session, model: QuantModel, x: NDArray[np.int8]) -> None:
        self.x, self._model = x, model
        self._runs = [session.sample_activations(sample, model) for sample in x]
        self.outputs = np.stack([run[-1].reshape(-1) for run in self._runs]).astype(np.int64)
        self.classes = session.predict(x)

    def patches(self, index: int) -> Matrix:
        """What op `index` multiplies its weights with, [patches, K]; of fewer samples where that would be too much."""
        op, (_, patch) = self._model.ops[index], layer_size(self._model, index)
        work = self._model.tensors[op.output].positions * patch
        few = self._runs[:: -(-len(self._runs) * work // CALIBRATION_ELEMENTS)]
        return op_patches(self._model, op, np.stack([run[op.input] for run in few]))


def _distance(seen: _Seen, elm: bytes, model: QuantModel) -> Distance:
    frames = seen.x.shape[1]
    session = Session(elm, bytes(len(model.ops)), "infer", frames=frames)
    classes, outputs = [], []
    for sample in seen.x:
        classes.append(session.infer_sample(np.ascontiguousarray(sample)))
        outputs.append(session.logits.astype(np.int64))
    apart = np.abs(np.stack(outputs) - seen.outputs)
    same = None if model.loss == "mean_squared_error" else round(float(np.mean(np.array(classes) == seen.classes)), 4)
    return Distance(len(seen.x), int(apart.max()), round(float(apart.mean()), 4), same)


def _merged_op(session: Session, model: QuantModel, layer: AdapterLayer) -> Op:
    """The op as merged by the core."""
    op = model.ops[layer.op]
    assert op.weights is not None
    raw = session.merge(layer.op)
    outputs = len(op.weights)
    weights = (np.frombuffer(raw, np.uint8, op.weights.size).astype(np.int16) - 128).astype(np.int8)
    folded = np.frombuffer(raw, "<i4", outputs, len(raw) - 4 * outputs).astype(np.int64)
    return with_folded(model, replace(op, weights=weights.reshape(op.weights.shape)), folded)


def with_folded(model: QuantModel, op: Op, folded: NDArray[np.int64]) -> Op:
    """The op with biases that have the zero point folded in, within what files hold if no output can tell."""
    share = folded_bias(model, replace(op, bias=np.zeros(len(folded), np.int64)))
    bounded = bounded_bias(model, op, folded, limits.MAX_BIAS)
    return replace(op, bias=(bounded - share).astype(np.int32))


# ---- by samples ------------------------------------------------------------------------------------------------------


def _wanted(model: QuantModel, layer: AdapterLayer) -> Matrix:
    """The merged weights, unrounded."""
    op = model.ops[layer.op]
    assert op.weights is not None
    return op.weights.reshape(len(op.weights), -1) + weight_change(layer)


def _error(apart: Matrix, layer: AdapterLayer, patches: Matrix) -> float:
    """The size of accumulators' differences [patches, O] relative to what the branch adds to them."""
    whole = float(np.linalg.norm(patches @ weight_change(layer).T))
    return round(float(np.linalg.norm(apart)) / whole, 6) if whole else 0.0


def _judged(model: QuantModel, layer: AdapterLayer, plain: Op, patches: Matrix) -> tuple[Op, MergedLayer]:
    """The op as merged by boards, and its error."""
    assert plain.weights is not None
    wanted = _wanted(model, layer)
    apart = patches @ (plain.weights.reshape(wanted.shape) - wanted).T
    error = _error(apart, layer, patches)
    return plain, MergedLayer(layer.op, layer.rank, int((np.abs(wanted) >= 127.5).sum()), error, error)


def _nearer(row: MergedLayer, plain: Op, fit: _Fit, patches: Matrix, layer: AdapterLayer) -> tuple[Op, MergedLayer]:
    """The refitted op, if its error is lower than the board's."""
    error = _error(fit.apart(patches), layer, patches)
    if error >= row.error:
        return plain, row
    return fit.op(), replace(row, error=error, rescaled=int((fit.ratio != 1).sum()))


class _Fit:
    """Integers for real weights [O, K] in steps of the base's, nearest in what they compute on patches [P, K].

    ratio [O]: of the new step of a channel's weights to the old one; weights [O, K] and bias [O] are in the new one.
    """

    def __init__(self, model: QuantModel, op: Op, wanted: Matrix, patches: Matrix, freedom: Freedom) -> None:
        self._model, self._op, self._wanted = model, op, wanted
        assert op.bias is not None
        before = op.bias.astype(np.float64)
        known = op.weight_scale is not None
        self._scale = np.asarray(op.weight_scale if known else weight_scales(model, op), np.float32).astype(np.float64)
        power = patches.T @ patches / len(patches)
        ratios = [np.ones(len(wanted))]
        if freedom.bias or not op.bias.any():
            ratios.append(self._fitting(wanted, freedom.by_channel))
        tries = [_rounded(wanted / ratio[:, None], power) for ratio in ratios]
        errors = np.stack([_power(q * ratio[:, None] - wanted, power) for q, ratio in zip(tries, ratios, strict=True)])
        errors = errors if freedom.by_channel else errors.sum(axis=1, keepdims=True)
        best = np.broadcast_to(np.argmin(errors, axis=0), len(wanted))
        rows = np.arange(len(wanted))
        self.ratio, self.weights = np.stack(ratios)[best, rows], np.stack(tries)[best, rows]
        left = (wanted - self.weights * self.ratio[:, None]) @ patches.mean(axis=0)
        self.bias = np.rint((before + (left if freedom.bias else 0.0)) / self.ratio)
        self._moved = self.bias * self.ratio - before

    def _fitting(self, wanted: Matrix, by_channel: bool) -> Matrix:
        """The ratio with which the largest weight, of a channel or of all, is 127, as scales of float32 can have it."""
        peak = np.abs(wanted).max(axis=1)
        peak = peak if by_channel else np.full(len(peak), peak.max())
        known = (peak > 0) & (self._scale > 0)
        scale = (self._scale * np.where(known, peak, 127.0) / 127.0).astype(np.float32).astype(np.float64)
        return np.divide(scale, self._scale, where=known, out=np.ones(len(peak)))

    def apart(self, patches: Matrix) -> Matrix:
        """Accumulators [patches, O] less those of the real weights, in the base's steps."""
        found: Matrix = patches @ (self.weights * self.ratio[:, None] - self._wanted).T + self._moved
        return found

    def op(self) -> Op:
        """The op with these weights, scales and biases, and the multipliers that follow."""
        op = self._op
        assert op.weights is not None and op.multiplier is not None and op.shift is not None
        weights = self.weights.astype(np.int8).reshape(op.weights.shape)
        scale = self._scale * self.ratio
        fresh = replace(op, weights=weights, weight_scale=scale, multiplier=op.multiplier.copy(), shift=op.shift.copy())
        fixed_point.derive(self._model, fresh)
        same = self.ratio == 1
        assert fresh.multiplier is not None and fresh.shift is not None
        fresh.multiplier[same], fresh.shift[same] = op.multiplier[same], op.shift[same]
        bias = np.clip(self.bias, -limits.MAX_BIAS, limits.MAX_BIAS).astype(np.int64)
        fresh.bias = bias.astype(np.int32)
        return with_folded(self._model, fresh, folded_bias(self._model, fresh))


def _power(rows: Matrix, power: Matrix) -> NDArray[Any]:
    """The mean square of what each row [O, K] makes of inputs whose products have the means `power` [K, K]."""
    found: NDArray[Any] = np.einsum("ok,ok->o", rows @ power, rows)
    return found


def _rounded(real: Matrix, power: Matrix) -> Matrix:
    """int8 values for rows [O, K], one input after the other: what rounding one leaves, those behind it make up for.

    power [K, K]: means of the products of inputs. (The least-squares rounding of Optimal Brain Quantization.)
    """
    if len(power) > MOST_COMPENSATED:
        return np.clip(np.rint(real), -127, 127)
    damped = power + np.eye(len(power)) * max(DAMPING * float(np.trace(power)) / len(power), 1e-9)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    rest, rounded = real.copy(), np.empty_like(real)
    for i in range(len(power)):
        rounded[:, i] = np.clip(np.rint(rest[:, i]), -127, 127)
        left = (rest[:, i] - rounded[:, i]) / upper[i, i]
        rest[:, i + 1 :] -= left[:, None] * upper[i, i + 1 :]
    return rounded
