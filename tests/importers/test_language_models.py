"""Language models from Hugging Face's files: quantized near their float networks, and others refused by name."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import edgelora as command
from commands import result
from language_checkpoints import GPT2, LLAMA, Tensors, gpt2_tensors, llama_tensors, write_model

import edgelora
from edgelora.core.formats.elm import unpack_model
from edgelora.model.datasets.text import SYMBOLS
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.files import load_net
from edgelora.model.importers.language_models import LanguageModelError, load_language_model
from edgelora.model.importers.tokenizers import encode

Q, HEAD = "model.layers.0.self_attn.q_proj.weight", "lm_head.weight"


def text(symbols: int = 96, count: int = 2000) -> np.ndarray:
    return np.random.default_rng(0).integers(0, symbols, count)


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_the_twin_is_near_the_float_model(tmp_path: Path, config: dict) -> None:
    made = edgelora.from_language_model(write_model(tmp_path / "m", config), text(count=12000), 32)
    quality = made.report
    assert made.model.symbols == 96 and made.model.input.shape[1] == 32
    assert quality.float_bits and quality.int8_bits and abs(quality.int8_bits - quality.float_bits) < 0.012
    assert quality.agreement and quality.agreement > 0.85
    made.save(tmp_path / "base.elm")
    saved = load_net(tmp_path / "base.float.npz")
    x = text(96, 64).reshape(2, 1, 32, 1).astype(np.float32)
    assert np.array_equal(layers.predict(saved, x), layers.predict(load_language_model(tmp_path / "m", 32), x))


def test_an_untied_head_and_epsilon_count(tmp_path: Path) -> None:
    tensors = llama_tensors(LLAMA)
    x = text(96, 32).reshape(1, 1, 32, 1).astype(np.float32)
    tied = layers.predict(load_language_model(write_model(tmp_path / "a", LLAMA), 32), x)
    own = tensors | {HEAD: 2 * tensors["model.embed_tokens.weight"]}
    untied = write_model(tmp_path / "b", LLAMA | {"tie_word_embeddings": False}, own)
    assert np.allclose(layers.predict(load_language_model(untied, 32), x), 2 * tied, atol=1e-4)
    large = load_language_model(write_model(tmp_path / "c", LLAMA | {"rms_norm_eps": 0.5}), 32)
    assert not np.allclose(layers.predict(large, x), tied, atol=0.1)


def test_the_command_reports_bits(tmp_path: Path) -> None:
    """Of a text with characters that the model doesn't know."""
    folder = write_model(tmp_path / "m", LLAMA)
    (tmp_path / "t.txt").write_text("".join(SYMBOLS[i] for i in text()) + "é…")
    found = result(*("import", folder, "--text", tmp_path / "t.txt", "--length", 16, "-o", tmp_path / "base.elm"))
    assert abs(found["quality"]["float_bits"] - found["quality"]["int8_bits"]) < 0.012
    table = (tmp_path / "base.elt").read_bytes()
    assert np.array_equal(encode(table, (tmp_path / "t.txt").read_text()), text())
    model = unpack_model((tmp_path / "base.elm").read_bytes())
    assert model.input.shape == (1, 16, 1) and load_net(tmp_path / "base.float.npz").base_id.hex() == found["base_id"]


