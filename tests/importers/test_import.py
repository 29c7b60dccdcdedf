"""`edgelora import`: the base computes the same as TensorFlow Lite Micro with the file; other files are refused."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fresh import in_full_runs
from numpy.typing import NDArray
from random_models import NEAREST, random_input, random_model
from reference import forward

import edgelora
from edgelora.base.resources import ROOT
from edgelora.cli.main import main
from edgelora.core.formats.elm import base_id, folded_bias, pack_model, unpack_model
from edgelora.core.formats.limits import MAX_BIAS, MAX_OPS
from edgelora.core.formats.network import LOSSES, PAIR_KINDS, Op, QuantModel
from edgelora.core.twin.binding import check_model
from edgelora.core.twin.session import Session
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.importers.tflite import convert
from edgelora.model.importers.tflite.codes import Code
from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.flatbuffer import TfliteError
from edgelora.model.importers.tflite.operators import HANDLERS
from edgelora.model.quantization.quantize import quantize

pytest.importorskip("tflite_micro")
from tflite_mutants import real_parts, shapes
from tflite_writer import BUILTIN, GRID, TYPE, Sketch, TflmModel, _Writer, conv_options, packed, schema, write_tflite

KERAS = ROOT / ".build" / "keras-models"


def sessions(model: QuantModel) -> list[Session]:
    """The model in the device core, with and without the kernels of this machine."""
    elm = pack_model(model)
    return [Session(elm, bytes(len(model.ops)), "infer", plain=plain) for plain in (False, True)]


def outputs(model: QuantModel, inputs: list[NDArray]) -> list[list[NDArray]]:
    """The outputs of each session for each input."""
    both = sessions(model)
    for session in both:
        assert session.infer(inputs[0]) >= 0
        session.reset()
    return [[(session.infer(x), session.logits)[1] for session in both] for x in inputs]


def check_same(file: bytes, seed: int = 0, count: int = 6, name: str = "") -> QuantModel:
    """Imports a file with ends of any type, and compares outputs with TFLite Micro's. Returns the model."""
    model = import_tflite(file)
    micro, rng = TflmModel(file, model), np.random.default_rng(seed)
    inputs = [random_input(rng, model) for _ in range(count)]
    for x, got in zip(inputs, outputs(model, inputs), strict=True):
        expected = micro(x).tolist()
        assert [y.tolist() for y in got] == [expected, expected], f"{name} seed {seed}"
    return model


# ---- random models, written as .tflite and imported again
# -------------------------------------------------------------


def kinds_that_count(model: QuantModel) -> list[str]:
    """The kinds of ops that compute something; an op of two inputs whose second one is a single number is a lookup."""
    tensors = model.tensors
    numbers = {op.output for op in model.ops if op.kind == "constant" and tensors[op.output].size == 1}
    return [
        "lookup" if op.kind in PAIR_KINDS and op.input2 in numbers else op.kind
        for op in model.ops
        if op.output not in numbers and not _copies(model, op)
    ]


def _copies(model: QuantModel, op: Op) -> bool:
    """Whether an op is a reshape, a slice of everything, or a gather that moves nothing."""
    whole = op.kind == "slice" and model.tensors[op.input].shape == model.tensors[op.output].shape
    return op.kind == "reshape" or whole or op.kind == "gather" and op.positions is None and op.axes == (1, 2)


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_random_graphs_come_back(first: int) -> None:
    for seed in range(first, first + 50):
        original = random_model(seed, oracle=True, loss=LOSSES[seed % 3])
        model = check_same(write_tflite(original), seed)
        assert kinds_that_count(model) == kinds_that_count(original)
        x = [random_input(np.random.default_rng(seed), original)]
        assert np.array_equal(outputs(model, x), outputs(original, x))


def test_medium_models_come_back_as_they_were() -> None:
    for seed in range(40):
        original = random_model(seed, "medium", ("conv", "depthwise", "residual", "mean", "dense"), oracle=True)
        model = check_same(write_tflite(original), seed, 3)
        for mine, its in zip(model.ops, original.ops, strict=True):
            fields = ("kind", "input", "input2", "kernel", "stride", "dilation", "padding", "act_min", "act_max")
            assert [getattr(mine, f) for f in fields] == [getattr(its, f) for f in fields]
            for f in ("weights", "bias", "multiplier", "shift"):
                assert np.array_equal(getattr(mine, f), getattr(its, f)), f
        assert model.tensors == original.tensors


# ---- models that Keras and TensorFlow's converter made (tools/make_tflite_models.py) ---------------------------------


needs_keras = in_full_runs("needs files that TensorFlow wrote: random and written files here")


@needs_keras
def test_keras_models() -> None:
    files = [path for path in sorted(KERAS.glob("*.tflite")) if not path.name.startswith("refused-")]
    assert len(files) == 146, "make keras-models"
    for path in files:
        check_same(path.read_bytes(), count=100, name=path.name)


@needs_keras
def test_keras_models_that_cant_be_imported() -> None:
    files = sorted(KERAS.glob("refused-*.tflite"))
    assert len(files) == 4, "make keras-models"
    for path in files:
        with pytest.raises(TfliteError, match=r"operator \d+ [A-Z_0-9]+ \(tensor '.+'\)"):
            import_tflite(path.read_bytes())


# ---- single operators, written by hand -------------------------------------------------------------------------------


MEANS = [
    ((1, 7, 5, 6), (1, 2)),
    ((1, 7, 5, 6), (-2, 1)),
    ((1, 9, 6), (1,)),
    ((1, 1, 9, 6), (2,)),
    ((1, 9, 1, 6), (1,)),
    ((1, 1, 1, 6), (1, 2)),
]


SOME = [((1, 7, 5, 6), axes) for axes in [(3,), (1,), (2,), (2, 3), (1, 3), (1, 2, 3), (0, 2)]]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("name", "grid"), [("MEAN", GRID), ("MEAN", (0.02, -7)), ("SUM", (0.3, 9)), ("REDUCE_MAX", GRID)]
)
@pytest.mark.parametrize(
    ("shape", "axes"), [*MEANS, *SOME, ((1, 9, 6), (-1,)), ((1, 3, 300, 2), (1, 2)), ((1, 600, 2), (1,))]
)
def test_reductions(
    name: str, grid: tuple[float, int], shape: tuple[int, ...], axes: tuple[int, ...], keep: bool
) -> None:
    """Over any axes, including those that don't fit one pool."""
    gone = {axis % len(shape) for axis in axes}
    out = tuple(1 if i in gone else n for i, n in enumerate(shape) if keep or i not in gone)
    sketch = Sketch(*shape)
    sketch.add(getattr(BUILTIN, name), schema.ReducerOptionsT(keepDims=keep), out, sketch.ints(*axes), grid=grid)
    model = check_same(sketch.add(BUILTIN.ABS, None, out, grid=(0.04, 5)).file(), count=10)
    if name == "MEAN" and (shape, axes) in MEANS:
        assert [op.kind for op in model.ops] == ["mean", "lookup"]


