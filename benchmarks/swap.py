"""`edgelora bench swap`: time of a board to switch between adapters of its store, on its own clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.core.formats.ela import Adapter, AdapterLayer, pack_adapter
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.fixed_point import quantize_multiplier
from edgelora.core.formats.network import Op, QuantModel, Tensor
from edgelora.learn.training.data.base import WorkflowError

WIDTHS = (64,) * 8 + (28,)  # dense layers whose rank-4 adapter, A stored, is a file of exactly 4096 bytes
RANK = 4
MODEL = "/bench.elm"
FOLDER = "/bench.store"
COUNTS = (2, 8, 32)  # adapters in the store
LIMIT = 32  # entries of the board's store
CACHED = 4  # adapters that have room in RAM when all are to be there


@dataclass(frozen=True)
class SwapTime:
    """Microseconds a switch, means and longest, with so many adapters in the store.

    place: of the store, its partition or a folder. cached: between adapters in RAM. stored: each read from flash, its
    CRC, base and every field checked.
    """

    place: str
    adapters: int
    cached_us: float
    cached_max_us: int
    stored_us: float
    stored_max_us: int


@dataclass(frozen=True)
class SwapBench:
    """adapter_bytes, layers: of each adapter; runs: switches a figure."""

    times: list[SwapTime]
    adapter_bytes: int
    layers: int
    runs: int


def bench_swap(
    link: Link, counts: Sequence[int] = COUNTS, runs: int = 200, folder: bool = False, progress: Progress = no_progress
) -> SwapBench:
    """Fills the board's store with adapters step by step and switches between them; its contents are kept.

    folder: also in a store in a folder of the board's filesystem. Raises WorkflowError if the store has no room.
    """
    elm, adapters = layers_and_adapters(WIDTHS, max(counts))
    held = {adapter.name for adapter in link.store_list().adapters}
    if len(held) + max(counts) > LIMIT:
        room = LIMIT - len(held)
        raise WorkflowError(f"the board's store has room for {room} more adapters: give --adapters up to {room}")
    times: list[SwapTime] = []
    places = [None, FOLDER] if folder else [None]
    try:
        link.put(MODEL, elm)
        link.open_model(MODEL, ranks=RANK, mode="infer", micro_batch=1)
        for place in places:
            for time in _times(link, adapters, place, counts, runs):
                times.append(time)
                progress(len(times), len(counts) * len(places), f"{time.adapters} adapters in {time.place}")
    finally:
        link.remove(MODEL)
    return SwapBench(times, len(adapters[0]), len(WIDTHS) - 1, runs)


def _times(
    link: Link, adapters: Sequence[bytes], place: str | None, counts: Sequence[int], runs: int
) -> Iterator[SwapTime]:
    """Times with more and more adapters in a store, which are removed at the end."""
    names: list[str] = []
    size = len(adapters[0])
    try:
        for count in sorted(counts):
            for i in range(len(names), count):
                names.append(f"bench-{i}")
                link.store_put(names[i], adapters[i], place=place)
            cached = link.bench_swap_store(names[:CACHED], CACHED * size, runs, place)
            stored = link.bench_swap_store(names, size, runs, place)
            where = link.store_list(place).place
            yield SwapTime(where, count, cached.mean_us, cached.max_us, stored.mean_us, stored.max_us)
    finally:
        held = {adapter.name for adapter in link.store_list(place).adapters}
        for name in held.intersection(names):
            link.store_remove(name, place)
        if place:
            for entry in link.list(place):
                link.remove(f"{place}/{entry.name}")
            link.remove(place)


def layers_and_adapters(widths: Sequence[int], count: int) -> tuple[bytes, list[bytes]]:
    """A chain of dense layers of these widths with random weights, and so many random adapters of rank RANK for it."""
    rng = np.random.default_rng(0)
    multiplier, shift = quantize_multiplier(1 / 500)
    model = QuantModel([Tensor((1, 1, width), 0.05, 0) for width in widths], [])
    for i, outputs in enumerate(widths[1:]):
        model.ops.append(
            Op(
                "dense",
                i,
                i + 1,
                weights=rng.integers(-127, 128, (outputs, 1, 1, widths[i])).astype(np.int8),
                bias=np.zeros(outputs, np.int32),
                multiplier=np.full(outputs, multiplier, np.int32),
                shift=np.full(outputs, shift, np.int8),
                t_shift=8,
            )
        )
    elm = pack_model(model, "bench.elm")
    return elm, [_adapter(elm, widths, rng) for _ in range(count)]


def _adapter(elm: bytes, widths: Sequence[int], rng: np.random.Generator) -> bytes:
    layers = [
        AdapterLayer(
            i,
            rng.integers(-127, 128, (RANK, widths[i])).astype(np.int8),
            rng.integers(-127, 128, (outputs, RANK)).astype(np.int8),
            8,
            0,
        )
        for i, outputs in enumerate(widths[1:])
    ]
    return pack_adapter(Adapter(base_id(elm), 0, layers, a_stored=True))
