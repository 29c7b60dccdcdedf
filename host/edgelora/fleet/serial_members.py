"""Boards on serial lines, for the gateway: identifies them, brings rosters and updates, and runs their rounds."""

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
from edgelora.core.twin.fleet_update import Policy

from .gateway import Attached, Check, Open
from .member import MemberError
from .messages import Stage
from .policy import POLICY_PATH, SAFE, parse_policy, policy_json
from .rollout import folder_of, published
from .roster import RosterError, Site
from .serial_member import BoardMember

TRIAL_SECONDS = 60.0
SLOWEST = 10  # how many times slower than real time a virtual board's clock may run
Version = tuple[str, int]  # an adapter's name and version


class _OnLine:
    """A board that gets the newest roster before each round. fresh: it was restarted, and has done nothing since.

    A board with its modules on the heap may have enough RAM for training only when fresh. LineLost: restart the board;
    its training results are in flash, and it keeps a round in RAM only after the training.
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
            if not first or self.fresh or not error.lacks_memory:
                raise
            self.crowded = True
            raise LineLost("the board has no memory left to train: it is restarted") from None
        self.fresh = False
        return reply


def bring_roster(link: Link, site: Site) -> bool:
    """Sends a board the roster if it has none or an older one; whether it did. DeviceError: the board refuses it."""
    try:
        there = link.fleet_status().roster
    except DeviceError:  # the board has no valid roster
        there = 0
    if there >= site.roster().number:
        return False
    link.fleet_install(site.data())
    return True


def bring_policy(link: Link, policy: Policy | None) -> Policy:
    """Sends a board its policy; None: keeps the board's own, or sends `SAFE` if it has none. The resulting policy."""
    if policy is None and not any("/" + entry.name == POLICY_PATH for entry in link.list("/")):
        policy = SAFE
    if policy is not None:
        link.put(POLICY_PATH, policy_json(policy))
    return parse_policy(json.dumps(link.fleet_budget().policy).encode(), POLICY_PATH)


@dataclass
class _Line:
    """State of a port that outlives a connection to its board.

    crowded: restart the board to free RAM; given: updates that the board's application is to try next; tried: updates
    that it has had time to try, until their results are reported; refused: updates that the board has refused, which
    are not sent again.
    """

    crowded: bool = False
    given: set[Version] = field(default_factory=set)
    tried: set[Version] = field(default_factory=set)
    refused: set[Version] = field(default_factory=set)


def bring_updates(link: Link, site: Site, index: int, line: _Line, fresh: bool) -> Iterator[Version]:
    """Sends a board the releases that are newer than its own; yields each. It tries them from its next start.

    LineLost: the board lacks RAM for that and was not fresh: restart it.
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
            if not fresh and error.lacks_memory:
                line.crowded = True
                raise LineLost("the board has no memory left to check an update: it is restarted") from None
            line.refused.add((name, version))  # the board rolled it back before, or has another base
            continue
        line.given.add(given)
        yield given


def verdicts(link: Link, line: _Line) -> Iterator[str]:
    """Reports whether the board's application has confirmed the updates that it tried."""
    if not line.tried:
        return
    there = {(a.name, a.version): a.trial for a in link.update_state().adapters}
    for name, version in sorted(line.tried):
        trial = there.get((name, version))
        said = (
            "confirmed" if trial is False else "not confirmed: from its next start the board uses its earlier adapter"
        )
        yield f"{name} {version}, {said}"
    line.tried.clear()


def serial_boards(site: Site, samples: str, trial: float = TRIAL_SECONDS) -> Open:
    """A function that opens the board on a port. samples: path of the training samples on boards.

    trial: seconds after an update in which the gateway leaves the board to its application, which may confirm the
    update; 0: the update waits for the board's next start. MemberError: the board is not enrolled; LineLost, LinkError:
    no board answers.
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
                except (RosterError, OSError):  # the next round reports it; the board is fine
                    return
                bring_roster(link, site)
                yield from verdicts(link, line)
                for name, version in bring_updates(link, site, index, line, board.fresh):
                    yield f"{name} {version}"
                if line.given and trial:
                    what = ", ".join(f"{name} {version}" for name, version in sorted(line.given))
                    raise LineLost(f"its application runs for {trial:g} s, to try {what}")

            bring_roster(link, site)
            board = _OnLine(link, site, samples, check, fresh)
            try:
                yield Attached(index, board, link.fleet_status, look)
            finally:
                line.crowded |= board.crowded

    return opened


def _wait(port: str, seconds: float, check: Check) -> None:
    """Waits on the board's clock if it has one, else on the computer's."""
    waited = Deadline(clock_of(port) or time.monotonic, seconds, SLOWEST * seconds)
    while waited.left:
        check(0, 0, "trial")
        time.sleep(waited.look)
