"""The gateway: one mailbox for boards on serial lines, boards that poll over HTTP, and boards of this computer.

It forwards messages, can't read what is sealed in them, and holds no key. The server uses it over a loopback
interface, see `web.local_server`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from edgelora.base.errors import EdgeloraError
from edgelora.board.link.replies import LinkError
from edgelora.board.link.transport import LineLost

from .mailbox import Letter, Mailbox
from .messages import Member

LOOK_SECONDS = 0.25  # between checks for a board's mail
PING_SECONDS = 10.0  # between pings of a board without mail
RETRY_SECONDS = (1.0, 30.0)  # before a line is opened again: at first, at most
HTTP_SECONDS = 600.0  # after this time without a poll a board counts as away; boards may sleep
ROUND_SECONDS = 3600.0  # after this time without a message a board's round counts as over


class _Gone(Exception):
    """The gateway stops, or the board's letter was replaced: nobody waits for its reply."""


@dataclass(frozen=True)
class Attached:
    """A board on a line. ping: checks that it still answers; look: brings it rosters and updates, and yields a line of
    text about each update. Call `look` only between rounds, as a board keeps a round in RAM.

    Both raise LineLost or LinkError if the board is gone, or its line must be closed for a while.
    """

    index: int
    member: Member
    ping: Callable[[], object]
    look: Callable[[], Iterable[str]]


Check = Callable[[int, int, str], None]  # a Progress; its exception stops the work that calls it
Open = Callable[[str, Check], AbstractContextManager[Attached]]
Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class BoardState:
    """way: serial, http or local; state: idle, working or away; port: of a serial line."""

    index: int
    name: str
    way: str
    state: str
    port: str = ""


class Gateway:
    """names: of boards, by index. tell: is called with events, from any thread, as fields with plain values."""

    def __init__(self, names: Mapping[int, str], tell: Tell, workers: int = os.cpu_count() or 1) -> None:
        self.mail = Mailbox(self._posted)
        self._names, self._say = names, tell
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._states: dict[int, tuple[str, str, str]] = {}
        self._polled: dict[int, float] = {}
        self._threads: list[threading.Thread] = []
        self._local: dict[int, tuple[Member, threading.Lock]] = {}
        self._pool = ThreadPoolExecutor(workers, "twin")

    # --- boards

    def add_line(self, port: str, open_board: Open) -> None:
        """Serves the board on a serial line in its own thread, until `stop`."""
        thread = threading.Thread(target=self._line, args=(port, open_board), name=port)
        self._threads.append(thread)
        thread.start()

    def add_local(self, index: int, member: Member) -> None:
        """Adds a board of this computer."""
        self._local[index] = member, threading.Lock()
        self._set(index, "local", "idle")

    def polled(self, index: int) -> None:
        """Records that a board has polled for its mail."""
        with self._lock:
            new = index not in self._polled
            self._polled[index] = time.monotonic()
        if new:
            self.tell("here", index, way="http")

    def boards(self) -> list[BoardState]:
        """All boards seen so far, by index."""
        now = time.monotonic()
        with self._lock:
            seen = {i: ("http", "idle" if now - at < HTTP_SECONDS else "away", "") for i, at in self._polled.items()}
            found = seen | self._states
        return [BoardState(i, self._names.get(i, ""), *found[i]) for i in sorted(found)]

    def away(self) -> set[int]:
        """Indices of the boards that are away now."""
        return {board.index for board in self.boards() if board.state == "away"}

    def stop(self) -> None:
        """Stops all boards' work, and waits until each has a usable REPL again."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        for thread in self._threads:
            thread.join()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def tell(self, event: str, index: int | None = None, **fields: Any) -> None:
        named = {} if index is None else {"board": index, "name": self._names.get(index, "")}
        with contextlib.suppress(OSError):  # a full disk loses the event, but no board
            self._say({"event": event, **named, **fields})

    def _set(self, index: int, way: str, state: str, port: str = "") -> None:
        with self._lock:
            self._states[index] = way, state, port

    # --- lines

    def _line(self, port: str, open_board: Open) -> None:
        pause, said = RETRY_SECONDS[0], ""
        doing: list[tuple[int, Letter]] = []  # the letter that the board works on

        def check(*_: object) -> None:
            if self.stopping or doing and not self.mail.is_current(*doing[0]):
                raise _Gone

        while not self.stopping:
            doing.clear()
            try:
                with open_board(port, check) as board:
                    pause, said = RETRY_SECONDS[0], ""
                    self.tell("here", board.index, way="serial", port=port)
                    self._serve(port, board, doing)
            except _Gone:
                continue  # opening the line again stops what the board does
            except (EdgeloraError, OSError) as error:
                if str(error) != said:  # report an error once
                    said = str(error)
                    self.tell("away", doing[0][0] if doing else None, port=port, why=said)
                self._mark_away(port)
                self._stop.wait(pause)
                pause = min(2 * pause, RETRY_SECONDS[1])

    def _mark_away(self, port: str) -> None:
        with self._lock:
            for index, (way, _, at) in self._states.items():
                if at == port:
                    self._states[index] = way, "away", at

    def _serve(self, port: str, board: Attached, doing: list[tuple[int, Letter]]) -> None:
        """Serves a board until the gateway stops. Raises the line's errors; an unanswered letter is then retried."""
        done: Letter | None = None
        pinged = time.monotonic()
        while not self.stopping:
            letter = self.mail.letter(board.index)
            if letter is None or letter is done or port in letter.replies:  # answered before the line was lost
                self._set(board.index, "serial", "idle", port)
                self._stop.wait(LOOK_SECONDS)
                if time.monotonic() - pinged > PING_SECONDS:
                    board.ping()
                    if letter is None or letter.ended(ROUND_SECONDS):
                        for given in board.look():
                            self.tell("updated", board.index, what=given)
                    pinged = time.monotonic()
                continue
            doing[:] = [(board.index, letter)]
            self._set(board.index, "serial", "working", port)
            self._answer(board.index, board.member, letter, port)
            doing.clear()
            done, pinged = letter, time.monotonic()

    def _answer(self, index: int, member: Member, letter: Letter, sender: str) -> None:
        stage = letter.message[4]
        try:
            reply = member.answer(letter.message, letter.adapter)
        except (LineLost, LinkError, OSError):
            raise
        except EdgeloraError as error:
            self.tell("refused", index, stage=stage, why=str(error))
            return self.mail.fail(letter)
        if self.mail.is_current(index, letter) and self.mail.reply(index, reply, sender):
            self.tell("answered", index, stage=stage, bytes=len(reply))

    # --- boards of this computer

    def _posted(self, index: int) -> None:
        if index in self._local:
            with contextlib.suppress(RuntimeError):  # the pool is shut down
                self._pool.submit(self._work, index)

    def _work(self, index: int) -> None:
        member, lock = self._local[index]
        with lock:
            letter = self.mail.letter(index)
            if letter is None or letter.replies or letter.failed:
                return
            self._set(index, "local", "working")
            try:
                self._answer(index, member, letter, "local")
            except Exception as error:  # a pool's thread would swallow it
                self.tell("refused", index, stage=letter.message[4], why=repr(error))
                self.mail.fail(letter)
            self._set(index, "local", "idle")


@contextlib.contextmanager
def running(gateway: Gateway) -> Iterator[Gateway]:
    """Stops the gateway at the end, also at Ctrl-C."""
    try:
        yield gateway
    finally:
        gateway.stop()
