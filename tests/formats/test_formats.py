"""`.elm` and `.ela`: round trips, the layout of SPEC.md, and an error for every broken rule."""

import dataclasses
import hashlib
import os
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from class_cases import drawn_class_stats
from random_models import random_adapter, random_input, random_model
from reference import Trainer, forward, softmax_constants

from edgelora.core.formats.classes import ClassRow, pack_classes
from edgelora.core.formats.ela import CLASSES, MONITOR, Adapter, pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.network import LOSSES, Op, QuantModel, Tensor
from edgelora.core.twin.binding import TwinError, check_model
from edgelora.core.twin.session import Session

HEADER, TENSOR, OP = 68, 12, 36
ADAPTER_HEADER, LAYER = 48, 12


def _model(seed: int = 4) -> QuantModel:
    return random_model(seed, "small", ("conv", "average_pool", "conv", "mean", "dense"))


def _adapter(state: bool = True, trainable_a: bool = True, momentum: int = 3) -> tuple[QuantModel, Adapter]:
    """An adapter of a small model, with training state after a few updates."""
    model, rng = _model(), np.random.default_rng(1)
    model.class_stats = drawn_class_stats(rng, model.tensors[-2].size, model.output.size)
    adapter = random_adapter(rng, model, trainable_a, momentum, ranks={0: 5, 2: 3, 4: 2})
    adapter.threshold = 5
    trainer = Trainer(model, adapter)
    for _ in range(4):
        trainer.train(random_input(rng, model), int(rng.integers(model.output.shape[2])), 8192)
    return model, trainer.export(state)


def _sealed(data: bytearray, model: bool = True) -> bytes:
    """The data with its size, base id and CRC corrected."""
    struct.pack_into("<I", data, 8, len(data))
    if model:
        data[16:24] = hashlib.sha256(data[24:]).digest()[:8]
    struct.pack_into("<I", data, 12, zlib.crc32(data[16:]))
    return bytes(data)


# --- Models ---


@pytest.mark.parametrize("seed", range(60))
def test_model_round_trip(seed: int) -> None:
    model = random_model(seed, "medium" if seed % 2 else "small", loss=LOSSES[seed % 3])
    data = pack_model(model)
    again = unpack_model(data)
    assert pack_model(again) == data
    assert again.tensors == model.tensors
    assert (again.labels, again.loss) == (model.labels, model.loss)
    for op, mine in zip(again.ops, model.ops, strict=True):
        assert op.weight_scale is None
        assert (op.inputs, op.axis) == (mine.inputs, mine.axis)
        for name in ("weights", "bias", "multiplier", "shift", "table", "slope", "exponentials"):
            assert np.array_equal(getattr(op, name), getattr(mine, name)), name
    x = random_input(np.random.default_rng(seed), model)
    assert forward(again, x).logits.tolist() == forward(model, x).logits.tolist()


