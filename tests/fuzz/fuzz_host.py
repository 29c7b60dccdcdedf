"""The host with untrusted bytes: it accepts them or raises an EdgeloraError, quickly and in bounded memory.

    fuzz_host.py --list                          names of the targets
    fuzz_host.py TARGET --seeds FOLDER           writes seeds
    fuzz_host.py TARGET --draw COUNT SEED        runs COUNT mutants of the seeds, without a fuzzer
    fuzz_host.py TARGET ARGUMENTS OF LIBFUZZER   guided by coverage; needs atheris

Checksums and signatures at the end of a file are corrected, as anyone can do that for a file of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import random
import signal
import struct
import sys
import tempfile
import warnings
import wave
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.base.errors import EdgeloraError
from edgelora.board import uf2
from edgelora.board.link.client import Link
from edgelora.board.link.protocol import FrameReader, encode
from edgelora.board.link.replies import Hello, ListenReply, WatchReply
from edgelora.core.formats import elu
from edgelora.core.formats.classes import pack_classes, unpack_classes
from edgelora.core.formats.ela import CLASSES, MONITOR, pack_adapter, unpack_adapter
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.elu import public_bytes
from edgelora.core.formats.signal import Signal
from edgelora.core.twin.binding import check_model
from edgelora.core.twin.session import Session
from edgelora.fleet import messages as fleet_messages
from edgelora.fleet.messages import Task
from edgelora.fleet.plan import Plan
from edgelora.fleet.roster import Roster
from edgelora.learn.report import record
from edgelora.model.datasets import recordings
from edgelora.model.datasets.dataset import load_classes, load_dataset, load_inputs, load_signal
from edgelora.model.importers import safetensors
from edgelora.model.importers.tflite import convert
from edgelora.studio import bundle

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

SECONDS = 20  # limit per input
MOST = 4096  # largest input in bytes
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = public_bytes(KEY)
FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
BASE = pack_model(importlib.import_module("class_cases").small_base(np.random.default_rng(3)))
MODEL = unpack_model(BASE)


@dataclass(frozen=True)
class Target:
    """read: the function that uses the bytes; seeds: valid inputs."""

    read: Callable[[bytes], object]
    seeds: Callable[[], Iterator[bytes]]


def file_of(data: bytes, name: str) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


def sealed(data: bytes) -> bytes:
    """Corrects the CRC of `.elm` and `.ela`."""
    return data[:12] + struct.pack("<I", zlib.crc32(data[16:])) + data[16:] if len(data) >= 16 else data


# ---- models and adapters


def read_model(data: bytes) -> None:
    data = sealed(data)
    model = unpack_model(data)
    check_model(data)  # the core accepts what the host accepts
    unpack_model(pack_model(model))


def models() -> Iterator[bytes]:
    from random_models import random_model

    yield BASE
    for seed in range(40):
        kinds = ("conv", "average_pool", "mean", "dense") if seed % 2 else ("depthwise", "residual", "dense", "softmax")
        data = pack_model(random_model(seed, kinds=kinds))
        if len(data) < MOST:
            yield data


def read_adapter(data: bytes) -> None:
    adapter = unpack_adapter(sealed(data), MODEL)
    pack_adapter(adapter)
    if CLASSES in adapter.records:
        unpack_classes(adapter.records[CLASSES])


def adapters() -> Iterator[bytes]:
    for mode, state in (("frozen_a", False), ("trainable_a", True)):
        session = Session(BASE, bytes([4, 4]), mode, 1)
        session.begin(5)
        for i in range(4):
            session.train(np.full((1, 1, 1, 5), i, np.int8), i % 3, 30000)
        yield session.save(state)
        yield session.with_record(session.save(), MONITOR, b"usual")
        session.use(session.save())
        row = session.class_row(np.ones((3, 1, 1, 1, 5), np.int8), 3, "wave")
        yield session.with_record(session.save(), CLASSES, pack_classes([row]))


def read_tflite(data: bytes) -> None:
    check_model(pack_model(convert.import_tflite(data)))


def tflites() -> Iterator[bytes]:
    from random_models import random_model
    from tflite_writer import write_tflite

    for seed in range(12):
        kinds = ("conv", "average_pool", "mean", "dense") if seed % 2 else ("dense", "softmax")
        with contextlib.suppress(ValueError):  # what `.tflite` can't express
            data = write_tflite(random_model(seed, kinds=kinds))
            if len(data) < MOST:
                yield data


# ---- updates, rosters, rounds


def read_update(data: bytes) -> None:
    if len(data) >= 256:
        head = bytearray(data[:192])
        struct.pack_into("<I", head, 20, len(data) - 256)
        data = bytes(head) + data[192:]
    found = elu.unpack(data)
    found.adapter(bytes(64))
    found.verify(PUBLIC)


def updates() -> Iterator[bytes]:
    for adapter in adapters():
        yield elu.pack(adapter, "wake", 8, "band", KEY, None)


def read_roster(data: bytes) -> None:
    if len(data) >= 160:
        data = data[:96] + KEY.sign(data[:96] + hashlib.sha512(data[160:]).digest()) + data[160:]
    roster = Roster.read(data, [PUBLIC])
    assert len(roster.fleet) == 8 and len(roster.active) <= len(roster.keys)


def rosters() -> Iterator[bytes]:
    keys = tuple(fleet_messages.public_of(bytes([i]) * 32) for i in range(4))
    yield Roster(7, "band", keys[0], PUBLIC, keys).pack(KEY)


def read_message(data: bytes) -> None:
    with contextlib.suppress(EdgeloraError):
        Task.unpack(data[:96])
    if fleet_messages.index_of(data) is not None:
        fleet_messages.round_of(data)


def tasks() -> Iterator[bytes]:
    yield Task(7, bytes(8), bytes(32), 80, 1, 0, 9, 2000, 40, 3, 9, 2).pack()


def read_json(data: bytes) -> None:
    """Files that contain JSON: a report, a federation's plan, a signal."""
    with contextlib.suppress(EdgeloraError):
        record.Report.from_json(data)
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(data)
        for read in (Plan.of_json, Signal.of_json):
            try:
                read(said)
            except EdgeloraError:
                pass
            except (ValueError, RecursionError) as error:
                raise AssertionError(f"{read}: {error!r}") from error


