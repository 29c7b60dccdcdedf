"""A board's policy: what it requires of tasks, its privacy over the board's life, and its commands."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from commands import edgelora, result

from edgelora.base.errors import InputError
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.board.virtual_boards import SimHandle
from edgelora.core.twin.fleet_update import Policy
from edgelora.fleet.member import Identity
from edgelora.fleet.messages import Task
from edgelora.fleet.plan import Plan
from edgelora.fleet.policy import (
    MOST_COST,
    POLICY_PATH,
    SAFE,
    SUMS,
    parse_policy,
    policy_epsilons,
    policy_json,
    refusal,
)
from edgelora.fleet.privacy import gaussian_epsilon
from edgelora.fleet.secagg_rounds import parted


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimHandle]:
    edgelora("keygen", tmp_path / "release.pem")
    handle = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    yield handle
    handle.stop()


def test_boards_without_a_policy_ask_for_what_is_safe() -> None:
    code = "import json; from edgelora import fleet; print(json.dumps(fleet.policy('/nothing/here')))"
    done = subprocess.run([UNIX_BINARY, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == asdict(SAFE) | {"masks": 1}
    assert parse_policy(policy_json(SAFE)) == SAFE and parse_policy(policy_json(SUMS)) == SUMS


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"[]",
        b'{"noise": 1}',
        b'{"budget": -1}',
        b'{"masks": 2}',
        b'{"colluders": "two"}',
        b'{"budget": true}',
        b"\xff",
    ],
)
def test_what_is_no_policy(bad: bytes) -> None:
    with pytest.raises(InputError):
        parse_policy(bad)


@pytest.mark.parametrize(
    ("z", "delta", "epsilon"), [(1.0, 1e-5, 4.377), (2.0, 1e-5, 1.993), (0.5, 1e-6, 11.0), (30**-0.5, 1e-5, 37.62)]
)
def test_epsilon_of_a_spent_budget(z: float, delta: float, epsilon: float) -> None:
    """Against the integral of the privacy loss: delta = E[max(0, 1 - exp(epsilon - loss))], loss normal."""
    found = gaussian_epsilon(1 / z**2, delta)
    mean, spread, step = 0.5 / z**2, 1 / z, 1e-3
    losses = (mean + spread * x * step for x in range(-9000, 9001))
    total = sum(
        max(0.0, 1 - math.exp(min(found - loss, 1.0))) * math.exp(-((loss - mean) ** 2) / (2 * spread**2))
        for loss in losses
    )
    assert math.isclose(total * step / math.sqrt(2 * math.pi), delta, rel_tol=2e-3)
    assert math.isclose(found, epsilon, rel_tol=0.02)
    assert math.isclose(gaussian_epsilon(4 / z**2, delta), gaussian_epsilon(1 / (z / 2) ** 2, delta))


def test_epsilons_that_a_policy_allows() -> None:
    bounds = policy_epsilons(SAFE, 1e-5)
    assert bounds.lying == gaussian_epsilon(2.6, 1e-5) < 8
    assert bounds.server == bounds.outsider == gaussian_epsilon(2.6 * 63 / 65, 1e-5) < bounds.lying
    known = policy_epsilons(SAFE, 1e-5, least=20)  # two colluders' noise protects from an honest server
    assert known.lying == bounds.lying and known.server == gaussian_epsilon(2.6 * 18 / 20, 1e-5)
    assert math.isinf(policy_epsilons(SUMS, 1e-5).lying) and policy_epsilons(SAFE, 1e-5, 0).lying == 0


def test_tasks_that_the_safe_policy_refuses() -> None:
    task = Task(1, bytes(8), bytes(32), 9, 1, 0, 0, clip=1000, sigma=500, least=6, cohort=20, colluders=2)
    assert refusal(SAFE, task) == ""  # z = 500 * 2 / 1000
    changed = [{"sigma": 499}, {"least": 5}, {"cohort": 7}, {"colluders": 1}, {"masks": False}]
    assert all("less private" in refusal(SAFE, replace(task, **one)) for one in changed)  # type: ignore[arg-type]
    assert "budget" in refusal(replace(SAFE, budget=999_999), task)


def test_enrolled_boards_have_a_policy_and_tell_what_they_spent(board: SimHandle, tmp_path: Path) -> None:
    port = ("--port", board.port)
    edgelora("update", "--trust", tmp_path / "release.pub", "--target", "band", *port)
    enroll = ("fleet", "enroll", tmp_path / "fleet", "--key", tmp_path / "release.pem", "--target", "band", *port)
    made = result(*enroll)
    assert made["policy"] == asdict(SAFE) and made["epsilon"]["lying"] == policy_epsilons(SAFE, 1e-5).lying
    own = tmp_path / "own.json"
    own.write_bytes(policy_json(replace(SAFE, budget=100_000)))
    said = edgelora(*enroll, "--policy", own)
    assert "lying server, with 2 colluding boards, 1.2" in said and "zero-out adjacency" in said
    assert result(*enroll)["policy"]["budget"] == 100_000  # the board's own policy stays
    with Link.connect(board.port) as link:
        assert parse_policy(link.get(POLICY_PATH)).budget == 100_000
    budget = result("fleet", "budget", *port)
    assert (budget["rounds"], budget["spent"], budget["spent_epsilon"]) == (0, 0, 0)
    assert "without a budget" in edgelora(*enroll, "--policy", "sums")
    assert "no such" in edgelora(*enroll, "--policy", tmp_path / "none.json", code=1).lower()


def test_boards_of_this_computer_have_a_policy_too(tmp_path: Path) -> None:
    edgelora("keygen", tmp_path / "release.pem")
    words = ("fleet", "enroll", tmp_path / "fleet", "--key", tmp_path / "release.pem", "--target", "band")
    made = result(*words, "--twins", 2, "--identities", tmp_path / "twins")
    assert made["policy"] == asdict(SAFE)
    secret = tmp_path / "twins" / "twin-1.key"
    identity = Identity(secret)
    assert identity.policy == SAFE
    identity.keep(replace(identity.spent, last=9, rounds=3, cost=650_000))
    told = edgelora("fleet", "budget", "--identity", secret)
    assert told.startswith("3 rounds, epsilon 3.4") and "of 7.69" in told
    identity.keep(replace(identity.spent, cost=MOST_COST))
    assert result("fleet", "budget", "--identity", secret)["spent_epsilon"] is None
    secret.with_suffix(".json").write_text("{")
    assert "not JSON" in edgelora("fleet", "budget", "--identity", secret, code=1)
    assert Policy(masks=True) == SUMS


@pytest.mark.parametrize("wrong", [("--least", 13), ("--colluders", 12), ("--share", 0.03)])
def test_a_plan_of_which_no_round_could_have_a_sum_is_not_begun(wrong: tuple[str, object], tmp_path: Path) -> None:
    """40 boards of which 12 are asked: fewer than a sum needs, even if all answer. 11 + 1 are enough."""
    edgelora("keygen", tmp_path / "release.pem")
    enroll = ("fleet", "enroll", tmp_path / "fleet", "--key", tmp_path / "release.pem", "--target", "band")
    edgelora(*enroll, "--twins", 40, "--identities", tmp_path / "twins")
    init = ("fleet", "init", tmp_path / "one", "--site", tmp_path / "fleet", "--share", 0.3, "--least", 12)
    said = edgelora(*init, *wrong, code=1)
    assert "no round could have a sum" in said and "--cohort" in said and not (tmp_path / "one").exists()
    assert result(*init)["abandoned"] > 0.9


def test_usual_cohorts() -> None:
    """Up to 65 boards form one cohort; more form several, whose sizes differ by one at most."""
    for boards in (2, 64, 65, 66, 130, 131, 1000):
        count = Plan(boards=boards, least=1, cohort=65).usual_cohort
        parts = parted(range(boards), Plan(boards=boards, least=1, cohort=65).task(1, bytes(8), bytes(32), 1))
        assert sorted(board for part in parts for board in part) == list(range(boards))
        assert {len(part) for part in parts} <= {count, count + 1} and max(map(len, parts)) <= 65
