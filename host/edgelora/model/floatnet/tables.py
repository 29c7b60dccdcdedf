"""Functions of one real value as tables, which files can store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .layers import Array

SAMPLES = 8193


@dataclass(frozen=True)
class Sampled:
    """A function by its `values` at even steps from `low` to `high`: linear between them, and beyond as at the ends."""

    low: float
    high: float
    values: Array

    def __call__(self, x: Array) -> Array:
        steps = len(self.values) - 1
        place = (np.asarray(x, np.float64) - self.low) * (steps / (self.high - self.low))
        left = np.clip(np.floor(place), 0, steps - 1).astype(np.int64)
        made = self.values[left] + (self.values[left + 1] - self.values[left]) * (place - left)
        return np.asarray(made, x.dtype)


def sampled(function: Callable[[Array], Array], low: float, high: float) -> Sampled:
    """`function` at even steps from `low` to `high`."""
    return Sampled(low, high, np.asarray(function(np.linspace(low, high, SAMPLES)), np.float64))
