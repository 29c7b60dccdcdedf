"""Chooses outputs that the backward pass recomputes instead of keeping, if memory is short.

Searches the set that fits with the fewest extra multiply-accumulates (Chen et al., 2016, arXiv:1604.06174).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import combinations

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.macs import adapter_macs, op_macs
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import regions
from edgelora.core.twin.regions import Layout
from edgelora.learn.training.recipe import Settings

EXACT = 12  # up to this many outputs, every set is tried; with more, a set grows step by step
DEAR = 8  # sets without outputs that take more than this part of a forward pass's products are searched first
CHAIN = 5  # outputs below one that a step may add with it


@functools.lru_cache(maxsize=8)
def choose_recompute(elm: bytes, settings: Settings, limit: int, frames: int = 1, cores: int = 1) -> bytes | None:
    """Which outputs to recompute so that training on samples of so many frames fits `limit` bytes, one byte per op;
    None if all can be kept. cores: of the board that the session computes on.

    With at most `EXACT` outputs: the cheapest set that fits; with more: a set grown by what saves most, or found from
    none and all by exchanging outputs, less what it does not need. Raises ValueError, naming the smallest arena found,
    if nothing fits.
    """
    sizes = []
    for flags, size in _options(elm, settings, frames, cores):
        if size <= limit:
            return _needed(elm, settings, limit, frames, cores, flags) if any(flags) else None
        sizes.append(size)
    raise InputError(
        f"training needs at least {min(sizes)} bytes of arena, even when it recomputes activations, "
        f"and the limit is {limit}: give it more --ram, lower --rank, use --mode frozen_a, or adapt fewer layers "
        "(--placement)"
    )


def _needed(elm: bytes, settings: Settings, limit: int, frames: int, cores: int, flags: bytes) -> bytes:
    """The outputs of a set that fits without which nothing fits: the dearest are kept first."""
    model = unpack_model(elm)
    chosen = (index for index, flag in enumerate(flags) if flag)
    dearest = sorted(chosen, key=lambda index: -again_macs(model, settings.ranks, index))
    for index in dearest:
        fewer = flags[:index] + b"\0" + flags[index + 1 :]
        planned = regions.layout(elm, *settings._replace(recompute=fewer), frames=frames, cores=cores)
        if planned.arena_bytes <= limit:
            flags = fewer
    return flags


def within(elm: bytes, settings: Settings, limit: int | None, frames: int = 1) -> Settings:
    """The settings, with outputs recomputed so that training fits `limit` bytes, if given. ValueError as above."""
    return settings._replace(recompute=choose_recompute(elm, settings, limit, frames)) if limit else settings


def smallest_arena(elm: bytes, settings: Settings, frames: int = 1) -> int:
    """The smallest arena of training found, in bytes, with any set of outputs recomputed."""
    return min(size for _, size in _options(elm, settings, frames, 1))


def _options(elm: bytes, settings: Settings, frames: int, cores: int) -> Iterator[tuple[bytes, int]]:
    """Sets of outputs to recompute, one byte per op, and the arena's bytes with each: the empty one first."""
    model = unpack_model(elm)
    ranks, count = settings.ranks, len(model.ops)

    def layout(chosen: tuple[int, ...]) -> Layout:
        flags = bytes(i in chosen for i in range(count))
        return regions.layout(elm, *settings._replace(recompute=flags), frames=frames, cores=cores)

    keep = layout(())
    yield bytes(count), keep.arena_bytes
    able = _recomputable(model, keep)
    costs = {i: again_macs(model, ranks, i) for i in able}
    arena = functools.cache(lambda chosen: layout(chosen).arena_bytes)
    for chosen in _by_cost(costs) if len(able) <= EXACT else _searched(model, able, costs, arena):
        yield bytes(i in chosen for i in range(count)), arena(chosen)


