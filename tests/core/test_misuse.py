"""Invalid input that the core must refuse, under AddressSanitizer and UBSan, in buffers of exact size."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import sanitized
from random_models import random_model

from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.network import QuantModel
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin import binding, device, native
from edgelora.core.twin.binding import TwinError, check_model
from edgelora.core.twin.session import Session

KINDS = ("conv", "average_pool", "dense")
RANKS = bytes([2, 0, 2])


@pytest.fixture(scope="module")
def misuse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sanitized.build(Path(__file__).with_name("misuse.c"), tmp_path_factory.mktemp("misuse"))


def run(program: Path, folder: Path, model: bytes, *adapters: bytes) -> list[int]:
    """The status that `use` returns for each adapter."""
    files = [f"{i}.file" for i in range(1 + len(adapters))]
    for name, data in zip(files, (model, *adapters), strict=True):
        (folder / name).write_bytes(data)
    done = subprocess.run([program, *files], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [int(line) for line in done.stdout.split()]


def sealed(data: bytes, **fields: tuple[str, int, int | bytes]) -> bytes:
    """The file with these fields, each (format, offset, value), and a correct CRC."""
    changed = bytearray(data)
    for layout, at, value in fields.values():
        struct.pack_into(layout, changed, at, value)
    struct.pack_into("<I", changed, 8, len(changed))
    struct.pack_into("<I", changed, 12, zlib.crc32(changed[16:]))
    return bytes(changed)


def adapter_of(model: QuantModel, mode: str, state: bool = False, ranks: bytes = RANKS) -> bytes:
    session = Session(pack_model(model), ranks, mode, 2)
    session.begin(5)
    return session.save(state)


def test_use_takes_only_what_fits(misuse: Path, tmp_path: Path) -> None:
    """Adapters of another base and forged ones cause no access out of bounds, and the active one remains."""
    model, wide = (random_model(seed, size, KINDS, edges=False) for seed, size in ((3, "small"), (4, "medium")))
    data, status = pack_model(model), binding.statuses()
    ours = {"base": ("<8s", 16, base_id(data))}
    good = adapter_of(model, "trainable_a", state=True)
    cases = [
        (adapter_of(wide, "trainable_a"), "ERR_BASE"),
        (adapter_of(wide, "frozen_a"), "ERR_BASE"),
        (sealed(adapter_of(model, "frozen_a"), base=("<8s", 16, bytes(8))), "ERR_BASE"),  # its shapes would fit
        (sealed(adapter_of(wide, "trainable_a"), **ours), "ERR_FORMAT"),
        (sealed(adapter_of(wide, "frozen_a"), **ours), "ERR_FORMAT"),
        (adapter_of(model, "frozen_a", ranks=bytes([2, 0, 3])), "ERR_RANKS"),
        (adapter_of(model, "frozen_a", ranks=bytes([0, 0, 2])), "ERR_RANKS"),
        (good[:-4], "ERR_TRUNCATED"),
        (good[:20], "ERR_TRUNCATED"),
        (good + bytes(4), "ERR_SIZE"),
        (sealed(good[:-4]), "ERR_FORMAT"),
        (sealed(good[:72]), "ERR_FORMAT"),
        (sealed(good, count=("<H", 30, 3)), "ERR_FORMAT"),
        (sealed(good, count=("<H", 30, 0)), "ERR_FORMAT"),
        (sealed(good, flags=("<H", 28, 0)), "ERR_FORMAT"),
        (sealed(good, op=("<H", 48, 9)), "ERR_FORMAT"),
        (sealed(good, op=("<H", 48, 1)), "ERR_FORMAT"),
        (sealed(good, op=("<H", 60, 0)), "ERR_FORMAT"),
        (sealed(good, rank=("<H", 50, 32)), "ERR_FORMAT"),
        (sealed(good, rank=("<H", 50, 65535)), "ERR_FORMAT"),
        (sealed(good, outputs=("<H", 52, 65535)), "ERR_FORMAT"),
        (sealed(good, inputs=("<H", 54, 65535)), "ERR_FORMAT"),
        (sealed(good, branch_shift=("<b", 57, 9)), "ERR_FORMAT"),
    ]
    found = run(misuse, tmp_path, data, *(file for file, _ in cases))
    assert found == [status[name] for _, name in cases]


def weights_last(data: bytes, model: QuantModel, op: int, behind: int) -> bytes:
    """The model with an op's weights at its end, followed by `behind` bytes in a buffer of whole words."""
    at = struct.unpack_from("<I", data, 32)[0] + 36 * op + 20
    weights = struct.unpack_from("<I", data, at)[0]
    size, padding = model.ops[op].weights.size, bytes(-len(data) % 4)
    left = data[:weights] + bytes(size) + data[weights + size :] + padding
    packed = data[weights : weights + size] + bytes(behind)
    moved = bytearray(sealed(left + packed, weights=("<I", at, len(left))))
    moved[16:24] = base_id(moved)
    return sealed(bytes(moved))