def test_a_refused_model_changes_no_file(tmp_path: Path) -> None:
    folder, base = write_model(tmp_path / "m", LLAMA), tmp_path / "base.elm"
    (tmp_path / "base.elt").write_bytes(b"of the model before")
    (tmp_path / "t.txt").write_text("too short")
    given = ("import", folder, "--text", tmp_path / "t.txt", "-o", base)
    assert "give a longer text" in command(*given, code=1)
    assert "--length is its only other option" in command(*given, "--fused", code=1)
    assert (tmp_path / "base.elt").read_bytes() == b"of the model before" and not base.exists()


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def changed(name: str, value: np.ndarray) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: value.astype(np.float32)}


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (LLAMA | {"model_type": "bloom"}, dict, "model_type is 'bloom'"),
        (LLAMA | {"vocab_size": 50257}, dict, "vocab_size is 50257, the limit is 1024"),
        (LLAMA | {"hidden_size": "24"}, dict, "hidden_size is '24', must be a whole number"),
        (LLAMA | {"hidden_size": True}, dict, "hidden_size is True, must be a whole number"),
        (LLAMA | {"num_hidden_layers": None}, dict, "num_hidden_layers is missing"),
        (LLAMA | {"num_key_value_heads": 3}, dict, "4 heads can't share 3 heads"),
        (LLAMA | {"num_key_value_heads": 8}, dict, "4 heads can't share 8 heads of keys evenly: train a model whose"),
        (LLAMA | {"head_dim": 66}, dict, "a head has 66 channels, the limit is 64"),
        (LLAMA | {"head_dim": 7}, dict, "can't be rotated in pairs"),
        (LLAMA | {"rms_norm_eps": float("nan")}, dict, "rms_norm_eps is nan, must be a positive number"),
        (LLAMA | {"rms_norm_eps": 10**1000}, dict, r"rms_norm_eps is 10{59}\.\.\., must be a positive number below"),
        (LLAMA | {"hidden_act": "relu2"}, dict, "hidden_act is 'relu2'; these are supported: silu"),
        (LLAMA | {"rope_scaling": {"type": "linear", "factor": 2}}, dict, "rope_scaling is .* isn't supported"),
        (LLAMA | {"rope_parameters": {"rope_type": "yarn"}}, dict, "rope_parameters are .*yarn"),
        (LLAMA | {"partial_rotary_factor": 0.5}, dict, "partial_rotary_factor is 0.5, which isn't supported"),
        (LLAMA | {"quantization_config": {"bits": 4}}, dict, "quantization_config is .* isn't supported"),
        (LLAMA | {"sliding_window": 8}, dict, "sliding_window is 8, shorter than 32"),
        (LLAMA | {"tie_word_embeddings": 1}, dict, "tie_word_embeddings is 1, must be true or false"),
        (LLAMA | {"tie_word_embeddings": False}, dict, "has no tensor lm_head.weight"),
        (LLAMA, changed(HEAD, np.ones((96, 24))), "lm_head.weight differs from model.embed_tokens.weight"),
        (LLAMA, without(Q), f"has no tensor {Q}"),
        (LLAMA, changed(Q, np.ones((24, 23))), r"is \[24, 23\], by config.json it is \[24, 24\]"),
        (LLAMA, changed(Q, np.full((24, 24), np.inf)), "has values that are not finite"),
        (
            LLAMA,
            changed("model.layers.0.self_attn.q_norm.weight", np.ones(24)),
            "has tensors that are no part of .* such as .*q_norm.weight: merge",
        ),
        (GPT2 | {"n_head": 5}, dict, "n_embd 24 is no multiple of n_head 5"),
        (GPT2 | {"n_positions": 16}, dict, "a length of 32: the model was made for at most 16"),
        (GPT2 | {"scale_attn_weights": False}, dict, "scale_attn_weights is False, which isn't supported"),
        (GPT2 | {"scale_attn_by_inverse_layer_idx": True}, dict, "train a model where it is false"),
        (GPT2, without("transformer.h.1.mlp.c_fc.bias"), "has no tensor transformer.h.1.mlp.c_fc.bias"),
    ],
)
def test_refusals_name_the_setting_or_tensor(
    tmp_path: Path, config: dict, change: Callable[[Tensors], Tensors], message: str
) -> None:
    tensors = gpt2_tensors(GPT2) if config["model_type"] == "gpt2" else llama_tensors(LLAMA)
    with pytest.raises(LanguageModelError, match=message):
        load_language_model(write_model(tmp_path, config, change(tensors)), 32)


def test_masks_of_older_files_are_ignored(tmp_path: Path) -> None:
    """GPT-2's causal mask was saved as bytes, and with `masked_bias`, which is empty here."""
    x = text(96, 32).reshape(1, 1, 32, 1).astype(np.float32)
    wanted = layers.predict(load_language_model(write_model(tmp_path, GPT2), 32), x)
    data = (tmp_path / "model.safetensors").read_bytes()
    at = 8 + struct.unpack_from("<Q", data)[0]
    header, end = json.loads(data[8:at]), len(data) - at
    header["transformer.h.0.attn.bias"] = {"dtype": "U8", "shape": [1, 1, 4, 4], "data_offsets": [end, end + 16]}
    header["transformer.h.0.attn.masked_bias"] = {"dtype": "F32", "shape": [0], "data_offsets": [end + 16, end + 16]}
    content = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(content)) + content + data[at:] + bytes(16))
    assert np.array_equal(layers.predict(load_language_model(tmp_path, 32), x), wanted)


@pytest.mark.parametrize("content", ["", "[1]", "[" * 100000, '{"model_type": 3}'])
def test_damaged_settings_are_told(tmp_path: Path, content: str) -> None:
    write_model(tmp_path, LLAMA)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(LanguageModelError, match="config.json"):
        load_language_model(tmp_path)


def test_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match="config.json is missing: give the folder"):
        load_language_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with pytest.raises(LanguageModelError, match="has no model.safetensors: save the model with"):
        load_language_model(tmp_path)


@pytest.mark.parametrize(
    ("ids", "message"),
    [(text(96, 128), "a text of 128 symbols; windows of 16 need more than 128"), (text(97), "the model knows 96")],
)
def test_texts_that_do_not_fit(tmp_path: Path, ids: np.ndarray, message: str) -> None:
    with pytest.raises(LanguageModelError, match=message):
        edgelora.from_language_model(write_model(tmp_path, LLAMA), ids, 16)
