"""The gateway's two HTTP servers: one that WiFi boards poll, and one on loopback for the server. Clients are untrusted.

Boards (SPEC.md, section 17)         the server, with a token
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
import threading
import time
from dataclasses import asdict
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from edgelora.base.errors import EdgeloraError, FileError, InputError
from edgelora.base.http_server import CLIENTS, NO_CONTENT, NOT_FOUND, Answer, Request, Server, routes
from edgelora.core.formats.files import SECRET, read_bounded, write_atomic
from edgelora.learn.updates.serve import BUNDLE, bundle_of

from .gateway import BoardState, Gateway
from .polls import FIELD, Door
from .rollout import folder_of
from .roster import Roster, Site

SECONDS = 30.0  # for a board's request and its answer
MAX_POSTED = 256 << 20  # bytes that the server may post
POLL_SECONDS = 20.0  # that the server may wait for replies in one request
STATE_FILE = "gateway.json"
BOARD, TICKET = r"/fleet/(\d{1,5})", r"/replies/(\d{1,18})"
UNAUTHORIZED = Answer(HTTPStatus.UNAUTHORIZED)
RESTART = (1.0, 60.0)  # seconds between attempts to find a restarted gateway; in all


class GatewayError(EdgeloraError, OSError):
    """The gateway can't be reached, or refuses a request."""


class _GatewayGone(GatewayError):
    """The gateway is gone, or another one has taken its place, which lacks the posted messages."""


class _Rosters:
    """The roster of a site, read and verified once for each change of its file."""

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
    """The server that WiFi boards poll, and fetch updates from."""
    rosters = _Rosters(site)
    door = Door(rosters)

    def roster(request: Request) -> Answer:
        try:
            return Answer(content=site.data())
        except (EdgeloraError, OSError) as error:
            gateway.tell("roster", why=str(error))
            return NOT_FOUND

    def adapter(request: Request, sha256: str) -> Answer:
        content = gateway.mail.adapter(sha256)
        return NOT_FOUND if content is None else Answer(content=content)

    def is_board(index: int) -> bool:
        """Whether the current roster has this index: boards may be enrolled while a gateway runs."""
        try:
            return index < len(rosters().keys)
        except (EdgeloraError, OSError) as error:
            gateway.tell("roster", why=str(error))
            return False

    def bundle(request: Request, index: str, name: str, rest: str) -> Answer:
        """A release, from this board's folder of releases."""
        if not is_board(int(index)):
            return NOT_FOUND
        try:
            return bundle_of(request, folder_of(site, name, int(index)) / (name + rest))
        except (EdgeloraError, OSError) as error:
            gateway.tell("update", int(index), why=str(error))
            return NOT_FOUND

    def proven(request: Request, index: int) -> bytes | None:
        """`Door.proven` of this request. A client that fails it gets nothing but the next challenge."""
        request.fields[FIELD] = door.challenge()
        return door.proven(index, request.headers.get(FIELD, ""))

    def letter(request: Request, board: str) -> Answer:
        index = int(board)
        if not is_board(index):
            return NOT_FOUND
        if proven(request, index) != b"":
            return NO_CONTENT
        gateway.polled(index)
        waiting = gateway.mail.wanted(index, "http")
        return Answer(content=waiting.message) if waiting else NO_CONTENT

    def reply(request: Request, board: str) -> Answer:
        index = int(board)
        if not is_board(index):
            return NOT_FOUND
        digest = proven(request, index)
        content = request.body(gateway.mail.room(index) if digest else 0)
        if hashlib.sha256(content).digest() != digest or not gateway.mail.reply(index, content, "http"):
            return Answer(HTTPStatus.CONFLICT)
        gateway.tell("answered", index, stage=content[4] - 1, bytes=len(content), address=request.address)
        return NO_CONTENT

    app = routes(
        ("GET", "/fleet/roster", roster),
        ("GET", "/fleet/adapter/([0-9a-f]{64})", adapter),
        ("GET", BOARD, letter),
        ("POST", BOARD, reply),
        ("GET|HEAD", f"{BOARD}/{BUNDLE}", bundle),
    )
    return Server(host, port, app, SECONDS)


# ---- for the server


def local_server(gateway: Gateway, state: Path) -> Server:
    """The loopback interface; its address and token are in `state`/gateway.json, which only the owner may read.

    FileError: another gateway uses that folder.
    """
    with contextlib.suppress(GatewayError):
        GatewayClient(state).boards()
        raise FileError(f"a gateway already uses {state}: stop it, or give this one another folder with --state")
    token = secrets.token_hex(32)

    def boards(request: Request) -> Answer:
        return _json({"boards": [asdict(board) for board in gateway.boards()]})

    def replies(request: Request, ticket: str, seconds: str | None) -> Answer:
        try:
            found, left = gateway.mail.replies(int(ticket), min(float(seconds or 0), POLL_SECONDS))
        except InputError:
            return NOT_FOUND
        packed = {str(i): [base64.b64encode(reply).decode() for reply in mine] for i, mine in found.items()}
        return _json({"replies": packed, "left": left})

    def post(request: Request) -> Answer:
        content = request.body(MAX_POSTED)
        try:
            asked = json.loads(content)
            messages = {int(i): base64.b64decode(text, validate=True) for i, text in asked["messages"].items()}
            adapter = base64.b64decode(asked["adapter"], validate=True)
            away = gateway.away() if adapter else ()  # later stages of a round wait for all boards
            return _json({"ticket": gateway.mail.post(messages, adapter, away)})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Answer(HTTPStatus.BAD_REQUEST)

    def given(request: Request, ticket: str) -> Answer:
        gateway.mail.given(int(ticket))
        return NO_CONTENT

    known = routes(
        ("GET", "/boards", boards),
        ("POST", "/messages", post),
        ("GET", TICKET + r"(?:\?seconds=(\d{1,3}(?:\.\d{1,6})?))?", replies),
        ("DELETE", TICKET, given),
    )

    def app(request: Request) -> Answer:
        key = request.headers.get("Authorization", "").encode(errors="replace")
        return known(request) if hmac.compare_digest(key, b"Bearer " + token.encode()) else UNAUTHORIZED

    server = Server("127.0.0.1", 0, app, SECONDS + POLL_SECONDS, each=CLIENTS)
    path = state / STATE_FILE
    url = f"http://127.0.0.1:{server.server_port}"
    write_atomic(path, json.dumps({"url": url, "token": token}).encode(), SECRET)
    return server


def _json(value: Any) -> Answer:
    return Answer(HTTPStatus.OK, json.dumps(value).encode(), "application/json")


class GatewayClient:
    """The server's client for a gateway on this computer. path: its gateway.json, or the folder with it."""

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
                f"{self._file} doesn't name a gateway ({error})", remedy="start `edgelora fleet gateway`"
            ) from None

    def boards(self) -> list[BoardState]:
        """All boards that the gateway has seen."""
        return [BoardState(**row) for row in self._ask("GET", "/boards")["boards"]]

    def exchange(self, messages: dict[int, bytes], adapter: bytes = b"", seconds: float = 60) -> dict[int, list[bytes]]:
        """Posts a message for each of these boards; their replies, when all have arrived or after `seconds`.

        adapter: the global `.ela`, with TASK. The call does not wait for boards that are away, but returns their
        replies if they come in time. A board that is on a line and also polls may have two replies: the round accepts
        the right one. If it accepts none, call again to get other replies. If the gateway restarts, the messages are
        posted again, and its boards continue their work.
        """
        end = time.monotonic() + seconds
        gone = math.inf  # when to give up
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
