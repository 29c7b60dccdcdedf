"""Converts other frameworks' views of an activation (transpose, reshape, slice, ...) to layers.

A view stores the index of each of its elements in the flattened tensor [height, width, channels]. Permutations,
reshapes, slices, repetitions and other moves only index this array; layers are created only if an op reads the
elements in an order that differs from the tensor's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import combinations_with_replacement, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.limits import MAX_POSITIONS
from edgelora.model.floatnet.layers import Layer, Shape, output_shape

Places = NDArray[np.int64]  # index of each element of a view in the flat tensor, in the view's shape
MAX_AXES = 6  # of a permutation; axes that stay adjacent count as one


def laid_out(shape: tuple[int, ...]) -> Places:
    """The places of one sample's channels-first axes in a tensor laid out by `channels_last`."""
    axes = np.arange(math.prod(shape), dtype=np.int64)
    if len(shape) not in (2, 3):
        return axes.reshape(shape)
    return np.moveaxis(axes.reshape(*shape[1:], shape[0]), -1, 0)


def channels_last(places: Places) -> Places:
    """The places of one sample's channels-first axes as [height, width, channels]; more than three axes become rows."""
    if places.ndim > 3:
        return places.reshape(1, -1, places.shape[-1])
    turned = np.moveaxis(places, 0, -1) if places.ndim > 1 else places
    return turned.reshape((1, 1, 1, *turned.shape)[-3:])


def is_whole(places: Places, shape: Shape) -> bool:
    """Whether a view has each element of its tensor exactly once."""
    return places.size == math.prod(shape) and np.unique(places).size == places.size


def is_in_order(places: Places, shape: Shape) -> bool:
    """Whether a view has all elements of its tensor in the tensor's order, in any shape."""
    return places.size == math.prod(shape) and bool((places.reshape(-1) == np.arange(places.size)).all())


def unrepeated(places: Places) -> Places:
    """The view with size 1 along each axis that only repeats elements."""
    for axis in range(places.ndim):
        first = places.take([0], axis)
        if (places == first).all():
            places = first
    return places


def layers(shape: Shape, wanted: Places) -> list[Layer]:
    """A chain of layers that turns a tensor of `shape` into the wanted elements [height, width, channels].

    Empty if the tensor already has that order and shape. Raises InputError if a gather's table would be too large.
    """
    if is_in_order(wanted, shape):
        return _reshaped(shape, _shape(wanted))
    one = _gather(shape, wanted)
    if one is not None:
        return [one]
    axes = _axes(wanted.reshape(-1))
    if axes is not None and is_whole(wanted, shape) and all(step > 0 for _, step in axes):
        turned = _permutation(axes)
        return [*_reshaped(shape, turned[0]), *_turns(turned[1]), *_reshaped(turned[2], _shape(wanted))]
    count, size = math.prod(shape), wanted.size
    if max(count, size) > MAX_POSITIONS:
        raise InputError(
            f"moves {count} values to {size} positions in an irregular order, the limit is {MAX_POSITIONS}"
        )
    flat = _gather((1, 1, count), wanted.reshape(1, 1, size))
    assert flat is not None
    return [*_reshaped(shape, (1, 1, count)), flat, *_reshaped((1, 1, size), _shape(wanted))]


def _shape(places: Places) -> Shape:
    height, width, channels = places.shape
    return height, width, channels


def _reshaped(shape: Shape, wanted: Shape) -> list[Layer]:
    return [] if shape == wanted else [Layer("reshape", shape=wanted)]


def _gather(shape: Shape, wanted: Places) -> Layer | None:
    """The gather that selects the wanted elements, if the index along each axis depends on one axis of `wanted`."""
    found = np.unravel_index(wanted, shape)
    follows: list[int | None] = []
    for along in found:
        moving = [axis for axis in range(3) if (along != along.take([0], axis)).any()]
        if len(moving) > 1:
            return None
        follows.append(moving[0] if moving else None)
    taken = [axis for axis in follows if axis is not None]
    if len(set(taken)) < len(taken):
        return None
    free = iter(axis for axis in range(3) if axis not in taken)
    targets = [next(free) if axis is None else axis for axis in follows]
    rows, columns, channels = (
        tuple(int(n) for n in np.moveaxis(along, target, 0)[:, 0, 0])
        for along, target in zip(found, targets, strict=True)
    )
    first, second, third = (targets.index(axis) for axis in range(3))
    return Layer("gather", places=(rows, columns, channels), order=(first, second, third))


