"""Writes QuantModels as INT8 `.tflite` files, and runs them in TensorFlow Lite Micro: the oracle of the base's layers.

A file has scales, not multipliers; TFLite Micro computes the multipliers from them.
"""

from __future__ import annotations

import dataclasses

import flatbuffers
import numpy as np
from numpy.typing import NDArray
from random_models import NEAREST, nearest, same_padding
from tflite_micro.python.tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from edgelora.core.formats.fixed_point import LOOKUPS, lookup_table
from edgelora.core.formats.network import Op, QuantModel, Tensor, gather_axes

ACTIVATIONS = {(False, False): 0, (True, False): 1, (True, True): 3}  # masks -> NONE, RELU, RELU6

# 64 variables suffice for all files here; counting them would parse a file object by object.
runtime.count_resource_variables = lambda file: 64

BUILTIN, TYPE = schema.BuiltinOperator, schema.TensorType
GRID = (0.05, 3)  # scale and zero point

_CODES = {
    "conv": BUILTIN.CONV_2D,
    "depthwise": BUILTIN.DEPTHWISE_CONV_2D,
    "average_pool": BUILTIN.AVERAGE_POOL_2D,
    "max_pool": BUILTIN.MAX_POOL_2D,
    "mean": BUILTIN.MEAN,
    "add": BUILTIN.ADD,
    "multiply": BUILTIN.MUL,
    "minimum": BUILTIN.MINIMUM,
    "maximum": BUILTIN.MAXIMUM,
    "prelu": BUILTIN.PRELU,
    "squared_difference": BUILTIN.SQUARED_DIFFERENCE,
    "matmul": BUILTIN.BATCH_MATMUL,
    "concatenate": BUILTIN.CONCATENATION,
    "pad": BUILTIN.PAD,
    "softmax": BUILTIN.SOFTMAX,
}
_OPTIONS = {  # those that are the same for all ops of a kind; most have none
    "mean": lambda: schema.ReducerOptionsT(keepDims=True),
    "matmul": lambda: schema.BatchMatMulOptionsT(adjY=True),
    "minimum": schema.MaximumMinimumOptionsT,
    "maximum": schema.MaximumMinimumOptionsT,
    "pad": schema.PadOptionsT,
    "softmax": lambda: schema.SoftmaxOptionsT(beta=1.0),
}
_LOOKUPS = {
    "requantize": (BUILTIN.QUANTIZE, schema.QuantizeOptionsT()),
    "relu": (BUILTIN.RELU, None),
    "logistic": (BUILTIN.LOGISTIC, None),
    "tanh": (BUILTIN.TANH, None),
}


def write_tflite(model: QuantModel) -> bytes:
    """The model as an INT8 `.tflite` file; its padding must be SAME or VALID, its ranges those of `fused_range`."""
    writer = _Writer()
    tensors = [writer.activation(tensor) for tensor in model.tensors]
    for op in model.ops:
        writer.op(model, op, tensors)
    return writer.finish(tensors[0], tensors[-1])


def run_tflm(file: bytes, x: NDArray[np.int8]) -> NDArray[np.int8]:
    """The output of one inference, flattened; x: int8 [height, width, channels]."""
    return TflmModel(file)(x)


def as_type(q: NDArray[np.int8], tensor: Tensor, dtype: type) -> NDArray:
    """int8 values in the type of a file's input or output."""
    if dtype == np.float32:
        return (q.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale)
    return (q.astype(np.int16) + 128).astype(np.uint8) if dtype == np.uint8 else q


class TflmModel:
    """A `.tflite` file in TensorFlow Lite Micro; inputs and outputs are int8, for a file with others by its model."""

    def __init__(self, file: bytes, model: QuantModel | None = None) -> None:
        self._model, self._runs = model, runtime.Interpreter.from_bytes(file, arena_size=4_000_000)
        self._source, self._target = self._runs.get_input_details(0), self._runs.get_output_details(0)

    def __call__(self, x: NDArray[np.int8], *, reset: bool = False) -> NDArray[np.int8]:
        """The output, flattened; reset: with an empty state."""
        if reset:
            self._runs.reset()
        if self._model is not None:
            x = as_type(x, self._model.input, self._source["dtype"])
        self._runs.set_input(np.ascontiguousarray(x.reshape(self._source["shape"])), 0)
        self._runs.invoke()
        y = self._runs.get_output(0).reshape(-1)
        if y.dtype == np.float32:
            assert self._model is not None
            q = np.rint(y / self._model.output.scale + self._model.output.zero_point)
            assert np.array_equal(as_type(q, self._model.output, np.float32), y)
            return q.astype(np.int8)
        return (y.astype(np.int16) - 128 * (y.dtype == np.uint8)).astype(np.int8)


