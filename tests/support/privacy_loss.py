"""Epsilons in NumPy: our own privacy loss distributions, the analytic Gaussian, and pairs of normal distributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

Rounds = Sequence[tuple[float, float, int]]  # z, share of boards that are asked, number of rounds
Vector = NDArray[np.float64]


def gaussian(mu: float, delta: float) -> float:
    """Epsilon if a board moves a Gaussian's mean by mu standard deviations (Balle and Wang 2018, theorem 8)."""
    return root(lambda e: hockey_stick(mu, e) - delta, mu * mu + 20 * mu)


def hockey_stick(mu: float, epsilon: float) -> float:
    """The least delta of that Gaussian at an epsilon."""
    if not mu:
        return 0.0
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)))


def composed(rounds: Rounds, delta: float) -> float:
    """Epsilon of composed Poisson-sampled Gaussians: N(0, z^2) against share * N(1, z^2) + (1 - share) * N(0, z^2).

    The larger of both directions. Each loss is split between the two points around it on a fine grid, which keeps its
    mean; distributions are convolved by Fourier transforms.
    """
    if all(share == 1 for _, share, _ in rounds):
        return gaussian(math.sqrt(sum(times / z**2 for z, _, times in rounds)), delta)
    return max(_one_way(rounds, delta, way) for way in (1, -1))


def normals(one: tuple[float, float], other: tuple[float, float], delta: float) -> float:
    """Epsilon between two normal distributions (mean, standard deviation) of an output, by integration."""
    around = 40 * one[1]
    x = np.linspace(min(one[0], other[0]) - around, max(one[0], other[0]) + around, 1_000_001)
    p, q = (np.exp(-(((x - m) / s) ** 2) / 2) / s / math.sqrt(2 * math.pi) for m, s in (one, other))

    def told(a: Vector, b: Vector) -> float:
        return root(lambda e: float(np.maximum(a - math.exp(e) * b, 0).sum()) * (x[1] - x[0]) - delta, 100.0)

    return max(told(p, q), told(q, p))


def _one_way(rounds: Rounds, delta: float, way: int) -> float:
    parts = [(*_losses(z, share, way), times) for z, share, times in rounds]
    means = [float(loss @ mass) for loss, mass, _ in parts]
    variance = sum(t * float((loss - m) ** 2 @ mass) for (loss, mass, t), m in zip(parts, means, strict=True))
    mean = sum(times * one for (_, _, times), one in zip(parts, means, strict=True))
    grid = math.sqrt(variance / sum(times for *_, times in parts)) / 100
    widest = max(float(np.abs(loss[mass > 1e-18]).max()) for loss, mass, _ in parts)
    size = 1 << math.ceil(math.log2((2 * max(14 * math.sqrt(variance), widest) + 2 * abs(mean)) / grid + 64))
    whole = np.ones(size // 2 + 1, complex)
    for loss, mass, times in parts:
        whole *= np.fft.rfft(_on_grid(loss, mass, grid, size)) ** times
    centre = round(mean / grid) - size // 2
    values = ((np.arange(size) - centre) % size + centre) * grid
    found = np.maximum(np.fft.irfft(whole, size), 0)

    def excess(e: float) -> float:
        above = values > e
        return float(found[above] @ -np.expm1(e - values[above])) - delta

    return root(excess, float(values.max()))


def _losses(z: float, share: float, way: int) -> tuple[Vector, Vector]:
    """Losses and their probabilities under the first distribution of the pair: with the board, or without it."""
    x = np.linspace(-40 * z - 2, 40 * z + 2, 400_001)
    with np.errstate(divide="ignore"):
        loss = np.logaddexp(np.log(share) + (2 * x - 1) / (2 * z * z), np.log1p(-share))
    without = ndtr(x / z)
    mass = np.diff(share * ndtr((x - 1) / z) + (1 - share) * without if way == 1 else without)
    return way * (loss[1:] + loss[:-1]) / 2, mass


def _on_grid(loss: Vector, mass: Vector, grid: float, size: int) -> Vector:
    kept = mass > 1e-25
    place, mass = loss[kept] / grid, mass[kept]
    below = np.floor(place)
    upper = place - below
    low, high = below.astype(int) % size, (below.astype(int) + 1) % size
    return np.bincount(low, mass * (1 - upper), size) + np.bincount(high, mass * upper, size)


def root(falling: Callable[[float], float], high: float) -> float:
    """The root of a decreasing function in [0, high]."""
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return high
