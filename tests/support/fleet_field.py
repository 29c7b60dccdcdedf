"""Virtual boards with a base and samples, enrolled by commands, together with boards in Python."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from commands import edgelora, result
from fleet_boards import PythonMember, learned

from edgelora.base.resources import ROOT
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.board.virtual_boards import SimHandle
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.core.twin.fleet_update import clip_update
from edgelora.fleet.client_training import fresh_adapter
from edgelora.fleet.messages import Task, public_of
from edgelora.fleet.policy import SUMS
from edgelora.fleet.roster import Roster, Site
from edgelora.fleet.serial_members import bring_policy
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.learn.training.data.base import load_part
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.twin.warm_start import fleet_vector
from edgelora.learn.updates.keys import load_key

PICO = ROOT / ".build/rp2/rpi_pico/firmware.uf2"


class Boards:
    """Virtual boards with a base and samples, and the folder of their fleet."""

    def __init__(self, folder: Path, kinds: Sequence[str]) -> None:
        self.folder, self.kinds = folder, kinds
        self.base = fleet_base()
        whole = self.base.samples(load_part("har:3", "train"))
        self.samples = [whole.part(np.arange(len(whole)) % 4 == which) for which in range(2)]
        self.adapter = fresh_adapter(self.base.elm, 4, "frozen_a", 5)
        self.boards = [self.start(which) for which in range(len(kinds))]

    def start(self, which: int) -> SimHandle:
        kind = self.kinds[which]
        image = None if kind == "unix" or (self.folder / f"board{which}").exists() else PICO
        return virtual_board.start(kind, image, self.folder / f"board{which}", die_with_parent=True)

    def port(self, which: int) -> str:
        return str(self.folder / f"board{which}" / "port")

    def furnish(self, which: int) -> None:
        samples: Samples = self.samples[which]
        packed = pack_samples(samples.x, samples.y, None, base_id(self.base.elm))
        with Link.connect(self.port(which)) as link:
            link.put("/base.elm", self.base.elm)
            link.put("/samples.eld", packed)
            bring_policy(link, SUMS)

    def update(self, task: Task, index: int) -> np.ndarray:
        after = learned(task, self.base.elm, self.adapter, self.samples[index], index)
        return clip_update(fleet_vector(self.adapter), after, task.clip)

    def enroll(self, which: int) -> Site:
        """Enrolls by commands: the board gets base and samples, trusts the fleet's key, and joins over its line."""
        self.furnish(which)
        key, port = self.folder / "release.pem", ("--port", self.port(which))
        edgelora("update", "--trust", self.folder / "release.pub", "--target", "band", *port)
        enroll = ["fleet", "enroll", self.folder / "fleet", "--key", key, "--target", "band", *port]
        assert result(*enroll)["index"] == which
        assert result(*enroll)["index"] == which  # enrolled already
        assert f"enrolled already, as {which}" in edgelora(*enroll, "--name", "another", code=1)
        return Site(self.folder / "fleet")

    def task(self, roster: Roster) -> Task:
        digest, n = hashlib.sha256(self.adapter).digest(), len(fleet_vector(self.adapter))
        return Task(roster.number, self.adapter[16:24], digest, n, 2, 0, 9, 900, 0, 4, 33)


class Local(PythonMember):
    """A board in Python that is local to the gateway."""

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        return super().answer(message)


def join_locals(site: Site, key: Path, count: int) -> tuple[Roster, list[Local]]:
    """Enrolls additional boards in Python, with random updates."""
    secrets = [hashlib.sha256(bytes([which])).digest() for which in range(count)]
    first = len(site.roster().keys)
    roster = site.enroll_all([(public_of(secret), "") for secret in secrets], load_key(key))
    return roster, [Local(first + i, secret, roster, np.zeros(0, np.int32)) for i, secret in enumerate(secrets)]
