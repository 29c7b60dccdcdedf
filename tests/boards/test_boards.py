"""Board profiles against docs, esptool and MicroPython's sources."""

from __future__ import annotations

import pytest
from esptool.targets import CHIP_DEFS

from edgelora.base.resources import ROOT
from edgelora.board.profiles import BoardError, Verified, list_boards, load_board, verification_table

ESP_BOARDS = [name for name in list_boards() if load_board(name).port == "esp32"]


def test_docs_have_the_table_of_what_was_verified() -> None:
    table = verification_table()
    assert table in (ROOT / "docs/boards.md").read_text(), f"put this into docs/boards.md:\n{table}"


@pytest.mark.parametrize("name", list_boards())
def test_partitions_do_not_overlap(name: str) -> None:
    flash = load_board(name).flash
    if flash:
        assert flash.program_bytes <= flash.romfs_offset
        assert flash.romfs_offset + flash.romfs_bytes <= flash.storage_offset
        assert flash.storage_offset + flash.storage_bytes == flash.total_bytes


@pytest.mark.parametrize("name", ESP_BOARDS)
def test_esp_profiles_agree_with_esptool_and_micropython(name: str) -> None:
    profile, port = load_board(name), ROOT / ".build/src/micropython/ports/esp32"
    assert profile.flash and profile.flash.image_offset == CHIP_DEFS[name].BOOTLOADER_FLASH_OFFSET
    assert profile.chip == CHIP_DEFS[name].CHIP_NAME
    assert profile.native_arch == ("rv32imc" if profile.core.startswith("RV32") else "xtensawin")
    assert (port / f"boards/{profile.stock_board}/mpconfigboard.cmake").exists()
    layout = {
        cells[0]: (int(cells[3], 0), int(cells[4], 0))
        for line in (port / "partitions-4MiB-romfs.csv").read_text().splitlines()
        if not line.startswith("#") and len(cells := [cell.strip() for cell in line.split(",")]) > 4
    }
    assert layout["romfs"] == (profile.flash.romfs_offset, profile.flash.romfs_bytes)
    assert layout["vfs"] == (profile.flash.storage_offset, profile.flash.storage_bytes)
    assert sum(layout["factory"]) == profile.flash.program_bytes


def test_claims_have_one_of_four_forms() -> None:
    good = ["run (somewhere)", "compiled", "compiled (without WiFi)", "not compiled", "not run"]
    assert Verified(*good).end_to_end == "not run"
    with pytest.raises(TypeError, match=r"verified\.kernels is 'run'"):
        Verified("compiled", "not run", "not run", "run", "not run")


def test_unknown_board_lists_the_known() -> None:
    with pytest.raises(BoardError, match=r"known boards: esp32, .*rpi_pico, .*unix, .*virtual-pico"):
        load_board("pico3")