class _Writer:
    def __init__(self) -> None:
        self.buffers = [_buffer(b"")]
        self.tensors: list[schema.TensorT] = []
        self.operators: list[schema.OperatorT] = []
        self.codes: list[int] = []
        self.initial: list[tuple[str, NDArray[np.int8], Tensor]] = []  # variables: name, initial values, grid

    def activation(self, tensor: Tensor) -> int:
        return self._tensor([1, *tensor.shape], TYPE.INT8, [tensor.scale], [tensor.zero_point])

    def op(self, model: QuantModel, op: Op, tensors: list[int]) -> None:
        """Writes one op; `tensors`: indices in the file of the model's tensors."""
        source, target = model.tensors[op.input], model.tensors[op.output]
        inputs, outputs = [tensors[i] for i in op.inputs], [tensors[op.output]]
        fused = ACTIVATIONS[op.mask_low, op.mask_high]
        code, options = _CODES.get(op.kind), _OPTIONS.get(op.kind, lambda: None)()
        maker = model.ops[op.input - 1] if op.input else op
        if op.kind == "dense":
            self._dense(model, op, tensors, fused)
        elif op.kind == "constant":
            self.tensors[tensors[op.output]].buffer = len(self.buffers)
            self.buffers.append(_buffer(op.values.tobytes()))
        elif op.kind == "conv" and maker.kind == "pad" and maker.stride != (1, 1):
            self._transposed(model, op, maker, tensors, fused)
        elif op.kind == "gather":
            self._gather(model, op, inputs[0], outputs[0])
        elif op.kind == "slice":
            self.part(inputs[0], outputs[0], op.axis, op.start, target.shape[op.axis - 1])
        elif op.kind == "history":
            self._history(model, op, inputs[0], outputs[0])
        elif op.kind == "reshape":
            self._reshape(inputs[0], outputs[0], [1, *target.shape])
        elif op.kind == "lookup":
            name = next(name for name in LOOKUPS if np.array_equal(lookup_table(name, source, target), op.table))
            self._operator(_LOOKUPS[name][0], inputs, outputs, _LOOKUPS[name][1])
        elif op.kind != "pad" or op.stride == (1, 1):  # others become part of a TRANSPOSE_CONV
            if op.kind == "mean":
                inputs.append(self._ints([1, 2]))
            elif op.kind in ("average_pool", "max_pool"):
                options = schema.Pool2DOptionsT(padding=_padding(op, source, target), fusedActivationFunction=fused)
                options.strideH, options.strideW = op.stride
                options.filterHeight, options.filterWidth = op.kernel
            elif op.kind in ("conv", "depthwise"):
                options = schema.Conv2DOptionsT() if op.kind == "conv" else schema.DepthwiseConv2DOptionsT()
                options.padding = _padding(op, source, target)
                options.strideH, options.strideW = op.stride
                options.dilationHFactor, options.dilationWFactor = op.dilation
                options.fusedActivationFunction = fused
                if op.kind == "depthwise":
                    options.depthMultiplier = target.shape[2] // source.shape[2]
                inputs += self._weights(source, op)
            elif op.kind == "add" and (op.multiplier < 0).any():
                inputs = inputs[::-1] if op.multiplier[0] < 0 else inputs
                code, options = BUILTIN.SUB, schema.SubOptionsT(fusedActivationFunction=fused)
            elif op.kind in ("add", "multiply"):
                made = schema.AddOptionsT if op.kind == "add" else schema.MulOptionsT
                options = made(fusedActivationFunction=fused)
            elif op.kind == "concatenate":
                options = schema.ConcatenationOptionsT(axis=op.axis)
            elif op.kind == "pad":
                sides = [(before, target.shape[i] - source.shape[i] - before) for i, before in enumerate(op.padding)]
                inputs.append(self._ints([(0, 0), *sides, (0, 0)]))
            self._operator(code, inputs, outputs, options)

    def _transposed(self, model: QuantModel, op: Op, pad: Op, tensors: list[int], fused: int) -> None:
        """Writes a TRANSPOSE_CONV for a pad with strides and the convolution after it."""
        source, target = model.tensors[pad.input], model.tensors[op.output]
        before = [op.kernel[i] - 1 - op.padding[i] for i in range(2)]
        same = [same_padding(target.shape[i], op.kernel[i], pad.stride[i], 1) for i in range(2)]
        is_same = same == [(source.shape[i], before[i]) for i in range(2)]
        turned = dataclasses.replace(op, weights=op.weights[:, ::-1, ::-1].copy())
        options = schema.TransposeConvOptionsT(
            padding=schema.Padding.SAME if is_same else schema.Padding.VALID,
            strideH=pad.stride[0],
            strideW=pad.stride[1],
            fusedActivationFunction=fused,
        )
        weights, bias = self._weights(source, turned)
        inputs = [self._ints([1, *target.shape]), weights, tensors[pad.input], bias]
        self._operator(BUILTIN.TRANSPOSE_CONV, inputs, [tensors[op.output]], options)

    def _gather(self, model: QuantModel, op: Op, source: int, target: int) -> None:
        """Writes a TRANSPOSE, or a RESIZE_NEAREST_NEIGHBOR if the op has positions."""
        shape, wanted = model.tensors[op.input].shape, model.tensors[op.output].shape
        if op.positions is None:
            order = [gather_axes(op).index(axis) + 1 for axis in range(3)]
            inputs = [source, self._ints([0, *order])]
            self._operator(BUILTIN.TRANSPOSE, inputs, [target], schema.TransposeOptionsT())
            return
        for align, half in NEAREST:
            if np.array_equal(op.positions, nearest(shape, wanted, align, half)):
                options = schema.ResizeNearestNeighborOptionsT(alignCorners=align, halfPixelCenters=half)
                inputs = [source, self._ints(list(wanted[:2]))]
                self._operator(BUILTIN.RESIZE_NEAREST_NEIGHBOR, inputs, [target], options)
                return
        raise ValueError(f"no resizing takes positions {op.positions}")

    def _dense(self, model: QuantModel, op: Op, tensors: list[int], fused: int) -> None:
        """Writes a fully connected layer between two reshapes, as its input and output have two axes."""
        source, target = model.tensors[op.input], model.tensors[op.output]
        flat = self._tensor([1, source.size], TYPE.INT8, [source.scale], [source.zero_point])
        self._reshape(tensors[op.input], flat, [1, source.size])
        out = self._tensor([1, target.size], TYPE.INT8, [target.scale], [target.zero_point])
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=fused)
        inputs = [flat, *self._weights(source, op)]
        self._operator(BUILTIN.FULLY_CONNECTED, inputs, [out], options)
        self._reshape(out, tensors[op.output], [1, *target.shape])

    def _reshape(self, source: int, target: int, shape: list[int]) -> None:
        options = schema.ReshapeOptionsT(newShape=shape)
        self._operator(BUILTIN.RESHAPE, [source, self._ints(shape)], [target], options)

    def _ints(self, values: list) -> int:
        array = np.array(values, np.int32)
        return self._tensor(array.shape, TYPE.INT32, data=array)

    def finish(self, source: int, target: int) -> bytes:
        graphs = [self._subgraph("main", [source], [target])]
        if self.initial:
            graphs.append(self._initialization())
            self.tensors, self.operators = graphs[0].tensors, graphs[0].operators
            options = schema.CallOnceOptionsT(initSubgraphIndex=1)
            self._operator(BUILTIN.CALL_ONCE, [], [], options)
            graphs[0].operators = [self.operators[-1], *self.operators[:-1]]
        codes = [schema.OperatorCodeT(deprecatedBuiltinCode=min(c, 127), builtinCode=c, version=1) for c in self.codes]
        model = schema.ModelT(
            version=3, operatorCodes=codes, subgraphs=graphs, buffers=self.buffers, description="test"
        )
        return packed(model)

    def _subgraph(self, name: str, inputs: list[int], outputs: list[int]) -> schema.SubGraphT:
        return schema.SubGraphT(
            tensors=self.tensors, inputs=inputs, outputs=outputs, operators=self.operators, name=name
        )

    def _initialization(self) -> schema.SubGraphT:
        """The subgraph that initializes variables."""
        self.tensors, self.operators = [], []
        for name, values, tensor in self.initial:
            data = self._tensor(values.shape, TYPE.INT8, [tensor.scale], [tensor.zero_point], values)
            self.assign(self.handle(name), data)
        return self._subgraph("NoOp", [], [])

    def part(self, source: int, target: int, axis: int, start: int, count: int) -> None:
        """Writes a STRIDED_SLICE: `count` positions of a tensor along an axis; 0: to the end."""
        rank = len(self.tensors[source].shape)
        begin, end = [0] * rank, [0] * rank
        begin[axis], end[axis] = start, start + count
        open_ends = (1 << rank) - 1
        mask = open_ends & ~(1 << axis)
        options = schema.StridedSliceOptionsT(beginMask=mask, endMask=mask if count else open_ends)
        bounds = [self._ints(values) for values in (begin, end, [1] * rank)]
        self._operator(BUILTIN.STRIDED_SLICE, [source, *bounds], [target], options)

    def handle(self, name: str) -> int:
        """Writes the handle of a variable with this name; its tensor."""
        resource = self._tensor([], TYPE.RESOURCE)
        options = schema.VarHandleOptionsT(container="", sharedName=name)
        self._operator(BUILTIN.VAR_HANDLE, [], [resource], options)
        return resource

    def read(self, handle: int, shape: tuple[int, ...], tensor: Tensor) -> int:
        """Writes a read of a variable, on the grid of `tensor`; the value's tensor."""
        value = self._tensor(shape, TYPE.INT8, [tensor.scale], [tensor.zero_point])
        self._operator(BUILTIN.READ_VARIABLE, [handle], [value], schema.ReadVariableOptionsT())
        return value

    def assign(self, handle: int, value: int) -> None:
        options = schema.AssignVariableOptionsT()
        self._operator(BUILTIN.ASSIGN_VARIABLE, [handle, value], [], options)

    def join(self, first: int, second: int, target: int, axis: int) -> None:
        options = schema.ConcatenationOptionsT(axis=axis)
        self._operator(BUILTIN.CONCATENATION, [first, second], [target], options)

    def _history(self, model: QuantModel, op: Op, source: int, target: int) -> None:
        """Writes a ring buffer, in one of two forms: its variable has the older positions, or the whole output."""
        tensor, fresh = model.tensors[op.output], model.tensors[op.input]
        axis = next(i for i in range(3) if tensor.shape[i] != fresh.shape[i])
        shape = [1, *tensor.shape]
        whole, new = tensor.shape[axis], fresh.shape[axis]
        shape[axis + 1] = older = whole - new
        initial = np.full(shape, tensor.zero_point, np.int8) if op.initial is None else op.initial.reshape(shape)
        name = f"state {op.output}"
        handle = self.handle(name)
        if op.output % 2:
            held = self.read(handle, shape, tensor)
            self.join(held, source, target, axis + 1)
            rest = self._tensor(shape, TYPE.INT8, [tensor.scale], [tensor.zero_point])
            self.part(target, rest, axis + 1, -older, 0)
            self.assign(handle, rest)
        else:
            gone = np.full([new if i == axis + 1 else n for i, n in enumerate(shape)], 7, np.int8)
            initial = np.concatenate([gone, initial], axis=axis + 1)
            held = self.read(handle, (1, *tensor.shape), tensor)
            rest = self._tensor(shape, TYPE.INT8, [tensor.scale], [tensor.zero_point])
            self.part(held, rest, axis + 1, new, 0)
            self.join(rest, source, target, axis + 1)
            self.assign(handle, target)
        self.initial.append((name, initial, tensor))

    def _weights(self, source: Tensor, op: Op) -> list[int]:
        """Weight and bias tensors; one scale for all channels is written as such."""
        scales = op.weight_scale if len(set(op.weight_scale)) > 1 else op.weight_scale[:1]
        flat = (len(op.weights), op.weights.size // len(op.weights))
        shape = {"conv": op.weights.shape, "depthwise": (1, *op.weights.shape)}.get(op.kind, flat)
        zeros = [0] * len(scales)
        channels = 3 if op.kind == "depthwise" else 0
        weights = self._tensor(shape, TYPE.INT8, scales, zeros, op.weights, channels)
        products = np.float32(source.scale) * np.asarray(scales, np.float32)
        bias = self._tensor(op.bias.shape, TYPE.INT32, products, zeros, op.bias)
        return [weights, bias]

    def _tensor(self, shape, kind: int, scales=(), zero_points=(), data: NDArray | None = None, axis: int = 0) -> int:
        buffer = 0
        if data is not None:
            buffer = len(self.buffers)
            self.buffers.append(_buffer(data.astype(data.dtype.newbyteorder("<")).tobytes()))
        quantization = None
        if len(scales):
            floats = [float(scale) for scale in scales]
            quantization = schema.QuantizationParametersT(
                scale=floats, zeroPoint=list(zero_points), quantizedDimension=axis
            )
        name = f"t{len(self.tensors)}"
        tensor = schema.TensorT(
            shape=list(shape), type=kind, buffer=buffer, name=name, quantization=quantization, hasRank=True
        )
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _operator(self, code: int, inputs: list[int], outputs: list[int], options) -> None:
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT(opcodeIndex=self.codes.index(code), inputs=inputs, outputs=outputs)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self.operators.append(operator)


class Sketch(_Writer):
    """Builds a file: a chain of operators from one int8 input of any rank."""

    def __init__(self, *shape: int, grid: tuple[float, int] = GRID, kind: int = TYPE.INT8) -> None:
        super().__init__()
        self.rng = np.random.default_rng(sum(shape))
        self.first = self.last = self.tensor(shape, grid, kind)

    def tensor(self, shape: tuple[int, ...], grid: tuple[float, int] = GRID, kind: int = TYPE.INT8, data=None) -> int:
        return self._tensor(list(shape), kind, [grid[0]], [grid[1]], data)

    def add(self, code: int, options, shape: tuple[int, ...], *others: int, grid=GRID, kind: int = TYPE.INT8) -> Sketch:
        """Appends an operator that reads the last tensor and `others`."""
        target = self.tensor(shape, grid, kind)
        self._operator(code, [self.last, *others], [target], options)
        self.last = target
        return self

    def ints(self, *values) -> int:
        return self._ints(list(values))

    def weights(self, *shape: int, scale: float = 0.01, low: int = -127) -> int:
        return self.tensor(shape, (scale, 0), data=self.rng.integers(low, 128, shape).astype(np.int8))

    def bias(self, size: int) -> int:
        return self.tensor((size,), (0.0005, 0), TYPE.INT32, self.rng.integers(-500, 500, size).astype(np.int32))

    def dense(self, inputs: int, outputs: int, **fields) -> Sketch:
        options = schema.FullyConnectedOptionsT(**fields)
        return self.add(BUILTIN.FULLY_CONNECTED, options, (1, outputs), self.weights(outputs, inputs), -1)

    def file(self) -> bytes:
        return self.finish(self.first, self.last)


def packed(model: schema.ModelT) -> bytes:
    """The file of a model."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def conv_options(**fields) -> schema.Conv2DOptionsT:
    return schema.Conv2DOptionsT(**{"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1} | fields)


def _buffer(data: bytes) -> schema.BufferT:
    return schema.BufferT(data=np.frombuffer(data, np.uint8) if data else None)


def _padding(op: Op, source: Tensor, target: Tensor) -> int:
    """TFLite's code for the op's padding, SAME or VALID."""
    for code, same in ((schema.Padding.VALID, False), (schema.Padding.SAME, True)):
        plan = []
        for axis in range(2):
            size, kernel, stride, dilation = source.shape[axis], op.kernel[axis], op.stride[axis], op.dilation[axis]
            valid = ((size - dilation * (kernel - 1) - 1) // stride + 1, 0)
            plan.append(same_padding(size, kernel, stride, dilation) if same else valid)
        if [(target.shape[axis], op.padding[axis]) for axis in range(2)] == plan:
            return code
    raise ValueError(f"padding {op.padding} of a {op.kind} is neither SAME nor VALID")