def test_model_layout() -> None:
    """Every field of a two-layer model, parsed by the test itself."""
    scale = float(np.float32(0.1))
    weights = np.arange(-3, 3, dtype=np.int8).reshape(2, 1, 1, 3)
    ints = {"bias": np.array([5, -6], np.int32), "multiplier": np.array([7, 2**31 - 1], np.int32)}
    dense = Op("dense", 1, 2, weights=weights, shift=np.array([-8, 2], np.int8), act_min=-9, mask_low=True, **ints)
    dense.t_shift, dense.branch_shift = 10, -11
    pool = Op("average_pool", 0, 1, (2, 2), (3, 1), (1, 1), (1, 1), mask_high=True, act_max=99)
    tensors = [Tensor((1, 3, 1), scale, -7), Tensor((1, 3, 1), scale, -7), Tensor((1, 1, 2), 0.25, 12)]
    data = pack_model(QuantModel(tensors, [pool, dense], ["no", "sí"]))
    magic, version, header, size, crc = struct.unpack_from("<4sHHII", data)
    assert (magic, version, header, size, crc) == (b"ELM1", 2, HEADER, len(data), zlib.crc32(data[16:]))
    assert data[16:24] == hashlib.sha256(data[24:]).digest()[:8] == base_id(data)
    assert struct.unpack_from("<HHIII", data, 24) == (3, 2, HEADER, HEADER + 3 * TENSOR, len(data) - 6)
    assert (data[-6:].decode(), struct.unpack_from("<II", data, 40)) == ("no\nsí", (6, 1 << 14))
    assert list(struct.unpack_from("<8H", data, 48)) == softmax_constants(unpack_model(data))[1]
    assert data[64:68] == bytes(4)
    assert struct.unpack_from("<3HbBf", data, HEADER) == (1, 3, 1, -7, 0, scale)
    at = HEADER + 3 * TENSOR
    assert struct.unpack_from("<BBHH8B2b2bHIIII", data, at) == (
        *(3, 2, 0, 1),
        *(2, 2, 3, 1, 1, 1, 1, 1),
        *(-128, 99, 0, 0, 0),
        *(0, 0, 0, 0),
    )
    fields = struct.unpack_from("<BBHH8B2b2bHIIII", data, at + OP)
    start = at + 2 * OP
    assert fields[:17] == (1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 0, 0, -9, 127, 10, -11, 0)
    assert fields[17:] == (start, start + 8, start + 16, start + 24)
    folded = (5 - 7 * 6, -6 + 7 * 3)  # zero point -7, sums of the weights -6 and 3
    assert data[start : start + 28] == struct.pack("<6B2x2i2i2b2x", *range(125, 131), *folded, 7, 2**31 - 1, -8, 2)


def test_graph_layout() -> None:
    """The fields of ops with a second input, tables or an axis, parsed by the test itself."""
    grid = (0.5, 3)
    tensors = [Tensor((1, 2, 3), *grid), Tensor((1, 2, 6), *grid), Tensor((1, 2, 6), 0.25, 0), Tensor((1, 2, 6), *grid)]
    pair = {"multiplier": np.array([1, 2, 3], np.int32), "shift": np.array([-1, 0, -31], np.int8)}
    table, slope = np.arange(-128, 128).astype(np.int8), np.full(256, -127, np.int8)
    ops = [
        Op("concatenate", 0, 1, input2=0, axis=3),
        Op("lookup", 1, 2, table=table, slope=slope, shift=np.array([-7], np.int8)),
        Op("add", 2, 3, input2=1, act_min=-9, mask_low=True, **pair),
    ]
    data = pack_model(QuantModel(tensors, ops, loss="mean_squared_error"))
    assert data[64:68] == bytes([2, 0, 0, 0])
    at = HEADER + 4 * TENSOR
    joined, looked, added = (struct.unpack_from("<BBHH8B2b2bHIIII", data, at + i * OP) for i in range(3))
    assert joined == (8, 0, 0, 1, *(3, 1), *[1] * 4, 0, 0, -128, 127, 0, 0, 0, *[0] * 4)
    start = at + 3 * OP
    assert looked[:6] == (11, 0, 1, 2, 1, 1) and looked[17:] == (start, start + 256, 0, start + 512)
    assert data[start : start + 516] == table.tobytes() + slope.tobytes() + struct.pack("<b3x", -7)
    assert added[:4] == (7, 1, 2, 3) and added[16:] == (1, 0, 0, start + 516, start + 528)
    assert data[start + 516 : start + 532] == struct.pack("<3i3bx", 1, 2, 3, -1, 0, -31)


def test_a_model_with_any_bit_flipped_is_refused() -> None:
    data = pack_model(random_model(2, "small", ("dense",)))
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        with pytest.raises(FormatError):
            unpack_model(bytes(broken))


@pytest.mark.parametrize("keep", [0, 3, 20, 67, 68, 200, -1])
def test_a_cut_model_is_refused(keep: int) -> None:
    with pytest.raises(FormatError):
        unpack_model(pack_model(_model())[:keep])


