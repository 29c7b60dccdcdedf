"""ROC curves: how well a score separates faults from normal operation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PARTIAL = 0.1  # largest share of false alarms of the partial area


def auc(normal: NDArray[np.number], faulty: NDArray[np.number]) -> float:
    """The probability that a faulty score exceeds a normal one; ties count half. Scores [N], [M]."""
    order = np.sort(normal)
    below = np.searchsorted(order, faulty, "left") + np.searchsorted(order, faulty, "right")
    return float(below.mean() / (2 * len(normal)))


def roc(normal: NDArray[np.number], faulty: NDArray[np.number]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of normal and of faulty scores above each threshold, from none to all, [thresholds + 1] each."""
    thresholds = np.unique(np.concatenate([normal, faulty]))[::-1]
    shares = [1 - np.searchsorted(np.sort(scores), thresholds, "left") / len(scores) for scores in (normal, faulty)]
    false, found = (np.concatenate([[0.0], share]) for share in shares)
    return false, found


def partial_auc(normal: NDArray[np.number], faulty: NDArray[np.number], most: float = PARTIAL) -> float:
    """The area under the curve up to a share `most` of false alarms, over `most`: 1 is perfect, most / 2 is chance."""
    false, found = roc(normal, faulty)
    inside = np.append(false[false < most], most)
    return float(np.trapezoid(np.interp(inside, false, found), inside) / most)
