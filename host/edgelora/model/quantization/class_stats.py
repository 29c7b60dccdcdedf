"""Statistics of the inputs of a network's last layer by class, which a board needs to add classes.

The head is linear discriminant analysis with one covariance for all classes, that of pretraining (R. Fisher, "The use
of multiple measurements in taxonomic problems", 1936): a board then needs nothing but the mean of a new class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.classes import ClassStats, class_inputs
from edgelora.core.formats.network import QuantModel
from edgelora.model.floatnet.layers import Array

from .simulate import simulate

RIDGE = 0.1  # of the mean variance, added to each
HEAD_ROOM = 4.0  # rows of added classes may be this much larger than those of pretraining
MOST = 1 << 15
LIMIT = 4096  # samples used, evenly spaced,
PIECE = 256  # per batch


def last_inputs(model: QuantModel, x: Array) -> Array:
    """The last layer's inputs in the quantized network for x [N, H, W, C], real values [N, K]."""
    return simulate(model, x)[model.ops[-1].input].reshape(len(x), -1)


def spread(model: QuantModel, x: Array, y: NDArray[np.integer]) -> ClassStats | None:
    """Statistics of the network's training samples x [N, H, W, C] with labels y [N].

    None if classes can't be added: the network is not a classifier, does not end in a dense layer of at most 128
    inputs, or some class has fewer than two samples.
    """
    size, classes = class_inputs(model), model.output.size
    some = slice(None, None, max(1, -(-len(x) // LIMIT)))
    x, y = x[some], y[some]
    counts = np.bincount(y, minlength=classes) if len(y) else np.zeros(classes, np.int64)
    if not size or model.has_history or len(counts) != classes or counts.min() < 2:
        return None
    source = model.tensors[model.ops[-1].input]
    inputs = np.concatenate([last_inputs(model, x[i : i + PIECE]) for i in range(0, len(x), PIECE)]) / source.scale
    means = np.array([inputs[y == label].mean(axis=0) for label in range(classes)])
    within = inputs - means[y]
    covariance = within.T @ within / max(len(x) - classes, 1)
    ridge = RIDGE * float(np.trace(covariance)) / size
    if not ridge > 0:
        return None
    inverse = np.linalg.inv(covariance + ridge * np.eye(size))
    fine = int(np.floor(np.log2((MOST - 1) / np.abs(inverse).max())))
    rows = means @ inverse
    coarse = int(np.floor(np.log2((MOST - 1) / (HEAD_ROOM * np.abs(rows).max()))))
    exponent = min(coarse, fine, 12)
    if exponent < 0 or fine - exponent > 24:
        return None
    whole = np.rint(rows * 2.0**exponent)
    biases = np.rint(-0.5 * (whole * means).sum(axis=1))
    if np.abs(biases).max() > 1 << 29:
        return None
    triangle = np.rint(inverse * 2.0**fine)[np.tril_indices(size)]
    arrays = biases.astype(np.int32), whole.astype(np.int16), triangle.astype(np.int16)
    return ClassStats(fine - exponent, exponent, *arrays)