def test_damage_is_named() -> None:
    data = bytearray(pack_model(_model()))
    data[-1] ^= 1
    with pytest.raises(FormatError, match=rf"har.elm: CRC-32 is {zlib.crc32(data[16:]):08x}, the file says .*damaged"):
        unpack_model(bytes(data), "har.elm")


OP_AT = HEADER + 6 * TENSOR  # of _model(), which has six tensors


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_the_loss_of_a_narrow_grid_spans_16_nats(loss: str) -> None:
    """A narrower grid counts as 16 nats; a file with the tensor's own scale is refused. A wider grid counts as is."""
    for nats, counted in ((1.6, 16), (15.9, 16), (16.1, 16.1), (60, 60)):
        model = _one_layer(loss, nats / 255)
        data = pack_model(model)
        (logit_scale,) = struct.unpack_from("<I", data, 44)
        assert logit_scale == pytest.approx(65536 * counted / 255, abs=0.51)
        first, *_ = struct.unpack_from("<8H", data, 48)
        assert first == pytest.approx(65536 * np.exp(-counted / 255), abs=0.51)
        assert pack_model(unpack_model(data)) == data
        own = bytearray(data)
        struct.pack_into("<I", own, 44, round(65536 * nats / 255))
        if nats < 16:
            with pytest.raises(FormatError, match="logit_scale or E"):
                unpack_model(_sealed(own))
    values = struct.unpack_from("<I", pack_model(_one_layer("mean_squared_error", 1.6 / 255)), 44)
    assert values == (round(65536 * 1.6 / 255),)


def _one_layer(loss: str, scale: float) -> QuantModel:
    ints = {"bias": np.zeros(2, np.int32), "multiplier": np.full(2, 1 << 30, np.int32), "shift": np.zeros(2, np.int8)}
    dense = Op("dense", 0, 1, weights=np.ones((2, 1, 1, 3), np.int8), **ints)
    return QuantModel([Tensor((1, 3, 1), 0.1, 0), Tensor((1, 1, 2), scale, 0)], [dense], [], loss)


@pytest.mark.parametrize(
    ("layout", "at", "value", "words"),
    [
        ("<4s", 0, b"ELA1", "not a model"),
        ("<H", 4, 1, "version is 1, must be 2"),
        ("<H", 6, 60, "header size is 60"),
        ("<H", 24, 5, "tensors for a graph"),
        ("<H", 24, 60000, "tensor table ends"),
        ("<H", 26, 0, "0 ops"),
        ("<I", 28, 70, "not a multiple of 4"),
        ("<I", 32, 1 << 31, "op table ends"),
        ("<I", 40, 1 << 20, "labels ends"),
        ("<I", 44, 77, "logit_scale"),
        ("<H", 48, 77, "logit_scale or E"),
        ("<B", 64, 3, "loss 3 is unknown"),
        ("<B", 65, 4, "byte 65 is 4"),
        ("<H", 66, 65535, "the signal ends at"),
        ("<H", 66, 3, "signal is at 12, in the header"),
        ("<H", HEADER, 0, "tensor 0: shape"),
        ("<B", HEADER + 7, 2, "byte 7 of tensor 0"),
        ("<f", HEADER + 8, float("nan"), "scale nan"),
        ("<f", HEADER + 8, -1.0, "scale -1.0"),
        ("<B", OP_AT, 200, "kind 200"),
        ("<B", OP_AT, 0, "kind 0"),
        ("<B", OP_AT + 1, 16, "flags 0x10"),
        ("<H", OP_AT + 2, 1, "op 0 .conv. reads tensor 1, only 0 to 0"),
        ("<H", OP_AT + OP + 2, 0, "no op reads the output of op 0"),
        ("<H", OP_AT + 4, 3, "writes tensor 3, must write 1"),
        ("<B", OP_AT + 6, 0, "kernel"),
        ("<B", OP_AT + 9, 0, "stride"),
        ("<B", OP_AT + 10, 0, "dilation"),
        ("<2b", OP_AT + 14, (5, 4), "is empty"),
        ("<H", OP_AT + 18, 1, "input2 is 1, this kind has none"),
        ("<b", OP_AT + OP + 16, 1, "t_shift and branch_shift must be 0"),
        ("<I", OP_AT + 20, 0, "weights of op 0 has no offset"),
        ("<I", OP_AT + 24, 90001, "bias of op 0 is at 90001"),
        ("<I", OP_AT + OP + 20, 64, "average_pool has none"),
        ("<B", OP_AT + 3 * OP + 6, 2, "kernel"),
    ],
)
def test_broken_rules_of_a_model_are_told(layout: str, at: int, value: object, words: str) -> None:
    data = bytearray(pack_model(_model()))
    struct.pack_into(layout, data, at, *(value if isinstance(value, tuple) else (value,)))
    with pytest.raises(FormatError, match=words):
        unpack_model(_sealed(data))


