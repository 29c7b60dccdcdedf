"""A line to a board: a serial port by name, or any URL that pyserial knows."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from typing import Any

import serial
from serial.tools import list_ports

from edgelora.board import virtual_boards

from .raw_repl import RawRepl
from .transport import LOOK_SECONDS, Deadline, Interrupted, LineLost, Stuck

BRIDGES = {0x10C4: "CP210x", 0x1A86: "CH340", 0x0403: "FTDI"}  # serial adapters by USB vendor: DTR and RTS may reset
WRITE_SECONDS = 10.0  # for a board to accept any data
WRITE_BLOCK = 256  # bytes per write if the port can't report how much it accepted
STANDSTILL_SECONDS = 600.0  # of real time for a virtual board's clock to advance
CTRL_C = b"\r\x03\x03"


class SerialLine:
    """A serial port by name, or any URL that pyserial knows (`socket://host:port`, `rfc2217://...`)."""

    def __init__(self, port: str, baudrate: int = 115200, interrupted: Callable[[], bool] = lambda: False) -> None:
        """interrupted: is called at least every `LOOK_SECONDS`; once it returns True, the board gets Ctrl-C, and
        reads and writes raise `Interrupted`."""
        self.port, self._interrupted = port, interrupted
        self._board = virtual_boards.clock_of(port)
        try:
            self._serial = _open(port, baudrate)
        except (OSError, ValueError) as error:  # pyserial's own are OSErrors
            raise LineLost(f"cannot open {port}: {error}; is the board plugged in and the port free?") from error

    def clock(self) -> float:
        if self._board is None:
            return time.monotonic()
        now = self._board()
        if self._board.stood > STANDSTILL_SECONDS:
            raise LineLost(
                f"{self.port}: the virtual board's process has not advanced for {STANDSTILL_SECONDS:g} s; "
                "resume it, or start it again"
            )
        return now

    def _look(self) -> None:
        """Raises `Interrupted` if requested."""
        if self._interrupted():
            with contextlib.suppress(OSError, TypeError):
                self._write_some(memoryview(CTRL_C))
            raise Interrupted(f"{self.port}: interrupted")

    def read(self, size: int, timeout: float) -> bytes:
        self._look()
        try:
            waiting = self._serial.in_waiting
            self._serial.timeout = 0 if waiting else timeout
            data = self._serial.read(min(size, waiting) if waiting else 1)
        except (OSError, TypeError) as error:  # pyserial's TypeError: the port was closed meanwhile
            raise LineLost(f"{self.port}: {error}") from error
        return bytes(data)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        deadline = Deadline(self.clock, WRITE_SECONDS)
        while rest:
            self._look()
            try:
                taken = self._write_some(rest)
            except serial.SerialTimeoutException:
                taken = 0
                deadline = Deadline(self.clock, 0)  # an unknown part was sent: it can't be resent
            except OSError as error:
                raise LineLost(f"{self.port}: {error}") from error
            rest = rest[taken:]
            if taken:
                deadline = Deadline(self.clock, WRITE_SECONDS)
            elif not deadline.left:
                raise Stuck(
                    f"{self.port}: the board has accepted no data for {WRITE_SECONDS:g} s; "
                    "unplug and reconnect it, and check that --port names a board"
                )

    def _write_some(self, data: memoryview) -> int:
        """Writes as much as the port accepts, waiting a moment for space; returns how many bytes."""
        descriptor = getattr(self._serial, "fd", None)
        if descriptor is None:
            block = bytes(data[:WRITE_BLOCK])
            self._serial.write(block)
            return len(block)
        if not select.select([], [descriptor], [], LOOK_SECONDS)[1]:
            return 0
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            return 0

    def launch(self, probe: str, source: str, statement: str) -> None:
        repl = RawRepl(self, self.port)
        repl.enter()
        if repl.run(probe).strip() == b"False":
            repl.run(source)
        # From the friendly REPL, so that a user who ends the statement with Ctrl-C gets a prompt.
        repl.leave()
        self.write(statement.encode() + b"\r")

    def hurry(self) -> None:
        self._board = None

    def close(self) -> None:
        with contextlib.suppress(OSError, TypeError):
            self._serial.close()


def _open(port: str, baudrate: int) -> Any:
    """pyserial's port, locked against other programs if possible."""
    if "://" in port:
        return serial.serial_for_url(port, baudrate, write_timeout=WRITE_SECONDS)
    line = serial.Serial(baudrate=baudrate, write_timeout=WRITE_SECONDS, exclusive=True if os.name == "posix" else None)
    line.port = port
    if os.name == "nt" and any(found.device == port and found.vid in BRIDGES for found in list_ports.comports()):
        line.dtr = line.rts = False  # asserted, they hold an ESP32 board in reset
    line.open()
    return line


def reset(port: str, hard: bool = False) -> None:
    """Restarts the board on `port`: only MicroPython, or the chip. Raises LineLost if the REPL can't be reached."""
    line = SerialLine(port)
    try:
        repl = RawRepl(line, port)
        repl.enter()
        if hard:
            repl.start("import machine\nmachine.reset()")
        else:
            repl.restart()
    finally:
        line.close()


def soft_reset(port: str) -> None:
    """Soft-resets the board on `port`, which drops its imported modules. Raises LineLost."""
    line = SerialLine(port)
    try:
        repl = RawRepl(line, port)
        repl.enter()
        repl.soft_reset()
        repl.leave()
    finally:
        line.close()
