"""LoRA of language models: modules are found by name, and change the same in float, in integers and in files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_checkpoints import GPT2, LLAMA, write_model

import edgelora
from edgelora.core.formats.ela import Adapter, AdapterLayer
from edgelora.core.formats.elm import base_id, unpack_model
from edgelora.model.datasets.text import windows
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.importers import peft
from edgelora.model.importers.safetensors import read_safetensors, write_safetensors
from edgelora.model.quantization.adapter_fit import real_change
from edgelora.model.quantization.fidelity import compare_adapter
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


def changed_by_hand(net: FloatNet, lora: Path) -> np.ndarray:
    """Logits of the network whose weights a LoRA changes, by the layers' own names."""
    tensors = read_safetensors(lora / "adapter_model.safetensors")
    made = []
    for layer in net.layers:
        whole, _, part = layer.name.partition(":")
        key = f"base_model.model.{whole}.lora_"
        if layer.weights is not None and f"{key}A.weight" in tensors:
            a, b = tensors[f"{key}A.weight"], tensors[f"{key}B.weight"]
            scaling = 6 / RANK if whole.endswith("0.self_attn.q_proj") else 2 * RANK / len(a)
            change = scaling * (b @ a)
            if part:
                change = change.reshape(3, -1, change.shape[1])["qkv".index(part)]
            layer = replace(layer, weights=layer.weights + change[:, None, None])
        made.append(layer)
    return layers.predict(FloatNet(net.input_shape, made), windows(IDS[-500:], LENGTH, LENGTH).x)


LARGE = LLAMA | {"vocab_size": 300}  # ids of two bytes
LARGE_SIZES = LLAMA_SIZES | {"lm_head": (24, 300)}
CASES = [(LLAMA, LLAMA_SIZES, {}), (LARGE, LARGE_SIZES, {}), (GPT2, GPT2_SIZES, {"fan_in_fan_out": True})]


@pytest.mark.parametrize(("config", "sizes", "more"), CASES, ids=["llama", "two bytes", "gpt2"])
def test_modules_are_found_by_name(tmp_path: Path, config: dict, sizes: dict, more: dict) -> None:
    """Queries and outputs have one shape, so it does not tell them apart; the twin is near the float network."""
    lora = checkpoint(tmp_path / "lora", sizes, **more)
    made, net = base_of(tmp_path / "m", config, lora)
    modules, text = peft.load_checkpoint(lora), windows(IDS[-500:], LENGTH, LENGTH)
    wanted = changed_by_hand(net, lora)
    assert np.allclose(layers.predict(peft.with_lora(net, modules), text.x), wanted, atol=1e-4)
    found = peft.import_adapter(made.elm, modules, x=text.x, y=text.y, net=net)
    assert {fit.module: net.layers[fit.op].name for fit in found.fits} == {fit.module: fit.module for fit in found.fits}
    assert found.fidelity and found.fidelity.bits and found.fidelity.float_bits
    assert abs(found.fidelity.bits - found.fidelity.float_bits) < 0.02 and not found.fidelity.lost
    assert "bits a symbol: it" in found.fidelity.message("it")


@pytest.mark.parametrize(("config", "sizes", "more"), CASES, ids=["llama", "two bytes", "gpt2"])
def test_what_a_board_trained_is_the_same_for_peft(tmp_path: Path, config: dict, sizes: dict, more: dict) -> None:
    """An adapter on every matrix, exported, changes the float network's weights as on the board."""
    made, net = base_of(tmp_path / "m", config, checkpoint(tmp_path / "lora", sizes, **more))
    adapter = _trained(made)
    peft.export_adapter(adapter, made.model, tmp_path / "out", net=net)
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["fan_in_fan_out"] is ("n_embd" in config)
    modules = peft.load_checkpoint(tmp_path / "out")
    assert all(module.a.ndim == 2 for module in modules)
    if "n_embd" in config:
        assert {len(module.a) for module in modules if module.name.endswith("c_attn")} == {3 * 2}
    merged = peft.with_lora(net, modules)
    for layer in adapter.layers:
        before, after = net.layers[layer.op].weights, merged.layers[layer.op].weights
        assert before is not None and after is not None
        change = real_change(made.model, layer)
        assert np.allclose((after - before).reshape(change.shape), change, atol=1e-5 * np.abs(change).max() + 1e-7)
    text = windows(IDS[-500:], LENGTH, LENGTH)
    near = compare_adapter(made.elm, adapter, layers.predict(merged, text.x), text.x, text.y)
    assert near.bits and near.float_bits and abs(near.bits - near.float_bits) < 0.02


def _trained(made: Quantized, rank: int = 2) -> Adapter:
    """An adapter of small random integers on every matrix."""
    rng, model = np.random.default_rng(2), unpack_model(made.elm)
    adapter = Adapter(base_id(made.elm), 0, a_stored=True)
    for index, op in enumerate(model.ops):
        if op.is_matrix and op.weights is not None:
            a = rng.integers(-127, 128, (rank, op.weights[0].size)).astype(np.int8)
            b = rng.integers(-9, 10, (len(op.weights), rank)).astype(np.int8)
            adapter.layers.append(AdapterLayer(index, a, b, op.t_shift, op.branch_shift))
    return adapter


def test_parts_with_one_a_are_one_module_again(tmp_path: Path) -> None:
    lora = checkpoint(tmp_path / "lora", GPT2_SIZES)
    made, net = base_of(tmp_path / "m", GPT2, lora)
    adapter = _trained(made)
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
