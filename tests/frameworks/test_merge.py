"""Merged files in TensorFlow Lite, which verifies a whole file before running it."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import tensorflow as tf
from random_models import random_adapter, random_input, random_model
from tflite_writer import write_tflite

from edgelora.core.formats.ela import pack_adapter
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import Session
from edgelora.model.importers.tflite import convert
from edgelora.model.importers.tflite.convert import import_tflite, inputs_for_calibration
from edgelora.model.importers.tflite.merge import find_source, merge_elm, merge_tflite


def mean_of(model: QuantModel, x: np.ndarray) -> np.ndarray:
    """The input of the last layer, which is dense."""
    at = next(i for i, op in enumerate(model.ops) if op.kind == "mean")
    return reference.forward(model, x).y[at + 1].reshape(-1)


@pytest.mark.parametrize("seed", range(12))
def test_tensorflow_lite_takes_patched_and_written_files(seed: int) -> None:
    """Both are valid, and TensorFlow Lite's reference kernels give the twin's outputs, except for rare single steps."""
    file = write_tflite(random_model(seed, "medium", ("conv", "depthwise", "residual", "mean", "dense"), oracle=True))
    model = import_tflite(file)
    convert.calibrate(model, inputs_for_calibration(model, None))
    elm = pack_model(model)
    ela = pack_adapter(random_adapter(np.random.default_rng(seed), model))
    patched = merge_tflite(find_source(file, base_id(elm), "base"), ela, refit=bool(seed % 2))
    for merged in (patched, merge_elm(elm, ela, refit=bool(seed % 2))):
        lite = tf.lite.Interpreter(
            model_content=merged.file("mine.tflite"),
            experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        lite.allocate_tensors()
        [source], [target] = lite.get_input_details(), lite.get_output_details()
        twins = import_tflite(merged.file("mine.tflite"))
        session = Session(merged.file("mine.elm"), bytes(len(model.ops)), "infer")
        for x in (random_input(np.random.default_rng(turn), model) for turn in range(5)):
            lite.set_tensor(source["index"], x.reshape(source["shape"]))
            lite.invoke()
            session.infer(x)
            pooled = next(op["outputs"][0] for op in lite._get_ops_details() if op["op_name"] == "MEAN")
            assert np.array_equal(lite.get_tensor(pooled).reshape(-1), mean_of(twins, x))
            # Its dense layer sometimes rounds differently from TensorFlow Lite Micro's, which the twin equals.
            steps = np.abs(lite.get_tensor(target["index"]).reshape(-1).astype(int) - session.logits)
            assert steps.max() <= 1 and np.mean(steps) <= 0.05
