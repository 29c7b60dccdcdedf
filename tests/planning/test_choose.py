"""Choosing ranks: the allocation against all others, layers of known value, budgets that are kept and refused."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from random_models import random_input, random_model, random_sample

from edgelora.board.profiles import load_board
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.twin import regions
from edgelora.learn.planning.choose import Budget, choose, frontier
from edgelora.learn.planning.plan import plan
from edgelora.learn.planning.sensitivity import METHODS, Gains, sensitivity, weight_gradients
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.twin_learner import train_twin
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet import train
from edgelora.model.floatnet.layers import FloatNet, build, conv, dense, mean
from edgelora.model.quantization.quantize import quantize

PICO = load_board("rpi_pico")


# ---- allocation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_frontier_against_every_allocation(seed):
    rng = np.random.default_rng(seed)
    ops = list(range(1, 2 + rng.integers(4)))
    ranks = [1, 2, 4, 8][: 1 + rng.integers(4)]
    gains = {op: dict(zip(ranks, np.cumsum(rng.integers(0, 5, len(ranks))).tolist(), strict=True)) for op in ops}
    costs = {op: dict(zip(ranks, np.cumsum(rng.integers(1, 9, len(ranks))).tolist(), strict=True)) for op in ops}

    def worth(chosen):
        return sum(costs[op][rank] for op, rank in chosen.items()), sum(gains[op][rank] for op, rank in chosen.items())

    every = [
        worth({op: rank for op, rank in zip(ops, picked, strict=True) if rank})
        for picked in product((0, *ranks), repeat=len(ops))
    ]
    found = [worth(chosen) for chosen in frontier(gains, costs)]
    best = {cost: max(gain for other, gain in every if other <= cost) for cost, _ in every}
    beaten = {best[cost]: cost for cost in sorted(best, reverse=True)}  # the lowest cost of each gain
    assert found == sorted((cost, gain) for gain, cost in beaten.items())


# ---- the value of layers
# ----------------------------------------------------------------------------------------------


def made(net: FloatNet, x: np.ndarray, y: np.ndarray) -> tuple[bytes, Samples]:
    model = quantize(net, x)
    return pack_model(model), Samples(model.input.quantize(x), y)


def gains(elm: bytes, samples: Samples, recipe: Recipe, method: str) -> Gains:
    return sensitivity(elm, samples, recipe, method).gains


def test_gradients_of_few_inputs_have_low_rank():
    """With three disjoint inputs, a dense layer's gradient has rank 3: higher ranks gain nothing."""
    net = build((1, 1, 12), [dense(8)], 0)
    x = np.repeat(np.eye(12, dtype=np.float32)[[1, 5, 9]], (8, 4, 2), axis=0)[:, None, None]
    elm, samples = made(net, x, np.repeat([0, 3, 6], (8, 4, 2)))
    by_rank = gains(elm, samples, Recipe(mode="trainable_a"), "gradient")[0]
    assert by_rank[1] < by_rank[2] < by_rank[4] == pytest.approx(by_rank[8]) == pytest.approx(1)
    frozen = gains(elm, samples, Recipe(), "gradient")[0]
    assert all(frozen[rank] < by_rank[rank] for rank in (1, 2, 4))


def test_full_length_trials_rate_layers_where_short_ones_change_no_weight():
    """If the rate is so low that three epochs change no weight, layers are rated by the whole recipe."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    x = rng.normal(0, 0.2, (40, 1, 1, 6)) + np.repeat(np.eye(3), 2, axis=1)[y][:, None, None]
    elm, samples = made(build((1, 1, 6), [dense(3)], 1), x.astype(np.float32), y)
    slow = Recipe(mode="trainable_a", learning_rate=100, momentum=0)
    assert set(gains(elm, samples, replace(slow, epochs=3), "ablation")[0].values()) == {0.0}
    found = gains(elm, samples, replace(slow, epochs=300), "ablation")[0]
    assert 0 < found[1] < found[2]
    with pytest.raises(ValueError, match="no adapter lowers the loss"):
        choose(elm, samples, replace(slow, epochs=3), Budget(100_000), ["trainable_a"])
    assert choose(elm, samples, replace(slow, epochs=300), Budget(100_000), ["trainable_a"]).chosen.gain > 0


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_is_fed_zeros_is_worth_nothing(method, mode):
    """The second layer only sees the first one's biases; it can still learn which class is frequent."""
    net = build((1, 1, 6), [dense(8, "relu"), dense(4)], 0)
    net.layers[0].bias[:] = 1
    x = np.random.default_rng(1).normal(size=(40, 1, 1, 6)).astype(np.float32)
    elm, _ = made(net, x, np.zeros(40, int))
    zeros = Samples(unpack_model(elm).input.quantize(np.zeros_like(x)), np.repeat([2, 0], (35, 5)))
    found = gains(elm, zeros, Recipe(mode=mode), method)
    assert set(found[0].values()) == {0.0} and max(found[1].values()) > 0.1


