"""Secure sums: exact for any dropouts, nothing below the thresholds, and only authentic replies are accepted."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from fleet_boards import Fleet
from fleet_member import Member

from edgelora.base.errors import InputError
from edgelora.fleet.messages import Stage, Task
from edgelora.fleet.secagg import ReplyRefused, Round, RoundAborted
from edgelora.fleet.shamir import secret_of, value_at


class TwinBoard:
    """A board run by the boards' C. vector: int32[n], below the clip."""

    def __init__(self, fleet: Fleet, index: int, seed: bytes) -> None:
        roster, secret = fleet.roster, fleet.members[index].secret
        self.vector = fleet.members[index].vector // 64
        self._keys = roster.keys
        self._twin = Member(secret, roster.server, roster.fleet, seed, index, roster=roster.number)

    def answer(self, message: bytes) -> bytes:
        masters = np.zeros(len(self.vector), np.int16), self.vector.astype(np.int16)
        return self._twin.answer(message, self._keys.__getitem__, masters=lambda: masters) or b""


@pytest.mark.parametrize(("boards", "by_twins"), [(30, False), (65, True)])
def test_the_sum_is_exact_with_boards_lost_before_every_stage(boards: int, by_twins: bool) -> None:
    fleet, mixed = Fleet.drawn(boards, boards), random.Random(boards)
    if by_twins:
        fleet.members = [TwinBoard(fleet, index, mixed.randbytes(32)) for index in range(boards)]
    made = fleet.round(fleet.task(boards * 3 // 4, sigma=0))
    drawn = iter(mixed.sample(range(boards), boards // 5))
    lost = {stage: [next(drawn) for _ in range(boards // 30)] for stage in Stage if stage % 2}
    fleet.run(made, lost | {Stage.UNMASK: lost[Stage.UNMASK] + [*drawn]}, mixed)
    result = made.result()
    gone = {index for stage, each in lost.items() if stage <= Stage.INPUT for index in each}
    assert result.survivors == sorted(set(range(boards)) - gone)
    assert np.array_equal(result.vector, fleet.sum(result.survivors)) and result.vector.dtype == np.int64


def test_few_boards_are_all_neighbours() -> None:
    for boards in (2, 3, 5):
        fleet = Fleet.drawn(boards, boards, parameters=7)
        made = fleet.round(fleet.task(2))
        fleet.run(made, {})
        assert np.array_equal(made.result().vector, fleet.sum(range(boards)))
    alone = Fleet.drawn(1, 1)
    with pytest.raises(RoundAborted, match="no others to hide among"):
        alone.run(alone.round(alone.task(1)), {})


@pytest.mark.parametrize("stage", [*Stage][::2])
def test_below_the_threshold_it_ends_cleanly(stage: Stage) -> None:
    """No shares were requested then, except in the last stage, where seeds with too few shares stay closed."""
    fleet = Fleet.drawn(30, 4, parameters=20)
    made = fleet.round(fleet.task(21))
    with pytest.raises(RoundAborted, match=f"left after {stage.name}|shares of board|too few boards"):
        fleet.run(made, {stage: range(10 if stage != Stage.UNMASK else 25)})
    assert made.done and made.waiting == [] and made.message(29) is None
    for again in (made.result, made.close_stage):
        with pytest.raises(RoundAborted):
            again()
    with pytest.raises(ReplyRefused):
        made.receive(29, b"")


def test_thresholds() -> None:
    """More than half of the others and the colluders, and at least the least survivors: else nothing is opened."""
    for colluders, least, most_lost in ((0, 2, 4), (2, 2, 3), (0, 9, 1)):
        for lost in (most_lost, most_lost + 1):
            fleet = Fleet.drawn(10, 6, parameters=5)
            made = fleet.round(fleet.task(least, colluders))
            if lost == most_lost:
                fleet.run(made, {Stage.INPUT: range(lost)})
                assert np.array_equal(made.result().vector, fleet.sum(range(lost, 10)))
            else:
                with pytest.raises(RoundAborted, match="too few boards|are left after INPUT"):
                    fleet.run(made, {Stage.INPUT: range(lost)})
                assert made.stage == Stage.INPUT


# ---- replies that are not a board's


def test_forged_replayed_reordered_and_changed_replies_are_refused_without_harm() -> None:
    """At every stage, for every board; then the valid reply is accepted, and the sum is exact."""
    fleet, drawn = Fleet.drawn(14, 8, parameters=16), random.Random(8)
    task = fleet.task(10)
    made, old = fleet.round(task, 2), fleet.round(task, 1)
    said: list[bytes] = []  # earlier in this round, and all replies of another one
    while not old.done:
        for index in old.waiting:
            said.append(fleet.members[index].answer(old.message(index) or b""))
            old.receive(index, said[-1])
        old.close_stage()
    refused = 0
    while not made.done:
        right = {i: fleet.members[i].answer(made.message(i) or b"") for i in made.waiting if i not in (3, 9)}
        for index, reply in right.items():
            others = [bad for other, bad in right.items() if other != index]
            forged = struct.pack("<4sBBHII", b"ELF1", made.stage + 1, 0, index, 2, 64) + drawn.randbytes(80)
            cases = [*drawn.sample(said, 4), *drawn.sample(others, 3), forged, b"", made.message(index) or b""]
            cases += [changed(reply, drawn) for _ in range(12)]
            for bad in cases:
                refused += 1
                with pytest.raises(ReplyRefused):
                    made.receive(index, bad)
            made.receive(index, reply)
            with pytest.raises(ReplyRefused, match="answered already"):
                made.receive(index, reply)
        for foreign in (-1, 14, 70000):
            with pytest.raises(ReplyRefused, match="no part"):
                made.receive(foreign, reply)
        said += right.values()
        late = 3 if made.stage == Stage.TASK else None
        made.close_stage()
        if late is not None:
            with pytest.raises(ReplyRefused, match="no part"):
                made.receive(late, reply)
    assert refused >= 1000
    assert np.array_equal(made.result().vector, fleet.sum([i for i in range(14) if i not in (3, 9)]))


def changed(reply: bytes, drawn: random.Random) -> bytes:
    kind = drawn.randrange(4)
    if kind == 0:
        return reply[: drawn.randrange(len(reply))]
    if kind == 1:
        return reply + drawn.randbytes(drawn.randrange(1, 99))
    bad = bytearray(reply)
    for _ in range(1 if kind == 2 else drawn.randrange(2, 9)):
        bad[drawn.randrange(len(bad))] ^= drawn.randrange(1, 256)
    return bytes(bad) if bad != reply else b""


def test_a_board_that_lies_about_shares_gives_no_sum() -> None:
    """A board's tag authenticates its own lie: there is no sum if shares contradict each other."""
    for lost in ([], [0]):
        fleet = Fleet.drawn(14, 9, parameters=16)
        made = fleet.round(fleet.task(8))
        liar = fleet.members[5]
        honest = liar.opened
        liar.opened = lambda: bytes(b ^ 1 for b in honest())  # type: ignore[method-assign]  # noqa: B023
        with pytest.raises(RoundAborted, match="contradict each other|do not yield the key"):
            fleet.run(made, {Stage.INPUT: lost})


def test_impossible_rounds_are_refused() -> None:
    fleet = Fleet.drawn(4, 1)
    task = fleet.task(2)
    with pytest.raises(InputError, match="invited twice"):
        Round(task, 1, fleet.roster, fleet.server, [1, 1])
    with pytest.raises(InputError, match="not in the roster"):
        Round(task, 1, fleet.roster, fleet.server, [4])
    with pytest.raises(InputError, match="not the secret"):
        Round(task, 1, fleet.roster, bytes(32), [1])
    with pytest.raises(InputError, match="rounds rise"):
        Round(task, 0, fleet.roster, fleet.server, [1])
    loud = Task(7, bytes(8), bytes(32), 9, 1, 0, 0, 65535, 65535, 2, 65)
    many = Fleet.drawn(2000, 2, parameters=1)
    with pytest.raises(InputError, match="more than 2"):
        Round(loud, 1, many.roster, many.server, range(2000))
    assert Task.unpack(task.pack()) == task
    for bad in (task.pack()[:-1], task.pack()[:-1] + b"\1", task.pack()[:68] + b"\2" + task.pack()[69:]):
        with pytest.raises(InputError):
            Task.unpack(bad)
    for field, value in (("cohort", 1), ("cohort", 66), ("least", 66), ("clip", 0)):
        with pytest.raises(InputError):
            Task(**{**vars(task), field: value})


def test_shares_of_the_field_of_aes() -> None:
    """Computed by hand: p(x) = 0x53 + 0xCA x, where 0x53 times 0xCA is 1."""
    shares = {1: bytes([0x53 ^ 0xCA]), 0x53: bytes([0x53 ^ 1])}
    assert value_at(shares, 0) == b"\x53" and secret_of(shares, 2) == b"\x53"
    assert secret_of(shares | {2: value_at(shares, 2)}, 2) == b"\x53"
    assert secret_of(shares | {2: b"\0"}, 2) is None
