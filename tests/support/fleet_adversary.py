"""A malicious server with colluding boards, against honest boards in C.

The adversary has the server's secret and all secrets of its colluders. It can send any message to any board at any
time; only the parts that an honest board authenticates must come from that board. Honest boards are members in C, which
accept or refuse messages; their replies are kept with the state after them, so that every continuation can be tried.
`Adversary.recover` computes sums only from the bytes that the adversary received.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import fleet_reference as ref
import numpy as np
from fleet_member import Member
from numpy.typing import NDArray

from edgelora.core.twin.fleet_update import Policy
from edgelora.core.twin.native_fleet import FleetError

FLEET = b"a fleet!"
Vector = NDArray[np.int64]
Included = frozenset[int]
Rule = Callable[[ref.Task, int], tuple[int, int]]


class TooFew(Exception):
    """The server has too few shares to open a secret."""


def clone(member: Member) -> Member:
    """A copy of a member; between a reply and the next message a member holds no pointer."""
    other = Member.__new__(Member)
    other._memory = member._memory[:]
    other._reply = None
    return other


@dataclass(frozen=True)
class Secrets:
    """An honest board's random values in a round, which only tests know, to identify shares."""

    e: bytes
    b: bytes
    c: bytes
    z: bytes

    @classmethod
    def drawn(cls, seed: bytes) -> Secrets:
        drawn = ref.stream(seed, 192)
        return cls(*(drawn[i : i + 32] for i in range(32, 160, 32)))


@dataclass
class Board:
    """An honest board: its member after the last message, and what it has sent."""

    index: int
    member: Member
    before: Member  # before PEERS
    drawn: Secrets
    masters: tuple[NDArray[np.int16], NDArray[np.int16]]
    task: ref.Task
    threshold: int
    mask_key: bytes = b""
    adverts: dict[int, bytes] = field(default_factory=dict)  # tags, by receiver
    listed: Included = frozenset()  # boards in its PEERS, to which it deals shares
    shares: dict[int, bytes] = field(default_factory=dict)  # sealed, by receiver


def rule(task: ref.Task, count: int) -> tuple[int, int]:
    """t and u as in SPEC.md."""
    t, u = ref.thresholds(task.pack(), count)
    return t, u


@dataclass(frozen=True)
class Taken:
    """After INPUT: the member, the boards in its INPUT, the masked vector."""

    member: Member
    included: Included
    masked: NDArray[np.uint32]


@dataclass(frozen=True)
class Confirmed:
    """After SURVIVORS: the member and its tags, by receiver."""

    member: Member
    tags: Mapping[int, bytes]


