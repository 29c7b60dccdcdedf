"""Adapters of low rank made from trained ones of higher rank.

A rank-1 adapter finds a worse direction by itself than a wider one has found after the same samples. So the host trains
wide, keeps the strongest singular vectors of each layer's change B A (Eckart and Young, 1936), rounds them as an
imported adapter's, and trains on: every step by the bit-exact twin, so that the adapter adapts to its own rounding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from . import formats, peft
from .personalize import LIMITS, Progress, Recipe, Run, Samples, TwinLearner, train

RATE_FACTOR = 2  # of the recipe's learning rate, once the adapter is narrow: few weights may move further


def narrow(elm: bytes, adapter: bytes, ranks: bytes, x: NDArray[np.int8]) -> bytes:
    """The `.ela` of these lower ranks, one an op, nearest to `adapter` in what it computes for inputs x [N, ...].

    Layers of rank 0 are left out; A is stored. Raises FormatError for an adapter that is not this base's.
    """
    model = formats.unpack_model(elm)
    wide = formats.unpack_adapter(adapter, model)
    some = x[:: -(-len(x) // peft.CALIBRATION_LIMIT)]
    narrowed = formats.Adapter(wide.base_id, wide.seed, a_stored=True)
    read = peft.op_inputs(elm, [layer.op for layer in wide.layers], some)
    for layer in wide.layers:
        rank = min(ranks[layer.op], layer.rank)
        if rank:
            a, b = (matrix.astype(np.float64) for matrix in (layer.a, layer.b))
            b *= 2.0 ** (layer.branch_shift - layer.t_shift)
            narrowed.layers.append(peft.fit_layer(model, layer.op, a, b, rank, read[layer.op])[0])
    return formats.pack_adapter(narrowed)


def train_narrowed(elm: bytes, samples: Samples, recipe: Recipe, wide: int, progress: Progress | None = None) -> Run:
    """Trains by the recipe at rank `wide`, narrows to the recipe's, and trains on by it at RATE_FACTOR times its rate.

    Raises ValueError unless A is trained and `wide` is the higher rank.
    """
    model = formats.unpack_model(elm)
    ranks = recipe.ranks(model)
    if recipe.mode != "trainable_a" or wide <= max(ranks):
        raise ValueError(
            f"narrowing from rank {wide} to {max(ranks)}: train A too (--mode trainable_a), from a higher rank"
        )
    first = recipe.with_ranks(model, {op: wide for op, rank in enumerate(ranks) if rank})
    learner = TwinLearner(elm, first.ranks(model), first, samples.frames)
    learner.begin(recipe.seed)
    start = narrow(elm, train(learner, samples, first, progress).adapter, ranks, samples.x)
    faster = min(RATE_FACTOR * recipe.learning_rate, LIMITS["learning_rate"][1])
    learner = TwinLearner(elm, ranks, recipe, samples.frames)
    learner.load(start)
    return train(learner, samples, replace(recipe, given_rate=faster), progress)