def _searched(
    model: QuantModel, able: list[int], costs: dict[int, int], arena: Callable[[tuple[int, ...]], int]
) -> Iterator[tuple[int, ...]]:
    """Sets without dear outputs, and those made of them, before sets of all."""
    dear = {i for i in able if costs[i] > sum(op_macs(model, op) for op in range(len(model.ops))) / DEAR}
    cheap = [i for i in able if not dear & {i, *_producers(model, i)}]
    for pool in (cheap, able) if cheap and dear else (able,):
        yield from _growing(model, pool, arena)
        yield from _descending(model, pool, arena)


def again_macs(model: QuantModel, ranks: bytes, index: int) -> int:
    """Multiply-accumulates of recomputing an op's output, its adapter included."""
    return op_macs(model, index) + adapter_macs(model, ranks, index)


def _recomputable(model: QuantModel, keep: Layout) -> list[int]:
    """Ops whose outputs the backward pass reads, or would read to recompute such an output."""
    able = {i for i in range(len(model.ops)) if activation(keep, i) == "kept"}
    for i in reversed(range(len(model.ops))):
        if i in able:
            able |= set(_producers(model, i))
    return sorted(able)


def _producers(model: QuantModel, index: int) -> list[int]:
    """The ops that write an op's inputs: op i writes tensor i + 1."""
    return [tensor - 1 for tensor in model.ops[index].inputs if tensor]


def _by_cost(costs: dict[int, int]) -> Iterator[tuple[int, ...]]:
    every = [chosen for size in range(1, len(costs) + 1) for chosen in combinations(costs, size)]
    return iter(sorted(every, key=lambda chosen: (sum(costs[i] for i in chosen), len(chosen))))


def _growing(model: QuantModel, able: list[int], arena: Callable[[tuple[int, ...]], int]) -> Iterator[tuple[int, ...]]:
    """Sets that grow by one output, or by one and its inputs, which otherwise might be kept for it."""
    chosen: tuple[int, ...] = ()
    while len(chosen) < len(able):
        chains = [step for i in able if i not in chosen for step in _chains(model, i, chosen)]
        steps = [step for step in chains if set(step) <= set(able)]
        chosen = min(((*chosen, *step) for step in steps), key=lambda grown: (arena(grown), len(grown)))
        yield chosen


def _descending(
    model: QuantModel, able: list[int], arena: Callable[[tuple[int, ...]], int]
) -> Iterator[tuple[int, ...]]:
    """Sets of ever smaller arenas, from none and from all on: each differs from the one before by an output, and by
    those below it. A set that only grows keeps a block's stream for good, where its inputs alone would do.
    """
    for first in ((), able):
        chosen = frozenset(first)
        yield tuple(sorted(chosen))
        while True:
            near = [tuple(sorted(other)) for other in _exchanged(model, able, chosen)]
            best = min(near, key=arena)
            if arena(best) >= arena(tuple(sorted(chosen))):
                break
            chosen = frozenset(best)
            yield best


def _exchanged(model: QuantModel, able: list[int], chosen: frozenset[int]) -> Iterator[frozenset[int]]:
    """Sets with an output, or it and the outputs that it is made of, added, removed or both exchanged."""
    for i in able:
        below = [frozenset(step) & frozenset(able) for step in _chains(model, i, ())]
        yield from (other for step in below for other in (chosen ^ step, chosen | step, chosen - step))
        yield from (chosen ^ {i, producer} for producer in _producers(model, i) if producer in able)


def _chains(model: QuantModel, index: int, chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """An op alone, with the ops it reads, with those that they read, and so on; those already chosen left out."""
    chain: tuple[int, ...] = (index,)
    front = [index]
    for _ in range(CHAIN + 1):
        yield chain
        front = sorted({i for of in front for i in _producers(model, of)} - {*chosen, *chain})
        if not front:
            return
        chain = (*chain, *front)


def activation(layout: Layout, op: int) -> str:
    """The fate of an op's output in a training step: "used at once", "kept", "recomputed" or "held" (a history)."""
    mine = {region.name: region for region in layout.regions if region.op == op}
    if "history" in mine:
        return "held"
    if "recomputed output" in mine:
        return "recomputed"
    kept = "output" in mine and mine["output"].death > len(layout.frames)  # the forward pass ends there, with the loss
    return "kept" if kept else "used at once"
