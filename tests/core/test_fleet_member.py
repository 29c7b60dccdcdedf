"""A fleet's member in C: equal to the reference of SPEC.md byte for byte, sums with dropouts, and refused messages."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace

import fleet_reference as ref
import fresh
import numpy as np
import pytest
from fleet_member import Member, Next
from numpy.typing import NDArray

from edgelora.core.twin.fleet_update import Policy, round_cost
from edgelora.core.twin.native_fleet import FleetError

FLEET = b"a fleet!"
STAGES = (ref.TASK, ref.COHORT, ref.PEERS, ref.INPUT, ref.SURVIVORS, ref.UNMASK)
Masters = NDArray[np.int16]


@dataclass
class Board:
    """A board of a random fleet: the member in C, and the reference with the same secrets."""

    member: Member
    other: ref.Member
    before: Masters
    after: Masters


class Fleet:
    """`count` boards with random keys, for one round of a task."""

    def __init__(self, rng: random.Random, count: int, task: ref.Task, number: int = 7) -> None:
        self.rng, self.task, self.number = rng, task, number
        self.secrets = [rng.randbytes(32) for _ in range(count)]
        server = rng.randbytes(32)
        keys = [ref.public_of(secret) for secret in self.secrets]
        self.server = ref.Server(server, keys, FLEET, number, task)
        self.boards = {index: self._board(index, ref.public_of(server)) for index in range(count)}

    def _board(self, index: int, server: bytes) -> Board:
        seed, n = self.rng.randbytes(32), self.task.parameters
        spread = self.rng.choice((3, 200, 32767))
        before, after = (np.array([self.rng.randint(-spread, spread) for _ in range(n)], np.int16) for _ in range(2))
        same = self.secrets[index], server, FLEET, seed, index
        return Board(Member(*same, roster=self.task.roster), ref.Member(*same), before, after)

    def key(self, index: int) -> bytes:
        key: bytes = self.server.keys[index]
        return key

    def answer(self, index: int, message: bytes) -> bytes:
        board = self.boards[index]
        reply = board.member.answer(message, self.key, masters=lambda: (board.before, board.after))
        assert reply is not None
        return reply

    def stage(self, stage: int, indices: list[int], check: bool = True) -> None:
        """One stage with these boards; each reply must equal the reference's."""
        messages = {index: self.server.message(stage, index) for index in indices}
        for index, message in messages.items():
            reply = self.answer(index, message)
            if check:
                board = self.boards[index]
                assert reply == board.other.answer(message, self.key, (board.before, board.after)), (stage, index)
            self.server.take(index, reply)

    def expected(self) -> NDArray[np.int64]:
        """The sum of the survivors' updates, by the reference."""
        total = np.zeros(self.task.parameters, np.int64)
        for index in self.server.replies[ref.MASKED]:
            board = self.boards[index]
            noise = ref.Noise(board.other.z).draws(self.task.sigma, self.task.parameters)
            total += np.array(ref.clipped(board.before, board.after, self.task.clip)) + np.array(noise)
        return total


def drawn_round(seed: int) -> None:
    """Boards drop out before every stage; the others answer like the reference, and the sum is exact."""
    rng = random.Random(seed)
    colluders = rng.choice((0, 0, 1, 2))
    task = ref.Task(
        roster=rng.randint(0, 2**32 - 1), base=rng.randbytes(8), adapter=rng.randbytes(32),
        parameters=rng.randint(1, 300), epochs=rng.randint(1, 9),
        seed=rng.randint(0, 2**32 - 1), clip=rng.choice((1, 2000, 65535)),
        sigma=rng.choice((0, 1, 37, 400, 65535)), least=2, cohort=rng.randint(24, 65), colluders=colluders,
    )  # fmt: skip
    count = rng.choice((2 + colluders, 5, rng.randint(10, 24)))
    fleet = Fleet(rng, count, task, number=rng.randint(1, 2**32 - 1))
    left = list(range(count))
    fewest = ref.thresholds(task.pack(), count)[1] + 1
    for stage in STAGES:
        if len(left) > max(count - 3, fewest) and rng.random() < 0.7:
            left.remove(rng.choice(left))
        fleet.stage(stage, left)
    assert np.array_equal(fleet.server.total(), fleet.expected())


