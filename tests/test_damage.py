"""Damaged files: every byte position flipped and truncated, under AddressSanitizer and UBSan."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from random_models import random_input, random_model

from edgelora import formats, twin
from edgelora.boards import ROOT

CORE = ROOT / "micropython_module" / "core"


@pytest.fixture(scope="module")
def fuzz_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "fuzz_files"
    flags = [
        "-std=c99",
        "-g",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ]
    sources = [Path(__file__).parent / "fuzz_files.c", *sorted(CORE.glob("*.c"))]
    subprocess.run(["cc", *flags, f"-I{CORE}", *map(str, sources), "-o", str(program)], check=True)
    return program


def trained_adapter(data: bytes, model, mode: str, state: bool) -> bytes:
    ranks = bytes(2 if op.kind in ("conv", "dense") else 0 for op in model.ops)
    session = twin.Session(data, ranks, mode, 2)
    session.begin(5)
    rng = np.random.default_rng(5)
    for label in range(4):
        session.train(random_input(rng, model), label % model.output.size, 60000)
    return session.save(state)


@pytest.mark.parametrize(
    ("kinds", "mode", "state"),
    [
        (("conv", "mean", "dense"), "frozen_a", False),
        (("conv", "average_pool", "dense"), "trainable_a", True),
        (("conv", "conv", "mean", "dense"), "frozen_a", True),
    ],
)
def test_every_byte_flipped_and_truncated(
    fuzz_files: Path, tmp_path: Path, kinds: tuple, mode: str, state: bool
) -> None:
    model = random_model(len(kinds), kinds=kinds, edges=False)
    data = formats.pack_model(model)
    (tmp_path / "m.elm").write_bytes(data)
    (tmp_path / "a.ela").write_bytes(trained_adapter(data, model, mode, state))
    done = subprocess.run(
        [fuzz_files, tmp_path / "m.elm", tmp_path / "a.ela"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for what in ("model", "adapter"):
        stale, refused, accepted, ran = map(
            int,
            re.search(rf"{what}: stale_accepted (\d+) refused (\d+) accepted (\d+) ran (\d+)", done.stdout).groups(),
        )
        assert stale == 0, f"{what}: a damaged file passed with a stale CRC or a wrong length"
        assert refused > 100 and accepted > 100 and ran > 0, done.stdout
