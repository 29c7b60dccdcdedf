"""`from_torch`: the base computes approximately the same as the module; unsupported modules are refused by name."""

from __future__ import annotations

import copy
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fresh import some
from torch import nn as tnn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import edgelora
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.twin.session import Session
from edgelora.model.datasets import dataset
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet.files import load_net, save_net
from edgelora.model.importers import peft
from edgelora.model.importers.safetensors import write_safetensors
from edgelora.model.importers.torch import TorchError
from edgelora.model.quantization.quantize import Quantized
from edgelora.model.quantization.report import heard


def randomized(module: tnn.Module, seed: int = 0) -> tnn.Module:
    """Sets weights as after training: nonzero biases, batch normalization statistics other than 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if "running_var" in name or (tensor.ndim == 1 and "weight" in name):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point():
            fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 16
            tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    return module


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def outputs(made: Quantized, x: np.ndarray, adapter: bytes | None = None) -> np.ndarray:
    """Real outputs [N, H, W, C] of the host twin for PyTorch's inputs."""
    model = made.model
    ranks = {layer.op: layer.rank for layer in unpack_adapter(adapter, model).layers} if adapter else {}
    session = Session(made.elm, bytes(ranks.get(i, 0) for i in range(len(model.ops))), "infer", 1)
    session.use(adapter)
    found = []
    for row in model.input.quantize(dataset.channels_last(x)):
        session.infer(row)
        found.append(session.logits)
    target = model.output
    return (np.array(found).astype(float) - target.zero_point).reshape(-1, *target.shape) * target.scale


def expected(module: tnn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        y = module.eval()(torch.from_numpy(x)).numpy()
    return dataset.channels_last(y.reshape(len(x), *y.shape[1:] or (1,)))


def check_near(
    module: tnn.Module, *shape: int, decibel: float = 20, seed: int = 0, loss: str | None = None
) -> Quantized:
    """Asserts a signal-to-noise ratio of the twin's outputs on new inputs, in the range that matters to a softmax.

    The saved float network computes the same as the module.
    """
    made = edgelora.from_torch(randomized(module, seed).eval(), noise(200, *shape, seed=1), loss=loss)
    x = noise(100, *shape, seed=2)
    signal, found = expected(module, x), outputs(made, x)
    with tempfile.TemporaryDirectory() as folder:
        save_net(made.net, Path(folder, "base.float.npz"))
        saved = floatnet_layers.predict(load_net(Path(folder, "base.float.npz")), dataset.channels_last(x))
    assert np.allclose(saved, signal.reshape(saved.shape), atol=2e-3 * np.abs(signal).max())
    if made.model.loss == "cross_entropy" and made.model.output.positions == 1:
        signal, found = heard(signal), heard(found)
    error = found - signal
    assert 10 * np.log10((signal**2).sum() / (error**2).sum()) > decibel, str(made.report)
    return made


def kinds(made: Quantized) -> list[str]:
    return [op.kind for op in made.model.ops]


class With(tnn.Module):
    """Computes a function of its input and of these modules, parameters and buffers."""

    def __init__(self, call: Callable, **parts: tnn.Module | torch.Tensor) -> None:
        super().__init__()
        self.call, self.names = call, [*parts]
        for name, part in parts.items():
            if type(part) is torch.Tensor:
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x):
        return self.call(x, **{name: getattr(self, name) for name in self.names})


def calls(call: Callable) -> tnn.Module:
    """A function behind a convolution of samples [3, positions]."""
    return With(lambda x, block: call(block(x)), block=tnn.Conv1d(3, 3, 1))


def residual(channels: int) -> tnn.Module:
    """A residual block, written in forward."""
    return With(
        lambda x, first, second, norm: F.relu(x + norm(second(first(x)))),
        first=tnn.Sequential(tnn.Conv2d(channels, channels, 3, padding=1), tnn.BatchNorm2d(channels), tnn.ReLU()),
        second=tnn.Conv2d(channels, channels, 3, padding="same"),
        norm=tnn.BatchNorm2d(channels),
    )


def written(x, conv1, conv2, out):
    """Functions and methods instead of modules."""
    x = F.relu(F.max_pool2d(conv1(x), 2))
    x = F.dropout(torch.sigmoid(conv2(x)), 0.5, training=False)
    return out(x.view(x.size(0), -1))


def shared(x, conv, norm, head):
    """Normalization can't be folded into a layer whose output other layers read, too."""
    x = conv(x)
    x = x + norm(x)
    return torch.sigmoid(head(x + F.relu(x)).mean(2))


class Squeeze(tnn.Module):
    """Squeeze-and-excitation; `way`: how the scale [N, channels, 1, 1] is written."""

    def __init__(self, channels: int, axes: int, way: str) -> None:
        super().__init__()
        self.axes, self.way = axes, way
        self.pool = (tnn.AdaptiveAvgPool1d, tnn.AdaptiveAvgPool2d)[axes - 1](1)
        conv = (tnn.Conv1d, tnn.Conv2d)[axes - 1]
        layers = [conv(channels, 2, 1), conv(2, channels, 1)]
        if way in ("view", "expand", "index", "unsqueeze"):
            layers = [tnn.Linear(channels, 2), tnn.Linear(2, channels)]
        gate = tnn.Hardsigmoid() if way == "first" else tnn.Sigmoid()
        self.gate = tnn.Sequential(layers[0], tnn.ReLU(), layers[1], gate)

    def forward(self, x):
        if self.way in ("pool", "first", "in place"):
            scale = self.gate(self.pool(x))
        elif self.way == "mean":
            scale = self.gate(x.mean((2, 3)[: self.axes], keepdim=True))
        elif self.way in ("view", "expand"):
            n, channels = x.size()[:2]
            scale = self.gate(self.pool(x).view(n, channels)).view(n, channels, *[1] * self.axes)
        elif self.way == "index":
            scale = self.gate(torch.flatten(self.pool(x), 1))[(slice(None), slice(None), *[None] * self.axes)]
        else:
            scale = self.gate(self.pool(x).flatten(1))
            for _ in range(self.axes):
                scale = scale.unsqueeze(-1)
        if self.way == "in place":
            x *= scale
            return x
        return scale * x if self.way == "first" else x * (scale.expand_as(x) if self.way == "expand" else scale)


