"""Operators that move or reshape values: reshape, transpose, pad, concatenate, slice, resize."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats import fixed_point
from edgelora.core.formats.fixed_point import set_table
from edgelora.core.formats.limits import MAX_ELEMENTS, MAX_POSITIONS
from edgelora.core.formats.network import Op
from edgelora.model.importers.moves import Places

from . import constants, recurrent, slices
from .builder import Builder, Handler, Shape, grid_of, spatial
from .codes import Code
from .file import Type
from .refusals import CONVERT


def space_to_batch(at: Builder) -> None:
    """The start of a dilated convolution as converters write it: recorded for the CONV_2D that follows."""
    (top, bottom), (left, right), block = _block(at)
    source = at.spatial_source()
    at.same_grid(source)
    height, width, channels = at.shape_of(source)
    if top or bottom or left or right:
        raise at.refusal(
            "pads, which TensorFlow Lite Micro computes wrongly: pad before it, with ZeroPadding or padding='causal'"
        )
    if height % block[0] or width % block[1]:
        raise at.refusal(f"splits {height}x{width} positions by {block[0]}x{block[1]}: the file is damaged")
    rows, columns = height // block[0], width // block[1]
    at.want_shape((block[0] * block[1], *([rows, columns] if len(at.target.shape) == 4 else [columns]), channels))
    at.check_int8(at.target)
    at.blocked[at.operator.outputs[0]] = (source, block)


def batch_to_space(at: Builder) -> None:
    """The end of a dilated convolution: crops positions."""
    index, known = _block(at), at.operator.inputs[0]
    (top, bottom), (left, right), block = index
    if known not in at.blocked or at.blocked[known][1] != block:
        raise at.refusal("is supported only after a SPACE_TO_BATCH_ND of the same blocks and a CONV_2D")
    source = at.blocked[known][0]
    at.same_grid(source)
    height, width, channels = at.shape_of(source)
    bounds = ((0, 1), (top, height - bottom), (left, width - right), (0, channels))
    rank = len(at.target.shape)
    part = slices.Part(bounds, (1, height, width, channels))
    at.want_shape(part.shape if rank == 4 else (1, *part.shape[2:]))
    at.check_int8(at.target)
    for axis in part.cut:
        start, stop = bounds[axis]
        height, width, channels = (stop - start if i == axis - 1 else n for i, n in enumerate(at.shape_of(source)))
        tensor = at.model.tensors[source]
        op = Op("slice", source, 0, axis=axis, start=start)
        source = at.append(op, (height, width, channels), tensor.scale, tensor.zero_point)
    at.found[at.operator.outputs[0]] = source


def _block(at: Builder) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(before, after) padded or cropped along height and along width, and the block size of both."""
    block, sides = at.constant(1).reshape(-1).tolist(), at.constant(2)
    axes = len(at.tensor(0).shape) - 2
    if axes not in (1, 2) or len(block) != axes or sides.shape != (axes, 2) or (sides < 0).any() or (sides > 255).any():
        raise at.refusal(f"blocks {block[:4]} of {list(at.tensor(0).shape)}: the file is damaged")
    if not all(1 <= n <= 255 for n in block):
        raise at.refusal(f"blocks {block[:4]}, must be 1 to 255")
    whole = [(0, 0)] * (2 - axes) + [(int(before), int(after)) for before, after in sides]
    height, width = [1] * (2 - axes) + block
    return whole[0], whole[1], (height, width)


def reshape(at: Builder) -> None:
    known = at.operator.inputs[0]
    if known in at.blocked:
        source, target = at.tensor(0), at.target
        if [n for n in source.shape[1:] if n > 1] != [n for n in target.shape[1:] if n > 1] or source.shape[
            :1
        ] != target.shape[:1]:
            raise at.refusal("reshapes the output of SPACE_TO_BATCH_ND: only axes of size 1 can be added or removed")
        at.same_grid(at.blocked[known][0])
        at.blocked[at.operator.outputs[0]] = at.blocked[known]
        return
    if len(at.operator.inputs) > 1:
        wanted = at.constant(1).reshape(-1).tolist()
        known = math.prod(side for side in wanted if side != -1)
        rest = at.tensor(0).size // known if known > 0 else 0
        made = tuple(rest if side == -1 else side for side in wanted)
        if at.target.is_dynamic:
            at.want_shape(made)
        if wanted.count(-1) > 1 or made != at.target.shape:
            raise at.refusal(f"reshapes to {wanted[:6]}, its output is {list(at.target.shape)}")
    at.alias()


