"""What a configuration costs on a board: arena, adapter bytes, multiply-accumulates, and whether it fits.

Where memory is short, outputs that the backward pass needs are not kept but computed again (Chen et al., 2016,
arXiv:1604.06174): the planner looks for the set that fits with the fewest extra multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import combinations

from . import formats, twin
from .boards import BoardProfile
from .model import QuantModel
from .personalize import Recipe

EXACT = 12  # outputs among which every set is tried; of more, sets grow step by step
CHAIN = 5  # outputs below one that a step may take along


@dataclass(frozen=True)
class LayerPlan:
    """One op. macs, adapter_macs: multiply-accumulates of an inference; adapter_bytes: B and, if stored, A.

    activation: what becomes of its output in a training step: "used at once", "kept" for the backward pass, or
    "recomputed".
    """

    op: int
    kind: str
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    weights: int
    rank: int
    macs: int
    adapter_macs: int
    adapter_bytes: int
    activation: str = "used at once"


@dataclass(frozen=True)
class Plan:
    """ram_bytes: the limit; recompute: by op, 1 = not kept; recompute_macs: what that costs a training step.

    arena_bytes is what the device's own planner answers; adapter_bytes is the `.ela` file's size."""

    base_id: str
    board: str
    mode: str
    rank: int
    micro_batch: int
    momentum: int
    model_bytes: int
    adapter_bytes: int
    arena_bytes: int
    infer_arena_bytes: int
    ram_bytes: int
    layers: tuple[LayerPlan, ...]
    layout: twin.Layout
    recompute: tuple[int, ...] = ()
    recompute_macs: int = 0

    @property
    def fits(self) -> bool:
        return self.arena_bytes <= self.ram_bytes

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"fits": self.fits}


def op_macs(model: QuantModel, index: int) -> int:
    """Multiply-accumulates of an op's inference, padding included; 0 for ops without weights."""
    op = model.ops[index]
    if op.weights is None:
        return 0
    height, width, _ = model.tensors[op.output].shape
    return height * width * op.weights.size


def _adapter_macs(model: QuantModel, ranks: bytes, index: int) -> int:
    if not ranks[index]:
        return 0
    height, width, _ = model.tensors[model.ops[index].output].shape
    return height * width * ranks[index] * sum(formats.layer_size(model, index))


def layer_plans(model: QuantModel, recipe: Recipe, layout: twin.Layout | None = None) -> tuple[LayerPlan, ...]:
    """The table of a model's ops with the recipe's adapters; `layout` tells what becomes of activations."""
    ranks, plans = recipe.ranks(model), []
    for i, op in enumerate(model.ops):
        source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
        outputs, inputs = formats.layer_size(model, i) if op.is_matrix else (0, 0)
        stored = inputs if recipe.mode == "trainable_a" else 0
        plans.append(
            LayerPlan(
                i,
                op.kind,
                source,
                target,
                0 if op.weights is None else op.weights.size,
                ranks[i],
                op_macs(model, i),
                _adapter_macs(model, ranks, i),
                ranks[i] * (stored + outputs),
                _activation(layout, i) if layout else "used at once",
            )
        )
    return tuple(plans)


def _activation(layout: twin.Layout, op: int) -> str:
    mine = {region.name: region for region in layout.regions if region.op == op}
    if "output again" in mine:
        return "recomputed"
    kept = "output" in mine and mine["output"].death > layout.steps // 2  # the forward pass ends there, with the loss
    return "kept" if kept else "used at once"


# ---- memory ----------------------------------------------------------------------------------------------------------


def choose_recompute(elm: bytes, recipe: Recipe, limit: int) -> bytes | None:
    """Which outputs to compute again so that training fits `limit` bytes, one byte an op; None: none need be.

    Of at most `EXACT` outputs the cheapest set that fits; of more, one grown by what saves most. Raises ValueError,
    naming the smallest arena found, if nothing fits.
    """
    model = formats.unpack_model(elm)
    ranks, count = recipe.ranks(model), len(model.ops)

    def layout(chosen: tuple[int, ...]) -> twin.Layout:
        flags = bytes(i in chosen for i in range(count))
        return twin.layout(elm, ranks, recipe.mode, recipe.micro_batch, recipe.momentum, flags)

    keep = layout(())
    if keep.arena_bytes <= limit:
        return None
    smallest = keep.arena_bytes
    able = _recomputable(model, keep)
    costs = {i: again_macs(model, ranks, i) for i in able}
    sets = _by_cost(costs) if len(able) <= EXACT else _growing(model, able, lambda s: layout(s).arena_bytes)
    for chosen in sets:
        size = layout(chosen).arena_bytes
        if size <= limit:
            return bytes(i in chosen for i in range(count))
        smallest = min(smallest, size)
    raise ValueError(
        f"training needs at least {smallest} bytes of arena, even with activations computed again, "
        f"and may take {limit}: give it more --ram, lower --rank or --micro-batch, or adapt fewer layers (--placement)"
    )


def again_macs(model: QuantModel, ranks: bytes, index: int) -> int:
    """Multiply-accumulates of computing an op's output again, its adapter included."""
    return op_macs(model, index) + _adapter_macs(model, ranks, index)


def _recomputable(model: QuantModel, keep: twin.Layout) -> list[int]:
    """Ops whose outputs the backward pass reads, or would read to compute such an output again."""
    able = {i for i in range(len(model.ops)) if _activation(keep, i) == "kept"}
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


# ---- the whole -------------------------------------------------------------------------------------------------------


def plan(elm: bytes, board: BoardProfile, recipe: Recipe) -> Plan:
    """Plans a training session of this recipe on a `.elm` model for a board, within the recipe's RAM or the board's.

    Raises ValueError if it is given too little RAM; a plan that is merely too large for the board says so (`fits`).
    """
    model = formats.unpack_model(elm)
    ranks = recipe.ranks(model)
    limit = recipe.ram or board.arena_bytes
    try:
        recompute = choose_recompute(elm, recipe, limit)
    except ValueError:
        if recipe.ram:
            raise
        recompute = None
    settings = (recipe.mode, recipe.micro_batch, recipe.momentum, recompute)
    layout = twin.layout(elm, ranks, *settings)
    infer = twin.layout(elm, ranks, "infer", 1)
    session = twin.Session(elm, ranks, *settings)
    session.begin(recipe.seed)
    return Plan(
        base_id=formats.base_id(elm).hex(),
        board=board.name,
        mode=recipe.mode,
        rank=recipe.rank,
        micro_batch=recipe.micro_batch,
        momentum=recipe.momentum,
        model_bytes=len(elm),
        adapter_bytes=len(session.save()),
        arena_bytes=layout.arena_bytes,
        infer_arena_bytes=infer.arena_bytes,
        ram_bytes=limit,
        layers=layer_plans(model, recipe, layout),
        layout=layout,
        recompute=tuple(recompute or ()),
        recompute_macs=sum(again_macs(model, ranks, i) for i, again in enumerate(recompute or ()) if again),
    )
