"""The networks that the demo and the benchmarks start from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edgelora.base.errors import InputError
from edgelora.core.formats.fixed_point import rotary_angles
from edgelora.core.formats.limits import MAX_ATTENDED

from . import deterministic_math
from .attention import rotation
from .functions import GELU, SILU
from .layers import FloatNet, Layer, Shape, build, conv, dense, depthwise, mean, output_shape, pointwise, project


def har_net(input_shape: Shape, classes: int, seed: int, labels: list[str] | None = None) -> FloatNet:
    """An untrained network for windows [1, time, channels]: three strided convolutions, an average over time, dense."""
    layers = [
        conv(16, (1, 5), (1, 2)),
        conv(24, (1, 5), (1, 3)),
        conv(32, (1, 5), (1, 2)),
        mean(),
        dense(classes),
    ]
    return build(input_shape, layers, seed, labels or [])


def ds_cnn(input_shape: Shape, classes: int, seed: int, labels: list[str] | None = None) -> FloatNet:
    """An untrained DS-CNN for spectrograms [time, coefficients, 1], as in MLPerf Tiny's keyword spotting.

    Its first layer makes about 25 times 5 positions of a larger one too, so that all others cost the same.
    Source: Y. Zhang et al., "Hello Edge", 2017, arXiv:1711.07128; C. Banbury et al., 2021, arXiv:2106.07597.
    """
    separable = [depthwise(64, (3, 3)), conv(64, (1, 1))]
    down, across = max(2, -(-input_shape[0] // 25)), max(2, -(-input_shape[1] // 5))
    layers = [conv(64, (10, max(4, across)), (down, across)), *separable * 4, mean(), dense(classes)]
    return build(input_shape, layers, seed, labels or [])


@dataclass(frozen=True)
class Transformer:
    """Sizes of a transformer: channels of its stream, layers, heads of queries and of keys, width of a feed-forward."""

    channels: int
    layers: int
    heads: tuple[int, int]
    hidden: int


LANGUAGE = Transformer(channels=64, layers=2, heads=(4, 4), hidden=172)
ENCODER = Transformer(channels=32, layers=2, heads=(4, 4), hidden=64)
COMPACT = Transformer(channels=128, layers=2, heads=(2, 2), hidden=128)


def language_model(symbols: int, length: int, seed: int, sizes: Transformer = LANGUAGE) -> FloatNet:
    """An untrained causal model of the next symbol at each of `length` positions, [1, length, 1] to [1, length,
    symbols], as Llama is built: RMSNorm, rotated queries and keys, SwiGLU; with biases.

    Source: H. Touvron et al., 2023, arXiv:2302.13971.
    """
    rng = np.random.default_rng([seed, 1])
    blocks = _Blocks(sizes, length, llama=True)
    h = blocks.add(Layer("embed", weights=deterministic_math.normal(rng, (symbols, sizes.channels), 0.1)), 0)
    blocks.add(pointwise(symbols), blocks.run(h))
    return _calm(build((1, length, 1), blocks.layers, seed), sizes)


def encoder(
    input_shape: Shape, classes: int, seed: int, labels: list[str] | None = None, sizes: Transformer = ENCODER
) -> FloatNet:
    """An untrained encoder of windows [1, time, channels] or spectrograms [time, coefficients, 1]: a token every four
    samples or frames, learned positions, LayerNorm, GELU, the mean over tokens.

    Source: A. Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, arXiv:2010.11929.
    """
    rng = np.random.default_rng([seed, 1])
    height, width, _ = input_shape
    token = conv(sizes.channels, (8, width), (4, width)) if height > 1 else conv(sizes.channels, (1, 8), (1, 4))
    tokens = output_shape(token, input_shape)
    if math.prod(tokens[:2]) > MAX_ATTENDED:
        raise InputError(f"an encoder reads at most {4 * MAX_ATTENDED} samples or frames, these are {input_shape}")
    positions = deterministic_math.normal(rng, tokens, 0.02)
    blocks = _Blocks(sizes, math.prod(tokens[:2]), llama=False)
    h = blocks.add(Layer("widen"), blocks.add(token, 0), blocks.add(Layer("constant", weights=positions), 0))
    blocks.add(dense(classes), blocks.add(mean(), blocks.run(h)))
    return _calm(build(input_shape, blocks.layers, seed, labels or []), sizes)


def compact(
    input_shape: Shape, classes: int, seed: int, labels: list[str] | None = None, sizes: Transformer = COMPACT
) -> FloatNet:
    """An untrained compact convolutional transformer of images, CCT-2/3x2 by default: two convolutions make a token
    of every 4 x 4 pixels; a feed-forward adds to its norm; the tokens' mean is weighted by a softmax of theirs.

    Nothing here trains its pools. Source: A. Hassani et al., "Escaping the Big Data Paradigm with Compact
    Transformers", 2021, arXiv:2104.05704.
    """
    rng = np.random.default_rng([seed, 1])
    pool = Layer("max_pool", (3, 3), (2, 2))
    height, width, _ = output_shape(pool, output_shape(pool, input_shape))
    blocks, h = _Blocks(sizes, height * width, llama=False), 0
    for channels in (sizes.channels // 2, sizes.channels):
        h = blocks.add(pool, blocks.add(conv(channels, (3, 3)), h))
    positions = deterministic_math.normal(rng, (height, width, sizes.channels), 0.2)
    normal = blocks.run(blocks.add(Layer("widen"), h, blocks.add(Layer("constant", weights=positions), 0)), afresh=True)
    score = blocks.add(Layer("reshape", shape=(1, 1, height * width)), blocks.add(pointwise(1), normal))
    share = blocks.add(Layer("reshape", shape=(height, width, 1)), blocks.add(Layer("softmax"), score))
    blocks.add(dense(classes), blocks.add(mean(), blocks.add(Layer("multiply"), normal, share)))
    return _calm(build(input_shape, blocks.layers, seed, labels or []), sizes)


class _Blocks:
    """Layers of a transformer; tensors are numbers as in `Layer.inputs`."""

    def __init__(self, sizes: Transformer, rows: int, llama: bool) -> None:
        self.sizes, self.llama = sizes, llama
        self.turn = Layer("rotate", angles=rotation(rotary_angles(rows, sizes.channels // sizes.heads[0] // 2)))
        self.layers: list[Layer] = []

    def add(self, layer: Layer, *inputs: int) -> int:
        self.layers.append(replace(layer, inputs=inputs))
        return len(self.layers)

    def run(self, h: int, afresh: bool = False) -> int:
        """All blocks on a stream, and the last norm. afresh: a feed-forward adds to its norm, not to the stream."""
        for _ in range(self.sizes.layers):
            h = self._attention(h)
            normal = self._norm(h)
            h = self._feed_forward(normal, self.add(Layer("widen"), normal) if afresh else h)
        return self._norm(h)

    def _norm(self, h: int) -> int:
        gain, zero = np.ones(self.sizes.channels, np.float32), np.zeros(self.sizes.channels, np.float32)
        return self.add(Layer("norm", weights=gain, bias=None if self.llama else zero, centred=not self.llama), h)

    def _attention(self, h: int) -> int:
        normal, (queries, keys) = self._norm(h), self.sizes.heads
        channels = [self.sizes.channels * count // queries for count in (queries, keys, keys)]
        q, k, v = (self.add(pointwise(outputs), normal) for outputs in channels)
        if self.llama:
            q, k = self.add(self.turn, q), self.add(self.turn, k)
        seen = self.add(Layer("attend", heads=self.sizes.heads, causal=self.llama), q, k, v)
        return self.add(project(self.sizes.channels), seen, h)

    def _feed_forward(self, normal: int, h: int) -> int:
        made = self.add(pointwise(self.sizes.hidden), normal)
        made = self.add(Layer("lookup", function=SILU if self.llama else GELU), made)
        if self.llama:
            made = self.add(Layer("multiply"), made, self.add(pointwise(self.sizes.hidden), normal))
        return self.add(project(self.sizes.channels), made, h)


def _calm(net: FloatNet, sizes: Transformer) -> FloatNet:
    """The same with smaller weights where layers add to the stream, so that it does not grow with their number."""
    share = np.float32(1 / math.sqrt(2 * sizes.layers))
    for layer in net.layers:
        if layer.kind == "project" and layer.weights is not None:
            layer.weights *= share
    return net
