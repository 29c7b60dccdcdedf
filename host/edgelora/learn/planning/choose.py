"""Chooses a configuration for a memory budget: ranks, mode, micro-batch and the outputs to recompute.

`sensitivity` estimates the gain of each rank; gains of layers are assumed to add up. Each mode solves two exact
multiple-choice knapsacks over the layers' ranks (Dudzinski and Walukiewicz, 1987), one by bytes of the adapter file and
one by bytes of the arena. They leave the frontier: configurations whose gain no cheaper one reaches. The device's own
planner computes the arenas of these; the configuration that fits and has the highest gain is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.ela import adapter_layer_size, adapter_size
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import regions
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import MODES, Recipe, Settings
from edgelora.learn.training.run.recompute import smallest_arena, within

from .sensitivity import METHODS, Sensitivity, sensitivity

UNITS = {"ablation": "nats of loss", "gradient": "shares of the gradient's energy"}
WORTH = 0.02  # of the highest gain: the least additional gain for which a larger budget is suggested
Costs = dict[int, dict[int, int]]  # by op and rank


@dataclass(frozen=True)
class Budget:
    """Limits in bytes: of the arena and, if not None, of the adapter file."""

    ram: int
    adapter: int | None = None

    def share(self, arena_bytes: int, adapter_bytes: int) -> float:
        """The used share of the scarcer memory: at most 1 if both fit."""
        return max(arena_bytes / self.ram, adapter_bytes / self.adapter if self.adapter else 0.0)

    def __str__(self) -> str:
        return f"{self.ram} bytes of arena" + (f" and {self.adapter} of adapter" if self.adapter else "")


@dataclass(frozen=True)
class Candidate:
    """A configuration. gain: by its `Sensitivity`; recompute: by op, 1 = not kept; arena_bytes: with that."""

    recipe: Recipe
    gain: float
    arena_bytes: int
    adapter_bytes: int
    recompute: tuple[int, ...] = ()


@dataclass(frozen=True)
class Choice:
    """frontier: of all modes, by gain, nothing recomputed; beyond: the next candidate that is worth a larger budget."""

    budget: Budget
    chosen: Candidate
    beyond: Candidate | None
    frontier: tuple[Candidate, ...]
    sensitivities: tuple[Sensitivity, ...]

    @property
    def unit(self) -> str:
        """The unit of gains."""
        return UNITS[self.sensitivities[0].method]


def choose(
    elm: bytes,
    samples: Samples,
    recipe: Recipe,
    budget: Budget,
    modes: Sequence[str] = MODES,
    method: str = METHODS[0],
    progress: Progress = no_progress,
) -> Choice:
    """The configuration of the highest expected gain on these samples within a budget.

    Layers are those of the recipe's placement; its micro-batch is lowered if a layer has too many positions for it.
    Raises ValueError, naming the smallest configuration that works, if none fits.
    """
    return choices(elm, samples, recipe, modes, method, progress).within(budget)


def choices(
    elm: bytes,
    samples: Samples,
    recipe: Recipe,
    modes: Sequence[str] = MODES,
    method: str = METHODS[0],
    progress: Progress = no_progress,
) -> Choices:
    """The candidates for `choose`: the part that takes long and does not depend on the budget."""
    recipes = [replace(recipe, mode=mode, cache="none", given_ranks=None) for mode in modes]
    measured = tuple(sensitivity(elm, samples, mine, method, progress) for mine in recipes)
    pool = [
        one
        for mine, gains in zip(recipes, measured, strict=True)
        for one in _candidates(elm, samples.frames, mine, gains)
    ]
    if not pool:
        raise InputError("no adapter lowers the loss on these samples: the base fits them already, or they are too few")
    return Choices(elm, samples.frames, tuple(pool), measured)


@dataclass(frozen=True)
class Choices:
    """Configurations of a base for one user's samples, of so many frames each."""

    elm: bytes
    frames: int
    candidates: tuple[Candidate, ...]
    sensitivities: tuple[Sensitivity, ...]

    def within(self, budget: Budget) -> Choice:
        """The best one within a budget. ValueError, naming the smallest configuration that works, if none fits."""
        pool = [replace(one, recipe=replace(one.recipe, ram=budget.ram)) for one in self.candidates]
        pool.sort(key=lambda one: (-one.gain, budget.share(one.arena_bytes, one.adapter_bytes)))
        chosen = _best_fitting(self.elm, self.frames, pool, budget)
        if chosen is None:
            raise InputError(_refusal(self.elm, self.frames, pool, budget))
        worth = chosen.gain + WORTH * pool[0].gain
        beyond = min(
            (one for one in pool if one.gain >= worth),
            key=lambda one: budget.share(one.arena_bytes, one.adapter_bytes),
            default=None,
        )
        modes = dict.fromkeys(measured.mode for measured in self.sensitivities)
        unbeaten = [one for mode in modes for one in _unbeaten([other for other in pool if other.recipe.mode == mode])]
        return Choice(budget, chosen, beyond, tuple(sorted(unbeaten, key=lambda one: one.gain)), self.sensitivities)


