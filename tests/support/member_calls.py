"""A fleet's round as the calls of one board's member, to run on every core."""

from __future__ import annotations

import random
import struct
import sys

import fleet_reference as ref
import numpy as np
from fleet_member import Member, Next

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from cores import Answers, Calls  # noqa: E402

FLEET = b"a fleet!"
STAGES = (ref.TASK, ref.COHORT, ref.PEERS, ref.INPUT, ref.SURVIVORS, ref.UNMASK)


class Recorded:
    """The host twin's member, which records calls and their answers."""

    def __init__(self, secret: bytes, server: bytes, seed: bytes, index: int, roster: int) -> None:
        self.member = Member(secret, server, FLEET, seed, index, roster=roster)
        self.calls, self.answers = Calls(), Answers()
        self.made = list[tuple[str, bytes]]()  # calls with their data
        self._add("begin", secret + server + FLEET + seed + struct.pack("<II", roster, index))

    def _add(self, what: str, data: bytes = b"", answer: bytes = bytes(4)) -> None:
        self.calls.member(what, data)
        self.made.append((what, data))
        self.answers.append(answer)

    def answer(self, message: bytes, keys: list[bytes], before: np.ndarray, after: np.ndarray) -> bytes:
        """The reply to a message."""
        self._work()
        assert self.member.receive(message)
        self._add("receive", message)
        if self.member.next is Next.KEYS:
            for place, index in enumerate(self.member.neighbours()):
                self.member.key(place, keys[index])
                self._add("key", struct.pack("<I", place) + keys[index])
        if self.member.next is Next.UPDATE:
            self.member.update(before, after)
            self._add("update", before.tobytes() + after.tobytes())
        self._work()
        reply = self.member.reply()
        self._add("reply", answer=reply)
        return reply

    def _work(self) -> None:
        while self.member.next is Next.WORK:
            self._add("work", answer=struct.pack("<i", self.member.work()))


def round_of_a_board(seed: int, count: int = 6, parameters: int = 100) -> Recorded:
    """The first of `count` boards in a random round; all run on the host."""
    rng = random.Random(seed)
    task = ref.Task(
        roster=rng.randint(0, 2**32 - 1), base=rng.randbytes(8), adapter=rng.randbytes(32), parameters=parameters,
        epochs=1, seed=rng.randint(0, 2**32 - 1), clip=2000, sigma=rng.choice((0, 37, 65535)), least=2,
        cohort=65,
    )  # fmt: skip
    secrets, server = [rng.randbytes(32) for _ in range(count)], rng.randbytes(32)
    keys = [ref.public_of(secret) for secret in secrets]
    public = ref.public_of(server)
    boards = [Recorded(secret, public, rng.randbytes(32), i, task.roster) for i, secret in enumerate(secrets)]
    masters = np.random.default_rng(seed).integers(-32768, 32768, (count, 2, parameters)).astype(np.int16)
    served = ref.Server(server, keys, FLEET, 7, task)
    for stage in STAGES:
        messages = [served.message(stage, index) for index in range(count)]
        for index, message in enumerate(messages):
            served.take(index, boards[index].answer(message, keys, *masters[index]))
    return boards[0]


def round_in_clear(seed: int, spread: int, parameters: int = 40) -> Recorded:
    """The first of two boards in a round without masks and noise; only secrets depend on the seed.

    spread: of the masters after training.
    """
    rng, task = random.Random(seed), ref.Task(parameters=parameters, masks=0, cohort=0)
    secrets, server = [rng.randbytes(32) for _ in range(2)], rng.randbytes(32)
    keys = [ref.public_of(secret) for secret in secrets]
    boards = [Recorded(secret, ref.public_of(server), rng.randbytes(32), i, 1) for i, secret in enumerate(secrets)]
    before = np.zeros(parameters, np.int16)
    after = np.random.default_rng(seed).integers(-spread, spread + 1, (2, parameters)).astype(np.int16)
    served = ref.Server(server, keys, FLEET, 7, task)
    for stage in (ref.TASK, ref.INPUT):
        for index, message in [(index, served.message(stage, index)) for index in range(2)]:
            served.take(index, boards[index].answer(message, keys, before, after[index]))
    return boards[0]
