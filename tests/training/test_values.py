"""Autoencoders: their own input is the target, and the error is the measure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from autoencoders import autoencoder, real_error, rows

from edgelora import api
from edgelora.cli.main import main
from edgelora.learn.training.data.base import Base, WorkflowError
from edgelora.learn.training.data.data_checks import remarks
from edgelora.learn.training.judge.metrics import measured
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.host_run import train_adapter
from edgelora.model.datasets import dataset


@pytest.fixture(scope="module")
def base() -> Base:
    return autoencoder()


@pytest.mark.parametrize("tries", [1, 2])
def test_the_error_falls(base: Base, tries: int) -> None:
    """As measured by the adapter's outputs; the best of several tries has the lowest error."""
    samples, data = base.samples(rows(60, 2)), rows(40, 3)
    test = base.samples(data)
    result = train_adapter(base, samples, test, Recipe(rank=4, epochs=6), tries)
    before, after = (measured(base, answered, test) for answered in (result.before, result.after))
    assert (before.name, after.name) == ("error", "error")
    assert before.value == pytest.approx(real_error(base, None, data), rel=1e-9)
    assert after.value == pytest.approx(real_error(base, result.run.adapter, data), rel=1e-9)
    assert after.value < 0.7 * before.value and after.merit > before.merit
    if tries > 1:
        best = min(result.tries, key=lambda one: one.validation_error)
        assert (result.recipe.seed, result.recipe.initial_rate) == (best.seed, best.learning_rate)
        assert {one.validation_accuracy for one in result.tries} == {None}


def test_targets_beyond_the_outputs_are_told(base: Base) -> None:
    test = base.samples(rows(40, 3))
    loud = rows(40, 4, 20)
    low, high = base.model.output.span
    told = remarks(base, None, test, base.samples(loud))
    share = float(np.mean((loud.x < low - base.model.output.scale) | (loud.x > high + base.model.output.scale)))
    said = [note for note in told.notes if "targets are outside the output range" in note]
    assert share > 0.1 and f"{share:.1%}"[0] == said[0][0]
    assert remarks(base, None, test, test).saturated == 0
    assert not [note for note in remarks(base, None, test, test).notes if "class" in note or "accuracy" in note]


def test_only_networks_that_reconstruct_their_input_learn_values(base: Base) -> None:
    tensors = [*base.model.tensors[:-1], replace(base.model.tensors[-1], shape=(1, 1, 5))]
    other = Base("regression.elm", base.elm, replace(base.model, tensors=tensors))
    with pytest.raises(WorkflowError, match="5 outputs for 12 inputs"):
        other.samples(rows(4, 2))


def test_from_python(base: Base) -> None:
    """The same figures as the commands'."""
    run = api.personalize(base, rows(60, 2), rows(40, 3), recipe=Recipe(rank=4, epochs=6))
    assert run.after == pytest.approx(real_error(base, run.ela, rows(40, 3)), rel=1e-9) and run.after < 0.7 * run.before
    assert api.evaluate(base, rows(40, 3), run.adapter) == run.after
    assert api.evaluate(base, rows(40, 3)) == run.before
    assert 0 < run.losses[-1] < run.losses[0] < 10 * run.before and "error" in repr(run)


def test_commands(base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """train-adapter, eval and plan."""
    (tmp_path / "auto.elm").write_bytes(base.elm)
    dataset.save_dataset(rows(60, 2), tmp_path / "train.npz")
    dataset.save_dataset(rows(40, 3), tmp_path / "test.npz")

    def run(*args: object, code: int = 0) -> tuple[str, str]:
        assert main([str(arg) for arg in args]) == code
        printed = capsys.readouterr()
        return printed.out, printed.err

    elm, ela = tmp_path / "auto.elm", tmp_path / "user.ela"
    data = ("--data", tmp_path / "train.npz", "--test", tmp_path / "test.npz")
    trained = json.loads(run("train-adapter", elm, *data, "-o", ela, "--rank", 4, "--json")[0])
    assert trained["error_after"] < 0.7 * trained["error_before"] and "accuracy_after" not in trained
    assert trained["error_after"] == pytest.approx(real_error(base, ela.read_bytes(), rows(40, 3)))
    judge = ("eval", elm, "--data", tmp_path / "test.npz", "--twin", "--adapter", ela)
    found = json.loads(run(*judge, "--json")[0])
    assert found["error"] == trained["error_after"] and "accuracy" not in found
    assert run(*judge)[0].startswith(f"error {found['error']:.4g} on 40 windows")
    planned = json.loads(run("plan", elm, "--data", tmp_path / "train.npz", "--adapter", "1K", "--json")[0])
    assert planned["choice"]["chosen"]["adapter_bytes"] <= 1024
