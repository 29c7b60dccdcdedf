"""Boards that learn together: roster, secure aggregation, members, gateway."""

from .messages import Graph, Stage, Task, graph
from .roster import REVOKED, SERVER, Board, Roster, RosterError, Site, parse_public
from .secagg import ReplyRefused, Round, RoundAborted, Sum

__all__ = [
    "Board",
    "Graph",
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
    "graph",
    "parse_public",
]
