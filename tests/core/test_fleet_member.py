"""A fleet's member in C: equal to the reference of SPEC.md byte for byte, sums with drop-outs, and what it refuses."""

from __future__ import annotations

import random
from dataclasses import dataclass

import fleet_reference as ref
import fresh
import numpy as np
from numpy.typing import NDArray

from edgelora import twin

FLEET = b"a fleet!"
Masters = NDArray[np.int16]


@dataclass
class Board:
    """A board of a drawn fleet: in C, and beside it the reference with the same secrets."""

    member: twin.Member
    other: ref.Member
    before: Masters
    after: Masters


class Fleet:
    """`count` boards with drawn keys, for one round of a task."""

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
        return Board(twin.Member(*same, roster=self.task.roster), ref.Member(*same), before, after)

    def key(self, index: int) -> bytes:
        return self.server.keys[index]

    def answer(self, index: int, message: bytes) -> bytes:
        board = self.boards[index]
        reply = board.member.answer(message, self.key, masters=lambda: (board.before, board.after))
        assert reply is not None
        return reply

    def stage(self, stage: int, indices: list[int], check: bool = True) -> None:
        """One stage with these boards; each reply is the reference's."""
        messages = {index: self.server.message(stage, index) for index in indices}
        for index, message in messages.items():
            reply = self.answer(index, message)
            if check:
                board = self.boards[index]
                assert reply == board.other.answer(message, self.key, (board.before, board.after)), (stage, index)
            self.server.take(index, reply)

    def expected(self) -> NDArray[np.int64]:
        """The sum of what survivors learned, by the reference."""
        total = np.zeros(self.task.parameters, np.int64)
        for index in self.server.replies[ref.MASKED]:
            board = self.boards[index]
            noise = ref.Noise(board.other.z).draws(self.task.sigma, self.task.parameters)
            total += np.array(ref.clipped(board.before, board.after, self.task.clip)) + np.array(noise)
        return total


def drawn_round(seed: int) -> None:
    """Boards are lost before every stage; those that are left answer as the reference, and the sum is exact."""
    rng = random.Random(seed)
    k = 2 * rng.randint(4, 8)  # three may be lost
    task = ref.Task(
        roster=rng.randint(0, 2**32 - 1), base=rng.randbytes(8), adapter=rng.randbytes(32),
        parameters=rng.randint(1, 300), epochs=rng.randint(1, 9),
        seed=rng.randint(0, 2**32 - 1), clip=rng.choice((1, 2000, 65535)),
        sigma=rng.choice((0, 1, 37, 400, 65535)), least=2, neighbours=k, threshold=k // 2 + 1,
    )  # fmt: skip
    count = rng.choice((2, 5, rng.randint(10, 24)))
    fleet = Fleet(rng, count, task, number=rng.randint(1, 2**32 - 1))
    left = list(range(count))
    for stage in (ref.TASK, ref.COHORT, ref.PEERS, ref.INPUT, ref.UNMASK):
        if len(left) > max(count - 3, 6) and rng.random() < 0.7:
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
    fleet = Fleet(random.Random(fresh.SEED), 3, ref.Task(masks=0, sigma=30, neighbours=0, threshold=0))
    for stage in (ref.TASK, ref.INPUT):
        fleet.stage(stage, [0, 1, 2])
    assert np.array_equal(fleet.server.total(), fleet.expected())
    assert fleet.boards[0].member.next is twin.Next.OVER
