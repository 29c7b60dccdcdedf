"""The device's core on this computer."""

from .layout import HISTORY, LASTING, Layout, Region, layout
from .library import MODES, TwinError, check_model, library, order, statuses, verify
from .session import Scratch, Session

__all__ = [
    "HISTORY",
    "LASTING",
    "Layout",
    "MODES",
    "Region",
    "Scratch",
    "Session",
    "TwinError",
    "check_model",
    "layout",
    "library",
    "order",
    "statuses",
    "verify",
]
