"""Language models and LoRA of Transformers and PEFT: the same logits from their files, and from ours."""

import json
from pathlib import Path

import numpy as np
import peft as hugging_face
import pytest
import torch
import transformers
from language_checkpoints import drawn_adapter

import edgelora
from edgelora.model.datasets.text import windows
from edgelora.model.floatnet import layers
from edgelora.model.importers import peft
from edgelora.model.importers.language_models import load_language_model
from edgelora.model.quantization.adapter_fit import real_change
from edgelora.model.quantization.fidelity import compare_adapter

LENGTH, SYMBOLS = 32, 96
IDS = np.random.default_rng(0).integers(0, SYMBOLS, 3000)
LLAMA = {
    **{"vocab_size": SYMBOLS, "hidden_size": 32, "intermediate_size": 52, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64},
}
STORIES = LLAMA | {  # the shape of stories260K
    **{"vocab_size": 512, "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 5},
    **{"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512},
}
GPT2 = {
    **{"vocab_size": SYMBOLS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    **{"bos_token_id": None, "eos_token_id": None},
}
MODELS = {
    "stories260K": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**STORIES, tie_word_embeddings=True)),
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True, head_dim=12, rms_norm_eps=1e-3)
    ),
    "two bytes": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA | {"vocab_size": 300})),
    "rope": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**LLAMA, rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    ),
    "mistral": lambda: transformers.MistralForCausalLM(transformers.MistralConfig(**LLAMA, sliding_window=LENGTH)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**LLAMA)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),
    "gpt2-untied": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**GPT2, n_inner=40, tie_word_embeddings=False, layer_norm_epsilon=1e-2)
    ),
}


def made(name: str, seed: int = 0) -> torch.nn.Module:
    """A model with weights as after training: gains other than 1, biases other than 0."""
    model, generator = MODELS[name]().eval(), torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.ndim == 1:
            tensor.add_(torch.empty_like(tensor).uniform_(-0.4, 0.4, generator=generator))
        else:
            tensor.normal_(0, 0.2, generator=generator)
    return model


def logits(model: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(x[:, 0, :, 0].astype(np.int64))).logits.numpy().reshape(len(x), -1)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_the_same(tmp_path: Path, name: str) -> None:
    model = made(name)
    model.save_pretrained(tmp_path)
    x = windows(IDS[:200], LENGTH, LENGTH).x
    found = layers.predict(load_language_model(tmp_path, LENGTH), x)
    assert np.abs(found - logits(model, x)).max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    made("llama").to(dtype).save_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    x = windows(IDS[:200], LENGTH, LENGTH).x
    found = layers.predict(load_language_model(tmp_path, LENGTH), x)
    assert np.abs(found - logits(model, x)).max() < 1e-4


LORAS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"],
    "two bytes": ["q_proj", "lm_head"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


def with_lora(name: str, seed: int = 1) -> torch.nn.Module:
    """A model with a LoRA as after training, of uneven ranks and scalings."""
    config = hugging_face.LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": LORAS[name], "fan_in_fan_out": name == "gpt2"},
        **{"rank_pattern": {"o_proj": 2, "h.0.mlp.c_proj": 3}, "alpha_pattern": {"layers.0.self_attn.q_proj": 2}},
    )
    model = hugging_face.get_peft_model(made(name), config).eval()
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in model.state_dict().items():
        if "lora_B" in key:
            tensor.normal_(0, 0.03, generator=generator)
    return model


@pytest.mark.parametrize("name", LORAS)
def test_lora_of_peft_on_the_chip(tmp_path: Path, name: str) -> None:
    """The float network with LoRA is PEFT's, and the integers are near it."""
    model = with_lora(name)
    made(name).save_pretrained(tmp_path / "m")
    model.save_pretrained(tmp_path / "lora")
    text = windows(IDS[-700:], LENGTH, LENGTH)
    base = edgelora.from_language_model(tmp_path / "m", IDS, LENGTH, loras=[tmp_path / "lora"])
    modules = peft.load_checkpoint(tmp_path / "lora")
    wanted = logits(model, text.x)
    assert base.net and np.abs(layers.predict(peft.with_lora(base.net, modules), text.x) - wanted).max() < 1e-4
    imported = peft.import_adapter(base.elm, modules, x=text.x, y=text.y, net=base.net)
    assert all(base.net.layers[fit.op].name == fit.module for fit in imported.fits)
    found = imported.fidelity
    assert found and found.bits and found.float_bits and abs(found.bits - found.float_bits) < 0.02
    assert not found.lost and "bits a symbol: it" in found.message("it")


@pytest.mark.parametrize("name", LORAS)
def test_an_adapter_of_the_chip_in_peft(tmp_path: Path, name: str) -> None:
    """PEFT loads it, knows every module, and computes what the float network with it does."""
    plain = made(name)
    plain.save_pretrained(tmp_path / "m")
    base = edgelora.from_language_model(tmp_path / "m", IDS, LENGTH)
    adapter = drawn_adapter(base.elm)
    peft.export_adapter(adapter, base.model, tmp_path / "out", net=base.net)
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["fan_in_fan_out"] is (name == "gpt2")  # PEFT warns otherwise
    loaded = hugging_face.PeftModel.from_pretrained(plain, tmp_path / "out").eval()
    text = windows(IDS[-700:], LENGTH, LENGTH)
    wanted = logits(loaded, text.x)
    assert base.net and np.abs(wanted - layers.predict(base.net, text.x)).max() > 0.1
    merged = peft.with_lora(base.net, peft.load_checkpoint(tmp_path / "out"))
    assert np.abs(layers.predict(merged, text.x) - wanted).max() < 1e-4
    for layer in adapter.layers:
        before, after = base.net.layers[layer.op].weights, merged.layers[layer.op].weights
        change = real_change(base.model, layer)
        assert np.allclose((after - before).reshape(change.shape), change, atol=1e-5 * np.abs(change).max() + 1e-7)
    near = compare_adapter(base.elm, adapter, wanted, text.x, text.y)
    assert near.bits and near.float_bits and abs(near.bits - near.float_bits) < 0.02
