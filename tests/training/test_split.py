"""Test samples: a network is never silently tested on its training samples, and the output says what was used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import edgelora, result

from edgelora.core.formats.elm import pack_model
from edgelora.learn.report.record import Report
from edgelora.learn.report.sections import write_report
from edgelora.learn.training.data.base import load_parts
from edgelora.model.datasets import dataset
from edgelora.model.floatnet import layers
from edgelora.model.quantization.quantize import quantize

LABELS = ["walk", "run", "sit"]


def samples(*counts: int) -> dataset.Dataset:
    """This many windows of each class, all different."""
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(len(y)).normal(size=(len(y), 1, 12, 2)).astype(np.float32)
    return dataset.Dataset(x, y, LABELS)


def rows(part: dataset.Dataset) -> set[bytes]:
    return {row.tobytes() for row in part.x}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder with an untrained base."""
    net = layers.build((1, 12, 2), [layers.conv(4, (1, 3)), layers.dense(3)], 5)
    (tmp_path / "toy.elm").write_bytes(pack_model(quantize(net, samples(9, 9, 9).x)))
    return tmp_path


def train(toy: Path, *more: object) -> Any:
    return result("train-adapter", toy / "toy.elm", "--epochs", 1, "-o", toy / "a.ela", *more)


def test_a_file_is_split_by_class_and_always_alike() -> None:
    whole = samples(40, 9, 16)
    parts = dataset.split(whole, "x.npz")
    assert np.bincount(parts.test.y).tolist() == [10, 2, 4] and np.bincount(parts.train.y).tolist() == [30, 7, 12]
    assert rows(parts.train) | rows(parts.test) == rows(whole) and not rows(parts.train) & rows(parts.test)
    again = dataset.split(whole, "x.npz")
    assert np.array_equal(again.test.x, parts.test.x) and np.array_equal(again.train.y, parts.train.y)
    assert parts.tested_on == "16 samples of x.npz held out from training, 1 in 4 of each class (seed 0)"
    tested = rows(parts.test)
    held = np.array([row.tobytes() in tested for row in whole.x])
    for label in range(3):
        where = np.flatnonzero(held[whole.y == label])
        assert np.array_equal(where, np.arange(where[0], where[0] + len(where))), "neighbours go together"


def test_a_class_of_one_sample_is_named_and_too_few_are_refused() -> None:
    parts = dataset.split(samples(40, 1, 3), "x.npz")
    assert parts.tested_on.endswith("none of run, sit, of which there are fewer than 4")
    assert set(parts.test.y) == {0} and set(parts.train.y) == {0, 1, 2}
    for counts in ((1, 1, 1), (3, 3, 3), (8, 4, 1)):
        with pytest.raises(ValueError, match=rf"x\.npz: {sum(counts)} samples are too few .* of each class"):
            dataset.split(samples(*counts), "x.npz")


def test_without_test_samples_some_are_held_out(toy: Path) -> None:
    """Commands that train on a file, choose by it or test on it use the same split."""
    whole, file = samples(24, 12, 8), toy / "x.npz"
    dataset.save_dataset(whole, file)
    trained = train(toy, "--data", file)
    assert (trained["samples"], trained["test_samples"], trained["tested_on_seen"]) == (33, 11, 0)
    assert trained["tested_on"] == load_parts(str(file), None).tested_on
    evaluate = ["eval", toy / "toy.elm", "--data", file, "--adapter", toy / "a.ela", "--twin"]
    held = result(*evaluate, "--held-out")
    assert (held["accuracy"], held["samples"]) == (trained["accuracy_after"], 11)
    everything = result(*evaluate)
    assert (
        everything["samples"] == 44 and "may have memorized its training samples; --held-out" in everything["tested_on"]
    )
    plan = ["plan", toy / "toy.elm", "--data", file, "--mode", "frozen_a"]
    assert result(*plan)["choice"]["samples"] == 33
    assert result(*plan, "--test", file)["choice"]["samples"] == 44
    dataset.save_dataset(samples(1, 1, 1), file)
    for command in (["train-adapter", "-o", toy / "b.ela"], ["plan"], ["personalize", "--port", "nowhere"]):
        told = edgelora(command[0], toy / "toy.elm", "--data", file, *command[1:], code=1)
        assert "3 samples are too few to hold some out to test on: give others with --test" in told
    assert not (toy / "b.ela").exists()


def test_samples_that_were_trained_on_are_reported(toy: Path) -> None:
    own, others = samples(5, 5, 5), samples(4, 4, 4)
    mixed = dataset.Dataset(np.concatenate([own.x[:2], others.x]), np.concatenate([own.y[:2], others.y]), LABELS)
    for name, part in (("own", own), ("others", others), ("mixed", mixed)):
        dataset.save_dataset(part, toy / f"{name}.npz")
    for name, seen, words in (("own", 15, "says nothing about new"), ("mixed", 2, "2 of the 14"), ("others", 0, "npz")):
        trained = train(toy, "--data", toy / "own.npz", "--test", toy / f"{name}.npz")
        assert trained["tested_on_seen"] == seen and words in trained["tested_on"]
        assert trained["samples"] == 15


def test_the_report_says_what_it_was_tested_on(tmp_path: Path) -> None:
    run = Report("unix", 0.5, 0.75, None, True, 1024, 10, None, None, None, 1, 1, 1, "trainable_a")
    run.tested_on = "11 samples of <x>.npz held out"
    page = write_report(run, tmp_path).read_text()
    assert "Tested on 11 samples of &lt;x&gt;.npz held out." in page and "had not seen" not in page
