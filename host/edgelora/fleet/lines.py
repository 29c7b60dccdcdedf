"""Boards on serial lines, for the gateway: which board it is, its roster, and what it does in a round."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..formats import HEADER_SIZE, MAX_UPDATE, read_bounded, unpack
from ..link import DeviceError, LineLost, Link, soft_reset
from .board import BoardMember
from .gateway import Attached, Check, Open
from .member import MemberError
from .messages import Stage
from .publish import folder_of, published
from .roster import RosterError, Site

NO_MEMORY = "MemoryError"  # kind of a board's error


class _OnLine:
    """A board that gets the newest roster before each round. fresh: it was restarted, and has done nothing since.

    With its modules on the heap a board may have room for a training only then. LineLost: it is to be restarted; what
    it has trained is in its flash, and a round is in its memory from its end alone.
    """

    def __init__(self, link: Link, site: Site, samples: str, check: Check, fresh: bool) -> None:
        self._link, self._site, self.fresh = link, site, fresh
        self.crowded = False
        self._member = BoardMember(link, samples, check)

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        first = message[4:5] == bytes([Stage.TASK])
        if first:
            bring_roster(self._link, self._site)
        try:
            reply = self._member.answer(message, adapter)
        except DeviceError as error:
            if not first or self.fresh or error.kind != NO_MEMORY:
                raise
            self.crowded = True
            raise LineLost("the board has no memory left to train: it is restarted") from None
        self.fresh = False
        return reply


def bring_roster(link: Link, site: Site) -> bool:
    """Gives a board the roster if it has none or an older one; whether it got it. DeviceError: it refuses it."""
    try:
        there = link.fleet_status().roster
    except DeviceError:  # it has none that it can read
        there = 0
    if there >= site.roster().number:
        return False
    link.fleet_install(site.data())
    return True


def bring_updates(link: Link, site: Site, index: int, refused: set[tuple[str, int]]) -> list[tuple[str, int]]:
    """Gives a board what is published for it and newer than what it has: names and versions, on trial there.

    refused: those that it did not take, which it is not given again; they are added.
    """
    given = []
    for name in published(site):
        try:
            bundle = read_bounded(folder_of(site, name, index) / f"{name}.elu", MAX_UPDATE + HEADER_SIZE, False)
        except FileNotFoundError:
            continue
        version = unpack(bundle, name).version
        there = max((a.version for a in link.update_state().adapters if a.name == name), default=0)
        if version <= there or (name, version) in refused:
            continue
        try:
            given.append(link.update(bundle))
        except DeviceError:  # it has fallen back from it, or it is for another base
            refused.add((name, version))
    return given


def serial_boards(site: Site, samples: str) -> Open:
    """Opens boards by their port. samples: path on them of what they learn.

    MemberError: the board is not enrolled; LineLost, LinkError: there is none.
    """

    crowded: set[str] = set()

    @contextlib.contextmanager
    def opened(port: str, check: Check) -> Iterator[Attached]:
        fresh = port in crowded
        if fresh:
            soft_reset(port)
            crowded.discard(port)
        with Link.connect(port) as link:
            public = link.fleet_identity()
            index = site.roster().index_of(public)
            if index is None:
                raise MemberError(
                    f"the board on {port} has key {public.hex()}, which is not in the roster",
                    remedy="`edgelora fleet enroll` it",
                )
            refused: set[tuple[str, int]] = set()

            def look() -> list[str]:
                try:
                    site.roster()
                except (RosterError, OSError):  # told when there is a round: the board is well
                    return []
                bring_roster(link, site)
                return [f"{name} {version}" for name, version in bring_updates(link, site, index, refused)]

            bring_roster(link, site)
            board = _OnLine(link, site, samples, check, fresh)
            try:
                yield Attached(index, board, look)
            finally:
                if board.crowded:
                    crowded.add(port)

    return opened
