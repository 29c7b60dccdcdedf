"""Boards on serial lines through the gateway: enrolled over the line, unplugged, frozen, reconnected."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import edgelora, result
from fleet_boards import Fleet
from fleet_field import Boards, join_locals
from fresh import slow
from waiting import until

from edgelora.base.resources import ROOT
from edgelora.board.link.client import Link
from edgelora.board.link.replies import DeviceError
from edgelora.board.link.transport import LineLost
from edgelora.board.virtual_boards import SimHandle
from edgelora.fleet import gateway, rollout, serial_members
from edgelora.fleet.client_training import fresh_adapter
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.messages import Stage
from edgelora.fleet.policy import MOST_COST
from edgelora.fleet.secagg import ReplyRefused, Round
from edgelora.fleet.serial_member import BoardMember
from edgelora.fleet.serial_members import serial_boards
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.fleet.web import GatewayClient, local_server

PROGRAMS = ROOT / "tests" / "device" / "programs"


@pytest.fixture
def boards(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Boards]:
    edgelora("keygen", tmp_path / "release.pem")
    made = Boards(tmp_path, ["unix"] * request.param)
    yield made
    for board in made.boards:
        with contextlib.suppress(OSError):
            send(board, signal.SIGCONT)
        board.kill()


def send(board: SimHandle, number: int) -> None:
    """Sends a signal to the board's process and to the MicroPython process that it has started."""
    children = Path(f"/proc/{board.pid}/task/{board.pid}/children").read_text().split()
    for pid in [board.pid, *map(int, children)]:
        os.kill(pid, number)


@pytest.mark.parametrize("boards", [2], indirect=True)
@slow
def test_boards_on_lines(boards: Boards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "RETRY_SECONDS", (0.1, 0.5))
    for which in range(2):
        site = boards.enroll(which)
    roster, members = join_locals(site, tmp_path / "release.pem", 4)
    push = ("fleet", "roster", site.folder, "--push", "--port", boards.port(1))
    assert [result(*push)["pushed"] for _ in range(2)] == [True, False]
    task = boards.task(roster)
    vectors = np.random.default_rng(1).integers(-50, 51, (4, task.parameters)).astype(np.int32)
    events: list[Any] = []
    with running(Gateway({}, events.append)) as made, local_server(made, tmp_path) as inner:
        inner.start()
        for member, vector in zip(members, vectors, strict=True):
            member.vector = vector
            made.add_local(member.index, member)
        for which in range(2):
            made.add_line(boards.port(which), serial_boards(site, "/samples.eld"))
        client = GatewayClient(tmp_path)
        until(lambda: len(client.boards()) == 6)

        def run(number: int, seconds: float, before: dict[str, Any], meanwhile: dict[str, Any]) -> Round:
            rounds = Round(task, number, roster, site.secret(), range(6))
            while not rounds.done:
                messages = {index: rounds.message(index) or b"" for index in rounds.waiting}
                before.get(rounds.stage.name, lambda: None)()
                ticket = made.mail.post(messages, boards.adapter)
                meanwhile.get(rounds.stage.name, lambda: None)()
                for index, replies in made.mail.replies(ticket, seconds)[0].items():
                    with contextlib.suppress(ReplyRefused):
                        rounds.receive(index, replies[-1])
                rounds.close_stage()
            return rounds

        def expect(rounds: Round, missing: set[int] = frozenset()) -> None:  # type: ignore[assignment]
            alive = rounds.result().survivors
            assert alive == sorted(set(range(6)) - missing)
            wanted = [boards.update(task, i).astype(np.int64) if i < 2 else vectors[i - 2] for i in alive]
            assert np.array_equal(rounds.result().vector, np.sum(wanted, axis=0))

        def unplug() -> None:
            until(lambda: [b.state for b in client.boards() if b.index == 1] == ["working"])
            boards.boards[1].kill()
            boards.boards[1] = boards.start(1)

        def freeze() -> None:
            send(boards.boards[0], signal.SIGSTOP)

        expect(run(1, 120, {}, {"TASK": unplug}))  # it continues its task
        assert any(event["event"] == "away" and event["port"] == boards.port(1) for event in events)
        expect(run(2, 6, {"INPUT": freeze}, {}), {0})
        send(boards.boards[0], signal.SIGCONT)
        crowded = [0]
        answer = BoardMember.answer

        def full(self: BoardMember, message: bytes, adapter: bytes = b"") -> bytes:
            if crowded and message[4] == Stage.TASK:
                crowded.pop()
                raise DeviceError("MemoryError", "memory allocation failed")
            return answer(self, message, adapter)

        restarted: list[str] = []
        monkeypatch.setattr(serial_members, "soft_reset", restarted.append)  # a soft reset would end a desktop board
        monkeypatch.setattr(BoardMember, "answer", full)
        expect(run(3, 120, {}, {}))
        assert len(restarted) == 1 and any("it is restarted" in event.get("why", "") for event in events)
        message = Round(task, 3, roster, site.secret(), range(6)).message(0) or b""
        found = client.exchange({0: message}, boards.adapter, 60)  # a past round
        assert found == {} and any(event["event"] == "refused" and event["board"] == 0 for event in events)
        endless = Round(replace(task, epochs=60_000), 4, roster, site.secret(), range(6))
        made.mail.post({0: endless.message(0) or b""}, boards.adapter)
        until(lambda: [b.state for b in client.boards() if b.index == 0] == ["working"])
        time.sleep(1)
        begun = time.monotonic()  # as at Ctrl-C, during training
    assert time.monotonic() - begun < 20
    for which in range(2):
        with Link.connect(boards.port(which)) as link:
            assert link.fleet_status().round == 3  # usable, and its rounds are in flash
            budget = link.fleet_budget()
            assert budget.rounds >= 2 and int(budget.spent) == MOST_COST  # two rounds without noise


