"""Recording samples from a board's live view: after a countdown on the page, or by a button on the board.

Timing counts samples, on the board's thread: a busy computer, or a closed page, records the same windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.core.formats.signal import Signal

from .board_session import BoardSession
from .error_messages import trouble_of
from .live import Live
from .project import Project
from .samples import ProjectSamples

Phase = Literal["idle", "counting", "recording"]
MOST_TAKES = 100


@dataclass(frozen=True)
class Due:
    """A window to record: its last sample, in the stream `run`; left: how many windows follow, each after
    a countdown in seconds."""

    end: int
    run: int
    label: str
    left: int
    seconds: int


class Taker:
    """Records windows of a board's live view into the project_samples.

    label: of the windows; seconds: of the countdown; count: windows in a row.
    """

    def __init__(self, live: Live, project_samples: ProjectSamples) -> None:
        self.live, self.project_samples = live, project_samples
        self.label = ""
        self.seconds = 3
        self.count = 1
        self.problem = self.last = ""  # why nothing was recorded; the last recording, in words
        self._due: Due | None = None
        self._held: tuple[int, int] | None = None  # when a button was pressed and held: the run, and its samples then
        live.on_fed, live.on_press, live.on_lost = self._fed, self._pressed, self._lost

    @property
    def _signal(self) -> Signal:
        """The signal of the windows. InputError unless the live view runs with a network."""
        base = self.live.base
        if not self.live.is_running or base is None or base.model.signal is None:
            raise InputError("the live view is not running", remedy="choose a source and a network, and press Start")
        return base.model.signal

    def begin(self) -> None:
        """Records `count` windows, each after a countdown; without one, the window that ends now."""
        self.take_some(self.label, self.seconds, self.count)

    def take_some(self, label: str, seconds: int, count: int) -> None:
        """The same for another class than the selected one."""
        signal = self._signal
        if not label:
            raise InputError("no class is selected", remedy="name one, and select it")
        self.problem = ""
        if seconds == 0 and count == 1:
            return self._take(self.live.end, label)
        self._plan(label, min(count, MOST_TAKES) - 1, seconds, signal)

    def hold(self) -> None:
        """Begins a recording that ends with `release`. InputError if nothing can be recorded."""
        self._signal  # noqa: B018  # raises
        if not self.label:
            raise InputError("no class is selected", remedy="name one, and select it")
        self.problem = ""
        self._held = (self.live.run, self.live.end)

    def release(self) -> None:
        """Records the signal since `hold`: full windows, of which the last ends now; one window if it was shorter."""
        held, self._held = self._held, None
        if held is None:
            return
        run, since = held
        signal, end = self._signal, self.live.end
        if run != self.live.run:
            raise InputError("the board restarted", remedy="record again")
        count = min(max((end - since) // signal.window, 1), MOST_TAKES)
        self._take_all([end - signal.window * i for i in reversed(range(count))], self.label)

    @property
    def is_held(self) -> bool:
        """Whether the button, or the key, is held."""
        return self._held is not None

    def stop(self) -> None:
        """Cancels the windows that are left."""
        self._due = None

    def _plan(self, label: str, left: int, seconds: int, signal: Signal) -> None:
        end = self.live.end + round(seconds * signal.rate) + signal.window
        self._due = Due(end, self.live.run, label, left, seconds)

    @property
    def phase(self) -> Phase:
        due = self._due
        if due is None or not self.live.is_running:
            return "idle"
        return "recording" if self.seconds_left <= 0 else "counting"

    @property
    def seconds_left(self) -> float:
        """Seconds until the window begins; below 0 while it is recorded."""
        due, metadata = self._due, self.live.metadata
        return (due.end - metadata.window - self.live.end) / metadata.rate if due and metadata.rate else 0.0

    @property
    def share(self) -> float:
        """The recorded share of the window, 0 to 1."""
        due, window = self._due, self.live.metadata.window
        return min(1.0, max(0.0, 1 - (due.end - self.live.end) / window)) if due and window else 0.0

    @property
    def left(self) -> int:
        """The number of windows that are left."""
        return self._due.left + 1 if self._due else 0

    # --- on the board's thread

    def _fed(self) -> None:
        due = self._due
        if due is None:
            return
        if due.run != self.live.run:
            self._due = None
            self.problem = "the board restarted: record again"
        elif self.live.end >= due.end:
            self._due = None
            self._take(due.end, due.label)
            if due.left and not self.problem:
                self._plan(due.label, due.left - 1, due.seconds, self._signal)

    def _lost(self) -> None:
        """Cancels the countdown, or the held button, of a lost board."""
        if self._due or self._held:
            self._due = self._held = None
            self.problem = "the board was lost: record again when it is back"

    def _pressed(self, button: int) -> None:
        """A single button records the selected class; several buttons one class each, in their order."""
        source, labels = self.live.source, self.project_samples.labels
        several = len(getattr(source, "buttons", ())) > 1
        label = (labels[button] if button < len(labels) else "") if several else self.label
        if label:
            self._take(self.live.end, label)
        else:
            self.problem = "a button on the board was pressed, but no class is selected for it"

    def _take(self, end: int, label: str) -> None:
        self._take_all([end], label)

    def _take_all(self, ends: list[int], label: str) -> None:
        self.problem = ""
        try:
            signal, base = self._signal, self.live.base
            windows = [(label, counts) for end in ends if (counts := self.live.window(end, signal.window)) is not None]
            if not windows:
                raise InputError("the window is not complete, or samples of it were lost: record again")
            assert base is not None
            self.project_samples.take_all(windows, signal, base.model.input.shape)
            self.last = f"{label}: {len(self.project_samples.of(label))}"
        except (EdgeloraError, OSError) as error:
            self.problem = trouble_of(error).what


class Takers:
    """The takers of a project's boards."""

    def __init__(self, project: Project) -> None:
        self._project_samples = project.of(ProjectSamples)
        self._takers: dict[BoardSession, Taker] = {}

    def of(self, session: BoardSession) -> Taker:
        if session not in self._takers:
            self._takers[session] = Taker(session.of(Live), self._project_samples)
        return self._takers[session]
