"""Personalization: one training run, the same on a board and on the host twin, down to the adapter's bytes.

The host decides the order of samples and the learning rate of every update; both follow from the recipe alone. Whoever
learns (a board behind a link, or the twin) only sees int8 windows, labels and integer rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import formats, twin
from .errors import InputError
from .model import MATRIX_KINDS, QuantModel

Progress = Callable[[int, int, str], None]  # done, total, what


MODES = ("frozen_a", "trainable_a")  # of training: only B, or A too
LEARNING_RATES = {"frozen_a": 6000, "trainable_a": 10000}
MOMENTA = {"frozen_a": 3, "trainable_a": 1}
PLACEMENTS = ("all", "pointwise", "last_block", "last")
CACHES = ("none", "ram", "flash")
LIMITS = {  # of the fields of a recipe, whose formats and arithmetic set them
    "rank": (1, formats.MAX_RANK),
    "micro_batch": (1, 255),
    "momentum": (0, formats.MAX_MOMENTUM),
    "threshold": (0, formats.MAX_THRESHOLD),
    "learning_rate": (1, 65535),
    "epochs": (1, 10000),
    "seed": (0, 2**32 - 1),
}


class HasKernel(Protocol):
    """A layer of a float network or an op of a quantized one."""

    @property
    def kind(self) -> str: ...
    @property
    def kernel(self) -> tuple[int, int]: ...


def placed(layers: Sequence[HasKernel], placement: str) -> list[int]:
    """Which layers carry an adapter, by index.

    all: conv and dense layers; pointwise: dense layers and convolutions with a kernel of 1x1; last_block: the last two
    of these; last: the last of all.
    """
    chosen = [i for i, layer in enumerate(layers) if layer.kind in MATRIX_KINDS]
    if placement in ("pointwise", "last_block"):
        chosen = [i for i in chosen if layers[i].kernel == (1, 1)]
    return chosen[{"last": -1, "last_block": -2}.get(placement, 0) :]


@dataclass(frozen=True)
class Recipe:
    """How to personalize. Momentum and learning rate are the mode's own unless given. ValueError outside `LIMITS`."""

    rank: int = 8
    mode: str = "frozen_a"
    micro_batch: int = 8
    given_momentum: int | None = None
    given_rate: int | None = None
    epochs: int = 6
    seed: int = 0
    placement: str = "all"
    ram: int | None = None  # bytes that the arena may take; None: what the board has
    cache: str = "none"  # where a sample's features, what lies below the lowest adapter, are kept after its first use
    threshold: int = 0  # 1/2048 of the average gradient: smaller elements are left out of an update
    given_ranks: tuple[int, ...] | None = None  # one an op, 0 = none, instead of rank and placement
    on_board: bool = False  # the board draws the order of samples itself (SPEC.md, 13), and keeps no features

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode {self.mode!r}: give one of {', '.join(MODES)}")
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name.replace('_', ' ')} {getattr(self, name)}: give one from {low} to {high}")
        if self.given_ranks is not None and not all(0 <= rank <= formats.MAX_RANK for rank in self.given_ranks):
            raise InputError(f"ranks {max(self.given_ranks)}: give them from 0, for none, to {formats.MAX_RANK}")
        if self.placement not in PLACEMENTS:
            raise InputError(f"placement {self.placement!r}: give one of {', '.join(PLACEMENTS)}")
        if self.cache not in CACHES:
            raise InputError(f"cache {self.cache!r}: give one of {', '.join(CACHES)}")
        if self.on_board and self.cache != "none":
            raise InputError("a board that trains by itself keeps no features: leave --cache or --on-board out")

    @property
    def learning_rate(self) -> int:
        """Of the first update, falling to 0: int8 steps / 8192 for an average gradient."""
        return LEARNING_RATES[self.mode] if self.given_rate is None else self.given_rate

    @property
    def momentum(self) -> int:
        """Shift of the gradient's running mean; 0: none."""
        return MOMENTA[self.mode] if self.given_momentum is None else self.given_momentum

    def ranks(self, model: QuantModel) -> bytes:
        """The rank of every op: the recipe's where an adapter is placed, 0 elsewhere; or those given."""
        if self.given_ranks is not None:
            if len(self.given_ranks) != len(model.ops):
                raise InputError(
                    f"{len(self.given_ranks)} ranks given for a model of {len(model.ops)} ops: give one each"
                )
            return bytes(self.given_ranks)
        chosen = placed(model.ops, self.placement)
        return bytes(self.rank if i in chosen else 0 for i in range(len(model.ops)))

    def with_ranks(self, model: QuantModel, ranks: dict[int, int]) -> Recipe:
        """The same with these ranks, by op, and a micro-batch that is not too large for these layers (SPEC.md, 9)."""
        most = min(formats.MAX_SUMMED // model.tensors[model.ops[op].output].positions for op in ranks)
        given = tuple(ranks.get(op, 0) for op in range(len(model.ops)))
        return replace(self, given_ranks=given, micro_batch=min(self.micro_batch, most))


@dataclass(frozen=True)
class Samples:
    """Quantized windows of one person: x int8 [N, height, width, channels], y [N].

    With history x is [N, frames, height, width, channels]. targets: what is trained, if not y itself.
    """

    x: NDArray[np.int8]
    y: NDArray[np.int64]
    given_targets: NDArray[np.int8] | None = None

    @property
    def targets(self) -> NDArray:
        return self.y if self.given_targets is None else self.given_targets

    @property
    def frames(self) -> int:
        return self.x.shape[1] if self.x.ndim == 5 else 1

    def part(self, chosen: NDArray[np.bool_]) -> Samples:
        """Some of them."""
        given = None if self.given_targets is None else self.given_targets[chosen]
        return Samples(self.x[chosen], self.y[chosen], given)

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one update, by index, and its learning rate."""

    picked: NDArray[np.int64]
    learning_rate: int
    epoch: int


class UpdateLog(Protocol):
    """Where a run tells of each update: `report.Metrics` writes it to a file."""

    def update(
        self,
        step: int,
        epoch: int,
        loss: float,
        learning_rate: int,
        samples: int,
        us: float | None,
        joules: float | None = None,
    ) -> None: ...


class Learner(Protocol):
    """What a board behind a link and the host twin have in common."""

    def cache(self, x: NDArray[np.int8]) -> None:
        """Keeps the features of these samples from now on."""
        ...

    def train_cached(self, picked: NDArray[np.int64], y: NDArray, learning_rate: int) -> list[int]:
        """`train` on samples of the cache, by their numbers: the same to the last bit."""
        ...

    def begin(self, seed: int) -> None: ...
    def load(self, adapter: bytes) -> None: ...
    def train(self, x: NDArray[np.int8], y: NDArray, learning_rate: int) -> list[int]:
        """Trains on these samples in order, y: labels or targets; their losses in 1/4096 nat."""
        ...

    def flush(self, learning_rate: int) -> None: ...
    def save(self, state: bool) -> bytes: ...
    def use(self, adapter: bytes | None) -> None: ...
    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]: ...


class TwinLearner:
    """The host twin as a learner. frames: of a sample."""

    def __init__(self, model: bytes, ranks: bytes, recipe: Recipe, frames: int = 1) -> None:
        settings = (recipe.mode, recipe.micro_batch, recipe.momentum, None, recipe.threshold)
        self.session = twin.Session(model, ranks, *settings, plain=True, frames=frames)
        self._features: list[NDArray[np.int8]] = []
        self.begin, self.load, self.flush = self.session.begin, self.session.load, self.session.flush
        self.save, self.use, self.predict = self.session.save, self.session.use, self.session.predict

    def cache(self, x: NDArray[np.int8]) -> None:
        self._features = [self.session.features(row) for row in x]

    def train_cached(self, picked: NDArray[np.int64], y: NDArray, learning_rate: int) -> list[int]:
        return [
            self.session.train_features(self._features[i], _target(label), learning_rate)
            for i, label in zip(picked, y, strict=True)
        ]

    def train(self, x: NDArray[np.int8], y: NDArray, learning_rate: int) -> list[int]:
        return [self.session.train(row, _target(label), learning_rate) for row, label in zip(x, y, strict=True)]

    def gradients(self) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Of A [rank, K] and B [O, rank] by op, as SPEC.md's section 5 has them, of the samples since `load`.

        They must be fewer than a micro-batch, and A trainable. An update at rate 0 ends them: the sums are in the
        arena, their exponent is in the scale that follows their mean (section 6).
        """
        sums = [self.session.gradients(matrix) for matrix in "AB"]
        self.flush(0)
        layers = formats.unpack_adapter(self.save(True)).layers
        return {
            layer.op: (
                _scaled(sums[0][layer.op], layer.a_state).reshape(layer.a.shape),
                _scaled(sums[1][layer.op], layer.b_state).reshape(layer.b.shape),
            )
            for layer in layers
        }


def _scaled(sums: NDArray[np.int64], state: formats.TensorState | None) -> NDArray[np.float64]:
    if state is None or not state.vm:
        return np.zeros(len(sums))
    shift = max(0, int(np.abs(sums).max()).bit_length() - 15)
    mean = -(-int((np.abs(sums) >> shift).sum()) // len(sums))
    return (sums * 2.0 ** (state.vx + 16 - mean.bit_length() - shift)).astype(np.float64)


def most_summed(model: QuantModel, ops: Iterable[int]) -> int:
    """How many samples' gradients `TwinLearner.gradients` can be asked for, with adapters on these ops."""
    positions = max(model.tensors[model.ops[op].output].positions for op in ops)
    return min(LIMITS["micro_batch"][1], formats.MAX_SUMMED // positions) - 1


def _target(label: NDArray) -> int | NDArray[np.int8]:
    """A sample's label or, where there are several values, its target."""
    return label if label.ndim else int(label)


@dataclass
class Run:
    """What a training run left behind. losses: nats, one an update (mean of its samples)."""

    adapter: bytes
    state: bytes
    losses: list[float] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)


def schedule(count: int, recipe: Recipe) -> list[MicroBatch]:
    """The updates of a run over `count` samples: each epoch a new permutation, micro-batches across epoch borders."""
    order = np.concatenate(list(_orders(count, recipe)))
    starts = range(0, len(order), recipe.micro_batch)
    return [
        MicroBatch(
            order[at : at + recipe.micro_batch], falling_rate(recipe.learning_rate, step, len(starts)), at // count
        )
        for step, at in enumerate(starts)
    ]


def _orders(count: int, recipe: Recipe) -> Iterator[NDArray[np.int64]]:
    """The permutation of each epoch: the board's own, or one that the host draws."""
    rng = np.random.default_rng(recipe.seed)
    for epoch in range(recipe.epochs):
        yield twin.order(recipe.seed, epoch, count) if recipe.on_board else rng.permutation(count)


def falling_rate(rate: int, step: int, steps: int) -> int:
    """Linear decay in integers: `rate` at step 0, rate / steps at the last."""
    return max(1, rate * (steps - step) // steps)


def train(
    learner: Learner,
    samples: Samples,
    recipe: Recipe,
    progress: Progress | None = None,
    checkpoint: Callable[[], None] | None = None,
    done: int = 0,
    stop: int | None = None,
) -> Run:
    """Runs the recipe's updates from number `done` to before `stop`; the learner has begun or loaded an adapter.

    `checkpoint` is called at the end of every epoch, between two updates.
    """
    updates = schedule(len(samples), recipe)
    if recipe.cache != "none" and done < len(updates):
        learner.cache(samples.x)
    losses: list[float] = []
    by_epoch: dict[int, list[float]] = {}
    for step, batch in enumerate(updates[done:stop], done):
        labels = samples.targets[batch.picked]
        if recipe.cache == "none":
            raw = learner.train(samples.x[batch.picked], labels, batch.learning_rate)
        else:
            raw = learner.train_cached(batch.picked, labels, batch.learning_rate)
        values = [v / 4096 for v in raw]
        if len(batch.picked) < recipe.micro_batch:
            learner.flush(batch.learning_rate)
        losses.append(float(np.mean(values)))
        by_epoch.setdefault(batch.epoch, []).extend(values)
        if progress:
            progress(step + 1, len(updates), f"epoch {batch.epoch + 1}/{recipe.epochs} loss {losses[-1]:.3f}")
        last_of_epoch = step + 1 == len(updates) or updates[step + 1].epoch != batch.epoch
        if checkpoint and last_of_epoch:
            checkpoint()
    epoch_losses = [float(np.mean(by_epoch[e])) for e in sorted(by_epoch)]
    return Run(learner.save(False), learner.save(True), losses, epoch_losses)


def train_twin(model: bytes, ranks: bytes, samples: Samples, recipe: Recipe, stop: int | None = None) -> Run:
    """The whole run, or its first `stop` updates, on the host twin: all activations kept, nothing cached."""
    recipe = replace(recipe, cache="none")
    learner = TwinLearner(model, ranks, recipe, samples.frames)
    learner.begin(recipe.seed)
    return train(learner, samples, recipe, stop=stop)


def confusion(predicted: NDArray[np.int64], y: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Counts [true][predicted]."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (y, predicted), 1)
    return counts.tolist()
