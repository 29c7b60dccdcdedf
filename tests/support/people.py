"""A base whose classes differ from person to person, and samples of such persons."""

from __future__ import annotations

import numpy as np
from class_cases import INPUTS, small_base
from numpy.typing import NDArray

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.samples import Samples


def last_inputs(session: Session, model: QuantModel, x: NDArray[np.int8]) -> NDArray[np.int64]:
    """The last layer's inputs for samples x, less their zero point."""
    rows = [session.activations(np.ascontiguousarray(one), model)[1].ravel() for one in x]
    return np.array(rows, np.int64) - model.tensors[1].zero_point


def person(rng: np.random.Generator, base: tuple[QuantModel, Session], count: int) -> Samples:
    """Samples whose labels follow from the last layer's inputs, by a direction that the base does not know."""
    model, session = base
    x = rng.integers(-128, 128, (4000, 1, 1, 5)).astype(np.int8)
    inputs = last_inputs(session, model, x).astype(float)
    inputs -= inputs.mean(axis=0)
    side = inputs @ np.linalg.svd(inputs[:500], full_matrices=False)[2][0]
    classes = [np.flatnonzero(side < np.quantile(side, 0.1)), np.flatnonzero(abs(side) < np.quantile(abs(side), 0.1)),
               np.flatnonzero(side > np.quantile(side, 0.9))]  # fmt: skip
    chosen = np.concatenate([rng.permutation(one)[:count] for one in classes])
    return Samples(x[chosen], np.repeat(np.arange(3), count))


def of_one_spread(rng: np.random.Generator) -> tuple[QuantModel, Session]:
    """A base whose statistics are those of its own inputs, and whose rows say nothing."""
    model = small_base(rng)
    session = Session(pack_model(model), bytes(2), "infer")
    inputs = last_inputs(session, model, rng.integers(-128, 128, (2000, 5)).astype(np.int8))
    inverse = np.linalg.inv(np.cov(inputs.T) + np.eye(INPUTS) * np.trace(np.cov(inputs.T)) / INPUTS)
    fine = int(np.floor(np.log2(32767 / np.abs(inverse).max())))
    stats = model.class_stats
    assert stats
    stats.inverse = np.rint(inverse * 2.0**fine)[np.tril_indices(INPUTS)].astype(np.int16)
    stats.row_shift, stats.exponent = fine - 9, 9
    stats.rows[:], stats.biases[:] = 0, 0
    return model, session
