"""One board of the studio: the thread that owns its link, its queue of jobs, and its last known state.

Only this thread uses the link. A lost line fails the current job; the board is then "away", and
reconnects automatically when its port is back. Jobs that are not exclusive (the live view) yield to
others and continue afterwards, also after the board was away. A job for one board never runs on another board that
has taken its port.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.text import printable
from edgelora.board import virtual_boards
from edgelora.board.devices import Device, find_devices
from edgelora.board.link.client import Link
from edgelora.board.link.replies import DeviceError, LinkError, StoreState
from edgelora.board.link.transport import Interrupted, LineLost
from edgelora.board.probe import board_of, used_elsewhere

from .job import Job

Work = Callable[[Link, Job], Any]
PortWork = Callable[[str, Job], Any]
Status = Literal["away", "idle", "busy"]
Fault = Literal["unplugged", "used elsewhere", "not answering"]
T = TypeVar("T")

log = logging.getLogger(__name__)
LOST = (LinkError, LineLost)
ALIVE_SECONDS = 5.0  # between messages to an idle board, which keep it in its agent
PRESENT_SECONDS = 1.0  # between checks for its port,
RETRY_SECONDS = 0.5  # if the port is gone,
SILENT_SECONDS = 5.0  # or if the board does not answer
LEAVE_SECONDS = 8.0  # for a job to notice its cancellation
BREAK_SECONDS = 3.0  # for an abandoned request to end, before it is interrupted
MOST_BREAK_SECONDS = 30.0  # the same within an exclusive job, which the board may be in the middle of
JOBS_KEPT = 20


def another() -> InputError:
    """The error of a job whose board was replaced by another one."""
    return InputError("another board is at this port now", remedy="check its state and start again")


@dataclass(frozen=True)
class PlaceState:
    """The last known state of a board. Texts come from the board and have only printable characters.

    board: a profile's name; firmware: MicroPython's version; module: EdgeLoRA's, None without it; free_heap, free_flash
    in bytes; models: paths of `.elm` files, in ROMFS first; model: the first one; store: its adapters; active:
    the active adapter's name. fault, problem, remedy: why it is away, in a word and in a sentence. job: the current
    one.
    """

    port: str
    name: str
    is_virtual: bool
    status: Status = "away"
    problem: str = ""
    remedy: str = ""
    fault: Fault = "unplugged"
    board: str | None = None
    machine: str = ""
    firmware: str | None = None
    module: str | None = None
    id: str = ""
    free_heap: int | None = None
    free_flash: int | None = None
    models: tuple[str, ...] = ()
    store: StoreState | None = None
    job: Job | None = None

    @property
    def model(self) -> str | None:
        return self.models[0] if self.models else None

    @property
    def active(self) -> str | None:
        return self.store.active if self.store else None


class BoardSession:
    """A board, by its port. Its thread runs until `close`, which leaves the board at a usable REPL."""

    def __init__(self, device: Device, key: str = "") -> None:
        self.device, self._key = device, key or device.port
        name = Path(device.state_dir or device.port).name
        self.state = PlaceState(device.port, printable(name), device.virtual, board=device.board)
        self.version = 0  # rises at each change
        self.jobs: deque[Job] = deque(maxlen=JOBS_KEPT)  # latest last
        self._queue: deque[tuple[Job, Work | None, PortWork | None]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._link: Link | None = None
        self._parts: dict[Any, Any] = {}
        self._retry_at = self._alive_at = self._look_at = 0.0
        self._stale = True  # whether to read the board's state
        self._break_at = float("inf")  # when to interrupt the current request
        self._thread = threading.Thread(target=self._serve, name=f"board {name}", daemon=True)
        self._thread.start()

    # --- for pages

    def submit(self, name: str, work: Work, *, exclusive: bool = True) -> Job:
        """Queues work, which gets the open link and its job, for the board's thread.

        exclusive: it runs once, without interruption. Else it yields: it returns when `job.wanted`, and is called again
        when no other job waits, until it is cancelled or returns without being asked to.
        """
        return self._submit(name, work, None, exclusive)

    def submit_on_port(self, name: str, work: PortWork) -> Job:
        """Queues work that opens the port itself, such as flashing: the link is closed before and reopened after it."""
        return self._submit(name, None, work, True)

    def of(self, kind: Callable[[BoardSession], T]) -> T:
        """This board's instance of `kind`, created on first use; it outlives pages, such as `Live(place)`."""
        with self._changed:
            if kind not in self._parts:
                self._parts[kind] = kind(self)
            part: T = self._parts[kind]
            return part

    def interrupt(self) -> None:
        """Ends any current work of the board: interrupts a request by Ctrl-C if it does not end soon."""
        job = self.state.job
        if job is not None:
            job.cancel()
            self._break_at = time.monotonic() + BREAK_SECONDS

    @property
    def key(self) -> str:
        """The board's key in a project: the port where it was first seen, if unique."""
        return self._key

    def holds(self, device: Device) -> bool:
        """Whether this device is the board, or may be the board at a new port."""
        same = (device.serial_number, device.state_dir) == (self.device.serial_number, self.device.state_dir)
        return same and (device.port == self.device.port or bool(device.serial_number) and self.state.status == "away")

    def close(self) -> None:
        """Ends all jobs and leaves the board at its REPL."""
        with self._changed:
            self._closing = True
            for job in self.jobs:
                if not job.ended:
                    job.cancel()
            self._changed.notify_all()
        self._thread.join(LEAVE_SECONDS)
        self._break_at = 0.0
        self._thread.join(LEAVE_SECONDS)

    # --- the thread

    def _submit(self, name: str, work: Work | None, port_work: PortWork | None, exclusive: bool) -> Job:
        job = Job(name, exclusive, self._is_wanted, self._touch, lambda: self._unwanted(job))
        with self._changed:
            self.jobs.append(job)
            self._queue.append((job, work, port_work))
            self._changed.notify_all()
        self._set()
        return job

    def _is_wanted(self) -> bool:
        return self._closing or any(job.exclusive for job, *_ in self._queue)

    def _unwanted(self, job: Job) -> None:
        """Limits how long the cancelled job's current request may take."""
        if self.state.job is job:
            self._break_at = time.monotonic() + (MOST_BREAK_SECONDS if job.exclusive else BREAK_SECONDS)
            if self.state.job is not job:  # it has already ended
                self._break_at = float("inf")

    def _interrupted(self) -> bool:
        """Whether to end the current exchange, also while waiting for a silent board."""
        knocking = self._link is None and any(port_work for *_, port_work in list(self._queue))
        return time.monotonic() > self._break_at or knocking

    def _set(self, **fields: Any) -> None:
        """Replaces the state atomically."""
        with self._changed:
            self.state = replace(self.state, **fields)
            self.version += 1

    def _touch(self) -> None:
        with self._changed:
            self.version += 1

    def _serve(self) -> None:
        while not self._closing:
            entry = self._take()
            try:
                if entry is None:
                    self._keep()
                elif entry[2] is not None:
                    self._on_port(entry[0], entry[2])
                elif entry[1] is not None:
                    self._on_link(entry[0], entry[1])
            except Exception as error:  # any error is reported, and other jobs can use the board
                log.exception("%s", self.device.port)
                if entry and not entry[0].ended:
                    entry[0].fail(error)
                self._retry_at = time.monotonic() + SILENT_SECONDS
                self._away(error)
        for job, *_ in self._queue:
            job.end("cancelled")
        self._drop()

    def _take(self) -> tuple[Job, Work | None, PortWork | None] | None:
        """The next job, exclusive ones first. None after a timeout, or if the board's state must be read."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._stale or self._queue, RETRY_SECONDS)
            for job, *_ in list(self._queue):
                if job.cancelled:
                    job.end("cancelled")
            self._queue = deque(entry for entry in self._queue if not entry[0].ended)
            if self._closing or (self._stale and self._link is None and not self._queue):
                return None
            ready = [e for e in self._queue if e[0].exclusive] or [
                e for e in self._queue if self._link and not self._stale
            ]
            if ready:
                self._queue.remove(ready[0])
                return ready[0]
            return None

    def _on_link(self, job: Job, work: Work) -> None:
        known = self.state.id
        if not self._connected(now=True):
            job.fail(LinkError(self.state.problem or "the board is unplugged", remedy=self.state.remedy))
            return self._set()
        if known not in ("", self.state.id):
            job.fail(another())
            return self._set()
        link = self._link
        assert link is not None
        self._break_at = float("inf")  # left over from a cancelled job
        self._set(status="busy", job=job)
        if job.exclusive:
            error = job.run(lambda: work(link, job))
        else:
            error = job.run(lambda: work(link, job), LOST, self._is_wanted)
        if isinstance(error, LOST):
            self._away(error)
        if job.state == "queued":
            with self._changed:
                self._queue.append((job, work, None))
        self._break_at = float("inf")
        self._alive_at = time.monotonic() + ALIVE_SECONDS
        self._stale |= job.exclusive
        self._set(status="idle" if self._link else "away", job=None)

    def _on_port(self, job: Job, work: PortWork) -> None:
        self._drop()
        self._break_at = float("inf")
        self._set(status="busy", job=job)
        job.run(lambda: work(self.device.port, job))
        self._stale, self._retry_at = True, 0.0
        self._set(status="away", job=None)

    def _keep(self) -> None:
        """Idle work: finds a board that was away, reads a changed state, keeps the board in its agent."""
        if not self._connected():
            self._stale = False
            return
        assert self._link is not None
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + PRESENT_SECONDS
            if not self._find():
                return self._away(LineLost("the board is unplugged", remedy=self._absent))
        if not self._stale and time.monotonic() < self._alive_at:
            return
        try:
            look = _look(self._link, self.device) if self._stale else {"free_heap": self._link.hello().free}
        except (EdgeloraError, OSError) as error:
            return self._away(error)
        self._stale, self._alive_at = False, time.monotonic() + ALIVE_SECONDS
        if any(getattr(self.state, name) != value for name, value in look.items()) or self.state.status != "idle":
            self._set(**look, status="idle", problem="", remedy="")

    def _connected(self, now: bool = False) -> bool:
        """Whether the link is open; opens it if the port exists. now: do not wait since the last attempt."""
        if self._link is not None:
            return True
        if not now and time.monotonic() < self._retry_at:
            return False
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self._find():
            if now or self.state.status != "away" or not self.state.problem:
                gone = "the board is unplugged"
                self._set(status="away", problem=gone, remedy=self._absent, fault="unplugged")
            return False
        try:
            self._link = Link.connect(self.device.port, interrupted=self._interrupted)
            found = printable(self._link.hello().id)
        except (EdgeloraError, OSError) as error:
            self._retry_at = time.monotonic() + SILENT_SECONDS
            self._away(error)
            return False
        self._stale, self._alive_at = True, 0.0
        if found and found != self.state.id:
            self._replaced(found)
        return True

    def _replaced(self, found: str) -> None:
        """Handles another board at this port: forgets the previous board's state."""
        if self.state.id:
            with self._changed:
                waiting, self._queue = self._queue, deque()
            for job, *_ in waiting:
                job.fail(another())
        self._set(id=found, store=None, models=(), module=None, firmware=None, free_heap=None, free_flash=None)

    @property
    def _absent(self) -> str:
        return "start it again" if self.device.virtual else "plug it in; the studio reconnects automatically"

    def _find(self) -> bool:
        """Whether the board's port exists; a real board may be back at another port."""
        if self.device.virtual:
            board = virtual_boards.find(self.device.port)
            return board is not None and board.state_dir == self.device.state_dir
        if "://" in self.device.port:
            return True
        there = find_devices()
        same = [d for d in there if d.port == self.device.port and d.serial_number == self.device.serial_number]
        if not same and self.device.serial_number:
            same = [d for d in there if d.serial_number == self.device.serial_number]
        if same:
            self.device = same[0]
            self._set(port=same[0].port)
        return bool(same)

    def _away(self, error: Exception) -> None:
        self._drop()
        self._break_at = float("inf")
        fault: Fault = "not answering"
        remedy, problem = "reset the board; the studio reconnects automatically", printable(error)
        if used_elsewhere(error):
            fault, problem = "used elsewhere", "another program has the board's port open"
            remedy = "close the other program; the studio reconnects automatically"
        elif isinstance(error, Interrupted):
            remedy = "the studio reconnects automatically"
        elif isinstance(error, LineLost) or isinstance(error.__cause__, LineLost):
            fault, remedy = "unplugged", "check the cable; the studio reconnects automatically"
        remedy = printable(getattr(error, "remedy", "") or remedy)
        self._set(status="away", problem=problem, remedy=remedy, fault=fault, job=None)

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _look(link: Link, device: Device) -> dict[str, Any]:
    """Reads a board's state: versions, memory, models, adapters."""
    hello = link.hello()
    models: list[str] = []
    for folder in ("/rom", "/"):
        with contextlib.suppress(DeviceError):
            names = sorted(entry.name for entry in link.list(folder) if entry.name.endswith(".elm"))
            models += [printable(f"{folder.rstrip('/')}/{name}") for name in names]
    store = None
    if hello.edgelora:
        with contextlib.suppress(DeviceError):
            store = link.store_list()
    return {
        "board": device.board or board_of(hello.board, ""),
        "machine": printable(hello.board),
        "firmware": printable(hello.micropython),
        "module": printable(hello.edgelora) if hello.edgelora else None,
        "id": printable(hello.id),
        "free_heap": hello.free,
        "free_flash": link.space("/").free,
        "models": tuple(models),
        "store": store,
    }
