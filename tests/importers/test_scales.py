"""Operators with every scale that a file can have: TensorFlow Lite Micro equals what the importer accepts."""

from __future__ import annotations

import numpy as np
import pytest
from fresh import SEED, rounds

from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.flatbuffer import TfliteError

pytest.importorskip("tflite_micro")
from tflite_mutants import verdict
from tflite_writer import BUILTIN, TYPE, Sketch, conv_options, schema

Rng = np.random.Generator
Grid = tuple[float, int]

EVERY = (1, 16, 16, 1)
SHAPE = (1, 4, 5, 6)
ENDS = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0), "SOFTMAX": (1 / 256, -128)}
TABLES = ("LOGISTIC", "TANH", "RELU", "RELU6", "QUANTIZE", "LEAKY_RELU", "HARD_SWISH", "ABS", "ELU", "RSQRT")
PAIRS = ("ADD", "SUB", "MUL", "PRELU", "MINIMUM", "MAXIMUM")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", (*TABLES, *PAIRS, "SOFTMAX", "MEAN", "CONV_2D", "FULLY_CONNECTED"))
def test_every_scale_is_refused_or_equal(name: str) -> None:
    rng = np.random.default_rng([SEED, *name.encode()])
    taken = 0
    for turn in range(rounds(160)):
        said = verdict(drawn(name, rng).file(), rng)
        assert said in ("equal", "refused"), f"seed {SEED}, {name} {turn}: {said}"
        taken += said == "equal"
    assert taken > 4


def drawn(name: str, rng: Rng) -> Sketch:
    """One operator between grids with very different or similar scales, powers of two and their neighbours."""
    wide = float(rng.choice([3, 10, 25]))
    source = grid(rng, wide)
    if name == "RSQRT" and rng.integers(4):
        source = (source[0], -128)
    target = ENDS.get(name) or beside(rng, source, wide)
    if name in TABLES:
        if name not in ENDS and rng.integers(2):  # ratios that produce ties
            source, target = ((float(rng.integers(1, 60)) * 2.0**-9, point) for _, point in (source, target))
        return table(name, source, source if name == "RELU6" else target, rng)
    if name in PAIRS:
        return pair(name, (source, beside(rng, source, wide), target), rng)
    if name == "SOFTMAX":
        shape = (1, 4, int(rng.choice([1, 2, 3, 10, 40])))
        return Sketch(*shape, grid=source).add(BUILTIN.SOFTMAX, schema.SoftmaxOptionsT(beta=1.0), shape, grid=target)
    if name == "MEAN":
        sketch = Sketch(*SHAPE, grid=source)
        return sketch.add(
            BUILTIN.MEAN, schema.ReducerOptionsT(keepDims=True), (1, 1, 1, 6), sketch.ints(1, 2), grid=target
        )
    return weighted(name, source, target, rng, wide)


def scale(rng: Rng, wide: float) -> float:
    power = np.float32(2.0 ** int(rng.integers(-int(wide * 1.44), int(wide * 1.44) + 1)))
    near = np.nextafter(power, np.float32(rng.choice([0, np.inf])), dtype=np.float32)
    return float(rng.choice([np.float32(np.exp(rng.uniform(-wide, wide))), power, near]))


def grid(rng: Rng, wide: float) -> Grid:
    return scale(rng, wide), int(rng.choice([-128, 127, 0, *rng.integers(-128, 128, 5)]))


def beside(rng: Rng, source: Grid, wide: float) -> Grid:
    other, point = grid(rng, wide)
    return (other if rng.integers(2) else float(np.float32(source[0] * np.exp(rng.uniform(-3, 3)))), point)


def table(name: str, source: Grid, target: Grid, rng: Rng) -> Sketch:
    options = {
        "LEAKY_RELU": schema.LeakyReluOptionsT(alpha=float(rng.choice([0, 0.01, 0.3, 1, 2, scale(rng, 4)]))),
        "HARD_SWISH": schema.HardSwishOptionsT(),
        "QUANTIZE": schema.QuantizeOptionsT(),
    }.get(name)
    return Sketch(*EVERY, grid=source).add(getattr(BUILTIN, name), options, EVERY, grid=target)


