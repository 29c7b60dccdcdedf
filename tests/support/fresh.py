"""Random seeds of the tests, and how many. pytest prints EDGELORA_SEED; setting it reproduces a run."""

from __future__ import annotations

import os
import secrets

SEED = int(os.environ.setdefault("EDGELORA_SEED", str(secrets.randbelow(2**31))))  # shared with pytest-xdist's workers
FULL = bool(os.environ.get("EDGELORA_FULL"))  # `make test-all`


def fresh_seeds(count: int) -> range:
    """`count` seeds, ten times as many in a full run."""
    return range(SEED, SEED + count * (10 if FULL else 1))


def rounds(count: int) -> int:
    """The number of iterations of a long loop: `count` in a full run, else a quarter of it."""
    return count if FULL else -(-count // 4)
