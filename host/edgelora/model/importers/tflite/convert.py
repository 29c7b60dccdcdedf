"""Imports INT8 `.tflite` files, as written by TensorFlow Lite's converter, into a QuantModel.

The model's outputs equal, byte for byte, those of TensorFlow Lite Micro for the file. If that isn't possible,
TfliteError names the operator, its tensor and an alternative.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import check_limits, pack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.macs import op_macs
from edgelora.core.formats.network import QuantModel, layer_size
from edgelora.core.formats.signal import Signal
from edgelora.core.front_ends import AUDIO_HOP, AUDIO_SIZE, AudioFrontEnd
from edgelora.core.twin.session import Session
from edgelora.core.twin.trainable import trainable
from edgelora.model.datasets.babble import babble
from edgelora.model.datasets.recordings import inputs_of
from edgelora.model.quantization.calibrate import set_adapter_shifts

from .builder import Shape
from .file import read_graph
from .flatbuffer import TfliteError
from .graph import Importer

CALIBRATION_INPUTS = 64
BABBLE_SECONDS = 20
NOISE_FRAMES = 8  # frames of a noise sample, for networks with history
CALIBRATION_WORK = 1 << 25  # patch elements evaluated for one op


def import_tflite(
    data: bytes, labels: Sequence[str] = (), loss: str | None = None, name: str = "the model"
) -> QuantModel:
    """The model in a `.tflite` file, with adapter shifts not yet calibrated (see `calibrate`).

    labels: names of the outputs, by default their numbers; loss: one of LOSSES, by default chosen from the last op.
    Raises TfliteError, whose message begins with `name`, if the file is damaged or can't be computed exactly.
    """
    try:
        importer = Importer(read_graph(data))
        model = importer.run()
        set_loss(model, labels, loss, importer.ends_logistic)
        check_limits(model, "as .elm")
    except (TfliteError, FormatError) as error:
        raise TfliteError(f"{name}: {error}") from error
    return model


def set_loss(model: QuantModel, labels: Sequence[str], loss: str | None, ends_logistic: bool) -> None:
    model.loss = loss or _default_loss(model, ends_logistic)
    if model.loss == "binary_cross_entropy" and model.ops[-1].kind == "lookup" and not ends_logistic:
        raise TfliteError("loss binary_cross_entropy needs a network that ends in LOGISTIC or in its logits")
    outputs = model.output.size
    model.labels = list(labels)
    if labels and len(labels) not in (outputs, 2 if outputs == 1 else outputs):
        raise TfliteError(f"{len(labels)} labels are given for {outputs} outputs")
    if not labels and model.loss == "cross_entropy":
        model.labels = [str(number) for number in range(outputs)]


def _default_loss(model: QuantModel, ends_logistic: bool) -> str:
    """cross_entropy for softmax and logits, binary_cross_entropy for logistic outputs, else mean_squared_error."""
    shape = model.output.shape
    one_position = shape[0] * shape[1] == 1
    if model.ops[-1].kind == "softmax" and one_position:
        return "cross_entropy"
    if model.output.size == model.input.size and model.output.size > 1:
        return "mean_squared_error"
    if ends_logistic:
        return "binary_cross_entropy"
    return "cross_entropy" if one_position and shape[2] > 1 else "mean_squared_error"


# ---- calibration -----------------------------------------------------------------------------------------------------


def inputs_for_calibration(
    model: QuantModel, x: NDArray[Any] | None, most: int = CALIBRATION_INPUTS
) -> NDArray[np.int8]:
    """int8 samples [N, frames, height, width, channels] from x, real or int8 [N, ...].

    If x is None, they are noise or, for a network whose signal has the front end for sound, `babble`. Takes at most
    `most` samples, evenly spaced. Without history in the network, frames is 1. Raises ValueError for inputs that don't
    fit the network.
    """
    if x is None and model.signal and model.signal.front == "audio":
        return _babbled(model, model.signal, min(most, CALIBRATION_INPUTS))
    if x is None:
        rng, frames = np.random.default_rng(0), NOISE_FRAMES if model.has_history else 1
        shape = (most // frames, frames, *model.input.shape)
        return rng.integers(-128, 128, shape).astype(np.int8)
    frames, rest = divmod(math.prod(x.shape[1:]), model.input.size)
    if x.ndim < 2 or not len(x) or rest or frames < 1 or frames > 1 and not model.has_history:
        raise InputError(f"calibration inputs x are {x.shape}; the network takes [samples, {model.input.shape}]")
    if x.dtype != np.int8 and not (np.issubdtype(x.dtype, np.floating) and np.isfinite(x).all()):
        raise InputError(f"calibration inputs x are {x.dtype}; they must be int8, or finite real numbers")
    x = x.reshape(-1, frames, *model.input.shape)[:: -(-len(x) // most)]
    return x if x.dtype == np.int8 else model.input.quantize(x)


def _babbled(model: QuantModel, signal: Signal, most: int) -> NDArray[np.int8]:
    """Windows of babble, of as many frames as an output depends on."""
    rows = model.input.quantize(inputs_of(AudioFrontEnd().feed(babble(BABBLE_SECONDS)), signal))
    each, every, frames = model.input.size // AUDIO_SIZE, signal.hop // AUDIO_HOP, model.reach
    span = each + (frames - 1) * every
    starts = np.linspace(0, max(len(rows) - span, 0), most).astype(int)
    at = starts[:, None, None] + np.arange(frames)[:, None] * every + np.arange(each)
    windows: NDArray[np.int8] = rows[at % len(rows)].reshape(most, frames, *model.input.shape)
    return windows


def calibrate(model: QuantModel, x: NDArray[np.int8]) -> None:
    """Sets the adapter shifts of every conv and dense op from int8 samples [N, frames, height, width, channels].

    Uses the host twin's activations at each sample's last frame.
    """
    session = Session(pack_model(model), bytes(len(model.ops)), "infer")
    runs = [session.sample_activations(sample, model) for sample in x]
    for index, op in enumerate(model.ops):
        if op.is_matrix:
            height, width, _ = model.tensors[op.output].shape
            work = height * width * layer_size(model, index)[1]
            few = runs[: max(1, CALIBRATION_WORK // work)]
            set_adapter_shifts(model, index, np.stack([run[op.input] for run in few]).astype(np.float64))


# ---- what a person sees ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One op. parameters: number of weights and biases; macs: multiply-accumulates of an inference."""

    op: int
    kind: str
    output: Shape
    parameters: int
    macs: int
    adapter: bool


def layer_rows(elm: bytes, model: QuantModel) -> list[LayerRow]:
    """A row for each op of the model, whose file is `elm`. adapter: whether it can train one."""
    rows, able = [], trainable(elm, len(model.ops))
    for index, op in enumerate(model.ops):
        parameters = 0 if op.weights is None or op.bias is None else op.weights.size + op.bias.size
        shape = model.tensors[op.output].shape
        rows.append(LayerRow(index, op.kind, shape, parameters, op_macs(model, index), index in able))
    return rows
