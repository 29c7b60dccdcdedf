"""Parses a `.tflite` file to plain objects (tensors, operators and their options) and validates them.

Field numbers are those of TensorFlow Lite's schema.fbs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import flatbuffer
from .codes import Code
from .flatbuffer import Table, TfliteError

MAX_FILE = 16 << 20  # bytes
MAX_TENSORS = 4096
MAX_OPERATORS = 1024
MAX_DIMENSIONS = 6
MAX_FILE_ELEMENTS = 1 << 24  # of a tensor in a file; formats.limits has those of ops


class Type(IntEnum):
    """Tensor types."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT32 = 2
    UINT8 = 3
    INT64 = 4
    STRING = 5
    BOOL = 6
    INT16 = 7
    INT8 = 9
    RESOURCE = 13
    INT4 = 17


OPTIONS = {  # number of an operator's options in the schema's BuiltinOptions
    Code.CONV_2D: 1,
    Code.DEPTHWISE_CONV_2D: 2,
    Code.AVERAGE_POOL_2D: 5,
    Code.MAX_POOL_2D: 5,
    Code.SVDF: 6,
    Code.FULLY_CONNECTED: 8,
    Code.SOFTMAX: 9,
    Code.CONCATENATION: 10,
    Code.ADD: 11,
    Code.RESIZE_BILINEAR: 15,
    Code.RESHAPE: 17,
    Code.SPACE_TO_DEPTH: 19,
    Code.MUL: 21,
    Code.PAD: 22,
    Code.GATHER: 23,
    Code.TRANSPOSE: 26,
    Code.MEAN: 27,
    Code.SUM: 27,
    Code.REDUCE_MAX: 27,
    Code.REDUCE_PROD: 27,
    Code.SUB: 28,
    Code.SQUEEZE: 30,
    Code.STRIDED_SLICE: 32,
    Code.SPLIT: 35,
    Code.MAXIMUM: 39,
    Code.MINIMUM: 39,
    Code.TRANSPOSE_CONV: 49,
    Code.SHAPE: 55,
    Code.PACK: 59,
    Code.UNPACK: 64,
    Code.UNIDIRECTIONAL_SEQUENCE_LSTM: 71,
    Code.RESIZE_NEAREST_NEIGHBOR: 74,
    Code.LEAKY_RELU: 75,
    Code.MIRROR_PAD: 77,
    Code.SPLIT_V: 79,
    Code.QUANTIZE: 89,
    Code.HARD_SWISH: 91,
    Code.DEPTH_TO_SPACE: 94,
    Code.BATCH_MATMUL: 101,
    Code.CALL_ONCE: 103,
    Code.VAR_HANDLE: 111,
    Code.GELU: 116,
}

_DTYPES = {
    Type.FLOAT32: "<f4",
    Type.INT32: "<i4",
    Type.UINT8: "u1",
    Type.INT64: "<i8",
    Type.INT16: "<i2",
    Type.INT8: "i1",
}


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file. data: a constant's bytes, else None; axis: of `scale` if it has several values.

    is_dynamic: the size of the batch isn't fixed, nor sides that depend on it: `shape` has 1 in their places.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    data: NDArray[np.uint8] | None
    is_variable: bool
    is_sparse: bool
    is_dynamic: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def type_name(self) -> str:
        return type_name(self.type)

    def values(self) -> NDArray[Any]:
        """A constant's elements in its shape. Raises TfliteError if the number of bytes doesn't match."""
        dtype = _DTYPES.get(Type(self.type)) if self.type in set(Type) else None
        if self.data is None or dtype is None:
            raise TfliteError(f"tensor '{self.name}' ({self.type_name}) must be a constant of plain numbers")
        if self.size * np.dtype(dtype).itemsize != len(self.data):
            raise TfliteError(
                f"tensor '{self.name}' is {self.type_name} {list(self.shape)} but has {len(self.data)} bytes: "
                "the file is damaged"
            )
        return self.data.view(dtype).reshape(self.shape)


@dataclass(frozen=True)
class Operator:
    """An operator of the file. inputs, outputs: indices of tensors, -1 for an omitted one.

    options: None also if the file has another operator's options, which TFLite ignores.
    """

    index: int
    code: int
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None

    @property
    def name(self) -> str:
        if self.code == Code.CUSTOM:
            return f"CUSTOM {self.custom!r}"
        return Code(self.code).name if self.code in set(Code) else f"with code {self.code}"

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """An integer field of the options."""
        return self.options.number(field, kind, default) if self.options else default


@dataclass(frozen=True)
class Subgraph:
    """Tensors, and operators in execution order."""

    tensors: list[FileTensor]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Graph:
    """A file's network: its first subgraph. other: the second subgraph, which may initialize state."""

    main: Subgraph
    input: int
    output: int
    other: Subgraph | None = None

    @property
    def tensors(self) -> list[FileTensor]:
        return self.main.tensors

    @property
    def operators(self) -> tuple[Operator, ...]:
        return self.main.operators


