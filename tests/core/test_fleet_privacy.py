"""Clipping bounds the length of every update; the noise equals the reference's and has the right distribution."""

from __future__ import annotations

import hashlib
import itertools
import math
import random

import fleet_reference as ref
import fresh
import numpy as np
import pytest
from numpy.typing import NDArray

from edgelora.core.twin.fleet_update import clip_update, gaussian_noise

FALSE_ALARMS = 1e-6  # of each test of a distribution, at most


# ---- clip


def clip_cases(rng: np.random.Generator) -> list[tuple[NDArray[np.int16], NDArray[np.int16]]]:
    """Masters of 1 to 65536 parameters: extremes, one large difference, wide and narrow random values."""
    cases = []
    for n in (1, 2, 3, int(rng.integers(4, 900)), int(rng.integers(900, 5000))):
        spread = int(rng.integers(1, 32768))
        drawn = rng.integers(-spread, spread + 1, (2, n)).astype(np.int16)
        cases.append((drawn[0], drawn[1]))
        ends = rng.choice(np.array([-32768, 32767, 0, -1], np.int16), (2, n))
        cases.append((ends[0], ends[1]))
        few = drawn[0].copy()
        few[rng.integers(n)] ^= 0x7000
        cases.append((drawn[0], few))
    return cases


def length_fits(before: NDArray[np.int16], after: NDArray[np.int16], clip: int) -> NDArray[np.int64]:
    out = clip_update(before, after, clip).astype(np.int64)
    assert int((out * out).sum()) <= clip * clip
    return out


def test_clip() -> None:
    """The length is at most C, values equal the reference's, and only truncation shortens them."""
    rng = np.random.default_rng(fresh.SEED)
    for _ in range(fresh.rounds(80)):
        for before, after in clip_cases(rng):
            for clip in (1, 65535, int(rng.integers(1, 65536)), int(rng.integers(1, 3000))):
                out = length_fits(before, after, clip)
                if before.size < 1000:
                    assert out.tolist() == ref.clipped(before, after, clip)
                d = after.astype(np.int64) - before
                norm = math.sqrt(float((d * d).sum()))
                least = min(norm, clip) * (1 - norm / clip / 65536 - 1 / max(norm, 1)) if norm else 0
                assert math.sqrt(float((out * out).sum())) >= least - math.sqrt(before.size)


