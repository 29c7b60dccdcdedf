"""What a federation has told of its boards: the accountant of differential privacy, and who is asked in a round.

Two epsilons are told, both of a board's whole data (user level), boards being added or removed:

    outsider   sees the global adapters. Which boards were asked is secret, so sampling amplifies (Poisson, by us)
    server     knows who was asked: the Gaussian mechanism alone, as often as the board that was asked most; with masks
               it sees sums, without them each board's update with that board's noise alone

The arithmetic is dp-accounting's (Renyi). A board's noise is discrete; a sum of such from `least` boards differs from
one discrete Gaussian by far less than the digits told, from a sigma of 3 on (Kairouz, Liu, Steinke 2021, theorem 1).
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EdgeloraError, MissingPackage
from .plan import Plan


class BudgetSpent(EdgeloraError, RuntimeError):
    """The next round would tell more of a board than the plan allows."""


@dataclass(frozen=True)
class Epsilons:
    """Of all rounds so far; infinite without noise, 0 before the first."""

    outsider: float
    server: float

    def __str__(self) -> str:
        return f"outsider {self.outsider:.3g}, server {self.server:.3g}"


def sampled(secret: bytes, step: int, boards: Sequence[int], share: float) -> list[int]:
    """The boards that are asked in round `step`: each by its own throw (Poisson sampling), from a secret seed."""
    below = math.ceil(share * 2**64)

    def thrown(board: int) -> int:
        message = b"edgelora sample" + secret + step.to_bytes(4, "little") + board.to_bytes(2, "little")
        return int.from_bytes(hashlib.sha512(message).digest()[:8], "little")

    return [board for board in boards if thrown(board) < below]


def epsilons(plan: Plan, published: int, asked: Iterable[Sequence[int]]) -> Epsilons:
    """Of so many published rounds, and of the boards asked in each attempt, published or not."""
    most = max(Counter(board for boards in asked for board in boards).values(), default=0)
    seen = plan.multiplier if plan.masks else plan.alone
    return Epsilons(_epsilon(plan.multiplier, plan.share, published, plan.delta), _epsilon(seen, 1.0, most, plan.delta))


def check_budget(plan: Plan, published: int, asked: Sequence[Sequence[int]]) -> Epsilons:
    """Both epsilons after one more round, with these boards asked last. BudgetSpent if one is above the budget."""
    after = epsilons(plan, published + 1, asked)
    if plan.budget and max(after.outsider, after.server) > plan.budget:
        hidden = "" if plan.masks else ", or one with masks"
        raise BudgetSpent(
            f"after round {published + 1} epsilon would be {after}, the budget is {plan.budget:g}: the federation ends "
            "here, with the adapter of the round before",
            remedy=f"publish that, or begin a federation with more noise, a smaller share or fewer rounds{hidden}",
        )
    return after


@functools.lru_cache(maxsize=1024)  # a sampled round takes 0.1 s and more, and is asked about before and after
def _epsilon(z: float, share: float, times: int, delta: float) -> float:
    if not times:
        return 0.0
    if not z:
        return math.inf
    accounting = _dp_accounting()
    event = accounting.GaussianDpEvent(z)
    if share < 1:
        event = accounting.PoissonSampledDpEvent(share, event)
    accountant = accounting.rdp.RdpAccountant()
    accountant.compose(event, times)
    return float(accountant.get_epsilon(delta))


def _dp_accounting() -> Any:
    try:
        import dp_accounting
        import dp_accounting.rdp
    except ModuleNotFoundError as error:
        raise MissingPackage("the privacy accountant needs dp-accounting: pip install 'edgelora[fleet]'") from error
    logging.getLogger("absl").setLevel(logging.ERROR)  # warns of each order left out: the bound by the others holds
    return dp_accounting
