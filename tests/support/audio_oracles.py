"""Audio oracles: pymicro-features and pymicro-wakeword."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymicro_features import MicroFrontend
from pymicro_wakeword import MicroWakeWord

from edgelora.core.front_ends import AUDIO_HOP, AUDIO_SIZE, AUDIO_UNIT


def _steps(samples: NDArray[np.int16]) -> Iterator[bytes]:
    for start in range(0, len(samples) - AUDIO_HOP + 1, AUDIO_HOP):
        yield samples[start : start + AUDIO_HOP].tobytes()


def micro_frontend(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """TensorFlow Lite Micro's features of int16 samples, [rows, 40], in steps of `AUDIO_UNIT`."""
    front, rows = MicroFrontend(), []
    for step in _steps(samples):
        if found := front.process_samples(step).features:
            rows.append(found)
    return np.round(np.array(rows).reshape(-1, AUDIO_SIZE) / AUDIO_UNIT).astype(np.int16)


def as_firmware(rows: NDArray[np.int16]) -> NDArray[np.int8]:
    """Features quantized to int8 as deployed firmware does."""
    return np.clip((rows.astype(np.int32) * 256 + 333) // 666 - 128, -128, 127).astype(np.int8)


def wakeword_decisions(manifest: Path, rows: NDArray[np.int16]) -> NDArray[np.bool_]:
    """pymicro-wakeword's decision on a model at every frame of a stream of `micro_frontend`'s rows."""
    word = MicroWakeWord.from_config(manifest)
    values = rows * AUDIO_UNIT
    said = [bool(word.process_streaming(row[None, None])) for row in values]
    return np.array(said[word.stride - 1 :: word.stride])


def decided(outputs: NDArray[np.uint8], cutoff: float, window: int) -> NDArray[np.bool_]:
    """pymicro-wakeword's rule on outputs in 1/256: whether the mean of the last `window` is above the cutoff."""
    sums, said = np.cumsum([0.0, *outputs.tolist()]), np.zeros(len(outputs), bool)
    said[window - 1 :] = (sums[window:] - sums[:-window]) / window / 256 > cutoff
    return said
