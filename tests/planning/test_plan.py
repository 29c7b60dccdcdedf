"""Planning: what fits, what it costs, and what is recomputed if memory is short."""

import json
from itertools import product

import numpy as np
import pytest
from fresh import slow
from random_models import random_input, random_model

from benchmarks.networks import language
from edgelora.board.profiles import load_board
from edgelora.cli.main import main
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import regions
from edgelora.core.twin.session import Session
from edgelora.learn.planning.cost import passes_of
from edgelora.learn.planning.plan import plan
from edgelora.learn.planning.plan_file import PlanError, load_plan
from edgelora.learn.planning.zeros import samples
from edgelora.learn.training.recipe import Recipe, Settings
from edgelora.learn.training.run import recompute
from edgelora.learn.training.run.recompute import choose_recompute, smallest_arena
from edgelora.model.floatnet.layers import FloatNet, build, conv, dense, depthwise, mean
from edgelora.model.floatnet.zoo import Transformer
from edgelora.model.quantization.quantize import quantize

CASES = (
    # kinds, mode, seeds of models with large activations
    (("conv", "lookup", "conv", "lookup", "max_pool", "dense"), "frozen_a", (0, 2, 8, 11)),
    (("conv", "gate", "conv", "max_pool", "dense"), "trainable_a", (2, 3, 4)),
    (("conv", "branches", "lookup", "conv", "dense"), "trainable_a", (0, 4)),
    (("conv",) * 5 + ("dense",), "trainable_a", (2, 8)),
)
PICO = load_board("rpi_pico")
KEYWORDS = {"rank": 4, "placement": "pointwise"}


def cost(model: QuantModel, ranks: bytes, flags: tuple[int, ...]) -> int:
    """Multiply-accumulates to recompute the flagged outputs, adapters included."""
    total = 0
    for flag, rank, op in zip(flags, ranks, model.ops, strict=True):
        if flag and op.weights is not None:
            height, width, outputs = model.tensors[op.output].shape
            patch = op.weights.size // outputs
            total += height * width * (op.weights.size + rank * (patch + outputs))
    return total


def arena(elm: bytes, recipe: Recipe, flags: tuple[int, ...]) -> int:
    settings = recipe.settings(elm)._replace(recompute=bytes(flags))
    return regions.layout(elm, *settings).arena_bytes


@pytest.mark.parametrize("kinds, mode, seeds", CASES)
def test_the_cheapest_set_that_fits(kinds, mode, seeds, monkeypatch):
    """Compared with all sets of outputs."""
    recipe = Recipe(rank=2, mode=mode)
    for seed in seeds:
        model = random_model(seed, "medium", kinds, edges=False)
        elm = pack_model(model)
        every = list(product((0, 1), repeat=len(model.ops)))
        arenas = {flags: arena(elm, recipe, flags) for flags in every}
        settings, keep, least = recipe.settings(elm), arenas[every[0]], min(arenas.values())
        assert choose_recompute(elm, settings, keep) is None
        for limit in {size for size in arenas.values() if size < keep}:
            chosen = tuple(choose_recompute(elm, settings, limit))
            assert arenas[chosen] <= limit
            costs = [cost(model, settings.ranks, f) for f in every if arenas[f] <= limit]
            assert cost(model, settings.ranks, chosen) == min(costs)
        with pytest.raises(ValueError, match=f"at least {least} bytes"):
            choose_recompute(elm, settings, least - 1)
        with monkeypatch.context() as patch:  # step by step, as in larger networks
            patch.setattr(recompute, "EXACT", 0)
            assert arenas[tuple(choose_recompute(elm, settings, keep - 1))] < keep


def test_large_networks_are_shrunk_step_by_step():
    block = [depthwise(16, (3, 3)), conv(16, (1, 1))]
    elm = quantized(build((12, 12, 2), [conv(16, (3, 3)), *block * 10, mean(), dense(4)], 0))
    recipe = Recipe(rank=2, mode="trainable_a", placement="pointwise")
    keep = arena(elm, recipe, (0,) * 23)
    limit, settings = keep * 3 // 4, recipe.settings(elm)
    assert arena(elm, recipe, tuple(choose_recompute(elm, settings, limit))) <= limit


