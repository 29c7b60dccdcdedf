"""A fleet of reference boards in Python, for tests of the server, of gateways and of boards."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fleet_reference as ref
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from edgelora.core.formats.elu import public_bytes
from edgelora.fleet.averaging import board_seed
from edgelora.fleet.messages import MAX_COHORT, Stage, Task, public_of
from edgelora.fleet.roster import Roster, Site
from edgelora.fleet.secagg import Round
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.twin.warm_start import fleet_training

PARAMETERS = 632


NONE = np.zeros(0, np.int16)


class PythonMember(ref.Member):
    """A reference board that also checks the server's messages. vector: int32[n], its update, without noise."""

    def __init__(self, index: int, secret: bytes, roster: Roster, vector: np.ndarray) -> None:
        super().__init__(secret, roster.server, roster.fleet, hashlib.sha256(secret).digest(), index)
        self.roster, self.vector = roster, vector

    def answer(self, message: bytes) -> bytes:  # type: ignore[override]
        stage, number = message[4], struct.unpack_from("<I", message, 8)[0]
        pair = ref.Pair(self.secret, self.server, self.fleet, number)
        assert message == ref.seal(pair, stage, self.index, number, message[16:-16])
        return super().answer(message, self.roster.keys.__getitem__, (NONE, NONE))

    def update(self) -> np.ndarray:
        return self.vector

    def _advert(self, body: bytes) -> bytes:
        cohort = struct.unpack(f"<{len(body) // 2}H", body)[1:]
        assert self.index in cohort and list(cohort) == sorted(set(cohort))
        return super()._advert(body)

    def _shares(self, body: bytes) -> bytes:
        assert len(body) % 50 == 0 and len(body) // 50 >= self.agreeing
        for peer, key, tag in struct.iter_unpack("<H32s16s", body):
            assert self.pairs[peer].tag("advert", peer, self.index, key) == tag
        return super()._shares(body)

    def _masked(self, body: bytes) -> bytes:
        assert len(body) == 2 + 82 * body[0] and (body[0] >= self.agreeing if self.masks else not any(body))
        for peer, sealed, tag in struct.iter_unpack("<H64s16s", body[2:]):
            assert self.pairs[peer].tag("sharetag", peer, self.index, sealed) == tag
        return super()._masked(body)

    def _confirms(self, body: bytes) -> bytes:
        bits = body[2 + 2 * len(self.cohort) :]
        alive = {j for place, j in enumerate(self.cohort) if bits[place // 8] >> place % 8 & 1}
        assert body.startswith(ref.cohort_body(self.cohort)) and self.index in alive
        assert len(alive) >= struct.unpack_from("<H", self.task, 62)[0]
        assert len(alive & set(self.given)) >= self.agreeing
        return super()._confirms(body)

    def _opened(self, body: bytes) -> bytes:
        entries = list(struct.iter_unpack("<H16s", body))
        assert len({peer for peer, _ in entries}) == len(entries) >= self.agreeing
        for peer, tag in entries:
            assert peer in self.alive and self.pairs[peer].tag("confirm", peer, self.index, self.survivors) == tag
        return super()._opened(body)


@dataclass
class Fleet:
    """Boards with random identities and updates, and their server."""

    roster: Roster
    server: bytes
    members: list[PythonMember]
    key: Ed25519PrivateKey

    @classmethod
    def drawn(cls, count: int, seed: int, parameters: int = PARAMETERS) -> Fleet:
        drawn, numbers = random.Random(seed), np.random.default_rng(seed)
        key = Ed25519PrivateKey.from_private_bytes(drawn.randbytes(32))
        server, secrets = drawn.randbytes(32), [drawn.randbytes(32) for _ in range(count)]
        keys = tuple(map(public_of, secrets))
        roster = Roster(7, "band", public_of(server), public_bytes(key), keys)
        vectors = numbers.integers(-2000, 2001, (count, parameters), dtype=np.int32)
        members = [PythonMember(i, secret, roster, vectors[i]) for i, secret in enumerate(secrets)]
        return cls(roster, server, members, key)

    def site(self, folder: Path) -> Site:
        """The fleet's folder."""
        site = Site.create(folder, "band", self.key)
        site.path.write_bytes(self.roster.pack(self.key))
        (folder / "server.key").write_bytes(self.server)
        return site

    def task(self, least: int, colluders: int = 0, masks: bool = True, sigma: int = 400) -> Task:
        count = len(self.members[0].vector)
        digest = hashlib.sha256(b"global").digest()
        cohort = min(max(len(self.members), 2), MAX_COHORT)
        return Task(7, bytes(8), digest, count, 1, 0, 0, 2000, sigma, least, cohort, colluders, masks)

    def round(self, task: Task, number: int = 1) -> Round:
        return Round(task, number, self.roster, self.server, range(len(self.members)))

    def run(self, made: Round, lost: dict[Stage, Sequence[int]], drawn: random.Random | None = None) -> None:
        """Runs a round. lost: boards that stop answering, by the stage from which they do; drawn: shuffles replies."""
        gone: set[int] = set()
        while not made.done:
            gone |= set(lost.get(made.stage, ()))
            boards = [index for index in made.waiting if index not in gone]
            if drawn:
                drawn.shuffle(boards)
            for index in boards:
                message = made.message(index)
                assert message
                made.receive(index, self.members[index].answer(message))
            made.close_stage()

    def sum(self, indices: Sequence[int]) -> np.ndarray:
        return np.sum([self.members[index].vector.astype(np.int64) for index in indices], axis=0)


def learned(task: Task, elm: bytes, adapter: bytes, samples: Samples, index: int) -> NDArray[np.int16]:
    """The vector [n] of a board after its training for a task."""
    return fleet_training(elm, adapter, samples, board_seed(task.seed, index), task.epochs, task.learning_rate)
