"""A session with a board over the link: requests, retries and timeouts (SPEC.md, section 10)."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

from edgelora.base import resources
from edgelora.base.errors import InputError

from .protocol import LINK_VERSION, Frame, FrameReader, Op, Status, encode
from .replies import DeviceError, Hello, LinkError, understood
from .serial_line import CTRL_C, SerialLine
from .transport import Deadline, Interrupted, LineLost, Transport

FIRST_PAYLOAD = 256  # until HELLO tells the board's limit
MOST_SECONDS = 20.0  # least timeout of a request before it is resent
SLOWER = 4  # timeouts grow to this multiple of the board's slowest answer
LATE_SECONDS = 2.0  # of real time, to read input that came before a deadline
LEAVE_SECONDS = 3.0  # of real time for a board's goodbye, per attempt
AGENT_SOURCE = resources.device_file("edgelora/agent.py")
PROBE = (
    "try:\n from edgelora.agent import run, LINK_VERSION\nexcept ImportError:\n pass\n"
    f"print(globals().get('LINK_VERSION') == {LINK_VERSION})"
)
log = logging.getLogger(__name__)
Opener = Callable[[], Transport]


@dataclass
class LinkStats:
    """Counters since the link was opened."""

    requests: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    resent: int = 0  # requests resent, for any reason
    naks: int = 0  # resent as the board reported damage
    timeouts: int = 0  # resent as no answer came
    damaged: int = 0  # answers that arrived damaged
    reconnects: int = 0


class Channel:
    """A session with one board. Use as a context manager; leaving it leaves the board at a usable REPL.

    One request is in flight at a time. It is resent if no answer comes, or the board reports damage;
    the board executes each request once, however often it arrives. Damage costs time, never data.
    """

    def __init__(
        self,
        opener: Opener,
        *,
        timeout: float = 3.0,
        patience: float = 120.0,
        retries: int = 8,
        reconnect: float = 0.0,
        idle_ms: int = 20000,
    ) -> None:
        """opener: opens the line, also again after it was lost.

        timeout: seconds until an unanswered request is resent; patience: seconds of silence of a board
        that has reported it is working. Both are on the board's clock if it has one (virtual boards), and grow with
        the slowest answer so far. reconnect: seconds to keep trying to reopen a lost line before giving up; idle_ms:
        the board returns to its REPL after this long without a request.
        """
        self.stats = LinkStats()
        self._opener = opener
        self._timeout, self._patience, self._retries = timeout, patience, retries
        self._reconnect = reconnect
        self._idle_ms = idle_ms
        self._slowest = 0.0  # seconds from a request to its first answer
        self._session = 0
        self._sequence = 0
        self._reader = FrameReader()
        self._max_payload = FIRST_PAYLOAD
        self._sample_size = self._output_size = self._listening = self._sensed = 0
        self.sensed_scales: tuple[float, ...] = ()  # units per count of the open source, if known
        self._tells_all = False  # whether decisions have the probabilities of all classes
        self._line: Transport = opener()
        try:
            self._enter()
        except BaseException:
            self._leave()
            raise

    @classmethod
    def connect(
        cls, port: str, *, baudrate: int = 115200, interrupted: Callable[[], bool] = lambda: False, **options: Any
    ) -> Self:
        """Opens the serial port `port` (or pyserial URL) and starts the agent on the board, if it isn't running.

        interrupted: once it returns True, any call ends with `Interrupted`, and the board gets Ctrl-C. options: as for
        the class. Raises LinkError.
        """
        try:
            return cls(lambda: SerialLine(port, baudrate, interrupted), **options)
        except Interrupted:
            raise
        except LineLost as error:
            raise LinkError(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the agent, which leaves the board at its REPL, and releases the port. Never raises."""
        said = (f"{value} {name.replace('_', ' ')}" for name, value in asdict(self.stats).items() if value)
        log.info("%s", ", ".join(said) or "no requests")
        self._leave()

    # --- session

    def hello(self) -> Hello:
        """Asks the agent for its version and state."""
        request = self._hello_request()
        return self._parse_hello(self._exchange(Op.HELLO, request, 0).payload)

    def _hello_request(self) -> bytes:
        # Without an agent, a HELLO ends up in a REPL's input line: it must have no control characters.
        while True:
            session = self._session or secrets.randbits(30) | 1
            payload = json.dumps({"session": session}).encode()
            if self._session or min(encode(0, Op.HELLO, payload)) >= 32:
                self._session = session
                return payload

    def _parse_hello(self, payload: bytes) -> Hello:
        hello = Hello.of(payload)
        self._max_payload = hello.max_payload
        return hello

    def _enter(self) -> None:
        """Reaches the agent, and starts it if necessary."""
        request = self._hello_request()
        self._reader.clear()
        hello = self._try_hello(request, 3, 0.5)
        if hello is None:
            source = AGENT_SOURCE.read_text()
            self._line.launch(PROBE, source, f"run({self._idle_ms})")
            hello = self._try_hello(request, self._retries, self._timeout)
        if hello is None:
            raise LinkError("the board's agent does not answer; reset the board and try again")

    def _try_hello(self, request: bytes, attempts: int, timeout: float) -> Hello | None:
        for _ in range(attempts):
            self._send(encode(0, Op.HELLO, request))
            deadline = Deadline(self._line.clock, timeout)
            while frame := self._next_frame(deadline):
                if frame.code == Status.OK and frame.sequence == 0:
                    return self._parse_hello(frame.payload)
                if frame.code == Status.NAK:
                    break
        return None

    def _leave(self) -> None:
        try:
            self._line.hurry()
            for _ in range(3):
                self._send(encode(0, Op.QUIT, b""))
                deadline = Deadline(self._line.clock, LEAVE_SECONDS)
                while frame := self._next_frame(deadline):
                    if frame.sequence == 0 and frame.code == Status.OK:
                        return
                    if frame.code == Status.NAK:
                        break
            self._line.write(CTRL_C)
        except LineLost:
            pass
        finally:
            self._line.close()

    def _recover(self, error: LineLost) -> None:
        """Reopens a lost line within `reconnect` seconds, or raises LinkError; an interrupted line stays closed."""
        if isinstance(error, Interrupted):
            raise error
        deadline = time.monotonic() + self._reconnect
        while True:
            self._line.close()
            if time.monotonic() >= deadline:
                raise LinkError(f"the line to the board was lost ({error}); reconnect it and start again") from error
            try:
                self._line = self._opener()
                self._enter()
            except LineLost as again:
                error = again
                time.sleep(0.2)
                continue
            self.stats.reconnects += 1
            return

    # --- exchange

    def _send(self, frame: bytes) -> None:
        self._line.write(frame)
        self.stats.bytes_sent += len(frame)

    def _next_frame(self, deadline: Deadline, damaged: int | None = None) -> Frame | None:
        """The next intact frame; None at `deadline`, or as soon as more than `damaged` frames came damaged.

        Input that came while this computer was busy is still read after it, within a limit.
        """
        last = Deadline(time.monotonic, float("inf"))
        while True:
            for frame in self._reader.frames():
                return frame
            self.stats.damaged = self._reader.damaged
            if damaged is not None and self._reader.damaged > damaged:
                return None
            late = not deadline.left
            last = Deadline(time.monotonic, min(last.left, LATE_SECONDS)) if late else last
            data = self._line.read(65536, deadline.look)
            if late and (not data or not last.left):
                return None
            self.stats.bytes_received += len(data)
            self._reader.feed(data)

    def _request(self, op: Op, payload: bytes = b"") -> bytes:
        """Sends a request until it is answered; returns the answer's payload."""
        if len(payload) > self._max_payload:
            raise InputError(f"{op.name}: {len(payload)} bytes; this board's limit is {self._max_payload} per request")
        self._sequence = self._sequence % 127 + 1
        self.stats.requests += 1
        frame = self._exchange(op, payload, self._sequence)
        if frame.code == Status.NO_SESSION:
            self._session = self._sequence = 0
            self._enter()
            raise LinkError("the board was restarted: its model and unsaved training are gone; open the model again")
        if frame.code == Status.ERROR:
            raise _refusal(frame.payload)
        return frame.payload

    def _exchange(self, op: Op, payload: bytes, sequence: int) -> Frame:
        """Sends a request until its answer arrives. Raises LinkError if the board stops responding."""
        request = message = encode(sequence, op, payload)
        timeout = self._timeout
        attempt = 0
        working: Deadline | None = None  # deadline of a working board's silence
        first = True  # the delay of an answer to a resent request is unknown
        while True:
            try:
                sent = self._line.clock()
                self._send(message)
                answer = self._await(sequence, max(timeout, SLOWER * self._slowest))
                if first and answer and answer.code != Status.NAK:
                    self._slowest = max(self._slowest, self._line.clock() - sent)
                while answer and answer.code == Status.WORKING:
                    working = self._may_be_silent()
                    answer = self._await(sequence, max(timeout, SLOWER * self._slowest))
                at_it = working is not None and working.left > 0
            except LineLost as error:
                self._recover(error)
                message, working, first = request, None, False
                continue
            if answer and answer.code != Status.NAK:
                return answer
            self.stats.resent += 1
            log.debug("%s is sent again: %s", op.name, "the board saw damage" if answer else "no answer")
            first = False
            if answer:
                self.stats.naks += 1
                message = request
            else:
                self.stats.timeouts += 1
                timeout = min(1.5 * timeout, max(MOST_SECONDS, self._timeout))
                if at_it:
                    # It has the request: a few bytes, waiting in its input until it is done, trigger the answer.
                    message = encode(sequence, Op.REPEAT, b"")
                    continue
            attempt += 1
            if attempt > self._retries:
                raise LinkError(f"{op.name} got no answer in {attempt} attempts; check the cable, reset the board")
            if attempt == 3 and not answer:  # damage that looked like Ctrl-C ended the agent; its loaded state remains
                try:
                    self._enter()
                except LineLost as error:
                    self._recover(error)
                message, working = request, None

    def _may_be_silent(self) -> Deadline:
        """How long a board may be silent after it has reported that it is working."""
        longer = max(1.0, SLOWER * self._slowest / self._timeout)
        return Deadline(self._line.clock, self._patience * longer)

    def _await(self, sequence: int, timeout: float) -> Frame | None:
        """The next frame of `sequence`; None on timeout, or if a damaged one came."""
        deadline = Deadline(self._line.clock, timeout)
        damaged = self._reader.damaged
        while frame := self._next_frame(deadline, damaged):
            if frame.sequence == sequence or frame.code == Status.NAK:
                return frame  # others are duplicate answers
        return None

    def _control(self, op: Op, **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = understood(json.loads)(self._request(op, json.dumps(fields).encode()))
        return answer


@understood
def _refusal(payload: bytes) -> DeviceError:
    answer = json.loads(payload)
    return DeviceError(str(answer["kind"]), str(answer["error"]))
