"""Constants and tables of INT8 layers, derived from scales exactly as by TensorFlow Lite Micro's kernels.

Everything after a rounding is in integers: gemmlowp's fixed-point functions, on int64 arrays of 32-bit values.
Sources: TensorFlow Lite's quantization_util.cc and reference kernels, gemmlowp's fixedpoint.h.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelora.base.errors import InputError

from .network import Op, QuantModel, Tensor

Ints = NDArray[np.int64]
ADD_LEFT_SHIFT = 20
DIFFERENCE_LEFT_SHIFT = 7  # of a squared difference
SOFTMAX_INTEGER_BITS = 5  # of the scaled difference to the maximum
ROOT_SHIFT = 20  # of a reciprocal square root, before its scale
SIGMOID_INTEGER_BITS = 4  # of the inputs of logistic and tanh
INT32_MAX = 2**31 - 1
NORM_SHIFTS = (-10, 17)  # least and most of e
NORM_BIAS = 1 << 27  # most of abs(bias)
ATTEND_MULTIPLIERS = ((1, 65535), (0, 32767), (0, 32767))  # least and most of M, m and K
ATTEND_SHIFTS = ((0, 20), (-16, 15), (-64, 63))  # and of n, t and x
# k and exp(-2^k) as Q31
_EXPONENTIALS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)


# ---- multipliers -----------------------------------------------------------------------------------------------------


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real = multiplier / 2**31 * 2**shift and multiplier in [2**30, 2**31), or (0, 0) for 0.

    TensorFlow Lite's QuantizeMultiplier, so also (0, 0) for values below 2**-32, whose bits would all be shifted out.
    Raises ValueError outside [0, 2**30), where fixed-point requantization isn't defined.
    """
    if not 0 <= real < 2**30:
        raise InputError(f"requantization multiplier {real} is not in [0, 2**30); check the tensors' scales")
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    if shift < -31 or multiplier == 0:
        return 0, 0
    return multiplier, shift


def fold_count(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """The multiplier and shift of a mean over `count` elements, with the count folded in as by TFLite's kernel."""
    by = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << by) // count, shift - by


def add_multipliers(a: Tensor, b: Tensor, out: Tensor) -> list[tuple[int, int]]:
    """(multiplier, shift) of the two inputs and the output of an add.

    Raises ValueError if the output's scale is too small for TFLite (its multiplier must be below 1).
    """
    scales = [_float32(tensor.scale) for tensor in (a, b, out)]
    twice = 2 * max(scales[:2])
    output = twice / (2**ADD_LEFT_SHIFT * scales[2])
    if output >= 1:
        raise InputError(f"output scale {out.scale:g} of an add is too small for inputs of {a.scale:g}, {b.scale:g}")
    return [quantize_multiplier(real) for real in (scales[0] / twice, scales[1] / twice, output)]


def difference_multipliers(a: Tensor, b: Tensor, out: Tensor) -> list[tuple[int, int]]:
    """(multiplier, shift) of the two inputs and the output of a squared difference. ValueError as `add_multipliers`."""
    scales = [_float32(tensor.scale) for tensor in (a, b, out)]
    twice = 2 * max(scales[:2])
    output = twice * twice / (2 ** (2 * DIFFERENCE_LEFT_SHIFT) * scales[2])
    if output >= 1:
        raise InputError(f"scale {out.scale:g} of a squared difference is too small for {a.scale:g}, {b.scale:g}")
    return [quantize_multiplier(real) for real in (scales[0] / twice, scales[1] / twice, output)]


def take_off(op: Op, place: int) -> None:
    """Turns an add into a subtraction of one of its inputs."""
    assert op.multiplier is not None
    op.multiplier[place] *= -1


def set_multipliers(op: Op, pairs: list[tuple[int, int]]) -> None:
    """Stores (multiplier, shift) pairs in an op."""
    op.multiplier = np.array([multiplier for multiplier, _ in pairs], np.int32)
    op.shift = np.array([shift for _, shift in pairs], np.int8)