def type_name(code: int) -> str:
    return Type(code).name.lower() if code in set(Type) else f"type {code}"


def read_graph(data: bytes) -> Graph:
    """Reads a file. Raises TfliteError if it is damaged or has more than two subgraphs, one input or one output."""
    if len(data) > MAX_FILE:
        raise TfliteError(f"the file has {len(data)} bytes, the limit is {MAX_FILE}")
    model = flatbuffer.root(data, b"TFL3")
    if model.number(0, "I") != 3:
        raise TfliteError(f"the file has schema version {model.number(0, 'I')}, must be 3")
    graphs = model.tables(2, MAX_OPERATORS, "subgraphs")
    if not 1 <= len(graphs) <= 2:
        raise TfliteError(
            f"the file has {len(graphs)} subgraphs, must have one, or two if CALL_ONCE runs the second for state: "
            "convert without control flow and recurrence"
        )
    buffers = model.tables(4, MAX_TENSORS, "buffers")
    codes = [_code(table) for table in model.tables(1, MAX_OPERATORS, "operator codes")]
    parts = [_subgraph(table, buffers, codes) for table in graphs]
    ends = [_indices(graphs[0], field, len(parts[0].tensors), 0, "the graph") for field in (1, 2)]
    for what, end in zip(("inputs", "outputs"), ends, strict=True):
        if len(end) != 1:
            raise TfliteError(f"the network has {len(end)} {what}, must have one")
    return Graph(parts[0], ends[0][0], ends[1][0], *parts[1:])


def _subgraph(table: Table, buffers: list[Table], codes: list[tuple[int, str]]) -> Subgraph:
    tensors = [_tensor(tensor, buffers) for tensor in table.tables(0, MAX_TENSORS, "tensors")]
    operators = table.tables(3, MAX_OPERATORS, "operators")
    return Subgraph(tensors, tuple(_operator(i, operator, codes, len(tensors)) for i, operator in enumerate(operators)))


def _tensor(table: Table, buffers: list[Table]) -> FileTensor:
    name = table.text(3)
    shape = tuple(table.vector(0, "<i4")[: MAX_DIMENSIONS + 1].tolist())
    if len(shape) > MAX_DIMENSIONS or not all(0 <= side <= MAX_FILE_ELEMENTS for side in shape):
        raise TfliteError(
            f"tensor '{name}' has shape {list(shape)}: at most {MAX_DIMENSIONS} fixed sides are supported"
        )
    if math.prod(shape) > MAX_FILE_ELEMENTS:
        raise TfliteError(f"tensor '{name}' has {math.prod(shape)} elements, the limit is {MAX_FILE_ELEMENTS}")
    number = table.number(2, "I")
    if number >= len(buffers):
        raise TfliteError(f"tensor '{name}' is in buffer {number}, the file has {len(buffers)} buffers: it is damaged")
    content = buffers[number].vector(0, "u1")
    quantization = table.table(4)
    scale, zero_point, axis = np.empty(0, "<f4"), np.empty(0, "<i8"), 0
    if quantization:
        scale, zero_point = quantization.vector(2, "<f4"), quantization.vector(3, "<i8")
        axis = quantization.number(6, "i")
    if not np.isfinite(scale).all():
        found = scale[~np.isfinite(scale)][0]
        raise TfliteError(f"tensor '{name}' has scale {found:g}, must be finite: convert the network again")
    return FileTensor(
        name,
        shape,
        table.number(1, "b"),
        scale,
        zero_point,
        axis,
        content if number and len(content) else None,
        bool(table.number(5, "B")),
        table.table(6) is not None,
        bool((table.vector(7, "<i4")[:MAX_DIMENSIONS] == -1).any()),
    )


def _code(table: Table) -> tuple[int, str]:
    """An operator's code, from the old byte or the newer int32 field, and a custom operator's name."""
    return max(table.number(0, "b"), table.number(3, "i")), table.text(1)


def _operator(index: int, table: Table, codes: list[tuple[int, str]], tensors: int) -> Operator:
    number = table.number(0, "I")
    if number >= len(codes):
        raise TfliteError(f"operator {index} has code index {number}, the file has {len(codes)} codes: it is damaged")
    inputs, outputs = (_indices(table, field, tensors, -1, f"operator {index}") for field in (1, 2))
    code, custom = codes[number]
    has_its_own = code in set(Code) and table.number(3, "B") == OPTIONS.get(Code(code))
    return Operator(index, code, custom, inputs, outputs, table.table(4) if has_its_own else None)


def _indices(table: Table, field: int, count: int, least: int, where: str) -> tuple[int, ...]:
    """A vector of tensor indices, validated."""
    values = table.vector(field, "<i4")
    if len(values) > MAX_TENSORS or np.any((values < least) | (values >= count)):
        raise TfliteError(f"{where} refers to a tensor that doesn't exist: the file is damaged")
    return tuple(values.tolist())
