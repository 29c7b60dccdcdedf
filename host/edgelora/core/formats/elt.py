"""Tables of tokenizers, `.elt` (SPEC.md, section 18). The device's `edgelora.tokens` reads them, here and on boards."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import numpy as np

from .envelope import CRC_FROM, ENVELOPE, require
from .limits import MAX_SYMBOLS

MAGIC, VERSION, HEADER, NONE = b"ELT1", 1, 32, 0xFFFF
BYTES, WORDS, PREFIX, TRIM, CUT, ONCE = 1, 2, 4, 8, 16, 32
_REST = struct.Struct("<HHHHHHI")


@dataclass(frozen=True)
class TokenTable:
    """A tokenizer: the UTF-8 of each symbol, and which symbols text becomes.

    units: the symbol of each character's code or, with the flag BYTES, of each byte; pairs: what a left and a right
    symbol become. Of several pairs in a text, the one that makes the lowest symbol is merged first. flags: BYTES, WORDS
    (no pair reaches across words, as GPT-2 cuts them), PREFIX (a space goes before a text, but with ONCE not before a
    space), TRIM (spaces are joined, and left out at both ends), CUT (no pair reaches across the beginning of a space).
    unknown: the symbol of other characters; first_byte: that of byte 0, of 256 that stand for the UTF-8 of characters
    without a symbol.
    """

    texts: list[bytes]
    units: dict[int, int]
    pairs: dict[tuple[int, int], int] = field(default_factory=dict)
    flags: int = 0
    unknown: int | None = None
    first_byte: int | None = None

    def pack(self) -> bytes:
        """The bytes of a `.elt` file. Raises FormatError for a table that does not fit."""
        count = len(self.texts)
        require(1 <= count <= MAX_SYMBOLS, f"a tokenizer of {count} symbols: the limit is {MAX_SYMBOLS}")
        ends = np.cumsum([len(text) for text in self.texts])
        require(
            max(ends[-1], len(self.pairs), len(self.units)) < NONE,
            f"a tokenizer of {ends[-1]} bytes of text, {len(self.pairs)} pairs and {len(self.units)} units: the limit "
            f"of each is {NONE - 1}: train a smaller one",
        )
        units, pairs = sorted(self.units.items()), sorted((a << 16 | b, c) for (a, b), c in self.pairs.items())
        arrays = [
            np.array([unit for unit, _ in units], "<u4"),
            np.array([key for key, _ in pairs], "<u4"),
            np.array([made for _, made in pairs], "<u2"),
            np.array([symbol for _, symbol in units], "<u2"),
            ends.astype("<u2"),
        ]
        body = b"".join([*(one.tobytes() for one in arrays), *self.texts])
        body += bytes(-len(body) % 4)
        special = [NONE if one is None else one for one in (self.unknown, self.first_byte)]
        rest = _REST.pack(self.flags, count, len(units), len(pairs), *special, 0) + body
        return ENVELOPE.pack(MAGIC, VERSION, HEADER, CRC_FROM + len(rest), zlib.crc32(rest)) + rest
