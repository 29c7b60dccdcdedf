"""The state of a `.tflite` graph: variables that are ring buffers, as converted from streaming layers.

A ring buffer is read, oldest positions first, concatenated with a frame's new positions, and assigned the last ones:

    READ_VARIABLE -> CONCATENATION with new positions -> (layers);  its last positions -> ASSIGN_VARIABLE
    READ_VARIABLE -> all but the first -> CONCATENATION with new positions -> (layers) and ASSIGN_VARIABLE

In both forms, the concatenated tensor drops its oldest positions and appends the new ones: one `history` op.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import slices as parts
from .codes import Code
from .file import FileTensor, Graph, Operator, Subgraph, Type
from .flatbuffer import TfliteError

RINGS = (
    "a variable must be a ring buffer, as in streaming layers: read once, concatenated before a frame's new "
    "positions, and assigned the last positions of the result"
)


@dataclass(frozen=True)
class Ring:
    """A ring buffer. join: its CONCATENATION; inner: indices of operators that only serve it; held: tensors of the file
    with some of its positions.

    initial: int8 [older], the join's output before the first frame, without the newest positions.
    """

    join: Operator
    inner: frozenset[int]
    held: tuple[int, ...]
    initial: NDArray[np.int8]


class State:
    """A graph's variables by name: their readers, writers and initial values."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        _check_order(graph.main, {graph.input})
        self._names = _names(graph.main)
        self._initial = dict(self._initial_values())

    def ring(self, read: Operator) -> Ring:
        """The ring buffer that a READ_VARIABLE reads. Raises TfliteError for any other kind of state."""
        name = self._name(read)
        uses = [operator for operator in self._variable_users() if self._name(operator) == name]
        if [operator.code for operator in uses] != [Code.READ_VARIABLE, Code.ASSIGN_VARIABLE]:
            raise TfliteError(f"its variable isn't read once and then assigned once; {RINGS}")
        if name not in self._initial:
            raise TfliteError("its variable has no initial value: it must be assigned by CALL_ONCE, at the start")
        assigned = uses[1].inputs[1] if len(uses[1].inputs) == 2 else -1
        inner, part, join = {read.index}, read, self._only_reader(read)
        if join.code in (Code.STRIDED_SLICE, Code.SLICE):
            inner.add(join.index)
            part, join = join, self._only_reader(join)
        if join.code != Code.CONCATENATION or len(join.inputs) != 2 or join.inputs[0] != part.outputs[0]:
            raise TfliteError(f"operator {join.index} {join.name} reads it; {RINGS}")
        held, joined = self._shape(read.outputs[0]), self._shape(join.outputs[0])
        axis = _join_axis(join, joined)
        fits = assigned >= 0 and (
            self._is_last(self._graph.main, part, axis) and assigned == join.outputs[0] and held == joined
            if part is not read
            else self._is_end_of_join(join, assigned, axis) and self._shape(assigned) == held
        )
        value = self._initial[name]
        if not fits or value.size != math.prod(held):
            raise TfliteError(f"the value assigned to it doesn't match it; {RINGS}")
        older = math.prod(joined) - math.prod(self._shape(join.inputs[1]))
        if not 0 < older <= value.size:
            raise TfliteError(f"concatenates {list(held)} to {list(joined)}; {RINGS}")
        return Ring(
            join,
            frozenset(inner),
            (read.outputs[0], part.outputs[0], assigned),
            value.reshape(-1)[value.size - older :],
        )

    def _is_end_of_join(self, join: Operator, tensor: int, axis: int) -> bool:
        """Whether a tensor consists of the last positions of a CONCATENATION's output."""
        if tensor == join.inputs[1]:
            return True
        maker = next((operator for operator in self._graph.operators if tensor in operator.outputs), None)
        slices = maker is not None and maker.code in (Code.STRIDED_SLICE, Code.SLICE)
        if maker is None or not slices or maker.inputs[:1] != join.outputs:
            return False
        return self._is_last(self._graph.main, maker, axis)

    def _is_last(self, graph: Subgraph, operator: Operator, axis: int) -> bool:
        def integers(place: int) -> list[int]:
            if not 0 <= place < len(operator.inputs) or operator.inputs[place] < 0:
                raise TfliteError("its bounds must be constants")
            return [int(v) for v in graph.tensors[operator.inputs[place]].values().reshape(-1)]

        part = parts.sliced(operator, self._shape(operator.inputs[0]), integers)
        return part.is_last(axis) and part.told_shape == self._shape(operator.outputs[0])

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return self._graph.tensors[tensor].shape

    def _name(self, operator: Operator) -> bytes:
        """The name of the variable that a READ_VARIABLE or ASSIGN_VARIABLE uses."""
        handle = operator.inputs[0] if operator.inputs else -1
        if handle not in self._names:
            raise TfliteError("its variable has no VAR_HANDLE: the file is damaged")
        return self._names[handle]

    def _variable_users(self) -> list[Operator]:
        return [op for op in self._graph.operators if op.code in (Code.READ_VARIABLE, Code.ASSIGN_VARIABLE)]

    def _only_reader(self, operator: Operator) -> Operator:
        [target] = operator.outputs if len(operator.outputs) == 1 else [-1]
        readers = [other for other in self._graph.operators if target in other.inputs]
        if target < 0 or len(readers) != 1 or readers[0].inputs.count(target) != 1 or len(readers[0].outputs) != 1:
            raise TfliteError(f"its value is used {len(readers)} times; {RINGS}")
        return readers[0]

    def _initial_values(self) -> Iterator[tuple[bytes, NDArray[np.int8]]]:
        """The values that CALL_ONCE assigns, each with the name of its variable."""
        calls = [operator for operator in self._graph.operators if operator.code == Code.CALL_ONCE]
        if not calls:
            if self._graph.other is not None:
                raise TfliteError("the file has 2 subgraphs, must have one, or two if CALL_ONCE runs the second")
            return
        once, first = self._graph.other, min((op.index for op in self._variable_users()), default=calls[0].index + 1)
        if len(calls) > 1 or calls[0].number(0, "i") != 1 or once is None or calls[0].index > first:
            raise TfliteError("must have at most one CALL_ONCE, of the file's second subgraph, before all variables")
        names = _names(once)
        _check_order(once, set())
        for operator in once.operators:
            if operator.code == Code.VAR_HANDLE:
                continue
            handle, value = operator.inputs if len(operator.inputs) == 2 else (-1, -1)
            if operator.code != Code.ASSIGN_VARIABLE or handle not in names or value < 0:
                raise TfliteError(
                    f"operator {operator.index} {operator.name} of the subgraph that CALL_ONCE runs isn't supported "
                    "there: it may only assign constants to variables"
                )
            yield names[handle], _constant(once.tensors[value])


