"""Shamir's sharing of secrets, byte by byte over GF(2^8) with AES's polynomial 0x11B: how shares are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray


def _doubled(value: int) -> int:
    return (value << 1) ^ (0x11B if value & 0x80 else 0)


def _powers() -> list[int]:
    """Powers of 3, which generates the field: 255 of them, twice."""
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
    """Lagrange's weights at `at` of values that lie at `places`, all different, none of them `at`."""
    whole = sum(_LOG[other ^ at] for other in places)
    return [
        _POWER[(whole - _LOG[place ^ at] - sum(_LOG[place ^ other] for other in places if other != place)) % 255]
        for place in places
    ]


def value_at(shares: Mapping[int, bytes], at: int) -> bytes:
    """What the polynomials through these shares, by their x-coordinates, are at another one; at 0, the secret."""
    if at in shares:
        return shares[at]
    parts = zip(_weights(list(shares), at), shares.values(), strict=True)
    return bytes(reduce(np.bitwise_xor, (_PRODUCT[weight][np.frombuffer(share, np.uint8)] for weight, share in parts)))


def secret_of(shares: Mapping[int, bytes], threshold: int) -> bytes | None:
    """The secret of `threshold` shares or more, by x-coordinates from 1; None where they contradict each other."""
    first = dict(list(shares.items())[:threshold])
    for place, share in list(shares.items())[threshold:]:
        if value_at(first, place) != share:
            return None
    return value_at(first, 0)