@pytest.mark.parametrize("name", ["MEAN", "SUM", "REDUCE_MAX"])
@pytest.mark.parametrize(("shape", "axes"), SOME)
def test_reductions_of_reshaped_tensors(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """The model's tensor has another shape than the file's: no reshape of it stays without a reader."""
    out = tuple(1 if i in axes else n for i, n in enumerate(shape))
    options = schema.ReducerOptionsT(keepDims=True)
    sketch = Sketch(1, 3, 70).add(BUILTIN.RESHAPE, schema.ReshapeOptionsT(), shape, grid=GRID)
    sketch.add(BUILTIN.ABS, None, shape, grid=GRID)
    check_same(sketch.add(getattr(BUILTIN, name), options, out, sketch.ints(*axes), grid=GRID).file())


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("adjoint", [(False, False), (False, True), (True, False), (True, True)])
def test_products_of_matrices(adjoint: tuple[bool, bool], known: bool) -> None:
    """Either side turned; the second computed too, or a constant."""
    shapes = [(1, 2, 5, 6), (1, 2, 6, 3)]
    one, two = ((*shape[:2], *shape[:1:-1]) if turn else shape for shape, turn in zip(shapes, adjoint, strict=True))
    sketch = Sketch(*one)
    first, values = sketch.last, sketch.rng.integers(-128, 128, two).astype(np.int8)
    other = sketch.tensor(two, (0.03, 9), data=values)
    if not known:
        whole = sketch.tensor((1, 60), GRID)
        sketch._operator(BUILTIN.RESHAPE, [first, sketch.ints(1, 60)], [whole], schema.ReshapeOptionsT())
        sketch.last = whole
        made = two[1] * two[2] * two[3]
        sketch.dense(60, made).add(BUILTIN.RESHAPE, schema.ReshapeOptionsT(), two, sketch.ints(*two))
        other, sketch.last = sketch.last, first
    options = schema.BatchMatMulOptionsT(adjX=adjoint[0], adjY=adjoint[1])
    model = check_same(sketch.add(BUILTIN.BATCH_MATMUL, options, (1, 2, 5, 3), other, grid=(0.02, -3)).file(), count=10)
    assert [op.kind for op in model.ops].count("matmul") == 1 and model.rounds


class DynamicSketch(Sketch):
    """A dense layer of the last axis of [1, 7, 5], as Keras writes it for a batch of any size."""

    def __init__(self, depths: tuple[int, ...] = (2,), axis: int = 0) -> None:
        super().__init__(1, 7, 5)
        shape = self._folded(BUILTIN.SHAPE, [self.last], [3], schema.ShapeOptionsT(outType=TYPE.INT32))
        rows = self._folded(BUILTIN.GATHER, [shape, self.ints(0, 1)], [2], schema.GatherOptionsT())
        depth = self._folded(BUILTIN.GATHER, [shape, self.ints(*depths)], [len(depths)], schema.GatherOptionsT())
        sides = [
            self._folded(BUILTIN.REDUCE_PROD, [part, self.ints(axis)], [], schema.ReducerOptionsT())
            for part in (rows, depth)
        ]
        flat = self._folded(BUILTIN.PACK, sides, [2], schema.PackOptionsT(valuesCount=2))
        back = self._folded(BUILTIN.CONCATENATION, [rows, self.ints(4)], [3], schema.ConcatenationOptionsT())
        self.add(BUILTIN.RESHAPE, schema.ReshapeOptionsT(), (1, 1), flat)
        self.tensors[self.last].shapeSignature = [-1, -1]
        self.dense(5, 4)
        self.tensors[self.last].shapeSignature = [-1, 4]
        self.add(BUILTIN.RESHAPE, schema.ReshapeOptionsT(), (1, 7, 4), back)

    def _folded(self, code: int, inputs: list[int], shape: list[int], options: object) -> int:
        made = self._tensor(shape, TYPE.INT32)
        self._operator(code, inputs, [made], options)
        return made


def test_dense_layers_of_a_dynamic_batch() -> None:
    """TensorFlow Lite Micro runs the same with shapes that are known."""
    known = Sketch(1, 7, 5)
    known.add(BUILTIN.RESHAPE, schema.ReshapeOptionsT(), (7, 5), known.ints(7, 5))
    weights = known.weights(4, 5)
    known.add(BUILTIN.FULLY_CONNECTED, schema.FullyConnectedOptionsT(), (7, 4), weights, -1)
    known.add(BUILTIN.RESHAPE, schema.ReshapeOptionsT(), (1, 7, 4), known.ints(1, 7, 4))
    wanted, found = check_same(known.file(), count=10), import_tflite(DynamicSketch().file())
    assert [op.kind for op in found.ops] == ["conv"] and pack_model(found) == pack_model(wanted)


@pytest.mark.parametrize("name", ["ELU", "NEG", "ABS", "SQUARE", "EXP", "TANH", "SIN", "COS", "RELU"])
def test_real_numbers_between_integers_are_a_table(name: str) -> None:
    """For all inputs: DEQUANTIZE, the function in float32, QUANTIZE."""
    rng = np.random.default_rng(list(name.encode()))
    for turn in range(40):
        scales = np.exp(rng.uniform(-2, 2, 2) - (5 if name == "EXP" else 3)).astype(np.float32).tolist()
        points = rng.integers(-128, 128, 2).tolist()
        sketch = Sketch(1, 16, 16, 1, grid=(scales[0], points[0]))
        for code in (BUILTIN.DEQUANTIZE, getattr(BUILTIN, name)):
            sketch.add(code, None, (1, 16, 16, 1), kind=TYPE.FLOAT32)
        sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), (1, 16, 16, 1), grid=(scales[1], points[1]))
        op = import_tflite(sketch.file()).ops[0]
        every = np.arange(-128, 128).astype(np.int8).reshape(16, 16, 1)
        assert op.table.tolist() == TflmModel(sketch.file())(every).tolist(), f"turn {turn}: {scales}, {points}"
        inner = (op.table[1:-1] > -128) & (op.table[1:-1] < 127)
        rise = (op.table[2:].astype(float) - op.table[:-2]) / 2
        slope = (op.slope * 2.0 ** float(op.shift[0]))[1:-1]
        assert inner.sum() < 20 or np.median(np.abs(rise - slope)[inner]) < 0.6


