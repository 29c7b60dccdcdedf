"""A small base to which classes can be added."""

from __future__ import annotations

import numpy as np

from edgelora.core.formats.classes import ClassStats
from edgelora.core.formats.network import Op, QuantModel, Tensor

INPUTS, KNOWN = 7, 3


def small_base(rng: np.random.Generator) -> QuantModel:
    """Two dense layers, with random class statistics."""
    model = QuantModel(
        [Tensor((1, 1, 5), 0.1, 3), Tensor((1, 1, INPUTS), 0.05, -20), Tensor((1, 1, KNOWN), 0.1, 4)], []
    )
    for i, (outputs, inputs) in enumerate(((INPUTS, 5), (KNOWN, INPUTS))):
        weights = rng.integers(-127, 128, (outputs, 1, 1, inputs)).astype(np.int8)
        scale = {"multiplier": np.full(outputs, 1 << 30, np.int32), "shift": np.full(outputs, -7, np.int8)}
        op = Op("dense", i, i + 1, weights=weights, bias=np.zeros(outputs, np.int32), t_shift=6, **scale)
        model.ops.append(op)
    model.labels = ["rest", "walk", "run"]
    model.class_stats = drawn_class_stats(rng, INPUTS, KNOWN)
    return model


def drawn_class_stats(rng: np.random.Generator, inputs: int, classes: int) -> ClassStats:
    """Random class statistics: how the last layer's inputs might spread."""
    half = rng.normal(0, 1, (inputs, inputs))
    inverse = np.rint(20000 * (half @ half.T) / np.abs(half @ half.T).max())[np.tril_indices(inputs)]
    rows = rng.integers(-3000, 3000, (classes, inputs)).astype(np.int16)
    biases = rng.integers(-100000, 100000, classes).astype(np.int32)
    return ClassStats(5, 9, biases, rows, inverse.astype(np.int16))
