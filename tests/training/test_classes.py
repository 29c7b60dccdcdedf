"""Added classes: the twin against NumPy integers, what an adapter stores, and classification."""

from __future__ import annotations

import struct
import zlib
from typing import Any, cast

import numpy as np
import pytest
from class_cases import INPUTS, KNOWN, small_base
from numpy.typing import NDArray
from people import last_inputs
from random_models import random_model

from edgelora.base.errors import InputError
from edgelora.core.formats.classes import ClassRow, ClassStats, no_room, pack_classes
from edgelora.core.formats.ela import CLASSES, unpack_adapter
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.twin.binding import TwinError
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.heads.new_classes import add_classes
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.quantization import class_stats


def whole_inverse(stats: ClassStats) -> NDArray[np.int64]:
    q = np.zeros((INPUTS, INPUTS), np.int64)
    q[np.tril_indices(INPUTS)] = stats.inverse
    return q + np.tril(q, -1).T


def wanted_row(stats: ClassStats, x: NDArray[np.int64]) -> tuple[int, list[int]]:
    """Bias and row of a class whose samples have the last layer's inputs x [N, K]."""
    n = len(x)
    mean = (32 * x.sum(axis=0) + n) // (2 * n)
    sums = ((whole_inverse(stats) * mean + 8) >> 4).sum(axis=1)
    row = np.clip((sums + (1 << stats.row_shift >> 1)) >> stats.row_shift, -32767, 32767)
    return -((int(((row * mean + 8) >> 4).sum()) + 1) >> 1), row.tolist()


def test_rows_and_decisions_are_those_of_the_specification() -> None:
    rng = np.random.default_rng(4)
    model = small_base(rng)
    stats, elm = model.class_stats, pack_model(model)
    assert stats and pack_model(unpack_model(elm)) == elm
    session = Session(elm, bytes(2), "infer")
    x = rng.integers(-128, 128, (40, 5)).astype(np.int8)
    inputs = last_inputs(session, model, x)
    rows = [session.class_row(x[:9], 1), session.class_row(x[9:10], 3, "wave"), session.class_row(x[10:20], 5, "jump")]
    for row, part in zip(rows, (inputs[:9], inputs[9:10], inputs[10:20]), strict=True):
        assert (row.bias, row.row.tolist()) == wanted_row(stats, part)
        assert row.samples == len(part)
    session.use(session.with_record(None, CLASSES, pack_classes(rows)))
    classes, logit_scale = [0, 1, 2, 3, 5], int.from_bytes(elm[44:48], "little")
    chosen = set()
    for one, seen in zip(x, inputs, strict=True):
        named, q = session.infer(one), session.logits.astype(np.int64)
        own = {row.number: row.row.astype(np.int64) @ seen + row.bias for row in rows}
        base = stats.rows.astype(np.int64) @ seen + stats.biases
        scores = [own.get(k, base[k] if k < KNOWN else 0) for k in classes]
        scores = [s - (int((q.max() - q[k]) * logit_scale) >> (16 - stats.exponent) if k < KNOWN else 0)
                  for k, s in zip(classes, scores, strict=True)]  # fmt: skip
        assert named == classes[int(np.argmax(scores))]
        p = session.probabilities()
        assert len(p) == 5 and abs(int(p.sum()) - 32768) <= 5 and p[classes.index(named)] == p.max()
        chosen.add(named)
    assert chosen & {3, 5} and chosen & {0, 1, 2}


