"""Converts PyTorch modules to INT8 bases with this project's own quantizer.

torch.fx (https://pytorch.org/docs/stable/fx.html) traces a module's calls. Each call becomes layers of a float network,
whose outputs must match the module's; that network is quantized. PyTorch's activations are [N, channels, height, width]
or [N, channels, width], ours [N, height, width, channels].
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

from edgelora.base.errors import EdgeloraError, InputError, MissingPackage
from edgelora.core.formats import elm as formats_elm
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.limits import MAX_ATTENDED, MAX_HEAD, MAX_OPS, MAX_POOLED, MAX_STREAM
from edgelora.core.formats.network import WEIGHT_KINDS, QuantModel
from edgelora.core.twin.binding import check_model
from edgelora.model.datasets.dataset import channels_last
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet import tables
from edgelora.model.floatnet.layers import ACTIVATIONS, PAIRS, Array, FloatNet, Layer, Shape, output_shape
from edgelora.model.quantization import report as quantization_report
from edgelora.model.quantization.quantize import HEAD_ROOM, Quantized, quantize

from . import moves, peft
from .streams import streamed
from .tflite.convert import set_loss

try:
    import torch
    from torch import fx
    from torch import nn as tnn
    from torch.nn import functional as F
except ModuleNotFoundError as missing:
    raise MissingPackage("from_torch needs PyTorch: pip install 'edgelora[torch]'") from missing
from .torch_tracing import IDS, Tracer, settle

TRACED = 2  # samples in the traced batch
CHECKED = 16  # samples on which the float network must match the module
TOLERANCE = 1e-3  # allowed difference, relative to the largest output
LEAST, EXP_MOST = 1e-6, 80.0  # limits of arguments of log, rsqrt, ... and of exp, to keep results finite
TABLED = 1.0  # margin of a function's table in the float original on both sides, in widths of the base's range


class TorchError(EdgeloraError, ValueError):
    """A module can't be converted to a base; the message names the part, the reason and an alternative."""


def from_torch(
    module: Any,
    calibration_x: Any,
    y: NDArray[np.integer] | None = None,
    labels: Sequence[str] = (),
    loss: str | None = None,
    loras: Sequence[str | Path] = (),
) -> Quantized:
    """Quantizes a trained module to INT8. The module is evaluated in evaluation mode and not modified.

    calibration_x: a few hundred typical inputs, float [N, C, H, W], [N, C, W] or [N, features] as the module takes
    them. y: their classes [N], to report accuracy. labels: the names of classes; loss: one of model.LOSSES, by default
    chosen from the module's last layer. With a loss of classes, the output's grid clips outputs far below a sample's
    largest; with values (mean_squared_error) it covers all outputs. Data for the base has channels last:
    `datasets.channels_last`.

    Batch normalization is folded into the preceding layer. `save` writes the float network and the factor of each
    channel next to the base, so that `import-adapter` folds a LoRA of the module in the same way. loras: PEFT
    checkpoints trained on this module; the base's activation ranges then cover their activations, too, so include
    inputs like theirs in calibration_x. A large LoRA loses much accuracy on a base quantized without it.

    Raises TorchError, which names the unsupported module, PeftError and SafetensorsError for checkpoints, and
    ValueError for inputs or labels that don't fit.
    """
    given = calibration_x.detach().cpu() if isinstance(calibration_x, torch.Tensor) else calibration_x
    x = np.asarray(given, np.float32)
    net, ends_logistic = float_net(module, x)
    own = channels_last(x)
    head_room = 1.0 if loss == "mean_squared_error" else HEAD_ROOM
    adapted = [peft.with_lora(net, peft.load_checkpoint(Path(path))) for path in loras]
    model = quantize(net, own, head_room=head_room, adapted=adapted)
    set_loss(model, labels, loss, ends_logistic)
    elm = pack_model(model, "as .elm")
    check_model(elm)
    report = quantization_report.report(net, elm, model, own, y)
    return Quantized(model, elm, report, _kept(net, model, formats_elm.base_id(elm)))


def _kept(net: FloatNet, model: QuantModel, base_id: bytes) -> FloatNet:
    """The float original in the form of its file: functions as tables, over a wider range than the base's."""
    layers = []
    for layer, op in zip(net.layers, model.ops, strict=True):
        if layer.function is not None:
            low, high = (float(end) for end in model.tensors[op.input].dequantize(np.array([-128, 127])))
            room = TABLED * (high - low)
            layer = replace(layer, function=tables.sampled(layer.function, low - room, high + room))
        layers.append(layer)
    return FloatNet(net.input_shape, layers, list(model.labels), base_id)


def float_net(module: Any, x: NDArray[np.float32]) -> tuple[FloatNet, bool]:
    """The module as a float network, and whether its last layer is a Sigmoid. x: inputs as the module takes them."""
    if x.ndim not in (2, 3, 4) or not len(x):
        raise TorchError(f"inputs are {list(x.shape)}; give [N, C, H, W], [N, C, W] or [N, features]")
    if not np.isfinite(x).all():
        raise TorchError("inputs have values that are not finite")
    if not isinstance(module, tnn.Module):
        raise TorchError(f"{type(module).__name__} is no torch.nn.Module: give a module whose forward computes it")
    module = _copied(module).cpu().float().eval()
    if type(module).__module__.startswith("torch.nn.") and not isinstance(module, tnn.Sequential):
        module = tnn.Sequential(module)  # torch.fx would trace into a bare layer's forward
    settle(module)
    samples = torch.from_numpy(x[:CHECKED].copy())
    expected = _expected(module, samples)
    converter = _Converter(_traced(module, samples[:TRACED]), x.shape[1:])
    net = converter.run()
    if len(expected) != len(x[:CHECKED]):
        raise TorchError(f"{type(module).__name__} makes {len(expected)} outputs for {len(x[:CHECKED])} samples")
    expected = expected.exp() if converter.ends_in_logarithms else expected
    got = floatnet_layers.predict(net, channels_last(x[:CHECKED]))
    wanted = channels_last(expected.numpy().reshape(-1, *expected.shape[1:] or (1,))).reshape(got.shape)
    if not np.allclose(got, wanted, rtol=0, atol=TOLERANCE * max(1e-6, float(np.abs(wanted).max()))):
        raise TorchError(
            f"{type(module).__name__} computes something other than its layers in order: its forward must not depend "
            "on values, state or random numbers"
        )
    return net, converter.ends_logistic


def _copied(module: Any) -> Any:
    """A copy; weights that hooks compute before each call (the older weight_norm and spectral_norm) as they are."""
    computed = (value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor))
    return copy.deepcopy(module, {id(value): value.detach().clone() for value in computed})


def _expected(module: Any, samples: Any) -> Any:
    """The module's outputs for samples."""
    try:
        with torch.no_grad():
            return module(samples)
    except Exception as error:  # the module's own code may raise anything
        ids = any(isinstance(part, tnn.Embedding | tnn.EmbeddingBag) for part in module.modules())
        raise TorchError(
            f"{type(module).__name__} can't compute on samples {list(samples.shape[1:])} ({_line(error)}): {IDS}"
            if ids
            else f"{type(module).__name__} can't compute on samples {list(samples.shape[1:])} ({_line(error)}): give "
            "inputs as it takes them, [N, C, H, W], [N, C, W] or [N, features]"
        ) from error


def _traced(module: Any, samples: Any) -> Any:
    """The module's calls on samples, as a graph."""
    tracer = Tracer(samples, _LEAVES)
    try:
        traced = fx.GraphModule(module, tracer.trace(module))
    except EdgeloraError as error:
        raise TorchError(str(error)) from error
    except Exception as error:  # the module's own code may raise anything
        raise TorchError(
            f"{type(module).__name__} can't be traced ({_line(error)}): its forward must compute the same for every "
            "input, without `if` on values, loops over them, or assignments into tensors"
        ) from error
    traced.graph.eliminate_dead_code()
    return traced


def _line(error: Exception) -> str:
    """An error's first line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


Made = Any  # a `_Value`, None for an unsupported result, or a list of these


def _listed(made: Made) -> list[_Value]:
    """A call's results as a flat list, without unsupported ones."""
    if isinstance(made, list):
        return [value for part in made for value in _listed(part)]
    return [] if made is None else [made]


def _read_layers(net: FloatNet) -> FloatNet:
    """The network without layers that its output doesn't depend on."""
    sources = [floatnet_layers.sources(net, i) for i in range(len(net.layers))]
    read = {len(net.layers)}
    for i in reversed(range(len(net.layers))):
        read.update(sources[i] if i + 1 in read else ())
    kept = [i for i in range(len(net.layers)) if i + 1 in read]
    places = {0: 0} | {i + 1: place + 1 for place, i in enumerate(kept)}
    layers = []
    for place, i in enumerate(kept):
        inputs = tuple(places[tensor] for tensor in sources[i])
        layers.append(replace(net.layers[i], inputs=() if inputs == (place,) else inputs))
    return replace(net, layers=layers)


class _Recurrence:
    """A recurrent layer's weights, with gates in the order that the `_*_step` methods expect.

    inputs: [gates * hidden, features]; state: [gates * hidden, hidden]; input_bias: [gates * hidden], the sum of both
    biases. new_bias [hidden]: a GRU's state bias of the new gate, not part of the sum, as the reset gate multiplies it.
    """

    def __init__(self, module: Any, suffix: str) -> None:
        self.kind, self.hidden = type(module), module.hidden_size
        self.relu = getattr(module, "nonlinearity", "tanh") == "relu"
        parts = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"][: 2 + 2 * module.bias]
        values = [_array(getattr(module, f"{part}_{suffix}")) for part in parts]
        if self.kind is tnn.LSTM:  # PyTorch's: input, forget, cell, output
            order = np.arange(4 * self.hidden).reshape(4, -1)[[0, 1, 3, 2]].reshape(-1)
            values = [value[order] for value in values]
        self.inputs, self.state = values[:2]
        zero = np.zeros(len(self.state), np.float32)
        of_inputs, of_state = values[2:] or (zero, zero)
        self.new_bias = zero[: self.hidden]
        if self.kind is tnn.GRU:
            self.new_bias, of_state = of_state[2 * self.hidden :], of_state.copy()
            of_state[2 * self.hidden :] = 0
        self.input_bias = of_inputs + of_state


