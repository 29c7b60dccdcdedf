"""How much is drawn, and from which seeds. pytest prints EDGELORA_SEED; a run that is given it draws the same again."""

from __future__ import annotations

import os
import secrets

SEED = int(os.environ.setdefault("EDGELORA_SEED", str(secrets.randbelow(2**31))))  # also of pytest-xdist's workers
FULL = bool(os.environ.get("EDGELORA_FULL"))  # `make test-all`


def fresh_seeds(count: int) -> range:
    """As many seeds, ten times as many in a full run."""
    return range(SEED, SEED + count * (10 if FULL else 1))


def rounds(count: int) -> int:
    """How often a long loop goes round: so many times in a full run, a quarter of that else."""
    return count if FULL else -(-count // 4)
