"""Boards that learn together: roster, secure aggregation, members, gateway."""

from . import publish
from .gateway import Attached, BoardState, Check, Gateway, Member, running
from .messages import Graph, Stage, Task, graph
from .publish import PublishError, Rollout
from .roster import REVOKED, SERVER, Board, Roster, RosterError, Site, parse_public
from .secagg import ReplyRefused, Round, RoundAborted, Sum
from .web import GatewayClient, GatewayError, board_server, local_server

__all__ = [
    "Attached",
    "Board",
    "BoardState",
    "Check",
    "Gateway",
    "GatewayClient",
    "GatewayError",
    "Graph",
    "Member",
    "PublishError",
    "REVOKED",
    "ReplyRefused",
    "Roster",
    "RosterError",
    "Rollout",
    "Round",
    "RoundAborted",
    "SERVER",
    "Site",
    "Stage",
    "Sum",
    "Task",
    "board_server",
    "graph",
    "local_server",
    "parse_public",
    "publish",
    "running",
]
