"""Tokenizers as tables for boards: what text becomes, damage, and files that can't be a table."""

import json
import random
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelora.core.formats.elt import BYTES, CUT, ONCE, PREFIX, TRIM, WORDS, TokenTable
from edgelora.core.formats.envelope import FormatError
from edgelora.core.twin import device
from edgelora.model.datasets import text
from edgelora.model.importers import tokenizers
from edgelora.model.importers.tokenizers import TokenizerError, load_tokenizer, of_json, of_sentencepiece

BYTE_NAMES = sorted(tokenizers._BYTES, key=tokenizers._BYTES.__getitem__)
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def of_bytes(**changes: Any) -> dict[str, Any]:
    """A tokenizer of bytes that merges "th", "the" and " the"."""
    vocabulary = {name: i for i, name in enumerate([*BYTE_NAMES, "th", "the", "Ġthe"])}
    model = {"type": "BPE", "vocab": vocabulary, "merges": ["t h", ["th", "e"], "Ġ the"]}
    return {"model": model, "pre_tokenizer": LEVEL, "normalizer": None, "added_tokens": []} | changes


def tokens(table: TokenTable | bytes) -> Any:
    return device.module("tokens").Tokens(table if isinstance(table, bytes) else table.pack())


def read(found: dict[str, Any]) -> TokenTable:
    return of_json(json.dumps(found).encode())


def test_pairs_are_merged_within_words() -> None:
    one = tokens(read(of_bytes()))
    assert one.encode("the  the th") == [257, 32, 258, 32, 256]
    assert one.encode("thé") == [256, 0xC3, 0xA9]
    assert one.decode(one.encode("the  thé\n")) == "the  thé\n".encode()
    assert one.encode("") == [] and one.decode([]) == b""


def proto(number: int, value: int | bytes) -> bytes:
    def varint(rest: int) -> bytes:
        return bytes([rest & 127 | 128]) + varint(rest >> 7) if rest > 127 else bytes([rest])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sentencepiece(names: list[tuple[str, int]], rule: bytes = b"identity", kind: int = 2, step: float = -1) -> bytes:
    """step: from a piece's score to that of the next."""
    scores = [struct.pack("<f", step * i) for i in range(len(names))]
    pieces = [
        proto(1, proto(1, name.encode()) + b"\x15" + score + proto(3, of))
        for (name, of), score in zip(names, scores, strict=True)
    ]
    return b"".join([*pieces, proto(2, proto(3, kind)), proto(3, proto(1, rule))])


PIECES = [("<unk>", 2), ("<s>", 3), *((f"<0x{byte:02X}>", 6) for byte in range(256))]
LEARNED = [("▁a", 1), ("ba", 1), ("▁", 1), ("a", 1), ("b", 1)]  # noqa: RUF001


def test_a_long_symbol_takes_no_time() -> None:
    start = time.process_time()
    table = of_sentencepiece(sentencepiece([*LEARNED, ("ab" * 150_000, 1)]))
    assert len(table.texts) == 6 and time.process_time() - start < 2


def test_without_a_file_symbols_are_bytes_or_characters(tmp_path: Path) -> None:
    characters = load_tokenizer(tmp_path, 96).pack()
    said = "Héllo\n~"
    assert np.array_equal(tokenizers.encode(characters, said), text.encode("Hllo\n~"))
    assert tokenizers.encode(load_tokenizer(tmp_path, 256).pack(), said).tolist() == list(said.encode())
    with pytest.raises(TokenizerError, match=r"has no tokenizer.json or tokenizer.model: save the tokenizer"):
        load_tokenizer(tmp_path, 97)
    (tmp_path / "tokenizer.json").write_text(json.dumps(of_bytes()))
    with pytest.raises(TokenizerError, match="has 259 symbols, the model knows 256"):
        load_tokenizer(tmp_path, 256)


LONG = ["aaa a  aa a" * 5, "aaaaaaa  b " * 5, "aaaaaaa \u2581b\u2581 \n a \n\na " * 5, "aaaaaaaa ", " " * 9 + "b"]