def _check_order(graph: Subgraph, written: set[int]) -> None:
    """Raises if a variable's handle or value is used before an operator has written it."""
    for operator in graph.operators:
        if operator.code in (Code.READ_VARIABLE, Code.ASSIGN_VARIABLE):
            late = [i for i in operator.inputs if i >= 0 and i not in written and graph.tensors[i].data is None]
            if late:
                name = graph.tensors[late[0]].name
                raise TfliteError(
                    f"operator {operator.index} {operator.name} comes before '{name}': the file is damaged"
                )
        written.update(operator.outputs)


def _constant(tensor: FileTensor) -> NDArray[np.int8]:
    if tensor.type != Type.INT8:
        raise TfliteError(f"the state's initial value '{tensor.name}' is {tensor.type_name}, must be int8")
    return tensor.values()


def _names(graph: Subgraph) -> dict[int, bytes]:
    """Maps each resource tensor to its variable's container and name."""
    names = {}
    for operator in graph.operators:
        if operator.code == Code.VAR_HANDLE and operator.options and len(operator.outputs) == 1:
            if graph.tensors[operator.outputs[0]].type != Type.RESOURCE:
                raise TfliteError(
                    f"operator {operator.index} VAR_HANDLE doesn't create a resource: the file is damaged"
                )
            parts = [operator.options.vector(field, "u1").tobytes() for field in (0, 1)]
            names[operator.outputs[0]] = b"\0".join(parts)
    return names


def _join_axis(join: Operator, shape: tuple[int, ...]) -> int:
    """The axis of a ring buffer's CONCATENATION; all axes before it must have size 1."""
    given = join.number(0, "i")
    axis = given + len(shape) * (given < 0)
    if not 0 <= axis < len(shape) or math.prod(shape[:axis]) != 1:
        raise TfliteError(
            f"operator {join.index} concatenates it along axis {given} of {list(shape)}, must be the first; {RINGS}"
        )
    return axis
