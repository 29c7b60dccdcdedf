"""A directory of releases over plain HTTP, with ranges: for trying out; any static web server does the same."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from edgelora.base.errors import FileError
from edgelora.base.text import printable
from edgelora.core.formats.elu import HEADER_SIZE
from edgelora.core.formats.files import read_bounded
from edgelora.core.formats.limits import MAX_UPDATE

FILE = re.compile(r"/([A-Za-z0-9_-]+(?:\.(?:v|from-)\d+)?\.elu)")
RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
Log = Callable[[str], None]


def server(site: Path, host: str, port: int, log: Log) -> ThreadingHTTPServer:
    """A server of the bundles in `site`, and of nothing else, nor of what links there lead to.

    port 0: any that is free. log: gets a line for each request, fit for a terminal. Run `serve_forever` on it.
    """

    class Handler(_Handler):
        folder, tell = site, staticmethod(log)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            log(printable(f"{client_address[0]} {sys.exception()!r}"))  # as a rule, it has hung up

    try:
        return Server((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise FileError(f"can't listen on {host}:{port} ({error}): choose another --port or --host") from None


def address(server: ThreadingHTTPServer) -> str:
    """Where boards find it: this computer's own address in its network where the server listens on all."""
    host, port = str(server.server_address[0]), server.server_port
    if host == "0.0.0.0":
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
            way_out.connect(("192.0.2.1", port))  # sends nothing
            host = way_out.getsockname()[0]
    return f"http://{host}:{port}/"


def is_bundle(path: str) -> str | None:
    """The adapter's name in the address of a bundle, /NAME.elu and the like; None for any other address."""
    named = FILE.fullmatch(path)
    return named[1].partition(".")[0] if named else None


def send_bundle(handler: BaseHTTPRequestHandler, folder: Path, path: str, with_body: bool) -> None:
    """Answers a request for a bundle of a folder, or for a part of one; 404 for anything else."""
    named = FILE.fullmatch(path)
    try:
        content = read_bounded(folder / named[1], MAX_UPDATE + HEADER_SIZE, False) if named else None
    except OSError:
        content = None
    if content is None:
        return handler.send_error(HTTPStatus.NOT_FOUND)
    size, start, end = len(content), 0, len(content)
    asked = RANGE.fullmatch(handler.headers.get("Range", ""))
    if asked:
        start, end = int(asked[1]), min(size, int(asked[2] or size) + 1)
        if start >= end:
            handler.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
    handler.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
    if asked:
        handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
    handler.send_header("Content-Type", "application/octet-stream")
    handler.send_header("Content-Length", str(end - start))
    handler.send_header("Accept-Ranges", "bytes")
    handler.end_headers()
    if with_body:
        handler.wfile.write(content[start:end])


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    tell: Log
    server_version = "edgelora"
    timeout = 30  # seconds for a silent client

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def _answer(self, with_body: bool) -> None:
        send_bundle(self, self.folder, self.path, with_body)

    def log_message(self, format: str, *args: Any) -> None:
        asked = self.headers.get("Range", "") if hasattr(self, "headers") else ""
        self.tell(printable(f"{self.client_address[0]} {format % args} {asked}".rstrip()))
