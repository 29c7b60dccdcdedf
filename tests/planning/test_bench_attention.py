"""`edgelora bench attention`: who is reported, shares of a gain, and operators against real numbers."""

import numpy as np
import pytest

from benchmarks import attention
from benchmarks.attention import TASKS, AttentionBench, Learned
from benchmarks.attention_ops import Learning, attend_decibels, gradient_cosines, norm_errors
from edgelora.core.formats.elm import pack_model
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin_learner import TwinLearner
from edgelora.model.datasets import text
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet import zoo
from edgelora.model.floatnet.train import fit
from edgelora.model.quantization.quantize import quantize

SIZES = zoo.Transformer(channels=16, layers=1, heads=(2, 1), hidden=24)


def test_settings_are_chosen_on_others_than_reported() -> None:
    for task in TASKS.values():
        assert task.people and task.choosing and not set(task.people) & set(task.choosing)


def test_a_share_is_of_float_loras_gain_from_each_ones_own_base() -> None:
    runs = [Learned("a", 0, 2.2, 2.3, 2.0, 2.1, 2.2), Learned("b", 1, 2.4, 2.5, 2.0, 2.1, 2.2)]
    told = AttentionBench({"lm": runs}, None, {}).as_json()["lm"]
    assert told["share_of_gain"] == 1.0 and told["share_of_gain_frozen_a"] == pytest.approx(2 / 3, abs=1e-3)
    assert told["minus_float_lora"] == {"trained_a": (0.1, 0.0), "frozen_a": (0.2, 0.0)}
    assert (told["authors"], told["seeds"], told["float_base"]) == (2, 2, 2.3)


def test_norm_and_attention_are_near_real_numbers() -> None:
    errors = norm_errors(32, centred=True)
    assert errors.size > 10_000 and np.abs(errors).max() < 0.53 and errors.std() < 0.3
    assert attend_decibels(25, 1.0) > 32


def test_bits_of_integers_and_floats_count_the_same_positions(monkeypatch) -> None:
    """A base that has learned its text: a symbol follows from the one before, in the later half of windows alone."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, (200, 1, 8, 1)).astype(np.float32)
    y = (x[:, 0, :, 0].astype(np.int64) + 1) % 6
    net = zoo.language_model(6, 8, 0, SIZES)
    fit(net, x, y, epochs=12, seed=0, batch=16, rate=1e-2)
    model = quantize(net, x, head_room=1.5)
    later = Dataset(x, np.where(np.arange(8) < 4, attention.NOT_A_SYMBOL, y))
    wrong = Dataset(x, np.where(np.arange(8) < 4, (y + 1) % 6, y))
    elm = pack_model(model)
    learner = TwinLearner(elm, Recipe(2).settings(elm))
    found = attention.score(learner, model, attention.samples_of(model, later))
    assert attention.bits(net, later) < 0.1 < 1 < attention.bits(net, wrong)
    assert abs(found - attention.bits(net, later)) < 0.05
    new = Dataset(x[:32], (y[:32] + 1) % 6)
    cosines = gradient_cosines(Learning(net, model, new, attention.samples_of(model, new)))
    assert set(cosines) == {"B, 0 steps", "B, 3 steps", "A, 3 steps"}
    assert all(len(of) == 8 and np.mean(of) > 0.95 for of in cosines.values()), cosines


def test_people_have_names() -> None:
    with pytest.raises(attention.InputError, match="john_f_kennedy"):
        attention.bench_attention(["lm"], ["nobody"])
    assert TASKS["lm"].choosing == text.CHOOSING
