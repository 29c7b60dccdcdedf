"""LoRA checkpoints: the safetensors format, modules and ops, layouts, and the change of integer weights."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from random_models import random_adapter, random_input, random_model

from edgelora.cli import exit_codes
from edgelora.cli.main import main
from edgelora.core.formats.ela import Adapter, pack_adapter
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.twin.session import Session
from edgelora.model.datasets import dataset
from edgelora.model.floatnet import files as floatnet_files
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.importers import peft
from edgelora.model.importers.safetensors import SafetensorsError, read_safetensors
from edgelora.model.quantization import adapter_fit
from edgelora.model.quantization.adapter_fit import op_inputs
from edgelora.model.quantization.quantize import quantize

RANK, ALPHA = 3, 6.0
LAYERS = [
    floatnet_layers.conv(8, (3, 2), (2, 1)),
    floatnet_layers.conv(8, (1, 3)),
    floatnet_layers.conv(6, (1, 1)),
    floatnet_layers.dense(5),
]
CODES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
NAMES = ("features.0", "features.2", "features.10", "head")


def safetensors(tensors: dict[str, NDArray[np.float32]], dtype: str = "F32") -> bytes:
    """A file as other programs write it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, values in tensors.items():
        stored = values.astype(np.float32).view(np.uint32) >> 16 if dtype == "BF16" else values
        raw = stored.astype(CODES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def checkpoint(folder: Path, tensors: dict[str, NDArray[np.float32]], dtype: str = "F32", **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(safetensors(tensors, dtype))
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def net() -> floatnet_layers.FloatNet:
    """Two kinds of convolutions, a 1x1 one, and a dense layer after positions that must be flattened."""
    return floatnet_layers.build((5, 6, 3), LAYERS, 2)


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(size=(200, 5, 6, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def elm(net: floatnet_layers.FloatNet, x: NDArray[np.float32]) -> bytes:
    return pack_model(quantize(net, x))


@pytest.fixture(scope="module")
def tensors(net: floatnet_layers.FloatNet) -> dict[str, NDArray[np.float32]]:
    """LoRA for all layers in PyTorch's layouts, about as large as the weights."""
    rng, found = np.random.default_rng(3), {}
    for name, layer in zip(NAMES, net.layers, strict=True):
        assert layer.weights is not None
        outputs, kernel_h, kernel_w, inputs = layer.weights.shape
        kernel = () if layer.kind == "dense" else (kernel_h, kernel_w)
        ones = (1,) * len(kernel)
        size = layer.weights.std() / (ALPHA / RANK) / np.sqrt(RANK)
        found[f"base_model.model.{name}.lora_A.weight"] = rng.normal(0, 1, (RANK, inputs, *kernel))
        found[f"base_model.model.{name}.lora_B.weight"] = rng.normal(0, size, (outputs, RANK, *ones))
    return {name: values.astype(np.float32) for name, values in found.items()}


def merged(
    net: floatnet_layers.FloatNet, tensors: dict[str, NDArray[np.float32]], scaling: float
) -> floatnet_layers.FloatNet:
    """The float network with changed weights, computed in PyTorch's layouts and then transposed to ours."""
    layers, shapes = [], floatnet_layers.shapes(net)
    for i, (name, layer) in enumerate(zip(NAMES, net.layers, strict=True)):
        a, b = (tensors[f"base_model.model.{name}.lora_{which}.weight"] for which in "AB")
        change = scaling * np.einsum("or,r...->o...", b.reshape(b.shape[:2]), a)
        if layer.kind == "dense":
            height, width, channels = shapes[i]
            change = change.reshape(-1, channels, height, width)
        assert layer.weights is not None
        layers.append(replace(layer, weights=layer.weights + change.transpose(0, 2, 3, 1).reshape(layer.weights.shape)))
    return replace(net, layers=layers)


def twin_logits(elm: bytes, adapter: Adapter | None, x: NDArray[np.float32]) -> NDArray[np.float64]:
    model = unpack_model(elm)
    session = Session(elm, adapter.ranks(len(model.ops)) if adapter else bytes(len(model.ops)), "infer", 1)
    session.use(pack_adapter(adapter) if adapter else None)
    rows = []
    for row in model.input.quantize(x):
        session.infer(row)
        rows.append(model.output.scale * (session.logits.astype(float) - model.output.zero_point))
    return np.array(rows)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", CODES)
def test_types(tmp_path: Path, dtype: str) -> None:
    values = np.array([[1.5, -2.25, 0.0], [1024.0, -0.125, 3.0]], np.float32)  # exact in every type
    (tmp_path / "f").write_bytes(safetensors({"b": values, "a": values.T[:2].copy()}, dtype))
    found = read_safetensors(tmp_path / "f")
    assert {name: tensor.dtype for name, tensor in found.items()} == {"a": np.float32, "b": np.float32}
    assert np.array_equal(found["b"], values) and np.array_equal(found["a"], values.T[:2])


def test_damage_is_told(tmp_path: Path) -> None:
    """A truncated file is refused; with flipped bits it is refused, or read as it is."""
    file, values = tmp_path / "f", np.ones((2, 3), np.float32)
    whole = safetensors({"a": values, "b": values})
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(SafetensorsError):
            read_safetensors(file)
    rng, refused = np.random.default_rng(0), 0
    for bit in [*range(8 * len(whole)), *rng.integers(0, 8 * len(whole), (2000, 3))]:
        bytes_ = np.frombuffer(whole, np.uint8).copy()
        for one in np.atleast_1d(bit):
            bytes_[one // 8] ^= 1 << one % 8
        file.write_bytes(bytes_.tobytes())
        try:
            assert sum(tensor.size for tensor in read_safetensors(file).values()) in (6, 12, 24)
        except SafetensorsError:
            refused += 1
    assert refused > 2000


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"a": 1}', "its entry has no dtype"),
        (b'{"a": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}}', "its type is 'I8'"),
        (b'{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}', "its shape is"),
        (b'{"a": {"dtype": "F32", "shape": [0, 99999999999999999999], "data_offsets": [0, 0]}}', "its shape is"),
        (
            b'{"a": {"dtype": "F32", "shape": [0, 4], "data_offsets": [0, 0]}}',
            r"its shape is \[0, 4\], must be at most 8 whole numbers of at least 1: save the file without it",
        ),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}', "its data_offsets are"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}', "it is at 8..4 of 4"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', "it is at 4..8 of 4"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', "and needs 8"),
        (b'{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}', "tensors end at 2"),
        (b'{"a": {"dtype": "F16", "shape": [1], "data_offsets": [2, 4]}}', "begins at 2"),
        (b'{"a": {}, "a": {}}', "twice"),
    ],
)
def test_unsound_headers(tmp_path: Path, header: bytes, message: str) -> None:
    (tmp_path / "f").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(SafetensorsError, match=message):
        read_safetensors(tmp_path / "f")


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, ALPHA / np.sqrt(RANK)),
        ({"alpha_pattern": {"head": 9}}, 3.0),
        ({"alpha_pattern": {"ead": 9, r"features\.\d+": 12}}, 2.0),
    ],
)
def test_scaling(
    tmp_path: Path, tensors: dict[str, NDArray[np.float32]], config: dict[str, Any], scaling: float
) -> None:
    modules = peft.load_checkpoint(checkpoint(tmp_path / "c", tensors, **config))
    assert [module.name for module in modules] == [*NAMES]
    assert modules[-1].scaling == scaling