def test_clip_of_the_largest() -> None:
    """65536 parameters at the ends of int16: sums need 48 bits."""
    low, high = np.full(65536, -32768, np.int16), np.full(65536, 32767, np.int16)
    for clip in (1, 255, 256, 257, 65534, 65535):
        for before, after in ((low, high), (high, low)):
            out = length_fits(before, after, clip)
            assert (out == out[0]).all() and abs(out[0]) == 65535 * (65536 * clip // (256 * 65535)) >> 16
    assert not clip_update(low, low, 1).any()


def test_clip_keeps_what_fits() -> None:
    before = np.array([3, -4], np.int16)
    assert clip_update(before, np.array([0, 0], np.int16), 5).tolist() == [-3, 4]
    assert clip_update(before, np.array([0, 0], np.int16), 4).tolist() == [-2, 3]


# ---- noise


def key_of(name: object) -> bytes:
    return hashlib.sha512(f"{fresh.SEED} {name}".encode()).digest()[:32]


SIGMAS = (1, 2, 3, 5, 23, 400, 4000, 65535)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_noise_equals_the_reference(sigma: int) -> None:
    key = key_of(sigma)
    assert gaussian_noise(key, sigma, 300).tolist() == ref.Noise(key).draws(sigma, 300)


def test_noise_of_every_sigma() -> None:
    """Including sigmas around the powers of two at which the draw's scale changes."""
    near = {round(2**b * math.sqrt(2)) + d for b in range(16) for d in (-1, 0, 1)}
    drawn = random.Random(fresh.SEED).sample(range(1, 65536), 100)
    for sigma in sorted({s for s in near if 1 <= s <= 65535} | set(drawn)):
        assert gaussian_noise(key_of(sigma), sigma, 8).tolist() == ref.Noise(key_of(sigma)).draws(sigma, 8)
    assert not gaussian_noise(bytes(32), 0, 9).any()


def masses(sigma: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Values within 12 sigma and the exact discrete Gaussian's probabilities (the rest is below 1e-31)."""
    values = np.arange(-12 * sigma - 1, 12 * sigma + 2)
    weights = np.exp(-(values.astype(np.float64) ** 2) / (2 * sigma * sigma))
    return values, weights / weights.sum()


def chi_square_tail(x: float, degrees: int) -> float:
    """An upper bound on the probability that chi-square exceeds x: Laurent and Massart (2000), solved for it."""
    over = x - degrees
    if over <= 0:
        return 1.0
    root = (-math.sqrt(degrees) + math.sqrt(degrees + 2 * over)) / 2
    return math.exp(-root * root)


def binned(sigma: int, drawn: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts and expected counts, with neighbouring values merged until at least 50 are expected."""
    values, chances = masses(sigma)
    counts = np.bincount(drawn.astype(np.int64) - values[0], minlength=len(values)).astype(np.float64)
    cumulated = np.cumsum(chances) * drawn.size
    width = max(50.0, drawn.size / 300)
    bins = np.minimum((cumulated / width).astype(int), int(drawn.size / width) - 1)
    sums = [np.zeros(bins[-1] + 1) for _ in range(2)]
    np.add.at(sums[0], bins, counts)
    np.add.at(sums[1], bins, chances * drawn.size)
    return sums[0], sums[1]


@pytest.mark.parametrize("sigma", SIGMAS)
def test_noise_is_a_discrete_gaussian(sigma: int) -> None:
    """Chi-square of bins and Kolmogorov-Smirnov's largest distance, each with a false-alarm probability below 1e-6."""
    n = 2_000_000 if fresh.FULL else 200_000
    drawn = gaussian_noise(key_of((sigma, "distribution")), sigma, n)
    counts, expected = binned(sigma, drawn)
    used = expected > 20
    chi_square = float(((counts - expected) ** 2 / np.maximum(expected, 1e-9))[used].sum())
    assert chi_square_tail(chi_square, int(used.sum())) > FALSE_ALARMS, (sigma, chi_square, int(used.sum()))
    values, chances = masses(sigma)
    found = np.cumsum(np.bincount(drawn.astype(np.int64) - values[0], minlength=len(values))) / n
    distance = float(np.abs(found - np.cumsum(chances)).max())
    assert 2 * math.exp(-2 * n * distance * distance) > FALSE_ALARMS, (sigma, distance)  # Massart (1990)


@pytest.mark.parametrize("sigma", [1, 5, 400])
def test_tests_of_distributions_can_fail(sigma: int) -> None:
    """A sigma that is off by 6 % is detected."""
    n = 100_000
    drawn = np.rint(np.random.default_rng(fresh.SEED).normal(0, sigma * 1.06, n)).astype(np.int32)
    counts, expected = binned(sigma, drawn)
    used = expected > 20
    chi_square = float(((counts - expected) ** 2 / np.maximum(expected, 1e-9))[used].sum())
    assert chi_square_tail(chi_square, int(used.sum())) < FALSE_ALARMS


def test_noise_is_uncorrelated() -> None:
    """Neighbouring draws, and draws of other keys, are uncorrelated: 6 standard errors, a false alarm in 5e8."""
    n = 200_000
    drawn = gaussian_noise(key_of("memory"), 400, n).astype(np.float64) / 400
    others = gaussian_noise(key_of("other"), 400, n).astype(np.float64) / 400
    for a, b in itertools.chain(((drawn[:-lag], drawn[lag:]) for lag in (1, 2, 3, 16, 32)), [(drawn, others)]):
        assert abs(float((a * b).mean())) < 6 / math.sqrt(len(a))
