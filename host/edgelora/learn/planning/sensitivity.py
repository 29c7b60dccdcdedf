"""Estimates how much each layer's adapter helps on one user's samples: expected gains by op and rank.

Two methods, both by the integer twin, so that they work for every network that the board can train:

- "ablation": trains a high-rank adapter of all layers briefly by the recipe, then removes all but r of a layer's
  directions; the gain is what the loss says they were worth. (Importance of trained triplets: AdaLoRA, Zhang et al.,
  2023, arXiv:2303.10512; measured by removal rather than by the gradient, which has shrunk by then.)
- "gradient": the part of the untrained layer's weight gradient that rank r can represent: the energy of its r largest
  singular values or, with frozen A, of its projection on A's rows. (Choice of ranks by the first gradient: GoRA, He et
  al., 2025, arXiv:2502.12171; LoRA-GA, Wang et al., 2024, arXiv:2407.05000.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.ela import Adapter, AdapterLayer, highest_rank, pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, unpack_model
from edgelora.core.formats.network import QuantModel, layer_size
from edgelora.core.twin.seeded_a import seeded_a
from edgelora.core.twin.session import NAT
from edgelora.core.twin.trainable import trainable
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import LIMITS, Recipe, Settings, placed
from edgelora.learn.training.twin.loop import train
from edgelora.learn.training.twin.twin_learner import TwinLearner, most_summed

METHODS = ("ablation", "gradient")
RANKS = (1, 2, 4, 8)
SAMPLES = 128  # used at most, the same number of each class
TRIALS = 3  # of ablation, each with another seed
TRIAL_EPOCHS = 3
BARE, WHOLE = (-1, 0), (-1, 1)  # keys of a trial: losses without and with the whole adapter
Matrix = NDArray[np.float64]
Gains = dict[int, dict[int, float]]


@dataclass(frozen=True)
class Sensitivity:
    """`gains[op][rank]`: the gain of an adapter of that rank; it grows with the rank and adds up over ops.

    Units: ablation: nats of loss, out of `base_loss`; gradient: shares of the whole gradient's energy.
    """

    method: str
    mode: str
    gains: Gains
    base_loss: float | None = None

    def of(self, ranks: Sequence[int]) -> float:
        """The expected gain of these ranks, one for each op, 0 = none."""
        return sum(self.gains[op][rank] for op, rank in enumerate(ranks) if rank)


def sensitivity(
    elm: bytes, samples: Samples, recipe: Recipe, method: str = METHODS[0], progress: Progress = no_progress
) -> Sensitivity:
    """Expected gains of all layers in the recipe's placement, in its mode."""
    if method not in METHODS:
        raise InputError(f"method {method!r}: give one of {', '.join(METHODS)}")
    measure = _ablated if method == "ablation" else _followed
    return measure(elm, spread(samples, SAMPLES), recipe, progress)


def spread(samples: Samples, most: int) -> Samples:
    """At most `most` samples, evenly from each class."""
    if len(samples) <= most:
        return samples
    by_class = np.argsort(samples.y, kind="stable")
    picked = np.zeros(len(samples), bool)
    picked[by_class[np.linspace(0, len(samples) - 1, most).round().astype(int)]] = True
    return samples.part(picked)


def possible_ranks(model: QuantModel, op: int) -> list[int]:
    """Ranks of `RANKS` that an op supports (SPEC.md, section 9), at most its number of outputs."""
    outputs, inputs = layer_size(model, op)
    most = min(highest_rank(model, op), outputs, inputs)
    return [rank for rank in RANKS if rank <= most]


# ---- ablation --------------------------------------------------------------------------------------------------------


