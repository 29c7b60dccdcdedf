"""A federation's global adapter on virtual Picos: to a few, falls back if not confirmed, to all, rolled back."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import edgelora, result
from fresh import in_full_runs

from edgelora.board.build import build_firmware
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.board.virtual_boards import SimHandle
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.fleet import federation, gateway
from edgelora.fleet.federation import Federation
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.member import Identity, TwinMember
from edgelora.fleet.plan import Plan
from edgelora.fleet.policy import SUMS, policy_json
from edgelora.fleet.rollout import Rollout
from edgelora.fleet.roster import Roster, Site
from edgelora.fleet.secagg_rounds import in_stages
from edgelora.fleet.serial_members import serial_boards
from edgelora.fleet.simulated_boards import boards_of, fleet_base
from edgelora.fleet.web import GatewayClient, local_server
from edgelora.learn.training.base import Base
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin_learner import TwinLearner
from edgelora.learn.updates.keys import load_public_keys, pack_trust

PLAN = Plan(boards=4, rounds=1, rank=2, rate=6000, least=3, colluders=0, seed=5, patience=120.0)
TRIAL = 0.7  # seconds on the boards
REFUSED = 2  # the version that the application does not confirm
APP = f"""
import binascii, edgelora, hashlib
from edgelora.store import Store, default_place
model = edgelora.Model("/base.elm", {PLAN.rank}, "infer")
store = Store(default_place())
store.open(model)
store.start()
if not store.active and store.find("walk"):  # the first that came
    store.activate("walk")
entry = store.find("walk")
if entry:
    with open("/started", "a") as file:
        print(entry.version, binascii.hexlify(hashlib.sha256(store._in_use()[0]).digest()).decode(), file=file)
    if entry.version != {REFUSED}:
        store.confirm()
"""


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def bare(adapter: bytes) -> bytes:
    """As published: without training state."""
    made = unpack_adapter(adapter, name="walk")
    for layer in made.layers:
        layer.a_state = layer.b_state = None
    return pack_adapter(made)


def adapter_of(base: Base, seed: int) -> bytes:
    recipe = Recipe(mode=PLAN.mode, rank=PLAN.rank)
    learner = TwinLearner(base.elm, recipe.settings(base.elm))
    learner.begin(seed)
    return learner.save(True)


class Picos:
    """Two virtual Picos with the same flash, except for their identities; their power can be cut."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.folder = folder
        first = virtual_board.start("virtual-pico", build_firmware("virtual-pico", {}, folder / "fw.uf2"), folder / "0")
        with Link.connect(first.port) as link:
            for path, content in files.items():
                link.put(path, content)
        first.stop()
        shutil.copytree(folder / "0", folder / "1", symlinks=True)
        self.handles: list[SimHandle] = [self.start(which) for which in (0, 1)]

    def start(self, which: int) -> SimHandle:
        return virtual_board.start("virtual-pico", None, self.folder / str(which), die_with_parent=True)

    def cut(self, which: int) -> None:
        self.handles[which].kill()
        self.handles[which] = self.start(which)

    def port(self, which: int) -> str:
        return str(self.folder / str(which) / "port")

    def started(self, which: int) -> list[tuple[int, str]]:
        """Version and SHA-256 of the adapter at each start of the board's application."""
        with Link.connect(self.port(which)) as link:
            lines = link.get("/started").decode().splitlines()
        return [(int(version), sha256) for version, sha256 in map(str.split, lines)]


@pytest.fixture
def base() -> Base:
    return fleet_base()


@pytest.fixture
def picos(tmp_path: Path, base: Base) -> Iterator[Picos]:
    release_key(tmp_path / "release.pem")
    few = boards_of("har", base.elm, base.name, PLAN.boards).of(0).train
    samples = pack_samples(few.x[:8], few.y[:8], None, base_id(base.elm))
    (tmp_path / "picos").mkdir()
    trusted = pack_trust("band", load_public_keys(tmp_path / "release.pub"))
    files = {
        "/base.elm": base.elm,
        "/samples.eld": samples,
        "/main.py": APP.encode(),
        "/update.trust": trusted,
        "/fleet.json": policy_json(SUMS),
    }
    made = Picos(tmp_path / "picos", files)
    yield made
    for handle in made.handles:
        handle.kill()


