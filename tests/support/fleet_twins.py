"""A fleet of boards on this computer, enrolled at a site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.core.twin.fleet_update import Policy
from edgelora.fleet.member import Identity, TwinMember
from edgelora.fleet.messages import Stage
from edgelora.fleet.roster import Site
from edgelora.fleet.simulated_boards import boards_of
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples


class Twins:
    """A site, and boards that accept any task. lost: boards that stop answering, by the stage from which they do.

    most: the samples that a board learns from.
    """

    def __init__(self, folder: Path, base: Base, count: int = 3, most: int = 8) -> None:
        self.folder, self.base, self.most, self.key = folder, base, most, Ed25519PrivateKey.generate()
        self.site = Site.create(folder / "site", "band", self.key)
        self.boards = boards_of("har", base.elm, base.name, count)
        identities = [self.identity(index) for index in range(count)]
        self.site.enroll_all([(one.public, "") for one in identities], self.key)
        self.members = [self.member(one) for one in identities]
        self.lost: dict[Stage, set[int]] = {}

    def identity(self, index: int) -> Identity:
        return Identity.create(self.folder / f"{index}.key", Policy())

    def member(self, identity: Identity) -> TwinMember:
        return TwinMember(identity, self.site.roster, self.base.elm, self._samples)

    def _samples(self, index: int) -> Samples:
        train = self.boards.of(index).train
        return train.part(np.arange(len(train)) < self.most)

    def deliver(self, messages: dict[int, bytes], adapter: bytes, seconds: float) -> dict[int, list[bytes]]:
        """Replies at once; a forged one comes before each."""
        gone = self.lost.get(Stage(next(iter(messages.values()))[4]), set())
        answers = {i: self.members[i].answer(message, adapter) for i, message in messages.items() if i not in gone}
        return {index: [b"forged", answer] for index, answer in answers.items()}
