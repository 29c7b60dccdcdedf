"""Tables of tokenizers against `tokenizers` and `sentencepiece`, on drawn text."""

import io
import json
import random
from collections.abc import Callable, Iterator

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from edgelora.core.twin import device
from edgelora.model.importers.tokenizers import TokenizerError, of_json, of_sentencepiece

TEXT = "the people of these states, who said: it's ours; we'll go on in 1789 to the End (and then?) être naïve ñu"
WORDS = TEXT.split()
ALPHABET = "abcdefgh thingoer's 'll 0123456789 \n\n\t.,;:!?-()\"'éüñßœ“”—…½²\u00a0日本😀\u2581"
CORPUS = [" ".join(random.Random(i).choices(WORDS, k=12)) for i in range(400)]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def drawn(count: int = 1500) -> Iterator[str]:
    rng = random.Random(1)
    for _ in range(count):
        characters = ["".join(rng.choices(ALPHABET, k=rng.randrange(60)))]
        words = rng.choices([*WORDS, " ", "  ", "\n", *ALPHABET], k=rng.randrange(20))
        yield "".join(rng.choice((characters, words, [" ".join(words)])))


def of_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>"]
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=special)
    )
    return made


def of_llama() -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    marks = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    made.normalizer = normalizers.Sequence(marks)
    special = ["<unk>", "<s>", "</s>"]
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=480, special_tokens=[*special, *BYTES]))
    found = json.loads(made.to_str())
    found["added_tokens"] = [one for one in found["added_tokens"] if one["content"] in special]
    return Tokenizer.from_str(json.dumps(found))


def of_metaspace(scheme: str, split: bool) -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"]))
    return made


def of_level_unknown() -> Tokenizer:
    """Of bytes, all of which it knows, so that its symbol of unknown ones is none of any text."""
    found = json.loads(of_level().to_str())
    found["model"]["unk_token"] = "<|endoftext|>"
    return Tokenizer.from_str(json.dumps(found))


HUGGING_FACE: dict[str, Callable[[], Tokenizer]] = {
    "bytes": of_level,
    "bytes, unknown": of_level_unknown,
    "llama": of_llama,
    "metaspace": lambda: of_metaspace("always", True),
    "metaspace, never": lambda: of_metaspace("never", True),
    "metaspace, whole": lambda: of_metaspace("first", False),
}


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_tables_encode_as_tokenizers_does(name: str) -> None:
    made = HUGGING_FACE[name]()
    table = of_json(made.to_str().encode())
    tokens = device.module("tokens").Tokens(table.pack())
    assert len(table.pairs) > 50
    for text in drawn():
        wanted = made.encode(text, add_special_tokens=False).ids
        assert tokens.encode(text) == wanted, text
        if name.startswith("bytes"):
            assert tokens.decode(wanted).decode() == text


def test_unknown_characters_in_a_row_are_one_symbol_or_refused() -> None:
    found = json.loads(of_metaspace("always", True).to_str())
    text = "the 日本 z日z"
    one = device.module("tokens").Tokens(of_json(json.dumps(found).encode()).pack())
    assert one.encode(text) == Tokenizer.from_str(json.dumps(found)).encode(text).ids
    found["model"]["fuse_unk"] = False
    assert one.encode(text) != Tokenizer.from_str(json.dumps(found)).encode(text).ids
    with pytest.raises(TokenizerError, match="set fuse_unk to true"):
        of_json(json.dumps(found).encode())


@pytest.mark.parametrize(
    "fields",
    [{"byte_fallback": True}, {}, {"remove_extra_whitespaces": False}, {"add_dummy_prefix": False}],
    ids=str,
)
def test_tables_encode_as_sentencepiece_does(fields: dict) -> None:
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        **{"sentence_iterator": iter(CORPUS), "model_writer": file, "model_type": "bpe", "minloglevel": 2},
        **{"vocab_size": 400 if fields.get("byte_fallback") else 140, "normalization_rule_name": "identity"},
        **fields,
    )
    reference = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    tokens = device.module("tokens").Tokens(of_sentencepiece(file.getvalue()).pack())
    for text in drawn():
        wanted = reference.encode(text)
        assert tokens.encode(text) == wanted, text
        if fields.get("byte_fallback"):
            assert tokens.decode(wanted).decode() == reference.decode(wanted)
