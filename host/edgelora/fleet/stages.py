"""A federation's rounds by secure sums: each board has messages of its own, which somebody carries (`secagg.Round`)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .. import formats
from ..errors import InputError
from ..progress import Progress, untold
from ..training import fleet_vector
from .federation import Call, Exchange, Federation, Judge, Total, federate
from .messages import Stage, Task
from .roster import Roster, Site
from .secagg import ReplyRefused, Round, RoundAborted

# Messages by board, the global adapter (with TASK alone) and the seconds that boards have: their replies.
Deliver = Callable[[dict[int, bytes], bytes, float], dict[int, list[bytes]]]
LEAST_REST = 1.0  # seconds of a stage that are worth another try


def task_of(federation: Federation, roster: Roster, call: Call) -> Task:
    """What boards are told of a round."""
    plan = federation.plan
    return Task(
        roster=roster.number,
        base_id=formats.base_id(federation.base.elm),
        adapter_sha256=hashlib.sha256(call.adapter).digest(),
        parameters=len(fleet_vector(call.adapter)),
        epochs=plan.epochs,
        learning_rate=call.rate,
        seed=call.seed,
        clip=plan.clip,
        sigma=plan.sigma,
        least=plan.least,
        neighbours=plan.neighbours if plan.masks else 0,
        threshold=plan.threshold if plan.masks else 0,
        masks=plan.masks,
    )


def in_stages(federation: Federation, roster: Roster, secret: bytes, deliver: Deliver) -> Exchange:
    """An engine of messages for each board. secret: the server's, as the roster names it.

    Boards are charged before the message without which nothing of their updates can be seen. With masks that is UNMASK:
    until a board's neighbours have given shares of its seed, its MASKED is random numbers to the server and to fewer
    colluders than the threshold. Without masks it is INPUT, to which a board answers with its update, also too late.
    """

    def exchange(call: Call) -> Total:
        made = Round(task_of(federation, roster, call), call.number, roster, secret, call.boards)
        sent, summed = _Sent(deliver), list[int]()
        seen = Stage.UNMASK if made.task.masks else Stage.INPUT
        try:
            while not made.done:
                first = made.stage == Stage.TASK
                asked = made.waiting
                if made.stage == seen:
                    call.charge(summed if made.task.masks else asked)
                seconds = federation.plan.deadline if first else federation.plan.patience
                sent.stage(made, call.adapter if first else b"", seconds)
                if made.stage == Stage.INPUT:
                    summed = sorted(set(asked) - set(made.waiting))
                made.close_stage()
            total = made.result()
        except RoundAborted as error:
            return Total(np.zeros(len(fleet_vector(call.adapter)), np.int64), 0, sent.down, sent.up, str(error))
        return Total(total.vector, len(total.survivors), sent.down, sent.up)

    return exchange


def federate_site(
    federation: Federation,
    site: Site,
    deliver: Deliver,
    progress: Progress = untold,
    judge: Judge | None = None,
    stop: int | None = None,
) -> None:
    """`federate` for the boards of a site, in each round those of its roster of then: boards refuse any other.

    Numbers rise over all federations of the site, whatever its clock does.
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
    """Carries a round's stages, and counts bytes."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver, self.down, self.up = deliver, 0, 0

    def stage(self, made: Round, adapter: bytes, seconds: float) -> None:
        """Until every board has answered or the time is over. What is refused may be a forgery: the board's own may
        still come, so its message is sent again."""
        end = time.monotonic() + seconds
        rest = seconds
        while made.waiting and rest > 0:
            messages = {i: message for i in made.waiting if (message := made.message(i))}
            self.down += sum(len(message) + len(adapter) for message in messages.values())
            refused = False
            for index, replies in self._deliver(messages, adapter, rest).items():
                refused |= index in messages and not self._take(made, index, replies)
            rest = end - time.monotonic()
            if not refused or rest < LEAST_REST:
                return

    def _take(self, made: Round, index: int, replies: list[bytes]) -> bool:
        """Whether one of these was the board's."""
        for reply in replies:
            self.up += len(reply)
            try:
                made.receive(index, reply)
                return True
            except ReplyRefused:
                continue
        return not replies
