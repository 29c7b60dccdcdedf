"""What a configuration costs on a board: arena, adapter bytes, multiply-accumulates, and whether it fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from . import formats, twin
from .boards import BoardProfile
from .model import QuantModel
from .personalize import Recipe


@dataclass(frozen=True)
class LayerPlan:
    """One op. macs, adapter_macs: multiply-accumulates of an inference; adapter_bytes: B and, if stored, A."""

    op: int
    kind: str
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    weights: int
    rank: int
    macs: int
    adapter_macs: int
    adapter_bytes: int


@dataclass(frozen=True)
class Plan:
    """arena_bytes is what the device's own planner answers; adapter_bytes is the `.ela` file's size."""

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

    @property
    def fits(self) -> bool:
        return self.arena_bytes <= self.ram_bytes

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"fits": self.fits}


def layer_plans(model: QuantModel, recipe: Recipe) -> tuple[LayerPlan, ...]:
    """The table of a model's ops with the recipe's adapters."""
    ranks, plans = recipe.ranks(model), []
    for i, op in enumerate(model.ops):
        source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
        outputs, inputs = formats.layer_size(model, i) if op.weights is not None else (0, 0)
        positions = target[0] * target[1]
        stored = inputs if recipe.mode == "trainable_a" else 0
        plans.append(
            LayerPlan(
                i,
                op.kind,
                source,
                target,
                outputs * inputs,
                ranks[i],
                positions * outputs * inputs,
                positions * ranks[i] * (inputs + outputs),
                ranks[i] * (stored + outputs),
            )
        )
    return tuple(plans)


def plan(elm: bytes, board: BoardProfile, recipe: Recipe) -> Plan:
    """Plans a training session of this recipe on a `.elm` model for a board."""
    model = formats.unpack_model(elm)
    ranks = recipe.ranks(model)
    layout = twin.layout(elm, ranks, recipe.mode, recipe.micro_batch, recipe.momentum)
    infer = twin.layout(elm, ranks, "infer", 1)
    session = twin.Session(elm, ranks, recipe.mode, recipe.micro_batch, recipe.momentum)
    session.begin(recipe.seed)
    return Plan(
        formats.base_id(elm).hex(),
        board.name,
        recipe.mode,
        recipe.rank,
        recipe.micro_batch,
        recipe.momentum,
        len(elm),
        len(session.save()),
        layout.arena_bytes,
        infer.arena_bytes,
        board.arena_bytes,
        layer_plans(model, recipe),
        layout,
    )
