"""The largest reply of a board in a round, by stage and by the round's task."""

from __future__ import annotations

from edgelora.base.errors import InputError

from .messages import AROUND, ENVELOPE, MAX_COHORT, MAX_PARAMETERS, SEALED_SIZE, TAG_SIZE, Stage, Task

# Bytes of a body (SPEC.md, section 17, Messages): fixed, for each of n values, for each of k neighbours.
_BODIES = {
    Stage.READY: (0, 0, 0),
    Stage.ADVERT: (32, 0, TAG_SIZE),
    Stage.SHARES: (0, 0, SEALED_SIZE),
    Stage.MASKED: (0, 4, 0),
    Stage.CONFIRM: (0, 0, TAG_SIZE),
    Stage.OPENED: (0, 0, 32),
}


def task_in(message: bytes) -> Task | None:
    """The task in a TASK message; None for other stages. Raises InputError if the task is malformed."""
    if message[4] != Stage.TASK:
        return None
    return Task.unpack(message[ENVELOPE.size : -TAG_SIZE])


def largest_reply(message: bytes, task: Task | None) -> int:
    """The most bytes of a board's reply to the server's message. task: the round's; None: the largest of any round."""
    values, neighbours = MAX_PARAMETERS, MAX_COHORT - 1
    if task:
        values, neighbours = task.parameters, task.cohort - 1 if task.masks else 0
    try:
        fixed, value, neighbour = _BODIES[Stage(message[4] + 1)]
    except (KeyError, ValueError):
        raise InputError(f"a message of stage {message[4]}, which has no reply") from None
    return AROUND + fixed + value * values + neighbour * neighbours
