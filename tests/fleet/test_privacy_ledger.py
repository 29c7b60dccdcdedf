"""A fleet's privacy ledger: its rows are immutable; who is charged and when; a missing ledger is an error."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import random
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import edgelora, result
from fleet_twins import Twins
from fresh import fresh_seeds, rounds

from edgelora.base.errors import InputError, MissingPackage
from edgelora.fleet import federation, privacy
from edgelora.fleet import ledger as ledgers
from edgelora.fleet.federation import Call, Federation, Total
from edgelora.fleet.ledger import Ledger, LedgerError
from edgelora.fleet.messages import Stage
from edgelora.fleet.plan import Plan
from edgelora.fleet.privacy import Epsilons, Spent
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg import RoundAborted
from edgelora.fleet.secagg_rounds import federate_site
from edgelora.fleet.simulate import write_page
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.twin.warm_start import fleet_vector

PLAN = Plan(boards=3, rounds=2, rank=1, least=2, colluders=0, seed=4, patience=1.0)
KEYS = {index: bytes([index + 1]) * 32 for index in range(3)}


@pytest.fixture(scope="module")
def base() -> Base:
    return fleet_base()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "new")
    made.begin()
    return made


def rows(ledger: Ledger, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(ledger.path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


# ---- rows


@pytest.mark.parametrize("table", ["boards", "attempts", "asked", "charged", "ended"])
def test_rows_stay(ledger: Ledger, table: str) -> None:
    number = ledger.attempt("one", 0, PLAN, KEYS)
    ledger.charge(number, KEYS, PLAN)
    ledger.end(number, True)
    before = rows(ledger, f"SELECT * FROM {table}")
    columns = [str(row[1]) for row in rows(ledger, f"PRAGMA table_info({table})")]
    db = sqlite3.connect(ledger.path)
    for statement in (
        f"DELETE FROM {table}",
        *(f"UPDATE {table} SET {column} = {column}" for column in columns),
        f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="stay as they are"):
            db.execute(statement)
    db.close()
    assert rows(ledger, f"SELECT * FROM {table}") == before != []


def test_rows_record_the_requested_attempt(ledger: Ledger) -> None:
    plan = replace(PLAN, noise=2.0, clip=1000, share=0.3, masks=False)
    number = ledger.attempt("one", 7, plan, {5: b"a" * 32, 9: b"b" * 32})
    [row] = rows(ledger, "SELECT id, federation, step, sigma, clip, least, masks, share FROM attempts")
    assert row == (number, "one", 7, plan.sigma, 1000, 2, 0, 0.3)
    assert ledger.asked("one") == [[5, 9]] and ledger.asked("other") == []
    assert ledger.spent() == Spent()
    ledger.charge(number, [9], None)
    ledger.charge(number, [9, 5], None)
    assert ledger.spent() == Spent(((plan.multiplier, 0.3, 1),), pytest.approx(1 / plan.alone**2))
    ledger.end(number, False)
    ledger.end(number, True)  # the recorded end stays
    assert ledger.spent().released == () and ledger.spent().server > 0
    assert rows(ledger, "SELECT begun > 1.7e9 FROM attempts") == [(1,)]
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600


def append(folder: Path, name: str, times: int) -> None:
    ledger = Ledger(folder)
    for step in range(times):
        number = ledger.attempt(name, step, PLAN, KEYS)
        ledger.charge(number, KEYS, PLAN)
        ledger.end(number, True)


def test_processes_add_rows_at_once(ledger: Ledger) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=append, args=(ledger.path.parent, name, 10)) for name in ("one", "other")]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert rows(ledger, "SELECT count(*), count(DISTINCT attempt) FROM charged") == [(60, 20)]
    assert ledger.spent().server == math.inf and ledger.spent().released == ((0.0, 1.0, 20),)


def test_a_full_disk_is_reported_as_such(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(*args: object, **settings: object) -> sqlite3.Connection:
        db = connect(*args, **settings)  # type: ignore[call-overload]
        db.execute("PRAGMA max_page_count = 1")
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(OSError, match="No space left") as caught:
        ledger.attempt("one", 0, PLAN, {index: b"%d" % index for index in range(10_000)})
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(ledger.path)
    monkeypatch.undo()
    assert ledger.asked("one") == [] and ledger.spent() == Spent()


@pytest.mark.parametrize("seed", fresh_seeds(1))
def test_a_damaged_file_is_reported_as_such(ledger: Ledger, seed: int) -> None:
    drawn = random.Random(seed)
    for step in range(20):
        number = ledger.attempt("one", step, replace(PLAN, noise=2.0, clip=1000, share=0.5), KEYS)
        ledger.charge(number, KEYS, None)
        ledger.end(number, True)
    whole, refused = ledger.path.read_bytes(), 0
    uses = (
        ledger.spent,
        lambda: ledger.asked("one"),
        lambda: ledger.check("one", 20),
        lambda: ledger.attempt("one", 20, PLAN, KEYS),
        lambda: ledger.charge(1, KEYS, None),
        ledger.begin,
    )
    for _ in range(rounds(150)):
        content = bytearray(whole[: drawn.randrange(len(whole))] if drawn.random() < 0.2 else whole)
        for _ in range(drawn.choice((1, 8, 64))):
            if content:
                content[drawn.randrange(len(content))] = drawn.randrange(256)
        ledger.path.write_bytes(content)
        for use in uses:
            try:
                use()
            except (LedgerError, OSError):
                refused += 1
    assert refused > 30
    ledger.path.write_bytes(whole)
    with pytest.raises(LedgerError, match=r"attempt 1 lacks boards \[7\]"):
        ledger.charge(1, [7], None)
    for change, match in (("sigma = -1", "sigma -1"), ("clip = 0", "clip 0"), ("share = 1.5", "share of 1.5")):
        db = sqlite3.connect(ledger.path)
        db.executescript(
            f"DROP TRIGGER attempts_UPDATE; PRAGMA ignore_check_constraints = ON; UPDATE attempts SET {change}"
        )
        db.close()
        with pytest.raises(LedgerError, match=match):
            ledger.spent()
        ledger.path.write_bytes(whole)


def test_without_the_accountant_epsilons_are_those_of_the_last_round(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the studio, whose environment lacks it; a computation reports that it is missing."""
    one = Federation.create(tmp_path, replace(PLAN, noise=3.1415, clip=1000, budget=9.0), base)
    nothing = np.zeros(len(fleet_vector(one.adapter)), np.int64)
    told = Epsilons(1.5, 2.5)
    with monkeypatch.context() as patch:
        patch.setattr(federation, "epsilons", lambda *_: told)
        patch.setattr(ledgers, "check_budget", lambda *_: None)
        federation.federate(one, lambda call: Total(nothing, 3), stop=1)

    def missing() -> None:
        raise MissingPackage("pip install 'edgelora[fleet]'")

    monkeypatch.setattr(privacy, "_pld", missing)
    with pytest.raises(MissingPackage):
        one.standing()
    standing = one.standing(recorded=True)
    assert standing.epsilons == told and standing.left == 6.5 and standing.words == "6.5 of 9 after the last round"
    assert "6.5 of 9 after the last round" in write_page(one, tmp_path / "page.html").read_text()


