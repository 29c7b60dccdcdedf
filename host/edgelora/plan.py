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


EXACT = 12  # outputs among which every set is tried; of more, sets grow one by one


@dataclass(frozen=True)
class LayerPlan:
    """One op. macs, adapter_macs: multiply-accumulates of an inference; adapter_bytes: B and, if stored, A.

    activation: what becomes of its output in a training step: "used at once", "kept" for the backward pass, or "recomputed".
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


def layer_plans(model: QuantModel, recipe: Recipe, layout: twin.Layout | None = None) -> tuple[LayerPlan, ...]:
    """The table of a model's ops with the recipe's adapters; `layout` tells what becomes of activations."""
    ranks, plans = recipe.ranks(model), []
    for i, op in enumerate(model.ops):
        source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
        outputs, inputs = formats.layer_size(model, i) if op.is_matrix else (0, 0)
        positions = target[0] * target[1]
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
                positions * ranks[i] * (inputs + outputs),
                ranks[i] * (stored + outputs),
                _activation(layout, i) if layout else "used at once",
            )
        )
    return tuple(plans)


def _activation(layout: twin.Layout, op: int) -> str:
    mine = {region.name: region for region in layout.regions if region.op == op}
    if "output again" in mine:
        return "recomputed"
    kept = "output" in mine and mine["output"].death > layout.steps // 2 + 1
    return "kept" if kept else "used at once"


# ---- memory ----------------------------------------------------------------------------------------------------------


def choose_recompute(elm: bytes, recipe: Recipe, limit: int) -> bytes | None:
    """Which outputs to compute again so that training fits `limit` bytes, one byte an op; None: none need be.

    Of at most `EXACT` outputs the cheapest set that fits; of more, one grown by the output that saves most. Raises
    ValueError, naming the smallest arena found, if nothing fits.
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
    needed = [i for i in range(count) if _activation(keep, i) == "kept"]
    sets = (
        _by_macs(model, needed) if len(needed) <= EXACT else _growing(needed, lambda chosen: layout(chosen).arena_bytes)
    )
    for chosen in sets:
        size = layout(chosen).arena_bytes
        if size <= limit:
            return bytes(i in chosen for i in range(count))
        smallest = min(smallest, size)
    raise ValueError(
        f"training needs at least {smallest} bytes of arena, even with activations computed again, and may take {limit}: "
        "give it more --ram, lower --rank or --micro-batch, or adapt fewer layers (--placement)"
    )


def _by_macs(model: QuantModel, needed: list[int]) -> Iterator[tuple[int, ...]]:
    every = [chosen for size in range(1, len(needed) + 1) for chosen in combinations(needed, size)]
    return iter(sorted(every, key=lambda chosen: (sum(op_macs(model, i) for i in chosen), len(chosen))))


def _growing(needed: list[int], arena: Callable[[tuple[int, ...]], int]) -> Iterator[tuple[int, ...]]:
    chosen: tuple[int, ...] = ()
    while len(chosen) < len(needed):
        chosen = min(((*chosen, i) for i in needed if i not in chosen), key=arena)
        yield chosen


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
        recompute_macs=sum(op_macs(model, i) for i, again in enumerate(recompute or ()) if again),
    )
