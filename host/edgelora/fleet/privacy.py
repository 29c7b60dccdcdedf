"""What a fleet has told of its boards: the accountant of differential privacy, and who is asked in a round.

Two epsilons are reported, both of a board's whole data (user level), both for zero-out adjacency (`ADJACENCY`):

    outsider   sees the global adapters. Which boards were asked is secret, so sampling amplifies (Poisson, by us)
    server     knows who was asked: the Gaussian mechanism alone, as often as it may have seen the board that it saw
               most; with masks it sees sums, without them each board's update with that board's noise alone

Why zero-out, and not that a board is removed: a sum is divided by the survivors that there were, and a round ends
without one where they are too few. Both depend on how many boards there are, whatever they have learned. A removed
board moves the divisor, so the average moves by up to two clips over the survivors instead of one (z 1, 20 boards
instead of 21: epsilon 10.31, not 4.38), and from `least` boards to one less there is no average at all. A fixed
divisor would leave the second. A board that sends zeros changes neither: what is protected is what a board has
learned, not that it exists.

Sampling amplifies only for those who do not know how many boards answered: what the averages themselves reveal about
that number is not counted. The server's epsilon needs no such assumption, and holds for everybody: what others see is
computed from what the server sees.

The arithmetic is dp-accounting's: privacy loss distributions (PLD), rounded up. A board's noise is discrete; a sum of
such from `least` boards differs from one discrete Gaussian by far less than the digits told, from a sigma of 3 on
(Kairouz, Liu, Steinke 2021, theorem 1).
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
STEPS = 32  # of the grid in a round's standard deviation of the loss: epsilon is too large by 1e-4 of it, about
MOST_STEPS = 2**17  # of the grid up to the mean loss of all rounds, which is about epsilon where that is large
UNLIKELY = 1e-3  # that a board is asked more often than `planned` counts


class BudgetSpent(EdgeloraError, RuntimeError):
    """The next round would tell more of a board than the plan allows."""


@dataclass(frozen=True)
class Epsilons:
    """Of all rounds so far; infinite without noise, 0 before the first."""

    outsider: float
    server: float

    def __str__(self) -> str:
        return f"outsider {self.outsider:.3g}, server {self.server:.3g}"

    @property
    def most(self) -> float:
        return max(self.outsider, self.server)


@dataclass(frozen=True)
class Spent:
    """What was told of boards, by the ledger.

    released: (z, share, times) of rounds whose average was or may be seen by all; server: of the board that the server
    may have seen most, the sum of 1 / z^2 over its rounds: the noise of them all is one Gaussian's with that 1 / z^2.
    """

    released: tuple[tuple[float, float, int], ...] = ()
    server: float = 0.0

    def plus(self, plan: Plan, released: int, seen: int) -> Spent:
        """With so many rounds of a plan more, in which the board that was seen most is seen so often."""
        server = self.server + seen * inverse_square(plan.seen) if seen else self.server
        return Spent((*self.released, (plan.multiplier, plan.share, released)), server)


@dataclass(frozen=True)
class Standing:
    """What a federation's boards have told, and what is left of its budget.

    told: by all federations of the site. rounds: of the plan, that are left; within: how many of them are within the
    budget, as `planned` counts them. recorded: without the accountant told is as the last round has it, within 0.
    """

    told: Epsilons
    delta: float
    budget: float
    rounds: int
    within: int
    recorded: bool = False

    @property
    def left(self) -> float | None:
        """Of the budget, 0 or more; None where there is none."""
        return max(0.0, self.budget - self.told.most) if self.budget else None

    @property
    def words(self) -> str:
        """What is left of the budget."""
        if self.left is None:
            return "no budget was set"
        if self.recorded:
            return f"{self.left:.3g} of {self.budget:g} after the last round"
        return f"{self.left:.3g} of {self.budget:g}, enough for {self.within} of the {self.rounds} rounds that are left"

    def as_json(self) -> dict[str, Any]:
        return {
            "outsider": self.told.outsider,
            "server": self.told.server,
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
    """The boards that are asked in round `step`: each by its own throw (Poisson sampling), from a secret seed."""
    below = math.ceil(share * 2**64)

    def thrown(board: int) -> int:
        message = b"edgelora sample" + secret + step.to_bytes(4, "little") + board.to_bytes(2, "little")
        return int.from_bytes(hashlib.sha512(message).digest()[:8], "little")

    return [board for board in boards if thrown(board) < below]


def epsilons(spent: Spent, delta: float) -> Epsilons:
    """At this delta, for zero-out adjacency; never below the truth."""
    counts: dict[tuple[float, float], int] = {}
    for z, share, times in spent.released:
        counts[z, share] = counts.get((z, share), 0) + times
    rounds = tuple((z, share, times) for (z, share), times in sorted(counts.items()) if times)
    server = ((1 / math.sqrt(spent.server), 1.0, 1),) if 0 < spent.server < math.inf else ()
    return Epsilons(_epsilon(rounds, delta), math.inf if math.isinf(spent.server) else _epsilon(server, delta))


def check_budget(plan: Plan, after: Spent) -> None:
    """Whether what would be told then is within the plan's budget, which it has. BudgetSpent if it is not."""
    told = epsilons(after, plan.delta)
    if told.most > plan.budget:
        hidden = "" if plan.masks else ", or one with masks"
        raise BudgetSpent(
            f"after the next round epsilon would be {told}, the budget is {plan.budget:g} ({ADJACENCY}): the "
            "federation ends here, with the adapter of the round before",
            remedy=f"publish that, or begin a federation with more noise, a smaller share or fewer rounds{hidden}",
        )


