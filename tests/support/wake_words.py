"""The wake words of `pymicro_wakeword`: real streaming networks, and TensorFlow Lite Micro's outputs for frames."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tflite_writer import TflmModel, packed, schema

from edgelora.core.formats.elm import pack_model
from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.file import read_graph

PACKAGE = find_spec("pymicro_wakeword")  # only for its files
MODELS = Path(str(PACKAGE and PACKAGE.origin)).parent / "models"
WAKE_WORDS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
FRAMES = 120
LAST_CONVOLUTION = 63  # output tensor of the last convolution in alexa


def wake_word(name: str) -> bytes:
    return (MODELS / f"{name}.tflite").read_bytes()


def sound(frames: int, seed: int = 0) -> NDArray[np.int8]:
    """Random frames of three steps of 40 mel bands with varying loudness: int8 [frames, 1, 3, 40]."""
    rng, level, found = np.random.default_rng(seed), 0.0, []
    for _ in range(frames):
        level = 0.9 * level + rng.normal()
        found.append(rng.normal(-100 + 20 * level, 30, (1, 3, 40)))
    return np.clip(found, -128, 127).astype(np.int8)


def ending_at(file: bytes, tensor: int) -> bytes:
    """The network with one of its inner tensors as output."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(file))
    model.subgraphs[0].outputs, model.signatureDefs = [tensor], None
    return packed(model)


def inner_tensors(file: bytes) -> list[int]:
    """The outputs of the layers: of convolutions, ring buffers and their parts."""
    graph = read_graph(file)
    computed = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONCATENATION", "STRIDED_SLICE", "SPLIT_V")
    return [tensor for op in graph.operators if op.name in computed for tensor in op.outputs]


def micro_outputs(file: bytes, frames: NDArray[np.int8]) -> list[list[int]]:
    """TensorFlow Lite Micro's output for each frame of a stream, as int8."""
    micro = TflmModel(file)
    return [micro(frame).tolist() for frame in frames]


@functools.cache
def device_files() -> dict[str, bytes]:
    """Files for the device suite: the network, and the part up to its last convolution, each with frames.

    A `.frames` file has frames, each followed by its outputs.
    """
    frames, files = sound(100), {}
    for name, file in (("alexa", wake_word("alexa")), ("inside", ending_at(wake_word("alexa"), LAST_CONVOLUTION))):
        outputs = np.array(micro_outputs(file, frames), np.int8)
        files[f"{name}.elm"] = pack_model(import_tflite(file))
        files[f"{name}.frames"] = np.concatenate([frames.reshape(len(frames), -1), outputs], axis=1).tobytes()
    return files
