"""A small autoencoder, and its reconstruction error computed in floats."""

from __future__ import annotations

import numpy as np

from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base, adapter_ranks
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet import layers
from edgelora.model.quantization.quantize import quantize

SHAPE = (1, 4, 3)


def rows(count: int, seed: int, gain: float = 1.0, kind: int = 0) -> Dataset:
    """Inputs with two degrees of freedom; each `kind` mixes them differently."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(kind).normal(size=(2, 12))
    x = gain * np.tanh(rng.normal(size=(count, 2)) @ mix).reshape(count, *SHAPE)
    return Dataset(x.astype(np.float32), np.zeros(count, np.int64))


def autoencoder() -> Base:
    """An untrained network with 12 inputs and 12 outputs."""
    net = layers.build(SHAPE, [layers.dense(8, "relu"), layers.dense(12)], 3)
    model = quantize(net, rows(64, 1).x)
    model.loss = "mean_squared_error"
    elm = pack_model(model)
    return Base("auto.elm", elm, unpack_model(elm))


def real_error(base: Base, adapter: bytes | None, data: Dataset) -> float:
    """The mean squared reconstruction error in the data's units; targets are rounded to the output's grid."""
    session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
    session.use(adapter)
    output = base.model.output
    squares = []
    for x in data.x:
        session.infer(base.model.input.quantize(x))
        wanted = output.dequantize(output.quantize(x.reshape(-1)))
        squares.append(np.mean((output.dequantize(session.logits) - wanted) ** 2))
    return float(np.mean(squares))
