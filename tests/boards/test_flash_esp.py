"""Flashing ESP32 chips: images written by esptool's code, boot loaders emulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import esptool.cmds
import pytest
from esp_boot_loader import Board, plugged
from esp_images import APP_OFFSET, BOARDS, image, program
from fresh import some

from edgelora.board.flash import common, esp
from edgelora.board.flash.write import flash
from edgelora.board.profiles import load_board
from edgelora.cli.main import main


@pytest.fixture
def plug() -> Iterator[Callable[[str], Board]]:
    with plugged() as make:
        yield make


def write(board: Board, data: bytes, profile: str | None = None, **options: object) -> list[tuple[int, int, str]]:
    steps: list[tuple[int, int, str]] = []
    esp.flash_esp(board.url, data, load_board(profile or board.chip), lambda *step: steps.append(step), **options)
    return steps


@pytest.mark.parametrize("chip", some(BOARDS, 2))
def test_write_verify_and_read_back(chip: str, plug) -> None:
    board, data = plug(chip), image(chip)
    steps = write(board, data, read_back=True)
    offset = load_board(chip).flash.image_offset
    assert bytes(board.flash.data[offset : offset + len(data)]) == data
    assert {what for _, _, what in steps} == {"connecting", "writing", "reading back", "restarting"}
    assert all(done <= total for done, total, _ in steps)


@pytest.mark.parametrize("chip", some(BOARDS, 2))
def test_an_interrupted_flash_can_be_repeated(chip: str, plug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esptool.cmds, "DEFAULT_CONNECT_ATTEMPTS", 1)
    board, data = plug(chip), image(chip)
    offset = load_board(chip).flash.image_offset
    board.lines = [40_000, *[0] * 9]
    with pytest.raises(common.FlashError, match="the line to .* broke .*: flash again"):
        write(board, data)
    written = bytes(board.flash.data[offset : offset + len(data)])
    assert written != data and set(written) != {0xFF}
    board.lines = []
    write(board, data)
    assert bytes(board.flash.data[offset : offset + len(data)]) == data


def test_a_short_loss_of_the_connection_is_survived(plug) -> None:
    board, data = plug("esp32c6"), image("esp32c6")
    board.lines = [40_000]
    write(board, data)
    assert bytes(board.flash.data[: len(data)]) == data


def test_flash_that_wears_out_is_noticed(plug) -> None:
    board = plug("esp32c3")
    put = board.flash.write_defl_block

    def worn(payload: bytes) -> None:
        put(payload)
        board.flash.data[0x1_2345] = 0

    board.flash.write_defl_block = worn
    with pytest.raises(common.FlashError, match="MD5 of file does not match data in flash!; the boot loader in ROM"):
        write(board, image("esp32c3"))


@pytest.mark.parametrize("chip", BOARDS)
def test_a_board_with_another_chip_is_left_alone(chip: str, plug) -> None:
    other = BOARDS[BOARDS.index(chip) - 1]
    board = plug(chip)
    with pytest.raises(common.FlashError, match=f"has an {load_board(chip).chip}, the image is for"):
        write(board, image(other), other)
    assert set(board.flash.data) == {0xFF}


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("chip", BOARDS)
def test_images_are_checked_before_the_board_is_touched(chip: str) -> None:
    profile, whole = load_board(chip), image(chip)
    base = profile.flash.image_offset
    other = BOARDS[BOARDS.index(chip) - 1]
    cases = [
        (b"", "starts with nothing, not with e9"),
        (b"\x7fELF" + whole, "starts with 7f454c46"),
        (whole[:20], "starts with e9"),
        (image(other), f"is for {load_board(other).chip}, {chip} has an {profile.chip}"),
        (program(chip, 100_000), r"no partition table at 0x8000: it is an update .*\.app-bin"),
        (whole[:0x4000], "it is cut short, or an update"),
        (whole[: 0x9000 - base], "the program is missing: the file is cut short"),
        (whole[:-10_000], "the program is cut short or damaged"),
        (whole[:-40], "the program is cut short or damaged|its checksum or hash is wrong"),
        (damaged(whole, 100), "the boot loader is damaged"),
        (damaged(whole, APP_OFFSET - base + 5000), "the program is damaged"),
        (damaged(whole, 0x8004 - base), "its partition table is damaged"),
        (whole[: APP_OFFSET - base] + program(other, 100_000), f"the program is for {load_board(other).chip}"),
    ]
    for data, message in cases:
        with pytest.raises(common.FlashError, match=message):
            esp.check_image(data, profile, "x.bin")
    assert [part.label for part in esp.check_image(whole, profile, "x.bin")] == ["nvs", "factory", "vfs"]
    assert esp.profile_of(whole, "x.bin").name == chip


@pytest.mark.parametrize("chip", some(BOARDS, 2))
def test_an_image_for_more_flash_is_refused(chip: str, plug) -> None:
    board = plug(chip)
    with pytest.raises(common.FlashError, match="needs 8,388,608 bytes of flash, the board on .* has 4,194,304"):
        write(board, image(chip, flash_bytes=8 << 20))
    assert set(board.flash.data) == {0xFF}


def test_the_command_identifies_the_chip_and_reports_a_missing_repl(plug, tmp_path, monkeypatch, capsys) -> None:
    board, path = plug("esp32s3"), tmp_path / "micropython.bin"
    path.write_bytes(image("esp32s3"))
    monkeypatch.setattr("edgelora.board.flash.common.RESTART_SECONDS", 1.0)
    assert main(["flash", str(path), "--port", board.url]) == 1  # the emulator runs no program
    assert "is written and verified, but no REPL answers on socket://" in capsys.readouterr().err
    assert bytes(board.flash.data[: path.stat().st_size]) == path.read_bytes()
    assert main(["flash", "--board", "esp32c3", "--firmware", str(path), "--port", board.url]) == 1
    assert "is for ESP32-S3, esp32c3 has an ESP32-C3" in capsys.readouterr().err


def test_no_board_answers(tmp_path) -> None:
    path = tmp_path / "micropython.bin"
    path.write_bytes(image("esp32"))
    with pytest.raises(common.FlashError, match="Could not open /dev/does-not-exist.*edgelora doctor"):
        flash("/dev/does-not-exist", path)
    (tmp_path / "notes.bin").write_text("hello")
    with pytest.raises(common.FlashError, match="is not a firmware image"):
        flash("/dev/does-not-exist", tmp_path / "notes.bin")
