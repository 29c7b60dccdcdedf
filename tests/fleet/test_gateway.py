"""The gateway: boards on unreliable lines, polling boards, hostile clients; a masked round through all of them."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleet_boards import Fleet, PythonMember
from fleet_polls import Polls
from waiting import until

from edgelora.base.errors import EdgeloraError, FileError, InputError
from edgelora.base.http_server import CLIENTS, CLIENTS_EACH, Server
from edgelora.board.link.transport import LineLost
from edgelora.fleet import gateway, web
from edgelora.fleet.gateway import Attached, Gateway, running
from edgelora.fleet.mailbox import Mailbox
from edgelora.fleet.messages import Stage
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg import Round
from edgelora.fleet.web import GatewayClient, GatewayError, board_server, local_server

ADAPTER = b"the global adapter"


class Line:
    """A board on a line. breaks: how often the connection is lost; frozen: the board is silent until this is set."""

    def __init__(self, member: PythonMember, breaks: int = 0, frozen: threading.Event | None = None) -> None:
        self.member, self.breaks, self.frozen, self.closed = member, breaks, frozen, 0
        self.adapters: set[bytes] = set()

    @contextlib.contextmanager
    def open(self, port: str, check: Any) -> Iterator[Attached]:
        self.check = check
        try:
            yield Attached(self.member.index, self, list, list)  # type: ignore[arg-type]
        finally:
            self.closed += 1

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        while self.frozen and not self.frozen.wait(0.02):
            self.check(0, 1, "frozen")
        if self.breaks:
            self.breaks -= 1
            raise LineLost("the cable was pulled")
        self.adapters |= {adapter} - {b""}
        return self.member.answer(message)


def polls(port: int, member: PythonMember, source: str = "127.0.0.1") -> Polls:
    return Polls(port, member.secret, member.fleet, member.index, source)


class Polling(threading.Thread):
    """A WiFi board: it polls, and answers each new message."""

    def __init__(self, port: int, member: PythonMember) -> None:
        super().__init__(daemon=True)
        self.air, self.member, self.over = polls(port, member), member, threading.Event()

    def run(self) -> None:
        last = b""
        while not self.over.wait(0.03):
            message = self.air.get()
            if message and message != last:
                self.air.post(self.member.answer(message))
                last = message


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(gateway, "RETRY_SECONDS", (0.02, 0.1))


def drive(made: Round, client: GatewayClient, seconds: float) -> None:
    """Runs a round."""
    while not made.done:
        end = time.monotonic() + seconds
        while made.waiting and (rest := end - time.monotonic()) > 0:
            messages = {index: made.message(index) or b"" for index in made.waiting}
            for index, replies in client.exchange(messages, ADAPTER, rest).items():
                made.receive(index, replies[0])
        made.close_stage()


def test_a_round_over_lines_that_break_and_boards_that_poll(quick: None, tmp_path: Path) -> None:
    fleet = Fleet.drawn(12, 3, parameters=20)
    task = fleet.task(8)
    events: list[Any] = []
    thawed = threading.Event()
    lines = [Line(fleet.members[0], breaks=2), Line(fleet.members[1], frozen=thawed), Line(fleet.members[2])]
    with running(Gateway({0: "kitchen"}, events.append)) as made:
        for place, line in enumerate(lines):
            made.add_line(f"port{place}", line.open)
        for member in fleet.members[6:]:
            local = Line(member)
            made.add_local(member.index, local)
        server, inner = board_server(made, fleet.site(tmp_path / "fleet"), "127.0.0.1", 0), local_server(made, tmp_path)
        with server, inner:
            server.start(), inner.start()
            polling = [Polling(server.server_port, member) for member in fleet.members[3:6]]
            for thread in polling:
                thread.start()
            client = GatewayClient(tmp_path)
            rounds = fleet.round(task)
            drive(rounds, client, 1.5)
            assert rounds.result().survivors == [0, *range(2, 12)]  # only the frozen board dropped out
            assert np.array_equal(rounds.result().vector, fleet.sum(rounds.result().survivors))
            thawed.set()
            again = fleet.round(task, 2)
            drive(again, client, 20)
            assert again.result().survivors == list(range(12))  # it has returned
            assert np.array_equal(again.result().vector, fleet.sum(range(12)))
            states = {board.index: board for board in client.boards()}
            assert [states[i].way for i in (0, 3, 6)] == ["serial", "http", "local"] and len(states) == 12
            assert states[0].name == "kitchen"
            for thread in polling:
                thread.over.set()
                thread.join()
    assert lines[0].closed >= 3 and all(line.closed for line in lines)
    assert lines[0].adapters == {ADAPTER}
    away = [event for event in events if event["event"] == "away"]
    assert away and all("cable was pulled" in event["why"] for event in away)
    json.dumps(events)
    with pytest.raises(GatewayError, match="does not answer"):
        client.boards()
    assert not [thread.name for thread in threading.enumerate() if "serve_forever" in thread.name]


def test_a_board_that_refuses_delays_no_other(quick: None, tmp_path: Path) -> None:
    class Refusing:
        def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
            raise InputError("less private than the owner allows")

    fleet = Fleet.drawn(3, 3, parameters=5)
    events: list[Any] = []
    with running(Gateway({}, events.append)) as made, local_server(made, tmp_path) as inner:
        inner.start()
        made.add_local(0, Refusing())
        made.add_local(1, Line(fleet.members[1]))
        begun = time.monotonic()
        rounds = fleet.round(fleet.task(1))
        found = GatewayClient(tmp_path).exchange({i: rounds.message(i) or b"" for i in (0, 1)}, seconds=60)
        assert list(found) == [1] and time.monotonic() - begun < 30
    assert any(event["event"] == "refused" and event["board"] == 0 for event in events)


def test_a_board_that_comes_back_within_a_round(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that is offline when the round begins gets its message when it returns, and no one waits for it."""
    monkeypatch.setattr(gateway, "PING_SECONDS", 0.0)
    fleet, back = Fleet.drawn(3, 5, parameters=5), threading.Event()
    lines = [Line(member) for member in fleet.members]

    def lost() -> None:
        if not back.is_set():
            raise LineLost("the cable was pulled")

    @contextlib.contextmanager
    def opened(port: str, check: Any) -> Iterator[Attached]:
        if made.boards():
            lost()
        yield Attached(0, lines[0], lost, list)

    class Last(Line):
        def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
            back.set()
            letter = made.mail.letter(0)
            while made.mail.is_current(0, letter) and not letter.replies:
                time.sleep(0.01)
            return super().answer(message, adapter)

    with running(Gateway({}, lambda event: None)) as made, local_server(made, tmp_path) as inner:
        inner.start()
        made.add_line("port", opened)
        until(lambda: made.away() == {0})
        first = fleet.round(fleet.task(1))
        ticket = made.mail.post({index: first.message(index) or b"" for index in range(3)}, ADAPTER, made.away())
        assert made.mail.replies(ticket, 0) == ({}, [1, 2])
        made.add_local(1, lines[1])
        made.add_local(2, Last(fleet.members[2]))
        rounds = fleet.round(fleet.task(1), 2)
        messages = {index: rounds.message(index) or b"" for index in range(3)}
        assert sorted(GatewayClient(tmp_path).exchange(messages, ADAPTER, 60)) == [0, 1, 2]


