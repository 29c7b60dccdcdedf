"""A federation on disk: its plan, where it stands, what it told of its boards; and the rounds that any engine carries.

    folder/plan.json    the settings                     read once, when it begins
           base.elm     the network that all boards have
           state.json   the checkpoint: rewritten whole after every round, and before one is asked for
           global.ela   the adapter of the last round, with its masters and scales
           ended.txt    why a run on Flower ended before its time, if one did
           ledger.db    what was told of boards (`ledger`), where they are twins; else it is in their site's folder

Whoever was stopped in a round repeats it: the same boards are asked, and train from the same adapter with the same
seed. So a federation that was killed and resumed ends with the bytes of one that was not.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import math
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError, MissingPackage
from edgelora.base.progress import Progress, no_progress
from edgelora.base.text import printable
from edgelora.core.formats.ela import Adapter, pack_adapter, unpack_adapter
from edgelora.core.formats.files import SECRET, read_bounded, write_atomic
from edgelora.learn.training.base import Base, load_base
from edgelora.learn.training.warm_start import fleet_vector

from .averaging import mean, moved, server_step, with_vector
from .client_training import fleet_recipe, fresh_adapter
from .ledger import Ledger, LedgerError
from .plan import Plan
from .privacy import Epsilons, Spent, Standing, epsilons, sampled, standing
from .roster import Site
from .secagg import RoundAborted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VERSION = 2
MOST_SILENT = 3  # rounds in a row without a sum, before it is asked for help
MAX_ENDED = 4096  # bytes of a file
ROOM_SECONDS = (5.0, 3600.0)  # between looks whether a full disk has room; for so long at most


@dataclass(frozen=True)
class Call:
    """What a round asks of boards. step: rounds before it.

    number: boards answer one once, and only above all before, also of other federations of their fleet: it is the time
    of day in seconds, or one more than that of the attempt before. charge: an engine calls it with boards before it
    sends what lets somebody see their updates; BudgetSpent if that is not to be sent.
    """

    step: int
    number: int
    boards: list[int]
    adapter: bytes
    rate: int
    seed: int
    charge: Callable[[Collection[int]], None]
    attempt: int  # in the ledger


@dataclass(frozen=True)
class Total:
    """What came back: the sum of the survivors' updates int64 [n]; bytes to and from boards, if they were counted.

    why: a round came to nothing.
    """

    vector: NDArray[np.int64]
    survivors: int
    down: int = 0
    up: int = 0
    why: str = ""


@dataclass(frozen=True)
class RoundRecord:
    """What is left of a round. accuracies: of boards by index, where this computer has their data."""

    step: int
    asked: int
    survivors: int
    seconds: float
    down: int
    up: int
    norm: float  # of the average, in masters
    sha256: str  # of the global adapter after it
    outsider: float
    server: float
    accuracies: dict[str, float] = field(default_factory=dict)


Exchange = Callable[[Call], Total]  # one engine: plain loop, pool, Flower
Judge = Callable[[bytes | None], dict[str, float]]  # accuracies by board of a global adapter, None: of the base
Wait = Callable[[OSError], None]
Boards = Sequence[int] | Mapping[int, bytes]  # by index; public keys


class Federation:
    """Where a federation stands. Every change is on the disk before anyone hears of it."""

    def __init__(self, folder: Path, plan: Plan, base: Base, state: dict[str, Any]) -> None:
        self.folder, self.plan, self.base, self._state = folder, plan, base, state
        self._carried = False
        self.ledger = Ledger(Path(state["site"]) if state["site"] else folder)

    # ---- files ----

    @classmethod
    def create(cls, folder: Path, plan: Plan, base: Base, site: Site | None = None) -> Federation:
        """Begins one, of a site's boards or of twins. InputError if the folder already has one, LedgerError."""
        if (folder / "state.json").exists():
            raise InputError(f"{folder} already has a federation", remedy="resume it, or give another folder")
        fresh = fresh_adapter(base.elm, plan.rank, plan.mode, plan.seed)
        vector = fleet_vector(fresh)
        adapter = with_vector(unpack_adapter(fresh), vector)
        secret = hashlib.sha512(b"edgelora federation" + plan.seed.to_bytes(4, "little")).digest()[:32]
        state: dict[str, Any] = {
            "version": VERSION,
            "id": secrets.token_hex(8),
            "site": str(site.folder.resolve()) if site else "",
            "secret": (secret if plan.seed else secrets.token_bytes(32)).hex(),
            "rounds": [],
            "velocity": _packed(np.zeros(_masters(adapter), np.int64)),
            "adapter": base64.b64encode(pack_adapter(adapter)).decode(),
        }
        one = cls(folder, plan, base, state)
        _begin(one.ledger, site)
        plan.write(folder / "plan.json")
        write_atomic(folder / "base.elm", base.elm)
        one._save(state)
        return one

    @classmethod
    def open(cls, folder: Path) -> Federation:
        """One that was begun before. InputError if its files can't be used."""
        path = folder / "state.json"
        if not path.exists():
            raise InputError(f"{folder} has no federation", remedy="begin one with edgelora fleet init")
        try:
            state = json.loads(path.read_text())
            if state["version"] == 1:
                raise InputError(
                    f"{path} is of an edgelora without a ledger: what was told of its boards can't be known",
                    remedy="publish its global.ela, or begin another federation",
                )
            if state["version"] != VERSION:
                raise InputError(f"{path}: version {state['version']}, this edgelora knows {VERSION}: update it")
            base = load_base(folder / "base.elm")
            unpack_adapter(base64.b64decode(state["adapter"]), base.model)
            one = cls(folder, Plan.read(folder / "plan.json"), base, state)
            if len(one._velocity) != _masters(unpack_adapter(one.adapter)):
                raise InputError(f"{path} is damaged: velocity and adapter differ in length")
            if odd := _odd(state):
                raise InputError(f"{path} is damaged ({odd}): take its folder from a backup")
            return one
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error!r}): take its folder from a backup") from error

    def _save(self, state: dict[str, Any]) -> None:
        """The state from here on; where it can't be written, it is what it was."""
        packed = json.dumps(state, allow_nan=True).encode()
        write_atomic(self.folder / "state.json", packed, SECRET)  # who knows the secret knows who was asked
        self._state = state
        write_atomic(self.folder / "global.ela", self.adapter)

    @contextlib.contextmanager
    def carried(self) -> Iterator[None]:
        """While rounds are carried: nobody else carries any meanwhile. InputError: somebody does. Not on Windows."""
        if self._carried or fcntl is None:
            yield
            return
        with open(self.folder / ".carried", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                remedy = "wait for its end, or end it; `edgelora fleet report` tells how far it is"
                raise InputError(
                    f"{self.folder}: another run carries this federation's rounds", remedy=remedy
                ) from None
            self._carried = True
            try:
                if json.dumps(json.loads((self.folder / "state.json").read_text())) != json.dumps(self._state):
                    raise InputError(f"{self.folder}: another run has carried rounds since it was opened: open it anew")
                self.ledger.check(self._id, self.done)
                self.settle()
                yield
            finally:
                self._carried = False

    def of_site(self, site: Site) -> None:
        """Its boards are those of this site from now on: with that site's ledger, which has its rounds. LedgerError."""
        ledger, place = Ledger(site.folder), str(site.folder.resolve())
        if self._state["site"] != place:
            if not self.done:
                _begin(ledger, site)
            ledger.check(self._id, self.done)
            self._save(self._state | {"site": place})
            self.ledger = ledger

    @property
    def ended(self) -> str:
        """Why the last run ended before its time, in words; "" if it did not."""
        try:
            return printable(read_bounded(self.folder / "ended.txt", MAX_ENDED).decode(errors="replace"))
        except OSError:
            return ""

    @ended.setter
    def ended(self, why: str) -> None:
        with contextlib.suppress(OSError):
            write_atomic(self.folder / "ended.txt", why.encode()[:MAX_ENDED])

    def settle(self) -> None:
        """Makes `global.ela` what the checkpoint says, where the disk had no room for both."""
        path = self.folder / "global.ela"
        if not path.is_file() or path.read_bytes() != self.adapter:
            write_atomic(path, self.adapter)

    # ---- what it is ----

    @property
    def adapter(self) -> bytes:
        """The global adapter's file, with masters, scales and otherwise fresh state."""
        return base64.b64decode(self._state["adapter"])

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.adapter).hexdigest()

    @property
    def rounds(self) -> list[RoundRecord]:
        return [RoundRecord(**one) for one in self._state["rounds"]]

    @property
    def before(self) -> dict[str, float]:
        """Accuracies with the bare base, by board, where rounds are judged."""
        return dict(self._state.get("before", {}))

    @property
    def done(self) -> int:
        return len(self._state["rounds"])

    @property
    def spent(self) -> Spent:
        """What was told of the site's boards, by all its federations. LedgerError."""
        self.ledger.check(self._id, self.done)
        return self.ledger.spent()

    @property
    def epsilons(self) -> Epsilons:
        """Of the site's boards, by all its federations, at the plan's delta. LedgerError, MissingPackage."""
        return epsilons(self.spent, self.plan.delta)

    def standing(self, recorded: bool = False) -> Standing:
        """Epsilons, and what is left of the budget. recorded: without the accountant, as of the last round."""
        left = self.plan.rounds - self.done
        try:
            return standing(self.plan, self.spent, left)
        except MissingPackage:
            if not recorded:
                raise
            last = self.rounds[-1:]
            spent = Epsilons(last[0].outsider, last[0].server) if last else Epsilons(0.0, 0.0)
            return Standing(spent, self.plan.delta, self.plan.budget, left, 0, recorded=True)

    @property
    def asked(self) -> list[list[int]]:
        """The boards of each attempt at a round, published or not."""
        return self.ledger.asked(self._id)

    @property
    def _id(self) -> str:
        return str(self._state["id"])

    @property
    def _velocity(self) -> NDArray[np.int64]:
        return np.frombuffer(base64.b64decode(self._state["velocity"]), "<i8").astype(np.int64)

    # ---- rounds ----

    def call(self, boards: Boards, rate: int) -> Call:
        """The next round's, of these boards; a site's have keys. BudgetSpent above the budget."""
        step = self.done
        if self._state["site"] and not isinstance(boards, Mapping):
            raise InputError("boards of a fleet are charged by their keys", remedy="give `Roster.members`")
        asked = sampled(bytes.fromhex(self._state["secret"]), step, list(boards), self.plan.share)
        keys = {index: boards[index] if isinstance(boards, Mapping) else b"twin %d" % index for index in asked}
        number = max(int(time.time()), int(self._state.get("number", 0)) + 1)
        self._save(self._state | {"number": number})
        attempt = self.ledger.attempt(self._id, step, self.plan, keys)
        named = b"edgelora round" + step.to_bytes(4, "little") + self.plan.seed.to_bytes(4, "little")
        seed = int.from_bytes(hashlib.sha512(named).digest()[:4], "little")

        def charge(seen: Collection[int]) -> None:
            self.ledger.charge(attempt, seen, self.plan)

        return Call(step, number, asked, self.adapter, self.plan.rate_of(step, rate), seed, charge, attempt)

    def finish(
        self, call: Call, total: Total, seconds: float, judge: Judge | None = None, wait: Wait | None = None
    ) -> RoundRecord:
        """Averages and saves. A round with too few survivors moves nothing, and counts as one all the same.

        wait: is told why it can't be saved; it is tried again when that returns.
        """
        published = total.survivors >= max(1, self.plan.least)
        _kept(lambda: self._end(call, total, published), wait)
        adapter, velocity = unpack_adapter(self.adapter), self._velocity
        average = np.zeros(len(fleet_vector(self.adapter)), np.int64)
        if published:
            average = mean(total.vector, total.survivors)
            velocity, step = server_step(velocity, average, self.plan.server_rate, self.plan.server_momentum)
            adapter = with_vector(adapter, moved(fleet_vector(self.adapter), step))
        packed = pack_adapter(adapter)
        told = epsilons(self.ledger.spent(), self.plan.delta)
        one = RoundRecord(
            call.step,
            len(call.boards),
            total.survivors,
            round(seconds, 3),
            total.down,
            total.up,
            round(float(np.sqrt((average[: len(velocity)].astype(float) ** 2).sum())), 1),
            hashlib.sha256(packed).hexdigest(),
            told.outsider,
            told.server,
            judge(packed) if judge else {},
        )
        state = self._state | {
            "rounds": [*self._state["rounds"], asdict(one)],
            "velocity": _packed(velocity),
            "adapter": base64.b64encode(packed).decode(),
        }
        if judge and "before" not in state:
            state["before"] = judge(None)
        _kept(lambda: self._save(state), wait)
        return one

    def _end(self, call: Call, total: Total, published: bool) -> None:
        """In the ledger. An engine that has charged nobody, and brings a sum, has let all be seen."""
        if total.survivors and not self.ledger.charged(call.attempt):
            self.ledger.charge(call.attempt, call.boards, None)
        self.ledger.end(call.attempt, published)