@slow
def test_a_transformer_needs_less_than_a_growing_set_finds(monkeypatch):
    """With outputs exchanged, too, and training is the same."""
    elm = pack_model(language(40, 32, Transformer(32, 2, (4, 4), 64)))
    settings = Recipe(rank=4, mode="trainable_a").settings(elm)
    least = smallest_arena(elm, settings)
    with monkeypatch.context() as patch:
        patch.setattr(recompute, "_descending", lambda *_: iter(()))
        assert least < smallest_arena(elm, settings)
        with pytest.raises(ValueError, match="bytes of arena"):
            choose_recompute(elm, settings, least)
    choose_recompute.cache_clear()
    chosen = choose_recompute(elm, settings, least)
    assert regions.layout(elm, *settings._replace(recompute=chosen)).arena_bytes <= least
    x, y = samples(unpack_model(elm))
    saved = []
    for again in (None, chosen):
        session = Session(elm, settings.ranks, settings.mode, 4, recompute=again)
        session.begin(1)
        for one, target in zip(x, y, strict=True):
            session.train(one, target, 9000)
        saved.append(session.save())
    assert saved[0] == saved[1]


def quantized(net: FloatNet) -> bytes:
    x = np.random.default_rng(0).normal(size=(8, *net.input_shape)).astype(np.float32)
    return pack_model(quantize(net, x))


# ---- the keyword network ---------------------------------------------------------------------------------------------


def test_plans_of_the_keyword_network(keyword_elm):
    frozen = plan(keyword_elm, PICO, Recipe(**KEYWORDS))
    assert frozen.fits and frozen.arena_bytes <= 48 * 1024
    trainable = plan(keyword_elm, PICO, Recipe(**KEYWORDS, mode="trainable_a", ram=96 * 1024))
    assert trainable.fits and trainable.arena_bytes <= 96 * 1024
    assert frozen.recompute == trainable.recompute == ()
    assert frozen.infer_arena_bytes < frozen.arena_bytes < trainable.arena_bytes

    layers = frozen.layers
    separable = [(1, "depthwise", 9 * 64), (4, "conv", 64 * 64)] * 4
    kinds = [(0, "conv", 40 * 64), *separable, (0, "mean", 0), (4, "dense", 12 * 64)]
    for i, (p, (rank, kind, weights)) in enumerate(zip(layers, kinds, strict=True)):
        positions = 1 if i > 8 else 25 * 5
        assert (p.op, p.kind, p.weights, p.macs) == (i, kind, weights, positions * weights)
        adapted = rank == 4
        assert (p.rank, p.adapter_macs) == (4 * adapted, positions * 4 * (64 + p.output[2]) * adapted)
        assert p.adapter_bytes == 4 * p.output[2] * adapted
        assert trainable.layers[i].adapter_bytes == 4 * (64 + p.output[2]) * adapted
    assert sum(p.macs for p in layers) == 2_656_768
    assert {p.activation for p in layers} == {"used at once"}  # frozen A needs no inputs
    assert [p.activation for p in trainable.layers] == ["used at once", "kept"] * 5 + ["used at once"]


def test_plans_of_a_wake_word(tmp_path, capsys):
    """Training costs all frames of a sample, an inference one; the plan's file keeps their number."""
    pytest.importorskip("pymicro_wakeword")
    from wake_words import MODELS

    base, file = tmp_path / "nabu.elm", tmp_path / "plan.json"
    assert main(["import", str(MODELS / "okay_nabu.json"), "-o", str(base)]) == 0
    elm, recipe = base.read_bytes(), Recipe(**KEYWORDS)
    whole, few = plan(elm, PICO, recipe), plan(elm, PICO, recipe, 10)
    assert (whole.frames, few.frames) == (54, 10) and whole.infer_us == few.infer_us < few.step_us < whole.step_us / 3
    for planned in (whole, few):
        session = Session(elm, bytes(planned.ranks), planned.mode, 8, planned.momentum, frames=planned.frames)
        assert session.arena_bytes == planned.arena_bytes
    command = ["plan", str(base), "--rank", "4", "--placement", "pointwise"]
    assert main([*command, "--frames", "10", "-o", str(file)]) == 0
    assert "training step of 10 frames" in capsys.readouterr().out and load_plan(file, elm).given_ranks == few.ranks
    for frames in (0, 2.5, "x", 65536):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"frames": frames}))
        with pytest.raises(PlanError, match="damaged"):
            load_plan(file, elm)


