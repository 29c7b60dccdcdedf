"""Taking samples from what a board senses: by a person's call after a countdown, or by a button of the board.

All follows the samples that come, on the board's thread: a busy computer, or no page, takes the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.core.formats.signal import Signal

from .board_session import Place
from .error_messages import trouble_of
from .live import Live
from .project import Desk
from .samples import Book

Phase = Literal["idle", "counting", "recording"]
MOST_TAKES = 100


@dataclass(frozen=True)
class Due:
    """A window that is to be taken: its last sample, in what was begun as `run`; left: how many follow it, each after
    so many seconds."""

    end: int
    run: int
    label: str
    left: int
    seconds: int


class Taker:
    """Takes windows of a board's live view into the book.

    label: of what is taken; seconds: of the countdown; count: windows in a row.
    """

    def __init__(self, live: Live, book: Book) -> None:
        self.live, self.book = live, book
        self.label = ""
        self.seconds = 3
        self.count = 1
        self.problem = self.last = ""  # why nothing was taken; what was taken last, in words
        self._due: Due | None = None
        self._held: tuple[int, int] | None = None  # since when a button is held: the run, and its samples then
        live.on_fed, live.on_press, live.on_lost = self._fed, self._pressed, self._lost

    @property
    def _signal(self) -> Signal:
        """What windows are made of. InputError unless a network listens."""
        base = self.live.base
        if not self.live.is_running or base is None or base.model.signal is None:
            raise InputError("nothing is listened to", remedy="choose a source and a network, and start")
        return base.model.signal

    def begin(self) -> None:
        """Takes `count` windows, each after the countdown; without one, that which ends now. InputError if it can't."""
        self.take_some(self.label, self.seconds, self.count)

    def take_some(self, label: str, seconds: int, count: int) -> None:
        """The same of another class than the one that is chosen."""
        signal = self._signal
        if not label:
            raise InputError("no class is chosen", remedy="name one, and choose it")
        self.problem = ""
        if seconds == 0 and count == 1:
            return self._take(self.live.end, label)
        self._plan(label, min(count, MOST_TAKES) - 1, seconds, signal)

    def hold(self) -> None:
        """What is sensed from now to `release` is of the class. InputError if nothing can be taken."""
        self._signal  # noqa: B018  # raises
        if not self.label:
            raise InputError("no class is chosen", remedy="name one, and choose it")
        self.problem = ""
        self._held = (self.live.run, self.live.end)

    def release(self) -> None:
        """Takes what was sensed since `hold`: whole windows, the last of which ends now; one if it was shorter."""
        held, self._held = self._held, None
        if held is None:
            return
        run, since = held
        signal, end = self._signal, self.live.end
        if run != self.live.run:
            raise InputError("the board began anew meanwhile", remedy="record again")
        count = min(max((end - since) // signal.window, 1), MOST_TAKES)
        self._take_all([end - signal.window * i for i in reversed(range(count))], self.label)

    @property
    def is_held(self) -> bool:
        """Whether somebody holds the button, or the key."""
        return self._held is not None

    def stop(self) -> None:
        """Takes no more."""
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
        """Until the window begins; below 0 while it is recorded."""
        due, told = self._due, self.live.told
        return (due.end - told.window - self.live.end) / told.rate if due and told.rate else 0.0

    @property
    def share(self) -> float:
        """Of the window that has come, 0 to 1."""
        due, window = self._due, self.live.told.window
        return min(1.0, max(0.0, 1 - (due.end - self.live.end) / window)) if due and window else 0.0

    @property
    def left(self) -> int:
        """Windows that are still to be taken."""
        return self._due.left + 1 if self._due else 0

    # --- on the board's thread

    def _fed(self) -> None:
        due = self._due
        if due is None:
            return
        if due.run != self.live.run:
            self._due = None
            self.problem = "the board began anew meanwhile: record again"
        elif self.live.end >= due.end:
            self._due = None
            self._take(due.end, due.label)
            if due.left and not self.problem:
                self._plan(due.label, due.left - 1, due.seconds, self._signal)

    def _lost(self) -> None:
        """Nothing is counted down, or held, for a board that is gone."""
        if self._due or self._held:
            self._due = self._held = None
            self.problem = "the board went away meanwhile: record again when it is back"

    def _pressed(self, button: int) -> None:
        """One button takes the class that is chosen; of several each has a class of its own, in the book's order."""
        source, labels = self.live.source, self.book.labels
        several = len(getattr(source, "buttons", ())) > 1
        label = (labels[button] if button < len(labels) else "") if several else self.label
        if label:
            self._take(self.live.end, label)
        else:
            self.problem = "a button of the board was pressed, and no class is chosen for it"

    def _take(self, end: int, label: str) -> None:
        self._take_all([end], label)

    def _take_all(self, ends: list[int], label: str) -> None:
        self.problem = ""
        try:
            signal, base = self._signal, self.live.base
            windows = [(label, counts) for end in ends if (counts := self.live.window(end, signal.window)) is not None]
            if not windows:
                raise InputError("no whole window has come yet, or samples of it were lost: record again")
            assert base is not None
            self.book.take_all(windows, signal, base.model.input.shape)
            self.last = f"{label}: {len(self.book.of(label))}"
        except (EdgeloraError, OSError) as error:
            self.problem = trouble_of(error).what


class Takers:
    """Those of a desk's boards."""

    def __init__(self, desk: Desk) -> None:
        self._book = desk.of(Book)
        self._takers: dict[Place, Taker] = {}

    def of(self, place: Place) -> Taker:
        if place not in self._takers:
            self._takers[place] = Taker(place.of(Live), self._book)
        return self._takers[place]