def test_equal_to_the_reference() -> None:
    for seed in fresh.fresh_seeds(12):
        try:
            drawn_round(seed)
        except Exception:
            print(f"seed {seed}")
            raise


def test_without_masks() -> None:
    fleet = Fleet(random.Random(fresh.SEED), 3, ref.Task(masks=0, sigma=30, cohort=0))
    for stage in (ref.TASK, ref.INPUT):
        fleet.stage(stage, [0, 1, 2])
    assert np.array_equal(fleet.server.total(), fleet.expected())
    assert fleet.boards[0].member.next is Next.OVER


# ---- what is refused


NAMES = "MEMBER ORDER MESSAGE ROUND ROSTER TASK POLICY COHORT REVOKED PEER FEW KEY SIZE BUDGET"
STATUS = {name: -value for value, name in enumerate(NAMES.split(), 1)}


class Suspect:
    """One board of a fleet, which gets invalid messages at every stage before the right one."""

    def __init__(self, fleet: Fleet, index: int) -> None:
        self.fleet, self.index, self.member = fleet, index, fleet.boards[index].member
        self.refused = 0

    def refuses(self, message: bytes, status: str = "") -> None:
        """Asserts a refusal with that status, or any; the state must not change."""
        state = self.member.state
        with pytest.raises(FleetError) as caught:
            self.member.receive(message)
        assert not status or caught.value.status == STATUS[status], (status, str(caught.value))
        assert self.member.state == state
        self.refused += 1

    def sealed(self, stage: int, body: bytes, number: int | None = None) -> bytes:
        """A message that the server's key seals, valid or not."""
        server = self.fleet.server
        number = server.number if number is None else number
        pair = ref.Pair(server.secret, server.keys[self.index], FLEET, number)
        message: bytes = ref.seal(pair, stage, self.index, number, body)
        return message


def mutants(rng: random.Random, message: bytes, count: int) -> list[bytes]:
    """Messages with flipped bits, inserted bytes, cut ends, swapped parts."""
    out = []
    for n in range(count):
        data = bytearray(message)
        at = n % len(data) if n < len(data) else rng.randrange(len(data))
        kind = n % 5
        if kind < 2:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 20))
        else:
            data[at : at + 16] = rng.randbytes(len(data[at : at + 16]))
        if data != message:
            out.append(bytes(data))
    return out


def wrong_tasks(task: ref.Task) -> list[tuple[bytes, str]]:
    values = {
        "parameters": (0, 65537), "epochs": (0,), "clip": (0, 65536), "least": (0, task.cohort + 1),
        "cohort": (0, 1, 66), "masks": (2, 256),
    }  # fmt: skip
    wrong = [(replace(task, **{name: value}).pack(), "TASK") for name, many in values.items() for value in many]
    body = task.pack()
    return [
        *wrong,
        (body[:-1], "TASK"),
        (body + b"\0", "TASK"),
        (body[:-1] + b"\1", "TASK"),
        (replace(task, roster=9).pack(), "ROSTER"),
    ]


def wrong_cohorts(right: bytes, index: int, least: int) -> list[tuple[bytes, str]]:
    cohort = list(struct.unpack(f"<{len(right) // 2}H", right))[1:]
    others = [i for i in cohort if i != index]
    lists = [
        others,
        cohort[::-1],
        [*cohort, cohort[-1]],
        [*cohort, ref.SERVER],
        [index],
        sorted([index, *others[: least - 2]]),
    ]
    bodies = [struct.pack(f"<{len(c) + 1}H", len(c), *c) for c in lists]
    return [(body, "COHORT") for body in [*bodies, right[:-2], right + b"\0\0", right[:1], b""]]


def damaged(rng: random.Random, part: bytes, first: int) -> bytes:
    bad = bytearray(part)
    bad[rng.randrange(first, len(part))] ^= 1 << rng.randrange(8)
    return bytes(bad)


