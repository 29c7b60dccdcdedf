"""Mutation testing of the `.tflite` importer, with TensorFlow Lite Micro as the oracle.

If `import_tflite` accepts a mutated file, TFLite Micro must run it, with the same output for the same input. For a long
search: `python tests/support/tflite_mutants.py COUNT [SEED [FILE...]]`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from random_models import random_input, random_model
from recurrent_sketches import LstmSketch, SvdfSketch
from tflite_micro.python.tflite_micro import runtime
from tflite_writer import BUILTIN, TYPE, Sketch, as_type, conv_options, packed, schema, write_tflite

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import LOSSES, QuantModel
from edgelora.core.twin.session import Session
from edgelora.model.importers.tflite.codes import Code
from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.file import read_graph
from edgelora.model.importers.tflite.flatbuffer import TfliteError

TYPES = (TYPE.FLOAT32, TYPE.INT32, TYPE.UINT8, TYPE.INT64, TYPE.INT16, TYPE.INT8, TYPE.BOOL)
INPUTS, SECONDS = 4, 20

Rng = np.random.Generator


# ---- files to mutate -------------------------------------------------------------------------------------------------


def seeds(rng: Rng) -> list[Callable[[], bytes]]:
    """Functions that make valid files: random graphs, and chains with operators and forms that those lack."""

    def graph() -> bytes:
        return write_tflite(random_model(int(rng.integers(1 << 20)), oracle=True, loss=LOSSES[rng.integers(3)]))

    makers = [one_dimensional, rows, tables, functions, parts, shapes, ends, flattened, pairs, steps, moves]
    makers += [blocks, real_parts, lstms, features_over_time]
    return [graph, graph, graph, *makers]


def one_dimensional() -> bytes:
    """EXPAND_DIMS, convolutions along either axis, pools along the other one and SQUEEZE, as Conv1D layers are
    converted."""
    sketch = Sketch(1, 24, 3)
    sketch.add(BUILTIN.EXPAND_DIMS, schema.ExpandDimsOptionsT(), (1, 1, 24, 3), sketch.ints(1))
    sketch.add(BUILTIN.CONV_2D, conv_options(padding=1), (1, 1, 22, 5), sketch.weights(5, 1, 3, 3), sketch.bias(5))
    sketch.add(BUILTIN.SQUEEZE, schema.SqueezeOptionsT(squeezeDims=[1]), (1, 22, 5))
    sketch.add(BUILTIN.RESHAPE, schema.ReshapeOptionsT(newShape=[1, 22, 1, 5]), (1, 22, 1, 5))
    pool = schema.Pool2DOptionsT(strideH=2, strideW=1, filterHeight=3, filterWidth=1)
    sketch.add(BUILTIN.MAX_POOL_2D, pool, (1, 11, 1, 5))
    depthwise = schema.DepthwiseConv2DOptionsT(
        strideH=1, strideW=1, depthMultiplier=2, dilationHFactor=2, dilationWFactor=1
    )
    sketch.add(BUILTIN.DEPTHWISE_CONV_2D, depthwise, (1, 11, 1, 10), sketch.weights(1, 3, 1, 10), sketch.bias(10))
    sketch.add(BUILTIN.CONV_2D, conv_options(), (1, 11, 1, 4), sketch.weights(4, 2, 1, 10), sketch.bias(4))
    return sketch.add(BUILTIN.RESHAPE, None, (1, 44), sketch.ints(-1, 44)).dense(44, 3).file()


def rows() -> bytes:
    """Dense layers on every step."""
    sketch = Sketch(1, 9, 4)
    options = schema.FullyConnectedOptionsT(keepNumDims=True, fusedActivationFunction=1)
    sketch.add(BUILTIN.FULLY_CONNECTED, options, (1, 9, 6), sketch.weights(6, 4), sketch.bias(6))
    sketch.add(BUILTIN.RESHAPE, None, (9, 6), sketch.ints(9, 6))
    sketch.add(BUILTIN.FULLY_CONNECTED, schema.FullyConnectedOptionsT(), (9, 2), sketch.weights(2, 6), -1)
    sketch.add(BUILTIN.RESHAPE, schema.ReshapeOptionsT(newShape=[1, 9, 2]), (1, 9, 2))
    return sketch.add(BUILTIN.SOFTMAX, schema.SoftmaxOptionsT(beta=1.0), (1, 9, 2), grid=(1 / 256, -128)).file()


def tables() -> bytes:
    sketch = Sketch(1, 4, 5, 3)
    sketch.add(BUILTIN.LEAKY_RELU, schema.LeakyReluOptionsT(alpha=0.1), (1, 4, 5, 3), grid=(0.04, 5))
    sketch.add(BUILTIN.HARD_SWISH, schema.HardSwishOptionsT(), (1, 4, 5, 3), grid=(0.03, -9))
    sketch.add(BUILTIN.RELU6, None, (1, 4, 5, 3), grid=(0.03, -9))
    sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), (1, 4, 5, 3), grid=(0.02, 1))
    sketch.add(BUILTIN.TANH, None, (1, 4, 5, 3), grid=(1 / 128, 0))
    sketch.add(BUILTIN.ADD, schema.AddOptionsT(), (1, 4, 5, 3), sketch.last, grid=(0.03, 2))
    sketch.add(BUILTIN.LOGISTIC, None, (1, 4, 5, 3), grid=(1 / 256, -128))
    return sketch.file()


def functions() -> bytes:
    """Functions of newer versions as tables, floats between integers, reductions, a dilated convolution in batches."""
    sketch, shape = Sketch(1, 1, 16, 5, grid=(0.05, -128)), (1, 1, 16, 5)
    sketch.add(BUILTIN.RSQRT, None, shape, grid=(0.04, -100)).add(BUILTIN.ABS, None, shape, grid=(0.04, -20))
    sketch.add(BUILTIN.DEQUANTIZE, None, shape, kind=TYPE.FLOAT32).add(BUILTIN.ELU, None, shape, kind=TYPE.FLOAT32)
    sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), shape)
    sketch.add(BUILTIN.SPACE_TO_BATCH_ND, None, (2, 1, 8, 5), sketch.ints(1, 2), sketch.ints([0, 0], [0, 0]))
    sketch.add(BUILTIN.CONV_2D, conv_options(padding=1), (2, 1, 6, 4), sketch.weights(4, 1, 3, 5), sketch.bias(4))
    sketch.add(BUILTIN.BATCH_TO_SPACE_ND, None, (1, 1, 12, 4), sketch.ints(1, 2), sketch.ints([0, 0], [0, 0]))
    sketch.add(BUILTIN.ELU, None, (1, 1, 12, 4))
    sketch.add(BUILTIN.REDUCE_MAX, schema.ReducerOptionsT(), (1, 4), sketch.ints(1, 2))
    return sketch.dense(4, 3).file()


def parts() -> bytes:
    """STRIDED_SLICE, SLICE, SPLIT and SPLIT_V, along several axes, with parts that are not read."""
    sketch = Sketch(1, 8, 6, 10)
    bounds = [sketch.ints(0, 1, -5, 2), sketch.ints(1, 7, 0, 9), sketch.ints(1, 1, 1, 1)]
    options = schema.StridedSliceOptionsT(beginMask=1, endMask=1 + 4)
    sketch.add(BUILTIN.STRIDED_SLICE, options, (1, 6, 5, 7), *bounds)
    sketch.add(BUILTIN.SLICE, schema.SliceOptionsT(), (1, 4, 5, 6), sketch.ints(0, 2, 0, 1), sketch.ints(1, -1, 5, 6))
    three = [sketch.tensor((1, 4, 5, n)) for n in (1, 2, 3)]
    inputs = [sketch.last, sketch.ints(1, -1, 3), sketch.ints(-1)]
    sketch._operator(BUILTIN.SPLIT_V, inputs, three, schema.SplitVOptionsT(numSplits=3))
    halves = [sketch.tensor((1, 2, 5, 3)) for _ in range(2)]
    sketch._operator(BUILTIN.SPLIT, [sketch.ints(1), three[2]], halves, schema.SplitOptionsT(numSplits=2))
    sketch.last = halves[1]
    sketch.add(BUILTIN.CONCATENATION, schema.ConcatenationOptionsT(axis=-1), (1, 2, 5, 6), halves[0])
    return sketch.file()


def pairs() -> bytes:
    """Ops of two inputs: constants of any shape, a scalar, a tensor that is broadcast."""
    sketch = Sketch(1, 4, 5, 3)
    data = sketch.rng.integers(-128, 128, 3).astype(np.int8)
    sketch.add(BUILTIN.MUL, schema.MulOptionsT(), (1, 4, 5, 3), sketch.tensor((3,), data=data), grid=(0.1, -7))
    sketch.add(BUILTIN.SUB, schema.SubOptionsT(fusedActivationFunction=1), (1, 4, 5, 3), sketch.first, grid=(0.12, -60))
    sketch.add(BUILTIN.PRELU, None, (1, 4, 5, 3), sketch.tensor((1, 1, 3), (0.01, 4), data=data), grid=(0.06, 9))
    whole = sketch.last
    sketch.add(BUILTIN.MEAN, schema.ReducerOptionsT(keepDims=True), (1, 1, 1, 3), sketch.ints(1, 2), grid=(0.06, 9))
    sketch.add(BUILTIN.MAXIMUM, schema.MaximumMinimumOptionsT(), (1, 4, 5, 3), whole, grid=(0.06, 9))
    limit = sketch.tensor((), (0.06, 9), data=np.array(40, np.int8))
    sketch.add(BUILTIN.MINIMUM, schema.MaximumMinimumOptionsT(), (1, 4, 5, 3), limit, grid=(0.06, 9))
    return sketch.add(BUILTIN.ADD, schema.AddOptionsT(), (1, 4, 5, 3), limit, grid=(0.08, -20)).file()


def steps() -> bytes:
    """UNPACK, operators on the parts, PACK."""
    sketch = Sketch(1, 3, 4)
    three = [sketch.tensor((1, 4)) for _ in range(3)]
    sketch._operator(BUILTIN.UNPACK, [sketch.last], three, schema.UnpackOptionsT(num=3, axis=1))
    sketch.last = three[1]
    sketch.add(BUILTIN.ADD, schema.AddOptionsT(), (1, 4), three[2])
    packed = sketch.tensor((1, 3, 4))
    sketch._operator(
        BUILTIN.PACK, [three[0], sketch.last, three[1]], [packed], schema.PackOptionsT(valuesCount=3, axis=1)
    )
    sketch.last = packed
    return sketch.file()


def moves() -> bytes:
    sketch = Sketch(1, 3, 4, 2)
    sketch.add(BUILTIN.TRANSPOSE, None, (1, 4, 2, 3), sketch.ints(0, 2, 3, 1))
    options = schema.ResizeNearestNeighborOptionsT(alignCorners=True)
    sketch.add(BUILTIN.RESIZE_NEAREST_NEIGHBOR, options, (1, 7, 4, 3), sketch.ints(7, 4))
    target = sketch.tensor((1, 14, 8, 2), (0.04, -10))
    inputs = [sketch.ints(1, 14, 8, 2), sketch.weights(2, 3, 2, 3), sketch.last, sketch.bias(2)]
    options = schema.TransposeConvOptionsT(padding=schema.Padding.SAME, strideH=2, strideW=2)
    sketch._operator(BUILTIN.TRANSPOSE_CONV, inputs, [target], options)
    sketch.last = target
    return sketch.file()


def lstms() -> bytes:
    sketch = LstmSketch(1, 7, 4).lstm(5, power=-11, clip=10.0).reverse(1)
    return sketch.lstm(3, power=-14, grid=(0.006, -20)).last_step().dense(3, 2).file()


def features_over_time() -> bytes:
    return SvdfSketch(1, 6).svdf(5, 4, rank=2, wide=True).svdf(3, 2, wide=True).file()


def blocks() -> bytes:
    """Depth to space, mirror padding, grouped convolution, interpolation, sums and means over some axes."""
    sketch = Sketch(1, 3, 4, 8)
    sketch.add(BUILTIN.DEPTH_TO_SPACE, schema.DepthToSpaceOptionsT(blockSize=2), (1, 6, 8, 2))
    sides = sketch.ints((0, 0), (1, 0), (0, 2), (0, 0))
    sketch.add(BUILTIN.MIRROR_PAD, schema.MirrorPadOptionsT(mode=schema.MirrorPadMode.REFLECT), (1, 7, 10, 2), sides)
    weights, bias = sketch.weights(4, 2, 2, 1), sketch.bias(4)
    sketch.add(BUILTIN.CONV_2D, conv_options(padding=1), (1, 6, 9, 4), weights, bias)
    sketch.add(BUILTIN.TRANSPOSE, None, (6, 1, 4, 9), sketch.ints(1, 0, 3, 2))
    sketch.add(BUILTIN.SUM, schema.ReducerOptionsT(), (6, 1, 4), sketch.ints(3), grid=(0.2, 3))
    sketch.add(BUILTIN.RESHAPE, None, (1, 2, 3, 4), sketch.ints(1, 2, 3, 4), grid=(0.2, 3))
    options = schema.ResizeBilinearOptionsT(halfPixelCenters=True)
    sketch.add(BUILTIN.RESIZE_BILINEAR, options, (1, 4, 12, 4), sketch.ints(4, 12), grid=(0.2, 3))
    sketch.add(BUILTIN.SPACE_TO_DEPTH, schema.SpaceToDepthOptionsT(blockSize=2), (1, 2, 6, 16), grid=(0.2, 3))
    return sketch.add(BUILTIN.MEAN, schema.ReducerOptionsT(), (1, 2, 16), sketch.ints(2)).file()


def real_parts() -> bytes:
    """The first step of a converted GRU, where one of the parts is not read."""
    sketch = Sketch(1, 6).dense(6, 12)
    whole = sketch.add(BUILTIN.DEQUANTIZE, None, (1, 12), kind=TYPE.FLOAT32).last
    axis = sketch._tensor([], TYPE.INT32, data=np.array(-1, np.int32))
    three = [sketch.tensor((1, 4), kind=TYPE.FLOAT32) for _ in range(3)]
    sketch._operator(BUILTIN.SPLIT, [axis, whole], three, schema.SplitOptionsT(numSplits=3))
    sketch.last = three[2]
    last = sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), (1, 4), grid=(0.1, 2)).last
    sketch.last = three[0]
    sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), (1, 4))
    return sketch.add(BUILTIN.MUL, schema.MulOptionsT(), (1, 4), last).file()


def shapes(element: int = 0) -> bytes:
    """SHAPE, STRIDED_SLICE and PACK, as from Flatten with a dynamic batch."""
    sketch = Sketch(1, 3, 4, 2)
    source = sketch.last
    shape, one, both = (sketch._tensor(side, TYPE.INT32) for side in ([4], [], [2]))
    sketch._operator(BUILTIN.SHAPE, [source], [shape], schema.ShapeOptionsT(outType=TYPE.INT32))
    ends = [sketch.ints(element), sketch.ints(element + 1), sketch.ints(1)]
    sketch._operator(BUILTIN.STRIDED_SLICE, [shape, *ends], [one], schema.StridedSliceOptionsT(shrinkAxisMask=1))
    rest = sketch._tensor([], TYPE.INT32, data=np.array(-1, np.int32))
    sketch._operator(BUILTIN.PACK, [one, rest], [both], schema.PackOptionsT(valuesCount=2))
    sketch.add(BUILTIN.RESHAPE, None, (1, 24), both)
    return sketch.dense(24, 3).file()


def ends() -> bytes:
    sketch = Sketch(1, 5, 6, 3, kind=TYPE.FLOAT32)
    sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), (1, 5, 6, 3))
    sketch.add(BUILTIN.PAD, schema.PadOptionsT(), (1, 8, 7, 3), sketch.ints((0, 0), (1, 2), (0, 1), (0, 0)))
    options = schema.DepthwiseConv2DOptionsT(
        strideH=2, strideW=1, depthMultiplier=2, dilationHFactor=1, dilationWFactor=2, padding=1
    )
    sketch.add(BUILTIN.DEPTHWISE_CONV_2D, options, (1, 3, 5, 6), sketch.weights(1, 3, 2, 6), sketch.bias(6))
    pool = schema.Pool2DOptionsT(strideH=1, strideW=2, filterHeight=2, filterWidth=2)
    sketch.add(BUILTIN.AVERAGE_POOL_2D, pool, (1, 3, 3, 6))
    sketch.add(BUILTIN.MEAN, schema.ReducerOptionsT(keepDims=True), (1, 1, 1, 6), sketch.ints(1, 2))
    return sketch.add(BUILTIN.DEQUANTIZE, None, (1, 1, 1, 6), kind=TYPE.FLOAT32).file()


def flattened() -> bytes:
    sketch = Sketch(1, 6, 1, 4, grid=(0.05, 131), kind=TYPE.UINT8)
    sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), (1, 6, 1, 4))
    sketch.add(BUILTIN.TRANSPOSE, None, (1, 1, 6, 4), sketch.ints(0, 2, 1, 3))
    pool = schema.Pool2DOptionsT(strideH=1, strideW=2, filterHeight=1, filterWidth=2)
    sketch.add(BUILTIN.MAX_POOL_2D, pool, (1, 1, 3, 4))
    sketch.add(BUILTIN.RESHAPE, None, (1, 12), sketch.ints(-1, 12))
    return sketch.dense(12, 16, fusedActivationFunction=3).file()


# ---- mutations -------------------------------------------------------------------------------------------------------


def mutant(file: bytes, rng: Rng) -> tuple[bytes, list[str]]:
    """The file with one or two changes, and their descriptions."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(file))
    told: list[str] = []
    for _ in range(int(rng.integers(1, 3))):
        change = CHANGES[rng.integers(len(CHANGES))]
        told.append(f"{change.__name__[1:]}: {change(model, rng)}")
    return packed(model), told