def _ablated(elm: bytes, samples: Samples, recipe: Recipe, say: Progress) -> Sensitivity:
    """The mean of trials with different seeds: short runs or, if these don't lower the loss, the recipe's own."""
    able = _candidates(elm, unpack_model(elm), recipe)
    seeds = [(recipe.seed + k) % (LIMITS["seed"][1] + 1) for k in range(TRIALS)]
    for epochs in sorted({TRIAL_EPOCHS, max(TRIAL_EPOCHS, recipe.epochs)}):
        mine = replace(recipe, epochs=epochs)
        trials = [_trial(elm, samples, replace(mine, seed=seed), able, say) for seed in seeds]
        base, whole = (float(np.mean([losses[end] for losses in trials])) for end in (BARE, WHOLE))
        if whole < base:
            break
    gains = {
        op: _growing({r: float(np.mean([losses[op, 0] - losses[op, r] for losses in trials])) for r in possible})
        for op, possible in able.items()
    }
    return Sensitivity("ablation", recipe.mode, _summing_to(max(base - whole, 0.0), gains), base)


def _trial(
    elm: bytes, samples: Samples, recipe: Recipe, able: dict[int, list[int]], say: Progress
) -> dict[tuple[int, int], float]:
    """Losses in nats by (op, rank), with only `rank` of that op's directions left, and of `BARE` and `WHOLE`."""
    model = unpack_model(elm)
    highest = {op: possible[-1] for op, possible in able.items()}
    recipe = replace(recipe.with_ranks(model, highest), cache="none")
    settings = recipe.resolved(elm, len(samples.of_epoch))
    learner = TwinLearner(elm, settings.session, samples.frames)
    learner.begin(settings.seed)
    what = f"trial in {recipe.mode}, seed {recipe.seed}"
    adapter = unpack_adapter(train(learner, samples, settings, lambda i, n, _: say(i, n, what)).adapter, model)
    judge = TwinLearner(elm, settings.session._replace(micro_batch=1), samples.frames)

    def loss(left: dict[int, int]) -> float:
        layers = [_largest(layer, left.get(layer.op, layer.rank)) for layer in adapter.layers]
        judge.use(pack_adapter(replace(adapter, layers=layers)))
        return float(np.mean(judge.losses(samples.x, samples.targets))) / NAT

    losses = {BARE: loss(dict.fromkeys(able, 0)), WHOLE: loss({})}
    losses |= {(op, rank): losses[WHOLE] for op, rank in highest.items()}
    steps = [(op, rank) for op, possible in able.items() for rank in (0, *possible[:-1])]
    for done, (op, rank) in enumerate(steps, 1):
        losses[op, rank] = loss({op: rank})
        say(done, len(steps), f"{recipe.mode}, seed {recipe.seed}: layer {op} at rank {rank}")
    return losses


def _largest(layer: AdapterLayer, count: int) -> AdapterLayer:
    """A layer's adapter with only those `count` columns of B that, with their rows of A, move the output most."""
    if count >= layer.rank:
        return layer
    sizes = np.linalg.norm(layer.a.astype(float), axis=1) * np.linalg.norm(layer.b.astype(float), axis=0)
    b = layer.b.copy()
    b[:, np.argsort(-sizes, kind="stable")[count:]] = 0
    return replace(layer, b=b)


def _growing(gains: dict[int, float]) -> dict[int, float]:
    """Makes gains grow with the rank: higher ranks include lower ones, so a drop, or a gain below 0, is noise."""
    return dict(zip(gains, np.maximum.accumulate([max(0.0, gain) for gain in gains.values()]).tolist(), strict=True))


def _summing_to(total: float, gains: Gains) -> Gains:
    """Gains scaled so that all layers at their highest ranks gain `total`; those measured one by one overlap."""
    whole = sum(max(by_rank.values()) for by_rank in gains.values())
    return {
        op: {rank: gain * total / whole if whole else 0.0 for rank, gain in by_rank.items()}
        for op, by_rank in gains.items()
    }


def _candidates(elm: bytes, model: QuantModel, recipe: Recipe) -> dict[int, list[int]]:
    """The ranks to choose from, for each op in the recipe's placement."""
    return {op: possible_ranks(model, op) for op in placed(model.ops, recipe.placement, trainable(elm, len(model.ops)))}


