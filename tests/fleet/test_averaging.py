"""Averages and checkpoints: exact integers, and the same bytes in any order and after interruptions."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from fractions import Fraction
from html import unescape
from math import floor
from pathlib import Path

import numpy as np
import pytest
from commands import edgelora, result
from fresh import fresh_seeds

from edgelora.base.errors import InputError
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.twin import device
from edgelora.fleet import averaging, federation
from edgelora.fleet.averaging import board_seed, with_vector
from edgelora.fleet.client_training import fresh_adapter
from edgelora.fleet.deployment import write_project
from edgelora.fleet.federation import Call, Federation, Total
from edgelora.fleet.plan import RATES, Plan
from edgelora.fleet.simulate import of_twins, plain_loop, write_page
from edgelora.fleet.simulated_boards import boards_of, fleet_base, update_of
from edgelora.learn.training.twin.warm_start import fleet_training, fleet_vector, restarted, scale_of

PLAN = Plan(rounds=3, seed=7, masks=False, server_rate=300, server_momentum=100)


@pytest.mark.parametrize("seed", fresh_seeds(3))
def test_the_mean_is_the_nearest_integer(seed: int) -> None:
    drawn = random.Random(seed)
    for _ in range(100):
        count, sums = drawn.randrange(1, 1000), [drawn.randrange(-(2**31), 2**31) for _ in range(20)]
        wanted = [floor(Fraction(total, count) + Fraction(1, 2)) for total in sums]
        assert averaging.mean(np.array(sums), count).tolist() == wanted


def test_masters_end_within_their_bounds() -> None:
    at = np.array([32500, -32500, 3], np.int16)
    assert averaging.moved(at, np.array([100, -100, -5])).tolist() == [32512, -32512, -2]


def test_the_order_of_boards_changes_nothing_and_a_killed_round_is_repeated(tmp_path: Path) -> None:
    base = fleet_base()
    boards = boards_of("har", base.elm, base.name, 8)
    whole = Federation.create(tmp_path / "whole", PLAN, base)
    exchange = plain_loop(whole, boards)
    federation.federate(whole, exchange)

    def shuffled(call: Call) -> Total:
        mixed = random.sample(call.boards, len(call.boards))
        return exchange(replace(call, boards=mixed))

    broken = Federation.create(tmp_path / "broken", PLAN, base)
    federation.federate(broken, shuffled, stop=1)

    def killed(call: Call) -> Total:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        federation.federate(broken, killed)
    resumed = Federation.open(tmp_path / "broken")
    assert resumed.done == 1
    federation.federate(resumed, shuffled)
    assert resumed.sha256 == whole.sha256 != Federation.create(tmp_path / "new", PLAN, base).sha256
    assert fleet_vector((tmp_path / "broken" / "global.ela").read_bytes()).any()


def test_a_twin_trains_as_a_board_does() -> None:
    base = fleet_base()
    samples = boards_of("har", base.elm, base.name, 8).of(3).train
    plan = Plan(masks=False)
    fresh = fresh_adapter(base.elm, plan.rank, plan.mode, plan.seed)
    start = pack_adapter(with_vector(unpack_adapter(fresh), fleet_vector(fresh)))
    seed = board_seed(5, 3)
    after = fleet_training(base.elm, start, samples, seed, 1, 5000)
    update = update_of(plan, base.elm, start, 5000, 5, 3, samples)
    assert np.array_equal(update, after.astype(np.int32) - fleet_vector(start))


@pytest.mark.parametrize("seed", fresh_seeds(1))
def test_a_scale_is_shared_to_a_256th_of_an_octave(seed: int) -> None:
    drawn, shared_scale = random.Random(seed), device.module("training").shared_scale
    for _ in range(200):
        vm, vx = drawn.randrange(1 << 15, 1 << 16), drawn.randrange(-100, 100)
        again = scale_of(shared_scale(vm, vx))
        assert again in ((vm & ~127, vx), (0, 0)) and (again[0] or (vm >> 7, vx) == (256, -16))
    assert shared_scale(0, 0) == 0 and scale_of(0) == (0, 0)
    assert [shared_scale(0x8000, vx) for vx in (-16, -15, 2000, -2000)] == [0, 256, 32512, -32512]


def test_a_round_begins_with_the_scales_of_the_round_before(tmp_path: Path) -> None:
    """Scales become the boards' mean, whatever the server does to masters; matrices start with these and momentum 0."""
    base = fleet_base()
    plan = replace(PLAN, rounds=2, server_rate=1000)
    one = Federation.create(tmp_path, plan, base)
    boards = boards_of("har", base.elm, base.name, 8)
    totals = []

    def kept(call: Call) -> Total:
        totals.append(plain_loop(one, boards)(call))
        return totals[-1]

    at = fleet_vector(one.adapter)
    for stop in (1, 2):
        federation.federate(one, kept, stop=stop)
        states = unpack_adapter(one.adapter).states
        count = len(states)
        assert count == 8 and all(state.vm for state in states)
        wanted = at[-count:] + averaging.mean(totals[-1].vector, 8)[-count:]
        at = fleet_vector(one.adapter)
        assert np.array_equal(at[-count:], wanted)
    begun = unpack_adapter(restarted(one.adapter, 5)).states
    assert [(s.vm, s.vx) for s in begun] == [(s.vm, s.vx) for s in states]
    assert not any(state.momentum.any() for state in begun if state.momentum is not None)


