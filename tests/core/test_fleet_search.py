"""Every strategy of a malicious server with up to two colluders against up to six boards; the members in C withstand.

`fleet_search` lists the strategies. Of n boards with c colluders, no sum of fewer than u + 1 - c honest boards can be
computed, so none of fewer than m - c, and no single board's update; a sum of u + 1 - c can be, and is found. The effect
of t and u is tested with members that take both from the task: only those that `holds` accepts are safe. Every strategy
found is verified by computing the sum.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import replace

import fleet_library
import fleet_reference as ref
import fresh
import pytest
from fleet_adversary import FLEET, Adversary, Rule, rule
from fleet_member import Member
from fleet_search import Search, exposed, opened_by, rank, unknown_masks

from edgelora.core.twin import native_fleet
from edgelora.core.twin.native_fleet import FleetError

MOST = 7 if fresh.FULL else 6
ALL = [(n, c, m) for n in range(2, MOST + 1) for c in range(min(4 if fresh.FULL else 3, n)) for m in range(1, n + 1)]


def task_of(n: int, c: int, m: int) -> ref.Task:
    return ref.Task(parameters=2, sigma=10, least=m, cohort=n, colluders=c)


CASES = [case for case in ALL if rule(task_of(*case), case[0])[1] < case[0]]
LARGE = [(n, c, rule(task_of(n, c, 1), n)[1] + 1) for n in (8, 9) for c in range(4)] if fresh.FULL else []


def begun(n: int, c: int, task: ref.Task, seed: int = fresh.SEED, thresholds: Rule = rule) -> Adversary:
    """All boards are honest except the last c."""
    made = Adversary(seed, n, c, task, thresholds=thresholds)
    assert made.begin()
    return made


def smallest(a: Adversary, least: int = 1) -> int:
    """The number of boards in the smallest sum that can be computed, at least `least`; 0 if there is none."""
    for size in range(least, len(a.honest) + 1):
        found = Search(a, size + 1).hole()
        if found:
            return len(found.targets)
    return 0


@pytest.mark.parametrize(("n", "c", "m"), CASES + LARGE)
def test_no_sum_is_of_too_few(n: int, c: int, m: int) -> None:
    """No single update, and no sum of fewer than m - c boards; the smallest sum has as many boards as honest ones must
    confirm."""
    for seed in fresh.fresh_seeds(1)[:2]:
        made = begun(n, c, task_of(n, c, m), seed)
        fewest = rule(made.task, n)[1] + 1 - c
        assert fewest >= max(2, m - c)
        search = Search(made, fewest)
        assert search.hole() is None and search.tried
        assert smallest(made, fewest) == fewest


@pytest.mark.parametrize(("n", "c", "m"), [case for case in ALL if case not in CASES])
def test_cohorts_that_could_not_agree(n: int, c: int, m: int) -> None:
    """Boards refuse a cohort smaller than the number that must agree."""
    a = Adversary(fresh.SEED, n, c, task_of(n, c, m))
    for i in a.honest:
        assert a.step(i, ref.TASK, a.task.pack()) is not None
        with pytest.raises(FleetError, match="cohort"):
            a.boards[i].member.receive(a.seal(i, ref.COHORT, ref.cohort_body(a.cohort)))


def test_every_cohort_that_could_not_agree() -> None:
    """Up to 65 boards, with any number of colluders."""
    a = Adversary(fresh.SEED, 65, 0, task_of(65, 0, 1))
    member = a.boards[0].member
    for number, (n, c) in enumerate(itertools.product(range(2, 66), range(66)), 1):
        task, cohort = task_of(n, c, min(n, 3)), ref.cohort_body(a.cohort[:n])
        assert member.receive(a.seal(0, ref.TASK, task.pack(), number))
        member.reply()
        if rule(task, n)[1] < n:
            assert member.receive(a.seal(0, ref.COHORT, cohort, number))
        else:
            with pytest.raises(FleetError, match="cohort"):
                member.receive(a.seal(0, ref.COHORT, cohort, number))


def test_one_sum_a_round() -> None:
    """Two sums that can be opened at once would be disjoint, but each has more than half of the honest boards."""
    for n, c in itertools.product(range(2, 66), range(64)):
        t, u = rule(task_of(n, c, 1), n)
        assert u > n - 1 or (2 * (u + 1 - c) > n - c and holds(n, c, t, u))


@pytest.mark.parametrize(("n", "c"), sorted({case[:2] for case in CASES if case[0] < 6}))
def test_one_sum_in_every_state(n: int, c: int) -> None:
    """With full lists, at most one sum of the sent vectors is free of unknown masks, for any combination of views."""
    a, sums = begun(n, c, task_of(n, c, 1)), set()
    search = Search(a, 0)
    for views in search._all_views():
        matrix = unknown_masks(a, a.honest, search.full, opened_by(a, search.full, views))
        sums.add(len(a.honest) - rank(matrix))
    assert sums <= {0, 1} and 1 in sums


# ---- what the search skips


@pytest.mark.parametrize(("n", "c"), [(4, 0), (5, 0), (5, 1)])
def test_shorter_lists_of_peers(n: int, c: int) -> None:
    """PEERS that omit boards, in every way up to renaming boards, expose no more than full lists."""
    task = task_of(n, c, 1)
    t, u = rule(task, n)
    honest, seen, tried = range(n - c), set(), 0
    lists = {
        i: [frozenset(s) for size in range(u, n) for s in itertools.combinations([j for j in range(n) if j != i], size)]
        for i in honest
    }
    for chosen in itertools.product(*lists.values()):
        if chosen in seen:
            continue
        for names in itertools.permutations(honest):
            of = [*names, *range(n - c, n)]
            same = {of[i]: frozenset(of[j] for j in one) for i, one in enumerate(chosen)}
            seen.add(tuple(same[i] for i in honest))
        made = Adversary(fresh.SEED, n, c, task)
        assert made.begin(dict(zip(honest, chosen, strict=True)))
        assert Search(made, u + 1 - c).hole() is None
        tried += 1
    assert tried > 10


def enumerated(a: Adversary, need: int) -> bool:
    """The same question answered by brute force and algebra: all lists and all views, for every board."""
    lists = {}
    for i in a.honest:
        near = sorted(a.near(i))
        subsets = (frozenset(s) for size in range(len(near) + 1) for s in itertools.combinations(near, size))
        lists[i] = [one for one in subsets if a.taken(i, one)]
    views = [frozenset(s) for size in range(1, len(a.cohort) + 1) for s in itertools.combinations(a.cohort, size)]
    for chosen in itertools.product(*lists.values()):
        included = dict(zip(lists, chosen, strict=True))
        shown = [[None, *(view for view in views if a.confirmed(i, included[i], view))] for i in a.honest]
        for seen in itertools.product(*shown):
            opened = opened_by(a, included, {i: view for i, view in zip(a.honest, seen, strict=True) if view})
            for size in range(1, min(need, len(a.honest) + 1)):
                if any(exposed(a, frozenset(t), included, opened) for t in itertools.combinations(a.honest, size)):
                    return True
    return False


# Boards, colluders, t, u: some are safe and some are not.
SMALL = [(2, 0, 1, 1), (3, 0, 2, 2), (3, 0, 1, 1), (3, 0, 2, 1), (3, 1, 2, 2), (3, 1, 1, 2), (4, 1, 3, 3), (4, 2, 3, 3),
         (4, 2, 2, 3), (4, 2, 3, 2)]  # fmt: skip


@pytest.mark.parametrize(("n", "c", "t", "u"), SMALL + ([(4, 1, 2, 2), (4, 1, 3, 2)] if fresh.FULL else []))
def test_search_and_enumeration_agree(
    n: int, c: int, t: int, u: int, with_thresholds: Callable[..., Adversary]
) -> None:
    """The search skips nothing that matters: brute force finds a strategy exactly when the search does."""
    for need, seed in itertools.product((2, 3), fresh.fresh_seeds(1)[:2]):
        made = with_thresholds(n, c, t, u, seed)
        assert (Search(made, need).hole() is not None) == enumerated(made, need), (need, seed)


# ---- the search finds weaknesses


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Members compiled from changed sources, once for each set of changes."""
    made: dict[tuple[tuple[str, str], ...], object] = {}

    def use(*changes: tuple[str, str]) -> object:
        if changes not in made:
            made[changes] = fleet_library.changed(tmp_path_factory.mktemp("changed"), dict(changes))
        return made[changes]

    return use


