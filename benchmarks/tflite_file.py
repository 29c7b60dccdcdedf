"""INT8 `.tflite` files of random weights, for measurements of other runtimes.

Field numbers and codes are those of TensorFlow Lite's schema.fbs. A FlatBuffers table is a dict here: field number ->
value, where a tuple is a number with its `struct` letter.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAME, _RELU = 0, 1
_INT32, _INT8 = 2, 9
_SCALE = 0.05
_ADD, _AVERAGE_POOL, _CONV, _DEPTHWISE, _DENSE, _SOFTMAX = 0, 1, 3, 4, 9, 25


def keyword_network(rng: np.random.Generator) -> bytes:
    """The DS-CNN of MLPerf Tiny's keyword spotting: 2.7 million multiply-accumulates."""
    file = _File(rng, (49, 10, 1))
    x = file.conv(0, 64, (10, 4), 2, relu=True)
    for _ in range(4):
        x = file.conv(file.depthwise(x), 64, relu=True)
    return file.classified(x, 12)


def image_network(rng: np.random.Generator) -> bytes:
    """The ResNet of MLPerf Tiny's image classification: 12.5 million multiply-accumulates."""
    file = _File(rng, (32, 32, 3))
    x = file.conv(0, 16, (3, 3), relu=True)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = file.conv(file.conv(x, channels, (3, 3), stride, relu=True), channels, (3, 3))
        x = file.add(x if stride == 1 else file.conv(x, channels, (1, 1), stride), y)
    return file.classified(x, 10)


