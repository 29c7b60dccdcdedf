"""Boards that learn together: roster, secure aggregation, members, gateway."""

from .roster import REVOKED, SERVER, Board, Roster, RosterError, Site, parse_public

__all__ = [
    "Board",
    "REVOKED",
    "Roster",
    "RosterError",
    "SERVER",
    "Site",
    "parse_public",
]
