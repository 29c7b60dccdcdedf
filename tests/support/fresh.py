"""Which tests and cases run: the same in every `make test`; all, with seeds drawn anew, in `make test-all`.

pytest prints EDGELORA_SEED; setting it reproduces a full run.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

FULL = bool(os.environ.get("EDGELORA_FULL"))  # `make test-all`
SEED = int(os.environ.setdefault("EDGELORA_SEED", str(secrets.randbelow(2**31) if FULL else 1)))  # for all workers


def fresh_seeds(count: int) -> range:
    """Ten times `count` seeds in a full run, else half of `count`."""
    return range(SEED, SEED + (10 * count if FULL else -(-count // 2)))


def some(cases: Sequence[T], count: int = 1) -> list[T]:
    """All cases in a full run, else `count` of them, at equal distances from the first on."""
    return list(cases) if FULL else [cases[i * len(cases) // count] for i in range(count)]


def in_full_runs(why: str) -> pytest.MarkDecorator:
    """Marks a test of `make test-all` alone. why: what other tests do in its place, or what it takes."""
    return pytest.mark.skipif(not FULL, reason=f"{why}: make test-all")


slow = in_full_runs("takes many seconds")


def rounds(count: int) -> int:
    """The number of iterations of a long loop: `count` in a full run, else an eighth of it."""
    return count if FULL else -(-count // 8)