def _some(rng: Rng, choices: Sequence[Any]) -> Any:
    return choices[rng.integers(len(choices))]


def _tensor(model: Any, rng: Rng) -> tuple[int, Any]:
    tensors = model.subgraphs[0].tensors
    at = int(rng.integers(len(tensors)))
    return at, tensors[at]


def _shape(model: Any, rng: Rng) -> str:
    """Swaps, adds, removes, joins, splits or enlarges axes: mostly with the same number of elements."""
    at, tensor = _tensor(model, rng)
    shape = [int(side) for side in ([] if tensor.shape is None else tensor.shape)]
    before, axis, way = list(shape), int(rng.integers(len(shape) + 1)), int(rng.integers(6))
    if way == 0 and len(shape) > 1:
        shape = [shape[i] for i in rng.permutation(len(shape))]
    elif way == 1:
        shape.insert(axis, 1)
    elif way == 2 and 1 in shape:
        shape.remove(1)
    elif way == 3 and len(shape) > 1:
        axis = min(axis, len(shape) - 2)
        shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    elif way == 4 and any(side % 2 == 0 for side in shape):
        axis = next(i for i, side in enumerate(shape) if side % 2 == 0)
        shape[axis : axis + 1] = [2, shape[axis] // 2] if rng.integers(2) else [shape[axis] // 2, 2]
    elif shape:
        shape[axis % len(shape)] += int(rng.choice([-1, 1]))
    tensor.shape, tensor.hasRank = shape, True
    return f"{at} {before} -> {shape}"


def _buffer(model: Any, rng: Rng) -> str:
    """Gives an activation a value, a constant none or one of another size, or lets two tensors share one."""
    at, tensor = _tensor(model, rng)
    way = int(rng.integers(4))
    if way == 0:
        size = int(np.prod(tensor.shape if tensor.shape is not None else [])) * (4 if tensor.type == TYPE.INT32 else 1)
        model.buffers.append(schema.BufferT(data=rng.integers(0, 256, max(1, min(size, 1 << 16))).astype(np.uint8)))
        tensor.buffer = len(model.buffers) - 1
    elif way == 1:
        tensor.buffer = 0
    elif way == 2:
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data) > 1:
            model.buffers[tensor.buffer].data = np.asarray(data)[: -int(rng.integers(1, len(data)))]
    else:
        tensor.buffer = int(rng.integers(len(model.buffers)))
    return f"{at} {way}"


