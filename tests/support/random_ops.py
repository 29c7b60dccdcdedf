"""Random ops with their shapes, from everything that `.elm` allows, within a limit of work.

The caller supplies the source of integers: hypothesis, which shrinks failing examples, or a generator with a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from reference import RECURRENT_KINDS

from edgelora.core.formats.network import (
    KINDS,
    MATRIX_KINDS,
    PAIR_KINDS,
    POOL_KINDS,
    TRANSFORMER_KINDS,
    WINDOW_KINDS,
    Op,
    gather_axes,
)

Draw = Callable[[int, int], int]  # an integer in [low, high]
Shape = tuple[int, int, int]

WORK = 19  # an op has at most 2^WORK multiply-accumulates
ELEMENTS = 32_000  # most elements of a tensor; the format allows 2^20
POSITIONS = 65_535


@dataclass(frozen=True)
class DrawnOp:
    """An op and its tensors' shapes; fields that the kind does not use have their defaults.

    source2: shape of the second input, if there is one; known: that is a constant; takes_off: the input of an add that
    is subtracted, or -1. seed: of all values. tflite: a `.tflite` file can express the op. edges: has multipliers,
    biases and shifts that no quantizer would choose. alone: the op is the model's only one; else a 1x1 convolution with
    an adapter computes its inputs, so that errors pass through the op. shift: offset in bytes of the model's input from
    a multiple of 4. rank: of the op's own adapter.
    """

    kind: str
    source: Shape
    target: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    source2: Shape | None = None
    axis: int = 3
    start: int = 0
    axes: tuple[int, int] = (1, 2)
    known: bool = False
    takes_off: int = -1
    rank: int = 0
    alone: bool = False
    tflite: bool = False
    edges: bool = False
    trainable_a: bool = False
    shift: int = 0
    seed: int = 0


def drawn_op(draw: Draw, tflite: bool = False, kinds: tuple[str, ...] = (), work: int = WORK) -> DrawnOp:
    """An op of one of `kinds`, or of any, with at most 2^work multiply-accumulates."""
    unsaid = RECURRENT_KINDS if tflite else ()  # recurrent_sketches.py tests them
    never = ("constant", *TRANSFORMER_KINDS)  # a constant is an input of others; random_transformers.py draws those
    drawable = tuple(kind for kind in KINDS if kind not in (*never, *unsaid))
    kind = pick(draw, kinds or (*drawable, *("conv",) * 4, *("depthwise",) * 5, "dense"))
    work = 2 ** draw(min(12, work), work)
    shapes = _window_op if kind in WINDOW_KINDS else _OTHERS[kind]
    fields = shapes(draw, kind, work, tflite)
    source, target = fields["source"], fields["target"]
    alone = kind in RECURRENT_KINDS or kind in MATRIX_KINDS and draw(0, 2) == 0
    rank = 0
    if kind in MATRIX_KINDS:
        inputs = math.prod(fields.get("kernel", source[:2])) * source[2]
        most = min(32, 65536 // inputs, 65536 // target[2], 2**20 // (target[0] * target[1]))
        rank = side(draw, most, (4, 8, 32)) if most and (alone or draw(0, 1)) else 0
    return DrawnOp(
        kind=kind,
        rank=rank,
        alone=alone,
        tflite=tflite,
        edges=not tflite and draw(0, 3) == 0,
        trainable_a=bool(draw(0, 1)),
        shift=draw(0, 3),
        seed=draw(0, 2**32 - 1),
        **fields,
    )


def generated(rng: np.random.Generator) -> Draw:
    """A source of integers from a generator."""
    return lambda low, high: int(rng.integers(low, high + 1))


def pick(draw: Draw, choices: tuple) -> object:
    return choices[draw(0, len(choices) - 1)]


def side(draw: Draw, most: int, caps: tuple[int, ...] = (8, 24, 40, 130, 130, POSITIONS)) -> int:
    """A size from 1 to `most`: uniform up to a random cap, so that small sizes are frequent and large ones occur."""
    return draw(1, max(1, min(most, pick(draw, caps))))


# --- Windows ---

LARGEST = {"conv": 4096, "depthwise": 1024}  # most elements of a kernel; 512 for pools
CHANNELS = (4, 17, 17, 70, 70, 300, POSITIONS)


@dataclass(frozen=True)
class Axis:
    """A window's plan along height or width."""

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    before: int


