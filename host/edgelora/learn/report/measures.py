"""Metrics of a run in words: accuracy or, for a network that learns values, mean squared error.

Reports, pages and terminal output take them from here. Both classes have the same interface.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import page
from .statistics import Interval, difference_verdict, sign_test, verdict, wilson


@dataclass(frozen=True)
class Accuracy:
    """Shares of 1 before, after, and after each epoch; None if not measured.

    gained, lost: test samples that became correct, and wrong.
    """

    before: float
    after: float
    epochs: Sequence[float]
    samples: int
    gained: int | None
    lost: int | None

    name = "accuracy"
    title = "Accuracy"
    best = "highest"
    caption = "with Wilson's 95% confidence intervals if the number of test samples is known"

    def shown(self, value: float) -> str:
        return page.percent(value)

    def tick(self, value: float) -> str:
        return f"{100 * value:g}%"

    def interval(self, value: float) -> Interval | None:
        """The 95% confidence interval of the accuracy."""
        return wilson(value, self.samples)

    def scored(self, value: float) -> str:
        """A network's result, with the number of correct test samples and the confidence interval."""
        within = self.interval(value)
        if within is None:
            return f"scored {self.shown(value)}"
        right = f"{round(value * self.samples):,} of {page.count(self.samples, 'test sample')} correct"
        return (
            f"scored {self.shown(value)} ({right}; 95% interval {100 * within.low:.1f} to {page.percent(within.high)})"
        )

    @property
    def merit(self) -> float:
        """The score after training: higher is better."""
        return self.after

    @property
    def verdict(self) -> str | None:
        return None if self.gained is None or self.lost is None else verdict(self.gained, self.lost)

    @property
    def why(self) -> str:
        """The reason for the verdict, in a sentence."""
        if self.gained is None or self.lost is None:
            return ""
        p = sign_test(self.gained, self.lost)
        shown = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
        changes = f"{page.count(self.gained, 'test sample')} became correct and {self.lost:,} wrong"
        return f"{changes} ({shown}, exact sign test)."

    @property
    def change(self) -> str:
        points = 100 * (self.after - self.before)
        if abs(points) < 0.05:
            return "no change"
        if points < 0:
            return f"{-points:.1f} points worse"
        fewer = 100 * (1 - (1 - self.after) / (1 - self.before))
        return f"{points:.1f} points better, {fewer:.0f}% fewer errors"

    @property
    def spread(self) -> str:
        """The interval shown in tables: that of the accuracy after training."""
        within = self.interval(self.after)
        return "–" if within is None else f"{page.percent(within.low)} to {page.percent(within.high)}"

    def levels(self, values: Sequence[float], from_zero: bool = False) -> list[float]:
        """Grid lines of a chart that holds these values."""
        floor = 0.0 if from_zero else min(0.9, math.floor(min(values) * 5) / 5)
        steps = 5 if from_zero else 4
        return [floor + (1 - floor) * i / steps for i in range(steps + 1)]


@dataclass(frozen=True)
class Error:
    """Mean squared errors before, after, and after each epoch, in squared units of the data.

    gap: the 95% interval of error after minus error before, on the same samples; None: too few samples.
    """

    before: float
    after: float
    epochs: Sequence[float]
    gap: Interval | None

    name = "error"
    title = "Mean squared error"
    best = "lowest"
    caption = "in squared units of the data; 95% intervals of the changes are in the table"

    def shown(self, value: float) -> str:
        return f"{value:.4g}"

    def tick(self, value: float) -> str:
        return f"{value:g}"

    def interval(self, value: float) -> Interval | None:
        """None: intervals of single errors say nothing about the difference, as hard samples are hard for both."""
        return None

    def scored(self, value: float) -> str:
        return f"had a mean squared error of {self.shown(value)}"

    @property
    def merit(self) -> float:
        """The score after training: higher is better."""
        return -self.after

    @property
    def verdict(self) -> str | None:
        return difference_verdict(self.gap)

    @property
    def why(self) -> str:
        """The reason for the verdict, in a sentence."""
        if self.gap is None:
            return "The test samples are too few to compare their errors."
        return f"The error changed by {self.spread} (95% interval, sample by sample)."

    @property
    def change(self) -> str:
        if self.shown(self.before) == self.shown(self.after):
            return "no change"
        if self.after > 10 * self.before:
            return "more than 10 times as much"
        percent = 100 * (self.after / self.before - 1)
        return f"{abs(percent):.1f}% {'more' if percent > 0 else 'less'}"

    @property
    def spread(self) -> str:
        """The interval shown in tables: that of the change."""
        return "–" if self.gap is None else f"{_signed(self.gap.low)} to {_signed(self.gap.high)}"

    def levels(self, values: Sequence[float], from_zero: bool = False) -> list[float]:
        """Grid lines of a chart that holds these values."""
        return page.ticks(max(values), 5)


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "\u2212")
