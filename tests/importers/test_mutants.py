"""Mutated `.tflite` files: for those that the importer accepts, TensorFlow Lite Micro computes the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
from fresh import FULL, SEED

from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.flatbuffer import TfliteError

pytest.importorskip("tflite_micro")
from tflite_mutants import ends, flattened, one_dimensional, parts, real_parts, rows, search, seeds, shapes, verdict
from tflite_writer import BUILTIN, TYPE, Sketch, conv_options, schema

MUTANTS = 6000 if FULL else 300


def test_mutants_are_refused_or_equal() -> None:
    """Searches with another seed in every run."""
    counts, wrong = search(MUTANTS, SEED)
    assert not wrong, "\n".join(wrong)
    assert counts["equal"] > MUTANTS // 20 and counts["refused"] > MUTANTS // 2, counts


def test_originals_of_mutants_are_imported() -> None:
    rng = np.random.default_rng(0)
    assert [verdict(make(), rng) for make in seeds(rng)] == ["equal"] * len(seeds(rng))


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (one_dimensional, ["conv", "max_pool", "depthwise", "conv", "dense"]),
        (rows, ["conv", "conv", "softmax"]),
        (shapes, ["dense"]),
        (real_parts, ["dense", "gather", "gather", "multiply"]),
        (flattened, ["max_pool", "dense"]),
        (ends, ["pad", "depthwise", "average_pool", "mean"]),
        (parts, [*["slice"] * 8, "concatenate"]),
    ],
)
def test_originals_take_no_other_ops(make, kinds: list[str]) -> None:
    assert [op.kind for op in import_tflite(make()).ops if op.kind != "lookup"] == kinds


def turned_output() -> Sketch:
    sketch = Sketch(1, 12).dense(12, 16)
    sketch.tensors[sketch.last].shape = [16, 1]
    return sketch


def constant_input() -> Sketch:
    sketch = Sketch(1, 12).dense(12, 3)
    sketch.tensors[0].buffer = sketch.tensors[sketch.weights(1, 12)].buffer
    return sketch


def other_axis() -> Sketch:
    sketch = Sketch(1, 4, 2, 2)
    axis = sketch._tensor([], TYPE.INT32, data=np.array(2, np.int32))
    halves = [sketch.tensor((1, 4, 2, 1)) for _ in range(2)]
    sketch._operator(BUILTIN.SPLIT, [axis, sketch.first], halves, schema.SplitOptionsT(numSplits=2))
    sketch.last = halves[1]
    return sketch


def joined_batches() -> Sketch:
    options = schema.ConcatenationOptionsT(axis=3)
    sketch = Sketch(1, 2, 2, 4)
    sketch.add(BUILTIN.CONCATENATION, options, (2, 1, 4, 4), sketch.first)
    return sketch.add(BUILTIN.RESHAPE, None, (1, 32), sketch.ints(1, 32)).dense(32, 3)


def bias_of_another_scale() -> Sketch:
    sketch = Sketch(1, 12)
    bias = sketch.tensor((3,), (0.5, 0), TYPE.INT32, np.ones(3, np.int32))
    return sketch.add(BUILTIN.FULLY_CONNECTED, schema.FullyConnectedOptionsT(), (1, 3), sketch.weights(3, 12), bias)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (turned_output, r"operator 0 FULLY_CONNECTED .* output has shape \[16, 1\], for 16 outputs"),
        (
            lambda: Sketch(1, 3, 4).add(
                BUILTIN.SOFTMAX, schema.SoftmaxOptionsT(beta=1.0), (1, 12), grid=(1 / 256, -128)
            ),
            r"operator 0 SOFTMAX .* shape \[1, 12\], must be \[1, 3, 4\]",
        ),
        (constant_input, "the input 't0' has a value in the file"),
        (other_axis, r"operator 0 SPLIT .* \[1, 4, 2, 1\], must be \[1, 4, 1, 2\]"),
        (joined_batches, r"operator 0 CONCATENATION .* \[2, 1, 4, 4\], must be \[1, 2, 2, 8\]"),
        (
            lambda: (s := Sketch(1, 24, 3)).add(
                BUILTIN.EXPAND_DIMS, schema.ExpandDimsOptionsT(), (1, 1, 24, 3), s.ints(3)
            ),
            "operator 0 EXPAND_DIMS .* must be",
        ),
        (bias_of_another_scale, "operator 0 FULLY_CONNECTED .* bias 't1' has scale 0.5"),
        (
            lambda: (s := Sketch(1, 4, 4, 2)).add(
                BUILTIN.CONV_2D, conv_options(), (1, 4, 4, 3), s.weights(3, 1, 1, 2), -1
            ),
            "operator 0 CONV_2D .* omits its bias",
        ),
        (
            lambda: (s := Sketch(1, 4, 4, 2)).add(BUILTIN.RELU, None, (1, 4, 4, 2), s.first),
            "operator 0 RELU .* has 2 inputs",
        ),
        (
            lambda: (s := Sketch(1, 4, 4, 2)).add(BUILTIN.ADD, schema.SubOptionsT(), (1, 4, 4, 2), s.first),
            "operator 0 ADD .* lacks its options",
        ),
    ],
)
def test_errors_that_mutants_have_found(make, message: str) -> None:
    with pytest.raises(TfliteError, match=message):
        import_tflite(make().file())
