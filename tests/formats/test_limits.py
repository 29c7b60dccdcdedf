"""The limits have one source: the host's checks, the core's and SPEC's table agree at each limit and next to it."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from class_cases import INPUTS, KNOWN, small_base
from fresh import fresh_seeds

from edgelora.base.resources import ROOT
from edgelora.core.formats import ela, elm, limits
from edgelora.core.formats.classes import ClassRow, ClassStats
from edgelora.core.formats.ela import Adapter, AdapterLayer, TensorState, check_adapter_fits, pack_adapter
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.fixed_point import SOFTMAX_GRID
from edgelora.core.formats.network import PAIR_KINDS, Op, QuantModel, Tensor, layer_size
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin import binding
from edgelora.core.twin.binding import TwinError, check_model
from edgelora.core.twin.session import Session

CORE = ROOT / "micropython_module" / "core"
Shape = tuple[int, int, int]


@pytest.mark.parametrize(
    ("what", "path"), [("header", "micropython_module/core/edgelora_limits.h"), ("spec", "SPEC.md")]
)
def test_header_and_table_are_made_from_the_source(what: str, path: str) -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "limits.py", what], capture_output=True, text=True, check=True
    )
    assert (ROOT / path).read_text() == made.stdout, "make tables"


def test_the_core_has_every_limit() -> None:
    core = "".join(path.read_text() for path in CORE.rglob("*.[ch]") if path.name != "edgelora_limits.h")
    for name in limits.TABLE:
        assert re.search(rf"\bEDGELORA_{name}\b", core), name


# ---- files that break a rule, laid out as a correct packer would
# ------------------------------------------------------


def unchecked(pack: Callable[[], bytes]) -> bytes:
    """Packs a file without the host's checks."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((elm, "_check_structure"), (elm, "_check_values"), (ela, "_check_adapter")):
            patch.setattr(module, name, lambda *args: None)
        return pack()


def host_packs(model: QuantModel) -> bool:
    try:
        pack_model(model)
    except FormatError:
        return False
    return True


def host_reads(data: bytes) -> bool:
    try:
        unpack_model(data)
    except FormatError:
        return False
    return True


def core_takes(data: bytes) -> bool:
    try:
        check_model(data)
    except TwinError as error:
        assert error.status == binding.statuses()["ERR_FORMAT"]
        return False
    return True


