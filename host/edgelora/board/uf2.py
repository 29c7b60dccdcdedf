"""UF2 images: reading with full checks, and writing.

Format: https://github.com/microsoft/uf2 (512-byte blocks of up to 476 bytes of payload).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from edgelora.base.errors import EdgeloraError

BLOCK_BYTES = 512
PAYLOAD_BYTES = 256  # required by the boot ROMs of RP2040 and RP2350: one flash page
SECTOR_BYTES = 4096  # of flash that are erased at once
SECTOR_BLOCKS = SECTOR_BYTES // PAYLOAD_BYTES
EMPTY_PAGE = b"\xff" * PAYLOAD_BYTES
MAGIC_START = (0x0A324655, 0x9E5D5157)
MAGIC_END = 0x0AB16F30
FLAG_NOT_MAIN_FLASH = 0x00000001
FLAG_FAMILY_ID = 0x00002000
RP2040_FAMILY_ID = 0xE48BFF56
ABSOLUTE_FAMILY_ID = 0xE48BFF57  # of any chip: data for an absolute address


class Uf2Error(EdgeloraError, ValueError):
    """The bytes are not a UF2 image for this board."""


@dataclass
class FlashImage:
    """Pages of flash by absolute address (bytes), in the file's order; each is `PAYLOAD_BYTES` long and aligned.

    lead: a preceding block, kept unchanged. RP2350 images have one, for an address behind all flash, that
    works around the boot ROM's erratum E10.
    """

    pages: dict[int, bytes] = field(default_factory=dict)
    lead: bytes = b""

    def put(self, address: int, data: bytes) -> None:
        """Adds `data` at a page-aligned address, padded with 0xFF; overlapping another part is an error."""
        if address % PAYLOAD_BYTES:
            raise Uf2Error(f"address {address:#010x} is not a multiple of {PAYLOAD_BYTES}")
        for offset in range(0, len(data), PAYLOAD_BYTES):
            if address + offset in self.pages:
                raise Uf2Error(f"two parts of the image overlap at flash address {address + offset:#010x}")
            page = data[offset : offset + PAYLOAD_BYTES]
            self.pages[address + offset] = page.ljust(PAYLOAD_BYTES, b"\xff")

    @property
    def end(self) -> int:
        """First address behind the image."""
        return max(self.pages, default=0) + PAYLOAD_BYTES


def parse(data: bytes, family_id: int = RP2040_FAMILY_ID, name: str = "UF2 image") -> FlashImage:
    """Reads a whole UF2 image for one chip family. Raises `Uf2Error` naming the first bad block."""
    if not data or len(data) % BLOCK_BYTES:
        raise Uf2Error(f"{name}: {len(data)} bytes is not a whole number of {BLOCK_BYTES}-byte blocks; copy it again")
    first = int(family_id != RP2040_FAMILY_ID and _block_family(data, 0) == ABSOLUTE_FAMILY_ID)
    total = len(data) // BLOCK_BYTES - first
    if not total:
        raise Uf2Error(f"{name}: ends before the firmware; copy it again")
    image = FlashImage({}, data[: first * BLOCK_BYTES])
    for index in range(total):
        block = data[(first + index) * BLOCK_BYTES :][:BLOCK_BYTES]
        magic0, magic1, flags, address, size, number, count, family = struct.unpack_from("<8I", block)
        where = f"{name}, block {first + index}"
        if (magic0, magic1) != MAGIC_START or struct.unpack_from("<I", block, BLOCK_BYTES - 4)[0] != MAGIC_END:
            raise Uf2Error(f"{where}: not a UF2 block (wrong magic number)")
        if not flags & FLAG_FAMILY_ID or family != family_id:
            found = f"{family:#010x}" if flags & FLAG_FAMILY_ID else "none"
            raise Uf2Error(f"{where}: made for chip family {found}, this board is {family_id:#010x}")
        if flags & FLAG_NOT_MAIN_FLASH:
            raise Uf2Error(f"{where}: not meant for main flash")
        if size != PAYLOAD_BYTES:
            raise Uf2Error(f"{where}: has {size} bytes, the boot ROM needs {PAYLOAD_BYTES}")
        if number != index or count != total:
            raise Uf2Error(
                f"{where}: numbered {number} of {count}, expected {index} of {total}; the file is incomplete"
            )
        try:
            image.put(address, block[32 : 32 + size])
        except Uf2Error as error:
            raise Uf2Error(f"{where}: {error}") from None
    return image


def family(data: bytes) -> int:
    """An image's chip family, from its last block (the first may be a `FlashImage.lead`)."""
    return _block_family(data, len(data) - BLOCK_BYTES) if len(data) >= BLOCK_BYTES else 0


def _block_family(data: bytes, at: int) -> int:
    return int.from_bytes(data[at + 28 : at + 32], "little")


def serialize(image: FlashImage, family_id: int = RP2040_FAMILY_ID) -> bytes:
    """Writes the image as UF2 blocks in address order, with empty pages that fill each sector but the last.

    The RP2040's boot ROM erases a sector at the first of each 16 block numbers, wherever they go (erratum E14): the
    blocks of a sector have to be one such group.
    """
    pages = dict(image.pages)
    for address in image.pages:
        sector = address - address % SECTOR_BYTES
        pages |= {at: EMPTY_PAGE for at in range(sector, sector + SECTOR_BYTES, PAYLOAD_BYTES) if at not in pages}
    ordered = [(address, page) for address, page in sorted(pages.items()) if address < image.end]
    out = bytearray(image.lead)
    for number, (address, page) in enumerate(ordered):
        header = (*MAGIC_START, FLAG_FAMILY_ID, address, PAYLOAD_BYTES, number, len(ordered), family_id)
        out += struct.pack("<8I", *header) + page
        out += bytes(BLOCK_BYTES - 4 - 32 - PAYLOAD_BYTES) + struct.pack("<I", MAGIC_END)
    return bytes(out)