def test_a_gateway_that_starts_again_costs_boards_nothing(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while boards train, then restarted with another address and token; the disk of its log is full."""
    monkeypatch.setattr(web, "RESTART", (0.05, 10.0))
    monkeypatch.setattr(web, "POLL_SECONDS", 0.2)

    def full(event: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    fleet = Fleet.drawn(3, 5, parameters=5)
    rounds = fleet.round(fleet.task(1))
    messages = {index: rounds.message(index) or b"" for index in range(3)}
    with ThreadPoolExecutor(1) as pool:
        with running(Gateway({}, full)) as first, local_server(first, tmp_path) as inner:
            inner.start()
            client = GatewayClient(tmp_path)
            waiting = pool.submit(client.exchange, messages, ADAPTER, 20)
            while first.mail.letter(2) is None:
                time.sleep(0.01)
            with pytest.raises(FileError, match="a gateway already uses"):
                local_server(first, tmp_path)
        with running(Gateway({}, full)) as second, local_server(second, tmp_path) as inner:
            for member in fleet.members:
                second.add_local(member.index, Line(member))
            inner.start()
            assert sorted(waiting.result(20)) == [0, 1, 2]
    with pytest.raises(GatewayError, match="does not answer"):
        client.exchange(messages, ADAPTER, 0.2)


def test_updates_wait_for_the_end_of_a_round(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates would evict a round from the board's memory; the gateway still pings the board meanwhile."""
    monkeypatch.setattr(gateway, "PING_SECONDS", 0.0)
    fleet, asked, given = Fleet.drawn(3, 6, parameters=5), [0], list[int]()

    def look() -> Iterator[str]:
        given.append(asked[0])
        yield "wake 1"

    def ping() -> None:
        asked[0] += 1

    def waits() -> None:
        end, now = time.monotonic() + 20, asked[0]
        while asked[0] < now + 3:
            assert time.monotonic() < end
            time.sleep(0.01)

    @contextlib.contextmanager
    def opened(port: str, check: Any) -> Iterator[Attached]:
        yield Attached(0, Line(fleet.members[0]), ping, look)

    events: list[Any] = []
    with running(Gateway({}, events.append)) as made:
        made.add_line("port", opened)
        for member in fleet.members[1:]:
            made.add_local(member.index, Line(member))
        waits()
        assert given
        rounds = fleet.round(fleet.task(1))
        while not rounds.done:
            ticket = made.mail.post({index: rounds.message(index) or b"" for index in rounds.waiting})
            for index, replies in made.mail.replies(ticket, 20)[0].items():
                rounds.receive(index, replies[0])
            given.clear()
            waits()
            assert bool(given) == (rounds.stage == Stage.UNMASK)
            rounds.close_stage()
    assert {"event": "updated", "board": 0, "name": "", "what": "wake 1"} in events


def test_the_mailbox_accepts_only_expected_replies() -> None:
    fleet = Fleet.drawn(3, 5, parameters=5)
    made = fleet.round(fleet.task(1))
    mail, first = Mailbox(), made.message(0) or b""
    reply = fleet.members[0].answer(first)
    assert not mail.reply(0, reply, "a") and not mail.room(0)  # no message is waiting
    ticket = mail.post({0: first})
    for bad in (b"", reply[:20], first, made.message(1) or b"", fleet.members[1].answer(made.message(1) or b"")):
        assert not mail.reply(0, bad, "a")
    for way in ("a", "b"):
        assert mail.reply(0, reply[:-1] + way.encode(), way)
    assert mail.reply(0, reply, "b")  # the last reply of each way counts
    assert mail.replies(ticket, 0)[0][0] == [reply[:-1] + b"a", reply]
    assert mail.wanted(0, "a") is None and mail.wanted(0, "c") is mail.letter(0)  # has answered already
    mail.given(ticket)
    assert mail.wanted(0, "a") is None
    assert mail.replies(mail.post({0: first}), 0) == ({}, [0])  # replies are returned only once
    assert mail.wanted(0, "a") is mail.letter(0)  # the server refused the reply
    for wrong in ({1: first}, {0: b""}):
        with pytest.raises(InputError):
            mail.post(wrong)
    with pytest.raises(InputError, match="no messages"):
        mail.replies(99, 0)


@pytest.mark.parametrize("masks", [True, False])
def test_replies_are_no_larger_than_their_stage(masks: bool) -> None:
    """The bound is exact if all neighbours take part; without the task, it is the largest of any round."""
    fleet = Fleet.drawn(7, 5, parameters=9)
    made = fleet.round(fleet.task(7, masks=masks))
    mail, later, exact = Mailbox(), Mailbox(), []
    while not made.done:
        stage = made.stage
        for index in made.waiting:
            message = made.message(index) or b""
            reply = fleet.members[index].answer(message)
            mail.post({index: message})
            if stage != Stage.TASK:
                later.post({index: message})
                assert later.room(index) > mail.room(index)
            exact.append(mail.room(index) == len(reply))
            longer = reply[:12] + struct.pack("<I", len(reply) + 1 - 32) + reply[16:] + b"x"
            assert not mail.reply(index, longer, "a") and mail.reply(index, reply, "a")
            made.receive(index, reply)
        made.close_stage()
    assert all(exact) and len(exact) == 7 * (6 if masks else 2)
    assert np.array_equal(made.result().vector, fleet.sum(range(7)))


# ---- hostile clients


@dataclass
class Served:
    """A gateway of a fleet of three boards, its server for boards, and the port of the one for its owner."""

    made: Gateway
    fleet: Fleet
    site: Site
    outer: Server
    inner: int

    @property
    def port(self) -> int:
        return self.outer.server_port

    def waiting(self, index: int) -> bytes:
        """Posts a task for a board."""
        message = self.fleet.round(self.fleet.task(1)).message(index) or b""
        self.made.mail.post({index: message})
        return message


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(web, "SECONDS", 1.5)
    fleet = Fleet.drawn(3, 1)
    site = fleet.site(tmp_path / "fleet")
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(running(Gateway({}, lambda event: None)))
        outer, inner = board_server(made, site, "127.0.0.1", 0), local_server(made, tmp_path)
        for one in (outer, inner):
            stack.enter_context(one).start()
        yield Served(made, fleet, site, outer, inner.server_port)


def said(port: int, request: bytes, seconds: float = 10) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        line.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := line.recv(65536):
                answer += part
    return answer


def test_hostile_clients(at: Served) -> None:
    for request, status in (
        (b"GET /fleet/roster HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /fleet/2 HTTP/1.0\r\n\r\n", b"204"),
        (b"GET /fleet/2/wake.elu HTTP/1.0\r\n\r\n", b"404"),
        (b"HEAD /fleet/3/wake.elu HTTP/1.0\r\n\r\n", b"404"),
        (b"GET /fleet/2/../all/wake.elu HTTP/1.0\r\n\r\n", b"404"),
        (b"GET /fleet/3 HTTP/1.0\r\n\r\n", b"404"),
        (b"GET /fleet/-1 HTTP/1.0\r\n\r\n", b"404"),
        (b"GET /fleet/99999999 HTTP/1.0\r\n\r\n", b"404"),
        (b"GET /fleet/../server.key HTTP/1.0\r\n\r\n", b"404"),
        (b"GET /fleet/adapter/" + b"0" * 64 + b" HTTP/1.0\r\n\r\n", b"404"),
        (b"GET /boards HTTP/1.0\r\n\r\n", b"404"),
        (b"POST /fleet/2 HTTP/1.0\r\n\r\n", b"411"),
        (b"POST /fleet/2 HTTP/1.0\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"POST /fleet/2 HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", b"411"),
        (b"POST /fleet/2 HTTP/1.0\r\nContent-Length: 999999999\r\n\r\n", b"413"),
        (b"POST /fleet/2 HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", b"413"),
        (b"POST /fleet/2 HTTP/1.0\r\nContent-Length: 0\r\n\r\n", b"409"),
        (b"POST /fleet/7 HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", b"404"),
        (b"PUT /fleet/2 HTTP/1.0\r\n\r\n", b"501"),
        (b"\xff\xfe\x00 nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.0\r\n\r\n", b"414"),
        (b"GET /fleet/2 HTTP/1.0\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
    ):
        answer = said(at.port, request)
        assert status in answer.split(b"\r\n")[0] or not answer and len(request) > 60000, (request[:60], answer[:80])
    for request in (b"GET /boards", b"POST /messages", b"GET /replies/1", b"DELETE /replies/1"):
        for token in (b"", b"Authorization: Bearer nonsense\r\n", b"Authorization: Bearer \xff\r\n"):
            assert b" 401 " in said(at.inner, request + b" HTTP/1.0\r\n" + token + b"Content-Length: 0\r\n\r\n")


def test_boards_that_are_enrolled_or_revoked_meanwhile(at: Served, tmp_path: Path) -> None:
    assert b" 404 " in said(at.port, b"GET /fleet/3 HTTP/1.0\r\n\r\n")
    at.site.enroll(Fleet.drawn(4, 2).roster.keys[3], "", at.fleet.key)
    assert b" 204 " in said(at.port, b"GET /fleet/3 HTTP/1.0\r\n\r\n")
    message = at.waiting(2)
    board = polls(at.port, at.fleet.members[2])
    assert board.get() == message
    at.site.revoke("2", at.fleet.key)
    assert board.get() == b""
    (tmp_path / "fleet" / "roster.elg").write_bytes(b"ELG1")
    assert b" 404 " in said(at.port, b"GET /fleet/1 HTTP/1.0\r\n\r\n")


def test_who_has_no_key_is_told_nothing(at: Served) -> None:
    """A stranger gets the same bytes for boards with a waiting message and for those without."""
    message = at.waiting(2)
    stranger = Polls(at.port, bytes(range(32)), at.fleet.roster.fleet, 2)
    asked, other = [polls(at.port, at.fleet.members[index]) for index in (2, 1)]
    for one in (stranger, asked, other):
        one.ask("GET", field="")
    for method, body in (("GET", b""), ("POST", at.fleet.members[2].answer(message))):
        seen = set()
        for index, wrong in ((2, other), (1, asked)):
            stranger.index = index
            for field in ("", "00" * 32, "x", stranger.proof(body), wrong.proof(body)):
                head = f"{method} /fleet/{index} HTTP/1.0\r\nContent-Length: {len(body)}\r\nFleet: {field}\r\n\r\n"
                answer = said(at.port, head.encode() + body)
                seen.add(re.sub(rb"(Fleet|Date): [^\r]*", b"", answer))
                assert re.search(rb"\r\nFleet: [0-9a-f]{96}\r\n", answer)
        assert len(seen) == 1 and (b" 204 " if method == "GET" else b" 413 ") in seen.pop()
    assert not at.made.boards() and not (at.made.mail.letter(2) or pytest.fail("no letter")).replies
    assert asked.get() == message and [board.index for board in at.made.boards()] == [2]


def test_a_proof_is_good_for_one_request_at_one_gateway(at: Served, tmp_path: Path) -> None:
    message = at.waiting(2)
    board, thief = polls(at.port, at.fleet.members[2]), polls(at.port, at.fleet.members[2])
    board.ask("GET", field="")
    seen = board.proof()
    assert board.ask("GET")[1] == message
    assert thief.ask("GET", field=seen) == (204, b"")  # overheard and replayed
    kept = board.proof()
    thief.ask("GET", field="")
    assert thief.ask("GET")[1] == message
    assert board.ask("GET", field=kept) == (204, b"")  # another challenge has been issued meanwhile
    with running(Gateway({}, lambda event: None)) as second, board_server(second, at.site, "127.0.0.1", 0) as outer:
        outer.start()
        second.mail.post({2: message})
        thief.port = outer.server_port
        assert thief.ask("GET", field=board.proof()) == (204, b"") and not second.boards()
    reply = at.fleet.members[2].answer(message)
    board.get()
    field = board.proof(reply)
    assert thief.port != at.port and board.ask("POST", b"y" * len(reply), field)[0] == 409  # another body
    assert board.post(reply) == 204 and board.get() == b""
    letter = at.made.mail.letter(2)
    assert letter and letter.replies == {"http": reply}


def test_forged_replies_put_no_board_out(at: Served) -> None:
    """Forged replies of 262 KB each, from more addresses than a letter keeps replies for."""
    message = at.waiting(2)
    reply = at.fleet.members[2].answer(message)
    forged = reply[:12] + struct.pack("<I", 262144) + bytes(262144 + 16)
    for sender in range(1, 21):
        with contextlib.suppress(ConnectionError):  # the gateway closes the connection early
            assert polls(at.port, at.fleet.members[2], f"127.0.0.{sender}").ask("POST", forged, "00" * 64)[0] == 413
    letter = at.made.mail.letter(2)
    assert letter and not letter.replies
    board = polls(at.port, at.fleet.members[2])
    assert board.get() == message
    assert board.post(reply[:-1] + b"\0\0") == 413 and board.post(reply) == 204  # the exact bound applies, too
    assert letter.replies == {"http": reply}


def test_clients_that_keep_connections_open_are_dropped(at: Served) -> None:
    """Sending a byte now and then does not keep a connection open."""
    begun = time.monotonic()
    slow = socket.create_connection(("127.0.0.1", at.port), timeout=10)
    with contextlib.suppress(ConnectionError), slow:
        slow.sendall(b"POST /fleet/2 HTTP/1.0\r\nContent-Length: 200\r\n\r\n")
        while time.monotonic() - begun < 15:
            slow.sendall(b"x")
            time.sleep(0.05)
    assert time.monotonic() - begun < 12


@pytest.mark.parametrize("addresses", [1, 2 * CLIENTS // CLIENTS_EACH], ids=["one address", "many"])
def test_many_slow_clients_keep_no_board_out(at: Served, monkeypatch: pytest.MonkeyPatch, addresses: int) -> None:
    """They keep all connections they can get, for as long as possible: every poll is still answered."""
    monkeypatch.setattr(at.outer, "_seconds", 3600.0)
    slow = []
    for place in range(4 * CLIENTS):
        slow.append(socket.create_connection(("127.0.0.1", at.port), 10, (f"127.0.1.{1 + place % addresses}", 0)))
        slow[-1].sendall(b"GET /fleet/2 HTT")
    until(lambda: len(at.outer._open) >= min(CLIENTS, addresses * CLIENTS_EACH))
    board = polls(at.port, at.fleet.members[2])
    for _ in range(20):
        assert board.get() == b""
    assert len(at.outer._open) <= CLIENTS
    for line in slow:
        line.close()


def test_only_the_owners_token_gives_access(at: Served, tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    head = f"Authorization: Bearer {json.loads(path.read_text())['token']}\r\n".encode()
    assert b" 200 " in said(at.inner, b"GET /boards HTTP/1.0\r\n" + head + b"\r\n")
    for body in (
        b"[]",
        b"{}",
        b'{"messages": {"a": ""}, "adapter": ""}',
        b'{"messages": {"1": "?"}, "adapter": ""}',
        b"\xff",
    ):
        length = f"Content-Length: {len(body)}\r\n\r\n".encode()
        assert b" 400 " in said(at.inner, b"POST /messages HTTP/1.0\r\n" + head + length + body)
    assert b" 404 " in said(at.inner, b"GET /replies/5 HTTP/1.0\r\n" + head + b"\r\n")
    for text in ("", "{}", '{"url": "http://192.0.2.1:80", "token": "x"}'):
        path.write_text(text)
        with pytest.raises(EdgeloraError, match="doesn't name a gateway"):
            GatewayClient(path)
