"""What a board asks of every task, whoever sends it, and what its rounds may tell of it over its whole life.

A file of JSON on the board, /fleet.json, or beside the secret of a board of this computer (SPEC.md, section 17).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass

from edgelora.base.errors import InputError
from edgelora.core.twin import device
from edgelora.core.twin.fleet import FleetError, Member, Policy

from .messages import MAX_COHORT, Channel, Stage, Task, public_of
from .privacy import gaussian_epsilon

POLICY_PATH = "/fleet.json"  # on a board
MAX_POLICY = 4096  # bytes of a file
MILLION = 1_000_000
MOST_COST = 2**64 - 1  # of a round without noise
_fleet = device.module("fleet")
_MOST: dict[str, int] = dict(zip(_fleet.RULES, _fleet.LIMITS, strict=True))


def _policy(rules: dict[str, int]) -> Policy:
    return Policy(**rules | {"masks": bool(rules.get("masks", 0))})  # type: ignore[arg-type]


SAFE = _policy(dict(zip(_fleet.RULES, _fleet.SAFE, strict=True)))  # of a board that was given none
# Of fleets whose server may see what sums tell: nothing of one board alone, and nothing of noise.
SUMS = Policy(masks=True)
NAMED = {"safe": SAFE, "sums": SUMS}


def parse_policy(data: bytes, name: str = "policy") -> Policy:
    """Raises InputError where a field is unknown or out of range."""
    try:
        wanted = json.loads(data)
    except ValueError as error:
        raise InputError(f"{name} is no JSON: {error}") from None
    if not isinstance(wanted, dict) or set(wanted) - set(_MOST):
        raise InputError(f"{name}: give an object of some of {', '.join(_MOST)}")
    for field, value in wanted.items():
        most = _MOST[field]
        if type(value) is not int or not 0 <= value <= most:  # true is no number
            raise InputError(f"{name}: {field} is {value!r}: give a whole number from 0 to {most}")
    return _policy(wanted)


def policy_json(policy: Policy) -> bytes:
    """As boards read it."""
    return (json.dumps(asdict(policy) | {"masks": int(policy.masks)}) + "\n").encode()


def refusal(policy: Policy, task: Task) -> str:
    """Why a board with this policy, which has taken part in no round, refuses a task; "" if it does not."""
    secret, server = os.urandom(32), os.urandom(32)
    board = Member(secret, public_of(server), bytes(8), os.urandom(32), 0, roster=task.roster, policy=policy)
    board.finish()
    message = Channel.between(server, public_of(secret), bytes(8), 1).wrap(Stage.TASK, 0, task.pack())
    try:
        board.receive(message)
    except FleetError as error:
        return str(error)
    return ""


# ---- what costs come to


@dataclass(frozen=True)
class Told:
    """What all rounds of a board's life may tell of it, as epsilons at one delta: a board's update being replaced by
    zeros. Infinite where its policy bounds nothing.

    outsider: who sees the global adapters alone. server: an honest one that looks at all it gets. lying: one that does
    as it likes, with as many colluding boards as the policy takes off.
    """

    outsider: float
    server: float
    lying: float
    delta: float


def told_by(policy: Policy, delta: float, cost: float | None = None, least: int = 0) -> Told:
    """Of the budget, or of `cost`, in millionths of 1 / z^2 as a board counts it. least: survivors of each round.

    A board counts no noise of colluders; where there are none, a sum has that of all `least` boards, which are as many
    as a cohort may have if nothing is known. A board can't tell who was asked, so that no chance of being asked makes
    the outsider's smaller here: a federation's plan may say so.
    """
    spent = (policy.budget or math.inf) / MILLION if cost is None else cost / MILLION
    most = least or min(policy.most_cohort or MAX_COHORT, MAX_COHORT)
    honest = (most - policy.colluders) / most if policy.masks and most > policy.colluders else 1.0
    server = gaussian_epsilon(spent * honest, delta)
    return Told(server, server, gaussian_epsilon(spent, delta), delta)
