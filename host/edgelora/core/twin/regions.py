"""The arena as the core's planner lays it out."""

from __future__ import annotations

import ctypes as C
from collections.abc import Iterator
from dataclasses import dataclass

from .binding import MODES, _aligned, _Config, _config, _Span, check, check_model, library

SCRATCH = "scratch"
SPANS = ("output", "recomputed output", "t", "mask", "error", "work", "A", "B", SCRATCH, SCRATCH)
# names of these regions in a history op
HISTORY = {
    "output": "history",
    "recomputed output": "history in training",
    "t": "earlier values",
    "mask": "carried errors",
}
LASTING = {"A", "B"}  # all others are buffers of a pass


@dataclass(frozen=True)
class Region:
    """A part of the arena: [offset, offset + size) bytes, in use from step birth to step death of a pass."""

    op: int
    name: str
    offset: int
    size: int
    birth: int
    death: int


@dataclass(frozen=True)
class Layout:
    """The core planner's result: the arena's size in bytes, and its regions.

    steps: of a pass, one for each op that runs forward, the loss, and each that is recomputed or runs backward. frames:
    of each op, in how many of a sample's last frames it affects the loss.
    """

    arena_bytes: int
    steps: int
    regions: tuple[Region, ...]
    frames: tuple[int, ...]

    @property
    def through_time(self) -> bool:
        """Whether the backward pass goes through earlier frames, too."""
        return any(region.name == HISTORY["mask"] for region in self.regions)

    @property
    def computes_again(self) -> bool:
        """Whether these are computed again for it, as it reads more than t and masks."""
        lasting = [region for region in self.regions if region.name == HISTORY["recomputed output"]]
        return self.through_time and any(region.death == self.steps - 1 for region in lasting)


def _regions(spans: C.Array[_Span], config: _Config, ops: int, steps: int) -> Iterator[Region]:
    named = [(i, name, spans[i * len(SPANS) + k]) for i in range(ops) for k, name in enumerate(SPANS)]
    scratch = spans[len(SPANS) - 1].offset
    of_passes = [span for _, name, span in named if span.words and name not in {*LASTING, SCRATCH}]
    yield Region(-1, "session", 0, scratch, 0, steps)
    lowest = min((span.offset for span in of_passes if span.birth <= ops), default=scratch)
    yield Region(-1, SCRATCH, scratch, lowest - scratch, 0, ops)
    for i, name, span in named:
        lasts = spans[i * len(SPANS)].birth == 0 and spans[i * len(SPANS)].death == steps - 1  # a history's output
        if lasts and name in HISTORY:
            name = HISTORY[name]
        if name in LASTING:
            yield from _matrix_regions(i, name, span, config, steps)
        elif span.words:
            yield Region(i, name, span.offset, 4 * span.words, span.birth, span.death)


def _matrix_regions(op: int, name: str, span: _Span, config: _Config, end: int) -> Iterator[Region]:
    """The parts of a matrix, one behind the other: s8 weight; if it trains, s16 master, s32 gradient, s16 momentum."""
    trains = MODES[config.mode] == "trainable_a" or (name == "B" and MODES[config.mode] == "frozen_a")
    widths = {"weight": 1}
    if trains:
        widths |= {"master": 2, "gradient": 4} | ({"momentum": 2} if config.momentum else {})
    count, offset = 4 * span.words // sum(widths.values()), span.offset
    while sum((count * width + 3) // 4 * 4 for width in widths.values()) > 4 * span.words:  # padding is not elements
        count -= 1
    for part, width in widths.items() if span.words else ():
        size = (count * width + 3) // 4 * 4
        yield Region(op, f"{name} {part}", offset, size, 0, end)
        offset += size


def layout(
    model: bytes,
    ranks: bytes,
    mode: str,
    micro_batch: int,
    momentum: int = 0,
    recompute: bytes | None = None,
    threshold: int = 0,
    plain: bool = False,
    frames: int = 1,
    cores: int = 1,
) -> Layout:
    """The arena of a session, as the device will lay it out (sizes are the same on 32- and 64-bit machines)."""
    check_model(model)
    options = (micro_batch, momentum, recompute, threshold, plain, frames, cores)
    buffer, config = _aligned(model), _config(model, ranks, mode, *options)
    spans = (_Span * (len(ranks) * len(SPANS)))()
    size = check(library().edgelora_arena_size(buffer, C.byref(config), spans))
    frames_of = tuple(spans[i * len(SPANS) + SPANS.index("A")].next for i in range(len(ranks)))
    steps = spans[len(SPANS) - 1].birth + 1  # the first op runs backward last
    return Layout(size, steps, tuple(_regions(spans, config, len(ranks), steps)), frames_of)
