"""The server's side of secure aggregation (SPEC.md, section 17): the sum of boards' updates, and no single one.

    round = Round(task, number, roster, secret, invited)
    while not round.done:
        ...  # send round.message(board) to every board of round.waiting, give replies to round.receive
        round.close_stage()  # the deadline: boards that have not answered are dropped
    round.result().vector

Double masking as in Bonawitz et al. (2017), between all boards of a cohort. Before boards send any share, they confirm
to each other who is left. This module does no I/O and reads no clock.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError, InputError

from .messages import (
    MAX_MESSAGE,
    SEALED_SIZE,
    TAG_SIZE,
    Channel,
    Stage,
    Task,
    cohort_body,
    mask,
    pair_seed,
    public_of,
    survivors_body,
    thresholds,
)
from .roster import KEY_SIZE, Roster, is_public
from .shamir import secret_of

_CONFIRM = struct.Struct(f"<H{TAG_SIZE}s")
NOISE_BOUND = 16  # standard deviations; draws of the discrete Gaussian stay within


class ReplyRefused(EdgeloraError, ValueError):
    """A reply is not valid for this board now. The round is unchanged and still accepts the right reply."""


class RoundAborted(EdgeloraError, RuntimeError):
    """The round ended without a sum, usually because too few boards were left. Masked updates stay masked."""


@dataclass(frozen=True)
class Sum:
    """vector: int64 [n], the sum of updates with their noise; survivors: indices of their boards, ascending."""

    vector: NDArray[np.int64]
    survivors: list[int]


@dataclass
class _Board:
    """What the server knows of a board in this round.

    key: its public mask key; tags, sealed: by other board, its tag and its sealed shares for that board; vector:
    u32[n], masked; confirms: by survivor, a tag; shares: by other board, a share of that board's seed or, if that board
    was lost, of its mask key.
    """

    channel: Channel
    key: bytes = b""
    tags: dict[int, bytes] = field(default_factory=dict)
    sealed: dict[int, bytes] = field(default_factory=dict)
    vector: NDArray[np.uint32] | None = None
    confirms: dict[int, bytes] = field(default_factory=dict)
    shares: dict[int, bytes] = field(default_factory=dict)


class Round:
    """A round with the boards `invited`, by index. secret: the server's X25519 secret. Raises InputError.

    stage: of the messages that boards get now. done: there is a result, or the round was aborted.
    """

    def __init__(self, task: Task, number: int, roster: Roster, secret: bytes, invited: Sequence[int]) -> None:
        asked = sorted(invited)
        if len(set(asked)) != len(asked) or not set(asked) <= set(roster.active):
            raise InputError("boards were invited twice, or are not in the roster", remedy="choose of its `active`")
        if not 0 < number < 1 << 32 or task.roster != roster.number:
            raise InputError(
                f"round {number} by roster {task.roster}: the roster is {roster.number}, rounds rise from 1"
            )
        if public_of(secret) != roster.server:
            raise InputError("this is not the secret of the server that the roster names")
        if len(asked) * (task.clip + NOISE_BOUND * task.sigma) >= 1 << 31:
            raise InputError(
                f"{len(asked)} updates of norm {task.clip} with noise {task.sigma} may sum up to more than 2^31",
                remedy="invite fewer boards, or lower clip and noise",
            )
        if task.masks and len(asked) > task.cohort:
            raise InputError(f"{len(asked)} boards in a cohort of {task.cohort}", remedy="split them into several")
        self.task, self.number, self.stage = task, number, Stage.TASK
        self._boards = {i: _Board(Channel.between(secret, roster.keys[i], roster.fleet, number)) for i in asked}
        self._cohort: list[int] = []
        self._threshold = self._agreeing = 0
        self._bodies = dict.fromkeys(asked, task.pack())
        self._answered: set[int] = set()
        self._why = ""
        self._sum: Sum | None = None

    # --- messages to boards, and their replies

    @property
    def done(self) -> bool:
        return bool(self._why) or self.complete

    @property
    def complete(self) -> bool:
        """Whether there is a sum."""
        return self._sum is not None

    @property
    def why(self) -> str:
        """Why the round was aborted; "" if it was not."""
        return f"round {self.number}: {self._why}" if self._why else ""

    @property
    def waiting(self) -> list[int]:
        """Boards that have not answered in this stage, ascending."""
        return [] if self.done else [index for index in self._bodies if index not in self._answered]

    def message(self, index: int) -> bytes | None:
        """The board's message in this stage, the same bytes on each call; None if the board is out of the round."""
        if self.done or index not in self._bodies:
            return None
        return self._boards[index].channel.wrap(self.stage, index, self._bodies[index])

    def receive(self, index: int, reply: bytes) -> None:
        """Takes a board's reply to its message of this stage. Raises ReplyRefused, and then nothing has changed."""
        if self.done or index not in self._bodies:
            raise ReplyRefused(f"board {index} has no part in this stage of round {self.number}")
        if index in self._answered:
            raise ReplyRefused(f"board {index} has answered already")
        board, stage = self._boards[index], Stage(self.stage + 1)
        body = board.channel.unwrap(reply, stage, index) if len(reply) <= MAX_MESSAGE else None
        if body is None:
            raise ReplyRefused(f"not the {stage.name} of board {index} in round {self.number}, or damaged")
        if not self._take(stage, index, board, body):
            raise ReplyRefused(f"{stage.name} of board {index} has an invalid form")
        self._answered.add(index)

    def close_stage(self) -> None:
        """The deadline: drops boards that have not answered. Raises RoundAborted if too few are left."""
        if self.done:
            self.result()
            return
        if self.stage == Stage.TASK:
            self._begin()
        elif self.stage == Stage.COHORT:
            self._show_peers()
        elif self.stage == Stage.PEERS:
            self._pass_shares()
        elif self.stage == Stage.INPUT and self.task.masks:
            self._show_survivors()
        elif self.stage == Stage.SURVIVORS:
            self._ask_for_shares()
        else:
            self._finish()

    def abort(self, why: str) -> NoReturn:
        """Ends the round without a sum. Raises RoundAborted."""
        self._why = why
        self._boards, self._bodies = {}, {}
        raise RoundAborted(f"round {self.number}: {why}", remedy="the next round may have more boards")

    def result(self) -> Sum:
        """The sum. Raises RoundAborted, or InputError before the round is over."""
        if self._why:
            raise RoundAborted(f"round {self.number}: {self._why}")
        if self._sum is None:
            raise InputError(f"round {self.number} is not over: it waits for replies to {self.stage.name}")
        return self._sum

    # --- replies

    def _take(self, stage: Stage, index: int, board: _Board, body: bytes) -> bool:
        """Stores a reply's content; False, and stores nothing, if it is malformed."""
        if stage == Stage.READY:
            return not body
        if stage == Stage.MASKED:
            if len(body) != 4 * self.task.parameters:
                return False
            board.vector = np.frombuffer(body, "<u4")
            return True
        if stage == Stage.ADVERT:
            return self._take_advert(index, board, body)
        if stage == Stage.SHARES:
            board.sealed = _parts(body, SEALED_SIZE, self._others(index, self._advertised())) or {}
            return bool(board.sealed)
        if stage == Stage.CONFIRM:
            board.confirms = _parts(body, TAG_SIZE, self._others(index, self.survivors)) or {}
            return bool(board.confirms)
        opened = board.channel.opened(index, body)
        board.shares = _parts(opened, KEY_SIZE, self._others(index, self._sharers())) or {}
        return bool(board.shares)

    def _take_advert(self, index: int, board: _Board, body: bytes) -> bool:
        """Stores a mask key, and a tag for each other board of the cohort."""
        tags = _parts(body[KEY_SIZE:], TAG_SIZE, self._others(index, self._cohort))
        if tags is None or not is_public(body[:KEY_SIZE]):
            return False
        board.key, board.tags = body[:KEY_SIZE], tags
        return True

    # --- stages

    def _begin(self) -> None:
        cohort = sorted(self._answered)
        self._keep_or_abort(cohort)
        if not self.task.masks:
            return self._open(Stage.INPUT, dict.fromkeys(cohort, bytes(2)))
        if len(cohort) < 2:
            self.abort("a single board has no others to hide among")
        self._cohort = cohort
        self._threshold, self._agreeing = thresholds(self.task, len(cohort))
        if self._agreeing >= len(cohort):
            self.abort(f"{len(cohort)} boards are too few for {self.task.colluders} colluders")
        self._open(Stage.COHORT, dict.fromkeys(cohort, cohort_body(cohort)))

    def _show_peers(self) -> None:
        bodies = {}
        for index in sorted(self._answered):
            peers = self._others(index, self._advertised())
            if len(peers) >= self._agreeing:
                bodies[index] = b"".join(self._advert(peer, index) for peer in peers)
        self._keep_or_abort(bodies)
        self._open(Stage.PEERS, bodies)

    def _pass_shares(self) -> None:
        bodies = {}
        for index in sorted(self._answered):
            sharers = self._others(index, self._sharers())
            if len(sharers) >= self._agreeing:
                given = b"".join(struct.pack("<H", peer) + self._boards[peer].sealed[index] for peer in sharers)
                bodies[index] = struct.pack("<H", len(sharers)) + given
        self._keep_or_abort(bodies)
        self._open(Stage.INPUT, bodies)

    def _show_survivors(self) -> None:
        """Asks for confirmations only if enough boards are left to finish: whatever boards answer is revealed."""
        survivors = sorted(self._answered)
        self._keep_or_abort(survivors)
        if len(survivors) <= self._agreeing:
            self._lack()
        self._open(Stage.SURVIVORS, dict.fromkeys(survivors, survivors_body(self._cohort, self._answered)))

    def _ask_for_shares(self) -> None:
        bodies = {}
        for index in sorted(self._answered):
            confirmed = self._others(index, sorted(self._answered))
            if len(confirmed) >= self._agreeing:
                bodies[index] = b"".join(_CONFIRM.pack(peer, self._boards[peer].confirms[index]) for peer in confirmed)
        if len(bodies) <= self._threshold:
            self._lack()
        self._open(Stage.UNMASK, bodies)

    def _lack(self) -> NoReturn:
        self.abort("too few boards are left to remove masks")

    def _finish(self) -> None:
        survivors = [index for index, board in self._boards.items() if board.vector is not None]
        if not self.task.masks:
            self._keep_or_abort(survivors)
        total = np.zeros(self.task.parameters, np.uint32)
        for index in survivors:
            total += self._vector(index)
        if self.task.masks:
            total -= self._masks()
        self._sum = Sum(total.view(np.int32).astype(np.int64), survivors)
        self._boards, self._bodies = {}, {}

    def _open(self, stage: Stage, bodies: dict[int, bytes]) -> None:
        self.stage, self._bodies, self._answered = stage, bodies, set()

    def _keep_or_abort(self, left: Sequence[int] | dict[int, bytes]) -> None:
        if len(left) < self.task.least:
            self.abort(f"{len(left)} boards are left after {self.stage.name}, the task requires {self.task.least}")

    # --- who is who

    def _others(self, index: int, boards: Sequence[int]) -> list[int]:
        return [other for other in boards if other != index]

    def _advertised(self) -> list[int]:
        """Boards that have sent a mask key for this round, ascending."""
        return [index for index, board in self._boards.items() if board.key]

    def _sharers(self) -> list[int]:
        """Boards that have sent shares, ascending."""
        return [index for index, board in self._boards.items() if board.sealed]

    @property
    def survivors(self) -> list[int]:
        """Boards whose masked update has arrived, ascending."""
        return [index for index, board in self._boards.items() if board.vector is not None]

    # --- masks

    def _masks(self) -> NDArray[np.uint32]:
        """u32[n]: all masks that are in the sum of the survivors' vectors. Raises RoundAborted."""
        total = np.zeros(self.task.parameters, np.uint32)
        for index in self._sharers():
            secret = self._opened(index)
            if self._boards[index].vector is not None:
                total += mask(secret, self.number, len(total))
                continue
            if public_of(secret) != self._boards[index].key:
                self.abort(f"shares of board {index} do not yield the key that it published")
            for peer in self.survivors:
                shared = mask(pair_seed(secret, self._boards[peer].key), self.number, len(total))
                total += shared if peer < index else -shared
        return total

    def _opened(self, index: int) -> bytes:
        """A board's secret from the others' shares. x-coordinates: 1, 2, ... in the cohort without that board."""
        places = enumerate(self._others(index, self._cohort), 1)
        shares = {place: share for place, peer in places if (share := self._boards[peer].shares.get(index))}
        if len(shares) < self._threshold:
            self.abort(f"{len(shares)} shares of board {index} came, {self._threshold} are needed")
        secret = secret_of(shares, self._threshold)
        if secret is None:
            self.abort(f"shares of board {index} contradict each other: a board of the cohort is lying")
        return secret

    # --- data that a board has sent by this stage

    def _advert(self, sender: int, receiver: int) -> bytes:
        board = self._boards[sender]
        return struct.pack("<H", sender) + board.key + board.tags[receiver]

    def _vector(self, index: int) -> NDArray[np.uint32]:
        vector = self._boards[index].vector
        assert vector is not None
        return vector


def _parts(body: bytes, size: int, owners: Sequence[int]) -> dict[int, bytes] | None:
    """The body in parts of `size` bytes, one for each of `owners`; None if its length does not match."""
    if len(body) != size * len(owners):
        return None
    return {owner: body[size * place : size * (place + 1)] for place, owner in enumerate(owners)}
