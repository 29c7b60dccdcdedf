"""Random QuantModels, the same for the same seed, calibrated so that activations and adapter branches are alive.

Two sorts: *device* models use everything `.elm` allows (any padding, odd zero points, edge multipliers), *oracle*
models only what a `.tflite` file can say, with multipliers that follow from the scales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from reference import average_pool_forward, fresh_adapter, patches, to_output, weight_matrix

from edgelora.formats import Adapter, AdapterLayer, base_id, pack_model
from edgelora.model import Op, QuantModel, Tensor

__all__ = ["SHAPES", "Plan", "random_adapter", "random_input", "random_model", "random_ranks"]


@dataclass(frozen=True)
class Plan:
    """Ranges of the sizes of a model."""

    height: int
    width: int
    channels: int
    outputs: int


SHAPES = {"small": Plan(6, 12, 4, 6), "medium": Plan(14, 40, 10, 24)}
ENDINGS = ("dense", "mean", "conv")


def random_model(
    seed: int, size: str = "small", kinds: tuple[str, ...] | None = None, oracle: bool = False, edges: bool = True
) -> QuantModel:
    """A model of up to five ops, or of the given `kinds` in order; `edges` adds edge-case multipliers (device only)."""
    rng = np.random.default_rng(seed)
    plan = SHAPES[size]
    flat = rng.random() < 0.5
    height = 1 if flat else int(rng.integers(2, plan.height + 1))
    shape = (height, int(rng.integers(3, plan.width + 1)), int(rng.integers(1, plan.channels + 1)))
    model = QuantModel([Tensor(shape, _scale(rng), _zero_point(rng))], [])
    batch = rng.integers(-128, 128, (4, shape[0] * shape[1], shape[2])).astype(np.int64)
    kinds = kinds or _random_kinds(rng)
    for index, kind in enumerate(kinds):
        last = index == len(kinds) - 1 and rng.random() < 0.8
        batch = _grow(rng, model, kind, batch, plan, oracle, edges, last)
    height, width, channels = model.output.shape
    if height * width > 1 or channels < 2:
        _grow(rng, model, "dense", batch, plan, oracle, edges, last=True)
    model.labels = [f"class {i}" for i in range(model.output.shape[2])]
    return model


def random_input(rng: np.random.Generator, model: QuantModel) -> NDArray[np.int8]:
    """An int8 input: noise, or one of the extremes."""
    choice = rng.integers(0, 6)
    if choice == 0:
        return np.full(model.input.shape, rng.choice([-128, 127, model.input.zero_point]), np.int8)
    if choice == 1:
        return rng.choice(np.array([-128, 127], np.int8), model.input.shape)
    return rng.integers(-128, 128, model.input.shape).astype(np.int8)


def random_ranks(rng: np.random.Generator, model: QuantModel) -> dict[int, int]:
    """A rank for some of the layers that can carry an adapter, at least one."""
    able = [index for index, op in enumerate(model.ops) if op.kind in ("conv", "dense")]
    chosen = [index for index in able if rng.random() < 0.7] or able[:1]
    return {index: int(rng.integers(1, 7)) for index in chosen}


def random_adapter(
    rng: np.random.Generator,
    model: QuantModel,
    trainable_a: bool = False,
    momentum: int = 0,
    ranks: dict[int, int] | None = None,
) -> Adapter:
    """An adapter as after long training: B, and a trainable A, are noise. It has no state; default ranks are random."""
    seed = int(rng.integers(0, 2**32))
    ranks = ranks or random_ranks(rng, model)
    adapter = fresh_adapter(model, ranks, seed, base_id(pack_model(model)), trainable_a, momentum)
    for layer in adapter.layers:
        _fill(rng, layer, trainable_a)
    return adapter


def _fill(rng: np.random.Generator, layer: AdapterLayer, trainable_a: bool) -> None:
    size = int(rng.choice([10, 60, 127]))
    layer.b = rng.integers(-size, size + 1, layer.b.shape).astype(np.int8)
    if trainable_a:
        layer.a = rng.integers(-127, 128, layer.a.shape).astype(np.int8)


# --- What TFLite derives from the scales ---


def quantize_multiplier(real: float) -> tuple[int, int]:
    """TFLite's QuantizeMultiplier: real ~ multiplier / 2^31 * 2^shift."""
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def derive_multipliers(model: QuantModel, op: Op) -> None:
    """Sets multiplier and shift of a conv, dense or mean op from the scales, as TFLite Micro does."""
    source, target = (float(np.float32(model.tensors[i].scale)) for i in (op.input, op.output))
    if op.kind == "mean":
        height, width, _ = model.tensors[op.input].shape
        pairs = [fold_count(*quantize_multiplier(source / target), height * width)]
    else:
        pairs = [quantize_multiplier(source * float(np.float32(scale)) / target) for scale in op.weight_scale]
    op.multiplier = np.array([multiplier for multiplier, _ in pairs], np.int32)
    op.shift = np.array([shift for _, shift in pairs], np.int8)