def derive(model: QuantModel, op: Op, function: str = "requantize") -> None:
    """Sets the constants that an op's scales determine: multipliers and shifts, or tables (of `function` for a lookup).

    Ops with weights or an embedding need their `weight_scale` set, an attend its `heads`. A norm and a rotate have
    constants of their own: `set_norm`, `set_angles`.
    """
    source, target = model.tensors[op.input], model.tensors[op.output]
    scale_in, scale_out = _float32(source.scale), _float32(target.scale)
    if op.kind == "embed":
        assert op.weight_scale is not None
        set_multipliers(op, [quantize_multiplier(_float32(op.weight_scale[0]) / scale_out)])
    elif op.kind == "attend":
        set_attention(op, source, model.tensors[op.input2], model.tensors[op.input3], target)
    elif op.kind == "widen":
        set_multipliers(op, [quantize_multiplier(scale_in / scale_out)])
    elif op.weight_scale is not None:
        set_multipliers(op, [quantize_multiplier(scale_in * _float32(s) / scale_out) for s in op.weight_scale])
    elif op.kind == "mean":
        count = source.shape[0] * source.shape[1]
        set_multipliers(op, [fold_count(*quantize_multiplier(scale_in / scale_out), count)])
    elif op.kind == "add":
        set_multipliers(op, add_multipliers(source, model.tensors[op.input2], target))
    elif op.kind == "squared_difference":
        set_multipliers(op, difference_multipliers(source, model.tensors[op.input2], target))
    elif op.kind in ("multiply", "matmul"):
        other = _float32(model.tensors[op.input2].scale)
        set_multipliers(op, [quantize_multiplier(scale_in * other / scale_out)])
    elif op.kind == "prelu":
        other = _float32(model.tensors[op.input2].scale)
        set_multipliers(op, [quantize_multiplier(real / scale_out) for real in (scale_in, scale_in * other)])
    elif op.kind == "lookup":
        op.table = lookup_table(function, source, target)
        op.slope, op.shift = lookup_slope(function, source, target)
    elif op.kind == "softmax":
        op.exponentials = softmax_exponentials(scale_in)
        op.shift = softmax_ratio(scale_in / scale_out)


def _float32(value: float) -> float:
    """A scale as files hold it."""
    return float(np.float32(value))


def bounded_bias(model: QuantModel, op: Op, folded: Ints, most: int) -> Ints:
    """Biases [O] with the zero point folded in; those beyond `most` are clamped if no output changes.

    An accumulator is its bias plus the sum of inputs times weights. The output is monotonic in it, so equal
    outputs at both ends of its range, before and after, imply equal outputs everywhere.
    """
    assert op.weights is not None and op.multiplier is not None and op.shift is not None
    out = model.tensors[op.output].zero_point
    channels = op.weights.transpose(2, 0, 1) if op.kind == "depthwise" else op.weights
    bounded = folded.copy()
    for channel in np.flatnonzero(np.abs(folded) > most):
        w = channels[channel].astype(np.int64)
        reach = np.array([np.minimum(-128 * w, 127 * w).sum(), np.maximum(-128 * w, 127 * w).sum()])
        bound = int(np.sign(folded[channel])) * most
        sums = np.concatenate([reach + folded[channel], reach + bound])
        shift = int(op.shift[channel])
        if shift > 0 or sums.max() > INT32_MAX or sums.min() < ~INT32_MAX:
            continue
        y = np.clip(multiply(sums, int(op.multiplier[channel]), shift) + out, op.act_min, op.act_max)
        if (y == y[0]).all():
            bounded[channel] = bound
    return bounded


def pair_outputs(op: Op, grids: tuple[Tensor, Tensor, Tensor], a: Ints, b: Ints) -> Ints:
    """The output of an op with two inputs for their int8 values; grids: of the inputs and the output."""
    if op.kind in ("minimum", "maximum"):
        return np.minimum(a, b) if op.kind == "minimum" else np.maximum(a, b)
    assert op.multiplier is not None and op.shift is not None
    pairs = [(int(m), int(s)) for m, s in zip(op.multiplier, op.shift, strict=True)]
    a, b = a - grids[0].zero_point, b - grids[1].zero_point
    if op.kind == "add":
        parts = [x << ADD_LEFT_SHIFT for x in (a, b)]
        terms = [np.sign(m) * multiply(x, abs(m), s) for x, (m, s) in zip(parts, pairs, strict=False)]
        y = multiply(terms[0] + terms[1], *pairs[2])
    elif op.kind == "squared_difference":
        one, two = (multiply(x << DIFFERENCE_LEFT_SHIFT, *pair) for x, pair in zip((a, b), pairs, strict=False))
        y = multiply(saturate_16(one - two) ** 2, *pairs[2])
    else:
        y = multiply(a * b, *pairs[-1])
        y = np.where(a < 0, y, multiply(a, *pairs[0])) if op.kind == "prelu" else y
    return np.clip(y + grids[2].zero_point, op.act_min, op.act_max)