def frontier(gains: dict[int, dict[int, float]], costs: Costs) -> list[dict[int, int]]:
    """Ranks by op of every allocation that has more gain than all that cost no more; the empty one is first."""
    best: list[tuple[int, float, dict[int, int]]] = [(0, 0.0, {})]
    for op, by_rank in gains.items():
        grown = best + [
            (cost + costs[op][rank], gain + more, {**ranks, op: rank})
            for cost, gain, ranks in best
            for rank, more in by_rank.items()
        ]
        grown.sort(key=lambda one: (one[0], -one[1]))
        best = grown[:1]
        for one in grown[1:]:
            if one[1] > best[-1][1]:
                best.append(one)
    return [ranks for _, _, ranks in best]


def file_costs(model: QuantModel, measured: Sensitivity) -> Costs:
    """Bytes of the adapter file that each layer takes at each rank."""
    trains_a = measured.mode == "trainable_a"
    return {
        op: {rank: adapter_layer_size(model, op, rank, trains_a) for rank in gains}
        for op, gains in measured.gains.items()
    }


# ---- candidates ------------------------------------------------------------------------------------------------------


def _candidates(elm: bytes, frames: int, recipe: Recipe, measured: Sensitivity) -> list[Candidate]:
    """Both frontiers of a mode and, as knapsacks ignore the buffers of passes, each layer alone; nothing recomputed."""
    model = unpack_model(elm)
    alone = [{op: rank} for op, gains in measured.gains.items() for rank, gain in gains.items() if gain]
    by_arena: Costs = {op: {} for op in measured.gains}
    for op, rank in ((op, rank) for op, gains in measured.gains.items() for rank in gains):
        by_arena[op][rank] = _lasting_bytes(elm, frames, recipe.with_ranks(model, {op: rank}).settings(elm))
    cheap = [frontier(measured.gains, costs)[1:] for costs in (file_costs(model, measured), by_arena)]
    recipes = dict.fromkeys(recipe.with_ranks(model, ranks) for ranks in (*alone, *cheap[0], *cheap[1]))
    return [_candidate(elm, frames, model, mine, measured) for mine in recipes]


def _candidate(elm: bytes, frames: int, model: QuantModel, recipe: Recipe, measured: Sensitivity) -> Candidate:
    settings = recipe.settings(elm)
    size = adapter_size(model, settings.ranks, settings.mode == "trainable_a")
    arena = regions.layout(elm, *settings, frames=frames).arena_bytes
    return Candidate(recipe, measured.of(settings.ranks), arena, size)


def _lasting_bytes(elm: bytes, frames: int, settings: Settings) -> int:
    """Bytes of the arena that adapters always take: matrices, their training state, and t."""
    layout = regions.layout(elm, *settings, frames=frames)
    return sum(r.size for r in layout.regions if r.op >= 0 and (r.name == "t" or r.death - r.birth >= layout.steps - 1))


def _best_fitting(elm: bytes, frames: int, pool: Sequence[Candidate], budget: Budget) -> Candidate | None:
    """The first of a pool, sorted by falling gain, that fits the budget, or a better one that fits by recomputing."""
    small = [one for one in pool if not budget.adapter or one.adapter_bytes <= budget.adapter]
    best = next((one for one in small if one.arena_bytes <= budget.ram), None)
    for mode in dict.fromkeys(one.recipe.mode for one in small):
        better = [one for one in small if one.recipe.mode == mode and (best is None or one.gain > best.gain)]
        best = _first_squeezed(elm, frames, better, budget.ram) or best
    return best


def _first_squeezed(elm: bytes, frames: int, candidates: Sequence[Candidate], ram: int) -> Candidate | None:
    """The first that fits with outputs recomputed. By bisection, as less gain takes less memory in a mode."""
    found, start, end = None, 0, len(candidates)
    while start < end:
        middle = (start + end) // 2
        squeezed = _squeezed(elm, frames, candidates[middle], ram)
        found, start, end = (squeezed, start, middle) if squeezed else (found, middle + 1, end)
    return found


def _squeezed(elm: bytes, frames: int, one: Candidate, ram: int) -> Candidate | None:
    settings = one.recipe.settings(elm)
    if _lasting_bytes(elm, frames, settings) >= ram:
        return None
    try:
        settings = within(elm, settings, ram, frames)
    except ValueError:
        return None
    size = regions.layout(elm, *settings, frames=frames).arena_bytes
    return replace(one, recompute=tuple(settings.recompute or ()), arena_bytes=size)


def _unbeaten(pool: Sequence[Candidate]) -> list[Candidate]:
    """Drops from a pool, sorted by falling gain, what is no smaller in either size than one with more gain."""
    kept: list[Candidate] = []
    for one in pool:
        if all(one.arena_bytes < other.arena_bytes or one.adapter_bytes < other.adapter_bytes for other in kept):
            kept.append(one)
    return kept


def _refusal(elm: bytes, frames: int, pool: Sequence[Candidate], budget: Budget) -> str:
    """The message if nothing fits: names the smallest configuration, an adapter on one layer."""
    alone = [one for one in pool if sum(map(bool, one.recipe.given_ranks or ())) == 1]
    smallest = min(alone, key=lambda one: budget.share(one.arena_bytes, one.adapter_bytes))
    settings = smallest.recipe.settings(elm)
    arena, size = smallest_arena(elm, settings, frames), smallest.adapter_bytes
    ranks = " ".join(map(str, settings.ranks))
    enough = f"--ram {max(arena, budget.ram)} --adapter {max(size, budget.adapter or 0)}"
    return (
        f"no adapter fits {budget}: the smallest, ranks {ranks} in mode {smallest.recipe.mode}, takes {arena} bytes of "
        f"arena and {size} of adapter: give {enough} or more"
    )
