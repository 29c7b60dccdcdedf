"""Rounds of a fleet over HTTP: `edgelora.fleet.Poller` and `fetch_roster`. SPDX-License-Identifier: MIT"""

import hashlib
import time

import edgelora
from edgelora.fleet import _TASK, ROSTER, FleetError, Roster, hash_of, install

_LARGEST = 1 << 19  # bytes of a message or an adapter over HTTP


class _Gateway:
    # Requests to a fleet's gateway, as generators of short steps.
    def __init__(self, url, timeout_ms, total_ms):
        scheme, _, rest = url.partition("://")
        host, _, port = rest.rstrip("/").partition(":")
        if scheme != "http" or not host or "/" in rest.rstrip("/") or port and not port.isdigit():
            raise FleetError("%s: give http://HOST[:PORT] (messages are sealed: they need no https)" % url)
        self._where, self._timeout_ms, self._total_ms = (host, int(port or 80)), timeout_ms, total_ms

    def _http(self):
        from edgelora._http import Http

        return Http(*self._where, self._timeout_ms, time.ticks_add(time.ticks_ms(), self._total_ms))

    def get(self, path):
        """What is there, None for nothing."""
        http = self._http()
        try:
            status, _ = yield from http.ask("GET", path)
            if status == 204:
                return None
            if status != 200 or http.length is None or not 32 <= http.length <= _LARGEST:
                raise FleetError("the gateway's answer to %s is of no use: status %d" % (path, status))
            data = bytearray(http.length)
            yield from http.read_exactly(data)
            return data
        finally:
            http.close()

    def post(self, path, data):
        """Whether it was taken; if not, nobody waits for it any more."""
        http = self._http()
        try:
            status, _ = yield from http.ask("POST", path, body=data)
            return status == 204
        finally:
            http.close()


def fetch_roster(url, identity, timeout_ms=10000, total_ms=300000):
    """Gets the roster of a fleet's gateway and installs it: make a `Member` then. A generator of short steps.

    FleetError as of `install`: also if it is not newer than the one that is here. OSError: the line's; try again.
    """
    yield from _fetch_roster(_Gateway(url, timeout_ms, total_ms), identity)


def _fetch_roster(gateway, identity):
    path = ROSTER + ".new"
    edgelora.write(path, (yield from gateway.get("/fleet/roster")) or b"")
    yield from install(path, identity)


class Poller:
    """Asks a fleet's gateway for messages over HTTP, and answers them. url: http://HOST[:PORT] of the gateway."""

    def __init__(self, member, url, timeout_ms=10000, total_ms=300000):
        self.member = member
        self._gateway = _Gateway(url, timeout_ms, total_ms)
        self._sent = None  # the reply that was taken last
        self.heard = False  # whether the last asking found a message that was new

    def steps(self):
        """Asks once, and answers what it gets, with the newest roster. A generator of short steps (looking up a host's
        name may take longer).

        OSError: the line's; ask again later. ValueError: the message is refused, and nothing has changed.
        """
        member, self.heard = self.member, False
        message = yield from self._gateway.get("/fleet/%d" % member.index)
        if message is None:
            return
        if len(message) > 60 and message[4] == _TASK:
            number = int.from_bytes(message[16:20], "little")
            if number > member.roster.number:  # boards came or went
                if number > Roster().number:  # it may be here already, where something failed after that
                    yield from _fetch_roster(self._gateway, member.identity)
                member.begin()
            yield from self._fetch(bytes(message[28:60]))
        yield from member.steps(message)
        del message
        reply = member.reply  # also one that was posted before: a gateway that was started again does not have it
        yield from self._gateway.post("/fleet/%d" % member.index, reply)
        self.heard = reply is not self._sent
        self._sent = reply

    def _fetch(self, wanted):
        # The global adapter, unless it is here.
        path = self.member.adapter
        if hash_of(path) == wanted:
            return
        data = yield from self._gateway.get("/fleet/adapter/" + edgelora.hex_id(wanted))
        if data is None or hashlib.sha256(data).digest() != wanted:
            raise FleetError("the gateway does not have the round's adapter")
        edgelora.write(path, data)