# ---- gradient --------------------------------------------------------------------------------------------------------


def _followed(elm: bytes, samples: Samples, recipe: Recipe, say: Progress) -> Sensitivity:
    model = unpack_model(elm)
    able = _candidates(elm, model, recipe)
    gradients = weight_gradients(elm, samples, list(able), say)
    gains = {}
    for op, possible in able.items():
        gradient = gradients[op]
        if recipe.mode == "trainable_a":
            energies = np.cumsum(np.linalg.svd(gradient, compute_uv=False) ** 2)
            gains[op] = {rank: float(energies[rank - 1]) for rank in possible}
        else:
            rows = {rank: seeded_a(recipe.seed, op, rank, model.ops[op]) for rank in possible}
            gains[op] = _growing({rank: _projected(gradient, a) for rank, a in rows.items()})
    whole = sum(float(np.sum(gradient**2)) for gradient in gradients.values()) or 1.0
    shares = {op: {rank: gain / whole for rank, gain in by_rank.items()} for op, by_rank in gains.items()}
    return Sensitivity("gradient", recipe.mode, shares)


def _projected(gradient: Matrix, a: NDArray[np.int8]) -> float:
    """The energy of the rows of a gradient [O, K] within the span of the rows of A [rank, K]."""
    basis, upper = np.linalg.qr(a.T.astype(float))
    return float(np.sum((gradient @ basis[:, np.abs(np.diag(upper)) > 0]) ** 2))


def weight_gradients(elm: bytes, samples: Samples, ops: Sequence[int], progress: Progress) -> dict[int, Matrix]:
    """Gradients of the mean loss by the int8 weights [O, K] of these ops, all in one unit.

    With A = 0 an adapter changes nothing. If B's columns are unit vectors, A's gradient (SPEC.md, section 5) is that
    of the rows of W that they select, so a few training passes with rank-32 adapters yield all rows.
    """
    model = unpack_model(elm)
    sizes = {op: layer_size(model, op) for op in ops}
    rows = {op: highest_rank(model, op) for op in ops}
    passes = max(-(-sizes[op][0] // rows[op]) for op in ops)
    chunk = most_summed(model, ops)
    if not chunk:
        raise InputError("a layer has too many positions to sum its gradient over samples: use the method ablation")
    starts = range(0, len(samples), chunk)
    found = {op: np.zeros(sizes[op]) for op in ops}
    for number in range(passes):
        parts = {op: slice(number * rows[op], min((number + 1) * rows[op], sizes[op][0])) for op in ops}
        parts = {op: part for op, part in parts.items() if part.start < part.stop}
        ranks = bytes(parts[op].stop - parts[op].start if op in parts else 0 for op in range(len(model.ops)))
        settings = Settings(ranks, "trainable_a", chunk + 1, 0, None, 0)
        learner = TwinLearner(elm, settings, samples.frames)
        for done, at in enumerate(starts, 1):
            learner.load(_unit_rows(elm, model, parts))
            learner.train(samples.x[at : at + chunk], samples.targets[at : at + chunk], 0)
            for op, (gradient, _) in learner.gradients().items():
                found[op][parts[op]] += gradient / len(samples)
            progress(number * len(starts) + done, passes * len(starts), "weight gradients")
    return found


def _unit_rows(elm: bytes, model: QuantModel, parts: dict[int, slice]) -> bytes:
    """An adapter with A = 0 and, in B, a column for each of these rows of W, 1 there and 0 elsewhere."""
    layers = []
    for op, part in parts.items():
        outputs, inputs = layer_size(model, op)
        b = np.eye(outputs, dtype=np.int8)[:, part]
        a = np.zeros((b.shape[1], inputs), np.int8)
        layers.append(AdapterLayer(op, a, b, model.ops[op].t_shift, model.ops[op].branch_shift))
    return pack_adapter(Adapter(base_id(elm), 0, layers, trainable_a=True, a_stored=True))
