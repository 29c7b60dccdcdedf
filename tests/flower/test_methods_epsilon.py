"""Epsilons of the methods under noise: exact for Gaussian noise, and equal where they should be."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from benchmarks import fleet_methods
from benchmarks.fleet_methods import METHODS, SETTINGS, epsilon, groups_of, matched

CDF = NormalDist().cdf
DELTA = 1e-5


@pytest.mark.parametrize(("z", "times"), [(1.0, 1), (1.0, 9), (2.0, 7), (0.5, 2), (4.96, 2)])
def test_epsilon_of_gaussian_noise_is_exact(z: float, times: int) -> None:
    """By Balle and Wang (2018), theorem 8, as for one round with less noise."""
    told, mu = epsilon(z, 1.0, times, DELTA), math.sqrt(times) / z
    delta = CDF(mu / 2 - told / mu) - math.exp(told) * CDF(-mu / 2 - told / mu)
    assert delta == pytest.approx(DELTA, rel=0.01)


def test_sampling_lowers_epsilon_and_no_noise_has_none() -> None:
    assert 0 < epsilon(1.0, 0.1, 20, DELTA) < epsilon(1.0, 1.0, 2, DELTA)
    assert math.isinf(epsilon(0.0, 0.1, 20, DELTA))


@pytest.mark.parametrize(("size", "noise"), SETTINGS)
@pytest.mark.parametrize("whose", ["outsider", "server"])
def test_turns_and_sampling_are_matched_by_epsilon(size: str, noise: float, whose: str) -> None:
    plan = METHODS[fleet_methods.PLAIN].plan(size, noise, seed=3)
    turns = plan.rounds // groups_of(plan)
    mine = epsilon(matched(plan, whose), 1.0, turns, plan.delta)
    if whose == "outsider":
        theirs = epsilon(plan.multiplier, plan.share, plan.rounds, plan.delta)
    else:
        asked = [fleet_methods.drawn(plan, step) for step in range(plan.rounds)]
        most = max(sum(index in boards for boards in asked) for index in range(plan.boards))
        theirs = epsilon(plan.multiplier, 1.0, most, plan.delta)
    assert mine == pytest.approx(theirs, rel=0.005) and (whose == "server" or mine <= theirs)
