"""The gateway: boards on lines that break, boards that poll, hostile clients; a masked round through all of them."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleet_boards import Fleet, PythonMember
from fleet_field import until

from edgelora.errors import EdgeloraError, FileError, InputError
from edgelora.fleet import (
    Attached,
    Gateway,
    GatewayClient,
    GatewayError,
    ReplyRefused,
    Round,
    Site,
    Stage,
    board_server,
    gateway,
    local_server,
    running,
    web,
)
from edgelora.fleet.mailbox import MAX_SENDERS, Mailbox
from edgelora.link import LineLost

ADAPTER = b"the global adapter"


class Line:
    """A board on a line. breaks: how often it is lost in the middle; frozen: it says nothing until that is set."""

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


class Polling(threading.Thread):
    """A WiFi board: it polls, answers what it has not answered, and fetches the adapter by its hash."""

    def __init__(self, url: str, member: PythonMember) -> None:
        super().__init__(daemon=True)
        self.url, self.member, self.over = f"{url}/fleet/{member.index}", member, threading.Event()

    def run(self) -> None:
        last = b""
        while not self.over.wait(0.03):
            with urllib.request.urlopen(self.url, timeout=10) as reply:
                message = reply.read()
            if message and message != last:
                with contextlib.suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(self.url, self.member.answer(message), timeout=10)
                last = message


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(gateway, "RETRY_SECONDS", (0.02, 0.1))


def drive(made: Round, client: GatewayClient, seconds: float) -> list[int]:
    """Goes through a round; how many replies were refused in each stage."""
    refused = []
    while not made.done:
        refused.append(0)
        end = time.monotonic() + seconds
        while made.waiting and (rest := end - time.monotonic()) > 0:
            messages = {index: made.message(index) or b"" for index in made.waiting}
            for index, replies in client.exchange(messages, ADAPTER, rest).items():
                for reply in replies:
                    try:
                        made.receive(index, reply)
                        break
                    except ReplyRefused:
                        refused[-1] += 1
        made.close_stage()
    return refused


def test_a_round_over_lines_that_break_and_boards_that_poll(quick: None, tmp_path: Path) -> None:
    fleet = Fleet.drawn(12, 3, parameters=20)
    task = fleet.task(8, 5, 8)
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
            url = f"http://127.0.0.1:{server.server_port}"
            polling = [Polling(url, member) for member in fleet.members[3:6]]
            for thread in polling:
                thread.start()
            client = GatewayClient(tmp_path)
            rounds = fleet.round(task)
            drive(rounds, client, 1.5)
            assert rounds.result().survivors == [0, *range(2, 12)]  # the frozen one costs the round itself alone
            assert np.array_equal(rounds.result().vector, fleet.sum(rounds.result().survivors))
            thawed.set()
            again = fleet.round(task, 2)
            drive(again, client, 20)
            assert again.result().survivors == list(range(12))  # it is back
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


def test_a_board_that_refuses_holds_nobody_up(quick: None, tmp_path: Path) -> None:
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
        rounds = fleet.round(fleet.task(2, 2, 1))
        found = GatewayClient(tmp_path).exchange({i: rounds.message(i) or b"" for i in (0, 1)}, seconds=60)
        assert list(found) == [1] and time.monotonic() - begun < 30
    assert any(event["event"] == "refused" and event["board"] == 0 for event in events)


def test_a_board_that_comes_back_within_a_round(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was away at the beginning: it is asked, and nobody waits for it."""
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
        first = fleet.round(fleet.task(2, 2, 1))
        ticket = made.mail.post({index: first.message(index) or b"" for index in range(3)}, ADAPTER, made.away())
        assert made.mail.replies(ticket, 0) == ({}, [1, 2])
        made.add_local(1, lines[1])
        made.add_local(2, Last(fleet.members[2]))
        rounds = fleet.round(fleet.task(2, 2, 1), 2)
        messages = {index: rounds.message(index) or b"" for index in range(3)}
        assert sorted(GatewayClient(tmp_path).exchange(messages, ADAPTER, 60)) == [0, 1, 2]