def test_other_checkpoints_are_refused(tmp_path: Path, tensors: dict[str, NDArray[np.float32]]) -> None:
    a, b = "m.lora_A.weight", "m.lora_B.weight"
    ones = np.ones((2, 2), np.float32)
    for content, config, message in (
        ({a: ones}, {}, "has no lora_B"),
        ({a: ones, b: np.ones((2, 3), np.float32)}, {}, "do not match"),
        ({a: np.ones((4, 1, 3)), b: np.ones((4, 1, 1))}, {}, "a convolution of 4 groups, .* without LoRA on it"),
        ({a: ones * np.inf, b: ones}, {}, "not finite"),
        ({a: ones, b: ones, "m.lora_magnitude_vector": ones}, {}, "only plain LoRA"),
        ({a: ones, b: ones}, {"use_dora": True}, "use_dora is 'True'"),
        ({a: ones, b: ones}, {"peft_type": "LOHA"}, "only plain LoRA is supported"),
        ({a: ones, b: ones}, {"lora_alpha": "x", "r": 2}, "lora_alpha"),
        ({a: ones, b: ones}, {"alpha_pattern": ["m"], "r": 2}, "must be an object"),
        ({a: ones, b: ones}, {"alpha_pattern": {"(": 1}, "r": 2}, "not a regular expression"),
        ({}, {}, "no lora_A"),
    ):
        with pytest.raises(peft.PeftError, match=message):
            peft.load_checkpoint(checkpoint(tmp_path / "c", content, **config))
    (tmp_path / "c" / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(peft.PeftError, match="not valid JSON"):
        peft.load_checkpoint(tmp_path / "c")
    (tmp_path / "c" / "adapter_config.json").unlink()
    with pytest.raises(peft.PeftError, match="is missing"):
        peft.load_checkpoint(tmp_path / "c" / "adapter_model.safetensors")


def test_signalling_nans_are_told(tmp_path: Path) -> None:
    """Also NaNs for which arithmetic warns."""
    bad = np.full((2, 2), 0x7FF0000000000001, np.uint64).view(np.float64)
    given = checkpoint(tmp_path / "c", {"m.lora_A.weight": bad, "m.lora_B.weight": bad}, "F64")
    with pytest.raises(peft.PeftError, match="not finite"), np.errstate(invalid="raise"):
        peft.load_checkpoint(given)


# ---- modules and ops -------------------------------------------------------------------------------------------------


def test_modules_find_their_ops(elm: bytes) -> None:
    model = unpack_model(elm)
    assert [op.kind for op in model.ops] == ["conv", "conv", "conv", "dense"]

    def module(name: str, index: int) -> peft.Module:
        outputs, kernel_h, kernel_w, inputs = model.ops[index].weights.shape  # type: ignore[union-attr]
        kernel = (kernel_h, kernel_w) if model.ops[index].kind == "conv" else ()
        a = np.ones((1, inputs, *kernel), np.float32)
        return peft.Module(name, a, np.ones((outputs, 1), np.float32), 1.0)

    assert peft.match_modules(model, [module("a", 3), module("b", 0)], {}) == {"a": 3, "b": 0}
    assert peft.match_modules(model, [module("a", 3), module("b", 0)], {"b": 0}) == {"a": 3, "b": 0}
    with pytest.raises(peft.PeftError, match="fits 1 ops"):
        peft.match_modules(model, [module("a", 3), module("b", 3)], {})
    with pytest.raises(peft.PeftError, match="op 1 is 8 inputs"):
        peft.match_modules(model, [module("a", 3)], {"a": 1})
    with pytest.raises(peft.PeftError, match="same op"):
        peft.match_modules(model, [module("a", 3), module("b", 3)], {"a": 3, "b": 3})
    with pytest.raises(peft.PeftError, match="no module 'c'"):
        peft.match_modules(model, [module("a", 3)], {"c": 3})


def test_ambiguous_modules_have_to_be_mapped(keyword_elm: bytes) -> None:
    """The keyword network has four equal convolutions: for all of them the order decides, for two a map is required."""
    model = unpack_model(keyword_elm)
    alike = [i for i, op in enumerate(model.ops) if op.kind == "conv" and op.kernel == (1, 1)]
    modules = [peft.Module(f"m{i}", np.ones((1, 64, 1, 1)), np.ones((64, 1)), 1.0) for i in (1, 2, 10, 11)]
    assert peft.match_modules(model, modules, {}) == dict(zip(("m1", "m2", "m10", "m11"), alike, strict=True))
    with pytest.raises(peft.PeftError, match=f"m1, m2 .* any of the ops {', '.join(map(str, alike))}.*--map m1="):
        peft.match_modules(model, modules[:2], {})
    given = {"m1": alike[2], "m2": alike[0]}
    assert peft.match_modules(model, modules[:2], given) == given


# ---- arithmetic ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_the_integer_network_computes_what_the_float_one_does(
    tmp_path: Path,
    net: floatnet_layers.FloatNet,
    elm: bytes,
    x: NDArray[np.float32],
    tensors: dict[str, NDArray[np.float32]],
    dtype: str,
    calibrated: bool,
) -> None:
    modules = peft.load_checkpoint(checkpoint(tmp_path / "c", tensors, dtype))
    imported = peft.import_adapter(elm, modules, x=x if calibrated else None)
    assert [(fit.op, fit.module) for fit in imported.fits] == list(enumerate(NAMES))
    assert all(fit.weight_error < 0.03 for fit in imported.fits)
    wanted = floatnet_layers.forward(merged(net, tensors, ALPHA / RANK), x)[-1].reshape(len(x), -1)
    model, got = unpack_model(elm), twin_logits(elm, imported.adapter, x)
    fits = np.abs(wanted).max(axis=1) < 0.9 * 127 * model.output.scale  # where the base's range has room for it
    assert fits.mean() > 0.2
    error = np.linalg.norm((got - wanted)[fits]) / np.linalg.norm(wanted[fits])
    bare = np.linalg.norm((twin_logits(elm, None, x) - wanted)[fits]) / np.linalg.norm(wanted[fits])
    assert error < 0.3 < 0.7 < bare
    if calibrated:
        assert imported.fidelity is not None and imported.fidelity.agreement > 0.95
        assert all(fit.branch_error is not None and fit.branch_error < 0.05 for fit in imported.fits)


