"""Probabilities of colluders and dropouts in a round, against full enumeration and 10,000 simulated rounds."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import fresh
import numpy as np
import pytest

from edgelora.base.errors import InputError
from edgelora.fleet.collusion import abandoned, crowded


@pytest.mark.parametrize(("boards", "colluders", "cohort"), [(5, 2, 3), (7, 3, 4), (8, 1, 8), (6, 0, 2), (9, 9, 4)])
def test_crowded_counts_every_cohort(boards: int, colluders: int, cohort: int) -> None:
    counts = [sum(i < colluders for i in drawn) for drawn in itertools.combinations(range(boards), cohort)]
    for tolerated in range(cohort + 2):
        expected = Fraction(sum(count > tolerated for count in counts), len(counts))
        assert crowded(boards, colluders, cohort, tolerated) == pytest.approx(float(expected), rel=1e-15)


@pytest.mark.parametrize(("cohort", "agreeing"), [(1, 0), (5, 2), (5, 4), (9, 6), (4, 4)])
def test_abandoned_counts_every_loss(cohort: int, agreeing: int) -> None:
    """Each board is lost with probability 1/4."""
    dropouts = Fraction(1, 4)
    total = Fraction(0)
    for lost in itertools.product((False, True), repeat=cohort):
        if cohort - sum(lost) < agreeing + 1:
            total += dropouts ** sum(lost) * (1 - dropouts) ** (cohort - sum(lost))
    assert abandoned(cohort, agreeing, 0.25) == pytest.approx(float(total), rel=1e-12)


@pytest.mark.parametrize("cohort", [50, 65])
def test_drawn_cohorts(cohort: int) -> None:
    """30 colluders among 1,000 boards. In a cohort that the server chooses, all may be colluders, whatever the
    probability."""
    rng, rounds = np.random.default_rng(fresh.SEED), 10_000
    counts = np.array([(rng.permutation(1000)[:cohort] < 30).sum() for _ in range(rounds)])
    for tolerated in (0, 1, 2, 5, 10, 30):
        p = crowded(1000, 30, cohort, tolerated)
        spread = 6 * math.sqrt(rounds * p * (1 - p)) + 1  # six standard deviations, and one round for rare events
        assert abs((counts > tolerated).sum() - rounds * p) <= spread
    assert crowded(1000, 30, cohort, 29) > 0 == crowded(1000, 30, cohort, 30)


def test_ends() -> None:
    assert [abandoned(9, 6, p) for p in (0.0, 1.0)] == [0.0, 1.0]
    assert abandoned(3, 5, 0.0) == 1.0
    for wrong in ((5, 6, 2, 1), (5, 2, 6, 1), (5, -1, 2, 1), (5, 2, 2, -1)):
        with pytest.raises(InputError, match="boards"):
            crowded(*wrong)
    with pytest.raises(InputError, match="0 to 1"):
        abandoned(5, 2, 1.5)
