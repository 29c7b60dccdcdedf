"""Real-valued adapters brought to the integers of a quantized layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.ela import Adapter, AdapterLayer, check_adapter_fits
from edgelora.core.formats.elm import base_id, unpack_model
from edgelora.core.formats.limits import BRANCH_SHIFTS, T_SHIFTS
from edgelora.core.formats.network import Op, QuantModel
from edgelora.core.twin.seeded_a import seeded_a
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.layers import Array, FloatNet

from . import calibrate
from .fidelity import Fidelity, compare_adapter, with_adapter
from .simulate import float_layer, simulate

Matrix = NDArray[np.float64]
CALIBRATION_LIMIT = 128  # samples, evenly spaced, that choose shifts,
CALIBRATION_ELEMENTS = 1 << 23  # or fewer, so that a layer's patches have about this many elements
A_PEAKS = (127, 107, 90, 76, 64)  # largest entries of A's rows that are tried: what A gives up, B may use
UNIT_A = 128.0  # an exported A is this much smaller than the integer one, so that its entries are within [-1, 1]
T_CREST = 4.0  # without data: the largest t of a trained A, in rms of the t of an untrained one of the same norm


@dataclass(frozen=True)
class LayerFit:
    """How well one layer came over. Errors are relative, root of squares: of the change of the weights, and, with data,
    of what it adds to the layer's accumulators; t_peak is the largest t on the data (127: it may be clamped)."""

    op: int
    module: str
    rank: int
    t_shift: int
    branch_shift: int
    factors: str
    weight_error: float
    branch_error: float | None = None
    t_peak: int | None = None


@dataclass(frozen=True)
class AdapterFit:
    """An adapter and its layers' fits; fidelity: what its network has left of the float one's answers (None: no data,
    or a network with history)."""

    adapter: Adapter
    fits: list[LayerFit]
    fidelity: Fidelity | None = None


def weight_scales(model: QuantModel, op: Op) -> Matrix:
    """The real value of a weight's step in each output channel [O], from the op's multipliers."""
    assert op.multiplier is not None and op.shift is not None
    ratio = op.multiplier.astype(np.float64) * 2.0 ** (op.shift.astype(np.float64) - 31)
    return ratio * model.tensors[op.output].scale / model.tensors[op.input].scale


def real_change(model: QuantModel, layer: AdapterLayer) -> Matrix:
    """What an integer adapter adds to the real weights of its layer, [O, K]."""
    return weight_scales(model, model.ops[layer.op])[:, None] * weight_change(layer)


def weight_change(layer: AdapterLayer) -> Matrix:
    """The same in steps of the INT8 weights."""
    product = layer.b.astype(np.float64) @ layer.a.astype(np.float64)
    return product * 2.0 ** (layer.branch_shift - layer.t_shift)


