"""Virtual boards."""

from .start import UNIX_BINARY, start

__all__ = ["UNIX_BINARY", "start"]