def test_a_weight_byte_of_zero_is_refused() -> None:
    data = bytearray(pack_model(_model()))
    data[struct.unpack_from("<I", data, OP_AT + 20)[0]] = 0
    with pytest.raises(FormatError, match="a weight of op 0 is 0"):
        unpack_model(_sealed(data))


def test_unused_bytes_must_be_zero_and_labels_utf8() -> None:
    data = pack_model(_model())
    with pytest.raises(FormatError, match="unused bytes"):
        unpack_model(_sealed(bytearray(data + b"\0\1")))
    assert unpack_model(_sealed(bytearray(data + b"\0\0"))).labels == _model().labels
    broken = bytearray(data)
    broken[-2:] = b"\xff\xff"
    with pytest.raises(FormatError, match="UTF-8"):
        unpack_model(_sealed(broken))


def test_base_id_is_checked_independently_of_other_checksums() -> None:
    data = bytearray(pack_model(_model()))
    data[16] ^= 1
    with pytest.raises(FormatError, match="base id is"):
        unpack_model(_sealed(data, model=False))


def _set(path: str, value: object) -> Callable[[QuantModel], None]:
    """Returns a change of `ops[0]` or, for `path` "tensor n field", of a tensor."""

    def change(model: QuantModel) -> None:
        if path.startswith("tensor"):
            _, index, name = path.split()
            model.tensors[int(index)] = dataclasses.replace(model.tensors[int(index)], **{name: value})
        else:
            setattr(model.ops[0], path, value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("weights", None), "weights of op 0.*missing"),
        (_set("weights", np.zeros((1, 1, 1, 1), np.int8)), "weights of op 0.*shape"),
        (_set("bias", np.zeros(3, np.int64)), "bias of op 0"),
        (_set("kernel", (256, 1)), "kernel"),
        (_set("act_min", -129), "not int8"),
        (_set("kind", "gru"), "kind must be one of"),
        (_set("input2", 1), "input2"),
        (lambda model: setattr(model, "loss", "hinge"), "loss 'hinge'"),
        (lambda model: model.ops[0].weights.fill(-128), "weight of -128"),
        (_set("tensor 0 zero_point", 128), "zero point"),
        (_set("tensor 0 scale", 0.0), "scale"),
        (_set("tensor 1 scale", 9.0), "share scale"),
        (_set("tensor 5 shape", (1, 2, 4)), "one position"),
        (_set("tensor 5 shape", (1, 1, 1)), "1 outputs"),
        (lambda model: model.ops[0].multiplier.fill(-1), "negative multiplier"),
        (lambda model: model.labels.append("a\nb"), "newline"),
        (lambda model: model.ops.clear(), "0 ops"),
        (lambda model: setattr(model.ops[1], "padding", (0, 200)), "outside the input"),
        (lambda model: setattr(model.ops[1], "dilation", (1, 2)), "dilation"),
        (lambda model: setattr(model.ops[1], "weights", np.zeros(4, np.int8)), "this kind has none"),
        (lambda model: setattr(model.ops[3], "kernel", (1, 2)), "kernel"),
    ],
)
def test_broken_models_are_not_written(change: Callable[[QuantModel], None], words: str) -> None:
    model = _model()
    change(model)
    with pytest.raises(FormatError, match=words):
        pack_model(model)


