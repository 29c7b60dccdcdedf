"""Training on the host: the board's bytes, choosing among tries, interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelora.cli.main import main
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base, WorkflowError, adapter_ranks
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import Verdict, prepared
from edgelora.learn.training.recipe import Recipe, Settings
from edgelora.learn.training.run.host_run import split, train_adapter, variants
from edgelora.learn.training.twin import qat
from edgelora.learn.training.twin.qat import train_qat
from edgelora.learn.training.twin.twin_learner import TwinLearner, guard_twin
from edgelora.model.datasets import dataset
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.lora import ALPHA
from edgelora.model.quantization import adapter_fit
from edgelora.model.quantization.quantize import quantize

CLASSES = 3


def toy(count: int, seed: int) -> dataset.Dataset:
    """Noisy steps, whose position is the class; the base below is untrained."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    x = rng.normal(0, 0.3, (count, 1, 12, 2))
    for i, label in enumerate(y):
        x[i, 0, 4 * label : 4 * label + 4] += 1
    return dataset.Dataset(x.astype(np.float32), y)


@pytest.fixture(scope="module")
def base() -> Base:
    net = layers.build((1, 12, 2), [layers.conv(8, (1, 3)), layers.dense(CLASSES)], 7)
    elm = pack_model(quantize(net, toy(64, 1).x))
    return Base("toy.elm", elm, unpack_model(elm))


@pytest.fixture(scope="module")
def samples(base: Base) -> Samples:
    return base.samples(toy(40, 2))


@pytest.fixture(scope="module")
def test_part(base: Base) -> Samples:
    return base.samples(toy(60, 3))


@pytest.mark.parametrize("cache", ["none", "ram"])
@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_adapter_and_answers_equal_the_boards(
    base: Base, samples: Samples, test_part: Samples, mode: str, cache: str
) -> None:
    """The adapter equals that of on-board training; the reported answers are those of its `.ela`."""
    recipe = Recipe(rank=4, mode=mode, epochs=8, seed=4, learning_rate=20000, cache=cache, placement="last")
    trained = train_adapter(base, samples, test_part, recipe)
    course = prepared(base.elm, samples, recipe)
    guard = course.guard(TwinLearner(base.elm, recipe.settings(base.elm)))
    board = guard_twin(base.elm, course, guard)
    assert (trained.run.adapter, trained.run.losses) == (board.adapter, board.losses)
    assert (trained.recipe, trained.tries, trained.run.verdict) == (recipe, [], Verdict.BETTER)
    state, adapter = (unpack_adapter(one, base.model) for one in (trained.run.state, board.adapter))
    assert state.has_state
    assert all(np.array_equal(a.b, b.b) for a, b in zip(state.layers, adapter.layers, strict=True))
    for plain in (True, False):
        session = Session(base.elm, adapter_ranks(base, trained.run.adapter), "infer", 1, plain=plain)
        assert np.array_equal(session.predict(test_part.x), trained.before)
        session.use(trained.run.adapter)
        assert np.array_equal(session.predict(test_part.x), trained.after)
    assert np.mean(trained.after == test_part.y) > np.mean(trained.before == test_part.y) + 0.2


def test_tries(base: Base, samples: Samples, test_part: Samples) -> None:
    """The best by validation is trained again on all samples; test samples do not affect the choice."""
    recipe = Recipe(rank=1, epochs=2, seed=2**32 - 2)
    tried = train_adapter(base, samples, test_part, recipe, tries=4)
    assert [one.seed for one in tried.tries] == [2**32 - 2, 2**32 - 1, 0, 1]
    assert [one.learning_rate for one in tried.tries] == [6000, 3000, 12000, 6000]
    best = max(tried.tries, key=lambda one: one.validation_accuracy)
    assert (tried.recipe.seed, tried.recipe.initial_rate) == (best.seed, best.learning_rate)
    assert tried.run == train_adapter(base, samples, test_part, tried.recipe).run
    turned = Samples(test_part.x, (test_part.y + 1) % CLASSES)
    again = train_adapter(base, samples, turned, recipe, tries=4)
    told = replace(again.run, verdict=tried.run.verdict)  # the test samples find it worse
    assert (again.tries, told) == (tried.tries, tried.run)
    given = Recipe(learning_rate=60000)
    assert {one.learning_rate for one in variants(given, 5)} == {60000}
    with pytest.raises(ValueError, match="0 tries"):
        train_adapter(base, samples, test_part, recipe, tries=0)


def test_quantization_aware(base: Base, samples: Samples, test_part: Samples) -> None:
    """It learns the task as a plain adapter of the given ranks, reproducible by seed."""
    recipe = Recipe(rank=1, mode="trainable_a", micro_batch=8, epochs=12, seed=7)
    trained = train_adapter(base, samples, test_part, recipe, trainer=train_qat)
    adapter = unpack_adapter(trained.run.adapter, base.model)
    assert {layer.rank for layer in adapter.layers} == {1}
    assert trained.run == train_adapter(base, samples, test_part, recipe, trainer=train_qat).run
    assert np.mean(trained.after == test_part.y) > np.mean(trained.before == test_part.y) + 0.2
    assert trained.run.epoch_losses[-1] < 0.7 * trained.run.epoch_losses[0]
    assert [one.seed for one in train_adapter(base, samples, test_part, recipe, 2, trainer=train_qat).tries] == [7, 8]
    learner = TwinLearner(base.elm, recipe.settings(base.elm))
    learner.load(trained.run.state)  # a board can continue from there
    assert learner.save(False) == trained.run.adapter
    with pytest.raises(ValueError, match="A is frozen"):
        train_qat(base.elm, samples, replace(recipe, mode="frozen_a"))


