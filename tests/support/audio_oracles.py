"""Audio oracles: pymicro-features, TensorFlow Lite Micro, pymicro-wakeword. MissingPackage without them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import MissingPackage
from edgelora.core.front_ends import AUDIO_HOP, AUDIO_SIZE, AUDIO_UNIT

ARENA = 1_000_000  # bytes for TensorFlow Lite Micro


def package(name: str) -> Any:
    """A module of an oracle's package."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        distribution = name.partition(".")[0].replace("_", "-")
        raise MissingPackage(f"{distribution} is needed to compare with: pip install {distribution}") from error


def _steps(samples: NDArray[np.int16]) -> Iterator[bytes]:
    for start in range(0, len(samples) - AUDIO_HOP + 1, AUDIO_HOP):
        yield samples[start : start + AUDIO_HOP].tobytes()


def micro_frontend(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """TensorFlow Lite Micro's features of int16 samples, [rows, 40], in steps of `AUDIO_UNIT`."""
    front, rows = package("pymicro_features").MicroFrontend(), []
    for step in _steps(samples):
        if found := front.process_samples(step).features:
            rows.append(found)
    return np.round(np.array(rows).reshape(-1, AUDIO_SIZE) / AUDIO_UNIT).astype(np.int16)


def as_firmware(rows: NDArray[np.int16]) -> NDArray[np.int8]:
    """Features quantized to int8 as deployed firmware does."""
    return np.clip((rows.astype(np.int32) * 256 + 333) // 666 - 128, -128, 127).astype(np.int8)


def micro_outputs(file: bytes, frames: NDArray[np.int8]) -> NDArray[np.int8]:
    """TensorFlow Lite Micro's outputs, as int8 [frames, outputs], of a stream of a .tflite file's inputs."""
    interpreter = package("tflite_micro.python.tflite_micro.runtime").Interpreter.from_bytes(file, arena_size=ARENA)
    shape, found = interpreter.get_input_details(0)["shape"], []
    for frame in frames:
        interpreter.set_input(frame.reshape(shape), 0)
        interpreter.invoke()
        y = interpreter.get_output(0).reshape(-1)
        found.append(y.astype(np.int16) - (128 if y.dtype == np.uint8 else 0))
    return np.array(found).astype(np.int8)


def wakeword_decisions(manifest: Path, rows: NDArray[np.int16]) -> NDArray[np.bool_]:
    """pymicro-wakeword's decision on a model at every frame of a stream of `micro_frontend`'s rows."""
    word = package("pymicro_wakeword").MicroWakeWord.from_config(manifest)
    values = rows * AUDIO_UNIT
    said = [bool(word.process_streaming(row[None, None])) for row in values]
    return np.array(said[word.stride - 1 :: word.stride])


def decided(outputs: NDArray[np.uint8], cutoff: float, window: int) -> NDArray[np.bool_]:
    """pymicro-wakeword's rule on outputs in 1/256: whether the mean of the last `window` is above the cutoff."""
    sums, said = np.cumsum([0.0, *outputs.tolist()]), np.zeros(len(outputs), bool)
    said[window - 1 :] = (sums[window:] - sums[:-window]) / window / 256 > cutoff
    return said
