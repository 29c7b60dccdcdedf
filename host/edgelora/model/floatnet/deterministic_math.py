"""Bit-identical arithmetic on every computer, for training networks.

Linear algebra libraries sum in an order that depends on processor and threads, and may fuse operations;
exponentials and sines differ in their last bits between processors. NumPy's own sums, products,
quotients and square roots, element by element, don't: IEEE 754 defines them. This module uses only these, or sums
without rounding, whose order doesn't matter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

CHUNK = 1 << 13  # values of `exp` at a time
EXACT_BITS = 53  # integers below 2**53 are exact in float64
_LN2 = math.log(2.0)
_FACTORIALS = [1.0 / math.factorial(n) for n in range(14)]


def product(a: Array, b: Array) -> Array:
    """a [..., N, K] @ b [..., K, M]. In float64 it is NumPy's, exact for integers below 2**53 in all.

    Float32 factors are rounded to integers of so many bits (20 for K = 4096), in units of a power of two by the
    largest, that no sum of K products needs more than 53 bits; what is rounded in the end is one exact sum.
    """
    if a.dtype != np.float32:
        return a @ b
    bits = (EXACT_BITS - (a.shape[-1] - 1).bit_length()) // 2
    (a_steps, a_unit), (b_steps, b_unit) = _steps(a, bits), _steps(b, bits)
    exact = a_steps @ b_steps
    exact *= a_unit * b_unit
    return exact.astype(np.float32)


def _steps(x: Array, bits: int) -> tuple[Array, float]:
    """x as integers of at most 2**bits in float64, and their unit, a power of two."""
    peak = max(float(x.max(initial=0.0)), -float(x.min(initial=0.0)))
    unit = 2.0 ** (math.frexp(peak)[1] - bits)
    steps = np.multiply(x, 1 / unit, dtype=np.float64)
    return np.rint(steps, out=steps), unit


def exp(x: Array) -> Array:
    """e to the x, element by element, within 1e-14 of it or float32's last bits: a series about multiples of log 2."""
    x = np.asarray(x)
    out = np.empty(x.shape, x.dtype)
    for given, made in zip(_chunks(x), _chunks(out), strict=True):
        wide = np.clip(given, -745.0, 709.0).astype(np.float64)
        whole = np.rint(wide / _LN2)
        rest = wide - whole * _LN2  # at most log(2) / 2
        series = np.full_like(rest, _FACTORIALS[-1])
        for factor in _FACTORIALS[-2::-1]:
            series *= rest
            series += factor
        made[...] = np.ldexp(series, whole.astype(np.int32))
    return out


def _chunks(x: Array) -> list[Array]:
    """Parts of x that stay in a processor's cache."""
    flat = x.reshape(-1)
    return [flat[at : at + CHUNK] for at in range(0, flat.size, CHUNK)]


def logistic(x: Array) -> Array:
    """1 / (1 + e to the -x), element by element."""
    return np.asarray(1 / (1 + exp(-x)))


def cosine(turns: float) -> float:
    """cos(pi * turns) for turns in [0, 1]."""
    x = math.pi * (0.5 - turns)
    term = total = x
    for n in range(2, 26, 2):  # of the sine's series about 0
        term *= -x * x / (n * (n + 1))
        total += term
    return total


def normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float = 1.0) -> NDArray[np.float32]:
    """Nearly normal float32 numbers about 0, of standard deviation `scale`: sums of four uniform ones, up to 3.46."""
    words, low = rng.integers(0, 1 << 64, shape, np.uint64), np.uint64(0xFFFF)
    total = (words & low) + (words >> np.uint64(16) & low) + (words >> np.uint64(32) & low) + (words >> np.uint64(48))
    centred = 2 * total.astype(np.int32) - 4 * 0xFFFF
    drawn: NDArray[np.float32] = centred.astype(np.float32) * np.float32(scale * math.sqrt(3 / 4) / 0x10000)
    return drawn