def _graph() -> QuantModel:
    """A model with every kind that `_model` lacks, each at a known index."""
    middle = ("residual", "branches", "slice", "pad", "history", "reshape", "multiply", "minimum", "prelu", "gather")
    kinds = ("depthwise", "max_pool", *middle, "lookup", "softmax")
    model = random_model(6, "medium", kinds, edges=False)
    assert [op.kind for op in model.ops[:2]] == ["depthwise", "max_pool"]
    return model


def _first(kind: str, **fields: object) -> Callable[[QuantModel], None]:
    """Returns a change of the first op of a kind."""

    def change(model: QuantModel) -> None:
        op = next(op for op in model.ops if op.kind == kind)
        for name, value in fields.items():
            setattr(op, name, value)

    return change


def _output(kind: str, **fields: object) -> Callable[[QuantModel], None]:
    """Returns a change of the output tensor of the first op of a kind."""

    def change(model: QuantModel) -> None:
        at = next(op.output for op in model.ops if op.kind == kind)
        model.tensors[at] = dataclasses.replace(model.tensors[at], **fields)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_first("depthwise", bias=None), "bias of op 0.*missing"),
        (_first("max_pool", dilation=(2, 1)), "dilation"),
        (_output("max_pool", zero_point=1, scale=7.0), "share scale"),
        (_first("add", input2=0), "can't be a second input"),
        (_first("add", kernel=(2, 1)), "kernel"),
        (_first("concatenate", axis=4), "axis 4"),
        (_output("concatenate", shape=(1, 1, 1)), "can't be concatenated"),
        (_output("concatenate", scale=3.0), "share scale"),
        (_first("concatenate", act_min=0), "output range"),
        (_first("slice", axis=0), "axis 0"),
        (_first("slice", start=-1), "not a slice along axis"),
        (_first("slice", start=60), "not a slice along axis"),
        (_output("slice", scale=3.0), "share scale"),
        (_first("pad", start=1), "start 1, must be 0"),
        (_output("history", shape=(1, 1, 1)), "must have more elements"),
        (_output("history", zero_point=77), "share scale"),
        (_first("history", initial=np.zeros(3, np.int8)), "initial of op .* shape"),
        (_first("pad", padding=(255, 0)), "smaller than the input and its padding"),
        (_first("pad", stride=(1, 2)), "smaller than the input"),
        (_first("reshape", stride=(1, 2)), "stride"),
        (_first("add", multiplier=np.array([-(2**31), 1, 1], np.int32)), "multiplier of -2.31"),
        (_first("add", multiplier=np.array([1, 1, -1], np.int32)), "negative multiplier -1"),
        (_first("multiply", multiplier=np.array([-1], np.int32)), "negative multiplier -1"),
        (_first("multiply", multiplier=None), "multiplier of op .*missing"),
        (_output("multiply", shape=(1, 1, 1)), "must be equal"),
        (_output("minimum", scale=3.0), "share scale"),
        (_first("prelu", multiplier=np.array([1], np.int32)), "multiplier of op .* shape"),
        (_first("constant", input=1), "input is 1, this kind has none"),
        (_first("constant", values=None), "values of op .*missing"),
        (_first("gather", axes=(2, 2)), "axes"),
        (_first("gather", axes=(0, 2)), "axes"),
        (_first("gather", positions=np.full(3, 9, np.uint16)), "positions of op .* shape"),
        (_first("reshape", mask_high=True), "flags"),
        (_output("reshape", shape=(1, 1, 1)), "same number of elements"),
        (_first("lookup", table=None), "table of op .*missing"),
        (_first("lookup", slope=np.full(256, -128, np.int8)), "slope of -128"),
        (_first("lookup", weights=np.zeros(256, np.int8)), "this kind has none"),
        (_first("softmax", exponentials=np.zeros(256, np.int32)), "exponentials"),
        (_first("softmax", shift=np.array([63, 0], np.int8)), "mantissa 63"),
        (_output("softmax", zero_point=0), "must be \\(0.00390625, -128\\)"),
    ],
)
def test_broken_graphs_are_not_written(change: Callable[[QuantModel], None], words: str) -> None:
    model = _graph()
    pack_model(model)
    change(model)
    with pytest.raises(FormatError, match=words):
        pack_model(model)


