"""Virtual boards."""

from .oscillator import parse_oscillator
from .start import UNIX_BINARY, check_can_run, check_unplugged, discard, start
from .world import driven_pins, parse_press, set_world, wait_pressed

__all__ = [
    "UNIX_BINARY",
    "check_can_run",
    "check_unplugged",
    "discard",
    "driven_pins",
    "parse_oscillator",
    "parse_press",
    "set_world",
    "start",
    "wait_pressed",
]
