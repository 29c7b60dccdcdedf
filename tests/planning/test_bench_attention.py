"""`edgelora bench attention`: who is reported, shares of a gain, operators against real numbers, times of a Pico."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import attention, attention_pico
from benchmarks.attention import TASKS, AttentionBench, Learned
from benchmarks.attention_ops import Learning, attend_decibels, gradient_cosines, norm_errors
from benchmarks.attention_pico import Case, PicoBench, Strokes
from benchmarks.networks import image, language, quantized
from edgelora.board.profiles import load_board
from edgelora.board.romfs import make_romfs
from edgelora.core.formats.elm import pack_model
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.twin_learner import TwinLearner
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


def test_people_and_cases_have_names() -> None:
    with pytest.raises(attention.InputError, match="john_f_kennedy"):
        attention.bench_attention(["lm"], ["nobody"])
    with pytest.raises(attention.InputError, match="har_one_core"):
        attention.bench_attention(["pico"], cases=["nothing"])
    assert TASKS["lm"].choosing == text.CHOOSING


def test_adapters_of_attention_are_its_four_matrices() -> None:
    """Also where queries and keys are rotated; a compact transformer then trains 8,192 numbers, as TrainDeeploy's."""
    for model in (language(20, 8, SIZES), image(16, SIZES)):
        ranks = attention_pico.of_attention(model, 4)
        adapted = [op for op, rank in zip(model.ops, ranks, strict=True) if rank]
        assert [op.kind for op in adapted] == ["conv", "conv", "conv", "project"]
        assert len({op.input for op in adapted[:3]}) == 1
    model = image(32, attention_pico.zoo.COMPACT)
    for mode, numbers in (("trainable_a", 8192), ("frozen_a", 4096)):
        case = Case(model, attention_pico.of_attention(model, 4), mode, 1 << 20)
        assert attention_pico.trainables(case) == numbers


def test_the_files_of_a_compact_transformer_fit_a_picos_romfs() -> None:
    flash = load_board(attention_pico.BOARD).flash
    files = attention_pico.files_of(attention_pico.both_blocks())
    assert flash and len(make_romfs(files)) <= flash.romfs_bytes


def test_a_step_on_a_virtual_pico_takes_its_time() -> None:
    """Measured and predicted; the arena is the planner's, and features spare the layers below."""
    model = quantized(zoo.encoder((1, 48, 3), 4, 0, sizes=replace(SIZES, channels=32, layers=2)))
    last = attention_pico.of_attention(model, 4, last=1)
    found = attention_pico.measured(Case(model, last, "trainable_a", 1 << 16, cached=True))
    assert found.step_predicted_ms and 0.7 < found.step_predicted_ms / found.step_ms < 1.3
    assert found.cached_ms and found.infer_ms > 0 and found.cached_ms < found.step_ms
    both = attention_pico.measured(Case(model, last, "trainable_a", 1 << 16, cores=2))
    assert 0.5 < both.step_ms / found.step_ms < 1.1 and both.arena > found.arena
    assert both.step_predicted_ms is None, "the model of costs is that of one core"
    told = PicoBench({"har": found}, {"keystroke": Strokes(8.0, 10.0, 5.0, 6.0, 1000)}, {}).as_json()
    assert told["cycles"] == {"har_step": round(found.step_ms * 125_000), "keystroke_ms": 8.0, "keystroke_ms_200": 5.0}
    assert told["arena"] == {"har": found.arena, "keystroke": 1000}
