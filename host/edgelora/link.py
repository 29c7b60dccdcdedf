"""The host's end of the link to a board (SPEC.md, section 10): files, the model and training over its serial port.

with Link.connect("/dev/ttyACM0") as link:
    link.put("/me.ela", data)
    link.open_model("/rom/har.elm")
    link.begin(seed=1)
    reply = link.train(windows, labels, learning_rate=8192)
"""

from __future__ import annotations

import json
import secrets
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np

from edgelora import resources
from edgelora.errors import EdgeloraError, InputError
from edgelora.text import printable
from edgelora.transport import LineLost, SerialLine, Transport

LINK_VERSION = 1
SYNC = 0xE5
HEADER_SIZE = 9
CTRL_C = 3
PUT_BLOCK = 8192
UPDATE_HEADER = 256
STORE_UPLOAD = "/store.upload"  # where an adapter waits on the board until it is in the store
FIRST_PAYLOAD = 256  # until HELLO tells how much the board takes
AGENT_SOURCE = resources.device_file("edgelora_agent.py")
PROBE = (
    "try:\n from edgelora_agent import run, LINK_VERSION\nexcept ImportError:\n pass\n"
    f"print(globals().get('LINK_VERSION') == {LINK_VERSION})"
)

Progress = Callable[[int, int], None]
Opener = Callable[[], Transport]
_Reply = TypeVar("_Reply")


class LinkError(EdgeloraError, RuntimeError):
    """The board cannot be reached, or lost what the host relied on."""


class DeviceError(EdgeloraError, RuntimeError):
    """The board refused a request; the message is the board's own. `kind` names its exception type."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(printable(message))
        self.kind = printable(kind)


class Op(IntEnum):
    """Requests."""

    HELLO = 0x01
    QUIT = 0x02
    REPEAT = 0x03
    PUT_OPEN = 0x10
    PUT_DATA = 0x11
    PUT_DONE = 0x12
    STAT = 0x13
    GET_DATA = 0x14
    LIST = 0x15
    REMOVE = 0x16
    SPACE = 0x17
    MODEL = 0x20
    BEGIN = 0x21
    LOAD = 0x22
    TRAIN = 0x23
    EVAL = 0x24
    FLUSH = 0x25
    SAVE = 0x26
    USE = 0x27
    BENCH = 0x28
    CACHE_OPEN = 0x29
    CACHE_PUT = 0x2A
    TRAIN_CACHED = 0x2B
    STORE = 0x30
    UPDATE_OPEN = 0x34
    UPDATE_DATA = 0x35
    UPDATE_DONE = 0x36
    UPDATE_STATE = 0x37
    RUN_START = 0x38
    RUN_GO = 0x39
    RUN_SUSPEND = 0x3A


class Status(IntEnum):
    """Answers."""

    OK = 0
    WORKING = 1
    NAK = 2
    ERROR = 3
    NO_SESSION = 4


@dataclass(frozen=True)
class Hello:
    """Who answers. `edgelora`: module version, None without the module; `free`: heap bytes; `trained`: samples.

    builtin: the firmware has EdgeLoRA's native part in it, so that no native module is needed.
    ticks_us: the board's clock, which wraps at 2^30.
    """

    link: int
    edgelora: str | None
    board: str
    micropython: str
    mpy: int
    free: int
    id: str
    max_payload: int
    resumed: bool
    sequence: int
    model: bool
    trained: int
    ticks_us: int
    builtin: bool = False

    @staticmethod
    def of(payload: bytes) -> Hello:
        """What an agent's answer says. LinkError for an agent of another version."""
        said = json.loads(payload)
        if said.get("link") != LINK_VERSION:
            raise LinkError(
                f"the board speaks link version {said.get('link')}, not {LINK_VERSION}: update its firmware, or "
                "`edgelora install` again"
            )
        known = {field.name: said[field.name] for field in fields(Hello) if field.name in said}
        try:
            return Hello(**known)
        except TypeError as error:
            raise LinkError(
                f"the board's agent is of another version ({error}): reset the board, install again"
            ) from None


