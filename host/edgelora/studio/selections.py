"""Selections that are not applied yet, kept over reloads and shared by pages. No pages in here."""

from __future__ import annotations

from dataclasses import dataclass

from edgelora.core.sensors import sensors

from .board_session import BoardSession
from .job import Job
from .live import Live, Sensor
from .project import Project
from .training_options import Offer


@dataclass
class RunChoice:
    """Settings of a project's next run. base_name: "" for the default; within: a budget chooses layers, measured for
    samples of this version; offer: the resulting choice."""

    project: Project
    base_name: str = ""
    epochs: int = 60
    by_board: bool = True
    within: bool = False
    measured: Job | None = None
    measured_for: int = -1
    offer: Offer | None = None


@dataclass
class DropChoice:
    """The class of dropped files; "" to use the file's own labels."""

    project: Project
    label: str = ""


class SourceWish:
    """Fields of a board's source. The running source replaces them when it starts.

    kind: a source's name, "module" or "tape"; base: a name, "" for none, None if not chosen yet.
    """

    def __init__(self, session: BoardSession) -> None:
        self._live = session.of(Live)
        self._seen: object = None
        self.kind = self.pins = self.module = self.tape = self.buttons = ""
        self.base: str | None = None
        self.follow()

    def follow(self) -> None:
        """Adopts the running source if it started since the last call."""
        source, base = self._live.source, self._live.base
        if self._seen == (now := (id(self._live.job), source)):
            return
        first, self._seen = self._seen is None, now
        if isinstance(source, Sensor):
            self.buttons = ", ".join(map(str, source.buttons))
            if source.source in sensors():
                self.kind, self.pins = source.source, ", ".join(map(str, source.pins))
            else:
                self.kind, self.module = "module", source.source
        else:
            self.kind, self.tape = "tape", source.name
        if self._live.job is not None or not first:
            self.base = base.name if base else ""
