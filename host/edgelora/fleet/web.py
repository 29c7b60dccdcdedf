"""The gateway's two servers: one that WiFi boards poll, and one on loopback for the server's end. Clients are hostile.

Boards (SPEC.md, section 17)         the server's end, with a token
GET  /fleet/INDEX, proven (`polls`)  GET    /boards
POST /fleet/INDEX, proven            POST   /messages
GET  /fleet/roster                   GET    /replies/TICKET?seconds=S
GET  /fleet/adapter/SHA256           DELETE /replies/TICKET
GET  /fleet/INDEX/NAME.elu
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import math
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from edgelora.base.errors import EdgeloraError, FileError, InputError
from edgelora.core.formats.files import SECRET, read_bounded, write_atomic
from edgelora.learn.updates.serve import is_bundle, send_bundle

from .gateway import BoardState, Gateway
from .polls import FIELD, Door
from .rollout import folder_of
from .roster import Roster, Site

CLIENTS, CLIENTS_EACH = 64, 8  # at a time, in all and from one address
SILENCE = 10.0  # seconds without a byte
SECONDS = 30.0  # for a request and its answer, of boards
MAX_POSTED = 256 << 20  # bytes that the server's end may post
POLL_SECONDS = 20.0  # that it may wait for replies in one request
STATE_FILE = "gateway.json"
BUNDLE = re.compile(r"/fleet/(\d{1,5})(/.{1,80})")
BOARD = re.compile(r"/fleet/(\d{1,5})")
ADAPTER = re.compile(r"/fleet/adapter/([0-9a-f]{64})")
REPLIES = re.compile(r"/replies/(\d{1,18})(?:\?seconds=(\d{1,3}(?:\.\d{1,6})?))?")


RESTART = (1.0, 60.0)  # seconds between looks for a gateway that was started again; for so long at most


class GatewayError(EdgeloraError, OSError):
    """The gateway can't be reached, or does not take what it was given."""


class _GatewayGone(GatewayError):
    """It is not there, or another one is in its place, which knows nothing of what this one was given."""


class Server(ThreadingHTTPServer):
    """Serves at most `CLIENTS` connections at a time, each for `seconds` at most. port 0: any that is free.

    each: connections from one address. Where all are taken, a new one takes the place of the oldest from the address
    that has most: who holds many slowly keeps nobody out.
    """

    daemon_threads = True
    request_queue_size = CLIENTS

    def __init__(
        self, host: str, port: int, handler: type[BaseHTTPRequestHandler], seconds: float, each: int = CLIENTS_EACH
    ) -> None:
        self._seconds, self._each = seconds, each
        self._open: dict[socket.socket, str] = {}  # connections by age, and their addresses
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        try:
            super().__init__((host, port), handler)
        except (OSError, OverflowError) as error:
            raise FileError(f"can't listen on {host}:{port} ({error}): choose another port or address") from None

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

    def start(self) -> None:
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


