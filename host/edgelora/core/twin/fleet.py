"""A member of a fleet on this computer: the boards' own C (SPEC.md, section 17)."""

from __future__ import annotations

import ctypes as C
from collections.abc import Callable
from dataclasses import astuple, dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError, InputError

from .binding import library

MAX_NEIGHBOURS = 64
AGAIN = 1


class FleetError(EdgeloraError, ValueError):
    """A refusal by a member: a negative status of edgelora_fleet_t, with its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def __reduce__(self) -> tuple[type[FleetError], tuple[int, str]]:
        """Keeps type and status when an error is pickled by a worker process."""
        return FleetError, (self.status, str(self))


class Next(IntEnum):
    """What a member waits for, edgelora_next_t."""

    MESSAGE = 0
    WORK = 1
    TRAIN = 2
    KEYS = 3
    UPDATE = 4
    REPLY = 5
    OVER = 6


@dataclass(frozen=True)
class Policy:
    """What a board requires of every task (edgelora_policy_t).

    least_z: hundredths of sigma sqrt(m - colluders) / clip; most_cohort: 0 for no limit; colluders: boards of a
    cohort that may collude with the server; budget: millionths of 1 / z^2 over all rounds of the board's life, 0 for no
    limit.
    """

    least_survivors: int = 0
    least_z: int = 0
    least_cohort: int = 0
    most_cohort: int = 0
    colluders: int = 0
    survivors_percent: int = 0
    masks: bool = False
    budget: int = 0


class _Policy(C.Structure):
    _fields_ = [
        ("least_survivors", C.c_uint16),
        ("least_z", C.c_uint16),
        ("least_cohort", C.c_uint16),
        ("most_cohort", C.c_uint16),
        ("colluders", C.c_uint16),
        ("survivors_percent", C.c_uint8),
        ("masks", C.c_uint8),
        ("budget", C.c_uint32),
    ]


class _Board(C.Structure):
    _fields_ = [
        ("secret", C.c_char_p),
        ("server", C.c_char_p),
        ("fleet", C.c_char_p),
        ("seed", C.c_char_p),
        ("round", C.c_uint32),
        ("spent", C.c_uint64),
        ("roster", C.c_uint32),
        ("index", C.c_uint16),
        ("policy", _Policy),
    ]


def _check(status: int) -> int:
    if status < 0:
        text = library().edgelora_fleet_text
        text.restype = C.c_char_p
        raise FleetError(status, text(status).decode())
    return status


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
        neighbours: int = MAX_NEIGHBOURS,
    ) -> None:
        if [len(part) for part in (secret, server, fleet, seed)] != [32, 32, 8, 32]:
            raise InputError("a member takes keys and a seed of 32 bytes and a fleet id of 8")
        size = library().edgelora_member_size(C.c_uint32(neighbours))
        self._memory = (C.c_uint64 * (size // 8))()
        self._reply: C.Array[C.c_uint32] | None = None
        p = policy or Policy()
        asked = _Policy(*astuple(p))
        board = _Board(secret, server, fleet, seed, round, spent, roster, index, asked)
        _check(library().edgelora_member_begin(self._memory, C.c_uint32(size), C.byref(board)))

    def _call(self, name: str, *arguments: object) -> int:
        return int(getattr(library(), f"edgelora_member_{name}")(self._memory, *arguments))

    @property
    def state(self) -> bytes:
        """All of the member's memory. For tests."""
        return bytes(self._memory)

    @property
    def next(self) -> Next:
        """What the member waits for."""
        return Next(self._call("next"))

    @property
    def round(self) -> int:
        """The current round; 0 before the first TASK."""
        return self._call("round") & 0xFFFFFFFF

    @property
    def spent(self) -> int:
        """The cost of all rounds, the current one included from its update on; 2^64 - 1: more than any budget."""
        spent = library().edgelora_member_spent
        spent.restype = C.c_uint64
        return int(spent(self._memory))

    @property
    def stage(self) -> int:
        """The stage of the last accepted message; 0 before the first."""
        return self._call("stage")

    @property
    def culprit(self) -> int:
        """The index of the board whose key was invalid, after `work` raised ERR_KEY; 0xFFFF: the server."""
        return self._call("culprit") & 0xFFFF

    def receive(self, message: bytes) -> bool:
        """Accepts a whole message; False if it repeats the last one. FleetError: refused, and nothing has changed."""
        room = C.create_string_buffer(message, max(len(message), 1))
        return _check(self._call("receive", room, C.c_size_t(len(message)))) != AGAIN

    def neighbours(self) -> list[int]:
        """Indices of its neighbours, ascending; none before COHORT."""
        indices = (C.c_uint16 * MAX_NEIGHBOURS)()
        return indices[: self._call("neighbours", indices)]

    def key(self, place: int, key: bytes) -> None:
        """Sets the public key (32 bytes) of the neighbour at a place of `neighbours`, in order. FleetError: revoked."""
        if len(key) != 32:
            raise InputError(f"a public key has 32 bytes, not {len(key)}")
        _check(self._call("key", C.c_uint32(place), key))

    def work(self) -> int:
        """Does one piece of work; returns the number of pieces left."""
        return _check(self._call("work"))

    def finish(self) -> None:
        """Does all remaining work."""
        while self.next is Next.WORK:
            self.work()

    def update(self, before: NDArray[np.int16], after: NDArray[np.int16]) -> None:
        """Takes masters, int16 [n], before and after training. Clips the difference; `work` adds noise and masks."""
        pair = [np.ascontiguousarray(part, np.int16) for part in (before, after)]
        if pair[0].shape != pair[1].shape or pair[0].ndim != 1:
            raise InputError(f"masters are two vectors of one length, not {pair[0].shape} and {pair[1].shape}")
        self._reply = (C.c_uint32 * (8 + pair[0].size))()
        pointers = [C.c_void_p(part.ctypes.data) for part in pair]
        size = C.c_size_t(C.sizeof(self._reply))
        _check(self._call("update", *pointers, C.c_uint32(pair[0].size), self._reply, size))

    def reply(self) -> bytes:
        """The reply, returned once: keep it until the next message was accepted."""
        size = self._call("reply_size")
        room: C.Array[C.c_uint32] = self._reply or (C.c_uint32 * (size // 4 + 1))()
        written = _check(self._call("reply", room, C.c_size_t(C.sizeof(room))))
        self._reply = None
        return bytes(room)[:written]

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
                raise InputError("the member needs masters for its update: give them")
            self.update(*masters())
        self.finish()
        return self.reply()


def clip_update(before: NDArray[np.int16], after: NDArray[np.int16], clip: int) -> NDArray[np.int32]:
    """int32 [n]: after - before (int16 [n]), scaled so that the sum of squares is at most clip^2. clip: 1 to 65535."""
    pair = [np.ascontiguousarray(part, np.int16) for part in (before, after)]
    if pair[0].shape != pair[1].shape or not 1 <= clip <= 65535:
        raise InputError(f"two vectors of one length and a clip of 1 to 65535, not {clip}")
    out = np.empty(pair[0].size, np.int32)
    pointers = [C.c_void_p(part.ctypes.data) for part in pair]
    sizes = C.c_uint32(out.size), C.c_uint32(clip)
    library().edgelora_fleet_update(*pointers, *sizes, C.c_void_p(out.ctypes.data))
    return out


def gaussian_noise(key: bytes, sigma: int, n: int) -> NDArray[np.int32]:
    """int32 [n]: discrete Gaussian noise of standard deviation sigma (0 to 65535), drawn from a key of 32 bytes."""
    if len(key) != 32 or not 0 <= sigma <= 65535:
        raise InputError(f"noise takes a key of 32 bytes and a sigma of 0 to 65535, not {sigma}")
    out = np.zeros(n, np.int32)
    library().edgelora_fleet_noise(key, C.c_uint32(sigma), C.c_void_p(out.ctypes.data), C.c_uint32(n))
    return out


def round_cost(clip: int, sigma: int, honest: int) -> int:
    """A round's cost, in millionths of 1 / z^2, where z = sigma sqrt(honest) / clip; 2^64 - 1 without noise.

    clip, sigma: the task's; honest: survivors that don't collude with the server, 1 without masks. Each 0 to 65535.
    """
    cost = library().edgelora_fleet_cost
    cost.restype = C.c_uint64
    return int(cost(C.c_uint32(clip), C.c_uint32(sigma), C.c_uint32(honest)))
