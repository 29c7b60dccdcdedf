"""The module `_edgelora_fleet` of a board's firmware: micropython_module/binding/fleet_binding.c.

Names, arguments and errors are the binding's. A `FleetError` is the ValueError that a board raises.
"""

from __future__ import annotations

import ctypes as C
import struct

from edgelora.base.errors import EdgeloraError

from .binding import _about, library
from .native import Buffer, address, integer, viewed

MAX_NEIGHBOURS = 64
ERR_MEMBER, ERR_KEY, ERR_SIZE = -1, -12, -13
POLICY = struct.Struct("<HHHHHBBI")  # least_survivors and so on, see `_Policy`


class FleetError(EdgeloraError, ValueError):
    """A refusal by a member: a negative status of edgelora_fleet_status_t, with its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def __reduce__(self) -> tuple[type[FleetError], tuple[int, str]]:
        """Keeps type and status when an error is pickled by a worker process."""
        return FleetError, (self.status, str(self))


def check(status: int) -> int:
    """Raises FleetError for a negative status, else returns it."""
    if status < 0:
        text = library().edgelora_fleet_text
        text.restype = C.c_char_p
        raise FleetError(status, text(status).decode())
    return status


def _sized(data: Buffer, size: int, writable: bool = False) -> C.c_void_p:
    """The address of a buffer of this size."""
    view = viewed(data, writable)
    if view.nbytes != size:
        check(ERR_SIZE)
    return address(view)


def _key(data: Buffer) -> C.c_void_p:
    return _sized(data, 32)


def _word(value: int) -> C.c_uint32:
    return C.c_uint32(integer(value) & 0xFFFFFFFF)


# ---- cryptography


def sha512_begin() -> bytes:
    state = (C.c_uint8 * _about(library()).hash)()
    library().edgelora_sha512_begin(state)
    return bytes(state)


def _hash(state: Buffer) -> C.c_void_p:
    return _sized(state, _about(library()).hash, True)


def sha512_add(state: Buffer, data: Buffer) -> None:
    view = viewed(data)
    library().edgelora_sha512_add(_hash(state), address(view), C.c_size_t(view.nbytes))


def sha512_end(state: Buffer) -> bytes:
    digest = (C.c_uint8 * 64)()
    library().edgelora_sha512_end(_hash(state), digest)
    return bytes(digest)


def x25519_public(secret: Buffer) -> bytes:
    out = (C.c_uint8 * 32)()
    library().edgelora_x25519_public(out, _key(secret))
    return bytes(out)


def x25519(secret: Buffer, public: Buffer) -> bytes:
    out, agree = (C.c_uint8 * 32)(), library().edgelora_x25519
    agree.restype = C.c_bool
    if not agree(out, _key(secret), _key(public)):
        check(ERR_KEY)
    return bytes(out)


# ---- members


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
        ("secret", C.c_void_p),
        ("server", C.c_void_p),
        ("fleet", C.c_void_p),
        ("seed", C.c_void_p),
        ("round", C.c_uint32),
        ("spent", C.c_uint64),
        ("roster", C.c_uint32),
        ("index", C.c_uint16),
        ("policy", _Policy),
    ]


class _Task(C.Structure):
    _fields_ = [
        ("roster", C.c_uint32),
        ("base", C.c_uint8 * 8),
        ("adapter", C.c_uint8 * 32),
        ("parameters", C.c_uint32),
        ("epochs", C.c_uint16),
        ("learning_rate", C.c_uint16),
        ("seed", C.c_uint32),
        ("clip", C.c_uint32),
        ("sigma", C.c_uint16),
        ("least", C.c_uint16),
        ("cohort", C.c_uint16),
        ("colluders", C.c_uint16),
        ("masks", C.c_uint16),
    ]


def _member(memory: Buffer) -> C.c_void_p:
    view, find = viewed(memory, True), library().edgelora_member
    find.restype = C.c_void_p
    found = find(address(view), C.c_uint32(view.nbytes))
    if not found:
        check(ERR_MEMBER)
    return C.c_void_p(found)


def _call(name: str, memory: Buffer, *arguments: object) -> int:
    return int(getattr(library(), f"edgelora_member_{name}")(_member(memory), *arguments))


def member_size(neighbours: int) -> int:
    return int(library().edgelora_member_size(_word(neighbours)))


def member_begin(
    memory: Buffer,
    secret: Buffer,
    server: Buffer,
    fleet: Buffer,
    seed: Buffer,
    round: int,
    roster: int,
    index: int,
    policy: Buffer,
    spent: Buffer,
) -> int:
    view, (cost,) = viewed(memory, True), struct.unpack("<Q", spent)
    keys = _key(secret), _key(server), _sized(fleet, 8), _key(seed)
    policies = _Policy(*POLICY.unpack(policy))
    board = _Board(*keys, _word(round), cost, _word(roster), index, policies)
    return check(library().edgelora_member_begin(address(view), C.c_uint32(view.nbytes), C.byref(board)))


def member_next(memory: Buffer) -> int:
    return _call("next", memory)


def member_state(memory: Buffer) -> tuple[int, int, int]:
    return _call("round", memory) & 0xFFFFFFFF, _call("stage", memory), _call("culprit", memory) & 0xFFFF


def member_task(memory: Buffer) -> tuple[bytes, bytes, int, int, int, int, int]:
    find = library().edgelora_member_task
    find.restype = C.POINTER(_Task)
    t = find(_member(memory)).contents
    return bytes(t.base), bytes(t.adapter), t.parameters, t.epochs, t.learning_rate, t.seed, t.masks


def member_spent(memory: Buffer) -> bytes:
    spent = library().edgelora_member_spent
    spent.restype = C.c_uint64
    return struct.pack("<Q", spent(_member(memory)))


def member_receive(memory: Buffer, message: Buffer) -> int:
    view = viewed(message, True)
    return check(_call("receive", memory, address(view), C.c_size_t(view.nbytes)))


def member_neighbours(memory: Buffer) -> bytes:
    indices = (C.c_uint16 * MAX_NEIGHBOURS)()
    count = _call("neighbours", memory, indices)
    return bytes(indices)[: 2 * count]


def member_key(memory: Buffer, place: int, key: Buffer) -> int:
    return check(_call("key", memory, _word(place), _key(key)))


def member_work(memory: Buffer) -> int:
    return check(_call("work", memory))


def member_update(memory: Buffer, before: Buffer, after: Buffer, reply: Buffer) -> int:
    view, room = viewed(before), viewed(reply, True)
    pair = address(view), _sized(after, view.nbytes)
    if view.nbytes % 2 or any((part.value or 0) & 1 for part in pair):
        check(ERR_SIZE)
    return check(_call("update", memory, *pair, C.c_uint32(view.nbytes // 2), address(room), C.c_size_t(room.nbytes)))


def member_reply_size(memory: Buffer) -> int:
    return _call("reply_size", memory)


def member_reply(memory: Buffer, reply: Buffer) -> int:
    view = viewed(reply, True)
    return check(_call("reply", memory, address(view), C.c_size_t(view.nbytes)))
