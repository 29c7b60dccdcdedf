"""Norm and attention with the largest values and constants that the format allows: all sums stay within 32 bits.

The reference asserts that; the core, with and without the kernels of this machine, trains to the same bytes.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from fresh import some
from random_models import random_sample
from reference import int16
from test_core import Case, check_training

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.fixed_point import ATTEND_MULTIPLIERS, ATTEND_SHIFTS, NORM_BIAS, NORM_SHIFTS
from edgelora.core.formats.network import Op, QuantModel, Tensor

HEADS = {  # rows, heads of q, heads of k and v, channels of a head
    "the most rows for a key": (256, 2, 1, 64),
    "the most heads for a key": (8, 64, 1, 4),
    "one row": (1, 2, 2, 64),
    "three heads for a key": (170, 6, 2, 3),
}


def matrix(model: QuantModel, kind: str, source: int, target: Tensor, rng: np.random.Generator, shift: int) -> int:
    """Appends a 1x1 layer with the largest weights, whose outputs are of any size, up to clamped, by `shift`."""
    outputs = target.shape[2]
    op = Op(kind, source, len(model.ops) + 1, t_shift=7, branch_shift=3)
    op.weights = rng.choice(np.array([-127, 127], np.int8), (outputs, 1, 1, model.tensors[source].shape[2]))
    op.bias = np.zeros(outputs, np.int32)
    op.multiplier, op.shift = np.full(outputs, 2**31 - 1, np.int32), np.full(outputs, shift, np.int8)
    model.ops.append(op)
    model.tensors.append(target)
    return op.output


def check(model: QuantModel, rng: np.random.Generator) -> None:
    """Trains with the largest errors: targets are far from the outputs."""
    ranks = {i: 1 + i % 2 for i, op in enumerate(model.ops) if op.is_matrix}
    signs = rng.choice(np.array([-128, 127], np.int8), (4, model.output.size))
    samples = [(random_sample(rng, model, 1), target, 60_000) for target in signs]
    check_training(Case(model, pack_model(model), ranks, "trainable_a", 1, 0, 0, 1, samples), 1)


@pytest.mark.parametrize("causal", some([True, False]))
@pytest.mark.parametrize("case", HEADS)
def test_attention_at_limits_equals_the_reference(case: str, causal: bool) -> None:
    rows, heads, shared, size = HEADS[case]
    rng = np.random.default_rng(0)
    ends = list(zip(product(*ATTEND_MULTIPLIERS), product(*ATTEND_SHIFTS), strict=True))
    for number, (multipliers, shifts) in enumerate(ends):
        model = QuantModel([Tensor((1, rows, 3), 0.5, 0)], [], loss="mean_squared_error", rounds=number % 2 == 0)
        grids = [Tensor((1, rows, count * size), 0.5, 0) for count in (heads, shared, shared)]
        inputs = [matrix(model, "conv", 0, grid, rng, int(rng.choice([-8, -9]))) for grid in grids]
        op = Op("attend", inputs[0], 4, input2=inputs[1], input3=inputs[2], heads=(heads, shared), causal=causal)
        op.multiplier, op.shift = np.array(multipliers, np.int32), np.array(shifts, np.int8)
        if number % 3:  # and constants of a network
            op.multiplier[:], op.shift[:] = (20_000, 2**15 - 1, 2**15 - 1), (int(rng.integers(10, 21)), 2, -6)
        model.ops.append(op)
        model.tensors.append(grids[0])
        check(model, rng)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 64, 65, 256])
def test_norm_at_limits_equals_the_reference(channels: int, centred: bool) -> None:
    rng = np.random.default_rng(1)
    for number, (e, epsilon, shift) in enumerate(product((*NORM_SHIFTS, 8), (1, 2**31 - 1), (0, -2, -7, -20))):
        model = QuantModel([Tensor((1, 4, 3), 0.5, 0)], [], loss="mean_squared_error", rounds=number % 4 > 0)
        stream = Tensor((1, 4, channels), 0.5, 0, wide=True)
        matrix(model, "project", 0, stream, rng, shift)
        if number % 5 == 0:
            model.ops[0].weights[:] = 127  # rows without variance
        elif number % 5 == 1:  # rows with one value, which is normalized to sqrt(channels)
            model.ops[0].weights[1:], model.ops[0].bias[1:] = 0, 0
        gain = rng.choice(np.array([-32767, 32767] if number % 2 else [0, 1, 32767], np.int16), channels)
        bias = rng.choice(np.array([-NORM_BIAS, 0, NORM_BIAS], np.int32), channels)
        op = Op("norm", 1, 2, gain=gain, bias=bias if e != 8 else 0 * bias, centred=centred)
        op.multiplier, op.shift = np.array([epsilon], np.int32), np.array([e], np.int8)
        model.ops.append(op)
        model.tensors.append(Tensor(stream.shape, 0.5, int(rng.choice([-128, 0, 127]))))
        check(model, rng)


def test_streams_saturate() -> None:
    """A stream at an end of its range stays there, whatever is added: once the addend is clamped, too."""
    rng = np.random.default_rng(2)
    stream = Tensor((1, 8, 3), 0.5, 0, wide=True)
    for kind in ("project", "widen"):
        model = QuantModel([Tensor((1, 8, 3), 0.5, 0)], [], loss="mean_squared_error")
        model.ops.append(
            Op("constant", 0, 1, values=int16(rng.integers(-70_000, 70_000, stream.shape)).astype(np.int16))
        )
        model.tensors.append(stream)
        matrix(model, "project", 0, stream, rng, 3)
        model.ops[-1].input2 = 1
        if kind == "widen":
            pair = np.array([2**31 - 1], np.int32), np.array([12], np.int8)
            model.ops.append(Op("widen", 0, 3, input2=2, multiplier=pair[0], shift=pair[1]))
            model.tensors.append(stream)
        last = len(model.ops)
        gain, zeros = np.full(3, 2**14, np.int16), np.zeros(3, np.int32)
        model.ops.append(Op("norm", last, last + 1, gain=gain, bias=zeros, multiplier=zeros[:1] + 1))
        model.ops[-1].shift = np.array([9], np.int8)
        model.tensors.append(Tensor(stream.shape, 0.5, 0))
        check(model, rng)
