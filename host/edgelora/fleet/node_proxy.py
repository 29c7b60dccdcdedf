"""A proxy through which SuperNodes of other computers reach a SuperLink: only its interface for nodes.

Flower's SuperLink has one address for authenticated nodes, its app processes, and commands that run code as its owner.
So the SuperLink listens on loopback, and this proxy forwards the nodes' requests.
"""

from __future__ import annotations

import ssl
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from edgelora.base.http_server import CLIENTS, Answer, Request, Server, routes

from .web import MAX_POSTED

NODES = "/v1/fleet/[a-z-]{1,40}"
SECONDS = 600.0  # for a request and its answer: a node may be on a slow line
EACH = CLIENTS // 2  # connections from one address, which several nodes may share
_NOT_PASSED = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "expect", "te"}


def nodes_door(host: str, port: int, inner: int, tls: Path) -> Server:
    """A server that forwards nodes' requests to the SuperLink at port `inner` of loopback.

    tls: the SuperLink's folder with ca.crt, server.crt and server.key. FileError: the port is taken.
    """
    trusted = ssl.create_default_context(cafile=tls / "ca.crt")
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(tls / "server.crt", tls / "server.key")

    def pass_on(request: Request) -> Answer:
        size = request.size(MAX_POSTED)
        fields = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED}
        line = HTTPSConnection("127.0.0.1", inner, timeout=SECONDS, context=trusted)
        try:
            line.request("POST", request.path, request.blocks(size), fields | {"Content-Length": str(size)})
            reply = line.getresponse()
            return Answer(HTTPStatus(reply.status), reply.read(), reply.getheader("Content-Type", ""))
        except (OSError, HTTPException):
            return Answer(HTTPStatus.BAD_GATEWAY)
        finally:
            line.close()

    return Server(host, port, routes(("POST", NODES, pass_on)), SECONDS, each=EACH, tls=own)
