"""Converts PEFT LoRA checkpoints to adapters for an INT8 base, and adapters to checkpoints.

For each adapted module of a PyTorch network, a checkpoint (https://huggingface.co/docs/peft, "Checkpoint format") holds
A = `lora_A.weight` [r, in] and B = `lora_B.weight` [out, r], for convolutions [r, in, kernel...] and [out, r, 1...].
`adapter_config.json` in the same folder determines the scaling: alpha / r (LoRA, arXiv:2106.09685) or alpha / sqrt(r)
(rank-stabilized LoRA, arXiv:2312.03732). A layer's weights change by scaling * B A.

The integer branch (SPEC.md section 3) changes weight [o, i] by s_w[o] * 2^(branch_shift - t_shift) * (B A)[o, i], where
s_w[o] is the base's weight scale of channel o, computed from its multiplier.

If batch normalization was folded into a layer, channel o of its weights is the module's times `gain[o]`, and the change
becomes gain[o] * scaling * (B A)[o, i]. The float network that `from_torch` saves with the base stores the gains and
which op each module became. A module that became several layers, such as GPT-2's `c_attn`, has their adapters' outputs
one below the other: B is cut for them, and A is the same. `fan_in_fan_out` says how a base stores its weights, and
changes nothing of A and B.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.ela import Adapter
from edgelora.core.formats.elm import base_id, unpack_model
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.network import WEIGHT_KINDS, QuantModel, layer_size
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet.layers import FloatNet, Layer, Shape
from edgelora.model.quantization.adapter_fit import UNIT_A, AdapterFit, Matrix, fit_adapter, weight_scales

from .json_object import json_object, shown
from .safetensors import read_safetensors, write_safetensors

FLATTENINGS = ("chw", "hwc")
DIVIDER = ":"  # in a layer's name, between a module and which of its layers it is
CONV1D = ("c_attn", "c_proj", "c_fc")  # GPT-2's, whose weights are stored [in, out]
MODEL_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
FROZEN = ".base_layer.weight"  # a copy of a language model's head that PEFT writes if the head is adapted
Pair = tuple[Matrix, Matrix]  # A and B
_KEY = re.compile(rf"(?:{re.escape(PREFIX)})?(?P<module>.+)\.lora_(?P<which>[AB])(?:\.default)?\.weight")
# Settings that don't affect scaling * B A (names, layers, training), and those that this module reads.
_NO_MATTER = {
    *("peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
    *("inference_mode", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_config", "megatron_core"),
    *("runtime_config", "qalora_group_size", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "fan_in_fan_out"),
}
_PLAIN_STARTS = ("gaussian", "orthogonal", "eva")  # initialize A and B, and leave the base unchanged
_CHANGED_STARTS = ("pissa", "olora", "corda", "lora_ga")
_CONVERT = (
    "save it as plain LoRA: model.save_pretrained(folder, path_initial_model_for_weight_conversion=...), with the "
    "adapter as it was before training"
)
_UNKNOWN = "this version doesn't know the setting: train without it"
_REMEDIES = {
    "use_dora": "train with use_dora=False",
    "bias": "train with bias='none': biases of the base stay as they are",
    "lora_bias": "train with lora_bias=False: an adapter has no bias",
    "modules_to_save": "train without it: only LoRA layers are imported, no complete modules",
    "layer_replication": "train without replicated layers: the base has each layer once",
    "target_parameters": "name layers in target_modules instead",
    "use_qalora": "train with use_qalora=False",
}


class PeftError(EdgeloraError, ValueError):
    """A checkpoint can't be converted to an adapter for this base; the message says why and what to do."""


