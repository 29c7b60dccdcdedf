"""Serves a host computer over the board's serial line."""

LINK_VERSION: int

def run(idle_ms: int = 20000, max_payload: int = ...) -> None:
    """Serves a host on the REPL's stream until it quits, Ctrl-C, or `idle_ms` without a word from it."""
