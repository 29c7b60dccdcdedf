"""A board of this computer as a member of rounds: runs the boards' own Python and C, over files of this computer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.files import SECRET, read_bounded, write_atomic, write_new
from edgelora.core.twin import device, native_fleet
from edgelora.core.twin.fleet_update import Policy
from edgelora.learn.training.data.samples import Samples, Source
from edgelora.learn.training.twin.on_twin import UNCOMMITTED, bare_store
from edgelora.learn.training.twin.warm_start import fleet_model

from .messages import Stage, index_of, public_of, round_of
from .policy import MAX_POLICY, SAFE, parse_policy, policy_json
from .roster import KEY_SIZE, REVOKED, Roster

_Identity: Any = device.module("fleet").Identity
_Member: Any = device.module("fleet").Member


class MemberError(EdgeloraError, ValueError):
    """A board of this computer can't do what the server asks; the error's text says why."""


@dataclass(frozen=True)
class Past:
    """What a board keeps of its rounds: last: the last one's number; rounds: how many; cost: in millionths of 1/z^2."""

    last: int = 0
    rounds: int = 0
    cost: int = 0


class Identity:
    """A board's secret in a file that only its owner may read; next to it, its rounds' cost and its policy."""

    def __init__(self, path: Path) -> None:
        self.secret = read_bounded(path, KEY_SIZE)
        if len(self.secret) != KEY_SIZE:
            raise MemberError(f"{path} is not a board's secret", remedy="give a folder that `fleet enroll` made")
        self.public = public_of(self.secret)
        self._path, self._policy = path.with_suffix(".round"), path.with_suffix(".json")

    @classmethod
    def create(cls, path: Path, policy: Policy = SAFE) -> Identity:
        """Makes a secret; never overwrites an existing file. policy: what the board requires of every task."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, os.urandom(KEY_SIZE), SECRET)
        made = cls(path)
        write_atomic(made._policy, policy_json(policy))
        return made

    @property
    def policy(self) -> Policy:
        """The board's policy; `SAFE` if it has no file. Raises InputError."""
        try:
            return parse_policy(read_bounded(self._policy, MAX_POLICY), str(self._policy))
        except FileNotFoundError:
            return SAFE

    @property
    def spent(self) -> Past:
        try:
            numbers = [int(word) for word in read_bounded(self._path, 64).split()]
            return Past(*numbers)
        except FileNotFoundError:
            return Past()
        except (ValueError, TypeError):
            raise MemberError(f"{self._path} is damaged", remedy="revoke this board, and enroll another") from None

    def keep(self, spent: Past) -> None:
        write_atomic(self._path, f"{spent.last} {spent.rounds} {spent.cost}\n".encode())


class _Counted(_Identity):  # type: ignore[misc]
    """The device's identity over the files of a board of this computer. draw: returns 32 fresh random bytes."""

    def __init__(self, files: Identity, draw: Callable[[], bytes]) -> None:
        self._files, self._secret, self._counted, self.draw = files, files.secret, 0, draw
        past = files.spent
        self.round, self.rounds, self.spent = past.last, past.rounds, past.cost

    def _save(self, number: int, spent: int, rounds: int) -> None:
        self._files.keep(Past(number, rounds, spent))


class _Listed:
    """A verified roster as the device's member asks it."""

    def __init__(self, roster: Roster) -> None:
        self.number, self.server, self.fleet, self._roster = roster.number, roster.server, roster.fleet, roster

    def index(self, public: bytes) -> int:
        index = self._roster.index_of(public)
        if index is None:
            raise MemberError("this board is not in the roster, or was revoked", remedy="enroll it")
        return index

    def key(self, index: int) -> bytes:
        return self._roster.keys[index] if index < len(self._roster.keys) else REVOKED


class TwinMember(_Member):  # type: ignore[misc]
    """Takes part in rounds as a board does. roster: returns the current verified roster. Raises MemberError.

    elm: its base; samples: returns what it learns, by its index in the roster. policy: replaces the identity's own.
    seed: returns 32 fresh random bytes on each call; the masks and noise that hide the update come from them.
    """

    index: int
    adapter: bytes
    samples: Source | None

    def __init__(
        self,
        identity: Identity,
        roster: Callable[[], Roster],
        elm: bytes,
        samples: Callable[[int], Samples],
        policy: Policy | None = None,
        seed: Callable[[], bytes] = lambda: os.urandom(32),
    ) -> None:
        self._files, self._current, self._elm, self._samples_of, self._seed = identity, roster, elm, samples, seed
        rules = asdict(identity.policy if policy is None else policy)
        super().__init__(None, None, None, None, b"", native_fleet.MAX_NEIGHBOURS, rules, UNCOMMITTED)

    def begin(self) -> None:
        """Starts again with the roster and the files as they are now."""
        self.identity = _Counted(self._files, self._seed)
        super().begin()

    def _roster(self) -> _Listed:
        return _Listed(self._current())

    def _train(self) -> Iterator[str]:
        self.adapter = self._came  # from here to the update no other takes its place
        yield from super()._train()

    def _open(self) -> Any:
        samples = self._samples_of(self.index)
        model = fleet_model(self._elm, self.adapter, samples.frames)
        self.samples, self.store = Source(samples), bare_store(model)
        return model

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        """The board's reply. adapter: the global `.ela`, with TASK. FleetError: the core refuses the message."""
        stage = round_of(message)[0] if index_of(message) is not None else 0
        if stage == Stage.TASK and self._current().number != self.roster.number:
            self.begin()
        self._came = adapter
        try:
            with device.refusals(MemberError):
                return bytes(super().answer(message))
        finally:
            self.model = self.samples = None  # the thread's other boards use the model
