"""Classes added to a base: the class statistics of `.elm`, and class records of `.ela`.

SPEC.md, sections 3, 8 and 9. Boards and the twin make rows from samples; here they are only read and written.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .envelope import Reader, check_array, require, require_zero
from .limits import MAX_ADDED, MAX_CLASS_BIAS, MAX_CLASS_INPUTS, MAX_CLASSES, MAX_NAME, MAX_ROW_SHIFT, MAX_SCORE
from .network import QuantModel

_CLASS_STATS = struct.Struct("<4B")  # version, row shift, exponent, 0
_CLASSES = struct.Struct("<2H")  # count, inputs
_CLASS = struct.Struct(f"<i2H{MAX_NAME}s")  # bias, number, samples, name
CLASS_STATS_VERSION = 1
_DOUBT_AT = 12  # bits of the field with the number of samples, above which the doubt is


@dataclass
class ClassStats:
    """Statistics of the K inputs of the last layer in pretraining, in int8 steps, without their zero point.

    inverse: int16 [K (K + 1) / 2], the lower triangle of the inverse covariance; rows int16 [classes, K] and biases
    int32 [classes]: scores of the base's classes, in which a nat is 2^exponent. row_shift: of new rows.
    """

    row_shift: int
    exponent: int
    biases: NDArray[np.int32]
    rows: NDArray[np.int16]
    inverse: NDArray[np.int16]


@dataclass
class ClassRow:
    """A class of a record. number: if below the number of base classes, one of those, which has no name here.

    samples: how many it was made from; bias, row int16 [K]: its score is row * (x - zp) + bias. doubt: what the base's
    own row counts, in samples (SPEC.md, 3); 0: nothing.
    """

    number: int
    name: str
    samples: int
    bias: int
    row: NDArray[np.int16] = field(repr=False)
    doubt: int = 0


def class_inputs(model: QuantModel) -> int:
    """The number of the last layer's inputs, if classes can be added; else 0."""
    last = model.ops[-1]
    size = model.tensors[last.input].size
    return size if model.loss == "cross_entropy" and last.kind == "dense" and size <= MAX_CLASS_INPUTS else 0


def no_room(model: QuantModel) -> str:
    """Why classes can't be added to a network without class statistics, and what to do."""
    last = model.ops[-1]
    size = model.tensors[last.input].size
    if last.kind == "softmax":
        return "ends in a softmax: make it without; boards compute probabilities from a dense layer's outputs"
    if model.loss != "cross_entropy" or last.kind != "dense" or size > MAX_CLASS_INPUTS:
        room = f"a dense layer of at most {MAX_CLASS_INPUTS} inputs with cross_entropy"
        return f"ends in {last.kind} of {size} inputs, with {model.loss}: classes can be added only to {room}"
    return "has no statistics of its last layer's inputs: quantize it from its float network, with its training data"


