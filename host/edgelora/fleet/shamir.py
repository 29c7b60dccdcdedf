"""Reconstruction in Shamir's secret sharing, byte by byte over GF(2^8) with AES's polynomial 0x11B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray


def _doubled(value: int) -> int:
    return (value << 1) ^ (0x11B if value & 0x80 else 0)


def _powers() -> list[int]:
    """The 255 powers of 3, a generator of the field, twice."""
    powers = [1]
    while len(powers) < 510:
        powers.append(_doubled(powers[-1]) ^ powers[-1])
    return powers


_POWER = _powers()
_LOG = {value: exponent for exponent, value in enumerate(_POWER[:255])}
_PRODUCT: NDArray[np.uint8] = np.array(
    [[0 if not a or not b else _POWER[_LOG[a] + _LOG[b]] for b in range(256)] for a in range(256)], np.uint8
)


def _weights(places: Sequence[int], at: int) -> list[int]:
    """Lagrange weights at x = `at` for values at x = `places`, which are distinct and differ from `at`."""
    whole = sum(_LOG[other ^ at] for other in places)
    return [
        _POWER[(whole - _LOG[place ^ at] - sum(_LOG[place ^ other] for other in places if other != place)) % 255]
        for place in places
    ]


def value_at(shares: Mapping[int, bytes], at: int) -> bytes:
    """The polynomials through these shares, by x-coordinate, evaluated at x = `at`; at 0, the secret."""
    if at in shares:
        return shares[at]
    parts = zip(_weights(list(shares), at), shares.values(), strict=True)
    return bytes(reduce(np.bitwise_xor, (_PRODUCT[weight][np.frombuffer(share, np.uint8)] for weight, share in parts)))


def secret_of(shares: Mapping[int, bytes], threshold: int) -> bytes | None:
    """The secret from at least `threshold` shares, by x-coordinates from 1; None if they contradict each other."""
    first = dict(list(shares.items())[:threshold])
    for place, share in list(shares.items())[threshold:]:
        if value_at(first, place) != share:
            return None
    return value_at(first, 0)
