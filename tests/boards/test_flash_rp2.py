"""Flashing RP2 boards: errors between an image and a boot loader's volume. test_sim.py tests successful flashing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgelora.board import uf2
from edgelora.board.flash import common, rp2, write
from edgelora.board.flash import rp2 as flash_rp2
from edgelora.board.profiles import load_board

PICO, PICO2 = (load_board(name) for name in ("rpi_pico", "rpi_pico2"))


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder that looks like the volume of a Pico's boot loader."""
    path = tmp_path / "RPI-RP2"
    path.mkdir()
    (path / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n")
    return path


def image(tmp_path: Path, profile=PICO) -> Path:
    content = uf2.FlashImage()
    content.put(0x1000_0000, os.urandom(200_000))
    path = tmp_path / f"{profile.name}.uf2"
    path.write_bytes(uf2.serialize(content, profile.uf2_family_id))
    return path


def test_images_for_the_other_chip_are_refused(volume: Path, tmp_path: Path) -> None:
    other = image(tmp_path, PICO2)
    with pytest.raises(common.FlashError, match="belongs to a board of type RPI-RP2, this firmware is for RP2350"):
        write.flash(volume, other)
    with pytest.raises(uf2.Uf2Error, match="made for chip family 0xe48bff59, this board is 0xe48bff56"):
        write.flash(volume, other, board="rpi_pico")
    other.write_bytes(b"\xe9 for another chip")
    with pytest.raises(common.FlashError, match="is not a UF2 file, which a Raspberry Pi Pico needs"):
        write.flash(volume, other, board="rpi_pico")
    strange = tmp_path / "strange.uf2"
    strange.write_bytes(uf2.serialize(uf2.parse(image(tmp_path).read_bytes()), 0x1234_5678))
    with pytest.raises(common.FlashError, match="is for chip family 0x12345678, which no supported board has"):
        write.flash(volume, strange)
    assert [path.name for path in volume.iterdir()] == ["INFO_UF2.TXT"]


def test_a_full_volume(volume: Path, tmp_path: Path) -> None:
    (volume / "rpi_pico.uf2").symlink_to("/dev/full")
    with pytest.raises(common.FlashError, match="failed after 0 bytes: No space left on device; the volume is full"):
        write.flash(volume, image(tmp_path))


def test_a_volume_that_is_mounted_read_only(volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(flash_rp2, "open", refuse, raising=False)
    with pytest.raises(common.FlashError, match="Read-only file system; the volume is mounted read-only"):
        write.flash(volume, image(tmp_path))


def test_a_board_that_is_unplugged_while_its_volume_is_written(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flash_rp2, "RESTART_SECONDS", 0.5)

    def unplug(done: int, total: int, what: str) -> None:
        if what == "writing" and done < total:
            (volume / "INFO_UF2.TXT").unlink(missing_ok=True)

    with pytest.raises(common.FlashError, match="no board came up on USB .* if the copy was interrupted, flash again"):
        write.flash(volume, image(tmp_path), unplug)


class Slow:
    """A real board on a clock of its own: it leaves its volume at `written` seconds, and USB has it at `up`."""

    def __init__(self, volume: Path, written: float, up: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self._volume, self._written, self._up = volume, written, up
        monkeypatch.setattr(common, "time", self)  # `wait_until` takes its time from here
        monkeypatch.setattr(flash_rp2, "_ports", lambda: {"COM7"} if self.now >= self._up else set())
        monkeypatch.setattr(flash_rp2, "wait_for_repl", lambda *_: None)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self._written:
            (self._volume / "INFO_UF2.TXT").unlink(missing_ok=True)


SECTORS = 49  # of `image`
NEVER = float("inf")


def test_a_board_with_the_slowest_flash_is_waited_for(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data sheet allows 0.4 s for each sector of the image, and for those that a first boot erases."""
    written = SECTORS * (0.4 + 16 * 0.003)
    board = Slow(volume, written, written + 27, monkeypatch)
    assert write.flash(volume, image(tmp_path)) == "COM7"
    assert board.now == pytest.approx(written + 27, abs=0.2)


@pytest.mark.parametrize(
    ("written", "limit", "failure"),
    [
        (NEVER, SECTORS * (0.4 + 16 * 0.003) + 10, "is still mounted: the board refused the image, or is still"),
        (0.05, 66 * 0.4 + 10, r"the volume is gone, but no board came up on USB within 36\.4 s: unplug and reconnect"),
    ],
)
def test_a_board_that_never_restarts_is_given_up(
    written: float, limit: float, failure: str, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Slow(volume, written, NEVER, monkeypatch)
    with pytest.raises(common.FlashError, match=failure):
        write.flash(volume, image(tmp_path))
    assert board.now == pytest.approx(limit, abs=0.2)


def test_a_slow_first_boot_is_waited_for_at_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a board with a serial adapter, whose port is there all the time."""
    now, clock = 0.0, lambda: now

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Line:
        def __init__(self, port: str) -> None:
            if now < 27:
                raise common.LineLost(port)
            self.clock = clock

        def write(self, data: bytes) -> None: ...
        def close(self) -> None: ...
        def read(self, size: int, timeout: float) -> bytes:
            return b">>> "

    monkeypatch.setattr(common.time, "sleep", sleep)
    monkeypatch.setattr(common, "SerialLine", Line)
    common.wait_for_repl("COM7", "no REPL answers", clock)
    assert now == pytest.approx(27, abs=0.2)


@pytest.mark.parametrize("profile", [PICO, PICO2], ids=lambda profile: profile.name)
def test_a_first_boot_erases_the_store_and_two_sectors_of_the_file_system(profile) -> None:
    assert profile.flash.store_bytes // uf2.SECTOR_BYTES + 2 == common.FIRST_BOOT_ERASES


def test_picotool_without_a_board(tmp_path: Path) -> None:
    with pytest.raises(common.FlashError, match="picotool: No accessible .*; hold the BOOTSEL button"):
        rp2._load_by_picotool(image(tmp_path), 60.0)