def _type(model: Any, rng: Rng) -> str:
    at, tensor = _tensor(model, rng)
    tensor.type = _some(rng, TYPES)
    return f"{at} {tensor.type}"


def _flag(model: Any, rng: Rng) -> str:
    at, tensor = _tensor(model, rng)
    tensor.isVariable = True
    return f"{at} is variable"


def _grid(model: Any, rng: Rng) -> str:
    at, tensor = _tensor(model, rng)
    grid, way = tensor.quantization, int(rng.integers(6))
    if grid is None or grid.scale is None:
        return "none"
    if way == 0:
        tensor.quantization = None
    elif way == 1:
        grid.scale = [float(scale) * float(rng.choice([0.5, 2, 1.25, 1e-9, 1e6, -1, 0])) for scale in grid.scale]
    elif way == 2:
        points = grid.zeroPoint if grid.zeroPoint is not None else [0]
        grid.zeroPoint = [int(point) + int(rng.choice([-1, 1, 128, -128])) for point in points]
    elif way == 3:
        grid.quantizedDimension = int(rng.integers(-1, 5))
    elif way == 4:
        grid.scale = [*grid.scale, grid.scale[0]]
    else:
        grid.zeroPoint = None if rng.integers(2) else [*(grid.zeroPoint if grid.zeroPoint is not None else []), 0]
    return f"{at} {way}"


