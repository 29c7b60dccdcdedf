"""Language models in Hugging Face's files, config.json and model.safetensors, as float networks.

Two families, by `model_type`: Llama's (RMSNorm, rotary positions, grouped keys, SwiGLU; Mistral and Qwen2 differ in
settings only) and GPT-2's (LayerNorm, learned positions, one matrix for queries, keys and values, GELU). Layers have
the modules' names, so LoRA of PEFT finds them. A module that becomes several layers has a part's name behind a colon:
`transformer.h.0.attn.c_attn:q`. Both files are untrusted: every tensor must be there, of its shape and finite, and
settings that would compute something else are refused.
Sources: the classes LlamaForCausalLM and GPT2LMHeadModel, https://huggingface.co/docs/transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats import limits
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.elt import TokenTable
from edgelora.core.formats.fixed_point import rotary_angles
from edgelora.core.twin.binding import check_model
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.text import WINDOW, windows
from edgelora.model.floatnet.attention import rotation
from edgelora.model.floatnet.functions import GELU, SILU, Smooth
from edgelora.model.floatnet.layers import FloatNet, Layer
from edgelora.model.quantization.quantize import Quantized, quantize
from edgelora.model.quantization.report import report

from . import peft
from .json_object import json_object, shown
from .safetensors import read_safetensors
from .tokenizers import encode, load_tokenizer

CONFIG_FILE, MODEL_FILE = "config.json", "model.safetensors"
REPORTED = 8  # one in so many windows of a text is kept for the report
MOST = 128  # windows that calibrate, and that are reported on, evenly spaced
HEAD_ROOM = 1.5  # of logits; classes' would need more
LLAMAS = ("llama", "mistral", "qwen2")
GELUS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
ACTIVATIONS = {"silu": SILU, "swish": SILU} | dict.fromkeys(GELUS, GELU)
IGNORED = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")  # buffers of older files

Tensor = NDArray[np.float32]


class LanguageModelError(EdgeloraError, ValueError):
    """A folder doesn't hold a language model that can be converted; the message says why and what to do."""


def load_language_model(folder: Path, length: int | None = None) -> FloatNet:
    """The float network of a folder's config.json and model.safetensors, [1, length, 1] to [1, length, symbols].

    length: `WINDOW`, or the model's longest if that is less. Raises LanguageModelError, SafetensorsError or OSError.
    """
    config = _Config(_settings(folder / CONFIG_FILE))
    if not (folder / MODEL_FILE).exists():
        raise LanguageModelError(
            f"{folder} has no {MODEL_FILE}: save the model with save_pretrained(folder, safe_serialization=True), in "
            "one file"
        )
    tensors = _Tensors(folder / MODEL_FILE)
    kind = config.text("model_type")
    if kind not in (*LLAMAS, "gpt2"):
        raise LanguageModelError(
            f"{CONFIG_FILE}: model_type is {shown(kind)}: {', '.join(LLAMAS)} and gpt2 are supported"
        )
    rows = _length(config, length, "n_positions" if kind == "gpt2" else "max_position_embeddings")
    layers = (_gpt2 if kind == "gpt2" else _llama)(config, tensors, rows)
    tensors.check_all_taken()
    return FloatNet((1, rows, 1), layers)