def release_key(path: Path) -> None:
    """Generates a release key with which shares tell the two Picos apart: with one in fifty, they never do."""
    while True:
        edgelora("keygen", path)
        fleet = Roster(1, "band", bytes(32), load_public_keys(path.with_suffix(".pub"))[0]).fleet
        draws = [[Rollout("walk", version, 1, False)._draw(fleet, pico) for pico in (0, 1)] for version in (2, 3)]
        if all(one * 100 >> 32 != other * 100 >> 32 for one, other in draws):
            return
        path.unlink()
        path.with_suffix(".pub").unlink()


def share_of_one(site: Site, version: int) -> tuple[int, int]:
    """A share of boards such that one Pico is among the first few; the share, and which Pico."""
    for share in range(1, 101):
        few = [index for index in Rollout("walk", version, share, False).first(site.roster()) if index < 2]
        if len(few) == 1:
            return share, few[0]
    raise AssertionError


@in_full_runs("other tests publish to desktop boards")
def test_a_global_adapter_is_published_to_picos_and_withdrawn(
    picos: Picos, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "PING_SECONDS", 0.3)
    key = ("--key", tmp_path / "release.pem")
    enroll = ("fleet", "enroll", tmp_path / "fleet", *key, "--target", "band")
    for which in (0, 1):
        assert result(*enroll, "--port", picos.port(which))["index"] == which
    edgelora(*enroll, "--twins", 2, "--identities", tmp_path / "twins", "--policy", "sums")
    site, events = Site(tmp_path / "fleet"), list[Any]()
    files = {0: adapter_of(base, 1), 1: adapter_of(base, 2)}
    for name, content in files.items():
        (tmp_path / f"{name}.ela").write_bytes(content)

    def told(index: int, what: str) -> Callable[[], bool]:
        return lambda: {"event": "updated", "board": index, "name": "", "what": what} in events

    def back(index: int) -> dict[str, Any]:
        return {"event": "here", "board": index, "name": "", "way": "serial", "port": picos.port(index)}

    def publish(*words: object) -> dict[str, Any]:
        found: dict[str, Any] = result("fleet", "publish", site.folder, *words, "--name", "walk")
        return found

    data = boards_of("har", base.elm, base.name, PLAN.boards)
    samples = lambda index: data.of(index).train.part(np.arange(len(data.of(index).train)) < 8)  # noqa: E731
    with running(Gateway({}, events.append)) as made, local_server(made, tmp_path) as inner:
        inner.start()
        for which in (0, 1):
            made.add_line(picos.port(which), serial_boards(site, "/samples.eld", TRIAL))
        for path in sorted((tmp_path / "twins").glob("*.key")):
            member = TwinMember(Identity(path), site.roster, base.elm, samples)
            made.add_local(member.index, member)
        publish(tmp_path / "0.ela", *key, "--share", 100)
        publish("--all")
        for which in (0, 1):
            until(told(which, "walk 1, confirmed"))

        share, first = share_of_one(site, 2)  # the application does not confirm this adapter
        assert first in publish(tmp_path / "1.ela", *key, "--share", share)["first"]
        until(told(first, "walk 2, not confirmed: from its next start the board uses its earlier adapter"))
        came = events.count(back(first))
        picos.cut(first)
        until(lambda: events.count(back(first)) > came)  # offline boards would miss the start of the round

        one = Federation.create(tmp_path / "federation", PLAN, base)
        exchange = in_stages(one, site.roster(), site.secret(), GatewayClient(tmp_path).exchange)
        federation.federate(one, exchange, site.roster().active)
        assert [each.survivors for each in one.rounds] == [4]
        share, second = share_of_one(site, 3)
        publish(tmp_path / "federation" / "global.ela", *key, "--share", share)
        until(told(second, "walk 3, confirmed"))
        assert not told(1 - second, "walk 3")()
        publish("--all")
        until(told(1 - second, "walk 3, confirmed"))
        assert publish(*key, "--back")["version"] == 4
        for which in (0, 1):
            until(told(which, "walk 4, confirmed"))
    print(*events, sep="\n")
    assert not [event for event in events if event["event"] == "refused"]
    good, bad, final = (hashlib.sha256(bare(each)).hexdigest() for each in (files[0], files[1], one.adapter))
    for which in (0, 1):
        tried = [(2, bad), (1, good)] if which == first else []
        assert picos.started(which) == [(1, good), *tried, (3, final), (4, good)]
