"""Boards on this computer in rounds: the boards' C and boards in Python, including training."""

from __future__ import annotations

import hashlib
import random
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fleet_boards import Fleet, learned

from edgelora.core.twin.fleet_update import Policy, clip_update
from edgelora.core.twin.native_fleet import FleetError
from edgelora.fleet.client_training import fresh_adapter
from edgelora.fleet.member import Identity, MemberError, Past, TwinMember
from edgelora.fleet.messages import Stage, Task, public_of
from edgelora.fleet.policy import SUMS
from edgelora.fleet.secagg import Round
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.learn.training.data.base import Base, load_part
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.twin.warm_start import fleet_vector


@pytest.fixture(scope="module")
def start() -> tuple[Base, bytes, Samples]:
    """A base, a global adapter and samples."""
    base = fleet_base()
    return base, fresh_adapter(base.elm, 8, "frozen_a", 5), base.samples(load_part("har:3", "train"))


def first(samples: Samples) -> Samples:
    """The first nine samples."""
    return samples.part(np.arange(len(samples)) < 9)


def twins(
    fleet: Fleet, folder: Path, indices: range, elm: bytes, samples: Callable[[int], Samples], policy: Policy = SUMS
) -> dict[int, TwinMember]:
    folder.mkdir(exist_ok=True)
    made = {}
    for index in indices:
        path = folder / f"twin-{index}.key"
        path.write_bytes(fleet.members[index].secret)
        seed = hashlib.sha256(f"seed {index}".encode()).digest()
        made[index] = TwinMember(Identity(path), lambda: fleet.roster, elm, samples, policy, lambda seed=seed: seed)
    return made


def run(made: Round, members: dict[int, TwinMember], fleet: Fleet, adapter: bytes, lost: dict[Stage, set[int]]) -> None:
    """Runs a round; boards that are not in `members` are in Python. Only the adapter that comes with a task counts."""
    gone: set[int] = set()
    while not made.done:
        gone |= lost.get(made.stage, set())
        for index in made.waiting:
            message = made.message(index) or b""
            if index in gone:
                continue
            if index in members:
                made.receive(index, members[index].answer(message, adapter if made.stage == Stage.TASK else b"another"))
            else:
                made.receive(index, fleet.members[index].answer(message))
        made.close_stage()


def task_for(adapter: bytes, **changes: object) -> Task:
    digest = hashlib.sha256(adapter).digest()
    task = Task(7, adapter[16:24], digest, len(fleet_vector(adapter)), 1, 0, 9, 2000, 0, 6, 65)
    return replace(task, **changes)  # type: ignore[arg-type]


def test_twins_and_python_boards_sum_up_exactly(start: tuple[Base, bytes, Samples], tmp_path: Path) -> None:
    """Half the boards run the boards' C; each trains like a board, and its update is clipped."""
    base, adapter, samples = start
    few = {i: samples.part(np.arange(len(samples)) % 12 == i) for i in range(12)}
    fleet = Fleet.drawn(12, 4, parameters=len(fleet_vector(adapter)))
    members = twins(fleet, tmp_path / "twins", range(0, 12, 2), base.elm, few.__getitem__)
    task = task_for(adapter, clip=900)
    before = fleet_vector(adapter)
    wanted = {i: clip_update(before, learned(task, base.elm, adapter, few[i], i), task.clip) for i in members}
    assert all(
        np.abs(update).sum() > 100 and (update.astype(np.int64) ** 2).sum() <= 900**2 for update in wanted.values()
    )
    for number, lost in enumerate(({}, {Stage.INPUT: {4, 5}, Stage.UNMASK: {2, 3}}), 1):
        made = Round(task, number, fleet.roster, fleet.server, range(12))
        run(made, members, fleet, adapter, lost)
        alive = made.result().survivors
        vectors = [wanted[i].astype(np.int64) if i in wanted else fleet.members[i].vector for i in alive]
        assert alive == sorted(set(range(12)) - lost.get(Stage.INPUT, set()))
        assert np.array_equal(made.result().vector, np.sum(vectors, axis=0))
        assert Identity(tmp_path / "twins" / "twin-0.key").spent.rounds == number


