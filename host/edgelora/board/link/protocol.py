"""The frames of the serial link (SPEC.md, section 10), without a port: requests, statuses, encoding, reading."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

LINK_VERSION = 2
SYNC = 0xE5
HEADER_SIZE = 9
LEAST_PAYLOAD, MAX_PAYLOAD = 64, (1 << 14) - 1  # largest frame in bytes
CTRL_C = 3


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
    JUDGE = 0x2C
    LISTEN_OPEN = 0x2D
    LISTEN_DATA = 0x2E
    MONITOR = 0x2F
    STORE = 0x30
    CLASS = 0x31
    SENSE_OPEN = 0x32
    SENSE_DATA = 0x33
    UPDATE_OPEN = 0x34
    UPDATE_DATA = 0x35
    UPDATE_DONE = 0x36
    UPDATE_STATE = 0x37
    RUN_START = 0x38
    RUN_GO = 0x39
    RUN_SUSPEND = 0x3A
    FLEET = 0x3B
    FLEET_DATA = 0x3C
    WATCH = 0x3D
    WORDS = 0x3E


class Status(IntEnum):
    """Answers."""

    OK = 0
    WORKING = 1
    NAK = 2
    ERROR = 3
    NO_SESSION = 4


@dataclass(frozen=True)
class Frame:
    """One intact frame."""

    sequence: int
    code: int
    payload: bytes


def encode(sequence: int, code: int, payload: bytes) -> bytes:
    """A frame's bytes on the line to the board. None of them is 3 (Ctrl-C)."""
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
    """Finds intact frames in a stream with arbitrary other bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.damaged = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def clear(self) -> None:
        self._buffer.clear()

    def frames(self) -> Iterator[Frame]:
        """Yields the frames that are complete so far."""
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