class Handler(BaseHTTPRequestHandler):
    """What all have in common: one request a connection, bodies of a told size."""

    server_version = "edgelora"
    sys_version = ""
    timeout = SILENCE
    fields: Mapping[str, str] = {}  # of every answer's head

    def size(self, limit: int) -> int | None:
        """Of what is posted, or None, and the client has been told why."""
        told = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,12}", told) or self.headers.get("Transfer-Encoding"):
            self.answer(HTTPStatus.LENGTH_REQUIRED)
        elif int(told) > limit:
            self.answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            return int(told)
        return None

    def body(self, limit: int) -> bytes | None:
        """What was posted, or None, and the client has been told why or has hung up."""
        size = self.size(limit)
        data = b"" if size is None else self.rfile.read(size)
        return data if len(data) == size else None

    def answer(self, status: HTTPStatus, content: bytes = b"", kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        for name, value in self.fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        if content:
            self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Events of boards are told where they happen."""


class _Rosters:
    """The roster of a site, read and checked once for each change of its file."""

    def __init__(self, site: Site) -> None:
        self._site, self._lock = site, threading.Lock()
        self._read: tuple[tuple[int, ...], Roster] | None = None

    def __call__(self) -> Roster:
        """Raises RosterError or an OSError."""
        with self._lock:
            found = self._site.path.stat()
            version = found.st_ino, found.st_mtime_ns, found.st_size
            if self._read is None or self._read[0] != version:
                self._read = None
                self._read = version, self._site.roster()
            return self._read[1]


def board_server(gateway: Gateway, site: Site, host: str, port: int) -> Server:
    """What WiFi boards poll, and fetch updates from."""
    roster = _Rosters(site)
    door = Door(roster)

    class Answers(Handler):
        def do_GET(self) -> None:
            if named := BOARD.fullmatch(self.path):
                return self._letter(int(named[1]))
            if BUNDLE.fullmatch(self.path):
                return self._bundle(True)
            content = None
            if self.path == "/fleet/roster":
                try:
                    content = site.data()
                except (EdgeloraError, OSError) as error:
                    gateway.tell("roster", why=str(error))
            elif wanted := ADAPTER.fullmatch(self.path):
                content = gateway.mail.adapter(wanted[1])
            if content is None:
                return self.answer(HTTPStatus.NOT_FOUND)
            self.answer(HTTPStatus.OK, content)

        def do_HEAD(self) -> None:
            self._bundle(False)

        def _bundle(self, with_body: bool) -> None:
            """A release, from the folder that this board has its releases from."""
            asked = BUNDLE.fullmatch(self.path)
            name = is_bundle(asked[2]) if asked else None
            if not asked or not name or not self._is_board(int(asked[1])):
                return self.answer(HTTPStatus.NOT_FOUND)
            try:
                folder = folder_of(site, name, int(asked[1]))
            except (EdgeloraError, OSError) as error:
                gateway.tell("update", int(asked[1]), why=str(error))
                return self.answer(HTTPStatus.NOT_FOUND)
            send_bundle(self, folder, asked[2], with_body)

        def _is_board(self, index: int) -> bool:
            """Whether the roster of now has it: boards are enrolled while a gateway runs."""
            try:
                return index < len(roster().keys)
            except (EdgeloraError, OSError) as error:
                gateway.tell("roster", why=str(error))
                return False

        def _proven(self, index: int) -> bytes | None:
            """What `Door.proven` says of this request; whoever is not proven is told nothing but the next challenge."""
            self.fields = {FIELD: door.challenge()}
            return door.proven(index, self.headers.get(FIELD, ""))

        def _letter(self, index: int) -> None:
            if not self._is_board(index):
                return self.answer(HTTPStatus.NOT_FOUND)
            letter = None
            if self._proven(index) == b"":
                gateway.polled(index)
                letter = gateway.mail.wanted(index, "http")
            if letter is None:
                return self.answer(HTTPStatus.NO_CONTENT)
            self.answer(HTTPStatus.OK, letter.message)

        def do_POST(self) -> None:
            named = BOARD.fullmatch(self.path)
            if not named or not self._is_board(int(named[1])):
                return self.answer(HTTPStatus.NOT_FOUND)
            index = int(named[1])
            digest = self._proven(index)
            reply = self.body(gateway.mail.room(index) if digest else 0)
            if reply is None:
                return
            if hashlib.sha256(reply).digest() != digest or not gateway.mail.reply(index, reply, "http"):
                return self.answer(HTTPStatus.CONFLICT)
            gateway.tell("answered", index, stage=reply[4] - 1, bytes=len(reply), address=self.client_address[0])
            self.answer(HTTPStatus.NO_CONTENT)

    return Server(host, port, Answers, SECONDS)


# ---- the server's end


def local_server(gateway: Gateway, state: Path) -> Server:
    """The loopback interface; its address and token are in `state`/gateway.json, for the owner's eyes alone.

    FileError: another gateway has that folder.
    """
    with contextlib.suppress(GatewayError):
        GatewayClient(state).boards()
        raise FileError(f"{state} has a gateway that runs: stop it, or give this one another folder with --state")
    token = secrets.token_hex(32)

    class Answers(Handler):
        def do_GET(self) -> None:
            if not self._may():
                return
            if self.path == "/boards":
                return self._json({"boards": [asdict(board) for board in gateway.boards()]})
            named = REPLIES.fullmatch(self.path)
            if not named:
                return self.answer(HTTPStatus.NOT_FOUND)
            seconds = min(float(named[2] or 0), POLL_SECONDS)
            try:
                replies, left = gateway.mail.replies(int(named[1]), seconds)
            except InputError:
                return self.answer(HTTPStatus.NOT_FOUND)
            packed = {str(i): [base64.b64encode(reply).decode() for reply in found] for i, found in replies.items()}
            self._json({"replies": packed, "left": left})

        def do_POST(self) -> None:
            if not self._may():
                return
            if self.path != "/messages":
                return self.answer(HTTPStatus.NOT_FOUND)
            content = self.body(MAX_POSTED)
            if content is None:
                return
            try:
                asked = json.loads(content)
                messages = {int(i): base64.b64decode(text, validate=True) for i, text in asked["messages"].items()}
                adapter = base64.b64decode(asked["adapter"], validate=True)
                away = gateway.away() if adapter else ()  # of a round's later stages nobody is left out
                ticket = gateway.mail.post(messages, adapter, away)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                return self.answer(HTTPStatus.BAD_REQUEST)
            self._json({"ticket": ticket})

        def do_DELETE(self) -> None:
            if self._may():
                named = REPLIES.fullmatch(self.path)
                if named:
                    gateway.mail.given(int(named[1]))
                self.answer(HTTPStatus.NO_CONTENT if named else HTTPStatus.NOT_FOUND)

        def _may(self) -> bool:
            given = self.headers.get("Authorization", "").encode(errors="replace")
            if hmac.compare_digest(given, b"Bearer " + token.encode()):
                return True
            self.answer(HTTPStatus.UNAUTHORIZED)
            return False

        def _json(self, value: Any) -> None:
            self.answer(HTTPStatus.OK, json.dumps(value).encode(), "application/json")

    server = Server("127.0.0.1", 0, Answers, SECONDS + POLL_SECONDS, CLIENTS)
    path = state / STATE_FILE
    url = f"http://127.0.0.1:{server.server_port}"
    write_atomic(path, json.dumps({"url": url, "token": token}).encode(), SECRET)
    return server


class GatewayClient:
    """What the server's end does with a gateway of this computer. path: its gateway.json, or the folder of it."""

    def __init__(self, path: Path) -> None:
        self._file = path / STATE_FILE if path.is_dir() else path
        self._find()

    def _find(self) -> None:
        try:
            found = json.loads(read_bounded(self._file, 4096))
            self._port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d{1,5})", found["url"])[1])  # type: ignore[index]
            self._token = str(found["token"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _GatewayGone(
                f"{self._file} tells of no gateway ({error})", remedy="start `edgelora fleet gateway`"
            ) from None

    def boards(self) -> list[BoardState]:
        """Boards that are or were there."""
        return [BoardState(**row) for row in self._ask("GET", "/boards")["boards"]]

    def exchange(self, messages: dict[int, bytes], adapter: bytes = b"", seconds: float = 60) -> dict[int, list[bytes]]:
        """Posts a message for each of these boards; their replies when all are there, or after so many seconds.

        adapter: the global `.ela`, with TASK. A board that is away then may come back and reply meanwhile; it is not
        waited for. A board that is on a line and polls may have two replies: the round takes the right one. Where it
        takes none, call again: others are given then. A gateway that is started again meanwhile is given the messages
        again; its boards go on with what they have.
        """
        end = time.monotonic() + seconds
        gone = math.inf  # when to give it up
        while True:
            try:
                self._find()
                return self._exchange(messages, adapter, end)
            except _GatewayGone:
                now = time.monotonic()
                gone = min(gone, now + RESTART[1])
                if now + RESTART[0] >= min(gone, end):
                    raise
                time.sleep(RESTART[0])

    def _exchange(self, messages: dict[int, bytes], adapter: bytes, end: float) -> dict[int, list[bytes]]:
        packed = {str(index): base64.b64encode(message).decode() for index, message in messages.items()}
        posted = {"adapter": base64.b64encode(adapter).decode(), "messages": packed}
        ticket = self._ask("POST", "/messages", posted)["ticket"]
        while True:
            rest = max(0.0, end - time.monotonic())
            answer = self._ask("GET", f"/replies/{ticket}?seconds={min(rest, POLL_SECONDS):.3f}")
            if not answer["left"] or not rest:
                break
        self._ask("DELETE", f"/replies/{ticket}")
        return {int(i): [base64.b64decode(text) for text in found] for i, found in answer["replies"].items()}

    def _ask(self, method: str, path: str, value: Any = None) -> Any:
        line = HTTPConnection("127.0.0.1", self._port, timeout=SECONDS + POLL_SECONDS)
        try:
            content = None if value is None else json.dumps(value).encode()
            line.request(method, path, content, {"Authorization": f"Bearer {self._token}"})
            reply = line.getresponse()
            said = reply.read()
        except (OSError, HTTPException) as error:
            raise _GatewayGone(f"the gateway does not answer ({error})", remedy="is it still running?") from None
        finally:
            line.close()
        if reply.status >= 300:
            another = reply.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
            raise (_GatewayGone if another else GatewayError)(
                f"the gateway answers {method} {path.partition('?')[0]} with {reply.status}"
            )
        return json.loads(said) if said else None
