"""Attacks of a malicious server on boards with a sensible policy, one by one, and how the members in C react."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import fleet_library
import fleet_reference as ref
import fresh
import numpy as np
import pytest
from fleet_adversary import FLEET, Adversary, Included, TooFew, Vector, rule
from fleet_member import Member
from fleet_search import opened_by

from edgelora.core.twin import native_fleet
from edgelora.core.twin.fleet_update import Policy, round_cost
from edgelora.core.twin.native_fleet import FleetError

MATES, LEAST, COUNT = 3, 25, 40
POLICY = Policy(
    least_survivors=LEAST, least_z=100, least_cohort=30, most_cohort=65, colluders=MATES, survivors_percent=50,
    masks=True,
)  # fmt: skip
TASK = ref.Task(parameters=8, clip=1000, sigma=400, least=LEAST, cohort=65, colluders=MATES)
NAMES = (
    "MEMBER", "ORDER", "MESSAGE", "ROUND", "ROSTER", "TASK", "POLICY", "COHORT", "REVOKED", "PEER", "FEW", "KEY",
    "SIZE", "BUDGET",
)  # fmt: skip


def made(count: int, colluders: int = 0, task: ref.Task = TASK, policy: Policy = POLICY) -> Adversary:
    return Adversary(fresh.SEED, count, colluders, task, policy)


def refusal(a: Adversary, index: int, stage: int, body: bytes, number: int | None = None) -> str:
    """The name of a board's refusal, which must not change its state; "" if it accepts the message."""
    member, masters = a.boards[index].member, a.boards[index].masters
    state = member.state
    try:
        member.answer(a.seal(index, stage, body, number), a.keys.__getitem__, masters=lambda: masters)
    except FleetError as error:
        assert member.state == state
        return NAMES[-error.status - 1]
    return ""


def asked(a: Adversary, index: int) -> None:
    assert not refusal(a, index, ref.TASK, a.task.pack())


def computes(
    a: Adversary, targets: Included, included: Mapping[int, Included], opened: Mapping[int, Mapping[int, str]]
) -> bool:
    """Whether the server can compute the sum of these boards' updates from the messages it received."""
    try:
        return bool(np.array_equal(a.recover(targets, included, opened), a.truth(targets)))
    except TooFew:
        return False


def test_cohorts_outside_the_policy() -> None:
    a = made(65, policy=replace(POLICY, most_cohort=40))
    asked(a, 0)
    for count, status in ((29, "COHORT"), (41, "COHORT"), (30, "")):
        assert refusal(a, 0, ref.COHORT, ref.cohort_body(list(range(count)))) == status


# ---- a cohort of its own for each board


def test_cohort_for_each_board() -> None:
    """Authenticated parts from boards in another cohort are refused, even if the policy allows each cohort."""
    a = made(60)
    victim, cohort = 0, list(range(30))
    for i in cohort:
        assert a.cohort_to(i, cohort if i == victim else sorted({0, i, *range(31, 60)}))
    board = a.boards[victim]
    for kept in (cohort[1:], cohort[1:28], cohort[1:2]):
        entries = [struct.pack("<H", j) + a.boards[j].mask_key + a.boards[j].adverts[victim] for j in kept]
        assert refusal(a, victim, ref.PEERS, b"".join(entries)) == "PEER"
    assert refusal(a, victim, ref.PEERS, b"") == "FEW"
    assert board.member.stage == ref.COHORT


# ---- thin lists, lies about survivors, boards that hear nothing more


@pytest.fixture(scope="module")
def shared() -> Adversary:
    """A cohort with three colluders, up to the stage where the server has all shares."""
    a = made(COUNT, MATES)
    assert a.begin()
    return a


def test_thin_lists() -> None:
    """One entry fewer than required is refused at each stage, colluders included."""
    a = made(COUNT, MATES)
    u = rule(TASK, COUNT)[1]
    victim, everybody = 0, frozenset(a.cohort)
    others = [*a.colluders, *(j for j in a.honest if j != victim)]
    for i in a.honest:
        assert a.cohort_to(i, a.cohort)
    assert refusal(a, victim, ref.PEERS, a.peers_body(victim, frozenset(others[: u - 1]))) == "FEW"
    assert all(a.peers(i, a.others(i)) for i in a.honest)
    assert a.taken(victim, frozenset(others[: u - 1])) is None
    thin, full = frozenset(others[:u]), a.others(victim)
    assert a.confirmed(victim, thin, everybody - {others[0]}) is None  # survivors that are not in its list
    assert a.confirmed(victim, full, frozenset([victim, *others[: u - 1]])) is None
    view, tags = frozenset([victim, *others[:u]]), {}
    for j in others[MATES:u]:
        confirmed = a.confirmed(j, a.others(j), view)
        assert confirmed
        tags[j] = confirmed.tags[victim]
    assert a.opened(victim, full, view, tags)
    tags.popitem()
    assert a.opened(victim, full, view, tags) is None


