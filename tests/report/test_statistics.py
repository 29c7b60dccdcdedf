"""Intervals and the sign test against published values."""

import math

import pytest

from edgelora.learn.report.statistics import Interval, difference_verdict, mean_interval, sign_test, verdict, wilson


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(right: int, count: int, low: float, high: float) -> None:
    """The last case is Newcombe's example of 1998, method 3."""
    assert wilson(right / count, count) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(("count", "t"), [(6, 2.5706), (11, 2.2281), (31, 2.0423), (121, 1.9799)])
def test_mean_interval(count: int, t: float) -> None:
    """Against tables of Student's t, for values with mean 3 and a known sum of squares."""
    values = [3 + (-1) ** i for i in range(count // 2 * 2)] + [3] * (count % 2)
    spread = t * math.sqrt(count // 2 * 2 / (count - 1) / count)
    assert mean_interval(values) == pytest.approx((3 - spread, 3 + spread), rel=1e-4)
    assert mean_interval(values[:5]) is None


def test_an_interval_needs_samples() -> None:
    assert wilson(0.5, 0) is None


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 0, 1.0), (3, 3, 1.0), (0, 5, 0.0625), (6, 0, 0.03125), (1, 9, 22 / 1024), (8, 2, 112 / 1024)],
)
def test_sign_test(gained: int, lost: int, p: float) -> None:
    assert sign_test(gained, lost) == pytest.approx(p, rel=1e-12) == sign_test(lost, gained)


def test_sign_test_of_many() -> None:
    """Thousands of changed samples do not overflow floats; the p-value approaches the normal approximation's."""
    z = (20_300 - 20_000 - 0.5) / math.sqrt(10_000)
    assert sign_test(20_300, 19_700) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


def test_verdicts() -> None:
    """Of counts of changed samples, and of errors' differences."""
    expected = ["better", "worse", *["no measurable difference"] * 3]
    assert [verdict(*counts) for counts in ((6, 0), (0, 6), (5, 0), (0, 5), (0, 0))] == expected
    gaps = (Interval(-2, -1), Interval(1, 2), Interval(-1, 1), Interval(-1, 0), None)
    assert [difference_verdict(gap) for gap in gaps] == expected
