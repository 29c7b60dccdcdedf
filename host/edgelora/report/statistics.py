"""What a test set of this size can tell: confidence intervals, and whether a change is more than chance."""

from __future__ import annotations

import math

Z = 1.959963984540054  # a normal variable's 97.5% quantile: intervals of 95%
SIGNIFICANT = 0.05  # the largest p-value that is called a difference


def wilson(share: float, count: int) -> tuple[float, float] | None:
    """Wilson's 95% confidence interval of a share of `count` test samples; None where nobody knows how many."""
    if not count:
        return None
    middle = share + Z * Z / (2 * count)
    spread = Z * ((share * (1 - share) + Z * Z / (4 * count)) / count) ** 0.5
    whole = 1 + Z * Z / count
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)


def sign_test(gained: int, lost: int) -> float:
    """The exact two-sided p-value of McNemar's test: how often chance alone splits the changed samples so unevenly.

    gained: samples that became right; lost: that became wrong. Samples with the same outcome twice say nothing.
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
        return "no measurable difference"
    return "better" if gained > lost else "worse"