# --- Adapters ---


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("trainable_a", [False, True])
@pytest.mark.parametrize("momentum", [0, 3])
def test_adapter_round_trip(state: bool, trainable_a: bool, momentum: int) -> None:
    model, adapter = _adapter(state, trainable_a, momentum)
    data = pack_adapter(adapter)
    assert pack_adapter(unpack_adapter(data)) == data
    for again in (unpack_adapter(data, model), unpack_adapter(data, model, adapter.base_id)):
        assert pack_adapter(again) == data
        assert again.has_state == state
        for mine, theirs in zip(again.layers, adapter.layers, strict=True):
            assert np.array_equal(mine.a, theirs.a)
            assert np.array_equal(mine.b, theirs.b)
    stored = dataclasses.replace(adapter, a_stored=True)
    assert unpack_adapter(pack_adapter(stored), model).a_stored


def test_adapter_layout() -> None:
    _, adapter = _adapter()
    adapter.layers = adapter.layers[:1]
    layer, data = adapter.layers[0], pack_adapter(adapter)
    (rank, patch), outputs = layer.a.shape, len(layer.b)
    assert struct.unpack_from("<4sHHII", data) == (b"ELA1", 1, ADAPTER_HEADER, len(data), zlib.crc32(data[16:]))
    assert data[16:24] == adapter.base_id
    fields = struct.unpack_from("<IHHIIHHI", data, 24)
    assert fields == (adapter.seed, 7, 1, adapter.updates, adapter.draws, 3, 5, adapter.samples)
    record = struct.unpack_from("<4HbbH", data, ADAPTER_HEADER)
    assert record == (layer.op, rank, outputs, patch, layer.t_shift, layer.branch_shift, 0)
    body = b""
    for matrix in (layer.a, layer.b):
        body += matrix.tobytes() + bytes(-matrix.size % 4)
    for state in (layer.a_state, layer.b_state):
        body += struct.pack("<Hh", state.vm, state.vx)
        for array in (state.master, state.momentum):
            body += array.astype("<i2").tobytes() + bytes(2 * array.size % 4)
    assert data[ADAPTER_HEADER + LAYER :] == body


def _records(model: QuantModel) -> dict[int, bytes]:
    """A record of each kind, valid for this model."""
    assert model.class_stats
    row = np.arange(model.class_stats.rows.shape[1], dtype=np.int16)
    return {CLASSES: pack_classes([ClassRow(model.output.size, "wave", 3, 7, row)]), MONITOR: b"usual"}


@pytest.mark.parametrize(("state", "trainable_a"), [(False, False), (True, False), (True, True)])
def test_records_lie_behind_layers_and_state(state: bool, trainable_a: bool) -> None:
    """The core adds and removes records like the host; `load` keeps them, sums have none."""
    model, adapter = _adapter(state, trainable_a, 0)
    plain, records = pack_adapter(adapter), _records(model)
    both = pack_adapter(dataclasses.replace(adapter, records=records))
    tail = b"".join(
        struct.pack("<HHI", kind, 1, len(body)) + body + bytes(-len(body) % 4) for kind, body in records.items()
    )
    assert (len(both), both[len(plain) :], both[28]) == (len(plain) + len(tail), tail, plain[28] | 8)
    assert unpack_adapter(both, model).records == records
    mode = "trainable_a" if trainable_a else "frozen_a"
    session = Session(pack_model(model), adapter.ranks(len(model.ops)), mode, threshold=adapter.threshold)
    second = session.with_record(plain, MONITOR, records[MONITOR])
    assert session.with_record(second, CLASSES, records[CLASSES]) == both
    assert session.with_record(session.with_record(both, CLASSES, None), MONITOR, None) == plain
    assert session.with_record(both, MONITOR, b"u") == session.with_record(
        session.with_record(both, MONITOR, None), MONITOR, b"u"
    )
    session.load(both)
    saved = session.save(state)
    assert unpack_adapter(saved).records == records and (saved == both or not state)
    assert not unpack_adapter(session.blend([both], [4096])).records
    session.begin(3)
    assert not unpack_adapter(session.save()).records