def test_an_adapter_adds_classes_to_what_it_has() -> None:
    """Layers keep training, its scores decide, and without classes it is the same adapter."""
    rng = np.random.default_rng(5)
    model = small_base(rng)
    elm = pack_model(model)
    session = Session(elm, bytes([2, 2]), "frozen_a", 2)
    x = rng.integers(-128, 128, (12, 5)).astype(np.int8)
    session.begin(1)
    for i, one in enumerate(x):
        session.train(one, i % 3, 30000)
    plain = session.save()
    session.use(plain)
    row = session.class_row(x[:4], 3, "wave")
    waving = session.with_record(plain, CLASSES, pack_classes([row]))
    assert unpack_adapter(waving, model).classes[0].name == "wave"
    assert session.with_record(waving, CLASSES, None) == plain
    session.use(waving)
    named, loss = session.evaluate(x[0], 3)
    p = session.infer(x[0]), session.probabilities()[3] / 32768
    assert named == p[0] and loss / 4096 == pytest.approx(-np.log(max(p[1], 1e-9)), abs=0.02)
    with pytest.raises(TwinError, match="not a class"):
        session.evaluate(x[0], 4)
    session.load(waving)
    session.train(x[1], 1, 30000)
    assert unpack_adapter(session.save(), model).classes[0].bias == row.bias


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.reverse(), "ascend"),
        (lambda rows: setattr(rows[1], "name", ""), "has no name"),
        (lambda rows: setattr(rows[0], "name", "rest"), "has a name"),
        (lambda rows: setattr(rows[0], "bias", 1 << 30), "a bias of"),
        (lambda rows: setattr(rows[0], "samples", 0), "no samples"),
        (lambda rows: rows.extend(ClassRow(10 + i, "x", 1, 0, rows[0].row) for i in range(16)), "the limit is 16"),
        (lambda rows: [setattr(row, "row", row.row[:-1]) for row in rows], "inputs, the model has"),
    ],
)
def test_broken_classes_are_refused_by_host_and_core(change, words: str) -> None:
    model = small_base(np.random.default_rng(6))
    session = Session(pack_model(model), bytes(2), "infer")
    row = np.ones(INPUTS, np.int16)
    rows = [ClassRow(0, "", 1, 5, row), ClassRow(4, "wave", 1, 5, row)]
    good = session.with_record(None, CLASSES, pack_classes(rows))
    assert unpack_adapter(good, model).classes[1].number == 4
    change(rows)
    body = pack_classes(rows)
    with pytest.raises(TwinError, match="inconsistent"):
        session.with_record(None, CLASSES, body)
    data = bytearray(good[:48] + struct.pack("<HHI", CLASSES, 1, len(body)) + body)
    struct.pack_into("<I", data, 8, len(data))
    struct.pack_into("<I", data, 12, zlib.crc32(data[16:]))
    broken = bytes(data)
    with pytest.raises(FormatError, match=words):
        unpack_adapter(broken, model)
    with pytest.raises(TwinError, match="inconsistent"):
        session.use(broken)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "does not know"),
        (b"\1", "inconsistent"),
        (struct.pack("<HH", 0, INPUTS), "inconsistent"),
        (struct.pack("<HH", 1, INPUTS - 1), "inconsistent"),
    ],
)
def test_records_that_hold_no_class_are_refused(body: bytes, words: str) -> None:
    model = small_base(np.random.default_rng(6))
    session = Session(pack_model(model), bytes(2), "infer")
    with pytest.raises(TwinError, match=words):
        session.with_record(None, CLASSES, body)


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_training_starts_from_an_adapter_of_classes_alone(mode: str) -> None:
    """An adapter without layers is loaded like an untrained one with seed 0 and these classes."""
    model = small_base(np.random.default_rng(6))
    row = ClassRow(4, "wave", 1, 5, np.ones(INPUTS, np.int16))
    loaded, begun = (Session(pack_model(model), bytes([2, 2]), mode, 1) for _ in range(2))
    alone = loaded.with_record(None, CLASSES, pack_classes([row]))
    loaded.load(alone)
    begun.begin(0)
    assert loaded.with_record(loaded.save(state=True), CLASSES, None) == begun.save(state=True)
    assert unpack_adapter(loaded.save(), model).classes[0].name == "wave"


def test_a_base_without_room_for_classes_says_so() -> None:
    model = small_base(np.random.default_rng(7))
    model.class_stats = None
    session = Session(pack_model(model), bytes(2), "infer")
    with pytest.raises(TwinError, match="needs statistics of its last layer"):
        session.class_row(np.zeros((3, 5), np.int8), 3, "wave")
    x, y = np.zeros((6, 1, 1, 5), np.float32), np.arange(6) % 3
    assert class_stats.spread(model, x, y[:6] // 2) is None  # no spread
    assert "quantize it from its float network" in no_room(model)
    model.loss = "mean_squared_error"
    assert "ends in dense of" in no_room(model) and "mean_squared_error" in no_room(model)
    probable = random_model(1, "small", ("dense", "softmax"), loss="cross_entropy")
    assert probable.ops[-1].kind == "softmax" and "make it without" in no_room(probable)


def test_a_name_that_no_record_can_hold_is_refused_before_the_board_is_asked() -> None:
    model = small_base(np.random.default_rng(0))
    base = Base("small.elm", pack_model(model), model)
    data = Dataset(np.zeros((8, 1, 1, 5), np.float32), np.repeat([0, 1], 4), ["hop", "\u0645\u0648\u062c\u0629" * 4])
    with pytest.raises(InputError, match="takes 32 bytes"):
        add_classes(cast(Any, None), base, data, None)