def test_training_with_recomputation_gives_the_same_bytes(keyword_elm):
    recipe = Recipe(**KEYWORDS, mode="trainable_a", micro_batch=2, ram=80 * 1024)
    planned = plan(keyword_elm, PICO, recipe)
    flags = bytes(planned.recompute)
    assert planned.fits and planned.arena_bytes <= recipe.ram
    rng, model, ranks = np.random.default_rng(1), unpack_model(keyword_elm), recipe.ranks(keyword_elm)
    assert planned.recompute_macs == cost(model, ranks, planned.recompute) > 0
    assert [p.activation == "recomputed" for p in planned.layers] == [bool(flag) for flag in flags]
    samples = [(random_input(rng, model), int(rng.integers(12))) for _ in range(5)]
    runs = []
    for again in (None, flags):
        session = Session(keyword_elm, ranks, recipe.mode, 2, recipe.momentum_shift, again)
        session.begin(3)
        losses = [session.train(x, label, 20000) for x, label in samples]
        session.flush(20000)
        runs.append((losses, session.save(), session.save(state=True)))
        assert session.arena_bytes <= recipe.ram or not again
    assert runs[0] == runs[1]


def test_a_constant_costs_nothing_again():
    """The core keeps none, whatever the flags: its plan says what is recomputed."""
    model = random_model(467)
    assert [op.kind for op in model.ops] == ["constant", "minimum", "depthwise", "mean", "dense"]
    settings = Settings(bytes([0, 0, 0, 0, 5]), "trainable_a", 1, 0, None, 0)
    flagged = settings._replace(recompute=bytes([1, 1, 1, 1, 1]))
    kept, again = (passes_of(pack_model(model), each) for each in (settings, flagged))
    assert again.forward[0] == kept.forward[0] and again.forward[3] != kept.forward[3]


def test_plans_that_do_not_fit(keyword_elm):
    all_layers = Recipe(rank=32, mode="trainable_a")
    assert not plan(keyword_elm, PICO, all_layers).fits
    with pytest.raises(ValueError, match=r"needs at least \d+ bytes .* and the limit is 20000: give it more --ram"):
        plan(keyword_elm, PICO, Recipe(**KEYWORDS, ram=20000))


def test_the_plan_command(keyword_elm, tmp_path, capsys):
    path = tmp_path / "kws.elm"
    path.write_bytes(keyword_elm)
    command = ["plan", str(path), "--rank", "4", "--placement", "pointwise", "--mode", "trainable_a"]
    assert main([*command, "--ram", "80k", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["fits"], told["ram_bytes"], told["rank"], len(told["layers"])) == (True, 81920, 4, 11)
    assert told["recompute_macs"] > 0 < sum(told["recompute"])
    assert main([*command, "--ram", "80K"]) == 0
    table = capsys.readouterr().out
    assert "predicted: inference" in table
    assert main([*command, "--board", "openmv_n6"]) == 0
    assert "no time is predicted: openmv_n6 was never timed" in capsys.readouterr().out
    assert "adapter MACs" in table and "output is" in table
    assert table.count("recomputed") == sum(told["recompute"])
    assert f"{told['recompute_macs']:,} MACs a training step" in table
    assert main([*command, "--ram", "20K"]) == 1
    ended = capsys.readouterr()
    assert ended.out == "" and ended.err.startswith("edgelora: training needs at least") and ended.err.count("\n") == 1