def test_a_gateway_that_starts_again_costs_boards_nothing(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while boards train, with another address and token afterwards; its log's disk is full."""
    monkeypatch.setattr(web, "RESTART", (0.05, 10.0))
    monkeypatch.setattr(web, "POLL_SECONDS", 0.2)

    def full(event: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    fleet = Fleet.drawn(3, 5, parameters=5)
    rounds = fleet.round(fleet.task(2, 2, 1))
    messages = {index: rounds.message(index) or b"" for index in range(3)}
    with ThreadPoolExecutor(1) as pool:
        with running(Gateway({}, full)) as first, local_server(first, tmp_path) as inner:
            inner.start()
            client = GatewayClient(tmp_path)
            waiting = pool.submit(client.exchange, messages, ADAPTER, 20)
            while first.mail.letter(2) is None:
                time.sleep(0.01)
            with pytest.raises(FileError, match="has a gateway that runs"):
                local_server(first, tmp_path)
        with running(Gateway({}, full)) as second, local_server(second, tmp_path) as inner:
            for member in fleet.members:
                second.add_local(member.index, Line(member))
            inner.start()
            assert sorted(waiting.result(20)) == [0, 1, 2]
    with pytest.raises(GatewayError, match="does not answer"):
        client.exchange(messages, ADAPTER, 0.2)


def test_updates_wait_for_the_end_of_a_round(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given to a board takes the place of a round in its memory; whether it is there is asked all the same."""
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
        rounds = fleet.round(fleet.task(2, 2, 1))
        while not rounds.done:
            ticket = made.mail.post({index: rounds.message(index) or b"" for index in rounds.waiting})
            for index, replies in made.mail.replies(ticket, 20)[0].items():
                rounds.receive(index, replies[0])
            given.clear()
            waits()
            assert bool(given) == (rounds.stage == Stage.UNMASK)
            rounds.close_stage()
    assert {"event": "updated", "board": 0, "name": "", "what": "wake 1"} in events


def test_forged_replies_over_http_do_not_put_a_board_out(quick: None, tmp_path: Path) -> None:
    """Whoever is in the network may answer first: the board's own reply is taken all the same."""
    fleet = Fleet.drawn(4, 4, parameters=5)
    rounds = fleet.round(fleet.task(2, 2, 4, masks=False))
    with running(Gateway({}, lambda event: None)) as made, local_server(made, tmp_path) as inner:
        inner.start()
        for member in fleet.members[1:]:
            made.add_local(member.index, Line(member))

        def attack() -> None:
            seen = None
            while not made.stopping:
                letter = made.mail.letter(0)
                if letter is None or letter is seen:
                    time.sleep(0.01)
                    continue
                seen = letter
                right = fleet.members[0].answer(letter.message)
                assert made.mail.reply(0, right[:-1] + bytes([right[-1] ^ 1]), "http 10.0.0.66")
                time.sleep(0.3)
                assert made.mail.reply(0, right, "http 10.0.0.7")

        thread = threading.Thread(target=attack)
        thread.start()
        refused = drive(rounds, GatewayClient(tmp_path), 20)
        made.stop()
        thread.join()
    assert refused == [1, 1] and rounds.result().survivors == [0, 1, 2, 3]


def test_the_mailbox_takes_what_it_waits_for() -> None:
    fleet = Fleet.drawn(3, 5, parameters=5)
    made = fleet.round(fleet.task(2, 2, 1))
    mail, first = Mailbox(), made.message(0) or b""
    reply = fleet.members[0].answer(first)
    assert not mail.reply(0, reply, "a")  # nothing waits
    ticket = mail.post({0: first})
    for bad in (b"", reply[:20], first, made.message(1) or b"", fleet.members[1].answer(made.message(1) or b"")):
        assert not mail.reply(0, bad, "a")
    for sender in range(MAX_SENDERS):
        assert mail.reply(0, reply[:-1] + bytes([sender]), f"s{sender}")
    assert not mail.reply(0, reply, "one more") and mail.reply(0, reply, "s3")  # a sender's last reply counts
    assert len(mail.replies(ticket, 0)[0][0]) == MAX_SENDERS
    assert mail.wanted(0, "s3") is None and mail.wanted(0, "s9") is mail.letter(0)  # who has answered is not asked
    mail.given(ticket)
    assert mail.wanted(0, "s3") is None
    assert mail.replies(mail.post({0: first}), 0) == ({}, [0])  # what was given is not given again
    assert mail.wanted(0, "s3") is mail.letter(0)  # the server has refused it
    for wrong in ({1: first}, {0: b""}):
        with pytest.raises(InputError):
            mail.post(wrong)
    with pytest.raises(InputError, match="no messages"):
        mail.replies(99, 0)


# ---- hostile clients


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Gateway, int, int, str]]:
    monkeypatch.setattr(web, "SECONDS", 1.5)
    site = Fleet.drawn(3, 1).site(tmp_path / "fleet")
    with running(Gateway({}, lambda event: None)) as made:
        outer, inner = board_server(made, site, "127.0.0.1", 0), local_server(made, tmp_path)
        with outer, inner:
            outer.start(), inner.start()
            found = json.loads((tmp_path / "gateway.json").read_text())
            yield made, outer.server_port, inner.server_port, found["token"]


def said(port: int, request: bytes, seconds: float = 10) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        line.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := line.recv(65536):
                answer += part
    return answer


def test_hostile_clients(servers: tuple[Gateway, int, int, str]) -> None:
    _, port, inner, _ = servers
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
        (b"POST /fleet/2 HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", b"409"),
        (b"POST /fleet/7 HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", b"404"),
        (b"PUT /fleet/2 HTTP/1.0\r\n\r\n", b"501"),
        (b"\xff\xfe\x00 nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.0\r\n\r\n", b"414"),
        (b"GET /fleet/2 HTTP/1.0\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
    ):
        answer = said(port, request)
        assert status in answer.split(b"\r\n")[0] or not answer and len(request) > 60000, (request[:60], answer[:80])
    for request in (b"GET /boards", b"POST /messages", b"GET /replies/1", b"DELETE /replies/1"):
        for token in (b"", b"Authorization: Bearer nonsense\r\n", b"Authorization: Bearer \xff\r\n"):
            assert b" 401 " in said(inner, request + b" HTTP/1.0\r\n" + token + b"Content-Length: 0\r\n\r\n")


def test_a_board_that_is_enrolled_meanwhile(servers: tuple[Gateway, int, int, str], tmp_path: Path) -> None:
    _, port, _, _ = servers
    assert b" 404 " in said(port, b"GET /fleet/3 HTTP/1.0\r\n\r\n")
    fleet = Fleet.drawn(3, 1)
    Site(tmp_path / "fleet").enroll(Fleet.drawn(4, 2).roster.keys[3], "", fleet.key)
    assert b" 204 " in said(port, b"GET /fleet/3 HTTP/1.0\r\n\r\n")
    (tmp_path / "fleet" / "roster.elg").write_bytes(b"ELG1")
    assert b" 404 " in said(port, b"GET /fleet/1 HTTP/1.0\r\n\r\n")


def test_clients_that_hold_on_are_dropped(servers: tuple[Gateway, int, int, str]) -> None:
    """A byte now and then keeps no connection; more clients than there is room for are not waited on."""
    _, port, _, _ = servers
    begun = time.monotonic()
    slow = socket.create_connection(("127.0.0.1", port), timeout=10)
    with contextlib.suppress(ConnectionError), slow:
        slow.sendall(b"POST /fleet/2 HTTP/1.0\r\nContent-Length: 200\r\n\r\n")
        while time.monotonic() - begun < 15:
            slow.sendall(b"x")
            time.sleep(0.05)
    assert time.monotonic() - begun < 12
    many = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(web.CLIENTS + 20)]
    for line in many:
        line.close()
    for _ in range(100):
        if b"204" in said(port, b"GET /fleet/1 HTTP/1.0\r\n\r\n"):
            break
        time.sleep(0.05)
    else:
        pytest.fail("it serves nobody any more")


def test_the_token_is_the_owners(servers: tuple[Gateway, int, int, str], tmp_path: Path) -> None:
    _, _, inner, token = servers
    path = tmp_path / "gateway.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    head = b"Authorization: Bearer " + token.encode() + b"\r\n"
    assert b" 200 " in said(inner, b"GET /boards HTTP/1.0\r\n" + head + b"\r\n")
    for body in (
        b"[]",
        b"{}",
        b'{"messages": {"a": ""}, "adapter": ""}',
        b'{"messages": {"1": "?"}, "adapter": ""}',
        b"\xff",
    ):
        length = f"Content-Length: {len(body)}\r\n\r\n".encode()
        assert b" 400 " in said(inner, b"POST /messages HTTP/1.0\r\n" + head + length + body)
    assert b" 404 " in said(inner, b"GET /replies/5 HTTP/1.0\r\n" + head + b"\r\n")
    for text in ("", "{}", '{"url": "http://192.0.2.1:80", "token": "x"}'):
        path.write_text(text)
        with pytest.raises(EdgeloraError, match="tells of no gateway"):
            GatewayClient(path)
