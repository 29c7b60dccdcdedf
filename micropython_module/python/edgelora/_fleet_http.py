"""Rounds of a fleet over HTTP: `edgelora.fleet.Poller` and `fetch_roster`. SPDX-License-Identifier: MIT"""

import hashlib
import struct
import time
from binascii import unhexlify

from . import hex_id, write
from ._fleet import _core
from .fleet import _TASK, ROSTER, FleetError, Roster, _sha512, hash_of, install

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Iterator
    from typing import Any

    from .fleet import Identity, Member

_LARGEST = 1 << 19  # bytes of a message or an adapter over HTTP
_FIELD = 2 * (32 + 16)  # hex digits of a response's field: the gateway's public key, a challenge


def _hmac(key, *parts):
    # HMAC-SHA-512; key: at most 128 bytes.
    block = bytearray(128)
    block[: len(key)] = key
    inner = _sha512(bytes([b ^ 0x36 for b in block]), *parts)
    return _sha512(bytes([b ^ 0x5C for b in block]), inner)


class _Gateway:
    # Requests to a fleet's gateway, as generators of short steps.
    def __init__(self, url, timeout_ms, total_ms):
        scheme, _, rest = url.partition("://")
        host, _, port = rest.rstrip("/").partition(":")
        if scheme != "http" or not host or "/" in rest.rstrip("/") or port and not port.isdigit():
            raise FleetError("%s: give http://HOST[:PORT] (messages are sealed: they need no https)" % url)
        self._where, self._timeout_ms, self._total_ms = (host, int(port or 80)), timeout_ms, total_ms
        self._public = self._key = None  # the gateway's public key; the key that this board shares with it
        self._challenge = None  # from its last response, valid for one request

    def _http(self):
        from ._http import Http

        return Http(*self._where, self._timeout_ms, time.ticks_add(time.ticks_ms(), self._total_ms))

    def get(self, path, proof="", fields=None):
        """Gets the data at a path, None if there is none. fields: a dict that receives the response's header fields."""
        http = self._http()
        try:
            status, found = yield from http.ask("GET", path, proof)
            if fields is not None:
                fields.update(found)
            if status == 204:
                return None
            if status != 200 or http.length is None or not 32 <= http.length <= _LARGEST:
                raise FleetError("the gateway's answer to %s is unusable: status %d" % (path, status))
            data = bytearray(http.length)
            yield from http.read_exactly(data)
            return data
        finally:
            http.close()

    def letter(self, member):
        """The message that waits for a board, None if there is none."""
        return (yield from self._proven(member, None))

    def post(self, member, data):
        """Posts a board's reply; returns whether the gateway accepted it. If not, the round has moved on."""
        return (yield from self._proven(member, data))

    def _proven(self, member, data):
        # Sends a request with a proof of identity; again if another gateway answers than the proof was made for.
        if self._challenge is None:
            yield from self._once(member, None)
        for _ in range(2):
            public = self._public
            found = yield from self._once(member, data)
            if found or public == self._public:
                break
        return found

    def _once(self, member, data):
        path, proof, fields = "/fleet/%d" % member.index, self._proof(member, data), {}
        self._challenge = None  # it is valid for one request
        if data is None:
            found = yield from self.get(path, proof, fields)
        else:
            http = self._http()
            try:
                status, fields = yield from http.ask("POST", path, proof, data)
                found = status == 204
            finally:
                http.close()
        self._meet(fields.get("fleet", ""), member.identity.secret)
        return found

    def _meet(self, field, secret):
        # Saves the public key and the challenge of the gateway that responds.
        try:
            given = unhexlify(field)
        except ValueError:
            given = b""
        if 2 * len(given) != _FIELD:
            raise FleetError("the answer is not from a gateway of this board's fleet, or from an older one: update it")
        if given[:32] != self._public:
            self._public = None
            self._key = _hmac(b"edgelora poll 1", _core.x25519(secret, given[:32]))
            self._public = given[:32]
        self._challenge = given[32:]

    def _proof(self, member, data):
        # The proof as a header line of a request, "" without a challenge.
        if self._challenge is None:
            return ""
        digest = hashlib.sha256(data).digest() if data else b""
        about = b"poll\0\0\0\0", member.roster.fleet, self._challenge, struct.pack("<H", member.index), digest
        return "Fleet: %s\r\n" % hex_id(self._challenge + _hmac(self._key, *about)[:16] + digest)


def fetch_roster(url: str, identity: Identity, timeout_ms: int = 10000, total_ms: int = 300000) -> Iterator[Any]:
    """Downloads a fleet's roster from its gateway and installs it; make a `Member` next. A generator of short steps.

    FleetError as from `install`, also if the roster is not newer than the installed one. OSError: connection failed.
    """
    yield from _fetch_roster(_Gateway(url, timeout_ms, total_ms), identity)


def _fetch_roster(gateway, identity):
    path = ROSTER + ".new"
    write(path, (yield from gateway.get("/fleet/roster")) or b"")
    yield from install(path, identity)


class Poller:
    """Polls a fleet's gateway for messages over HTTP, and answers them. url: http://HOST[:PORT] of the gateway."""

    member: Member
    heard: bool  # whether the last asking found a message that was new

    def __init__(self, member: Member, url: str, timeout_ms: int = 10000, total_ms: int = 300000) -> None:
        self.member = member
        self._gateway = _Gateway(url, timeout_ms, total_ms)
        self._sent = None  # the reply that was posted last
        self.heard = False  # whether the last asking found a message that was new

    def steps(self) -> Iterator[str | None]:
        """Polls once and answers the message, if any, with the newest roster. A generator of short steps (a DNS look-up
        may take longer).

        OSError: the connection failed; poll again later. ValueError: the message is refused, and nothing has changed.
        """
        member, self.heard = self.member, False
        message = yield from self._gateway.letter(member)
        if message is None:
            return
        if len(message) > 60 and message[4] == _TASK:
            number = int.from_bytes(message[16:20], "little")
            if number > member.roster.number:  # boards joined or left
                if number > Roster().number:  # an earlier call may have installed it and failed later
                    yield from _fetch_roster(self._gateway, member.identity)
                member.begin()
            yield from self._fetch(bytes(message[28:60]))
        yield from member.steps(message)
        del message
        reply = member.reply  # also one posted before: a restarted gateway has lost it
        yield from self._gateway.post(member, reply)
        self.heard = reply is not self._sent
        self._sent = reply

    def _fetch(self, wanted):
        # Downloads the global adapter unless the board has it.
        path = self.member.adapter
        if hash_of(path) == wanted:
            return
        data = yield from self._gateway.get("/fleet/adapter/" + hex_id(wanted))
        if data is None or hashlib.sha256(data).digest() != wanted:
            raise FleetError("the gateway does not have the round's adapter")
        write(path, data)
