"""How boards that poll prove who they are (SPEC.md, section 17): every answer has a challenge, every request a tag.

A gateway draws a key pair when it starts. What that and a board's key of the roster have in common is theirs alone: the
gateway needs no secret of the server, and what proves a board to one gateway proves nothing to another.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .messages import TAG_SIZE, agree, hmac512, public_of
from .roster import Roster

FIELD = "Fleet"  # of HTTP's heads, both ways
CHALLENGE_SIZE = 16  # u64 number, 8 bytes of the gateway's own
_LABEL, _ABOUT = b"edgelora poll 1", b"poll\0\0\0\0"
_GIVEN = re.compile(r"([0-9a-f]{32})([0-9a-f]{32})([0-9a-f]{64})?")


def poll_key(secret: bytes, public: bytes) -> bytes:
    """What a board and a gateway share, 64 bytes, by the secret of one and the public key of the other.

    ValueError: there is nothing, as for a board that was revoked.
    """
    return hmac512(_LABEL, agree(secret, public))


def tag_of(key: bytes, fleet: bytes, index: int, challenge: bytes, digest: bytes = b"") -> bytes:
    """16 bytes that prove board `index`. digest: SHA-256 of what it posts; nothing where it asks."""
    return hmac512(key, _ABOUT + fleet + challenge + struct.pack("<H", index) + digest)[:TAG_SIZE]


def field_of(key: bytes, fleet: bytes, index: int, challenge: bytes, body: bytes = b"") -> str:
    """The field of a board's request."""
    digest = hashlib.sha256(body).digest() if body else b""
    return (challenge + tag_of(key, fleet, index, challenge, digest) + digest).hex()


@dataclass
class _Known:
    """A board that polls. public: its key in the roster; last: number of the challenge that it answered last."""

    public: bytes
    key: bytes
    last: int = 0


class Door:
    """Who may poll one gateway. Every method may be called from any thread."""

    def __init__(self, roster: Callable[[], Roster]) -> None:
        """roster: that of now, asked with every request that has a tag."""
        self._roster = roster
        self._secret, self._own = os.urandom(32), os.urandom(32)
        self._public = public_of(self._secret)
        self._lock = threading.Lock()
        self._number = 0
        self._known: dict[int, _Known] = {}

    def challenge(self) -> str:
        """The field of an answer: this gateway's public key, and a challenge that no other answer has."""
        with self._lock:
            self._number += 1
            return (self._public + self._challenge(self._number)).hex()

    def _challenge(self, number: int) -> bytes:
        packed = struct.pack("<Q", number)
        return packed + hmac512(self._own, packed)[: CHALLENGE_SIZE - len(packed)]

    def proven(self, index: int, field: str) -> bytes | None:
        """SHA-256 of what this board posts, empty where it asks; None unless the field of its request proves it.

        Each challenge is good for one request, and for none once the board has answered a later one.
        """
        found = _GIVEN.fullmatch(field)
        if not found:
            return None
        challenge, tag, digest = (bytes.fromhex(part or "") for part in found.groups())
        with self._lock:
            known = self._board(index)
            number = int.from_bytes(challenge[:8], "little")
            fleet = self._roster().fleet
            right = known is not None and hmac.compare_digest(tag, tag_of(known.key, fleet, index, challenge, digest))
            fresh = hmac.compare_digest(challenge, self._challenge(number))
            if not known or not right or not fresh or number <= known.last:
                return None
            known.last = number
            return digest

    def _board(self, index: int) -> _Known | None:
        keys = self._roster().keys
        public = keys[index] if index < len(keys) else b""
        known = self._known.get(index)
        if known is None or known.public != public:
            try:
                known = self._known[index] = _Known(public, poll_key(self._secret, public))
            except ValueError:
                return None
        return known
