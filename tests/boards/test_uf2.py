"""UF2 images and the ROMFS merged into them."""

import contextlib
import struct

import pytest
from mpremote.romfs import VfsRomWriter

from edgelora.board import build, uf2
from edgelora.board import romfs as boards_romfs
from edgelora.board.profiles import load_board
from edgelora.board.sim.pico import _Flash

BASE = 0x10000000


def image(pages: int = 4) -> bytes:
    flash = uf2.FlashImage()
    flash.put(BASE, bytes(range(256)) * pages)
    return uf2.serialize(flash)


def patched(block: int, offset: int, value: int) -> bytes:
    data = bytearray(image())
    struct.pack_into("<I", data, block * 512 + offset, value)
    return bytes(data)


def test_round_trip():
    data = image()
    assert uf2.serialize(uf2.parse(data)) == data
    assert uf2.parse(data).end == BASE + 1024


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "whole number"),
        (image()[:-1], "whole number"),
        (image()[:-512], "block 0: numbered 0 of 4, expected 0 of 3"),
        (image()[512:] + image()[:512], "block 0: numbered 1"),
        (patched(1, 0, 0), "block 1: not a UF2 block"),
        (patched(2, 4, 0), "block 2: not a UF2 block"),
        (patched(3, 508, 0), "block 3: not a UF2 block"),
        (patched(1, 28, 0xE48BFF59), "block 1: made for chip family 0xe48bff59"),
        (patched(1, 8, 0), "block 1: made for chip family none"),
        (patched(1, 8, 0x2001), "not meant for main flash"),
        (patched(1, 16, 476), "has 476 bytes"),
        (patched(1, 12, BASE), "two parts"),
        (patched(1, 12, BASE + 1), "not a multiple"),
    ],
)
def test_damage_is_named(data, message):
    with pytest.raises(uf2.Uf2Error, match=message):
        uf2.parse(data)


def test_the_block_in_front_of_an_rp2350_image_stays():
    rp2350, pages = 0xE48BFF59, uf2.parse(image()).pages
    lead = uf2.serialize(uf2.FlashImage({0x10FF0000: b"\xef" * 256}), uf2.ABSOLUTE_FAMILY_ID)
    data = uf2.serialize(uf2.FlashImage(pages, lead), rp2350)
    assert data.startswith(lead)
    assert uf2.parse(data, rp2350).pages == pages
    assert uf2.serialize(uf2.parse(data, rp2350), rp2350) == data
    with pytest.raises(uf2.Uf2Error, match="block 0: made for chip family 0xe48bff57"):
        uf2.parse(data)
    with pytest.raises(uf2.Uf2Error, match="block 1: made for chip family 0xe48bff56, this board is 0xe48bff59"):
        uf2.parse(lead + image(), rp2350)
    with pytest.raises(uf2.Uf2Error, match="ends before the firmware"):
        uf2.parse(lead, rp2350)


def test_any_flipped_header_bit_is_noticed():
    whole = image(2)
    pages = set(uf2.parse(whole).pages)
    for position in [*range(8), *range(12, 32), *range(508, 512)]:  # bytes 8 to 11 are flags, some without effect
        for bit in range(8):
            data = bytearray(whole)
            data[position] ^= 1 << bit
            with contextlib.suppress(uf2.Uf2Error):
                assert set(uf2.parse(bytes(data)).pages) != pages


@pytest.mark.parametrize("sizes", [(1,), (100, 7, 20000), (127, 128, 129), (16383, 16384), (200000, 5)])
def test_romfs_files_are_aligned(sizes):
    files = {f"f{i}.bin": bytes([0xF0 + i]) * size for i, size in enumerate(sizes)}
    romfs = boards_romfs.make_romfs(files)
    assert romfs.startswith(VfsRomWriter.ROMFS_HEADER)
    for i, (name, data) in enumerate(files.items()):
        at = romfs.index(data, romfs.index(name.encode()))
        assert at % boards_romfs.FILE_ALIGNMENT == 0, (i, at)


FLASH_BYTES, ROMFS_OFFSET = 64 * 1024, 32 * 1024


@pytest.mark.parametrize("family_id", [uf2.RP2040_FAMILY_ID, 0xE48BFF59])
@pytest.mark.parametrize("beyond", range(16))
def test_every_page_arrives_however_far_the_program_reaches_into_a_sector(beyond, family_id, tmp_path):
    """Blocks are erased by 16 numbers, as the RP2040's boot ROM does it: those of a sector are one such group."""
    program, romfs = bytes(range(1, 256)) * 18, bytes(range(255, 0, -1)) * 48
    program = program[: uf2.SECTOR_BYTES + beyond * uf2.PAYLOAD_BYTES]
    merged = uf2.FlashImage()
    merged.put(BASE, program)
    merged.put(BASE + ROMFS_OFFSET, romfs)
    image = uf2.parse(uf2.serialize(merged, family_id), family_id)
    sectors = [address // uf2.SECTOR_BYTES for address in image.pages]
    assert sectors == sorted(sectors)
    assert {sectors.count(sector) for sector in sectors if sector != sectors[-1]} == {16}
    assert image.end == BASE + ROMFS_OFFSET + -(-len(romfs) // uf2.PAYLOAD_BYTES) * uf2.PAYLOAD_BYTES

    flash = _Flash(tmp_path / "flash.bin", bytearray(FLASH_BYTES), FLASH_BYTES, BASE)
    flash.memory[:] = bytes(FLASH_BYTES)  # another program was there
    flash.program(image)
    assert flash.memory[: len(program)] == program
    assert flash.memory[ROMFS_OFFSET : ROMFS_OFFSET + len(romfs)] == romfs
    assert not any(flash.memory[2 * uf2.SECTOR_BYTES : ROMFS_OFFSET])  # what no sector of the image covers stays
    end = ROMFS_OFFSET - -len(romfs) // uf2.SECTOR_BYTES * uf2.SECTOR_BYTES
    assert not any(flash.memory[end:])


def test_too_big_is_refused_before_anything_is_written(tmp_path):
    out = tmp_path / "out.uf2"
    flash = load_board("virtual-pico").flash
    with pytest.raises(boards_romfs.BuildError, match="use a smaller model"):
        build.build_firmware("virtual-pico", {"model.elm": bytes(flash.romfs_bytes)}, out)
    assert not out.exists()


@pytest.mark.parametrize("name", ["", "a/b", "ü"])
def test_romfs_names(name):
    with pytest.raises(boards_romfs.BuildError, match="plain ASCII name"):
        boards_romfs.make_romfs({name: b"x"})
