"""Complete flash images for ESP32 chips, laid out like MicroPython's and written by esptool's code."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
from esptool.bin_image import ImageSegment
from esptool.targets import CHIP_DEFS

from edgelora.board.profiles import list_boards, load_board

BOARDS = [name for name in list_boards() if load_board(name).port == "esp32"]
FLASH_BYTES = 4 << 20  # flash size of the emulated boards
APP_OFFSET = 0x1_0000


def program(board: str, size: int) -> bytes:
    """A program image for a board's chip with one segment of random bytes."""
    image = CHIP_DEFS[board].BOOTLOADER_IMAGE()
    image.segments = [ImageSegment(CHIP_DEFS[board].IROM_MAP_START + 0x20, np.random.default_rng(size).bytes(size))]
    image.entrypoint = image.segments[0].addr
    return image.save(None)


def partition_table(flash_bytes: int, romfs: bool) -> bytes:
    layout = (
        ("nvs", 1, 2, 0x9000, 0x6000),
        ("factory", 0, 0, APP_OFFSET, 0x1D_0000 if romfs else 0x1F_0000),
        *([("romfs", 1, 0x8F, 0x1E_0000, 0x2_0000)] if romfs else []),
        ("vfs", 1, 0x81, 0x20_0000, flash_bytes - 0x20_0000),
    )
    table = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, sub, offset, size, label.encode(), 0)
        for label, kind, sub, offset, size in layout
    )
    return (table + b"\xeb\xeb".ljust(16, b"\xff") + hashlib.md5(table).digest()).ljust(0xC00, b"\xff")


def image(board: str, app_bytes: int = 40_000, flash_bytes: int = FLASH_BYTES, romfs: bool = False) -> bytes:
    """A complete flash image, laid out like MicroPython's."""
    layout = load_board(board).flash
    assert layout
    parts = (
        (program(board, 8_000), 0x8000),
        (partition_table(flash_bytes, romfs), APP_OFFSET),
        (program(board, app_bytes), 0),
    )
    data = b""
    for part, end in parts:
        data = (data + part).ljust(end - layout.image_offset, b"\xff")
    return data