def _axes(flat: Places) -> list[tuple[int, int]] | None:
    """(length, stride) of each axis, innermost first, if a sequence that begins with 0 is a strided array."""
    axes: list[tuple[int, int]] = []
    while len(flat) > 1:
        steps = np.diff(flat)
        length = 1 + int(np.argmax(np.append(steps, np.iinfo(np.int64).min) != steps[0]))
        if len(flat) % length:
            return None
        rows = flat.reshape(-1, length)
        if (rows - rows[:, :1] != rows[0] - rows[0, 0]).any():
            return None
        axes.append((length, int(steps[0])))
        flat = rows[:, 0]
    return axes


Order = tuple[int, ...]
Turn = tuple[Shape, tuple[int, int, int]]  # shape, and the order of its axes


def _permutation(axes: list[tuple[int, int]]) -> tuple[Shape, list[Turn], Shape]:
    """A permutation's initial shape, its factors, each a permutation of three axes, and its final shape."""
    if len(axes) > MAX_AXES:
        raise InputError(f"moves {len(axes)} axes, the limit is {MAX_AXES}")
    by_stride = sorted(range(len(axes)), key=lambda i: -axes[i][1])
    lengths = [axes[i][0] for i in by_stride]
    wanted = tuple(by_stride.index(i) for i in reversed(range(len(axes))))
    turns = [_turn(lengths, order, cuts, turn) for order, cuts, turn in _path(wanted)]
    sides, order = turns[-1]
    first, second, third = (sides[axis] for axis in order)
    return turns[0][0], turns, (first, second, third)


def _path(wanted: Order) -> list[tuple[Order, tuple[int, int], tuple[int, int, int]]]:
    """The shortest path from sorted axes to the wanted order; each step permutes three groups of adjacent axes."""
    start = tuple(range(len(wanted)))
    came: dict[Order, tuple[Order, tuple[int, int], tuple[int, int, int]] | None] = {start: None}
    queue = deque([start])
    while wanted not in came:
        order = queue.popleft()
        for made, cuts, turn in _neighbours(order):
            if made not in came:
                came[made] = (order, cuts, turn)
                queue.append(made)
    steps, at = [], came[wanted]
    while at is not None:
        steps.append(at)
        at = came[at[0]]
    return steps[::-1]


def _neighbours(order: Order) -> Iterator[tuple[Order, tuple[int, int], tuple[int, int, int]]]:
    for cuts in combinations_with_replacement(range(len(order) + 1), 2):
        groups = _groups(order, cuts)
        for first, second, third in permutations(range(3)):
            yield groups[first] + groups[second] + groups[third], cuts, (first, second, third)


def _groups(order: Order, cuts: tuple[int, int]) -> list[Order]:
    return [order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :]]


def _turn(lengths: list[int], order: Order, cuts: tuple[int, int], turn: tuple[int, int, int]) -> Turn:
    height, width, channels = (math.prod(lengths[i] for i in group) for group in _groups(order, cuts))
    return (height, width, channels), turn


def _turns(turns: list[Turn]) -> Iterator[Layer]:
    shape = turns[0][0]
    for sides, order in turns:
        yield from _reshaped(shape, sides)
        rows, columns, channels = (tuple(range(side)) for side in sides)
        layer = Layer("gather", places=(rows, columns, channels), order=order)
        yield layer
        shape = output_shape(layer, sides)


def ungrouped(weights: NDArray[Any], groups: int) -> NDArray[Any]:
    """Grouped weights [out, height, width, in / groups] as a dense kernel, 0 for inputs of other groups."""
    if groups == 1:
        return weights
    outputs, inputs = len(weights) // groups, weights.shape[3]
    whole = np.zeros((*weights.shape[:3], inputs * groups), weights.dtype)
    for group in range(groups):
        rows, columns = (slice(group * n, (group + 1) * n) for n in (outputs, inputs))
        whole[rows, :, :, columns] = weights[rows]
    return whole
