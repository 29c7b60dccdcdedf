"""Messages of a round (SPEC.md, section 17): tasks, envelopes, keys, bodies about cohorts, thresholds."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, replace
from enum import IntEnum
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from edgelora.base.errors import InputError

from .roster import SERVER

MAGIC = b"ELF1"
ENVELOPE = struct.Struct("<4sBBHII")  # magic, stage, 0, index of the board, round, size of the body
TAG_SIZE = 16
AROUND = ENVELOPE.size + TAG_SIZE
SEALED_SIZE = 80  # two shares of 32 bytes and a tag
MAX_COHORT = 65
MAX_PARAMETERS = 65536
MAX_MESSAGE = AROUND + max(4 * MAX_PARAMETERS, 2 + 2 * 65535)
_TASK = struct.Struct("<I8s32sIHHIIHHHHH26x")
_WORD = 1 << 32


class Stage(IntEnum):
    """Kinds of messages, in their order; even ones are sent by boards."""

    TASK = 1
    READY = 2
    COHORT = 3
    ADVERT = 4
    PEERS = 5
    SHARES = 6
    INPUT = 7
    MASKED = 8
    SURVIVORS = 9
    CONFIRM = 10
    UNMASK = 11
    OPENED = 12


class Member(Protocol):
    """A board in a round: of this computer (`member.TwinMember`) or on a line (`serial_member.BoardMember`)."""

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        """The board's reply. adapter: the global `.ela`, with TASK. Raises an EdgeloraError if the board refuses."""
        ...


@dataclass(frozen=True)
class Task:
    """The task of boards in a round.

    roster: its number; adapter_sha256: of the global `.ela`; parameters: values of an update; learning_rate: 0 for the
    mode's default; clip: the largest L2 norm of an update, in units of masters; sigma: standard deviation of a board's
    noise, in the same units; least: fewest survivors of a cohort whose sum is opened; cohort: most boards of a cohort;
    colluders: boards of a cohort that may work for the server. cohort and colluders have no meaning without masks.
    """

    roster: int
    base_id: bytes
    adapter_sha256: bytes
    parameters: int
    epochs: int
    learning_rate: int
    seed: int
    clip: int
    sigma: int
    least: int
    cohort: int
    colluders: int = 0
    masks: bool = True

    def __post_init__(self) -> None:
        limits = [
            ("roster", 1, _WORD - 1),
            ("parameters", 1, MAX_PARAMETERS),
            ("epochs", 1, 65535),
            ("learning_rate", 0, 65535),
            ("seed", 0, _WORD - 1),
            ("clip", 1, 65535),
            ("sigma", 0, 65535),
            ("least", 1, 65535),
            ("colluders", 0, 65535),
        ]
        if self.masks:
            limits += [("cohort", 2, MAX_COHORT), ("least", 1, self.cohort)]
        for name, low, high in limits:
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} of a round is {value}", remedy=f"give {low} to {high}")
        if (len(self.base_id), len(self.adapter_sha256)) != (8, 32):
            raise InputError("a task names its base by 8 bytes and its adapter by 32")

    def pack(self) -> bytes:
        """The body of TASK, 96 bytes."""
        return _TASK.pack(*astuple(self))

    @classmethod
    def unpack(cls, body: bytes) -> Task:
        """Raises InputError."""
        if len(body) != _TASK.size or any(body[70:]) or struct.unpack_from("<H", body, 68)[0] > 1:
            raise InputError(f"{len(body)} bytes that are not a task of a round")
        fields = _TASK.unpack(body)
        return replace(cls(*fields), masks=bool(fields[-1]))


# ---- keys


