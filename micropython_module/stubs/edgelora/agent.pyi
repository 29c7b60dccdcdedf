"""Serves a host computer over the board's serial line."""

from typing import Optional

LINK_VERSION: int

def run(idle_ms: int = 20000, max_payload: Optional[int] = None) -> None:
    """Serves a host on the REPL's stream until it quits, Ctrl-C, or `idle_ms` without a word from it.

    max_payload: of a frame; None: what suits the heap.
    """