def squeeze(at: Builder) -> None:
    """Drops axes of size 1."""
    if [n for n in at.tensor(0).shape if n > 1] != [n for n in at.target.shape if n > 1]:
        raise at.refusal(f"makes {list(at.target.shape)} from {list(at.tensor(0).shape)}: the file is damaged")
    at.alias()


def expand_dims(at: Builder) -> None:
    """Adds an axis of size 1."""
    shape, given = at.tensor(0).shape, at.constant(1).reshape(-1).tolist()
    single = at.tensor(1).shape in ((), (1,))
    axis = given[0] + (len(shape) + 1) * (given[0] < 0) if single else -1
    if not 0 <= axis <= len(shape):
        raise at.refusal(f"axis {given[:6]} for {list(shape)}: the file is damaged")
    at.want_shape((*shape[:axis], 1, *shape[axis:]))
    at.alias()


def transpose(at: Builder) -> None:
    """An alias if only axes of size 1 change places; else a gather or a chain of moves."""
    order, shape = at.constant(1).tolist(), at.tensor(0).shape
    if at.constant(1).ndim != 1 or sorted(order) != list(range(len(shape))):
        raise at.refusal(f"permutation {order[:6]} of {len(shape)} axes: the file is damaged")
    at.want_shape(tuple(shape[axis] for axis in order))
    moved = [axis for axis in order if shape[axis] > 1]
    if moved == sorted(moved):
        return at.alias()
    turned = [0, 1, 2, 3][: 4 - len(shape)] + [axis + 4 - len(shape) for axis in order]
    if len(shape) > 4 or turned[0] != 0 or shape[0] != 1:
        return _move(at, _places(at).transpose(order))
    source = at.spatial_source()
    at.same_grid(source)
    op = Op("gather", source, 0, axes=(turned.index(1), turned.index(2)))
    at.emit(op, spatial(at.target.shape))


def _places(at: Builder) -> Places:
    """The index of each element of the operator's input, in its shape."""
    if at.tensor(0).size > MAX_ELEMENTS:
        raise at.refusal(f"moves {at.tensor(0).size} values, the limit is {MAX_ELEMENTS}")
    return np.arange(at.tensor(0).size).reshape(at.tensor(0).shape)


def _move(at: Builder, places: Places) -> None:
    """Makes the operator's output the elements of its flattened input at these places; their shape is the output's."""
    at.want_shape(places.shape)
    index = at.source()
    at.check_int8(at.target)
    at.same_grid(index)
    shape = places.shape
    wanted = spatial(shape) if shape[:1] == (1,) and 2 <= len(shape) <= 4 else (1, -1, (1, *shape)[-1])
    at.found[at.operator.outputs[0]] = at.moved(index, places.reshape(wanted))