# ---- who is charged


@pytest.mark.parametrize(
    "lost",
    [{Stage.TASK: {0, 1, 2}}, {Stage.COHORT: {0, 1}}, {Stage.INPUT: {1, 2}}],
    ids=["no board is reached", "too few train", "no board is asked to open two masked updates"],
)
def test_rounds_whose_updates_nobody_can_see_cost_nothing(
    lost: dict[Stage, set[int]], tmp_path: Path, base: Base
) -> None:
    boards = Twins(tmp_path, base)
    one = Federation.create(tmp_path / "one", replace(PLAN, rounds=3), base, boards.site)
    before = one.sha256
    boards.lost = lost
    with pytest.raises(RoundAborted, match="3 rounds in a row failed"):
        federate_site(one, boards.site, boards.deliver)
    assert [each.survivors for each in one.rounds] == [0, 0, 0] and len(one.asked) == 3 and one.sha256 == before
    assert one.spent == Spent() and one.epsilons == Epsilons(0.0, 0.0)
    assert (one.rounds[-1].outsider, one.rounds[-1].server) == (0.0, 0.0)


def test_boards_whose_updates_are_in_a_sum_are_charged_and_no_others(tmp_path: Path, base: Base) -> None:
    """Board 0 is lost before it sends its update. Requested shares may still arrive, so asked boards are charged."""
    boards = Twins(tmp_path, base, 6)
    one = Federation.create(tmp_path / "one", replace(PLAN, boards=6), base, boards.site)
    boards.lost = {Stage.INPUT: {0}}
    federate_site(one, boards.site, boards.deliver, stop=1)
    keys = boards.site.roster().keys
    charged = "SELECT key FROM charged JOIN boards ON boards.id = charged.board"
    assert {key for (key,) in rows(one.ledger, charged)} == set(keys[1:])
    boards.lost = {Stage.UNMASK: set(range(6))}
    federate_site(one, boards.site, boards.deliver)
    assert [each.survivors for each in one.rounds] == [5, 0]
    assert sorted(key for (key,) in rows(one.ledger, charged)) == sorted([*keys, *keys[1:]])
    assert rows(one.ledger, "SELECT published FROM ended") == [(1,), (0,)]


def test_without_masks_every_board_asked_for_its_update_is_charged(tmp_path: Path, base: Base) -> None:
    """Its update may arrive too late for the round, and still be read."""
    boards = Twins(tmp_path, base)
    one = Federation.create(tmp_path / "one", replace(PLAN, masks=False, rounds=1), base, boards.site)
    boards.lost = {Stage.TASK: {0}, Stage.INPUT: {1, 2}}
    federate_site(one, boards.site, boards.deliver)
    assert one.rounds[0].survivors == 0
    assert rows(one.ledger, "SELECT count(*) FROM charged") == [(2,)] and one.spent.server == math.inf