def test_weight_gradients_are_those_of_the_float_network():
    rng = np.random.default_rng(3)
    net = build((1, 20, 4), [conv(40, (1, 5), (1, 2)), conv(8, (1, 1)), mean(), dense(5)], 2)
    x, y = rng.normal(size=(300, 1, 20, 4)).astype(np.float32), rng.integers(0, 5, 300)
    model = quantize(net, x)
    elm, samples = pack_model(model), Samples(model.input.quantize(x), y)
    found = weight_gradients(elm, samples, [0, 1, 3], lambda *_: None)
    activations = floatnet_layers.forward(net, x)
    wide = np.float32(max(1, 16 / 255 / model.output.scale))  # a grid of logits counts as at least 16 nats in the loss
    full = floatnet_layers.backward(
        net, activations, train.softmax_cross_entropy(wide * activations[-1].reshape(300, -1), y)[1]
    )
    factors = []
    for op, gradient in found.items():
        scale = model.ops[op].weight_scale
        exact = full[op][0].reshape(gradient.shape) * scale[:, None]
        factors.append(float(np.sum(exact * gradient) / np.sum(gradient**2)))
        assert np.corrcoef(exact.ravel(), gradient.ravel())[0, 1] > 0.99
    assert max(factors) < 1.3 * min(factors)


# ---- within a budget -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task() -> tuple[bytes, Samples]:
    """A network of three layers, and samples labelled by another network with the same first layer."""
    rng = np.random.default_rng(5)
    layers = [conv(12, (1, 5), (1, 2)), conv(16, (1, 3), (1, 2)), mean(), dense(4)]
    net, other = build((1, 96, 3), layers, 1), build((1, 96, 3), layers, 2)
    x = rng.normal(size=(64, 1, 96, 3)).astype(np.float32)
    logits = floatnet_layers.forward(replace(other, layers=[net.layers[0], *other.layers[1:]]), x)[-1].reshape(64, 4)
    return made(net, x, (logits - logits.mean(axis=0)).argmax(axis=1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ram, adapter", [(131072, None), (131072, 200), (6000, None), (7000, 500), (9000, 250)])
def test_choices_keep_budgets(task, method, ram, adapter):
    elm, samples = task
    choice = choose(elm, samples, Recipe(), Budget(ram, adapter), method=method)
    chosen = choice.chosen
    planned = plan(elm, PICO, chosen.recipe)
    assert planned.arena_bytes == chosen.arena_bytes <= ram
    run = train_twin(elm, samples, replace(chosen.recipe, epochs=1))
    assert len(run.adapter) == planned.adapter_bytes == chosen.adapter_bytes <= (adapter or 1 << 20)
    for other in choice.frontier:
        fits = other.arena_bytes <= ram and other.adapter_bytes <= (adapter or 1 << 20)
        assert not fits or other.gain <= chosen.gain
    if choice.beyond:
        assert choice.budget.share(choice.beyond.arena_bytes, choice.beyond.adapter_bytes) > 1
        assert choice.beyond.gain > chosen.gain
    assert choice.frontier[-1].gain == max(other.gain for other in choice.frontier)


def test_short_memory_is_met_by_computing_again(keyword_elm):
    rng = np.random.default_rng(4)
    model = unpack_model(keyword_elm)
    samples = Samples(np.stack([random_input(rng, model) for _ in range(6)]), rng.integers(0, 12, 6))
    recipe, limit = Recipe(placement="pointwise"), 72 * 1024
    tight = choose(keyword_elm, samples, recipe, Budget(limit), ["trainable_a"], "gradient").chosen
    assert tight.recompute and tight.arena_bytes <= limit
    kept = regions.layout(keyword_elm, bytes(tight.recipe.given_ranks), "trainable_a", 8, tight.recipe.momentum_shift)
    assert kept.arena_bytes > limit
    planned = plan(keyword_elm, PICO, tight.recipe)
    assert (planned.arena_bytes, planned.recompute) == (tight.arena_bytes, tight.recompute)
    assert planned.step_us > planned.infer_us > 0


def test_refusals_name_the_smallest_that_works(task):
    elm, samples = task
    with pytest.raises(ValueError, match="no adapter fits 1000 bytes of arena and 40 of adapter: the smallest") as told:
        choose(elm, samples, Recipe(), Budget(1000, 40))
    ram, adapter = (int(str(told.value).partition(flag)[2].split()[0]) for flag in ("--ram ", "--adapter "))
    smallest = choose(elm, samples, Recipe(), Budget(ram, adapter)).chosen
    assert (smallest.arena_bytes, max(40, smallest.adapter_bytes)) == (ram, adapter)
    with pytest.raises(ValueError, match="no adapter fits"):
        choose(elm, samples, Recipe(), Budget(ram - 8, adapter))


def test_micro_batches_shrink_where_a_layer_is_wide():
    rng = np.random.default_rng(7)
    net = build((1, 20000, 1), [conv(2, (1, 3)), mean(), dense(2)], 0)
    elm, samples = made(net, rng.normal(size=(4, 1, 20000, 1)).astype(np.float32), np.array([0, 1, 0, 1]))
    chosen = choose(elm, samples, Recipe(placement="all"), Budget(1 << 20), ["frozen_a"], "gradient").chosen
    assert (chosen.recipe.micro_batch == 3) == bool(chosen.recipe.given_ranks[0])
    assert regions.layout(elm, bytes(chosen.recipe.given_ranks), "frozen_a", chosen.recipe.micro_batch, 3)


def test_networks_with_history():
    """Samples have several frames; the chosen adapter trains on them."""
    model = random_model(3, "medium", ("conv", "history", "conv", "dense"), edges=False)
    rng, elm = np.random.default_rng(8), pack_model(model)
    x = np.stack([random_sample(rng, model, 3) for _ in range(12)])
    samples = Samples(x.reshape(12, 3, *model.input.shape), rng.integers(0, model.classes, 12))
    for method in METHODS:
        chosen = choose(elm, samples, Recipe(), Budget(1 << 20), method=method).chosen
        run = train_twin(elm, samples, chosen.recipe)
        assert len(run.adapter) == chosen.adapter_bytes and run.epoch_losses[-1] < run.epoch_losses[0]
