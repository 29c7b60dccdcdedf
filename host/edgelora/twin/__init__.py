"""The device's core on this computer."""

from .fleet import FleetError, Member, Next, Policy, clip_update, gaussian_noise
from .front_ends import FrontEnd
from .layout import HISTORY, LASTING, Layout, Region, layout
from .library import MODES, TwinError, check_model, draw, library, order, statuses, verify
from .session import WEIGHT_ONE, Scratch, Session

__all__ = [
    "FleetError",
    "FrontEnd",
    "HISTORY",
    "LASTING",
    "Layout",
    "MODES",
    "Member",
    "Next",
    "Policy",
    "Region",
    "Scratch",
    "Session",
    "TwinError",
    "WEIGHT_ONE",
    "check_model",
    "clip_update",
    "draw",
    "gaussian_noise",
    "layout",
    "library",
    "order",
    "statuses",
    "verify",
]
