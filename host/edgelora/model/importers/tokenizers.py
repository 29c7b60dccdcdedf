"""Tokenizers in Hugging Face's `tokenizer.json` or SentencePiece's `tokenizer.model` as tables for boards.

Byte-pair tokenizers only: of bytes, cut into words as GPT-2's, or of characters with SentencePiece's mark of a space.
Both files are untrusted. Sources: https://huggingface.co/docs/tokenizers, sentencepiece_model.proto of
https://github.com/google/sentencepiece.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.elt import BYTES, CUT, ONCE, PREFIX, TRIM, WORDS, TokenTable
from edgelora.core.formats.envelope import CRC_FROM
from edgelora.core.formats.limits import MAX_SYMBOLS
from edgelora.core.twin import device
from edgelora.model.datasets.text import SYMBOLS

from .json_object import json_object, shown

JSON_FILE, MODEL_FILE = "tokenizer.json", "tokenizer.model"
AT_ONCE = 200  # time grows with the square of a part
MARK = "\u2581"  # SentencePiece's, of a space
_BEFORE_WORD = re.compile(rf"(?<=[^\s{MARK}]) (?=[^\s{MARK}])")
_BYTE_SYMBOL = re.compile("<0x([0-9A-F]{2})>")
_CUTTERS = f"ByteLevel, or Metaspace with replacement {MARK!r}"
_PROTO_TRAINER, _PROTO_NORMALIZER, _BPE = 2, 3, 2
_NORMAL, _UNKNOWN, _CONTROL, _UNUSED, _BYTE = 1, 2, 3, 5, 6


class TokenizerError(EdgeloraError, ValueError):
    """A tokenizer can't become a table for boards; the message says why and what to do."""


def load_tokenizer(folder: Path, symbols: int) -> TokenTable:
    """The tokenizer of a folder's model, which knows so many symbols; without a file, bytes or characters.

    Raises TokenizerError or OSError.
    """
    if (folder / JSON_FILE).exists():
        made = of_json((folder / JSON_FILE).read_bytes())
    elif (folder / MODEL_FILE).exists():
        made = of_sentencepiece((folder / MODEL_FILE).read_bytes())
    elif symbols == 256:
        made = TokenTable([bytes([byte]) for byte in range(256)], {byte: byte for byte in range(256)}, flags=BYTES)
    elif symbols == len(SYMBOLS):
        made = of_characters(SYMBOLS)
    else:
        raise TokenizerError(
            f"{folder} has no {JSON_FILE} or {MODEL_FILE}: save the tokenizer there, too; without one, 256 symbols are "
            f"bytes and {len(SYMBOLS)} are characters, but the model knows {symbols}"
        )
    if len(made.texts) > symbols:
        raise TokenizerError(
            f"the tokenizer has {len(made.texts)} symbols, the model knows {symbols}: is it another's?"
        )
    return made


def of_characters(characters: str) -> TokenTable:
    """A symbol for each character; others are left out."""
    return TokenTable([one.encode() for one in characters], {ord(one): i for i, one in enumerate(characters)})


def encode(table: bytes, text: str) -> NDArray[np.int64]:
    """The symbols of a text by a `.elt` file, as boards encode it, by parts of about `AT_ONCE` characters.

    ValueError for other files.
    """
    tokens, found = device.module("tokens").Tokens(table), []
    trims = table[CRC_FROM] & (TRIM | PREFIX) == TRIM
    between = "" if tokens.puts_space else MARK if trims else " "  # trimming leaves a mark
    for i, part in enumerate(_parts(text.lstrip(" ") if trims else text, _joined(tokens, table[CRC_FROM]))):
        found += tokens.encode(between + part if i else part)
    return np.array(found, np.int64)


def _joined(tokens: Any, flags: int) -> set[int]:
    """The bytes that a symbol may join to a space behind them."""
    texts = () if flags & (WORDS | CUT) else (tokens.decode([symbol]) for symbol in range(tokens.symbols))
    return {one for text in texts for one, behind in pairwise(text) if behind == ord(" ")}


def _parts(text: str, joined: set[int]) -> Iterator[str]:
    """A text cut at some of the lone spaces before words; its parts are without these spaces."""
    begin = 0
    for cut in _BEFORE_WORD.finditer(text):
        if cut.start() >= begin + AT_ONCE and text[cut.start() - 1].encode()[-1] not in joined:
            yield text[begin : cut.start()]
            begin = cut.end()
    yield text[begin:]


# ---- tokenizer.json --------------------------------------------------------------------------------------------------


def of_json(content: bytes) -> TokenTable:
    """The table of a `tokenizer.json`. Raises TokenizerError."""
    found = json_object(content, f"{JSON_FILE}:", TokenizerError)
    try:
        return _of_json(found)
    except TokenizerError:
        raise
    except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise TokenizerError(f"{JSON_FILE}: not a tokenizer of byte pairs ({error!r}): copy it again") from None


