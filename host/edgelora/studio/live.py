"""The live view of a board: its signal and its predictions. No pages in here.

A job that yields to others polls the board, and stores its answers in ring buffers of a fixed size.
Pages pull frames from them at their own pace; a hidden page pulls none and costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.board.link.client import Link
from edgelora.board.link.replies import Decision, LinkError
from edgelora.core.formats.signal import Signal
from edgelora.core.sensors import sensors
from edgelora.learn.streaming.decisions import signal_of
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.board.board_paths import SWITCHED_PATH
from edgelora.learn.training.data.base import Base, adapter_ranks
from edgelora.learn.training.heads.confidence import UNSURE
from edgelora.learn.training.recipe import inference

from .board_session import LOST, BoardSession
from .job import Job
from .spectrogram import COLUMN, FAST_RATE, Spectrogram

KEPT_SECONDS = 12.0  # of samples, at least two windows
MOST_KEPT = 1 << 21  # values, whatever the rate
DECISIONS_KEPT = 600
POLL_SECONDS = 0.015  # between polls of the board,
PAUSED_SECONDS = 0.25  # and while the view is paused, to empty the sensor's queue
OWN_RATE = 50  # samples per second of a sensor without a network


@dataclass(frozen=True)
class Sensor:
    """A source on the board: see `Link.sense`. buttons: pins with a button to ground."""

    source: str = "mpu6050"
    pins: tuple[int, ...] = (4, 5)
    bus: int = 0
    buttons: tuple[int, ...] = ()
    rate: int = OWN_RATE

    @property
    def name(self) -> str:
        return self.source


@dataclass(frozen=True)
class Tape:
    """A recording of this computer, int16 [n, channels], sent to the board at its own pace, over and over."""

    name: str
    counts: NDArray[np.int16] = field(compare=False, repr=False)


Source = Sensor | Tape


@dataclass(frozen=True)
class Metadata:
    """The view's metadata for pages; it changes seldom. Names may come from a board or a file.

    adapter: the active one, "" for the base alone; names, units: of channels; labels: of classes, added ones last.
    version: rises at each change.
    """

    version: int = 0
    paused: bool = False
    source: str = ""
    base: str = ""
    adapter: str = ""
    rate: float = 0.0
    window: int = 0
    scales: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    fast: bool = False


@dataclass(frozen=True)
class Said:
    """A prediction of a window. end: samples up to its end in the ring's count; seen: its class as an index into
    `Metadata.labels`; p: probabilities, none if outputs are values; us: inference time; adapter: active then."""

    end: int
    seen: int
    p: tuple[float, ...]
    us: float
    adapter: str


@dataclass
class Tally:
    """Counts of an adapter's predictions since the view began, by class, and their confidence."""

    windows: int = 0
    certain: float = 0.0  # sum
    classes: dict[str, int] = field(default_factory=dict)


@dataclass
class Cursor:
    """A page's read position."""

    run: int = -1
    samples: int = 0
    columns: int = 0
    said: int = 0
    metadata: int = -1


class Judging(Protocol):
    """Decides which windows are unknown, and which answers are not sure."""

    def labels(self) -> tuple[str, ...]:
        """Labels that it may give instead of classes now."""

    def named(self, counts: NDArray[np.int16], p: Sequence[float]) -> str | None:
        """One of these labels for a window, int16 [window, channels], with these probabilities; None: its class."""