@dataclass(frozen=True)
class Module:
    """An adapted module of a checkpoint: a [rank, in, kernel...], b [out, rank], scaling of their product."""

    name: str
    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scaling: float

    @property
    def key(self) -> tuple[int, ...]:
        """(outputs, kernel height, kernel width, inputs), to match modules and ops. 1-D kernels have height 1."""
        kernel = (1, 1, *self.a.shape[2:])[-2:]
        return len(self.b), *kernel, self.a.shape[1]


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def load_checkpoint(path: Path) -> list[Module]:
    """The modules of a checkpoint, a folder or its .safetensors file, in natural order of their names.

    Raises SafetensorsError, PeftError or OSError.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    config = _config(file.with_name(CONFIG_FILE))
    pairs: dict[str, dict[str, NDArray[np.float32]]] = defaultdict(dict)
    for key, tensor in read_safetensors(file).items():
        match = _KEY.fullmatch(key)
        if key.endswith(FROZEN):
            continue
        if not match:
            raise PeftError(
                f"{file.name}: {key!r} is not a lora_A.weight or lora_B.weight: only plain LoRA is supported"
            )
        if not np.isfinite(tensor).all():
            raise PeftError(f"{file.name}: {key!r} has values that are not finite: train it again, or copy it again")
        pairs[match["module"]][match["which"]] = tensor
    if not pairs:
        raise PeftError(f"{file.name}: has no lora_A.weight: choose PEFT's adapter_model.safetensors")
    return [_module(name, pairs[name], config, file.name) for name in sorted(pairs, key=_natural)]


def _config(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise PeftError(f"{path} is missing: it holds lora_alpha; copy it next to the .safetensors file") from None
    config = json_object(content, f"{path.name}:", PeftError)
    if config.get("peft_type", "LORA") != "LORA":
        raise PeftError(f"{path.name}: peft_type is {shown(config['peft_type'])}, only plain LoRA is supported")
    for key, value in config.items():
        _check_setting(path.name, key, value)
    return config


def _check_setting(file: str, key: str, value: object) -> None:
    """Raises PeftError if, with this setting, a checkpoint changes weights by anything but scaling * B A."""
    if key in _NO_MATTER or value in (None, False, "none", "", {}, []):
        return
    said = f"{file}: {key} is {str(value)[:60]!r}"
    if key == "init_lora_weights":
        if value is True or value in _PLAIN_STARTS:
            return
        known = isinstance(value, str) and value.startswith(_CHANGED_STARTS)
        remedy = _CONVERT if known else f"train from true, {', '.join(map(repr, _PLAIN_STARTS))} or false"
        raise PeftError(
            f"{said}: this initialization changes the base's weights, but this base has its original ones; {remedy}"
        )
    if key == "use_rslora":
        if value is not True:
            raise PeftError(f"{said}, must be true or false")
        return
    raise PeftError(f"{said}: only plain LoRA is supported; {_REMEDIES.get(key, _UNKNOWN)}")


def _module(name: str, pair: dict[str, NDArray[np.float32]], config: dict[str, Any], file: str) -> Module:
    missing = {"A", "B"} - pair.keys()
    if missing:
        raise PeftError(f"{file}: module {name} has no lora_{missing.pop()}.weight: copy it again")
    a, b = pair["A"], pair["B"]
    if 2 < a.ndim == b.ndim and b.shape[1] < len(a) and len(a) % b.shape[1] == 0:
        raise PeftError(
            f"{file}: module {name} is a convolution of {len(a) // b.shape[1]} groups, which can't have an adapter: "
            "train without LoRA on it"
        )
    if not 2 <= a.ndim <= 4 or b.ndim != a.ndim or b.shape[1] != len(a) or b[0, 0].size != 1:
        raise PeftError(f"{file}: module {name} has A {list(a.shape)} and B {list(b.shape)}, which do not match")
    declared = _setting(config, "r", "rank_pattern", name)
    if declared not in (None, len(a)):
        raise PeftError(
            f"{CONFIG_FILE}: r of module {name} is {shown(declared)}, {file} has rank {len(a)}: copy both again"
        )
    return Module(name, a, b.reshape(b.shape[:2]), _scaling(name, len(a), config))


def _scaling(name: str, rank: int, config: dict[str, Any]) -> float:
    """alpha / r, or alpha / sqrt(r) if rank-stabilized."""
    alpha = _setting(config, "lora_alpha", "alpha_pattern", name)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) <= sys.float_info.max:
        raise PeftError(f"{CONFIG_FILE}: lora_alpha is {shown(alpha)}, must be a number")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _setting(config: dict[str, Any], key: str, by_name: str, name: str) -> Any:
    """A module's setting. `by_name` maps regular expressions for name suffixes to values, and overrides `key`."""
    patterns = config.get(by_name) or {}
    if not isinstance(patterns, dict):
        raise PeftError(f"{CONFIG_FILE}: {by_name} is {shown(patterns)}, must be an object")
    for pattern, value in patterns.items():
        try:
            found = re.fullmatch(rf"(.*\.)?({pattern})", name)
        except re.error as error:
            raise PeftError(f"{CONFIG_FILE}: {by_name} {pattern!r} is not a regular expression ({error})") from None
        if found:
            return value
    return config.get(key)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A sort key that orders conv2 before conv10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]