@pytest.mark.parametrize("fused", [0, 1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_fused_activations(fused: int, padding: int) -> None:
    sketch = Sketch(1, 6, 5, 3)
    options = conv_options(fusedActivationFunction=fused, padding=padding, strideW=2)
    shape = (1, 6, 3, 4) if padding == schema.Padding.SAME else (1, 4, 2, 4)
    sketch.add(BUILTIN.CONV_2D, options, shape, sketch.weights(4, 3, 3, 3), sketch.bias(4), grid=(0.04, -10))
    op = check_same(sketch.file(), count=20).ops[0]
    assert (op.mask_low, op.mask_high) == (fused > 0, fused > 1)
    step = 1 / 0.04
    assert op.act_min == {0: -128, 1: -10, 2: -10 - step, 3: -10}[fused]


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concatenation_of_many(axis: int) -> None:
    sketch = Sketch(1, 3, 4, 5)
    shape = [1, 3, 4, 5]
    shape[axis] *= 4
    options = schema.ConcatenationOptionsT(axis=axis)
    sketch.add(BUILTIN.CONCATENATION, options, tuple(shape), *[sketch.first] * 3)
    model = check_same(sketch.file())
    assert [op.kind for op in model.ops] == ["concatenate"] * 3


def test_padding() -> None:
    sketch = Sketch(1, 5, 3)
    sketch.add(BUILTIN.PAD, schema.PadOptionsT(), (1, 8, 3), sketch.ints((0, 0), (2, 1), (0, 0)))
    value = sketch.tensor((), GRID, data=np.array(GRID[1], np.int8))
    sketch.add(BUILTIN.PADV2, schema.PadV2OptionsT(), (1, 9, 3), sketch.ints((0, 0), (0, 1), (0, 0)), value)
    assert [op.padding for op in check_same(sketch.file()).ops] == [(0, 2), (0, 0)]


def test_transpose_of_the_batch_s_axis_and_of_five() -> None:
    """As in channel shuffles and time-major recurrences."""
    turned = Sketch(1, 2, 6, 4)
    turned.add(BUILTIN.TRANSPOSE, None, (4, 1, 2, 6), turned.ints(3, 0, 1, 2))
    turned.add(BUILTIN.RESHAPE, None, (1, 48), turned.ints(1, 48))
    assert [op.kind for op in check_same(turned.dense(48, 3).file()).ops].count("gather") == 1
    shuffled = Sketch(1, 3, 4, 6)
    shuffled.add(BUILTIN.RESHAPE, None, (1, 3, 4, 2, 3), shuffled.ints(1, 3, 4, 2, 3))
    shuffled.add(BUILTIN.TRANSPOSE, None, (1, 3, 4, 3, 2), shuffled.ints(0, 1, 2, 4, 3))
    shuffled.add(BUILTIN.RESHAPE, None, (1, 3, 4, 6), shuffled.ints(1, 3, 4, 6))
    check_same(shuffled.add(BUILTIN.ABS, None, (1, 3, 4, 6), grid=(0.04, 5)).file())


@pytest.mark.parametrize("block", [1, 2, 3])
def test_depth_to_space_and_back(block: int) -> None:
    sketch = Sketch(1, 3, 4, 2 * block * block)
    sketch.add(BUILTIN.DEPTH_TO_SPACE, schema.DepthToSpaceOptionsT(blockSize=block), (1, 3 * block, 4 * block, 2))
    check_same(sketch.add(BUILTIN.ABS, None, (1, 3 * block, 4 * block, 2), grid=(0.04, 5)).file())
    sketch = Sketch(1, 2 * block, 3 * block, 5)
    shape = (1, 2, 3, 5 * block * block)
    sketch.add(BUILTIN.SPACE_TO_DEPTH, schema.SpaceToDepthOptionsT(blockSize=block), shape)
    check_same(sketch.add(BUILTIN.ABS, None, shape, grid=(0.04, 5)).file())


@pytest.mark.parametrize("mode", ["REFLECT", "SYMMETRIC"])
def test_mirror_pad(mode: str) -> None:
    sketch, options = Sketch(1, 4, 5, 3), schema.MirrorPadOptionsT(mode=getattr(schema.MirrorPadMode, mode))
    sides = sketch._tensor([4, 2], TYPE.INT32, data=np.array([[0, 0], [1, 3], [2, 0], [0, 1]], np.int32))
    sketch.add(BUILTIN.MIRROR_PAD, options, (1, 8, 7, 4), sides)
    check_same(sketch.add(BUILTIN.ABS, None, (1, 8, 7, 4), grid=(0.04, 5)).file())


@pytest.mark.parametrize("grid", [GRID, (0.02, 0), (0.02, -128), (0.02, 127)])
@pytest.mark.parametrize("factors", [(2, 2), (4, 4), (1, 2), (8, 2), (16, 1), (1, 1)])
def test_resize_bilinear(factors: tuple[int, int], grid: tuple[float, int]) -> None:
    """Rounding of every half counts, so small values of both signs are tested, too."""
    shape = (1, 5 * factors[0], 4 * factors[1], 2)
    sketch = Sketch(1, 5, 4, 2, grid=grid)
    options = schema.ResizeBilinearOptionsT(halfPixelCenters=True)
    file = sketch.add(BUILTIN.RESIZE_BILINEAR, options, shape, sketch.ints(*shape[1:3]), grid=grid).file()
    model, micro = import_tflite(file), TflmModel(file)
    rng = np.random.default_rng(sum(factors))
    for reach in (2, 5, 20, 127) * 8:
        x = rng.integers(-reach - 1, reach + 1, 40).astype(np.int8)
        [(plain, _)] = outputs(model, [x.reshape(model.input.shape)])
        assert plain.tolist() == micro(x.reshape(model.input.shape)).tolist()


@pytest.mark.parametrize(
    ("wanted", "fields", "message"),
    [
        ((10, 12), {"halfPixelCenters": True}, "from 5x4 to 10x12: supported are half pixel centers and factors"),
        ((10, 8), {}, "interpolates from"),
        ((10, 8), {"alignCorners": True}, "interpolates from"),
        ((3, 3), {"halfPixelCenters": True}, "resize with interpolation='nearest'"),
    ],
)
def test_resize_bilinear_that_is_refused(wanted: tuple[int, int], fields: dict, message: str) -> None:
    sketch, options = Sketch(1, 5, 4, 2), schema.ResizeBilinearOptionsT(**fields)
    refuse(sketch.add(BUILTIN.RESIZE_BILINEAR, options, (1, *wanted, 2), sketch.ints(*wanted)), message)


@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
def test_both_inputs_are_repeated(name: str) -> None:
    """Each along an axis of its own, as in outer products."""
    sketch = Sketch(1, 6, 4)
    source = sketch.last
    rows = sketch.add(BUILTIN.RESHAPE, None, (1, 6, 1, 4), sketch.ints(1, 6, 1, 4)).last
    sketch.last = source
    other = sketch.add(BUILTIN.ABS, None, (1, 6, 4), grid=(0.03, 5)).last
    columns = sketch.add(BUILTIN.RESHAPE, None, (1, 1, 6, 4), sketch.ints(1, 1, 6, 4), grid=(0.03, 5)).last
    assert other != columns
    column = sketch.tensor((6, 1), (0.02, 9), data=np.arange(-3, 3, dtype=np.int8).reshape(6, 1))
    for one, two in ((rows, columns), (columns, rows), (rows, column)):
        sketch.last = one
        options = getattr(schema, f"{name.title()}OptionsT")()
        sketch.add(getattr(BUILTIN, name), options, (1, 6, 6, 4), two, grid=(0.08, -3))
        assert "gather" in [op.kind for op in check_same(sketch.file()).ops]


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_transpose(order: tuple[int, ...]) -> None:
    shape = (1, 5, 6, 4)
    sketch = Sketch(*shape)
    sketch.add(BUILTIN.TRANSPOSE, None, tuple(shape[i] for i in (0, *order)), sketch.ints(0, *order))
    model = check_same(sketch.dense(120, 3).file())
    assert [op.kind for op in model.ops] == ["gather"] * (order != (1, 2, 3)) + ["dense"]
    flat = Sketch(1, 5, 6)
    flat.add(BUILTIN.TRANSPOSE, None, (1, 6, 5), flat.ints(0, 2, 1))
    assert [op.kind for op in check_same(flat.file()).ops] == ["gather"]


@pytest.mark.parametrize(("align", "half"), NEAREST)
def test_resize_nearest(align: bool, half: bool) -> None:
    """All output sizes up to 40 for input sizes up to 12: at ties the kernel's float32 decides."""
    for size in range(1, 13):
        for wanted in range(1, 41, 1 + size % 3):
            sketch = Sketch(1, size, 13 - size, 2)
            shape = (1, wanted, 41 - wanted, 2)
            options = schema.ResizeNearestNeighborOptionsT(alignCorners=align, halfPixelCenters=half)
            sketch.add(BUILTIN.RESIZE_NEAREST_NEIGHBOR, options, shape, sketch.ints(*shape[1:3]))
            assert [op.kind for op in check_same(sketch.file(), count=1).ops] == ["gather"]


def test_pack_and_unpack() -> None:
    """Parts along any axis, joined along another one: the steps of an unrolled recurrence, and their outputs."""
    for axis in (1, 2, 3):
        for to in (1, 2, 3):
            sketch, shape = Sketch(1, 3, 4, 5), [1, 3, 4, 5]
            count = shape.pop(axis)
            parts = [sketch.tensor(tuple(shape)) for _ in range(count)]
            options = schema.UnpackOptionsT(num=count, axis=axis)
            sketch._operator(BUILTIN.UNPACK, [sketch.last], parts, options)
            shape.insert(to, count)
            target = sketch.tensor(tuple(shape))
            options = schema.PackOptionsT(valuesCount=count, axis=to - 4)
            sketch._operator(BUILTIN.PACK, parts[::-1], [target], options)
            sketch.last = target
            kinds = {op.kind for op in check_same(sketch.dense(60, 3).file()).ops}
            assert kinds <= {"reshape", "slice", "concatenate", "dense"}


def test_weights_of_several_layers_are_in_the_file_once() -> None:
    """And constants: the steps of an unrolled recurrence share both."""
    sketch = Sketch(1, 40)
    weights, bias = sketch.weights(40, 40), sketch.tensor((1, 40), data=np.arange(40, dtype=np.int8))
    for _ in range(3):
        sketch.add(BUILTIN.FULLY_CONNECTED, schema.FullyConnectedOptionsT(), (1, 40), weights, -1)
        sketch.add(BUILTIN.ADD, schema.AddOptionsT(), (1, 40), bias, grid=(0.07, 3))
        sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), (1, 40))
    model = check_same(sketch.file())
    assert [op.kind for op in model.ops].count("constant") == 1
    elm = pack_model(model)
    assert 1600 < len(elm) < 2 * 1600 + 3 * 1000 and pack_model(unpack_model(elm)) == elm


