"""Merged files in TensorFlow Lite itself, which verifies the whole of a file before it runs it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from random_models import random_adapter, random_input, random_model
from tflite_writer import write_tflite

from edgelora import formats, twin
from edgelora.importers import tflite


@pytest.mark.parametrize("seed", range(12))
def test_tensorflow_lite_takes_patched_and_written_files(seed: int) -> None:
    """Both are whole, and its reference kernels compute what the twin does, but for a step here and there."""
    file = write_tflite(random_model(seed, "medium", ("conv", "depthwise", "residual", "mean", "dense"), oracle=True))
    model = tflite.import_tflite(file)
    tflite.calibrate(model, tflite.inputs_for_calibration(model, None))
    elm = formats.pack_model(model)
    ela = formats.pack_adapter(random_adapter(np.random.default_rng(seed), model))
    patched = tflite.merge_tflite(tflite.find_source(file, formats.base_id(elm), "base"), ela, refit=bool(seed % 2))
    for merged in (patched, tflite.merge_elm(elm, ela, refit=bool(seed % 2))):
        lite = tf.lite.Interpreter(
            model_content=merged.file("mine.tflite"),
            experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF,
        )
        lite.allocate_tensors()
        [source], [target] = lite.get_input_details(), lite.get_output_details()
        session = twin.Session(merged.file("mine.elm"), bytes(len(model.ops)), "infer")
        for x in (random_input(np.random.default_rng(turn), model) for turn in range(5)):
            lite.set_tensor(source["index"], x.reshape(source["shape"]))
            lite.invoke()
            session.infer(x)
            steps = np.abs(lite.get_tensor(target["index"]).reshape(-1).astype(int) - session.logits)
            # Equal to TensorFlow Lite Micro to the bit (tests/importers); these kernels round a rare product otherwise.
            assert steps.max() <= 1 and np.mean(steps) <= 0.05
