"""The page of docs/try flashes ESP32 chips: images written by esptool's code, boot loaders emulated."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from esp_boot_loader import Board, plugged
from esp_images import APP_OFFSET, BOARDS, image, program
from fresh import FULL, slow
from page_board import Cable
from playwright.sync_api import BrowserContext, Page, expect

from edgelora.board.profiles import load_board

# Time passes slowly on the page: esptool-js expects answers within 100 ms, which a test under load can't give.
SLOWLY = """
const { now } = Date;
Date.now = () => now() / 8;
const later = window.setTimeout;
window.setTimeout = (work, ms, ...given) => later(work, 8 * ms, ...given);
"""
CHECK = """async ([image, chip, offset]) => {
  const [{ checkImage }, { md5 }] = await Promise.all([import("./esp.js"), import("./hashes/legacy.js")]);
  const bytes = Uint8Array.from(atob(image), (c) => c.charCodeAt(0));
  return checkImage(bytes, chip, offset, md5).catch((error) => error.message);
}"""


@pytest.fixture(autouse=True)
def slow_connection(context: BrowserContext) -> None:
    context.add_init_script(SLOWLY)


@pytest.fixture
def plug() -> Iterator[Callable[[str], Board]]:
    with plugged() as make:
        yield make


def flashed(page: Page, data: bytes, folder: Path) -> tuple[str, str]:
    """What the page says of an attempt to flash an image: how it ended, and why it failed."""
    path = folder / "micropython.bin"
    path.write_bytes(data)
    page.locator("details").evaluate("one => one.open = true")
    page.get_by_label("Image (.bin)").set_input_files(path)
    page.get_by_role("button", name="Flash my ESP32").click()
    expect(page.locator("#put-state")).to_contain_text("one.", timeout=120_000)
    return page.locator("#put-state").inner_text(), page.get_by_role("alert").inner_text()


@pytest.mark.parametrize("chip", BOARDS if FULL else ["esp32c3"])
def test_image_is_written(
    chip: str, plug: Callable, opened: Callable[[], Page], context: BrowserContext, tmp_path: Path
) -> None:
    board, data, profile = plug(chip), image(chip), load_board(chip)
    Cable(context, board.url, needs_dtr=False)
    done, trouble = flashed(opened(), data, tmp_path)
    assert done == f"Done. The {profile.chip} has micropython.bin. Now put what was learned on it." and not trouble
    offset = profile.flash.image_offset
    assert bytes(board.flash.data[offset : offset + len(data)]) == data
    assert set(board.flash.data[:offset]) <= {0xFF} and set(board.flash.data[offset + len(data) :]) == {0xFF}


@slow
def test_unplugged_while_it_is_flashed(
    plug: Callable, opened: Callable[[], Page], context: BrowserContext, tmp_path: Path
) -> None:
    """The page says so, and the next attempt writes all of it."""
    board, data = plug("esp32c3"), image("esp32c3")
    cable = Cable(context, board.url, needs_dtr=False)
    cable.left = 40_000
    page = opened()
    done, trouble = flashed(page, data, tmp_path)
    assert done == "Not done." and trouble.endswith("ROM is intact: connect the board, then try again.")
    assert bytes(board.flash.data[: len(data)]) != data and set(board.flash.data) != {0xFF}
    cable.plug()
    done, trouble = flashed(page, data, tmp_path)
    assert (done[:5], trouble) == ("Done.", "")
    assert bytes(board.flash.data[: len(data)]) == data


def test_worn_flash_is_noticed(
    plug: Callable, opened: Callable[[], Page], context: BrowserContext, tmp_path: Path
) -> None:
    board = plug("esp32c3")
    put = board.flash.write_defl_block

    def worn(payload: bytes) -> None:
        put(payload)
        board.flash.data[0x1_2345] = 0

    board.flash.write_defl_block = worn
    Cable(context, board.url, needs_dtr=False)
    done, trouble = flashed(opened(), image("esp32c3"), tmp_path)
    assert done == "Not done." and "MD5" in trouble


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello", "no ESP32 image"),
        (image("esp32s3"), "for another chip"),
        (image("esp32c3", flash_bytes=8 << 20), "needs 8 MB of flash, the board has 4 MB"),
    ],
    ids=["text", "another chip", "too large"],
)
def test_wrong_image_is_refused(
    data: bytes, message: str, plug: Callable, opened: Callable[[], Page], context: BrowserContext, tmp_path: Path
) -> None:
    board = plug("esp32c3")
    Cable(context, board.url, needs_dtr=False)
    done, trouble = flashed(opened(), data, tmp_path)
    assert done == "Not done." and message in trouble
    assert set(board.flash.data) == {0xFF}


@pytest.mark.parametrize("chip", BOARDS)
def test_images_are_checked_as_the_host_does(chip: str, opened: Callable[[], Page]) -> None:
    profile, whole, page = load_board(chip), image(chip), opened()
    base, other = profile.flash.image_offset, BOARDS[BOARDS.index(chip) - 1]
    number = int.from_bytes(whole[12:14], "little")

    def said(data: bytes) -> str | int:
        return page.evaluate(CHECK, [base64_of(data), number, base])

    def damaged(at: int) -> bytes:
        return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]

    cases = [
        (whole[:20], "no ESP32 image"),
        (program(chip, 100_000), "no partition table"),
        (whole[:0x4000], "no partition table"),
        (whole[: 0x9000 - base], "damaged"),
        (whole[:-10_000], "damaged"),
        (whole[:-40], "damaged"),
        (damaged(100), "damaged"),
        (damaged(APP_OFFSET - base + 5000), "damaged"),
        (damaged(0x8004 - base), "damaged"),
        (whole[: APP_OFFSET - base] + program(other, 100_000), "damaged"),
    ]
    assert said(whole) == 4 << 20
    assert [message for data, message in cases if message not in str(said(data))] == []


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()