def _operators(model: Any, rng: Rng) -> Any:
    return _some(rng, model.subgraphs[0].operators)


def _option(model: Any, rng: Rng) -> str:
    """Changes one number of an operator's options, or removes all options."""
    operator = _operators(model, rng)
    options = operator.builtinOptions
    names = [name for name, value in vars(options).items() if isinstance(value, int | float)] if options else []
    if not names or rng.integers(10) == 0:
        operator.builtinOptions, operator.builtinOptionsType = None, 0
        return "no options"
    name = _some(rng, names)
    before = getattr(options, name)
    after = float(rng.choice([0, 0.5, 2, -1])) if type(before) is float else int(rng.choice([-1, 0, 1, 2, 3, 4, 7]))
    setattr(options, name, bool(after) if type(before) is bool else after)
    return f"{type(options).__name__} {name} {before} -> {after}"


def _integer(model: Any, rng: Rng) -> str:
    """Changes one number in an int32 constant, such as axes, paddings and new shapes."""
    graph = model.subgraphs[0]
    places = [t for t in graph.tensors if t.type == TYPE.INT32 and model.buffers[t.buffer].data is not None]
    if not places:
        return "none"
    buffer = model.buffers[_some(rng, places).buffer]
    values = np.array(buffer.data, np.uint8)[: len(buffer.data) // 4 * 4].view("<i4").copy()
    if len(values):
        values[rng.integers(len(values))] += int(rng.choice([-2, -1, 1, 2, 4]))
        buffer.data = values.view(np.uint8)
    return f"{values[:6].tolist()}"


def _wire(model: Any, rng: Rng) -> str:
    """Replaces, removes, adds or reorders an operator's tensors."""
    operator, count = _operators(model, rng), len(model.subgraphs[0].tensors)
    field = "inputs" if rng.integers(3) else "outputs"
    wires = [int(i) for i in (getattr(operator, field) if getattr(operator, field) is not None else [])]
    before, way = list(wires), int(rng.integers(5))
    at = int(rng.integers(len(wires))) if wires else 0
    if way == 0 and wires:
        wires[at] = int(rng.integers(-1, count))
    elif way == 1 and wires:
        wires.pop(at)
    elif way == 2:
        wires.append(int(rng.integers(-1, count)))
    elif way == 3 and wires:
        wires = [wires[i] for i in rng.permutation(len(wires))]
    elif wires:
        wires[at] = -1
    setattr(operator, field, wires)
    return f"{field} {before} -> {wires}"


def _order(model: Any, rng: Rng) -> str:
    """Swaps two operators; or removes, repeats or replaces one."""
    operators, way = model.subgraphs[0].operators, int(rng.integers(4))
    one, two = (int(i) for i in rng.integers(0, len(operators), 2))
    if way == 0:
        operators[one], operators[two] = operators[two], operators[one]
    elif way == 1 and len(operators) > 1:
        operators.pop(one)
    elif way == 2:
        operators.insert(two, operators[one])
    else:
        operators[one].opcodeIndex = int(rng.integers(len(model.operatorCodes)))
    return f"{way} {one} {two}"


def _end(model: Any, rng: Rng) -> str:
    graph = model.subgraphs[0]
    field = _some(rng, ("inputs", "outputs"))
    setattr(graph, field, [int(rng.integers(len(graph.tensors)))])
    return f"{field} {getattr(graph, field)}"


CHANGES = [_shape] * 5 + [_buffer] * 2 + [_type, _flag, _grid, _option, _option, _integer, _wire, _wire, _order, _end]


# ---- verdicts --------------------------------------------------------------------------------------------------------


def verdict(file: bytes, rng: Rng) -> str:
    """Refused, equal, unused, or the fault: TFLite Micro refuses what the importer accepts, or differs."""
    try:
        model = import_tflite(file)
    except TfliteError:
        return "refused"
    wrong = _difference(file, model, [random_input(rng, model) for _ in range(INPUTS)])
    return "equal" if not wrong else "unused" if _has_unused(file) else wrong


def _difference(file: bytes, model: QuantModel, inputs: list[NDArray]) -> str:
    """How TFLite Micro's outputs for these inputs differ from the model's; "" if they are equal."""
    theirs = _in_another_process(file, model, inputs)
    if isinstance(theirs, str):
        return f"TFLite Micro: {theirs}"
    session = Session(pack_model(model), bytes(len(model.ops)), "infer")
    for x, (dtype, their) in zip(inputs, theirs, strict=True):
        session.infer(x)
        mine = as_type(session.logits, model.output, dtype)
        if not np.array_equal(mine, their):
            return f"differs: {mine[:8].tolist()} {their[:8].tolist()}"
    return ""


def _has_unused(file: bytes) -> bool:
    """Whether there are operators that the output doesn't need: the importer skips them, TFLite Micro does not."""
    graph = read_graph(file)
    wanted = {graph.output} | {i for op in graph.operators if op.code == Code.ASSIGN_VARIABLE for i in op.inputs}
    for operator in reversed(graph.operators):
        if operator.outputs and not wanted & set(operator.outputs):
            return True
        wanted |= set(operator.inputs)
    return False


def _in_another_process(file: bytes, model: QuantModel, inputs: list[NDArray]) -> list[tuple[type, NDArray]] | str:
    """TFLite Micro's outputs, or its error, from a separate process, as it may crash on a damaged file."""
    fork = multiprocessing.get_context("fork")
    mine, its = fork.Pipe()
    child = fork.Process(target=_run, args=(its, file, model, inputs))
    child.start()
    its.close()
    try:
        return mine.recv() if mine.poll(SECONDS) else "hangs"
    except EOFError:
        return "crashes"
    finally:
        child.kill()
        child.join()


def _run(pipe: Connection, file: bytes, model: QuantModel, inputs: list[NDArray]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        interpreter = runtime.Interpreter.from_bytes(file, arena_size=4_000_000)
        source, outputs = interpreter.get_input_details(0), []
        for x in inputs:
            if not model.has_history:  # an LSTM would continue from the previous input
                interpreter.reset()
            interpreter.set_input(as_type(x, model.input, source["dtype"]).reshape(source["shape"]), 0)
            interpreter.invoke()
            out = interpreter.get_output(0)
            outputs.append((out.dtype.type, out.reshape(-1).copy()))
        pipe.send(outputs)
    except Exception as error:
        pipe.send(f"refuses: {error}"[:200])


def search(count: int, seed: int, files: Sequence[bytes] = ()) -> tuple[Counter[str], list[str]]:
    """Verdicts of `count` mutants, and the wrong ones with their changes. files: to mutate in addition to `seeds`."""
    rng = np.random.default_rng(seed)
    makers, counts, wrong = seeds(rng), Counter[str](), []
    for number in range(count):
        given = bool(files) and rng.integers(2)
        file = _some(rng, files) if given else _some(rng, makers)()
        changed, told = mutant(file, rng)
        said = verdict(changed, rng)
        counts[said.split(":")[0]] += 1
        if said not in ("refused", "equal", "unused"):
            wrong.append(f"seed {seed}, mutant {number}: {'; '.join(told)}: {said}")
            keep = os.environ.get("KEEP_MUTANTS")
            if keep:
                Path(keep, f"{seed}-{number}.tflite").write_bytes(changed)
    return counts, wrong


if __name__ == "__main__":
    given_count, given_seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    found, bad = search(given_count, given_seed, [Path(name).read_bytes() for name in sys.argv[3:]])
    print(*bad, dict(found), sep="\n")
