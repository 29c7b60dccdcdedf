"""A federation on disk, with its plan, checkpoint and privacy ledger; and its rounds, which any engine can run.

    folder/plan.json    the settings of all rounds
           base.elm     the base of all boards
           state.json   the checkpoint: replaced atomically before and after every round
           global.ela   the adapter of the last round, with its masters and scales
           ended.txt    why a run on Flower ended early, if one did
           ledger.db    the privacy ledger (`ledger`) of twins; that of other boards is in their site's folder

A round that was interrupted is repeated: the same boards are asked, and train from the same adapter with the same seed.
So a federation that was killed and resumed ends with the same bytes as one that ran through.
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
from edgelora.learn.training.data.base import Base, load_base
from edgelora.learn.training.recipe import LEARNING_RATES
from edgelora.learn.training.twin.warm_start import fleet_vector

from .averaging import mean, moved, server_step, with_vector
from .client_training import fresh_adapter
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
MOST_SILENT = 3  # rounds in a row without a sum before a run is aborted
MAX_ENDED = 4096  # bytes of ended.txt
ROOM_SECONDS = (5.0, 3600.0)  # between retries on a full disk; in all


@dataclass(frozen=True)
class Call:
    """A round's request to boards. step: how many rounds came before it.

    number: boards answer each number once, and only if it is above all earlier ones, including those of other
    federations of their fleet: it is the Unix time in seconds, or the previous attempt's number plus one. charge: an
    engine calls it with boards before it sends the message that exposes their updates; BudgetSpent: don't send that.
    """

    step: int
    number: int
    boards: list[int]
    adapter: bytes
    rate: int
    seed: int
    charge: Callable[[Collection[int]], None]
    attempt: int  # the ledger's id of this attempt


@dataclass(frozen=True)
class Total:
    """A round's outcome: the sum of the survivors' updates int64 [n]; down, up: bytes to and from boards, if counted.

    why: the reason for a round without a sum.
    """

    vector: NDArray[np.int64]
    survivors: int
    down: int = 0
    up: int = 0
    why: str = ""


@dataclass(frozen=True)
class RoundRecord:
    """The record of a finished round. accuracies: by board index, if this computer has the boards' data."""

    step: int
    asked: int
    survivors: int
    seconds: float
    down: int
    up: int
    norm: float  # L2 norm of the average, in units of masters
    sha256: str  # of the global adapter after the round
    outsider: float
    server: float
    accuracies: dict[str, float] = field(default_factory=dict)


Exchange = Callable[[Call], Total]  # an engine: plain loop, pool, Flower
Judge = Callable[[bytes | None], dict[str, float]]  # accuracies by board with a global adapter, None: the base alone
Wait = Callable[[OSError], None]
Boards = Sequence[int] | Mapping[int, bytes]  # indices, or public keys by index