@dataclass(frozen=True)
class _Value:
    """A call's result: a view of a tensor of the float network. places: [PyTorch's axes without the batch].

    tensor: an index, or if negative ~index into `_Converter.lists`, concatenated tensors. batch: the batch axis.
    """

    tensor: int
    places: moves.Places
    batch: int = 0


@dataclass(frozen=True)
class _Call:
    """A call of `module` on one value; functions are represented by the equivalent module.

    source_shape, shape: of input and output in PyTorch, with the batch first; tensor: the input as [height, width,
    channels], only for handlers in `_LAID_OUT`.
    """

    node: Any
    module: Any
    path: str
    source: _Value
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    tensor: int = -1

    def refusal(self, why: str) -> TorchError:
        return TorchError(f"{self.path} ({type(self.module).__name__}): {why}")


class _Converter:
    """Converts the traced calls to layers, in order."""

    def __init__(self, traced: Any, input_shape: tuple[int, ...]) -> None:
        self.traced = traced
        self.modules = dict(traced.named_modules())
        self.source = _Value(0, moves.laid_out(input_shape))
        self.net = FloatNet(_own_shape((1, *input_shape)), [])
        self.shapes = [self.net.input_shape]
        self.values: dict[Any, Made] = {}
        self.lists: list[tuple[int, ...]] = []  # concatenated tensors of equal size: outputs of steps
        self.shared: set[int] = set()  # tensors that several calls read
        self.moved: dict[tuple[int, bytes, tuple[int, ...]], int] = {}  # results of `_moved`
        self.ends_in_logarithms = False  # the module ends in LogSoftmax, the network in softmax
        self.sigmoid = 0  # the last tensor that a Sigmoid wrote
        self.ends_logistic = False

    def run(self) -> FloatNet:
        end = 0
        for node in self.traced.graph.nodes:
            if node.op == "placeholder" and not node.args:  # those with a default keep it
                self.values[node] = self.source
            elif node.op == "output":
                end = self._end(node.args[0])
            elif node.meta["of_input"]:
                self.values[node] = self._convert(node)
            if len(node.users) > 1:
                self.shared |= {value.tensor for value in _listed(self.values.get(node))}
        if not end or end != len(self.net.layers):
            raise TorchError(
                "the module's output doesn't come from its last layer: end with a Linear layer or a Softmax"
            )
        self.ends_logistic = self.sigmoid == end
        return streamed(_read_layers(self.net))

    def _end(self, returned: Any) -> int:
        value = self.values.get(returned) if isinstance(returned, fx.Node) else None
        if not isinstance(value, _Value):
            raise TorchError("the module returns several values: only one is supported")
        value = self._real(value, "output")
        if value.batch:
            raise TorchError(f"the module returns the batch as axis {value.batch}: it must stay axis 0")
        if value.places.ndim > 3:
            raise TorchError(f"the module returns {value.places.ndim} axes of a sample: up to three are supported")
        tensor, wanted = value.tensor, moves.channels_last(value.places)
        ends = tensor and self.net.layers[tensor - 1].kind in ("softmax", "lookup")
        if ends and moves.is_in_order(wanted, self.shapes[tensor]):
            return tensor  # the loss uses the input of a last softmax or lookup: no reshape may follow it
        return self._moved("output", tensor, wanted)

    # ---- calls ----

    def _convert(self, node: Any) -> Made:
        path = self._path(node)
        if node.target in _JOINS:
            return self._join(node, path)
        if node.target in _PAIRS:
            return self._pair(node, path)
        if node.target in _PRODUCTS:
            return self._product(node, path)
        if node.target is F.scaled_dot_product_attention:
            return self._attention(node, path)
        if not node.args or node.args[0] not in self.values:
            raise TorchError(f"{path}: must compute on activations")
        source = node.args[0]
        given = self.values[source]
        if not isinstance(given, _Value):
            return self._part_of(node, given, path)
        if _only_moves(node, self.modules):
            return self._move(node, given, path)
        if not (node.op == "call_module" and isinstance(self.modules[node.target], _RECURRENT)):
            given = self._real(given, path)
        shape, source_shape = (_batch_first(n.meta["value"], given.batch) for n in (node, source))
        module = self.modules[node.target] if node.op == "call_module" else _module_of(node, given, path)
        call = _Call(node, module, path, given, source_shape, shape)
        return self._handled(call)

    def _handled(self, call: _Call) -> Made:
        handler, laid = _HANDLERS.get(type(call.module)), _LAID_OUT.get(type(call.module))
        if handler is None and laid is None:
            raise call.refusal(f"not supported: {_SUPPORTED}")
        if call.source.batch and (laid is not None or isinstance(call.module, tnn.GroupNorm)):
            raise call.refusal(
                f"reads the batch as axis {call.source.batch}: it must be axis 0, move it there by transpose or permute"
            )
        try:
            if laid is not None:
                tensor = self._moved(call.path, call.source.tensor, moves.channels_last(call.source.places))
                return laid(self, replace(call, tensor=tensor))
            assert handler is not None
            made = handler(self, call)
            keeps = isinstance(made, _Value) and not isinstance(call.module, Reduction)
            return replace(made, batch=call.source.batch) if keeps else made
        except TorchError:
            raise
        except ValueError as error:
            raise call.refusal(str(error)) from error

    def _path(self, node: Any) -> str:
        if node.op == "call_module":
            return str(node.target)
        weights = [n.target for n in node.all_input_nodes if n.op == "get_attr" and n.target.endswith(".weight")]
        if weights:
            return str(weights[0]).removesuffix(".weight")
        owners = [path for path in node.meta.get("nn_module_stack", {}) if path]
        return f"{owners[-1]}.{node.name}" if owners else str(node.name)

    def _part_of(self, node: Any, given: Sequence[Made], path: str) -> Made:
        """One of several results of a call."""
        place = node.args[1] if node.target is operator.getitem else 0 if node.args[1:] == ("values",) else None
        value = given[place] if isinstance(place, int) and -len(given) <= place < len(given) else None
        if value is None:
            raise TorchError(f"{path}: takes {place} of {len(given)} results, which isn't a known tensor")
        return value

    def _layer(self, path: str, kind: str, *inputs: int, **fields: Any) -> int:
        """Appends a layer with these input tensors; returns its output tensor."""
        last = inputs == (len(self.net.layers),)
        layer = Layer(kind, inputs=() if last else inputs, name=path, **fields)
        return self._append(layer, *inputs)

    def _append(self, layer: Layer, *inputs: int) -> int:
        made = output_shape(layer, *(self.shapes[tensor] for tensor in inputs))
        self.net.layers.append(layer)
        self.shapes.append(made)
        return len(self.net.layers)

    def _emit(self, call: _Call, kind: str, **fields: Any) -> _Value:
        """Appends a layer that reads the call's tensor and returns the call's result; its shape is checked."""
        tensor = self._layer(call.path, kind, call.tensor, **fields)
        made = self.shapes[tensor]
        if made != _own_shape(call.shape):
            raise InputError(f"makes {list(call.shape[1:])}, only {list(made)} in channels-last order is supported")
        return _Value(tensor, moves.laid_out(call.shape[1:]))

    def _moved(self, path: str, tensor: int, wanted: moves.Places) -> int:
        """A tensor with the wanted elements [height, width, channels] of another; the same one if nothing moves."""
        key = (tensor, wanted.tobytes(), wanted.shape)
        if key not in self.moved:
            made = tensor
            for layer in moves.layers(self.shapes[tensor], wanted):
                layer.name, layer.inputs = path, () if made == len(self.net.layers) else (made,)
                made = self._append(layer, made)
            self.moved[key] = made
        return self.moved[key]

    def _rows(self, path: str, value: _Value, axes: Sequence[int]) -> int:
        """A tensor with these axes of a value (PyTorch's, without the batch) as channels, and the others as positions.

        Positions may be on one axis or on two.
        """
        kept = [axis for axis in range(value.places.ndim) if axis not in axes]
        turned = value.places.transpose(*kept, *axes)
        wanted = turned.reshape(1, math.prod(turned.shape[: len(kept)]), -1)
        shape = self.shapes[value.tensor]
        if moves.is_in_order(wanted, shape) and shape[2] == wanted.shape[2]:
            return value.tensor
        return self._moved(path, value.tensor, wanted)

    def _writer(self, tensor: int) -> Layer | None:
        """The layer that wrote a tensor, unless several calls read the tensor."""
        return None if tensor == 0 or tensor in self.shared else self.net.layers[tensor - 1]

    # ---- moves ----

    def _move(self, node: Any, source: _Value, path: str) -> Made:
        """Applies a call that only moves elements to their places; no layer is needed."""
        size = self._size(source.tensor)
        batch = np.stack([source.places + i * size for i in range(TRACED)], axis=source.batch)
        batch = torch.from_numpy(np.ascontiguousarray(batch, np.float64))
        given = node.args[0]

        def value_of(n: Any) -> Any:
            return batch if n is given else n.meta["value"]

        args, kwargs = fx.map_arg((node.args, node.kwargs), value_of)
        if node.op == "call_module":
            made = self.modules[node.target](*args, **kwargs)
        else:
            made = (getattr(torch.Tensor, node.target) if node.op == "call_method" else node.target)(*args, **kwargs)
        if isinstance(made, torch.Tensor):
            return self._view(source, made, path)
        return [self._view(source, part, path) for part in made]

    def _view(self, source: _Value, moved: Any, path: str) -> _Value:
        """The value with the moved places. The batch axis is the one along which samples stay separate."""
        found, size = moved.numpy().round().astype(np.int64), self._size(source.tensor)
        for axis in range(found.ndim if found.size else 0):
            rows = np.moveaxis(found, axis, 0)
            apart = all(np.array_equal(row, rows[0] + i * size) for i, row in enumerate(rows))
            if len(rows) == TRACED and apart and rows[0].min() >= 0 and rows[0].max() < size:
                return self._within_one(_Value(source.tensor, np.asarray(rows[0]), axis))
        raise TorchError(f"{path}: takes or moves part of the batch, or takes nothing: keep each sample intact")

    # ---- lists of tensors ----

    def _size(self, tensor: int) -> int:
        """The number of elements of a tensor or list of tensors."""
        return sum(self._size(part) for part in self.lists[~tensor]) if tensor < 0 else math.prod(self.shapes[tensor])

    def _within_one(self, value: _Value) -> _Value:
        """A view of a list as a view of one of its tensors, if all elements are in that tensor."""
        if value.tensor >= 0:
            return value
        parts = self.lists[~value.tensor]
        size = self._size(parts[0])
        first, last = int(value.places.min()) // size, int(value.places.max()) // size
        return replace(value, tensor=parts[first], places=value.places - first * size) if first == last else value

    def _real(self, value: _Value, path: str) -> _Value:
        """A view of a list as a view of its concatenated tensors."""
        if value.tensor >= 0:
            return value
        whole, *others = self.lists[~value.tensor]
        for tensor in others:
            whole = self._layer(path, "concatenate", whole, tensor)
        return replace(value, tensor=whole)

    def _in_list(self, tensors: Sequence[int], shape: tuple[int, ...]) -> _Value:
        """A view of this shape of concatenated tensors, in order."""
        self.lists.append(tuple(tensors))
        return self._within_one(_Value(~(len(self.lists) - 1), np.arange(math.prod(shape)).reshape(shape)))

    # ---- layers ----

    def alias(self, call: _Call) -> _Value:
        return call.source

    def linear(self, call: _Call) -> _Value:
        """Over the last axis. If the input is a whole flattened tensor, the weights are permuted in its place."""
        weights, places = _array(call.module.weight), call.source.places
        bias, shape = _bias(call.module, len(weights)), self.shapes[call.source.tensor]
        if np.array_equal(places, moves.laid_out((shape[2], *shape[:2])).reshape(-1)):
            weights = weights[:, np.argsort(places)]
            tensor = self._layer(call.path, "dense", call.source.tensor, weights=weights[:, None, None], bias=bias)
        else:
            rows = self._rows(call.path, call.source, (places.ndim - 1,))
            kind = "dense" if math.prod(self.shapes[rows][:2]) == 1 else "conv"
            tensor = self._layer(call.path, kind, rows, weights=weights[:, None, None], bias=bias)
        return _Value(tensor, np.arange(math.prod(call.shape[1:])).reshape(call.shape[1:]))

    def conv(self, call: _Call) -> _Value:
        m = call.module
        self._check_axes(call, len(m.kernel_size))
        if m.padding_mode != "zeros":
            raise call.refusal(f"padding_mode {m.padding_mode!r}: only 'zeros' is supported")
        kernel, stride, dilation = (_pair(v, 1) for v in (m.kernel_size, m.stride, m.dilation))
        if m.padding == "same":
            sides = [(d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for d, k in zip(dilation, kernel, strict=True)]
        else:
            sides = [(p, p) for p in _pair(0 if m.padding == "valid" else m.padding, 0, len(m.kernel_size))]
        weights = _array(m.weight).reshape(m.out_channels, -1, *kernel)  # [out, in / groups, kernel_h, kernel_w]
        depthwise = m.groups == m.in_channels > 1
        if depthwise:
            weights = weights[:, 0].transpose(1, 2, 0)
        else:
            weights = moves.ungrouped(weights.transpose(0, 2, 3, 1), m.groups)
        fields: dict[str, Any] = {"kernel": kernel, "stride": stride, "dilation": dilation}
        fields |= {"weights": np.ascontiguousarray(weights), "bias": _bias(m, m.out_channels)}
        return self._emit(call, "depthwise" if depthwise else "conv", padding=(sides[0], sides[1]), **fields)

    def conv_transpose(self, call: _Call) -> _Value:
        """Inserts zeros between positions, then convolves with the flipped kernel."""
        m = call.module
        axes = len(m.kernel_size)
        self._check_axes(call, axes)
        if m.groups != 1 or any(d != 1 for d in m.dilation):
            raise call.refusal("groups and dilation of a transposed convolution aren't supported")
        kernel, stride = _pair(m.kernel_size, 1), _pair(m.stride, 1)
        pads, more = _pair(m.padding, 0, axes), _pair(m.output_padding, 0, axes)
        sides = [(k - 1 - p, k - 1 - p + o) for k, p, o in zip(kernel, pads, more, strict=True)]
        if min(before for before, _ in sides) < 0:
            raise call.refusal(f"padding {list(pads)} must be less than the kernel")
        if stride != (1, 1):
            call = replace(call, tensor=self._layer(call.path, "pad", call.tensor, stride=stride, padding="valid"))
        weights = _array(m.weight).reshape(m.in_channels, m.out_channels, *kernel).transpose(1, 2, 3, 0)
        fields = {"weights": np.ascontiguousarray(weights[:, ::-1, ::-1]), "bias": _bias(m, m.out_channels)}
        return self._emit(call, "conv", kernel=kernel, padding=(sides[0], sides[1]), **fields)

    def batch_norm(self, call: _Call) -> _Value:
        """Folded into the preceding layer if that has weights and no other reader; else a 1x1 depthwise layer."""
        m = call.module
        if m.running_mean is None:
            raise call.refusal("has no running statistics: make it with track_running_stats=True and train it")
        mean, variance = _array(m.running_mean), _array(m.running_var)
        gain = np.ones_like(mean) if m.weight is None else _array(m.weight)
        shift = np.zeros_like(mean) if m.bias is None else _array(m.bias)
        factor = gain / np.sqrt(variance + m.eps)
        before = self._writer(call.tensor)
        if before is None or before.kind not in WEIGHT_KINDS or before.activation != "none":
            return self._emit(call, "depthwise", weights=factor.reshape(1, 1, -1), bias=shift - mean * factor)
        assert before.weights is not None and before.bias is not None
        before.weights = before.weights * (factor if before.kind == "depthwise" else factor[:, None, None, None])
        before.bias = (before.bias - mean) * factor + shift
        before.gain = factor if before.gain is None else before.gain * factor
        return call.source

    def clamp(self, call: _Call) -> _Value:
        """ReLU and other clamps: fused into the preceding layer, or into the one before a max pool, which commutes."""
        m = call.module
        bounds = (0.0, math.inf) if isinstance(m, tnn.ReLU) else (float(m.min_val), float(m.max_val))
        tensor = call.source.tensor
        while (before := self._writer(tensor)) is not None and before.kind == "max_pool":
            tensor = floatnet_layers.sources(self.net, tensor - 1)[0]
        names = [name for name, known in ACTIVATIONS.items() if known == bounds]
        if not names or before is None or before.kind not in (*WEIGHT_KINDS, *PAIRS) or before.activation != "none":
            return self.elementwise(call)
        before.activation = names[0]
        return call.source

    def elementwise(self, call: _Call) -> _Value:
        module = call.module
        value = self._looked_up(call.path, call.source, _in_numpy(module))
        if isinstance(module, tnn.Sigmoid):
            self.sigmoid = value.tensor
        return value

    def _looked_up(self, path: str, value: _Value, function: Callable[[Array], Array]) -> _Value:
        """A function of each element; places don't change."""
        value = self._whole(path, value)
        return replace(value, tensor=self._layer(path, "lookup", value.tensor, function=function))

    def _whole(self, path: str, value: _Value) -> _Value:
        """The value as a whole tensor of its own, if it is part of a larger one."""
        if moves.is_whole(value.places, self.shapes[value.tensor]):
            return value
        if value.places.size >= math.prod(self.shapes[value.tensor]):
            return value
        tensor = self._moved(path, value.tensor, moves.channels_last(value.places))
        return replace(value, tensor=tensor, places=moves.laid_out(value.places.shape))

    def prelu(self, call: _Call) -> _Value:
        """A single slope becomes a lookup; slopes by channel multiply the negative part in a depthwise layer."""
        if call.module.num_parameters == 1:
            return self.elementwise(call)
        slopes = _array(call.module.weight)
        parts = [
            self._layer(call.path, "lookup", call.tensor, function=_in_numpy(part))
            for part in (torch.relu, lambda x: -torch.relu(-x))
        ]
        bias = np.zeros(len(slopes), np.float32)
        below = self._layer(call.path, "depthwise", parts[1], weights=slopes.reshape(1, 1, -1), bias=bias)
        made = self._layer(call.path, "add", parts[0], below)
        return _Value(made, moves.laid_out(call.shape[1:]))

    def pool(self, call: _Call) -> _Value:
        m = call.module
        average = isinstance(m, tnn.AvgPool1d | tnn.AvgPool2d)
        axes = 1 if isinstance(m, tnn.AvgPool1d | tnn.MaxPool1d) else 2
        self._check_axes(call, axes)
        if getattr(m, "divisor_override", None) or getattr(m, "return_indices", False):
            raise call.refusal("divisor_override and return_indices aren't supported")
        if _pair(getattr(m, "dilation", 1), 1, axes) != (1, 1):
            raise call.refusal("dilation of a pool isn't supported")
        kernel, stride = _pair(m.kernel_size, 1, axes), _pair(m.stride, 1, axes)
        if average and kernel == self.shapes[call.tensor][:2] and _own_shape(call.shape)[:2] == (1, 1):
            return self._emit(call, "mean")
        above, left = _pair(m.padding, 0, axes)
        if average and m.count_include_pad and above + left:
            sides = ((above, above), (left, left))
            call = replace(call, tensor=self._layer(call.path, "pad", call.tensor, padding=sides))
            above = left = 0
        sizes = zip(_own_shape(call.shape), kernel, stride, self.shapes[call.tensor], (above, left), strict=False)
        below, right = (max(p, (n - 1) * s + k - size - p) for n, k, s, size, p in sizes)  # larger with ceil_mode
        padding = ((above, below), (left, right))
        return self._emit(
            call, "average_pool" if average else "max_pool", kernel=kernel, stride=stride, padding=padding
        )

    def adaptive_pool(self, call: _Call) -> _Value:
        average = isinstance(call.module, tnn.AdaptiveAvgPool1d | tnn.AdaptiveAvgPool2d)
        source, (height, width, _) = self.shapes[call.tensor], _own_shape(call.shape)
        if average and (height, width) == (1, 1):
            return self._emit(call, "mean")
        if (height, width) == (1, 1):
            return _Value(self._largest(call.path, call.tensor), moves.laid_out(call.shape[1:]))
        if source[0] % height or source[1] % width:
            raise call.refusal(f"{list(source[:2])} positions can't be shared evenly among {[height, width]}")
        kernel = (source[0] // height, source[1] // width)
        return self._emit(call, "average_pool" if average else "max_pool", kernel=kernel, stride=kernel)

    def pad(self, call: _Call) -> _Value:
        sides = [*call.module.padding, 0, 0][:4]  # left, right, above, below
        if min(sides) < 0 or getattr(call.module, "value", 0):
            raise call.refusal("only padding with zeros is supported")
        return self._emit(call, "pad", padding=((sides[2], sides[3]), (sides[0], sides[1])))

    def softmax(self, call: _Call) -> _Value:
        dim = call.module.dim
        if dim is None:
            dim = 0 if len(call.shape) == 3 else 1
        axis = _sample_axis(dim, len(call.source_shape), call.source.batch)
        if axis < 0:
            raise call.refusal(f"is over axis {dim} of {list(call.shape)}, the batch")
        tensor = self._layer(call.path, "softmax", self._rows(call.path, call.source, (axis,)))
        return _Value(tensor, _places_of(call.shape[1:], (axis,)))

    def log_softmax(self, call: _Call) -> _Value:
        """Becomes a softmax, only as the last layer: boards return probabilities and compute the loss from logits."""
        if [user.op for user in call.node.users] != ["output"]:
            raise call.refusal("is supported only at the end")
        self.ends_in_logarithms = True
        return self.softmax(call)

    def reduce(self, call: _Call) -> Made:
        """Mean, sum, maximum, variance or standard deviation over some axes."""
        m = call.module
        rows = self._columns(call, m.axes)
        count = math.prod(self.shapes[rows][:2])
        if m.name in ("amax", "max"):
            made = self._largest(call.path, rows)
        elif m.name in ("mean", "sum"):
            made = self._layer(call.path, "mean", rows)
            if m.name == "sum":
                made = self._layer(call.path, "lookup", made, function=lambda x: x * count)
        else:
            if count == 1 and m.correction == 1:
                raise call.refusal("is over a single value, which has no variance")
            minus = self._layer(call.path, "lookup", self._layer(call.path, "mean", rows), function=np.negative)
            apart = self._layer(call.path, "add", rows, minus)
            made = self._layer(call.path, "mean", self._layer(call.path, "multiply", apart, apart))
            by = count / (count - m.correction)
            root = (lambda x: np.sqrt(np.maximum(x, 0) * by)) if m.name == "std" else (lambda x: x * by)
            made = self._layer(call.path, "lookup", made, function=root)
        shape = call.source.places.shape
        left = [1 if i in m.axes else n for i, n in enumerate(shape) if m.keeps or i not in m.axes]
        batch = call.source.batch - (0 if m.keeps else sum(axis < call.source.batch for axis in m.axes))
        value = _Value(made, np.arange(math.prod(left)).reshape(left), batch)
        return [value, None] if m.name == "max" else value

    def _columns(self, call: _Call, axes: tuple[int, ...]) -> int:
        """A tensor with these axes of a value as positions, and the others as channels."""
        return self._rows(call.path, call.source, [i for i in range(call.source.places.ndim) if i not in axes])

    def _mixed(self, call: _Call, own: Shape) -> _Value:
        """Linear interpolation, one matrix product for each axis."""
        value = call.source
        for axis, made in zip(range(1, value.places.ndim), own[3 - value.places.ndim : 2], strict=True):
            sides = [*value.places.shape]
            unit = torch.eye(sides[axis])[None]
            weights = F.interpolate(unit, size=made, mode="linear", align_corners=call.module.align_corners)
            rows, bias = self._rows(call.path, value, (axis,)), np.zeros(made, np.float32)
            tensor = self._layer(call.path, "conv", rows, weights=weights[0].T.numpy()[:, None, None].copy(), bias=bias)
            sides[axis] = made
            value = _Value(tensor, _places_of(tuple(sides), (axis,)))
        return value

    def unit_length(self, call: _Call) -> _Value:
        m, shape = call.module, call.source.places.shape
        axis = _sample_axis(m.dim, len(call.source_shape), call.source.batch)
        if m.p != 2 or axis < 0:
            raise call.refusal(f"p={m.p:g} along axis {m.dim}; give p=2, and as dim an axis of a sample")
        rows = self._rows(call.path, call.source, (axis,))
        ones, bias = np.ones((1, 1, 1, shape[axis]), np.float32), np.zeros(1, np.float32)
        squares = self._layer(call.path, "multiply", rows, rows)
        length = self._layer(call.path, "conv", squares, weights=ones, bias=bias)
        least = max(m.eps, LEAST) ** 2
        inverse = self._gate(call.path, length, lambda x: torch.rsqrt(x.clamp(min=least)))
        return _Value(self._layer(call.path, "multiply", rows, inverse), _places_of(shape, (axis,)))

    def _largest(self, path: str, tensor: int) -> int:
        """The maximum over all positions, by pools as large as the limits allow."""
        while math.prod(self.shapes[tensor][:2]) > 1:
            height, width, _ = self.shapes[tensor]
            high = min(height, 255)
            kernel = high, min(width, 255, MAX_POOLED // high)
            tensor = self._layer(path, "max_pool", tensor, kernel=kernel, stride=kernel)
        return tensor

    def upsample(self, call: _Call) -> _Value:
        """Linear interpolation by an integer factor: repeats positions, then averages with a depthwise layer."""
        m, (height, width, channels) = call.module, self.shapes[call.tensor]
        own = _own_shape(call.shape)
        if m.mode not in ("linear", "bilinear"):
            raise call.refusal(f"mode {m.mode!r}: supported are 'nearest', 'linear' and 'bilinear'")
        factors = own[0] // height, own[1] // width
        if m.align_corners or (height * factors[0], width * factors[1]) != own[:2]:
            return self._mixed(call, own)
        taps = [_between(factor) for factor in factors]
        rows, columns = (
            tuple(int(n) for n in np.clip((np.arange(size * f + len(tap) - 1) - len(tap) // 2) // f, 0, size - 1))
            for size, f, tap in zip((height, width), factors, taps, strict=True)
        )
        places = (rows, columns, tuple(range(channels)))
        call = replace(call, tensor=self._layer(call.path, "gather", call.tensor, places=places))
        weights = np.repeat(np.outer(*taps)[:, :, None], channels, axis=2).astype(np.float32)
        fields = {"kernel": weights.shape[:2], "padding": "valid", "bias": np.zeros(channels, np.float32)}
        return self._emit(call, "depthwise", weights=weights, **fields)

    def norm(self, call: _Call) -> _Value:
        """Over the last axes: a norm of a stream or, of more channels than these have, by other ops."""
        m, places = call.module, call.source.places
        centred, eps = isinstance(m, tnn.LayerNorm), float(torch.finfo(torch.float32).eps if m.eps is None else m.eps)
        given_bias = getattr(m, "bias", None)
        axes = range(places.ndim - len(m.normalized_shape), places.ndim)
        rows = self._rows(call.path, call.source, axes)
        channels = self.shapes[rows][2]
        if 1 < channels <= MAX_STREAM:
            gain = np.ones(channels, np.float32) if m.weight is None else _array(m.weight).reshape(-1)
            bias = None
            if centred:
                bias = np.zeros(channels, np.float32) if given_bias is None else _array(given_bias).reshape(-1)
            stream = self._layer(call.path, "widen", rows)
            fields = {"weights": gain, "bias": bias, "centred": centred, "epsilon": eps}
            return _Value(self._layer(call.path, "norm", stream, **fields), _places_of(places.shape, axes))
        made = self._normalized(call.path, rows, eps, centred)
        if m.weight is not None:
            gain = _array(m.weight).reshape(-1)
            shift = np.zeros(len(gain), np.float32) if given_bias is None else _array(given_bias).reshape(-1)
            made = self._layer(call.path, "depthwise", made, weights=gain.reshape(1, 1, -1), bias=shift)
        return _Value(made, _places_of(places.shape, axes))

    def _normalized(self, path: str, rows: int, eps: float, centred: bool = True) -> int:
        """By existing ops: means are 1x1 convolutions, the inverse deviation is a table."""
        channels = self.shapes[rows][2]
        below = np.full((1, 1, 1, channels), 1 / channels, np.float32)
        one = np.zeros(1, np.float32)
        apart = rows
        if centred:
            apart = self._layer(path, "add", rows, self._layer(path, "conv", rows, weights=-below, bias=one))
        squares = self._layer(path, "multiply", apart, apart)
        spread = self._layer(path, "conv", squares, weights=below, bias=one)
        function = _in_numpy(lambda v: torch.rsqrt(torch.relu(v) + eps))
        root = self._layer(path, "lookup", spread, function=function)
        return self._layer(path, "multiply", apart, root)

    def group_norm(self, call: _Call) -> _Value:
        """Normalizes each group of channels, then scales and shifts each channel."""
        m, shape = call.module, call.source.places.shape
        grouped = call.source.places.reshape(m.num_groups, -1)
        rows = self._rows(call.path, replace(call.source, places=grouped), (1,))
        made = _Value(self._normalized(call.path, rows, m.eps), np.arange(grouped.size).reshape(shape))
        if m.weight is None:
            return made
        tensor = self._moved(call.path, made.tensor, moves.channels_last(made.places))
        gain, shift = _array(m.weight), _array(m.bias)
        tensor = self._layer(call.path, "depthwise", tensor, weights=gain.reshape(1, 1, -1), bias=shift)
        return _Value(tensor, moves.laid_out(shape))

    # ---- recurrences ----

    def recurrent(self, call: _Call) -> Made:
        """Unrolled: the inputs' contributions for all steps at once if possible, the state's step by step."""
        m = call.module
        if m.proj_size:
            raise call.refusal("proj_size isn't supported: put a Linear behind it in its place")
        if call.source.places.ndim != 2 or call.source.batch != 1 - m.batch_first:
            raise call.refusal(f"reads {list(call.source_shape)}: must read [batch, time, features], batch_first=True")
        if not _is_zero(_values((call.node.args[1:], tuple(call.node.kwargs.values())))):
            raise call.refusal("has an initial state other than 0, which isn't supported")
        steps, directions = len(call.source.places), 1 + m.bidirectional
        self._check_steps(call, steps * directions * m.num_layers)
        source, last = call.source, []
        for layer in range(m.num_layers):
            sides: list[list[int]] = []
            for side in range(directions):
                weights = _Recurrence(m, f"l{layer}" + ("_reverse" if side else ""))
                states = self._steps(call.path, weights, source, range(steps)[:: -1 if side else 1])
                last.append(states[-1])
                sides.append(states[:: -1 if side else 1])
            rows = (
                [self._beside(call.path, row) for row in zip(*sides, strict=True)] if self._is_read(call, layer) else []
            )
            source = self._in_list(rows, (steps, directions * m.hidden_size)) if rows else source
        state = replace(self._in_list(last, (len(last), m.hidden_size)), batch=1)
        made = replace(source, batch=call.source.batch)
        return [made, [state, None] if isinstance(m, tnn.LSTM) else state]

    def _check_steps(self, call: _Call, steps: int) -> None:
        each = _RECURRENT_OPS[type(call.module)]
        if steps * each > MAX_OPS:
            raise call.refusal(
                f"its {steps} steps take {each} ops each, the limit is {MAX_OPS} for a network: put a strided "
                "convolution or a pool before it, or give it shorter windows"
            )

    def _is_read(self, call: _Call, layer: int) -> bool:
        """Whether any call or layer reads the outputs of all steps, not only the last state."""
        outputs = any(user.target is operator.getitem and user.args[1] == 0 for user in call.node.users)
        return outputs or layer < call.module.num_layers - 1

    def _beside(self, path: str, tensors: Sequence[int]) -> int:
        whole, *others = tensors
        for tensor in others:
            whole = self._layer(path, "concatenate", whole, tensor)
        return whole

    def _steps(self, path: str, of: _Recurrence, source: _Value, order: range) -> list[int]:
        """The states [1, 1, hidden] after each step, in the given order of steps."""
        given = self._given(path, of, source)
        states: list[int] = []
        cell = -1
        for step in order:
            x = given(step)
            if of.kind is tnn.LSTM:
                cell, state = self._lstm_step(path, of, x, cell, states)
            else:
                state = (self._gru_step if of.kind is tnn.GRU else self._rnn_step)(path, of, x, states)
            states.append(state)
        return states

    def _given(self, path: str, of: _Recurrence, source: _Value) -> Callable[[int], int]:
        """The inputs' contribution to the gates by step, computed for all steps at once if they are in one tensor."""
        weights, bias = of.inputs[:, None, None], of.input_bias
        if source.tensor < 0:
            parts = [self._within_one(replace(source, places=row)) for row in source.places]
            each = [self._rows(path, part, (0,)) for part in parts]
            return lambda step: self._layer(path, "dense", each[step], weights=weights, bias=bias)
        made = self._layer(path, "conv", self._rows(path, source, (1,)), weights=weights, bias=bias)
        places = np.arange(len(source.places) * len(bias)).reshape(-1, 1, 1, len(bias))
        return lambda step: self._moved(path, made, places[step])

    def _of_state(self, path: str, of: _Recurrence, states: list[int], x: int, part: slice) -> int:
        """The sum of the inputs' and the state's contributions to some gates."""
        x = self._taken(path, x, part)
        if not states:
            return x
        weights, bias = of.state[part][:, None, None], np.zeros(len(of.state[part]), np.float32)
        return self._layer(path, "add", x, self._layer(path, "dense", states[-1], weights=weights, bias=bias))

    def _taken(self, path: str, tensor: int, part: slice) -> int:
        return self._moved(path, tensor, np.arange(self._size(tensor))[part].reshape(1, 1, -1))

    def _gate(self, path: str, tensor: int, function: Any = torch.sigmoid) -> int:
        return self._layer(path, "lookup", tensor, function=_in_numpy(function))

    def _rnn_step(self, path: str, of: _Recurrence, x: int, states: list[int]) -> int:
        function = torch.relu if of.relu else torch.tanh
        return self._gate(path, self._of_state(path, of, states, x, slice(None)), function)

    def _lstm_step(self, path: str, of: _Recurrence, x: int, cell: int, states: list[int]) -> tuple[int, int]:
        """The new cell and state. Order of gates: input, forget, output, cell."""
        n = of.hidden
        gates = self._of_state(path, of, states, x, slice(None))
        opened = self._gate(path, self._taken(path, gates, slice(0, 3 * n)))
        new = self._gate(path, self._taken(path, gates, slice(3 * n, None)), torch.tanh)
        admit, keep, show = (slice(i * n, (i + 1) * n) for i in range(3))
        made = self._layer(path, "multiply", self._taken(path, opened, admit), new)
        if cell >= 0:
            made = self._layer(path, "add", made, self._layer(path, "multiply", self._taken(path, opened, keep), cell))
        shown = self._gate(path, made, torch.tanh)
        return made, self._layer(path, "multiply", self._taken(path, opened, show), shown)

    def _gru_step(self, path: str, of: _Recurrence, x: int, states: list[int]) -> int:
        """The new state. Order of gates: reset, update, new."""
        n = of.hidden
        opened = self._gate(path, self._of_state(path, of, states, x, slice(0, 2 * n)))
        reset, update = self._taken(path, opened, slice(0, n)), self._taken(path, opened, slice(n, None))
        bias = np.ascontiguousarray(of.new_bias)
        if states:
            of_state = self._layer(path, "dense", states[-1], weights=of.state[2 * n :][:, None, None], bias=bias)
            of_state = self._layer(path, "multiply", reset, of_state)
        else:
            zero = np.zeros_like(bias)
            of_state = self._layer(path, "depthwise", reset, weights=bias[None, None], bias=zero)
        new = self._layer(path, "add", self._taken(path, x, slice(2 * n, None)), of_state)
        new = self._gate(path, new, torch.tanh)
        rest = self._gate(path, update, lambda z: 1 - z)
        made = self._layer(path, "multiply", rest, new)
        if not states:
            return made
        return self._layer(path, "add", made, self._layer(path, "multiply", update, states[-1]))

    # ---- two activations ----

    def _join(self, node: Any, path: str) -> _Value:
        """Concatenates activations along an axis; lookups bring all to one grid."""
        dim = _argument(node, 1, "dim", 0)
        parts = node.args[0] if node.args else node.kwargs.get("tensors", ())
        shape = node.meta["value"].shape
        apart = {value.batch for part in parts if isinstance(value := self.values.get(part), _Value)}
        batch = next(iter(apart), 0)
        if node.target is torch.stack:
            dim %= len(shape)
            axis, after = dim - (dim > batch), batch + (dim <= batch)
        else:
            axis, after = _sample_axis(dim, len(shape), batch), batch
        known = [self._either(part, path, batch) for part in parts]
        if len(apart) != 1 or axis < 0 or not all(isinstance(value, _Value) for value in known):
            raise TorchError(
                f"{path}: concatenates along axis {dim}; only activations and parameters, along axes of a sample, can "
                "be concatenated"
            )
        if node.target is torch.stack:
            known = [replace(value, places=np.expand_dims(value.places, axis)) for value in known]
        rows = [self._rows(path, value, (axis,)) for value in known]
        if len({self.shapes[tensor][:2] for tensor in rows}) > 1:
            rows = [self._flattened(path, tensor) for tensor in rows]
        joined = [
            tensor
            if tensor and self.net.layers[tensor - 1].kind == "constant"
            else self._layer(path, "lookup", tensor, function=_same)
            for tensor in rows
        ]
        whole = joined[0]
        for tensor in joined[1:]:
            whole = self._layer(path, "concatenate", whole, tensor)
        return _Value(whole, _places_of(_of_sample(tuple(shape), after), (axis,)), after)

    def _either(self, arg: Any, path: str, batch: int) -> Any:
        """An activation, or a parameter as a constant; None for anything else, or another batch axis."""
        value = self.values.get(arg) if isinstance(arg, fx.Node) else None
        if isinstance(value, _Value):
            return self._real(value, path) if value.batch == batch else None
        known = arg.meta["value"] if isinstance(arg, fx.Node) and value is None else None
        if not isinstance(known, torch.Tensor) or known.ndim <= batch:
            return None
        values = _same_for_all(_array(known.float()), batch)
        return None if values is None else self._constant(path, values)

    def _constant(self, path: str, values: Array) -> _Value:
        """A parameter as a tensor, its last axis as channels."""
        rows = values.reshape(1, -1, values.shape[-1] if values.ndim else 1)
        tensor = self._layer(path, "constant", 0, weights=rows)
        return _Value(tensor, np.arange(values.size).reshape(values.shape))

    def _flattened(self, path: str, tensor: int) -> int:
        """The tensor with all positions along its width."""
        height, width, channels = self.shapes[tensor]
        places = np.arange(height * width * channels).reshape(1, height * width, channels)
        return self._moved(path, tensor, places)

    def _pair(self, node: Any, path: str) -> _Value:
        """An operator of two activations, or of one and a constant, which becomes a lookup or a 1x1 depthwise layer."""
        kind, name, function = _PAIRS[node.target]
        known = [self.values.get(arg) if isinstance(arg, fx.Node) else None for arg in node.args[:2]]
        ends = {value.places.ndim - value.batch for value in known if isinstance(value, _Value)}
        if len(known) < 2 or node.kwargs or len(ends) > 1 or any(isinstance(value, list) for value in known):
            raise TorchError(f"{path}: {name} something other than two tensors, or a tensor and a number")
        first, second = (self._real(value, path) if isinstance(value, _Value) else None for value in known)
        if first is None or second is None:
            place = 0 if second is None else 1
            value = first or second
            assert value is not None
            return self._with_known(node, path, value, place, function)
        if not kind:
            raise TorchError(
                f"{path}: {name} two activations, which is supported only for sums, differences and products, or "
                "by a length with F.normalize"
            )
        if function is operator.sub:
            second = self._looked_up(path, second, np.negative)
        made = self._paired(path, kind, first, second)
        return replace(made, batch=made.places.ndim - ends.pop())

    def _paired(self, path: str, kind: str, one: _Value, two: _Value) -> _Value:
        """Sum or product in the order of the operand with all elements; the other is broadcast by the op.

        Of two with all, in that whose last axis is channels, as matrices and norms behind read it.
        """
        shape = np.broadcast_shapes(one.places.shape, two.places.shape)
        small = [moves.unrepeated(value.places) for value in (one, two)]
        turned = small[1].size == small[0].size and self._in_rows(two) and not self._in_rows(one)
        if small[1].size > small[0].size or turned:
            one, two, small = two, one, small[::-1]
        places = small[0] if small[0].size == math.prod(shape) else np.broadcast_to(one.places, shape)
        wide = self._whole(path, _Value(one.tensor, places.reshape(shape)))
        if not moves.is_whole(wide.places, self.shapes[wide.tensor]):
            tensor = self._moved(path, wide.tensor, moves.channels_last(wide.places))
            wide = _Value(tensor, moves.laid_out(shape))
        wanted = np.empty(math.prod(shape), np.int64)
        wanted[wide.places.reshape(-1)] = np.broadcast_to(two.places, shape).reshape(-1)
        narrow = moves.unrepeated(wanted.reshape(self.shapes[wide.tensor]))
        other = self._moved(path, two.tensor, narrow)
        return replace(wide, tensor=self._layer(path, kind, wide.tensor, other))

    def _in_rows(self, value: _Value) -> bool:
        """Whether a value is its tensor, with the last axis as channels."""
        shape, size = self.shapes[value.tensor], value.places.shape[-1:]
        return shape[2:] == size and moves.is_in_order(value.places, shape)

    # ---- products of matrices ----

    def _product(self, node: Any, path: str) -> Made:
        """A matrix product of two activations, or of an activation and a constant matrix."""
        matrix = _values(node.args[1])
        if (
            isinstance(matrix, torch.Tensor)
            and matrix.ndim == 2
            and isinstance(one := self.values.get(node.args[0]), _Value)
        ):
            layer, value = _weighted(tnn.Linear(*matrix.shape), matrix.T), node.meta["value"]
            before, after = (_batch_first(given, one.batch) for given in (node.args[0].meta["value"], value))
            return self._handled(_Call(node, layer, path, self._real(one, path), before, after))
        one, two = (self._either(arg, path, 0) for arg in node.args[:2])
        if not isinstance(one, _Value) or not isinstance(two, _Value) or min(one.places.ndim, two.places.ndim) < 2:
            raise TorchError(
                f"{path}: multiplies something other than two matrices of activations, or one and a constant matrix"
            )
        return self._multiplied(path, one, two)

    def _multiplied(self, path: str, one: _Value, two: _Value) -> _Value:
        """[..., rows, n] times [..., n, columns]: for each matrix all products [rows, columns, n], then their sums."""
        outer = np.broadcast_shapes(one.places.shape[:-2], two.places.shape[:-2])
        rows, inner, columns = *one.places.shape[-2:], two.places.shape[-1]
        left = np.broadcast_to(one.places, (*outer, rows, inner)).reshape(-1, rows, 1, inner)
        right = np.broadcast_to(two.places, (*outer, inner, columns)).reshape(-1, inner, columns)
        ones, bias = np.ones((1, 1, 1, inner), np.float32), np.zeros(1, np.float32)
        made: list[int] = []
        for a, b in zip(left, right, strict=True):
            wide = self._moved(path, one.tensor, np.broadcast_to(a, (rows, columns, inner)))
            products = self._layer(path, "multiply", wide, self._moved(path, two.tensor, b.T[None]))
            made.append(self._layer(path, "conv", products, weights=ones, bias=bias))
        places = np.arange(len(made) * rows * columns).reshape(rows, columns, len(made))
        return _Value(self._beside(path, made), np.moveaxis(places, -1, 0).reshape(*outer, rows, columns))

    def _attention(self, node: Any, path: str) -> _Value:
        """softmax(scale Q K^T) V: `scaled_dot_product_attention` without a mask, or with a causal one."""
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        query, key, value = (self._either(given[name], path, 0) for name in names[:3])
        if not all(isinstance(side, _Value) for side in (query, key, value)):
            raise TorchError(f"{path}: its queries, keys and values must be activations")
        if given.get("enable_gqa"):
            raise TorchError(f"{path}: enable_gqa isn't supported: repeat_interleave the keys and values")
        causal = _is_causal(_values(given.get("attn_mask")), bool(given.get("is_causal")), path)
        if given.get("scale"):
            factor = given["scale"] * query.places.shape[-1] ** 0.5
            query = self._looked_up(path, query, lambda x: x * factor)
        if (fused := self._attended(path, query, key, value, causal)) is not None:
            return fused
        if causal:
            raise TorchError(
                f"{path}: causal attention over {list(query.places.shape)} and {list(key.places.shape)}; it needs "
                f"[heads, rows, channels] alike, {MAX_ATTENDED} rows and {MAX_HEAD} channels of a head at most"
            )
        scale = query.places.shape[-1] ** -0.5
        scores = self._multiplied(path, query, replace(key, places=key.places.swapaxes(-1, -2)))
        scaled = self._looked_up(path, scores, lambda x: x * scale)
        last = (scaled.places.ndim - 1,)
        weights = self._layer(path, "softmax", self._rows(path, scaled, last))
        return self._multiplied(path, _Value(weights, _places_of(scaled.places.shape, last)), value)

    def _attended(self, path: str, query: _Value, key: _Value, value: _Value, causal: bool) -> _Value | None:
        """Attention of [rows, n], or of heads [heads, rows, n], as one layer, if it can be that."""
        shape = query.places.shape
        heads, rows, size = (1, *shape) if len(shape) == 2 else shape if len(shape) == 3 else (0, 0, 0)
        alike = all(side.places.shape == shape and not side.batch for side in (query, key, value))
        if not (alike and heads and rows <= MAX_ATTENDED and size <= MAX_HEAD):
            return None
        axes = range(len(shape))
        q, k, v = (self._rows(path, side, [*axes[:-2], axes[-1]]) for side in (query, key, value))
        made = self._layer(path, "attend", q, k, v, heads=(heads, heads), causal=causal)
        places = np.arange(heads * rows * size).reshape(rows, heads, size).swapaxes(0, 1)
        return _Value(made, places.reshape(shape))

    def _with_known(self, node: Any, path: str, source: _Value, place: int, function: Any) -> _Value:
        """An activation and a number, as a lookup; or and a parameter, as a 1x1 depthwise layer."""
        number = _values(node.args[1 - place])
        if isinstance(number, torch.Tensor):
            values = number.detach().float().numpy()
            if values.size > 1:
                return self._with_values(node, path, source, place, values)
            number = float(values.reshape(()))
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise TorchError(f"{path}: {number!r} is not a number")
        if function is operator.pow and (place or number not in range(1, 9)):
            raise TorchError(f"{path}: a power must have an exponent of 1 to 8")
        if function is operator.truediv and (place or number == 0):
            raise TorchError(f"{path}: only division by a number other than 0 is supported")
        of_one = (lambda x: function(x, number)) if place == 0 else (lambda x: function(number, x))
        return self._looked_up(path, source, _in_numpy(of_one))

    def _with_values(self, node: Any, path: str, source: _Value, place: int, values: Array) -> _Value:
        """An activation and a parameter, reduced to a sum or a product."""
        name, function = _PAIRS[node.target][1:]
        if function is operator.sub:
            source = self._looked_up(path, source, np.negative) if place else source
            function, values = operator.add, values if place else -values
        elif function is operator.truediv and place == 0 and values.all():
            function, values = operator.mul, 1 / values
        if function not in (operator.add, operator.mul):
            raise TorchError(f"{path}: {name} an activation and a parameter, which isn't supported here")
        return self._with_parameter(path, source, tuple(node.meta["value"].shape), function, values)

    def _with_parameter(
        self, path: str, source: _Value, shape: tuple[int, ...], function: Any, values: Array
    ) -> _Value:
        """A sum or product with a constant: of each channel as a 1x1 depthwise layer, else of each element."""
        whole, shape = shape, _of_sample(shape, source.batch)
        filled = _same_for_all(np.broadcast_to(values, whole), source.batch) if values.ndim <= len(whole) else None
        if source.places.shape != shape or filled is None or not np.isfinite(filled).all():
            raise TorchError(
                f"{path}: {list(whole)} of an activation of {list(source.places.shape)} and a parameter of "
                f"{list(values.shape)}, which must be finite and the same for each sample"
            )
        value = self._whole(path, source)
        if not moves.is_whole(value.places, self.shapes[value.tensor]):
            tensor = self._moved(path, value.tensor, moves.channels_last(value.places))
            value = replace(value, tensor=tensor, places=moves.laid_out(shape))
        laid = np.empty(value.places.size, np.float32)
        laid[value.places.reshape(-1)] = filled.reshape(-1)
        by_element = laid.reshape(self.shapes[value.tensor])
        if not (by_element == by_element[:1, :1]).all():
            constant = self._layer(path, "constant", 0, weights=by_element)
            kind = "multiply" if function is operator.mul else "add"
            return replace(value, tensor=self._layer(path, kind, value.tensor, constant))
        laid = by_element[0, 0]
        weights, bias = (laid, np.zeros_like(laid)) if function is operator.mul else (np.ones_like(laid), laid)
        tensor = self._layer(path, "depthwise", value.tensor, weights=weights[None, None], bias=bias)
        return replace(value, tensor=tensor)

    def _check_axes(self, call: _Call, axes: int) -> None:
        if len(call.source_shape) != 2 + axes:
            raise call.refusal(f"reads {list(call.source_shape)}, must read {2 + axes} axes, the batch among them")


# ---- tables ----------------------------------------------------------------------------------------------------------

_ELEMENTWISE = (
    *(tnn.Sigmoid, tnn.Tanh, tnn.LeakyReLU, tnn.Hardswish, tnn.Hardsigmoid, tnn.GELU, tnn.SiLU, tnn.Mish),
    *(tnn.ELU, tnn.CELU, tnn.SELU, tnn.Softplus, tnn.Softsign, tnn.Hardshrink, tnn.Softshrink, tnn.Threshold),
    *(tnn.LogSigmoid, tnn.Tanhshrink),
)


class Function:
    """Represents a function of one value, as a module."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, x: Any) -> Any:
        return self.function(x)


@dataclass(frozen=True)
class Length:
    """Represents a division by the L2 norm along an axis."""

    p: float = 2.0
    dim: int = 1
    eps: float = 1e-12


@dataclass(frozen=True)
class Reduction:
    """Represents a reduction over axes (PyTorch's, without the batch); correction: of a variance's divisor."""

    name: str
    axes: tuple[int, ...]
    keeps: bool = False
    correction: int = 1


def _same(x: Any) -> Any:
    return x


_HANDLERS: dict[type, Callable[[_Converter, _Call], Made]] = {
    tnn.Linear: _Converter.linear,
    **dict.fromkeys((tnn.ReLU, tnn.ReLU6, tnn.Hardtanh), _Converter.clamp),
    **dict.fromkeys((*_ELEMENTWISE, Function), _Converter.elementwise),
    Reduction: _Converter.reduce,
    Length: _Converter.unit_length,
    **dict.fromkeys((tnn.LayerNorm, tnn.RMSNorm), _Converter.norm),
    tnn.GroupNorm: _Converter.group_norm,
    **dict.fromkeys((tnn.LSTM, tnn.GRU, tnn.RNN), _Converter.recurrent),
    tnn.Softmax: _Converter.softmax,
    tnn.LogSoftmax: _Converter.log_softmax,
    **dict.fromkeys((tnn.Identity, tnn.Dropout, tnn.Dropout1d, tnn.Dropout2d, tnn.AlphaDropout), _Converter.alias),
}
_LAID_OUT: dict[type, Callable[[_Converter, _Call], Made]] = {  # handlers that read [height, width, channels]
    **dict.fromkeys((tnn.Conv1d, tnn.Conv2d), _Converter.conv),
    **dict.fromkeys((tnn.ConvTranspose1d, tnn.ConvTranspose2d), _Converter.conv_transpose),
    **dict.fromkeys((tnn.BatchNorm1d, tnn.BatchNorm2d), _Converter.batch_norm),
    tnn.PReLU: _Converter.prelu,
    **dict.fromkeys((tnn.Upsample, tnn.UpsamplingBilinear2d), _Converter.upsample),
    **dict.fromkeys((tnn.MaxPool1d, tnn.MaxPool2d, tnn.AvgPool1d, tnn.AvgPool2d), _Converter.pool),
    **dict.fromkeys(
        (tnn.AdaptiveAvgPool1d, tnn.AdaptiveAvgPool2d, tnn.AdaptiveMaxPool1d, tnn.AdaptiveMaxPool2d),
        _Converter.adaptive_pool,
    ),
    **dict.fromkeys((tnn.ZeroPad1d, tnn.ZeroPad2d, tnn.ConstantPad1d, tnn.ConstantPad2d), _Converter.pad),
}
_MOVING_MODULES = (
    *(tnn.Flatten, tnn.Unflatten, tnn.PixelShuffle, tnn.PixelUnshuffle, tnn.ChannelShuffle, tnn.UpsamplingNearest2d),
    *(tnn.ReflectionPad1d, tnn.ReflectionPad2d, tnn.ReplicationPad1d, tnn.ReplicationPad2d),
    *(tnn.CircularPad1d, tnn.CircularPad2d),
)
_LEAVES = {*_HANDLERS, *_LAID_OUT, *_MOVING_MODULES}  # modules that are traced as one call
_JOINS = {torch.cat, torch.concat, torch.concatenate, torch.stack}
_SUPPORTED = "replace it; what can be imported is listed in docs/guides/own-network.md"
_PRODUCTS = {operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm"}
_PAIRS: dict[Any, tuple[str, str, Callable[[Any, Any], Any]]] = {  # layer of two activations; verb; function
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), ("add", "adds", operator.add)),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), ("multiply", "multiplies", operator.mul)),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), ("add", "subtracts", operator.sub)),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), ("", "divides", operator.truediv)),
    **dict.fromkeys((operator.pow, torch.pow, "pow"), ("", "raises to a power", operator.pow)),
}
_RECURRENT = tnn.LSTM | tnn.GRU | tnn.RNN
_RECURRENT_OPS = {tnn.LSTM: 15, tnn.GRU: 16, tnn.RNN: 4}  # ops of a step
_NAMED_MOVES = (  # of functions in torch, and of methods
    *("flatten", "unflatten", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "swapaxes", "movedim", "t"),
    *("chunk", "split", "tensor_split", "unbind", "select", "narrow", "flip", "roll", "tile", "repeat_interleave"),
    *("index_select", "clone"),
)
_MOVES = {
    *_NAMED_MOVES,
    *(getattr(torch, name) for name in _NAMED_MOVES),
    *("view", "view_as", "reshape_as", "contiguous", "expand", "expand_as", "repeat", "detach", "float", "to", "type"),
    *(operator.getitem, getattr, F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle),
}
_TOTAL = {  # functions of one value that are finite for all inputs
    **dict.fromkeys((operator.neg, torch.neg, "neg"), torch.neg),
    **dict.fromkeys((operator.abs, torch.abs, "abs"), torch.abs),
    **dict.fromkeys((torch.square, "square"), torch.square),
    **dict.fromkeys((torch.sin, "sin"), torch.sin),
    **dict.fromkeys((torch.cos, "cos"), torch.cos),
    **dict.fromkeys((torch.erf, "erf"), torch.erf),
}
_BOUNDED = {  # functions of one value, with clamped arguments to stay finite
    **dict.fromkeys((torch.exp, "exp"), lambda x: torch.exp(x.clamp(max=EXP_MOST))),
    **dict.fromkeys((torch.sqrt, "sqrt"), lambda x: torch.sqrt(torch.relu(x))),
    **dict.fromkeys((torch.log, "log"), lambda x: torch.log(x.clamp(min=LEAST))),
    **dict.fromkeys((torch.log1p, "log1p"), lambda x: torch.log1p(x.clamp(min=LEAST - 1))),
    **dict.fromkeys((torch.rsqrt, "rsqrt"), lambda x: torch.rsqrt(x.clamp(min=LEAST))),
    **dict.fromkeys((torch.reciprocal, "reciprocal"), lambda x: 1 / torch.where(x.abs() < LEAST, LEAST, x)),
}
_TOTAL |= _BOUNDED
_REDUCTIONS: dict[Any, str] = {
    getter: name for name in ("mean", "sum", "amax", "max", "var", "std") for getter in (name, getattr(torch, name))
}
_WINDOW = ("kernel_size", "stride", "padding")
_FUNCTIONS: dict[Any, tuple[type, tuple[str, ...]]] = {  # the equivalent module and its parameters
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
    **dict.fromkeys((F.softmax, torch.softmax, "softmax"), (tnn.Softmax, ("dim",))),
    **dict.fromkeys((F.log_softmax, torch.log_softmax, "log_softmax"), (tnn.LogSoftmax, ("dim",))),
    F.dropout: (tnn.Dropout, ()),
    F.max_pool1d: (tnn.MaxPool1d, _WINDOW),
    F.max_pool2d: (tnn.MaxPool2d, _WINDOW),
    F.avg_pool1d: (tnn.AvgPool1d, (*_WINDOW, "ceil_mode", "count_include_pad")),
    F.avg_pool2d: (tnn.AvgPool2d, (*_WINDOW, "ceil_mode", "count_include_pad")),
    F.adaptive_avg_pool1d: (tnn.AdaptiveAvgPool1d, ("output_size",)),
    F.adaptive_avg_pool2d: (tnn.AdaptiveAvgPool2d, ("output_size",)),
    F.adaptive_max_pool1d: (tnn.AdaptiveMaxPool1d, ("output_size",)),
    F.adaptive_max_pool2d: (tnn.AdaptiveMaxPool2d, ("output_size",)),
    F.normalize: (Length, ("p", "dim", "eps")),
    F.interpolate: (tnn.Upsample, ("size", "scale_factor", "mode", "align_corners")),
    F.pad: (tnn.ConstantPad2d, ("padding", "mode", "value")),
}
_IGNORED = (
    "inplace",
    "training",
    "_stacklevel",
    "dtype",
    "recompute_scale_factor",
    "antialias",
)  # arguments of functions that have no effect here


def _only_moves(node: Any, modules: dict[str, Any]) -> bool:
    """Whether a call only moves elements of its first argument."""
    if node.op == "call_module":
        module = modules[node.target]
        return isinstance(module, _MOVING_MODULES) or isinstance(module, tnn.Upsample) and module.mode == "nearest"
    if node.target is F.interpolate:
        return bool(_argument(node, 3, "mode", "nearest") == "nearest")
    if node.target is F.pad:
        return bool(_argument(node, 2, "mode", "constant") != "constant")
    return node.target in _MOVES


def _argument(node: Any, place: int, name: str, default: Any = None) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _module_of(node: Any, source: _Value, path: str) -> Any:
    """The module equivalent to a function or method on a value."""
    if node.target in _TOTAL:
        return Function(_TOTAL[node.target])
    if node.target in _REDUCTIONS:
        return _reduction(node, source, path)
    if node.target in _PARAMETRIC:
        return _PARAMETRIC[node.target](*_values(node.args[1:]), **_values(node.kwargs))
    name = getattr(node.target, "__name__", str(node.target))
    if node.target not in _FUNCTIONS:
        raise TorchError(f"{path} ({name}): not supported: {_SUPPORTED}")
    kind, parameters = _FUNCTIONS[node.target]
    given = dict(zip(parameters, _values(node.args[1:]), strict=False))
    given |= {key: _values(value) for key, value in node.kwargs.items() if key not in _IGNORED}
    if kind is tnn.Hardtanh:
        bounds = zip(("min_val", "max_val"), (-math.inf, math.inf), strict=True)
        given = {key: given.get(key, given.get(key[:3], bound)) for key, bound in bounds}
    if kind is tnn.ConstantPad2d:
        sides = tuple(given.get("padding", given.get("pad", ())))
        given = {"padding": (*sides, 0, 0, 0)[: max(4, len(sides))], "value": given.get("value") or 0}
    return kind(**{key: value for key, value in given.items() if value is not None})


def _reduction(node: Any, source: _Value, path: str) -> Reduction:
    name, dims = _REDUCTIONS[node.target], _argument(node, 1, "dim", node.kwargs.get("axis"))
    spread = name in ("var", "std")
    listed = [dims] if isinstance(dims, int) else list(dims or ())
    numbers = [dim for dim in listed if isinstance(dim, int) and not isinstance(dim, bool)]
    axes = {_sample_axis(dim, source.places.ndim + 1, source.batch) for dim in numbers}
    if not axes or -1 in axes or len(axes) < len(listed):
        raise TorchError(
            f"{path}: {name} over axes {listed} of {list(node.args[0].meta['value'].shape)}; give axes of a sample, as "
            "dim="
        )
    unbiased = _argument(node, 2, "unbiased", True) if spread else True
    keeps = bool(_argument(node, 3 if spread else 2, "keepdim", False))
    return Reduction(name, tuple(sorted(axes)), keeps, node.kwargs.get("correction", int(unbiased)))


def _weighted(module: Any, weight: Any, bias: Any = None) -> Any:
    """The module with these parameters."""
    module.weight, module.bias = (None if given is None else tnn.Parameter(given.detach()) for given in (weight, bias))
    return module


def _convolution(kind: type) -> Callable[..., Any]:
    def made(
        weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Any:
        sizes = (weight.shape[1] * groups, len(weight), tuple(weight.shape[2:]))
        return _weighted(kind(*sizes, stride, padding, dilation, groups), weight, bias)

    return made


def _batch_norm(mean: Any, variance: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, **_: Any) -> Any:
    made = _weighted(tnn.BatchNorm1d(len(mean), eps), weight, bias)
    made.running_mean, made.running_var = mean, variance
    return made


def _slopes(weight: Any) -> Any:
    made = tnn.PReLU(len(weight))
    made.weight = tnn.Parameter(weight.detach())
    return made


_PARAMETRIC: dict[Any, Callable[..., Any]] = {  # functions that read parameters: the equivalent module
    F.linear: lambda weight, bias=None: _weighted(tnn.Linear(weight.shape[1], len(weight)), weight, bias),
    F.conv1d: _convolution(tnn.Conv1d),
    F.conv2d: _convolution(tnn.Conv2d),
    F.batch_norm: _batch_norm,
    F.prelu: _slopes,
    F.layer_norm: lambda shape, weight=None, bias=None, eps=1e-5: _weighted(tnn.LayerNorm(shape, eps), weight, bias),
    F.rms_norm: lambda shape, weight=None, eps=None: _weighted(tnn.RMSNorm(shape, eps), weight),
    F.group_norm: lambda groups, weight=None, bias=None, eps=1e-5: _weighted(
        tnn.GroupNorm(groups, groups, eps), weight, bias
    ),
}


def _is_causal(mask: Any, causal: bool, path: str) -> bool:
    """Whether a mask leaves each row itself and the rows before it. Raises TorchError if it is another one."""
    if mask is None:
        return causal
    if isinstance(mask, torch.Tensor):
        seen = mask if mask.dtype == torch.bool else mask == 0
        if bool(seen.all()):
            return causal
        none = mask.dtype == torch.bool or bool((mask[~seen] <= -1e4).all())
        if none and bool((seen == torch.ones(seen.shape[-2:]).tril().bool()).all()):
            return True
    raise TorchError(f"{path}: a mask that isn't causal; only is_causal=True, or a mask equal to it, is supported")


def _values(given: Any) -> Any:
    """Arguments with the values of nodes that don't depend on the input."""
    return fx.map_arg(given, lambda node: node if node.meta["of_input"] else node.meta["value"])


def _is_zero(given: Any) -> bool:
    """Whether an argument doesn't depend on the input and is 0 or absent."""
    if isinstance(given, tuple | list):
        return all(_is_zero(part) for part in given)
    return given is None or isinstance(given, torch.Tensor) and not given.any()


def _in_numpy(function: Callable[[Any], Any]) -> Callable[[Array], Array]:
    """A function of PyTorch tensors as one of NumPy arrays."""

    def of_arrays(x: Array) -> Array:
        with torch.no_grad():
            return np.asarray(function(torch.tensor(x, dtype=torch.float32)).numpy(), x.dtype)

    return of_arrays


# ---- shapes and arrays -----------------------------------------------------------------------------------------------


def _batch_first(value: Any, batch: int) -> tuple[int, ...]:
    """A tensor's shape with the batch first; () for several tensors."""
    shape = tuple(getattr(value, "shape", ()))
    return (*shape[batch : batch + 1], *_of_sample(shape, batch))


def _of_sample(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    return shape[:batch] + shape[batch + 1 :]


def _sample_axis(dim: int, axes: int, batch: int) -> int:
    """One of PyTorch's axes as an axis of a sample; -1 for the batch."""
    dim %= axes
    return -1 if dim == batch else dim - (dim > batch)


def _same_for_all(values: Array, batch: int) -> Array | None:
    """What each sample reads of a constant; None if samples differ."""
    first = values.take([0], batch)
    return first.squeeze(batch) if (values == first).all() else None


def _own_shape(shape: tuple[int, ...]) -> Shape:
    """PyTorch's [N], [N, C], [N, C, W] or [N, C, H, W] as [height, width, channels]."""
    height, width = (1, 1, *shape[2:])[-2:]
    return height, width, (*shape, 1)[1]


def _places_of(shape: tuple[int, ...], axes: Sequence[int]) -> moves.Places:
    """The places of a sample's axes in a tensor with `axes` as channels, and the others, in order, as positions."""
    order = [*(axis for axis in range(len(shape)) if axis not in axes), *axes]
    places = np.arange(math.prod(shape), dtype=np.int64).reshape([shape[axis] for axis in order])
    return places.transpose(np.argsort(order))


def _between(factor: int) -> NDArray[np.float64]:
    """Taps that turn positions repeated `factor` times into a linear interpolation between their centers."""
    taps = np.ones(factor) if factor % 2 else np.array([0.5, *[1.0] * (factor - 1), 0.5])
    return taps / factor


def _pair(value: int | tuple[int, ...], fill: int, axes: int = 2) -> tuple[int, int]:
    """A module's parameter as (height, width); `fill` is the height's if the module has one axis."""
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    height, width = (fill, *values)[-2:]
    return height, width


def _array(parameter: Any) -> NDArray[np.float32]:
    return np.array(parameter.detach().numpy())


def _bias(module: Any, outputs: int) -> NDArray[np.float32]:
    return np.zeros(outputs, np.float32) if module.bias is None else _array(module.bias)
