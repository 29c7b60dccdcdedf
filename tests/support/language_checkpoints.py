"""Language models of random weights in Hugging Face's files, written without its packages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.ela import Adapter, AdapterLayer
from edgelora.core.formats.elm import base_id, unpack_model
from edgelora.model.importers.safetensors import write_safetensors

Tensors = dict[str, NDArray[np.float32]]
LLAMA = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
GPT2 = {"model_type": "gpt2", "vocab_size": 96, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64}


def llama_tensors(config: dict[str, Any]) -> Tensors:
    width, hidden, heads = (config[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
    keys = config["num_key_value_heads"] * width // heads
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    for block in range(config["num_hidden_layers"]):
        at = f"model.layers.{block}"
        shapes |= {f"{at}.{name}.weight": (width,) for name in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (width, width) for name in "qo"}
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (keys, width) for name in "kv"}
        shapes |= {f"{at}.mlp.{name}_proj.weight": (hidden, width) for name in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (width, hidden)
    return _drawn(shapes)


def gpt2_tensors(config: dict[str, Any]) -> Tensors:
    width, shapes = config["n_embd"], {}
    shapes["transformer.wte.weight"] = (config["vocab_size"], width)
    shapes["transformer.wpe.weight"] = (config["n_positions"], width)
    norms = ["transformer.ln_f"]
    for block in range(config["n_layer"]):
        at = f"transformer.h.{block}"
        norms += [f"{at}.ln_1", f"{at}.ln_2"]
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            shapes |= {f"{at}.{name}.weight": (inputs, outputs), f"{at}.{name}.bias": (outputs,)}
    shapes |= {f"{name}.{part}": (width,) for name in norms for part in ("weight", "bias")}
    return _drawn(shapes)


def _drawn(shapes: dict[str, tuple[int, ...]]) -> Tensors:
    rng = np.random.default_rng(1)
    return {name: _values(rng, name, shape) for name, shape in shapes.items()}


def _values(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if name.endswith("weight") and len(shape) == 1:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    spread = 0.3 if "embed" in name or ".wte" in name else 0.2
    return rng.normal(0, spread, shape).astype(np.float32)


def write_model(folder: Path, config: dict[str, Any], tensors: Tensors | None = None) -> Path:
    """A folder with a model of this configuration, of random weights unless given."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = gpt2_tensors if config["model_type"] == "gpt2" else llama_tensors
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", drawn(config) if tensors is None else tensors)
    return folder


def drawn_adapter(elm: bytes) -> Adapter:
    """An adapter of small random integers on every matrix."""
    rng, adapter = np.random.default_rng(2), Adapter(base_id(elm), 0, a_stored=True)
    for index, op in enumerate(unpack_model(elm).ops):
        if op.is_matrix and op.weights is not None:
            a = rng.integers(-127, 128, (2, op.weights[0].size)).astype(np.int8)
            b = rng.integers(-9, 10, (len(op.weights), 2)).astype(np.int8)
            adapter.layers.append(AdapterLayer(index, a, b, op.t_shift, op.branch_shift))
    return adapter
