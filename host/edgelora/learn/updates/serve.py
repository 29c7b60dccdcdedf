"""Serves a directory of releases over plain HTTP, with ranges, for tests; any static web server does the same."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from edgelora.base.http_server import CLIENTS, NOT_FOUND, Answer, Request, Server, routes
from edgelora.core.formats.elu import HEADER_SIZE
from edgelora.core.formats.files import read_bounded
from edgelora.core.formats.limits import MAX_UPDATE

BUNDLE = r"([A-Za-z0-9_-]{1,80})((?:\.(?:v|from-)\d+)?\.elu)"  # in a path: the adapter's name, the file's ending
RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
SILENCE, SECONDS = 30.0, 600.0  # seconds: that a client may send nothing; for a request and its answer
EACH = CLIENTS // 2  # connections from one address, which several boards may share


def server(site: Path, host: str, port: int, log: Callable[[str], object]) -> Server:
    """A server of the bundles in `site`; it serves no other files and follows no links.

    port 0: any free port. log: gets a line for each request, safe to print on a terminal. Call its `serve_forever`.
    """

    def bundle(request: Request, name: str, rest: str) -> Answer:
        return bundle_of(request, site / (name + rest))

    app = routes(("GET|HEAD", f"/{BUNDLE}", bundle))
    return Server(host, port, app, SECONDS, each=EACH, silence=SILENCE, log=log)


def address(server: Server) -> str:
    """The server's address for boards: this computer's own network address if the server listens on all."""
    host, port = str(server.server_address[0]), server.server_port
    if host == "0.0.0.0":
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
            way_out.connect(("192.0.2.1", port))  # sends nothing
            host = way_out.getsockname()[0]
    return f"http://{host}:{port}/"


def bundle_of(request: Request, path: Path) -> Answer:
    """The answer to a request for a bundle, or for a part of one."""
    try:
        content = read_bounded(path, MAX_UPDATE + HEADER_SIZE, False)
    except OSError:
        return NOT_FOUND
    asked = RANGE.fullmatch(request.headers.get("Range", ""))
    if not asked:
        return Answer(HTTPStatus.OK, content, fields={"Accept-Ranges": "bytes"})
    size = len(content)
    start, end = int(asked[1]), min(size, int(asked[2] or size) + 1)
    if start >= end:
        return Answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, fields={"Content-Range": f"bytes */{size}"})
    fields = {"Accept-Ranges": "bytes", "Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return Answer(HTTPStatus.PARTIAL_CONTENT, content[start:end], fields=fields)