def fit_adapter(
    elm: bytes,
    products: Mapping[int, tuple[NDArray[Any], NDArray[Any]]],
    rank: int | None = None,
    x: NDArray[np.floating] | None = None,
    y: NDArray[np.integer] | None = None,
    original: FloatNet | None = None,
) -> AdapterFit:
    """The integer adapter nearest to the changes B A of real weights, by op: A [r, K], B [O, r].

    rank: at most this, by the best approximation; x: real inputs [N, H, W, C] like those it will see, which choose
    shifts and factors, each layer's with the adapters of the layers before it at work; y: their classes [N]; original:
    the float network with these changes, which answers are compared with (without: the INT8 base with the unrounded
    changes). Raises ValueError for a wrong rank, FormatError for ranks and shapes that adapters can't have.
    """
    if rank is not None and rank < 1:
        raise InputError(f"rank {rank}: give 1 or more")
    model = unpack_model(elm)
    quantized = None if x is None else model.quantize(x)
    some = None if quantized is None else quantized[:: -(-len(quantized) // CALIBRATION_LIMIT)]
    adapter = Adapter(base_id(elm), 0, a_stored=True)
    fits, changes = [], {}
    for index, (a, b) in sorted(products.items()):
        scales = weight_scales(model, model.ops[index])[:, None]
        steps = np.divide(b, scales, where=scales > 0, out=np.zeros(b.shape))
        inputs = None if some is None else op_inputs(elm, [index], some, adapter)[index]
        layer, fit = fit_layer(model, index, a, steps, min(rank or len(a), len(a)), inputs)
        adapter.layers.append(layer)
        fits.append(fit)
        changes[index] = steps @ a
    check_adapter_fits(adapter, model)
    if x is None or model.has_history:
        return AdapterFit(adapter, fits)
    wanted = _unrounded(model, changes, x) if original is None else layers.predict(original, x)
    return AdapterFit(adapter, fits, compare_adapter(elm, adapter, wanted, x, y))


def fit_layer(
    model: QuantModel, index: int, a: Matrix, b: Matrix, rank: int, inputs: NDArray[np.int8] | None = None
) -> tuple[AdapterLayer, LayerFit]:
    """The integer layer nearest to B A, B [O, r] in steps of the INT8 weights, A [r, K], among several candidates.

    inputs: of the layer, int8 [N, H, W, C]; with them, nearest in what the branch computes, rounding of t included.
    """
    target = b @ a
    branch = None if inputs is None else _Branch(model, model.ops[index], inputs, target)
    candidates = [
        _judged(_with_b(index, rows, target, t_shift), name, target, branch)
        for name, real in _factorings(a, b, rank)
        for rows in (_full_rows(real, peak) for peak in A_PEAKS)
        for t_shift in _t_shifts(_typical_t(model, index, rows) if branch is None else branch.peak(rows))
    ]
    return min(candidates, key=lambda pair: (pair[1].branch_error or 0.0, pair[1].weight_error))


def _judged(layer: AdapterLayer, factors: str, target: Matrix, branch: _Branch | None) -> tuple[AdapterLayer, LayerFit]:
    error = _relative(weight_change(layer) - target, target)
    fit = LayerFit(layer.op, "", layer.rank, layer.t_shift, layer.branch_shift, factors, error)
    if branch is None:
        return layer, fit
    return layer, replace(fit, branch_error=branch.error(layer), t_peak=branch.t_peak(layer))


def _t_shifts(peak: float) -> list[int]:
    """The shift that brings sums up to `peak` within int8, and the one below: finer steps, but the rarest clamped."""
    fits = fitting_t_shift(peak)
    return [fits, max(fits - 1, T_SHIFTS[0])]


def fitting_t_shift(peak: float) -> int:
    """The shift that brings sums A (x - zp) up to `peak` within int8."""
    low, high = T_SHIFTS
    return min(max(math.ceil(math.log2(max(peak, 1.0) / 127.5)), low), high)


def _factorings(a: Matrix, b: Matrix, rank: int) -> Iterator[tuple[str, Matrix]]:
    """Rows [rank, K] that B A can be written with: the checkpoint's own, and its singular vectors."""
    if rank == len(a):
        yield "given", a
    q, triangle = np.linalg.qr(a.T)  # B A = (B R^T) Q^T: the SVD of a small matrix
    _, _, v = np.linalg.svd(b @ triangle.T, full_matrices=False)
    rows = np.zeros((rank, a.shape[1]))
    found = (v @ q.T)[:rank]
    rows[: len(found)] = found
    yield "singular vectors", rows


def _full_rows(rows: Matrix, peak: int) -> NDArray[np.int8]:
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scale = np.divide(peak, largest, where=largest > 0, out=np.zeros_like(largest))
    return np.asarray(np.rint(rows * scale), np.int8)


def _with_b(index: int, a: NDArray[np.int8], target: Matrix, t_shift: int) -> AdapterLayer:
    """The layer with this A whose B, before its rounding, is the least-squares solution of B A = target."""
    return round_b(index, a, target @ np.linalg.pinv(a.astype(np.float64)) * 2.0**t_shift, t_shift)


def round_b(index: int, a: NDArray[np.int8], b: Matrix, t_shift: int) -> AdapterLayer:
    """The layer with this A and B, real numbers [O, r], with the finest branch_shift that int8 has room for."""
    largest = float(np.abs(b).max())
    shift = math.ceil(math.log2(largest / 127.5)) if largest > 0 else 0
    shift = int(np.clip(shift, *BRANCH_SHIFTS))
    ints = np.clip(np.rint(b * 2.0**-shift), -127, 127).astype(np.int8)
    return AdapterLayer(index, a, ints, t_shift, shift)


def _typical_t(model: QuantModel, index: int, a: NDArray[np.int8]) -> float:
    """About the largest sum A (x - zp), from what the base's own calibration says of the A that it would begin with."""
    op = model.ops[index]
    assert op.weights is not None
    seeded = seeded_a(0, index, calibrate.REFERENCE_RANK, op).astype(np.float64)
    norms = [float(np.sqrt(np.square(m.astype(np.float64)).sum(axis=1).max())) for m in (a, seeded)]
    return T_CREST * calibrate.T_RMS * 2.0**op.t_shift * norms[0] / max(norms[1], 1.0)


class _Branch:
    """What a layer's branch should add to its accumulators, for inputs int8 [N, H, W, C], and what one does add."""

    def __init__(self, model: QuantModel, op: Op, inputs: NDArray[np.int8], target: Matrix) -> None:
        height, width, _ = model.tensors[op.output].shape
        per_sample = height * width * target.shape[1]
        self._patches = op_patches(model, op, inputs[:: -(-len(inputs) * per_sample // CALIBRATION_ELEMENTS)])
        self._wanted = self._patches @ target.T

    def _raw(self, a: NDArray[np.int8]) -> Matrix:
        return self._patches @ a.T.astype(np.float64)

    def peak(self, a: NDArray[np.int8]) -> float:
        return float(np.abs(self._raw(a)).max())

    def _rounded(self, layer: AdapterLayer) -> NDArray[Any]:
        return np.clip(np.floor(self._raw(layer.a) / 2.0**layer.t_shift + 0.5), -127, 127)

    def t_peak(self, layer: AdapterLayer) -> int:
        return int(np.abs(self._rounded(layer)).max())

    def error(self, layer: AdapterLayer) -> float:
        got = self._rounded(layer) @ layer.b.T.astype(np.float64) * 2.0**layer.branch_shift
        return _relative(got - self._wanted, self._wanted)


def op_patches(model: QuantModel, op: Op, inputs: NDArray[np.int8]) -> Matrix:
    """What the op's weights are multiplied with at every position, [N * positions, K]; outside the input it is 0."""
    x = inputs.astype(np.float64) - model.tensors[op.input].zero_point
    return np.asarray(layers.im2col(float_layer(model, op), x)[0], np.float64)


def _relative(difference: NDArray[Any], whole: NDArray[Any]) -> float:
    norm = float(np.linalg.norm(whole))
    return float(np.linalg.norm(difference)) / norm if norm else 0.0


def op_inputs(
    elm: bytes, ops: Iterable[int], x: NDArray[np.int8], adapter: Adapter | None = None
) -> dict[int, NDArray[np.int8]]:
    """What these ops of the base, with the adapter's layers or bare, read for samples x [N, ...], by the twin.

    int8 [N, height, width, channels]; of samples of several frames, what they read for the last.
    """
    model = unpack_model(elm)
    session = with_adapter(elm, model, adapter)
    read: dict[int, list[NDArray[np.int8]]] = {op: [] for op in ops}
    for sample in x:
        tensors = session.sample_activations(sample, model)
        for op, inputs in read.items():
            inputs.append(tensors[model.ops[op].input])
    return {op: np.stack(inputs) for op, inputs in read.items()}


def _unrounded(model: QuantModel, changes: dict[int, Matrix], x: NDArray[np.floating]) -> Array:
    """Outputs [N, n] of the INT8 network with real changes of its weights, in floating point."""
    ops = [replace(op, weight_scale=weight_scales(model, op)) if op.weights is not None else op for op in model.ops]
    for index, change in changes.items():
        weights: Any = ops[index].weights  # whose sum with real numbers stands for them in the simulation alone
        ops[index] = replace(ops[index], weights=weights + change.reshape(weights.shape))
    return simulate(replace(model, ops=ops), x)[-1].reshape(len(x), -1)
