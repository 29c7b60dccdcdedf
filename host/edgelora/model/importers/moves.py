"""Moves of an activation's elements, as other frameworks' views have them, made of layers.

A view says of each of its elements where it lies in a tensor [height, width, channels], flat. Permutations, reshapes,
slices, repetitions and whatever else moves elements are indexing of that; layers are made only where somebody reads
the elements in an order in which they don't lie.
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

Places = NDArray[np.int64]  # where the elements of a view are in the flat tensor, in the view's shape
MAX_AXES = 6  # that a permutation may have, those that stay together counted as one


def laid_out(shape: tuple[int, ...]) -> Places:
    """The places of channels-first axes, of one sample, in a tensor that has them as `channels_last` does."""
    axes = np.arange(math.prod(shape), dtype=np.int64)
    if len(shape) not in (2, 3):
        return axes.reshape(shape)
    return np.moveaxis(axes.reshape(*shape[1:], shape[0]), -1, 0)


def channels_last(places: Places) -> Places:
    """The places of channels-first axes, of one sample, as [height, width, channels]; of more than three, as rows."""
    if places.ndim > 3:
        return places.reshape(1, -1, places.shape[-1])
    turned = np.moveaxis(places, 0, -1) if places.ndim > 1 else places
    return turned.reshape((1, 1, 1, *turned.shape)[-3:])


def is_whole(places: Places, shape: Shape) -> bool:
    """Whether a view has each element of its tensor once."""
    return places.size == math.prod(shape) and np.unique(places).size == places.size


def is_in_order(places: Places, shape: Shape) -> bool:
    """Whether a view is its tensor, element by element, whatever the axes are."""
    return places.size == math.prod(shape) and bool((places.reshape(-1) == np.arange(places.size)).all())


def unrepeated(places: Places) -> Places:
    """A view with one element along the axes along which it repeats itself."""
    for axis in range(places.ndim):
        first = places.take([0], axis)
        if (places == first).all():
            places = first
    return places


def layers(shape: Shape, wanted: Places) -> list[Layer]:
    """Layers, one behind the other, that make the wanted elements [height, width, channels] of a tensor of `shape`.

    None where the tensor is so already. Raises InputError for what would take too large a table.
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
        raise InputError(f"moves {count} values to {size} places, without an order that boards have")
    flat = _gather((1, 1, count), wanted.reshape(1, 1, size))
    assert flat is not None
    return [*_reshaped(shape, (1, 1, count)), flat, *_reshaped((1, 1, size), _shape(wanted))]


def _shape(places: Places) -> Shape:
    height, width, channels = places.shape
    return height, width, channels


def _reshaped(shape: Shape, wanted: Shape) -> list[Layer]:
    return [] if shape == wanted else [Layer("reshape", shape=wanted)]


def _gather(shape: Shape, wanted: Places) -> Layer | None:
    """The gather that takes the wanted elements, if each axis of the tensor follows one of theirs."""
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
    """(length, stride) of the axes, the last one first, along which a sequence that begins with 0 goes evenly."""
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
Turn = tuple[Shape, tuple[int, int, int]]  # axes, and their order


def _permutation(axes: list[tuple[int, int]]) -> tuple[Shape, list[Turn], Shape]:
    """The shape that a permutation begins with, the turns of three axes that make it, and the shape at the end."""
    if len(axes) > MAX_AXES:
        raise InputError(f"moves {len(axes)} axes among each other, {MAX_AXES} are possible")
    by_stride = sorted(range(len(axes)), key=lambda i: -axes[i][1])
    lengths = [axes[i][0] for i in by_stride]
    wanted = tuple(by_stride.index(i) for i in reversed(range(len(axes))))
    turns = [_turn(lengths, order, cuts, turn) for order, cuts, turn in _path(wanted)]
    sides, order = turns[-1]
    first, second, third = (sides[axis] for axis in order)
    return turns[0][0], turns, (first, second, third)


def _path(wanted: Order) -> list[tuple[Order, tuple[int, int], tuple[int, int, int]]]:
    """The shortest way from sorted axes to the wanted order: at each step three groups change places."""
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
    """Weights [out, height, width, in / groups] as those of one group, with zeros for inputs of other groups."""
    if groups == 1:
        return weights
    outputs, inputs = len(weights) // groups, weights.shape[3]
    whole = np.zeros((*weights.shape[:3], inputs * groups), weights.dtype)
    for group in range(groups):
        rows, columns = (slice(group * n, (group + 1) * n) for n in (outputs, inputs))
        whole[rows, :, :, columns] = weights[rows]
    return whole
