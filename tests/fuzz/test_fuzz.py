"""The fuzzers' harnesses for seconds, without a fuzzer: fields at their limits, crossed with calls, and drawn bytes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
import sanitized
from fresh import SEED, rounds

from edgelora.resources import ROOT

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    subprocess.run([sys.executable, ROOT / "tools" / "fuzz_seeds.py", folder], check=True)
    return folder


def run(command: list[str | Path]) -> int:
    """Its count of executions."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stderr[-4000:]}"
    return int(done.stdout.split()[0])


@pytest.mark.parametrize(("name", "pairs"), [("files", 10_000), ("session", 1_500)])
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