def _of_json(found: dict[str, Any]) -> TokenTable:
    model = found["model"]
    kind = model.get("type", "BPE")
    _require(kind == "BPE", f"its model is {shown(kind)}", "train one of kind BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        _require(not model.get(name), f"{name} is {shown(model.get(name))}, which isn't supported", "train without it")
    added = {one["id"]: one for one in found.get("added_tokens") or ()}
    special = all(one["special"] for one in added.values())
    _require(special, "it has added tokens that are no special ones", "add them by add_special_tokens")
    flags, of_bytes = _cuts(_steps(found.get("normalizer")), _steps(found.get("pre_tokenizer")))
    names = _by_number(model["vocab"] | {one["content"]: number for number, one in added.items()})
    numbers = {name: i for i, name in enumerate(names)}
    first_byte = numbers.get("<0x00>") if model.get("byte_fallback") else None
    unknown = model.get("unk_token")
    control = {one["content"] for one in added.values()} | ({unknown} if unknown else set())
    texts = [_text(name, control, of_bytes, first_byte is not None) for name in names]
    pairs = {}
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        pairs[numbers[left], numbers[right]] = numbers[left + right]
    made = list(pairs.values())
    _require(made == sorted(made), "its merges are in another order than its symbols", "train it anew")
    spoken = {name: i for name, i in numbers.items() if name not in control and len(name) == 1}
    units = {_BYTES[name] if of_bytes else ord(" " if name == MARK else name): i for name, i in spoken.items()}
    _check_bytes(names, first_byte)
    fused = unknown is None or first_byte is not None or model.get("fuse_unk") or of_bytes and len(units) == 256
    remedy = "set fuse_unk to true, there or in training"
    _require(fused, "it makes a symbol of each unknown character of a run", remedy)
    return TokenTable(texts, units, pairs, flags, None if unknown is None else numbers[unknown], first_byte)


def _by_number(vocabulary: dict[str, int]) -> list[str]:
    count = len(vocabulary)
    _check_count(count)
    numbered = sorted(vocabulary.values()) == list(range(count))
    _require(numbered, "its symbols aren't numbered from 0 without gaps", "train it anew, with all special tokens")
    return sorted(vocabulary, key=lambda name: vocabulary[name])


def _steps(part: Any) -> list[Any]:
    if part is None:
        return []
    return list(part.get("normalizers") or part["pretokenizers"]) if part["type"] == "Sequence" else [part]


def _cuts(normalizers: list[Any], cutters: list[Any]) -> tuple[int, bool]:
    """A table's flags, and whether it is of bytes."""
    flags = 0
    for one in normalizers:
        if one["type"] == "Prepend" and one["prepend"] == MARK:
            flags |= PREFIX
        else:
            spaces = one["type"] == "Replace" and one["pattern"] == {"String": " "} and one["content"] == MARK
            _require(spaces, f"it normalizes text by {one['type']}, which isn't supported", "train without it")
    _require(len(cutters) <= 1, "it cuts text in several steps", f"train with one, {_CUTTERS}")
    for one in cutters:
        if one["type"] == "ByteLevel":
            flags |= BYTES | (WORDS if one.get("use_regex", True) else 0) | (PREFIX if one["add_prefix_space"] else 0)
            normal = not normalizers and not one["add_prefix_space"]
            _require(normal, "it is of bytes and puts a space before a text", "train with add_prefix_space=False")
        else:
            known = one["type"] == "Metaspace" and one.get("replacement", MARK) == MARK and not normalizers
            remedy = f"train with {_CUTTERS} and without a normalizer"
            _require(known, f"it cuts text by {one['type']}, which isn't supported as it is set", remedy)
            flags |= PREFIX | ONCE if one.get("prepend_scheme", "always") != "never" else 0
            flags |= CUT if one.get("split", True) else 0
    return flags, bool(flags & BYTES)


def _text(name: str, control: set[str], of_bytes: bool, has_bytes: bool) -> bytes:
    """The UTF-8 of a symbol; that of special ones is empty."""
    if name in control:
        return b""
    if of_bytes:
        return bytes(_BYTES[one] for one in name)
    byte = _BYTE_SYMBOL.fullmatch(name) if has_bytes else None
    return bytes([int(byte[1], 16)]) if byte else name.replace(MARK, " ").encode()


def _byte_characters() -> dict[str, int]:
    """GPT-2's character for each byte: itself if it is visible, else one of those from 256 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_BYTES = _byte_characters()


def _check_bytes(names: list[str], first_byte: int | None) -> None:
    if first_byte is not None:
        wanted = [f"<0x{byte:02X}>" for byte in range(256)]
        behind = names[first_byte : first_byte + 256] == wanted
        _require(behind, "its symbols of bytes aren't one behind the other", "train it anew with byte_fallback")


def _check_count(count: int) -> None:
    _require(count > 0, "it has no symbols", "copy it again")
    _require(count <= MAX_SYMBOLS, f"it has {count} symbols, the limit is {MAX_SYMBOLS}", "train a smaller one")


def _require(condition: bool, message: str, remedy: str) -> None:
    if not condition:
        raise TokenizerError(f"the tokenizer can't be a table for boards: {message}", remedy=remedy)


# ---- SentencePiece ---------------------------------------------------------------------------------------------------


def of_sentencepiece(content: bytes) -> TokenTable:
    """The table of a `.model` file. Raises TokenizerError."""
    names, kinds, scores, trainer, normalizer = [], [], list[float](), dict[int, Any](), dict[int, Any]()
    for number, value in _fields(content):
        if number == 1:
            piece = dict(_fields(value))
            names.append(_name(piece.get(1, b"")))
            kinds.append(piece.get(3, _NORMAL))
            if kinds[-1] == _NORMAL and len(names[-1]) > 1:
                scores.append(piece.get(2, 0.0))
        elif number == _PROTO_TRAINER:
            trainer = dict(_fields(value))
        elif number == _PROTO_NORMALIZER:
            normalizer = dict(_fields(value))
    _check_count(len(names))
    _require(trainer.get(3, 1) == _BPE, "it isn't of byte pairs", "train with model_type='bpe'")
    plain = normalizer.get(1, b"") == b"identity"
    _require(plain, "it normalizes text", "train with normalization_rule_name='identity'")
    marked = not trainer.get(24) and normalizer.get(5, 1)
    remedy = "train with treat_whitespace_as_suffix=False and escape_whitespaces=True"
    _require(marked, "it treats spaces as suffixes or doesn't mark them", remedy)
    known = set(kinds) <= {_NORMAL, _UNKNOWN, _CONTROL, _UNUSED, _BYTE}
    remedy = "train without user_defined_symbols"
    _require(known, "it has symbols of the user's own, which are taken before others", remedy)
    ordered = all(isinstance(score, float) for score in scores) and scores == sorted(scores, reverse=True)
    _require(ordered, "its symbols aren't ordered by score, as those of spm_train are", "train it anew")
    control = {name for name, kind in zip(names, kinds, strict=True) if kind in (_UNKNOWN, _CONTROL, _UNUSED)}
    first_byte = names.index("<0x00>") if _BYTE in kinds and "<0x00>" in names else None
    _require((first_byte is None) == (_BYTE not in kinds), "it lacks symbols of bytes", "train it anew")
    _check_bytes(names, first_byte)
    numbers = {name: i for i, (name, kind) in enumerate(zip(names, kinds, strict=True)) if kind == _NORMAL}
    units = {ord(" " if name == MARK else name): i for name, i in numbers.items() if len(name) == 1}
    lengths = {len(name) for name in numbers}
    pairs = {
        (numbers[name[:at]], numbers[name[at:]]): i
        for name, i in numbers.items()
        for at in lengths
        if 0 < at < len(name) and name[:at] in numbers and name[at:] in numbers
    }
    texts = [_text(name, control, False, kind == _BYTE) for name, kind in zip(names, kinds, strict=True)]
    flags = (PREFIX if normalizer.get(3, 1) else 0) | (TRIM if normalizer.get(4, 1) else 0)
    unknown = kinds.index(_UNKNOWN) if _UNKNOWN in kinds and first_byte is None else None
    return TokenTable(texts, units, pairs, flags, unknown, first_byte)


def _name(content: Any) -> str:
    try:
        return str(content, "utf-8")
    except (UnicodeDecodeError, TypeError):
        raise TokenizerError(f"{MODEL_FILE}: a symbol is not UTF-8: copy it again") from None


def _fields(content: Any) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer's message: numbers, and values as integers, floats or bytes."""
    if not isinstance(content, bytes):
        raise TokenizerError(f"{MODEL_FILE}: not a model of SentencePiece: copy it again")
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        if key & 7 == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(key & 7)
        if key & 7 == 2:
            size, at = _varint(content, at)
        if size is None or at + size > len(content):
            raise TokenizerError(f"{MODEL_FILE}: ends within a field, or is no model of SentencePiece: copy it again")
        part = content[at : at + size]
        yield key >> 3, struct.unpack("<f", part)[0] if key & 7 == 5 else part
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        value |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:
            return value, at
    raise TokenizerError(f"{MODEL_FILE}: ends within a number, or is no model of SentencePiece: copy it again")