def sealed(data: bytes, layout: str, at: int, value: int) -> bytes:
    """A model with a changed field, with base id and CRC corrected."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, at, value)
    changed[16:24] = base_id(changed)
    struct.pack_into("<I", changed, 12, zlib.crc32(changed[16:]))
    return bytes(changed)


# ---- models at a limit ----------------------------------------------------------------------------------------------


def model_of(op: Op, source: Shape, target: Shape, second: Shape | None = None, loss: str = "") -> QuantModel:
    """A model of one op with arrays of ones; its second input, if any, is a constant."""
    grid = SOFTMAX_GRID if op.kind == "softmax" else (0.5, 0)
    model = QuantModel([Tensor(source, 0.5, 0)], [], loss=loss or "mean_squared_error")
    if second:
        model.tensors.append(Tensor(second, 0.5, 0))
        model.ops.append(Op("constant", 0, 1, values=np.ones(second, np.int8)))
        op.input2 = 1
    model.tensors.append(Tensor(target, *grid))
    op.output = len(model.ops) + 1
    model.ops.append(op)
    for slot in filter(None, elm._slots(model, op.output - 1)):
        if not slot.optional:
            setattr(op, slot.attribute, np.ones(slot.shape, np.dtype(slot.dtype)))
    if op.kind == "softmax":
        op.exponentials[0], op.shift[:] = 2**31 - 1, (64, 0)
    if op.kind == "add":
        op.shift[:] = 0
    if op.kind == "lstm":
        op.multiplier[12:] = 2**15
    return model


def split(n: int, most: int = 65535) -> tuple[int, int]:
    """Two factors of n, each at most `most`."""
    return next((a, n // a) for a in range(1, n + 1) if n % a == 0 and n // a <= most)


def chain(n: int) -> QuantModel:
    tensors = [Tensor((1, 1, 2), 0.5, 0) for _ in range(n + 1)]
    return QuantModel(tensors, [Op("reshape", i, i + 1) for i in range(n)])


def dense(n: int, outputs: int = 2) -> QuantModel:
    """A dense layer with n inputs."""
    return model_of(Op("dense", 0, 1), (1, *split(n)), (1, 1, outputs))


def conv(kernel: int, channels: int, outputs: int) -> QuantModel:
    sides = split(kernel, 255)
    return model_of(Op("conv", 0, 1, kernel=sides), (*sides, channels), (1, 1, outputs))


def patch(n: int) -> QuantModel:
    kernel = next(k for k in range(1, n) if n % k == 0 and k > 2)
    return conv(kernel, n // kernel, 2) if kernel <= 255 * 255 else dense(n)


def depthwise(n: int) -> QuantModel:
    return model_of(Op("depthwise", 0, 1, kernel=split(n, 255)), (*split(n, 255), 2), (1, 1, 2))


def pool(n: int) -> QuantModel:
    return model_of(Op("average_pool", 0, 1, kernel=split(n, 255)), (*split(n, 255), 2), (1, 1, 2))


def outputs(loss: str) -> Callable[[int], QuantModel]:
    def make(n: int) -> QuantModel:
        shape = (1, 1, n) if loss == "cross_entropy" else (1, *split(n))
        return model_of(Op("reshape", 0, 1), shape, shape, loss=loss)

    return make


def with_array(kind: str, attribute: str) -> Callable[[int], QuantModel]:
    """An op with an array whose last value is n."""

    def make(n: int) -> QuantModel:
        second = (1, 1, 2) if kind in PAIR_KINDS else None
        model = model_of(Op(kind, 0, 1), (1, 1, 2), (1, 1, 2), second)
        getattr(model.ops[-1], attribute)[-1] = n
        return model

    return make


def lstm(inputs: int, units: int, steps: int = 3) -> QuantModel:
    return model_of(Op("lstm", 0, 1), (1, steps, inputs), (1, 1, units))


def with_value(attribute: str, place: int, kind: str = "lstm") -> Callable[[int], QuantModel]:
    """An lstm, or an SVDF's features, with n in one of its arrays."""

    def make(n: int) -> QuantModel:
        model = lstm(2, 3) if kind == "lstm" else features(2)
        getattr(model.ops[0], attribute).reshape(-1)[place] = n
        return model

    return make


def features(n: int) -> QuantModel:
    """An SVDF's features with n inputs."""
    return model_of(Op("svdf_features", 0, 1), (1, *split(n)), (1, 1, 4))


def with_shift(attribute: str) -> Callable[[int], QuantModel]:
    def make(n: int) -> QuantModel:
        model = dense(3)
        setattr(model.ops[0], attribute, n)
        return model

    return make


def logit_scale(loss: str) -> Callable[[int], QuantModel]:
    def make(n: int) -> QuantModel:
        model = outputs(loss)(2)
        model.tensors[-1] = Tensor((1, 1, 2), n / 65536, 0)
        model.tensors[0] = Tensor((1, 1, 2), n / 65536, 0)
        return model

    return make


def sensed(n: int, window: int = 1, hop: int = 1, front: str = "none") -> QuantModel:
    """A model with an input of n channels, or with a front end of 4 values."""
    values = n if front == "none" else 4
    model = model_of(Op("reshape", 0, 1), (1, 1, values), (1, 1, values))
    normals = tuple(Normal(1) for _ in range(values))
    model.signal = Signal(10, n, window, hop, normals, front)
    return model


def spread(field: str) -> Callable[[int], QuantModel]:
    def make(n: int) -> QuantModel:
        model = small_base(np.random.default_rng(0))
        if field == "biases":
            model.class_stats.biases[1] = n
        else:
            setattr(model.class_stats, field, n)
        return model

    return make


