"""LoRA of language models: modules are found by name, and change the same in float, in integers and in files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_checkpoints import GPT2, LLAMA, drawn_adapter, write_model

import edgelora
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.importers import peft
from edgelora.model.importers.safetensors import write_safetensors
from edgelora.model.quantization.quantize import Quantized

IDS = np.random.default_rng(0).integers(0, 96, 3000)
LENGTH, RANK = 24, 3
LLAMA_SIZES = {
    "model.layers.0.self_attn.q_proj": (24, 24),
    "model.layers.1.self_attn.o_proj": (24, 24),
    "model.layers.1.self_attn.v_proj": (24, 12),
    "model.layers.0.mlp.up_proj": (24, 40),
    "model.layers.1.mlp.down_proj": (40, 24),
    "lm_head": (24, 96),
}
GPT2_SIZES = {
    "transformer.h.0.attn.c_attn": (24, 72),
    "transformer.h.1.attn.c_proj": (24, 24),
    "transformer.h.0.mlp.c_fc": (24, 96),
}


def checkpoint(folder: Path, sizes: dict[str, tuple[int, int]], **more: Any) -> Path:
    """A LoRA of random factors on modules of these (inputs, outputs)."""
    rng, tensors = np.random.default_rng(5), {}
    for name, (inputs, outputs) in sizes.items():
        rank = 2 if name.endswith("o_proj") else RANK
        tensors[f"base_model.model.{name}.lora_A.weight"] = rng.normal(0, 0.3, (rank, inputs)).astype(np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = rng.normal(0, 0.1, (outputs, rank)).astype(np.float32)
    folder.mkdir(parents=True)
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    patterns = {"rank_pattern": {"o_proj": 2}, "alpha_pattern": {"layers.0.self_attn.q_proj": 6}}
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, **patterns} | more
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def base_of(folder: Path, config: dict[str, Any], lora: Path) -> tuple[Quantized, FloatNet]:
    made = edgelora.from_language_model(write_model(folder, config), IDS, LENGTH, loras=[lora])
    assert made.net is not None
    return made, made.net


def test_parts_with_one_a_are_one_module_again(tmp_path: Path) -> None:
    lora = checkpoint(tmp_path / "lora", GPT2_SIZES)
    made, net = base_of(tmp_path / "m", GPT2, lora)
    adapter = drawn_adapter(made.elm)
    parts = [layer for layer in adapter.layers if net.layers[layer.op].name.startswith("transformer.h.1.attn.c_attn")]
    q, _, v = parts
    v.a[:] = q.a
    adapter.layers = [q, v]  # the keys have no adapter
    peft.export_adapter(adapter, made.model, tmp_path / "out", net=net)
    [module] = peft.load_checkpoint(tmp_path / "out")
    assert module.name == "transformer.h.1.attn.c_attn" and module.a.shape == (2, 24)
    assert not module.b[24:48].any() and module.b[:24].any() and module.b[48:].any()


def test_without_names_a_transformer_refuses(tmp_path: Path) -> None:
    lora = checkpoint(tmp_path / "lora", LLAMA_SIZES)
    made, net = base_of(tmp_path / "m", LLAMA, lora)
    with pytest.raises(peft.PeftError, match="give --net, the float network that `import` wrote"):
        peft.import_adapter(made.elm, peft.load_checkpoint(lora))
    wrong = checkpoint(tmp_path / "wrong", {"transformer.h.0.attn.c_attn": (24, 71)})
    gpt2, net = base_of(tmp_path / "g", GPT2, checkpoint(tmp_path / "right", GPT2_SIZES))
    with pytest.raises(peft.PeftError, match="has 71 outputs, its layers have 72"):
        peft.import_adapter(gpt2.elm, peft.load_checkpoint(wrong), net=net)