def test_a_large_lora_does_not_saturate_the_layers_after_it(x: NDArray[np.float32]) -> None:
    """Their t has room for the outputs of adapted layers before them, not only for those of the base alone."""
    net = floatnet_layers.build((5, 6, 3), [floatnet_layers.conv(8, (3, 3)), floatnet_layers.dense(5)], 2)
    rng, layers = np.random.default_rng(4), []
    for name, layer in zip(NAMES, net.layers, strict=False):
        layers.append(replace(layer, name=name))
    net = replace(net, layers=layers)
    first = peft.Module(NAMES[0], rng.normal(0, 1, (2, 3, 3, 3)), rng.normal(0, 1.5, (8, 2)), 1.0)
    second = peft.Module(NAMES[1], rng.normal(0, 0.1, (2, 240)), rng.normal(0, 0.1, (5, 2)), 1.0)
    adapted = peft.with_lora(net, [first, second])
    elm = pack_model(quantize(net, x, adapted=[adapted]))
    found = peft.import_adapter(elm, [first, second], x=x, net=replace(net, base_id=base_id(elm)))
    model, layer = unpack_model(elm), found.adapter.layers[1]
    q = model.input.quantize(x)
    largest = {}
    for name, adapter in (("bare", None), ("adapted", found.adapter)):
        read = op_inputs(elm, [1], q, adapter)[1].reshape(len(x), -1).astype(float)
        t = (read - model.tensors[1].zero_point) @ layer.a.T.astype(float) / 2.0**layer.t_shift
        largest[name] = np.abs(t)
    assert largest["bare"].max() < 60 and np.mean(largest["adapted"] > 127) < 0.005
    assert found.fidelity is not None and found.fidelity.agreement > 0.95


