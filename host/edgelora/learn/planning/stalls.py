"""Cycles that reads of a base in flash add, on a chip whose flash is slower than its core.

Each word of a layer's weights that is read by the cache, and of what requantizes its outputs, is a miss, unless all
that a pass reads fits: then the program takes the lines of half of it from one pass to the next. Large dense layers'
weights are read ahead while the core multiplies (core/kernels/packed/read_ahead.h), past the cache: their cost is what
is left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelora.core.formats.network import WEIGHT_KINDS

from .terms import Layer, parts_of, tiles

AHEAD_BYTES, AHEAD_LEAST = 2048, 4096  # of a block, of weights; as in read_ahead.h
AHEAD_MOST = 8192  # 3 * inputs + 4 * outputs
AHEAD_ROW, AHEAD_BLOCK = 12, 110  # cycles besides misses: an autoencoder of 264 K weights on a Pico
CACHED = 16384  # bytes
MISSED = 0.5  # share of words that miss if all of them fit there
ROW_BYTES = 9  # bias, multiplier, shift


@dataclass(frozen=True)
class Flash:
    """What a pass over a base in flash waits for. miss_cycles: of a word, on average."""

    miss_cycles: float
    byte_cycles: float  # of reading ahead

    @classmethod
    def of(cls, layers: Sequence[Layer], cycles: int, hands_down: Sequence[bool] = ()) -> Flash:
        """cycles: of a miss. hands_down: which ops' weights a training step reads backward, too; none in inference."""
        back = hands_down or [False for _ in layers]
        size = sum(_words(layer, whole) for layer, whole in zip(layers, back, strict=True)) * 4
        # 8 cycles of the serial clock a word where a miss takes 20
        return cls(cycles if size > CACHED else MISSED * cycles, cycles * 8 / 20 / 4)

    def forward(self, layer: Layer, rank: int, compute: float) -> float:
        """Cycles more of an op's forward pass, which takes `compute` without them."""
        if layer.kind not in WEIGHT_KINDS:
            return 0.0
        misses = _words(layer) * self.miss_cycles
        if not is_read_ahead(layer):
            return misses * (tiles(layer, rank) if layer.inputs * layer.outputs > CACHED else 1)
        rows = AHEAD_BYTES // (layer.inputs + ROW_BYTES)
        first = min(layer.outputs, rows) * layer.inputs * self.byte_cycles
        waits = max(0.0, layer.inputs * layer.outputs * self.byte_cycles - first - compute)
        return misses + layer.outputs * AHEAD_ROW + parts_of(layer.outputs, rows) * AHEAD_BLOCK + first + waits

    def backward(self, layer: Layer, hands_down: bool) -> float:
        """Cycles more of an op's backward pass; hands_down: an error to an op below. A dense layer does not read rows
        without error.
        """
        if layer.kind not in WEIGHT_KINDS or not hands_down:
            return 0.0
        live = layer.live if layer.kind == "dense" else 1.0
        return _words(layer, whole=True) * self.miss_cycles * live


def is_read_ahead(layer: Layer) -> bool:
    """edgelora_ahead_scratch."""
    return (
        layer.kind == "dense"
        and layer.inputs % 4 == 0
        and layer.inputs + 12 <= AHEAD_BYTES
        and 3 * layer.inputs + 4 * layer.outputs <= AHEAD_MOST
        and layer.inputs * layer.outputs >= AHEAD_LEAST
    )


def _words(layer: Layer, whole: bool = False) -> float:
    """Words that are read by the cache. whole: also weights that a forward pass reads ahead."""
    if layer.kind not in WEIGHT_KINDS:
        return 0.0
    inputs = 0 if is_read_ahead(layer) and not whole else layer.inputs
    return (inputs + ROW_BYTES) * layer.outputs / 4
