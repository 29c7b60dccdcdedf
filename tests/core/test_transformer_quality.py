"""How near norm, rotation and attention are to real numbers, by the reference; figures are printed (pytest -s)."""

from __future__ import annotations

import numpy as np
import pytest
from reference import Ints, Trace, attend_forward, norm_forward, round_shift, turned

from edgelora.core.formats.fixed_point import (
    rotary_angles,
    set_angles,
    set_attention,
    set_norm,
    stream_scale,
)
from edgelora.core.formats.network import Op, QuantModel, Tensor

EPSILON = 1e-5
HEADS, HEAD = 4, 16


def grid_of(real: np.ndarray, wide: bool = False) -> Tensor:
    """A symmetric grid of int8 for all but one in 10,000 of these values [rows, channels], or a stream's."""
    size = np.abs(real)
    scale = stream_scale(size.max(), real.shape[1], EPSILON) if wide else np.percentile(size, 99.99) / 127
    return Tensor((1, *real.shape), float(np.float32(scale)), 0, wide)


def quantized(grid: Tensor, real: np.ndarray) -> Ints:
    return grid.quantize(real).astype(np.int64)


@pytest.mark.parametrize("spread", [0.0, 0.7])
@pytest.mark.parametrize("channels", [32, 64, 128, 256])
@pytest.mark.parametrize("centred", [False, True])
def test_a_norm_is_exact_but_for_rounding(centred: bool, channels: int, spread: float) -> None:
    """Rows differ in size by a log-normal factor. Half a step is the output's rounding; a normalized value is rounded
    to 2^-11 and its reciprocal root within 2^-14 of it."""
    rng = np.random.default_rng([centred, channels])
    real = rng.standard_normal((400, channels)) * np.exp(rng.standard_normal((400, 1)) * spread)
    gamma, beta = np.exp(rng.normal(0, 0.3, channels)), rng.normal(0, 0.2, channels) * centred
    source = grid_of(real, wide=True)
    x = quantized(source, real)
    rows = x * source.scale - centred * (x * source.scale).mean(axis=1, keepdims=True)
    exact = rows / np.sqrt(np.square(rows).mean(axis=1, keepdims=True) + EPSILON) * gamma + beta
    target = grid_of(exact)
    op = Op("norm", 0, 1, centred=centred)
    set_norm(op, source, target, gamma, beta, EPSILON)
    error = norm_forward(QuantModel([source, target], [op]), op, x) - np.clip(exact / target.scale, -128, 127)
    print(f"norm, {channels} channels: error {error.std():.3f} steps, at most {np.abs(error).max():.3f}")
    assert np.abs(error).max() < 0.5 + 2.0**-12 * gamma.max() / target.scale + 2.0**-14 * 128
    assert error.std() < 0.295 and abs(error.mean()) < 0.01


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("rows", [25, 64, 98, 128, 256])
def test_attention_is_near_the_exact_one(rows: int, spread: float) -> None:
    """Scores have this standard deviation in nats. The output's rounding alone gives 34.7 to 42.8 dB."""
    rng = np.random.default_rng(rows)
    noise = signal = 0.0
    for _ in range(3):
        q, k, v = np.clip(np.rint(40 * rng.standard_normal((3, rows, HEADS * HEAD))), -128, 127).astype(np.int64)
        grid = Tensor((1, *q.shape), float(np.float32(np.sqrt(spread) / 40)), 0)
        scores = np.einsum("ihc,jhc->hij", *(x.reshape(rows, HEADS, HEAD) for x in (q, k))) * grid.scale**2 / HEAD**0.5
        p = np.exp(scores - scores.max(axis=2, keepdims=True))
        exact = np.einsum("hij,jhc->ihc", p / p.sum(axis=2, keepdims=True), v.reshape(rows, HEADS, HEAD))
        exact = exact.reshape(q.shape)
        value, target = Tensor(grid.shape, 1.0, 0), grid_of(exact)
        op = Op("attend", 1, 4, input2=2, input3=3, heads=(HEADS, HEADS))
        set_attention(op, grid, grid, value, target)
        model = QuantModel([grid, grid, grid, value, target], [op])
        made = attend_forward(model, op, Trace([q, q, k, v]))
        signal += np.square(exact).sum()
        noise += np.square(made * target.scale - exact).sum()
    decibels = 10 * np.log10(signal / noise)
    print(f"attention, {rows} rows, scores of {spread} nats: {decibels:.1f} dB")
    assert decibels > 32


def test_a_rotation_keeps_lengths_and_turns_back() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-90, 91, (256, 2 * HEAD))
    op = Op("rotate", 0, 1)
    set_angles(op, rotary_angles(256, HEAD // 2))
    y = round_shift(turned(op, x, 1), 15)
    first, second = (v.reshape(256, 2, 2, HEAD // 2) for v in (x, y))
    lengths = [np.sqrt(np.square(v).sum(axis=2)) for v in (first, second)]
    assert np.abs(lengths[0] - lengths[1]).max() < 0.8  # both coordinates are rounded
    assert np.abs(round_shift(turned(op, y, -1), 15) - x).max() <= 1
    assert np.array_equal(y[0], x[0]) and not np.array_equal(y[1], x[1])
