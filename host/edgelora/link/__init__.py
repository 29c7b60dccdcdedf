"""The serial link to a board."""

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .client import Link
    from .protocol import FrameReader, Op, Status, encode
    from .raw_repl import RawRepl
    from .replies import (
        Decision,
        DeviceError,
        EvalReply,
        FleetState,
        FleetWork,
        Hello,
        LinkError,
        ListenReply,
        ModelInfo,
        MonitorReply,
        RunReply,
        StoredAdapter,
        StoreState,
        TrainReply,
        WatchReply,
    )
    from .transport import BRIDGES, Clock, Deadline, Interrupted, LineLost, SerialLine, reset, soft_reset
else:
    __getattr__, __dir__ = lazily(__name__, __file__)

__all__ = [
    "BRIDGES",
    "Clock",
    "Deadline",
    "Decision",
    "DeviceError",
    "EvalReply",
    "FleetState",
    "FleetWork",
    "FrameReader",
    "Hello",
    "Interrupted",
    "LineLost",
    "Link",
    "LinkError",
    "ListenReply",
    "ModelInfo",
    "MonitorReply",
    "Op",
    "RawRepl",
    "RunReply",
    "SerialLine",
    "Status",
    "StoreState",
    "StoredAdapter",
    "TrainReply",
    "WatchReply",
    "encode",
    "reset",
    "soft_reset",
]
