"""Boards of a fleet in Python, written by SPEC.md, section 17, for tests of the server and of the boards' C."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.fleet import Roster, Round, Site, Stage, Task
from edgelora.fleet.messages import Channel, Graph, agree, graph, hmac512, mask, pair_seed, public_of
from edgelora.formats import public_bytes

PARAMETERS = 632


def product(a: int, b: int) -> int:
    """In GF(2^8), by shifting: slow and plain."""
    out = 0
    while b:
        out ^= a if b & 1 else 0
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return out


PRODUCT = [bytes(product(a, b) for b in range(256)) for a in range(256)]


def shared(secret: bytes, threshold: int, count: int, drawn: random.Random) -> list[bytes]:
    """Shares of a secret at x = 1 to count, by Horner's rule."""
    coefficients = [drawn.randbytes(len(secret)) for _ in range(threshold - 1)] + [secret]
    shares = []
    for x in range(1, count + 1):
        value = bytes(len(secret))
        for level in coefficients:
            value = xored(value.translate(PRODUCT[x]), level)
        shares.append(value)
    return shares


def xored(a: bytes, b: bytes) -> bytes:
    assert len(a) == len(b)
    return (int.from_bytes(a) ^ int.from_bytes(b)).to_bytes(len(a))


@dataclass
class PythonMember:
    """A board that answers, without noise. vector: int32[n], its update."""

    index: int
    secret: bytes
    roster: Roster
    vector: np.ndarray
    channels: dict[int, Channel] = field(default_factory=dict)

    def answer(self, message: bytes) -> bytes:
        stage, number = Stage(message[4]), struct.unpack_from("<I", message, 8)[0]
        server = Channel.between(self.secret, self.roster.server, self.roster.fleet, number)
        body = server.unwrap(message, stage, self.index)
        assert body is not None
        steps: dict[Stage, Callable[[bytes], bytes]] = {
            Stage.TASK: self.ready,
            Stage.COHORT: self.advert,
            Stage.PEERS: self.shares,
            Stage.INPUT: self.masked,
            Stage.UNMASK: lambda body: server.opened(self.index, self.opened(body)),
        }
        self.number = number
        return server.wrap(Stage(stage + 1), self.index, steps[stage](body))

    def ready(self, body: bytes) -> bytes:
        self.task = Task.unpack(body)
        return b""

    def advert(self, body: bytes) -> bytes:
        (count,) = struct.unpack_from("<H", body)
        cohort = struct.unpack(f"<{count}H", body[2:])
        assert self.index in cohort and list(cohort) == sorted(set(cohort))
        self.graph: Graph = graph(self.task, self.number, cohort)
        self.neighbours = self.graph.neighbours[self.index]
        drawn = random.Random(self.secret + struct.pack("<I", self.number))
        self.mask_secret, self.seed, self.drawn = drawn.randbytes(32), drawn.randbytes(32), drawn
        public = public_of(self.mask_secret)
        for peer in self.neighbours:
            self.channels[peer] = Channel.between(self.secret, self.roster.keys[peer], self.roster.fleet, self.number)
        return public + b"".join(hmac512(self.pad(b"advert", peer), public)[:16] for peer in self.neighbours)

    def pad(self, label: bytes, peer: int, inward: bool = False) -> bytes:
        ends = (peer, self.index) if inward else (self.index, peer)
        return self.channels[peer].pad(label, *ends)

    def shares(self, body: bytes) -> bytes:
        assert len(body) % 50 == 0 and len(body) // 50 >= self.graph.threshold
        self.keys = {}
        for peer, key, tag in struct.iter_unpack("<H32s16s", body):
            assert hmac512(self.pad(b"advert", peer, True), key)[:16] == tag
            self.keys[peer] = key
            bound = hmac512(self.channels[peer].prk, agree(self.mask_secret, key))
            self.channels[peer] = replace(self.channels[peer], prk=bound)
        count, threshold = len(self.neighbours), self.graph.threshold
        seeds = shared(self.seed, threshold, count, self.drawn)
        keys = shared(self.mask_secret, threshold, count, self.drawn)
        out = b""
        for peer in self.keys:
            place = self.neighbours.index(peer)
            sealed = xored(seeds[place] + keys[place], self.pad(b"share", peer))
            out += sealed + hmac512(self.pad(b"sharetag", peer), sealed)[:16]
        return out

    def masked(self, body: bytes) -> bytes:
        total = self.vector.astype("<i4").view("<u4").copy()
        if not self.task.masks:
            assert body == bytes(2)
            return total.tobytes()
        assert len(body) == 2 + 82 * body[0]
        self.held = {}
        for peer, sealed, tag in struct.iter_unpack("<H64s16s", body[2:]):
            assert hmac512(self.pad(b"sharetag", peer, True), sealed)[:16] == tag
            self.held[peer] = xored(sealed, self.pad(b"share", peer, True))
        assert len(self.held) >= self.graph.threshold
        total += mask(self.seed, self.number, len(total))
        for peer in self.held:
            pair = mask(pair_seed(self.mask_secret, self.keys[peer]), self.number, len(total))
            total += pair if self.index < peer else -pair
        return total.tobytes()

    def opened(self, body: bytes) -> bytes:
        survivors, alive = struct.unpack_from("<H", body)[0], body[2:]
        assert survivors >= self.task.least and len(alive) == len(self.held)
        assert sum(alive) >= self.graph.threshold
        return b"".join(held[:32] if here else held[32:] for here, held in zip(alive, self.held.values(), strict=True))


@dataclass
class Fleet:
    """So many boards with drawn identities and updates, and their server."""

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

    def task(self, neighbours: int, threshold: int, least: int, masks: bool = True, sigma: int = 400) -> Task:
        count = len(self.members[0].vector)
        digest = hashlib.sha256(b"global").digest()
        return Task(7, bytes(8), digest, count, 1, 0, 0, 2000, sigma, least, neighbours, threshold, masks)

    def round(self, task: Task, number: int = 1) -> Round:
        return Round(task, number, self.roster, self.server, range(len(self.members)))

    def run(self, made: Round, lost: dict[Stage, Sequence[int]], drawn: random.Random | None = None) -> None:
        """Goes through a round; lost: who falls silent from which of the server's messages on; drawn: mixes replies."""
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
