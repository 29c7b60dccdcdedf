"""Boards without EdgeLoRA on the page: a board that waits for firmware is flashed, stock firmware gets EdgeLoRA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fresh import in_full_runs, slow
from playwright.sync_api import expect
from studio_pages import card, start_virtual

from edgelora.board.build import build_firmware
from edgelora.board.sim import virtual_board

BOARD = "outside"
FLASH_MS = 180_000


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_firmware("virtual-pico", {}, tmp_path_factory.mktemp("firmware") / "own.uf2")


@slow
def test_a_board_in_its_boot_loader_is_flashed(
    studios: Callable, pages: Callable, firmware: Path, tmp_path: Path
) -> None:
    """Its flash is empty, so it shows the drive of a Pico's boot loader; the page is reloaded meanwhile."""
    board = virtual_board.start("virtual-pico", None, tmp_path / BOARD, die_with_parent=True)
    assert (Path(board.drive) / "INFO_UF2.TXT").exists()
    studio = studios()
    page = pages(studio)
    page.get_by_text("It is in its boot loader: flash firmware.").wait_for()
    page.get_by_role("button", name="Flash").click()
    dialog = page.get_by_role("dialog")
    image = dialog.get_by_label("Or your own image (.uf2 or .bin)")
    image.set_input_files({"name": "bad.uf2", "mimeType": "", "buffer": b"no firmware"})
    dialog.get_by_text("bad.uf2 will be written").wait_for()
    dialog.get_by_role("button", name="Flash").click()
    page.get_by_role("alert").get_by_text("flash the virtual virtual-pico").wait_for()
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Flash").click()
    image.set_input_files(firmware)
    dialog.get_by_text("own.uf2 will be written").wait_for()
    dialog.get_by_role("button", name="Flash").click()
    expect(dialog).to_have_count(0)
    page.reload()
    flashed = card(page, BOARD)
    flashed.get_by_text("ready").wait_for(timeout=FLASH_MS)
    expect(flashed.get_by_role("button", name="Install EdgeLoRA")).to_have_count(0)
    assert not (Path(board.drive) / "INFO_UF2.TXT").exists()
    board.kill()


@in_full_runs("the page of docs/try installs on the same firmware, test_wheel.py, too")
def test_stock_firmware_gets_edgelora(studios: Callable, pages: Callable) -> None:
    page = pages(studios())
    start_virtual(page, "virtual-pico-stock", "stock")
    stock = card(page, "stock")
    stock.get_by_text("not installed", exact=True).wait_for(timeout=FLASH_MS)
    stock.get_by_role("button", name="Install EdgeLoRA").click()
    stock.get_by_text("install EdgeLoRA", exact=True).wait_for()
    page.reload()
    expect(stock.get_by_role("button", name="Install EdgeLoRA")).to_have_count(0, timeout=FLASH_MS)
    stock.get_by_text("ready").wait_for()