def test_records_alone_are_an_adapter_of_the_bare_base() -> None:
    model, _ = _adapter()
    records = _records(model)
    elm, x = pack_model(model), random_input(np.random.default_rng(3), model)
    session = Session(elm, bytes([4, 0, 4, 0, 4]), "frozen_a")
    session.infer(x)
    output = session.logits
    alone = session.with_record(None, CLASSES, records[CLASSES])
    assert alone == pack_adapter(Adapter(base_id(elm), 0, records={CLASSES: records[CLASSES]}))
    assert unpack_adapter(alone, model).layers == [] and session.with_record(alone, CLASSES, None) == b""
    session.use(alone)
    session.infer(x)
    assert session.logits.tolist() == output.tolist()
    session.load(alone)
    session.train(x, 0, 60000)
    trained = unpack_adapter(session.save(), model)
    assert (trained.records, len(trained.layers), trained.samples) == ({CLASSES: records[CLASSES]}, 3, 1)
    with pytest.raises(TwinError, match="added up"):
        session.blend([alone], [4096])


@pytest.mark.parametrize(
    ("layout", "at", "value", "words"),
    [
        ("<H", -16, 3, "kind 3"),
        ("<H", -14, 2, "version 2"),
        ("<H", -16, 0, "kind 0"),
        ("<H", -16, 1, "ascending"),
        ("<I", -12, 1 << 20, "ends at"),
        ("<I", -12, 0xFFFFFFFD, "ends at"),
        ("<I", -12, 9, "ends at"),
        ("<B", -1, 1, "padding"),
    ],
)
def test_broken_rules_of_records_are_told(layout: str, at: int, value: int, words: str) -> None:
    model, adapter = _adapter()
    data = bytearray(
        pack_adapter(dataclasses.replace(adapter, records={CLASSES: _records(model)[CLASSES], MONITOR: b"12345"}))
    )
    struct.pack_into(layout, data, len(data) + at, value)
    broken = _sealed(data, model=False)
    with pytest.raises(FormatError, match=words):
        unpack_adapter(broken, model)
    session = Session(pack_model(model), bytes(len(model.ops)), "infer")
    with pytest.raises(TwinError, match="does not know|inconsistent"):
        session.use(broken)


def test_an_adapter_of_another_base_is_refused() -> None:
    _, adapter = _adapter()
    other = _model(5)
    mine, its = adapter.base_id, base_id(pack_model(other))
    with pytest.raises(FormatError, match=f"adapter me.ela was made for base {mine.hex()}, this model is {its.hex()}"):
        unpack_adapter(pack_adapter(adapter), other, its, "me.ela")
    with pytest.raises(FormatError, match="the model has|carry adapters"):
        unpack_adapter(pack_adapter(adapter), random_model(9, "small", ("mean", "dense")), adapter.base_id)


def test_an_adapter_with_any_bit_flipped_or_cut_is_refused() -> None:
    _, adapter = _adapter()
    adapter.layers = adapter.layers[-1:]
    data = pack_adapter(adapter)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        with pytest.raises(FormatError):
            unpack_adapter(bytes(broken))
        with pytest.raises(FormatError):
            unpack_adapter(data[:at])


