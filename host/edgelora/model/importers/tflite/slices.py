"""The part of a tensor that STRIDED_SLICE, SLICE, SPLIT and SPLIT_V of a `.tflite` file take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .codes import Code
from .file import Operator
from .flatbuffer import TfliteError

Shape = tuple[int, ...]
Integers = Callable[[int], list[int]]  # a constant input, by its position


@dataclass(frozen=True)
class Part:
    """Part of a tensor of shape `of`. bounds: [start, stop) along each axis."""

    bounds: tuple[tuple[int, int], ...]
    of: Shape
    dropped: frozenset[int] = frozenset()  # axes of size 1 that the output omits

    @property
    def shape(self) -> Shape:
        return tuple(stop - start for start, stop in self.bounds)

    @property
    def told_shape(self) -> Shape:
        """The shape without dropped axes."""
        return tuple(side for axis, side in enumerate(self.shape) if axis not in self.dropped)

    @property
    def cut(self) -> list[int]:
        """The axes along which the part is smaller than the tensor."""
        return [axis for axis, bound in enumerate(self.bounds) if bound != (0, self.of[axis])]

    def is_last(self, axis: int) -> bool:
        """Whether the part ends at the tensor's end along this axis, and is whole along all others."""
        return self.cut in ([], [axis]) and self.bounds[axis][1] == self.of[axis]


def sliced(operator: Operator, of: Shape, integers: Integers) -> Part:
    """The part that STRIDED_SLICE or SLICE takes; dropped axes have size 1. Raises TfliteError for invalid ones."""
    if operator.code == Code.SLICE:
        begin, size = _of_rank(integers(1), of), _of_rank(integers(2), of)
        ends = [n if count == -1 else start + count for start, count, n in zip(begin, size, of, strict=True)]
        return _checked(tuple(zip(begin, ends, strict=True)), of)
    begin, end, step = (_of_rank(integers(place), of) for place in (1, 2, 3))
    number = operator.number
    begins, ends_open, drops = number(0, "i"), number(1, "i"), number(4, "i")
    if any(value != 1 for value in step):
        raise TfliteError(f"has steps {step[:6]}, they must be 1")
    if number(2, "i") or number(3, "i") or number(5, "B"):
        raise TfliteError("slices with an ellipsis, a new axis or an offset aren't supported")
    bounds = []
    for axis, n in enumerate(of):
        bit = 1 << axis
        start = 0 if begins & bit else _inside(begin[axis], n)
        stop = start + 1 if drops & bit else n if ends_open & bit else _inside(end[axis], n)
        bounds.append((start, stop))
    return _checked(tuple(bounds), of, frozenset(axis for axis in range(len(of)) if drops >> axis & 1))


def split(operator: Operator, of: Shape, integers: Integers, parts: int) -> list[Part]:
    """The part that each output of SPLIT or SPLIT_V takes. Raises TfliteError for invalid ones."""
    even = operator.code == Code.SPLIT
    if operator.number(0, "i") != parts:
        raise TfliteError(f"its options declare {operator.number(0, 'i')} outputs, it has {parts}: the file is damaged")
    [given] = integers(0 if even else 2) or [0]
    axis = given + len(of) * (given < 0)
    if not 0 <= axis < len(of):
        raise TfliteError(f"splits along axis {given} of {len(of)}: the file is damaged")
    sizes = [of[axis] // max(1, parts)] * parts if even else integers(1)
    known = sum(size for size in sizes if size >= 0)
    sizes = [of[axis] - known if size == -1 else size for size in sizes]
    if len(sizes) != parts or min(sizes, default=0) < 1 or sum(sizes) != of[axis]:
        raise TfliteError(f"splits {of[axis]} positions into {parts} parts of {sizes[:6]}")
    starts = [sum(sizes[:i]) for i in range(parts)]
    whole = tuple((0, n) for n in of)
    return [
        Part((*whole[:axis], (start, start + size), *whole[axis + 1 :]), of)
        for start, size in zip(starts, sizes, strict=True)
    ]


def _of_rank(values: list[int], of: Shape) -> list[int]:
    if len(values) != len(of):
        raise TfliteError(f"slices {len(values)} axes of {len(of)}")
    return values


def _inside(value: int, n: int) -> int:
    return min(max(value + n * (value < 0), 0), n)


def _checked(bounds: tuple[tuple[int, int], ...], of: Shape, dropped: frozenset[int] = frozenset()) -> Part:
    if not all(0 <= start < stop <= n for (start, stop), n in zip(bounds, of, strict=True)):
        raise TfliteError(f"takes {[list(bound) for bound in bounds]} of {list(of)}: empty, or out of range")
    return Part(bounds, of, dropped)
