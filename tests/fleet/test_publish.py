"""Publishing the global adapter: to a few boards, to all, rolled back; boards that do not confirm fall back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import edgelora, result
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fleet_boards import Fleet

from edgelora.base.errors import EdgeloraError
from edgelora.base.resources import ROOT
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.elu import public_bytes
from edgelora.fleet import rollout
from edgelora.fleet.client_training import fresh_adapter
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.rollout import PublishError
from edgelora.fleet.roster import Site
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.fleet.web import board_server
from edgelora.learn.training.data.base import Base
from edgelora.learn.updates.keys import pack_trust
from edgelora.learn.updates.releasing import releases

APP = ROOT / "tests" / "device" / "programs" / "update_app.py"


@pytest.fixture(scope="module")
def base() -> Base:
    return fleet_base()


@pytest.fixture(scope="module")
def adapters(base: Base) -> list[bytes]:
    """Adapters with training state, like a federation's, each from another seed."""
    return [fresh_adapter(base.elm, 8, "trainable_a", seed) for seed in range(3)]


@pytest.fixture
def fleet() -> Fleet:
    return Fleet.drawn(20, 2)


class Board:
    """Desktop MicroPython in a folder that is its flash; each `run` is a start of its application."""

    def __init__(self, site: Site, base: Base, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "har.elm").write_bytes(base.elm)
        trust = pack_trust("band", [site.roster().release])
        (folder / "update.trust").write_bytes(trust)

    def run(self, *steps: object) -> dict[str, Any]:
        command = [UNIX_BINARY, "-X", "heapsize=160K", APP, *map(str, steps)]
        ran = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])


@contextlib.contextmanager
def served(site: Site) -> Iterator[str]:
    with running(Gateway({}, lambda event: None)) as gateway, board_server(gateway, site, "127.0.0.1", 0) as server:
        server.start()
        yield f"http://127.0.0.1:{server.server_port}/fleet"


def bare(adapter: bytes) -> bytes:
    made = unpack_adapter(adapter)
    for layer in made.layers:
        layer.a_state = layer.b_state = None
    return pack_adapter(made)


