"""The device's core on this computer."""

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .binding import MODES, TwinError, check_model, draw, library, order, statuses, verify
    from .fleet import FleetError, Member, Next, Policy, clip_update, gaussian_noise
    from .front_ends import FrontEnd
    from .regions import HISTORY, LASTING, Layout, Region, layout
    from .session import WEIGHT_ONE, Scratch, Session
else:
    __getattr__, __dir__ = lazily(__name__, __file__)

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