def from_language_model(
    folder: str | Path, text: str | NDArray[np.integer], length: int | None = None, loras: Sequence[str | Path] = ()
) -> Quantized:
    """Quantizes a language model of Hugging Face's files (`load_language_model`) to INT8.

    text: like those that the model will see, or its symbols' ids [n]. Every eighth window of it is kept for the report,
    which has bits a symbol of the float model and of the host twin; the others calibrate. loras: PEFT checkpoints
    trained on this model, whose activations the base's ranges then hold, too.

    Raises LanguageModelError, TokenizerError, PeftError or SafetensorsError, and ValueError for a text that is too
    short.
    """
    net = load_language_model(Path(folder), length)
    symbols = next(len(layer.weights) for layer in net.layers if layer.kind == "embed" and layer.weights is not None)
    ids = encode(tokens_of(folder).pack(), text) if isinstance(text, str) else text
    seen, kept = _windows(ids, net.input_shape[1], symbols)
    adapted = [peft.with_lora(net, peft.load_checkpoint(Path(path))) for path in loras]
    model = quantize(net, seen.x, head_room=HEAD_ROOM, adapted=adapted)
    elm = pack_model(model, "as .elm")
    check_model(elm)
    quality = report(net, elm, model, kept.x, kept.y)
    return Quantized(model, elm, quality, replace(net, base_id=base_id(elm)))


def tokens_of(folder: str | Path) -> TokenTable:
    """The tokenizer of a folder's model (`tokenizers.load_tokenizer`)."""
    symbols = _Config(_settings(Path(folder) / CONFIG_FILE)).whole("vocab_size", limits.MAX_SYMBOLS)
    return load_tokenizer(Path(folder), symbols)