def test_a_round_is_answered_once_in_a_board_s_life(start: tuple[Base, bytes, Samples], tmp_path: Path) -> None:
    base, adapter, samples = start
    fleet = Fleet.drawn(8, 7, parameters=len(fleet_vector(adapter)))
    learns = base.elm, lambda _: first(samples)
    members = twins(fleet, tmp_path / "twins", range(8), *learns)
    made = Round(task_for(adapter), 5, fleet.roster, fleet.server, range(8))
    task = made.message(0) or b""
    ready = members[0].answer(task, adapter)
    assert members[0].answer(task, adapter) == ready  # a line was lost
    run(made, members, fleet, adapter, {})
    again = twins(fleet, tmp_path / "twins", range(1), *learns)[0]  # a restart
    for number in (1, 4, 5):
        old = Round(task_for(adapter), number, fleet.roster, fleet.server, range(8)).message(0) or b""
        with pytest.raises(FleetError):
            again.answer(old, adapter)
    newer = Round(task_for(adapter), 6, fleet.roster, fleet.server, range(8)).message(0) or b""
    assert again.answer(newer, adapter)


def test_what_a_twin_refuses(start: tuple[Base, bytes, Samples], tmp_path: Path) -> None:
    base, adapter, samples = start
    fleet = Fleet.drawn(8, 8, parameters=len(fleet_vector(adapter)))
    learns = base.elm, lambda _: first(samples)
    [member] = twins(fleet, tmp_path / "twins", range(1), *learns).values()

    def message(number: int, **changes: object) -> bytes:
        return Round(task_for(adapter, **changes), number, fleet.roster, fleet.server, range(8)).message(0) or b""

    right = message(9)
    drawn = random.Random(3)
    for _ in range(200):
        bad = bytearray(right)
        bad[drawn.randrange(len(bad))] ^= 1 << drawn.randrange(8)
        with pytest.raises(FleetError):
            member.answer(bytes(bad), adapter)
    with pytest.raises(MemberError, match="not this round's"):
        member.answer(message(1), adapter[:-1] + b"x")
    with pytest.raises(MemberError, match="for base"):
        member.answer(message(2, base_id=bytes(8)), adapter)
    with pytest.raises(MemberError, match="parameters"):
        member.answer(message(3, parameters=5), adapter)
    assert member.answer(right, adapter)  # after all these
    [careful] = twins(fleet, tmp_path / "twins", range(1), *learns, Policy(least_z=100)).values()
    with pytest.raises(FleetError, match="less private"):
        careful.answer(message(10, sigma=10), adapter)
    stranger = Identity.create(tmp_path / "x" / "twin-0.key")
    assert stat.S_IMODE((tmp_path / "x" / "twin-0.key").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        Identity.create(tmp_path / "x" / "twin-0.key")
    with pytest.raises(MemberError, match="not in the roster"):
        TwinMember(stranger, lambda: fleet.roster, *learns)
    assert public_of(stranger.secret) == stranger.public
    stranger.keep(Past(7, 2, 5))
    assert stranger.spent == Past(7, 2, 5)
    (tmp_path / "x" / "twin-0.round").write_text("many")
    with pytest.raises(MemberError, match="damaged"):
        assert stranger.spent


def test_an_update_starts_from_the_adapter_of_the_task(start: tuple[Base, bytes, Samples], tmp_path: Path) -> None:
    """A gateway that exchanged it after the training could choose a board's update."""
    base, adapter, samples = start
    fleet = Fleet.drawn(8, 10, parameters=len(fleet_vector(adapter)))
    policy = Policy(masks=False)
    [member] = twins(fleet, tmp_path / "twins", range(1), base.elm, lambda _: first(samples), policy).values()
    made = Round(task_for(adapter, masks=False, least=1), 1, fleet.roster, fleet.server, [0])
    made.receive(0, member.answer(made.message(0) or b"", adapter))
    made.close_stage()
    member.adapter = adapter[:-1] + bytes([adapter[-1] ^ 1])
    for _ in range(2):
        with pytest.raises(MemberError, match="not this round's"):
            member.answer(made.message(0) or b"")
    assert Identity(tmp_path / "twins" / "twin-0.key").spent == Past()
    member.adapter = adapter
    made.receive(0, member.answer(made.message(0) or b""))
    made.close_stage()
    after = learned(made.task, base.elm, adapter, first(samples), 0)
    assert np.array_equal(made.result().vector, clip_update(fleet_vector(adapter), after, made.task.clip))