def jsons() -> Iterator[bytes]:
    yield json.dumps(Plan(boards=8, rounds=2).as_json()).encode()
    yield b'{"rate": 50, "channels": 3, "window": 4, "hop": 2, "normals": [[1, 0, 1]], "front": "none", "units": "g"}'


# ---- samples and recordings


def archive(data: bytes) -> bytes:
    """Bytes as a `.npz`: as they are or, so that CRCs are correct, as arrays separated by the bytes FF FE."""
    if data[:2] == b"PK":
        return data
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, part in zip(("x", "y", "labels", "signal", "samples", "rate"), data.split(b"\xff\xfe"), strict=False):
            file.writestr(f"{name}.npy", part)
    return made.getvalue()


def read_samples(data: bytes) -> None:
    path = file_of(archive(data), "samples.npz")
    for read in (load_dataset, load_inputs, load_signal, load_classes):
        with contextlib.suppress(EdgeloraError):
            read(path)
    with contextlib.suppress(EdgeloraError):
        recordings.load_capture(path)


def bare(*arrays: object) -> bytes:
    made = []
    for array in arrays:
        content = io.BytesIO()
        np.save(content, np.asarray(array))
        made.append(content.getvalue())
    return b"\xff\xfe".join(made)


def samples() -> Iterator[bytes]:
    x, y = np.zeros((3, 1, 2, 2), np.float32), np.array([0, 1, 0])
    yield bare(x, y, np.array(["a", "b"]), np.array("{}"), np.zeros((4, 2), np.int16), 50.0)
    yield bare(x[:, 0], y)
    content = io.BytesIO()
    np.savez_compressed(content, x=x, y=y)
    yield content.getvalue()