def federate(
    federation: Federation,
    exchange: Exchange,
    boards: Boards | Callable[[], Boards] | None = None,
    progress: Progress = no_progress,
    judge: Judge | None = None,
    stop: int | None = None,
) -> None:
    """Carries the rounds that are left, or those before `stop`, by an engine. BudgetSpent at the budget's end.

    boards: a site's with their keys; asked before each round, if it is a function. A round that the disk has
    no room for waits for some: boards have worked for it. RoundAborted after `MOST_SILENT` rounds without a sum.
    """
    plan, silent = federation.plan, 0
    with federation.carried():
        while federation.done < (plan.rounds if stop is None else min(stop, plan.rounds)):
            everyone = boards() if callable(boards) else range(plan.boards) if boards is None else boards
            total = _round(federation, exchange, everyone, progress, judge)
            if total is not None:
                silent = 0 if total.survivors else silent + 1
            if total is not None and silent == MOST_SILENT:
                raise RoundAborted(
                    f"{silent} rounds one after the other came to nothing ({total.why or 'no board answered'})",
                    remedy="see that the gateway has the boards, and why they refuse; the same command goes on",
                )


def _round(
    federation: Federation, exchange: Exchange, everyone: Boards, progress: Progress, judge: Judge | None
) -> Total | None:
    """Carries one; None where too few were drawn for a sum, and nobody was asked for nothing."""
    plan, enough = federation.plan, max(1, federation.plan.least)
    call = federation.call(everyone, plan.rate or fleet_recipe(plan.rank, plan.mode).initial_rate)
    started = time.monotonic()
    few = f"{len(call.boards)} of {len(everyone)} boards were drawn, a sum is of {enough} or more"
    nothing = Total(np.zeros(len(fleet_vector(call.adapter)), np.int64), 0, why=few)
    total = exchange(call) if len(call.boards) >= enough else nothing
    wait = _for_room(lambda what: progress(federation.done, plan.rounds, what))
    one = federation.finish(call, total, time.monotonic() - started, judge, wait)
    progress(federation.done, plan.rounds, total.why or f"round {one.step + 1}: {one.survivors} of {one.asked} boards")
    return None if total is nothing and plan.share * len(everyone) >= enough else total


