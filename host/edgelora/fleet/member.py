"""A board of this computer as a member of rounds: runs the boards' own C and training by the host twin."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.elm import base_id
from edgelora.core.formats.files import SECRET, read_bounded, write_atomic, write_new
from edgelora.core.twin.fleet import FleetError, Policy
from edgelora.core.twin.fleet import Member as Twin
from edgelora.learn.training.samples import Samples
from edgelora.learn.training.warm_start import fleet_training, fleet_vector

from .averaging import board_seed
from .messages import Stage, Task, index_of, public_of, round_of
from .policy import MAX_POLICY, SAFE, parse_policy, policy_json
from .roster import KEY_SIZE, Roster

Train = Callable[[Task, bytes, int], NDArray[np.int16]]  # task, global `.ela`, board index -> vector after training


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
            raise MemberError(f"{path} is no secret of a board", remedy="give a folder that `fleet enroll` has made")
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


class TwinMember:
    """Takes part in rounds as a board does. roster: returns the current verified roster. Raises MemberError.

    policy: replaces the identity's own. seed: returns 32 fresh random bytes on each call; the masks and noise that hide
    the update come from them.
    """

    def __init__(
        self,
        identity: Identity,
        roster: Callable[[], Roster],
        train: Train,
        policy: Policy | None = None,
        seed: Callable[[], bytes] = lambda: os.urandom(32),
    ) -> None:
        self._identity, self._roster_of, self._train = identity, roster, train
        self._policy, self._seed = identity.policy if policy is None else policy, seed
        self._begin()

    def _begin(self) -> None:
        roster = self._roster = self._roster_of()
        index = roster.index_of(self._identity.public)
        if index is None:
            raise MemberError("this board is not in the roster, or was revoked", remedy="enroll it")
        self.index = index
        self._reply = b""
        self._vectors: tuple[NDArray[np.int16], NDArray[np.int16]] | None = None
        self._spent = self._identity.spent
        self._twin = Twin(
            self._identity.secret,
            roster.server,
            roster.fleet,
            self._seed(),
            index,
            round=self._spent.last,
            spent=self._spent.cost,
            roster=roster.number,
            policy=self._policy,
        )

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        """The board's reply. adapter: the global `.ela`, with TASK. FleetError: it refuses, and waits for another."""
        stage = round_of(message)[0] if index_of(message) is not None else 0
        if stage == Stage.TASK and self._roster_of().number != self._roster.number:
            self._begin()
        try:
            reply = self._twin.answer(
                message,
                self._roster.keys.__getitem__,
                lambda: self._learn(Task.unpack(message[16:-16]), adapter),
                self._both,
            )
        except FleetError:
            raise
        except BaseException:  # it has accepted the message, and can't answer it
            self._begin()
            raise
        if reply is None:
            return self._reply
        if stage in (Stage.COHORT, Stage.INPUT):  # save before the reply leaves
            left = stage == Stage.INPUT
            self._spent = Past(self._twin.round, self._spent.rounds + left, self._twin.spent)
            self._identity.keep(self._spent)
        self._reply = reply
        return reply

    def _learn(self, task: Task, adapter: bytes) -> None:
        if hashlib.sha256(adapter).digest() != task.adapter_sha256 or adapter[16:24] != task.base_id:
            raise MemberError("the adapter that came with the task is another one than it names")
        before = fleet_vector(adapter)
        if len(before) != task.parameters:
            raise MemberError(f"the task is of {task.parameters} parameters, the adapter has {len(before)}")
        self._vectors = before, self._train(task, adapter, self.index)

    def _both(self) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        assert self._vectors is not None
        return self._vectors


def training_of(elm: bytes, samples: Callable[[int], Samples]) -> Train:
    """A function that trains as a board does. elm: the base; samples: of a board, by index. Raises MemberError."""
    base = base_id(elm)

    def train(task: Task, adapter: bytes, index: int) -> NDArray[np.int16]:
        if task.base_id != base:
            raise MemberError(f"the task is for base {task.base_id.hex()}, this board has {base.hex()}")
        return fleet_training(
            elm, adapter, samples(index), board_seed(task.seed, index), task.epochs, task.learning_rate
        )

    return train
