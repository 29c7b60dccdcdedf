"""Random transformers, reproducible by seed: streams, norm, attention and everything around them that `.elm` allows.

Constants are derived from scales, as quantizers do it; with `edges` some are anything that the format allows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from random_models import SHAPES, Builder
from random_ops import DrawnOp
from reference import op_forward

from edgelora.core.formats.fixed_point import (
    ATTEND_MULTIPLIERS,
    ATTEND_SHIFTS,
    NORM_BIAS,
    NORM_SHIFTS,
    derive,
    quantize_multiplier,
    rotary_angles,
    set_angles,
    set_attention,
    set_embedding,
    set_multipliers,
    set_norm,
)
from edgelora.core.formats.network import Op, QuantModel, Tensor


@dataclass(frozen=True)
class Sizes:
    """height, width: of the positions; heads and shared ones, of `head` channels; channels: of the stream."""

    height: int
    width: int
    channels: int
    heads: int
    shared: int
    head: int
    symbols: int

    @property
    def rows(self) -> int:
        return self.height * self.width


LONGEST = Sizes(1, 256, 5, 2, 1, 64, 3)  # as many rows and as large heads as the format allows
WIDEST = Sizes(2, 1, 256, 8, 4, 32, 1024)


def random_transformer(
    seed: int,
    sizes: Sizes | None = None,
    edges: bool = False,
    loss: str = "cross_entropy",
    known: bool = False,
) -> QuantModel:
    """A transformer of up to two blocks; `edges` adds constants that no quantizer would choose.

    known: before them, blocks whose inputs are in the file.
    """
    rng = np.random.default_rng(seed)
    transformer = Transformers(rng, sizes or _random_sizes(rng), edges)
    transformer.tokens()
    if known:
        transformer.known_inputs()
    for _ in range(int(rng.integers(1, 3))):
        if sizes is not None or rng.random() < 0.8:
            transformer.attention()
        if rng.random() < 0.7:
            transformer.feed_forward()
        if transformer.embeds and rng.random() < 0.1:
            transformer.embed()
    transformer.end(loss)
    return transformer.model


def language_model(seed: int, sizes: Sizes | None = None, known: bool = False) -> QuantModel:
    """A random transformer that predicts the symbol after each of its input, from earlier ones."""
    rng = np.random.default_rng(seed)
    shared = int(rng.integers(1, 3))
    heads, head = shared * int(rng.integers(1, 3)), 2 * int(rng.integers(1, 9))
    sizes = sizes or Sizes(
        int(rng.integers(2, 20)), 1, int(rng.integers(1, 30)), heads, shared, head, int(rng.choice([9, 290]))
    )
    for drawn_seed in itertools.count(1000 * seed):
        model = random_transformer(drawn_seed, sizes, known=known)
        if model.ops[0].kind in ("embed", "constant") and model.output.positions == sizes.height:
            for op in model.ops:
                op.causal = op.kind == "attend"
            if any(op.kind == "embed" for op in model.ops):
                return model
    raise AssertionError


def _random_sizes(rng: np.random.Generator) -> Sizes:
    shared = int(rng.choice([1, 1, 2, 3]))
    rows = [int(rng.integers(1, most)) for most in rng.permutation([14, 3])]
    return Sizes(
        *rows,
        int(rng.integers(1, 30)),
        shared * int(rng.choice([1, 1, 2, 3])),
        shared,
        2 * int(rng.integers(1, 9)),
        int(rng.choice([rng.integers(2, 40), rng.integers(257, 300)], p=[0.8, 0.2])),
    )


class Transformers:
    def __init__(self, rng: np.random.Generator, sizes: Sizes, edges: bool) -> None:
        self.rng, self.sizes, self.edges = rng, sizes, edges
        self.embeds = rng.random() < 0.6
        rows = (sizes.height, sizes.width)
        source = (*rows, 1 if sizes.symbols <= 256 else 2) if self.embeds else (*rows, int(rng.integers(1, 6)))
        self.builder = Builder(rng, SHAPES["small"], False, edges, source, inputs=2)
        self.model = self.builder.model
        self.model.rounds = bool(rng.random() < 0.8)
        self.grid = Tensor((*rows, sizes.channels), float(np.float32(np.exp(rng.uniform(-9, -5)))), 0, wide=True)
        self.stream = 0

    def append(self, op: Op, tensor: Tensor) -> int:
        """Appends an op that has its constants; returns the tensor that it writes."""
        self.model.ops.append(op)
        self.model.tensors.append(tensor)
        for trace in self.builder.traces:
            trace.y.append(op_forward(self.model, op.output - 1, trace))
        return op.output

    def op(self, kind: str, source: int | None = None, **fields: object) -> Op:
        end = len(self.model.ops)
        return Op(kind, end if source is None else source, end + 1, **fields)

    def matrix(self, channels: int, source: int | None = None, grid: tuple[float, int] | None = None) -> int:
        """A layer that maps the channels of each position."""
        source = len(self.model.ops) if source is None else source
        shape = self.model.tensors[source].shape
        self.builder.op("conv", source, drawn=DrawnOp("conv", shape, (*shape[:2], channels)), grid=grid)
        return len(self.model.ops)

    # --- What writes the stream ---

    def tokens(self) -> None:
        """The stream's first values: of ids, or of a convolution's outputs, perhaps with learned positions."""
        if self.rng.random() < 0.5:
            self.stream = self._known_stream()
        if self.embeds:
            self.embed()
        elif self.rng.random() < 0.5:
            self.widen(self.matrix(self.sizes.channels, 0))
        else:
            self.project(0, window=True)

    def embed(self) -> None:
        op = self.op("embed", 0, input2=self.stream)
        table = self.rng.normal(0, self._spread() * self.grid.scale, (self.sizes.symbols, self.sizes.channels))
        set_embedding(op, table, self.grid)
        if self.edges and self.rng.random() < 0.3:
            op.embedding = np.repeat(op.embedding[:, :1], self.sizes.channels, axis=1)  # rows without variance
        self.stream = self.append(op, self.grid)

    def widen(self, source: int) -> None:
        op = self.op("widen", source, input2=self.stream)
        set_multipliers(op, [quantize_multiplier(self._spread() / 40)])
        if self.edges and self.rng.random() < 0.3:
            op.multiplier[0], op.shift[0] = self.rng.integers(0, 2**31), self.rng.integers(-31, 31)
        self.stream = self.append(op, self.grid)

    def project(self, source: int, window: bool = False) -> None:
        op = self.op("project", source, input2=self.stream)
        if window:
            op.kernel = tuple(int(self.rng.integers(1, 4)) for _ in range(2))
            op.dilation = tuple(int(self.rng.integers(1, 3)) for _ in range(2))
            op.padding = tuple(int(self.rng.integers(0, 3)) for _ in range(2))
        self.model.ops.append(op)
        self.model.tensors.append(self.grid)
        spread = self.builder.weigh(op)
        ratios = np.exp(self.rng.uniform(-0.7, 0.7, self.sizes.channels))
        unit = self._spread() * self.grid.scale / spread / self.model.tensors[source].scale
        op.weight_scale = (unit * ratios).astype(np.float32).astype(np.float64)
        derive(self.model, op)
        self.builder.edge(op)
        self.model.ops.pop()
        self.model.tensors.pop()
        self.stream = self.append(op, self.grid)

    def _spread(self) -> float:
        """A standard deviation of values that are added to the stream, which may saturate it."""
        return float(self.rng.choice([3, 300, 3000, 3000, 9000, 40000 if self.edges else 6000]))

    # --- What reads it ---

    def norm(self, source: int | None = None) -> int:
        """A norm of the stream, or of another."""
        rng, channels = self.rng, self.sizes.channels
        op = self.op("norm", self.stream if source is None else source, centred=bool(rng.random() < 0.5))
        zero_point = int(rng.choice([0, 0, -128, 127, rng.integers(-128, 128)]))
        target = Tensor(self.grid.shape, float(np.float32(1 / rng.uniform(20, 60))), zero_point)
        gamma, beta = np.exp(rng.normal(0, 0.3, channels)), rng.normal(0, 0.3, channels)
        set_norm(op, self.grid, target, gamma, beta if op.centred else None, 1e-9)
        op.multiplier[0] = rng.choice([1, op.multiplier[0], rng.integers(1, 2**31 - 1)])
        if self.edges and rng.random() < 0.5:
            op.gain = rng.choice(np.array([-32767, 0, 1, 32767], np.int16), channels)
            op.bias = rng.choice(np.array([-NORM_BIAS, 0, NORM_BIAS], np.int32), channels)
            op.shift[0] = rng.choice([*NORM_SHIFTS, rng.integers(*NORM_SHIFTS)])
        return self.append(op, target)

    def attention(self, known: tuple[int, ...] = ()) -> None:
        """Attention of a norm's rows, which goes back into the stream. known: those of its inputs in the file."""
        rng, sizes = self.rng, self.sizes
        source, inputs = self.norm(), []
        for k, heads in enumerate((sizes.heads, sizes.shared, sizes.shared)):
            scale = float(np.float32(np.exp(rng.uniform(-5, -2))))
            made = self._known_rows if k in known else self.matrix
            inputs.append(made(heads * sizes.head, source, (scale, 0)))
        if rng.random() < 0.6 and sizes.head % 2 == 0:
            turned = int(rng.integers(1, 3))
            inputs[:turned] = [self._rotated(source) for source in inputs[:turned]]
        op = self.op("attend", inputs[0], input2=inputs[1], input3=inputs[2], heads=(sizes.heads, sizes.shared))
        op.causal = bool(rng.random() < 0.5)
        query, key, value = (self.model.tensors[i] for i in inputs)
        target = Tensor(query.shape, float(np.float32(value.scale * rng.uniform(0.4, 1.1))), 0)
        set_attention(op, query, key, value, target)
        if self.edges and rng.random() < 0.5:
            op.multiplier = _within(rng, ATTEND_MULTIPLIERS).astype(np.int32)
            op.shift = _within(rng, ATTEND_SHIFTS).astype(np.int8)
        made = self.append(op, target)
        if target.shape[2] == sizes.channels and rng.random() < 0.3:
            self.widen(made)
        else:
            self.project(made)

    def _rotated(self, source: int) -> int:
        op, grid, half = self.op("rotate", source), self.model.tensors[source], self.sizes.head // 2
        set_angles(op, rotary_angles(self.sizes.rows, half))
        if self.edges and self.rng.random() < 0.5:
            op.angles = self.rng.choice(np.array([-32767, 32767], np.int16), op.angles.shape)
        return self.append(op, grid)

    # --- What is in the file ---

    def _known_stream(self) -> int:
        values = np.clip(self.rng.normal(0, self._spread(), self.grid.shape), -32768, 32767).astype(np.int16)
        return self.append(self.op("constant", 0, values=values), self.grid)

    def _known_rows(self, channels: int, _: int = 0, grid: tuple[float, int] | None = None) -> int:
        """A constant where `matrix` computes one."""
        self.builder.constant((self.sizes.height, self.sizes.width, channels), grid)
        return len(self.model.ops)

    def known_inputs(self) -> None:
        """Layers of every kind that reads rows of the file, also of other sizes than those it writes."""
        sizes, inner = self.sizes, int(self.rng.integers(1, 20))
        self.project(self.norm(self._known_stream()))
        self.project(self.matrix(inner, self._known_rows(inner + 1)))
        self.project(self._known_rows(inner))
        self.widen(self._known_rows(sizes.channels))
        made = self.matrix(inner, self.norm())
        self.builder.op("multiply", made, self._known_rows(inner))
        self.project(len(self.model.ops))
        for known in range(3):
            self.attention((known,))

    def feed_forward(self) -> None:
        """A layer with an activation, perhaps gated, and one back into the stream."""
        source, inner = self.norm(), int(self.rng.integers(1, 20))
        made = self.matrix(inner, source)
        if self.rng.random() < 0.8:
            self.builder.op("lookup", made)
            made = len(self.model.ops)
            if self.rng.random() < 0.5:
                gate = self.matrix(inner, source)
                self.builder.op("multiply", made, gate)
                made = len(self.model.ops)
        self.project(made)

    def end(self, loss: str) -> None:
        """The last norm, and a layer for the loss: at every position, or of their mean."""
        self.model.loss = loss
        self.norm()
        everywhere = loss == "cross_entropy" and self.rng.random() < 0.7 and self.sizes.symbols > 1
        if everywhere and (self.sizes.rows > 1 or self.sizes.symbols <= 256):
            scale, middle = float(np.float32(np.exp(self.rng.uniform(-4, -1.5)))), int(self.rng.integers(-30, 30))
            self.matrix(self.sizes.symbols, grid=None if self.edges else (scale, middle))
            if self.rng.random() < 0.2:
                self.builder.op("softmax")
            return
        if self.rng.random() < 0.6:
            self.builder.op("mean")
        self.builder.op("dense", shape=(1, 1, int(self.rng.integers(2, 9))), last=True)


def _within(rng: np.random.Generator, ranges: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    """For each range one of its ends, or a value between them."""
    return np.array([rng.choice([low, high, rng.integers(low, high + 1)]) for low, high in ranges])