def transposed(shape: tuple[int, ...], padding: int, bias: bool = True, **fields: int) -> Sketch:
    """TRANSPOSE_CONV of [1, 4, 3, 5] with a 3x2 kernel."""
    sketch, outputs = Sketch(1, 4, 3, 5), shape[3]
    options = schema.TransposeConvOptionsT(padding=padding, **{"strideH": 1, "strideW": 1} | fields)
    inputs = [sketch.ints(*shape), sketch.weights(outputs, 3, 2, 5), sketch.last]
    target = sketch.tensor(shape, (0.04, -10))
    inputs += [sketch.bias(outputs)] if bias else []
    sketch._operator(BUILTIN.TRANSPOSE_CONV, inputs, [target], options)
    sketch.last = target
    return sketch


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("fused", [0, 1, 3])
@pytest.mark.parametrize(
    ("shape", "padding", "stride", "kinds"),
    [
        ((1, 4, 3, 4), schema.Padding.SAME, (1, 1), ["conv"]),
        ((1, 8, 6, 4), schema.Padding.SAME, (2, 2), ["pad", "conv"]),
        ((1, 11, 3, 2), schema.Padding.SAME, (3, 1), ["pad", "conv"]),
        ((1, 9, 6, 4), schema.Padding.VALID, (2, 2), ["pad", "conv"]),
        ((1, 6, 13, 3), schema.Padding.VALID, (1, 5), ["pad", "conv"]),
    ],
)
def test_transposed_convolution(
    shape: tuple[int, ...], padding: int, stride: tuple[int, int], kinds: list[str], fused: int, bias: bool
) -> None:
    fields = {"strideH": stride[0], "strideW": stride[1], "fusedActivationFunction": fused}
    model = check_same(transposed(shape, padding, bias, **fields).file(), count=20)
    assert [op.kind for op in model.ops] == kinds and model.ops[-1].mask_low == (fused > 0)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("crops", [(0, 0), (1, 0), (0, 2)])
@pytest.mark.parametrize("block", [2, 4])
def test_dilated_convolutions_in_batches(flat: bool, crops: tuple[int, int], block: int) -> None:
    """SPACE_TO_BATCH_ND, CONV_2D, BATCH_TO_SPACE_ND, with or without the reshapes of 1-D layers."""
    inner, after, one = 16 // block, 16 // block - 2, () if flat else (1,)
    sketch = Sketch(1, *one, 16, 5)
    blocks, sides = ([block], [[0, 0]]) if flat else ([1, block], [[0, 0], [0, 0]])
    cropped = [list(crops)] if flat else [[0, 0], list(crops)]
    sketch.add(BUILTIN.SPACE_TO_BATCH_ND, None, (block, *one, inner, 5), sketch.ints(*blocks), sketch.ints(*sides))
    if flat:
        sketch.add(BUILTIN.RESHAPE, None, (block, 1, inner, 5), sketch.ints(block, 1, inner, 5))
    options = conv_options(padding=1, fusedActivationFunction=1)
    sketch.add(BUILTIN.CONV_2D, options, (block, 1, after, 4), sketch.weights(4, 1, 3, 5), sketch.bias(4))
    if flat:
        sketch.add(BUILTIN.RESHAPE, None, (block, after, 4), sketch.ints(block, after, 4))
    end = (1, *one, block * after - sum(crops), 4)
    sketch.add(BUILTIN.BATCH_TO_SPACE_ND, None, end, sketch.ints(*blocks), sketch.ints(*cropped))
    model = check_same(sketch.file(), count=10)
    assert [op.dilation for op in model.ops if op.kind == "conv"] == [(1, block)]


PAIRS = {
    "ADD": schema.AddOptionsT,
    "SUB": schema.SubOptionsT,
    "MUL": schema.MulOptionsT,
    "MINIMUM": schema.MaximumMinimumOptionsT,
    "MAXIMUM": schema.MaximumMinimumOptionsT,
    "PRELU": lambda **_: None,
}


def pair_of(name: str, other: tuple[int, ...], rng: np.random.Generator, swapped: bool, fused: int = 0) -> Sketch:
    """A tensor and a constant, each on its own grid if the operator allows it."""
    same = name in ("MINIMUM", "MAXIMUM")
    grids = [(float(np.float32(np.exp(rng.uniform(-4, 0)))), int(rng.integers(-128, 128))) for _ in range(3)]
    size = sum(grids[i][0] for i in range(2)) if name in ("ADD", "SUB") else grids[0][0] * (1 + 40 * grids[1][0])
    out = grids[0] if same else (float(np.float32(size * np.exp(rng.uniform(-1, 1)))), grids[2][1])
    shape = (1, 4, 5, 6)
    sketch = Sketch(*shape, grid=grids[0])
    values = rng.integers(-128, 128, other).astype(np.int8)
    constant = sketch.tensor(other, grids[0] if same else grids[1], data=values)
    options = PAIRS[name](**({"fusedActivationFunction": fused} if fused else {}))
    target = sketch.tensor(shape, out)
    inputs = [constant, sketch.last] if swapped else [sketch.last, constant]
    sketch._operator(getattr(BUILTIN, name), inputs, [target], options)
    sketch.last = target
    return sketch


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_with_constants(name: str, swapped: bool) -> None:
    if name == "PRELU" and swapped:
        return
    rng = np.random.default_rng(len(name) + swapped)
    for other in ((6,), (1, 1, 6), (4, 5, 6), (5, 1), (4, 1, 6), (1,), ()):
        for turn in range(8):
            fused = (0, 1, 3)[turn % 3] if name in ("ADD", "SUB", "MUL") else 0
            model = check_same(pair_of(name, other, rng, swapped, fused).file(), seed=turn)
            assert len(model.ops) == (1 if other in ((1,), ()) else 2)