def planned(plan: Plan, spent: Spent, rounds: int) -> Epsilons:
    """After so many rounds more, none repeated: of the server with the board that is asked most, but for `UNLIKELY`."""
    return epsilons(spent.plus(plan, rounds, most_asked(plan.boards, plan.share, rounds)), plan.delta)


def standing(plan: Plan, spent: Spent, rounds: int) -> Standing:
    """Where so many of the plan's rounds are left."""
    return Standing(epsilons(spent, plan.delta), plan.delta, plan.budget, rounds, _within(plan, spent, rounds))


def _within(plan: Plan, spent: Spent, rounds: int) -> int:
    """How many of so many rounds more are within the plan's budget."""
    if not plan.budget:
        return rounds
    if epsilons(spent, plan.delta).most > plan.budget:
        return 0
    low, high = 0, rounds + 1  # the first is within it, the last is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if planned(plan, spent, middle).most <= plan.budget else (low, middle)
    return low


def most_asked(boards: int, share: float, rounds: int) -> int:
    """How often a board is asked at most, of all, but for a chance of `UNLIKELY`; all rounds at a share of 1."""
    if share == 1:
        return rounds
    left, times = 1.0, 0
    while times < rounds and boards * left > UNLIKELY:  # left: the chance that a board is asked `times` times or more
        log = math.lgamma(rounds + 1) - math.lgamma(times + 1) - math.lgamma(rounds - times + 1)
        left -= math.exp(log + times * math.log(share) + (rounds - times) * math.log1p(-share))
        times += 1
    return times if boards * left > UNLIKELY else times - 1


# ---- one Gaussian: exact, and without the accountant, as a board's own policy is judged


def gaussian_epsilon(cost: float, delta: float) -> float:
    """The least epsilon of Gaussian sums whose 1 / z^2 add up to `cost`, exact (Balle, Wang 2018); inf for no end."""
    if cost <= 0:
        return 0.0
    if not math.isfinite(cost):
        return math.inf
    a = math.sqrt(cost)

    def normal(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2  # exact far below 0, too

    def told(epsilon: float) -> float:
        """The delta of an epsilon."""
        rest = normal(-a / 2 - epsilon / a)
        return normal(a / 2 - epsilon / a) - (math.exp(epsilon + math.log(rest)) if rest else 0.0)

    low, high = 0.0, 1.0
    while told(high) > delta:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if told(middle) > delta else (low, middle)
    return high


# ---- privacy loss distributions: both epsilons of a federation, so that rounding never tells them apart


@functools.lru_cache(maxsize=1024)  # some take 0.1 s and more, and are asked about before and after a round
def _epsilon(rounds: tuple[tuple[float, float, int], ...], delta: float) -> float:
    """Of rounds (z, share, times), composed."""
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
    """Gaussians that are not sampled as the one that they compose to."""
    plain = sum(times * inverse_square(z) for z, share, times in rounds if share == 1)
    rest = [one for one in rounds if one[1] < 1]
    return [*rest, (1 / math.sqrt(plain), 1.0, 1)] if plain else rest


def _grid(rounds: Sequence[tuple[float, float, int]]) -> float:
    """The grid of losses, a power of 2.

    "Connect the dots" (Doroshenko and others 2022) spreads a loss over the two points of the grid around it, so it adds
    at most a quarter of the grid's square to a round's variance. A 32nd of the standard deviation adds 1 part in 4,096,
    and half as much to the deviation, to which epsilon is about proportional.
    """
    merged = _merged(rounds)
    variance = sum(times * _deviation(z, share) ** 2 for z, share, times in merged)
    one = math.sqrt(variance / sum(times for _, _, times in merged))
    step = min(one / STEPS, COARSEST) if variance < 2 * COARSEST * MOST_STEPS else variance / 2 / MOST_STEPS
    return float(2.0 ** math.floor(math.log2(max(step, FINEST))))


def _deviation(z: float, share: float) -> float:
    """About the standard deviation of a round's privacy loss."""
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