def check_class_stats(stats: ClassStats, model: QuantModel, name: str) -> None:
    size, classes = class_inputs(model), model.output.size
    require(size > 0, f"{name}: classes can be added only to a classifier that ends in a dense layer")
    require(
        0 <= stats.row_shift <= MAX_ROW_SHIFT,
        f"{name}: row shift {stats.row_shift} of its class statistics, must be 0 to 24",
    )
    require(
        0 <= stats.exponent <= MAX_SCORE,
        f"{name}: exponent {stats.exponent} of its class statistics, must be 0 to {MAX_SCORE}",
    )
    check_array(stats.biases, np.dtype(np.int32), (classes,), f"{name}: biases of its class statistics")
    check_array(stats.rows, np.dtype(np.int16), (classes, size), f"{name}: rows of its class statistics")
    check_array(
        stats.inverse, np.dtype(np.int16), (size * (size + 1) // 2,), f"{name}: inverse of its class statistics"
    )
    worst = int(np.abs(stats.biases.astype(np.int64)).max())
    require(
        worst <= MAX_CLASS_BIAS,
        f"{name}: a bias of {worst} in its class statistics, the limit is {MAX_CLASS_BIAS}",
    )


def pack_class_stats(stats: ClassStats) -> bytes:
    body = _CLASS_STATS.pack(CLASS_STATS_VERSION, stats.row_shift, stats.exponent, 0)
    for array, dtype in ((stats.biases, "<i4"), (stats.rows, "<i2"), (stats.inverse, "<i2")):
        raw = np.ascontiguousarray(array, dtype).tobytes()
        body += raw + bytes(-len(raw) % 4)
    return body


def read_class_stats(reader: Reader, labels_at: int, header: int, model: QuantModel) -> ClassStats:
    """The class statistics that lie right before the labels."""
    name, size, classes = reader.name, class_inputs(model), model.output.size
    require(size > 0, f"{name}: has a record of classes, but its last layer can't have classes: make the file again")
    rows, inverse = (classes, size), (size * (size + 1) // 2,)
    at = labels_at - _CLASS_STATS.size - 4 * classes - 4 * (-(-classes * size // 2)) - 4 * (-(-inverse[0] // 2))
    require(
        at >= header and at % 4 == 0, f"{name}: its class statistics are at {at}, in the header: make the file again"
    )
    [(version, row_shift, exponent, zero)] = reader.records(_CLASS_STATS, at, 1, "its class statistics")
    require(
        version == CLASS_STATS_VERSION,
        f"{name}: its class statistics have version {version}, must be 1: update edgelora",
    )
    require_zero(zero, name, "byte 3 of its class statistics")
    at += _CLASS_STATS.size
    biases, at = reader.next_array("<i4", (classes,), at, "biases of its class statistics")
    found, at = reader.next_array("<i2", rows, at, "rows of its class statistics")
    triangle, at = reader.next_array("<i2", inverse, at, "inverse of its class statistics")
    stats = ClassStats(row_shift, exponent, biases, found, triangle)
    check_class_stats(stats, model, name)
    return stats


def pack_classes(classes: Sequence[ClassRow]) -> bytes:
    """The body of a record of classes, in ascending order of number. FormatError for a name that is too long."""
    size = len(classes[0].row)
    for one in classes:
        length = len(one.name.encode())
        require(length <= MAX_NAME, f"the name {one.name!r} takes {length} bytes, the limit is {MAX_NAME}: shorten it")
    body = _CLASSES.pack(len(classes), size)
    for one in classes:
        made_of = one.samples | one.doubt << _DOUBT_AT
        body += _CLASS.pack(one.bias, one.number, made_of, one.name.encode()) + pack_row(one.row)
    return body


def pack_row(row: NDArray[np.int16]) -> bytes:
    return row.astype("<i2").tobytes() + bytes(2 * len(row) % 4)


def unpack_classes(body: bytes, name: str = "adapter") -> list[ClassRow]:
    """The classes of a record. FormatError for any error that can be found without the model."""
    require(len(body) >= _CLASSES.size, f"{name}: its record of classes is truncated: make it again")
    count, size = _CLASSES.unpack_from(body)
    span = _CLASS.size + 2 * size + 2 * size % 4
    require(
        0 < count <= MAX_CLASSES and 0 < size <= MAX_CLASS_INPUTS and len(body) == _CLASSES.size + count * span,
        f"{name}: {count} classes of {size} inputs do not fill a record of {len(body)} bytes: make it again",
    )
    found: list[ClassRow] = []
    for at in range(_CLASSES.size, len(body), span):
        bias, number, made_of, raw = _CLASS.unpack_from(body, at)
        samples, doubt = made_of & (1 << _DOUBT_AT) - 1, made_of >> _DOUBT_AT
        row = np.frombuffer(body, "<i2", size, at + _CLASS.size).astype(np.int16)
        label = raw.rstrip(b"\0").decode(errors="replace")
        found.append(ClassRow(number, label, samples, bias, row, doubt))
        require(made_of > 0, f"{name}: class {number} was made from no samples: make it again")
        require(abs(bias) <= MAX_CLASS_BIAS, f"{name}: class {number} has a bias of {bias}: make it again")
        require(not any(body[at + _CLASS.size + 2 * size : at + span]), f"{name}: padding of class {number} is not 0")
    numbers = [one.number for one in found]
    ascending = numbers == sorted(set(numbers)) and numbers[-1] < MAX_CLASSES
    require(ascending, f"{name}: classes are {numbers}, must ascend and be below {MAX_CLASSES}: make it again")
    return found


def check_classes_fit(classes: Sequence[ClassRow], model: QuantModel, name: str) -> None:
    """Raises FormatError unless these classes can be used with the model."""
    require(
        model.class_stats is not None,
        f"{name}: adds classes, which this model can't have: it was made for another",
    )
    size, known = class_inputs(model), model.output.size
    added = [one for one in classes if one.number >= known]
    require(len(added) <= MAX_ADDED, f"{name}: adds {len(added)} classes, the limit is {MAX_ADDED}")
    for one in classes:
        require(len(one.row) == size, f"{name}: class {one.number} has {len(one.row)} inputs, the model has {size}")
        require(
            bool(one.name) == (one.number >= known),
            f"{name}: class {one.number} {'has a name, which only added ones have' if one.name else 'has no name'}",
        )