def test_weights_are_followed_by_a_word(misuse: Path, tmp_path: Path) -> None:
    """Kernels may read a word after the weights; boards and host refuse files with less."""
    model = next(
        model
        for model in (random_model(seed, "small", KINDS, edges=False) for seed in range(50))
        if model.ops[2].weights.size % 4 and model.ops[2].weights[0].size % 4
    )
    data = pack_model(model)
    for op in (0, 2):
        padding = -model.ops[op].weights.size % 4
        for behind in range(padding + 4):
            short = weights_last(data, model, op, behind)
            with pytest.raises(TwinError, match="inconsistent"):
                check_model(short)
            with pytest.raises(FormatError, match="append a word"):
                unpack_model(short)
        enough = weights_last(data, model, op, padding + 4)
        np.testing.assert_equal(unpack_model(enough).ops[op].weights, model.ops[op].weights)
        run(misuse, tmp_path, enough)


def test_threads_take_turns_on_the_twin() -> None:
    """Calls on a session in use, simulated by its flag, raise an error."""
    model = random_model(3, "small", KINDS, edges=False)
    session = Session(pack_model(model), RANKS)
    x = np.zeros(session.input_size, np.int8)
    session.begin(1)
    session.save()
    np.frombuffer(session._arena, np.uint16)[30] = 1
    for call in (lambda: session.infer(x), session.reset, lambda: session.train(x, 0, 1), session.save):
        with pytest.raises(TwinError, match="another core, thread or interrupt"):
            call()


def test_labels_and_arrays_of_other_kinds_are_refused() -> None:
    model = random_model(3, "small", KINDS, edges=False)
    session = Session(pack_model(model), RANKS)
    session.begin(1)
    x = np.zeros(session.input_size, np.int8)
    for label in (-1, session.output_size, 1 << 32, -(1 << 32), 1 << 64):
        with pytest.raises(TwinError, match="not a class"):
            session.train(x, label, 1)
    for other in (x.astype(np.uint8), np.zeros(session.input_size, np.float32)):
        with pytest.raises(TwinError, match="int8"):
            session.infer(other)


@pytest.mark.parametrize("rate", [-1, 65536, 1 << 32])
def test_learning_rates_that_boards_refuse_are_refused(rate: int) -> None:
    model = random_model(3, "small", KINDS, edges=False)
    session, board = Session(pack_model(model), RANKS), device.module().Model(pack_model(model), RANKS)
    x = np.zeros(session.input_size, np.int8)
    for learner, sample in ((session, x), (board, x.tobytes())):
        learner.begin(1)
        learner.train(sample, 0, 65535)
        for call in (lambda one=learner, given=sample: one.train(given, 0, rate), lambda one=learner: one.flush(rate)):
            with pytest.raises(TwinError, match="out of range"):
                call()
    with pytest.raises(TwinError, match="out of range"):
        session.train_all(x[None], np.zeros(1, int), rate)


@pytest.mark.parametrize("loss", ["mean_squared_error", "binary_cross_entropy"])
def test_targets_within_the_arena_are_refused(loss: str) -> None:
    """A pass writes there before the loss reads them."""
    session = Session(pack_model(random_model(3, "small", KINDS, edges=False, loss=loss)), RANKS)
    session.begin(1)
    x, target = bytes(session.input_size), memoryview(session._arena)[-64:][: session.target_size]
    for call in (
        lambda: native.train(session._arena, x, target, 1),
        lambda: native.train_features(session._arena, bytes(session.feature_size), target, 1),
        lambda: native.evaluate(session._arena, x, target, bytearray(4)),
    ):
        with pytest.raises(TwinError, match="overlap"):
            call()


def test_quantized_values_overlap_nothing() -> None:
    model = random_model(3, "small", KINDS, edges=False)
    channels = model.input.shape[2]
    normals = tuple(Normal(0.001 * (i + 1), 0.5, 2) for i in range(channels))
    model.signal = Signal(50, channels, model.input.size // channels, 3, normals, units="g")
    session = Session(pack_model(model), RANKS)
    counts = np.zeros(model.input.size, np.int16)
    for start in (0, 3, model.input.size):
        with pytest.raises(TwinError, match="overlap"):
            native.quantize(session._arena, counts, counts.view(np.int8)[start:][: model.input.size])