# ---- modules and ops -------------------------------------------------------------------------------------------------


def match_modules(model: QuantModel, modules: list[Module], given: Mapping[str, int]) -> dict[str, int]:
    """Maps modules to ops. `given` takes precedence; the remaining modules of a shape, in natural order of their names,
    match the remaining ops of that shape, in order, if the counts are equal; else PeftError names the options.
    """
    unknown = given.keys() - {module.name for module in modules}
    if unknown:
        names = ", ".join(module.name for module in modules)
        raise PeftError(f"no module {sorted(unknown)[0]!r} in the checkpoint, which has {names}")
    if len(set(given.values())) < len(given):
        raise PeftError("two modules are mapped to the same op")
    free: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, op in enumerate(model.ops):
        if op.is_matrix and index not in given.values():
            free[_op_key(model, index)].append(index)
    rest: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for module in modules:
        if module.name in given:
            _check_given(model, module, given[module.name])
        else:
            rest[module.key].append(module.name)
    chosen = dict(given)
    for key, same in rest.items():
        if model.rounds and len(free[key]) > 1:
            raise PeftError(
                f"{', '.join(same)} ({_shape(key)}) can be any of the ops {', '.join(map(str, free[key]))} of this "
                "transformer: give --net, the float network that `import` wrote beside the base, which has the names"
            )
        if len(same) != len(free[key]):
            raise PeftError(_choices(model, same, free[key], key))
        chosen |= zip(same, free[key], strict=True)
    return chosen


def _op_key(model: QuantModel, index: int) -> tuple[int, ...]:
    outputs, patch = layer_size(model, index)
    kernel = model.ops[index].kernel
    return outputs, *kernel, patch // (kernel[0] * kernel[1])


def _check_given(model: QuantModel, module: Module, index: int) -> None:
    if not 0 <= index < len(model.ops) or not model.ops[index].is_matrix:
        ops = ", ".join(str(i) for i, op in enumerate(model.ops) if op.is_matrix)
        raise PeftError(f"module {module.name} is mapped to op {index}; conv and dense ops are {ops}")
    if module.key != _op_key(model, index):
        wanted = _shape(_op_key(model, index))
        raise PeftError(f"module {module.name} is {_shape(module.key)}, op {index} is {wanted}: map it to another op")


def _choices(model: QuantModel, names: list[str], ops: list[int], key: tuple[int, ...]) -> str:
    if len(names) < len(ops):
        what = f"{', '.join(names)} ({_shape(key)}) can be any of the ops {', '.join(map(str, ops))}"
        return f"{what}: say which with --map {names[0]}={ops[0]}"
    has = "; ".join(f"{i}: {_shape(_op_key(model, i))}" for i, op in enumerate(model.ops) if op.is_matrix)
    fit = f"{len(ops)} ops of the base" if ops else "no op of the base"
    return f"{', '.join(names)} ({_shape(key)}) fits {fit}; its ops are {has}. Is it for another base?"


def _shape(key: tuple[int, ...]) -> str:
    return f"{key[3]} inputs to {key[0]} outputs, kernel {key[1]}x{key[2]}"


# ---- the float network ----------------------------------------------------------------------------------------------


def layer_of(net: FloatNet, name: str) -> int | None:
    """The layer that a module became; None if the network has no layer of that name.

    Wrappers may have prefixed either name. Raises PeftError if several layers match.
    """
    known = [(i, layer.name) for i, layer in enumerate(net.layers) if layer.name and layer.kind in WEIGHT_KINDS]
    for same in (str.__eq__, _ends_alike):
        found = [i for i, other in known if same(name, other)]
        if len(found) > 1:
            raise PeftError(
                f"module {name} is used as {len(found)} layers of the float network ({', '.join(map(str, found))}), "
                "an adapter changes only one: give each layer its own module, and train without LoRA on a shared one"
            )
        if found:
            return found[0]
    return None