def head(n: int) -> QuantModel:
    """A last layer with n inputs to which classes can be added."""
    model = model_of(Op("dense", 0, 1), (1, 1, n), (1, 1, 2), loss="cross_entropy")
    counts = np.zeros(2, np.int32), np.zeros((2, n), np.int16), np.zeros(n * (n + 1) // 2, np.int16)
    model.class_stats = ClassStats(1, 1, *counts)
    return model


@dataclass(frozen=True)
class Edge:
    """A limit `at`, the nearest possible value within it, and the nearest one beyond it."""

    make: Callable[[int], QuantModel]
    at: int
    within: int  # next to it
    beyond: int


def edge(make: Callable[[int], QuantModel], name: str, within: int = 0, beyond: int = 0) -> tuple[str, Edge]:
    at = getattr(limits, name)
    out = -1 if name.startswith("MIN_") else 1
    return name, Edge(make, at, within or at - out, beyond or at + out)


EDGES = [
    edge(chain, "MAX_OPS"),
    edge(lambda n: model_of(Op("reshape", 0, 1), (1, *split(n)), (1, *split(n))), "MAX_VALUES", beyond=65538),
    edge(lambda n: model_of(Op("mean", 0, 1), (1, *split(n)), (1, 1, split(n)[1])), "MAX_ELEMENTS"),
    edge(lambda n: model_of(Op("mean", 0, 1), (*split(n, 60000), 2), (1, 1, 2)), "MAX_POSITIONS"),
    edge(dense, "MAX_PATCH"),
    edge(patch, "MAX_PATCH"),
    edge(lambda n: conv(n // split(n, 4096)[1], 1, split(n, 4096)[1]), "MAX_WEIGHT_ROWS", beyond=65538),
    edge(depthwise, "MAX_DEPTHWISE"),
    *(edge(with_array(kind, "bias"), "MAX_BIAS") for kind in ("dense", "conv", "depthwise")),
    *(
        edge(with_array(kind, "shift"), name)
        for kind in ("dense", "conv", "depthwise", "mean", "multiply", "prelu", "lookup", "softmax", "add")
        for name in (("MIN_SHIFT", "MAX_SHIFT") if kind != "add" else ("MIN_SHIFT", "MAX_ADD_SHIFT"))
    ),
    edge(pool, "MAX_POOLED"),
    edge(lambda n: model_of(Op("add", 0, 1), (1, *split(n)), (1, *split(n)), (1, 1, 1)), "MAX_REPEATED", beyond=65536),
    edge(lambda n: model_of(Op("softmax", 0, 1), (2, 3, n), (2, 3, n)), "MAX_SOFTMAX"),
    edge(lambda n: lstm(n - 3, 3), "MAX_PATCH"),
    edge(features, "MAX_PATCH"),
    *(edge(with_value("bias", place), "MAX_BIAS") for place in (0, -1)),
    *(edge(with_value("shift", place), name) for place in (0, 10) for name in ("MIN_SHIFT", "MAX_SHIFT")),
    *(edge(with_value("shift", 12), name) for name in ("MIN_TANH_SHIFT", "MAX_TANH_SHIFT")),
    edge(with_value("bias", -1, "svdf_features"), "MAX_BIAS"),
    *(edge(with_value("shift", 0, "svdf_features"), name) for name in ("MIN_SHIFT", "MAX_SHIFT")),
    edge(with_shift("t_shift"), "MIN_T_SHIFT"),
    edge(with_shift("t_shift"), "MAX_T_SHIFT"),
    edge(with_shift("branch_shift"), "MIN_BRANCH_SHIFT"),
    edge(with_shift("branch_shift"), "MAX_BRANCH_SHIFT"),
    edge(outputs("cross_entropy"), "MAX_CLASSES"),
    edge(outputs("binary_cross_entropy"), "MAX_BINARY"),
    *(edge(logit_scale(loss), "MAX_LOGIT_SCALE") for loss in ("cross_entropy", "binary_cross_entropy")),
    edge(sensed, "MAX_CHANNELS"),
    edge(lambda n: sensed(2, n // 2, front="audio"), "MAX_WINDOW", (1 << 20) - 2, (1 << 20) + 2),
    edge(lambda n: sensed(2, 1, n), "MAX_HOP"),
    edge(head, "MAX_CLASS_INPUTS"),
    edge(spread("biases"), "MAX_CLASS_BIAS"),
    edge(spread("exponent"), "MAX_SCORE"),
    edge(spread("row_shift"), "MAX_ROW_SHIFT"),
]


@pytest.mark.parametrize(("name", "case"), EDGES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(EDGES)])
def test_host_and_core_agree_around_a_limit_of_models(name: str, case: Edge) -> None:
    for n in (case.within, case.at, case.beyond):
        model, good = case.make(n), n != case.beyond
        data = unchecked(lambda model=model: pack_model(model))
        assert (host_packs(model), core_takes(data), host_reads(data)) == (good, good, good), f"{name}: {n}"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("MIN_LOGIT_SCALE", lambda n: sealed(pack_model(outputs("cross_entropy")(2)), "<I", 44, n)),
        ("MIN_LOGIT_SCALE", lambda n: sealed(pack_model(outputs("binary_cross_entropy")(2)), "<I", 44, n)),
        ("MIN_LOGIT_SCALE", lambda n: sealed(pack_model(head(3)), "<I", 44, n)),  # scores are divided by it
        ("MAX_NORMAL_SHIFT", lambda n: with_normal("<B", 18, n)),
        ("MAX_NORMAL_OFFSET", lambda n: with_normal("<i", 12, n)),
        ("MAX_NORMAL_OFFSET", lambda n: with_normal("<i", 12, -n)),
        ("MAX_NORMAL_MULTIPLIER", lambda n: with_normal("<h", 16, -n)),
    ],
)
def test_the_core_checks_limits_of_values_that_a_host_derives(name: str, make: Callable[[int], bytes]) -> None:
    """Files from other hosts may contain any value."""
    at, out = getattr(limits, name), -1 if name.startswith("MIN_") else 1
    assert [core_takes(make(n)) for n in (at - out, at, at + out)] == [True, True, False]


@pytest.mark.parametrize(("place", "low", "high"), [(11, 0, 2**15), (12, 2**15, 2**16 - 1), (-1, 2**15, 2**16 - 1)])
def test_host_and_core_agree_on_an_lstms_clip_and_table(place: int, low: int, high: int) -> None:
    for n in (low - 1, low, high, high + 1):
        model, good = with_value("multiplier", place)(n), low <= n <= high
        data = unchecked(lambda model=model: pack_model(model))
        assert (host_packs(model), core_takes(data), host_reads(data)) == (good, good, good), n


@pytest.mark.parametrize(
    ("kind", "source", "target", "good"),
    [
        ("lstm", (2, 3, 4), (2, 3, 5), True),
        ("lstm", (2, 3, 4), (1, 1, 5), True),
        ("lstm", (2, 3, 4), (3, 2, 5), False),
        ("lstm", (2, 3, 4), (1, 6, 5), False),
        ("svdf_features", (2, 3, 4), (1, 1, 6), True),
        ("svdf_features", (2, 3, 4), (1, 1, 5), False),
        ("svdf_features", (2, 3, 4), (1, 2, 6), False),
        ("svdf_time", (5, 1, 12), (1, 1, 3), True),
        ("svdf_time", (5, 1, 12), (1, 1, 4), False),
        ("svdf_time", (5, 2, 12), (1, 1, 3), False),
        ("svdf_time", (5, 1, 12), (5, 1, 3), False),
    ],
)
def test_host_and_core_agree_on_shapes(kind: str, source: Shape, target: Shape, good: bool) -> None:
    data = unchecked(lambda: pack_model(model_of(Op(kind, 0, 1), source, target)))
    assert (core_takes(data), host_reads(data)) == (good, good)


@pytest.mark.parametrize(("kind", "tensor"), [("svdf_features", 1), ("svdf_time", 0)])
def test_int16_values_have_no_zero_point(kind: str, tensor: int) -> None:
    model = model_of(Op(kind, 0, 1), (5, 1, 12), (1, 1, 6) if kind == "svdf_features" else (1, 1, 3))
    model.tensors[tensor] = replace(model.tensors[tensor], zero_point=1)
    data = unchecked(lambda: pack_model(model))
    assert (host_packs(model), core_takes(data), host_reads(data)) == (False, False, False)


def with_normal(layout: str, at: int, value: int) -> bytes:
    """A model whose signal's first normalization has another integer."""
    data = pack_model(sensed(3))
    return sealed(data, layout, 4 * struct.unpack_from("<H", data, 66)[0] + 20 + at, value)


def test_a_squared_error_has_any_scale() -> None:
    """It does not use logit_scale."""
    for scale in (1e-9, 0.25, 128, 129, 1e6, 3e38):
        model = model_of(Op("reshape", 0, 1), (1, 1, 2), (1, 1, 2))
        model.tensors = [replace(tensor, scale=scale) for tensor in model.tensors]
        data = pack_model(model)
        assert core_takes(data) and unpack_model(data).output.scale == np.float32(scale)


def test_a_signal_may_lie_behind_any_size_of_weights() -> None:
    """The header has 16 bits for its offset: with more than 256 KB of weights the signal is placed before them."""
    for inputs in (100, 16384):
        model = model_of(Op("dense", 0, 1), (1, inputs // 4, 4), (1, 1, 40))
        model.signal = Signal(10, 4, inputs // 4, 1, (Normal(model.input.scale),) * 4)
        data = pack_model(model)
        assert core_takes(data) and unpack_model(data).signal == model.signal
        counts = np.arange(inputs, dtype=np.int16) % 100
        assert np.array_equal(Session(data, bytes(1), "infer").quantize(counts)[0], counts)


def test_slopes_of_prelu_are_constants() -> None:
    """Neither the input nor the output of another op."""
    model = model_of(Op("prelu", 0, 1), (1, 1, 3), (1, 1, 3), (1, 1, 3))
    assert core_takes(pack_model(model))
    at = struct.unpack_from("<I", pack_model(model), 32)[0] + 36 + 18  # input2 of the second op
    assert not core_takes(sealed(pack_model(model), "<H", at, 0))
    made = model_of(Op("prelu", 0, 1), (1, 1, 3), (1, 1, 3), (1, 1, 3))
    made.ops[0] = Op("reshape", 0, 1)
    data = unchecked(lambda: pack_model(made))
    assert not core_takes(data) and not host_reads(data)


# ---- random models, valid or not
# --------------------------------------------------------------------------------------

SIDES = (1, 1, 1, 2, 3, 28, 254, 255, 256, 257, 512, 1024, 16384, 65535)


def careless(rng: np.random.Generator) -> QuantModel:
    """An op with shapes and a window near limits, which may or may not fit, and at most 2^20 weights."""
    while True:
        kind = str(rng.choice(["dense", "conv", "depthwise", "average_pool", "mean", "add", "softmax", "pad"]))
        source, target = (tuple(int(side) for side in rng.choice(SIDES, 3)) for _ in range(2))
        windowed = kind in ("conv", "depthwise", "average_pool")
        kernel = tuple(int(k) for k in rng.choice([1, 2, 3, 16, 31, 255], 2)) if windowed else (1, 1)
        if rng.random() < 0.9:  # make valid shapes likely
            target = (1, 1, target[2]) if kind in ("dense", "mean") else target
            target = (*target[:2], source[2]) if kind in ("mean", "average_pool", "depthwise", "pad") else target
            target = source if kind in ("add", "softmax") else target
        elements = (int(np.prod(shape, dtype=np.int64)) for shape in (source, target))
        patch = int(np.prod(source)) if kind == "dense" else kernel[0] * kernel[1] * source[2]
        if max(elements) <= 1 << 21 and patch * target[2] <= 1 << 20:
            return model_of(Op(kind, 0, 1, kernel=kernel), source, target, (1, 1, 1) if kind == "add" else None)


def test_the_core_accepts_whatever_the_host_packs() -> None:
    """And the core refuses whatever the host refuses."""
    packed = refused = 0
    for seed in fresh_seeds(400):
        model = careless(np.random.default_rng(seed))
        good = host_packs(model)
        data = unchecked(lambda model=model: pack_model(model))
        assert (core_takes(data), host_reads(data)) == (good, good), f"seed {seed}: {model}, {model.ops[-1]}"
        packed, refused = packed + good, refused + (not good)
    assert packed > 50 and refused > 50


# ---- adapters -------------------------------------------------------------------------------------------------------


def trainable(model: QuantModel, rank: int, momentum: int = 0) -> Adapter:
    """An adapter of op 0 with training state."""
    outputs, patch = layer_size(model, 0)

    def state(shape: tuple[int, int]) -> TensorState:
        return TensorState(1 << 15, 0, np.full(shape, 256, np.int16), np.zeros(shape, np.int16) if momentum else None)

    a, b = np.ones((rank, patch), np.int8), np.ones((outputs, rank), np.int8)
    layer = AdapterLayer(0, a, b, 0, 0, state(a.shape), state(b.shape))
    return Adapter(base_id(pack_model(model)), 1, [layer], True, True, momentum=momentum)


def ranked(make: Callable[[int], QuantModel], rank: int) -> Callable[[int], tuple[QuantModel, Adapter]]:
    """An adapter with this rank, on a layer whose size times the rank is n."""
    return lambda n: (make(n // rank), trainable(make(n // rank), rank))


def spots(n: int) -> QuantModel:
    """A convolution with n positions."""
    return model_of(Op("conv", 0, 1), (*split(n), 1), (*split(n), 1))


def with_field(field: str, sign: int = 1) -> Callable[[int], tuple[QuantModel, Adapter]]:
    """An adapter with one changed value."""

    def make(n: int) -> tuple[QuantModel, Adapter]:
        model = dense(3)
        adapter = trainable(model, 2, momentum=1)
        layer, state, n = adapter.layers[0], adapter.layers[0].b_state, sign * n
        if field == "master":
            state.master[-1, -1], layer.b[-1, -1] = n, (n + 128) >> 8
        elif field == "mean":
            state.momentum[-1, -1] = n
        else:
            owner = {"vx": state, "t_shift": layer, "branch_shift": layer}.get(field, adapter)
            setattr(owner, field, n)
        return model, adapter

    return make


def with_classes(count: int, **fields: int | str) -> tuple[QuantModel, Adapter]:
    """`count` classes added to a base of three, the last with these fields."""
    model = small_base(np.random.default_rng(0))
    adapter = Adapter(base_id(pack_model(model)), 1)
    rows = [ClassRow(KNOWN + i, "name", 3, 5, np.ones(INPUTS, np.int16)) for i in range(count)]
    rows[-1] = replace(rows[-1], **fields)
    adapter.classes = rows
    return model, adapter


ADAPTER_EDGES = [  # limit, value within it, value beyond it, function that makes a case
    ("MAX_RANK", 31, 33, lambda n: (dense(3), trainable(dense(3), n))),
    ("MAX_FACTOR", 65532, 65536, ranked(dense, 4)),
    ("MAX_FACTOR", 65535, 65540, ranked(dense, 5)),
    ("MAX_FACTOR", 65534, 65538, ranked(lambda n: dense(3, n), 2)),
    ("MAX_T", (1 << 20) - 32, (1 << 20) + 32, ranked(spots, 32)),
    ("MAX_MOMENTUM", 7, 9, with_field("momentum")),
    ("MAX_THRESHOLD", 16383, 16385, with_field("threshold")),
    *(
        (name, at - 1, at + 1, with_field(field, sign))
        for name, field in (("MAX_MASTER", "master"), ("MAX_MEAN", "mean"), ("MAX_SCALE_EXPONENT", "vx"))
        for at, sign in ((getattr(limits, name), 1), (getattr(limits, name), -1))
    ),
    ("MIN_T_SHIFT", 1, -1, with_field("t_shift")),
    ("MAX_T_SHIFT", 23, 25, with_field("t_shift")),
    ("MIN_BRANCH_SHIFT", -14, -16, with_field("branch_shift")),
    ("MAX_BRANCH_SHIFT", 7, 9, with_field("branch_shift")),
    ("MAX_ADDED", 15, 17, with_classes),
    ("MAX_CLASS_BIAS", (1 << 29) - 1, (1 << 29) + 1, lambda n: with_classes(2, bias=n)),
    ("MAX_CLASS_BIAS", (1 << 29) - 1, (1 << 29) + 1, lambda n: with_classes(2, bias=-n)),
    ("MAX_CLASSES", 255, 257, lambda n: with_classes(2, number=n - 1)),
    ("MAX_NAME", 23, 25, lambda n: with_classes(2, name="x" * n)),
]


@pytest.mark.parametrize(
    ("name", "within", "beyond", "make"), ADAPTER_EDGES, ids=[f"{case[0]}-{i}" for i, case in enumerate(ADAPTER_EDGES)]
)
def test_host_and_core_agree_around_a_limit_of_adapters(
    name: str, within: int, beyond: int, make: Callable[[int], tuple[QuantModel, Adapter]]
) -> None:
    at = getattr(limits, name)
    for n in (within, at, beyond):
        good = n <= at if name.startswith("MAX_") else n >= at
        try:
            model, adapter = make(n)
            check_adapter_fits(adapter, model)
            pack_adapter(adapter)
            packs = True
        except FormatError:
            packs = False
        assert packs == good, f"{name}: {n}"
        if name == "MAX_NAME" and not good:
            continue  # the file has no room for a longer name
        data = unchecked(lambda adapter=adapter: pack_adapter(adapter))
        assert adapter_taken(model, data) == good, f"{name}: {n}, by the core"


def adapter_taken(model: QuantModel, data: bytes) -> bool:
    session = Session(pack_model(model), bytes(len(model.ops)), "infer")
    try:
        session.use(data)
    except TwinError as error:
        assert error.status == binding.statuses()["ERR_FORMAT"]
        return False
    return True


def status_of(call: Callable[[], object]) -> str:
    try:
        call()
    except TwinError as error:
        return next(name for name, value in binding.statuses().items() if value == error.status)
    return "OK"


def test_limits_of_calls() -> None:
    """Limits that only the core has: of a session's settings, of samples per class, of sums."""
    data = pack_model(spots(1024))
    batches = [status_of(lambda n=n: Session(data, bytes([1]), "frozen_a", n)) for n in (63, 64, 65)]
    assert limits.MAX_SUMMED == 1024 * 64 and batches == ["OK", "OK", "ERR_CONFIG"]
    base = small_base(np.random.default_rng(0))
    session = Session(pack_model(base), bytes(2), "infer")
    x, most = np.ones((limits.MAX_CLASS_SAMPLES + 1, session.sample_size), np.int8), limits.MAX_CLASS_SAMPLES
    made = [status_of(lambda n=n: session.class_row(x[:n], KNOWN, "new")) for n in (0, 1, most, most + 1)]
    assert made == ["ERR_CLASSES", "OK", "OK", "ERR_CLASSES"]
    trained = Session(data, bytes([1]), "frozen_a")
    trained.begin(1)
    part, parts = trained.save(), limits.MAX_PARTS
    sums = [status_of(lambda n=n: trained.blend([part] * n, [1] * n)) for n in (parts - 1, parts, parts + 1)]
    assert sums == ["OK", "OK", "ERR_BLEND"]
    weight = limits.MAX_PART_WEIGHT
    sums = [status_of(lambda n=n: trained.blend([part], [n])) for n in (-weight - 1, -weight, weight, weight + 1)]
    assert sums == ["ERR_BLEND", "OK", "OK", "ERR_BLEND"]


def test_a_rank_that_makes_a_matrix_too_large_is_refused_with_the_limit() -> None:
    with pytest.raises(TwinError, match=f"at most {limits.MAX_FACTOR} values") as refused:
        Session(pack_model(dense(3, limits.MAX_FACTOR // 2)), bytes([3]), "frozen_a")
    assert refused.value.status == binding.statuses()["ERR_RANK"]
