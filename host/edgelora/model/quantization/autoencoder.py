"""Quantization of autoencoders: input and output share a grid, so an input is its own target."""

from __future__ import annotations

from edgelora.base.errors import InputError
from edgelora.core.formats.monitor import STEPS
from edgelora.core.formats.network import QuantModel
from edgelora.model.floatnet.layers import Array, FloatNet

from .quantize import quantize


def quantize_autoencoder(net: FloatNet, x: Array) -> QuantModel:
    """Quantizes an autoencoder, calibrating on x [N, H, W, C] in spreads of its values.

    Input and output have `STEPS` steps for 1.0 and zero point 0, whatever the range of x: values beyond 4 are clipped,
    and an int8 input is the target of its reconstruction. The loss is mean_squared_error. InputError for a network
    whose output is not as large as its input.
    """
    model = quantize(net, x, head_room=1.0, ends=(1 / STEPS, 0))
    if model.input.size != model.output.size:
        raise InputError(
            f"{model.output.size} outputs for {model.input.size} inputs: an autoencoder has the same number of both"
        )
    model.loss = "mean_squared_error"
    return model
