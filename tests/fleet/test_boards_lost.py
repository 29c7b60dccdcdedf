"""Boards that lose power in each stage of a round, on a line or polling: only they drop out."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fresh
import numpy as np
import pytest
from commands import edgelora
from fleet_field import Boards, join_locals
from fresh import slow
from waiting import until

from edgelora.base.resources import ROOT
from edgelora.board.link.client import Link
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.fleet import gateway
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.messages import Stage
from edgelora.fleet.secagg import ReplyRefused, Round
from edgelora.fleet.serial_members import serial_boards
from edgelora.fleet.web import board_server

PROGRAMS = ROOT / "tests" / "device" / "programs"
STAGES = (Stage.TASK, Stage.COHORT, Stage.PEERS, Stage.INPUT, Stage.UNMASK)
LINE, AIR = 0, 1
LEFT = {"base.elm", "samples.eld", "update.trust", "fleet.roster", "fleet.roster.new", "fleet.ela", "fleet.json"}


@dataclass
class Air:
    """The program of a desktop board that polls a gateway."""

    folder: Path
    url: str = ""
    process: Any = field(default=None)

    def start(self) -> None:
        code = f"import sys; sys.path.insert(0, {str(PROGRAMS)!r}); import fleet_runs; "
        code += f"fleet_runs.poll({self.url!r}, 1000)"
        command = [str(UNIX_BINARY), "-X", "heapsize=4m", "-c", code]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=["unix", *(["virtual-pico"] if fresh.FULL else [])])
def boards(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Boards]:
    edgelora("keygen", tmp_path / "release.pem")
    made = Boards(tmp_path, [request.param, "unix"])
    yield made
    for board in made.boards:
        board.kill()


@slow
def test_power_cuts_in_every_stage(boards: Boards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a stage's message or a moment after it: the sum has exactly the updates of the boards left at the end."""
    monkeypatch.setattr(gateway, "RETRY_SECONDS", (0.1, 0.2))
    drawn = random.Random(fresh.SEED)
    for which in (LINE, AIR):
        site = boards.enroll(which)
    roster, members = join_locals(site, tmp_path / "release.pem", 6)
    task = replace(boards.task(roster), epochs=1)
    vectors = np.random.default_rng(1).integers(-50, 51, (6, task.parameters)).astype(np.int32)
    boards.boards[AIR].kill()
    air, events = Air(tmp_path / f"board{AIR}"), list[Any]()
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(running(Gateway({}, events.append)))
        server = stack.enter_context(board_server(made, site, "127.0.0.1", 0))
        server.start()
        for member, vector in zip(members, vectors, strict=True):
            member.vector = vector
            made.add_local(member.index, member)
        made.add_line(boards.port(LINE), serial_boards(site, "/samples.eld"))
        air.url = f"http://127.0.0.1:{server.server_port}"
        air.start()
        stack.callback(air.kill)
        until(lambda: len(made.boards()) == 8)

        def answered(index: int) -> bool:
            letter = made.mail.letter(index)
            return letter is not None and (bool(letter.replies) or letter.failed)

        def cut() -> None:
            air.kill()
            boards.boards[LINE].kill()
            boards.boards[LINE] = boards.start(LINE)
            air.start()

        def run(number: int, cut_at: Stage | None, after: float) -> Round:
            rounds = Round(task, number, roster, site.secret(), range(8))
            lost: set[int] = set()
            while not rounds.done:
                waiting = set(rounds.waiting)
                ticket = None
                if rounds.stage == cut_at and not after:
                    cut()
                ticket = made.mail.post({i: rounds.message(i) or b"" for i in waiting}, boards.adapter)
                if rounds.stage == cut_at and after:
                    time.sleep(after)
                    cut()
                if rounds.stage == cut_at and cut_at != Stage.TASK:  # whoever can still answer does so soon
                    lost = {LINE, AIR}
                until(lambda those=waiting - lost | waiting & {LINE}: all(map(answered, those)), 240)
                if not cut_at:  # a restarted gateway has lost the messages
                    for which in (LINE, AIR):
                        del made.mail._letters[which]
                        made.mail.post({which: rounds.message(which) or b""}, boards.adapter)
                    until(lambda: answered(LINE) and answered(AIR))
                for index, replies in made.mail.replies(ticket, 0)[0].items():
                    with contextlib.suppress(ReplyRefused):
                        rounds.receive(index, replies[-1])
                rounds.close_stage()
            return rounds

        number = 0
        for stage in STAGES:
            moments = 0.0, drawn.uniform(0.001, 0.05)
            for after in moments if fresh.FULL else [drawn.choice(moments)]:
                number += 1
                check(boards, task, run(number, stage, after), vectors, stage, after)
        check(boards, task, run(number + 1, None, 0), vectors, None, 0)
    boards.boards[AIR] = boards.start(AIR)
    for which in (LINE, AIR):
        with Link.connect(boards.port(which)) as link:
            assert link.fleet_status().round == number + 1
            assert not [entry for entry in link.store_list().adapters if entry.name.startswith("fleet")]
            assert {entry.name for entry in link.list("/")} <= LEFT


def check(boards: Boards, task: Any, rounds: Round, vectors: np.ndarray, stage: Stage | None, after: float) -> None:
    alive = rounds.result().survivors
    assert set(alive) >= set(range(2, 8))
    if stage in (None, Stage.TASK, Stage.UNMASK):
        assert set(alive) >= {LINE, AIR}
    elif not after:
        assert not {LINE, AIR} & set(alive)
    wanted = [boards.update(task, i).astype(np.int64) if i < 2 else vectors[i - 2] for i in alive]
    assert np.array_equal(rounds.result().vector, np.sum(wanted, axis=0))
