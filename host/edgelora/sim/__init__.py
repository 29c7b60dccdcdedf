"""Virtual boards."""

from .oscillator import parse_oscillator
from .start import UNIX_BINARY, discard, start
from .world import parse_press, set_world, wait_pressed

__all__ = ["UNIX_BINARY", "discard", "parse_oscillator", "parse_press", "set_world", "start", "wait_pressed"]