@pytest.mark.parametrize("name", ["ADD", "MUL", "PRELU", "SUB"])
def test_slopes_of_pairs_with_numbers(name: str) -> None:
    """The slope equals the table's, away from its corners."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        op = import_tflite(pair_of(name, (1,), rng, name == "SUB").file()).ops[0]
        table, slope = op.table.astype(float), op.slope * 2.0 ** float(op.shift[0])
        inside = (table[16:] < 127) & (table[16:] > -128) & (table[:-16] < 127) & (table[:-16] > -128)
        rise = ((table[16:] - table[:-16]) / 16)[inside]
        if len(rise) > 60:  # enough points away from a PReLU's corner
            assert np.median(np.abs(rise - slope[8:-8][inside])) < 0.07


@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL", "MAXIMUM"])
@pytest.mark.parametrize("swapped", [False, True])
def test_pairs_with_repeated_tensors(name: str, swapped: bool) -> None:
    """A tensor and its mean over positions, as in squeeze-and-excitation."""
    sketch = Sketch(1, 4, 5, 6)
    sketch.add(BUILTIN.MEAN, schema.ReducerOptionsT(keepDims=True), (1, 1, 1, 6), sketch.ints(1, 2))
    target = sketch.tensor((1, 4, 5, 6), GRID if name == "MAXIMUM" else (0.11, -5))
    inputs = [sketch.last, sketch.first] if swapped else [sketch.first, sketch.last]
    sketch._operator(getattr(BUILTIN, name), inputs, [target], PAIRS[name]())
    sketch.last = target
    assert [op.kind for op in check_same(sketch.file(), count=30).ops][0] == "mean"


def test_a_value_just_below_a_tie() -> None:
    """In float32 0.49999997 + 0.5 is 1, which would round the value up."""
    sketch = Sketch(1, 16, 16, 1, grid=(0.99999994, 116))
    sketch.add(BUILTIN.ELU, None, (1, 16, 16, 1), grid=(16.0, -43))
    every = np.arange(-128, 128).astype(np.int8).reshape(16, 16, 1)
    file = sketch.file()
    assert import_tflite(file).ops[0].table.tolist() == TflmModel(file)(every).tolist()


@pytest.mark.parametrize("name", ["leaky_relu", "hard_swish", "relu6", "abs", "elu", "gelu", "exp", "relu_n1_to_1"])
def test_slopes_of_tables(name: str) -> None:
    """The slope equals the table's, away from its corners."""
    sketch, grid = Sketch(1, 1, 1, 9, grid=(0.08, -20)), (0.08, -20) if name == "relu6" else (0.06, -60)
    options = {
        "leaky_relu": schema.LeakyReluOptionsT(alpha=0.25),
        "hard_swish": schema.HardSwishOptionsT(),
        "gelu": schema.GeluOptionsT(),
    }.get(name)
    op = import_tflite(sketch.add(getattr(BUILTIN, name.upper()), options, (1, 1, 1, 9), grid=grid).file()).ops[0]
    rise = (op.table[16:].astype(float) - op.table[:-16]) / 16
    slope = op.slope * 2.0 ** float(op.shift[0])
    assert np.median(np.abs(rise - slope[8:-8])) < 0.04


def test_missing_bias_and_one_scale() -> None:
    model = check_same(Sketch(1, 12).dense(12, 5).file())
    assert not model.ops[0].bias.any() and len(set(model.ops[0].weight_scale)) == 1
    assert (model.loss, model.labels) == ("cross_entropy", list("01234"))


@pytest.mark.parametrize("scale", [GRID[0], 0.03])
def test_uint8_input_and_output(scale: float) -> None:
    """Another zero point costs nothing; another scale costs a lookup."""
    sketch = Sketch(1, 12, grid=(scale, GRID[1] + 128), kind=TYPE.UINT8)
    sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), (1, 12)).dense(12, 5)
    sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), (1, 5), grid=(scale, GRID[1] + 128), kind=TYPE.UINT8)
    kinds = [op.kind for op in check_same(sketch.file(), count=30).ops]
    assert kinds == (["dense"] if scale == GRID[0] else ["lookup", "dense", "lookup"])


# ---- losses, labels, calibration -------------------------------------------------------------------------------------


def test_the_loss_follows_from_the_last_operator() -> None:
    softmax = (
        Sketch(1, 12).dense(12, 5).add(BUILTIN.SOFTMAX, schema.SoftmaxOptionsT(beta=1), (1, 5), grid=(1 / 256, -128))
    )
    logistic = Sketch(1, 12).dense(12, 1).add(BUILTIN.LOGISTIC, None, (1, 1), grid=(1 / 256, -128))
    assert import_tflite(softmax.file()).loss == "cross_entropy"
    assert import_tflite(logistic.file()).loss == "binary_cross_entropy"
    assert import_tflite(logistic.file(), ["no", "yes"]).labels == ["no", "yes"]
    assert import_tflite(Sketch(1, 12).dense(12, 12).file()).loss == "mean_squared_error"
    assert import_tflite(Sketch(1, 12).dense(12, 12).file(), loss="cross_entropy").labels[-1] == "11"
    with pytest.raises(TfliteError, match="3 labels are given for 5 outputs"):
        import_tflite(softmax.file(), ["a", "b", "c"])
    relu = Sketch(1, 12).dense(12, 1).add(BUILTIN.RELU, None, (1, 1))
    with pytest.raises(TfliteError, match="needs a network that ends in LOGISTIC"):
        import_tflite(relu.file(), loss="binary_cross_entropy")


def test_calibration_is_that_of_quantize() -> None:
    """The shifts from the core's activations equal those from quantization's simulation."""
    layers = [
        floatnet_layers.conv(8, (1, 5), (1, 2)),
        floatnet_layers.average_pool((1, 2)),
        floatnet_layers.conv(6, (1, 3)),
        floatnet_layers.mean(),
        floatnet_layers.dense(3),
    ]
    net = floatnet_layers.build((1, 32, 2), layers, seed=1)
    x = np.random.default_rng(0).normal(size=(64, 1, 32, 2)).astype(np.float32)
    model = quantize(net, x)
    wanted = [(op.t_shift, op.branch_shift) for op in model.ops]
    for op in model.ops:
        op.t_shift = op.branch_shift = 0
    convert.calibrate(model, convert.inputs_for_calibration(model, x))
    assert [(op.t_shift, op.branch_shift) for op in model.ops] == wanted and wanted[0][0] > 0
    imported = import_tflite(write_tflite(model), ["a", "b", "c"])
    convert.calibrate(imported, convert.inputs_for_calibration(imported, x))
    model.labels = ["a", "b", "c"]
    assert pack_model(imported) == pack_model(model)


def test_calibration_takes_any_graph() -> None:
    alive = 0
    for seed in range(60):
        model = import_tflite(write_tflite(random_model(seed, oracle=True, loss=LOSSES[seed % 3])))
        convert.calibrate(model, convert.inputs_for_calibration(model, None)[:8])
        pack_model(model)
        alive += any(op.t_shift or op.branch_shift for op in model.ops)
    assert alive > 45  # the smallest layers need no shift


def test_activations_are_the_reference_s() -> None:
    for seed in range(60):
        model = random_model(seed, oracle=True)
        x = random_input(np.random.default_rng(seed), model)
        for session in sessions(model):
            session.reset()
            found = [y.reshape(-1).tolist() for y in session.activations(x, model)]
            assert found == [y.reshape(-1).tolist() for y in forward(model, x).y]


def test_calibration_inputs_are_checked() -> None:
    model = import_tflite(Sketch(1, 12).dense(12, 5).file())
    real = np.linspace(-3, 3, 24).reshape(2, 12)
    assert np.array_equal(convert.inputs_for_calibration(model, real)[:, 0, 0, 0], model.input.quantize(real))
    assert convert.inputs_for_calibration(model, np.zeros((1000, 12), np.int8)).shape == (63, 1, 1, 1, 12)
    for bad in (np.zeros((2, 11)), np.zeros(12), np.zeros((0, 12)), np.zeros((2, 12), int), np.full((2, 12), np.nan)):
        with pytest.raises(ValueError, match="calibration inputs x are"):
            convert.inputs_for_calibration(model, bad)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, inputs, labels = (tmp_path / name for name in ("m.tflite", "m.elm", "x.npz", "labels.txt"))
    source.write_bytes(Sketch(1, 12).dense(12, 3).file())
    np.savez(inputs, x=np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32))
    labels.write_text("walk\nrun\nsit\n")
    arguments = ["import", str(source), "-o", str(target), "--data", str(inputs), "--labels", str(labels)]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["labels"] == ["walk", "run", "sit"] and result["macs"] == 36 and result["calibration_inputs"] == 20
    assert result["layers"] == [
        {"op": 0, "kind": "dense", "output": [1, 1, 3], "parameters": 39, "macs": 36, "adapter": True}
    ]
    model = unpack_model(target.read_bytes())
    assert model.labels == ["walk", "run", "sit"] and model.ops[0].t_shift > 0
    assert result["base_id"] == base_id(target.read_bytes()).hex()
    long = ",".join(name * 90 for name in "abc")  # longer than a filename can be
    assert main(["import", str(source), "-o", str(target), "--labels", long]) == 0
    assert main(["import", str(source), "-o", str(target), "--labels", "a,b,c"]) == 0
    out, note = capsys.readouterr()
    assert "dense  1x1x3" in out and "noise" in note
    assert unpack_model(target.read_bytes()).labels == ["a", "b", "c"]