class Federation:
    """A federation and its state. Every change is on disk before the method that makes it returns."""

    def __init__(self, folder: Path, plan: Plan, base: Base, state: dict[str, Any]) -> None:
        self.folder, self.plan, self.base, self._state = folder, plan, base, state
        self._carried = False
        self.ledger = Ledger(Path(state["site"]) if state["site"] else folder)

    # ---- files ----

    @classmethod
    def create(cls, folder: Path, plan: Plan, base: Base, site: Site | None = None) -> Federation:
        """Begins a federation of a site's boards, or of twins. InputError if the folder has one, LedgerError."""
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
        folder.mkdir(mode=0o700 if site else 0o777, parents=True, exist_ok=True)  # its page is not for outsiders
        plan.write(folder / "plan.json")
        write_atomic(folder / "base.elm", base.elm)
        one._save(state)
        return one

    @classmethod
    def open(cls, folder: Path) -> Federation:
        """Opens an existing federation. InputError if its files can't be used."""
        path = folder / "state.json"
        if not path.exists():
            raise InputError(f"{folder} has no federation", remedy="begin one with edgelora fleet init")
        try:
            state = json.loads(path.read_text())
            if state["version"] == 1:
                raise InputError(
                    f"{path} was made by an edgelora without a ledger: what its rounds revealed is unknown",
                    remedy="publish its global.ela, or begin another federation",
                )
            if state["version"] != VERSION:
                raise InputError(f"{path}: version {state['version']}, this edgelora supports {VERSION}: update it")
            base = load_base(folder / "base.elm")
            base.adapter(base64.b64decode(state["adapter"]))
            one = cls(folder, Plan.read(folder / "plan.json"), base, state)
            if len(one._velocity) != _masters(unpack_adapter(one.adapter)):
                raise InputError(f"{path} is damaged: velocity and adapter differ in length")
            if wrong := _wrong_part(state):
                raise InputError(f"{path} is damaged ({wrong}): take its folder from a backup")
            return one
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error!r}): take its folder from a backup") from error

    def _save(self, state: dict[str, Any]) -> None:
        """Replaces the state on disk and in memory; if the disk refuses it, the state in memory stays the old one."""
        packed = json.dumps(state, allow_nan=True).encode()
        write_atomic(self.folder / "state.json", packed, SECRET)  # its secret would reveal which boards were asked
        self._state = state
        write_atomic(self.folder / "global.ela", self.adapter)

    @contextlib.contextmanager
    def carried(self) -> Iterator[None]:
        """Locks the federation while it runs rounds. InputError: another process does. No lock on Windows."""
        if self._carried or fcntl is None:
            yield
            return
        with open(self.folder / ".carried", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                remedy = "wait until it ends, or stop it; `edgelora fleet report` shows its progress"
                raise InputError(f"{self.folder}: another process is running this federation", remedy=remedy) from None
            self._carried = True
            try:
                if json.dumps(json.loads((self.folder / "state.json").read_text())) != json.dumps(self._state):
                    raise InputError(
                        f"{self.folder}: another process has run rounds since it was opened: open it again"
                    )
                self.ledger.check(self._id, self.done)
                self.settle()
                yield
            finally:
                self._carried = False

    def of_site(self, site: Site) -> None:
        """Switches to this site's boards and ledger. LedgerError if that ledger lacks this federation's rounds."""
        ledger, place = Ledger(site.folder), str(site.folder.resolve())
        if self._state["site"] != place:
            if not self.done:
                _begin(ledger, site)
            ledger.check(self._id, self.done)
            self._save(self._state | {"site": place})
            self.ledger = ledger

    @property
    def ended(self) -> str:
        """Why the last run ended early, in words; "" if it did not."""
        try:
            return printable(read_bounded(self.folder / "ended.txt", MAX_ENDED).decode(errors="replace"))
        except OSError:
            return ""

    @ended.setter
    def ended(self, why: str) -> None:
        with contextlib.suppress(OSError):
            write_atomic(self.folder / "ended.txt", why.encode()[:MAX_ENDED])

    def settle(self) -> None:
        """Rewrites `global.ela` from the checkpoint if they differ, as after a full disk."""
        path = self.folder / "global.ela"
        if not path.is_file() or path.read_bytes() != self.adapter:
            write_atomic(path, self.adapter)

    # ---- what it is ----

    @property
    def adapter(self) -> bytes:
        """The global adapter's file: with masters and scales; momentum and counts are 0."""
        return base64.b64decode(self._state["adapter"])

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.adapter).hexdigest()

    @property
    def rounds(self) -> list[RoundRecord]:
        return [RoundRecord(**one) for one in self._state["rounds"]]

    @property
    def before(self) -> dict[str, float]:
        """Accuracies with the base alone, by board, if rounds are evaluated."""
        return dict(self._state.get("before", {}))

    @property
    def done(self) -> int:
        return len(self._state["rounds"])

    @property
    def spent(self) -> Spent:
        """The privacy cost of all the site's federations so far. LedgerError."""
        self.ledger.check(self._id, self.done)
        return self.ledger.spent()

    @property
    def epsilons(self) -> Epsilons:
        """Epsilons of all the site's federations so far, at the plan's delta. LedgerError, MissingPackage."""
        return epsilons(self.spent, self.plan.delta)

    def standing(self, recorded: bool = False) -> Standing:
        """Epsilons and the budget left. recorded: if dp-accounting is missing, use those recorded in the last round."""
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
        """The next round's call to these boards; a site's boards come with keys. BudgetSpent above the budget."""
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
        """Averages and saves. A round with too few survivors changes no weights, but still counts as a round.

        wait: is called with the error if saving fails; when it returns, saving is tried again.
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
        spent = epsilons(self.ledger.spent(), self.plan.delta)
        one = RoundRecord(
            call.step,
            len(call.boards),
            total.survivors,
            round(seconds, 3),
            total.down,
            total.up,
            round(float(np.sqrt((average[: len(velocity)].astype(float) ** 2).sum())), 1),
            hashlib.sha256(packed).hexdigest(),
            spent.outsider,
            spent.server,
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
        """Ends the attempt in the ledger. If an engine returns a sum and has charged nobody, all boards are charged."""
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
    """Runs the remaining rounds, or those before `stop`, by an engine. BudgetSpent at the budget's end.

    boards: a site's with their keys; a function is called before each round. If the disk is full, a finished round
    waits for space, as boards have worked for it. RoundAborted after `MOST_SILENT` rounds in a row without a sum.
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
                    f"{silent} rounds in a row failed ({total.why or 'no board answered'})",
                    remedy="check that the gateway has the boards, and why they refuse; then repeat the command",
                )