def test_adapters_are_published_in_steps_and_rolled_back(
    fleet: Fleet, base: Base, adapters: list[bytes], tmp_path: Path
) -> None:
    site = fleet.site(tmp_path / "fleet")
    (tmp_path / "release.pem").write_bytes(fleet.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for number, adapter in enumerate(adapters):
        (tmp_path / f"{number}.ela").write_bytes(adapter)
    (tmp_path / "har.elm").write_bytes(base.elm)
    key = ("--name", "wake", "--key", tmp_path / "release.pem")
    edgelora("fleet", "publish", site.folder, tmp_path / "0.ela", *key, "--share", 100, "--model", tmp_path / "har.elm")
    assert result("fleet", "publish", site.folder, "--name", "wake", "--all")["everyone"]

    told = result("fleet", "publish", site.folder, tmp_path / "1.ela", *key, "--share", 25)
    few = told["first"]
    assert (told["version"], told["everyone"]) == (2, False) and 0 < len(few) < 20
    first, other = few[0], next(index for index in range(20) if index not in few)
    boards = {index: Board(site, base, tmp_path / f"board{index}") for index in (first, other)}
    with served(site) as url:

        def fetch(index: int) -> list[Any]:
            return boards[index].run(f"fetch={url}/{index}/wake.elu")["fetched"][0]

        assert fetch(first) == ["installed", 2] and fetch(other) == ["installed", 1]
        for index, number in ((first, 1), (other, 0)):
            begun = boards[index].run("start", "confirm")
            assert begun["sha256"] == hashlib.sha256(bare(adapters[number])).hexdigest()  # without training state
            assert begun["confirmed"] == ["wake"]
        assert fetch(other)[0] == "NotNewer"

        assert result("fleet", "publish", site.folder, "--name", "wake", "--all")["version"] == 2
        assert fetch(other) == ["installed", 2]
        assert boards[other].run("start")["version"] == 2  # its application does not confirm
        back = boards[other].run("start")
        assert back["version"] == 1 and "was not confirmed: version 1 is back" in back["notices"][0]

        gone = result("fleet", "publish", site.folder, *key, "--back")
        assert (gone["version"], gone["everyone"]) == (3, True)
        assert fetch(first) == ["installed", 3]
        assert boards[first].run("start")["sha256"] == hashlib.sha256(bare(adapters[0])).hexdigest()


def test_repeated_rollbacks(fleet: Fleet, adapters: list[bytes], tmp_path: Path) -> None:
    """A rollback never returns to a withdrawn adapter; one published later can be rolled back past it."""
    site = fleet.site(tmp_path / "fleet")

    def out(number: int) -> None:
        rollout.to_few(site, adapters[number], "wake", fleet.key, 10)
        rollout.to_all(site, "wake")

    def back() -> int:
        """Rolls back; which adapter all boards have then."""
        version = rollout.back(site, "wake", fleet.key).version
        released = releases(rollout.folder(site, True), "wake", [public_bytes(fleet.key)])[version]
        return [bare(adapter) for adapter in adapters].index(released.adapter())

    out(0), out(1)
    rollout.to_few(site, adapters[2], "wake", fleet.key, 10)
    assert [back(), back()] == [1, 0]
    with pytest.raises(PublishError, match="no earlier version of wake"):
        back()
    out(2)
    assert back() == 0
    with pytest.raises(PublishError, match="no earlier version of wake"):
        back()


@pytest.mark.parametrize("change", [{"line": [[1]]}, {"line": 1}, {"version": "2"}, {"share": None}, {"name": "other"}])
def test_invalid_files_of_a_rollout_are_refused(fleet: Fleet, tmp_path: Path, change: dict[str, object]) -> None:
    site = fleet.site(tmp_path / "fleet")
    (site.folder / "updates").mkdir(exist_ok=True)
    whole = {"name": "wake", "version": 2, "share": 10, "everyone": True, "line": [1, 2]}
    (site.folder / "updates" / "wake.json").write_text(json.dumps(whole))
    assert rollout.state(site, "wake") == rollout.Rollout("wake", 2, 10, True, (1, 2))
    (site.folder / "updates" / "wake.json").write_text(json.dumps(whole | change))
    for reads in (lambda: rollout.state(site, "wake"), lambda: rollout.back(site, "wake", fleet.key)):
        with pytest.raises(PublishError, match="wake.json is damaged"):
            reads()


def test_the_first_boards_are_a_share_drawn_anew_each_time() -> None:
    keys = tuple(hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(9000))
    many = replace(Fleet.drawn(1, 1).roster, keys=keys)
    seen = [set(rollout.Rollout("wake", version, 10, False).first(many)) for version in (1, 2)]
    assert all(800 < len(few) < 1000 for few in seen) and len(seen[0] & seen[1]) < 150
    few = Fleet.drawn(3, 2).roster
    chosen = [rollout.Rollout("wake", version, 1, False).first(few) for version in range(1, 40)]
    assert all(len(first) == 1 for first in chosen) and len({*map(tuple, chosen)}) == 3  # at least one
    assert rollout.Rollout("wake", 1, 100, False).first(few) == [0, 1, 2]


def test_adapters_that_cannot_be_published(fleet: Fleet, adapters: list[bytes], tmp_path: Path) -> None:
    site, adapter = fleet.site(tmp_path / "fleet"), adapters[0]
    with pytest.raises(PublishError, match="was not published"):
        rollout.to_all(site, "wake")
    with pytest.raises(PublishError, match="no earlier version of wake"):
        rollout.back(site, "wake", fleet.key)
    with pytest.raises(PublishError, match="give 1 to 100"):
        rollout.to_few(site, adapter, "wake", fleet.key, 0)
    with pytest.raises(EdgeloraError, match="name"):
        rollout.to_few(site, adapter, "../wake", fleet.key, 10)
    with pytest.raises(EdgeloraError):
        rollout.to_few(site, adapter[:-1], "wake", fleet.key, 10)
    stranger = Fleet.drawn(1, 9)
    with pytest.raises(PublishError, match="add its .pub"):  # before publishing what boards would refuse
        rollout.to_few(site, adapter, "wake", stranger.key, 100)
    rollout.to_few(site, adapter, "wake", fleet.key, 100)
    trusted = site.folder / "release.pub"
    trusted.write_bytes(trusted.read_bytes() + public_bytes(stranger.key))
    with pytest.raises(EdgeloraError, match="signed by key"):
        rollout.to_few(site, adapter, "wake", stranger.key, 100)
    (site.folder / "updates" / "wake.json").write_text("{")
    with pytest.raises(PublishError, match="damaged"):
        rollout.folder_of(site, "wake", 0)
