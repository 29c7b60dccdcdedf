"""Flashing ESP32 chips: checks of MicroPython images, and writing by esptool through the boot loader in ROM.

An image starts where the chip's ROM expects a boot loader, and has, at their offsets in flash, the boot loader, the
partition table and the program. Formats: ESP-IDF's "App Image Format" and "Partition Tables".
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import serial
from esp_pylib.logger import EspLog, EspLogBase
from esptool import cmds
from esptool.bin_image import LoadFirmwareImage
from esptool.loader import ESPLoader
from esptool.targets import CHIP_DEFS
from esptool.util import FatalError, flash_size_bytes

from edgelora.base.progress import Progress
from edgelora.board.profiles import BoardProfile, list_boards, load_board

from .common import FlashError

HEADER_BYTES = 24  # common and extended header
CHIP_ID_OFFSET = 12
TABLE_OFFSET = 0x8000  # of the partition table in flash, bytes
TABLE_BYTES = 0xC00
ENTRY = struct.Struct("<2sBBII16sI")  # magic, type, subtype, offset, bytes, label, flags
ENTRY_MAGIC, DIGEST_MAGIC = b"\xaa\x50", b"\xeb\xeb"
APP_TYPE = 0
FAST_BAUD = 460_800
CHIPS = {chip.IMAGE_CHIP_ID: chip.CHIP_NAME for name, chip in CHIP_DEFS.items() if name != "esp8266"}
AGAIN = "the boot loader in ROM is intact: flash again"


@dataclass(frozen=True)
class Partition:
    """A part of flash, in bytes from its start. kind: 0 for programs."""

    label: str
    kind: int
    offset: int
    size: int


def profile_of(data: bytes, name: str) -> BoardProfile:
    """A board with an image's target chip. Raises `FlashError` if there is none."""
    chip = _chip(data, name)
    for profile in map(load_board, list_boards()):
        if profile.port == "esp32" and profile.chip == chip:
            return profile
    raise FlashError(f"{name} is for {chip}, which no supported board has: see `edgelora boards`")


def check_image(data: bytes, profile: BoardProfile, name: str) -> list[Partition]:
    """Checks a whole image for a board's chip: headers, partition table, checksums and hashes of both programs.

    Returns its partitions. Raises `FlashError`, which names the fault and the right file.
    """
    assert profile.flash is not None
    if (chip := _chip(data, name)) != profile.chip:
        raise FlashError(f"{name} is for {chip}, {profile.name} has an {profile.chip}: take the image for it")
    table = TABLE_OFFSET - profile.flash.image_offset
    if data[table : table + 2] != ENTRY_MAGIC:
        cut = len(data) <= table
        raise FlashError(
            f"{name} has no partition table at {TABLE_OFFSET:#x}: it is {'cut short, or ' if cut else ''}"
            "an update without boot loader (.app-bin); take the .bin for a first installation"
        )
    partitions = _partitions(data[table : table + TABLE_BYTES], name)
    _check_program(data[:table], profile, f"{name}: the boot loader")
    program = next((part for part in partitions if part.kind == APP_TYPE), None)
    if program is None:
        raise FlashError(f"{name}: its partition table has no program; take another image")
    start = program.offset - profile.flash.image_offset
    _check_program(data[start : start + program.size], profile, f"{name}: the program")
    return partitions


def flash_esp(
    port: str, data: bytes, profile: BoardProfile, report: Progress, *, read_back: bool = False, name: str = "the image"
) -> None:
    """Checks `data`, writes it to the chip's boot offset, verifies the chip's hash of it, and restarts the chip.

    port: a serial port or a URL that pyserial knows. read_back: also read all of it and compare byte by byte.
    Raises `FlashError`; it can be run again after any failure.
    """
    assert profile.flash is not None
    offset = profile.flash.image_offset
    partitions = check_image(data, profile, name)
    needed = max(offset + len(data), *(part.offset + part.size for part in partitions))
    report(0, len(data), "connecting")
    with _logged(report, "writing") as log, _connected(port, profile) as esp:
        size = flash_size_bytes(cmds.detect_flash_size(esp) or "0MB")
        if needed > size:
            raise FlashError(
                f"{name} needs {needed:,} bytes of flash, the board on {port} has {size:,}: "
                "take the image for this flash size"
            )
        cmds.write_flash(esp, [(offset, data)])
        if read_back:
            log.what = "reading back"
            kept = cmds.read_flash(esp, offset, len(data), None)
            if kept != data:
                raise FlashError(f"the flash of the board on {port} differs from {name}: it is worn, or {AGAIN}")
        report(len(data), len(data), "restarting")
        cmds.reset_chip(esp, "hard-reset")


