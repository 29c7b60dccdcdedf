"""Shifts of the adapter branch, calibrated on samples to use its integer range well."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.seeded_a import seeded_a
from edgelora.model.floatnet.layers import Array

from .simulate import _grids, _product, accumulators

PERCENTILES = (100.0, 99.99, 99.9)  # share of calibration values that an activation's range covers, in percent
REFERENCE_RANK = 4  # rank of the adapter that t_shift and branch_shift are calibrated for
REFERENCE_SEEDS = range(8)  # seeds of the adapters that calibration averages over
T_RMS = 26.0  # aimed at for the int8 vector t = A x; within a factor of sqrt(2), as shifts are powers of two
BRANCH_COVER = 8.0  # a full-scale B reaches this many standard deviations of the accumulator
# Where every position has a loss, an adapter changes little at each, in many small steps.
SEQUENCE_T_RMS, SEQUENCE_COVER = T_RMS / 2, BRANCH_COVER / 8


def calibrate_adapters(model: QuantModel, x: Array) -> None:
    """Sets t_shift and branch_shift of every conv and dense op of `model` from real inputs x [N, H, W, C].

    t_shift gives t = A (x - zp) / 2**t_shift an rms of about T_RMS for A uniform in [-127, 127]. With it,
    2**branch_shift * 127 * rms(t) * sqrt(rank) is BRANCH_COVER times the accumulator's standard deviation, in the
    median channel, at rank REFERENCE_RANK. Models of sequences have constants of their own.
    """
    grids = _grids(model, x)
    for index, op in enumerate(model.ops):
        set_adapter_shifts(model, index, grids[op.input])


def set_adapter_shifts(model: QuantModel, index: int, q: Array) -> None:
    """Calibrates one op, for its inputs q [N, H, W, C] on the int8 grid."""
    op = model.ops[index]
    if not op.is_matrix or op.weights is None:
        return
    rows = [seeded_a(seed, index, REFERENCE_RANK, op) for seed in REFERENCE_SEEDS]
    rms = _rms(_product(model, op, np.concatenate(rows).reshape(-1, *op.weights.shape[1:]), q))
    t_rms, cover = (SEQUENCE_T_RMS, SEQUENCE_COVER) if model.learns_sequences else (T_RMS, BRANCH_COVER)
    op.t_shift = _power_of_two(rms / t_rms, 0, 24)
    spread = float(np.median(accumulators(model, op, q).std(axis=(0, 1, 2))))
    reach = 127 * rms / 2**op.t_shift * math.sqrt(REFERENCE_RANK)
    op.branch_shift = _power_of_two(cover * spread / reach if reach else 1.0, -15, 8)


def _power_of_two(ratio: float, low: int, high: int) -> int:
    """The exponent in [low, high] whose power of two is nearest to `ratio` in proportion."""
    mantissa, exponent = math.frexp(ratio)
    return low if ratio <= 0 else min(max(exponent - (mantissa < math.sqrt(0.5)), low), high)


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
