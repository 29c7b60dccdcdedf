"""Measures a network: by accuracy if it predicts classes, by its error if it learns values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples


@dataclass(frozen=True)
class Measure:
    """accuracy: the share of correct samples, 0 to 1; error: the mean squared error, in squared real units."""

    name: str
    value: float

    @property
    def merit(self) -> float:
        """Larger is better."""
        return self.value if self.name == "accuracy" else -self.value

    @property
    def rounded(self) -> float:
        """The value to report: an accuracy to four places, an error as it is."""
        return round(self.value, 4) if self.name == "accuracy" else self.value

    def __str__(self) -> str:
        return f"{self.value:.4f}" if self.name == "accuracy" else f"{self.value:.4g}"


def answers(base: Base, session: Session, samples: Samples) -> NDArray[Any]:
    """The session's answer for each sample: its class or, if the network learns values, its squared error."""
    if not base.model.learns_values:
        return session.predict(samples.x)
    return errors(base, np.array([(session.infer_sample(x), session.logits)[1] for x in samples.x]), samples)


def errors(base: Base, outputs: NDArray[np.int8], samples: Samples) -> NDArray[np.float64]:
    """Errors of samples, from outputs int8 [N, size]: mean squared distance from the target, in squared real units."""
    apart = outputs.astype(np.float64) - samples.targets.reshape(len(samples), -1)
    squared: NDArray[np.float64] = np.square(apart * base.model.output.scale).mean(axis=1)
    return squared


def measured(base: Base, answered: NDArray[Any], samples: Samples) -> Measure:
    """The measure of all `answers`."""
    if base.model.learns_values:
        return Measure("error", float(np.mean(answered)))
    return Measure("accuracy", float(np.mean(answered == samples.y)))


def loss_unit(base: Base) -> float:
    """The factor of a loss's unit: 1 for nats; for values, to squared real units.

    Losses are divided by `NAT` everywhere; those of values are in 1/16 squared int8 step of the output (SPEC.md, 4).
    """
    return 256 * base.model.output.scale**2 if base.model.learns_values else 1.0
