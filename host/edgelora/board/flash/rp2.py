"""Flashing RP2040 and RP2350 boards through their boot loader's USB volume, or by picotool if none is mounted."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from glob import glob
from pathlib import Path

from serial.tools import list_ports

from edgelora.base.progress import Progress
from edgelora.board import uf2, virtual_boards
from edgelora.board.link.raw_repl import RawRepl
from edgelora.board.link.serial_line import SerialLine
from edgelora.board.link.transport import Clock, LineLost
from edgelora.board.profiles import BoardProfile, list_boards, load_board
from edgelora.board.uf2 import BLOCK_BYTES, MAGIC_START, SECTOR_BLOCKS

from .common import (
    ERASE_WORST_SECONDS,
    POLL_SECONDS,
    RESTART_SECONDS,
    USB_SECONDS,
    FlashError,
    wait_for_repl,
    wait_until,
)

INFO_NAME = "INFO_UF2.TXT"
VOLUMES = ("/media/*/*", "/media/*", "/run/media/*/*", "/Volumes/*")
VENDOR_ID = 0x2E8A
CHUNK_BYTES = 64 * 1024
PROGRAM_WORST_SECONDS = 0.003  # of a page, as ERASE_WORST_SECONDS
PICOTOOL_SECONDS = 60.0  # besides those of the flash: to find the board, transfer, verify
UNPLUGGED = "unplug and reconnect it; if the copy was interrupted, flash again"
REMEDIES = {
    errno.ENOSPC: "the volume is full: is it the boot loader's?",
    errno.EROFS: "the volume is mounted read-only: unmount it and connect the board again",
}


def profile_of(data: bytes, name: str) -> BoardProfile:
    """A board of the chip family that a UF2 image is for. Raises `FlashError` for other families."""
    family = uf2.family(data)
    for profile in map(load_board, list_boards()):
        if profile.uf2_family_id == family:
            return profile
    raise FlashError(f"{name} is for chip family {family:#010x}, which no supported board has: see `edgelora boards`")


def flash_rp2(
    target: str,
    data: bytes,
    firmware: Path,
    profile: BoardProfile,
    report: Progress,
    virtual: virtual_boards.SimHandle | None,
    volume_timeout: float,
) -> str | None:
    """Copies a UF2 image to the boot loader's volume `target`, or reboots the board on port `target` to get there.

    virtual: the virtual board that the target belongs to. Returns the port of the restarted board.
    """
    assert profile.uf2_family_id is not None
    if data[:4] != MAGIC_START[0].to_bytes(4, "little"):
        raise FlashError(f"{firmware} is not a UF2 file, which a {profile.description} needs")
    image = uf2.parse(data, profile.uf2_family_id, name=str(firmware))
    data = uf2.serialize(image, profile.uf2_family_id)  # whoever wrote it, its blocks are erased as they need
    volume = Path(target) if os.path.isdir(target) else None
    port = None if volume else target
    clock = virtual_boards.clock_of(target) if virtual else None
    ports_before = _ports()
    if port:
        before = set(volumes())
        own = [Path(virtual.drive)] if virtual else None
        if not any(path.exists() for path in own or []):
            report(0, len(data), "entering the boot loader")
            _enter_boot_loader(port)
        report(0, len(data), "waiting for the volume")
        volume = _wait_for_volume(own, before, volume_timeout, profile, clock)
    if volume is None:
        report(0, len(data), "loading by picotool")
        _load_by_picotool(firmware, PICOTOOL_SECONDS + _write_seconds(data))
    else:
        _check_volume(volume, profile)
        _copy(data, volume / firmware.name, report)
        report(len(data), len(data), "restarting")
        where = f"{volume} is still mounted: the board refused the image, or is still writing; unplug it and try again"
        wait_until(lambda: not (volume / INFO_NAME).exists(), _write_seconds(data), where, clock)
    port = port or (virtual.port if virtual else _new_port(ports_before))
    wait_for_repl(port, f"the firmware was copied but no REPL answers on {port}: {UNPLUGGED}", clock)
    return port


def volumes() -> list[Path]:
    """Mounted volumes of RP2 boot loaders."""
    found = {Path(path) for pattern in VOLUMES for path in glob(pattern)}
    return sorted(path for path in found if board_id(path) is not None)


def board_id(volume: Path) -> str | None:
    """The board id in a boot loader's volume, such as "RPI-RP2"; None for other folders."""
    try:
        info = (volume / INFO_NAME).read_text(errors="replace")
    except OSError:
        return None
    return next((line[9:].strip() for line in info.splitlines() if line.startswith("Board-ID:")), "unknown")


