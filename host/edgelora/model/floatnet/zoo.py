"""The networks that the demo and the benchmarks start from."""

from __future__ import annotations

from .layers import FloatNet, Shape, build, conv, dense, depthwise, mean


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
