"""Adapters that a gateway brings to a virtual Pico: tried, confirmed or not, after a power cut, rolled back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import edgelora, result
from fresh import in_full_runs
from waiting import until

from edgelora.board.build import build_firmware
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.board.virtual_boards import SimHandle
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.fleet import gateway
from edgelora.fleet.client_training import fresh_adapter
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.roster import Site
from edgelora.fleet.serial_members import serial_boards
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.learn.updates.keys import load_public_keys, pack_trust

RANK = 2
TRIAL = 0.7  # seconds on the board
REFUSED = 2  # the version that the application does not confirm
WAIT = 120.0  # for the emulated board, s
APP = f"""
import binascii, edgelora, hashlib
from edgelora.store import Store, default_place
model = edgelora.Model("/base.elm", {RANK}, "infer")
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


def published(adapter: bytes) -> str:
    """The SHA-256 of what boards get: without training state."""
    made = unpack_adapter(adapter, name="walk")
    for layer in made.layers:
        layer.a_state = layer.b_state = None
    return hashlib.sha256(pack_adapter(made)).hexdigest()


class Pico:
    """A virtual Pico with the application; its power can be cut."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.folder = folder
        self.handle: SimHandle = self.start(build_firmware("virtual-pico", {}, folder.with_suffix(".uf2")))
        self.port = self.handle.port
        with Link.connect(self.port) as link:
            for path, content in files.items():
                link.put(path, content)

    def start(self, firmware: Path | None = None) -> SimHandle:
        return virtual_board.start("virtual-pico", firmware, self.folder, die_with_parent=True)

    def cut(self) -> None:
        self.handle.kill()
        self.handle = self.start()

    def started(self) -> list[tuple[int, str]]:
        """Version and SHA-256 of the adapter at each start of the board's application."""
        with Link.connect(self.port) as link:
            lines = link.get("/started").decode().splitlines()
        return [(int(version), sha256) for version, sha256 in map(str.split, lines)]


@pytest.fixture
def pico(tmp_path: Path) -> Iterator[Pico]:
    edgelora("keygen", tmp_path / "release.pem")
    trusted = pack_trust("band", load_public_keys(tmp_path / "release.pub"))
    made = Pico(tmp_path / "pico", {"/base.elm": fleet_base().elm, "/main.py": APP.encode(), "/update.trust": trusted})
    yield made
    made.handle.kill()


@in_full_runs("other tests publish to desktop boards")
def test_adapters_are_published_to_a_pico_and_withdrawn(
    pico: Pico, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "PING_SECONDS", 0.3)
    key = ("--key", tmp_path / "release.pem")
    edgelora("fleet", "enroll", tmp_path / "fleet", *key, "--target", "band", "--port", pico.port)
    site, events = Site(tmp_path / "fleet"), list[Any]()
    adapters = [fresh_adapter(fleet_base().elm, RANK, "trainable_a", seed) for seed in range(3)]

    def told(what: str) -> Callable[[], bool]:
        return lambda: {"event": "updated", "board": 0, "name": "", "what": what} in events

    def publish(*words: object) -> None:
        result("fleet", "publish", site.folder, *words, "--name", "walk")

    def publish_first(number: int) -> None:
        (tmp_path / "walk.ela").write_bytes(adapters[number])
        publish(tmp_path / "walk.ela", *key, "--share", 100)

    with running(Gateway({}, events.append)) as made:
        made.add_line(pico.port, serial_boards(site, "/samples.eld", TRIAL))
        publish_first(0)
        publish("--all")
        until(told("walk 1, confirmed"), WAIT)
        publish_first(1)
        until(told("walk 2, not confirmed: from its next start the board uses its earlier adapter"), WAIT)
        pico.cut()
        publish_first(2)
        until(told("walk 3, confirmed"), WAIT)
        publish("--all")
        publish(*key, "--back")
        until(told("walk 4, confirmed"), WAIT)
    assert not [event for event in events if event["event"] == "refused"]
    good, bad, other = map(published, adapters)
    assert pico.started() == [(1, good), (2, bad), (1, good), (3, other), (4, good)]
