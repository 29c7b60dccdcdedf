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


def test_picotool_without_a_board(tmp_path: Path) -> None:
    with pytest.raises(common.FlashError, match="picotool: No accessible .*; hold the BOOTSEL button"):
        rp2._load_by_picotool(image(tmp_path))