def test_flattening_hwc(elm: bytes, x: NDArray[np.float32], tensors: dict[str, NDArray[np.float32]]) -> None:
    head = [tensors[f"base_model.model.head.lora_{which}.weight"] for which in "AB"]
    module = peft.Module("head", head[0], head[1], 1.0)
    model = unpack_model(elm)
    changes = {
        f: adapter_fit.real_change(model, peft.import_adapter(elm, [module], None, f).adapter.layers[0])
        for f in ("chw", "hwc")
    }
    exact = head[1] @ head[0]
    height, width, channels = model.tensors[3].shape
    moved = exact.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(exact.shape)
    assert np.linalg.norm(changes["hwc"] - exact) < 0.03 * np.linalg.norm(exact)
    assert np.linalg.norm(changes["chw"] - moved) < 0.03 * np.linalg.norm(exact)


def test_lower_rank(elm: bytes, tensors: dict[str, NDArray[np.float32]]) -> None:
    """The best approximation of rank 1, by singular values; and a change of 0."""
    a, b = (tensors[f"base_model.model.head.lora_{which}.weight"] for which in "AB")
    imported = peft.import_adapter(elm, [peft.Module("head", a, b, 1.0)], rank=1, flatten="hwc")
    steps = adapter_fit.weight_scales(unpack_model(elm), unpack_model(elm).ops[3])[:, None]
    values = np.linalg.svd(b / steps @ a, compute_uv=False)
    best = np.sqrt(np.sum(values[1:] ** 2) / np.sum(values**2))
    assert imported.adapter.layers[0].rank == 1
    assert best <= imported.fits[0].weight_error < best + 0.03
    nothing = peft.import_adapter(elm, [peft.Module("head", a, 0 * b, 1.0)]).adapter.layers[0]
    assert not nothing.b.any()