def set_pair_table(op: Op, pair: Op, grids: tuple[Tensor, Tensor, Tensor], value: int) -> None:
    """Turns a lookup into `pair`, an op with two inputs, with a constant second input `value`."""
    x, real, other = np.arange(-128, 128), _real_inputs(grids[0]), grids[1].scale * (value - grids[1].zero_point)
    table = pair_outputs(pair, grids, x, np.full(256, value)).astype(np.int8)
    slope: NDArray[Any] = np.ones(256)
    if pair.kind == "add" and pair.multiplier is not None:
        slope = slope * np.sign(pair.multiplier[0])
    elif pair.kind == "multiply":
        slope = slope * other
    elif pair.kind == "squared_difference":
        slope = 2 * (real - other)
    elif pair.kind == "prelu":
        slope = np.where(real >= 0, 1.0, other)
    elif pair.kind in ("minimum", "maximum"):
        slope = (x <= value if pair.kind == "minimum" else x >= value).astype(np.float64)
    slope = np.where((table > pair.act_min) & (table < pair.act_max), slope, 0.0)
    set_table(op, table, slope * (grids[0].scale / grids[2].scale))


# ---- streams and attention -------------------------------------------------------------------------------------------


def stream_scale(peak: float, channels: int, epsilon: float) -> float:
    """The scale of streams: room for 1.5 times `peak`, their largest absolute value, and for each norm's `epsilon`."""
    return _float32(max(1.5 * peak / 32767, channels * math.sqrt(epsilon / (INT32_MAX - 1024))))


def set_embedding(op: Op, table: NDArray[np.floating], target: Tensor) -> None:
    """Gives an embed its rows, real [symbols, channels], in int8 with one scale."""
    scale = _float32(max(float(np.abs(table).max()), 1e-30) / 127)
    op.embedding = np.rint(np.asarray(table, np.float64) / scale).astype(np.int8)
    op.weight_scale = np.array([scale])
    set_multipliers(op, [quantize_multiplier(scale / _float32(target.scale))])


def set_norm(
    op: Op,
    source: Tensor,
    target: Tensor,
    gamma: NDArray[np.floating],
    beta: NDArray[np.floating] | None,
    epsilon: float,
) -> None:
    """Gives a norm its constants: y = normalized * gamma + beta, real [channels], epsilon added to the variance.

    Its rows are centred as `op.centred` says. ValueError for scales with which its constants leave their limits.
    """
    gain = np.asarray(gamma, np.float64) / _float32(target.scale)
    bias = np.zeros_like(gain) if beta is None else np.asarray(beta, np.float64) / _float32(target.scale)
    least, most = NORM_SHIFTS
    room = (e for e in range(most, least - 1, -1) if np.rint(abs(gain) * 2.0**e).max() < 2**15)
    shift = next((e for e in room if np.rint(abs(bias) * 2.0 ** (e + 11)).max() <= NORM_BIAS), None)
    if shift is None:
        raise InputError(f"output scale {target.scale:g} of a norm is too small for its gain or bias")
    added = round(source.shape[2] ** 2 * epsilon / _float32(source.scale) ** 2)
    if added > INT32_MAX:
        raise InputError(f"input scale {source.scale:g} of a norm is too small for its epsilon: use `stream_scale`")
    op.gain = np.rint(gain * 2.0**shift).astype(np.int16)
    op.bias = np.rint(bias * 2.0 ** (shift + 11)).astype(np.int32)
    set_multipliers(op, [(max(1, added), shift)])


def rotary_angles(positions: int, half: int, base: float = 10000.0) -> NDArray[np.float64]:
    """The angles of rotary position embeddings [positions, half] in radians: pair i turns by t / base**(i / half)."""
    return np.arange(positions)[:, None] / base ** (np.arange(half) / half)


def set_angles(op: Op, angles: NDArray[np.floating]) -> None:
    """Gives a rotate its table from real angles [positions, half] in radians."""
    op.angles = np.rint(32767 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)).astype(np.int16)


