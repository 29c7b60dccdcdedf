# SPDX-License-Identifier: MIT
"""Text as the symbols of a language model, by a table of its tokenizer (`.elt`), and back.

    tokens = Tokens(open("/rom/base.elt", "rb").read())
    for symbol in tokens.encode("Once upon a time"):
        model.next(symbol)
    print(tokens.decode(model.suggest(3)))

Tables are of bytes, of characters, or of byte pairs that are merged (R. Sennrich et al., 2016, arXiv:1508.07909).
`edgelora import` makes one from a `tokenizer.json`, or a `tokenizer.model` of SentencePiece.
"""

import struct
from array import array

from . import _core

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Iterable, Iterator
    from typing import Any

_HEAD = "<4sHHIIHHHHHHI"  # magic, version, header, size, CRC; flags, symbols, units, pairs, unknown, first byte, 0
_HEAD_SIZE = 32
_CRC_FROM = 16
_NONE = 0xFFFF
_MOST = 1024  # symbols
_BYTES, _WORDS, _PREFIX, _TRIM, _CUT, _ONCE = 1, 2, 4, 8, 16, 32  # flags
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_SPACE, _LETTER, _NUMBER, _OTHER = 0, 1, 2, 3
_SPACES = (0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
_NUMBERS = (0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE)
_OTHERS = ((0x80, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7), (0x0300, 0x036F), (0x2000, 0x2BFF), (0x3001, 0x3003))
_OTHERS_FROM = 0x1F000  # symbols and emoji
_LETTERS = (0xAA, 0xB5, 0xBA)


class Tokens:
    """The symbols of a table, the bytes of a `.elt` file. ValueError for others."""

    symbols: int
    puts_space: bool  # whether a space is put before a text

    def __init__(self, table: bytes) -> None:
        if len(table) < _HEAD_SIZE:
            raise ValueError("a table of %d bytes is no .elt" % len(table))
        head = struct.unpack(_HEAD, table[:_HEAD_SIZE])
        self._flags, self.symbols, units, pairs, self._unknown, self._first_byte = head[5:11]
        if head[:3] != (b"ELT1", 1, _HEAD_SIZE) or head[3] != len(table) or head[11]:
            raise ValueError("no .elt of version 1, or cut off")
        if _core.crc32(table[_CRC_FROM:], 0) != head[4]:
            raise ValueError("the .elt is damaged: its CRC differs")
        at, arrays = _HEAD_SIZE, []
        for code, count in (("I", units), ("I", pairs), ("H", pairs), ("H", units), ("H", self.symbols)):
            end = at + (4 if code == "I" else 2) * count
            arrays.append(array(code, table[at:end]))
            at = end
        self._units, self._pairs, self._made, self._ids, self._ends = arrays
        self._texts = table[at:]
        self._check(units, pairs)
        self.puts_space = bool(self._flags & _PREFIX)

    def _check(self, units: int, pairs: int) -> None:
        ends, last = self._ends, 0
        fits = 1 <= self.symbols <= _MOST and (len(self._units), len(self._pairs)) == (units, pairs)
        fits = fits and len(self._made) == pairs and len(self._ids) == units and len(ends) == self.symbols
        fits = fits and self._flags < 64
        for end in ends:
            fits, last = fits and last <= end, end
        fits = fits and len(self._texts) == last + -(last + 2 * (pairs + units + self.symbols)) % 4
        for numbers in (self._made, self._ids):
            for number in numbers:
                fits = fits and number < self.symbols
        for keys in (self._units, self._pairs):
            for i in range(1, len(keys)):
                fits = fits and keys[i - 1] < keys[i]
        for key in self._pairs:
            fits = fits and key >> 16 < self.symbols and (key & 0xFFFF) < self.symbols
        fits = fits and (self._unknown == _NONE or self._unknown < self.symbols)
        fits = fits and (self._first_byte == _NONE or self._first_byte + 256 <= self.symbols)
        if not fits:
            raise ValueError("the .elt breaks a rule of its format")

    def decode(self, symbols: Iterable[int]) -> bytes:
        """The UTF-8 of symbols. It may end within a character, and a symbol may be only part of one."""
        parts = [self._texts[self._ends[one - 1] if one else 0 : self._ends[one]] for one in symbols]
        made = b"".join(parts)
        if self._flags & _TRIM:
            return made.lstrip(b" ")
        return made[1:] if self._flags & _PREFIX and made[:1] == b" " else made

    def encode(self, text: str) -> list[int]:
        """The symbols of a text. Those of special tokens, such as the beginning of a text, are not among them."""
        if self._flags & _TRIM:
            text = " ".join(part for part in text.split(" ") if part)
        if not self._flags & _BYTES:
            text = text.replace("\u2581", " ")  # SentencePiece's own mark of a space
        if self._flags & _TRIM:
            text = text.rstrip(" ")
        if self._flags & _PREFIX and text and not (self._flags & _ONCE and text[0] == " "):
            text = " " + text
        found: list[int] = []
        for word in self._words(text):
            found += self._merged(self._begun(word))
        return found

    def _words(self, text: str) -> Iterator[str]:
        """Parts that no pair reaches across."""
        if not self._flags & (_WORDS | _CUT):
            yield text
            return
        begin = 0
        while begin < len(text):
            end = _word_end(text, begin) if self._flags & _WORDS else text.find(" ", begin + 1)
            yield text[begin : end if end > 0 else len(text)]
            begin = end if end > 0 else len(text)

    def _begun(self, word: str) -> list[int]:
        """A symbol for each character or byte, before pairs are merged."""
        found: list[int] = []
        for unit in word.encode() if self._flags & _BYTES else word:
            at = _place(self._units, unit if isinstance(unit, int) else ord(unit))
            if at >= 0:
                found.append(self._ids[at])
            elif self._first_byte != _NONE and isinstance(unit, str):
                found += [self._first_byte + byte for byte in unit.encode()]
            elif self._unknown != _NONE and found[-1:] != [self._unknown]:
                found.append(self._unknown)
        return found

    def _merged(self, found: list[int]) -> list[int]:
        """The symbols after all merges: of pairs the one that makes the lowest symbol goes first, then the leftmost."""
        made = [self._pair(found[i], found[i + 1]) for i in range(len(found) - 1)]
        while made:
            least = min(made)
            if least == _NONE:
                break
            at = made.index(least)
            found[at] = least
            del found[at + 1], made[at]
            if at:
                made[at - 1] = self._pair(found[at - 1], least)
            if at < len(made):
                made[at] = self._pair(least, found[at + 1])
        return found

    def _pair(self, left: int, right: int) -> int:
        at = _place(self._pairs, left << 16 | right)
        return self._made[at] if at >= 0 else _NONE


def _place(keys: Any, key: int) -> int:
    """Where `key` is among ascending `keys`; -1: nowhere."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < len(keys) and keys[low] == key else -1


def _word_end(text: str, begin: int) -> int:
    """Where the word that begins there ends, as GPT-2 cuts text: contractions; letters, numbers or others, each with
    one space before them; spaces, but for the one that goes with the next word."""
    for one in _CONTRACTIONS:
        if text[begin : begin + len(one)] == one:
            return begin + len(one)
    first = begin
    if text[begin] == " " and begin + 1 < len(text) and _kind(text[begin + 1]) != _SPACE:
        first += 1
    kind, end = _kind(text[first]), first + 1
    while end < len(text) and _kind(text[end]) == kind:
        end += 1
    return end - 1 if kind == _SPACE and end < len(text) and end - begin > 1 else end


def _kind(one: str) -> int:
    """A character's kind; exact for ASCII and Latin letters, near it for other scripts, whose tables are long."""
    code = ord(one)
    if code < 128:
        if one.isalpha():
            return _LETTER
        return _NUMBER if one.isdigit() else _SPACE if one in " \t\n\r\x0b\x0c" else _OTHER
    if code in _SPACES or 0x2000 <= code <= 0x200A:
        return _SPACE
    if code in _NUMBERS:
        return _NUMBER
    if code in _LETTERS:
        return _LETTER
    for low, high in _OTHERS:
        if low <= code <= high:
            return _OTHER
    return _OTHER if code >= _OTHERS_FROM else _LETTER
