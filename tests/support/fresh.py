"""Random seeds of the tests, and how many. pytest prints EDGELORA_SEED; setting it reproduces a run."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[..., Any])

SEED = int(os.environ.setdefault("EDGELORA_SEED", str(secrets.randbelow(2**31))))  # shared with pytest-xdist's workers
FULL = bool(os.environ.get("EDGELORA_FULL"))  # `make test-all`


def fresh_seeds(count: int) -> range:
    """`count` seeds, ten times as many in a full run."""
    return range(SEED, SEED + count * (10 if FULL else 1))


def some(cases: Sequence[T], count: int = 1) -> list[T]:
    """All cases in a full run, else `count` of them, in order; which ones is drawn anew in every run."""
    drawn = sorted(random.Random(SEED).sample(range(len(cases)), count))
    return list(cases) if FULL else [cases[i] for i in drawn]


def in_full_runs(why: str) -> pytest.MarkDecorator:
    """Marks a test of `make test-all` alone. why: what other tests do in its place, or what it takes."""
    return pytest.mark.skipif(not FULL, reason=f"{why}: make test-all")


def sometimes(test: Test) -> Test:
    """Marks a test that takes many seconds: about a third of these are drawn in a usual run, others in every run."""
    drawn = FULL or random.Random(f"{SEED} {test.__module__} {test.__name__}").random() < 1 / 3
    marked: Test = pytest.mark.skipif(not drawn, reason="not drawn this time: make test-all")(test)
    return marked


def rounds(count: int) -> int:
    """The number of iterations of a long loop: `count` in a full run, else a quarter of it."""
    return count if FULL else -(-count // 4)
