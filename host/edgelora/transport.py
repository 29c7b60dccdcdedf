"""Byte streams to a board: one small interface over USB serial, UART, pseudo-terminals and sockets."""

from __future__ import annotations

import contextlib
import time
from typing import Protocol

import serial
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from .errors import EdgeloraError


class LineLost(EdgeloraError, ConnectionError):
    """The byte stream broke: cable pulled, board reset, or port closed."""


class Transport(Protocol):
    """What the link needs of a line to a board."""

    def read(self, size: int, timeout: float) -> bytes:
        """Up to `size` bytes as soon as there are any; b"" after `timeout` seconds. Raises LineLost."""
        ...

    def write(self, data: bytes) -> None:
        """Sends all of `data`. Raises LineLost."""
        ...

    def launch(self, probe: str, source: str, statement: str) -> None:
        """Runs `statement` at the board's REPL. Raises LineLost if there is no REPL to be had.

        `probe` is run first; if it prints False, `source` is run before the statement.
        """
        ...

    def close(self) -> None:
        """Releases the port; never raises."""
        ...


class SerialLine:
    """A serial port by name, or any URL that pyserial knows (`socket://host:port`, `rfc2217://...`)."""

    def __init__(self, port: str, baudrate: int = 115200) -> None:
        try:
            self._repl = SerialTransport(port, baudrate=baudrate)
        except (OSError, TransportError) as error:
            raise LineLost(f"cannot open {port}: {error}; is the board plugged in and the port free?") from error
        self._serial = self._repl.serial
        self.port = port

    def read(self, size: int, timeout: float) -> bytes:
        try:
            waiting = self._serial.in_waiting
            self._serial.timeout = 0 if waiting else timeout
            data = self._serial.read(min(size, waiting) if waiting else 1)
        except (OSError, serial.SerialException) as error:
            raise LineLost(f"{self.port}: {error}") from error
        return bytes(data)

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except (OSError, serial.SerialException) as error:
            raise LineLost(f"{self.port}: {error}") from error

    def launch(self, probe: str, source: str, statement: str) -> None:
        repl = self._repl
        self._serial.timeout = 5.0  # for single reads: without one, a silent pseudo-terminal is waited for forever
        try:
            repl.serial.write(b"\x03\x03")  # ends an agent, a running program, a half-typed line
            time.sleep(0.1)
            repl.enter_raw_repl(soft_reset=False)
            if repl.exec(probe).strip() == b"False":
                repl.exec(source)
            repl.exit_raw_repl()
            # From the friendly REPL, so that a person who ends the statement with Ctrl-C finds a prompt.
            repl.read_until(1, b">>> ")
            repl.serial.write(statement.encode() + b"\r")
        except (OSError, serial.SerialException, TransportError) as error:
            raise LineLost(f"{self.port}: no MicroPython REPL answers ({error}); reset the board") from error

    def soft_reset(self) -> None:
        """Restarts MicroPython without main.py; the board is at its REPL afterwards. Raises LineLost."""
        try:
            self._repl.serial.write(b"\x03\x03")
            self._repl.enter_raw_repl(soft_reset=True)
            self._repl.exit_raw_repl()
        except (OSError, serial.SerialException, TransportError) as error:
            raise LineLost(f"{self.port}: no MicroPython REPL answers ({error}); reset the board") from error

    def close(self) -> None:
        with contextlib.suppress(OSError, serial.SerialException, TypeError):
            self._repl.close()


def soft_reset(port: str) -> None:
    """Has the board on `port` forget what it has imported. Raises LineLost."""
    line = SerialLine(port)
    try:
        line.soft_reset()
    finally:
        line.close()