NETS: dict[str, tuple[Callable[[], tnn.Module], tuple[int, ...], list[str]]] = {
    "dense": (lambda: tnn.Sequential(tnn.Linear(9, 12), tnn.ReLU(), tnn.Linear(12, 4)), (9,), ["dense", "dense"]),
    "flatten": (
        lambda: tnn.Sequential(tnn.Conv2d(2, 5, 3, stride=2, padding=1), tnn.ReLU(), tnn.Flatten(), tnn.Linear(60, 4)),
        (2, 5, 8),
        ["conv", "dense"],
    ),
    "flattened and unchanged on the way": (
        lambda: tnn.Sequential(tnn.Flatten(), tnn.Tanh(), tnn.Dropout(), tnn.Linear(24, 4, bias=False)),
        (2, 3, 4),
        ["lookup", "dense"],
    ),
    "one axis": (
        lambda: tnn.Sequential(
            *(tnn.Conv1d(3, 8, 5, stride=2, padding=2), tnn.BatchNorm1d(8), tnn.ReLU6(), tnn.MaxPool1d(2)),
            *(tnn.Conv1d(8, 8, 3, dilation=2, groups=8), tnn.AvgPool1d(2, padding=1), tnn.Flatten(), tnn.Linear(32, 3)),
            tnn.Softmax(dim=1),
        ),
        (3, 40),
        ["conv", "max_pool", "depthwise", "pad", "average_pool", "dense", "softmax"],
    ),
    "separable": (
        lambda: tnn.Sequential(
            *(tnn.BatchNorm2d(3), tnn.Conv2d(3, 6, (3, 2), (2, 1), (0, 1), bias=False), tnn.BatchNorm2d(6), tnn.ReLU()),
            tnn.Sequential(tnn.Conv2d(6, 12, 3, padding="same", groups=6), tnn.BatchNorm2d(12), tnn.Hardswish()),
            *(tnn.Conv2d(12, 8, 1), tnn.Hardtanh(), tnn.AdaptiveAvgPool2d(1), tnn.Flatten(), tnn.Linear(8, 4)),
        ),
        (3, 11, 6),
        ["depthwise", "conv", "depthwise", "lookup", "conv", "mean", "dense"],
    ),
    "residual": (
        lambda: tnn.Sequential(
            residual(4), residual(4), tnn.AdaptiveMaxPool2d((2, 3)), tnn.Flatten(), tnn.Linear(24, 3)
        ),
        (4, 4, 6),
        ["conv", "conv", "add", "conv", "conv", "add", "max_pool", "dense"],
    ),
    "shared": (
        lambda: With(shared, conv=tnn.Conv1d(2, 4, 3), norm=tnn.BatchNorm1d(4), head=tnn.Conv1d(4, 3, 1)),
        (2, 12),
        ["conv", "depthwise", "add", "lookup", "add", "conv", "mean", "lookup"],
    ),
    "written": (
        lambda: With(
            written, conv1=tnn.Conv2d(2, 5, 3), conv2=tnn.Conv2d(5, 6, 3, padding=1), out=tnn.Linear(6 * 3 * 4, 3)
        ),
        (2, 8, 10),
        ["conv", "max_pool", "conv", "lookup", "dense"],
    ),
    "ends in a picture": (
        lambda: tnn.Sequential(
            tnn.ZeroPad2d((1, 0, 2, 1)), tnn.Conv2d(2, 3, 3), tnn.LeakyReLU(0.2), tnn.Conv2d(3, 2, 1)
        ),
        (2, 5, 7),
        ["pad", "conv", "lookup", "conv"],
    ),
}


@pytest.mark.parametrize("loss", [None, "mean_squared_error"])
@pytest.mark.parametrize("name", NETS)
def test_networks(name: str, loss: str | None) -> None:
    """With the loss of values, the whole output range is compared."""
    build, shape, wanted = NETS[name]
    assert kinds(check_near(build(), *shape, loss=loss)) == wanted


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("way", ["pool", "first", "in place", "mean", "view", "expand", "index", "unsqueeze"])
def test_squeeze_and_excitation(way: str, axes: int) -> None:
    conv = (tnn.Conv1d, tnn.Conv2d)[axes - 1](3, 8, 3, padding=1)
    module = tnn.Sequential(conv, tnn.ReLU(), Squeeze(8, axes, way), tnn.Flatten(), tnn.Linear(8 * 6**axes, 3))
    made = check_near(module, 3, *[6] * axes)
    assert "multiply" in kinds(made)
    op = next(op for op in made.model.ops if op.kind == "multiply")
    assert made.model.tensors[op.input].positions == 6**axes and made.model.tensors[op.input2].positions == 1


WORDS: list[Callable] = [  # functions of one value, written in forward
    lambda x: x * torch.sigmoid(x),
    lambda x: x * F.relu6(x + 3) / 6,
    lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3))),
    lambda x: 1 - x,
    lambda x: -x.abs(),
    lambda x: torch.square(x) - 2,
    lambda x: F.mish(x) + F.softplus(x, beta=2),
    lambda x: F.gelu(x, approximate="tanh") + F.selu(x),
    lambda x: F.relu(x * F.logsigmoid(x)),
]


@pytest.mark.parametrize("words", WORDS)
def test_functions_called_in_forward(words: Callable) -> None:
    made = check_near(tnn.Sequential(calls(words), tnn.Flatten(), tnn.Linear(24, 4)), 3, 8, decibel=18)
    assert made.net.layers[-1].kind == "dense" and made.report.agreement > 0.9


def test_random_geometry() -> None:
    """Kernels, strides, paddings and dilations that TensorFlow's SAME and VALID can't express."""
    rng = np.random.default_rng(0)
    for seed in range(25):
        groups = int(rng.choice([1, 4]))
        kernel, stride, dilation, padding = (tuple(int(n) for n in rng.integers(*r, 2)) for r in GEOMETRY)
        layers = [tnn.Conv2d(4, 8, kernel, stride, padding, dilation, groups), tnn.ReLU(), tnn.Flatten()]
        size = tnn.Sequential(*layers)(torch.zeros(1, 4, 9, 12)).numel()
        check_near(tnn.Sequential(*layers, tnn.Linear(size, 3)), 4, 9, 12, seed=seed)


GEOMETRY = ((1, 4), (1, 4), (1, 3), (0, 4))  # ranges of kernel, stride, dilation, padding

