"""Boards that learn together: roster, secure aggregation, members, gateway."""

from .gateway import Attached, BoardState, Check, Gateway, Member, running
from .messages import Graph, Stage, Task, graph
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
    "REVOKED",
    "ReplyRefused",
    "Roster",
    "RosterError",
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
    "running",
]
