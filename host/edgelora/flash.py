"""Puts firmware on a board through its boot loader's USB volume, real or virtual."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from glob import glob
from pathlib import Path

import serial
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from edgelora import sim, uf2
from edgelora.boards import load_board
from edgelora.build import ROMFS_SUFFIX
from edgelora.formats import write_atomic

INFO_NAME = "INFO_UF2.TXT"
BOARD_ID = "RPI-RP2"
VOLUMES = ("/media/*/*", "/media/*", "/run/media/*/*", "/Volumes/*")
CHUNK_BYTES = 64 * 1024
POLL_SECONDS = 0.1

Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all


class FlashError(RuntimeError):
    """The firmware is not on the board; the message says what to do."""


def flash(
    target: str | Path, firmware: Path, progress: Progress | None = None, *, volume_timeout: float = 20.0
) -> str | None:
    """Writes `firmware` (.uf2; .romfs for a virtual unix board) and returns the port of the restarted board.

    target: a board's serial port, or the folder where its boot loader's volume is mounted. None is returned in the
    latter case unless the volume is a virtual board's. The image is checked in full before the board is touched.
    Raises `FlashError` or `uf2.Uf2Error`.
    """
    target = Path(target).absolute()
    report: Progress = progress or (lambda what, done, total: None)
    board = next((b for b in sim.running() if target.resolve() in (Path(b.port).resolve(), Path(b.drive))), None)
    try:
        data = firmware.read_bytes()
    except OSError as error:
        raise FlashError(f"{firmware}: {error.strerror}") from None
    if board and load_board(board.board).port == "unix":
        if firmware.suffix != ROMFS_SUFFIX:
            raise FlashError(f"{firmware}: the unix board takes a {ROMFS_SUFFIX} image")
        sim.check_romfs(data, str(firmware))
        write_atomic(Path(board.drive) / firmware.name, data)  # it is taken as soon as it is there
        _wait_until(lambda: not (Path(board.drive) / firmware.name).exists(), 10.0, "the board did not take the image")
        return board.port
    uf2.parse(data, name=str(firmware))
    port = None if target.is_dir() else str(target)
    volume = target if target.is_dir() else None
    if port:
        before = set(volumes())
        own = [Path(board.drive)] if board else None
        if not any(v.exists() for v in own or []):
            report("asking for the boot loader", 0, len(data))
            _enter_boot_loader(port)
        report("waiting for the volume", 0, len(data))
        volume = _wait_for_volume(own, before, volume_timeout)
    assert volume is not None
    _check_volume(volume)
    _copy(data, volume / firmware.name, report)
    report("restarting", len(data), len(data))
    where = f"{volume} is still there: the board refused the image, or is still writing; unplug it and try again"
    _wait_until(lambda: not (volume / INFO_NAME).exists(), 20.0, where)
    port = port or (board.port if board else None)
    if port:
        _wait_for_repl(port, 20.0)
    return port


def volumes() -> list[Path]:
    """Mounted volumes of RP2040 boot loaders."""
    found = {Path(path) for pattern in VOLUMES for path in glob(pattern)}
    return sorted(path for path in found if _info(path) is not None and BOARD_ID in (_info(path) or ""))


def _info(volume: Path) -> str | None:
    try:
        return (volume / INFO_NAME).read_text(errors="replace")
    except OSError:
        return None


def _check_volume(volume: Path) -> None:
    info = _info(volume)
    if info is None:
        raise FlashError(f"{volume} is no boot loader's volume: it has no {INFO_NAME}; give the folder of {BOARD_ID}")
    board_id = next((line[9:].strip() for line in info.splitlines() if line.startswith("Board-ID:")), "unknown")
    if board_id != BOARD_ID:
        raise FlashError(f"{volume} belongs to a board of type {board_id}, this firmware is for {BOARD_ID}")


def _enter_boot_loader(port: str) -> None:
    by_hand = "hold the BOOTSEL button while you connect the board, then give the folder of its volume"
    try:
        transport = SerialTransport(port)
    except (OSError, TransportError) as error:
        raise FlashError(f"cannot open {port}: {error}; is another program using it? Else {by_hand}") from None
    try:
        transport.enter_raw_repl(soft_reset=False)
        transport.exec_raw_no_follow("import machine; machine.bootloader()")
        time.sleep(POLL_SECONDS)
    except TransportError as error:
        raise FlashError(f"no MicroPython answers on {port} ({error}); {by_hand}") from None
    except (OSError, serial.SerialException):
        pass  # the port went away, as it should
    finally:
        with contextlib.suppress(OSError, serial.SerialException):
            transport.serial.close()


def _wait_for_volume(own: list[Path] | None, before: set[Path], timeout: float) -> Path:
    found: list[Path] = []

    def arrived() -> bool:
        found[:] = [v for v in own if _info(v) is not None] if own else sorted(set(volumes()) - before)
        return bool(found)

    where = f"no {BOARD_ID} volume appeared in {timeout:g} s; mount it, then give its folder instead of the port"
    _wait_until(arrived, timeout, where)
    return found[0]


def _copy(data: bytes, path: Path, report: Progress) -> None:
    """Copies in pieces and syncs. A boot loader may restart as soon as it has the last block, so that errors at the
    very end mean nothing."""
    done = 0
    try:
        with open(path, "wb", buffering=0) as file:
            while done < len(data):
                done += file.write(data[done : done + CHUNK_BYTES])
                report("writing", done, len(data))
            os.fsync(file.fileno())
    except OSError as error:
        if done < len(data):
            raise FlashError(f"copying to {path} failed after {done} bytes: {error.strerror}; try again") from None


def _wait_for_repl(port: str, timeout: float) -> None:
    def answers() -> bool:
        try:
            with serial.Serial(port, 115200, timeout=0.5, write_timeout=0.5) as line:
                line.write(b"\r\x03\x02")  # leaves a raw REPL that was left open
                return b">>>" in line.read_until(b">>>")
        except (OSError, serial.SerialException):
            return False

    _wait_until(answers, timeout, f"the firmware was written but no REPL answers on {port}; unplug and reconnect it")


def _wait_until(condition: Callable[[], bool], timeout: float, failure: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise FlashError(failure)
        time.sleep(POLL_SECONDS)
