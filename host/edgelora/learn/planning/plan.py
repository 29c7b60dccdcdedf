"""What a configuration costs on a board: arena, adapter bytes, multiply-accumulates, and whether it fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from edgelora.base.text import notebook_table
from edgelora.board.profiles import BoardProfile
from edgelora.core.formats import elm as formats_elm
from edgelora.core.formats.ela import adapter_size
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.macs import adapter_macs, op_macs
from edgelora.core.formats.network import QuantModel, layer_size
from edgelora.core.formats.signal import Signal
from edgelora.core.twin import regions
from edgelora.core.twin.regions import Layout
from edgelora.learn.training.recipe import Recipe, Settings
from edgelora.learn.training.run.recompute import activation, again_macs, within

from .cost import predict


@dataclass(frozen=True)
class LayerPlan:
    """One op. macs, adapter_macs: multiply-accumulates of an inference; adapter_bytes: B and, if stored, A.

    activation: the fate of its output in a training step: "used at once", "kept" for the backward pass, or
    "recomputed"; a history's is "held" from frame to frame.
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
    """ram_bytes: the limit; recompute: by op, 1 = not kept; recompute_macs: its cost in a training step.

    arena_bytes: by the device's own planner; adapter_bytes: the `.ela` file's size; ranks: one per op; rank: the
    highest. Microseconds (step: one training sample with its share of an update) and joules (of a micro-batch and its
    update) are predictions; None if the board was not measured.
    """

    base_id: str
    board: str
    mode: str
    rank: int
    ranks: tuple[int, ...]
    micro_batch: int
    momentum: int
    model_bytes: int
    adapter_bytes: int
    arena_bytes: int
    infer_arena_bytes: int
    ram_bytes: int
    layers: tuple[LayerPlan, ...]
    layout: Layout
    recompute: tuple[int, ...] = ()
    recompute_macs: int = 0
    infer_us: float | None = None
    step_us: float | None = None
    update_joules: float | None = None
    signal: Signal | None = None  # the sensor's signal that inputs are made from
    frames: int = 1  # of a training sample; an inference takes one

    @property
    def fits(self) -> bool:
        return self.arena_bytes <= self.ram_bytes

    def _repr_html_(self) -> str:
        rows = [
            ("fits", "yes" if self.fits else "no"),
            ("trains", f"{self.mode}, ranks {' '.join(map(str, self.ranks))}, micro-batches of {self.micro_batch}"),
            ("arena", f"{self.arena_bytes:,} of {self.ram_bytes:,} bytes"),
            ("adapter", f"{self.adapter_bytes:,} bytes"),
        ]
        if self.step_us is not None:
            of = f", {self.frames} frames" if self.frames > 1 else ""
            rows.append(("a sample's training", f"{self.step_us / 1000:.2f} ms{of}, predicted"))
        return notebook_table(f"A plan for {self.board}", rows)

    def __repr__(self) -> str:
        fits = "fits" if self.fits else "does NOT fit"
        message = f"arena {self.arena_bytes} of {self.ram_bytes} bytes, {fits}; adapter {self.adapter_bytes} bytes"
        if self.infer_us is not None and self.step_us is not None:
            of = f" of {self.frames} frames" if self.frames > 1 else ""
            message += f"; inference {self.infer_us / 1000:.2f} ms, training step{of} {self.step_us / 1000:.2f} ms"
        return f"<Plan for {self.board}: {message}>"

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"fits": self.fits}


def layer_plans(model: QuantModel, settings: Settings, layout: Layout | None = None) -> tuple[LayerPlan, ...]:
    """One `LayerPlan` for each op of a model; `layout` says which activations are kept."""
    ranks, plans = settings.ranks, []
    for i, op in enumerate(model.ops):
        source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
        outputs, inputs = layer_size(model, i) if op.is_matrix else (0, 0)
        stored = inputs if settings.mode == "trainable_a" else 0
        plans.append(
            LayerPlan(
                i,
                op.kind,
                source,
                target,
                0 if op.weights is None else op.weights.size,
                ranks[i],
                op_macs(model, i),
                adapter_macs(model, ranks, i),
                ranks[i] * (stored + outputs),
                activation(layout, i) if layout else "used at once",
            )
        )
    return tuple(plans)


def plan(elm: bytes, board: BoardProfile, recipe: Recipe, frames: int | None = None) -> Plan:
    """Plans a training session of this recipe on a `.elm` model for a board, within the recipe's RAM or the board's.

    frames: of a sample; by default as many as an output depends on, 1 without history. Raises ValueError if the
    recipe's RAM is too small; a plan that only exceeds the board's RAM says so (`fits`).
    """
    model = unpack_model(elm)
    settings, frames = recipe.settings(elm), frames or model.reach
    limit = recipe.ram or board.arena_bytes
    try:
        settings = within(elm, settings, limit, frames)
    except ValueError:
        if recipe.ram:
            raise
    ranks, recompute = settings.ranks, settings.recompute or b""
    in_flash = bool(board.flash and board.flash.romfs_bytes and not board.stock)
    layout = regions.layout(elm, *settings, frames=frames)
    infer = regions.layout(elm, ranks, "infer", 1)
    cost = predict(elm, settings, board, frames, in_flash, on_board=recipe.on_board)
    once = predict(elm, settings, board, in_flash=in_flash)
    return Plan(
        base_id=formats_elm.base_id(elm).hex(),
        board=board.name,
        mode=settings.mode,
        rank=max(ranks),
        ranks=tuple(ranks),
        micro_batch=settings.micro_batch,
        momentum=settings.momentum,
        model_bytes=len(elm),
        adapter_bytes=adapter_size(model, ranks, settings.mode == "trainable_a"),
        arena_bytes=layout.arena_bytes,
        infer_arena_bytes=infer.arena_bytes,
        ram_bytes=limit,
        layers=layer_plans(model, settings, layout),
        layout=layout,
        recompute=tuple(recompute),
        recompute_macs=sum(again_macs(model, ranks, i) for i, again in enumerate(recompute) if again),
        infer_us=once.infer_us if once else None,
        step_us=cost.step_us if cost else None,
        update_joules=cost.update_joules if cost else None,
        signal=model.signal,
        frames=frames,
    )
