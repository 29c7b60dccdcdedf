"""A disk that gets full during a federation, an enrollment or a gateway: nothing is lost or half written, and it
resumes."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import edgelora, result
from fleet_boards import Fleet

from edgelora.core.formats import files
from edgelora.fleet import federation
from edgelora.fleet.federation import Federation
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.plan import Plan
from edgelora.fleet.simulate import plain_loop
from edgelora.fleet.simulated_boards import boards_of, fleet_base
from edgelora.fleet.web import GatewayClient, GatewayError, local_server
from edgelora.learn.training.twin.warm_start import fleet_vector

PLAN = Plan(boards=2, rounds=3, rank=1, masks=False, seed=6)


class Disk:
    """Counts writes from 0, and refuses those with the given numbers."""

    def __init__(self) -> None:
        self.refused: set[int] = set()
        self.asked = 0

    def sync(self, descriptor: int) -> None:
        self.asked += 1
        if self.asked - 1 in self.refused:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(self, *writes: int) -> None:
        """Refuses these writes, counted from now, or all."""
        self.refused = {self.asked + write for write in writes} if writes else set(range(self.asked, 10**6))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(files.os, "fsync", made.sync)
    monkeypatch.setattr(files, "_sync_folder", lambda folder: None)
    monkeypatch.setattr(federation, "ROOM_SECONDS", (0.0, 30.0))
    return made


def carry(one: Federation, told: list[str], meanwhile: Callable[[], None] = lambda: None) -> None:
    """Runs the remaining rounds. meanwhile: called while boards train."""
    base = one.base
    plain = plain_loop(one, boards_of("har", base.elm, base.name, PLAN.boards))

    def exchange(call: federation.Call) -> federation.Total:
        total = plain(call)
        meanwhile()
        return total

    federation.federate(one, exchange, progress=lambda done, total, what: told.append(what))


def whole(folder: Path) -> None:
    """The folder has complete files of one round, and no others."""
    files = {".carried", "plan.json", "base.elm", "state.json", "global.ela", "ledger.db"}
    assert {path.name for path in folder.iterdir()} <= files
    assert (folder / "global.ela").read_bytes() == Federation.open(folder).adapter


@pytest.mark.parametrize("writes", [(0,), (1,), (0, 1, 2, 4)], ids=["checkpoint", "adapter", "both, for a while"])
def test_a_round_waits_for_room(disk: Disk, tmp_path: Path, writes: tuple[int, ...]) -> None:
    base = fleet_base()
    undisturbed = Federation.create(tmp_path / "one", PLAN, base)
    carry(undisturbed, [])
    other, told = Federation.create(tmp_path / "other", PLAN, base), list[str]()
    carry(other, told, lambda: disk.full(*writes))
    assert other.sha256 == undisturbed.sha256 and [each.survivors for each in other.rounds] == [2] * 3
    assert sum("No space left on device: free some space, the round waits" in what for what in told) == 3 * len(writes)
    whole(tmp_path / "other")


def test_a_disk_that_stays_full_keeps_the_round_before(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation, "ROOM_SECONDS", (0.0, -1.0))
    base, folder = fleet_base(), tmp_path / "one"
    one = Federation.create(folder, PLAN, base)
    nothing = federation.Total(np.zeros(len(fleet_vector(one.adapter)), np.int64), 2)
    federation.federate(one, lambda call: nothing, stop=1)
    before = one.sha256
    for meanwhile in (disk.full, lambda: disk.full(1)):  # the checkpoint, then only the adapter
        with pytest.raises(OSError, match="No space") as caught:
            carry(one, [], meanwhile)
        assert Path(caught.value.filename).name in ("state.json", "global.ela")
        disk.refused = set()
        one = Federation.open(folder)
    assert one.done == 2 and one.sha256 != before  # the second time its checkpoint was written
    assert (folder / "global.ela").read_bytes() != one.adapter
    disk.full()
    attempts = one.asked
    with pytest.raises(OSError, match="No space"):
        federation.federate(one, lambda call: pytest.fail("boards are not asked for what can't be kept"))
    disk.refused = set()
    assert Federation.open(folder).asked == one.asked == attempts
    carry(Federation.open(folder), [])
    whole(folder)


def test_commands_name_a_remedy_and_continue(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "ROOM_SECONDS", (0.0, -1.0))
    simulate = ("fleet", "simulate", tmp_path / "one", "--engine", "loop", "--boards", 2, "--rounds", 1, "--rank", 1)
    edgelora("keygen", tmp_path / "release.pem")
    enroll = ("fleet", "enroll", tmp_path / "fleet", "--key", tmp_path / "release.pem", "--target", "band")
    result(*enroll, "--twins", 1, "--identities", tmp_path / "twins", "--name", "x")
    roster = (tmp_path / "fleet" / "roster.elg").read_bytes()
    disk.full()
    for words in (
        (*simulate, "--no-accuracy"),
        ("fleet", "revoke", tmp_path / "fleet", "0", "--key", tmp_path / "release.pem"),
        (*enroll, "--public", "09" + 31 * "00", "--name", "hall"),
    ):
        said = edgelora(*words, code=1)
        assert "No space left on device: free some space, then repeat the command; earlier files are unchanged" in said
    assert (tmp_path / "fleet" / "roster.elg").read_bytes() == roster
    with running(Gateway({}, lambda event: None)) as made, pytest.raises(OSError, match="No space") as caught:
        local_server(made, tmp_path / "gateway")
    assert caught.value.filename == str(tmp_path / "gateway" / "gateway.json")
    with pytest.raises(GatewayError):
        GatewayClient(tmp_path / "gateway")
    disk.refused = set()
    assert result(*simulate, "--no-accuracy")["rounds"] == 1
    assert result(*enroll, "--public", "09" + 31 * "00", "--name", "hall")["index"] == 1
    assert [path.name for path in tmp_path.rglob(".*")] == [".carried"]
    with running(Gateway({}, lambda event: None)) as made, local_server(made, tmp_path / "gateway") as inner:
        inner.start()
        assert GatewayClient(tmp_path / "gateway").boards() == []
    site = Fleet.drawn(2, 1).site(tmp_path / "other")
    disk.full(1)  # names are written, the roster is not
    with pytest.raises(OSError, match="No space"):
        site.enroll(Fleet.drawn(3, 2).roster.keys[2], "late", Fleet.drawn(2, 1).key)
    assert len(site.roster().keys) == 2 and json.loads((site.folder / "boards.json").read_text())["names"]
    assert site.enroll(Fleet.drawn(3, 2).roster.keys[2], "late", Fleet.drawn(2, 1).key)[1] == 2
