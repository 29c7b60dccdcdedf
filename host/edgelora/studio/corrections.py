"""Corrections in the live view teach at once; windows to label are asked for. No pages in here.

a window of each class, recorded  ->  "no, that was wave"  ->  own rows on this computer, as a board makes them
                                                                   |
                                 better: in the board's store as "corrected", active; else the base alone
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.board.link.client import Link
from edgelora.learn.streaming.correcting import Taught, check_teachable, taught, use_on_board
from edgelora.learn.streaming.sample_windows import alone
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.heads.asking import windows_to_label
from edgelora.learn.training.heads.confidence import share

from .board_session import BoardSession
from .job import Job
from .live import Live, Said
from .project import Project
from .samples import ProjectSamples, wav_of

ADAPTER = "corrected"  # in the board's store
MOST_KEPT = 60  # windows heard, which do not overlap
ASKED = 3  # windows at once


@dataclass(frozen=True)
class Asked:
    """A window whose label would help: counts, int16 [window, channels], what it is taken for, and how much more
    probable that is than the next class, a share of 1. number: tells it from others that are asked for."""

    number: int
    counts: NDArray[np.int16]
    predicted: str
    margin: float


class Corrector:
    """What a person says of the answers of a board's live view.

    asked: windows to label; words: what the last correction did; version: rises with both.
    """

    def __init__(self, project: Project, session: BoardSession) -> None:
        self._session, self.live = session, session.of(Live)
        self._project_samples = project.of(ProjectSamples)
        self._denied = ProjectSamples(SimpleNamespace(folder=project.folder / "denied"))
        self._heard: deque[NDArray[np.int16]] = deque(maxlen=MOST_KEPT)
        self._last = (-1, 0, "")  # the run, the end of the last window kept, its base
        self.asked: list[Asked] = []
        self.words = ""
        self.version = self._numbered = 0
        self.live.on_said = self._said

    @property
    def labels(self) -> list[str]:
        """The classes that can be taught; none for a base that can't be corrected."""
        base = self.live.base
        if base is None or not self.live.is_running:
            return []
        try:
            check_teachable(base)
        except EdgeloraError:
            return []
        return list(base.model.labels)

    @property
    def unsure(self) -> str:
        """When an answer is "unsure", in words; "" if every answer counts."""
        least = getattr(self.live.judge, "least", 0)
        return f"Answers below {share(least):.0%} are “unsure”: that is what your samples say." if least else ""

    @property
    def kept(self) -> int:
        """Windows heard without a label."""
        return len(self._heard)

    def _said(self, said: Said) -> None:
        """Keeps the window, on the board's thread, if it does not overlap the one before."""
        base, (run, end, base_id) = self.live.base, self._last
        size = self.live.metadata.window
        if base is None or not size:
            return
        if base_id != base.base_id:
            self._heard.clear()
            self.asked = []
            run = -1
        if run == self.live.run and said.end - end < size:
            return
        counts = self.live.window(said.end, size)
        if counts is not None:
            self._heard.append(counts)
            self._last = (self.live.run, said.end, base.base_id)

    # --- asking

    def ask(self) -> None:
        """Finds the windows heard whose labels would help most. InputError if nothing was heard."""
        base, heard = self._base, list(self._heard)
        if not heard:
            raise InputError("no window was heard yet", remedy="let the board listen for some seconds")
        found = windows_to_label(base, _samples(base, heard), self._known(base), ASKED)
        first = self._numbered
        self.asked = [Asked(first + i, heard[one.number], one.predicted, one.margin) for i, one in enumerate(found)]
        self._numbered = first + len(found)
        self.version += 1

    def sound(self, number: int) -> bytes | None:
        """The window that was asked for with this number, as a .wav; None if it is gone."""
        found = [one for one in self.asked if one.number == number]
        return wav_of(found[0].counts, self.live.metadata.rate) if found else None

    def answer(self, asked: Asked, label: str | None) -> None:
        """Takes the class of a window that was asked for; None: it stays without one, and is not asked for again."""
        self.asked = [one for one in self.asked if one is not asked]
        self._heard = deque((one for one in self._heard if one is not asked.counts), MOST_KEPT)
        self.version += 1
        if label is not None:
            self._take(self._project_samples, label, asked.counts)
            self.teach()

    # --- corrections

    def correct(self, label: str | None) -> None:
        """ "That was `label`", of the latest answer; None: "no". InputError if there is none."""
        base, said = self._base, self.live.latest
        counts = None if said is None else self.live.window(said.end, self.live.metadata.window)
        if said is None or counts is None:
            raise InputError("the board has said nothing yet", remedy="wait for its first answer")
        if label is not None:
            self._take(self._project_samples, label, counts)
        else:
            number = said.seen if said.seen < len(base.model.labels) else int(np.argmax(said.p)) if said.p else -1
            if not 0 <= number < len(base.model.labels):
                raise InputError("that was no class of the network", remedy="say which one it was")
            self._take(self._denied, base.model.labels[number], counts)
        self.teach()

    def _take(self, project_samples: ProjectSamples, label: str, counts: NDArray[np.int16]) -> None:
        base = self._base
        assert base.model.signal
        project_samples.take(label, counts, base.model.signal, base.model.input.shape)

    def teach(self) -> None:
        """Makes own rows of all samples anew, and lets the board use them if they are better than the base."""
        base = self._base
        using = self.live.metadata.adapter
        if using not in ("", ADAPTER):
            return self._tell(f"Kept as a sample. {using} was trained: Learn again, so that it counts.")
        known = self._known(base)
        denied = self._denied.samples_of(base)
        made = taught(base, known, denied[0] if denied else None) if known else Taught(None, 0)
        if made.adapter:
            hints = f", and {made.hinted} times “no”" if made.hinted else ""
            self._tell(f"Learned from {len(known or ())} samples{hints}.")
        else:
            self._tell("Kept as a sample. The network alone is as good so far: record a window of each class.")

        def use(link: Link, job: Job) -> None:
            use_on_board(link, ADAPTER, made)

        self.live.use(ADAPTER if made.adapter else "")
        self._session.submit("teach", use)

    def _tell(self, words: str) -> None:
        self.words = words
        self.version += 1

    @property
    def _base(self) -> Base:
        base = self.live.base
        if base is None or not self.labels:
            raise InputError("the live view runs without a network that can be corrected")
        return base

    def _known(self, base: Base) -> Samples | None:
        found = self._project_samples.samples_of(base)
        return found[0] if found else None


def _samples(base: Base, windows: list[NDArray[np.int16]]) -> Samples:
    """Windows, int16 [window, channels], as a board's inputs, without labels."""
    assert base.model.signal
    real = np.array([alone(counts, base.model.signal, base.model.input.shape) for counts in windows])
    return Samples(base.model.input.quantize(real), np.zeros(len(windows), np.int64))


class Correctors:
    """The correctors of a project's boards."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._correctors: dict[BoardSession, Corrector] = {}

    def of(self, session: BoardSession) -> Corrector:
        if session not in self._correctors:
            self._correctors[session] = Corrector(self._project, session)
        return self._correctors[session]