def wrong_entries(rng: random.Random, parts: list[bytes], fewest: int, aliens: list[bytes]) -> list[tuple[bytes, str]]:
    """Invalid lists of entries: out of order, repeated, swapped, changed, of a board outside the cohort, too few."""
    a, b, *rest = parts
    wrong = [[b, a, *rest], [a, *parts], [*parts, parts[-1]], [a[:2] + b[2:], b[:2] + a[2:], *rest]]
    wrong += [[alien, *parts] for alien in aliens] + [
        sorted([alien, *parts], key=lambda p: p[:2][::-1]) for alien in aliens
    ]
    wrong += [[*parts[:at], damaged(rng, part, 2), *parts[at + 1 :]] for at, part in enumerate(parts) for _ in "abc"]
    return [*((b"".join(one), "PEER") for one in wrong), (b"".join(parts[: fewest - 1]), "FEW")]


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def wrong_peers(rng: random.Random, suspect: Suspect, right: bytes) -> list[tuple[bytes, str]]:
    server = suspect.fleet.server
    own = struct.pack("<H", suspect.index) + server.replies[ref.ADVERT][suspect.index][:48]
    aliens = [own, struct.pack("<H", 200) + right[2:50]]
    wrong = wrong_entries(rng, cut(right, 50), server.agreeing, aliens)
    return [*wrong, (right[:-1], "PEER"), (right + bytes(50), "PEER"), (b"", "FEW")]


