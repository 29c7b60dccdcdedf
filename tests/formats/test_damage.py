"""Damaged models: the host and the core accept or refuse the same."""

from __future__ import annotations

import math
import re
import struct
import zlib

import numpy as np
import pytest
from class_cases import small_base
from fresh import FULL, fresh_seeds, rounds
from random_models import model_of, random_model
from random_ops import drawn_op, generated
from random_transformers import random_transformer

from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.network import TRANSFORMER_KINDS, QuantModel
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin.binding import TwinError, check_model

MODELS = {  # loss and kinds
    "chain": ("cross_entropy", ("conv", "average_pool", "mean", "dense")),
    "graph": ("cross_entropy", ("depthwise", "residual", "max_pool", "dense", "softmax")),
    "joined": ("binary_cross_entropy", ("pad", "branches", "reshape", "dense", "lookup")),
    "autoencoder": ("mean_squared_error", ("conv", "lookup", "autoencoder")),
    "stream": ("cross_entropy", ("conv", "history", "slice", "conv", "history", "dense")),
    "sensed": ("cross_entropy", ("conv", "dense")),
    "classes": ("cross_entropy", ("conv", "dense")),
    "transformer": ("cross_entropy", ()),
}


def small_model(name: str) -> QuantModel:
    """The first of these models that is fast enough to run some ten thousand times."""
    if name == "transformer":
        model = random_transformer(747)
        assert {op.kind for op in model.ops} >= {*TRANSFORMER_KINDS} - {"widen"}
        return model
    loss, kinds = MODELS[name]
    models = (random_model(seed, kinds=kinds, edges=False, loss=loss) for seed in range(100))
    able = (model for model in models if work(model) < 1500 and model.input.size < 60)
    model = next(model for model in able if len(pack_model(model)) < 1800)
    if name == "classes":
        return small_base(np.random.default_rng(3))
    if name == "sensed":
        channels = model.input.shape[2]
        normals = tuple(Normal(0.001 * (i + 1), 0.5, 2) for i in range(channels))
        model.signal = Signal(50, channels, model.input.size // channels, 3, normals, units="g\u00b2")
    return model


def drawn_model(seed: int) -> QuantModel:
    """The first fast model of a random op."""
    draw = generated(np.random.default_rng(seed))
    models = (model_of(drawn_op(draw, kinds=("conv", "depthwise", "dense", "max_pool"), work=12)) for _ in range(1000))
    able = (model for model in models if model.ops[0].is_matrix and model.input.size < 200 and work(model) < 2**13)
    return next(model for model in able if len(pack_model(model)) < 800)


def work(model: QuantModel) -> int:
    """The number of multiplications of an inference."""
    shapes = [(op, model.tensors[op.input].shape, model.tensors[op.output]) for op in model.ops]
    return sum(
        out.size * math.prod(source if op.kind == "dense" else (*op.kernel, source[2])) for op, source, out in shapes
    )


HOST_ONLY = re.compile(
    "scale|UTF-8|padding|logit_scale or E|unused|newline|byte 7|byte 65|the offset of|exponentials"
)  # boards do not check this


@pytest.mark.parametrize("name", [*MODELS, "drawn"])
def test_host_and_core_agree_on_what_is_right(name: str) -> None:
    """After changed bytes, with corrected base id and CRC, both accept a model or both refuse it."""
    seed = fresh_seeds(1)[0]
    data = pack_model(drawn_model(seed) if name == "drawn" else small_model(name))
    rng = np.random.default_rng(seed)
    tables = struct.unpack_from("<I", data, 32)[0] + 36 * struct.unpack_from("<H", data, 26)[0]
    refused = 0
    for at in [*range(16, tables), *rng.integers(tables, len(data), 300)]:
        values = (0, 1, 2, 3, 4, 127, 128, 200, 255, data[at] ^ 1, int(rng.integers(256)))
        for value in rng.choice(values, rounds(8), replace=False).tolist() if not FULL else values:
            changed = bytearray(data)
            changed[at] = value
            changed[16:24] = base_id(changed)
            struct.pack_into("<I", changed, 12, zlib.crc32(changed[16:]))
            try:
                unpack_model(bytes(changed))
                told = ""
            except FormatError as error:
                told = str(error)
            try:
                check_model(bytes(changed))
                accepted = True
            except TwinError:
                accepted = False
            if not (told and HOST_ONLY.search(told)):
                assert accepted == (not told), f"seed {seed}, byte {at} = {value}: {told or 'the core refuses it'}"
            refused += not accepted
    assert refused > 150
