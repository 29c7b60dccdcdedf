"""Scores to detect faults: by a base, by an adapter, and by two baselines without a network.

The baselines use the same normal windows. `z_score`: the mean square of values in standard deviations;
`mahalanobis`: the Mahalanobis distance, in floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.monitor import STEPS

from .machine_monitor import Machine, Normal, Watch

METHODS = ("z_score", "mahalanobis", "base_residual", "lora_residual")
RIDGE = 0.05  # of the variance, in the covariance of `mahalanobis`


def scores_by_method(
    machine: Machine, normal: Normal, tested: NDArray[np.int16], faulty: NDArray[np.int16]
) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Scores of normal and of faulty windows by each of `METHODS`."""
    return {
        **_baselines(machine.own, normal, tested, faulty),
        "base_residual": (machine.plain.scores(tested), machine.plain.scores(faulty)),
        "lora_residual": (machine.own.scores(tested), machine.own.scores(faulty)),
    }


def _baselines(
    watch: Watch, normal: Normal, tested: NDArray[np.int16], faulty: NDArray[np.int16]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Scores of windows without a network, from all windows that a network calibrates on."""

    def rows(values: NDArray[np.int16]) -> NDArray[np.float64]:
        return watch.inputs(values) / STEPS

    own = rows(np.concatenate([normal.scale, normal.learn, normal.residuals]))
    middle, spread = own.mean(0), np.maximum(own.std(0), 1 / STEPS)
    inverse = np.linalg.inv(np.cov(own.T) + RIDGE * np.eye(own.shape[1]))

    def z_score(values: NDArray[np.int16]) -> NDArray[np.float64]:
        squares: NDArray[np.float64] = np.square((rows(values) - middle) / spread).mean(1)
        return squares

    def mahalanobis(values: NDArray[np.int16]) -> NDArray[np.float64]:
        apart = rows(values) - middle
        distances: NDArray[np.float64] = np.einsum("ni,ik,nk->n", apart, inverse, apart)
        return distances

    return {each.__name__: (each(tested), each(faulty)) for each in (z_score, mahalanobis)}