ACTIVATIONS = (
    *(tnn.ReLU(inplace=True), tnn.ReLU6(), tnn.Hardtanh(-0.5, 2.0), tnn.Sigmoid(), tnn.Tanh(), tnn.LeakyReLU(0.1)),
    *(tnn.PReLU(), tnn.Hardswish(), tnn.Hardsigmoid(), tnn.GELU(), tnn.SiLU(), tnn.Mish(), tnn.ELU(), tnn.Softplus()),
)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_activations(activation: tnn.Module) -> None:
    """After a pool, into which they can't be fused, so that they are ops; their slopes equal autograd's."""
    made = check_near(tnn.Sequential(tnn.AvgPool1d(2), activation), 3, 20, decibel=28)
    source, target = made.model.tensors[1:3]
    op = made.model.ops[1]
    x = torch.tensor(source.scale * (np.arange(-128, 128) - float(source.zero_point)), requires_grad=True)
    copy.deepcopy(activation).double()(x * 1.0).sum().backward()
    slope = op.slope * 2.0 ** float(op.shift[0]) * target.scale / source.scale
    inside = (op.table > -128) & (op.table < 127)
    assert inside.any() and np.median(np.abs(slope - x.grad.numpy())[inside]) < 0.02


def picture_problem(seed: int, count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Bars [N, 2, 8, 6] at one of four places in one of two channels, and their 8 classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 8, count)
    x = rng.normal(0, 0.6, (count, 2, 8, 6))
    for row, label in zip(x, y, strict=True):
        row[label % 2, 2 * (label // 2)] += 1
    return x.astype(np.float32), y


def test_int8_accuracy_is_near_float() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    convs = [tnn.Conv2d(2, 8, 3, padding=1), tnn.ReLU(), tnn.MaxPool2d(2), tnn.Conv2d(8, 8, 3, padding=1), tnn.ReLU()]
    module, (x, y) = tnn.Sequential(*convs, tnn.Flatten(), tnn.Linear(8 * 4 * 3, 8)), picture_problem(0)
    trained_on(module, list(module.parameters()), x, y, 3e-3, 120)
    module.train()
    labels = [f"bar {i}" for i in range(8)]
    made = edgelora.from_torch(module, torch.from_numpy(x), y, labels)
    assert module.training and made.model.labels == labels
    x, y = picture_problem(1)
    report = made.report
    assert report.float_accuracy > 0.9 and abs(report.float_accuracy - report.int8_accuracy) < 0.02
    assert [layer.name for layer in report.layers] == ["0", "2", "3", "6"] and report.worst[0].sqnr_db > 25
    int8, real = (out.reshape(len(x), -1).argmax(axis=1) for out in (outputs(made, x), expected(module, x)))
    assert np.mean(int8 == y) > np.mean(real == y) - 0.02


# ---- LoRA of modules with batch normalization ------------------------------------------------------------------------

NORMALIZED: dict[str, tuple[Callable[[], tnn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "Conv2d, BatchNorm2d": (
        lambda: tnn.Sequential(
            *(tnn.Conv2d(2, 6, 3, padding=1, bias=False), tnn.BatchNorm2d(6), tnn.ReLU(), tnn.Conv2d(6, 5, (1, 3), 2)),
            *(tnn.BatchNorm2d(5), tnn.BatchNorm2d(5), tnn.Hardswish(), tnn.Flatten(), tnn.Linear(30, 4)),
        ),
        (2, 5, 6),
        ("0", "3", "8"),
    ),
    "Conv1d, BatchNorm1d": (
        lambda: tnn.Sequential(
            *(tnn.Conv1d(3, 8, 5, padding=2, dilation=1), tnn.BatchNorm1d(8), tnn.ReLU6(), tnn.MaxPool1d(2)),
            *(tnn.Conv1d(8, 6, 3), tnn.BatchNorm1d(6, affine=False), tnn.AdaptiveAvgPool1d(1), tnn.Flatten()),
            tnn.Linear(6, 3),
        ),
        (3, 20),
        ("0", "4", "8"),
    ),
    "Linear, BatchNorm1d": (
        lambda: tnn.Sequential(tnn.Linear(9, 12), tnn.BatchNorm1d(12), tnn.ReLU(), tnn.Linear(12, 4)),
        (9,),
        ("0", "3"),
    ),
    "BatchNorm before the layer": (
        lambda: tnn.Sequential(
            *(tnn.BatchNorm1d(3), tnn.Conv1d(3, 8, 3), tnn.ReLU(), tnn.BatchNorm1d(8), tnn.Conv1d(8, 4, 3)),
            *(tnn.Flatten(), tnn.Linear(64, 3)),
        ),
        (3, 20),
        ("1", "4", "6"),
    ),
    "depthwise between": (
        lambda: tnn.Sequential(
            *(tnn.Conv2d(2, 6, 3), tnn.BatchNorm2d(6), tnn.ReLU(), tnn.Conv2d(6, 6, 3, groups=6), tnn.BatchNorm2d(6)),
            *(tnn.ReLU(), tnn.Conv2d(6, 8, 1), tnn.BatchNorm2d(8), tnn.ReLU(), tnn.Flatten(), tnn.Linear(32, 3)),
        ),
        (2, 6, 6),
        ("0", "6", "10"),
    ),
    "residual": (
        lambda: tnn.Sequential(residual(4), residual(4), tnn.Flatten(), tnn.Linear(96, 3)),
        (4, 4, 6),
        ("0.first.0", "0.second", "1.first.0", "1.second", "3"),
    ),
    "Linear over time": (  # as most often trained by PEFT
        lambda: With(
            lambda x, first, across, out: out(mixed(F.relu(first(x)), across).mean(1)),
            **{"first": tnn.Linear(6, 8), "across": tnn.Linear(10, 10), "out": tnn.Linear(8, 3)},
        ),
        (10, 6),
        ("first", "across", "out"),
    ),
}


def mixed(x: torch.Tensor, across: tnn.Module) -> torch.Tensor:
    return x + across(x.transpose(1, 2)).transpose(1, 2)


def write_lora(folder: Path, changes: dict[str, tuple[np.ndarray, np.ndarray]], alpha: int) -> None:
    """A checkpoint of A and B of these layers."""
    stored = {
        f"base_model.model.{name}.lora_{part}.weight": values
        for name, pair in changes.items()
        for part, values in zip("AB", pair, strict=True)
    }
    write_safetensors(folder / "adapter_model.safetensors", stored)
    rank = len(next(iter(changes.values()))[0])
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": alpha}))


def lora_of(module: tnn.Module, names: tuple[str, ...], folder: Path, seed: int, rank: int = 2) -> tnn.Module:
    """Writes a checkpoint that changes these layers by about half their size; returns the changed module."""
    rng, changes, changed = np.random.default_rng(seed), {}, copy.deepcopy(module)
    for name in names:
        weight = changed.get_submodule(name).weight
        a = rng.normal(0, 1, (rank, *weight.shape[1:])).astype(np.float32)
        size = float(weight.detach().std()) / 2 / rank**0.5 / 3
        b = rng.normal(0, size, (len(weight), rank, *[1] * (weight.dim() - 2))).astype(np.float32)
        changes[name] = (a, b)
        with torch.no_grad():
            weight += torch.from_numpy(3 * np.einsum("or,r...->o...", b.reshape(len(b), rank), a))
    write_lora(folder, changes, 3 * rank)
    return changed.eval()


@pytest.mark.parametrize("name", NORMALIZED)
def test_lora_is_folded_as_batch_normalization_is(name: str, tmp_path: Path) -> None:
    """The saved float network with the LoRA computes the same as the module with it; integers stay close."""
    build, shape, layers = NORMALIZED[name]
    module = randomized(build(), 4).eval()
    changed = lora_of(module, layers, tmp_path, 5)
    x = noise(200, *shape, seed=1)
    made = edgelora.from_torch(module, x, loras=[tmp_path])
    made.save(tmp_path / "base.elm")
    net, modules = load_net(tmp_path / "base.float.npz"), peft.load_checkpoint(tmp_path)
    wanted = expected(changed, x)
    computed = floatnet_layers.predict(peft.with_lora(net, modules), dataset.channels_last(x)).reshape(wanted.shape)
    assert np.allclose(computed, wanted, atol=1e-3 * np.abs(wanted).max())
    assert np.abs(wanted - expected(module, x)).max() > 0.1 * np.abs(wanted).max()
    imported = peft.import_adapter(made.elm, modules, x=dataset.channels_last(x), net=net)
    assert imported.fidelity.agreement > 0.9 and not imported.fidelity.lost
    error = heard(outputs(made, x, pack_adapter(imported.adapter))) - heard(wanted)
    assert 10 * np.log10((heard(wanted) ** 2).sum() / (error**2).sum()) > 18


def test_lora_of_a_depthwise_layer_is_refused_by_name() -> None:
    """Even if it has the shape of another layer that could have an adapter."""
    module = tnn.Sequential(tnn.Conv2d(1, 4, 3), tnn.Conv2d(4, 4, 3, groups=4), tnn.Flatten(), tnn.Linear(16, 2))
    made = edgelora.from_torch(randomized(module).eval(), noise(50, 1, 6, 6))
    one = peft.Module("1", np.ones((1, 1, 3, 3), np.float32), np.ones((4, 1), np.float32), 1.0)
    assert peft.match_modules(made.model, [one], {}) == {"1": 0}
    with pytest.raises(peft.PeftError, match="module 1 is a depthwise convolution, which can.t have an adapter"):
        peft.import_adapter(made.elm, [one], net=made.net)


@pytest.mark.parametrize("seed", some(range(2)))
def test_trained_lora_keeps_its_accuracy(seed: int, tmp_path: Path) -> None:
    """A network with batch normalization, trained, then adapted by LoRA to a user's other classes."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    module = tnn.Sequential(
        *(tnn.Conv2d(2, 12, 3, padding=1, bias=False), tnn.BatchNorm2d(12), tnn.ReLU(), tnn.MaxPool2d(2)),
        *(tnn.Conv2d(12, 12, 3, padding=1), tnn.BatchNorm2d(12), tnn.ReLU(), tnn.Flatten(), tnn.Linear(144, 8)),
    )
    x, y = picture_problem(seed)
    trained_on(module.train(), list(module.parameters()), x, y)
    own_x, own_y = picture_problem(seed + 10)
    own_y = (own_y + 3) % 8
    names = ("0", "4", "8")
    layers = {name: Lora(module.get_submodule(name)) for name in names}
    adapted = copy.deepcopy(module.eval())
    for name in names:
        adapted[int(name)] = layers[name]
    trained_on(adapted, [p for layer in layers.values() for p in (layer.a, layer.b)], own_x, own_y, 1e-3, 300)
    write_lora(tmp_path, {name: (one.a.detach().numpy(), one.b.detach().numpy()) for name, one in layers.items()}, 8)
    made = edgelora.from_torch(module, np.concatenate([x, own_x]), loras=[tmp_path])
    test_x, test_y = picture_problem(seed + 20)
    test_y = (test_y + 3) % 8
    rows, modules = dataset.channels_last(test_x), peft.load_checkpoint(tmp_path)
    fidelity = peft.import_adapter(made.elm, modules, x=rows, y=test_y, net=made.net).fidelity
    assert fidelity.float_accuracy == pytest.approx(float(np.mean(predicted(adapted, test_x) == test_y)), abs=0.005)
    assert fidelity.float_accuracy > 0.5 and not fidelity.lost  # the base alone: 0
    assert abs(fidelity.accuracy - fidelity.float_accuracy) < 0.02


class Lora(tnn.Module):
    """A layer with a LoRA of rank 4 and scaling 2."""

    def __init__(self, layer: tnn.Module) -> None:
        super().__init__()
        self.layer, outputs = layer, len(layer.weight)
        ones = [1] * (layer.weight.dim() - 2)
        self.a = tnn.Parameter(torch.randn(4, *layer.weight.shape[1:]) / layer.weight[0].numel() ** 0.5)
        self.b = tnn.Parameter(torch.zeros(outputs, 4, *ones))

    def forward(self, x):
        if isinstance(self.layer, tnn.Linear):
            return self.layer(x) + 2 * F.linear(F.linear(x, self.a), self.b)
        return self.layer(x) + 2 * F.conv2d(F.conv2d(x, self.a, padding=1), self.b)


def trained_on(
    module: tnn.Module, parameters: list, x: np.ndarray, y: np.ndarray, rate: float = 1e-2, steps: int = 100
) -> None:
    optimizer = torch.optim.Adam(parameters, rate)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    module.eval()


def predicted(module: tnn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy().argmax(axis=1)


def test_a_sigmoid_at_the_end_says_yes_or_no() -> None:
    made = check_near(tnn.Sequential(tnn.Linear(6, 4), tnn.ReLU(), tnn.Linear(4, 1), tnn.Sigmoid()), 6)
    assert made.model.loss == "binary_cross_entropy" and made.report.agreement > 0.95


REFUSED = [
    (
        tnn.Sequential(tnn.Sequential(tnn.Conv1d(3, 4, 1), tnn.Hardtanh(), tnn.LocalResponseNorm(2))),
        r"0\.2\.local_response_norm \(local_response_norm\): not supp",
    ),
    (tnn.Sequential(tnn.ConvTranspose1d(3, 2, 3, dilation=2)), r"^0 \(ConvTranspose1d\): groups and dilation"),
    (tnn.Sequential(tnn.Conv1d(3, 3, 3, padding=1, padding_mode="circular")), "only 'zeros' is supported"),
    (tnn.Sequential(tnn.AdaptiveAvgPool1d(3)), "can't be shared evenly"),
    (tnn.Sequential(tnn.Softmax(0)), "over axis 0 of .*, the batch"),
    (tnn.Sequential(tnn.BatchNorm1d(3, track_running_stats=False)), "track_running_stats=True"),
    (tnn.Sequential(tnn.Identity()), "doesn't come from its last layer"),
    (calls(lambda x: torch.cumsum(x, 2)), r"cumsum \(cumsum\): not supported"),
    (calls(lambda x: x / 0), "only division by a number other than 0"),
    (calls(lambda x: 2**x), "must have an exponent of 1 to 8"),
    (calls(lambda x: x * float("inf")), "inf is not a number"),
    (calls(lambda x: (x, x)), "returns several values"),
    (calls(lambda x: x.reshape(2, -1, 4)), "With makes 2 outputs for 16 samples"),
    (
        calls(lambda x: x.std(2) / x.mean(2)),
        "divides two activations, which is supported only for sums, differences and products",
    ),
    (calls(lambda x: x.mean()), r"mean over axes \[\] of .*; give axes of a sample"),
    (calls(lambda x: x.max(2)[1]), "takes 1 of 2 results"),
    (calls(lambda x: x[:, :, :1].std(2)), "over a single value, which has no variance"),
    (calls(lambda x: 1 / (x + torch.arange(24.0).view(3, 8)).mul(torch.ones(3, 8))), "only division by a number"),
    (calls(lambda x: torch.arange(1.0, 25).view(3, 8) / x), "divides an activation and a parameter"),
    (calls(lambda x: x.unflatten(1, (3, 1)).sum(3).unsqueeze(1).unsqueeze(1)), "returns .* axes of a sample"),
    (calls(lambda x: x if x.sum() > 0 else -x), "can't be traced .* without `if` on values"),
    (calls(lambda x: torch.einsum("bct,bdt->bcd", x, x)), "einsum isn't supported: write it with @"),
    (calls(lambda x: torch.where(x > 0, x, -x)), "aren't supported: compute with relu, clamp"),
    (calls(lambda x: x.masked_fill(torch.eye(3, 8) > 0, -9.0)), "is_causal=True"),
    (calls(lambda x: F.scaled_dot_product_attention(x, x, x, torch.eye(3))), "a mask that isn't causal"),
    (tnn.Linear(9, 4), r"can't compute on samples \[3, 8\] .*: give inputs as it takes them"),
    (tnn.Embedding(20, 4), "Embedding of ids isn't imported from PyTorch: import .* by from_language_model"),
    (tnn.EmbeddingBag(20, 4), "Embedding of ids isn't imported from PyTorch"),
    (calls(lambda x: F.embedding(x.abs().long(), torch.ones(20, 4))), "Embedding of ids isn't imported from PyTorch"),
    (calls(lambda x: F.normalize(x, p=1)), "p=1 along axis 1; give p=2"),
    (tnn.Conv3d(3, 4, 3), "can't compute on samples .*: give inputs"),
    (len, "is no torch.nn.Module: give a module"),
    (calls(lambda x: F.dropout(x)), "something other than its layers"),
    (calls(lambda x: x[1:]), "takes or moves part of the batch, or takes nothing"),
    (calls(lambda x: x.permute(1, 0, 2)), "must stay axis 0"),
    (calls(lambda x: torch.cat([x, x], dim=0)), "along axes of a sample"),
    (calls(lambda x: F.log_softmax(x, dim=1) + 1), "only at the end"),
    (calls(lambda x: F.interpolate(x, size=9, mode="area")), "mode 'area': supported are"),
    (
        With(lambda x, rnn: rnn(F.interpolate(x, 60).transpose(1, 2))[0][:, -1], rnn=tnn.LSTM(3, 6, batch_first=True)),
        "its 60 steps take 15 ops each, the limit is 511",
    ),
    (
        With(lambda x, rnn: rnn(x)[0][:, -1], rnn=tnn.GRU(8, 6)),
        r"reads \[2, 3, 8\]: must read \[batch, time, features\], batch_first=True",
    ),
    (
        With(lambda x, rnn: rnn(x)[0][:, -1], rnn=tnn.LSTM(8, 6, proj_size=3, batch_first=True)),
        "proj_size isn.t supported: put a Linear",
    ),
    (
        With(
            lambda x, attention: attention(x, x, x, attn_mask=torch.ones(3, 3))[0],
            attention=tnn.MultiheadAttention(8, 2, batch_first=True),
        ),
        "a mask that isn't causal; only is_causal=True",
    ),
]


@pytest.mark.parametrize(("module", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refusals_name_the_module_and_what_works(module: tnn.Module, message: str) -> None:
    with pytest.raises(TorchError, match=message):
        edgelora.from_torch(module, noise(20, 3, 8))


def test_bad_inputs_are_refused() -> None:
    with pytest.raises(TorchError, match="give"):
        edgelora.from_torch(tnn.Linear(3, 2), noise(3))
    with pytest.raises(ValueError, match="not finite"):
        edgelora.from_torch(tnn.Linear(3, 2), noise(5, 3) * np.nan)
    with pytest.raises(ValueError, match="3 labels are given for 2 outputs"):
        edgelora.from_torch(tnn.Linear(3, 2), noise(5, 3), labels=["a", "b", "c"])


def sized(x: torch.Tensor, conv: tnn.Module, out: tnn.Module) -> torch.Tensor:
    """`x.size(2)` and `x.shape[-1]`, as often written in pools over all positions."""
    x = torch.relu(conv(x))
    x = x * torch.sigmoid(F.avg_pool2d(x, x.size(2)))
    x = F.avg_pool2d(x, (x.shape[-2], x.shape[-1]))
    return out(x.view(x.size(0), -1))


ACCEPTED: dict[str, tuple[Callable, tuple[int, ...]]] = {  # moves, joins and reductions, written in forward
    "grouped": (
        lambda: tnn.Sequential(tnn.Conv1d(4, 8, 3, groups=2), tnn.ReLU(), tnn.Conv1d(8, 8, 1, groups=4)),
        (4, 9),
    ),
    "ceil_mode": (lambda: tnn.Sequential(tnn.MaxPool1d(3, ceil_mode=True), tnn.AvgPool1d(2, ceil_mode=True)), (3, 19)),
    "ceil_mode, padded": (lambda: tnn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=True), (3, 6, 8)),
    "Linear over time": (lambda: tnn.Sequential(tnn.Linear(8, 5), tnn.ReLU(), tnn.Linear(5, 4)), (6, 8)),
    "Linear over width": (lambda: tnn.Sequential(tnn.Linear(8, 5), tnn.Conv2d(3, 2, 1)), (3, 4, 8)),
    "normalized behind Flatten": (
        lambda: tnn.Sequential(tnn.Flatten(), tnn.BatchNorm1d(24), tnn.Linear(24, 2)),
        (3, 8),
    ),
    "ends flattened": (lambda: tnn.Sequential(tnn.Conv2d(3, 4, 1), tnn.Flatten()), (3, 4, 5)),
    "softmin": (lambda: tnn.Sequential(tnn.Conv1d(3, 4, 1), tnn.Softmin(2), tnn.Conv1d(4, 2, 1)), (3, 8)),
    "older weight_norm": (lambda: torch.nn.utils.weight_norm(tnn.Conv1d(3, 4, 3)), (3, 8)),
    "softmax over time": (lambda: tnn.Sequential(tnn.Conv1d(3, 4, 1), tnn.Softmax(2), tnn.Conv1d(4, 2, 1)), (3, 8)),
    "slopes by channel": (lambda: tnn.Sequential(tnn.Conv2d(3, 4, 1), tnn.PReLU(4), tnn.Conv2d(4, 2, 1)), (3, 4, 5)),
    "a difference": (lambda: calls(lambda x: x - F.relu(x).mean(2, keepdim=True)), (3, 8)),
    "constants": (
        lambda: calls(lambda x: torch.arange(3.0).view(3, 1) - x * torch.arange(24.0).view(3, 8) / torch.tensor([2.0])),
        (3, 8),
    ),
    "expanded": (lambda: calls(lambda x: F.relu(x.mean(2, keepdim=True).expand_as(x))), (3, 8)),
    "outer product": (
        lambda: With(lambda x, map: x.mean(2, keepdim=True) * map(x), map=tnn.Conv1d(3, 1, 1)),
        (3, 8),
    ),
    "repeated over channels and positions": (
        lambda: With(
            lambda x, map: x * torch.sigmoid(map(x)) + x.mean((2, 3), keepdim=True), map=tnn.Conv2d(4, 1, 3, padding=1)
        ),
        (4, 5, 6),
    ),
    "features become an image": (
        lambda: With(
            lambda x, conv, out: out(torch.relu(conv(x.view(-1, 1, 6, 8))).mean((2, 3))),
            **{"conv": tnn.Conv2d(1, 4, 3, padding=1), "out": tnn.Linear(4, 3)},
        ),
        (48,),
    ),
    "sizes of shapes": (
        lambda: With(sized, conv=tnn.Conv2d(2, 6, 3, padding=1), out=tnn.Linear(6, 3)),
        (2, 6, 6),
    ),
    "both sides of a cut, a last position": (
        lambda: With(
            lambda x, conv, out: out(torch.relu(conv(x)[:, :, :-4])[..., -1]),
            **{"conv": tnn.Conv1d(2, 5, 3, padding=4, dilation=2), "out": tnn.Linear(5, 3)},
        ),
        (2, 12),
    ),
    "channel by number": (lambda: calls(lambda x: x[:, 0] + x[:, -1]), (3, 8)),
    "joined over time": (lambda: calls(lambda x: torch.cat([x, F.relu(x), x[:, :, :2]], dim=2)), (3, 8)),
    "stacked": (lambda: calls(lambda x: torch.stack([x, -x], dim=1).flatten(1, 2)), (3, 8)),
    "joined flattened": (lambda: calls(lambda x: torch.cat([x.flatten(1), x.mean(2)], dim=1)), (3, 8)),
    "linear upsampling": (lambda: calls(lambda x: F.interpolate(x, scale_factor=3, mode="linear")), (3, 8)),
    "bilinear upsampling": (
        lambda: tnn.Sequential(tnn.Upsample(scale_factor=2, mode="bilinear"), tnn.Conv2d(3, 4, 3)),
        (3, 4, 5),
    ),
    "upsampling to any size": (lambda: calls(lambda x: F.interpolate(x, size=13, mode="linear")), (3, 8)),
    "upsampling with corners": (
        lambda: tnn.Sequential(tnn.Upsample((9, 7), mode="bilinear", align_corners=True), tnn.Conv2d(3, 4, 3)),
        (3, 4, 5),
    ),
    "weights of a norm": (
        lambda: tnn.Sequential(parametrizations.weight_norm(tnn.Conv1d(3, 4, 3)), tnn.ReLU(), tnn.Conv1d(4, 2, 1)),
        (3, 8),
    ),
    "of a length": (lambda: calls(lambda x: F.normalize(x, dim=2)), (3, 8)),
    "pools as functions": (
        lambda: calls(lambda x: F.adaptive_max_pool1d(x, 1) * torch.softmax(F.adaptive_avg_pool1d(x, 1), dim=1)),
        (3, 8),
    ),
    "functions that end somewhere": (
        lambda: calls(lambda x: torch.exp(-x) + torch.sqrt(torch.square(x)) + torch.log(x.abs() + 0.5)),
        (3, 8),
    ),
    "what nobody reads": (lambda: calls(lambda x: x.max(2).values + x.std(2) * 0), (3, 8)),
    "pixel shuffle": (lambda: tnn.Sequential(tnn.Conv2d(3, 8, 1), tnn.PixelShuffle(2)), (3, 4, 5)),
    "pixel unshuffle": (lambda: tnn.Sequential(tnn.PixelUnshuffle(2), tnn.Conv2d(12, 4, 1)), (3, 4, 6)),
    "channel shuffle": (
        lambda: tnn.Sequential(tnn.Conv2d(3, 8, 1), tnn.ChannelShuffle(4), tnn.Conv2d(8, 4, 1)),
        (3, 4, 5),
    ),
    "halves": (lambda: calls(lambda x: torch.cat([x.chunk(2, 2)[1], F.relu(x.split([3, 5], 2)[0])], 2)), (3, 8)),
    "turned, flipped, rolled": (
        lambda: calls(lambda x: F.relu(x.transpose(1, 2).flip(1)).permute(0, 2, 1).roll(3, 2) * x),
        (3, 8),
    ),
    "reflected": (lambda: tnn.Sequential(tnn.ReflectionPad2d(2), tnn.Conv2d(3, 2, 3)), (3, 5, 6)),
    "padded by a function": (lambda: calls(lambda x: F.pad(F.pad(x, (2, 0)), (1, 1), mode="circular")), (3, 8)),
    "reduced": (
        lambda: calls(lambda x: torch.cat([x.mean(1), x.sum(1), x.amax(1), torch.max(x, dim=1)[0]], 1)),
        (3, 8),
    ),
    "statistics": (
        lambda: calls(lambda x: torch.cat([x.mean(2), x.std(2), x.var(2, unbiased=False), x.max(dim=2).values], 1)),
        (3, 40),
    ),
    "long pool": (lambda: tnn.Sequential(tnn.Conv1d(1, 4, 1), tnn.AdaptiveMaxPool1d(1), tnn.Flatten()), (1, 700)),
    "groups of channels": (lambda: tnn.Sequential(tnn.Conv1d(3, 8, 3), tnn.GroupNorm(2, 8), tnn.ReLU()), (3, 12)),
    "normalized over all": (lambda: tnn.Sequential(tnn.Conv1d(3, 4, 3), tnn.LayerNorm([4, 6]), tnn.ReLU()), (3, 8)),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_whatever_moves_elements_is_followed(name: str) -> None:
    build, shape = ACCEPTED[name]
    check_near(build(), *shape, loss="mean_squared_error")


def test_moves_that_cancel_cost_nothing() -> None:
    """A normalization between permutations, as in ConvNeXt, and an activation between transpositions."""

    def turned(x: torch.Tensor, conv: tnn.Module, norm: tnn.Module, wide: tnn.Module, out: tnn.Module) -> torch.Tensor:
        x = norm(conv(x).permute(0, 2, 3, 1))
        return out(F.gelu(wide(x)).permute(0, 3, 1, 2))

    parts = {"conv": tnn.Conv2d(3, 6, 3), "norm": tnn.LayerNorm(6), "wide": tnn.Linear(6, 4)}
    made = check_near(With(turned, **parts, out=tnn.Conv2d(4, 2, 1)), 3, 6, 7, loss="mean_squared_error")
    assert not {"gather", "reshape"} & set(kinds(made))


def test_moves_and_joins() -> None:
    """Transposes, slices, concatenations and upsampling."""

    def moved(x: torch.Tensor, one: tnn.Module, two: tnn.Module, up: tnn.Module, out: tnn.Module) -> torch.Tensor:
        x = F.relu(one(x.permute(0, 3, 1, 2)))
        y = up(F.max_pool2d(torch.relu(two(x)), 2))
        z = torch.cat([x, y, 2 * x[:, :2]], dim=1)[:, 2:10:2, 1:, :-1]
        return F.log_softmax(out(z.transpose(2, 3).mean((2, 3))), dim=1)

    convs = {"one": tnn.Conv2d(3, 4, 3, padding=1), "two": tnn.Conv2d(4, 6, 3, padding=1)}
    module = randomized(With(moved, **convs, up=tnn.Upsample(scale_factor=2), out=tnn.Linear(4, 5)))
    x = noise(64, 8, 6, 3)
    made = edgelora.from_torch(module, x)
    assert [op.kind for op in made.model.ops].count("gather") == 4
    assert [op.kind for op in made.model.ops].count("concatenate") == 2
    found, wanted = outputs(made, x), np.exp(expected(module, x))
    noise_power = np.square(found.reshape(wanted.shape) - wanted).sum()
    assert 10 * np.log10(np.square(wanted).sum() / noise_power) > 20


@pytest.mark.parametrize("shape", [(12,), (6, 9), (4, 5, 7)])
def test_layer_normalization(shape: tuple[int, ...]) -> None:
    """Over the last axis, which holds channels if there are only features; as a module and as a function."""

    def normed(x: torch.Tensor, norm: tnn.Module, out: tnn.Module) -> torch.Tensor:
        x = torch.relu(norm(x))
        x = F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, 1e-4)
        return out(torch.flatten(x, 1) if len(shape) > 1 else x)

    module = With(normed, norm=tnn.LayerNorm(shape[-1]), out=tnn.Linear(int(np.prod(shape)), 3))
    check_near(module, *shape, decibel=12)


@pytest.mark.parametrize("fields", [{}, {"padding": 1, "output_padding": 1}, {"padding": 2, "bias": False}])
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_transposed_convolutions(axes: int, stride: int, fields: dict) -> None:
    kind, size = (tnn.ConvTranspose1d, (9,)) if axes == 1 else (tnn.ConvTranspose2d, (5, 4))
    if stride == 1:
        fields = fields | {"output_padding": 0}
    norm = tnn.BatchNorm1d(4) if axes == 1 else tnn.BatchNorm2d(4)
    convs = (tnn.Conv1d, tnn.Conv2d)[axes - 1]
    layers = [kind(3, 4, 3, stride=stride, **fields), norm, tnn.ReLU(), convs(4, 2, 1)]
    check_near(tnn.Sequential(*layers), 3, *size, loss="mean_squared_error")


RECURRENT: dict[str, tuple[Callable[[tnn.Module, torch.Tensor], torch.Tensor], tuple[int, int], dict]] = {
    "last output": (lambda rnn, x: rnn(x)[0][:, -1], (7, 4), {}),
    "last state": (lambda rnn, x: state_of(rnn, rnn(x)[1])[-1], (7, 4), {}),
    "both states": (
        lambda rnn, x: torch.cat([state_of(rnn, rnn(x)[1])[i] for i in (0, 1)], 1),
        (6, 4),  # whose file has more than 1,024 arrays
        {"bidirectional": True},
    ),
    "two layers": (lambda rnn, x: rnn(x)[0][:, -1, :], (5, 4), {"num_layers": 2, "dropout": 0.3}),
    "mean over time": (lambda rnn, x: rnn(x)[0].mean(1), (4, 3), {"bidirectional": True, "bias": False}),
    "time first": (lambda rnn, x: rnn(x.permute(1, 0, 2))[0][-1], (5, 4), {"batch_first": False}),
    "a state of zeros": (lambda rnn, x: rnn(x, zeros(rnn, x))[0].flatten(1), (4, 3), {}),
    "two layers, two ways": (lambda rnn, x: rnn(x)[0][:, 0], (3, 4), {"num_layers": 2, "bidirectional": True}),
    "behind a convolution": (lambda rnn, x: rnn(F.relu(x.transpose(1, 2)).transpose(1, 2))[0][:, -1], (6, 4), {}),
}


def state_of(rnn: tnn.Module, state):
    return state[0] if isinstance(rnn, tnn.LSTM) else state


def zeros(rnn: tnn.Module, x: torch.Tensor):
    state = torch.zeros(1, x.size(0), 6)
    return (state, state) if isinstance(rnn, tnn.LSTM) else state


@pytest.mark.parametrize("kind", [tnn.LSTM, tnn.GRU, tnn.RNN], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrences(name: str, kind: type) -> None:
    words, (steps, features), fields = RECURRENT[name]

    rnn = kind(features, 6, **{"batch_first": True, **fields})
    with torch.no_grad():
        width = words(rnn, torch.zeros(2, steps, features)).shape[1]
    net = With(lambda x, rnn, out: out(words(rnn, x)), rnn=rnn, out=tnn.Linear(width, 3))
    made = check_near(net, steps, features, decibel=18, loss="mean_squared_error")
    if name == "last output":
        each = {tnn.LSTM: 15, tnn.GRU: 16, tnn.RNN: 4}[kind]
        assert len(made.model.ops) <= steps * each + 3


def test_weights_of_a_recurrence_are_in_the_file_once() -> None:
    net = With(lambda x, rnn: rnn(x)[0][:, -1], rnn=tnn.RNN(4, 100, batch_first=True))
    made = edgelora.from_torch(net, noise(30, 9, 4))
    assert kinds(made).count("dense") == 8 and len(made.elm) < 3 * 100 * 100


class Attends(tnn.Module):
    """Attention, written in forward or by PyTorch's function."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.qkv, self.proj = way, tnn.Linear(12, 36), tnn.Linear(12, 12)
        self.other, self.mix = (
            tnn.MultiheadAttention(12, 2, batch_first=way != "time first"),
            tnn.Parameter(torch.eye(12)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "module":
            return self.proj(self.other(x, x, x, need_weights=False)[0])
        if self.way == "time first":
            x = x.transpose(0, 1)
            return self.proj(self.other(x, x, x)[0].transpose(0, 1))
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.way == "one head":
            scores = torch.bmm(q, k.transpose(1, 2)) / 12**0.5
            return self.proj(torch.bmm(torch.softmax(scores, dim=-1), v)) @ self.mix
        b, n, c = x.shape
        q, k, v = (part.reshape(b, n, 3, 4).permute(0, 2, 1, 3) for part in (q, k, v))
        if self.way == "function":
            return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        weights = ((q @ k.transpose(-2, -1)) * 4**-0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


def in_front(x: torch.Tensor, token: torch.Tensor, layer: tnn.Module, head: tnn.Module) -> torch.Tensor:
    """A class token before the samples."""
    return head(layer(torch.cat([token.expand(x.size(0), -1, -1), x], dim=1))[:, 0])


def encoder(**fields: bool) -> tnn.TransformerEncoderLayer:
    return tnn.TransformerEncoderLayer(12, 2, 24, **fields)


def causal() -> torch.Tensor:
    return tnn.Transformer.generate_square_subsequent_mask(7)


TRANSFORMERS: dict[str, Callable[[], tnn.Module]] = {  # of samples [7, 12]
    "class token": lambda: With(
        in_front,
        token=tnn.Parameter(torch.randn(1, 1, 12)),
        layer=encoder(batch_first=True),
        head=tnn.Linear(12, 3),
    ),
    "positions": lambda: With(
        lambda x, head, places: head(x + places[:, : x.size(1)]), head=tnn.Linear(12, 3), places=torch.randn(1, 32, 12)
    ),
    "positions embedded": lambda: With(
        lambda x, head, at: head(x + at(torch.arange(x.shape[1]))), head=tnn.Linear(12, 3), at=tnn.Embedding(9, 12)
    ),
    "glu": lambda: With(lambda x, head: F.glu(head(x), dim=-1), head=tnn.Linear(12, 24)),
    "GLU": lambda: tnn.Sequential(tnn.Linear(12, 24), tnn.GLU(), tnn.Linear(12, 3)),
    "RMSNorm": lambda: tnn.Sequential(tnn.Linear(12, 12), tnn.RMSNorm(12), tnn.Linear(12, 3)),
    "causal": lambda: With(
        lambda x, q, k, v: F.scaled_dot_product_attention(q(x), k(x), v(x), is_causal=True, scale=0.5),
        **{name: tnn.Linear(12, 12) for name in "qkv"},
    ),
    "causal mask": lambda: With(lambda x, layer: layer(x, causal()), layer=encoder(batch_first=True)),
    "rows first": lambda: With(
        lambda x, layer, head: head(layer(x.transpose(0, 1)).mean(0)), layer=encoder(), head=tnn.Linear(12, 3)
    ),
    "rows first, softmax": lambda: With(
        lambda x, head: (x.permute(1, 0, 2).softmax(0) * head(x.permute(1, 0, 2))).sum(0), head=tnn.Linear(12, 12)
    ),
    "decoder": lambda: With(
        lambda x, layer: layer(x, x), layer=tnn.TransformerDecoderLayer(12, 2, 24, batch_first=True)
    ),
    "functions of parameters": lambda: With(
        lambda x, head: F.rms_norm(F.linear(x, head.weight), (12,)), head=tnn.Linear(12, 12)
    ),
    **{way: (lambda way=way: Attends(way)) for way in ("module", "time first", "one head", "function", "words")},
    "instances": lambda: tnn.Sequential(tnn.Conv1d(7, 8, 3), tnn.InstanceNorm1d(8, affine=True), tnn.ReLU()),
    "larger of two": lambda: With(lambda x, head: torch.maximum(x, head(x)), head=tnn.Linear(12, 12)),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_parts_of_transformers(name: str) -> None:
    torch.manual_seed(0)
    check_near(TRANSFORMERS[name](), 7, 12, decibel=18, loss="mean_squared_error")


@pytest.mark.parametrize("seed", range(1, 4))
def test_queries_keys_and_values_of_one_linear(seed: int) -> None:
    """Their grid is the Linear's, whose zero point must be 0."""
    check_near(Attends("function"), 7, 12, decibel=15, seed=seed, loss="mean_squared_error")


@pytest.mark.parametrize("fields", [{}, {"norm_first": True, "activation": "gelu"}, {"bias": False}])
def test_transformer_encoders(fields: dict) -> None:
    layer = tnn.TransformerEncoderLayer(12, 2, 24, batch_first=True, **fields)
    for module in (tnn.Sequential(layer), tnn.TransformerEncoder(layer, 2, tnn.LayerNorm(12))):
        made = check_near(tnn.Sequential(module, tnn.Flatten(), tnn.Linear(84, 3)), 7, 12, decibel=18)
        of_kind = Counter(kinds(made))
        assert of_kind["attend"] and not of_kind["softmax"]
        if of_kind["attend"] == 2:  # with a norm at the end all sums are streams; the gather is the input's
            assert of_kind["project"] == 4 and of_kind["norm"] == 5 and of_kind["gather"] == 1 and not of_kind["add"]
