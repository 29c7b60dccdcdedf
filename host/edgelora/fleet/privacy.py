"""The accountant of differential privacy of a fleet, and the Poisson sampling of boards for a round.

It reports two epsilons, both at user level (a board's whole data), both for zero-out adjacency (`ADJACENCY`):

    outsider   sees the global adapters. Which boards were asked is secret, so Poisson sampling amplifies privacy
    server     knows who was asked: the Gaussian mechanism without amplification, composed over the rounds of the board
               seen most often; with masks it sees sums, without them each board's update with only its own noise

Why zero-out adjacency, and not removal of a board: a sum is divided by the number of survivors, and a round ends
without a sum if they are too few. Both depend on how many boards there are, whatever they have learned. Removing a
board changes the divisor, so the average moves by up to two clips over the survivors instead of one (z 1, 20 boards
instead of 21: epsilon 10.31, not 4.38), and from `least` boards to one less there is no average at all. A fixed
divisor would not solve the latter. A board that sends zeros changes neither: what a board has learned is protected,
but not that it exists.

Sampling amplifies only against those who do not know how many boards answered: what the averages themselves reveal
about that number is not counted. The server's epsilon needs no such assumption and holds for everybody, since what
others see is computed from what the server sees.

The arithmetic is that of dp-accounting: privacy loss distributions (PLD), rounded up. A board's noise is discrete; for
sigma >= 3, the sum of the noise of `least` boards differs from one discrete Gaussian by far less than the reported
digits (Kairouz, Liu, Steinke 2021, theorem 1).
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgelora.base.errors import EdgeloraError, MissingPackage

from .plan import Plan

ADJACENCY = "zero-out adjacency: a board's updates replaced by zeros, the number of survivors unchanged"
FINEST, COARSEST = 2.0**-20, 2.0**-7  # grid of privacy losses
STEPS = 32  # grid steps per standard deviation of a round's loss: epsilon is too large by about 1e-4 of itself
MOST_STEPS = 2**17  # grid steps up to the mean loss of all rounds, which is close to a large epsilon
UNLIKELY = 1e-3  # probability that a board is asked more often than `planned` counts


class BudgetSpent(EdgeloraError, RuntimeError):
    """The next round would exceed the plan's privacy budget."""


@dataclass(frozen=True)
class Epsilons:
    """The epsilons of all rounds so far; infinite without noise, 0 before the first."""

    outsider: float
    server: float

    def __str__(self) -> str:
        return f"outsider {self.outsider:.3g}, server {self.server:.3g}"

    @property
    def most(self) -> float:
        return max(self.outsider, self.server)


@dataclass(frozen=True)
class Spent:
    """The privacy cost in the ledger.

    released: (z, share, times) of rounds whose average was or may have been published; server: the sum of 1 / z^2 over
    the rounds of the board that the server may have seen most often: they compose to one Gaussian with that 1 / z^2.
    """

    released: tuple[tuple[float, float, int], ...] = ()
    server: float = 0.0

    def plus(self, plan: Plan, released: int, seen: int) -> Spent:
        """The cost after `released` more rounds of a plan, in which the board seen most is seen `seen` times."""
        server = self.server + seen * inverse_square(plan.seen) if seen else self.server
        return Spent((*self.released, (plan.multiplier, plan.share, released)), server)


@dataclass(frozen=True)
class Standing:
    """The epsilons of a federation's boards, and what is left of its budget.

    epsilons: of all federations of the site. rounds: the plan's remaining rounds; within: how many of them fit the
    budget, as `planned` counts. recorded: dp-accounting is missing; epsilons are the last round's, and within is 0.
    """

    epsilons: Epsilons
    delta: float
    budget: float
    rounds: int
    within: int
    recorded: bool = False

    @property
    def left(self) -> float | None:
        """What is left of the budget, 0 or more; None without a budget."""
        return max(0.0, self.budget - self.epsilons.most) if self.budget else None

    @property
    def words(self) -> str:
        """What is left of the budget, in words."""
        if self.left is None:
            return "no budget was set"
        if self.recorded:
            return f"{self.left:.3g} of {self.budget:g} after the last round"
        return f"{self.left:.3g} of {self.budget:g}, enough for {self.within} of the {self.rounds} rounds that are left"

    def as_json(self) -> dict[str, Any]:
        return {
            "outsider": self.epsilons.outsider,
            "server": self.epsilons.server,
            "delta": self.delta,
            "adjacency": ADJACENCY,
            "budget": self.budget,
            "left": self.left,
            "rounds_left": self.rounds,
            "rounds_within_budget": self.within,
        }


def inverse_square(z: float) -> float:
    """1 / z^2; infinite without noise."""
    return 1 / (z * z) if z else math.inf


def sampled(secret: bytes, step: int, boards: Sequence[int], share: float) -> list[int]:
    """The boards that round `step` asks: Poisson sampling, each independently with probability `share`.

    secret: 32 bytes, the seed.
    """
    below = math.ceil(share * 2**64)

    def thrown(board: int) -> int:
        message = b"edgelora sample" + secret + step.to_bytes(4, "little") + board.to_bytes(2, "little")
        return int.from_bytes(hashlib.sha512(message).digest()[:8], "little")

    return [board for board in boards if thrown(board) < below]


def epsilons(spent: Spent, delta: float) -> Epsilons:
    """Epsilons at this delta, for zero-out adjacency; upper bounds."""
    counts: dict[tuple[float, float], int] = {}
    for z, share, times in spent.released:
        counts[z, share] = counts.get((z, share), 0) + times
    rounds = tuple((z, share, times) for (z, share), times in sorted(counts.items()) if times)
    server = ((1 / math.sqrt(spent.server), 1.0, 1),) if 0 < spent.server < math.inf else ()
    return Epsilons(_epsilon(rounds, delta), math.inf if math.isinf(spent.server) else _epsilon(server, delta))