def wrong_inputs(rng: random.Random, suspect: Suspect, right: bytes) -> list[tuple[bytes, str]]:
    server, index = suspect.fleet.server, suspect.index
    own = server.replies[ref.SHARES][index][:80]  # sealed by this board, for the other direction
    aliens = [struct.pack("<H", index) + own, struct.pack("<H", 200) + own]
    parts = cut(right[2:], 82)
    wrong = wrong_entries(rng, parts, server.agreeing, aliens)
    wrong.append((parts[0][:2] + own + b"".join(parts[1:]), "PEER"))
    counted = [(struct.pack("<H", len(body) // 82) + body, status) for body, status in wrong]
    return [*counted, (right[:2], "MESSAGE"), (right[:-1], "MESSAGE"), (b"", "MESSAGE"),
            (struct.pack("<H", len(parts) + 1) + right[2:], "MESSAGE")]  # fmt: skip


def wrong_survivors(suspect: Suspect, right: bytes) -> list[tuple[bytes, str]]:
    """Invalid bodies of SURVIVORS: another cohort, too few survivors, or without the board itself."""
    server, index = suspect.fleet.server, suspect.index
    count = len(server.cohort)
    head, bits = right[: 2 + 2 * count], int.from_bytes(right[2 + 2 * count :], "little")
    size = (count + 7) // 8
    own = server.cohort.index(index)
    places = [place for place in range(count) if place != own][: server.agreeing - 1]
    few = [bits & ~(1 << own), 0, 1 << own | sum(1 << place for place in places)]
    other = [server.cohort[1:], server.cohort[:-1]]
    shown = [ref.cohort_body(cohort) + bits.to_bytes(size, "little")[: (len(cohort) + 7) // 8] for cohort in other]
    stray = head + (bits | 1 << count).to_bytes(size, "little")
    return [*((head + value.to_bytes(size, "little"), "FEW") for value in few),
            *((body, "COHORT") for body in shown if not body[-1] >> (count - 1) % 8),
            (stray, "MESSAGE"), (right[:-1], "MESSAGE"), (right + b"\0", "MESSAGE"), (b"", "MESSAGE")]  # fmt: skip


def wrong_confirms(rng: random.Random, suspect: Suspect, right: bytes) -> list[tuple[bytes, str]]:
    server, index = suspect.fleet.server, suspect.index
    aliens = [struct.pack("<H", j) + bytes(16) for j in (index, 200)]
    wrong = wrong_entries(rng, cut(right, 18), server.agreeing, aliens)
    return [*wrong, (b"", "FEW"), (right[:-1], "MESSAGE"), (right + b"\1", "MESSAGE")]


def authentic_lies(rng: random.Random, suspect: Suspect, stage: int) -> list[tuple[bytes, str]]:
    """Bodies sealed by the server's key that break a rule, with the status of the refusal."""
    fleet, index = suspect.fleet, suspect.index
    right = fleet.server.body(stage, index)
    if stage == ref.TASK:
        return wrong_tasks(fleet.task)
    if stage == ref.COHORT:
        return wrong_cohorts(right, index, fleet.task.least)
    if stage == ref.PEERS:
        return wrong_peers(rng, suspect, right)
    if stage == ref.INPUT:
        return wrong_inputs(rng, suspect, right)
    if stage == ref.SURVIVORS:
        return wrong_survivors(suspect, right)
    return wrong_confirms(rng, suspect, right)


def attacked_round(seed: int) -> int:
    """A whole round of 21 boards, with one under attack at every stage; how many messages it refused."""
    rng = random.Random(seed)
    task = ref.Task(parameters=20, sigma=10, least=8, cohort=21, colluders=1)
    fleet = Fleet(rng, 21, task)
    suspect = Suspect(fleet, rng.randrange(21))
    sent: dict[int, bytes] = {}
    for stage in STAGES:
        everybody = list(fleet.boards)
        if stage == ref.TASK:
            suspect.member.finish()
        lies = authentic_lies(rng, suspect, stage)
        right = fleet.server.message(stage, suspect.index)
        if stage > ref.TASK:  # replayed, from another stage, or from another round
            last = sent[stage - 2]
            assert not suspect.member.receive(last)
            for before in list(sent.values())[:-1]:
                suspect.refuses(before)
            for wrong in set(range(1, 14)) - {stage, 1}:
                suspect.refuses(suspect.sealed(wrong, right[16:-16]), "ORDER" if wrong % 2 else "MESSAGE")
            suspect.refuses(suspect.sealed(stage, right[16:-16], fleet.number + 1), "ROUND")
            suspect.refuses(suspect.sealed(ref.TASK, replace(task, seed=1).pack()), "ROUND")
        for i in set(everybody) - {suspect.index}:  # for another board
            suspect.refuses(fleet.server.message(stage, i), "MESSAGE")
        for body, status in lies:
            suspect.refuses(suspect.sealed(stage, body), status)
        for bad in mutants(rng, right, 400 if stage < ref.INPUT else 150):
            suspect.refuses(bad, "MESSAGE")
        sent[stage] = right
        fleet.stage(stage, everybody)
        if stage < ref.UNMASK:  # its own reply, reflected
            own = fleet.server.replies[stage + 1][suspect.index]
            suspect.refuses(ref.seal(fleet.server.pairs[suspect.index], stage + 1, suspect.index, fleet.number, own))
    assert np.array_equal(fleet.server.total(), fleet.expected())
    assert not suspect.member.receive(sent[ref.UNMASK])
    suspect.refuses(suspect.sealed(ref.SURVIVORS, sent[ref.SURVIVORS][16:-16][:-1] + b"\x1e"), "ORDER")
    return suspect.refused


def test_refuses_what_is_not_right() -> None:
    """At least 1,000 forged, replayed, reordered, cut, mutated messages are refused; the valid one after them is
    accepted."""
    for seed in fresh.fresh_seeds(1):
        assert attacked_round(seed) >= 1000


@pytest.mark.parametrize(
    ("policy", "task"),
    [
        (Policy(least_survivors=9), ref.Task(least=8)),
        (Policy(least_z=100), ref.Task(sigma=333, least=9, clip=1000)),  # sigma sqrt(m) = 999
        (Policy(least_z=65535), ref.Task(sigma=65535, least=65, clip=65535)),
        (Policy(least_z=100, colluders=2), ref.Task(sigma=377, least=9, clip=1000, colluders=2)),  # seven: 997
        (Policy(colluders=9), ref.Task(least=9, colluders=9)),  # possibly none of the survivors is honest
        (Policy(least_z=100), ref.Task(sigma=999, least=9, masks=0)),  # without masks the noise of one board counts
        (Policy(colluders=3, least_survivors=4), ref.Task(least=9, colluders=2)),
        (Policy(least_cohort=20), ref.Task(least=9, cohort=19)),
        (Policy(masks=True), ref.Task(masks=0)),
    ],
)
def test_policy(policy: Policy, task: ref.Task) -> None:
    """A task slightly less private than the policy is refused; one that just meets it is accepted."""
    fleet = Fleet(random.Random(fresh.SEED), 2, task)
    same = fleet.secrets[0], ref.public_of(fleet.server.secret), FLEET, bytes(32), 0
    member = Member(*same, roster=task.roster, policy=policy)
    member.finish()
    with pytest.raises(FleetError, match="policy"):
        member.receive(fleet.server.message(ref.TASK, 0))
    enough = replace(
        policy, least_survivors=min(policy.least_survivors, task.least), least_z=min(policy.least_z, 99), masks=False,
        colluders=min(policy.colluders, 2), least_cohort=min(policy.least_cohort, task.cohort),
    )  # fmt: skip
    member = Member(*same, roster=task.roster, policy=enough)
    member.finish()
    assert member.receive(fleet.server.message(ref.TASK, 0))


def test_revoked_neighbour() -> None:
    """The message is discarded; a cohort without the revoked board is accepted."""
    task = ref.Task(least=2)
    fleet = Fleet(random.Random(fresh.SEED), 4, task)
    fleet.stage(ref.TASK, [0, 1, 2, 3])
    member = fleet.boards[0].member
    assert member.receive(fleet.server.message(ref.COHORT, 0))
    member.key(0, fleet.key(1))
    with pytest.raises(FleetError, match="revoked"):
        member.key(1, bytes(32))
    assert (member.stage, member.next, member.neighbours()) == (ref.TASK, Next.MESSAGE, [])
    assert not member.receive(fleet.server.message(ref.TASK, 0))
    del fleet.server.replies[ref.READY][2]
    for stage in STAGES[1:]:
        fleet.stage(stage, [0, 1, 3])
    assert np.array_equal(fleet.server.total(), fleet.expected())


LOW_ORDER = (1).to_bytes(32, "little")


def dishonest_tags(fleet: Fleet, index: int) -> bytes:
    """The tags of a board that shows LOW_ORDER as its mask key."""
    other = fleet.boards[index].other
    return b"".join(other.pairs[j].tag("advert", index, j, LOW_ORDER) for j in other.others)


def test_worthless_keys() -> None:
    """A low-order key of the server or a neighbour, or a low-order mask key: the board leaves the round and names its
    owner."""
    rng = random.Random(fresh.SEED)
    member = Member(rng.randbytes(32), LOW_ORDER, FLEET, rng.randbytes(32), 0)
    with pytest.raises(FleetError, match="a key is invalid"):
        member.work()
    assert (member.culprit, member.next) == (0xFFFF, Next.OVER)

    fleet = Fleet(rng, 5, ref.Task(roster=3))
    fleet.stage(ref.TASK, [0, 1, 2, 3, 4])
    message = fleet.server.message(ref.COHORT, 0)
    member = fleet.boards[0].member
    with pytest.raises(FleetError, match="a key is invalid"):
        member.answer(message, lambda index: LOW_ORDER if index == 2 else fleet.key(index))
    assert (member.culprit, member.next) == (2, Next.OVER)
    with pytest.raises(FleetError, match="turn"):
        member.reply()

    fleet.stage(ref.COHORT, [1, 2, 3, 4])
    fleet.server.replies[ref.ADVERT][2] = LOW_ORDER + dishonest_tags(fleet, 2)
    member = fleet.boards[1].member
    with pytest.raises(FleetError, match="a key is invalid"):
        member.answer(fleet.server.message(ref.PEERS, 1), fleet.key)
    assert (member.culprit, member.next) == (2, Next.OVER)
    later = ref.Server(fleet.server.secret, fleet.server.keys, FLEET, fleet.number + 1, fleet.task)
    assert member.answer(later.message(ref.TASK, 1), fleet.key)  # the next round


def test_rounds_follow_each_other() -> None:
    """A later round's task is accepted at any stage, with new masks; a past one never, not even after a reset."""
    rng = random.Random(fresh.SEED)
    fleet = Fleet(rng, 4, ref.Task())
    adverts = []
    for stop in STAGES:
        for stage in STAGES:
            if stage <= stop:
                fleet.stage(stage, [0, 1, 2, 3])
        adverts += [fleet.server.replies.get(ref.ADVERT, {}).get(0, b"")[:32]]
        past = fleet.server.message(ref.TASK, 0)
        fleet.number += rng.randint(1, 9)
        fleet.server = ref.Server(fleet.server.secret, fleet.server.keys, FLEET, fleet.number, fleet.task)
        board = fleet.boards[0].member
        last = board.round
        if stop == ref.TASK:
            assert not board.receive(past)
        else:
            Suspect(fleet, 0).refuses(past, "ROUND")
    assert len(set(adverts)) == 6
    again = Member(fleet.secrets[0], ref.public_of(fleet.server.secret), FLEET, bytes(32), 0, round=last, roster=1)
    again.finish()
    with pytest.raises(FleetError, match="past"):
        again.receive(past)
    assert again.receive(fleet.server.message(ref.TASK, 0))


def test_a_round_knows_nothing_of_the_one_before() -> None:
    """A board that advertised in the last round but is away in this one does not affect the messages of others."""
    fleet = Fleet(random.Random(fresh.SEED), 6, ref.Task(parameters=4))
    everyone = list(fleet.boards)
    for stage in (ref.TASK, ref.COHORT, ref.PEERS, ref.INPUT):
        fleet.stage(stage, everyone)
    fleet.number += 1
    fleet.server = ref.Server(fleet.server.secret, fleet.server.keys, FLEET, fleet.number, fleet.task)
    fleet.stage(ref.TASK, everyone)
    for stage in STAGES[1:]:
        fleet.stage(stage, everyone[:-1])


def test_memory_of_fewer_neighbours() -> None:
    """A member with room for seven others refuses a task for nine boards; indices and seeds are checked."""
    fleet = Fleet(random.Random(fresh.SEED), 8, ref.Task(cohort=9))
    same = fleet.secrets[0], ref.public_of(fleet.server.secret), FLEET, bytes(32)
    small = Member(*same, 0, roster=1, neighbours=7)
    small.finish()
    with pytest.raises(FleetError, match="out of range"):
        small.receive(fleet.server.message(ref.TASK, 0))
    with pytest.raises(FleetError, match="begin"):
        Member(*same, 0xFFFF)


def test_refuses_the_next_stage_before_its_reply() -> None:
    """A message that comes while the board trains, waits for keys, works, or has a pending reply is out of order."""
    fleet = Fleet(random.Random(fresh.SEED), 4, ref.Task())
    suspect, server = Suspect(fleet, 0), fleet.server
    member, board = suspect.member, fleet.boards[0]
    member.finish()
    for stage in STAGES[:-1]:
        message = server.message(stage, 0)
        fleet.stage(stage, [1, 2, 3])
        reply = board.other.answer(message, fleet.key, (board.before, board.after))
        server.take(0, reply)
        early = server.message(stage + 2, 0)
        assert member.receive(message)
        suspect.refuses(early, "ORDER")
        if member.next is Next.KEYS:
            for place, index in enumerate(member.neighbours()):
                member.key(place, fleet.key(index))
                suspect.refuses(early, "ORDER")
        if stage == ref.INPUT:
            member.update(board.before, board.after)
        while member.next is Next.WORK:
            suspect.refuses(early, "ORDER")
            member.work()
        suspect.refuses(early, "ORDER")
        assert member.reply() == reply
    assert member.receive(early)


def test_secrets_are_gone_once_they_were_used() -> None:
    """Mask keys and seeds are erased after INPUT; keys of pairs and neighbours' shares after UNMASK."""
    task = ref.Task(parameters=8, sigma=2, cohort=9)
    fleet = Fleet(random.Random(fresh.SEED), 9, task)
    member, other = fleet.boards[0].member, fleet.boards[0].other
    everyone = list(fleet.boards)
    for stage in (ref.TASK, ref.COHORT, ref.PEERS):
        fleet.stage(stage, everyone)
    seeds = [*other.seeds.values()]
    assert len(seeds) == 8 and all(key in member.state for key in (other.e, other.b, other.c, other.z, *seeds))
    fleet.stage(ref.INPUT, everyone)
    assert not any(key in member.state for key in (other.e, other.b, other.c, other.z, *seeds))
    shares = [part[at : at + 32] for part in other.given.values() for at in (0, 32)]
    assert len(shares) == 16 and all(part in member.state for part in shares)
    fleet.stage(ref.SURVIVORS, everyone)
    fleet.stage(ref.UNMASK, everyone)
    assert not any(part in member.state for part in shares)
    assert not any(pair.prk in member.state for pair in other.pairs.values())


def test_budget() -> None:
    """Rounds add up to the budget; a round is counted as soon as an update is ready to be sent."""
    rng = random.Random(fresh.SEED)
    task = ref.Task(sigma=2000, clip=1000, least=2)  # 1 / z^2 = 1 / 8
    fleet = Fleet(rng, 3, task)
    same = fleet.secrets[0], ref.public_of(fleet.server.secret), FLEET, rng.randbytes(32), 0
    policy = Policy(budget=375_000)
    member = fleet.boards[0].member = Member(*same, roster=1, policy=policy)
    for number, spent in ((7, 125_000), (8, 250_000), (9, 375_000)):
        fleet.number = number
        fleet.server = ref.Server(fleet.server.secret, fleet.server.keys, FLEET, number, task)
        before = member.spent
        for stage in STAGES[: 6 if number == 7 else 3]:
            fleet.stage(stage, [0, 1, 2], check=False)
            assert member.spent == before, stage  # no update is sent yet, so nothing is spent
            if stage == ref.PEERS:
                break
        fleet.stage(ref.INPUT, [0, 1, 2], check=False)
        assert member.spent == spent
    later = ref.Server(fleet.server.secret, fleet.server.keys, FLEET, 10, task)
    with pytest.raises(FleetError, match="budget"):
        member.receive(later.message(ref.TASK, 0))
    cheaper = ref.Server(fleet.server.secret, fleet.server.keys, FLEET, 10, replace(task, sigma=20000, clip=1))
    with pytest.raises(FleetError, match="budget"):  # even a millionth is too much
        member.receive(cheaper.message(ref.TASK, 0))
    for spent in (0, 250_001):  # as after a reset
        again = Member(*same, roster=1, round=9, spent=spent, policy=policy)
        again.finish()
        if spent:
            with pytest.raises(FleetError, match="budget"):
                again.receive(later.message(ref.TASK, 0))
        else:
            assert again.receive(later.message(ref.TASK, 0))


def test_cost() -> None:
    """ceil(10^6 clip^2 / (sigma^2 honest)), for random and extreme values."""
    drawn = random.Random(fresh.SEED)
    ends = [(1, 1, 1), (65535, 65535, 65535), (65535, 1, 1), (1, 65535, 65535)]
    for clip, sigma, honest in [*ends, *(tuple(drawn.randint(1, 65535) for _ in "abc") for _ in range(500))]:
        assert round_cost(clip, sigma, honest) == -(-(10**6) * clip**2 // (sigma**2 * honest))
    assert round_cost(1, 0, 9) == round_cost(65535, 9, 0) == 2**64 - 1


def test_colluders_add_no_noise() -> None:
    """The board counts the noise of the task's least survivors minus the colluders of its own policy."""
    for masks, colluders, cost in ((1, 0, 250_000), (1, 3, 10**6), (0, 3, 10**6)):
        task = ref.Task(sigma=10, clip=10, least=4, masks=masks, colluders=3)
        fleet = Fleet(random.Random(fresh.SEED), 8, task)
        same = fleet.secrets[0], ref.public_of(fleet.server.secret), FLEET, bytes(32), 0
        policy = Policy(colluders=colluders)
        member = fleet.boards[0].member = Member(*same, roster=1, spent=5, policy=policy)
        for stage in (ref.TASK, ref.COHORT, ref.PEERS, ref.INPUT) if masks else (ref.TASK, ref.INPUT):
            fleet.stage(stage, list(range(8)), check=False)
        assert member.spent == cost + 5


def test_byte_5_is_zero() -> None:
    fleet = Fleet(random.Random(fresh.SEED), 2, ref.Task())
    suspect = Suspect(fleet, 0)
    suspect.member.finish()
    message = bytearray(fleet.server.message(ref.TASK, 0)[:-16])
    message[5] = 1
    tag = fleet.server.pairs[0].tag("msg", ref.SERVER, 0, bytes(message))
    suspect.refuses(bytes(message) + tag, "MESSAGE")