def by_layer(net: FloatNet, modules: list[Module]) -> list[Module]:
    """The modules, those that became several layers cut into one for each. Raises PeftError for other shapes."""
    return [part for module in modules for part in _parts(net, module)]


def _parts(net: FloatNet, module: Module) -> list[Module]:
    layers = [layer for layer in net.layers if DIVIDER in layer.name and _is_part_of(module.name, layer.name)]
    sizes = [len(layer.weights) for layer in layers if layer.weights is not None]
    if not layers:
        return [module]
    if sum(sizes) != len(module.b):
        raise PeftError(f"module {module.name} has {len(module.b)} outputs, its layers have {sum(sizes)}")
    rows = np.split(module.b, np.cumsum(sizes)[:-1])
    names = [f"{module.name}{DIVIDER}{layer.name.partition(DIVIDER)[2]}" for layer in layers]
    return [replace(module, name=name, b=b) for name, b in zip(names, rows, strict=True)]


def _is_part_of(name: str, part: str) -> bool:
    whole = part.partition(DIVIDER)[0]
    return name == whole or _ends_alike(name, whole)


def _ends_alike(one: str, other: str) -> bool:
    return one.endswith(f".{other}") or other.endswith(f".{one}")


def with_lora(
    net: FloatNet, modules: list[Module], layers: Mapping[str, int] | None = None, flatten: str = "chw"
) -> FloatNet:
    """The float network with a checkpoint merged in; folded normalization scales the change as it does the weights.

    layers: the layer of each module that names don't identify. Raises PeftError.
    """
    made, shapes = list(net.layers), floatnet_layers.shapes(net)
    for module in by_layer(net, modules):
        index = (layers or {}).get(module.name, layer_of(net, module.name))
        if index is None:
            names = ", ".join(layer.name or str(i) for i, layer in enumerate(net.layers) if layer.weights is not None)
            raise PeftError(f"module {module.name} is not a layer of the float network, which has {names}")
        layer = made[index]
        assert layer.weights is not None
        if layer.kind == "depthwise":
            raise PeftError(_depthwise(module))
        shape = shapes[floatnet_layers.sources(net, index)[0]]
        b, a = _gained(layer, module), _to_patch(layer.kind, shape, module.a, flatten)
        if (len(b), a.shape[1]) != (len(layer.weights), layer.weights[0].size):
            raise PeftError(
                f"module {module.name} is {_shape(module.key)}, layer {index} of the float network has another shape"
            )
        made[index] = replace(layer, weights=(layer.weights + (b @ a).reshape(layer.weights.shape)).astype(np.float32))
    return replace(net, layers=made)


def _gained(layer: Layer | None, module: Module) -> Matrix:
    """The module's B times its scaling and the gain of normalization folded into its layer."""
    b = module.scaling * module.b.astype(np.float64)
    return b if layer is None or layer.gain is None else b * layer.gain.astype(np.float64)[:, None]


def _depthwise(module: Module) -> str:
    return f"module {module.name} is a depthwise convolution, which can't have an adapter: train without LoRA on it"


def is_original(net: FloatNet, elm: bytes, model: QuantModel) -> bool:
    """Whether the base was quantized from this network, one op for each layer."""
    return net.base_id == base_id(elm) and [one.kind for one in net.layers] == [op.kind for op in model.ops]


def _layers_of(net: FloatNet, original: bool, modules: list[Module], chosen: Mapping[str, int]) -> dict[str, int]:
    """The float network's layer of each module, if known. In the base's float original its index is the op's."""
    if original:
        return dict(chosen)
    named = ((module.name, layer_of(net, module.name)) for module in modules)
    return {name: index for name, index in named if index is not None}


# ---- layouts ---------------------------------------------------------------------------------------------------------