@dataclass(frozen=True)
class FileStat:
    """A file on the board, as it reads back from its flash. `sha256` is "" unless asked for."""

    size: int
    crc: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One name in a folder; `size` in bytes, None for a folder."""

    name: str
    size: int | None


@dataclass(frozen=True)
class Space:
    """Bytes free and total of a filesystem, and free heap."""

    free: int
    total: int
    heap: int


@dataclass(frozen=True)
class ModelInfo:
    """An opened model. `arena`: bytes it took; `free`: heap bytes left."""

    arena: int
    base_id: str
    input_size: int
    sample_size: int
    output_size: int
    feature_size: int
    ranks: list[int]
    mode: str
    labels: list[str]
    free: int


@dataclass(frozen=True)
class TrainReply:
    """losses: int32 [n] in 1/4096 nat; trained: samples since begin or load; elapsed_us: on the board's clock."""

    losses: np.ndarray
    trained: int
    elapsed_us: int


@dataclass(frozen=True)
class RunReply:
    """Where a run is that the board does by itself. losses, times_us: of the samples learned since it was last asked.

    state: "training", "paused" (its budget is used up), "low battery" or "done"; samples, updates: learned; pending:
    samples since the last update; busy_us, energy_uj: of the whole run, over all resumes; checkpoint: bytes of it;
    crc: of the adapter that is in the store at the end; notice: what was lost, if something was.
    """

    state: str
    losses: list[int]
    times_us: list[int]
    samples: int
    updates: int
    pending: int
    resumes: int
    busy_us: int
    energy_uj: int
    checkpoint: int
    crc: int | None
    resumed: bool = False
    notice: str = ""


@dataclass(frozen=True)
class EvalReply:
    """predictions: uint8 [n]; logits: int8 [n, outputs] or None; elapsed_us: inference alone, on the board's clock."""

    predictions: np.ndarray
    logits: np.ndarray | None
    elapsed_us: int


@dataclass(frozen=True)
class Timing:
    """What `n` runs of one operation took on the board's clock."""

    n: int
    total_us: int
    min_us: int
    max_us: int

    @property
    def mean_us(self) -> float:
        return self.total_us / self.n


@dataclass(frozen=True)
class StoredAdapter:
    """One in the board's store. base_id: hex, zeros for what is no adapter; trial: an update not confirmed yet."""

    name: str
    version: int
    size: int
    base_id: str
    pinned: bool
    trial: bool


@dataclass(frozen=True)
class StoreState:
    """What the board's store holds, and its name that is active, if any. free: bytes; place: a folder, or what it says.

    notices: what opening the store found, a change that a power failure cut off.
    """

    adapters: list[StoredAdapter]
    active: str | None
    free: int
    place: str
    notices: list[str]


@dataclass(frozen=True)
class UpdateState:
    """What the board is, and trusts (ids of keys, hex): "" and none at first. active: an adapter's name or None.

    confirmed: names that were on trial until this request; notices: what opening the store found.
    """

    target: str
    keys: list[str]
    adapters: list[StoredAdapter]
    active: str | None
    confirmed: list[str]
    notices: list[str]


@dataclass
class LinkStats:
    """Counters since the link was opened."""

    requests: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    resent: int = 0  # requests sent again, for whatever reason
    naks: int = 0  # of them, because the board saw damage
    timeouts: int = 0  # of them, because nothing came back
    damaged: int = 0  # answers that arrived damaged
    reconnects: int = 0


@dataclass(frozen=True)
class Frame:
    """One intact frame."""

    sequence: int
    code: int
    payload: bytes


def encode(sequence: int, code: int, payload: bytes) -> bytes:
    """A frame as it goes over the line to the board. No byte of it is 3 (Ctrl-C)."""
    head = _start(sequence, code, len(payload))
    raw = payload + struct.pack("<I", zlib.crc32(payload, zlib.crc32(head)))
    positions = [i for i, byte in enumerate(raw) if byte == CTRL_C]
    body = raw.replace(b"\x03", b"\x00")
    return _header(head, len(positions)) + body + b"".join(bytes((p & 127 | 128, p >> 7 | 128)) for p in positions)


