"""A federation's rounds by secure aggregation (`secagg.Round`): each board gets its own messages from `Deliver`."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.elm import base_id
from edgelora.learn.training.twin.warm_start import fleet_vector

from .federation import Call, Exchange, Federation, Judge, Total, federate
from .messages import Stage, Task
from .plan import Plan
from .roster import Roster, Site
from .secagg import ReplyRefused, Round, RoundAborted

# Messages by board, the global adapter (only with TASK) and the seconds that boards have -> replies by board.
Deliver = Callable[[dict[int, bytes], bytes, float], dict[int, list[bytes]]]
LEAST_REST = 1.0  # seconds left in a stage below which messages are not sent again


def task_of(federation: Federation, roster: Roster, call: Call) -> Task:
    """The task of a round."""
    return federation.plan.task(
        roster.number,
        base_id(federation.base.elm),
        hashlib.sha256(call.adapter).digest(),
        len(fleet_vector(call.adapter)),
        call.rate,
        call.seed,
    )


def in_stages(federation: Federation, roster: Roster, secret: bytes, deliver: Deliver) -> Exchange:
    """An engine that sends each board its own messages. secret: the server's, whose public key is in the roster.

    If there are more boards than a cohort may have, they are split into several cohorts, whose sums are added.

    Boards are charged just before the first message that can expose their updates. With masks that is UNMASK: until
    enough boards of a cohort have given shares of a board's seed, its MASKED is random numbers to the server and to
    colluders. Without masks it is INPUT, which a board answers with its update, even if late.
    """

    def exchange(call: Call) -> Total:
        task = task_of(federation, roster, call)
        made = [Round(task, call.number, roster, secret, part) for part in parted(call.boards, task)]
        sent = _Sent(deliver)
        while under_way := [one for one in made if not one.done]:
            stage = under_way[0].stage
            if stage == (Stage.UNMASK if task.masks else Stage.INPUT):
                call.charge([board for one in under_way for board in (one.survivors if task.masks else one.waiting)])
            sent.stage(under_way, call.adapter if stage == Stage.TASK else b"", federation.plan)
        sums = [one.result() for one in made if one.complete]
        vector = np.zeros(task.parameters, np.int64)
        for one in sums:
            vector += one.vector
        survivors = sum(len(one.survivors) for one in sums)
        return Total(vector, survivors, sent.down, sent.up, "" if sums else made[0].why)

    return exchange


def parted(boards: Sequence[int], task: Task) -> list[list[int]]:
    """Splits boards into the fewest possible cohorts, whose sizes differ by at most one; the round's seed shuffles."""
    count = -(-len(boards) // task.cohort) if task.masks else 1
    mixed = np.random.default_rng(task.seed).permutation(sorted(boards)).tolist()
    return [sorted(mixed[first::count]) for first in range(max(count, 1))]


def federate_site(
    federation: Federation,
    site: Site,
    deliver: Deliver,
    progress: Progress = no_progress,
    judge: Judge | None = None,
    stop: int | None = None,
) -> None:
    """`federate` for the boards of a site. Each round reads the current roster, since boards refuse any other.

    Round numbers rise over all federations of the site, even if the clock is set back.
    """
    read: list[Roster] = []

    def boards() -> dict[int, bytes]:
        read[:] = [site.roster()]
        if not read[0].active:
            raise InputError(f"{site.path} has no boards", remedy="enroll some: edgelora fleet enroll")
        return read[0].members

    def exchange(call: Call) -> Total:
        call = replace(call, number=site.next_number(call.number))
        return in_stages(federation, read[0], site.secret(), deliver)(call)

    federation.of_site(site)
    federate(federation, exchange, boards, progress, judge, stop)


class _Sent:
    """Runs a round's stages, and counts the bytes."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver, self.down, self.up = deliver, 0, 0

    def stage(self, made: list[Round], adapter: bytes, plan: Plan) -> None:
        """Runs one stage of all cohorts, until every board has answered or the time is up.

        A refused reply may be a forgery, and the board's own reply may still come; so its message is sent again.
        """
        seconds = plan.deadline if adapter else plan.patience
        end = time.monotonic() + seconds
        rest = seconds
        of = {index: one for one in made for index in one.waiting}
        while of and rest > 0:
            messages = {index: message for index, one in of.items() if (message := one.message(index))}
            self.down += sum(len(message) + len(adapter) for message in messages.values())
            refused = False
            for index, replies in self._deliver(messages, adapter, rest).items():
                refused |= index in messages and not self._take(of[index], index, replies)
            rest = end - time.monotonic()
            of = {index: one for index, one in of.items() if index in one.waiting}
            if not refused or rest < LEAST_REST:
                break
        for one in made:
            with contextlib.suppress(RoundAborted):
                one.close_stage()

    def _take(self, made: Round, index: int, replies: list[bytes]) -> bool:
        """Whether the round accepted one of these replies, or there were none."""
        for reply in replies:
            self.up += len(reply)
            try:
                made.receive(index, reply)
                return True
            except ReplyRefused:
                continue
        return not replies