def test_command_refuses_before_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "m.tflite", tmp_path / "m.elm"
    target.write_bytes(b"old")
    source.write_bytes(Sketch(1, 12).add(BUILTIN.SIN, None, (1, 12)).file())
    assert main(["import", str(source), "-o", str(target)]) == 1
    assert "m.tflite: operator 0 SIN" in capsys.readouterr().err and target.read_bytes() == b"old"


# ---- what is refused -------------------------------------------------------------------------------------------------


def refuse(sketch: Sketch | bytes, message: str) -> None:
    with pytest.raises(TfliteError, match=message):
        import_tflite(sketch if isinstance(sketch, bytes) else sketch.file())


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("UNIDIRECTIONAL_SEQUENCE_RNN", "networks with state.*unroll=True for recurrent layers"),
        ("WHILE", "networks with state"),
        ("DIV", "batch normalization"),
        ("GATHER_ND", "fixed batch"),
        ("BIDIRECTIONAL_SEQUENCE_LSTM", "networks with state"),
        ("CAST", "which confuses words; look words up outside"),
        ("STABLEHLO_DOT_GENERAL", "StableHLO"),
        ("BITCAST", "own-network.md"),
        ("CUSTOM", "TFLITE_BUILTINS_INT8"),
    ],
)
def test_unsupported_operators(code: str, remedy: str) -> None:
    sketch = Sketch(1, 12).dense(12, 12).add(getattr(BUILTIN, code), None, (1, 12))
    refuse(sketch.dense(12, 3), rf"operator 1 {code}.* \(tensor 't\d+'\): not supported.*{remedy}")


def test_refusals_are_a_plain_line_that_names_the_operator() -> None:
    """Every operator: never a number instead of its name, never a list of all supported operators."""
    names = {code.name for code in Code}
    for code in set(Code) - set(HANDLERS):
        file = Sketch(1, 12).dense(12, 12).add(code, None, (1, 12)).dense(12, 3).file()
        with pytest.raises(
            TfliteError, match=rf"operator 1 {code.name} ?.*\(tensor 't\d+'\): not supported: it "
        ) as told:
            import_tflite(file)
        text = str(told.value)
        assert "\n" not in text and len(text) < 700 and "code" not in text.lower().replace(code.name.lower(), "")
        assert len(names & set(re.findall(r"\b[A-Z][A-Z0-9_]{4,}\b", text))) <= 3


def test_operators_newer_than_the_schema_are_told() -> None:
    refuse(Sketch(1, 12).dense(12, 12).add(999, None, (1, 12)), "newer than this version of edgelora")


SIGNALLING = np.array([0x7F800001], "<u4").view("<f4")  # a signalling NaN, for which arithmetic warns