def test_scales_of_a_frozen_a_are_fresh_in_each_round(tmp_path: Path) -> None:
    base = fleet_base()
    one = Federation.create(tmp_path, replace(PLAN, mode="frozen_a", rounds=1), base)
    federation.federate(one, plain_loop(one, boards_of("har", base.elm, base.name, 8)))
    states = unpack_adapter(one.adapter).states
    assert len(fleet_vector(one.adapter)) == sum(state.master.size for state in states) == 632
    assert fleet_vector(one.adapter).any() and not any(state.vm for state in states)


@pytest.mark.parametrize(
    "changed",
    [
        {"rounds": 0},
        {"least": 9},
        {"cohort": 66},
        {"masks": True, "least": 5, "cohort": 4},
        {"clip": 70000},
        {"mode": "x"},
    ],
)
def test_a_plan_outside_its_limits_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(InputError, match="give|least"):
        Plan.of_json(PLAN.as_json() | changed)


def test_a_plan_suits_its_mode_and_noise() -> None:
    assert Plan.suited(clip=1000, noise=2.0).rate == RATES["frozen_a"]
    assert Plan.suited() == Plan() and Plan.suited(noise=2.0, clip=1000, mode="trainable_a").rate == Plan().rate
    assert Plan.suited(mode="frozen_a", rate=5).rate == 5
    noisy, other = Plan.suited(noise=2.0, clip=1000), Plan.suited(mode="frozen_a")
    assert noisy.rounds < other.rounds == Plan().rounds and noisy.server_rate < other.server_rate == Plan().server_rate
    assert Plan.suited(noise=2.0, clip=1000, rounds=7).rounds == Plan.suited(rounds=7).rounds == 7


def test_simulation_from_the_command_line_goes_on(tmp_path: Path) -> None:
    plain = ("--rate", 6000, "--server-rate", 256, "--server-momentum", 0)
    given = ("--engine", "loop", "--rounds", 2, "--seed", 3, *plain)
    first = result("fleet", "simulate", tmp_path / "f", *given)
    again = result("fleet", "simulate", tmp_path / "f", "--engine", "loop")
    assert first["sha256"] == again["sha256"] and first["fedavg"] > first["base"]
    page = (tmp_path / "f" / "report.html").read_text()
    assert "worst tenth" in page and first["sha256"] in page and "masks omitted" in page
    told = result("fleet", "report", tmp_path / "f")
    assert told["base"] == first["base"] and _undated((tmp_path / "f" / "report.html").read_text()) == _undated(page)
    state = json.loads((tmp_path / "f" / "state.json").read_text())
    (tmp_path / "f" / "state.json").write_text(json.dumps(state | {"before": {"0": 2}}))
    assert "accuracies with the base" in edgelora("fleet", "report", tmp_path / "f", code=1)


def _undated(page: str) -> str:
    return re.sub(r"\d+:\d\d UTC", "", page)


def test_the_page_states_masks_as_they_were_used(tmp_path: Path) -> None:
    base = fleet_base()
    said = {"project": "saw only sums", "twins": "masks omitted", "open": "each board's update"}
    for name, words in said.items():
        folder = tmp_path / name
        one = Federation.create(folder, replace(PLAN, masks=name != "open"), base)
        write_project(folder, "har" if name == "twins" else "", None if name == "twins" else tmp_path)
        page = unescape(write_page(one, folder / "report.html").read_text())
        assert [each for each in said.values() if each in page] == [words]
        assert ("Nothing hides" in page) == (name == "open")
    (tmp_path / "twins" / "app" / "pyproject.toml").write_text("[tool")  # unknown boards
    assert not of_twins(tmp_path / "twins")
