"""Cycles that reads of a base in flash add, on a chip whose flash is slower than its core.

All ops of a pass read their weights, and what requantizes their outputs, through one cache, which is followed here
chunk by chunk: a training step goes up and then down, so that the next pass finds what the last one ended with. Large
layers of one position are read ahead past the cache while the core multiplies (core/kernels/packed/read_ahead.h): their
cost is what is left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, factorial

from edgelora.core.formats.network import MATRIX_KINDS, WEIGHT_KINDS

from .terms import Layer, parts_of, tiles

AHEAD_BYTES, AHEAD_LEAST = 2048, 4096  # half of the scratch, of weights; as in read_ahead.h
FIRST_ROWS, BLOCK_ROWS, SCALED_BLOCKS = 4, 16, 4  # as in read_ahead.c
AHEAD_MOST = 8192  # 3 * inputs + 4 * outputs
# cycles besides misses and products, by the layers of 17 networks on a Pico
AHEAD_LAYER, AHEAD_BLOCK, AHEAD_SCALES = 800, 295, 450
ROW_BYTES = 9  # bias, multiplier, shift
CACHE_BYTES, WAYS = 16384, 2
LINE_BYTES = 8
CHUNK_BYTES = 64  # of a base, whose lines are taken to come and go together
SETS = CACHE_BYTES // WAYS // CHUNK_BYTES
INFER_BYTES, STEP_BYTES = 2624, 3264  # of code outside RAM that such a call runs; measured on a base in RAM
RECORD_BYTES = 68  # of an op and its tensors
LINE_USED = 5  # bytes of a line of such code that are read
# of code in flash that an op of a kind runs, forward and backward
CODE = {
    "embed": (400, 0),
    "project": (500, 900),
    "widen": (300, 800),
    "norm": (1300, 2400),
    "rotate": (300, 300),
    "attend": (1900, 2800),
    "lookup": (60, 300),
    "multiply": (400, 900),
    "mean": (0, 500),
}
ROUNDED_CODE = 800  # backward, of a matrix whose errors are rounded
CODE_AT = 1 << 24  # behind any base
MOST_CODE = 5  # lines of it in a set, for which the cache is followed


@dataclass(frozen=True)
class Stalls:
    """Cycles that a pass waits for misses. call: of the program around its ops."""

    call: float
    ahead: dict[int, float]  # by op
    back: dict[int, float]

    def plus(self, weight: float, other: Stalls) -> Stalls:
        """The sum with `other` times `weight`."""
        return Stalls(
            self.call + weight * other.call,
            {op: self.forward(op) + weight * bytes_ for op, bytes_ in other.ahead.items()},
            {op: self.backward(op) + weight * bytes_ for op, bytes_ in other.back.items()},
        )

    def forward(self, op: int) -> float:
        return self.ahead.get(op, 0)

    def backward(self, op: int) -> float:
        return self.back.get(op, 0)


@dataclass(frozen=True)
class Flash:
    """The program in flash, and a base if `has_base`. miss_cycles: of a word; cold: the cache is empty before a pass,
    which otherwise the same pass has filled. frames: of a sample that is trained; weights are read ahead only for one.
    """

    layers: Sequence[Layer]
    ranks: bytes
    miss_cycles: int
    cold: bool
    has_base: bool = True
    frames: int = 1

    def inference(self) -> Stalls:
        return self._stalls(INFER_BYTES, [False for _ in self.layers])

    def step(self, hands_down: Sequence[bool]) -> Stalls:
        """hands_down: which ops' weights the backward pass reads, too."""
        return self._stalls(STEP_BYTES, hands_down)

    def _stalls(self, program: int, hands_down: Sequence[bool]) -> Stalls:
        """The mean over sets of the cache by how many lines of code each has, which lie in flash at random."""
        found, mean = Stalls(0, {}, {}), program / LINE_USED * WAYS * LINE_BYTES / CACHE_BYTES
        for lines in range(MOST_CODE if self.miss_cycles else 0):
            cache = _Cache(lines)
            for _ in range(0 if self.cold else 1):
                self._pass(cache, hands_down)
            weight = exp(-mean) * mean**lines / factorial(lines) * self.miss_cycles / 4
            found = found.plus(weight, self._pass(cache, hands_down))
        return found

    def _pass(self, cache: _Cache, hands_down: Sequence[bool]) -> Stalls:
        """Bytes that are missing."""
        found, at = Stalls(cache.read_code() * CHUNK_BYTES // LINE_BYTES * LINE_USED, {}, {}), 0
        places: list[int] = []
        for i, layer in enumerate(self.layers):
            size = _bytes(layer) if self.has_base else 0
            skipped = _stored(layer) if size and self._reads_ahead(layer) else 0
            missed = cache.read(at + skipped, size - skipped)
            if size > CACHE_BYTES and not skipped:
                missed += (tiles(layer, self.ranks[i]) - 1) * cache.read(at, size)
            found.ahead[i] = missed + cache.read(*_code(layer, 0))
            places.append(at)
            at += size
        for i, layer in reversed(list(enumerate(self.layers))):
            if hands_down[i]:
                read = layer.zeros.live if layer.kind == "dense" else 1  # its rows without error are not read
                size = _bytes(layer) if self.has_base else 0
                found.back[i] = read * cache.read(places[i], size) + cache.read(*_code(layer, 1))
        return found

    def _reads_ahead(self, layer: Layer) -> bool:
        return self.frames == 1 and is_read_ahead(layer)

    def ahead(self, op: int, compute: float) -> float:
        """Cycles that reading ahead adds to an op's forward pass, which takes `compute` without."""
        if not self.has_base or not self.miss_cycles or not self._reads_ahead(layer := self.layers[op]):
            return 0.0
        byte_cycles = self.miss_cycles * 8 / 20 / 4  # 8 cycles of the serial clock a word where a miss takes 20
        rows = block_rows(layer.inputs)
        first = min(layer.outputs, rows, FIRST_ROWS) * layer.inputs * byte_cycles
        waits = max(0.0, layer.inputs * layer.outputs * byte_cycles - first - compute)
        scales = AHEAD_SCALES * parts_of(layer.outputs, SCALED_BLOCKS * rows) + ROW_BYTES * layer.outputs * byte_cycles
        return AHEAD_LAYER + AHEAD_BLOCK * _blocks(layer.outputs, rows) + scales + first + waits


class _Cache:
    """Chunks that are in the cache, by set; of a set the least recently used one goes. code: lines of it in each."""

    def __init__(self, code: int) -> None:
        self._sets: list[list[int]] = [[] for _ in range(SETS)]
        self._code = code

    def read(self, at: int, size: int) -> int:
        """Reads bytes [at, at + size); returns how many were missing."""
        missed = 0
        for chunk in range(at // CHUNK_BYTES, -(-(at + size) // CHUNK_BYTES) if size else 0):
            if self._take(chunk % SETS, chunk):
                missed += min(at + size, (chunk + 1) * CHUNK_BYTES) - max(at, chunk * CHUNK_BYTES)
        return missed

    def read_code(self) -> int:
        """Runs the code around a pass; returns how many of its lines were missing."""
        return sum(self._take(at, -1 - line) for line in range(self._code) for at in range(SETS))

    def _take(self, at: int, chunk: int) -> bool:
        """Whether a chunk was missing in a set."""
        held = self._sets[at]
        missing = chunk not in held
        if not missing:
            held.remove(chunk)
        held.append(chunk)
        del held[:-WAYS]
        return missing


def is_read_ahead(layer: Layer) -> bool:
    """edgelora_ahead_scratch."""
    return (
        layer.kind in MATRIX_KINDS
        and layer.positions == 1
        and layer.inputs % 4 == 0
        and layer.inputs + 18 <= AHEAD_BYTES
        and 3 * layer.inputs + 4 * layer.outputs <= AHEAD_MOST
        and layer.inputs * layer.outputs >= AHEAD_LEAST
    )


def block_rows(inputs: int) -> int:
    """Rows of weights that come at a time, edgelora_position_outputs_ahead_s8's `most`."""
    return min(2 * AHEAD_BYTES // (2 * inputs + ROW_BYTES * SCALED_BLOCKS), BLOCK_ROWS)


def _blocks(outputs: int, most: int) -> int:
    count, size = 0, min(most, FIRST_ROWS)
    while outputs > 0:
        count, outputs, size = count + 1, outputs - size, min(size + size // 4, most)
    return count


def _stored(layer: Layer) -> int:
    return (layer.inputs + ROW_BYTES) * layer.outputs


def _bytes(layer: Layer) -> int:
    """Of a layer's weights and what requantizes its outputs, or of its tables."""
    return RECORD_BYTES + (_stored(layer) if layer.kind in WEIGHT_KINDS else 0) + layer.table


def _code(layer: Layer, backward: int) -> tuple[int, int]:
    """Place and size of the code in flash that an op runs, as if kinds lay one behind the other."""
    if layer.kind == "conv":
        return CODE_AT, ROUNDED_CODE if layer.rounds and backward else 0
    at = CODE_AT + 4096 * (1 + list(CODE).index(layer.kind)) if layer.kind in CODE else 0
    return at + 2048 * backward, CODE.get(layer.kind, (0, 0))[backward]
