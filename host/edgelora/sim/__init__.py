"""Virtual boards."""

from .start import start
from .unix import UNIX_BINARY

__all__ = ["UNIX_BINARY", "start"]
