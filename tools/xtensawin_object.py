#!/usr/bin/env python3
"""Rewrites an Xtensa object of LLVM's assembler in the form of GNU's, which mpy_ld.py requires.

Moves the offsets of literals from their relocations into the section, and sets unrelocated `l32r` instructions to 0.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

SHT_RELA, STT_SECTION = 4, 3
R_XTENSA_32, R_XTENSA_SLOT0_OP = 1, 20
L32R = 1  # low four bits of the instruction; its offset is in the upper 16 of 24


def main() -> None:
    path = Path(sys.argv[1])
    data = bytearray(path.read_bytes())
    for at, symbol_type, kind, place in relocations(data):
        (addend,) = struct.unpack_from("<i", data, at + 8)
        if kind == R_XTENSA_SLOT0_OP and data[place] & 15 == L32R:
            data[place + 1 : place + 3] = bytes(2)
        elif kind == R_XTENSA_32 and symbol_type == STT_SECTION:
            (value,) = struct.unpack_from("<I", data, place)
            struct.pack_into("<I", data, place, value + addend)
            struct.pack_into("<i", data, at + 8, 0)
    path.write_bytes(data)


def relocations(data: bytearray) -> Iterator[tuple[int, int, int, int]]:
    """Each relocation of an ELF32 file: its offset, its symbol's type, its own type, and the offset that it patches."""
    (table,), (count,) = struct.unpack_from("<I", data, 32), struct.unpack_from("<H", data, 48)
    sections = [struct.unpack_from("<10I", data, table + 40 * i) for i in range(count)]
    for _, kind, _, _, offset, size, link, info, _, _ in sections:
        for at in range(offset, offset + size, 12) if kind == SHT_RELA else ():
            place, symbol_kind = struct.unpack_from("<II", data, at)
            symbol = sections[link][4] + 16 * (symbol_kind >> 8)
            yield at, data[symbol + 12] & 15, symbol_kind & 255, sections[info][4] + place


if __name__ == "__main__":
    main()