def blocks(at: Builder) -> None:
    """DEPTH_TO_SPACE moves channels to the positions of a block, SPACE_TO_DEPTH the reverse."""
    (height, width, channels), block = at.four_axes(at.tensor(0)), at.operator.number(0, "i")
    deeper = at.operator.code == Code.SPACE_TO_DEPTH
    parted = block * block if not deeper else block
    if block < 1 or (height % block or width % block if deeper else channels % parted):
        raise at.refusal(f"splits {height}x{width}x{channels} by {block}: the file is damaged")
    if deeper:
        sides = (height // block, block, width // block, block, channels)
        made: tuple[int, ...] = (1, height // block, width // block, channels * block * block)
    else:
        sides = (height, width, block, block, channels // parted)
        made = (1, height * block, width * block, channels // parted)
    order = (0, 2, 1, 3, 4)
    _move(at, _places(at).reshape(sides).transpose(order).reshape(made))


def mirror_pad(at: Builder) -> None:
    """MIRROR_PAD: reflects values at the edges, excluding the edge values (mode 0) or including them (mode 1)."""
    shape, sides, mode = at.tensor(0).shape, at.constant(1), at.operator.number(0, "b")
    least = np.array(shape) - (mode == 0) if sides.shape == (len(shape), 2) else np.zeros(1)
    if mode not in (0, 1) or sides.shape != (len(shape), 2) or (sides < 0).any() or (sides.max(axis=1) > least).any():
        raise at.refusal(f"pads {list(shape)} by {sides.reshape(-1)[:8].tolist()}, mode {mode}: the file is damaged")
    if math.prod(int(n) + int(side.sum()) for n, side in zip(shape, sides, strict=True)) > MAX_ELEMENTS:
        raise at.refusal(f"makes more than {MAX_ELEMENTS} values")
    _move(at, np.pad(_places(at), sides.astype(int), mode="symmetric" if mode else "reflect"))


def resize_bilinear(at: Builder) -> None:
    """Bilinear resizing by 2, 4, 8 or 16: repeats positions, then computes weighted sums by a depthwise convolution.

    TensorFlow Lite interpolates raw int8 values and rounds ties away from 0, so the sums are computed on a grid with
    zero point 0. The sum of the weights is a power of two, and twice the least one that would do: the multiplier's
    first rounding is then exact.
    """
    shape, wanted = at.four_axes(at.tensor(0)), at.constant(1).reshape(-1).tolist()
    align, half = (bool(at.operator.number(field, "b")) for field in (2, 3))
    if at.tensor(1).shape != (2,) or not all(1 <= side <= MAX_POSITIONS for side in wanted):
        raise at.refusal(f"resizes to {wanted[:4]}: the file is damaged")
    at.want_shape((1, *wanted, shape[2]))
    factors = [side // size if side % size == 0 else 0 for side, size in zip(wanted, shape[:2], strict=False)]
    if align or not half or not set(factors) <= {1, 2, 4, 8, 16}:
        raise at.refusal(
            f"interpolates from {shape[0]}x{shape[1]} to {wanted[0]}x{wanted[1]}: supported are half pixel centers "
            "and factors of 1, 2, 4, 8 and 16; resize with interpolation='nearest', or outside the network"
        )
    source = at.spatial_source()
    at.same_grid(source)
    scale, identity = at.model.tensors[source].scale, np.arange(-128, 128).astype(np.int8)
    taps = [np.array([1] if f == 1 else [1, *[2] * (f - 1), 1]) for f in factors]
    rows, columns = (
        np.clip((np.arange(size * f + len(tap) - 1) - len(tap) // 2) // f, 0, size - 1)
        for size, f, tap in zip(shape[:2], factors, taps, strict=False)
    )
    centred = Op("lookup", source, 0)
    set_table(centred, identity, np.ones(256))
    source = at.append(centred, shape, scale, 0)
    positions = np.concatenate([rows, columns, np.arange(shape[2])]).astype(np.uint16)
    source = at.append(Op("gather", source, 0, positions=positions), (len(rows), len(columns), shape[2]), scale, 0)
    weights = np.repeat(2 * np.outer(*taps)[:, :, None], shape[2], axis=2).astype(np.int8)
    mixed = Op("depthwise", source, 0, kernel=weights.shape[:2], weights=weights, bias=np.zeros(shape[2], np.int32))
    mixed.weight_scale = np.full(shape[2], 1 / weights[:, :, 0].sum(dtype=int))
    source = at.append(mixed, (wanted[0], wanted[1], shape[2]), scale, 0)
    fixed_point.derive(at.model, mixed)
    back = at.emit(Op("lookup", source, 0), (wanted[0], wanted[1], shape[2]))
    set_table(back, identity, np.ones(256))


def resize_nearest(at: Builder) -> None:
    """Takes the nearest input position for each output position, computed in float32 as by TFLite's kernel."""
    shape, wanted = at.four_axes(at.tensor(0)), at.constant(1).reshape(-1).tolist()
    align, half = (bool(at.operator.number(field, "b")) for field in (0, 1))
    if at.tensor(1).shape != (2,) or not all(1 <= side <= MAX_POSITIONS for side in wanted) or align and half:
        raise at.refusal(f"resizes to {wanted[:4]}, aligned corners {align}, half pixel centers {half}")
    at.want_shape((1, *wanted, shape[2]))
    source = at.spatial_source()
    at.same_grid(source)
    positions = nearest_positions(shape, (*wanted, shape[2]), align, half)
    at.emit(Op("gather", source, 0, positions=positions), (wanted[0], wanted[1], shape[2]))


def nearest_positions(shape: Shape, wanted: Shape, align: bool, half: bool) -> NDArray[np.uint16]:
    """The positions of a gather that resizes height and width."""
    axes = [_nearest(size, side, align, half) for size, side in zip(shape[:2], wanted, strict=False)]
    return np.concatenate([*axes, np.arange(shape[2])]).astype(np.uint16)


def _nearest(size: int, wanted: int, align: bool, half: bool) -> NDArray[np.int64]:
    """For each of the wanted positions, the nearest of `size` positions."""
    whole, parts_of_it = (size - 1, wanted - 1) if align and wanted > 1 else (size, wanted)
    scale = np.float32(whole) / np.float32(parts_of_it)
    place = (np.arange(wanted, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
    found = np.floor(place + np.float32(0.5)) if align else np.floor(place)
    return np.asarray(np.clip(found, 0, size - 1), np.int64)


def pad(at: Builder) -> None:
    source, shape = at.source(), at.tensor(0).shape
    at.same_grid(source)
    sides = at.constant(1)
    if sides.shape != (len(shape), 2) or (sides < 0).any() or (sides > 255).any():
        raise at.refusal(f"paddings must be {len(shape)} pairs of 0 to 255")
    if at.operator.code == Code.PADV2 and at.tensor(2).values().reshape(-1).tolist() != [grid_of(at.target)[1]]:
        raise at.refusal("pads with a value other than zero, which isn't supported")
    at.want_shape(tuple(n + int(before + after) for n, (before, after) in zip(shape, sides, strict=True)))
    if not sides.any():
        return at.alias()
    if sides[0].any() or sides[-1].any():
        raise at.refusal("pads batch or channels; only height and width can be")
    (top, bottom), (left, right) = [(0, 0)] * (4 - len(shape)) + sides[1:-1].tolist()
    source = at.spatial_source()
    height, width, channels = at.shape_of(source)
    op = Op("pad", source, 0, padding=(top, left))
    at.emit(op, (height + top + bottom, width + left + right, channels))


def _want_joined(at: Builder) -> None:
    """Raises if a CONCATENATION's input shapes don't join to its output's."""
    shapes = [at.tensor(place).shape for place in range(len(at.operator.inputs))]
    rank, given = len(at.target.shape), at.operator.number(0, "i")
    axis = given + rank * (given < 0)
    if not 0 <= axis < rank or any(len(shape) != rank for shape in shapes):
        raise at.refusal(f"axis {given} of {rank}: inputs and output must have the same number of axes, and this axis")
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(others) > 1:
        raise at.refusal(f"{list(map(list, shapes[:4]))} can't be joined along axis {given}")
    at.want_shape((*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]))


def concatenate(at: Builder) -> None:
    """A chain of concatenations of two tensors each."""
    if at.target.type != Type.INT8 and any(i in at.constants for i in at.operator.inputs):
        return constants.fold_join(at)
    _want_joined(at)
    if at.operator.index in at.rings:
        return recurrent.history(at)
    places = range(len(at.operator.inputs))
    if at.operator.number(1, "b"):
        raise at.refusal("a fused activation isn't supported here: move it to the layers before")
    given, rank = at.operator.number(0, "i"), len(at.target.shape)
    axis = given + rank * (given < 0) + 4 - rank
    if not max(1, 5 - rank) <= axis <= 3:
        raise at.refusal(f"axis {given} of {rank}: only axes after the batch can be joined")
    for place in places:
        at.same_grid(at.source(place))
    if len(places) == 1:
        return at.alias()
    joined = at.spatial_source()
    for place in places[1:]:
        other = at.spatial_source(place)
        one, two = at.shape_of(joined), at.shape_of(other)
        height, width, channels = (n + two[i] if i == axis - 1 else n for i, n in enumerate(one))
        shape = (height, width, channels)
        op = Op("concatenate", joined, 0, input2=other, axis=axis)
        if place < places[-1]:
            grid = at.model.tensors[joined]
            joined = at.append(op, shape, grid.scale, grid.zero_point)
        else:
            at.emit(op, shape)


def slice_(at: Builder) -> None:
    if at.operator.index in at.inner:
        return
    if at.operator.inputs[:1] and at.operator.inputs[0] in at.constants:
        return constants.fold_slice(at)
    emit_part(at, slices.sliced(at.operator, at.tensor(0).shape, at.integers), 0, 0)


def split(at: Builder) -> None:
    place, count = int(at.operator.code == Code.SPLIT), len(at.operator.outputs)
    found = slices.split(at.operator, at.tensor(place).shape, at.integers, count)
    for output, part in enumerate(found):
        if at.operator.outputs[output] in at.read:
            emit_part(at, part, place, output)


def emit_part(at: Builder, part: slices.Part, place: int, output: int) -> None:
    """Appends one slice for each axis along which the part is smaller than the operator's input."""
    target, index = at.graph.tensors[at.operator.outputs[output]], at.spatial_source(place)
    at.check_int8(target)
    tensor = at.model.tensors[index]
    if (tensor.scale, tensor.zero_point) != grid_of(target):
        raise at.refusal("input and output must have the same scale and zero point; " + CONVERT)
    at.want_shape(part.told_shape, output)
    if 0 in part.cut:
        raise at.refusal("takes part of the batch")
    for axis in part.cut:
        where, (start, stop) = axis + 4 - len(part.of), part.bounds[axis]
        height, width, channels = (stop - start if i == where - 1 else n for i, n in enumerate(at.shape_of(index)))
        op = Op("slice", index, 0, axis=where, start=start)
        index = at.append(op, (height, width, channels), tensor.scale, tensor.zero_point)
    at.found[at.operator.outputs[output]] = index


def pack(at: Builder) -> None:
    """Stacks inputs of one shape along a new axis, or folds a PACK of shapes' numbers."""
    places, number = range(len(at.operator.inputs)), at.operator.number
    if at.tensor(0).type != Type.INT8:
        return constants.fold_pack(at)
    shape, count, given = at.tensor(0).shape, number(0, "i"), number(1, "i")
    axis = given + (len(shape) + 1) * (given < 0)
    if count != len(places) or not 0 <= axis <= len(shape) or any(at.tensor(i).shape != shape for i in places):
        raise at.refusal(f"packs {len(places)} inputs, declared are {count}, along axis {given}: the file is damaged")
    at.check_int8(at.target)
    at.want_shape((*shape[:axis], count, *shape[axis:]))
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis:])
    for place in places:
        at.same_grid(at.source(place))
    if count == 1:
        return at.alias()
    joined = at.reshaped(at.source(), (outer, 1, inner))
    for place in places[1:]:
        other = at.reshaped(at.source(place), (outer, 1, inner))
        grid = at.model.tensors[joined]
        op = Op("concatenate", joined, 0, input2=other, axis=2)
        joined = at.append(op, (outer, place + 1, inner), grid.scale, grid.zero_point)
    at.found[at.operator.outputs[0]] = joined


def unpack(at: Builder) -> None:
    """Splits along an axis and drops it from the outputs."""
    shape, number = at.tensor(0).shape, at.operator.number
    given, count = number(1, "i"), len(at.operator.outputs)
    axis = given + len(shape) * (given < 0)
    if not 0 <= axis < len(shape) or count != shape[axis] or number(0, "i") != count:
        raise at.refusal(f"unpacks axis {given} of {list(shape)} into {count}: the file is damaged")
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    index = at.reshaped(at.source(), (outer, count, inner))
    tensor = at.model.tensors[index]
    for place, output in enumerate(at.operator.outputs):
        target = at.graph.tensors[output]
        at.check_int8(target)
        at.want_shape((*shape[:axis], *shape[axis + 1 :]), place)
        if (tensor.scale, tensor.zero_point) != grid_of(target):
            raise at.refusal("input and output must have the same scale and zero point; " + CONVERT)
        if output in at.read:
            op = Op("slice", index, 0, axis=2, start=place)
            at.found[output] = at.append(op, (outer, 1, inner), tensor.scale, tensor.zero_point)


def tile(at: Builder) -> None:
    """Repeats values along axes. UpSampling tiles along new axes of size 1."""
    shape, times = at.tensor(0).shape, at.constant(1).reshape(-1).tolist()
    if len(times) != len(shape) or not all(1 <= n <= MAX_POSITIONS for n in times):
        raise at.refusal(f"repeats {list(shape)} {times[:6]} times: the file is damaged")
    at.want_shape(tuple(side * n for side, n in zip(shape, times, strict=True)))
    index = at.source()
    at.same_grid(index)
    sides = list(shape)
    for axis, n in enumerate(times):
        if n == 1:
            continue
        outer, side, inner = math.prod(sides[:axis]), sides[axis], math.prod(sides[axis + 1 :])
        index = at.reshaped(index, (outer, side, inner))
        positions = [np.arange(outer), np.tile(np.arange(side), n), np.arange(inner)]
        if max(outer, side * n, inner) > MAX_POSITIONS:
            raise at.refusal(f"repeats {outer} x {side} x {inner} values, the limit is {MAX_POSITIONS} per side")
        op = Op("gather", index, 0, positions=np.concatenate(positions).astype(np.uint16))
        grid = at.model.tensors[index]
        index = at.append(op, (outer, side * n, inner), grid.scale, grid.zero_point)
        sides[axis] *= n
    at.check_int8(at.target)
    at.found[at.operator.outputs[0]] = index


def reverse(at: Builder) -> None:
    """Reverses positions or channels, as for the backward part of a bidirectional layer."""
    shape, axes = at.tensor(0).shape, at.constant(1).reshape(-1).tolist()
    axis = axes[0] + len(shape) * (axes[0] < 0) if len(axes) == 1 else -1
    at.want_shape(shape)
    source = at.spatial_source()
    at.same_grid(source)
    where = axis + 3 - len(shape)
    if at.tensor(1).shape != (1,) or not 0 < axis < len(shape) or where < 0:
        raise at.refusal(f"reverses axes {axes[:6]} of {list(shape)}, must be one after the batch")
    positions = [np.arange(side)[:: -1 if i == where else 1] for i, side in enumerate(at.shape_of(source))]
    at.emit(Op("gather", source, 0, positions=np.concatenate(positions).astype(np.uint16)), at.shape_of(source))


HANDLERS = {
    Code.REVERSE_V2: Handler(reverse, 2, 2),
    Code.SPACE_TO_BATCH_ND: Handler(space_to_batch, 3, 3),
    Code.BATCH_TO_SPACE_ND: Handler(batch_to_space, 3, 3),
    Code.TILE: Handler(tile, 2, 2),
    Code.RESHAPE: Handler(reshape, 1, 2),
    Code.SQUEEZE: Handler(squeeze, 1, 1, options=True),
    Code.EXPAND_DIMS: Handler(expand_dims, 2, 2),
    Code.TRANSPOSE: Handler(transpose, 2, 2),
    **dict.fromkeys((Code.DEPTH_TO_SPACE, Code.SPACE_TO_DEPTH), Handler(blocks, 1, 1, options=True)),
    Code.MIRROR_PAD: Handler(mirror_pad, 2, 2, options=True),
    Code.RESIZE_BILINEAR: Handler(resize_bilinear, 2, 2, options=True),
    Code.RESIZE_NEAREST_NEIGHBOR: Handler(resize_nearest, 2, 2, options=True),
    Code.PAD: Handler(pad, 2, 2),
    Code.PADV2: Handler(pad, 3, 3),
    Code.CONCATENATION: Handler(concatenate, 1, None, options=True),
    Code.STRIDED_SLICE: Handler(slice_, 4, 4, options=True),
    Code.SLICE: Handler(slice_, 3, 3),
    Code.PACK: Handler(pack, 1, None, options=True),
    Code.UNPACK: Handler(unpack, 1, 1, outputs=None, options=True),
    Code.SPLIT: Handler(split, 2, 2, outputs=None, options=True),
    Code.SPLIT_V: Handler(split, 3, 3, outputs=None, options=True),
}