Without = Callable[..., None]


@pytest.fixture
def without(changed, monkeypatch: pytest.MonkeyPatch) -> Without:  # type: ignore[no-untyped-def]
    def use(*changes: tuple[str, str]) -> None:
        library = changed(*changes)
        monkeypatch.setattr(native_fleet, "library", lambda: library)

    return use


T, U = "m->threshold = (uint16_t)half;", "m->agreeing = (uint16_t)agreeing;"


@pytest.fixture
def with_thresholds(without: Without) -> Callable[..., Adversary]:
    """Adversaries with n boards, c of them colluders, whose members take t and u from the task."""
    without((T, "m->threshold = m->task.learning_rate;"), (U, "m->agreeing = m->task.epochs;"))

    def make(n: int, c: int, t: int, u: int, seed: int = fresh.SEED) -> Adversary:
        task = replace(task_of(n, 0, 1), learning_rate=t, epochs=u)
        return begun(n, c, task, seed, lambda task, count: (task.learning_rate, task.epochs))

    return make


def holds(n: int, c: int, t: int, u: int) -> bool:
    """Whether colluders alone open nothing, and boards that confirm need one whose mask is in a silent board's vector.

    Otherwise there are u - c honest boards whose masks are in a silent board's vector, and others that call them lost:
    enough to agree and to open a secret.
    """
    return t > c and u + max(u + 1, t) > n - 1 + c