def _check_volume(volume: Path, profile: BoardProfile) -> None:
    found, wanted = board_id(volume), profile.uf2_board_id
    if found is None:
        raise FlashError(f"{volume} is not a boot loader's volume: it has no {INFO_NAME}; give the folder of {wanted}")
    if found != wanted:
        raise FlashError(f"{volume} belongs to a board of type {found}, this firmware is for {wanted}")


def _enter_boot_loader(port: str) -> None:
    by_hand = "hold the BOOTSEL button while you connect the board, then give the folder of its volume with --drive"
    try:
        line = SerialLine(port)
    except LineLost as error:
        raise FlashError(f"{error} Otherwise {by_hand}") from None
    try:
        repl = RawRepl(line, port)
        repl.enter()
    except LineLost as error:
        line.close()
        raise FlashError(f"{error}; {by_hand}") from None
    try:
        repl.start("import machine; machine.bootloader()")
        line.read(1, POLL_SECONDS)
    except LineLost:
        pass  # the port disappeared, as expected
    finally:
        line.close()


def _wait_for_volume(
    own: list[Path] | None, before: set[Path], timeout: float, profile: BoardProfile, clock: Clock | None
) -> Path | None:
    """The new volume; None if none appears and picotool may reach the boot loader without one."""
    found: list[Path] = []

    def arrived() -> bool:
        found[:] = [v for v in own if board_id(v) is not None] if own else sorted(set(volumes()) - before)
        return bool(found)

    where = (
        f"no {profile.uf2_board_id} volume appeared in {timeout:g} s; mount it, then give its folder with --drive "
        "(or install picotool, which needs no volume)"
    )
    try:
        wait_until(arrived, timeout, where, clock)
    except FlashError:
        if own or not shutil.which("picotool"):
            raise
        return None
    return found[0]


def _load_by_picotool(firmware: Path, seconds: float) -> None:
    command = ["picotool", "load", "--verify", "--execute", str(firmware)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise FlashError(f"picotool hung for {seconds:.0f} s; reconnect the board, flash again") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise FlashError(
            f"picotool: {said[0] if said else done.returncode}; "
            "hold the BOOTSEL button while you connect the board, and flash again (as root, if it may not open USB)"
        )


def _copy(data: bytes, path: Path, report: Progress) -> None:
    """Copies in chunks and syncs. A boot loader may restart as soon as it has the last block, so errors at the
    very end are ignored."""
    done = 0
    try:
        with open(path, "wb", buffering=0) as file:
            while done < len(data):
                done += file.write(data[done : done + CHUNK_BYTES])
                report(done, len(data), "writing")
            os.fsync(file.fileno())
    except OSError as error:
        if done < len(data):
            remedy = REMEDIES.get(error.errno or 0, "connect the board with BOOTSEL held and flash again")
            raise FlashError(f"copying to {path} failed after {done} bytes: {error.strerror}; {remedy}") from None


def _write_seconds(data: bytes) -> float:
    """The longest until a boot loader has written a UF2 image, which may come from the computer's buffers, and ends."""
    pages = len(data) // BLOCK_BYTES
    return -(-pages // SECTOR_BLOCKS) * ERASE_WORST_SECONDS + pages * PROGRAM_WORST_SECONDS + USB_SECONDS


def _ports() -> set[str]:
    return {port.device for port in list_ports.comports() if port.vid == VENDOR_ID}


def _new_port(before: set[str]) -> str:
    """The port of a board that restarts after its volume was written."""
    found: set[str] = set()

    def appeared() -> bool:
        found.update(_ports() - before)
        return bool(found)

    failure = f"the volume is gone, but no board came up on USB within {RESTART_SECONDS:g} s: {UNPLUGGED}"
    wait_until(appeared, RESTART_SECONDS, failure)
    return found.pop()