def grids(count: int, axis: int = 0) -> schema.QuantizationParametersT:
    return schema.QuantizationParametersT(scale=[0.01] * count, zeroPoint=[0] * count, quantizedDimension=axis)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: setattr(w.tensors[0], "type", TYPE.FLOAT32), "float32 .a float network.*must be int8; convert with"),
        (lambda w: setattr(w.tensors[0], "type", TYPE.INT16), "input 't0' is int16"),
        (lambda w: setattr(w.tensors[1], "type", TYPE.INT4), "weights 't1' are int4"),
        (lambda w: setattr(w.tensors[1], "buffer", 0), "weights 't1' are not constant"),
        (lambda w: setattr(w.tensors[1], "shape", [3, 11]), "weights \\[3, 11\\]"),
        (lambda w: setattr(w.tensors[1], "sparsity", schema.SparsityParametersT()), "are sparse"),
        (lambda w: setattr(w.tensors[1].quantization, "zeroPoint", None), "one zero point for each scale, all 0"),
        (lambda w: setattr(w.tensors[1].quantization, "zeroPoint", [1]), "one zero point for each scale, all 0"),
        (lambda w: setattr(w.tensors[1].quantization, "scale", [1.0, 2.0]), "one zero point for each scale, all 0"),
        (lambda w: setattr(w.tensors[1], "quantization", grids(2)), "one scale, or one per channel"),
        (lambda w: setattr(w.tensors[1], "quantization", grids(3, 1)), "scales along axis 1, must be 0"),
        (lambda w: setattr(w.tensors[0], "shape", [1, 1 << 15, 1 << 15]), "has 1073741824 elements, the limit is"),
        (lambda w: setattr(w.tensors[2], "type", TYPE.UINT8), "uint8 .the older"),
        (lambda w: setattr(w.tensors[2], "quantization", None), "one scale and zero point"),
        (lambda w: setattr(w.tensors[2].quantization, "scale", [float("nan")]), "has scale nan"),
        (lambda w: setattr(w.tensors[1].quantization, "scale", SIGNALLING), "'t1' has scale nan, must be finite"),
        (lambda w: setattr(w.tensors[1].quantization, "scale", [float("inf")]), "'t1' has scale inf, must be finite"),
        (lambda w: setattr(w.tensors[2].quantization, "scale", [1e-13]), "is not in"),
        (lambda w: setattr(w.tensors[0], "shape", [2, 12]), "batch of one"),
        (lambda w: setattr(w.tensors[0], "isVariable", True), "networks with state"),
        (lambda w: setattr(w.tensors[0], "shape", [1] * 9), "at most 6"),
        (lambda w: w.operators.clear(), "doesn't depend on the input"),
        (lambda w: setattr(w.operators[0], "inputs", [0]), "has 1 inputs and 1 outputs"),
        (lambda w: setattr(w.operators[0], "inputs", [1, 1, -1]), "is a constant, must be an activation"),
        (lambda w: setattr(w.operators[0], "outputs", []), "has 3 inputs and 0 outputs"),
        (lambda w: setattr(w.operators[0], "outputs", [0]), "already has a value"),
        (lambda w: w.operators.append(w.operators[0]), "operator 1 .* already has a value"),
        (lambda w: setattr(w.operators[0], "inputs", [99]), "doesn't exist"),
        (lambda w: setattr(w.operators[0], "opcodeIndex", 7), "has code index 7"),
        (lambda w: setattr(w.operators[0].builtinOptions, "fusedActivationFunction", 4), "fused activation 4"),
        (lambda w: setattr(w.operators[0].builtinOptions, "weightsFormat", 1), "weights"),
    ],
)
def test_damage_is_reported(change: Callable[[_Writer], None], message: str) -> None:
    sketch = Sketch(1, 12).dense(12, 3)
    change(sketch)
    with np.errstate(invalid="raise"):
        refuse(sketch, message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: (s := Sketch(1, 12)).add(
                *(BUILTIN.FULLY_CONNECTED, schema.FullyConnectedOptionsT(), (1, 3)),
                *(s.tensor((3, 12), (0.01, 0), data=np.full((3, 12), -128, np.int8)), -1),
            ),
            "a weight of 't1' is -128.*narrow range",
        ),
        (
            lambda: (s := Sketch(1, 4, 4, 6)).add(
                BUILTIN.CONV_2D, conv_options(padding=1), (1, 4, 4, 4), s.weights(4, 1, 1, 4), s.bias(4)
            ),
            r"weights \[4, 1, 1, 4\] for 6 channels in, 4 out",
        ),
        (
            lambda: (s := Sketch(1, 4, 4, 6)).add(
                BUILTIN.CONV_2D, conv_options(padding=1), (1, 5, 4, 4), s.weights(4, 1, 1, 6), s.bias(4)
            ),
            "output is 5x4, must be 4x4",
        ),
        (
            lambda: Sketch(1, 4).add(BUILTIN.LOGISTIC, None, (1, 4)),
            "output scale and zero point are .*, must be",
        ),
        (
            lambda: Sketch(1, 4).add(BUILTIN.SHAPE, schema.ShapeOptionsT(outType=TYPE.INT32), (2,)),
            "is int8, must be int32",
        ),
        (lambda: Sketch(1, 4).add(BUILTIN.SQUEEZE, schema.SqueezeOptionsT(), (5,)), r"makes \[5\] from \[1, 4\]"),
        (
            lambda: (s := Sketch(1, 9, 4)).add(
                BUILTIN.FULLY_CONNECTED, schema.FullyConnectedOptionsT(keepNumDims=True), (1, 8, 6), s.weights(6, 4), -1
            ),
            r"output has shape \[1, 8, 6\], must be \[1, 9, 6\]$",
        ),
        (
            lambda: (s := Sketch(1, 3, 4)).add(
                BUILTIN.CONCATENATION, schema.ConcatenationOptionsT(axis=7), (1, 3, 8), s.first
            ),
            "axis 7 of 3",
        ),
        (lambda: product((1, 5, 3)), "operator 0 BATCH_MATMUL .* multiplies"),
        (lambda: product((1, 2, 6, 3)), "operator 0 BATCH_MATMUL .* multiplies"),
        (lambda: product((6,)), "operator 0 BATCH_MATMUL .* multiplies"),
        (lambda: DynamicSketch((3,)), "GATHER .* takes .3. of 3 sides"),
        (lambda: DynamicSketch(axis=1), "REDUCE_PROD .* along its only axis"),
        (lambda: DynamicSketch((2, 1)), "FULLY_CONNECTED|RESHAPE"),
        (
            lambda: (s := Sketch(1, 7, 5, 6)).add(BUILTIN.MEAN, schema.ReducerOptionsT(), (1, 5, 6), s.ints(4)),
            "reduces axes .* file is damaged",
        ),
        (
            lambda: (s := Sketch(1, 1031, 2)).add(BUILTIN.SUM, schema.ReducerOptionsT(), (1, 2), s.ints(1)),
            "operator 0 SUM .* sums 1031 values, the limit is 1024",
        ),
        (lambda: real("DIV"), "DIV .*has 1 inputs and 1 outputs"),
        (lambda: real("SIN", 1), "SIN .*has 2 inputs and 1 outputs"),
        (lambda: real("MUL", 1, BUILTIN.TANH), "operator 3 MUL .* of two tensors"),
        (
            lambda: (s := Sketch(1, 3, 4, 5)).add(
                *(BUILTIN.CONCATENATION, schema.ConcatenationOptionsT(axis=3), (1, 3, 4, 10), s.first), grid=(0.1, 0)
            ),
            "operator 0 CONCATENATION .* same scale",
        ),
        (
            lambda: (s := Sketch(1, 5, 3)).add(
                BUILTIN.PAD, schema.PadOptionsT(), (1, 5, 4), s.ints((0, 0), (0, 0), (1, 0))
            ),
            "only height and width",
        ),
        (
            lambda: (s := Sketch(1, 5, 3)).add(
                *(BUILTIN.PADV2, schema.PadV2OptionsT(), (1, 6, 3), s.ints((0, 0), (0, 1), (0, 0))),
                s.tensor((), GRID, data=np.array(GRID[1] + 1, np.int8)),
            ),
            "a value other than zero",
        ),
        (
            lambda: (s := Sketch(1, 4, 5, 3)).add(
                *(BUILTIN.MIRROR_PAD, schema.MirrorPadOptionsT(), (1, 9, 5, 3)),
                s.ints((0, 0), (5, 0), (0, 0), (0, 0)),
            ),
            "pads .* the file is damaged",
        ),
        *(
            (
                lambda size=size: Sketch(1, 3, 4, 6).add(
                    BUILTIN.SPACE_TO_DEPTH, schema.SpaceToDepthOptionsT(blockSize=size), (1, 1, 1, 294)
                ),
                f"splits 3x4x6 by {size}: the file is damaged",
            )
            for size in (0, 7)
        ),
        (
            lambda: Sketch(1, 3, 4).add(BUILTIN.UNPACK, schema.UnpackOptionsT(num=2, axis=1), (1, 4)),
            "unpacks axis 1 of .1, 3, 4. into 1",
        ),
        (
            lambda: (
                (s := Sketch(1, 1, 14, 5))
                .add(BUILTIN.SPACE_TO_BATCH_ND, None, (2, 1, 8, 5), s.ints(1, 2), s.ints([0, 0], [1, 1]))
                .add(BUILTIN.ABS, None, (2, 1, 8, 5))
            ),
            "operator 0 SPACE_TO_BATCH_ND .* pads, which",
        ),
        (
            lambda: transposed((1, 9, 6, 4), schema.Padding.SAME, strideH=2, strideW=2),
            "9x6 doesn't fit its input 4x3",
        ),
        (lambda: transposed((1, 8, 6, 4), schema.Padding.SAME, strideH=0, strideW=2), "strides .0, 2."),
        (
            lambda: (s := Sketch(1, 4, 4, 6)).add(
                BUILTIN.ADD, schema.AddOptionsT(), (1, 4, 4, 6), s.tensor((5,), data=np.ones(5, np.int8))
            ),
            "operator 0 ADD .* same shape, or size 1",
        ),
        (
            lambda: (s := Sketch(1, 4, 1, 6)).add(
                BUILTIN.PRELU, None, (1, 4, 4, 6), s.tensor((4, 1), data=np.ones((4, 1), np.int8))
            ),
            "must be computed, and have the output's shape",
        ),
        (
            lambda: (s := Sketch(1, 4, 4, 6)).add(BUILTIN.MINIMUM, None, (1, 4, 4, 6), s.last, grid=(0.1, 0)),
            "operator 0 MINIMUM .* same scale and zero point",
        ),
        (
            lambda: (s := Sketch(1, 4, 4, 6)).add(BUILTIN.PRELU, None, (1, 4, 4, 6), s.last),
            "its slopes 't0' must be a constant",
        ),
        (
            lambda: Sketch(1, 40, 40, 1).add(
                BUILTIN.AVERAGE_POOL_2D,
                schema.Pool2DOptionsT(strideH=1, strideW=1, filterHeight=30, filterWidth=30, padding=1),
                (1, 11, 11, 1),
            ),
            r"operator 0 AVERAGE_POOL_2D \(tensor 't1'\): op 0",
        ),
    ],
)
def test_what_operators_refuse(make: Callable[[], Sketch], message: str) -> None:
    refuse(make(), message)


def product(shape: tuple[int, ...]) -> Sketch:
    """A product with a constant of this shape."""
    sketch = Sketch(1, 4, 6)
    other = sketch.tensor(shape, data=np.ones(shape, np.int8))
    return sketch.add(BUILTIN.BATCH_MATMUL, schema.BatchMatMulOptionsT(), (1, 4, 3), other)


def real(name: str, more: int = 0, before: int | None = None) -> Sketch:
    """A function of real numbers; more: how often it reads the input, too; before: a function of the integers."""
    sketch, shape = Sketch(1, 4, 4, 2), (1, 4, 4, 2)
    one = sketch.add(BUILTIN.DEQUANTIZE, None, shape, kind=TYPE.FLOAT32).last
    if before is not None:
        sketch.last = sketch.first
        sketch.add(before, None, shape, grid=(1 / 128, 0)).add(BUILTIN.DEQUANTIZE, None, shape, kind=TYPE.FLOAT32)
    options = schema.MulOptionsT() if name == "MUL" else None
    sketch.add(getattr(BUILTIN, name), options, shape, *([one] * more), kind=TYPE.FLOAT32)
    return sketch.add(BUILTIN.QUANTIZE, schema.QuantizeOptionsT(), shape)


