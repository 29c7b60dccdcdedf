"""Autoencoders: their own input is the target, and what counts is the error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelora import api, cli, formats, quantization, training, twin
from edgelora.datasets import Dataset, dataset
from edgelora.floatnet import layers
from edgelora.training import Base, Recipe, measured, remarks, train_adapter

SHAPE = (1, 4, 3)


def rows(count: int, seed: int, gain: float = 1.0) -> Dataset:
    """Inputs of two degrees of freedom."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(2, 12))
    x = gain * np.tanh(rng.normal(size=(count, 2)) @ mix).reshape(count, *SHAPE)
    return Dataset(x.astype(np.float32), np.zeros(count, np.int64))


@pytest.fixture(scope="module")
def base() -> Base:
    """A network of 12 inputs and as many outputs, which has learned nothing."""
    net = layers.build(SHAPE, [layers.dense(8, "relu"), layers.dense(12)], 3)
    model = quantization.quantize(net, rows(64, 1).x)
    model.loss = "mean_squared_error"
    elm = formats.pack_model(model)
    return Base("auto.elm", elm, formats.unpack_model(elm))


def real_error(base: Base, adapter: bytes | None, data: Dataset) -> float:
    """Of the data as they are, on the grid of outputs."""
    session = twin.Session(base.elm, training.adapter_ranks(base, adapter), "infer", 1)
    session.use(adapter)
    output = base.model.output
    squares = []
    for x in data.x:
        session.infer(base.model.input.quantize(x))
        wanted = output.dequantize(output.quantize(x.reshape(-1)))
        squares.append(np.mean((output.dequantize(session.logits) - wanted) ** 2))
    return float(np.mean(squares))


@pytest.mark.parametrize("tries", [1, 2])
def test_the_error_falls(base: Base, tries: int) -> None:
    """As measured from what the adapter answers; the best of several tries has the least error."""
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
        assert (result.recipe.seed, result.recipe.learning_rate) == (best.seed, best.learning_rate)
        assert {one.validation_accuracy for one in result.tries} == {None}


def test_targets_beyond_the_outputs_are_told(base: Base) -> None:
    test = base.samples(rows(40, 3))
    loud = rows(40, 4, 20)
    low, high = base.model.output.span
    told = remarks(base, None, test, base.samples(loud))
    share = float(np.mean((loud.x < low - base.model.output.scale) | (loud.x > high + base.model.output.scale)))
    said = [note for note in told.notes if "targets are beyond the output range" in note]
    assert share > 0.1 and f"{share:.1%}"[0] == said[0][0]
    assert remarks(base, None, test, test).saturated == 0
    assert not [note for note in remarks(base, None, test, test).notes if "class" in note or "accuracy" in note]


def test_only_networks_that_give_back_their_input(base: Base) -> None:
    tensors = [*base.model.tensors[:-1], replace(base.model.tensors[-1], shape=(1, 1, 5))]
    other = Base("regression.elm", base.elm, replace(base.model, tensors=tensors))
    with pytest.raises(training.WorkflowError, match="5 outputs for 12 inputs"):
        other.samples(rows(4, 2))
    for call in (lambda: api.personalize(base, rows(20, 2)), lambda: api.evaluate(base, rows(20, 2))):
        with pytest.raises(training.WorkflowError, match="edgelora train-adapter"):
            call()


def test_commands(base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """train-adapter, eval and plan; personalize says what does it."""
    (tmp_path / "auto.elm").write_bytes(base.elm)
    dataset.save_dataset(rows(60, 2), tmp_path / "train.npz")
    dataset.save_dataset(rows(40, 3), tmp_path / "test.npz")

    def run(*args: object, code: int = 0) -> tuple[str, str]:
        assert cli.main([str(arg) for arg in args]) == code
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
    assert "use train-adapter" in run("personalize", elm, *data, "-o", tmp_path / "run", code=1)[1]
