"""Samples in the network's feature space, and those that look mislabelled. No pages in here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.heads.known import Looker

from .samples import ProjectSamples

LEAST = 3  # samples of a class, so that each can be compared with the others
CLEAR = 0.75  # of the squared distance to its own class: a nearer class is reported
FLOOR = 0.1  # of the mean variance: the floor of each value's variance


@dataclass(frozen=True)
class Spot:
    """A sample on the map. id: in the project; x, y: -1 to 1; looks_like: a class that is much nearer, or ""."""

    id: str
    label: str
    x: float
    y: float
    looks_like: str


def sample_map(project_samples: ProjectSamples, base: Base) -> list[Spot]:
    """All samples that fit a base, by the inputs of its last layer. InputError if there are none."""
    if base.model.has_history or base.model.class_stats is None:
        raise InputError(f"{base.name} has no statistics of its last layer's inputs", remedy="choose another base")
    data, ids = project_samples.dataset(base), project_samples.fitting(base)
    if data is None or len(data) < 2:
        raise InputError("there are no samples to map", remedy="record some in Collect")
    values = Looker(base, None).look(base.model.input.quantize(data.x)).last.astype(np.float64)
    sessions, like = _projected(values), _nearest(values, data.y)
    return [
        Spot(sample_id, data.labels[y], float(x), float(z), data.labels[k] if k >= 0 else "")
        for sample_id, y, (x, z), k in zip(ids, data.y, sessions, like, strict=True)
    ]


def _projected(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two principal components, [N, 2], within -1 and 1."""
    apart = values - values.mean(0)
    _, _, axes = np.linalg.svd(apart, full_matrices=False)
    sessions = np.zeros((len(values), 2))
    found = apart @ axes[:2].T
    sessions[:, : found.shape[1]] = found
    return sessions / max(float(np.abs(sessions).max()), 1e-9)


def _nearest(values: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each sample's class that is clearly nearer than its own class without the sample; -1 for none."""
    classes = [k for k in np.unique(y) if (y == k).sum() >= LEAST]
    means = {k: values[y == k].mean(0) for k in classes}
    like = np.full(len(y), -1, np.int64)
    if len(classes) < 2:
        return like
    apart = np.concatenate([values[y == k] - means[k] for k in classes])
    variance = apart.var(0)
    scale = np.maximum(variance + FLOOR * variance.mean(), 1e-9)
    for i, own in enumerate(y):
        if own not in means:
            continue
        count = int((y == own).sum())
        rest = (means[own] * count - values[i]) / (count - 1)
        others = {k: float((((values[i] - mean) ** 2) / scale).sum()) for k, mean in means.items() if k != own}
        nearest = min(others, key=others.__getitem__)
        if others[nearest] < CLEAR * float((((values[i] - rest) ** 2) / scale).sum()):
            like[i] = nearest
    return like