def test_two_views_of_survivors(shared: Adversary) -> None:
    """Of two groups with different survivors, at most one opens anything, for any sizes of the groups."""
    a, u = shared, rule(TASK, COUNT)[1]
    included, everybody = {i: a.others(i) for i in a.honest}, frozenset(a.cohort)
    for size in (1, u - MATES + 1, len(a.honest) // 2):
        told = {i: everybody if i < size else everybody - {0} for i in a.honest}
        opened = opened_by(a, included, told)
        assert bool(opened) == (size != len(a.honest) // 2)
        assert len({told[i] for i in opened}) <= 1
        assert not computes(a, frozenset([0]), included, opened)


def test_silent_board(shared: Adversary) -> None:
    """A board is cut off after sending its vector; the server calls all boards lost whose masks are in it."""
    a, u = shared, rule(TASK, COUNT)[1]
    victim, everybody = 0, frozenset(a.cohort)
    near = frozenset([*a.honest[1 : u - MATES + 1], *a.colluders])
    included = {i: a.others(i) for i in a.honest} | {victim: near}
    lost = near - frozenset(a.colluders)
    for away in (lost, frozenset(sorted(lost)[: COUNT - u - 2])):  # all, or as many as the others accept
        told = everybody - away
        opened = opened_by(a, included, {i: told for i in a.honest if i in told and i != victim})
        assert bool(opened) == (away != lost)
        assert not computes(a, frozenset([victim]), included, opened)


def test_what_can_be_opened(shared: Adversary) -> None:
    """The smallest sum that can be opened is of u + 1 - c boards, the honest minimum, if all are said to survive."""
    a, u = shared, rule(TASK, COUNT)[1]
    group = frozenset(a.honest[: u + 1 - MATES])
    view = group | frozenset(a.colluders)
    included = {i: view - {i} for i in group}
    opened = opened_by(a, included, dict.fromkeys(group, frozenset(a.cohort)))
    assert len(opened) == len(group) >= LEAST - MATES
    assert computes(a, group, included, opened)
    assert not computes(a, group - {0}, included, opened)


# ---- boards that are off


def test_cohorts_with_few_boards_online() -> None:
    """A cohort of 1,000 is refused; in a cohort of 65 with 8 boards on, too few take part, whatever survivors are
    claimed."""
    a = made(65)
    on = random.Random(fresh.SEED).sample(a.cohort, 8)
    asked(a, on[0])
    assert refusal(a, on[0], ref.COHORT, ref.cohort_body(list(range(1000)))) == "COHORT"
    for i in on:
        assert a.cohort_to(i, a.cohort) if i != on[0] else a.step(i, ref.COHORT, ref.cohort_body(a.cohort))
    body = b"".join(struct.pack("<H", j) + a.boards[j].mask_key + a.boards[j].adverts[on[0]] for j in sorted(on[1:]))
    assert refusal(a, on[0], ref.PEERS, body) == "FEW"


# ---- a cohort that the server chooses


def test_all_colluders_in_one_cohort() -> None:
    """The server puts all 30 colluders of 1,000 boards in one cohort: with a policy for 30, no single update is
    exposed."""
    policy, task = replace(POLICY, colluders=30, least_survivors=40), replace(TASK, colluders=30, least=40)
    for colluders in (3, 29):
        assert refusal(made(65, 30, policy=policy), 0, ref.TASK, replace(task, colluders=colluders).pack()) == "POLICY"
    a = made(65, 30, task, policy)
    assert a.begin()
    t, u = rule(task, 65)
    assert t > 30 and u + 1 - 30 == 19
    group, mates, victim = frozenset(a.honest[: u + 1 - 30]), frozenset(a.colluders), a.honest[-1]
    view = group | mates
    included = {i: view - {i} for i in group} | {victim: frozenset(a.honest[: u - 30]) | mates}
    told = dict.fromkeys(group, view | {victim})
    opened = opened_by(a, included, told)
    assert not computes(a, frozenset([victim]), included, {})  # 30 shares are too few
    assert not computes(a, frozenset([victim]), included, opened)
    included |= {i: (view | {victim}) - {i} for i in group}
    opened = opened_by(a, included, told)
    assert opened and not computes(a, frozenset([victim]), included, opened)  # the group's masks remain in it
    assert not computes(a, frozenset([0]), included, opened)


def test_colluder_shows_another_boards_mask_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mask would cancel that board's, but its shares must be sealed with a secret that it does not have."""
    assert copied() is None
    unbound = fleet_library.changed(tmp_path, {"    edgelora_bind(peer->pair, shared);\n": ""})
    monkeypatch.setattr(native_fleet, "library", lambda: unbound)
    got = copied()
    assert got is not None and np.array_equal(*got)


class Copier(Adversary):
    """Its colluder shows boards 1 and 2 the mask key of board 0, and knows only long-term secrets."""

    def mask_key(self, index: int) -> bytes:
        return self.boards[0].mask_key if index in self.mates else super().mask_key(index)

    def _mate_pair(self, mate: int, index: int) -> ref.Pair:
        return self._lasting_pair(mate, index)


def copied() -> tuple[Vector, Vector] | None:
    """The result of the attack: the sum of two of four boards as the server computes it, and the true sum; or None."""
    a = Copier(fresh.SEED, 4, 1, ref.Task(parameters=2, sigma=10, least=2, cohort=4, colluders=1))
    full, everybody = {i: a.others(i) for i in a.honest}, frozenset(a.cohort)
    assert a.begin()
    if any(a.taken(i, full[i]) is None for i in (1, 2)):
        return None
    opened = opened_by(a, full, dict.fromkeys(a.honest, everybody))
    total = np.zeros(a.task.parameters, np.uint32)
    for i in (1, 2):
        taken = a.taken(i, full[i])
        assert taken and {parts[i] for j, parts in opened.items() if j != i} == {"b"}
        secret = a._joined(i, "b", [j for j in opened if j != i])
        total = total + taken.masked - ref.mask(secret, a.number, a.task.parameters)
    return total.astype(np.int32).astype(np.int64), a.truth([1, 2])


# ---- the same task again and again


def test_same_task_in_400_rounds() -> None:
    """Averaging would remove the noise: the board counts the cost of rounds, across resets, and refuses after its
    budget."""
    task = replace(TASK, parameters=1, least=6, cohort=6, colluders=1)
    cost = round_cost(task.clip, task.sigma, task.least - 1)
    rounds = 12
    policy = Policy(least_survivors=6, colluders=1, masks=True, budget=rounds * cost + cost // 2)
    a = made(6, 0, task, policy)
    taken = spent = 0
    same = a.secrets[0], ref.public_of(a.server), FLEET
    for number in range(1, 401):
        seed = struct.pack("<I28x", number)
        board = Member(*same, seed, 0, round=number - 1, spent=spent, roster=1, policy=policy)  # as after a reset
        board.finish()
        state = board.state
        try:
            board.receive(a.seal(0, ref.TASK, task.pack(), number))
        except FleetError as error:
            assert (NAMES[-error.status - 1], board.state) == ("BUDGET", state)
            continue
        spent = whole_round(a, board, number)
        taken += 1
        assert spent == taken * cost
    assert taken == rounds


def whole_round(a: Adversary, board: Member, number: int) -> int:
    """Runs a round until MASKED, with fresh seeds for the other members; the board's spent budget."""
    server = ref.Server(a.server, a.keys, FLEET, number, a.task)
    members = {0: board}
    for i in a.honest[1:]:
        seed = struct.pack("<II24x", number, i)
        members[i] = Member(a.secrets[i], ref.public_of(a.server), FLEET, seed, i, roster=1)
    for stage in (ref.TASK, ref.COHORT, ref.PEERS, ref.INPUT):
        messages = {i: server.message(stage, i) for i in members}
        for i, member in members.items():
            if stage == ref.TASK and i == 0:
                server.take(i, board.reply())
                continue
            reply = member.answer(messages[i], a.keys.__getitem__, masters=lambda i=i: a.boards[i].masters)  # type: ignore[misc]
            assert reply
            server.take(i, reply)
    return board.spent