class _File:
    """A graph in the making. Tensors are numbers, the input is 0; activations are s8 [1, height, width, channels]."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
        self.rng = rng
        self.shapes: list[tuple[int, ...]] = []
        self.tensors: list[dict[int, Any]] = []
        self.buffers: list[dict[int, Any]] = [{}]
        self.operators: list[dict[int, Any]] = []
        self.codes: list[int] = []
        self._tensor((1, *shape), [_SCALE], -3)

    def conv(self, x: int, channels: int, kernel: tuple[int, int] = (1, 1), stride: int = 1, relu: bool = False) -> int:
        _, height, width, depth = self.shapes[x]
        weights = self._weights(x, (channels, *kernel, depth), 0)
        options = {0: ("b", _SAME), 1: ("i", stride), 2: ("i", stride), 3: ("b", _RELU * relu)}
        shape = (1, -(-height // stride), -(-width // stride), channels)
        return self._operator(_CONV, [x, *weights], shape, (1, options), -128 if relu else 0)

    def depthwise(self, x: int) -> int:
        """3x3, with ReLU."""
        weights = self._weights(x, (1, 3, 3, self.shapes[x][3]), 3)
        options = {0: ("b", _SAME), 1: ("i", 1), 2: ("i", 1), 3: ("i", 1), 4: ("b", _RELU)}
        return self._operator(_DEPTHWISE, [x, *weights], self.shapes[x], (2, options))

    def add(self, x: int, y: int) -> int:
        return self._operator(_ADD, [x, y], self.shapes[x], (11, {0: ("b", _RELU)}))

    def classified(self, x: int, classes: int) -> bytes:
        """The file, with its end: the mean of all positions, a dense layer, softmax."""
        _, height, width, channels = self.shapes[x]
        options = {0: ("b", 1), 1: ("i", width), 2: ("i", height), 3: ("i", width), 4: ("i", height)}
        x = self._operator(_AVERAGE_POOL, [x], (1, 1, 1, channels), (5, options))
        x = self._operator(_DENSE, [x, *self._weights(x, (classes, channels), 0)], (1, classes), (8, {}), 0)
        x = self._operator(_SOFTMAX, [x], (1, classes), (9, {0: ("f", 1.0)}), -128, 1 / 256)
        graph = {0: self.tensors, 1: [0], 2: [x], 3: self.operators}
        codes = [{0: ("b", code), 2: ("i", 1), 3: ("i", code)} for code in self.codes]
        return _packed({0: ("I", 3), 1: codes, 2: [graph], 4: self.buffers})

    def _operator(
        self,
        code: int,
        inputs: list[int],
        shape: tuple[int, ...],
        options: tuple[int, dict[int, Any]],
        zero_point: int = -128,
        scale: float = _SCALE,
    ) -> int:
        if code not in self.codes:
            self.codes.append(code)
        output = self._tensor(shape, [scale], zero_point)
        kind, table = options
        self.operators.append({0: ("I", self.codes.index(code)), 1: inputs, 2: [output], 3: ("B", kind), 4: table})
        return output

    def _weights(self, x: int, shape: tuple[int, ...], axis: int) -> list[int]:
        """Weights whose outputs are in the middle of their range, and a bias, channel by channel of `axis`."""
        channels, values = shape[axis], self.rng.integers(-127, 128, shape).astype(np.int8)
        scales = self.rng.uniform(0.5, 1, channels) / (40 * (values.size / channels) ** 0.5)
        bias = self.rng.integers(-3000, 3000, channels).astype(np.int32)
        return [
            self._tensor(shape, scales.tolist(), 0, values, axis),
            self._tensor((channels,), (_SCALE * scales).tolist(), 0, bias),
        ]

    def _tensor(
        self,
        shape: tuple[int, ...],
        scales: list[float],
        zero_point: int,
        data: NDArray[Any] | None = None,
        axis: int = 0,
    ) -> int:
        buffer, kind = 0, _INT8
        if data is not None:
            buffer, kind = len(self.buffers), _INT32 if data.dtype == np.int32 else _INT8
            self.buffers.append({0: data.astype(data.dtype.newbyteorder("<")).tobytes()})
        grid = {
            2: np.array(scales, "<f4"),
            3: np.full(len(scales), zero_point, "<i8"),
            6: ("i", axis),
        }
        name = f"t{len(self.tensors)}"
        self.tensors.append({0: list(shape), 1: ("b", kind), 2: ("I", buffer), 3: name, 4: grid})
        self.shapes.append(shape)
        return len(self.tensors) - 1


def _packed(root: dict[int, Any]) -> bytes:
    """A FlatBuffer. What a table points to stands behind it."""
    data = bytearray(struct.pack("<I4s", 0, b"TFL3"))
    _point(data, 0, _put(data, root))
    return bytes(data)


def _point(data: bytearray, place: int, target: int) -> None:
    struct.pack_into("<I", data, place, target - place)


def _align(data: bytearray, size: int, before: int = 0) -> None:
    """So that what begins `before` bytes further on stands at a multiple of `size`."""
    data += bytes(-(len(data) + before) % size)


def _put(data: bytearray, value: Any) -> int:
    """Appends what an offset can point to; returns where it stands."""
    if isinstance(value, dict):
        return _put_table(data, value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        _align(data, 4)
        at = len(data)
        data += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for i, table in enumerate(value):
            _point(data, at + 4 + 4 * i, _put(data, table))
        return at
    if isinstance(value, list):
        value = np.array(value, "<i4")
    raw = value.encode() + b"\0" if isinstance(value, str) else bytes(value)
    _align(data, 16, before=4)  # constants are read where they lie
    at, count = len(data), len(value)
    data += struct.pack("<I", count) + raw
    return at


def _put_table(data: bytearray, fields: dict[int, Any]) -> int:
    size, places = 4, {}
    for number, value in fields.items():
        width = struct.calcsize("<" + value[0]) if isinstance(value, tuple) else 4
        size += -size % width
        places[number] = size
        size += width
    entries = [places.get(number, 0) for number in range(max(fields, default=-1) + 1)]
    _align(data, 4, before=2 * (2 + len(entries)))
    start = len(data)
    data += struct.pack(f"<{2 + len(entries)}H", 4 + 2 * len(entries), size, *entries)
    at = len(data)
    data += struct.pack("<i", at - start) + bytes(size - 4)
    for number, value in fields.items():
        if isinstance(value, tuple):
            struct.pack_into("<" + value[0], data, at + places[number], value[1])
        else:
            _point(data, at + places[number], _put(data, value))
    return at
