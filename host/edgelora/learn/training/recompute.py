"""What to compute again where memory is short: outputs that the backward pass needs and that are not kept.

The set that fits with the fewest extra multiply-accumulates is looked for (Chen et al., 2016, arXiv:1604.06174).
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

from .recipe import Recipe

EXACT = 12  # outputs among which every set is tried; of more, sets grow step by step
CHAIN = 5  # outputs below one that a step may take along


@functools.lru_cache(maxsize=8)
def choose_recompute(elm: bytes, recipe: Recipe, limit: int) -> bytes | None:
    """Which outputs to compute again so that training fits `limit` bytes, one byte an op; None: none need be.

    Of at most `EXACT` outputs the cheapest set that fits; of more, one grown by what saves most. Raises ValueError,
    naming the smallest arena found, if nothing fits.
    """
    sizes = []
    for flags, size in _options(elm, recipe):
        if size <= limit:
            return flags if any(flags) else None
        sizes.append(size)
    raise InputError(
        f"training needs at least {min(sizes)} bytes of arena, even with activations computed again, "
        f"and may take {limit}: give it more --ram, lower --rank, use --mode frozen_a, or adapt fewer layers "
        "(--placement)"
    )


def smallest_arena(elm: bytes, recipe: Recipe) -> int:
    """Bytes that training takes at least, with whatever it saves computed again."""
    return min(size for _, size in _options(elm, recipe))


def _options(elm: bytes, recipe: Recipe) -> Iterator[tuple[bytes, int]]:
    """Sets of outputs to compute again, a byte an op, and the arena with each: none first, then as they are tried."""
    model = unpack_model(elm)
    ranks, count = recipe.ranks(model), len(model.ops)

    def layout(chosen: tuple[int, ...]) -> Layout:
        flags = bytes(i in chosen for i in range(count))
        return regions.layout(elm, *recipe.settings(ranks, flags).of_arena)

    keep = layout(())
    yield bytes(count), keep.arena_bytes
    able = _recomputable(model, keep)
    costs = {i: again_macs(model, ranks, i) for i in able}
    sets = _by_cost(costs) if len(able) <= EXACT else _growing(model, able, lambda s: layout(s).arena_bytes)
    for chosen in sets:
        yield bytes(i in chosen for i in range(count)), layout(chosen).arena_bytes


def again_macs(model: QuantModel, ranks: bytes, index: int) -> int:
    """Multiply-accumulates of computing an op's output again, its adapter included."""
    return op_macs(model, index) + adapter_macs(model, ranks, index)


def _recomputable(model: QuantModel, keep: Layout) -> list[int]:
    """Ops whose outputs the backward pass reads, or would read to compute such an output again."""
    able = {i for i in range(len(model.ops)) if activation(keep, i) == "kept"}
    for i in reversed(range(len(model.ops))):
        if i in able:
            able |= set(_producers(model, i))
    return sorted(able)


def _producers(model: QuantModel, index: int) -> list[int]:
    """The ops that write an op's inputs: op i writes tensor i + 1."""
    op = model.ops[index]
    return [tensor - 1 for tensor in (op.input, op.input2) if tensor]


def _by_cost(costs: dict[int, int]) -> Iterator[tuple[int, ...]]:
    every = [chosen for size in range(1, len(costs) + 1) for chosen in combinations(costs, size)]
    return iter(sorted(every, key=lambda chosen: (sum(costs[i] for i in chosen), len(chosen))))


def _growing(model: QuantModel, able: list[int], arena: Callable[[tuple[int, ...]], int]) -> Iterator[tuple[int, ...]]:
    """Sets that grow by an output, or by one and what it comes from: alone it may only keep these instead."""
    chosen: tuple[int, ...] = ()
    while len(chosen) < len(able):
        steps = [step for i in able if i not in chosen for step in _chains(model, i, chosen)]
        chosen = min(((*chosen, *step) for step in steps), key=lambda grown: (arena(grown), len(grown)))
        yield chosen


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
    """What becomes of an op's output in a training step: "used at once", "kept", "recomputed" or "held" (a history)."""
    mine = {region.name: region for region in layout.regions if region.op == op}
    if "history" in mine:
        return "held"
    if "recomputed output" in mine:
        return "recomputed"
    kept = "output" in mine and mine["output"].death > layout.steps // 2  # the forward pass ends there, with the loss
    return "kept" if kept else "used at once"