@pytest.mark.parametrize(("n", "c"), [(n, c) for n in range(2, 7 if fresh.FULL else 6) for c in range(min(3, n - 1))])
def test_only_certain_thresholds_are_safe(n: int, c: int, with_thresholds: Callable[..., Adversary]) -> None:
    """With any other t and u, a single board's update is found; these are found to be safe."""
    for t, u in itertools.product(range(1, n), range(max(1, c), n)):
        made = with_thresholds(n, c, t, u)
        if not holds(n, c, t, u):
            assert smallest(made) == 1, (t, u)
        elif 2 * u >= n - 1 + c:
            assert Search(made, u + 1 - c).hole() is None, (t, u)
            assert t > u or smallest(made, u + 1 - c) == u + 1 - c, (t, u)
        else:
            assert Search(made, 2).hole() is None, (t, u)


def test_ignoring_confirmations_gives_a_smaller_sum(without: Without) -> None:
    """Boards with different survivors open secrets for each other: a sum of two instead of three."""
    without(("if (size / CONFIRM_BYTES < m->agreeing)", "if (size / CONFIRM_BYTES < 0 * m->agreeing)"))
    for n, c in ((4, 0), (5, 1)) if fresh.FULL else ((4, 0),):
        assert smallest(begun(n, c, task_of(n, c, 1))) == 2


def test_ignoring_entries_of_input_exposes_an_update(without: Without) -> None:
    without(("if (count < m->agreeing)", "if (count < 1)"))
    assert smallest(begun(5, 1, task_of(5, 1, 4))) == 1


def test_trusting_claimed_survivors_gives_a_smaller_sum(without: Without) -> None:
    """If u ignored m and only the claimed survivors were counted, the server could invent those beyond u."""
    without(("half + 1 > m->task.least ? half : m->task.least - 1u", "half"))
    made = begun(6, 0, task_of(6, 0, 6), thresholds=lambda task, n: rule(replace(task, least=1), n))
    assert smallest(made) == 4


@pytest.mark.parametrize(("n", "c", "found"), [(4, 0, 2), (5, 0, 3), (5, 1, 2), (6, 0, 3), (6, 1, 3)])
def test_one_colluder_more_exposes_no_update(n: int, c: int, found: int) -> None:
    """One more than in the task reduces the smallest sum by one board, but exposes no single update; two more do."""
    task = task_of(n, c, 1)
    m = rule(task, n)[1] + 1
    assert found == m - c - 1
    assert smallest(begun(n, c + 1, task)) == found
    if (n - 1 + c) % 2:
        assert smallest(begun(n, c + 2, task)) == 1


# ---- boards in different rounds