def fold_count(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """Divides a multiplier by the number of elements a mean is over."""
    by = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << by) // count, shift - by


def fused_range(tensor: Tensor, mask_low: bool, mask_high: bool) -> tuple[int, int]:
    """act_min and act_max of a fused activation: NONE, RELU (low) or RELU6 (both)."""
    scale = np.float32(tensor.scale)
    six = tensor.zero_point + math.floor(float(np.float32(6.0) / scale) + 0.5)
    return max(-128, tensor.zero_point) if mask_low else -128, min(127, six) if mask_high else 127


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(output size, padding before) of SAME."""
    out = -(-size // stride)
    return out, max(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - size) // 2


# --- How models grow ---


def _random_kinds(rng: np.random.Generator) -> tuple[str, ...]:
    """Kinds with at least one layer that can carry an adapter."""
    body = [str(rng.choice(["conv", "conv", "average_pool"])) for _ in range(rng.integers(0, 4))]
    ending = ["mean"] if rng.random() < 0.4 else []
    return (*body, "mean") if rng.random() < 0.2 and "conv" in body else (*body, *ending, "dense")


def _scale(rng: np.random.Generator) -> float:
    return float(np.float32(np.exp(rng.uniform(-5, -2))))


def _zero_point(rng: np.random.Generator) -> int:
    return int(rng.choice([-128, 127, 0, *rng.integers(-128, 128, 5)]))


def _grow(
    rng, model: QuantModel, kind: str, batch: NDArray, plan: Plan, oracle: bool, edges: bool, last: bool = False
) -> NDArray:
    """Appends one op and its output tensor; returns the batch after it, [inputs, positions, channels]."""
    index, source = len(model.ops), model.tensors[-1]
    op = Op(kind, index, index + 1)
    if kind in ("conv", "average_pool"):
        height, width = _geometry(rng, op, source, oracle)
    else:
        height, width = 1, 1
    channels = int(rng.integers(2, plan.outputs + 1)) if kind in ("conv", "dense") else source.shape[2]
    model.ops.append(op)
    model.tensors.append(Tensor((height, width, channels), source.scale, source.zero_point))
    fused = int(rng.integers(0, 3)) if rng.random() < 0.8 and not last else 0
    op.mask_low, op.mask_high = (fused > 0, fused > 1) if kind != "mean" else (False, False)
    if kind == "average_pool":
        op.act_min, op.act_max = _range(rng, op, model.tensors[-1], oracle)
        return _average(model, op, batch)
    acc = _accumulate(rng, model, op, batch)
    _requantization(rng, model, op, acc, oracle)
    if edges and not oracle and kind != "mean":
        _edge_multipliers(rng, op)
    return np.stack([to_output(model, op, one) for one in acc])


def _geometry(rng: np.random.Generator, op: Op, source: Tensor, oracle: bool) -> tuple[int, int]:
    """Sets kernel, stride, dilation and padding; returns the output's height and width."""
    plan = [_axis(rng, source.shape[axis], op.kind, oracle) for axis in range(2)]
    if oracle:  # one padding type and, in TFLite, no dilation with stride; pools have no dilation at all
        same = bool(rng.random() < 0.5)
        plan = [_tflite_axis(size, *axis[:3], same) for size, axis in zip(source.shape[:2], plan, strict=True)]
    op.kernel, op.stride, op.dilation, op.padding, out = (tuple(axis[i] for axis in plan) for i in range(5))
    return out


