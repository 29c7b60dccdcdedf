"""Fixtures of the command tests: a base, boards, samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from once import made_once
from processes import edgelora, result

from edgelora.model.datasets import dataset, keywords
from edgelora.model.datasets import har as datasets_har


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quickly trained base, a second base, firmware, and some of person 3's windows.

    steps.json has the output of each step.
    """
    return made_once(tmp_path_factory, "made", fill)


def fill(folder: Path) -> None:
    steps, net, elm = {}, folder / "base.npz", folder / "har.elm"
    steps["pretrain"] = result("pretrain", "har:3", "--epochs", 6, "-o", net)
    steps["quantize"] = result("quantize", net, "--data", "har:3", "-o", elm)
    steps["plan"] = result("plan", elm)
    for board, name in (("unix", "har.romfs"), ("virtual-pico", "har.uf2")):
        steps[board] = result("build", "--board", board, "--model", elm, "-o", folder / name)
    edgelora("pretrain", "har:3", "--epochs", 1, "--seed", 1, "-o", folder / "other.npz")
    edgelora("quantize", folder / "other.npz", "--data", "har:3", "-o", folder / "other.elm")
    har = datasets_har.load_har(3)
    dataset.save_dataset(some(har.train, 12), folder / "train.npz")
    dataset.save_dataset(some(har.test, 10), folder / "test.npz")
    (folder / "steps.json").write_text(json.dumps(steps))


def some(part: dataset.Dataset, count: int) -> dataset.Dataset:
    """`count` windows, spread over all of `part`."""
    picked = np.linspace(0, len(part) - 1, count).astype(int)
    return dataset.Dataset(part.x[picked], part.y[picked], part.labels)


@pytest.fixture
def unix(made: Path, tmp_path: Path) -> Iterator[str]:
    """The port of a unix board with the base in ROMFS, started by the command."""
    board = result("sim", "unix", "--firmware", made / "har.romfs", "--state", tmp_path / "board")
    yield board["port"]
    assert result("sim", "unix", "--stop", "--state", tmp_path / "board") == {"stopped": [board["port"]]}


@pytest.fixture(scope="module")
def spoken(keyword_elm: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keyword network and random samples: two sizes each of training and test data."""
    folder = tmp_path_factory.mktemp("spoken")
    (folder / "kws.elm").write_bytes(keyword_elm)
    rng = np.random.default_rng(2)
    for name, count in (("train", 10), ("test", 6), ("few", 2), ("one", 1)):
        x = rng.normal(size=(count, 49, 10, 1)).astype(np.float32)
        dataset.save_dataset(dataset.Dataset(x, rng.integers(0, 12, count), keywords.LABELS), folder / f"{name}.npz")
    return folder