def set_attention(op: Op, query: Tensor, key: Tensor, value: Tensor, target: Tensor) -> None:
    """Gives an attend its constants. A score is the product of a query and a key divided by the root of their length.

    ValueError for scales that differ too much.
    """
    score = _float32(query.scale) * _float32(key.scale) / math.sqrt(query.shape[2] // op.heads[0])  # nats a step
    ratio = _float32(value.scale) / _float32(target.scale)
    octaves = 256 * math.log2(math.e) * score
    least, most = ATTEND_SHIFTS[0]
    shift = next((n for n in range(most, least, -1) if round(octaves * 2**n) < 2**16), least)
    low, high = ATTEND_MULTIPLIERS[0]  # beyond these all elements of a row but the largest are 0, or all are equal
    pairs = [_mantissa_15(real, *ATTEND_SHIFTS[k]) for k, real in ((1, ratio), (2, score * ratio))]
    set_multipliers(op, [(min(max(round(octaves * 2**shift), low), high), shift), *pairs])


def _mantissa_15(real: float, least: int, most: int) -> tuple[int, int]:
    """(m, x) with m * 2**(x - 15) ~ real, m below 2**15 and x in least .. most. ValueError where real is larger."""
    exponent = max(math.frexp(real)[1], least)
    mantissa = round(real * 2.0 ** (15 - exponent))
    if mantissa == 2**15:
        mantissa, exponent = 2**14, exponent + 1
    if exponent > most:
        raise InputError(f"a factor of {real:g} between scales of an attend is too large: check the tensors' scales")
    return mantissa, exponent


# ---- tables ----------------------------------------------------------------------------------------------------------

LOOKUPS = ("requantize", "relu", "logistic", "tanh")
LOGISTIC_GRID = (1 / 256, -128)  # output scale and zero point required by TFLite
TANH_GRID = (1 / 128, 0)
SOFTMAX_GRID = (1 / 256, -128)


def lookup_table(function: str, source: Tensor, target: Tensor) -> NDArray[np.int8]:
    """The output for each input from -128 to 127: int8 [256]. `function` is one of LOOKUPS."""
    centred = np.arange(-128, 128) - source.zero_point
    if function == "logistic":
        return _sigmoid_table(function, centred, source, _logistic, 23, -128)
    if function == "tanh":
        return _sigmoid_table(function, centred, source, _tanh, 24, 0)
    if function not in LOOKUPS:
        raise InputError(f"function {function!r} is not one of {', '.join(LOOKUPS)}")
    low = max(-128, target.zero_point) if function == "relu" else -128
    pair = quantize_multiplier(_float32(source.scale) / _float32(target.scale))
    return np.clip(multiply(centred, *pair) + target.zero_point, low, 127).astype(np.int8)


def lookup_slope(function: str, source: Tensor, target: Tensor) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """The derivative of a lookup in int8 steps as slope [256] * 2**shift [1]; 0 where the output saturates."""
    x = _real_inputs(source)
    if function == "logistic":
        y = np.exp(-np.logaddexp(0, -x))
        real = y * (1 - y)
    elif function == "tanh":
        real = 1 - np.tanh(x) ** 2
    else:
        y = x / target.scale + target.zero_point
        low = target.zero_point if function == "relu" else -128.5
        real = ((y > low) & (y < 127.5)).astype(np.float64)
    return fixed_slope(real * source.scale / target.scale)


def fused_range(tensor: Tensor, low: float | None, high: float | None) -> tuple[int, int]:
    """act_min and act_max of a fused activation that clamps real values; None: no bound."""
    at_low, at_high = (None if bound is None else _nearest_step(tensor, bound) for bound in (low, high))
    return -128 if at_low is None else max(-128, at_low), 127 if at_high is None else min(127, at_high)


def _nearest_step(tensor: Tensor, real: float) -> int:
    """The int8 step next to a real value, not saturated; the division is one of float32, halves go away from zero."""
    steps = float(np.float32(real) / np.float32(tensor.scale))
    if not abs(steps) < 2**31:
        raise InputError(f"its activation's bound {real:g} is {steps:g} steps of {tensor.scale:g}, too many for TFLite")
    return tensor.zero_point + int(math.copysign(math.floor(abs(steps) + 0.5), steps))


def set_relu6(op: Op, grid: Tensor) -> None:
    """Makes a lookup a separate ReLU6, which TFLite computes within one grid."""
    table = np.clip(np.arange(-128, 128), *fused_range(grid, 0.0, 6.0)).astype(np.int8)
    x = _real_inputs(grid)
    set_table(op, table, (x > 0) & (x < 6))


def set_leaky_relu(op: Op, source: Tensor, target: Tensor, alpha: float) -> None:
    """Makes a lookup a leaky ReLU. ValueError for an `alpha` below 0, with which TFLite's multiplier isn't defined."""
    scale_in, scale_out = _float32(source.scale), _float32(target.scale)
    ratios = (scale_in * _float32(alpha) / scale_out, scale_in / scale_out)
    centred = np.arange(-128, 128) - source.zero_point
    below, above = (multiply(centred, *quantize_multiplier(ratio)) for ratio in ratios)
    table = np.clip(np.where(centred >= 0, above, below) + target.zero_point, -128, 127).astype(np.int8)
    set_table(op, table, np.where(centred > 0, 1, alpha) * (source.scale / target.scale))


def set_hard_swish(op: Op, source: Tensor, target: Tensor) -> None:
    """Makes a lookup x * relu6(x + 3) / 6, in TFLite's 16-bit arithmetic."""
    fine = np.float32(source.scale) * np.float32(1 / 128)
    out_multiplier, out_exponent = _multiplier_16(float(fine / np.float32(target.scale)))
    gate_multiplier, gate_exponent = _multiplier_16(float(fine / np.float32(3 / 32768)))
    if gate_exponent < -15:
        raise InputError(f"input scale {source.scale:g} of a hard swish is too small for TFLite")
    if not -15 <= out_exponent <= 0:
        size = "small" if out_exponent > 0 else "large"
        raise InputError(f"output scale {target.scale:g} of a hard swish is too {size} for TFLite")
    x = saturate_16((np.arange(-128, 128) - source.zero_point) << 7)
    gate = saturate_16(x << max(gate_exponent - 1, 0))
    gate = saturate_16(rounding_multiply_16(gate, gate_multiplier) << (gate_exponent > 0))
    gate = (rounding_divide(gate, max(-gate_exponent, 0)) + 2**15) >> 1
    product = gate * rounding_multiply_16(x, out_multiplier)
    product = np.sign(product) * (np.abs(product) >> 15)  # here TFLite truncates
    table = np.clip(rounding_divide(product, -out_exponent) + target.zero_point, -128, 127).astype(np.int8)
    real = _real_inputs(source)
    slope = np.where(np.abs(real) < 3, (2 * real + 3) / 6, real > 0)
    set_table(op, table, slope * (source.scale / target.scale))


def set_relu(op: Op, source: Tensor, target: Tensor, low: float, high: float) -> None:
    """Makes a lookup a ReLU with both bounds, from one grid to another."""
    centred = np.arange(-128, 128) - source.zero_point
    pair = quantize_multiplier(_float32(source.scale) / _float32(target.scale))
    table = np.clip(multiply(centred, *pair) + target.zero_point, *fused_range(target, low, high)).astype(np.int8)
    x = _real_inputs(source)
    set_table(op, table, ((x > low) & (x < high)) * (source.scale / target.scale))


def set_abs(op: Op, source: Tensor, target: Tensor) -> None:
    """Makes a lookup the absolute value."""
    centred = np.arange(-128, 128) - source.zero_point
    pair = quantize_multiplier(_float32(source.scale) / _float32(target.scale))
    table = np.clip(multiply(np.abs(centred), *pair) + target.zero_point, -128, 127).astype(np.int8)
    set_table(op, table, np.sign(centred) * (source.scale / target.scale))


def set_rsqrt(op: Op, source: Tensor, target: Tensor) -> None:
    """Makes a lookup 1 / sqrt(x). ValueError for a grid with negative values, which TFLite does not support."""
    if source.zero_point != -128:
        raise InputError(f"its input's zero point is {source.zero_point}, must be -128: it has values below 0")
    root = 1 / (float(np.sqrt(np.float32(source.scale))) * _float32(target.scale))
    multiplier, shift = quantize_multiplier(root)
    if shift - ROOT_SHIFT < -31:
        raise InputError(f"scales of {source.scale:g} and {target.scale:g} are too large for TFLite's square roots")
    table = [127]
    for value in range(1, 256):
        factor, right = _inverse_root(value)
        part = multiply(np.array([1]), factor, ROOT_SHIFT - right)
        y = int(multiply(part, multiplier, shift - ROOT_SHIFT)[0]) + target.zero_point
        table.append(min(max(y, -128), 127))
    real = np.maximum(_real_inputs(source), source.scale)
    set_table(op, np.array(table, np.int8), -0.5 * real**-1.5 * (source.scale / target.scale))


def set_sqrt(op: Op, source: Tensor, target: Tensor) -> None:
    """Makes a lookup a square root, rounded down. ValueError for a grid with negative values."""
    if source.zero_point != -128:
        raise InputError(f"its input's zero point is {source.zero_point}, must be -128: it has values below 0")
    root = np.sqrt(np.float32(source.scale) * np.arange(256, dtype=np.float32)) / np.float32(target.scale)
    if not root[-1] < 2.0**30:
        raise InputError(f"output scale {target.scale:g} is too small for TFLite: a value has more than 2^30 steps")
    table = np.clip(np.floor(root).astype(np.int64) + target.zero_point, -128, 127).astype(np.int8)
    real = np.maximum(_real_inputs(source), source.scale)
    set_table(op, table, 0.5 * real**-0.5 * (source.scale / target.scale))


@functools.cache
def _inverse_root(value: int) -> tuple[int, int]:
    """1 / sqrt(value) as a Q31 factor and a shift to the right, by Newton's method in fixed point."""
    if value == 1:
        return INT32_MAX, 0
    pairs = (31 - value.bit_length()) // 2 - 1
    half = rounding_divide(value << 2 * pairs >> 1, 1)  # 3 integer bits
    x: Ints = np.asarray(1 << 28, np.int64)
    for _ in range(5):
        cube = saturate(rounding_multiply(rounding_multiply(x, x), x) << 6)
        x = saturate((rounding_multiply(3 << 27, x) - rounding_multiply(half, cube)) << 3)
    return int(rounding_multiply(x, 1518500250)), 11 - pairs


def set_real_function(op: Op, function: str, source: Tensor, target: Tensor) -> None:
    """Makes a lookup one of REAL_FUNCTIONS, whose tables TFLite computes in float32.

    ValueError for values so far beyond the output's grid that TFLite's conversion isn't defined.
    """
    compute, derivative = REAL_FUNCTIONS[function]
    x = np.float32(source.scale) * (np.arange(-128, 128) - source.zero_point).astype(np.float32)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        y = np.asarray(compute(x), np.float32)
        steps = y * (np.float32(1) / np.float32(target.scale))
    lowest = function == "log"  # x <= 0 has no logarithm
    steps = np.where(x > 0, steps, np.float32(-128 - target.zero_point)) if lowest else steps
    if not (np.abs(steps) < 2.0**30).all():
        raise InputError(f"output scale {target.scale:g} is too small for TFLite: a value has more than 2^30 steps")
    table = np.clip(round_away(steps) + target.zero_point, -128, 127).astype(np.int8)
    real = x.astype(np.float64)
    slope = derivative(np.where(x > 0, real, source.scale) if lowest else real)
    set_table(op, table, np.nan_to_num(slope) * (source.scale / target.scale))


def round_away(x: NDArray[np.float32]) -> Ints:
    """The nearest integers, ties away from zero. In float32, 1/2 and the value just below it give 1."""
    return np.copysign(np.floor(np.abs(x.astype(np.float64)) + 0.5), x).astype(np.int64)


def _real_inputs(source: Tensor) -> NDArray[np.float64]:
    return source.scale * (np.arange(-128, 128) - source.zero_point).astype(np.float64)


def set_table(op: Op, table: NDArray[np.int8], slope: NDArray[Any]) -> None:
    """Stores a lookup's table and its slopes in int8 steps, which are 0 where the output saturates."""
    op.table = table
    op.slope, op.shift = fixed_slope(np.where((table > -128) & (table < 127), slope, 0.0))


def fixed_slope(real: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Real derivatives [256] as int8 slope [256] and one shift [1], as fine as int8 allows."""
    peak = float(np.abs(real).max())
    shift = max(-31, math.ceil(math.log2(peak / 127.49))) if peak else 0
    return np.rint(real / 2.0**shift).astype(np.int8), np.array([shift], np.int8)


def softmax_exponentials(scale: float) -> NDArray[np.int32]:
    """exp(-scale * d) as Q31 for d = 0..255, 0 for elements that TFLite skips."""
    real = min(_float32(scale) * 2 ** (31 - SOFTMAX_INTEGER_BITS), float(INT32_MAX))
    if real <= 1:
        raise InputError(f"input scale {scale:g} of a softmax is too small for TFLite")
    multiplier, shift = quantize_multiplier_wide(real)
    d = np.arange(256)
    exponentials = exp_on_negative_values(multiply(-d, multiplier, shift), SOFTMAX_INTEGER_BITS)
    return np.where(d <= _radius(SOFTMAX_INTEGER_BITS, shift), exponentials, 0).astype(np.int32)


def softmax_ratio(ratio: float) -> NDArray[np.int8]:
    """(m, s) with m in 64..127 and m * 2**s ~ ratio."""
    shift = math.floor(math.log2(ratio)) - 6
    mantissa = round(ratio / 2.0**shift)
    if mantissa == 128:
        mantissa, shift = 64, shift + 1
    return np.array([mantissa, shift], np.int8)


def quantize_multiplier_wide(real: float) -> tuple[int, int]:
    """As quantize_multiplier, for the factors up to 2**31 that bring inputs to fixed point."""
    multiplier, shift = quantize_multiplier(real / 4)
    return multiplier, shift + 2


def logistic_table() -> NDArray[np.int32]:
    """TFLite's table of the logistic function for 16 bits: 2**16 times its value at 0, 1/24 ... 254/24, and the end.

    Each is raised by half the error of linear interpolation at the middle, which balances the error.
    """
    step = 1 / 24
    value = 1 / (1 + np.exp(-step * np.arange(255)))
    bend = value * (1 - value) * (1 - 2 * value)  # the second derivative
    raised = np.floor((value - bend * step**2 / 16) * 2**16 + 0.5)
    return np.append(raised, 2**16 - 1).astype(np.int32)


def logistic_16(v: Ints, table: Ints) -> Ints:
    """The logistic function: input with 12 fractional bits, output with 15."""
    p = _between(np.abs(3 * v), table, (2**15 - 1) << 10)
    return np.where(v >= 0, p + 512, 2**25 - p + 511) >> 10


def tanh_16(v: Ints, table: Ints, power: int) -> Ints:
    """tanh v = 2 * logistic(2 v) - 1: input with 12 - `power` fractional bits, output with 15."""
    w = (3 * v + (1 << -power - 1)) >> -power if power < 0 else 3 * v << power
    p = _between(2 * np.abs(w), table, (2**16 - 1) << 9) >> 1
    return np.where(w >= 0, p - 2**23 + 128, 2**23 - p + 127) >> 8


def _between(y: Ints, table: Ints, end: int) -> Ints:
    """Interpolates between two values of a table, 2**9 steps apart; `end` beyond the table."""
    at = np.minimum(y >> 9, len(table) - 2)
    return np.where(y >> 9 > at, end, (table[at] << 9) + (y & 511) * (table[at + 1] - table[at]))


def _sigmoid_table(
    name: str, centred: Ints, source: Tensor, function: Callable[[Ints], Ints], shift: int, zero_point: int
) -> NDArray[np.int8]:
    real = _float32(source.scale) * 2 ** (31 - SIGMOID_INTEGER_BITS)
    multiplier, left = quantize_multiplier_wide(real)
    radius = _radius(SIGMOID_INTEGER_BITS, left)
    if radius > INT32_MAX:
        raise InputError(f"input scale {source.scale:g} of a {name} is too small for TFLite")
    inside = np.abs(centred) < radius
    q31 = function(multiply(np.where(inside, centred, 0), multiplier, left))
    y = np.clip(rounding_divide(q31, shift) + zero_point, -128, 127)
    return np.where(inside, y, np.where(centred <= -radius, -128, 127)).astype(np.int8)


def _radius(integer_bits: int, left_shift: int) -> int:
    """The largest input whose scaled value fits (TFLite's CalculateInputRadius)."""
    return math.floor(math.ldexp((1 << integer_bits) - 1, 31 - integer_bits - left_shift))


# ---- functions of real numbers ---------------------------------------------------------------------------------------


def _each(function: Callable[[float], float], x: NDArray[Any]) -> NDArray[np.float64]:
    return np.array([function(float(value)) for value in x])


def _normal(x: NDArray[Any]) -> NDArray[np.float64]:
    """The standard normal distribution's density."""
    return np.exp(-(x.astype(np.float64) ** 2) / 2) / math.sqrt(2 * math.pi)


def _gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    tail = _each(math.erfc, x * np.float32(-math.sqrt(0.5))).astype(np.float32)
    return np.float32(0.5) * x * tail


def _gelu_slope(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * _each(math.erfc, -x * math.sqrt(0.5)) + x * _normal(x)


def _gelu_tanh(x: NDArray[np.float32]) -> NDArray[np.float32]:
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (np.float32(1) + np.tanh(inner.astype(np.float64)).astype(np.float32))


def _exp(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.exp(x.astype(np.float64)).astype(np.float32)


def _elu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(x < 0, _exp(np.minimum(x, np.float32(0))) - np.float32(1), x)


def _log(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log(x.astype(np.float64)).astype(np.float32)


RealFunction = tuple[Callable[[NDArray[np.float32]], NDArray[np.float32]], Callable[[NDArray[Any]], NDArray[Any]]]
REAL_FUNCTIONS: dict[str, RealFunction] = {  # with their derivatives
    "elu": (_elu, lambda x: np.exp(np.minimum(x, 0))),
    "exp": (_exp, np.exp),
    "gelu": (_gelu, _gelu_slope),
    "gelu_tanh": (_gelu_tanh, _gelu_slope),
    "log": (_log, lambda x: 1 / x),
}


# ---- gemmlowp's fixed point ------------------------------------------------------------------------------------------


def saturate(v: ArrayLike) -> Ints:
    return np.clip(np.asarray(v, np.int64), -(2**31), INT32_MAX)


def rounding_multiply(a: ArrayLike, b: ArrayLike) -> Ints:
    """a * b / 2**31, rounded half up (SaturatingRoundingDoublingHighMul)."""
    return saturate((np.asarray(a, np.int64) * np.asarray(b, np.int64) + 2**30) >> 31)


def saturate_16(v: ArrayLike) -> Ints:
    return np.clip(np.asarray(v, np.int64), -(2**15), 2**15 - 1)


def rounding_multiply_16(a: ArrayLike, b: ArrayLike) -> Ints:
    """a * b / 2**15, rounded half up, of 16-bit values."""
    return saturate_16((np.asarray(a, np.int64) * np.asarray(b, np.int64) + 2**14) >> 15)


def _multiplier_16(real: float) -> tuple[int, int]:
    """As quantize_multiplier, with a multiplier of 16 bits."""
    multiplier, shift = quantize_multiplier(real)
    return min((multiplier + 2**15) >> 16, 2**15 - 1), shift


def rounding_divide(v: ArrayLike, n: int) -> Ints:
    """v / 2**n, rounded half away from zero (RoundingDivideByPOT)."""
    v = np.asarray(v, np.int64)
    mask = (1 << n) - 1
    return (v >> n) + ((v & mask) > (mask >> 1) + (v < 0))


def multiply(v: Ints, multiplier: int, shift: int) -> Ints:
    """v * multiplier / 2**31 * 2**shift (MultiplyByQuantizedMultiplier)."""
    shifted = (np.asarray(v, np.int64) << max(shift, 0)).astype(np.int32)
    return rounding_divide(rounding_multiply(shifted, multiplier), max(-shift, 0))


def exp_on_negative_values(raw: Ints, integer_bits: int) -> Ints:
    """exp of values <= 0 with that many integer bits, as Q31."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    low = (raw & (quarter - 1)) - quarter  # in [-1/4, 0)
    result = _exp_of_quarter(saturate(low << integer_bits))
    remainder = low - raw
    for exponent, factor in _EXPONENTIALS:
        if exponent < integer_bits:
            bit = remainder >> (fraction_bits + exponent) & 1
            result = np.where(bit, rounding_multiply(result, factor), result)
    return np.where(raw == 0, INT32_MAX, result)


def _exp_of_quarter(a: Ints) -> Ints:
    """exp of Q31 values in [-1/4, 0): a Taylor series around -1/8."""
    constant, third = 1895147668, 715827883
    x = a + (1 << 28)
    x2 = rounding_multiply(x, x)
    x3, x4 = rounding_multiply(x2, x), rounding_multiply(x2, x2)
    series = rounding_divide(rounding_multiply(rounding_divide(x4, 2) + x3, third) + x2, 1)
    return constant + rounding_multiply(constant, x + series)


def _newton(a: Ints) -> Ints:
    """2 / (1 + a) for Q31 a in [0, 1], with 2 integer bits."""
    total = np.asarray(a, np.int64) + INT32_MAX
    half_denominator = (total + 1) >> 1
    x = 1515870810 + rounding_multiply(half_denominator, -1010580540)
    for _ in range(3):
        rest = (1 << 29) - rounding_multiply(half_denominator, x)
        x = x + saturate(rounding_multiply(x, rest) << 2)
    return x


def one_over_one_plus(a: Ints) -> Ints:
    """1 / (1 + a) for Q31 a in [0, 1], as Q31."""
    return saturate(_newton(a) << 1)


def _logistic(raw: Ints) -> Ints:
    positive = one_over_one_plus(exp_on_negative_values(-np.abs(raw), SIGMOID_INTEGER_BITS))
    return np.where(raw == 0, 1 << 30, np.where(raw > 0, positive, INT32_MAX - positive))


def _tanh(raw: Ints) -> Ints:
    twice = exp_on_negative_values(-np.abs(raw), SIGMOID_INTEGER_BITS + 1)  # the same bits, read as twice the value
    return np.sign(raw) * saturate((_newton(twice) - (1 << 29)) << 2)