@pytest.mark.parametrize(
    ("layout", "at", "value", "words"),
    [
        ("<4s", 0, b"ELM1", "not an adapter"),
        ("<H", 4, 0, "version is 0"),
        ("<H", 6, 64, "header size is 64"),
        ("<H", 28, 16, "unknown bits"),
        ("<H", 28, 6, "not stored"),
        ("<H", 28, 5, "left over"),
        ("<H", 30, 60000, "layer table ends"),
        ("<H", 30, 0, "no layers"),
        ("<H", ADAPTER_HEADER, 63, "ascending|ops"),
        ("<H", ADAPTER_HEADER + 2, 0, "rank 0"),
        ("<H", ADAPTER_HEADER + 4, 0, "no outputs"),
        ("<H", ADAPTER_HEADER + 6, 0, "patches of 0"),
        ("<H", ADAPTER_HEADER + 6, 3000, "ends at"),
        ("<H", ADAPTER_HEADER + 10, 1, "u16 at 10"),
    ],
)
def test_broken_rules_of_an_adapter_are_told(layout: str, at: int, value: object, words: str) -> None:
    model, adapter = _adapter()
    data = bytearray(pack_adapter(adapter))
    struct.pack_into(layout, data, at, value)
    with pytest.raises(FormatError, match=words):
        unpack_adapter(_sealed(data, model=False), model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda adapter: setattr(adapter, "base_id", b"1234"), "base id has 4"),
        (lambda adapter: setattr(adapter, "seed", 1 << 32), "seed is"),
        (lambda adapter: setattr(adapter, "a_stored", False), "not stored"),
        (lambda adapter: adapter.layers.reverse(), "ascending"),
        (lambda adapter: adapter.layers.clear(), "no layers"),
        (lambda adapter: adapter.records.update({3: b"?"}), "kind 3"),
        (lambda adapter: setattr(adapter.layers[0], "b_state", None), "state of B is missing"),
        (lambda adapter: setattr(adapter.layers[0], "a_state", None), "state of A is missing"),
        (lambda adapter: setattr(adapter.layers[0].b_state, "momentum", None), "momentum is missing"),
        (lambda adapter: setattr(adapter.layers[0].b_state, "vm", 5), "not normalized"),
        (lambda adapter: adapter.layers[0].b_state.master.__iadd__(256), "do not agree"),
        (lambda adapter: setattr(adapter, "threshold", -1), "threshold -1"),
        (lambda adapter: adapter.layers[0].b.fill(-128), "weight of -128"),
        (lambda adapter: setattr(adapter.layers[0], "b", adapter.layers[0].b.astype(np.int16)), "type is int16"),
    ],
)
def test_broken_adapters_are_not_written(change: Callable[[Adapter], object], words: str) -> None:
    _, adapter = _adapter()
    change(adapter)
    with pytest.raises(FormatError, match=words):
        pack_adapter(adapter)


# --- Writing ---


def test_write_atomic_replaces_a_file_or_leaves_it(tmp_path, monkeypatch) -> None:
    path = tmp_path / "me.ela"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="no space"):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["me.ela"]


def test_slopes_and_outputs_are_constants_and_computed() -> None:
    """A PReLU's slopes must be a constant; a network's output must not be one."""
    tensors = [Tensor((1, 1, 4), 0.1, 0)] * 3
    values = np.zeros((1, 1, 4), np.int8)
    multiplier, shift = np.full(2, 1 << 30, np.int32), np.zeros(2, np.int8)
    slopes = [Op("constant", 0, 1, values=values), Op("lookup", 0, 1, table=np.zeros(256, np.int8))]
    slopes[1].slope, slopes[1].shift = np.zeros(256, np.int8), np.zeros(1, np.int8)
    for first, words in zip(slopes, ("", "must be a constant"), strict=True):
        prelu = Op("prelu", 0, 2, input2=1, multiplier=multiplier, shift=shift)
        model = QuantModel(tensors, [first, prelu], loss="mean_squared_error")
        if not words:
            assert check_model(pack_model(model)) is None
            continue
        with pytest.raises(FormatError, match=words):
            pack_model(model)
    with pytest.raises(FormatError, match="the output is a constant"):
        pack_model(QuantModel(tensors[:2], [slopes[0]], loss="mean_squared_error"))
