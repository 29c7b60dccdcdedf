"""Authentication of boards that poll (SPEC.md, section 17): every answer has a challenge, every request a tag.

A gateway draws a key pair when it starts, and shares a secret with each board by that board's key in the roster. So it
needs no secret of the server, and a tag for one gateway is of no use at another.
"""

from __future__ import annotations

import hmac
import os
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .messages import TAG_SIZE, agree, hmac512, public_of
from .roster import Roster

FIELD = "Fleet"  # HTTP header field of requests and answers
CHALLENGE_SIZE = 16  # u64 number, 8 bytes of the gateway's MAC of it
_LABEL, _ABOUT = b"edgelora poll 1", b"poll\0\0\0\0"
_GIVEN = re.compile(r"([0-9a-f]{32})([0-9a-f]{32})([0-9a-f]{64})?")


def poll_key(secret: bytes, public: bytes) -> bytes:
    """The shared key of a board and a gateway, 64 bytes, from the secret of one and the public key of the other.

    ValueError: not a valid public key, as that of a revoked board.
    """
    return hmac512(_LABEL, agree(secret, public))


def tag_of(key: bytes, fleet: bytes, index: int, challenge: bytes, digest: bytes = b"") -> bytes:
    """16 bytes that authenticate board `index`. digest: SHA-256 of what it posts; empty for GET."""
    return hmac512(key, _ABOUT + fleet + challenge + struct.pack("<H", index) + digest)[:TAG_SIZE]


@dataclass
class _Known:
    """A board that polls. public: its key in the roster; last: the highest challenge number that it has answered."""

    public: bytes
    key: bytes
    last: int = 0


class Door:
    """Authenticates the boards that poll one gateway. All methods are thread-safe."""

    def __init__(self, roster: Callable[[], Roster]) -> None:
        """roster: returns the current one; called for every request that has a tag."""
        self._roster = roster
        self._secret, self._own = os.urandom(32), os.urandom(32)
        self._public = public_of(self._secret)
        self._lock = threading.Lock()
        self._number = 0
        self._known: dict[int, _Known] = {}

    def challenge(self) -> str:
        """The header field of an answer: this gateway's public key, and a challenge that is unique to the answer."""
        with self._lock:
            self._number += 1
            return (self._public + self._challenge(self._number)).hex()

    def _challenge(self, number: int) -> bytes:
        packed = struct.pack("<Q", number)
        return packed + hmac512(self._own, packed)[: CHALLENGE_SIZE - len(packed)]

    def proven(self, index: int, field: str) -> bytes | None:
        """SHA-256 of what this board posts, empty for GET; None if its request's header field does not authenticate it.

        Each challenge is valid for one request, and no longer valid once the board has answered a later one.
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
