"""A board's policy: what it requires of every task, and how much all rounds of its life may reveal of it.

A JSON file: /fleet.json on a board, or next to the secret of a board of this computer (SPEC.md, section 17).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass

from edgelora.base.errors import InputError
from edgelora.core.twin import device, native_fleet
from edgelora.core.twin.fleet_update import Policy

from .messages import MAX_COHORT, Channel, Stage, Task, public_of
from .privacy import gaussian_epsilon

MAX_POLICY = 4096  # bytes of a file
MILLION = 1_000_000
MOST_COST = 2**64 - 1  # the cost of a round without noise
_fleet = device.module("fleet")
POLICY_PATH: str = _fleet.POLICY  # on a board
_MOST: dict[str, int] = dict(zip(_fleet.RULES, _fleet.LIMITS, strict=True))


def _policy(rules: dict[str, int]) -> Policy:
    return Policy(**rules | {"masks": bool(rules.get("masks", 0))})  # type: ignore[arg-type]


SAFE = _policy(dict(zip(_fleet.RULES, _fleet.SAFE, strict=True)))  # the policy of a board without a file
# For fleets whose server may see sums: requires masks, but no noise.
SUMS = Policy(masks=True)
NAMED = {"safe": SAFE, "sums": SUMS}


def parse_policy(data: bytes, name: str = "policy") -> Policy:
    """Raises InputError where a field is unknown or out of range."""
    try:
        wanted = json.loads(data)
    except ValueError as error:
        raise InputError(f"{name} is not JSON: {error}") from None
    if not isinstance(wanted, dict) or set(wanted) - set(_MOST):
        raise InputError(f"{name}: give an object of some of {', '.join(_MOST)}")
    for field, value in wanted.items():
        most = _MOST[field]
        if type(value) is not int or not 0 <= value <= most:  # rejects true, which is an int
            raise InputError(f"{name}: {field} is {value!r}: give a whole number from 0 to {most}")
    return _policy(wanted)


def policy_json(policy: Policy) -> bytes:
    """The policy as boards read it."""
    return (json.dumps(asdict(policy) | {"masks": int(policy.masks)}) + "\n").encode()


def refusal(policy: Policy, task: Task) -> str:
    """Why a board with this policy refuses a task; "" if it accepts it. The board has taken part in no round."""
    secret, server = os.urandom(32), os.urandom(32)
    message = Channel.between(server, public_of(secret), bytes(8), 1).wrap(Stage.TASK, 0, task.pack())
    board = bytearray(native_fleet.member_size(native_fleet.MAX_NEIGHBOURS))
    keys = secret, public_of(server), bytes(8), os.urandom(32)
    native_fleet.member_begin(board, *keys, 0, task.roster, 0, policy.pack(), bytes(8))
    while native_fleet.member_work(board):
        pass
    try:
        native_fleet.member_receive(board, bytearray(message))
    except native_fleet.FleetError as error:
        return str(error)
    return ""


# ---- epsilons of a board's cost


@dataclass(frozen=True)
class PolicyEpsilons:
    """What all rounds of a board's life may reveal of it, as epsilons at one delta, for zero-out adjacency.

    An epsilon is infinite if the policy sets no bound. outsider: someone who sees only the global adapters. server: an
    honest but curious server. lying: a malicious server with as many colluding boards as the policy allows for.
    """

    outsider: float
    server: float
    lying: float
    delta: float


def policy_epsilons(policy: Policy, delta: float, cost: float | None = None, least: int = 0) -> PolicyEpsilons:
    """Epsilons of the policy's budget, or of `cost`, in millionths of 1/z^2 as a board counts it.

    least: survivors of each round; 0: unknown, then the policy's largest cohort. A board does not count the noise of
    colluders; without colluders a sum has the noise of all `least` boards, so an honest server's epsilon is smaller. A
    board does not know who was asked, so sampling does not reduce the outsider's epsilon here; a federation's plan may
    reduce it.
    """
    spent = (policy.budget or math.inf) / MILLION if cost is None else cost / MILLION
    most = least or min(policy.most_cohort or MAX_COHORT, MAX_COHORT)
    honest = (most - policy.colluders) / most if policy.masks and most > policy.colluders else 1.0
    server = gaussian_epsilon(spent * honest, delta)
    return PolicyEpsilons(server, server, gaussian_epsilon(spent, delta), delta)