@pytest.mark.parametrize(
    "flags", [0, PREFIX, PREFIX | ONCE, CUT, PREFIX | ONCE | CUT, TRIM, PREFIX | TRIM, BYTES | WORDS]
)
@pytest.mark.parametrize("said", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("pairs", [{(0, 1): 2}, {(0, 1): 2, (1, 0): 5}, {(0, 0): 6, (3, 0): 7, (0, 1): 2}], ids=str)
def test_a_long_text_is_encoded_in_parts(
    flags: int, said: str, pairs: dict[tuple[int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs that reach across spaces, too, where the table allows it."""
    units, made = {32: 0, 97: 1, 98: 3, 10: 4}, {1, 0, 2, 3, 4} | set(pairs.values())
    texts = [b" ", b"a", b" a", b"b", b"\n", b"a ", b"  ", b"b "]
    table = TokenTable([text if i in made else b"" for i, text in enumerate(texts)], units, pairs, flags)
    whole = tokens(table).encode(said)
    monkeypatch.setattr(tokenizers, "AT_ONCE", 7)
    assert tokenizers.encode(table.pack(), said).tolist() == whole


def test_damage_is_told() -> None:
    """Any byte that changes is refused; so is what breaks a rule with a right CRC."""
    good = read(of_bytes()).pack()
    rng = random.Random(1)
    for at in [*range(32), *(rng.randrange(len(good)) for _ in range(64))]:
        with pytest.raises(ValueError, match="elt"):
            tokens(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
        with pytest.raises(ValueError, match="elt"):
            tokens(good[:at])


BROKEN = {
    "a unit of no symbol": TokenTable([b"a"], {97: 1}),
    "a pair of no symbol": TokenTable([b"a"], {97: 0}, {(1, 0): 0}),
    "a pair that makes none": TokenTable([b"a"], {97: 0}, {(0, 0): 1}),
    "unknown is none": TokenTable([b"a"], {97: 0}, unknown=1),
    "bytes beyond the last": TokenTable([b"a"] * 256, {97: 0}, first_byte=1),
    "a flag of later": TokenTable([b"a"], {97: 0}, flags=64),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rules_are_told(name: str) -> None:
    with pytest.raises(ValueError, match="breaks a rule"):
        tokens(BROKEN[name])


def test_tables_that_are_too_large() -> None:
    with pytest.raises(FormatError, match="1025 symbols: the limit is 1024"):
        TokenTable([b"a"] * 1025, {}).pack()
    with pytest.raises(FormatError, match="65535 bytes of text, 0 pairs and 1 units: the limit of each is 65534"):
        TokenTable([b"a" * 65535], {97: 0}).pack()


def model(**changes: Any) -> Callable[[], TokenTable]:
    return lambda: read(of_bytes(model=of_bytes()["model"] | changes))


REFUSED: list[tuple[Callable[[], TokenTable], str]] = [
    (lambda: of_json(b"{"), "not valid JSON"),
    (lambda: of_json(b"[]"), "tokenizer.json: not a JSON object: copy it again"),
    (lambda: of_json(b'{"model": {}, "model": {}}'), "not valid JSON .a name appears twice.: copy it again"),
    (lambda: of_json(b'{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}'), "not a tokenizer of byte pairs"),
    (lambda: of_json(b'{"model": {"vocab": {"a": 0}, "merges": ["a b c"]}}'), "not a tokenizer of byte pairs"),
    (lambda: of_json(b'{"model": {"vocab": {"\\ud800": 0}, "merges": []}}'), "not a tokenizer of byte pairs"),
    (lambda: of_json(b'{"model": {"vocab": {"a": 0}, "merges": [], "unk_token": "a"}}'), "set fuse_unk to true"),
    (lambda: of_json(b'{"model": {"vocab": {}, "merges": []}}'), "it has no symbols: copy it again"),
    (model(type="WordPiece"), "its model is 'WordPiece': train one of kind BPE"),
    (model(dropout=0.1), "dropout is 0.1"),
    (model(dropout=10**1000), r"dropout is 10{59}\.\.\., which"),
    (model(end_of_word_suffix="</w>"), "end_of_word_suffix is '</w>'"),
    (model(merges=["Ġ the", "t h", "th e"]), "its merges are in another order"),
    (model(vocab={"a": 1}), "aren't numbered from 0"),
    (model(vocab={str(i): i for i in range(2000)}), "it has 2000 symbols, the limit is 1024"),
    (lambda: read(of_bytes(normalizer={"type": "NFC"})), "it normalizes text by NFC"),
    (lambda: read(of_bytes(pre_tokenizer={"type": "Whitespace"})), "it cuts text by Whitespace"),
    (lambda: read(of_bytes(pre_tokenizer=LEVEL | {"add_prefix_space": True})), "puts a space before a text"),
    (
        lambda: read(of_bytes(added_tokens=[{"id": 259, "content": "x", "special": False}])),
        "added tokens that are no special ones",
    ),
    (lambda: of_sentencepiece(b"\x0a\xff"), "ends within a"),
    (lambda: of_sentencepiece(b"\x08\x01" * 3), "not a model of SentencePiece"),
    (lambda: of_sentencepiece(b""), "it has no symbols"),
    (lambda: of_sentencepiece(proto(1, proto(1, 1 << 60))), "a symbol is not UTF-8: copy it again"),
    (lambda: of_sentencepiece(sentencepiece(LEARNED, step=1)), "aren't ordered by score, as those of spm_train"),
    (lambda: of_sentencepiece(sentencepiece(LEARNED, kind=1)), "it isn't of byte pairs"),
    (lambda: of_sentencepiece(sentencepiece(LEARNED, rule=b"nmt_nfkc")), "normalization_rule_name='identity'"),
    (lambda: of_sentencepiece(sentencepiece([*LEARNED, ("x", 4)])), "symbols of the user's own"),
    (lambda: of_sentencepiece(sentencepiece([*PIECES[:-1], *LEARNED])), "aren't one behind the other"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_tokenizers_that_are_refused(make: Callable[[], TokenTable], message: str) -> None:
    with pytest.raises(TokenizerError, match=message) as told:
        make()
    assert re.search(": (add|copy|set|train) [^:]*$", str(told.value))
