"""Front ends on boards against the twin's, bit for bit."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import fresh
import numpy as np
import pytest
import random_models
from fresh import slow
from front_end_times import front_end_times
from numpy.typing import NDArray

from benchmarks.swap import layers_and_adapters
from edgelora.board import build, installing
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.front_ends import AudioFrontEnd, SpectralFrontEnd
from edgelora.core.twin.session import Session

PROGRAM = Path(__file__).parent / "programs" / "frontends.py"
CHECKS = 17  # of wrong uses
MOST_CYCLES = {"Audio": 116_000, "Spectral": 280_000}  # per step, on the emulated Pico whose flash never stalls


def sound(seed: int) -> NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    levels = np.repeat(2.0 ** rng.integers(0, 17, 64), 512)
    return np.clip(rng.normal(size=len(levels)) * levels, -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frontends")
    shutil.copy(PROGRAM, folder)
    sound(fresh.SEED).astype("<i2").tofile(folder / "samples.raw")
    model = random_models.random_model(fresh.SEED, "medium", ("dense", "dense"), edges=False)
    (folder / "base.elm").write_bytes(pack_model(model))
    return folder


def expected(folder: Path, model: bool) -> dict[str, list[str]]:
    samples = np.fromfile(folder / "samples.raw", np.int16)
    grid = unpack_model((folder / "base.elm").read_bytes()).input
    fronts = {
        "audio": AudioFrontEnd(),
        "firmware": AudioFrontEnd("firmware"),
        "spectral": SpectralFrontEnd(),
        "channel": SpectralFrontEnd(2, 1, 16),
    }
    if model:
        fronts |= {"model": AudioFrontEnd(grid), "shaken": SpectralFrontEnd(to=grid)}
    return {name: [row.tobytes().hex() for row in front.feed(samples)] for name, front in fronts.items()}


def check(output: str, folder: Path, model: bool = True) -> None:
    failures = [line for line in output.splitlines() if line.startswith("FAIL")]
    assert output.rstrip().endswith("END") and not failures, output[-2000:]
    assert output.count("PASS") == CHECKS
    for name, rows in expected(folder, model).items():
        found = re.findall(rf"^{name} ([0-9a-f]+)\s*$", output, re.MULTILINE)
        assert found == rows and rows, name


def run(micropython: Path, code: str, folder: Path) -> str:
    done = subprocess.run(
        [micropython, "-c", code], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    return done.stdout + done.stderr


def test_unix_firmware(folder: Path) -> None:
    check(run(UNIX_BINARY, "import frontends; frontends.main('base.elm')", folder), folder)


def test_x64_native_modules(folder: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(build.DIST / 'x64')!r}); import frontends; frontends.main('base.elm')"
    check(run(Path(sys.executable).parent / "micropython", code, folder), folder)


@pytest.mark.parametrize("kind", ["audio", "spectral"])
def test_from_samples_to_a_decision(kind: str, folder: Path) -> None:
    """A pipeline with a front end equals the twin's result for the same recording, byte for byte."""
    front = AudioFrontEnd() if kind == "audio" else SpectralFrontEnd(2, 1)
    rows, every = (7, 3) if kind == "audio" else (2, 1)
    elm, _ = layers_and_adapters((rows * front.size, 5), 0)
    model = unpack_model(elm)
    normals = (Normal(0.01, 3.0, 1.0 if kind == "audio" else 4.0),)
    window = front.span + (rows - 1) * front.stride
    model.signal = Signal(16000, front.channels, window, every * front.stride, normals, kind)
    (folder / f"{kind}.elm").write_bytes(pack_model(model))
    told = run(UNIX_BINARY, f"import frontends; frontends.pipeline('{kind}.elm')", folder)
    found = front.feed(np.fromfile(folder / "samples.raw", np.int16))
    session = Session(pack_model(model), bytes(1), "infer", 1)
    expected, clipped, done = [], 0, 0
    for last in range(rows, len(found) + 1, every):
        clipped += session.quantize(found[done:last])[1]
        done = last
        x, _ = session.quantize(found[last - rows : last])
        seen = session.infer(x.reshape(-1))
        end = front.span + (last - 1) * front.stride
        expected.append(f"{end} {seen} {clipped} {session.logits.tobytes().hex()}")
    assert told.splitlines() == expected and len(expected) > 2


@pytest.mark.parametrize("name", fresh.some(["virtual-pico", "virtual-pico-stock"]))
@slow
def test_emulated_pico(name: str, folder: Path, tmp_path: Path) -> None:
    """In firmware and as native modules on stock firmware: the same features, within a limit of cycles."""
    image = build.build_firmware(name, {}, tmp_path / "image")
    handle = virtual_board.start(name, image, tmp_path, ideal_flash=True, die_with_parent=True)
    try:
        if name.endswith("stock"):
            installing.install(handle.port)
        with Link.connect(handle.port) as link:
            for path in (PROGRAM, folder / "samples.raw"):
                link.put(f"/{path.name}", path.read_bytes())
        command = [
            sys.executable,
            "-m",
            "mpremote",
            "connect",
            handle.port,
            "exec",
            "import frontends; frontends.main()",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        check(done.stdout + done.stderr, folder, model=False)
        times = front_end_times(handle.port, 125)
    finally:
        handle.stop()
    assert [(t.front_end, t.signal) for t in times if t.equal] == [
        (front, signal) for front in MOST_CYCLES for signal in ("noise", "silence")
    ]
    for time in times:
        slower = 1.1 if name.endswith("stock") else 1  # mostly compiled for size
        assert time.most < slower * MOST_CYCLES[time.front_end], time