def check_budget(plan: Plan, after: Spent) -> None:
    """BudgetSpent if the cost `after` the next round exceeds the plan's budget. The plan has one."""
    spent = epsilons(after, plan.delta)
    if spent.most > plan.budget:
        hidden = "" if plan.masks else ", or one with masks"
        raise BudgetSpent(
            f"after the next round epsilon would be {spent}, the budget is {plan.budget:g} ({ADJACENCY}): the "
            "federation ends here, with the previous round's adapter",
            remedy=f"publish that, or begin a federation with more noise, a smaller share or fewer rounds{hidden}",
        )


def planned(plan: Plan, spent: Spent, rounds: int) -> Epsilons:
    """Epsilons after `rounds` more rounds, none repeated; the server's may be exceeded with probability `UNLIKELY`."""
    return epsilons(spent.plus(plan, rounds, most_asked(plan.boards, plan.share, rounds)), plan.delta)


def standing(plan: Plan, spent: Spent, rounds: int) -> Standing:
    """The standing of a plan with `rounds` rounds left."""
    return Standing(epsilons(spent, plan.delta), plan.delta, plan.budget, rounds, _within(plan, spent, rounds))


def _within(plan: Plan, spent: Spent, rounds: int) -> int:
    """How many of `rounds` more rounds fit the plan's budget."""
    if not plan.budget:
        return rounds
    if epsilons(spent, plan.delta).most > plan.budget:
        return 0
    low, high = 0, rounds + 1  # low fits the budget, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if planned(plan, spent, middle).most <= plan.budget else (low, middle)
    return low


def most_asked(boards: int, share: float, rounds: int) -> int:
    """How often any board is asked at most, except with probability `UNLIKELY`; `rounds` at a share of 1."""
    if share == 1:
        return rounds
    left, times = 1.0, 0
    while times < rounds and boards * left > UNLIKELY:  # left: P[a board is asked `times` times or more]
        log = math.lgamma(rounds + 1) - math.lgamma(times + 1) - math.lgamma(rounds - times + 1)
        left -= math.exp(log + times * math.log(share) + (rounds - times) * math.log1p(-share))
        times += 1
    return times if boards * left > UNLIKELY else times - 1


# ---- one Gaussian: exact, without dp-accounting; for a board's policy


def gaussian_epsilon(cost: float, delta: float) -> float:
    """The exact epsilon of Gaussian sums whose 1 / z^2 add up to `cost` (Balle, Wang 2018); inf for infinite cost."""
    if cost <= 0:
        return 0.0
    if not math.isfinite(cost):
        return math.inf
    a = math.sqrt(cost)

    def normal(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2  # accurate far below 0, too

    def delta_at(epsilon: float) -> float:
        """The delta of an epsilon."""
        rest = normal(-a / 2 - epsilon / a)
        return normal(a / 2 - epsilon / a) - (math.exp(epsilon + math.log(rest)) if rest else 0.0)

    low, high = 0.0, 1.0
    while delta_at(high) > delta:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return high


# ---- privacy loss distributions: for both epsilons of a federation, so that both are rounded alike


@functools.lru_cache(maxsize=1024)  # some take 0.1 s or more, and are needed before and after a round
def _epsilon(rounds: tuple[tuple[float, float, int], ...], delta: float) -> float:
    """Epsilon of the composition of rounds (z, share, times)."""
    if not rounds:
        return 0.0
    if not all(z for z, _, _ in rounds):
        return math.inf
    grid = _grid(rounds)
    whole = None
    for z, share, times in _merged(rounds):
        one = _distribution(z, share, grid)
        part = one if times == 1 else one.self_compose(times)
        whole = part if whole is None else whole.compose(part)
    assert whole is not None
    return float(whole.get_epsilon_for_delta(delta))


def _merged(rounds: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """The rounds, with all unsampled Gaussians (share 1) replaced by the one that they compose to."""
    plain = sum(times * inverse_square(z) for z, share, times in rounds if share == 1)
    rest = [one for one in rounds if one[1] < 1]
    return [*rest, (1 / math.sqrt(plain), 1.0, 1)] if plain else rest


def _grid(rounds: Sequence[tuple[float, float, int]]) -> float:
    """The grid of losses, a power of 2.

    "Connect the dots" (Doroshenko and others 2022) splits a loss between the two grid points around it, which adds at
    most a quarter of the squared grid step to a round's variance. A step of 1/32 of the standard deviation adds 1 part
    in 4,096 to the variance and half as much to the deviation, and epsilon is about proportional to the deviation.
    """
    merged = _merged(rounds)
    variance = sum(times * _deviation(z, share) ** 2 for z, share, times in merged)
    one = math.sqrt(variance / sum(times for _, _, times in merged))
    step = min(one / STEPS, COARSEST) if variance < 2 * COARSEST * MOST_STEPS else variance / 2 / MOST_STEPS
    return float(2.0 ** math.floor(math.log2(max(step, FINEST))))


def _deviation(z: float, share: float) -> float:
    """The approximate standard deviation of a round's privacy loss."""
    return min(1 / z, share * math.sqrt(math.expm1(min(z**-2, 100.0))))


@functools.lru_cache(maxsize=256)
def _distribution(z: float, share: float, grid: float) -> Any:
    return _pld().from_gaussian_mechanism(z, sampling_prob=share, value_discretization_interval=grid)


def _pld() -> Any:
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ModuleNotFoundError as error:
        raise MissingPackage("the privacy accountant needs dp-accounting: pip install 'edgelora[fleet]'") from error
    logging.getLogger("absl").setLevel(logging.ERROR)
    return privacy_loss_distribution