def _window_op(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    padding = str(pick(draw, ("same", "valid") if tflite else ("same", "same", "valid", "any")))
    depth = side(draw, min(work, ELEMENTS), CHANNELS)
    target = side(draw, work // depth, CHANNELS) if kind == "conv" else depth
    elements = max(1, min(work, ELEMENTS) // max(depth, target))
    work = max(1, work // (depth * target if kind == "conv" else depth))  # for each channel, or pair of channels
    usual = draw(0, 3) > 0  # the same along both axes, and small
    plan: list[Axis] = []
    most = min(LARGEST.get(kind, 512), work)
    window = _usual_window(draw) if usual else (0, 0, 0)
    for left in (math.isqrt(most), 0):
        kernel, stride, dilation = window if usual else _unusual_window(draw)
        kernel = min(kernel, left or most // plan[0].kernel)
        room = max(1, work // (kernel * (plan[0].kernel * plan[0].out if plan else 1)))
        outs, sizes = (elements // plan[0].out, elements // plan[0].size) if plan else (elements, elements)
        along = _pool_axis if kind in POOL_KINDS and padding == "any" else _AXES[padding]
        plan.append(along(draw, kernel, stride, 1 if kind in POOL_KINDS else dilation, min(outs, room), sizes))
    plan = plan if draw(0, 1) else plan[::-1]
    taps, positions = math.prod(a.kernel for a in plan), math.prod(a.out for a in plan)
    depth = min(depth, (16384 if kind == "conv" else 65536) // taps)
    target = min(target, 65536 // taps) if kind == "conv" else depth
    if kind == "depthwise":
        times = min(ELEMENTS // positions, 65536 // taps, depth * work // (positions * taps)) // depth
        target *= side(draw, times, (1, 1, 1, 4, 300))
    return {
        "source": (plan[0].size, plan[1].size, depth),
        "target": (plan[0].out, plan[1].out, target),
        "kernel": tuple(a.kernel for a in plan),
        "stride": tuple(a.stride for a in plan),
        "dilation": tuple(a.dilation for a in plan),
        "padding": tuple(a.before for a in plan),
    }


def _usual_window(draw: Draw) -> tuple[int, int, int]:
    """Kernel, stride and dilation."""
    kernel, stride = pick(draw, (3, 3, 3, 1, 2, 5)), pick(draw, (1, 1, 2, 3))
    return kernel, stride, pick(draw, (1, 1, 1, 2))


def _unusual_window(draw: Draw) -> tuple[int, int, int]:
    return side(draw, 255, (3, 3, 8, 255)), side(draw, 255, (2, 2, 4, 255)), side(draw, 255, (1, 1, 4, 255))


def _same_axis(draw: Draw, kernel: int, stride: int, dilation: int, outs: int, sizes: int) -> Axis:
    dilation = min(dilation, 510 // max(1, kernel - 1))  # so that the padding before is at most 255
    out = side(draw, min(outs, sizes))
    stride = max(1, min(stride, sizes // out))
    size = draw((out - 1) * stride + 1, out * stride)
    span = dilation * (kernel - 1) + 1
    return Axis(size, out, kernel, stride, dilation, max(0, (out - 1) * stride + span - size) // 2)


def _valid_axis(draw: Draw, kernel: int, stride: int, dilation: int, outs: int, sizes: int) -> Axis:
    kernel = min(kernel, sizes)
    dilation = max(1, min(dilation, (sizes - 1) // max(1, kernel - 1)))
    span = dilation * (kernel - 1) + 1
    out = side(draw, min(outs, sizes - span + 1))
    stride = max(1, min(stride, (sizes - span) // max(1, out - 1)))
    size = (out - 1) * stride + span
    return Axis(draw(size, max(size, min(sizes, size + stride - 1))), out, kernel, stride, dilation, 0)


def _any_axis(draw: Draw, kernel: int, stride: int, dilation: int, outs: int, sizes: int) -> Axis:
    """Any padding and number of outputs: windows may be completely outside the input."""
    size = side(draw, sizes)
    before = side(draw, 256, (3, 3, kernel, 256)) - 1
    near = max(1, (size + before + kernel - dilation * (kernel - 1)) // stride)
    return Axis(size, side(draw, min(outs, pick(draw, (near, near, outs)))), kernel, stride, dilation, before)


def _pool_axis(draw: Draw, kernel: int, stride: int, dilation: int, outs: int, sizes: int) -> Axis:
    """Any padding such that every window overlaps the input."""
    size, before = side(draw, sizes), draw(0, kernel - 1)
    return Axis(size, side(draw, min(outs, (size + before - 1) // stride + 1)), kernel, stride, 1, before)


_AXES = {"same": _same_axis, "valid": _valid_axis, "any": _any_axis}


# --- The rest ---


def shape(draw: Draw, elements: int, channels: int = POSITIONS) -> Shape:
    """Any tensor shape with at most `elements` and `channels`."""
    depth = side(draw, min(channels, elements), CHANNELS)
    first = side(draw, min(POSITIONS, elements // depth))
    second = side(draw, min(POSITIONS, elements // depth) // first)
    return (first, second, depth) if draw(0, 1) else (second, first, depth)


def _dense(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    source = shape(draw, min(work, 16384))
    outputs = side(draw, min(work // math.prod(source), POSITIONS), CHANNELS)
    return {"source": source, "target": (1, 1, outputs)}


def _mean(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    source = shape(draw, min(work, ELEMENTS))
    return {"source": source, "target": (1, 1, source[2])}


def _same(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    source = shape(draw, min(work, ELEMENTS), (511 if tflite else 1024) if kind == "softmax" else POSITIONS)
    return {"source": source, "target": source}


def _pair(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    """Two inputs; the second may be broadcast along some axes."""
    source = shape(draw, min(work, ELEMENTS))
    repeats = draw(0, 1)
    second = tuple(1 if repeats and draw(0, 1) else side for side in source)
    far = any(one == 1 and side > 255 for one, side in zip(second[:2], source[:2], strict=True))
    known = kind == "prelu" or draw(0, 3) == 0 or tflite and far  # no window's stride reduces that many to 1
    takes_off = draw(0, 1) if kind == "add" and draw(0, 2) == 0 else -1
    return {"source": source, "source2": second, "target": source, "known": known, "takes_off": takes_off}


def _matmul(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    """Rows of two images, the second's a constant where no window could make as many."""
    images, depth = side(draw, 8), side(draw, min(work, 16384), CHANNELS)
    rows = side(draw, max(1, min(work, ELEMENTS) // (images * depth)), (8, 24, 130))
    columns = side(
        draw, max(1, min(work // (images * depth * rows), ELEMENTS // (images * max(depth, rows)))), CHANNELS
    )
    known = not 0 <= rows - columns < 255 or draw(0, 4) == 0
    return {
        "source": (images, rows, depth),
        "source2": (images, columns, depth),
        "target": (images, rows, columns),
        "known": known,
    }


def _gather(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    """A gather with any order of axes; sizes are the input's or others."""
    source = shape(draw, min(work, ELEMENTS))
    first = draw(1, 3)
    axes = (first, int(pick(draw, tuple(axis for axis in (1, 2, 3) if axis != first))))
    target = list(source)
    for axis, size in zip(gather_axes(Op("gather", 0, 1, axes=axes)), source, strict=True):
        target[axis] = size
    if not tflite and draw(0, 1):
        for axis in range(3):
            room = ELEMENTS // max(1, math.prod(target) // target[axis])
            target[axis] = side(draw, min(room, POSITIONS, 2 * target[axis]))
    return {"source": source, "target": tuple(target), "axes": axes}


def _lstm(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    """An LSTM whose output has all positions, or one."""
    units = side(draw, min(math.isqrt(work // 4) or 1, 8192), CHANNELS)
    source = shape(draw, max(1, min(work // (4 * units * units), ELEMENTS)), 8192)
    steps = max(1, min(source[0] * source[1], work // (4 * units * (units + source[2])), ELEMENTS // units))
    source = (1, steps, source[2]) if draw(0, 1) else (steps, 1, source[2])
    return {"source": source, "target": (1, 1, units) if draw(0, 1) else (*source[:2], units)}


def _svdf_features(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    source = shape(draw, min(work, 16384))
    return {"source": source, "target": (1, 1, 2 * side(draw, min(work // math.prod(source), 32767), CHANNELS))}


def _svdf_time(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    units = side(draw, min(work, ELEMENTS // 2), CHANNELS)
    rank = side(draw, min(work, ELEMENTS // 2) // units, (1, 2, 4, 300))
    memory = side(draw, min(work, ELEMENTS // 2) // (units * rank), (1, 10, 40, 300))
    return {"source": (memory, 1, 2 * units * rank), "target": (1, 1, units)}


def _concatenate(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    source, along = shape(draw, min(work, ELEMENTS)), draw(1, 3)
    more = source[along - 1] if tflite else side(draw, max(1, ELEMENTS * source[along - 1] // math.prod(source)))
    second = _replaced(source, along, more)
    return {
        "source": source,
        "source2": second,
        "target": _replaced(source, along, source[along - 1] + more),
        "axis": along,
    }


def _slice(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    source, along = shape(draw, min(work, ELEMENTS)), draw(1, 3)
    count = draw(1, source[along - 1])
    start = draw(0, source[along - 1] - count)
    return {"source": source, "target": _replaced(source, along, count), "axis": along, "start": start}


def _history(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    source = shape(draw, min(work, ELEMENTS) // 2)
    along = draw(1, next((i for i in range(3) if source[i] > 1), 2) + 1)
    most = max(1, ELEMENTS // math.prod(source) - 1) * source[along - 1]
    return {"source": source, "target": _replaced(source, along, source[along - 1] + side(draw, most)), "axis": along}


def _pad(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    height, width, depth = shape(draw, min(work, ELEMENTS))
    top = side(draw, 256, (1, 4, 256)) - 1
    bottom = side(draw, 256, (1, 4, 256)) - 1
    rows = min(height + top + bottom, max(height, ELEMENTS // (width * depth)))
    left = side(draw, 256, (1, 4, 256)) - 1
    right = side(draw, 256, (1, 4, 256)) - 1
    columns = min(width + left + right, max(width, ELEMENTS // (rows * depth)))
    padding = (min(top, rows - height), min(left, columns - width))
    stride = (1, 1)
    if not tflite and draw(0, 2) == 0:  # also pads between positions
        room = ((rows - padding[0] - 1) // max(1, height - 1), (columns - padding[1] - 1) // max(1, width - 1))
        stride = tuple(side(draw, min(255, most)) for most in room)
    return {
        "source": (height, width, depth),
        "target": (rows, columns, depth),
        "padding": padding,
        "stride": stride,
    }


def _reshape(draw: Draw, kind: str, work: int, tflite: bool) -> dict:
    source = shape(draw, min(work, ELEMENTS))
    size = math.prod(source)
    height = _divisor(draw, size)
    width = _divisor(draw, size // height)
    return {"source": source, "target": (height, width, size // height // width)}


def _divisor(draw: Draw, size: int) -> int:
    return int(pick(draw, tuple(n for n in range(1, size + 1) if size % n == 0)))


def _replaced(source: Shape, along: int, size: int) -> Shape:
    """The shape with another size along an axis, 1 to 3."""
    sides = list(source)
    sides[along - 1] = size
    return (sides[0], sides[1], sides[2])


_OTHERS = {
    "dense": _dense,
    "mean": _mean,
    **dict.fromkeys(PAIR_KINDS, _pair),
    "gather": _gather,
    "matmul": _matmul,
    "lstm": _lstm,
    "svdf_features": _svdf_features,
    "svdf_time": _svdf_time,
    "lookup": _same,
    "softmax": _same,
    "concatenate": _concatenate,
    "slice": _slice,
    "history": _history,
    "pad": _pad,
    "reshape": _reshape,
}