def _to_patch(kind: str, shape: Shape, a: NDArray[Any], flatten: str) -> Matrix:
    """PyTorch's A [r, in, kernel...] in the element order of our patches, [r, K]; shape: of the layer's input."""
    height, width, channels = shape
    if a.ndim == 2 and kind == "dense" and height * width > 1 and flatten == "chw":
        if a.shape[1] != height * width * channels:
            raise PeftError(f"A has {a.shape[1]} inputs, its layer has {height * width * channels}")
        a = a.reshape(len(a), channels, height, width)
    return np.moveaxis(a, 1, -1).reshape(len(a), -1).astype(np.float64)


def _from_patch(model: QuantModel, index: int, a: NDArray[Any], flatten: str, conv1d: bool) -> NDArray[Any]:
    """The inverse: A [r, K] in PyTorch's layout. With conv1d, kernels of height 1 become those of a Conv1d."""
    op = model.ops[index]
    if op.kind == "dense":
        height, width, channels = _before_reshape(model, index)
        if height * width > 1 and flatten == "chw":
            a = np.moveaxis(a.reshape(len(a), height, width, channels), -1, 1)
        return a.reshape(len(a), -1)
    if model.rounds and op.kernel == (1, 1):
        return a  # a transformer's nn.Linear
    a = np.moveaxis(a.reshape(len(a), *op.kernel, -1), -1, 1)
    return a[:, :, 0] if conv1d and op.kernel[0] == 1 else a


def _before_reshape(model: QuantModel, index: int) -> tuple[int, int, int]:
    """The shape of an op's input before any reshapes."""
    source = model.ops[index].input
    while source and model.ops[source - 1].kind == "reshape":
        source = model.ops[source - 1].input
    return model.tensors[source].shape


# ---- into integers ---------------------------------------------------------------------------------------------------


def import_adapter(
    elm: bytes,
    modules: list[Module],
    given: Mapping[str, int] | None = None,
    flatten: str = "chw",
    rank: int | None = None,
    x: NDArray[np.floating] | None = None,
    y: NDArray[np.integer] | None = None,
    net: FloatNet | None = None,
) -> AdapterFit:
    """The adapter for base `elm` that changes its weights as a checkpoint's modules do.

    given: the ops of modules that names and shapes don't identify; flatten: how PyTorch's network flattens the input of
    a Linear; rank, x and y as in `fit_adapter`. net: the float network that the checkpoint was trained on, as saved by
    `from_torch` with the base: it provides the gains of folded normalization and the reference outputs. Raises
    PeftError, or FormatError for ranks and shapes that adapters can't have.
    """
    model, given = unpack_model(elm), dict(given or {})
    modules = by_layer(net, modules) if net else modules
    original = net is not None and is_original(net, elm, model)
    if net is not None and original:
        given = _named(net, modules) | given
    chosen = match_modules(model, modules, given)
    layers = _layers_of(net, original, modules, chosen) if net else {}
    taken = (*model.input.shape[:2], 1) if model.symbols else model.input.shape  # an id may have two bytes
    if net is not None and net.input_shape != taken:
        raise PeftError(
            f"the float network takes {net.input_shape}, the base {model.input.shape}: is it another base's network?"
        )
    adapted = None if net is None else with_lora(net, modules, layers, flatten)
    products = {}
    for m in modules:
        op = chosen[m.name]
        a = _to_patch(model.ops[op].kind, _before_reshape(model, op), m.a, flatten)
        products[op] = a, _gained(net.layers[layers[m.name]] if net else None, m)
    imported = fit_adapter(elm, products, rank, x, y, adapted)
    names = {op: name for name, op in chosen.items()}
    return replace(imported, fits=[replace(fit, module=names[fit.op]) for fit in imported.fits])


def _named(net: FloatNet, modules: list[Module]) -> dict[str, int]:
    """The ops of modules whose names the base's float original has."""
    named = {module.name: layer_of(net, module.name) for module in modules}
    for module in modules:
        index = named[module.name]
        if index is not None and net.layers[index].kind == "depthwise":
            raise PeftError(_depthwise(module))
    return {name: index for name, index in named.items() if index is not None}


# ---- and back --------------------------------------------------------------------------------------------------------


