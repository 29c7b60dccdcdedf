"""PyTorch modules made into INT8 bases by this project's own quantizer.

torch.fx (https://pytorch.org/docs/stable/fx.html) tells what a module calls; each call becomes a layer of a float
network, which has to compute what the module does, and that network is quantized. PyTorch's activations are
[N, channels, height, width] or [N, channels, width], ours [N, height, width, channels].
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import datasets, floatnet, formats, quantization, twin
from ..errors import EdgeloraError, InputError, MissingPackage
from ..formats import WEIGHT_KINDS, QuantModel
from ..quantization import Quantized
from . import peft, tflite

try:
    import torch
    from torch import fx
    from torch import nn as tnn
    from torch.fx.passes.shape_prop import ShapeProp
    from torch.nn import functional as F
except ModuleNotFoundError as missing:
    raise MissingPackage("from_torch needs PyTorch: pip install 'edgelora[torch]'") from missing
TRACED = 2  # samples that the module is traced with
CHECKED = 16  # samples on which the float network has to agree with the module
TOLERANCE = 1e-3  # of the largest output
TABLED = 1.0  # of a function's range in the base, on both sides: what its table in the float original has besides


class TorchError(EdgeloraError, ValueError):
    """A module can't be made into a base; the message names the part of it, why, and what would work."""


def from_torch(
    module: Any,
    calibration_x: Any,
    y: NDArray[np.integer] | None = None,
    labels: Sequence[str] = (),
    loss: str | None = None,
    loras: Sequence[str | Path] = (),
) -> Quantized:
    """Quantizes a trained module to INT8; it is left as it was, and used in evaluation mode.

    calibration_x: a few hundred inputs like those it will see, float [N, C, H, W], [N, C, W] or [N, features] as the
    module takes them. y: their classes [N], if the report is to tell accuracy. labels: the classes' names; loss: one
    of model.LOSSES, else what the module's end suggests; of classes, outputs far below a sample's largest are not told
    apart, of values (mean_squared_error) all are. Data for the base has channels last: `datasets.channels_last`.

    Batch normalization is folded into the layer before. `save` writes beside the base the float network and what each
    channel was multiplied by, so that `import-adapter` folds a LoRA of the module alike. loras: PEFT checkpoints,
    trained on this module, whose activations the base's ranges have to hold, too; give inputs like theirs among
    calibration_x. A large one loses much in a base that was made without it.

    Raises TorchError, which names the module that can't be used, PeftError and SafetensorsError for checkpoints, and
    ValueError for inputs or labels that don't fit.
    """
    given = calibration_x.detach().cpu() if isinstance(calibration_x, torch.Tensor) else calibration_x
    x = np.asarray(given, np.float32)
    net, ends_logistic = float_net(module, x)
    own = datasets.channels_last(x)
    head_room = 1.0 if loss == "mean_squared_error" else quantization.HEAD_ROOM
    adapted = [peft.with_lora(net, peft.load_checkpoint(Path(path))) for path in loras]
    model = quantization.quantize(net, own, head_room=head_room, adapted=adapted)
    tflite.set_loss(model, labels, loss, ends_logistic)
    elm = formats.pack_model(model, "as .elm")
    twin.check_model(elm)
    report = quantization.report(net, model, own, y)
    return Quantized(model, elm, report, _kept(net, model, formats.base_id(elm)))


def _kept(net: floatnet.FloatNet, model: QuantModel, base_id: bytes) -> floatnet.FloatNet:
    """The float original as files can hold it: functions as tables, over more than the range that the base has."""
    layers = []
    for layer, op in zip(net.layers, model.ops, strict=True):
        if layer.function is not None:
            low, high = (float(end) for end in model.tensors[op.input].dequantize(np.array([-128, 127])))
            room = TABLED * (high - low)
            layer = replace(layer, function=floatnet.sampled(layer.function, low - room, high + room))
        layers.append(layer)
    return floatnet.FloatNet(net.input_shape, layers, list(model.labels), base_id)


def float_net(module: Any, x: NDArray[np.float32]) -> tuple[floatnet.FloatNet, bool]:
    """The module as a float network, and whether it ends in a Sigmoid. x: inputs as the module takes them."""
    if x.ndim not in (2, 3, 4) or not len(x):
        raise TorchError(f"inputs are {list(x.shape)}; give [N, C, H, W], [N, C, W] or [N, features]")
    if not np.isfinite(x).all():
        raise TorchError("inputs have values that are not finite")
    module = copy.deepcopy(module).cpu().float().eval()
    if type(module) in _HANDLERS:  # a layer by itself, which would be traced into
        module = tnn.Sequential(module)
    try:
        traced = fx.symbolic_trace(module)
        traced.graph.eliminate_dead_code()
    except Exception as error:  # whatever the module's own code raises
        raise TorchError(
            f"{type(module).__name__} can't be traced ({error}): its forward must call the same layers for every "
            "input; put them into a torch.nn.Sequential"
        ) from error
    with torch.no_grad():
        _Sizes(traced).propagate(torch.from_numpy(x[:TRACED].copy()))
        expected = module(torch.from_numpy(x[:CHECKED].copy()))
    converter = _Converter(traced, datasets.channels_last(x).shape[1:])
    net = converter.run()
    expected = expected.exp() if converter.ends_in_logarithms else expected
    got = floatnet.predict(net, datasets.channels_last(x[:CHECKED]))
    wanted = datasets.channels_last(expected.numpy().reshape(-1, *expected.shape[1:] or (1,))).reshape(got.shape)
    if not np.allclose(got, wanted, rtol=0, atol=TOLERANCE * max(1e-6, float(np.abs(wanted).max()))):
        raise TorchError(
            f"{type(module).__name__} computes something else than its layers in order: its forward must not depend on "
            "values, state or chance"
        )
    return net, converter.ends_logistic