@pytest.mark.parametrize("boards", [2], indirect=True)
def test_updates_reach_boards_on_lines(boards: Boards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first few get it; the other one gets it when all do. Here it waits for the board's next start."""
    monkeypatch.setattr(gateway, "PING_SECONDS", 0.2)
    for which in range(2):
        site = boards.enroll(which)
    (tmp_path / "global.ela").write_bytes(boards.adapter)
    line, key = ("fleet", "publish", site.folder), ("--name", "wake", "--key", tmp_path / "release.pem")
    told = result(*line, tmp_path / "global.ela", *key, "--share", 1)
    [first], version = told["first"], told["version"]
    events: list[Any] = []

    def got() -> list[tuple[int, str]]:
        return [(event["board"], event["what"]) for event in events if event["event"] == "updated"]

    with running(Gateway({}, events.append)) as made:
        for which in range(2):
            made.add_line(boards.port(which), serial_boards(site, "/samples.eld", 0))
        until(lambda: got() == [(first, f"wake {version}")])
        edgelora(*line, *key, "--all")
        until(lambda: got()[1:] == [(1 - first, f"wake {version}")])
    for which in range(2):
        with Link.connect(boards.port(which)) as link:
            assert [(a.name, a.version, a.trial) for a in link.update_state().adapters] == [("wake", version, True)]


def test_a_board_without_memory_for_an_update_is_restarted_once(tmp_path: Path) -> None:
    fleet = Fleet.drawn(2, 3)
    site, base = fleet.site(tmp_path / "fleet"), fleet_base()
    rollout.to_few(site, fresh_adapter(base.elm, 1, "frozen_a", 1), "wake", fleet.key, 100)
    rollout.to_all(site, "wake")

    class Full:
        def update_state(self) -> Any:
            return SimpleNamespace(adapters=[])

        def update(self, bundle: bytes) -> None:
            raise DeviceError("NoMemory", "no memory to check the adapter: reset the board")

    line = serial_members._Line()
    with pytest.raises(LineLost, match="it is restarted"):
        list(serial_members.bring_updates(Full(), site, 0, line, fresh=False))  # type: ignore[arg-type]
    assert line.crowded and not line.refused
    assert list(serial_members.bring_updates(Full(), site, 0, line, fresh=True)) == []  # type: ignore[arg-type]
    assert line.refused == {("wake", 1)}