def agree(secret: bytes, public: bytes) -> bytes:
    """The shared secret of X25519, 32 bytes. Raises ValueError if it is all zeros."""
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def public_of(secret: bytes) -> bytes:
    """The public key of an X25519 secret, 32 bytes each."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def hmac512(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha512")


@dataclass(frozen=True)
class Channel:
    """The shared key of two members of a fleet in a round; all pads between them are derived from it.

    prk: 64 bytes; fleet: 8 bytes; number: of the round.
    """

    prk: bytes
    fleet: bytes
    number: int

    @classmethod
    def between(cls, secret: bytes, public: bytes, fleet: bytes, number: int) -> Channel:
        return cls(hmac512(b"edgelora fleet 1", agree(secret, public)), fleet, number)

    def pad(self, label: bytes, sender: int, receiver: int) -> bytes:
        """64 bytes that only these two can distinguish from random ones."""
        where = struct.pack("<8s8sIHH", label, self.fleet, self.number, sender, receiver)
        return hmac512(self.prk, where)

    # --- messages between a board and the server

    def wrap(self, stage: Stage, index: int, body: bytes) -> bytes:
        """A message to or from board `index`."""
        message = ENVELOPE.pack(MAGIC, stage, 0, index, self.number, len(body)) + body
        return message + self._tag(stage, index, message)

    def unwrap(self, message: bytes, stage: Stage, index: int) -> bytes | None:
        """The body; None if the message is of another stage, board or round, or was changed."""
        body = message[ENVELOPE.size : -TAG_SIZE]
        if message[: ENVELOPE.size] != ENVELOPE.pack(MAGIC, stage, 0, index, self.number, len(body)):
            return None
        tag = self._tag(stage, index, message[:-TAG_SIZE])
        return body if hmac.compare_digest(tag, message[-TAG_SIZE:]) else None

    def _tag(self, stage: Stage, index: int, content: bytes) -> bytes:
        ends = (index, SERVER) if stage % 2 == 0 else (SERVER, index)
        return hmac512(self.pad(b"msg", *ends), content)[:TAG_SIZE]

    def opened(self, index: int, body: bytes) -> bytes:
        """Seals or unseals the body of OPENED."""
        return stream(self.pad(b"open", index, SERVER)[:32], bytes(12), len(body), body)


def stream(key: bytes, nonce: bytes, size: int, onto: bytes = b"") -> bytes:
    """ChaCha20's key stream from block 0, XOR `onto` if given. key: 32 bytes; nonce: 12 bytes."""
    cipher = Cipher(ChaCha20(key, bytes(4) + nonce), None).encryptor()
    return cipher.update(onto or bytes(size))


def mask(seed: bytes, number: int, count: int) -> NDArray[np.uint32]:
    """The mask u32[count] of a seed, 32 bytes, in a round."""
    return np.frombuffer(stream(seed, struct.pack("<I8x", number), 4 * count), "<u4")


def pair_seed(secret: bytes, public: bytes) -> bytes:
    """The seed, 32 bytes, of the mask that two neighbours share, from their mask keys of the round."""
    return hmac512(b"edgelora mask 1", agree(secret, public))[:32]


def index_of(message: bytes) -> int | None:
    """The index of the board in a message's envelope; None if malformed. Does not authenticate."""
    if len(message) < AROUND or message[:4] != MAGIC or ENVELOPE.unpack_from(message)[5] != len(message) - AROUND:
        return None
    return int(ENVELOPE.unpack_from(message)[3])


def round_of(message: bytes) -> tuple[int, int]:
    """Stage and round in a message's envelope. The message must be well-formed, see `index_of`."""
    _, stage, _, _, number, _ = ENVELOPE.unpack_from(message)
    return stage, number


# ---- a cohort


def cohort_body(cohort: Sequence[int]) -> bytes:
    """The body of COHORT: indices ascending."""
    return struct.pack(f"<H{len(cohort)}H", len(cohort), *cohort)


def survivors_body(cohort: Sequence[int], left: Collection[int]) -> bytes:
    """The body of SURVIVORS: the body of COHORT, and a bit for each board: 1 if it is left."""
    bits = np.packbits([board in left for board in cohort], bitorder="little")
    return cohort_body(cohort) + bits.tobytes()


def thresholds(task: Task, count: int) -> tuple[int, int]:
    """For a cohort of `count`: how many shares open a secret, and how many others a board needs to go on."""
    opening = (count - 1 + task.colluders) // 2 + 1
    return opening, max(opening, task.least - 1)
