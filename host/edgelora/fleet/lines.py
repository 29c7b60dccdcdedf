"""Boards on serial lines, for the gateway: which board it is, its roster, and what it does in a round."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..link import DeviceError, Link
from .board import BoardMember
from .gateway import Attached, Check, Open
from .member import MemberError
from .messages import Stage
from .roster import Site


class _OnLine:
    """A board that gets the newest roster before each round."""

    def __init__(self, link: Link, site: Site, samples: str, check: Check) -> None:
        self._link, self._site = link, site
        self._member = BoardMember(link, samples, check)

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        if message[4:5] == bytes([Stage.TASK]):
            bring_roster(self._link, self._site)
        return self._member.answer(message, adapter)


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


def serial_boards(site: Site, samples: str) -> Open:
    """Opens boards by their port. samples: path on them of what they learn.

    MemberError: the board is not enrolled; LineLost, LinkError: there is none.
    """

    @contextlib.contextmanager
    def opened(port: str, check: Check) -> Iterator[Attached]:
        with Link.connect(port) as link:
            public = link.fleet_identity()
            index = site.roster().index_of(public)
            if index is None:
                raise MemberError(
                    f"the board on {port} has key {public.hex()}, which is not in the roster",
                    remedy="`edgelora fleet enroll` it",
                )
            bring_roster(link, site)
            yield Attached(index, _OnLine(link, site, samples, check), lambda: bring_roster(link, site))

    return opened
