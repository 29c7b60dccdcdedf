"""A fleet's member, call by call of the boards' C: the device's `fleet.Member` without training, files and waits."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.twin import native_fleet
from edgelora.core.twin.fleet_update import Policy

AGAIN = 1


class Next(IntEnum):
    """What a member waits for, edgelora_next_t."""

    MESSAGE = 0
    WORK = 1
    TRAIN = 2
    KEYS = 3
    UPDATE = 4
    REPLY = 5
    OVER = 6


class Member:
    """One board's side of rounds. secret, server (public key), seed: 32 bytes; fleet: 8 bytes.

    seed must be fresh for every member: masks and noise are drawn from it. round: the last round that the board took
    part in; spent: the cost of all its rounds, in millionths of 1 / z^2. neighbours: how many other boards of a cohort
    its memory has room for. FleetError (ERR_MEMBER): an index that no board has.
    """

    def __init__(
        self,
        secret: bytes,
        server: bytes,
        fleet: bytes,
        seed: bytes,
        index: int,
        *,
        round: int = 0,
        spent: int = 0,
        roster: int = 0,
        policy: Policy | None = None,
        neighbours: int = native_fleet.MAX_NEIGHBOURS,
    ) -> None:
        if [len(part) for part in (secret, server, fleet, seed)] != [32, 32, 8, 32]:
            raise InputError("a member takes keys and a seed of 32 bytes and a fleet id of 8")
        self._memory = bytearray(native_fleet.member_size(neighbours))
        self._reply: bytearray | None = None
        rules = (policy or Policy()).pack()
        state = round, roster, index, rules, struct.pack("<Q", spent)
        native_fleet.member_begin(self._memory, secret, server, fleet, seed, *state)

    @property
    def state(self) -> bytes:
        """All of the member's memory. For tests."""
        return bytes(self._memory)

    @property
    def next(self) -> Next:
        """What the member waits for."""
        return Next(native_fleet.member_next(self._memory))

    @property
    def round(self) -> int:
        """The current round; 0 before the first TASK."""
        return native_fleet.member_state(self._memory)[0]

    @property
    def spent(self) -> int:
        """The cost of all rounds, the current one included from its update on; 2^64 - 1: more than any budget."""
        return int.from_bytes(native_fleet.member_spent(self._memory), "little")

    @property
    def stage(self) -> int:
        """The stage of the last accepted message; 0 before the first."""
        return native_fleet.member_state(self._memory)[1]

    @property
    def culprit(self) -> int:
        """The index of the board whose key was invalid, after `work` raised ERR_KEY; 0xFFFF: the server."""
        return native_fleet.member_state(self._memory)[2]

    def receive(self, message: bytes) -> bool:
        """Accepts a whole message; False if it repeats the last one. FleetError: refused, and nothing has changed."""
        return native_fleet.member_receive(self._memory, bytearray(message)) != AGAIN

    def neighbours(self) -> list[int]:
        """Indices of its neighbours, ascending; none before COHORT."""
        return list(array("H", native_fleet.member_neighbours(self._memory)))

    def key(self, place: int, key: bytes) -> None:
        """Sets the public key (32 bytes) of the neighbour at a place of `neighbours`, in order. FleetError: revoked."""
        if len(key) != 32:
            raise InputError(f"a public key has 32 bytes, not {len(key)}")
        native_fleet.member_key(self._memory, place, key)

    def work(self) -> int:
        """Does one piece of work; returns the number of pieces left."""
        return native_fleet.member_work(self._memory)

    def finish(self) -> None:
        """Does all remaining work."""
        while self.next is Next.WORK:
            self.work()

    def update(self, before: NDArray[np.int16], after: NDArray[np.int16]) -> None:
        """Takes masters, int16 [n], before and after training. Clips the difference; `work` adds noise and masks."""
        pair = [np.ascontiguousarray(part, np.int16) for part in (before, after)]
        if pair[0].shape != pair[1].shape or pair[0].ndim != 1:
            raise InputError(f"masters are two vectors of one length, not {pair[0].shape} and {pair[1].shape}")
        self._reply = bytearray(32 + 4 * pair[0].size)
        native_fleet.member_update(self._memory, pair[0], pair[1], self._reply)

    def reply(self) -> bytes:
        """The reply, returned once: keep it until the next message was accepted."""
        room = bytearray(native_fleet.member_reply_size(self._memory)) if self._reply is None else self._reply
        written = native_fleet.member_reply(self._memory, room)
        self._reply = None
        return bytes(room[:written])

    def answer(
        self,
        message: bytes,
        key: Callable[[int], bytes],
        train: Callable[[], object] = lambda: None,
        masters: Callable[[], tuple[NDArray[np.int16], NDArray[np.int16]]] | None = None,
    ) -> bytes | None:
        """Processes one message completely; returns its reply, or None if it repeats the last message.

        key(index): a board's public key in the roster. train: called after TASK. masters: returns those before and
        after training, for INPUT. FleetError: refused, or a key was invalid and the round is over.
        """
        self.finish()
        if not self.receive(message):
            return None
        if self.next is Next.TRAIN:
            train()
        if self.next is Next.KEYS:
            for place, index in enumerate(self.neighbours()):
                self.key(place, key(index))
        if self.next is Next.UPDATE:
            if masters is None:
                raise InputError("the member is asked for its update: give masters")
            self.update(*masters())
        self.finish()
        return self.reply()