def test_a_killed_round_is_charged_up_to_where_it_was(tmp_path: Path, base: Base) -> None:
    boards = Twins(tmp_path, base)
    one = Federation.create(tmp_path / "one", PLAN, base, boards.site)
    for dies, count in ((Stage.INPUT, 0), (Stage.UNMASK, 3)):

        def killed(messages: dict[int, bytes], adapter: bytes, seconds: float, dies: Stage = dies):  # type: ignore[no-untyped-def]
            if next(iter(messages.values()))[4] == dies:
                raise KeyboardInterrupt
            return boards.deliver(messages, adapter, seconds)

        with pytest.raises(KeyboardInterrupt):
            federate_site(one, boards.site, killed)
        one = Federation.open(tmp_path / "one")
        assert rows(one.ledger, "SELECT count(*) FROM charged") == [(count,)]
    federate_site(one, boards.site, boards.deliver)
    assert [each.survivors for each in one.rounds] == [3, 3] and len(one.asked) == 4
    assert one.spent.released == ((0.0, 1.0, 2),)


def test_boards_that_are_too_few_for_a_sum_are_not_asked(tmp_path: Path, base: Base) -> None:
    """Such a round is skipped. If every round must be expected to be one, the user has to act."""
    plan = replace(PLAN, share=0.7, rounds=12, seed=2)
    one = Federation.create(tmp_path / "one", plan, base)
    nothing = np.zeros(len(fleet_vector(one.adapter)), np.int64)

    def exchange(call: Call) -> Total:
        assert len(call.boards) >= plan.least
        return Total(nothing, len(call.boards))

    federation.federate(one, exchange)
    few = [len(asked) < plan.least for asked in one.asked]
    assert len(few) == 12 and any(few) and not all(few)
    assert [each.survivors == 0 for each in one.rounds] == few
    charged = sum(len(asked) for asked in one.asked if len(asked) >= plan.least)
    assert rows(one.ledger, "SELECT count(*) FROM charged") == [(charged,)]
    other = Federation.create(tmp_path / "other", replace(plan, share=0.01), base)
    with pytest.raises(RoundAborted, match="3 rounds .* of 3 boards were sampled, a sum needs 2"):
        federation.federate(other, lambda call: pytest.fail("boards were asked"))


# ---- a ledger that is missing


def carried(folder: Path, site: Site, base: Base, rounds: int = 2) -> Federation:
    one = Federation.create(folder, replace(PLAN, rounds=rounds), base, site)
    nothing = np.zeros(len(fleet_vector(one.adapter)), np.int64)

    def exchange(call: Call) -> Total:
        site.next_number(call.number)
        return Total(nothing, 3)

    with pytest.raises(InputError, match="by their keys"):
        federation.federate(one, exchange, site.roster().active)
    federation.federate(one, exchange, site.roster().members)
    return one


def test_a_ledger_that_is_missing_is_never_begun_anew(tmp_path: Path, base: Base) -> None:
    site = Twins(tmp_path, base).site
    one = carried(tmp_path / "one", site, base)
    kept = one.ledger.path.read_bytes()
    old = kept[:0], b"no database at all" * 100, None
    third = ("fleet", "init", tmp_path / "third", "--site", site.folder, "--colluders", 0)  # of three boards
    for content in old:
        if content is None:
            one.ledger.path.unlink()
        else:
            one.ledger.path.write_bytes(content)
        for asks in (
            lambda: one.epsilons,
            lambda: federation.federate(Federation.open(one.folder), lambda call: pytest.fail("boards were asked")),
            lambda: Federation.create(tmp_path / "other", PLAN, base, site),
        ):
            with pytest.raises(LedgerError, match="backup"):
                asks()
        assert "backup" in edgelora("fleet", "status", one.folder, code=1)
        assert "backup" in edgelora(*third, code=1)
    assert not (tmp_path / "other").exists()
    one.ledger.path.write_bytes(kept)
    assert one.epsilons.server == math.inf and result("fleet", "status", one.folder)["attempts"] == 2


def test_another_or_an_earlier_ledger_is_refused(tmp_path: Path, base: Base) -> None:
    boards = Twins(tmp_path, base)
    one = Federation.create(tmp_path / "one", PLAN, base, boards.site)
    early = one.ledger.path.read_bytes()
    one = carried(tmp_path / "two", boards.site, base)
    one.ledger.path.write_bytes(early)
    with pytest.raises(LedgerError, match="has 0 of the 2 rounds that the federation has carried.*backup"):
        one.epsilons  # noqa: B018
    other = Twins(tmp_path / "elsewhere", base)
    Ledger(other.site.folder).begin()
    with pytest.raises(LedgerError, match="has 0 of the 2 rounds"):
        federate_site(one, other.site, other.deliver)


def test_a_federation_older_than_ledgers_is_refused(tmp_path: Path, base: Base) -> None:
    Federation.create(tmp_path, PLAN, base)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1, "attempts": []}))
    with pytest.raises(InputError, match=r"without a ledger.*publish its global\.ela"):
        Federation.open(tmp_path)
