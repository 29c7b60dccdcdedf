"""A base and samples for programs in C: what `edgelora export` writes compiles, and holds what was given."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from class_cases import small_base
from commands import edgelora, result

from edgelora.base.resources import ROOT
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import load_base
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets import dataset

LABELS = ["rest", "wa\"lk'?", "Wélle"]
# Writes what the header holds, to be compared with what it was made from.
PRINTS = r"""
#include <stdio.h>
#include "model.h"

int main(void) {
    fwrite(model, 1, sizeof(model), stdout);
    fwrite(model_ranks, 1, sizeof(model_ranks), stdout);
    for (unsigned i = 0; i < sizeof(model_labels) / sizeof(*model_labels); ++i) {
        fputs(model_labels[i], stdout);
    }
    fwrite(train_samples, 1, sizeof(train_samples), stdout);
    fwrite(train_labels, 1, sizeof(train_labels), stdout);
    fwrite(test_samples, 1, sizeof(test_samples), stdout);
    fwrite(test_labels, 1, sizeof(test_labels), stdout);
    printf("%d %d %d %d %d %d", MODEL_ARENA, MODEL_ADAPTER, SAMPLE_SIZE, model_config.mode, model_config.micro_batch,
        model_config.momentum);
    return model_config.ranks != model_ranks || model_config.frames != 1 || model_config.fixed != 1 ||
        model_config.cores != 1 || model_config.recompute || model_config.plain || model_config.vectors ||
        (unsigned long long)model % 8;
}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with base.elm and samples of three classes in mine.npz and test.npz."""
    rng = np.random.default_rng(3)
    model = small_base(rng)
    model.labels = LABELS
    (tmp_path / "base.elm").write_bytes(pack_model(model))
    for name, count in (("mine", 9), ("test", 6)):
        x = rng.normal(0, 4, (count, *model.input.shape)).astype(np.float32)
        dataset.save_dataset(dataset.Dataset(x, np.arange(count) % 3, LABELS), tmp_path / f"{name}.npz")
    return tmp_path


@pytest.mark.parametrize("compiler", [("gcc", "-std=c99"), ("g++", "-x", "c++", "-std=c++11")], ids=lambda c: c[0])
def test_a_header_holds_what_was_exported(compiler: tuple[str, ...], base: Path) -> None:
    data = ("--data", base / "mine.npz", "--test", base / "test.npz")
    how = ("--rank", 3, "--mode", "trainable_a", "--micro-batch", 4)
    told = result("export", base / "base.elm", *data, *how, "-o", base / "model.h")
    header = (base / "model.h").read_text()
    assert told == {"output": str(base / "model.h"), "bytes": len(header), "train_samples": 9, "test_samples": 6}
    assert max(map(len, header.splitlines())) <= 100

    (base / "prints.c").write_text(PRINTS)
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'micropython_module' / 'core'}"]
    subprocess.run([*compiler, *flags, base / "prints.c", "-o", base / "prints"], check=True)
    printed = subprocess.run([base / "prints"], check=True, capture_output=True).stdout

    network, recipe = load_base(base / "base.elm"), Recipe(rank=3, mode="trainable_a", micro_batch=4)
    session = Session(network.elm, *recipe.settings(network.elm))
    session.begin(1)
    samples = [network.samples(dataset.load_dataset(base / f"{name}.npz")) for name in ("mine", "test")]
    arrays = b"".join(part.x.tobytes() + part.y.astype(np.uint8).tobytes() for part in samples)
    sizes = session.arena_bytes, len(session.save()), session.sample_size, 2, 4, recipe.momentum_shift
    expected = network.elm + recipe.ranks(network.elm) + "".join(LABELS).encode() + arrays
    assert printed == expected + " ".join(map(str, sizes)).encode()


def test_a_header_without_samples_and_with_a_plan(base: Path) -> None:
    edgelora("plan", base / "base.elm", "--rank", 2, "-o", base / "plan.json")
    result("export", base / "base.elm", "--plan", base / "plan.json", "-o", base / "planned.h")
    result("export", base / "base.elm", "--rank", 2, "-o", base / "ranked.h")
    assert (base / "planned.h").read_text() == (base / "ranked.h").read_text()
    assert "_samples" not in (base / "ranked.h").read_text()


def test_a_file_of_samples(base: Path) -> None:
    data = ("--data", base / "mine.npz", "--test", base / "test.npz")
    assert result("export", base / "base.elm", *data, "-o", base / "mine.eld")["train_samples"] == 9
    network = load_base(base / "base.elm")
    content = (base / "mine.eld").read_bytes()
    size = network.model.input.size
    assert content[8:16] == base_id(network.elm) and len(content) == 32 + 9 * (1 + size + 4)


def test_what_cannot_be_exported_is_refused(base: Path) -> None:
    elm = base / "base.elm"
    assert "header (.h) or of a file of samples (.eld)" in edgelora("export", elm, "-o", base / "model.txt", code=1)
    assert "give --data" in edgelora("export", elm, "-o", base / "mine.eld", code=1)
    data = ("--data", base / "mine.npz", "--frames", 1)
    assert "omit --frames" in edgelora("export", elm, *data, "-o", base / "model.h", code=1)
    assert not [*base.glob("model.*")]
