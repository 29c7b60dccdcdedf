"""Where SuperNodes of other computers reach a SuperLink: its interface for nodes and nothing else.

Flower's SuperLink has one address for all: nodes, who are authenticated, its app processes, and the commands by which
anyone runs code on it as its owner. So it listens on loopback, and this passes on what nodes say.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from .web import CLIENTS, MAX_POSTED, Handler, Server

NODES = re.compile(r"/v1/fleet/[a-z-]{1,40}")
SECONDS = 600.0  # for a request and its answer: a node may be on a slow line
EACH = CLIENTS // 2  # connections from one address, which several nodes may share
_BLOCK = 1 << 16
_NOT_PASSED = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "expect", "te"}


class _Door(Server):
    def __init__(self, host: str, port: int, handler: type[Handler], certificate: Path, key: Path) -> None:
        super().__init__(host, port, handler, SECONDS, EACH)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The handshake waits for the connection's own thread."""
        line, address = super().get_request()
        return self._context.wrap_socket(line, server_side=True, do_handshake_on_connect=False), address


def nodes_door(host: str, port: int, inner: int, tls: Path) -> Server:
    """Passes nodes' requests to the SuperLink at port `inner` of loopback.

    tls: a folder with ca.crt, server.crt and server.key, which are the SuperLink's, too. FileError: the port is taken.
    """
    trusted = ssl.create_default_context(cafile=tls / "ca.crt")

    class Passing(Handler):
        def do_POST(self) -> None:
            if not NODES.fullmatch(self.path):
                return self.answer(HTTPStatus.NOT_FOUND)
            size = self.size(MAX_POSTED)
            if size is None:
                return
            line = HTTPSConnection("127.0.0.1", inner, timeout=SECONDS, context=trusted)
            fields = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED}
            try:
                line.request("POST", self.path, self._blocks(size), fields | {"Content-Length": str(size)})
                reply = line.getresponse()
                self._pass_back(reply.status, reply.getheader("Content-Type", ""), reply.read())
            except (OSError, HTTPException):
                with contextlib.suppress(OSError):
                    self.answer(HTTPStatus.BAD_GATEWAY)
            finally:
                line.close()

        def _blocks(self, size: int) -> Iterator[bytes]:
            while size:
                block = self.rfile.read(min(size, _BLOCK))
                if not block:
                    raise ConnectionError("the node has hung up")
                size -= len(block)
                yield block

        def _pass_back(self, status: int, kind: str, content: bytes) -> None:
            self.answer(HTTPStatus(status), content, kind)

    return _Door(host, port, Passing, tls / "server.crt", tls / "server.key")
