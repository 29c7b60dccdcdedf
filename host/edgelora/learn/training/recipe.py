"""Recipes: the settings that, with base and samples, determine a run's result."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.limits import MAX_MOMENTUM, MAX_RANK, MAX_SUMMED, MAX_THRESHOLD
from edgelora.core.formats.network import MATRIX_KINDS, QuantModel
from edgelora.core.twin import device
from edgelora.core.twin.trainable import trainable

_board, _training = device.module(), device.module("training")
MODES: tuple[str, ...] = _board.MODES[1:3]  # of training: only B, or A too
LEARNING_RATES: dict[str, int] = dict(zip(MODES, _board.LEARNING_RATES[1:3], strict=True))
MOMENTA: dict[str, int] = dict(zip(MODES, _board.MOMENTA[1:3], strict=True))
PLACEMENTS = ("all", "pointwise", "last_block", "last")
CACHES = ("none", "ram", "flash")
LEAST_UPDATES: int = _training.LEAST_UPDATES  # of a run whose number of epochs is not given
LEAST_EPOCHS: int = _training.LEAST_EPOCHS  # of such a run
CAUTION = 2  # a run without held-out samples divides its step size by this
LIMITS = {  # of the fields of a recipe, whose formats and arithmetic set them
    "rank": (1, MAX_RANK),
    "micro_batch": (1, 255),
    "momentum": (0, MAX_MOMENTUM),
    "threshold": (0, MAX_THRESHOLD),
    "learning_rate": (1, 65535),
    "epochs": (0, 10000),
    "seed": (0, 2**32 - 1),
}


class HasKernel(Protocol):
    """A layer of a float network or an op of a quantized one."""

    @property
    def kind(self) -> str: ...
    @property
    def kernel(self) -> tuple[int, int]: ...


def placed(layers: Sequence[HasKernel], placement: str, able: Sequence[int] | None = None) -> list[int]:
    """Which layers carry an adapter, by index; able: restricts to these.

    all: conv, dense and project layers; pointwise: dense layers and those with a kernel of 1x1; last_block: the last
    two of these; last: the last of all.
    """
    chosen = [i for i, layer in enumerate(layers) if layer.kind in MATRIX_KINDS and (able is None or i in able)]
    if placement in ("pointwise", "last_block"):
        chosen = [i for i in chosen if layers[i].kernel == (1, 1)]
    return chosen[{"last": -1, "last_block": -2}.get(placement, 0) :]


class Settings(NamedTuple):
    """A session's settings, in the order of the twin's and the board's arguments.

    ranks: one byte per op; momentum: its shift; recompute: which outputs are recomputed, one byte per op.
    """

    ranks: bytes
    mode: str
    micro_batch: int
    momentum: int
    recompute: bytes | None
    threshold: int


@dataclass(frozen=True)
class RunSettings:
    """A recipe resolved for a base and a number of samples: all that decides a run, with no default left open.

    session: settings of its session; epochs: over all samples; learning_rate: of the first update; cache, on_board: as
    in `Recipe`.
    """

    session: Settings
    epochs: int
    learning_rate: int
    seed: int
    cache: str = "none"
    on_board: bool = False


@dataclass(frozen=True)
class Recipe:
    """Settings of a run. ValueError outside `LIMITS`.

    learning_rate: of the first update, in int8 steps / 8192, falling to 0; None: the mode's own (`initial_rate`).
    momentum: shift of the gradient's running mean, 0: none; None: the mode's own (`momentum_shift`).
    """

    rank: int = 8
    mode: str = "frozen_a"
    micro_batch: int = 8
    momentum: int | None = None
    learning_rate: int | None = None
    epochs: int = 0  # over all samples; 0: as fitted to their number (`epochs_over`)
    seed: int = 0
    placement: str = "all"
    ram: int | None = None  # bytes that the arena may take; None: what the board has
    cache: str = "none"  # where features, outputs below the lowest adapter, are kept after a sample's first use
    threshold: int = 0  # 1/2048 of the average gradient: smaller elements are left out of an update
    given_ranks: tuple[int, ...] | None = None  # one per op, 0 = none, instead of rank and placement
    on_board: bool = False  # the board drives its run, with its own order of samples (SPEC.md, 13) and no features
    rows: bool = True  # a person's own rows of the classes compete with trained layers

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode {self.mode!r}: give one of {', '.join(MODES)}")
        decided = {"momentum": self.momentum_shift, "learning_rate": self.initial_rate}
        for name, (low, high) in LIMITS.items():
            value = decided.get(name, getattr(self, name))
            if not low <= value <= high:
                raise InputError(f"{name.replace('_', ' ')} {value}: give one from {low} to {high}")
        if self.given_ranks is not None and not all(0 <= rank <= MAX_RANK for rank in self.given_ranks):
            raise InputError(f"ranks {max(self.given_ranks)}: give 0 (no adapter) to {MAX_RANK}")
        if self.placement not in PLACEMENTS:
            raise InputError(f"placement {self.placement!r}: give one of {', '.join(PLACEMENTS)}")
        if self.cache not in CACHES:
            raise InputError(f"cache {self.cache!r}: give one of {', '.join(CACHES)}")
        if self.on_board and self.cache != "none":
            raise InputError("training with --on-board keeps no feature cache: omit --cache or --on-board")

    def resolved(self, elm: bytes, samples: int, cautious: bool = False) -> RunSettings:
        """The settings of a run over this number of samples; cautious: with smaller steps, unless the rate is given."""
        rate = self.initial_rate // CAUTION if cautious and self.learning_rate is None else self.initial_rate
        return RunSettings(self.settings(elm), self.epochs_over(samples), rate, self.seed, self.cache, self.on_board)

    def epochs_over(self, samples: int) -> int:
        """The epochs of a run over this number of samples."""
        return self.epochs or int(_training.fitting_epochs(max(1, samples), self.micro_batch))

    @property
    def initial_rate(self) -> int:
        """The rate of the first update, falling to 0: int8 steps / 8192 for an average gradient."""
        return LEARNING_RATES[self.mode] if self.learning_rate is None else self.learning_rate

    @property
    def momentum_shift(self) -> int:
        """Shift of the gradient's running mean; 0: none."""
        return MOMENTA[self.mode] if self.momentum is None else self.momentum

    def ranks(self, elm: bytes) -> bytes:
        """The rank of every op of a base: the recipe's where an adapter is placed, 0 elsewhere; or those given.

        InputError if a given one can't train: below an lstm, which passes no gradient.
        """
        model, able = _base(elm)
        if self.given_ranks is not None:
            if len(self.given_ranks) != len(model.ops):
                raise InputError(
                    f"{len(self.given_ranks)} ranks given for a model of {len(model.ops)} ops: give one for each"
                )
            below = [i for i, op in enumerate(model.ops) if op.is_matrix and self.given_ranks[i] and i not in able]
            if below:
                raise InputError(
                    f"op {below[0]} ({model.ops[below[0]].kind}) can't train: it is below an lstm, which "
                    "passes no gradient; give it rank 0"
                )
            return bytes(self.given_ranks)
        chosen = placed(model.ops, self.placement, able)
        if not chosen:
            raise InputError("no layer can train: there is no dense layer or convolution after the last lstm")
        return bytes(self.rank if i in chosen else 0 for i in range(len(model.ops)))

    def settings(self, elm: bytes) -> Settings:
        """Settings of a session that trains by the recipe and recomputes no output. InputError as `ranks`."""
        return Settings(self.ranks(elm), self.mode, self.micro_batch, self.momentum_shift, None, self.threshold)

    def with_ranks(self, model: QuantModel, ranks: dict[int, int]) -> Recipe:
        """The recipe with these ranks, by op, and a micro-batch that is not too large for these layers (SPEC.md, 9)."""
        most = min(MAX_SUMMED // model.tensors[model.ops[op].output].positions for op in ranks)
        given = tuple(ranks.get(op, 0) for op in range(len(model.ops)))
        return replace(self, given_ranks=given, micro_batch=min(self.micro_batch, most))


@functools.lru_cache(maxsize=8)
def _base(elm: bytes) -> tuple[QuantModel, list[int]]:
    """The model in a `.elm`, and which of its ops can train."""
    model = unpack_model(elm)
    return model, trainable(elm, len(model.ops))


def inference(ranks: bytes) -> Settings:
    """Settings of a session that infers with adapters of these ranks."""
    return Settings(ranks, "infer", Recipe.micro_batch, MOMENTA[Recipe.mode], None, Recipe.threshold)
