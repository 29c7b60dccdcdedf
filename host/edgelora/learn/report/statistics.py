"""Confidence intervals, and tests of significance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Z = 1.959963984540054  # a normal variable's 97.5% quantile: intervals of 95%
SIGNIFICANT = 0.05  # the largest p-value of a significant difference
LEAST_MEANS = 6  # samples: the fewest for an interval of the mean
NO_DIFFERENCE = "no measurable difference"


class Interval(NamedTuple):
    """Both ends."""

    low: float
    high: float


def wilson(share: float, count: int) -> Interval | None:
    """Wilson's 95% confidence interval of a share of `count` test samples; None if the number is unknown."""
    if not count:
        return None
    middle = share + Z * Z / (2 * count)
    spread = Z * ((share * (1 - share) + Z * Z / (4 * count)) / count) ** 0.5
    whole = 1 + Z * Z / count
    return Interval(max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole))


def at_least(count: int, of: int, share: float) -> float:
    """The probability of `count` or more among `of` samples if each counts with the probability `share`."""
    return math.fsum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(count, of + 1))


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's 95% confidence interval of the mean of the values' distribution; None for fewer than LEAST_MEANS."""
    count = len(values)
    if count < LEAST_MEANS:
        return None
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    spread = _student(count - 1) * math.sqrt(variance / count)
    return Interval(mean - spread, mean + spread)


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's t, by its expansion (Abramowitz and Stegun, 26.7.5); within 0.02% from 5 on."""
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    return Z + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def sign_test(gained: int, lost: int) -> float:
    """The exact two-sided p-value of McNemar's test: the probability of so uneven a split of changed samples by chance.

    gained: samples that became correct; lost: that became wrong. Unchanged samples do not count.
    """
    changed = gained + lost
    whole = math.lgamma(changed + 1) - changed * math.log(2)
    tail = sum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(changed - k + 1)) for k in range(min(gained, lost) + 1)
    )
    return min(1.0, 2 * tail)


def verdict(gained: int, lost: int) -> str:
    """The change in words: "better", "worse" or "no measurable difference"."""
    if sign_test(gained, lost) > SIGNIFICANT:
        return NO_DIFFERENCE
    return "better" if gained > lost else "worse"


def difference_verdict(gap: Interval | None) -> str:
    """The same for errors, from the interval of the difference, after minus before; None: unknown."""
    if gap is None or gap.low <= 0 <= gap.high:
        return NO_DIFFERENCE
    return "better" if gap.high < 0 else "worse"


def most_events(count: int, confidence: float = 0.95) -> float:
    """An upper confidence bound of the mean number of events, if they are independent (Poisson): above it,
    so few occur with a probability below 1 - confidence. For zero events at 95 % it is 3.0.
    """
    low, high = 0.0, 10.0 + 3 * count
    for _ in range(60):
        mean = (low + high) / 2
        terms = [math.exp(-mean + i * math.log(mean) - math.lgamma(i + 1)) for i in range(count + 1)]
        low, high = (mean, high) if sum(terms) > 1 - confidence else (low, mean)
    return high
