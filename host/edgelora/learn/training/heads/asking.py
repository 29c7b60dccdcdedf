"""Which of a person's unlabelled windows to label next: the device's rule (`asking.py`), on this computer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.core.twin import device
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples, Source

from .confidence import ONE


@dataclass(frozen=True)
class Wanted:
    """A window to label: its number among those without a label, the class that it is taken for now, and how much more
    probable that is than the next, a share of 1."""

    number: int
    predicted: str
    margin: float


def windows_to_label(
    base: Base, windows: Samples, labelled: Samples | None, count: int, progress: Progress = no_progress
) -> list[Wanted]:
    """The windows whose labels would help most, the best first. labelled: what already has labels.

    InputError without class statistics, for networks with history, or for targets instead of labels.
    """
    if base.model.class_stats is None or windows.frames > 1 or windows.given_targets is not None:
        raise InputError(
            f"{base.name} can't compare windows: that takes a classifier without history that has class statistics",
            remedy="quantize it from its float network, with its training data",
        )
    known = len(labelled) if labelled else 0
    x = windows.x if labelled is None else np.concatenate([labelled.x, windows.x])
    model: Any = device.module().Model(base.elm, bytes(len(base.model.ops)), "infer")
    asking: Any = device.module("asking").Asking(model, Source(Samples(x, np.zeros(len(x), np.int64))))
    for number in range(known):
        assert labelled
        asking.label(number, int(labelled.y[number]))
    found: list[Wanted] = []
    names = base.model.labels or [str(i) for i in range(base.model.classes)]
    for done in range(min(count, len(windows))):
        number = asking.ask()
        found.append(Wanted(number - known, names[asking.said], round(asking.margin / ONE, 4)))
        asking.skip(number)
        progress(done + 1, min(count, len(windows)), "windows")
    return found