def _chip(data: bytes, name: str) -> str:
    """The chip named by an image's header, such as "ESP32-S3"."""
    if data[:1] != bytes([ESPLoader.ESP_IMAGE_MAGIC]) or len(data) < HEADER_BYTES:
        raise FlashError(
            f"{name} is not an ESP32 image: it starts with {data[:4].hex() or 'nothing'}, not with e9; "
            "take the .bin file that MicroPython offers for the board"
        )
    (chip_id,) = struct.unpack_from("<H", data, CHIP_ID_OFFSET)
    return str(CHIPS.get(chip_id, f"an unknown chip (number {chip_id})"))


def _partitions(table: bytes, name: str) -> list[Partition]:
    found: list[Partition] = []
    for at in range(0, len(table) - ENTRY.size + 1, ENTRY.size):
        magic, kind, _, offset, size, label, _ = ENTRY.unpack_from(table, at)
        if magic == DIGEST_MAGIC:
            if hashlib.md5(table[:at]).digest() != table[at + 16 : at + 32]:
                break
            return found
        if magic != ENTRY_MAGIC:
            break
        found.append(Partition(label.rstrip(b"\0").decode("ascii", "replace"), kind, offset, size))
    raise FlashError(f"{name}: its partition table is damaged; download it again")


def _check_program(data: bytes, profile: BoardProfile, what: str) -> None:
    """Checks one program of an image: chip, length, checksum of its segments, and hash."""
    if not data:
        raise FlashError(f"{what} is missing: the file is cut short; download it again")
    if (chip := _chip(data, what)) != profile.chip:
        raise FlashError(f"{what} is for {chip}, {profile.name} has an {profile.chip}: take the image for it")
    try:
        image = LoadFirmwareImage(profile.chip, data)
        whole = image.checksum == image.calculate_checksum()
        whole = whole and (not image.append_digest or image.stored_digest == image.calc_digest)
    except (FatalError, RuntimeError, TypeError, struct.error):
        raise FlashError(f"{what} is cut short or damaged; download it again") from None
    if not whole:
        raise FlashError(f"{what} is damaged: its checksum or hash is wrong; download it again")


class _Log(EspLogBase):
    """Forwards esptool's progress and drops its messages, as errors raise exceptions."""

    def __init__(self, report: Progress, what: str) -> None:
        self.what, self._report = what, report

    def progress_bar(
        self, cur_iter: int, total_iters: int, prefix: str = "", suffix: str = "", bar_length: int = 30
    ) -> None:
        self._report(cur_iter, total_iters, self.what)

    def print(self, *args: Any, **kwargs: Any) -> None: ...
    def err(self, *args: Any, suggestion: str | None = None) -> None: ...
    def warn(self, *args: Any, suggestion: str | None = None) -> None: ...
    def note(self, *args: Any) -> None: ...
    def hint(self, *args: Any) -> None: ...
    def debug(self, *args: Any) -> None: ...
    def set_verbosity(self, mode: int | str) -> None: ...


@contextlib.contextmanager
def _logged(report: Progress, what: str) -> Iterator[_Log]:
    """Redirects esptool's output to `report`."""
    before, EspLog.instance = EspLog.instance, _Log(report, what)
    try:
        yield EspLog.instance
    finally:
        EspLog.instance = before


@contextlib.contextmanager
def _connected(port: str, profile: BoardProfile) -> Iterator[ESPLoader]:
    """The board's chip, of the profile's kind, ready to write flash; errors become `FlashError`."""
    esp: ESPLoader | None = None
    try:
        esp = cmds.detect_chip(port)
        if profile.chip != esp.CHIP_NAME:
            raise FlashError(f"the board on {port} has an {esp.CHIP_NAME}, the image is for {profile.chip}")
        esp = cmds.run_stub(esp)
        if "://" not in port:
            esp.change_baud(FAST_BAUD)
        cmds.attach_flash(esp)
        yield esp
    except (OSError, serial.SerialException) as error:
        raise FlashError(f"the line to {port} broke ({error}); {AGAIN}") from None
    except FatalError as error:
        if "Could not open" in str(error):
            raise FlashError(f"{_first_line(error)} `edgelora doctor` says more") from None
        if esp is None:
            raise FlashError(
                f"no ESP32 boot loader answers on {port} ({_first_line(error)}): hold the board's BOOT button, "
                "press RESET, and flash again"
            ) from None
        raise FlashError(f"flashing {port} failed: {_first_line(error)}; {AGAIN}") from None
    finally:
        if esp is not None:
            with contextlib.suppress(OSError, serial.SerialException):
                esp._port.close()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
