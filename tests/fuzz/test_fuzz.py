"""The fuzzers' harnesses for some seconds, without a fuzzer: fields at limits, crossed with calls, and random bytes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fuzz_host
import numpy as np
import pytest
import sanitized
from fresh import SEED, rounds

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.resources import ROOT
from edgelora.board.link.client import Link
from edgelora.board.link.replies import LinkError
from edgelora.core.formats.npz import NpzError
from edgelora.fleet.plan import Plan
from edgelora.model.datasets import recordings
from edgelora.model.datasets.dataset import load_dataset

HERE = Path(__file__).parent
HOST = sorted(fuzz_host.TARGETS)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    subprocess.run([sys.executable, ROOT / "tools" / "fuzz_seeds.py", folder], check=True)
    return folder


def run(command: list[str | Path]) -> int:
    """Runs a program; the number of executions that it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stderr[-4000:]}"
    return int(done.stdout.split()[0])


@pytest.mark.parametrize(("name", "pairs"), [("files", 8_000), ("session", 1_600)])
def test_every_field_at_its_limits(seeds: Path, tmp_path: Path, name: str, pairs: int) -> None:
    program = sanitized.build(HERE / f"fuzz_{name}.c", tmp_path, HERE / "sweep.c")
    count = rounds(32)
    drawn = random.Random(SEED).sample(sorted((seeds / name).iterdir()), count)
    each = 8 * rounds(pairs) // count
    assert run([program, str(each), str(SEED), *drawn]) > count * each


@pytest.mark.parametrize(("name", "size", "count"), [("member", 340, 3000), ("signal", 60, 1000), ("crypto", 300, 500)])
def test_drawn_bytes(tmp_path: Path, name: str, size: int, count: int) -> None:
    program = sanitized.build(HERE / f"fuzz_{name}.c", tmp_path, HERE / "drawn.c")
    assert run([program, str(rounds(count)), str(SEED), str(size)]) == rounds(count)


def test_the_mutator_compiles_where_there_is_no_fuzzer(tmp_path: Path) -> None:
    flags = [*sanitized.FLAGS, f"-I{sanitized.CORE}", f"-I{sanitized.CRYPTO}"]
    subprocess.run(["cc", *flags, "-c", HERE / "mutator.c", "-o", tmp_path / "mutator.o"], check=True)


@pytest.mark.parametrize("target", HOST)
def test_the_host_accepts_or_refuses_random_bytes(target: str) -> None:
    command = [sys.executable, HERE / "fuzz_host.py", target, "--draw", str(rounds(300)), str(SEED)]
    assert run(command) == rounds(300)


@pytest.mark.parametrize("target", HOST)
def test_valid_bytes_are_accepted(target: str) -> None:
    taken = 0
    for seed in fuzz_host.TARGETS[target].seeds():
        try:
            fuzz_host.TARGETS[target].read(seed)
            taken += 1
        except EdgeloraError:
            pass
    assert taken


@pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800])
def test_text_that_is_no_unicode_is_refused(code: int, tmp_path: Path) -> None:
    labels = np.array([97, code], "<u4").view("<U2")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 1, 1, 1), np.float32), y=np.array([0, 0]), labels=labels)
    with pytest.raises(NpzError, match="not valid Unicode"):
        load_dataset(tmp_path / "x.npz")


def test_a_wav_whose_chunk_ends_outside_is_refused(tmp_path: Path) -> None:
    sound = next(fuzz_host.captures(".wav")())
    (tmp_path / "x.wav").write_bytes(sound[:16] + (1 << 24).to_bytes(4, "little") + sound[20:])
    with pytest.raises(InputError, match="can't be read as .wav"):
        recordings.load_capture(tmp_path / "x.wav")


@pytest.mark.parametrize(
    ("answer", "ask", "words"),
    [
        (b"[", lambda link: link.space(), "is malformed"),
        (b"{}", lambda link: link.space(), "is malformed"),
        (b"\0", lambda link: link.sensed(), "is malformed"),
        (b"\0\0", lambda link: list(link.hear(np.zeros((4, 2), np.int16))), "is malformed"),
        (b'{"entries": [["a", 1]], "more": true}', lambda link: link.list("/"), "does not end"),
        (b'{"offset": -500}', lambda link: link.update(bytes(756)), "-500 of 500 bytes"),
        (b'{"size": 1267650600228229401496703205376, "sha256": ""}', lambda link: link.get("/f"), "bytes"),
    ],
)
def test_odd_answers_of_a_board_are_reported(answer: bytes, ask: Callable[[Link], object], words: str) -> None:
    with pytest.raises(LinkError, match=words):
        ask(fuzz_host.Answered(answer))


def test_a_plan_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="mode"):
        Plan.of_json({"mode": {"boards": 8}})