class _Sizes(ShapeProp):  # type: ignore[misc]
    """Notes shapes, and the numbers that a module computes of them, such as `x.size(2)`."""

    def run_node(self, n: Any) -> Any:
        result = super().run_node(n)
        if isinstance(result, int) and not isinstance(result, bool):
            n.meta["number"] = result
        return result


@dataclass(frozen=True)
class _Value:
    """What a call returns: a tensor of the float network; flat: for PyTorch it is [N, C * H * W], in that order."""

    tensor: int
    flat: bool = False


@dataclass(frozen=True)
class _Call:
    """A call of `module` (functions are taken for the module that does the same), on one value."""

    node: Any
    module: Any
    path: str
    source: _Value
    source_shape: tuple[int, ...]  # PyTorch's
    shape: tuple[int, ...]

    def refusal(self, why: str) -> TorchError:
        return TorchError(f"{self.path} ({type(self.module).__name__}): {why}")


class _Converter:
    """Walks the traced calls and builds the layers."""

    def __init__(self, traced: Any, input_shape: floatnet.Shape) -> None:
        self.traced = traced
        self.modules = dict(traced.named_modules())
        self.net = floatnet.FloatNet(input_shape, [])
        self.shapes = [input_shape]
        self.values: dict[Any, _Value] = {}
        self.shared: set[int] = set()  # tensors that several calls read
        self.ends_in_logarithms = False  # of probabilities, which the network gives as they are
        self.sigmoid = 0  # the last tensor that a Sigmoid wrote

    @property
    def ends_logistic(self) -> bool:
        return self.sigmoid == len(self.net.layers)

    def run(self) -> floatnet.FloatNet:
        end = _Value(0)
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                if self.values:
                    raise TorchError(f"the module takes several inputs ({node.name}): one is possible")
                self.values[node] = _Value(0)
            elif node.op == "output":
                end = self._end(node.args[0])
            elif node.op != "get_attr" and "tensor_meta" in node.meta:
                self.values[node] = self._convert(node)
            if node in self.values and len(node.users) > 1:
                self.shared.add(self.values[node].tensor)
        if not self.net.layers or end.tensor != len(self.net.layers):
            raise TorchError("the module's output isn't that of its last layer: end with a Linear layer or a Softmax")
        return self.net

    def _end(self, returned: Any) -> _Value:
        if not isinstance(returned, fx.Node):
            raise TorchError("the module returns several values: one is possible")
        value = self.values[returned]
        if value.flat:
            raise TorchError("the module ends in a flattened tensor: end with it as it is, or with a Linear layer")
        return value

    # ---- calls ----

    def _convert(self, node: Any) -> _Value:
        path = self._path(node)
        if node.target in _JOINS:
            return self._join(node, path)
        if node.target in _PAIRS:
            return self._pair(node, path)
        if not node.args or node.args[0] not in self.values:
            raise TorchError(f"{path}: must compute on activations")
        source = node.args[0]
        shape, source_shape = (tuple(getattr(n.meta["tensor_meta"], "shape", ())) for n in (node, source))
        module = self.modules[node.target] if node.op == "call_module" else _module_of(node, source_shape, path)
        call = _Call(node, module, path, self.values[source], source_shape, shape)
        handler = _HANDLERS.get(type(module))
        if handler is None:
            raise call.refusal(f"not supported: {_SUPPORTED}")
        if shape[:1] != (TRACED,) or len(shape) > 4:
            raise call.refusal(f"makes {list(shape)} of {TRACED} samples; must make up to three axes of each by itself")
        try:
            return handler(self, call)
        except TorchError:
            raise
        except ValueError as error:
            raise call.refusal(str(error)) from error

    def _path(self, node: Any) -> str:
        if node.op == "call_module":
            return str(node.target)
        owners = [path for path in node.meta.get("nn_module_stack", {}) if path]
        return f"{owners[-1]}.{node.name}" if owners else str(node.name)

    def _emit(self, call: _Call, layer: floatnet.Layer, as_shaped: bool = True) -> _Value:
        """Appends a layer that reads the call's value; as_shaped: it makes what the call makes."""
        tensor = call.source.tensor
        layer.inputs = () if tensor == len(self.net.layers) else (tensor,)
        return self._append(call.path, layer, call.source, call.shape if as_shaped else None)

    def _append(self, path: str, layer: floatnet.Layer, source: _Value, shape: tuple[int, ...] | None) -> _Value:
        layer.name = path
        made = floatnet.output_shape(layer, *(self.shapes[tensor] for tensor in layer.inputs or (source.tensor,)))
        flat = source.flat and layer.kind in ("lookup", *floatnet.PAIRS)
        if shape is not None and not flat and made != _own_shape(shape):
            raise InputError(
                f"makes {list(shape[1:])}, only {list(made)} in our order is possible; use ceil_mode=False"
            )
        self.net.layers.append(layer)
        self.shapes.append(made)
        return _Value(len(self.net.layers), flat)

    def _writer(self, tensor: int) -> floatnet.Layer | None:
        """The layer that wrote a tensor, if nobody else reads it."""
        return None if tensor == 0 or tensor in self.shared else self.net.layers[tensor - 1]

    # ---- layers ----

    def alias(self, call: _Call) -> _Value:
        return call.source

    def linear(self, call: _Call) -> _Value:
        if len(call.source_shape) != 2:
            raise call.refusal(f"reads {list(call.source_shape[1:])}, must read [features]: put a Flatten before it")
        weights = _array(call.module.weight)
        if call.source.flat:
            weights = weights[:, _channels_first(self.shapes[call.source.tensor])]
        layer = floatnet.Layer("dense", weights=weights[:, None, None], bias=_bias(call.module, len(weights)))
        return self._emit(call, layer)

    def conv(self, call: _Call) -> _Value:
        m = call.module
        self._check_axes(call, len(m.kernel_size))
        if m.padding_mode != "zeros":
            raise call.refusal(f"padding_mode {m.padding_mode!r}: only 'zeros' is possible")
        if m.groups not in (1, m.in_channels):
            raise call.refusal(f"{m.groups} groups: only 1, or one for each of the {m.in_channels} channels")
        kernel, stride, dilation = (_pair(v, 1) for v in (m.kernel_size, m.stride, m.dilation))
        if m.padding == "same":
            sides = [(d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for d, k in zip(dilation, kernel, strict=True)]
        else:
            sides = [(p, p) for p in _pair(0 if m.padding == "valid" else m.padding, 0, len(m.kernel_size))]
        weights = _array(m.weight).reshape(m.out_channels, -1, *kernel)  # [out, in / groups, kernel_h, kernel_w]
        depthwise = m.groups > 1
        weights = weights[:, 0].transpose(1, 2, 0) if depthwise else weights.transpose(0, 2, 3, 1)
        layer = floatnet.Layer("depthwise" if depthwise else "conv", kernel, stride, dilation, (sides[0], sides[1]))
        layer.weights, layer.bias = np.ascontiguousarray(weights), _bias(m, m.out_channels)
        return self._emit(call, layer)

    def conv_transpose(self, call: _Call) -> _Value:
        """Zeros between the positions, then a convolution with the kernel turned around."""
        m = call.module
        axes = len(m.kernel_size)
        self._check_axes(call, axes)
        if m.groups != 1 or any(d != 1 for d in m.dilation):
            raise call.refusal("groups and dilation of a transposed convolution aren't possible")
        kernel, stride = _pair(m.kernel_size, 1), _pair(m.stride, 1)
        pads, more = _pair(m.padding, 0, axes), _pair(m.output_padding, 0, axes)
        sides = [(k - 1 - p, k - 1 - p + o) for k, p, o in zip(kernel, pads, more, strict=True)]
        if min(before for before, _ in sides) < 0:
            raise call.refusal(f"padding {list(pads)}, at most one less than the kernel is possible")
        if stride != (1, 1):
            parted = self._emit(call, floatnet.Layer("pad", stride=stride, padding="valid"), as_shaped=False)
            call = replace(call, source=parted)
        weights = _array(m.weight).reshape(m.in_channels, m.out_channels, *kernel).transpose(1, 2, 3, 0)
        layer = floatnet.Layer("conv", kernel, padding=(sides[0], sides[1]))
        layer.weights, layer.bias = np.ascontiguousarray(weights[:, ::-1, ::-1]), _bias(m, m.out_channels)
        return self._emit(call, layer)

    def batch_norm(self, call: _Call) -> _Value:
        """Folded into the layer before, if that has weights and no other reader; else a depthwise layer of one tap."""
        m = call.module
        if m.running_mean is None:
            raise call.refusal("has no running statistics: make it with track_running_stats=True and train it")
        if call.source.flat:
            raise call.refusal("normalizes flattened activations: put a BatchNorm before Flatten")
        mean, variance = _array(m.running_mean), _array(m.running_var)
        gain = np.ones_like(mean) if m.weight is None else _array(m.weight)
        shift = np.zeros_like(mean) if m.bias is None else _array(m.bias)
        factor = gain / np.sqrt(variance + m.eps)
        before = self._writer(call.source.tensor)
        if before is None or before.kind not in WEIGHT_KINDS or before.activation != "none":
            weights = factor.reshape(1, 1, -1)
            return self._emit(call, floatnet.Layer("depthwise", weights=weights, bias=shift - mean * factor))
        assert before.weights is not None and before.bias is not None
        before.weights = before.weights * (factor if before.kind == "depthwise" else factor[:, None, None, None])
        before.bias = (before.bias - mean) * factor + shift
        before.gain = factor if before.gain is None else before.gain * factor
        return call.source

    def clamp(self, call: _Call) -> _Value:
        """ReLU and the like: part of the layer before, or of the one before a max pool, which lets them pass."""
        m = call.module
        bounds = (0.0, math.inf) if isinstance(m, tnn.ReLU) else (float(m.min_val), float(m.max_val))
        tensor = call.source.tensor
        while (before := self._writer(tensor)) is not None and before.kind == "max_pool":
            tensor = floatnet.sources(self.net, tensor - 1)[0]
        names = [name for name, known in floatnet.ACTIVATIONS.items() if known == bounds]
        if (
            not names
            or before is None
            or before.kind not in (*WEIGHT_KINDS, *floatnet.PAIRS)
            or before.activation != "none"
        ):
            return self.elementwise(call)
        before.activation = names[0]
        return call.source

    def elementwise(self, call: _Call) -> _Value:
        module = call.module
        if isinstance(module, tnn.PReLU) and module.num_parameters > 1:
            raise call.refusal("has a slope for each channel: make it with num_parameters=1")

        value = self._emit(call, floatnet.Layer("lookup", function=_in_numpy(module)))
        if isinstance(module, tnn.Sigmoid):
            self.sigmoid = value.tensor
        return value

    def pool(self, call: _Call) -> _Value:
        m = call.module
        average = isinstance(m, tnn.AvgPool1d | tnn.AvgPool2d)
        axes = 1 if isinstance(m, tnn.AvgPool1d | tnn.MaxPool1d) else 2
        self._check_axes(call, axes)
        if getattr(m, "divisor_override", None) or getattr(m, "return_indices", False):
            raise call.refusal("divisor_override and return_indices aren't possible")
        if _pair(getattr(m, "dilation", 1), 1, axes) != (1, 1):
            raise call.refusal("dilation of a pool isn't possible")
        kernel, stride = _pair(m.kernel_size, 1, axes), _pair(m.stride, 1, axes)
        if average and kernel == self.shapes[call.source.tensor][:2] and _own_shape(call.shape)[:2] == (1, 1):
            return self._emit(call, floatnet.mean())
        (above, left) = _pair(m.padding, 0, axes)
        sides: floatnet.Sides = ((above, above), (left, left))
        if average and m.count_include_pad and any(sides[0] + sides[1]):
            padded = self._emit(call, floatnet.Layer("pad", padding=sides), as_shaped=False)
            call, sides = _Call(call.node, m, call.path, padded, call.source_shape, call.shape), ((0, 0), (0, 0))
        return self._emit(
            call, floatnet.Layer("average_pool" if average else "max_pool", kernel, stride, padding=sides)
        )

    def adaptive_pool(self, call: _Call) -> _Value:
        average = isinstance(call.module, tnn.AdaptiveAvgPool1d | tnn.AdaptiveAvgPool2d)
        source, (height, width, _) = self.shapes[call.source.tensor], _own_shape(call.shape)
        if average and (height, width) == (1, 1):
            return self._emit(call, floatnet.mean())
        if source[0] % height or source[1] % width:
            raise call.refusal(f"{list(source[:2])} positions can't be shared evenly among {[height, width]}")
        kernel = (source[0] // height, source[1] // width)
        return self._emit(call, floatnet.Layer("average_pool" if average else "max_pool", kernel, kernel))

    def pad(self, call: _Call) -> _Value:
        sides = [*call.module.padding, 0, 0][:4]  # left, right, and above, below
        if min(sides) < 0 or getattr(call.module, "value", 0):
            raise call.refusal("only padding with zeros is possible")
        return self._emit(call, floatnet.Layer("pad", padding=((sides[2], sides[3]), (sides[0], sides[1]))))

    def softmax(self, call: _Call) -> _Value:
        axes = len(call.shape)
        dim = call.module.dim
        if dim is None:
            dim = 0 if axes == 3 else 1
        if dim % axes != 1 or call.source.flat:
            raise call.refusal(f"over axis {dim} of {list(call.shape)}: must be over channels, dim=1")
        return self._emit(call, floatnet.Layer("softmax"))

    def log_softmax(self, call: _Call) -> _Value:
        """At the end it becomes a softmax: boards give probabilities, and their loss begins from the logits."""
        if [user.op for user in call.node.users] != ["output"]:
            raise call.refusal("is possible at the end only")
        self.ends_in_logarithms = True
        return self.softmax(call)

    def reshape(self, call: _Call) -> _Value:
        height, width, channels = shape = self.shapes[call.source.tensor]
        if len(call.shape) == 2 and call.shape[1] == height * width * channels:
            return _Value(call.source.tensor, call.source.flat or height * width > 1)
        wanted = _own_shape(call.shape)
        if not call.source.flat and height * width == wanted[2] == 1 and len(call.shape) > 2:  # features as an image
            return self._emit(call, floatnet.Layer("reshape", shape=wanted))
        if call.source.flat or wanted != shape:
            change = f"{list(call.source_shape[1:])} to {list(call.shape[1:])}"
            raise call.refusal(f"reshapes {change}: only all of a sample can be flattened")
        return call.source

    def gather(self, call: _Call) -> _Value:
        """Axes turned and parts taken, told of PyTorch's axes."""
        m, shape = call.module, self.shapes[call.source.tensor]
        own = {4: (2, 0, 1), 3: (2, 1), 2: (2,)}[len(call.source_shape)]  # our axes of PyTorch's, the batch's left out
        if call.source.flat or m.order is not None and len(m.order) != len(own):
            raise call.refusal("moves values of flattened activations: do that before Flatten")
        places = [range(side) for side in shape]
        for axis, part in m.parts.items():
            places[own[axis - 1]] = part
        order = [0, 1, 2]
        for to, axis in enumerate(m.order or range(1, 1 + len(own))):
            order[own[to]] = own[axis - 1]
        rows, columns, channels = (tuple(part) for part in places)
        first, second, third = order
        layer = floatnet.Layer("gather", places=(rows, columns, channels), order=(first, second, third))
        return self._emit(call, layer)

    def layer_norm(self, call: _Call) -> _Value:
        """Over the last axis, made of what there is: means are 1x1 convolutions, the spread's root is a table."""
        m, axes = call.module, len(call.source_shape)
        if len(m.normalized_shape) != 1 or call.source.flat:
            raise call.refusal(f"normalizes {list(m.normalized_shape)}: only the last axis can be, and not flattened")
        order = {2: (0, 1, 2), 3: (0, 2, 1), 4: (0, 2, 1)}[axes]  # PyTorch's last axis is our width
        source = self._turned(call, call.source, order)
        channels = self.shapes[source.tensor][2]
        below = np.full((1, 1, 1, channels), 1 / channels, np.float32)
        one = np.zeros(1, np.float32)

        def then(kind: str, *inputs: _Value, **fields: Any) -> _Value:
            layer = floatnet.Layer(kind, inputs=tuple(value.tensor for value in inputs), **fields)
            return self._append(call.path, layer, inputs[0], None)

        minus = then("conv", source, weights=-below, bias=one)
        apart = then("add", source, minus)
        spread = then("conv", then("multiply", apart, apart), weights=below, bias=one)
        root = then("lookup", spread, function=_in_numpy(lambda v: torch.rsqrt(torch.relu(v) + m.eps)))
        made = then("multiply", apart, root)
        if m.weight is not None:
            gain, shift = _array(m.weight), np.zeros(channels, np.float32) if m.bias is None else _array(m.bias)
            made = then("depthwise", made, weights=gain.reshape(1, 1, -1), bias=shift)
        return self._turned(call, made, order)

    def _turned(self, call: _Call, value: _Value, order: tuple[int, int, int]) -> _Value:
        if order == (0, 1, 2):
            return value
        rows, columns, channels = (tuple(range(side)) for side in self.shapes[value.tensor])
        layer = floatnet.Layer("gather", places=(rows, columns, channels), order=order, inputs=(value.tensor,))
        return self._append(call.path, layer, value, None)

    def upsample(self, call: _Call) -> _Value:
        if getattr(call.module, "mode", "nearest") != "nearest":
            raise call.refusal(f"mode {call.module.mode!r}: only 'nearest' is possible")
        source, (height, width, _) = self.shapes[call.source.tensor], _own_shape(call.shape)
        rows, columns = (tuple(i * n // m for i in range(m)) for n, m in ((source[0], height), (source[1], width)))
        return self._emit(call, floatnet.Layer("gather", places=(rows, columns, tuple(range(source[2])))))

    def _join(self, node: Any, path: str) -> _Value:
        """Activations side by side along channels; each has the grid of all."""
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        parts = node.args[0] if node.args else node.kwargs.get("tensors", ())
        values = [self.values.get(part) for part in parts if isinstance(part, fx.Node)]
        known = [value for value in values if value is not None]
        axes = len(node.meta["tensor_meta"].shape)
        if len(known) != len(parts) or len(known) < 2 or dim % axes != 1 or len({value.flat for value in known}) > 1:
            raise TorchError(f"{path}: joins along axis {dim}; only activations of one form, along channels (dim=1)")
        if known[0].flat:
            raise TorchError(f"{path}: joins flattened activations: join them before Flatten, along channels")
        joined: list[_Value] = []
        for value in known:
            layer = floatnet.Layer("lookup", function=_same, inputs=(value.tensor,))
            joined.append(self._append(path, layer, value, None))
        whole = joined[0]
        for value in joined[1:]:
            layer = floatnet.Layer("concatenate", inputs=(whole.tensor, value.tensor))
            whole = self._append(path, layer, whole, None)
        return whole

    def expand(self, call: _Call) -> _Value:
        """Repeats along axes with one element, which whatever reads two activations does by itself."""
        if any(reader.target not in _PAIRS for reader in call.node.users):
            raise call.refusal("only what is added or multiplied next can be repeated")
        return call.source

    def _pair(self, node: Any, path: str) -> _Value:
        """An operator of two activations, or of one and a number, which makes it a function of one value."""
        kind, name, function = _PAIRS[node.target]
        known = [self.values.get(arg) if isinstance(arg, fx.Node) else None for arg in node.args[:2]]
        if len(known) < 2 or node.kwargs or any(isinstance(arg, fx.Node) for arg, value in _only(node, known)):
            raise TorchError(f"{path}: {name} a tensor that isn't computed from the input; put it into a layer")
        if None in known:
            return self._with_number(node, path, known, function)
        if not kind:
            raise TorchError(f"{path}: {name} two activations, which only additions and multiplications can")
        one, two = (value for value in known if value is not None)
        shapes = [tuple(arg.meta["tensor_meta"].shape) for arg in node.args[:2]]
        wide, narrow = self.shapes[one.tensor], self.shapes[two.tensor]
        if any(b not in (1, a) for a, b in zip(wide, narrow, strict=True)):
            one, two, wide, narrow = two, one, narrow, wide
        fits = all(b in (1, a) for a, b in zip(wide, narrow, strict=True))
        if not fits or len(shapes[0]) != len(shapes[1]) or one.flat != two.flat:
            told = " and ".join(str(list(shape[1:])) for shape in shapes)
            raise TorchError(
                f"{path}: {name} {told}: both must have one shape, or one of them one element along an axis"
            )
        return self._append(path, floatnet.Layer(kind, inputs=(one.tensor, two.tensor)), one, None)

    def _with_number(self, node: Any, path: str, known: list[_Value | None], function: Any) -> _Value:
        [place] = [i for i, value in enumerate(known) if value is not None]
        source, number = known[place], node.args[1 - place]
        assert source is not None
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise TorchError(f"{path}: {number!r} is no number")
        if function is operator.pow and (place or number not in range(1, 9)):
            raise TorchError(f"{path}: a power must have an exponent of 1 to 8")
        if function is operator.truediv and (place or number == 0):
            raise TorchError(f"{path}: can be divided by a number that isn't 0, no more")
        of_one = (lambda x: function(x, number)) if place == 0 else (lambda x: function(number, x))
        inputs = () if source.tensor == len(self.net.layers) else (source.tensor,)
        layer = floatnet.Layer("lookup", function=_in_numpy(of_one), inputs=inputs)
        return self._append(path, layer, source, None)

    def _check_axes(self, call: _Call, axes: int) -> None:
        if len(call.source_shape) != 2 + axes:
            raise call.refusal(f"reads {list(call.source_shape)}, must read {2 + axes} axes, the batch among them")


# ---- tables ----------------------------------------------------------------------------------------------------------

_ELEMENTWISE = (
    *(tnn.Sigmoid, tnn.Tanh, tnn.LeakyReLU, tnn.PReLU, tnn.Hardswish, tnn.Hardsigmoid, tnn.GELU, tnn.SiLU, tnn.Mish),
    *(tnn.ELU, tnn.CELU, tnn.SELU, tnn.Softplus, tnn.Softsign, tnn.Hardshrink, tnn.Softshrink, tnn.Threshold),
    *(tnn.LogSigmoid, tnn.Tanhshrink),
)


class Function:
    """Stands for a function of one value."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, x: Any) -> Any:
        return self.function(x)


class Gather:
    """Stands for axes in another order, [axes of PyTorch but the batch], and parts of axes."""

    def __init__(self, order: tuple[int, ...] | None = None, parts: dict[int, range] | None = None) -> None:
        self.order, self.parts = order, parts or {}


def _same(x: Any) -> Any:
    return x


class Expand:
    """Stands for a repetition along axes."""


_HANDLERS: dict[type, Callable[[_Converter, _Call], _Value]] = {
    tnn.Linear: _Converter.linear,
    **dict.fromkeys((tnn.Conv1d, tnn.Conv2d), _Converter.conv),
    **dict.fromkeys((tnn.ConvTranspose1d, tnn.ConvTranspose2d), _Converter.conv_transpose),
    **dict.fromkeys((tnn.BatchNorm1d, tnn.BatchNorm2d), _Converter.batch_norm),
    **dict.fromkeys((tnn.ReLU, tnn.ReLU6, tnn.Hardtanh), _Converter.clamp),
    **dict.fromkeys((*_ELEMENTWISE, Function), _Converter.elementwise),
    Expand: _Converter.expand,
    Gather: _Converter.gather,
    **dict.fromkeys((tnn.Upsample, tnn.UpsamplingNearest2d), _Converter.upsample),
    **dict.fromkeys((tnn.MaxPool1d, tnn.MaxPool2d, tnn.AvgPool1d, tnn.AvgPool2d), _Converter.pool),
    **dict.fromkeys(
        (tnn.AdaptiveAvgPool1d, tnn.AdaptiveAvgPool2d, tnn.AdaptiveMaxPool1d, tnn.AdaptiveMaxPool2d),
        _Converter.adaptive_pool,
    ),
    **dict.fromkeys((tnn.ZeroPad1d, tnn.ZeroPad2d, tnn.ConstantPad1d, tnn.ConstantPad2d), _Converter.pad),
    tnn.LayerNorm: _Converter.layer_norm,
    tnn.Softmax: _Converter.softmax,
    tnn.LogSoftmax: _Converter.log_softmax,
    tnn.Flatten: _Converter.reshape,
    **dict.fromkeys((tnn.Identity, tnn.Dropout, tnn.Dropout1d, tnn.Dropout2d, tnn.AlphaDropout), _Converter.alias),
}
_JOINS = {torch.cat, torch.concat, torch.concatenate}
_PERMUTATIONS = {torch.permute, torch.transpose, torch.swapaxes, "permute", "transpose", "swapaxes"}
_SUPPORTED = "replace it; what can be imported is listed in docs/guides/own-network.md"
_PAIRS: dict[Any, tuple[str, str, Callable[[Any, Any], Any]]] = {  # the layer, if two activations can; words; function
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), ("add", "adds", operator.add)),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), ("multiply", "multiplies", operator.mul)),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), ("", "subtracts", operator.sub)),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), ("", "divides", operator.truediv)),
    **dict.fromkeys((operator.pow, torch.pow, "pow"), ("", "raises to a power", operator.pow)),
}
_RESHAPES = {
    *(torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, operator.getitem),
    *("flatten", "reshape", "view", "view_as", "reshape_as", "squeeze", "unsqueeze", "contiguous"),
}
_EXPANSIONS = {"expand", "expand_as"}
_TOTAL = {  # functions of one value that are finite everywhere
    **dict.fromkeys((operator.neg, torch.neg, "neg"), torch.neg),
    **dict.fromkeys((operator.abs, torch.abs, "abs"), torch.abs),
    **dict.fromkeys((torch.square, "square"), torch.square),
    **dict.fromkeys((torch.sin, "sin"), torch.sin),
    **dict.fromkeys((torch.cos, "cos"), torch.cos),
    **dict.fromkeys((torch.erf, "erf"), torch.erf),
}
_MEANS = {torch.mean, "mean"}
_WINDOW = ("kernel_size", "stride", "padding")
_FUNCTIONS: dict[Any, tuple[type, tuple[str, ...]]] = {  # the module that does the same, and what it is made with
    **dict.fromkeys((F.relu, torch.relu, "relu", "relu_"), (tnn.ReLU, ())),
    F.relu6: (tnn.ReLU6, ()),
    F.hardtanh: (tnn.Hardtanh, ("min_val", "max_val")),
    **dict.fromkeys((torch.clamp, "clamp"), (tnn.Hardtanh, ("min", "max"))),
    **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid"), (tnn.Sigmoid, ())),
    **dict.fromkeys((torch.tanh, F.tanh, "tanh"), (tnn.Tanh, ())),
    F.leaky_relu: (tnn.LeakyReLU, ("negative_slope",)),
    F.hardswish: (tnn.Hardswish, ()),
    F.hardsigmoid: (tnn.Hardsigmoid, ()),
    F.gelu: (tnn.GELU, ()),
    F.silu: (tnn.SiLU, ()),
    F.elu: (tnn.ELU, ("alpha",)),
    F.celu: (tnn.CELU, ("alpha",)),
    F.selu: (tnn.SELU, ()),
    F.mish: (tnn.Mish, ()),
    F.softplus: (tnn.Softplus, ("beta", "threshold")),
    F.softsign: (tnn.Softsign, ()),
    F.logsigmoid: (tnn.LogSigmoid, ()),
    F.tanhshrink: (tnn.Tanhshrink, ()),
    F.hardshrink: (tnn.Hardshrink, ("lambd",)),
    F.softshrink: (tnn.Softshrink, ("lambd",)),
    F.softmax: (tnn.Softmax, ("dim",)),
    F.log_softmax: (tnn.LogSoftmax, ("dim",)),
    F.dropout: (tnn.Dropout, ()),
    F.max_pool1d: (tnn.MaxPool1d, _WINDOW),
    F.max_pool2d: (tnn.MaxPool2d, _WINDOW),
    F.avg_pool1d: (tnn.AvgPool1d, (*_WINDOW, "ceil_mode", "count_include_pad")),
    F.avg_pool2d: (tnn.AvgPool2d, (*_WINDOW, "ceil_mode", "count_include_pad")),
    F.adaptive_avg_pool1d: (tnn.AdaptiveAvgPool1d, ("output_size",)),
    F.adaptive_avg_pool2d: (tnn.AdaptiveAvgPool2d, ("output_size",)),
    F.interpolate: (tnn.Upsample, ("size", "scale_factor", "mode")),
}
_IGNORED = (
    "inplace",
    "training",
    "p",
    "_stacklevel",
    "dtype",
    "align_corners",
    "recompute_scale_factor",
    "antialias",
)  # of functions, without a meaning here


def _module_of(node: Any, shape: tuple[int, ...], path: str) -> Any:
    """The module that does what a function or method does to a tensor of `shape`."""
    if node.target is operator.getitem and not _adds_axes(node.args[1]):
        return Gather(parts=_parts(node.args[1], shape, path))
    if node.target in _PERMUTATIONS:
        return Gather(order=_order(node, shape, path))
    if node.target in _RESHAPES:
        return tnn.Flatten()
    if node.target in _EXPANSIONS:
        return Expand()
    if node.target in _TOTAL:
        return Function(_TOTAL[node.target])
    if node.target in _MEANS:
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", ())
        axes = {dim % len(shape) for dim in ([dims] if isinstance(dims, int) else dims)}
        if len(shape) > 2 and axes == set(range(2, len(shape))):
            return tnn.AdaptiveAvgPool2d(1)
        raise TorchError(f"{path}: a mean over axes {dims} of {list(shape)}; only one over all positions is possible")
    if node.target is F.layer_norm:
        return _layer_norm(node)
    name = getattr(node.target, "__name__", str(node.target))
    if node.target not in _FUNCTIONS:
        raise TorchError(f"{path} ({name}): not supported: {_SUPPORTED}")
    kind, parameters = _FUNCTIONS[node.target]
    given = dict(zip(parameters, fx.map_arg(node.args[1:], _number), strict=False))
    given |= {key: value for key, value in node.kwargs.items() if key not in _IGNORED}
    if kind is tnn.Hardtanh:
        bounds = zip(("min_val", "max_val"), (-math.inf, math.inf), strict=True)
        given = {key: given.get(key, given.get(key[:3], bound)) for key, bound in bounds}
    return kind(**{key: value for key, value in given.items() if value is not None})


def _layer_norm(node: Any) -> tnn.LayerNorm:
    names = ("normalized_shape", "weight", "bias", "eps")
    given = dict(zip(names, node.args[1:], strict=False)) | {k: v for k, v in node.kwargs.items() if k in names}
    made = tnn.LayerNorm(given["normalized_shape"], given.get("eps", 1e-5))
    owner = node.graph.owning_module
    for name in ("weight", "bias"):
        value = given.get(name)
        setattr(made, name, None if value is None else tnn.Parameter(_attribute(owner, value.target)))
    return made


def _attribute(owner: Any, path: str) -> Any:
    """A parameter of a module by its path."""
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner.detach()


def _number(node: Any) -> Any:
    """The number that a node has computed of shapes; itself if it has none."""
    return node.meta.get("number", node)


def _parts(index: Any, shape: tuple[int, ...], path: str) -> dict[int, range]:
    """What an index takes of axes, the batch whole: slices, or the last axes by number."""
    found, listed = {}, list(index) if isinstance(index, tuple) else [index]
    if ... in listed:
        place = listed.index(...)
        listed[place : place + 1] = [slice(None)] * (len(shape) - len(listed) + 1)
    for axis, part in enumerate(listed):
        if (
            isinstance(part, int)
            and not isinstance(part, bool)
            and len(listed) == len(shape)
            and axis == len(shape) - 1
        ):
            start = part % shape[axis]
            found[axis] = range(start, start + 1)
        elif isinstance(part, slice) and not any(
            isinstance(end, fx.Node) for end in (part.start, part.stop, part.step)
        ):
            if part != slice(None):
                found[axis] = range(shape[axis])[part]
        else:
            raise TorchError(f"{path}: takes {index}; slices, and a number for the last axis, are possible")
    if 0 in found or not all(found.values()):
        raise TorchError(f"{path}: takes a part of the batch, or nothing")
    return found


def _order(node: Any, shape: tuple[int, ...], path: str) -> tuple[int, ...]:
    """The axes that a permutation makes the output's, the batch left out."""
    given = node.args[1:] or tuple(node.kwargs.values())
    listed = list(given[0]) if len(given) == 1 and isinstance(given[0], tuple | list) else list(given)
    if not all(isinstance(axis, int) for axis in listed):
        raise TorchError(f"{path}: its axes must be numbers")
    axes = [axis % len(shape) for axis in listed]
    if len(axes) == 2 and len(shape) > 2:
        one, two = axes
        axes = list(range(len(shape)))
        axes[one], axes[two] = two, one
    if sorted(axes) != list(range(len(shape))) or axes[0] != 0:
        raise TorchError(f"{path}: axes {listed} move the batch")
    return tuple(axes[1:])


def _adds_axes(index: Any) -> bool:
    """Whether an index takes all of a tensor, with new axes of one element."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is ... or part == slice(None) for part in parts)


def _only(node: Any, known: list[_Value | None]) -> list[tuple[Any, _Value | None]]:
    """Operands that are no activations."""
    return [(arg, value) for arg, value in zip(node.args, known, strict=False) if value is None]


def _in_numpy(function: Callable[[Any], Any]) -> Callable[[floatnet.Array], floatnet.Array]:
    """A function of PyTorch's tensors as one of arrays."""

    def of_arrays(x: floatnet.Array) -> floatnet.Array:
        with torch.no_grad():
            return np.asarray(function(torch.tensor(x, dtype=torch.float32)).numpy(), x.dtype)

    return of_arrays


# ---- shapes and arrays -----------------------------------------------------------------------------------------------


def _own_shape(shape: tuple[int, ...]) -> floatnet.Shape:
    """[height, width, channels] of PyTorch's [N], [N, C], [N, C, W] or [N, C, H, W]."""
    height, width = (1, 1, *shape[2:])[-2:]
    return height, width, (*shape, 1)[1]


def _channels_first(shape: floatnet.Shape) -> NDArray[np.integer]:
    """Where each element of a flattened [height, width, channels] is in the flattened [channels, height, width]."""
    height, width, channels = shape
    return np.arange(channels * height * width).reshape(channels, height, width).transpose(1, 2, 0).reshape(-1)


def _pair(value: int | tuple[int, ...], fill: int, axes: int = 2) -> tuple[int, int]:
    """A module's number or numbers along [height, width]; `fill` along the height of one with one axis."""
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    height, width = (fill, *values)[-2:]
    return height, width


def _array(parameter: Any) -> NDArray[np.float32]:
    return np.array(parameter.detach().numpy())


def _bias(module: Any, outputs: int) -> NDArray[np.float32]:
    return np.zeros(outputs, np.float32) if module.bias is None else _array(module.bias)
