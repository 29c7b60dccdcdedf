"""How many of a network's outputs and errors are 0, which kernels of a Cortex-M0+ leave out.

Both depend on the network far more than on samples: the twin trains on a few random ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.network import MASK_KINDS, QuantModel
from edgelora.core.twin.session import Session
from edgelora.core.twin.trainable import trainable

SAMPLES = 8
STEP = 8  # positions, of which a kernel looks at one to see how many errors are 0
DRAWN_RANK, LARGEST_B = 4, 20  # of a random adapter
Array = NDArray[np.int8] | NDArray[np.int64]


@dataclass(frozen=True)
class Zeros:
    """Of an op, means over samples. positive: share of outputs above a fused activation's minimum; live: share of
    errors that are not 0; last: how often errors through A have the larger exponent, so that they are added last.

    seen: the share of errors that are 0, at the positions that a kernel looks at, by sample.
    """

    positive: float = 1.0
    live: float = 1.0
    last: float = 0.5
    seen: tuple[float, ...] = (0.0,)

    def chosen(self, least: float) -> float:
        """Share of the samples with as many zeros."""
        return sum(share >= least for share in self.seen) / len(self.seen)


def zeros_of(elm: bytes, model: QuantModel) -> list[Zeros]:
    """Of each op; errors only of those that can train an adapter."""
    x, y = samples(model)
    trains = {op for op in trainable(elm, len(model.ops)) if op < model.training_ops}
    return [
        _errors(elm, model, op, above, x, y) if op in trains else Zeros(above)
        for op, above in enumerate(_positive(elm, model, x))
    ]


def samples(model: QuantModel, frames: int = 1) -> tuple[NDArray[np.int8], Array]:
    """Random ones: int8 [SAMPLES, frames * input size], and labels [SAMPLES] or targets [SAMPLES, target size]."""
    rng, count = np.random.default_rng(0), model.loss_tensor.size
    x = rng.integers(-128, 128, (SAMPLES, frames * model.input.size)).astype(np.int8)
    if model.symbols:
        ids = rng.integers(0, model.symbols, (SAMPLES, *model.input.shape[:2], 1))
        x = model.quantize(ids).reshape(SAMPLES, -1)
    if model.learns_sequences:
        return x, model.targets(rng.integers(0, model.classes, (SAMPLES, model.loss_tensor.positions)))
    if model.loss == "cross_entropy":
        return x, rng.integers(0, count, SAMPLES)
    low, high = (0, 2) if model.loss == "binary_cross_entropy" else (-128, 128)
    return x, rng.integers(low, high, (SAMPLES, count)).astype(np.int8)


def _positive(elm: bytes, model: QuantModel, x: NDArray[np.int8]) -> list[float]:
    session = Session(elm, bytes(len(model.ops)), "infer")
    by_op = zip(*(session.activations(one, model)[1:] for one in x), strict=True)
    return [
        float(np.mean([values > op.act_min for values in outputs]))
        if op.kind in MASK_KINDS and (op.mask_low or op.mask_high)
        else 1.0
        for op, outputs in zip(model.ops, by_op, strict=True)
    ]


def _errors(elm: bytes, model: QuantModel, at: int, positive: float, x: NDArray[np.int8], y: Array) -> Zeros:
    op, shape, last = model.ops[at], model.tensors[model.ops[at].output].shape, 0
    # A trains, so that the op's errors are scaled as for one below
    session, zero = Session(elm, bytes(i == at for i in range(len(model.ops))), "trainable_a"), []
    session.begin()
    b = np.random.default_rng(0).integers(-LARGEST_B, LARGEST_B + 1, (shape[2], DRAWN_RANK))
    for one, target in zip(x, y, strict=True):
        session.train(one, target, 0)
        error = session.error(at)[: prod(shape)].reshape(-1, shape[2])
        zero.append(error == 0)
        more = max(0, int(abs(error @ b).max()).bit_length() - 7)  # of the exponent
        last += more + op.branch_shift > op.t_shift
    return Zeros(positive, 1 - float(np.mean(zero)), last / len(x), tuple(float(np.mean(of[::STEP])) for of in zero))
