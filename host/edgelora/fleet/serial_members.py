"""Boards on serial lines, for the gateway: which board it is, its roster, and what it does in a round."""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from edgelora.board.link.client import Link
from edgelora.board.link.replies import DeviceError
from edgelora.board.link.serial_line import soft_reset
from edgelora.board.link.transport import Deadline, LineLost
from edgelora.board.resetting import reset
from edgelora.board.virtual_boards import clock_of
from edgelora.core.formats.elu import HEADER_SIZE, unpack
from edgelora.core.formats.files import read_bounded
from edgelora.core.formats.limits import MAX_UPDATE
from edgelora.core.twin.fleet import Policy

from .gateway import Attached, Check, Open
from .member import MemberError
from .messages import Stage
from .policy import POLICY_PATH, SAFE, parse_policy, policy_json
from .rollout import folder_of, published
from .roster import RosterError, Site
from .serial_member import BoardMember

NO_MEMORY = "MemoryError"  # kind of a board's error
NO_ROOM = "no memory to check the adapter"  # of what it says of an update then
TRIAL_SECONDS = 60.0
SLOWEST = 10  # times that a virtual board's seconds may be longer
Version = tuple[str, int]  # an adapter's name and version


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


def bring_policy(link: Link, policy: Policy | None) -> Policy:
    """Gives a board what it is to ask of every task; None: it keeps what it has, or gets what is safe. What it asks."""
    if policy is None and not any("/" + entry.name == POLICY_PATH for entry in link.list("/")):
        policy = SAFE
    if policy is not None:
        link.put(POLICY_PATH, policy_json(policy))
    return parse_policy(json.dumps(link.fleet_budget().policy).encode(), POLICY_PATH)


@dataclass
class _Line:
    """What outlives a connection to a board on a port.

    crowded: it is to be restarted for the room; given: updates that its application is to try next, and gets the board
    for; tried: those that it has had it for, until it was told what became of them; refused: those that it did not
    take, which it is not given again.
    """

    crowded: bool = False
    given: set[Version] = field(default_factory=set)
    tried: set[Version] = field(default_factory=set)
    refused: set[Version] = field(default_factory=set)


def bring_updates(link: Link, site: Site, index: int, line: _Line, fresh: bool) -> Iterator[Version]:
    """Gives a board what is published for it and newer than what it has: it is on trial from its next start on.

    LineLost: the board has no room for that, and is to be restarted, if it isn't fresh.
    """
    for name in published(site):
        try:
            bundle = read_bounded(folder_of(site, name, index) / f"{name}.elu", MAX_UPDATE + HEADER_SIZE, False)
        except FileNotFoundError:
            continue
        version = unpack(bundle, name).version
        there = max((a.version for a in link.update_state().adapters if a.name == name), default=0)
        if version <= there or (name, version) in line.refused:
            continue
        try:
            given = link.update(bundle)
        except DeviceError as error:
            if not fresh and (error.kind == NO_MEMORY or NO_ROOM in str(error)):
                line.crowded = True
                raise LineLost("the board has no memory left to check an update: it is restarted") from None
            line.refused.add((name, version))  # it has fallen back from it, or it is for another base
            continue
        line.given.add(given)
        yield given


def verdicts(link: Link, line: _Line) -> Iterator[str]:
    """What became of updates that the board's application has tried."""
    if not line.tried:
        return
    there = {(a.name, a.version): a.trial for a in link.update_state().adapters}
    for name, version in sorted(line.tried):
        trial = there.get((name, version))
        said = "confirmed" if trial is False else "not confirmed: from its next start on the board has what it had"
        yield f"{name} {version}, {said}"
    line.tried.clear()


def serial_boards(site: Site, samples: str, trial: float = TRIAL_SECONDS) -> Open:
    """Opens boards by their port. samples: path on them of what they learn.

    trial: seconds that a board's application has it to itself after an update, to confirm that; 0: none, then an update
    waits for the board's next start. MemberError: the board is not enrolled; LineLost, LinkError: there is none.
    """

    lines: defaultdict[str, _Line] = defaultdict(_Line)

    @contextlib.contextmanager
    def opened(port: str, check: Check) -> Iterator[Attached]:
        line = lines[port]
        fresh = line.crowded
        if line.given and trial:
            reset(port)
            line.tried |= line.given
            line.given.clear()
            _wait(port, trial, check)
        elif fresh:
            soft_reset(port)
        line.crowded = False
        with Link.connect(port) as link:
            public = link.fleet_identity()
            index = site.roster().index_of(public)
            if index is None:
                raise MemberError(
                    f"the board on {port} has key {public.hex()}, which is not in the roster",
                    remedy="`edgelora fleet enroll` it",
                )

            def look() -> Iterator[str]:
                try:
                    site.roster()
                except (RosterError, OSError):  # told when there is a round: the board is well
                    return
                bring_roster(link, site)
                yield from verdicts(link, line)
                for name, version in bring_updates(link, site, index, line, board.fresh):
                    yield f"{name} {version}"
                if line.given and trial:
                    what = ", ".join(f"{name} {version}" for name, version in sorted(line.given))
                    raise LineLost(f"its application has the board for {trial:g} s, to try {what}")

            bring_roster(link, site)
            board = _OnLine(link, site, samples, check, fresh)
            try:
                yield Attached(index, board, link.fleet_status, look)
            finally:
                line.crowded |= board.crowded

    return opened


def _wait(port: str, seconds: float, check: Check) -> None:
    """So long on the board's clock, if it has its own."""
    waited = Deadline(clock_of(port) or time.monotonic, seconds, SLOWEST * seconds)
    while waited.left:
        check(0, 0, "trial")
        time.sleep(waited.look)