def read_capture(ending: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        capture = recordings.load_capture(file_of(data, "capture" + ending), "key" if data[-1:] == b"k" else None)
        assert np.isfinite(capture.values).all()
        recordings.save_capture(recordings.with_rate(capture, 50), FOLDER / ("again" + ending))

    return read


def captures(ending: str) -> Callable[[], Iterator[bytes]]:
    def seeds() -> Iterator[bytes]:
        if ending == ".csv":
            yield b"time,x,y\n0,1,2\n0.02,3,4\n0.04,5,-6e2\n"
            yield b"# rate 50\n1,2\n3,4\n"
        elif ending == ".wav":
            content = io.BytesIO()
            with wave.open(content, "wb") as file:
                file.setparams((2, 2, 16000, 0, "NONE", ""))
                file.writeframes(bytes(range(40)))
            yield content.getvalue()
        else:
            values = np.arange(12.0).reshape(6, 2)
            capture = recordings.Capture(values, 50.0, ("x", "y"), ("g", "g"), False)
            path = FOLDER / ("made" + ending)
            recordings.save_capture(capture, path, "key")
            yield path.read_bytes()

    return seeds


# ---- what boards and others send


def read_frames(data: bytes) -> None:
    reader = FrameReader()
    for at in range(0, len(data), 61):
        reader.feed(data[at : at + 61])
        for frame in reader.frames():
            read_payload(frame.payload)
    read_payload(data)


class Answered(Link):
    """A link to a board that gives every request the same reply."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self._max_payload = payload, 1000
        self._sample_size, self._output_size, self._listening, self._sensed = 5, 3, 2, 2
        self._target_size, self._tells_all, self._channels = 0, False, 2
        self._feature_size, self._frames = 7, 1

    def _request(self, op: object, payload: bytes = b"") -> bytes:
        return self.payload


WINDOWS, LABELS = np.zeros((2, 5), np.int8), np.array([0, 1])
ASKED: tuple[Callable[[Link], object], ...] = (
    lambda link: link.put("/f", bytes(100)),
    lambda link: link.get("/f"),
    lambda link: link.list("/"),
    lambda link: link.space(),
    lambda link: link.open_model("/m"),
    lambda link: link.train(WINDOWS, LABELS, 9000),
    lambda link: link.cache(WINDOWS),
    lambda link: link.eval(WINDOWS, logits=True),
    lambda link: link.judge(WINDOWS, LABELS),
    lambda link: link.listen(),
    lambda link: link.monitor_state(),
    lambda link: link.sense("adc"),
    lambda link: link.sensed(),
    lambda link: link.watch(),
    lambda link: link.save("/f"),
    lambda link: link.store_list(),
    lambda link: link.store_get("a"),
    lambda link: link.class_get(),
    lambda link: link.update(bytes(300)),
    lambda link: link.update_state(),
    lambda link: link.run_start("/f", "me"),
    lambda link: link.run_go(5),
    lambda link: link.fleet_identity(),
    lambda link: link.fleet_status(),
    lambda link: link.fleet_open("/f"),
    lambda link: link.fleet_reply(link.fleet_go(5)),
    lambda link: link.bench_infer(),
)


def read_payload(payload: bytes) -> None:
    with contextlib.suppress(EdgeloraError):
        assert Hello.of(payload).max_payload > 0
    for ask in ASKED:
        with contextlib.suppress(EdgeloraError):
            ask(Answered(payload))
    for outputs in (3, None):
        with contextlib.suppress(EdgeloraError):
            ListenReply.of(payload, outputs)
        with contextlib.suppress(EdgeloraError):
            WatchReply.of(payload, 2, outputs)


def frames() -> Iterator[bytes]:
    hello = {"link": 1, "edgelora": "1", "board": "b", "micropython": "1", "mpy": 1, "free": 1, "id": "a"}
    hello |= {"max_payload": 1000, "resumed": False, "sequence": 1, "model": False, "trained": 0, "ticks_us": 1}
    said = json.dumps(hello).encode()
    yield said
    yield encode(1, 0, said) + b"noise" + encode(2, 0, struct.pack("<II", 5, 0) + bytes(24))
    yield bytes(80)
    for said in (
        {"size": 5, "sha256": hashlib.sha256(bytes(5)).hexdigest(), "offset": 0},
        {"entries": [["a", 5], ["b", -1]], "more": False},
        {
            "adapters": [["a", 1, 100, "00", False, False]],
            "more": False,
            "active": "a",
            "free": 5,
            "place": "/",
            "notices": [],
        },
        {"state": "ready", "samples": 0, "steps": 0, "size": 5, "sha256": ""},
        {"stage": "watch", "left": 0, "threshold": 5, "channels": 2, "rate": 50.0, "scales": [1.0], "chunk": 5},
        {"public": "00", "index": 1, "roster": 1, "boards": 1, "fleet": "00", "round": 1},
        {"free": 1, "total": 2, "heap": 3, "trained": 4, "feature_size": 7, "name": "a", "version": 1},
    ):
        yield json.dumps(said).encode()


def read_uf2(data: bytes) -> None:
    uf2.parse(data)


def images() -> Iterator[bytes]:
    block = struct.pack("<8I", *uf2.MAGIC_START, uf2.FLAG_FAMILY_ID, 0x10000000, 256, 0, 1, uf2.RP2040_FAMILY_ID)
    yield block + bytes(476) + struct.pack("<I", uf2.MAGIC_END)


def read_safetensors(data: bytes) -> None:
    safetensors.read_safetensors(file_of(data, "x.safetensors"))


def tensors() -> Iterator[bytes]:
    path = FOLDER / "made.safetensors"
    safetensors.write_safetensors(path, {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)})
    yield path.read_bytes()


def read_project(data: bytes) -> None:
    bundle.unpacked(data)


def projects() -> Iterator[bytes]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("bases/a.elm", BASE)
        file.writestr("adapters/me.ela", next(adapters()))
        file.writestr("samples/wave.1.npz", b"PK")
    yield content.getvalue()


TARGETS = {
    "elm": Target(read_model, models),
    "ela": Target(read_adapter, adapters),
    "elu": Target(read_update, updates),
    "roster": Target(read_roster, rosters),
    "round": Target(read_message, tasks),
    "npz": Target(read_samples, samples),
    "csv": Target(read_capture(".csv"), captures(".csv")),
    "wav": Target(read_capture(".wav"), captures(".wav")),
    "acquisition": Target(read_capture(".json"), captures(".json")),
    "cbor": Target(read_capture(".cbor"), captures(".cbor")),
    "json": Target(read_json, jsons),
    "link": Target(read_frames, frames),
    "uf2": Target(read_uf2, images),
    "safetensors": Target(read_safetensors, tensors),
    "tflite": Target(read_tflite, tflites),
    "project": Target(read_project, projects),
}


def one(target: Target, data: bytes) -> None:
    """Any other exception is a bug."""
    with contextlib.suppress(EdgeloraError):
        target.read(data)


def mutant(drawn: random.Random, seeds: list[bytes]) -> bytes:
    """A seed with changed, removed or inserted bytes."""
    data = bytearray(drawn.choice(seeds))
    for _ in range(drawn.choice((1, 1, 2, 4, 8))):
        at, size = drawn.randrange(len(data) + 1), drawn.choice((1, 1, 2, 4, 8))
        how = drawn.randrange(5)
        if how == 0:
            data[at : at + size] = drawn.choice((bytes(size), b"\xff" * size, drawn.randbytes(size)))
        elif how == 1:
            data[at : at + size] = drawn.choice((0, 1, 2, 127, 128, 255, 256, 65535, 1 << 31)).to_bytes(8, "little")[
                :size
            ]
        elif how == 2:
            del data[at : at + drawn.choice((size, 64))]
        elif how == 3:
            other = drawn.choice(seeds)
            start = drawn.randrange(len(other) + 1)
            data[at:at] = other[start : start + drawn.choice((size, 64))]
        else:
            data[at : at + 1] = bytes([(data[at] ^ 1 << drawn.randrange(8)) if at < len(data) else 0])
    return bytes(data[:MOST])


def functions_of_ours() -> Iterator[FunctionType]:
    """All loaded functions of the package, including methods."""
    for module in [module for name, module in sys.modules.items() if name.startswith("edgelora.")]:
        for owner in [module, *(kind for kind in vars(module).values() if isinstance(kind, type))]:
            for value in vars(owner).values():
                function = getattr(value, "__func__", value)
                if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                    yield function


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:] == ["--list"]:
        return print(*TARGETS)
    target, arguments = TARGETS[sys.argv[1]], sys.argv[2:]
    warnings.simplefilter("error")
    if arguments[0] == "--seeds":
        folder = Path(arguments[1])
        folder.mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(target.seeds()):
            (folder / f"seed{i}").write_bytes(seed)
    elif arguments[0] == "--draw":
        drawn, seeds = random.Random(int(arguments[2])), list(target.seeds())
        for _ in range(int(arguments[1])):
            data = mutant(drawn, seeds)
            signal.alarm(SECONDS)
            try:
                one(target, data)
            except BaseException:
                print(f"input in hexadecimal: {data.hex()}", file=sys.stderr)
                raise
        signal.alarm(0)
        print(f"{arguments[1]} executions")
    else:
        import atheris

        for seed in target.seeds():  # lazily imported modules are loaded now
            one(target, seed)
        for function in functions_of_ours():
            atheris.instrument_func(function)
        atheris.Setup([sys.argv[0], *arguments], lambda data: one(target, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
