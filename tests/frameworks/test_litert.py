"""Operators that LiteRT has and TensorFlow Lite Micro lacks: tables equal LiteRT's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from tflite_writer import BUILTIN, Sketch, schema

from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.session import Session
from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.flatbuffer import TfliteError

EVERY = np.arange(-128, 128).astype(np.int8)
TURNS = 150


def litert(file: bytes, x: NDArray[np.int8] = EVERY) -> NDArray[np.int8]:
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=file, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    interpreter.set_tensor(source["index"], x.reshape(source["shape"]))
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])).reshape(-1)


@pytest.mark.parametrize("name", ["GELU", "EXP", "LOG", "RELU_N1_TO_1", "RELU_0_TO_1", "ABS", "RSQRT", "SQRT"])
def test_tables_are_litert_s(name: str) -> None:
    """All inputs, with random scales and zero points."""
    rng = np.random.default_rng(list(name.encode()))
    taken = 0
    for turn in range(TURNS):
        scales = np.exp(rng.uniform(-1, 1, 2) * (3 if turn % 2 else 8) - 3).astype(np.float32)
        points = [-128 if name in ("RSQRT", "SQRT") else int(rng.integers(-128, 128)), int(rng.integers(-128, 128))]
        options = schema.GeluOptionsT(approximate=bool(rng.integers(2))) if name == "GELU" else None
        source, target = zip(scales.tolist(), points, strict=True)
        sketch = Sketch(1, 16, 16, 1, grid=source).add(getattr(BUILTIN, name), options, (1, 16, 16, 1), grid=target)
        try:
            table = import_tflite(sketch.file()).ops[0].table
        except TfliteError:
            continue
        taken += 1
        assert litert(sketch.file()).tolist() == table.tolist(), f"turn {turn}: {source} -> {target}"
    assert taken > TURNS / 2


@pytest.mark.parametrize("times", [(1, 2, 1, 1), (1, 1, 3, 1), (1, 1, 1, 2), (1, 2, 3, 2), (1, 1, 1, 1)])
def test_tile_is_litert_s(times: tuple[int, ...]) -> None:
    sketch = Sketch(1, 3, 4, 5)
    sketch.add(BUILTIN.TILE, None, tuple(np.multiply((1, 3, 4, 5), times).tolist()), sketch.ints(*times))
    sketch.add(BUILTIN.ABS, None, tuple(np.multiply((1, 3, 4, 5), times).tolist()), grid=(0.04, -9))
    model = import_tflite(sketch.file())
    session = Session(pack_model(model), bytes(len(model.ops)), "infer")
    for seed in range(5):
        x = np.random.default_rng(seed).integers(-128, 128, (3, 4, 5)).astype(np.int8)
        session.infer(x)
        assert session.logits.tolist() == litert(sketch.file(), x).tolist()