@pytest.mark.parametrize("seed", range(12))
def test_export_and_import_keep_an_adapter(tmp_path: Path, seed: int) -> None:
    """Any adapter, exported and imported again, changes the weights as before, up to rounding."""
    kinds = [("conv", "mean", "dense"), ("conv", "max_pool", "reshape", "dense"), ("conv", "conv", "dense")][seed % 3]
    model = random_model(seed, kinds=kinds, edges=False)
    elm, rng = pack_model(model), np.random.default_rng(seed)
    model = unpack_model(elm)
    ranks = {i: int(rng.integers(1, 4)) for i, op in enumerate(model.ops) if op.is_matrix}
    adapter = random_adapter(rng, model, ranks=ranks)
    names = {f"layer{i}": i for i in ranks}
    for output, conv1d in ((tmp_path / "d", False), (tmp_path / "f.safetensors", True)):
        file = peft.export_adapter(adapter, model, output, names, "chw", conv1d)
        modules = peft.load_checkpoint(file)
        assert {module.name: len(module.a) for module in modules} == {f"layer{i}": rank for i, rank in ranks.items()}
        x = np.stack([model.input.scale * (random_input(rng, model) - float(model.input.zero_point)) for _ in range(8)])
        for inputs in (None, x):
            back = peft.import_adapter(elm, modules, names, x=inputs).adapter
            for old, new in zip(adapter.layers, back.layers, strict=True):
                before, after = adapter_fit.real_change(model, old), adapter_fit.real_change(model, new)
                assert np.linalg.norm(after - before) <= 0.05 * np.linalg.norm(before)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_commands(
    tmp_path: Path,
    elm: bytes,
    x: NDArray[np.float32],
    tensors: dict[str, NDArray[np.float32]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "base.elm").write_bytes(elm)
    dataset.save_dataset(dataset.Dataset(x, np.zeros(len(x), np.int64)), tmp_path / "x.npz")
    source = checkpoint(tmp_path / "c", tensors)
    run = [str(tmp_path / "base.elm"), str(source), "-o", str(tmp_path / "user.ela"), "--data", str(tmp_path / "x.npz")]
    assert main(["import-adapter", *run, "--map", "head=3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [layer["module"] for layer in printed["layers"]] == [*NAMES] and printed["agreement"] > 0.95
    assert main(["import-adapter", *run]) == 0
    assert "features.10" in capsys.readouterr().out
    back = [str(tmp_path / "base.elm"), str(tmp_path / "user.ela"), "-o", str(tmp_path / "back"), "--map", "head=3"]
    assert main(["export-adapter", *back, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ops"] == [0, 1, 2, 3]
    found = read_safetensors(tmp_path / "back" / "adapter_model.safetensors")
    assert found["base_model.model.head.lora_A.weight"].shape == tensors["base_model.model.head.lora_A.weight"].shape
    (source / "adapter_model.safetensors").write_bytes(b"cut")
    assert main(["import-adapter", *run]) == 1
    assert "adapter_model.safetensors: ends after 3 bytes" in capsys.readouterr().err


# ---- the float network saved with the base
# -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(net: floatnet_layers.FloatNet, elm: bytes) -> floatnet_layers.FloatNet:
    """The same network before batch normalization was folded into its first and third layers."""
    rng = np.random.default_rng(8)
    layers = [replace(layer, name=name) for layer, name in zip(net.layers, NAMES, strict=True)]
    for i in (0, 2):
        layers[i].gain = (rng.uniform(0.2, 5, len(layers[i].bias)) * rng.choice([-1, 1], len(layers[i].bias))).astype(
            "f4"
        )
    return replace(net, layers=layers, base_id=base_id(elm))


def test_modules_are_matched_to_ops_by_names() -> None:
    """If the float network has names, in any order, and with any prefix of wrappers."""
    alike = floatnet_layers.build((4, 4, 2), [floatnet_layers.conv(2, (3, 3)) for _ in range(3)], 0)
    x = np.random.default_rng(0).normal(size=(50, 4, 4, 2)).astype(np.float32)
    model = quantize(alike, x)
    model.loss = "mean_squared_error"
    packed = pack_model(model)
    for layer, name in zip(alike.layers, ("zoo", "ant", "bee"), strict=True):
        layer.name = name
    alike.base_id = base_id(packed)
    a, b = np.ones((1, 2, 3, 3), np.float32), np.ones((2, 1), np.float32)
    found = peft.import_adapter(packed, [peft.Module(name, a, b, 1.0) for name in ("ant", "bee", "zoo")], net=alike)
    assert [fit.module for fit in found.fits] == ["zoo", "ant", "bee"]
    found = peft.import_adapter(packed, [peft.Module("wrapped.bee", a, b, 1.0)], net=alike)
    assert [fit.op for fit in found.fits] == [2]
    alike.layers[0].name = "bee"
    with pytest.raises(peft.PeftError, match="bee is used as 2 layers .*0, 2.* its own module"):
        peft.import_adapter(packed, [peft.Module("bee", a, b, 1.0)], net=alike)


def test_a_float_network_of_another_base(elm: bytes, original: floatnet_layers.FloatNet) -> None:
    """It is used by names alone, and modules that it does not have are refused."""
    model = unpack_model(elm)
    other = replace(original, base_id=b"")
    a, b = np.ones((1, 8, 1, 1), np.float32), np.ones((6, 1), np.float32)
    [layer] = peft.import_adapter(elm, [peft.Module("features.10", a, b, 1.0)], net=other).adapter.layers
    assert np.allclose(adapter_fit.real_change(model, layer), other.layers[2].gain[:, None], rtol=0.05)
    with pytest.raises(peft.PeftError, match="module x is not a layer of the float network, which has features.0, "):
        peft.import_adapter(elm, [peft.Module("x", a, b, 1.0)], net=other)
    with pytest.raises(peft.PeftError, match="the float network takes"):
        peft.import_adapter(elm, [peft.Module("x", a, b, 1.0)], net=replace(other, input_shape=(5, 7, 3)))


def test_export_undoes_folding(
    tmp_path: Path, elm: bytes, original: floatnet_layers.FloatNet, tensors: dict[str, NDArray[np.float32]]
) -> None:
    """A checkpoint is for the network before folding, with its modules' names, as it was imported."""
    modules = peft.load_checkpoint(checkpoint(tmp_path / "c", tensors))
    adapter, model = peft.import_adapter(elm, modules, net=original).adapter, unpack_model(elm)
    back = peft.load_checkpoint(peft.export_adapter(adapter, model, tmp_path / "d", net=original))
    assert [module.name for module in back] == [*NAMES]
    for one, other in zip(modules, back, strict=True):
        before, after = (m.scaling * m.b @ m.a.reshape(len(m.a), -1) for m in (one, other))
        assert np.linalg.norm(after - before) < 0.05 * np.linalg.norm(before)
    with pytest.raises(peft.PeftError, match="adapter's base was not made from this"):
        peft.export_adapter(adapter, model, tmp_path / "d", net=replace(original, base_id=bytes(8)))


def labelled(net: floatnet_layers.FloatNet, x: NDArray[np.float32]) -> dataset.Dataset:
    """Data that this float network classifies correctly."""
    return dataset.Dataset(x, floatnet_layers.predict(net, x).argmax(axis=1))


def test_a_loss_of_accuracy_is_reported(
    tmp_path: Path,
    elm: bytes,
    x: NDArray[np.float32],
    original: floatnet_layers.FloatNet,
    tensors: dict[str, NDArray[np.float32]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By accuracies of the float network with LoRA, an exit code, and a note that the base's ranges are too small."""
    modules = peft.load_checkpoint(checkpoint(tmp_path / "c", tensors))
    (tmp_path / "base.elm").write_bytes(elm)
    run = ["import-adapter", str(tmp_path / "base.elm"), str(tmp_path / "c"), "-o", str(tmp_path / "user.ela")]
    floatnet_files.save_net(original, tmp_path / "base.float.npz")
    right = labelled(peft.with_lora(original, modules), x)
    dataset.save_dataset(right, tmp_path / "x.npz")
    assert main([*run, "--data", str(tmp_path / "x.npz"), "--json"]) == exit_codes.ExitCode.LOST
    told = json.loads(capsys.readouterr().out)
    assert told["compared_with"] == "float with LoRA" and told["lost"] and told["float_accuracy"] == 1
    assert told["accuracy"] < 0.97 and told["full"] and told["samples"] == len(x) and (tmp_path / "user.ela").exists()
    assert main([*run, "--data", str(tmp_path / "x.npz")]) == exit_codes.ExitCode.LOST
    printed = capsys.readouterr()
    assert f"accuracy: float with LoRA 100.0%, integer {told['accuracy']:.1%}" in printed.out
    assert "from_torch(..., loras=[checkpoint])" in printed.err
    assert main(run) == 0 and not capsys.readouterr().err.strip()
    floatnet_files.save_net(replace(original, base_id=bytes(8)), tmp_path / "base.float.npz")
    assert main(run) == 1
    assert "is the float network of another base than base.elm" in capsys.readouterr().err
    assert main([*run, "--net", str(tmp_path / "base.float.npz")]) == 0


# ---- other kinds of LoRA ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ({"init_lora_weights": "pissa"}, "base's weights.*path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "pissa_niter_16"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "olora"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "corda"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "lora_ga"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "loftq"}, "train from true"),
        ({"init_lora_weights": "of a later version"}, "train from true"),
        ({"use_dora": True}, "use_dora=False"),
        ({"use_rslora": "yes"}, "true or false"),
        ({"bias": "all"}, "bias='none'"),
        ({"bias": "lora_only"}, "bias='none'"),
        ({"lora_bias": True}, "lora_bias=False"),
        ({"modules_to_save": ["head"]}, "only LoRA layers are imported"),
        ({"layer_replication": [[0, 4], [2, 5]]}, "has each layer once"),
        ({"target_parameters": ["experts.weight"]}, "target_modules"),
        ({"use_qalora": True}, "use_qalora=False"),
        ({"alora_invocation_tokens": [1, 2]}, "doesn't know the setting"),
        ({"trainable_token_indices": [0]}, "doesn't know the setting"),
        ({"of_a_later_version": {"a": 1}}, "doesn't know the setting"),
        ({"r": 7}, "is 7, adapter_model.safetensors has rank 3"),
        ({"rank_pattern": {"head": 2}}, "r of module head is 2"),
        ({"lora_alpha": True}, "must be a number"),
        ({"lora_alpha": 10**400}, "must be a number"),
    ],
)
def test_settings_that_change_what_is_computed_are_refused(
    tmp_path: Path, tensors: dict[str, NDArray[np.float32]], setting: dict[str, Any], remedy: str
) -> None:
    """The message names the key, its value and the remedy."""
    [(key, value)] = setting.items()
    with pytest.raises(peft.PeftError, match=remedy) as told:
        peft.load_checkpoint(checkpoint(tmp_path / "c", tensors, **setting))
    if key not in ("r", "rank_pattern", "lora_alpha"):
        assert f"{key} is {str(value)!r}" in str(told.value) and "adapter_config.json" in str(told.value)


def test_settings_that_change_nothing_are_taken(tmp_path: Path, tensors: dict[str, NDArray[np.float32]]) -> None:
    """All settings that PEFT writes by default, and initializations that do not change the base."""
    plain = peft.load_checkpoint(checkpoint(tmp_path / "plain", tensors))
    usual = {
        **{"alora_invocation_tokens": None, "arrow_config": None, "auto_mapping": None, "bias": "none"},
        **{
            "base_model_name_or_path": "x",
            "corda_config": None,
            "ensure_weight_tying": False,
            "eva_config": {"rho": 2},
        },
        **{"exclude_modules": None, "fan_in_fan_out": True, "inference_mode": True, "layer_replication": None},
        **{"layers_pattern": None, "layers_to_transform": None, "loftq_config": {}, "lora_bias": False},
        **{"lora_dropout": 0.1, "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None},
        **{"peft_version": "0.17.1", "qalora_group_size": 16, "rank_pattern": {}, "revision": None},
        **{"target_modules": ["head"], "target_parameters": [], "task_type": None, "trainable_token_indices": None},
        **{"use_dora": False, "use_qalora": False, "use_rslora": False},
    }
    for start in (True, False, "gaussian", "orthogonal", "eva"):
        found = peft.load_checkpoint(checkpoint(tmp_path / str(start), tensors, init_lora_weights=start, **usual))
        for one, other in zip(plain, found, strict=True):
            assert (one.name, one.scaling) == (other.name, other.scaling)
            assert np.array_equal(one.a, other.a) and np.array_equal(one.b, other.b)
