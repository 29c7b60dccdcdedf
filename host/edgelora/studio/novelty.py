"""Answers in the live view that are no class: "nothing" for unknown windows, "unsure". No pages in here.

The rules are those of a board which acts on its own, made on the host twin and again when samples change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError
from edgelora.learn.streaming.sample_windows import alone
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.heads.confidence import UNSURE, least_of, share
from edgelora.learn.training.heads.known import NOTHING, Known, Looker, Rule

from .actions import Acts
from .project import Project
from .samples import ProjectSamples
from .training_options import PACKAGED

BY_BASE = "The base's training data decides what counts as nothing until you record samples."


class Judge:
    """The rules for a base with an adapter; None: the base alone.

    words: the effect of rejecting unknown windows as measured, a sentence, or "". least: the probability from which on
    an answer is sure, in 1/32768; 0: every answer is, or too few samples tell.
    """

    def __init__(self, project: Project, base: Base, adapter: bytes | None) -> None:
        self._project_samples, self._acts = project.of(ProjectSamples), project.of(Acts)
        self._base, self._adapter = base, adapter
        self._looker = Looker(base, adapter)
        self._version: tuple[int, bool] | None = None
        self._rule: Rule | None = None
        self.words, self.least = "", 0

    def labels(self) -> tuple[str, ...]:
        """ "nothing" if unknown windows are rejected now, "unsure" if the samples say when an answer is."""
        now = (self._project_samples.version, self._acts.nothing)
        if now != self._version:
            self._version = now
            self._rule, self.words = self._made() if self._acts.nothing else (None, "")
            self.least = self._least()
        return (*((NOTHING,) if self._rule else ()), *((UNSURE,) if self.least else ()))

    def _least(self) -> int:
        found = self._project_samples.samples_of(self._base)
        return (found and least_of(self._base, self._adapter, *found)) or 0

    def _made(self) -> tuple[Rule | None, str]:
        data = self._project_samples.dataset(self._base)
        known = Known(self._base, self._adapter, data) if data else None
        if known is None or known.rule is None:
            packaged = packaged_rule(self._base) if self._adapter is None else None
            return packaged, BY_BASE if packaged else ""
        shares = known.shares
        return known.rule, f"On held-out samples: {shares.words}." if shares else ""

    def named(self, counts: NDArray[np.int16], p: Sequence[float]) -> str | None:
        """The label of a window, int16 [window, channels], that has no class; p: its classes' probabilities."""
        there = self.labels()
        if NOTHING in there and self.is_nothing(counts):
            return NOTHING
        return UNSURE if UNSURE in there and len(p) and max(p) < share(self.least) else None

    def is_nothing(self, counts: NDArray[np.int16]) -> bool:
        """Whether a window, int16 [window, channels], is rejected; False without a rule."""
        if NOTHING not in self.labels() or self._rule is None or self._base.model.signal is None:
            return False
        real = alone(counts, self._base.model.signal, self._base.model.input.shape)
        x = self._base.model.input.quantize(real[None])
        return not self._rule.accepts(self._looker.look(x))[0]


def packaged_rule(base: Base) -> Rule | None:
    """The rule of an included base, while it has its original classes."""
    path = (PACKAGED / base.name).with_suffix(".json")
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return Rule.of_json(said) if said["base"] == base.base_id else None


def judge_of(project: Project, base: Base, adapter: bytes | None) -> Judge | None:
    """A judge of a base's windows; None for a base without a signal."""
    if base.model.has_history or base.model.learns_values or base.model.signal is None:
        return None
    try:
        return Judge(project, base, adapter)
    except EdgeloraError:
        return None