@pytest.mark.parametrize(
    ("tensor", "shape", "message"),
    [(-1, [1, 8, 5, 4], "declared is .1, 8, 6, 4."), (2, [4, 3, 2, 6], "for 5 channels in, 4 out")],
)
def test_transposed_convolutions_of_other_shapes_are_refused(tensor: int, shape: list[int], message: str) -> None:
    other = transposed((1, 8, 6, 4), schema.Padding.SAME, strideH=2, strideW=2)
    other.tensors[other.last if tensor < 0 else tensor].shape = shape
    refuse(other, message)


def test_damage_between_operators_is_refused() -> None:
    refuse(shapes(5), "element 5 of 4: the file is damaged")
    model = schema.ModelT.InitFromPackedBuf(bytearray(real_parts()))
    model.subgraphs[0].tensors[model.subgraphs[0].operators[2].outputs[0]].type = TYPE.INT8
    refuse(packed(model), "makes another type than float32 from floats")


def dead_channels(kind: str, bias: list[int], live: int = 0, fused: int = 1) -> Sketch:
    """A layer whose channels have only a bias, with scales as small as converters give dead channels."""
    sketch, count = Sketch(1, 4, 4, 6, grid=(0.0235, -128)), len(bias)
    shape = (count, 1, 1, 6) if kind == "conv" else (1, 1, 1, count) if kind == "depthwise" else (count, 96)
    values = np.zeros(shape, np.int8)
    values.reshape(-1)[:live] = 1
    scales = [1e-10 / (i + 1) for i in range(count)]
    axis = 3 if kind == "depthwise" else 0
    weights = sketch._tensor(shape, TYPE.INT8, scales, [0] * count, values, axis)
    told = sketch._tensor((count,), TYPE.INT32, [0.0235 * s for s in scales], [0] * count, np.array(bias, np.int32))
    if kind == "dense":
        sketch.add(BUILTIN.RESHAPE, None, (1, 96), sketch.ints(1, 96), grid=(0.0235, -128))
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=fused)
        return sketch.add(BUILTIN.FULLY_CONNECTED, options, (1, count), weights, told, grid=(0.03, -128))
    fields = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "fusedActivationFunction": fused}
    if kind == "conv":
        return sketch.add(BUILTIN.CONV_2D, conv_options(**fields), (1, 4, 4, count), weights, told, grid=(0.03, -128))
    options = schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **fields)
    return sketch.add(BUILTIN.DEPTHWISE_CONV_2D, options, (1, 4, 4, count), weights, told, grid=(0.03, -128))


@pytest.mark.parametrize("fused", [0, 1, 3])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_biases_of_dead_channels_are_bounded(kind: str, fused: int) -> None:
    """As in MLPerf Tiny's person detection: |bias| slightly over 2^30, or as large as int32 allows."""
    hair = (1 << 30) + 5
    bias = [hair, -hair, 2**31 - 1, -(2**31), 1000, 0]
    model = check_same(dead_channels(kind, bias, fused=fused).file())
    [op] = [op for op in model.ops if op.weights is not None]
    assert np.abs(folded_bias(model, op)).max() == MAX_BIAS and op.bias[4:].tolist() == [1000, 0]


def test_biases_that_matter_are_refused_by_name() -> None:
    """If a bias beyond the limit can change an output, the error names the operator and its weights."""
    sketch = dead_channels("conv", [(1 << 30) + 5, 0, 0, 0, 0, 0])
    coarse = sketch.tensors[sketch.last].quantization
    for i in (1, 2):
        sketch.tensors[i].quantization.scale = [3e-9 if i == 1 else 3e-9 * 0.0235] * 6
    coarse.scale = [0.0235 * 3e-9 * (1 << 30) / 17.4]  # 2^30 is 17.4 steps, and 1.01 times that 17.6
    bias = np.array([1084479242, 0, 0, 0, 0, 0], np.int32)
    sketch.buffers[sketch.tensors[2].buffer] = schema.BufferT(data=bias.view(np.uint8))
    refuse(
        sketch, r"operator 0 CONV_2D \(tensor 't3'\): channel 0 of the weights 't1' has a bias of 1084479242 .*prune"
    )


def test_too_long_networks_are_refused() -> None:
    sketch = Sketch(1, 4)
    for _ in range(MAX_OPS + 1):
        sketch.dense(4, 4)
    refuse(sketch, f"more than {MAX_OPS} ops")


def test_several_subgraphs_inputs_and_outputs_are_refused() -> None:
    model = schema.ModelT.InitFromPackedBuf(bytearray(Sketch(1, 4).dense(4, 4).file()))
    graph = model.subgraphs[0]
    for change, message in (
        (lambda: setattr(graph, "inputs", [0, 0]), "2 inputs"),
        (lambda: setattr(graph, "outputs", [2, 2]), "2 outputs"),
        (lambda: model.subgraphs.append(graph), "2 subgraphs, must have one, or two if CALL_ONCE"),
        (lambda: model.subgraphs.extend([graph, graph]), "3 subgraphs"),
        (lambda: setattr(model, "version", 2), "schema version 2"),
    ):
        change()
        refuse(packed(model), message)
        graph.inputs, graph.outputs = [0], [2]
        model.subgraphs, model.version = [graph], 3


def test_other_files_are_refused() -> None:
    for file in (b"", b"TFL3", b"\0" * 8, bytes(range(256)), b"\0\0\0\0TFL3" + bytes(50), b"\xff" * 4 + b"TFL3"):
        refuse(file, "the model: ")


# ---- damage ----------------------------------------------------------------------------------------------------------


def sound_or_refused(file: bytes) -> bool:
    """Whether a file, valid or not, gives a model that the core accepts; otherwise it must be refused."""
    try:
        model = import_tflite(file)
    except TfliteError:
        return False
    check_model(pack_model(model))
    return True


def test_truncated_files() -> None:
    kinds = ("conv", "pad", "depthwise", "branches", "max_pool", "lookup", "residual", "mean", "dense", "softmax")
    for file in (write_tflite(random_model(seed, kinds=kinds, oracle=True)) for seed in range(3)):
        assert sound_or_refused(file)
        for size in range(0, len(file) - 64, 7):
            sound_or_refused(file[:size])


def test_forged_counts_take_no_memory_and_no_time() -> None:
    """A vector that claims all of memory, and tables that are all the same."""
    file = bytearray(Sketch(1, 4).dense(4, 4).file())
    for at in range(0, len(file) - 4, 4):
        forged = bytes(file[:at]) + b"\xff\xff\xff\x7f" + bytes(file[at + 4 :])
        sound_or_refused(forged)


def test_codes_are_the_schema_s() -> None:
    """All codes, so that every refusal names its operator."""
    theirs = {name: code for name, code in vars(BUILTIN).items() if isinstance(code, int)}
    theirs.pop("PLACEHOLDER_FOR_GREATER_OP_CODES")
    assert {code.name: int(code) for code in Code} == theirs


def test_extras_that_are_missing_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for extra in ("tensorflow", "torch"):
        monkeypatch.setitem(sys.modules, extra, None)  # simulates a missing package
    for front in ("edgelora.importers.keras", "edgelora.importers.torch"):
        monkeypatch.delitem(sys.modules, front, raising=False)
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 4), np.float32))
    assert main(["import", "net.keras"]) == 1
    assert "net.keras: quantizing it needs --data" in capsys.readouterr().err
    assert main(["import", "net.keras", "--data", str(tmp_path / "x.npz")]) == 1
    assert "pip install 'edgelora[keras]'" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError, match="edgelora.torch"):
        edgelora.from_torch(None, None)