def _start(sequence: int, code: int, size: int) -> bytes:
    return bytes((SYNC, sequence | 128, code | 128, size & 127 | 128, size >> 7 | 128))


def _header(start: bytes, fixes: int) -> bytes:
    head = start + bytes((fixes & 127 | 128, fixes >> 7 | 128))
    check = zlib.crc32(head)
    return head + bytes((check & 127 | 128, check >> 7 & 127 | 128))


class FrameReader:
    """Finds intact frames in a stream of bytes that may hold anything else besides."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.damaged = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def clear(self) -> None:
        self._buffer.clear()

    def frames(self) -> Iterator[Frame]:
        """Frames complete so far."""
        buffer = self._buffer
        while True:
            start = buffer.find(SYNC)
            if start < 0:
                buffer.clear()
                return
            del buffer[:start]
            if len(buffer) < HEADER_SIZE:
                return
            head = bytes(buffer[:HEADER_SIZE])
            size = head[3] & 127 | (head[4] & 127) << 7
            if head != _header(head[:5], 0):
                del buffer[0]
                continue
            end = HEADER_SIZE + size + 4
            if len(buffer) < end:
                return
            payload = bytes(buffer[HEADER_SIZE : end - 4])
            if zlib.crc32(payload, zlib.crc32(head[:5])) != int.from_bytes(buffer[end - 4 : end], "little"):
                self.damaged += 1
                del buffer[0]
                continue
            del buffer[:end]
            yield Frame(head[1] & 127, head[2] & 127, payload)


class Link:
    """A conversation with one board. Use as a context manager; leaving it leaves the board at a usable REPL.

    One request is on its way at a time. It is sent again when the answer does not come, or the board reports damage;
    the board carries out each request once, however often it arrives. Damage costs time, never data.
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
        """opener: opens the line, also anew after it was lost.

        timeout: seconds until a request without an answer is sent again; patience: seconds for the work of a request
        that the board has announced to be working on; reconnect: seconds to keep trying to reopen a lost line before
        giving up; idle_ms: the board returns to its REPL after this long without a request.
        """
        self.stats = LinkStats()
        self._opener = opener
        self._timeout, self._patience, self._retries = timeout, patience, retries
        self._reconnect = reconnect
        self._idle_ms = idle_ms
        self._session = 0
        self._sequence = 0
        self._reader = FrameReader()
        self._max_payload = FIRST_PAYLOAD
        self._sample_size = self._output_size = 0
        self._line: Transport = opener()
        try:
            self._enter()
        except BaseException:
            self._leave()
            raise

    @classmethod
    def connect(cls, port: str, *, baudrate: int = 115200, **options: Any) -> Link:
        """Opens the serial port `port` (or pyserial URL) and starts the agent on the board, if it isn't running.

        options: as for `Link`. Raises LinkError.
        """
        try:
            return cls(lambda: SerialLine(port, baudrate), **options)
        except LineLost as error:
            raise LinkError(str(error)) from error

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the agent, so that the board is at its REPL, and releases the port. Never raises."""
        self._leave()

    # --- session

    def hello(self) -> Hello:
        """Asks who is there."""
        request = self._hello_request()
        return self._parse_hello(self._exchange(Op.HELLO, request, 0).payload)

    def _hello_request(self) -> bytes:
        # If no agent runs, a HELLO ends up in a REPL's input line: it must hold no control characters.
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
        """Reaches the agent, starting it if need be."""
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
            deadline = time.monotonic() + timeout
            while frame := self._next_frame(deadline):
                if frame.code == Status.OK and frame.sequence == 0:
                    return self._parse_hello(frame.payload)
                if frame.code == Status.NAK:
                    break
        return None

    def _leave(self) -> None:
        try:
            for _ in range(3):
                self._send(encode(0, Op.QUIT, b""))
                deadline = time.monotonic() + self._timeout
                while frame := self._next_frame(deadline):
                    if frame.sequence == 0 and frame.code == Status.OK:
                        return
                    if frame.code == Status.NAK:
                        break
            self._line.write(b"\r\x03\x03")
        except LineLost:
            pass
        finally:
            self._line.close()

    def _recover(self, error: LineLost) -> None:
        """Reopens a lost line within `reconnect` seconds, or raises LinkError."""
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

    def _next_frame(self, deadline: float, damaged: int | None = None) -> Frame | None:
        """The next intact frame; None at `deadline`, or as soon as more than `damaged` frames came damaged."""
        while True:
            for frame in self._reader.frames():
                return frame
            self.stats.damaged = self._reader.damaged
            left = deadline - time.monotonic()
            if left <= 0 or damaged is not None and self._reader.damaged > damaged:
                return None
            data = self._line.read(65536, left)
            self.stats.bytes_received += len(data)
            self._reader.feed(data)

    def _request(self, op: Op, payload: bytes = b"") -> bytes:
        """Sends a request until it is answered; returns the answer's payload."""
        if len(payload) > self._max_payload:
            raise InputError(f"{op.name}: {len(payload)} bytes; this board takes {self._max_payload} in one request")
        self._sequence = self._sequence % 127 + 1
        self.stats.requests += 1
        frame = self._exchange(op, payload, self._sequence)
        if frame.code == Status.NO_SESSION:
            self._session = self._sequence = 0
            self._enter()
            raise LinkError("the board was restarted: its model and unsaved training are gone; open the model again")
        if frame.code == Status.ERROR:
            answer = json.loads(frame.payload)
            raise DeviceError(answer["kind"], answer["error"])
        return frame.payload

    def _exchange(self, op: Op, payload: bytes, sequence: int) -> Frame:
        request = message = encode(sequence, op, payload)
        timeout = self._timeout
        attempt = 0
        working_until = 0.0
        while True:
            try:
                self._send(message)
                answer = self._await(sequence, timeout)
                while answer and answer.code == Status.WORKING:
                    working_until = time.monotonic() + self._patience
                    answer = self._await(sequence, timeout)
            except LineLost as error:
                self._recover(error)
                message = request
                continue
            if answer and answer.code != Status.NAK:
                return answer
            self.stats.resent += 1
            if answer:
                self.stats.naks += 1
                message = request
            else:
                self.stats.timeouts += 1
                timeout = min(1.5 * timeout, 20.0)
                if time.monotonic() < working_until:
                    # It has the request: a few bytes that wait in its input until it is done fetch the answer.
                    message = encode(sequence, Op.REPEAT, b"")
                    continue
            attempt += 1
            if attempt > self._retries:
                raise LinkError(f"{op.name} got no answer in {attempt} attempts; check the cable, reset the board")
            if attempt == 3 and not answer:  # damage that looked like Ctrl-C ended the agent; what it loaded is there
                try:
                    self._enter()
                except LineLost as error:
                    self._recover(error)
                message = request

    def _await(self, sequence: int, timeout: float) -> Frame | None:
        """The next frame about `sequence`; None if none comes in time, or one came that is damaged."""
        deadline = time.monotonic() + timeout
        damaged = self._reader.damaged
        while frame := self._next_frame(deadline, damaged):
            if frame.sequence == sequence or frame.code == Status.NAK:
                return frame  # others are answers that were sent twice
        return None

    def _control(self, op: Op, **fields: Any) -> dict[str, Any]:
        return json.loads(self._request(op, json.dumps(fields).encode()))

    # --- files

    def put(self, path: str, data: bytes, progress: Progress | None = None) -> None:
        """Writes a file: whole or not at all. An upload cut short goes on where it stopped if called again.

        progress(done, total) in bytes. Raises DeviceError, e.g. when the filesystem is full; the old file stays.
        """
        size, crc = len(data), zlib.crc32(data)
        have = self._control(Op.PUT_OPEN, path=path, size=size, crc=crc)
        if have["offset"] > size or have["crc"] != zlib.crc32(data[: have["offset"]]):
            have = self._control(Op.PUT_OPEN, path=path, size=size, crc=crc, fresh=True)
        offset = have["offset"]
        block = min(PUT_BLOCK, self._max_payload - 4)
        while offset < size:
            step = min(block - offset % block, size - offset)  # stay aligned with the filesystem's blocks
            self._request(Op.PUT_DATA, struct.pack("<I", offset) + data[offset : offset + step])
            offset += step
            if progress:
                progress(offset, size)
        self._control(Op.PUT_DONE)

    def get(self, path: str, progress: Progress | None = None) -> bytes:
        """Reads a file, checked as a whole."""
        stat = self.stat(path)
        return self._download(path, stat.size, stat.crc, progress)

    def _download(self, path: str, size: int, crc: int, progress: Progress | None = None) -> bytes:
        data = bytearray()
        name = path.encode()
        while len(data) < size:
            part = self._request(Op.GET_DATA, struct.pack("<II", len(data), PUT_BLOCK) + name)
            if not part:
                break
            data += part
            if progress:
                progress(len(data), size)
        if zlib.crc32(data) != crc:
            raise LinkError(f"{path} changed on the board while it was read; try again")
        return bytes(data)

    def stat(self, path: str, sha256: bool = False) -> FileStat:
        """Size and checksum of a file, computed on the board."""
        return FileStat(**self._control(Op.STAT, path=path, sha256=sha256))

    def list(self, path: str = "/") -> list[Entry]:
        """What is in a folder."""
        entries: list[Entry] = []
        while True:
            answer = self._control(Op.LIST, path=path, skip=len(entries))
            entries += [Entry(name, None if size < 0 else size) for name, size in answer["entries"]]
            if not answer["more"]:
                return entries

    def holds(self, path: str, content: bytes) -> bool:
        """Whether the file `path` is there with this content."""
        return self.size(path) == len(content) and self.stat(path).crc == zlib.crc32(content)

    def size(self, path: str) -> int | None:
        """Bytes of a file, None if there is none of that name."""
        folder, _, name = path.rpartition("/")
        try:
            return {entry.name: entry.size for entry in self.list(folder or "/")}.get(name)
        except DeviceError:
            return None

    def remove(self, path: str) -> None:
        """Deletes a file."""
        self._control(Op.REMOVE, path=path)

    def space(self, path: str = "/") -> Space:
        """Room on the filesystem that holds `path`, and on the heap."""
        return Space(**self._control(Op.SPACE, path=path))

    # --- model

    def open_model(
        self,
        path: str,
        ranks: int | Sequence[int] = 4,
        mode: str = "frozen_a",
        micro_batch: int = 8,
        momentum: int = 0,
        recompute: Sequence[int] | None = None,
        threshold: int = 0,
        plain: bool = False,
        frames: int = 1,
    ) -> ModelInfo:
        """Opens a base model on the board; arguments as for the device's `edgelora.Model`."""
        wanted = ranks if isinstance(ranks, int) else [int(rank) for rank in ranks]
        more: dict[str, Any] = {"recompute": list(recompute)} if recompute else {}
        if threshold or plain:
            more |= {"threshold": threshold, "plain": plain}
        if frames != 1:
            more["frames"] = frames
        answer = self._control(
            Op.MODEL, path=path, ranks=wanted, mode=mode, micro_batch=micro_batch, momentum=momentum, **more
        )
        info = ModelInfo(**answer)
        self._sample_size, self._output_size = info.sample_size, info.output_size
        return info

    def begin(self, seed: int = 0) -> None:
        """Starts training with a fresh adapter."""
        self._control(Op.BEGIN, seed=seed)

    def load(self, path: str) -> None:
        """Goes on training from an adapter file on the board."""
        self._control(Op.LOAD, path=path)

    def train(
        self,
        windows: np.ndarray,
        labels: np.ndarray | Sequence[int],
        learning_rate: int,
        lock_heap: bool = True,
        progress: Progress | None = None,
    ) -> TrainReply:
        """Trains on samples in order. windows: int8 [n, ...]; labels: [n] or, where the loss wants them, int8 targets.

        lock_heap: the board proves that training allocates nothing. progress(done, total) in samples.
        """
        windows = self._windows(windows)
        samples = np.concatenate([self._labels(labels, len(windows)), windows.view(np.uint8)], axis=1)
        return self._train(Op.TRAIN, samples, learning_rate, lock_heap, progress)

    def cache(self, windows: np.ndarray, path: str | None = None, progress: Progress | None = None) -> int:
        """Has the board keep, for `train_cached`, what the layers below the lowest adapter make of int8 windows.

        Windows are [n, ...]. They are kept in RAM or, given a path, in a file on the board, until another model is
        opened or the file removed. Returns a sample's bytes.
        """
        windows = self._windows(windows)
        if len(windows) > 65536:
            raise InputError(f"{len(windows)} samples are too many for a feature cache; it numbers them up to 65535")
        size = self._control(Op.CACHE_OPEN, path=path, count=len(windows))["feature_size"]
        for start, part in self._parts(windows, 4, 1):
            self._request(Op.CACHE_PUT, struct.pack("<HH", start, 0) + part.tobytes())
            if progress:
                progress(start + len(part), len(windows))
        return int(size)

    def train_cached(
        self, picked: np.ndarray, labels: np.ndarray, learning_rate: int, lock_heap: bool = True
    ) -> TrainReply:
        """`train` on samples of the cache, by their numbers [n], with labels [n]: the same to the last bit."""
        numbers = np.array(picked)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() <= 65535:
            raise InputError("samples of a feature cache have numbers from 0 to 65535")
        numbers = numbers.astype("<u2")[:, None].view(np.uint8)
        samples = np.concatenate([self._labels(labels, len(picked)), numbers], axis=1)
        return self._train(Op.TRAIN_CACHED, samples, learning_rate, lock_heap, None)

    def _labels(self, labels: np.ndarray | Sequence[int], count: int) -> np.ndarray:
        """Labels [n] as bytes [n, 1], or int8 targets [n, ...] as they are."""
        labels = np.asarray(labels)
        if len(labels) != count:
            raise InputError(f"{count} samples but {len(labels)} labels")
        if labels.dtype == np.int8:
            return labels.reshape(count, -1).view(np.uint8)
        if labels.ndim != 1 or count and not 0 <= labels.min() <= labels.max() <= 255:
            raise InputError("give labels from 0 to 255, or targets as int8 [n, ...]")
        return labels.astype(np.uint8)[:, None]

    def _train(
        self, op: Op, samples: np.ndarray, learning_rate: int, lock_heap: bool, progress: Progress | None
    ) -> TrainReply:
        losses = [np.zeros(0, np.int32)]
        trained = elapsed = 0
        for start, part in self._parts(samples, 4, 4):
            head = struct.pack("<HBx", learning_rate, int(lock_heap))
            answer = self._request(op, head + part.tobytes())
            trained, took = struct.unpack_from("<II", answer)
            elapsed += took
            losses.append(np.frombuffer(answer, "<i4", offset=8))
            if progress:
                progress(start + len(part), len(samples))
        return TrainReply(np.concatenate(losses), trained, elapsed)

    def eval(
        self, windows: np.ndarray, logits: bool = False, lock_heap: bool = False, progress: Progress | None = None
    ) -> EvalReply:
        """Classifies int8 windows [n, ...]."""
        windows = self._windows(windows)
        predictions = [np.zeros(0, np.uint8)]
        rows = [np.zeros((0, self._output_size), np.int8)]
        elapsed = 0
        for start, part in self._parts(windows, 4, 1 + self._output_size * logits):
            head = struct.pack("<B3x", int(lock_heap) | 2 * int(logits))
            answer = self._request(Op.EVAL, head + part.tobytes())
            elapsed += int.from_bytes(answer[:4], "little")
            predictions.append(np.frombuffer(answer, np.uint8, len(part), 4))
            if logits:
                rows.append(np.frombuffer(answer, np.int8, offset=4 + len(part)).reshape(len(part), -1))
            if progress:
                progress(start + len(part), len(windows))
        return EvalReply(np.concatenate(predictions), np.concatenate(rows) if logits else None, elapsed)

    def _windows(self, windows: np.ndarray) -> np.ndarray:
        if not self._sample_size:
            raise LinkError("no model is open; call open_model first")
        flat = np.ascontiguousarray(windows, dtype=np.int8).reshape(len(windows), -1)
        if flat.shape[1] != self._sample_size:
            raise InputError(f"windows have {flat.shape[1]} values, this model takes {self._sample_size}")
        return flat

    def _parts(self, rows: np.ndarray, head: int, answer_bytes: int) -> Iterator[tuple[int, np.ndarray]]:
        """Cuts rows into requests that fit a frame, and so do their answers (8 bytes + answer_bytes a row)."""
        most = min((self._max_payload - head) // rows.shape[1], (self._max_payload - 8) // answer_bytes)
        if not most:
            raise InputError(f"a sample has {rows.shape[1]} bytes; this board takes {self._max_payload} in one request")
        for start in range(0, len(rows), most):
            yield start, rows[start : start + most]

    def flush(self, learning_rate: int) -> None:
        """Updates with the samples of an unfinished micro-batch."""
        self._control(Op.FLUSH, learning_rate=learning_rate)

    def save(self, path: str, state: bool = False) -> int:
        """Writes the training adapter to the board's flash; returns the samples it has seen since begin or load."""
        return int(self._control(Op.SAVE, path=path, state=state)["trained"])

    def use(self, path: str | None) -> None:
        """Infers with an adapter file from now on; None: with the bare base."""
        self._control(Op.USE, path=path)

    # --- store

    def store_list(self, place: str | None = None) -> StoreState:
        """What the board's store holds, or the one in a folder `place` on it."""
        return self._store("list", place=place)

    def store_put(self, name: str, data: bytes, version: int | None = None, place: str | None = None) -> int:
        """Commits an adapter under a name; returns its version, the one before + 1 unless given."""
        self.put(STORE_UPLOAD, data)
        try:
            fields = {"do": "put", "name": name, "path": STORE_UPLOAD, "version": version, "place": place}
            return int(self._control(Op.STORE, **fields)["version"])
        finally:
            self.remove(STORE_UPLOAD)

    def store_get(self, name: str) -> bytes:
        """Reads what the store has under a name, checked."""
        stat = self._control(Op.STORE, do="get", name=name)
        return self._download(":" + name, stat["size"], stat["crc"])

    def store_activate(self, name: str | None) -> StoreState:
        """Has the board use an adapter, also after a reset; None: the bare base."""
        return self._store("activate", name=name)

    def store_rename(self, name: str, to: str) -> StoreState:
        return self._store("rename", name=name, to=to)

    def store_remove(self, name: str, place: str | None = None) -> StoreState:
        return self._store("remove", name=name, place=place)

    def store_pin(self, name: str, on: bool = True) -> StoreState:
        """Pinned, an adapter stays in the board's RAM once it is there."""
        return self._store("pin", name=name, on=on)

    def _store(self, do: str, **fields: Any) -> StoreState:
        answer = self._control(Op.STORE, do=do, **fields)
        rows = answer["adapters"]
        while answer["more"]:
            place = fields.get("place")
            answer = self._control(Op.STORE, do="list", place=place, skip=len(rows))
            rows += answer["adapters"]
        adapters = [StoredAdapter(*row) for row in rows]
        return StoreState(adapters, answer["active"], answer["free"], answer["place"], answer["notices"])

    # --- updates

    def update(self, bundle: bytes, progress: Progress | None = None) -> tuple[str, int]:
        """Has the board judge, check and install a bundle; returns its adapter's name and version.

        One cut short goes on where it stopped if called again. progress(done, total) in bytes. Raises DeviceError.
        """
        header, payload = bundle[:UPDATE_HEADER], bundle[UPDATE_HEADER:]
        at = json.loads(self._request(Op.UPDATE_OPEN, header))["offset"]
        block = min(PUT_BLOCK, self._max_payload - 4)
        while at < len(payload):
            part = payload[at : at + block]
            self._request(Op.UPDATE_DATA, struct.pack("<I", at) + part)
            at += len(part)
            if progress:
                progress(at, len(payload))
        answer = self._control(Op.UPDATE_DONE)
        return answer["name"], answer["version"]

    def update_state(self, confirm: bool = False) -> UpdateState:
        """What the board trusts, and its adapters; with `confirm`, those on trial are good from now on."""
        answer = self._control(Op.UPDATE_STATE, confirm=confirm)
        return UpdateState(**answer | {"adapters": [StoredAdapter(*entry) for entry in answer["adapters"]]})

    # --- the board by itself

    def run_start(self, path: str, name: str, **settings: Any) -> RunReply:
        """Prepares a run over the samples of a file on the board, whose adapter becomes `name` in the board's store.

        settings: epochs, seed, learning_rate, commit_every; resume; clock_hz, sleep_ms, budget_ms, budget_mj, power_mw,
        sleep_mw as for the device's Scheduler.
        """
        return RunReply(**self._control(Op.RUN_START, path=path, name=name, **settings))

    def run_go(self, ms: int) -> RunReply:
        """Lets the run go on for about that long, at least a step."""
        return RunReply(**self._control(Op.RUN_GO, ms=ms))

    def run_suspend(self) -> RunReply:
        """Finishes the micro-batch under way and commits; `run_start` with `resume` goes on, also after a reset."""
        return RunReply(**self._control(Op.RUN_SUSPEND))

    # --- measuring

    def bench_ops(self, first: int, end: int, n: int = 20, backward: bool = False) -> Timing:
        """Ops [first, end) of an inference or, from the last down, of a backward pass. None: the call itself."""
        return Timing(**self._control(Op.BENCH, what="backward" if backward else "ops", n=n, ops=[first, end]))

    def bench_infer(self, n: int = 20, clock_hz: int | None = None) -> Timing:
        """Inferences, at another clock if one is given."""
        return Timing(**self._control(Op.BENCH, what="infer", n=n, clock_hz=clock_hz))

    def bench_train(self, n: int = 20, features: bool = False, clock_hz: int | None = None) -> Timing:
        """Training steps with learning rate 0, from inputs or from features; begin or load anew afterwards."""
        what = "train_features" if features else "train"
        return Timing(**self._control(Op.BENCH, what=what, n=n, clock_hz=clock_hz))

    def merge(self, op: int) -> Timing:
        """Folds the adapter in use into an op's weights, until the next `use`, `begin` or `load`."""
        return Timing(**self._control(Op.BENCH, what="merge", n=1, ops=[op, op]))

    def bench_swap(self, first: str, second: str, n: int = 100) -> Timing:
        """Switching between two adapters that are in RAM."""
        return Timing(**self._control(Op.BENCH, what="swap", n=n, paths=[first, second]))

    def bench_swap_file(self, first: str, second: str, n: int = 20) -> Timing:
        """Switching between two adapter files that are kept open: read, verify, use."""
        return Timing(**self._control(Op.BENCH, what="swap_file", n=n, paths=[first, second]))

    def bench_swap_store(self, names: Sequence[str], cache: int, n: int = 100, place: str | None = None) -> Timing:
        """Switching between adapters of the store in turn, with so many bytes of RAM for them."""
        return Timing(**self._control(Op.BENCH, what="swap_store", n=n, names=list(names), cache=cache, place=place))