def _round(
    federation: Federation, exchange: Exchange, everyone: Boards, progress: Progress, judge: Judge | None
) -> Total | None:
    """Runs one round; None if sampling drew too few boards for a sum, so that no board was asked."""
    plan, enough = federation.plan, max(1, federation.plan.least)
    call = federation.call(everyone, plan.rate or LEARNING_RATES[plan.mode])
    started = time.monotonic()
    few = f"{len(call.boards)} of {len(everyone)} boards were sampled, a sum needs {enough}"
    nothing = Total(np.zeros(len(fleet_vector(call.adapter)), np.int64), 0, why=few)
    total = exchange(call) if len(call.boards) >= enough else nothing
    wait = _for_room(lambda what: progress(federation.done, plan.rounds, what))
    one = federation.finish(call, total, time.monotonic() - started, judge, wait)
    progress(federation.done, plan.rounds, total.why or f"round {one.step + 1}: {one.survivors} of {one.asked} boards")
    return None if total is nothing and plan.share * len(everyone) >= enough else total


def _begin(ledger: Ledger, site: Site | None) -> None:
    """Makes the ledger if it is missing. LedgerError if the site has had rounds, which that ledger would lack."""
    if site and site.has_had_rounds and not ledger.there:
        raise LedgerError(
            f"{ledger.path} is missing, and boards of this fleet took part in rounds: what these revealed is unknown",
            remedy="restore it from a backup, or enroll other boards into a fleet in another folder",
        )
    ledger.begin()


def _kept(what: Callable[[], None], wait: Wait | None) -> None:
    """Runs `what`, which may raise OSError on a full disk; runs it again each time `wait` returns."""
    while True:
        try:
            return what()
        except OSError as error:
            if wait is None:
                raise
            wait(error)


def _for_room(tell: Callable[[str], None]) -> Wait:
    """Waits while a disk is full, `ROOM_SECONDS` at most in all; raises other errors."""
    end = time.monotonic() + ROOM_SECONDS[1]

    def wait(error: OSError) -> None:
        if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)) or time.monotonic() > end:
            raise error
        tell(f"{error.filename}: {error.strerror}: free some space, the round waits for it")
        time.sleep(ROOM_SECONDS[0])

    return wait


def _wrong_part(state: dict[str, Any]) -> str:
    """The part of a state that has a wrong type or range; "" if none. Raises KeyError and others on damaged JSON."""
    number = state.get("number", 0)
    rows = state["rounds"]
    if len(bytes.fromhex(state["secret"])) != 32 or not _is(number, 0, 1 << 32) or not isinstance(rows, list):
        return "its header"
    if not isinstance(state["site"], str) or "\0" in state["site"] or len(bytes.fromhex(state["id"])) != 8:
        return "its site or id"
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
    """Whether the value is a number in this range. kind: int, or float for any number."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and (kind is float or isinstance(value, int))
    return known and least <= value <= most


def _are_shares(accuracies: dict[str, Any]) -> bool:
    return all(key.isdecimal() and _is(value, 0, 1, float) for key, value in accuracies.items())


def _masters(adapter: Adapter) -> int:
    return sum(state.master.size for state in adapter.states)


def _packed(vector: NDArray[np.int64]) -> str:
    return base64.b64encode(vector.astype("<i8").tobytes()).decode()