def _windows(ids: NDArray[np.integer], length: int, symbols: int) -> tuple[Dataset, Dataset]:
    """Windows of a text to calibrate on, and to report on."""
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or len(ids) <= REPORTED * length:
        raise LanguageModelError(
            f"a text of {ids.size} symbols; windows of {length} need more than {REPORTED * length}: give a longer text"
        )
    if ids.min() < 0 or ids.max() >= symbols:
        raise LanguageModelError(
            f"the text has symbols from {ids.min()} to {ids.max()}, the model knows {symbols}: is it another model's "
            "tokenizer?"
        )
    every = windows(ids, length, length)
    last = np.arange(len(every)) % REPORTED == REPORTED - 1
    parts = (Dataset(every.x[chosen], every.y[chosen]) for chosen in (~last, last))
    seen, kept = (Dataset(part.x[:: -(-len(part) // MOST)], part.y[:: -(-len(part) // MOST)]) for part in parts)
    return seen, kept


# ---- settings --------------------------------------------------------------------------------------------------------


def _settings(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise LanguageModelError(f"{path} is missing: give the folder that save_pretrained wrote") from None
    return json_object(content, f"{path.name}:", LanguageModelError)


@dataclass(frozen=True)
class _Config:
    """Settings of config.json; None there is as if the setting were missing."""

    found: Mapping[str, Any]

    def text(self, name: str, default: str | None = None) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise LanguageModelError(f"{CONFIG_FILE}: {name} is {shown(value)}, must be a string")
        return value

    def whole(self, name: str, most: int, default: int | None = None) -> int:
        value = self._value(name, default)
        if type(value) is not int or value < 1:
            raise LanguageModelError(f"{CONFIG_FILE}: {name} is {shown(value)}, must be a whole number of at least 1")
        if value > most:
            raise LanguageModelError(
                f"{CONFIG_FILE}: {name} is {shown(value)}, the limit is {most}: use a smaller model"
            )
        return value

    def number(self, name: str, default: float) -> float:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise LanguageModelError(f"{CONFIG_FILE}: {name} is {shown(value)}, must be a positive number below 1e9")
        return float(value)

    def yes(self, name: str, default: bool) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise LanguageModelError(f"{CONFIG_FILE}: {name} is {shown(value)}, must be true or false")
        return value

    def function(self, name: str, default: str) -> Smooth:
        value = self.text(name, default)
        if value not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise LanguageModelError(f"{CONFIG_FILE}: {name} is {shown(value)}; these are supported: {known}")
        return ACTIVATIONS[value]

    def require(self, name: str, *allowed: Any) -> None:
        """Refuses a setting that is there and none of the allowed values."""
        value = self.found.get(name)
        if value is not None and value not in allowed:
            said = " or ".join(json.dumps(one) for one in allowed) or "left out"
            raise LanguageModelError(
                f"{CONFIG_FILE}: {name} is {shown(value)}, which isn't supported: train a model where it is {said}"
            )

    def _value(self, name: str, default: Any) -> Any:
        value = self.found.get(name)
        if value is None and default is None:
            raise LanguageModelError(f"{CONFIG_FILE}: {name} is missing: copy it again")
        return default if value is None else value


def _length(config: _Config, wanted: int | None, longest: str) -> int:
    """The length of windows, at most the model's own longest and that of attention here."""
    most = config.whole(longest, 1 << 24)
    length = min(WINDOW, most) if wanted is None else wanted
    if not 2 <= length <= min(most, limits.MAX_ATTENDED):
        raise LanguageModelError(
            f"a length of {length}: the model was made for at most {most}, attention here sees at most "
            f"{limits.MAX_ATTENDED}: choose a length from 2 to {min(most, limits.MAX_ATTENDED)}"
        )
    window = config.found.get("sliding_window")
    slides = window is not None and config.found.get("use_sliding_window") is not False
    if slides and (type(window) is not int or window < length):
        raise LanguageModelError(
            f"{CONFIG_FILE}: sliding_window is {shown(window)}, shorter than {length}: choose a length of at most "
            "that window"
        )
    return length


def _heads(queries: int, keys: int, size: int) -> tuple[int, int]:
    if queries % keys:
        raise LanguageModelError(
            f"{CONFIG_FILE}: {queries} heads can't share {keys} heads of keys evenly: train a model whose "
            "num_attention_heads is a multiple of num_key_value_heads"
        )
    if size > limits.MAX_HEAD:
        raise LanguageModelError(
            f"{CONFIG_FILE}: a head has {size} channels, the limit is {limits.MAX_HEAD}: use a model of more heads"
        )
    return queries, keys


# ---- tensors ---------------------------------------------------------------------------------------------------------


class _Tensors:
    """The tensors of a checkpoint, each taken by its name and shape."""

    def __init__(self, path: Path) -> None:
        self.file, self.left = path.name, read_safetensors(path, IGNORED)

    def take(self, name: str, *shape: int) -> Tensor:
        if name not in self.left:
            raise LanguageModelError(
                f"{self.file}: has no tensor {name}: is {CONFIG_FILE} that of another model? Copy both again"
            )
        found = self.left.pop(name)
        if found.shape != shape:
            raise LanguageModelError(
                f"{self.file}: {name} is {list(found.shape)}, by {CONFIG_FILE} it is {list(shape)}: copy both again"
            )
        if not np.isfinite(found).all():
            raise LanguageModelError(f"{self.file}: {name} has values that are not finite: train or copy it again")
        return found

    def optional(self, name: str, *shape: int) -> Tensor | None:
        return self.take(name, *shape) if name in self.left else None

    def check_all_taken(self) -> None:
        if self.left:
            raise LanguageModelError(
                f"{self.file}: has tensors that are no part of the model that {CONFIG_FILE} describes, such as "
                f"{min(self.left)}: merge or remove what was added to it, and save it again"
            )


# ---- networks --------------------------------------------------------------------------------------------------------


@dataclass
class _Graph:
    """Layers that are made one after the other; tensors are numbers as in `Layer.inputs`."""

    tensors: _Tensors
    layers: list[Layer] = field(default_factory=list)

    def add(self, layer: Layer, *inputs: int) -> int:
        self.layers.append(replace(layer, inputs=inputs))
        return len(self.layers)

    def matrix(self, name: str, weights: Tensor, bias: Tensor | None, *inputs: int) -> int:
        """A product with weights [out, in] at each position, added to a second input if there is one."""
        kind = "project" if len(inputs) > 1 else "conv"
        bias = np.zeros(len(weights), np.float32) if bias is None else bias
        return self.add(Layer(kind, weights=weights[:, None, None], bias=bias, name=name), *inputs)

    def linear(self, name: str, outputs: int, size: int, *inputs: int) -> int:
        """`matrix` of an nn.Linear."""
        weights = self.tensors.take(f"{name}.weight", outputs, size)
        return self.matrix(name, weights, self.tensors.optional(f"{name}.bias", outputs), *inputs)

    def norm(self, name: str, channels: int, epsilon: float, centred: bool, source: int) -> int:
        gain = self.tensors.take(f"{name}.weight", channels)
        bias = self.tensors.take(f"{name}.bias", channels) if centred else None
        return self.add(Layer("norm", weights=gain, bias=bias, centred=centred, epsilon=epsilon, name=name), source)

    def head(self, tied: str, own: str, table: Tensor, is_tied: bool, source: int) -> None:
        """Logits, by the embedding's own rows if tied; a file may hold these a second time."""
        weights = self.tensors.optional(own, *table.shape) if is_tied else self.tensors.take(own, *table.shape)
        if is_tied and weights is not None and not np.array_equal(weights, table):
            raise LanguageModelError(
                f"{self.tensors.file}: {own} differs from {tied}, but {CONFIG_FILE} says that they are tied: save the "
                "model again with tie_word_embeddings=False"
            )
        self.matrix(own.removesuffix(".weight"), table if weights is None else weights, None, source)


def _llama(config: _Config, tensors: _Tensors, rows: int) -> list[Layer]:
    """LlamaForCausalLM and relatives."""
    config.require("rope_scaling", {"type": "default"}, {"rope_type": "default"})
    config.require("quantization_config")
    config.require("partial_rotary_factor", 1.0)
    width, queries = config.whole("hidden_size", limits.MAX_STREAM), config.whole("num_attention_heads", 1024)
    keys = config.whole("num_key_value_heads", 1024, queries)
    size = config.whole("head_dim", limits.MAX_POSITIONS, max(1, width // queries))
    heads = _heads(queries, keys, size)
    if size % 2:
        raise LanguageModelError(f"{CONFIG_FILE}: a head has {size} channels, which can't be rotated in pairs")
    symbols, hidden = config.whole("vocab_size", limits.MAX_SYMBOLS), config.whole("intermediate_size", 1 << 14)
    epsilon, function = config.number("rms_norm_eps", 1e-6), config.function("hidden_act", "silu")
    turn = Layer("rotate", angles=rotation(rotary_angles(rows, size // 2, _rope_base(config))))
    graph = _Graph(tensors)
    table = tensors.take("model.embed_tokens.weight", symbols, width)
    h = graph.add(Layer("embed", weights=table, name="model.embed_tokens"), 0)
    for block in range(config.whole("num_hidden_layers", limits.MAX_OPS)):
        at = f"model.layers.{block}"
        normal = graph.norm(f"{at}.input_layernorm", width, epsilon, False, h)
        q, k, v = (
            graph.linear(f"{at}.self_attn.{side}_proj", count * size, width, normal)
            for side, count in (("q", queries), ("k", keys), ("v", keys))
        )
        seen = graph.add(Layer("attend", heads=heads, causal=True), graph.add(turn, q), graph.add(turn, k), v)
        h = graph.linear(f"{at}.self_attn.o_proj", width, queries * size, seen, h)
        normal = graph.norm(f"{at}.post_attention_layernorm", width, epsilon, False, h)
        gate = graph.linear(f"{at}.mlp.gate_proj", hidden, width, normal)
        up = graph.linear(f"{at}.mlp.up_proj", hidden, width, normal)
        fed = graph.add(Layer("multiply"), graph.add(Layer("lookup", function=function), gate), up)
        h = graph.linear(f"{at}.mlp.down_proj", width, hidden, fed, h)
    last = graph.norm("model.norm", width, epsilon, False, h)
    graph.head("model.embed_tokens.weight", "lm_head.weight", table, config.yes("tie_word_embeddings", False), last)
    return graph.layers


def _rope_base(config: _Config) -> float:
    """The base of rotary positions; newer files have it among `rope_parameters`."""
    given = config.found.get("rope_parameters")
    if given is None:
        return config.number("rope_theta", 10000.0)
    if not isinstance(given, dict) or given.get("rope_type", "default") != "default":
        raise LanguageModelError(
            f"{CONFIG_FILE}: rope_parameters are {shown(given)}, which isn't supported: train a model whose "
            'rope_type is "default"'
        )
    _Config(given).require("partial_rotary_factor", 1.0)
    return _Config(given).number("rope_theta", 10000.0)


def _gpt2(config: _Config, tensors: _Tensors, rows: int) -> list[Layer]:
    """GPT2LMHeadModel; its matrices are stored [in, out]."""
    config.require("scale_attn_weights", True)
    for name in ("scale_attn_by_inverse_layer_idx", "add_cross_attention", "quantization_config"):
        config.require(name, False)
    width, count = config.whole("n_embd", limits.MAX_STREAM), config.whole("n_head", 1024)
    if width % count:
        raise LanguageModelError(f"{CONFIG_FILE}: n_embd {width} is no multiple of n_head {count}")
    heads = _heads(count, count, width // count)
    symbols, hidden = config.whole("vocab_size", limits.MAX_SYMBOLS), config.whole("n_inner", 1 << 14, 4 * width)
    epsilon = config.number("layer_norm_epsilon", 1e-5)
    function = config.function("activation_function", "gelu_new")
    graph, at = _Graph(tensors), "transformer." if "transformer.wte.weight" in tensors.left else ""
    table = tensors.take(f"{at}wte.weight", symbols, width)
    places = tensors.take(f"{at}wpe.weight", config.whole("n_positions", 1 << 24), width)[:rows]
    position = graph.add(Layer("constant", weights=places[None], name="transformer.wpe"), 0)
    h = graph.add(Layer("embed", weights=table, name="transformer.wte"), 0, position)
    for block in range(config.whole("n_layer", limits.MAX_OPS)):
        part = f"{at}h.{block}"
        normal = graph.norm(f"{part}.ln_1", width, epsilon, True, h)
        weights, bias = _turned(tensors, f"{part}.attn.c_attn", width, 3 * width)
        q, k, v = (
            graph.matrix(f"transformer.h.{block}.attn.c_attn{peft.DIVIDER}{name}", w, b, normal)
            for name, w, b in zip("qkv", np.split(weights, 3), np.split(bias, 3), strict=True)
        )
        seen = graph.add(Layer("attend", heads=heads, causal=True), q, k, v)
        h = _conv1d(graph, f"{part}.attn.c_proj", width, width, seen, h)
        normal = graph.norm(f"{part}.ln_2", width, epsilon, True, h)
        fed = _conv1d(graph, f"{part}.mlp.c_fc", width, hidden, normal)
        fed = graph.add(Layer("lookup", function=function), fed)
        h = _conv1d(graph, f"{part}.mlp.c_proj", hidden, width, fed, h)
    last = graph.norm(f"{at}ln_f", width, epsilon, True, h)
    graph.head(f"{at}wte.weight", "lm_head.weight", table, config.yes("tie_word_embeddings", True), last)
    return graph.layers


def _conv1d(graph: _Graph, name: str, inputs: int, outputs: int, *read: int) -> int:
    weights, bias = _turned(graph.tensors, name, inputs, outputs)
    named = name if name.startswith("transformer.") else f"transformer.{name}"
    return graph.matrix(named, weights, bias, *read)


def _turned(tensors: _Tensors, name: str, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Weights [out, in] and bias of a matrix that is stored [in, out]."""
    weights = tensors.take(f"{name}.weight", inputs, outputs).T
    return np.ascontiguousarray(weights), tensors.take(f"{name}.bias", outputs)
