"""Log output of a virtual board's process, and its polling interval."""

from __future__ import annotations

import sys

POLL_SECONDS = 0.05


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
