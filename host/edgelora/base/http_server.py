"""An HTTP server for hostile clients, on the standard library's: one request a connection, limits of time and number.

What it serves is an `App`: a function of a `Request` that returns an `Answer`, as `routes` makes one of a table.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

from .errors import FileError
from .text import printable

CLIENTS, CLIENTS_EACH = 64, 8  # at a time, in all and from one address
SILENCE = 10.0  # seconds without a byte
_BLOCK = 1 << 16


class Answer(NamedTuple):
    """Status, content and further fields of the head."""

    status: HTTPStatus = HTTPStatus.OK
    content: bytes = b""
    kind: str = "application/octet-stream"
    fields: Mapping[str, str] = MappingProxyType({})


NOT_FOUND, NO_CONTENT = Answer(HTTPStatus.NOT_FOUND), Answer(HTTPStatus.NO_CONTENT)


class Refused(Exception):
    """A request is not taken: the answer's status."""


class Request(BaseHTTPRequestHandler):
    """The request of a connection, which has no other. fields: of its answer's head, whatever the app returns."""

    server: Server
    server_version = "edgelora"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.silence)
        self.fields: dict[str, str] = {}

    @property
    def address(self) -> str:
        return str(self.client_address[0])

    def size(self, limit: int) -> int:
        """Bytes that are posted, as the head declares. Raises Refused."""
        declared = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,12}", declared) or self.headers.get("Transfer-Encoding"):
            raise Refused(HTTPStatus.LENGTH_REQUIRED)
        if int(declared) > limit:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return int(declared)

    def blocks(self, size: int) -> Iterator[bytes]:
        """What is posted, in parts. ConnectionError: the client has hung up."""
        while size:
            block = self.rfile.read(min(size, _BLOCK))
            if not block:
                raise ConnectionError("the client has hung up")
            size -= len(block)
            yield block

    def body(self, limit: int) -> bytes:
        """What is posted. Raises Refused, ConnectionError."""
        return b"".join(self.blocks(self.size(limit)))

    def _handle(self) -> None:
        try:
            answer = self.server.app(self)
        except Refused as error:
            answer = Answer(error.args[0])
        kind = {"Content-Type": answer.kind} if answer.content else {}
        self.send_response(answer.status)
        fields = self.fields | {"Content-Length": str(len(answer.content))} | kind | dict(answer.fields)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    do_GET = do_HEAD = do_POST = do_DELETE = _handle

    def log_message(self, format: str, *args: Any) -> None:
        asked = self.headers.get("Range", "") if hasattr(self, "headers") else ""
        self.server.log(printable(f"{self.address} {format % args} {asked}".rstrip()))


App = Callable[[Request], Answer]


def routes(*table: tuple[str, str, Callable[..., Answer]]) -> App:
    """An app of rows METHOD, PATH, both patterns, and the function that gets the request and what PATH's groups match:
    that of the first row that matches."""

    def app(request: Request) -> Answer:
        mine = [(path, answer) for method, path, answer in table if re.fullmatch(method, request.command)]
        if not mine:
            raise Refused(HTTPStatus.NOT_IMPLEMENTED)
        for path, answer in mine:
            if found := re.fullmatch(path, request.path):
                return answer(request, *found.groups())
        return NOT_FOUND

    return app


class Server(ThreadingHTTPServer):
    """Serves at most `CLIENTS` connections at a time, each for `seconds` at most. port 0: any that is free.

    each: connections from one address. Where all are taken, a new one takes the place of the oldest from the address
    that has most: who holds many slowly keeps nobody out. silence: seconds without a byte that end a connection. log:
    gets a line for each request, fit for a terminal. tls: the handshake is in the connection's own thread and time.
    FileError: the port is taken.
    """

    daemon_threads = True
    request_queue_size = CLIENTS

    def __init__(
        self,
        host: str,
        port: int,
        app: App,
        seconds: float,
        *,
        each: int = CLIENTS_EACH,
        silence: float = SILENCE,
        log: Callable[[str], object] = lambda line: None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.app, self.silence, self.log = app, silence, log
        self._seconds, self._each, self._tls = seconds, each, tls
        self._open: dict[socket.socket, str] = {}  # connections by age, and their addresses
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        try:
            super().__init__((host, port), Request)
        except (OSError, OverflowError) as error:
            raise FileError(f"can't listen on {host}:{port} ({error}): choose another port or address") from None

    def get_request(self) -> tuple[socket.socket, Any]:
        line, address = super().get_request()
        if self._tls:
            line = self._tls.wrap_socket(line, server_side=True, do_handshake_on_connect=False)
        return line, address

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._enter(request, client_address[0]):
            return self.shutdown_request(request)
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._leave(request)
            raise

    def _enter(self, request: socket.socket, address: str) -> bool:
        with self._lock:
            counts = Counter(self._open.values())
            if counts[address] >= self._each:
                return False
            if len(self._open) >= CLIENTS:
                crowd = max(counts, key=lambda one: counts[one])
                oldest = next(one for one, where in self._open.items() if where == crowd)
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = address
            return True

    def _leave(self, request: socket.socket) -> None:
        with self._lock:
            self._open.pop(request, None)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        over = threading.Timer(self._seconds, _hang_up, [request])
        over.daemon = True
        over.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            over.cancel()
            self._leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """As a rule, it has hung up."""
        self.log(printable(f"{client_address[0]} {sys.exception()!r}"))

    def start(self) -> None:
        """Serves in a thread until it is closed; `serve_forever` serves in this one."""
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def server_close(self) -> None:
        """Ends the thread first: what it waits on may be another file's number once this is closed."""
        if self._thread:
            self.shutdown()
            self._thread.join()
        super().server_close()


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