class Adversary:
    """One round with `count` boards, of which the last `colluders` work for the server.

    A member only depends on its own messages, so `taken`, `confirmed` and `opened` continue from the state after the
    previous stage, independent of other attempts, and are cached. others: boards that get a task of their own.
    thresholds: t and u, if the members have been changed.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        colluders: int,
        task: ref.Task,
        policy: Policy | None = None,
        number: int = 7,
        others: Mapping[int, ref.Task] | None = None,
        thresholds: Rule = rule,
    ) -> None:
        drawn = [random.Random(f"{seed} {i}") for i in range(count)]  # a board draws the same values in any cohort
        self.task, self.number, self.cohort = task, number, list(range(count))
        self.honest, self.colluders = self.cohort[: count - colluders], self.cohort[count - colluders :]
        self.server = random.Random(f"{seed} server").randbytes(32)
        self.secrets = [rng.randbytes(32) for rng in drawn]
        self.keys = [ref.public_of(secret) for secret in self.secrets]
        self.calls = 0
        self._taken: dict[tuple[int, Included], Taken | None] = {}
        self._confirmed: dict[tuple[int, Included, Included], Confirmed | None] = {}
        self._opened: dict[tuple[int, Included, Included, Included], dict[int, str] | None] = {}
        self._raw: dict[tuple[int, int, str], bytes] = {}
        seeds = [rng.randbytes(32) for rng in drawn]
        self._thresholds, tasks = thresholds, dict.fromkeys(self.honest, task) | dict(others or {})
        self.boards = {i: self._board(drawn[i], i, seeds[i], policy, tasks[i]) for i in self.honest}
        self.mates = {i: Secrets.drawn(seeds[i]) for i in self.colluders}
        self.context = ref.context_of(task.pack(), number, self.cohort)

    def _board(self, rng: random.Random, index: int, seed: bytes, policy: Policy | None, task: ref.Task) -> Board:
        same = self.secrets[index], ref.public_of(self.server), FLEET, seed, index
        member = Member(*same, roster=self.task.roster, policy=policy)
        member.finish()
        n = self.task.parameters
        masters = [np.array([rng.randint(-200, 200) for _ in range(n)], np.int16) for _ in range(2)]
        threshold = self._thresholds(task, len(self.cohort))[0]
        return Board(index, member, member, Secrets.drawn(seed), (masters[0], masters[1]), task, threshold)

    # ---- to one board

    def seal(self, index: int, stage: int, body: bytes, number: int | None = None) -> bytes:
        number = self.number if number is None else number
        pair = ref.Pair(self.server, self.keys[index], FLEET, number)
        message: bytes = ref.seal(pair, stage, index, number, body)
        return message

    def send(self, member: Member, index: int, stage: int, body: bytes) -> tuple[Member, bytes] | None:
        """A copy of the member after that message, and the body of its reply; None if it refuses."""
        self.calls += 1
        after = clone(member)
        board = self.boards[index]
        try:
            reply = after.answer(self.seal(index, stage, body), self.keys.__getitem__, masters=lambda: board.masters)
        except FleetError:
            return None
        assert reply is not None
        return after, reply[16:-16]

    def step(self, index: int, stage: int, body: bytes) -> bytes | None:
        """Sends to a board's own member, which advances if it accepts; the body of its reply, or None."""
        board = self.boards[index]
        got = self.send(board.member, index, stage, body)
        if got is None:
            return None
        board.member = got[0]
        return got[1]

    # ---- until the server has the shares: all boards see one cohort

    def begin(self, listed: Mapping[int, Included] | None = None) -> bool:
        """Sends TASK, COHORT and PEERS; lists all others in PEERS, or those `listed`. False if a board refuses."""
        return all(self.cohort_to(i, self.cohort) for i in self.honest) and all(
            self.peers(i, (listed or {}).get(i, self.others(i))) for i in self.honest
        )

    def cohort_to(self, index: int, cohort: list[int]) -> bool:
        """Sends TASK and COHORT; whether the board accepts both."""
        board = self.boards[index]
        if self.step(index, ref.TASK, board.task.pack()) is None:
            return False
        reply = self.step(index, ref.COHORT, ref.cohort_body(cohort))
        if reply is None:
            return False
        others = [j for j in cohort if j != index]
        board.before, board.mask_key = board.member, reply[:32]
        board.adverts = {j: reply[32 + 16 * place :][:16] for place, j in enumerate(others)}
        return True

    def others(self, index: int) -> Included:
        return frozenset(self.cohort) - {index}

    def near(self, index: int) -> Included:
        """The boards whose shares INPUT can show to a board."""
        return frozenset(j for j in self.boards[index].listed if j in self.mates or index in self.boards[j].listed)

    def mask_key(self, index: int) -> bytes:
        return self.boards[index].mask_key if index in self.boards else ref.public_of(self.mates[index].e)

    def peers_body(self, index: int, listed: Included, other: Mapping[int, bytes] | None = None) -> bytes:
        """The body of PEERS. other: replaces tags of adverts."""
        entries = [struct.pack("<H", j) + self.mask_key(j) + ((other or {}).get(j) or self.advert(j, index))
                   for j in sorted(listed)]  # fmt: skip
        return b"".join(entries)

    def advert(self, source: int, target: int) -> bytes:
        """The tag of an entry in PEERS."""
        if source in self.boards:
            return self.boards[source].adverts[target]
        return self._lasting_pair(source, target).tag("advert", source, target, self.mask_key(source))

    def peers(self, index: int, listed: Included) -> bool:
        reply = self.step(index, ref.PEERS, self.peers_body(index, listed))
        if reply is None:
            return False
        board = self.boards[index]
        board.listed = listed
        board.shares = {j: reply[80 * n : 80 * n + 80] for n, j in enumerate(sorted(listed))}
        return True

    # ---- one board's choices

    def _lasting_pair(self, mate: int, index: int) -> ref.Pair:
        """The shared keys of a colluder and an honest board before PEERS."""
        pair = ref.Pair(self.secrets[mate], self.keys[index], FLEET, self.number)
        pair.bind(self.context)
        return pair

    def _mate_pair(self, mate: int, index: int) -> ref.Pair:
        """The shared keys of a colluder and an honest board, bound to this round's mask keys."""
        pair = self._lasting_pair(mate, index)
        pair.bind(ref.x25519(self.mates[mate].e, self.boards[index].mask_key))
        return pair

    def part(self, source: int, target: int) -> bytes:
        """An entry of INPUT. A colluder deals shares of zeros."""
        if source in self.boards:
            return self.boards[source].shares[target]
        return bytes(64) + self._mate_pair(source, target).tag("sharetag", source, target, bytes(64))

    def input_body(self, index: int, included: Included, other: Mapping[int, bytes] | None = None) -> bytes:
        """The body of INPUT. other: replaces entries."""
        parts = [struct.pack("<H", j) + ((other or {}).get(j) or self.part(j, index)) for j in sorted(included)]
        return struct.pack("<H", len(parts)) + b"".join(parts)

    def taken(self, index: int, included: Included) -> Taken | None:
        """Sends INPUT with these boards; None if the board refuses."""
        key = index, included
        if key not in self._taken:
            got = self.send(self.boards[index].member, index, ref.INPUT, self.input_body(index, included))
            self._taken[key] = got and Taken(got[0], included, np.frombuffer(got[1], "<u4"))
        return self._taken[key]

    def bits(self, survivors: Iterable[int]) -> bytes:
        value = sum(1 << self.cohort.index(j) for j in survivors)
        return value.to_bytes((len(self.cohort) + 7) // 8, "little")

    def confirmed(self, index: int, included: Included, survivors: Included) -> Confirmed | None:
        """Sends INPUT, then SURVIVORS; None if the board refuses one of them."""
        key = index, included, survivors
        if key not in self._confirmed:
            taken = self.taken(index, included)
            body = ref.cohort_body(self.cohort) + self.bits(survivors)
            got = taken and self.send(taken.member, index, ref.SURVIVORS, body)
            self._confirmed[key] = got and Confirmed(got[0], self._tags(index, included & survivors, got[1]))
        return self._confirmed[key]

    def _tags(self, index: int, alive: Included, reply: bytes) -> dict[int, bytes]:
        assert len(reply) == 16 * len(alive)
        return {j: reply[16 * n : 16 * n + 16] for n, j in enumerate(sorted(alive))}

    def mate_tag(self, mate: int, index: int, survivors: Included) -> bytes:
        """A colluder's confirmation of any survivors."""
        digest = hashlib.sha512(b"edgelora survivors" + self.context + self.bits(survivors)).digest()[:32]
        return self._mate_pair(mate, index).tag("confirm", mate, index, digest)

    def opened(
        self, index: int, included: Included, survivors: Included, tags: Mapping[int, bytes]
    ) -> dict[int, str] | None:
        """Sends UNMASK with these tags (and the colluders'); by board, whether a share of its b or its e is opened."""
        mates = [j for j in included & survivors if j in self.mates]
        key = index, included, survivors, frozenset([*tags, *mates])
        if key not in self._opened:
            confirmed = self.confirmed(index, included, survivors)
            all_tags = dict(tags) | {j: self.mate_tag(j, index, survivors) for j in mates}
            body = b"".join(struct.pack("<H", j) + all_tags[j] for j in sorted(all_tags))
            got = confirmed and self.send(confirmed.member, index, ref.UNMASK, body)
            self._opened[key] = got and self._shares_of(index, included, got[1])
        return self._opened[key]

    def _shares_of(self, index: int, included: Included, reply: bytes) -> dict[int, str]:
        """What a reply opens, found by comparison with the true shares."""
        pair = ref.Pair(self.server, self.keys[index], FLEET, self.number)
        text = ref.xor(reply, ref.stream(pair.pad("open", index, ref.SERVER)[:32], len(reply)))
        assert len(text) == 32 * len(included)
        out = {}
        for n, owner in enumerate(sorted(included)):
            if owner in self.mates:
                continue
            part = text[32 * n : 32 * n + 32]
            whole = self.share(owner, index)
            out[owner] = {whole[:32]: "b", whole[32:]: "e"}[part]
            self._raw[index, owner, out[owner]] = part
        return out

    def share(self, owner: int, holder: int) -> bytes:
        """The share of a board's b and e that another board holds."""
        board = self.boards[owner]
        x = self._x(owner, holder)
        whole: bytes = ref.share(board.drawn.c, board.threshold, x, board.drawn.b + board.drawn.e)
        return whole

    def _x(self, owner: int, holder: int) -> int:
        return sorted(self.others(owner)).index(holder) + 1

    # ---- results

    def truth(self, indices: Iterable[int]) -> Vector:
        """The true sum of the boards' updates, with their noise."""
        total = np.zeros(self.task.parameters, np.int64)
        for i in indices:
            board = self.boards[i]
            noise = ref.Noise(board.drawn.z).draws(self.task.sigma, self.task.parameters)
            total += np.array(ref.clipped(*board.masters, self.task.clip)) + np.array(noise)
        return total

    def _joined(self, owner: int, kind: str, holders: Iterable[int]) -> bytes:
        """A board's b or e, from the shares that holders opened and those that colluders hold."""
        board = self.boards[owner]
        parts = {self._x(owner, h): self._raw[h, owner, kind] for h in holders}
        for mate in board.listed & set(self.colluders):
            pair = self._mate_pair(mate, owner)
            whole = ref.xor(board.shares[mate][:64], pair.pad("share", owner, mate))
            parts[self._x(owner, mate)] = whole[:32] if kind == "b" else whole[32:]
        if len(parts) < board.threshold:
            raise TooFew(f"{len(parts)} shares of {owner}'s {kind}, of {board.threshold}")
        secret: bytes = ref.joined(dict(list(parts.items())[: board.threshold]))
        return secret

    def recover(
        self, targets: Included, included: Mapping[int, Included], opened: Mapping[int, Mapping[int, str]]
    ) -> Vector:
        """The sum of the targets' updates, only from the adversary's data: vectors, opened and colluders' shares."""
        holders = {
            kind: {w: [h for h in opened if opened[h].get(w) == kind] for w in self.honest} for kind in ("b", "e")
        }
        n, total = self.task.parameters, np.zeros(self.task.parameters, np.uint32)
        for i in targets:
            taken = self.taken(i, included[i])
            assert taken
            total = total + taken.masked - ref.mask(self._joined(i, "b", holders["b"][i]), self.number, n)
            for j in included[i]:
                if j in targets and i in included[j]:
                    continue
                common = self._common(i, j, holders["e"])
                stream = ref.mask(ref.mac(b"edgelora mask 1", common)[:32], self.number, n)
                total = total - stream if i < j else total + stream
        return total.astype(np.int32).astype(np.int64)

    def _common(self, i: int, j: int, holders: Mapping[int, list[int]]) -> bytes:
        if j in self.mates:
            return ref.x25519(self.mates[j].e, self.mask_key(i))
        for own, other in ((j, i), (i, j)):
            mates = len(self.boards[own].listed & set(self.colluders))
            if len(holders[own]) + mates >= self.boards[own].threshold:
                return ref.x25519(self._joined(own, "e", holders[own]), self.mask_key(other))
        raise TooFew(f"neither e of {i} nor of {j}")
