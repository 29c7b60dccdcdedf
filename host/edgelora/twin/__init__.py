"""The device's core on this computer."""

from .front_ends import FrontEnd
from .layout import HISTORY, LASTING, Layout, Region, layout
from .library import MODES, TwinError, check_model, draw, library, order, statuses, verify
from .session import WEIGHT_ONE, Scratch, Session

__all__ = [
    "FrontEnd",
    "HISTORY",
    "LASTING",
    "Layout",
    "MODES",
    "Region",
    "Scratch",
    "Session",
    "TwinError",
    "WEIGHT_ONE",
    "check_model",
    "draw",
    "layout",
    "library",
    "order",
    "statuses",
    "verify",
]