class Live:
    """The live view of a board. Any thread may call it; the board's thread does the work."""

    def __init__(self, session: BoardSession) -> None:
        self.session = session
        self.metadata = Metadata()
        self.on_fed: Callable[[], None] = lambda: None  # called after each chunk, on the board's thread
        self.on_said: Callable[[Said], None] = lambda said: None  # called with each prediction, on the board's thread
        self.on_press: Callable[[int], None] = lambda button: None  # called with the index of a pressed board button
        self.on_lost: Callable[[], None] = lambda: None  # called when the board is lost
        self.judge_of: Callable[[Base, bytes | None], Judging | None] = lambda base, adapter: None
        self.judge: Judging | None = None  # of the active adapter
        self.tallies: dict[str, Tally] = {}
        self._lock = threading.Condition()
        self._listeners: set[Callable[[], object]] = set()
        self._job: Job | None = None
        self._source: Source = Sensor()
        self._base: Base | None = None
        self._adapter: str | None = None  # requested; "" for the base alone, None for the active one
        self._paused = False
        self._run = 0
        self._fetched: dict[tuple[str, int], bytes] = {}
        self._clear(1, 1.0, 1)

    # --- for pages

    def start(self, source: Source, base: Base | None, adapter: str | None = None) -> None:
        """Restarts the view. adapter: a name in the board's store, "" for the base alone, None for the active one."""
        if isinstance(source, Tape) and base is None:
            raise InputError("a recording needs a network: choose a base")
        if base is not None:
            signal_of(base)
        self.stop()
        self._source, self._base, self._paused = source, base, False
        self._adapter = adapter
        self.tallies, self._fetched = {}, {}
        self._job = self.session.submit("live view", self._serve, exclusive=False)

    def stop(self) -> None:
        job, self._job = self._job, None
        if job:
            job.cancel()

    close = stop

    def use(self, adapter: str) -> None:
        """Switches to another adapter of the store, "" for the base alone, without a pause."""
        self._adapter = adapter

    def pause(self, on: bool = True) -> None:
        """Pauses or resumes the view: while paused, nothing is added."""
        self._paused = on
        self._tell(paused=on)

    @property
    def job(self) -> Job | None:
        """The current job, or the last one."""
        return self._job

    @property
    def is_running(self) -> bool:
        return self._job is not None and not self._job.ended

    @property
    def base(self) -> Base | None:
        return self._base

    @property
    def source(self) -> Source:
        return self._source

    @property
    def adapters(self) -> list[str]:
        """Names in the board's store that fit the base, "" for none."""
        store = self.session.state.store
        if not self._base or not store:
            return [""]
        return ["", *(entry.name for entry in store.adapters if entry.base_id == self._base.base_id)]

    # --- data

    @property
    def run(self) -> int:
        """The stream's number: rises when a new stream begins."""
        return self._run

    @property
    def end(self) -> int:
        """Samples received since the stream began."""
        return self._end

    @property
    def lost(self) -> int:
        """Samples that the board has lost, possibly an estimate."""
        return self._lost

    def window(self, end: int, size: int) -> NDArray[np.int16] | None:
        """`size` samples up to `end`, [size, channels]; None unless they are all available and contiguous."""
        with self._lock:
            first = end - size
            if end > self._end or first < max(self._whole, self._end - len(self._ring)):
                return None
            return self._ring[np.arange(first, end) % len(self._ring)]

    @property
    def latest(self) -> Said | None:
        """The latest prediction."""
        with self._lock:
            return self._said[-1] if self._said else None

    def frame(self, cursor: Cursor) -> bytes | None:
        """New data since a page's last frame, for its canvas; None if there is none. Moves the cursor.

        u32 size of a JSON text, the text padded to 4 bytes, then samples s16[n, channels] or columns u8[n, COLUMN].
        """
        with self._lock:
            metadata = self.metadata
            if cursor.run != self._run:
                cursor.run, cursor.metadata = self._run, -1
                cursor.samples = cursor.columns = cursor.said = 0
            fresh = cursor.metadata != metadata.version
            if not fresh and cursor.samples == self._end and cursor.said == self._decided:
                return None
            said = list(self._said)[max(0, len(self._said) - (self._decided - cursor.said)) :]
            text: dict[str, Any] = {"run": self._run, "end": self._end, "lost": self._lost, "now": time.time()}
            text["said"] = [[s.end, s.seen, round(s.us), s.adapter, [round(p, 3) for p in s.p]] for s in said]
            if metadata.fast:
                first = max(cursor.columns, self._columns - len(self._pictures))
                data = self._pictures[np.arange(first, self._columns) % len(self._pictures)].tobytes()
                text["first"] = first
            else:
                first = max(cursor.samples, self._end - len(self._ring))
                data = self._ring[np.arange(first, self._end) % len(self._ring)].astype("<i2").tobytes()
                text["first"] = first
            if fresh:
                text["told"] = {name: getattr(metadata, name) for name in Metadata.__dataclass_fields__} | {
                    "column": COLUMN
                }
            cursor.samples, cursor.columns = self._end, self._columns
            cursor.said, cursor.metadata = self._decided, metadata.version
        head = json.dumps(text).encode()
        head += b" " * (-len(head) % 4)
        return struct.pack("<I", len(head)) + head + data

    def wait(self, cursor: Cursor, seconds: float) -> None:
        """Waits for new data behind the cursor, or for the timeout."""
        with self._lock:
            self._lock.wait_for(
                lambda: (
                    (cursor.run, cursor.metadata) != (self._run, self.metadata.version) or cursor.samples != self._end
                ),
                seconds,
            )

    @contextlib.contextmanager
    def heard(self, listener: Callable[[], object]) -> Iterator[None]:
        """Calls the listener on the board's thread whenever there may be new data."""
        with self._lock:
            self._listeners.add(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def _news(self) -> None:
        """Wakes waiting threads. Requires the lock."""
        self._lock.notify_all()
        for listener in self._listeners:
            listener()

    def _clear(self, channels: int, rate: float, window: int) -> None:
        """Empties the rings for a stream of `channels`."""
        room = int(min(max(KEPT_SECONDS * rate, 2 * window), max(MOST_KEPT // channels, 2 * window)))
        with self._lock:
            self._run += 1
            self._ring = np.zeros((room, channels), np.int16)
            self._end = self._whole = self._lost = 0
            self._spectrogram = Spectrogram(rate) if rate >= FAST_RATE else None
            self._pictures = np.zeros((round(KEPT_SECONDS / 0.02), COLUMN), np.uint8)
            self._columns = self._decided = 0
            self._said: deque[Said] = deque(maxlen=DECISIONS_KEPT)

    def _tell(self, **changes: Any) -> None:
        with self._lock:
            self.metadata = replace(self.metadata, version=self.metadata.version + 1, **changes)
            self._news()

    def _feed(self, counts: NDArray[np.int16], lost: int, said: Sequence[Said]) -> None:
        """Adds a chunk to the rings."""
        with self._lock:
            if lost > self._lost:
                self._lost, self._whole = lost, self._end
            if len(counts):
                kept = counts[-len(self._ring) :]
                first = self._end + len(counts) - len(kept)
                self._ring[np.arange(first, first + len(kept)) % len(self._ring)] = kept
                self._end += len(counts)
                if self._spectrogram:
                    columns = self._spectrogram.feed(counts[:, 0])[-len(self._pictures) :]
                    self._pictures[(self._columns + np.arange(len(columns))) % len(self._pictures)] = columns
                    self._columns += len(columns)
            self._said += said
            self._decided += len(said)
            for one in said:
                tally = self.tallies.setdefault(one.adapter, Tally())
                tally.windows += 1
                tally.certain += one.p[one.seen] if one.seen < len(one.p) else 0.0
                name = self.metadata.labels[one.seen] if one.seen < len(self.metadata.labels) else str(one.seen)
                tally.classes[name] = tally.classes.get(name, 0) + 1
            if len(counts) or said:
                self._news()

    # --- the job, on the board's thread

    def _serve(self, link: Link, job: Job) -> None:
        """Polls the board until another job needs it, or the view is stopped."""
        paths: dict[str, str] = {}
        try:
            while not job.cancelled and not job.wanted:
                _Watching(self, link, job, paths).serve()
        except LOST:
            self.on_lost()
            raise
        finally:
            for path in paths.values():
                with contextlib.suppress(EdgeloraError):
                    link.remove(path)

    def fetched(self, link: Link, name: str) -> bytes | None:
        """An adapter of the board's store; None for the base alone."""
        if not name:
            return None
        entries = {entry.name: entry for entry in link.store_list().adapters}
        if name not in entries:
            raise InputError(f"the board's store no longer has an adapter {name!r}", remedy="choose another one")
        key = (name, entries[name].version)
        if key not in self._fetched:
            self._fetched = {old: data for old, data in self._fetched.items() if old[0] != name}
            self._fetched[key] = link.store_get(name)
        return self._fetched[key]


class _Watching:
    """A sensing session, with a network opened for the active adapter's ranks; other ranks need a new session."""

    def __init__(self, live: Live, link: Link, job: Job, paths: dict[str, str]) -> None:
        self._live, self._link, self._job, self._paths = live, link, job, paths
        self._base, self._source = live._base, live._source
        self._adapter = ""
        self._data: bytes | None = None  # of the adapter
        self._judging: object = None  # the key that its judge was made for
        self._active: str | None = None  # in the board's store, if it fits
        self._elapsed = 0.0
        self._piped = self._offset = 0  # samples of the pipeline; where it began in the ring's count
        self._labels: tuple[str, ...] = ()  # of classes
        self._numbers: list[int] = []  # of added ones
        self._down: frozenset[int] = frozenset()

    def serve(self) -> None:
        """Returns when another job needs the board, or an adapter of other ranks is requested."""
        live, link = self._live, self._link
        ranks = self._open()
        rate, channels, scales = self._sense()
        signal = self._base.model.signal if self._base else None
        with live._lock:  # a frame has the rings' data and its metadata
            live._clear(channels, rate, signal.window if signal else 1)
            live._tell(**_described(self._source, self._base, rate, channels, scales), paused=live._paused)
        if self._base:
            sensor = isinstance(self._source, Sensor)
            self._chunk = link.listen(sensor=sensor, probabilities=True)
            self._use(self._wished)
        began, at = time.monotonic(), 0
        while not self._job.cancelled and not self._job.wanted:
            wished = self._wished
            if self._base and wished != self._adapter:
                if wished and self._ranks(wished) != ranks:
                    return
                self._use(wished)
            started = time.monotonic()
            if live._paused:
                began = self._stand(began)
                continue
            if isinstance(self._source, Sensor):
                self._watch()
            else:
                at = self._play(self._source, at, int((started - began) * rate))
            time.sleep(max(0.0, POLL_SECONDS - (time.monotonic() - started)))

    def _open(self) -> bytes:
        """Opens the network for the requested adapter, or a likely next one; returns the ranks of its ops."""
        if self._base is None:
            return b""
        store = self._link.store_list()
        fitting = [entry.name for entry in store.adapters if entry.base_id == self._base.base_id]
        self._active = store.active if store.active in fitting else ""
        ranks = self._ranks(self._wished or next(iter(fitting), ""))
        BoardLearner(self._link, self._base, inference(ranks))
        return ranks

    @property
    def _wished(self) -> str:
        wished = self._live._adapter
        return (self._active or "") if wished is None else wished

    def _ranks(self, adapter: str) -> bytes:
        assert self._base is not None
        return adapter_ranks(self._base, self._live.fetched(self._link, adapter))

    def _sense(self) -> tuple[float, int, Sequence[float]]:
        """Starts the source; returns its samples per second, channels, and units per count."""
        signal = self._base.model.signal if self._base else None
        source = self._source
        if isinstance(source, Tape):
            assert signal is not None
            if source.counts.shape[1] != signal.channels:
                raise InputError(
                    f"{source.name} has {source.counts.shape[1]} channels, the base takes {signal.channels}"
                )
            return signal.rate, signal.channels, _scales(signal)
        settings: dict[str, Any] = {"pins": list(source.pins), "bus": source.bus}
        settings["rate"] = round(signal.rate) if signal else source.rate
        if signal and signal.front == "none":
            settings["scales"] = list(signal.scales)
        if source.buttons:
            settings["buttons"] = list(source.buttons)
        rate, channels = self._link.sense(source.source, **settings)
        if signal and channels != signal.channels:
            raise InputError(
                f"the board's source has {channels} channels, the base takes {signal.channels}",
                remedy="choose another source, or another base",
            )
        return rate, channels, _scales(signal) if signal else self._link.sensed_scales

    def _use(self, adapter: str) -> None:
        """Switches to an adapter of the opened ranks."""
        live, base = self._live, self._base
        assert base is not None
        data = live.fetched(self._link, adapter)
        labels, self._numbers = list(base.model.labels), []
        labels += [str(i) for i in range(len(labels), base.model.output.size)]
        if data is None:
            self._link.use(None)
        else:
            if adapter not in self._paths:
                path = SWITCHED_PATH.format(len(self._paths) + 1)
                self._link.put(path, data)
                self._paths[adapter] = path
            self._link.use(self._paths[adapter])
            rows = base.adapter(data).classes
            added = sorted((row for row in rows if row.number >= base.model.output.size), key=lambda row: row.number)
            self._numbers = [row.number for row in added]
            labels += [row.name for row in added]
        self._adapter, self._data, self._labels = adapter, data, tuple(labels)
        self._judge_anew()
        live._tell(adapter=adapter, labels=(*self._labels, *self._more))

    def _judge_anew(self) -> None:
        assert self._base is not None
        self._judging = self._live.judge_of
        self._live.judge = self._judging(self._base, self._data)

    @property
    def _more(self) -> tuple[str, ...]:
        """The extra labels of unknown windows and unsure answers, unless a class has that name."""
        there = self._live.judge.labels() if self._live.judge else ()
        return tuple(name for name in there if name not in self._labels)

    def _come(self, counts: NDArray[np.int16], lost: int, decisions: Sequence[Decision], elapsed_us: int) -> None:
        """Adds a chunk to the rings, then the predictions of windows that end in it."""
        live = self._live
        live._feed(counts, lost, ())
        said = self._said(decisions, elapsed_us)
        if said and self._judging is not live.judge_of:
            self._judge_anew()
        if said and live.metadata.labels != (now := (*self._labels, *self._more)):
            live._tell(labels=now)  # samples have changed
        judged = [self._judged(one) for one in said]
        live._feed(counts[:0], lost, judged)
        for one in judged:
            live.on_said(one)

    def _judged(self, said: Said) -> Said:
        live = self._live
        if live.judge is None or not live.judge.labels():
            return said
        window = live.window(said.end, live.metadata.window)
        name = None if window is None else live.judge.named(window, said.p)
        if name is None:
            return said
        return replace(said, seen=live.metadata.labels.index(name), p=said.p if name == UNSURE else ())

    def _stand(self, began: float) -> float:
        """Waits a moment while paused; returns when a recording that resumes would have begun."""
        since = time.monotonic()
        if isinstance(self._source, Sensor):
            reply = self._link.watch()
            self._piped += len(reply.counts)
            self._offset -= len(reply.counts)
            self._live._whole = self._live.end  # a window has no holes
            self._pressed(reply.down)
        until = since + PAUSED_SECONDS
        while self._live._paused and not self._job.cancelled and not self._job.wanted and time.monotonic() < until:
            time.sleep(0.02)
        return began + time.monotonic() - since

    def _watch(self) -> None:
        reply = self._link.watch()
        self._come(reply.counts, reply.lost, reply.decisions, reply.elapsed_us)
        self._piped += len(reply.counts)
        self._pressed(reply.down)
        self._live.on_fed()

    def _play(self, tape: Tape, at: int, due: int) -> int:
        """Sends the part of a recording that is due; returns how much was sent. A slow board skips nothing."""
        due = min(due, at + 4 * self._chunk)
        while at < due and not self._job.cancelled and not self._job.wanted:
            start = at % len(tape.counts)
            part = tape.counts[start : start + min(due - at, self._chunk, len(tape.counts) - start)]
            for reply in self._link.hear(part, anew=not start):
                self._come(part, 0, reply.decisions, reply.elapsed_us)
            at += len(part)
            self._live.on_fed()
        return at

    def _pressed(self, down: frozenset[int]) -> None:
        fresh, self._down = down - self._down, down
        for button in sorted(fresh):
            self._live.on_press(button)

    def _said(self, decisions: Sequence[Decision], elapsed_us: int) -> list[Said]:
        """Predictions in the ring's count, with classes as indices of labels."""
        self._elapsed += elapsed_us
        if not decisions:
            return []
        us, self._elapsed = self._elapsed / len(decisions), 0.0
        outputs = self._base.model.output.size if self._base else 0
        said = []
        for one in decisions:
            p = tuple(one.probabilities.tolist()) if one.probabilities is not None else ()
            p = (1 - p[0], p[0]) if len(p) == 1 else p  # of one output: the probability of the second class
            try:
                seen = one.seen if one.seen < outputs or len(p) == 2 else outputs + self._numbers.index(one.seen)
            except ValueError:
                raise LinkError(f"the board answered class {one.seen}, which its adapter does not have") from None
            said.append(Said(one.end + self._offset, seen, p, us, self._adapter))
        return said


def _described(
    source: Source, base: Base | None, rate: float, channels: int, scales: Sequence[float]
) -> dict[str, Any]:
    signal = base.model.signal if base else None
    own = sensors().get(source.source) if isinstance(source, Sensor) else None
    units = re.split(r"[,;]\s*(?:then\s+)?", signal.units if signal else own.units if own else "")
    return {
        "source": source.name,
        "base": base.name if base else "",
        "adapter": "",
        "rate": rate,
        "window": signal.window if signal else 0,
        "scales": tuple(float(scale) for scale in scales) or (1.0,) * channels,
        "names": _names(channels),
        "units": tuple(units[i * len(units) // channels] for i in range(channels)),
        "labels": (),
        "fast": rate >= FAST_RATE,
    }


def _scales(signal: Signal) -> Sequence[float]:
    """Units per count of each channel, if the signal has them."""
    return signal.scales if signal.front == "none" else ()


def _names(channels: int) -> tuple[str, ...]:
    if channels == 1:
        return ("",)
    if channels == 6:
        return tuple(f"{what} {axis}" for what in ("acceleration", "rotation") for axis in "xyz")
    return tuple("xyz") if channels == 3 else tuple(str(i) for i in range(channels))