def _begin(ledger: Ledger, site: Site | None) -> None:
    """Makes the ledger where no round needs one that is not there. LedgerError: one does."""
    if site and site.has_had_rounds and not ledger.there:
        raise LedgerError(
            f"{ledger.path} is missing, and boards of this fleet have had rounds: what was told of them is not known",
            remedy="put it back from a backup, or enroll other boards into a fleet in another folder",
        )
    ledger.begin()


def _kept(what: Callable[[], None], wait: Wait | None) -> None:
    """Does what the disk may have no room for, again whenever `wait` returns."""
    while True:
        try:
            return what()
        except OSError as error:
            if wait is None:
                raise
            wait(error)


def _for_room(tell: Callable[[str], None]) -> Wait:
    """Waits where a disk is full, for so long in all; raises what is no matter of that."""
    end = time.monotonic() + ROOM_SECONDS[1]

    def wait(error: OSError) -> None:
        if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)) or time.monotonic() > end:
            raise error
        tell(f"{error.filename}: {error.strerror}: free some, the round waits for it")
        time.sleep(ROOM_SECONDS[0])

    return wait


def _odd(state: dict[str, Any]) -> str:
    """What of it is not of its type or in its range; "" if all is. Raises what reading damaged JSON may."""
    number = state.get("number", 0)
    rows = state["rounds"]
    if len(bytes.fromhex(state["secret"])) != 32 or not _is(number, 0, 1 << 32) or not isinstance(rows, list):
        return "its head"
    if not isinstance(state["site"], str) or "\0" in state["site"] or len(bytes.fromhex(state["id"])) != 8:
        return "whose it is"
    if not _are_shares(state.get("before", {})):
        return "accuracies with the base"
    for place, row in enumerate(rows):
        one = RoundRecord(**row)
        whole = all(_is(getattr(one, name), 0, 1 << 53) for name in ("step", "asked", "survivors", "down", "up"))
        real = all(_is(getattr(one, name), 0, math.inf, float) for name in ("seconds", "norm", "outsider", "server"))
        known = _are_shares(one.accuracies) and len(bytes.fromhex(one.sha256)) == 32
        if not (whole and real and known) or one.step != place:
            return f"round {place}"
    return ""


def _is(value: Any, least: float, most: float, kind: type = int) -> bool:
    """Whether it is a number, a whole one or any, within these."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and (kind is float or isinstance(value, int))
    return known and least <= value <= most


def _are_shares(accuracies: dict[str, Any]) -> bool:
    return all(key.isdecimal() and _is(value, 0, 1, float) for key, value in accuracies.items())


def _masters(adapter: Adapter) -> int:
    return sum(state.master.size for state in adapter.states)


def _packed(vector: NDArray[np.int64]) -> str:
    return base64.b64encode(vector.astype("<i8").tobytes()).decode()
