"""Writes firmware to a board, real or virtual: one entry point for every kind of board and image."""

from __future__ import annotations

from pathlib import Path

from edgelora.base.progress import Progress, no_progress
from edgelora.board import virtual_boards
from edgelora.board.profiles import BoardProfile, load_board
from edgelora.board.romfs import ROMFS_SUFFIX, check_romfs
from edgelora.board.uf2 import MAGIC_START
from edgelora.core.formats.files import write_atomic

from . import rp2
from .common import FlashError, wait_for_repl, wait_until

ESP_MAGIC = 0xE9  # first byte of an image for Espressif's chips


def flash(
    target: str | Path,
    firmware: Path,
    progress: Progress = no_progress,
    *,
    board: str | None = None,
    volume_timeout: float = 20.0,
    read_back: bool = False,
) -> str | None:
    """Writes `firmware` (.uf2, .bin for ESP32, .romfs for a virtual unix board); returns the restarted board's port.

    target: a board's serial port, or the folder where its boot loader's volume is mounted.
    board: the profile to check the image against; by default the image's own target.
    read_back: also compare all bytes, not only checksums (ESP32 chips).
    The image is checked in full before the board is touched, and running it again after any failure works.
    Raises `FlashError` or `uf2.Uf2Error`.
    """
    try:
        data = firmware.read_bytes()
    except OSError as error:
        raise FlashError(f"{firmware}: {error.strerror}") from None
    target = str(target)
    virtual = virtual_boards.find(target)
    board = board or (virtual.board if virtual else None)
    kind = load_board(board) if board else _kind(data, firmware)
    if kind.port == "esp32":
        from .esp import flash_esp  # esptool is slow to import

        flash_esp(target, data, kind, progress, read_back=read_back, name=str(firmware))
        done = f"the firmware is written and verified, but no REPL answers on {target}: press the board's reset button"
        wait_for_repl(target, done)
        return target
    if kind.port in ("alif", "stm32"):
        raise FlashError(f"`edgelora flash` can't write {kind.name}: see docs/guides/cortex-m55.md")
    if kind.port == "unix":
        return _flash_unix(virtual, data, firmware, kind)
    return rp2.flash_rp2(target, data, firmware, kind, progress, virtual, volume_timeout)


def _kind(data: bytes, firmware: Path) -> BoardProfile:
    """A board of the image's target."""
    if data[:4] == MAGIC_START[0].to_bytes(4, "little"):
        return rp2.profile_of(data, str(firmware))
    if data[:1] == bytes([ESP_MAGIC]):
        from .esp import profile_of

        return profile_of(data, str(firmware))
    raise FlashError(
        f"{firmware} is not a firmware image: a UF2 file for RP2 boards or a .bin file for ESP32 chips is needed"
    )


def _flash_unix(virtual: virtual_boards.SimHandle | None, data: bytes, firmware: Path, profile: BoardProfile) -> str:
    if virtual is None:
        raise FlashError(f"no virtual {profile.name} board runs there; start one with `edgelora sim {profile.name}`")
    if firmware.suffix != ROMFS_SUFFIX:
        raise FlashError(f"{firmware}: the {profile.name} board takes a {ROMFS_SUFFIX} image")
    check_romfs(data, str(firmware))
    path = Path(virtual.drive) / firmware.name
    write_atomic(path, data)  # it is taken as soon as it is there
    wait_until(lambda: not path.exists(), 10.0, "the board rejected the image", virtual_boards.clock_of(virtual.port))
    return virtual.port
