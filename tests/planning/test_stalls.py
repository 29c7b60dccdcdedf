"""What reads of flash and zeros of a network are predicted to cost, and predictions of networks in flash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fresh import slow

from benchmarks import silicon
from benchmarks.networks import Shape, dense_chain, network
from edgelora.board.build import build_firmware
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.learn.planning.cost import predict
from edgelora.learn.planning.stalls import CACHE_BYTES, RECORD_BYTES, Flash
from edgelora.learn.planning.terms import layer
from edgelora.learn.planning.zeros import Zeros, zeros_of
from edgelora.learn.training.recipe import Settings

PICO = load_board("virtual-pico")
WORD = 4  # cycles of a miss, so that stalls are bytes


def flash_of(shapes: list[Shape], cold: bool) -> tuple[Flash, int]:
    """Flash with these layers, and the bytes that an inference reads of it."""
    model = network(shapes)
    layers = tuple(layer(model, i, Zeros()) for i in range(len(model.ops)))
    size = sum((of.inputs + 9) * of.outputs + RECORD_BYTES for of in layers)
    return Flash(layers, bytes(len(layers)), WORD, cold), size


def convs(count: int) -> list[Shape]:
    return [Shape("conv", "conv", (3, 3, 60), 60) for _ in range(count)]


def test_a_cold_inference_reads_all_once() -> None:
    flash, size = flash_of(convs(6), cold=True)
    found = flash.inference()
    assert size > CACHE_BYTES
    assert sum(found.ahead.values()) == pytest.approx(size, rel=0.01)
    assert found.call == pytest.approx(2624, rel=0.01)


def test_a_base_that_fits_stays_in_the_cache_and_a_larger_one_does_not() -> None:
    small, size = flash_of(convs(1), cold=False)
    assert size < CACHE_BYTES / 3 and sum(small.inference().ahead.values()) < 0.2 * size
    large, size = flash_of(convs(9), cold=False)
    assert sum(large.inference().ahead.values()) > 0.95 * size > CACHE_BYTES


def test_a_step_finds_what_the_last_one_ended_with() -> None:
    flash, size = flash_of(convs(6), cold=False)
    step = flash.step([False] + [True] * 5)
    assert sum(step.ahead.values()) + sum(step.back.values()) < 1.2 * size


def test_weights_read_ahead_pass_the_cache() -> None:
    flash, size = flash_of(dense_chain(200, 200, 200), cold=True)
    assert sum(flash.inference().ahead.values()) == pytest.approx(2 * RECORD_BYTES, abs=2 * 64)
    rows = 4  # of the first block: the others come while the core multiplies
    assert flash.ahead(0, 0) - flash.ahead(0, 1e9) == pytest.approx((200 - rows) * 200 * WORD / 10)


def test_zeros_are_those_of_the_network() -> None:
    def of(bias: float, fused: bool = True) -> Zeros:
        below = Shape("conv", "conv", (6, 6, 4), 16)
        model = network([below, Shape("conv", "conv", (6, 6, 16), 16, fused=fused, bias=bias)])
        return zeros_of(pack_model(model), model)[1]

    none, few, most = of(0, fused=False), of(-1), of(3)
    assert none.positive == 1 and none.live > 0.9 and none.chosen(0.5) == 0
    assert few.positive < 0.3 and few.live < 0.3 and few.chosen(0.5) == 1
    assert most.positive > 0.9 and most.live > 0.9 and most.chosen(0.5) == 0


@pytest.fixture(scope="module")
def in_flash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, QuantModel], dict[str, dict]]]:
    """Networks, and what they take on a virtual Pico with them in flash."""
    folder: Path = tmp_path_factory.mktemp("flash")
    drawn = silicon.held_out(31)
    models = {name: drawn[name] for name in ("perceptron", "keywords", "image")}
    files: dict[str, bytes] = {}
    for name, model in models.items():
        files[f"{name}.elm"] = elm = pack_model(model)
        ranks = silicon._ranks(model)
        files[f"{name}.ela"] = silicon.random_adapter(elm, ranks, "frozen_a", np.random.default_rng(0))
    image = build_firmware("virtual-pico", files, folder / "image.uf2")
    handle = virtual_board.start("virtual-pico", image, folder / "board", die_with_parent=True)
    try:
        yield models, dict(silicon._measured(handle.port, models))
    finally:
        handle.stop()


@pytest.mark.parametrize("name", ["perceptron", "keywords", "image"])
@slow
def test_networks_in_flash_take_what_was_predicted(
    in_flash: tuple[dict[str, QuantModel], dict[str, dict]], name: str
) -> None:
    models, found = in_flash
    settings = Settings(silicon._ranks(models[name]), "frozen_a", silicon.MICRO_BATCH, silicon.MOMENTUM, None, 0)
    for at, cold in enumerate((False, True)):
        cost = predict(pack_model(models[name]), settings, PICO, in_flash=True, cold=cold)
        assert cost
        assert cost.infer_us == pytest.approx(found[name]["infer"][at], rel=0.08)
        assert cost.step_us == pytest.approx(found[name]["step"][at], rel=0.08)
