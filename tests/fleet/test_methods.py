"""Methods to improve training under noise (`edgelora bench fleet methods`): rounds equal a federation's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import fleet_controls, fleet_methods
from benchmarks.fleet_methods import METHODS, SETTINGS, Method, banded_factor, correlated, in_turn
from edgelora.core.formats.ela import Adapter, unpack_adapter
from edgelora.fleet import federation
from edgelora.fleet.averaging import UNITS
from edgelora.fleet.federation import Federation
from edgelora.fleet.personalize import bare_start
from edgelora.fleet.plan import Plan
from edgelora.fleet.privacy import Epsilons
from edgelora.fleet.simulate import plain_loop
from edgelora.fleet.simulated_boards import boards_of, fleet_base

CLIPS = (1000,) * len(SETTINGS)
PLAN = Plan.suited(rounds=3, noise=1.0, clip=1000, seed=7, share=0.5)


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_rounds_are_those_of_a_federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    # The accountant has an environment of its own.
    monkeypatch.setattr(federation, "epsilons", lambda *_: Epsilons(0.0, 0.0))
    plan, base = replace(PLAN, mode=mode), fleet_base()
    tried = fleet_methods.federated(base, plan, Method(CLIPS, mode), "har")
    one = Federation.create(tmp_path, replace(plan, share=1.0), base)  # all given boards are asked
    plain = plain_loop(one, boards_of("har", base.elm, base.name, plan.boards))
    for step, asked in enumerate(tried.asked):
        call = replace(one.call(asked, plan.rate), seed=fleet_methods.round_seed(plan, step))
        one.finish(call, plain(call), 0.0)
    assert tried.adapter == one.adapter and tried.clips == [plan.clip] * 3


@pytest.mark.parametrize("alternate", ["rounds", "updates"])
def test_a_and_b_are_trained_in_turns(alternate: str) -> None:
    base = fleet_base()
    plan = replace(PLAN, mode="trainable_a", noise=0.0, share=1.0, boards=2)
    method = Method(CLIPS, plan.mode, alternate)  # type: ignore[arg-type]

    def after(rounds: int) -> Adapter:
        ended = fleet_methods.federated(base, replace(plan, rounds=rounds), method, "har")
        return unpack_adapter(ended.adapter)

    fresh = unpack_adapter(bare_start(base, plan, plan.seed))
    moved = [_moved(fresh, after(1)), _moved(after(1), after(2))]
    assert moved == ([{"b"}, {"a"}] if alternate == "rounds" else [{"a", "b"}] * 2)


def _moved(before: Adapter, after: Adapter) -> set[str]:
    """The kinds of masters that differ."""
    found = set()
    for old, new in zip(before.layers, after.layers, strict=True):
        for name in ("a_state", "b_state"):
            if (getattr(old, name).master != getattr(new, name).master).any():
                found.add(name[0])
    return found


def test_clips_move_towards_their_quantile() -> None:
    base, plan = fleet_base(), replace(PLAN, noise=0.0, share=1.0, rounds=4)
    for clip, quantile, goes_up in ((100, 0.5, True), (30_000, 0.5, False), (100, 0.9, True)):
        method = Method(CLIPS, quantile=quantile)
        clips = fleet_methods.federated(base, replace(plan, clip=clip), method, "har").clips
        assert clips[0] == clip and all((later > one) == goes_up for one, later in itertools.pairwise(clips))
    step = clips[1] / clips[0]
    assert step == pytest.approx(np.exp(fleet_methods.CLIP_STEP * 0.1), rel=0.005)


def test_counts_have_their_share_of_the_budget() -> None:
    z = 2.0
    updates = fleet_methods.noise_left(z, Method(CLIPS, quantile=0.5))
    counts = z / fleet_methods.COUNTING**0.5
    assert 1 / updates**2 + 1 / counts**2 == pytest.approx(1 / z**2)
    assert fleet_methods.noise_left(z, Method(CLIPS)) == z


@pytest.mark.parametrize("method", [Method(CLIPS), Method(CLIPS, quantile=0.8), Method(CLIPS, turns=True, bands=2)])
def test_a_round_of_too_few_boards_moves_nothing(method: Method) -> None:
    base, plan = fleet_base(), replace(PLAN, least=8)
    one = fleet_methods.federated(base, plan, method, "har")
    assert max(map(len, one.asked)) < 8 and not one.clips
    assert one.adapter == bare_start(base, plan, plan.seed)


def test_each_board_has_its_turn() -> None:
    plan = replace(PLAN, boards=50, share=0.2, rounds=10)
    asked = [in_turn(plan, step) for step in range(plan.rounds)]
    assert sorted(itertools.chain(*asked[:5])) == list(range(50)) and asked[5:] == asked[:5]


@pytest.mark.parametrize(("rounds", "bands", "momentum"), [(20, 10, 0.75), (20, 5, 0.75), (9, 4, 0.0)])
def test_contributions_of_a_board_are_bounded_by_its_turns(rounds: int, bands: int, momentum: float) -> None:
    """For any updates: columns that are `bands` apart are orthogonal, and each has norm 1."""
    factor = banded_factor(rounds, bands, momentum)
    assert (np.triu(factor, 1) == 0).all() and (np.tril(factor, -bands) == 0).all()
    assert np.linalg.norm(factor, axis=0) == pytest.approx(1.0)
    for first in range(bands):
        turns = factor[:, first::bands]
        assert turns.T @ turns == pytest.approx(np.eye(turns.shape[1]))


def test_the_factor_is_a_square_root_of_rounds_with_momentum() -> None:
    whole = banded_factor(12, 12, 0.75)
    series = whole[:, 0] / whole[0, 0]
    square = np.convolve(series, series)[:12]
    velocity = step = 0.0
    for round_, value in enumerate(square):  # for a single average of 1, in round 0
        velocity = 0.75 * velocity + (round_ == 0)
        step += velocity
        assert value == pytest.approx(step)


def test_correlated_noise_is_independent_under_the_factor_and_smaller_in_the_end() -> None:
    plan = replace(PLAN, boards=100, share=0.2, rounds=10, least=12)
    noise = correlated(plan, Method(CLIPS, turns=True, bands=5), 20_000)
    momentum = plan.server_momentum / UNITS
    each = plan.sigma * np.sqrt(20)
    drawn = banded_factor(10, 5, momentum) @ noise / each
    assert np.cov(drawn) == pytest.approx(np.eye(10), abs=0.05)
    left = (1 - momentum ** np.arange(10, 0, -1)) / (1 - momentum)
    assert np.std(left @ noise) < 0.7 * each * np.linalg.norm(left)


def test_methods_are_compared_with_the_plain_one_at_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    places = list(METHODS)

    def untrained(run: Callable[..., object], jobs: Iterable[tuple[Any, ...]]) -> Iterator[object]:
        if run is fleet_controls.unshared_of:
            return iter([0.25 for _ in jobs])
        return iter([(places.index(job[3]) / 8 + job[4] / 100, job[4], job[2]) for job in jobs])

    monkeypatch.setattr(fleet_methods, "in_parallel", untrained)
    found = fleet_methods.methods(None, 3)["methods"]  # type: ignore[arg-type]
    assert len(found) == len(SETTINGS) * len(METHODS) + len(fleet_methods.FLEETS)
    second = found[f"100 boards, z 2, {places[1]}"]
    assert second["gain"] == (0.125, 0.0) and second["accuracy"] == (0.145, 0.0058)
    assert second["outsider"] == 3 and second["server"] == 2.0
    assert found["100 boards, alone"]["accuracy"] == (0.25, 0.0)
