"""Files of transformers: they come back as they were, and host and core refuse the same."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from random_transformers import LONGEST, WIDEST, random_transformer
from test_limits import core_takes, host_packs, host_reads, unchecked

from benchmarks.networks import language
from edgelora.base.errors import InputError
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.network import STREAM_KINDS, Op, QuantModel, Tensor, id_bytes, ids_of
from edgelora.model.floatnet.zoo import Transformer

Change = Callable[[QuantModel], object]


@pytest.mark.parametrize("seed", range(60))
def test_transformers_come_back_as_they_were(seed: int) -> None:
    sizes = {0: LONGEST, 1: WIDEST}.get(seed)
    model = random_transformer(seed, sizes, edges=seed % 3 == 0)
    again = unpack_model(pack_model(model))
    assert (again.tensors, again.rounds, again.loss) == (model.tensors, model.rounds, model.loss)
    for mine, op in zip(model.ops, again.ops, strict=True):
        for field in fields(Op):
            one, other = (getattr(op, field.name) for op in (mine, op))
            assert field.name == "weight_scale" or np.array_equal(one, other), (mine.kind, field.name)
    assert core_takes(pack_model(model))


def test_rotary_angles_are_stored_once() -> None:
    """All layers of a language model turn queries and keys by the same ones."""
    model = language(20, 12, Transformer(16, 2, (2, 1), 8))
    turns = [op.angles for op in model.ops if op.kind == "rotate"]
    assert len(turns) == 4 and turns[0] is not None
    data = pack_model(model)
    assert data.count(turns[0].astype("<i2").tobytes()) == 1 and core_takes(data)


def test_places_of_the_fields() -> None:
    """Every field of the new kinds, read from the file by the test itself."""
    model = Small(symbols=300).model()
    data = pack_model(model)
    assert struct.unpack_from("<BB", data, 64) == (0, 2)
    assert struct.unpack_from("<3HbBf", data, 68 + 12) == (1, 4, 6, 0, 1, 0.25)
    at = 68 + 12 * len(model.tensors)
    records = [struct.unpack_from("<BBHH2B2B2BH4xHIIII", data, at + 36 * index) for index in range(len(model.ops))]
    found = {record[0]: (record[1], *record[2:6], record[10], record[11]) for record in records if record[0] > 23}
    place = {op.kind: op for op in model.ops}
    attend, rotate = place["attend"], [op for op in model.ops if op.kind == "rotate"][-1]
    assert found == {
        24: (0, 0, 2, 1, 1, 300, 1),
        25: (0, place["project"].input, place["project"].output, 1, 1, 0, place["project"].input2),
        26: (0, place["widen"].input, place["widen"].output, 1, 1, 0, place["widen"].input2),
        27: (4, place["norm"].input, place["norm"].output, 1, 1, 0, 0),
        28: (0, rotate.input, rotate.output, 2, 1, 0, 0),
        29: (8, attend.input, attend.output, 2, 1, attend.input3, attend.input2),
    }
    offsets = {record[0]: record[12:] for record in records}
    assert offsets[24][1] == offsets[26][0] == offsets[28][2] == offsets[29][0] == 0
    gain = np.frombuffer(data, "<i2", 6, offsets[27][0])
    assert np.array_equal(gain, place["norm"].gain)
    table = np.frombuffer(data, "<i2", 4 * 2 * 2, offsets[28][0])
    assert np.array_equal(table, place["rotate"].angles.reshape(-1))


# ---- rules ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Small:
    """A language model with every kind: learned positions, one block, a widened attention, a head at all positions."""

    symbols: int = 5
    rows: int = 4
    channels: int = 6
    heads: int = 2
    shared: int = 1
    head: int = 4
    outputs: int = 5

    def model(self) -> QuantModel:
        """The model, with arrays that are within their limits."""
        ids = Tensor((1, self.rows, 1 if self.symbols <= 256 else 2), 1.0, 0)
        built = QuantModel([ids], [], rounds=True)
        stream = Tensor((1, self.rows, self.channels), 0.25, 0, wide=True)

        def add(op: Op, tensor: Tensor) -> int:
            op.output = len(built.ops) + 1
            built.ops.append(op)
            built.tensors.append(tensor)
            return op.output

        def scaled(kind: str, source: int, count: int = 1, **more: object) -> Op:
            ones = np.full(count, 2**14, np.int32), np.zeros(count, np.int8)
            return Op(kind, source, 0, multiplier=ones[0], shift=ones[1], **more)

        def matrix(kind: str, source: int, outputs: int, target: Tensor | None = None, **more: object) -> int:
            op = scaled(kind, source, outputs, bias=np.zeros(outputs, np.int32), **more)
            op.weights = np.ones((outputs, 1, 1, built.tensors[source].shape[2]), np.int8)
            return add(op, target or Tensor((1, self.rows, outputs), 0.5, 0))

        def norm(source: int) -> int:
            op = scaled("norm", source, gain=np.full(self.channels, 2**14, np.int16), centred=True)
            op.bias = np.zeros(self.channels, np.int32)
            return add(op, replace(stream, scale=0.5, wide=False))

        def rotate(source: int) -> int:
            angles = np.ones((self.rows, self.head // 2, 2), np.int16)
            return add(Op("rotate", source, 0, angles=angles), built.tensors[source])

        h = add(Op("constant", 0, 0, values=np.ones(stream.shape, np.int16)), stream)
        h = add(scaled("embed", 0, input2=h, embedding=np.ones((self.symbols, self.channels), np.int8)), stream)
        source = norm(h)
        q, k, v = (matrix("conv", source, count * self.head) for count in (self.heads, self.shared, self.shared))
        q, k = rotate(q), rotate(k)
        op = scaled("attend", q, 3, input2=k, input3=v, heads=(self.heads, self.shared), causal=True)
        made = add(op, built.tensors[q])
        h = matrix("project", made, self.channels, stream, input2=h)
        h = add(scaled("widen", norm(h), input2=h), stream)
        matrix("conv", norm(h), self.outputs)
        return built


LIMITS = {
    "symbols": (Small(symbols=1024), Small(symbols=1025)),
    "channels of a stream": (Small(channels=256), Small(channels=257)),
    "rows": (Small(rows=256), Small(rows=257)),
    "channels of a head": (Small(head=64), Small(head=66)),
    "rows for each key": (Small(rows=256, heads=2), Small(rows=256, heads=3)),
    "outputs of a position": (Small(outputs=1024), Small(outputs=1025)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_host_and_core_agree_at_limits(name: str) -> None:
    for small, good in zip(LIMITS[name], (True, False), strict=True):
        model = small.model()
        data = unchecked(lambda model=model: pack_model(model))
        assert (host_packs(model), host_reads(data), core_takes(data)) == (good, good, good), small


def with_op(kind: str, **changes: object) -> Change:
    def change(model: QuantModel) -> None:
        op = [op for op in model.ops if op.kind == kind][-1]
        for name, value in changes.items():
            setattr(op, name, value)

    return change


def with_value(kind: str, name: str, value: int, place: int = 0) -> Change:
    def change(model: QuantModel) -> None:
        getattr(next(op for op in model.ops if op.kind == kind), name).reshape(-1)[place] = value

    return change


def with_output(kind: str, **changes: object) -> Change:
    def change(model: QuantModel) -> None:
        at = [op.output for op in model.ops if op.kind == kind][-1]
        model.tensors[at] = replace(model.tensors[at], **changes)

    return change


def with_input(**changes: object) -> Change:
    return lambda model: model.tensors.__setitem__(0, replace(model.tensors[0], **changes))


def without_last(model: QuantModel) -> None:
    """Ends with a stream."""
    del model.ops[-2:], model.tensors[-2:]


def with_another_reader(model: QuantModel) -> None:
    """Reads the keys once more, beside the last output."""
    last, keys = len(model.ops), next(op for op in model.ops if op.kind == "attend").input2
    model.ops.append(Op("concatenate", last, last + 1, input2=keys))
    model.tensors.append(Tensor((1, 4, 9), 0.5, 0))


RANGES = [  # kind, array, place, least, most
    ("norm", "multiplier", 0, 1, 2**31 - 1),
    ("norm", "shift", 0, -10, 17),
    ("norm", "bias", -1, -(2**27), 2**27),
    ("norm", "gain", -1, -32767, 32767),
    ("rotate", "angles", -1, -32767, 32767),
    ("attend", "multiplier", 0, 1, 65535),
    ("attend", "multiplier", 1, 0, 32767),
    ("attend", "multiplier", 2, 0, 32767),
    ("attend", "shift", 0, 0, 20),
    ("attend", "shift", 1, -16, 15),
    ("attend", "shift", 2, -64, 63),
    ("embed", "multiplier", 0, 0, 2**31 - 1),
    ("embed", "shift", 0, -31, 30),
    ("widen", "shift", 0, -31, 30),
    ("project", "shift", -1, -31, 30),
    ("embed", "embedding", 0, -128, 127),
]


@pytest.mark.parametrize(("kind", "name", "place", "least", "most"), RANGES)
def test_host_and_core_agree_on_constants(kind: str, name: str, place: int, least: int, most: int) -> None:
    for value in (least - 1, least, most, most + 1):
        model, good = Small().model(), least <= value <= most
        array = getattr(next(op for op in model.ops if op.kind == kind), name)
        if np.iinfo(array.dtype).min <= value <= np.iinfo(array.dtype).max:
            with_value(kind, name, value, place)(model)
            data = unchecked(lambda model=model: pack_model(model))
            assert (host_packs(model), host_reads(data), core_takes(data)) == (good, good, good), value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_output("embed", wide=False), "its output is int8, must be a stream"),
        (with_output("conv", wide=True), "its output is a stream, which only embed and project and widen write"),
        (with_output("embed", zero_point=1), "zero point 1 of a stream"),
        (with_op("norm", input=3), "its input is int8, must be a stream"),
        (with_op("project", input2=3), "its input2 is int8, must be a stream"),
        (with_op("conv", input=2), "reads a stream, which only norm"),
        (with_op("attend", input2=2), "reads a stream"),
        (with_input(wide=True), "the input is a stream"),
        (without_last, "the output is a stream"),
        (with_op("widen", input=2), "its input is a stream, which only norm reads"),
        (with_op("embed", input=1), "stream"),
        (with_input(shape=(1, 4, 2)), "must be \\(1, 4, 1\\) of 5 symbols"),
        (with_op("embed", embedding=np.ones((257, 6), np.int8)), "must be \\(1, 4, 2\\) of 257 symbols"),
        (with_op("embed", embedding=np.ones((0, 6), np.int8)), "0 symbols"),
        (with_op("rotate", angles=np.ones((4, 0, 2), np.int16)), "half is 0"),
        (with_op("rotate", angles=np.ones((4, 3, 2), np.int16)), "half is 3 of 4 channels"),
        (with_output("rotate", zero_point=1), "zero point"),
        (with_output("attend", zero_point=1), "zero points"),
        (with_output("attend", shape=(4, 1, 8)), "two shapes"),
        (with_op("attend", heads=(2, 0)), "must divide"),
        (with_op("attend", heads=(3, 1)), "must divide"),
        (with_op("attend", heads=(2, 2)), "heads of 4 and 2 channels"),
        (with_op("attend", heads=(1, 1)), "heads of 8 and 4 channels"),
        (with_another_reader, "three that no other op reads"),
        (with_op("widen", causal=True), "causal"),
        (with_op("conv", centred=True), "centred"),
        (with_op("project", mask_low=True), "flags"),
        (with_op("project", act_min=0), "output range"),
        (with_op("widen", t_shift=1), "t_shift and branch_shift must be 0"),
        (with_output("norm", shape=(4, 1, 6)), "must be equal"),
        (with_op("norm", gain=None), "gain of op .*missing"),
        (with_op("constant", values=np.ones((1, 4, 6), np.int8)), "values of op .* int8"),
    ],
)
def test_broken_transformers_are_refused(change: Change, words: str) -> None:
    model = Small().model()
    pack_model(model)
    change(model)
    with pytest.raises(FormatError, match=words):
        pack_model(model)
    if "missing" not in words and "int8" not in words[-5:]:  # files hold any such array
        data = unchecked(lambda: pack_model(model))
        assert (host_reads(data), core_takes(data)) == (False, False)


@pytest.mark.parametrize("kind", [*STREAM_KINDS, "rotate"])
def test_streams_and_rotations_keep_their_scale(kind: str) -> None:
    model = Small().model()
    with_output(kind, scale=0.75)(model)
    with pytest.raises(FormatError, match="scale"):
        pack_model(model)


def test_ids_are_bytes() -> None:
    assert id_bytes(np.array([0, 255]), 256).tolist() == [[0], [-1]]
    assert id_bytes(np.array([[1, 300]]), 301).tolist() == [[[1, 0], [44, 1]]]
    for symbols in (256, 1024):
        assert ids_of(id_bytes(np.arange(symbols), symbols)).tolist() == list(range(symbols))
    for ids, symbols in ((256, 256), (-1, 3), (65536, 300)):
        with pytest.raises(InputError, match="ids"):
            id_bytes(np.array([ids]), symbols)


def test_classes_and_targets_of_a_sequence() -> None:
    model = Small().model()
    assert (model.learns_sequences, model.classes, model.symbols) == (True, 5, 5)
    assert model.quantize(np.array([[[[0.0], [4.0], [200.0], [255.0]]]])).tolist() == [[[[0], [4], [-56], [-1]]]]
    assert model.targets(np.array([[0, 4, 2, 255]])).tolist() == [[0, 4, 2, -1]]
