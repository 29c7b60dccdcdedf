"""A membership inference attack on the global adapter does no better than epsilon allows."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
from fresh import rounds

from edgelora.core.twin.fleet_update import clip_update
from edgelora.fleet import averaging, privacy
from edgelora.fleet.client_training import fresh_adapter
from edgelora.fleet.plan import Plan
from edgelora.fleet.simulated_boards import boards_of, fleet_base, private_update, update_of
from edgelora.learn.training.twin.warm_start import fleet_vector, restarted

OPEN = Plan(boards=60, rounds=1, least=8, masks=False, seed=1)  # neither clip nor noise
TIGHT = replace(OPEN, clip=1500, noise=4.0, masks=True)  # the attacker sees the sum
SHADOWS = rounds(600)


def test_membership_attacks_succeed_on_open_averages_and_fail_on_private_ones() -> None:
    base = fleet_base()
    start = restarted(fresh_adapter(base.elm, OPEN.rank, OPEN.mode, 1), 0)
    boards = boards_of("har", base.elm, base.name, OPEN.boards)
    before = fleet_vector(start)
    after = [
        (before + update_of(OPEN, base.elm, start, 3000, 1, index, boards.of(index).train)).astype(np.int16)
        for index in range(OPEN.boards)
    ]
    accuracy = {plan: attacked(plan, before, after) for plan in (OPEN, TIGHT)}
    told = privacy.planned(TIGHT, privacy.Spent(), 1)
    bound = (math.exp(told.server) + TIGHT.delta) / (1 + math.exp(told.server))
    assert told.server < 1.5
    spread = 2 / math.sqrt(SHADOWS / 2)  # more than two standard errors
    assert accuracy[TIGHT] < min(bound, 0.5 + 1 / (2 * TIGHT.multiplier)) + spread
    assert accuracy[OPEN] > 0.9 > accuracy[TIGHT] + 0.2, accuracy


def attacked(plan: Plan, before: np.ndarray, after: list[np.ndarray]) -> float:
    """The attack's accuracy; in half of the rounds board 0 is one of the eight.

    The attacker knows all samples, and so each board's update without noise. It measures how far the average moved
    towards board 0's update, by the likelihood ratio of normal distributions. The threshold is fitted on half of the
    rounds, the shadows, and the accuracy is that on the others.
    """
    drawn = random.Random(5)
    sent = np.array([clip_update(before, one, plan.clip) for one in after], float)
    spread = np.cov(sent[1:].T) / plan.least + (plan.sigma**2 / plan.least + 1 / 12) * np.eye(sent.shape[1])
    way = np.linalg.solve(spread, sent[0] - sent[1:].mean(0))
    scores, members = [], []
    for shadow in range(SHADOWS):
        member = shadow % 2 == 0
        others = drawn.sample(range(1, len(after)), plan.least - member)
        chosen = [0, *others] if member else others
        total = sum(
            private_update(before, after[index], plan, 1000 * shadow + index).astype(np.int64) for index in chosen
        )
        scores.append(float(averaging.mean(np.asarray(total), plan.least) @ way))
        members.append(member)
    values, truth = np.array(scores), np.array(members)
    shadows = np.arange(SHADOWS) % 4 < 2
    best = max(values[shadows], key=lambda cut: np.mean((values[shadows] >= cut) == truth[shadows]))
    return float(np.mean((values[~shadows] >= best) == truth[~shadows]))