def test_masters_are_rounded_with_the_least_change_of_weights(base: Base, samples: Samples) -> None:
    """During training, and at the end."""
    masters = some_masters(base, samples)
    wanted = [ALPHA / 2 * b @ a for a, b in zip(masters.parameters[::2], masters.parameters[1::2], strict=True)]
    for adapter in (masters.rounded(), masters.fitted()):
        for layer, change in zip(adapter.layers, wanted, strict=True):
            rounded = adapter_fit.real_change(base.model, layer)
            assert np.linalg.norm(rounded - change) < 0.02 * np.linalg.norm(change)


def some_masters(base: Base, samples: Samples) -> qat.Masters:
    """Masters of rank 2, as if trained."""
    masters = qat.Masters(base.elm, bytes([2, 2]), np.random.default_rng(3), samples)
    for b in masters.parameters[1::2]:
        b[:] = np.random.default_rng(4).normal(0, 0.2, b.shape)
    masters.calibrate()
    return masters


def test_masters_gradients_are_those_of_the_twins_loss(base: Base, samples: Samples) -> None:
    """In direction and size, for changes of masters over many rounding steps."""
    masters = some_masters(base, samples)
    learner = TwinLearner(base.elm, Settings(bytes([2, 2]), "trainable_a", len(samples) + 1, 2, None, 0))

    def loss() -> float:
        learner.load(pack_adapter(masters.rounded()))
        return sum(learner.train(samples.x, samples.y, 0)) / 4096

    loss()
    gradients = masters.gradients(masters.rounded(), learner.gradients())
    for matrix, gradient in zip(masters.parameters, gradients, strict=True):
        move, changes = 0.15 * np.abs(matrix).max(), np.zeros(matrix.shape)
        for place in np.ndindex(matrix.shape):
            middle = matrix[place]
            for side in (1, -1):
                matrix[place] = middle + side * move
                changes[place] += side * loss()
            matrix[place] = middle
        expected = gradient * 2 * move * base.model.loss_scale
        assert np.corrcoef(expected.ravel(), changes.ravel())[0, 1] > 0.95
        assert 0.85 < (expected * changes).sum() / (expected * expected).sum() < 1.15


def test_validation_holds_out_the_last_of_each_class(base: Base) -> None:
    y = np.array([0, 1, 0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 1])
    x = np.arange(len(y), dtype=np.int8).reshape(-1, 1, 1, 1)
    kept, held = split(Samples(x, y))
    assert held.x.ravel().tolist() == [9, 10, 12] and held.y.tolist() == [0, 0, 1]
    assert sorted([*kept.x.ravel(), *held.x.ravel()]) == list(range(len(y)))
    with pytest.raises(WorkflowError, match="too few samples"):
        split(Samples(x[:2], y[:2]))


def test_command(base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy.elm").write_bytes(base.elm)
    for name, count in (("train", 40), ("test", 60)):
        dataset.save_dataset(toy(count, count), tmp_path / f"{name}.npz")
    model, ela = str(tmp_path / "toy.elm"), tmp_path / "user.ela"
    parts = ["--data", str(tmp_path / "train.npz"), "--test", str(tmp_path / "test.npz")]
    settings = ["--rank", "2", "--epochs", "2", "--tries", "2", "-o", str(ela), "--json"]
    assert main(["train-adapter", model, *parts, *settings]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["bytes"], len(printed["losses"]), len(printed["tries"])) == (ela.stat().st_size, 10, 2)
    assert main(["eval", model, "--data", parts[3], "--adapter", str(ela), "--twin", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == printed["accuracy_after"]
    assert main(["train-adapter", model, *parts, *settings, "--save-state"]) == 0
    assert unpack_adapter(ela.read_bytes(), base.model).has_state
    capsys.readouterr()
    host = ["--qat", "--rank", "1", "--epochs", "4", "-o", str(ela), "--json"]
    assert main(["train-adapter", model, *parts, *host]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["losses"]) == 4 * 2
    assert main(["eval", model, "--data", parts[3], "--adapter", str(ela), "--twin", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == printed["accuracy_after"]
    for wrong, message in (
        (["--qat", "--learning-rate", "9"], "not with --learning-rate"),
        (["--qat", "--mode", "frozen_a"], "not with frozen A"),
        (["--qat", "--augment", "motion"], "is for windows"),
        (["--augment", "motion"], "give --qat too"),
    ):
        assert main(["train-adapter", model, *parts, *wrong]) != 0
        assert message in capsys.readouterr().err


TALKATIVE = """import sys
from edgelora.cli import console
from edgelora.cli.main import main

console.LINE_SECONDS = 0
sys.exit(main())
"""


@pytest.mark.parametrize(("tries", "epochs"), [(1, 10000), (200, 200)])
def test_interruption_writes_nothing(base: Base, tmp_path: Path, tries: int, epochs: int) -> None:
    (tmp_path / "toy.elm").write_bytes(base.elm)
    dataset.save_dataset(toy(40, 0), tmp_path / "x.npz")
    arguments = ["train-adapter", "toy.elm", "--data", "x.npz", "--epochs", str(epochs), "--tries", str(tries)]
    process = subprocess.Popen(
        [sys.executable, "-c", TALKATIVE, *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        assert any(line.startswith("train-adapter: 1/") for line in iter(process.stderr.readline, ""))
        os.killpg(process.pid, signal.SIGINT)  # as from a terminal, to all of its processes
        errors = process.stderr.read()  # communicate() would miss what readline() has read ahead
        process.wait(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors.splitlines()[-1]) == (130, "stopped; no adapter was written")
    assert not [line for line in errors.splitlines()[:-1] if line and not line.startswith("train-adapter: ")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.elm", "x.npz"]