def _axis(rng: np.random.Generator, size: int, kind: str, oracle: bool) -> tuple[int, int, int, int, int]:
    """(kernel, stride, dilation, padding before, output size) of one axis."""
    kernel, stride = int(rng.integers(1, min(5, size) + 1)), int(rng.integers(1, 4))
    reach = (size - 1) // (kernel - 1) if kernel > 1 else 1
    dilation = int(rng.integers(1, min(3, reach) + 1)) if kind == "conv" else 1  # pools have none
    span = dilation * (kernel - 1) + 1
    before = int(rng.integers(0, kernel))
    after = int(rng.integers(0, kernel))
    out = max(1, (size + before + after - span) // stride + 1)
    if kind == "average_pool":  # every window must touch the input
        while not _touches(size, kernel, stride, dilation, before, out):
            before, out = max(0, before - 1), max(1, out - 1)
    return kernel, stride, dilation, before, out


def _touches(size: int, kernel: int, stride: int, dilation: int, before: int, out: int) -> bool:
    element = np.arange(out)[:, None] * stride - before + np.arange(kernel) * dilation
    return bool(((element >= 0) & (element < size)).any(axis=1).all())


def _tflite_axis(size: int, kernel: int, stride: int, dilation: int, same: bool) -> tuple[int, int, int, int, int]:
    span = dilation * (kernel - 1) + 1
    out, before = same_padding(size, kernel, stride, dilation) if same else ((size - span) // stride + 1, 0)
    return kernel, stride, dilation, before, out


def _accumulate(rng: np.random.Generator, model: QuantModel, op: Op, batch: NDArray) -> NDArray:
    """Makes the op's weights and bias; returns its accumulators over the batch."""
    if op.kind == "mean":
        return (batch - model.tensors[op.input].zero_point).sum(axis=1, keepdims=True)
    outputs = model.tensors[op.output].shape[2]
    source = model.tensors[op.input]
    depth = source.size if op.kind == "dense" else source.shape[2]
    weights = np.clip(np.rint(rng.normal(0, 45, (outputs, *op.kernel, depth))), -127, 127)
    op.weights = weights.astype(np.int8)
    op.bias = np.zeros(outputs, np.int32)
    acc = np.stack([patches(model, op, x) @ weight_matrix(op).T for x in batch])
    centre = np.rint(-acc.mean(axis=(0, 1)) + rng.normal(0, 0.5, outputs) * (acc.std() + 1))
    op.bias = centre.astype(np.int32)
    _branch_shifts(rng, model, op, batch, acc)
    return acc + op.bias


def _branch_shifts(rng: np.random.Generator, model: QuantModel, op: Op, batch: NDArray, acc: NDArray) -> None:
    """t_shift puts t at a standard deviation of about 40, branch_shift a full B at that of the accumulators."""
    a = rng.integers(-127, 128, (4, weight_matrix(op).shape[1]))
    spread = np.std([patches(model, op, x) @ a.T for x in batch])
    op.t_shift = int(np.clip(np.rint(np.log2(spread / 40 + 1)), 0, 24))
    op.branch_shift = int(np.clip(np.rint(np.log2((acc.std() + 1) / (60 * 40))), -15, 8))


def _requantization(rng: np.random.Generator, model: QuantModel, op: Op, acc: NDArray, oracle: bool) -> None:
    """Chooses output scale and zero point for the accumulators' spread, then multipliers and range."""
    source = model.tensors[op.input]
    spread = float(acc.std()) + 1
    if op.kind == "mean":
        unit = source.scale / (source.shape[0] * source.shape[1])
    else:
        unit = float(np.float32(0.02))
        ratios = np.exp(rng.uniform(-0.7, 0.7, acc.shape[2])) if op.kind == "conv" or rng.random() < 0.5 else 1.0
        op.weight_scale = (unit * np.broadcast_to(ratios, acc.shape[2])).astype(np.float32).astype(np.float64)
        unit *= source.scale
    scale = float(np.float32(min(unit * spread / float(rng.uniform(25, 60)), 100.0)))
    zero_point = _zero_point(rng)
    if op.mask_low:
        zero_point = -128 if rng.random() < 0.7 else int(rng.integers(-128, 0))
    model.tensors[-1] = target = Tensor(model.tensors[-1].shape, scale, zero_point)
    if oracle:
        derive_multipliers(model, op)
    elif op.kind == "mean":
        pair = fold_count(*quantize_multiplier(source.scale / scale), source.shape[0] * source.shape[1])
        op.multiplier, op.shift = np.array(pair[:1], np.int32), np.array(pair[1:], np.int8)
    else:
        pairs = [quantize_multiplier(source.scale * s / scale) for s in op.weight_scale]
        op.multiplier = np.array([pair[0] for pair in pairs], np.int32)
        op.shift = np.array([pair[1] for pair in pairs], np.int8)
    op.act_min, op.act_max = _range(rng, op, target, oracle)


def _range(rng: np.random.Generator, op: Op, target: Tensor, oracle: bool) -> tuple[int, int]:
    low, high = fused_range(target, op.mask_low, op.mask_high)
    if oracle or low < high and rng.random() < 0.5:
        return low, high
    low = int(rng.integers(-128, 0)) if op.mask_low else -128
    return low, int(rng.integers(low, 128)) if op.mask_high else 127


def _edge_multipliers(rng: np.random.Generator, op: Op) -> None:
    """Gives a few channels multipliers no float quantizer would choose, and left shifts."""
    for channel in range(len(op.multiplier)):
        choice = rng.integers(0, 40)
        if choice < 4:  # the same factor, written with a left shift
            left = int(rng.integers(1, 9))
            shift = int(op.shift[channel])
            op.multiplier[channel] >>= min(31, left - shift) if shift < left else 0
            op.shift[channel] = max(shift, left)
        elif choice == 4:
            op.multiplier[channel], op.shift[channel] = 0, rng.integers(-31, 31)
        elif choice == 5:
            op.multiplier[channel] = 2**31 - 1
        elif choice == 6:
            op.shift[channel] = rng.choice([-31, 30])


def _average(model: QuantModel, op: Op, batch: NDArray) -> NDArray:
    return np.stack([average_pool_forward(model, op, x) for x in batch])