def pair(name: str, grids: tuple[Grid, Grid, Grid], rng: Rng) -> Sketch:
    sketch, same = Sketch(*SHAPE, grid=grids[0]), name in ("MINIMUM", "MAXIMUM")
    other = [SHAPE, (6,), (1, 1, 6), (1,), ()][rng.integers(5)]
    data = rng.integers(-128, 128, other).astype(np.int8)
    inputs = [sketch.last, sketch.tensor(other, grids[0] if same else grids[1], data=data)]
    makers = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}
    options = makers[name](fusedActivationFunction=int(rng.choice([0, 1, 3]))) if name in makers else None
    sketch.last = target = sketch.tensor(SHAPE, grids[0] if same else grids[2])
    turned = name != "PRELU" and rng.integers(2)
    sketch._operator(getattr(BUILTIN, name), inputs[::-1] if turned else inputs, [target], options)
    return sketch


def weighted(name: str, source: Grid, target: Grid, rng: Rng, wide: float) -> Sketch:
    outputs, dense = 4, name == "FULLY_CONNECTED"
    ratio = np.exp(rng.uniform(-9, 0, outputs)) * target[0] / source[0]
    scales = np.where(rng.integers(0, 2, outputs), ratio, [scale(rng, wide) for _ in range(outputs)])
    scales = np.clip(scales, 1e-37 / source[0], 1e37 / source[0]).astype(np.float32)
    sketch = Sketch(1, 12, grid=source) if dense else Sketch(1, 4, 4, 3, grid=source)
    shape, zeros = (outputs, 12) if dense else (outputs, 1, 1, 3), [0] * outputs
    weights = sketch._tensor(shape, TYPE.INT8, scales, zeros, rng.integers(-127, 128, shape).astype(np.int8))
    most = 2 ** int(rng.integers(1, 31))
    biases = rng.integers(-most, most, outputs).astype(np.int32)
    bias = sketch._tensor((outputs,), TYPE.INT32, np.float32(source[0]) * scales, zeros, biases)
    fused = int(rng.choice([0, 1, 3]))
    if dense:
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=fused)
        return sketch.add(BUILTIN.FULLY_CONNECTED, options, (1, outputs), weights, bias, grid=target)
    options = conv_options(fusedActivationFunction=fused)
    return sketch.add(BUILTIN.CONV_2D, options, (1, 4, 4, outputs), weights, bias, grid=target)


@pytest.mark.parametrize("name", ["LOGISTIC", "TANH"])
@pytest.mark.parametrize("step", [15.99, 16, 17.87, 31.9])
def test_steps_above_sixteen_leave_only_both_ends(name: str, step: float) -> None:
    """TFLite Micro maps the zero point itself to the lower end."""
    sketch = table(name, (step, 101), ENDS[name], np.random.default_rng(0))
    assert verdict(sketch.file(), np.random.default_rng(0)) == "equal"


@pytest.mark.parametrize(
    ("name", "source", "target", "message"),
    [
        ("LOGISTIC", 2.0**-29, ENDS["LOGISTIC"][0], r"operator 0 LOGISTIC .* input scale .* too small"),
        ("TANH", 2.0**-40, ENDS["TANH"][0], r"operator 0 TANH .* input scale .* too small"),
        ("HARD_SWISH", 0.01, 10, r"operator 0 HARD_SWISH .* output scale 10 .* too large"),
        ("HARD_SWISH", 0.01, 1e-6, r"operator 0 HARD_SWISH .* output scale 1e-06 .* too small"),
        ("RSQRT", 0.01, 0.01, r"operator 0 RSQRT .* zero point is 3, must be -128: it has values below 0"),
        ("ELU", 1e9, 0.1, r"operator 0 ELU .* output scale 0.1 is too small .* more than 2\^30 steps"),
        ("HARD_SWISH", 1e-7, 1e-8, r"operator 0 HARD_SWISH .* input scale 1e-07 .* too small"),
    ],
)
def test_scales_for_which_tflite_has_no_result(name: str, source: float, target: float, message: str) -> None:
    point = ENDS[name][1] if name in ENDS else 3
    with pytest.raises(TfliteError, match=message):
        import_tflite(table(name, (source, 3), (target, point), np.random.default_rng(0)).file())
