"""The arithmetic of monitors in NumPy (SPEC.md, section 16): the reference for the device's `Monitor`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.monitor import MAX_GAIN, MAX_RESIDUAL_GAIN, Monitor

MOST_SCORE = 65535
_MOST_Z = 2047  # 1/64 spread


def usual(values: NDArray[np.int16]) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Means and gains of values [N, n], which the board computes from differences to the first row."""
    first = values[0].astype(np.int64)
    means, gains = _statistics(np.clip(values - first, -32767, 32767), 1, 34, MAX_GAIN)
    return (first + means).astype(np.int16), gains.astype(np.uint16)


def usual_residuals(residuals: NDArray[np.int64]) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Means, in 1/16 step, and gains of residuals [N, outputs]."""
    means, gains = _statistics(residuals, 16, 28, MAX_RESIDUAL_GAIN)
    return means.astype(np.int16), gains.astype(np.uint16)


def _statistics(values: NDArray[np.int64], unit: int, bits: int, most: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Means, in 1 / unit, and gains 2^(bits / 2) / spread, from 1 to `most`, of integers [N, n]."""
    count = len(values)
    sums = values.sum(0)
    apart = count * np.square(values).sum(0) - np.square(sums)  # count^2 times the variance
    means = np.floor_divide(2 * unit * sums + count, 2 * count)
    gains = [min(max(math.isqrt((count * count << bits) // max(int(d), 1)), 1), most) for d in apart]
    return means, np.array(gains)


def inputs_of(monitor: Monitor, values: NDArray[np.int16]) -> NDArray[np.int8]:
    """Int8 inputs of values [N, n]."""
    apart = np.clip(values.astype(np.int64) - monitor.means, -16383, 16383)
    inputs: NDArray[np.int8] = np.clip((apart * monitor.gains + 2048) >> 12, -128, 127).astype(np.int8)
    return inputs


def scores_of(monitor: Monitor, residuals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Anomaly scores, in 1/1024, of residuals [N, outputs]: their mean square in spreads."""
    z = (16 * residuals - monitor.residual_means) * monitor.residual_gains.astype(np.int64)
    z = np.clip((z + 2048) >> 12, -_MOST_Z, _MOST_Z)
    scores: NDArray[np.int64] = np.minimum(np.square(z).sum(1) // residuals.shape[1] >> 2, MOST_SCORE)
    return scores


def threshold_of(scores: NDArray[np.int64], one_in: int) -> int:
    """The least threshold that at most one normal window in `one_in` exceeds: the floor((N + 1) / one_in)-th largest
    of N scores. On average that many of N + 1 windows exceed it, for any distribution.
    """
    return int(np.sort(scores)[-((len(scores) + 1) // one_in)])


def alarms_of(monitor: Monitor, scores: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether there is an alarm after each window of a stream."""
    above = np.cumsum(np.concatenate([np.zeros(monitor.votes, np.int64), scores > monitor.threshold]))
    alarms: NDArray[np.bool_] = above[monitor.votes :] - above[: -monitor.votes] >= monitor.least
    return alarms