def export_adapter(
    adapter: Adapter,
    model: QuantModel,
    output: str | os.PathLike[str],
    names: Mapping[str, int] | None = None,
    flatten: str = "chw",
    conv1d: bool = False,
    net: FloatNet | None = None,
) -> Path:
    """Writes an adapter as an FP32 checkpoint: a folder, or a .safetensors file and adapter_config.json next to it.

    names: maps module names in PyTorch to ops; other modules are named as in `net` or, without it, `ops.INDEX`.
    net: the base's float original; the checkpoint then applies to its layers before normalization was folded in.
    Returns the path of the .safetensors file. Raises PeftError.
    """
    if net is not None and (net.base_id != adapter.base_id or len(net.layers) != len(model.ops)):
        raise PeftError("the adapter's base was not made from this float network")
    target = Path(output)
    file = target if target.suffix == ".safetensors" else target / MODEL_FILE
    called = {op: name for name, op in (names or {}).items()}
    unknown = called.keys() - {layer.op for layer in adapter.layers}
    if unknown:
        raise PeftError(f"the adapter has no layer for op {min(unknown)}, mapped from {called[min(unknown)]}")
    pairs: dict[str, Pair] = {}
    for layer in adapter.layers:
        known = net.layers[layer.op] if net else None
        name = called.get(layer.op, (known.name if known else "") or f"ops.{layer.op}")
        scales = weight_scales(model, model.ops[layer.op])[:, None]
        a = _from_patch(model, layer.op, layer.a / UNIT_A, flatten, conv1d)
        b = layer.b * scales * (UNIT_A * 2.0 ** (layer.branch_shift - layer.t_shift))
        if known is not None and known.gain is not None:
            gain = known.gain.astype(np.float64)[:, None]
            b = np.divide(b, gain, where=gain != 0, out=np.zeros_like(b))
        pairs[name] = a, b
    if net is not None:
        pairs = _joined(net, pairs)
    tensors, ranks = {}, {name: len(a) for name, (a, _) in pairs.items()}
    for name, (a, b) in pairs.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a.astype(np.float32)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b.reshape(*b.shape, *[1] * (a.ndim - 2)).astype(np.float32)
    write_atomic(file.with_name(CONFIG_FILE), json.dumps(_config_of(ranks), indent=2).encode())
    write_safetensors(file, tensors)
    return file


def _joined(net: FloatNet, pairs: dict[str, Pair]) -> dict[str, Pair]:
    """A and B by module: those of its layers' adapters together, where it became several.

    With one A for all they keep their rank, else A's are one below the other and B has 0 for the other layers' rows.
    """
    made: dict[str, Pair] = {}
    for name, pair in pairs.items():
        whole = name.partition(DIVIDER)[0]
        if whole == name:
            made[name] = pair
        elif whole not in made:
            made[whole] = _whole(net, whole, pairs)
    return made


def _whole(net: FloatNet, whole: str, pairs: dict[str, Pair]) -> Pair:
    layers = [layer for layer in net.layers if layer.name.startswith(whole + DIVIDER) and layer.weights is not None]
    parts = [pairs.get(layer.name) for layer in layers]
    known = [a for a, _ in filter(None, parts)]
    alike = all(np.array_equal(a, known[0]) for a in known)
    rank = len(known[0]) if alike else sum(map(len, known))
    rows, at = [], 0
    for layer, part in zip(layers, parts, strict=True):
        assert layer.weights is not None
        b = np.zeros((len(layer.weights), rank))
        if part is not None:
            b[:, at : at + len(part[0])] = part[1]
            at += 0 if alike else len(part[0])
        rows.append(b)
    return known[0] if alike else np.concatenate(known), np.concatenate(rows)


def _config_of(ranks: dict[str, int]) -> dict[str, Any]:
    """A configuration with scaling 1 for all modules: alpha equals the rank."""
    most = max(ranks.values())
    others = {re.escape(name): rank for name, rank in ranks.items() if rank != most}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "bias": "none",
        "fan_in_fan_out": any(name.endswith(CONV1D) for name in ranks),
        "lora_dropout": 0.0,
        "use_rslora": False,
        "r": most,
        "lora_alpha": most,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
    }