def across(own: Adversary, other: Adversary) -> set[str]:
    """Stages at which a board accepts what another board authenticated in another round with the same keys."""
    taken = set()
    everybody = frozenset(own.cohort)
    for i, j in itertools.permutations(own.honest, 2):
        full = own.near(i)
        body = own.peers_body(i, own.others(i), {j: other.boards[j].adverts[i]})
        taken |= {"PEERS"} if takes(own, own.boards[i].before, i, ref.PEERS, body) else set()
        body = own.input_body(i, full, {j: other.boards[j].shares[i]})
        taken |= {"INPUT"} if takes(own, own.boards[i].member, i, ref.INPUT, body) else set()
        confirmed = own.confirmed(i, full, everybody)
        foreign = other.confirmed(j, other.near(j), frozenset(other.cohort))
        right = {h: own.confirmed(h, own.near(h), everybody) for h in full}
        assert confirmed and foreign
        tags = {h: got.tags[i] for h, got in right.items() if got} | {j: foreign.tags[i]}
        body = b"".join(struct.pack("<H", h) + tags[h] for h in sorted(tags))
        taken |= {"UNMASK"} if takes(own, confirmed.member, i, ref.UNMASK, body) else set()
    return taken


def takes(a: Adversary, member: Member, index: int, stage: int, body: bytes) -> bool:
    return a.send(member, index, stage, body) is not None


def made(count: int = 4, number: int = 7, **task: int) -> Adversary:
    a = Adversary(fresh.SEED, count, 0, replace(task_of(5, 0, 3), **task), number=number)
    assert a.begin()
    return a


OTHERS = {"number": 8, "sigma": 11, "least": 2, "colluders": 1, "cohort": 4, "seed": 1, "count": 5}


@pytest.mark.parametrize("what", OTHERS)
def test_parts_of_another_round_are_refused(what: str) -> None:
    """Parts from a round with another number, task or cohort are refused, even if boards have the same keys in both."""
    assert not across(made(), made(**{what: OTHERS[what]}))
    assert across(made(), made()) == {"PEERS", "INPUT", "UNMASK"}


CONTEXT = ("    edgelora_bind(peer->pair, m->context);\n", "")


def test_parts_across_are_taken_without_context(without: Without) -> None:
    without(CONTEXT)
    assert across(made(), made(sigma=11)) >= {"PEERS", "INPUT"}


def stricter_for_one() -> Adversary:
    """The server's task for board 0 requires all six to agree, its task for the others a majority."""
    return Adversary(fresh.SEED, 6, 0, task_of(6, 0, 1), others={0: task_of(6, 0, 6)})


def test_a_stricter_task_for_one_board() -> None:
    assert not stricter_for_one().begin()


def test_a_stricter_task_for_one_board_without_context(without: Without) -> None:
    """Its update appears in a sum with four others instead of all: the server abandons it once it has its vector."""
    without(CONTEXT)
    made = stricter_for_one()
    assert made.begin()
    found = Search(made, 6, of=0).hole()
    assert found and len(found.targets) == 5 and 0 not in found.views


def test_restarts() -> None:
    """After a reset a board only takes part in a round in which it had sent nothing but READY, with new secrets."""
    a = begun(4, 0, task_of(4, 0, 2))
    same = a.secrets[0], ref.public_of(a.server), FLEET
    cohort, keys = ref.cohort_body(a.cohort), set()
    for seed, last in ((b"1" * 32, 0), (b"2" * 32, a.number - 1)):  # the last round in flash, before it took part
        member = Member(*same, seed, 0, round=last, roster=1)
        member.finish()
        got = a.send(member, 0, ref.TASK, a.task.pack())
        assert got
        advert = a.send(got[0], 0, ref.COHORT, cohort)
        assert advert
        keys.add(advert[1][:32])
    assert len(keys | {a.boards[0].mask_key}) == 3
    back = Member(*same, b"3" * 32, 0, round=a.number, roster=1)
    back.finish()
    everybody = frozenset(a.cohort)
    bodies = {
        ref.TASK: a.task.pack(),
        ref.COHORT: cohort,
        ref.PEERS: a.peers_body(0, a.others(0)),
        ref.INPUT: a.input_body(0, a.near(0)),
        ref.SURVIVORS: cohort + a.bits(everybody),
        ref.UNMASK: b"",
    }
    for stage, body in bodies.items():
        with pytest.raises(FleetError, match="past"):
            back.receive(a.seal(0, stage, body))
