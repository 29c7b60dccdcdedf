"""A board that polls a gateway, written from SPEC.md only: for tests of gateways and their authentication."""

from __future__ import annotations

import hashlib
import struct
from http.client import HTTPConnection

import fleet_reference as ref

LABEL, ABOUT = b"edgelora poll 1", b"poll\0\0\0\0"


class Polls:
    """Board `index` of a fleet at a gateway of this computer. source: the board's IP address."""

    def __init__(self, port: int, secret: bytes, fleet: bytes, index: int, source: str = "127.0.0.1") -> None:
        self.port, self.secret, self.fleet, self.index, self.source = port, secret, fleet, index, source
        self.challenge = b""  # from the last answer
        self.public = b""  # the gateway's

    def ask(self, method: str, body: bytes = b"", field: str | None = None) -> tuple[int, bytes]:
        """Status and content of a request. field: replaces the header field, "": sends none."""
        line = HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=(self.source, 0))
        try:
            given = self.proof(body) if field is None else field
            line.request(method, f"/fleet/{self.index}", body or None, {"Fleet": given} if given else {})
            answer = line.getresponse()
            told = bytes.fromhex(answer.getheader("Fleet", ""))
            self.public, self.challenge = told[:32], told[32:]
            return answer.status, answer.read()
        finally:
            line.close()

    def proof(self, body: bytes = b"") -> str:
        """The header field of a request, for the challenge of the last answer."""
        digest = hashlib.sha256(body).digest() if body else b""
        about = ABOUT + self.fleet + self.challenge + struct.pack("<H", self.index) + digest
        key = ref.mac(LABEL, ref.x25519(self.secret, self.public))
        return (self.challenge + ref.mac(key, about)[:16] + digest).hex()

    def get(self) -> bytes:
        """The board's waiting message; b"" if there is none."""
        if not self.challenge:
            self.ask("GET", field="")
        return self.ask("GET")[1]

    def post(self, reply: bytes) -> int:
        """Posts a reply; the HTTP status."""
        if not self.challenge:
            self.ask("GET", field="")
        return self.ask("POST", reply)[0]
