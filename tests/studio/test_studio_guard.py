"""Whom the studio answers, and that text from a board is never more than text."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh import slow
from processes import edgelora
from served import served
from studio_pages import go

from edgelora.board.link import protocol
from edgelora.board.link.protocol import LINK_VERSION, Op, Status
from edgelora.studio.auth import Guard

PORT, TOKEN = 8123, "the-token"
OWN = f"127.0.0.1:{PORT}"
COOKIE = f"edgelora-studio-{PORT}={TOKEN}"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    """The guarded application."""
    if scope["type"] == "websocket":
        return await send({"type": "websocket.accept"})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"in"})


def asked(kind: str, path: str = "/", query: str = "", **headers: str) -> list[dict[str, Any]]:
    """The guard's reply to a request. headers: with _ for -."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": f"{kind}.connect"}

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": given}
    asyncio.run(Guard(inner, PORT, TOKEN)(scope, receive, send))
    return sent


def is_in(sent: list[dict[str, Any]]) -> bool:
    return sent[0]["type"] == "websocket.accept" or sent[-1].get("body") == b"in"


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("path", ["/", "/live", "/_nicegui_ws/socket.io/", "/static/studio.css", "/senses/live"])
def test_only_the_page_itself_gets_in(kind: str, path: str) -> None:
    own = {"host": OWN, "origin": f"http://{OWN}", "cookie": f"other=1; {COOKIE}"}
    assert is_in(asked(kind, path, **own))
    local = f"localhost:{PORT}"
    assert is_in(asked(kind, path, **(own | {"host": local, "origin": f"http://{local}"})))
    for wrong in (
        {"host": "evil.example"},
        {"host": f"evil.example:{PORT}"},
        {"host": "127.0.0.1"},
        {"host": f"127.0.0.1:{PORT + 1}"},
        {"host": f"127.0.0.1:{PORT}.evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"https://{OWN}"},
        {"origin": f"http://127.0.0.1:{PORT + 1}"},
        {"origin": f"http://localhost:{PORT}"},
        {"cookie": ""},
        {"cookie": "the-token"},
        {"cookie": f"edgelora-studio-{PORT}=the-tokem"},
        {"cookie": f"edgelora-studio-{PORT + 1}={TOKEN}"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    ):
        assert not is_in(asked(kind, path, **(own | wrong))), wrong
    for missing in own:
        without = {name: value for name, value in own.items() if name != missing}
        assert is_in(asked(kind, path, **without)) == (kind == "http" and missing == "origin"), missing


def test_the_address_opens_it_once_and_leaves_a_cookie() -> None:
    start, body = asked("http", query=f"token={TOKEN}", host=OWN)
    headers = dict(start["headers"])
    assert headers[b"set-cookie"] == f"{COOKIE}; Path=/; HttpOnly; SameSite=Strict".encode()
    assert headers[b"cache-control"] == b"no-store" and headers[b"referrer-policy"] == b"no-referrer"
    assert TOKEN.encode() not in body["body"]
    for query in ("token=", "token=the-tokem", f"token={TOKEN}&token={TOKEN}", f"taken={TOKEN}"):
        assert asked("http", query=query, host=OWN)[0]["status"] == 403
    assert asked("http", query=f"token={TOKEN}", host="evil.example")[0]["status"] == 403
    assert not is_in(asked("websocket", query=f"token={TOKEN}", host=OWN, origin=f"http://{OWN}"))


def test_cookies_of_ended_studios_are_deleted() -> None:
    """Cookies apply to all ports of a host, and would accumulate; those of other open studios are kept."""
    with socket.socket() as other, socket.socket() as ended:
        for one in (other, ended):
            one.bind(("127.0.0.1", 0))
        other.listen()
        there, gone = other.getsockname()[1], ended.getsockname()[1]
        ended.close()
        had = "; ".join(f"edgelora-studio-{port}=x" for port in (there, gone, gone, PORT, 99999))
        start, _ = asked("http", query=f"token={TOKEN}", host=OWN, cookie=f"mine=1; {had}")
    cookies = [value.decode() for name, value in start["headers"] if name == b"set-cookie"]
    assert cookies[0].startswith(f"{COOKIE};") and len(cookies) == 2
    assert cookies[1].startswith(f"edgelora-studio-{gone}=; Max-Age=0; Path=/;")


def test_headers_of_answers() -> None:
    start = asked("http", host=OWN, cookie=COOKIE)[0]
    headers = dict(start["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'none'" in policy and f"ws://{OWN}" in policy and "https:" not in policy
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"cross-origin-resource-policy"] == b"same-origin"


def test_a_running_studio_refuses(studios) -> None:
    studio = studios()

    def status(path: str, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=20)
        connection.putrequest("GET", path, skip_host="host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    cookie = f"edgelora-studio-{studio.port}={studio.token}"
    socket_io = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec_websocket_version": "13",
    }
    own = studio.origin
    assert status("/", cookie=cookie) == 200
    assert status(socket_io, cookie=cookie, origin=own) == 200
    web_socket = socket_io.replace("polling", "websocket")
    assert status(web_socket, cookie=cookie, origin=own, **upgrade) == 101
    for path in ("/", socket_io, "/static/studio.css"):
        assert status(path) == 403
        assert status(path, cookie=cookie, host="evil.example") == 403
        assert status(path, cookie=cookie, origin="http://evil.example") == 403
    assert status(web_socket, origin=own, **upgrade) == 403
    assert status(web_socket, cookie=cookie, **upgrade) == 403
    assert status(web_socket, cookie=cookie, origin="http://evil.example", **upgrade) == 403
    with socket.socket() as other, pytest.raises(OSError):  # only on loopback
        other.settimeout(2)
        other.connect((_own_address(), studio.port))


def _own_address() -> str:
    """This computer's address in its network; without one, another loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.connect(("192.0.2.1", 9))
            found = str(out.getsockname()[0])
        except OSError:
            found = "127.0.0.1"
    return found if not found.startswith("127.") else "127.0.0.2"


ATTACKS = """async (studio) => {
  const told = {};
  const attempt = async (name, act) => { try { told[name] = await act(); } catch (error) { told[name] = "refused"; } };
  await attempt("fetch", async () => (await fetch(studio, {credentials: "include"})).status);
  await attempt("blind", async () => {
    await fetch(studio + "/static/studio.css", {mode: "no-cors", credentials: "include"});
    return "taken";
  });
  const loaded = (element) => new Promise((done, failed) => {
    element.onload = () => done("loaded");
    element.onerror = failed;
    document.body.append(element);
  });
  await attempt("style", () => loaded(Object.assign(document.createElement("link"),
    {rel: "stylesheet", href: studio + "/static/studio.css"})));
  await attempt("socket", () => new Promise((done, failed) => {
    const line = new WebSocket(studio.replace("http", "ws") + "/_nicegui_ws/socket.io/?EIO=4&transport=websocket");
    line.onopen = () => done("open");
    line.onerror = failed;
  }));
  return told;
}"""


def test_paths_that_are_no_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        said = edgelora("studio", folder, "--no-browser", code=1).stderr
        assert "can't be used as a project folder" in said and "give a writable folder" in said


@slow
def test_a_project_is_served_once(studios) -> None:
    studio = studios()
    said = edgelora("studio", studio.folder, "--no-browser", code=1).stderr
    assert "a studio is open on" in said and "another folder" in said
    assert studio.stop() == 130
    studio.start()  # the remains of the last one don't matter


def test_another_page_of_the_same_browser_gets_nothing(studios, pages, tmp_path: Path) -> None:
    """Of another server on this computer, which is the same site for cookies."""
    studio = studios()
    page = pages(studio)
    assert "token" not in page.url and studio.token not in page.content()
    with served(tmp_path) as site:
        other = page.context.new_page()
        other.goto(site.address)
        told = other.evaluate(ATTACKS, studio.origin)
        assert told == {"fetch": "refused", "blind": "refused", "style": "refused", "socket": "refused"}
        other.evaluate(
            "url => document.body.append(Object.assign(document.createElement('iframe'), {src: url}))", studio.origin
        )
        other.wait_for_timeout(1500)
        framed = [frame for frame in other.frames if frame != other.main_frame]
        assert all("Boards" not in frame.content() for frame in framed)


# --- a malicious board

EVIL = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>"\'`${window.hurt=1}{{hurt=1}}\u202e\x1b[2J'


def _request(data: bytes) -> tuple[int, int, bytes, bytes] | None:
    """The first request in the data: sequence, operation, payload, and the rest; SPEC.md, section 10."""
    start = data.find(b"\xe5")
    if start < 0 or len(data) < start + 9:
        return None
    head = [byte & 127 for byte in data[start : start + 9]]
    size, fixes = head[3] | head[4] << 7, head[5] | head[6] << 7
    end = start + 9 + size + 4 + 2 * fixes
    if len(data) < end:
        return None
    body = bytearray(data[start + 9 : end - 2 * fixes])
    for at in range(end - 2 * fixes, end, 2):
        body[data[at] & 127 | (data[at + 1] & 127) << 7] = 3
    return head[1], head[2], bytes(body[:size]), data[end:]


def _frame(sequence: int, code: int, payload: bytes) -> bytes:
    """A board's answer as a frame."""
    start = protocol._start(sequence, code, len(payload))
    return protocol._header(start, 0) + payload + struct.pack("<I", zlib.crc32(payload, zlib.crc32(start)))


class EvilBoard:
    """A board on a socket that speaks the link, with markup in every text of its own."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(line,), daemon=True).start()

    def _talk(self, line: socket.socket) -> None:
        waiting = b""
        with line:
            while data := line.recv(65536):
                waiting += data
                while request := _request(waiting):
                    sequence, op, payload, waiting = request
                    status, answer = self._answer(op, json.loads(payload) if payload.startswith(b"{") else {})
                    line.sendall(_frame(sequence, status, json.dumps(answer).encode()))

    def _answer(self, op: int, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        adapter = [EVIL, 1, 728, EVIL, False, False]
        answers: dict[int, dict[str, Any]] = {
            Op.HELLO: {
                **dict.fromkeys(("edgelora", "board", "micropython", "id"), EVIL),
                **{"link": LINK_VERSION, "mpy": 0, "free": 1},
                **{"max_payload": 4096, "resumed": False, "sequence": 0, "model": False, "trained": 0, "ticks_us": 0},
            },
            Op.QUIT: {},
            Op.LIST: {"entries": [[EVIL + ".elm", 1]], "more": False},
            Op.SPACE: {"free": 1, "total": 1, "heap": 1},
        }
        if op == Op.STORE and asked["do"] == "list":
            return Status.OK, {
                **{"adapters": [adapter], "active": None, "free": 1, "place": EVIL, "notices": [EVIL], "more": False}
            }
        if op in answers:
            return Status.OK, answers[op]
        return Status.ERROR, {"kind": EVIL, "error": EVIL}


@pytest.fixture
def evil() -> Iterator[EvilBoard]:
    board = EvilBoard()
    yield board
    board.close()


@slow
def test_text_from_a_board_is_escaped(studios: Callable, pages: Callable, evil: EvilBoard) -> None:
    page = pages(studios())
    shown = '<img src=x onerror="window.hurt=1"><script>'
    page.get_by_text("Another port").click()
    page.get_by_label("Port", exact=True).fill(evil.url)
    page.get_by_role("button", name="Open port").click()
    page.get_by_role("button", name="Advanced").click()
    page.get_by_text(f"MicroPython {shown}").wait_for()
    page.get_by_role("button", name="Put a base on").click()
    page.get_by_role("button", name="Copy to the board").click()
    page.get_by_role("alert").get_by_text(shown).wait_for()  # its error
    page.get_by_role("link", name="Adapters").click()
    page.get_by_role("heading", name=shown).wait_for()
    page.get_by_role("button", name="Advanced").first.click()
    for name in ("Rename", "Remove", "Release"):
        page.get_by_role("button", name=name).click()
        page.get_by_role("dialog").get_by_text(shown).wait_for()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").wait_for(state="detached")
    page.get_by_role("button", name="Use").first.click()
    page.get_by_role("alert").get_by_text(shown).first.wait_for()
    for view in ("Live", "Collect", "Learn", "Fleet", "Reports"):
        go(page, view)
    assert page.evaluate("[window.hurt === undefined, document.querySelectorAll('img[src=x]').length]") == [True, 0]
