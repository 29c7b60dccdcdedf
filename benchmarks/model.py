"""`edgelora bench model`: cycles of a whole network on a board, inference and training step, layer by layer.

Layers are timed as ranges of ops, less call overhead; steps as the board runs them, including updates.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, unpack_model
from edgelora.core.twin.session import Session
from edgelora.learn.planning.plan import layer_plans
from edgelora.learn.training.recipe import Recipe

ELM, ADAPTER = "/bench.elm", "/bench.ela"
RUNS = 4
STEPS = 16  # of training: two micro-batches
CACHED = 4  # samples, which must fit in RAM


@dataclass(frozen=True)
class LayerTime:
    """Cycles of one op: inference without and with the adapter, and its step of the backward pass (None: has none)."""

    op: int
    kind: str
    output: tuple[int, int, int]
    rank: int
    macs: int
    base: int
    adapted: int
    backward: int | None


@dataclass(frozen=True)
class ModelTime:
    """Cycles of whole runs; overheads are shares of `infer`. merge_bytes: RAM for the merged weights.

    mode: of the recipe; where A is trained, each of its rows looks at all inputs, as an imported one does. train: a
    step on the recipe's layers; train_cached: one from the feature cache, adapters on the last block alone.
    merged_difference: largest difference of an output from the unmerged adapter's, in int8 steps.
    """

    macs: int
    rank: int
    placement: str
    mode: str
    clock_mhz: float
    infer: int
    infer_adapted: int
    infer_merged: int
    merge_bytes: int
    merged_difference: int
    train: int
    train_cached: int
    arena_bytes: int
    cached_arena_bytes: int
    feature_bytes: int
    layers: tuple[LayerTime, ...]

    @property
    def ratios(self) -> dict[str, float]:
        """Cost of the adapter, of merging and of training, relative to an inference of the base alone."""
        base = self.infer
        return {
            "adapted": round(self.infer_adapted / base - 1, 4),
            "merged": round(self.infer_merged / base - 1, 4),
            "train": round(self.train / base, 3),
            "train_cached": round(self.train_cached / base, 3),
        }


def bench_model(
    link: Link, elm: bytes, recipe: Recipe, clock_mhz: float, progress: Progress = no_progress, cores: int = 1
) -> ModelTime:
    """Times a `.elm` on a board, with adapters of random B by the recipe (and on the last block, for the cache).

    cores: of the board, 2 to use both of a Pico's.
    """
    model = unpack_model(elm)
    settings = recipe.settings(elm)
    ranks = settings.ranks
    if not any(ranks):
        raise InputError(f"placement {recipe.placement} leaves no layer to adapt: choose another")
    last = replace(recipe, placement="last_block").settings(elm)
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (STEPS, model.input.size)).astype(np.int8)
    y = rng.integers(0, model.output.size, STEPS)

    def cycles(us: float) -> int:
        return round(us * clock_mhz)

    def ops(first: int, end: int, backward: bool = False) -> int:
        call = link.bench_ops(0, 0, RUNS, backward).mean_us
        return cycles(link.bench_ops(first, end, RUNS, backward).mean_us - call)

    def logits() -> NDArray[np.int64]:
        found = link.eval(x, logits=True).logits
        assert found is not None
        return found.astype(np.int64)

    try:
        link.put(ELM, elm)
        link.put(ADAPTER, random_adapter(elm, ranks, recipe.mode, rng))
        info = link.open_model(ELM, *settings, cores=cores)
        count = len(model.ops)
        progress(0, 5, "layers of the base")
        infer, base = ops(0, count), [ops(i, i + 1) for i in range(count)]
        progress(1, 5, "layers with adapters")
        link.load(ADAPTER)
        adapted, with_adapter = ops(0, count), [ops(i, i + 1) for i in range(count)]
        unmerged = logits()
        progress(2, 5, "training")
        train = cycles(link.train(x, y, 0).elapsed_us / STEPS)
        lowest = next(i for i in range(count) if ranks[i])
        backward = {i: ops(i, i + 1, backward=True) for i in range(lowest, count)}
        progress(3, 5, "merged")
        link.use(ADAPTER)
        for i in range(count):
            if ranks[i]:
                link.merge(i)
        merged = ops(0, count)
        difference = np.abs(logits() - unmerged)
        progress(4, 5, "from the feature cache")
        cached_info = link.open_model(ELM, *last, cores=cores)
        link.put(ADAPTER, random_adapter(elm, last.ranks, recipe.mode, rng))
        link.load(ADAPTER)
        link.cache(x[:CACHED])
        cached = cycles(link.train_cached(np.arange(STEPS) % CACHED, y, 0).elapsed_us / STEPS)
        progress(5, 5, "done")
    finally:
        for path in (ELM, ADAPTER):
            with contextlib.suppress(RuntimeError):  # the earlier error says more
                link.remove(path)
    plans = layer_plans(model, settings)
    layers = tuple(
        LayerTime(i, p.kind, p.output, p.rank, p.macs, base[i], with_adapter[i], backward.get(i))
        for i, p in enumerate(plans)
    )
    return ModelTime(
        macs=sum(p.macs for p in plans),
        rank=recipe.rank,
        placement=recipe.placement,
        mode=recipe.mode,
        clock_mhz=clock_mhz,
        infer=infer,
        infer_adapted=adapted,
        infer_merged=merged,
        merge_bytes=sum(p.weights + 4 * p.output[2] for p in plans if p.rank),
        merged_difference=int(difference.max()),
        train=train,
        train_cached=cached,
        arena_bytes=info.arena,
        cached_arena_bytes=cached_info.arena,
        feature_bytes=cached_info.feature_size,
        layers=layers,
    )


def random_adapter(elm: bytes, ranks: bytes, mode: str, rng: np.random.Generator) -> bytes:
    """An adapter with random B and, if trained, random A."""
    session = Session(elm, ranks, mode)
    session.begin(1)
    adapter = unpack_adapter(session.save(), unpack_model(elm), base_id(elm))
    for layer in adapter.layers:
        layer.b = rng.integers(-20, 21, layer.b.shape).astype(np.int8)
        if mode == "trainable_a":
            layer.a = rng.integers(-127, 128, layer.a.shape).astype(np.int8)
    return pack_adapter(adapter)
