"""What chance does to a round: cohorts with more colluders than boards reckon with, and rounds without a sum.

A board's thresholds are made for c boards of its cohort that work for the server (`colluders` of a task). Up to c,
nothing is left to chance: whatever the server says, a sum that it can open has the updates of m - c honest boards.

Against a server that lies, c has to be at least as large as the number C of colluders in the whole fleet: it chooses
who is in a cohort, and may choose all of them. A smaller c holds with a probability, `crowded`, and only where the
server can't choose: an honest one that draws cohorts at random, and whose colluders only look on. For a lying server
the probability says nothing.
"""

from __future__ import annotations

import math

from edgelora.base.errors import InputError


def crowded(boards: int, colluders: int, cohort: int, tolerated: int) -> float:
    """P[more than `tolerated` of `colluders` are in a cohort], drawn at random from all `boards` without replacement.

    The hypergeometric tail, of exact integers, for one round. Not against a server that chooses cohorts: that has
    all colluders in one, and only `tolerated` >= `colluders` counts. InputError: more in a part than in the whole.
    """
    if not (0 <= colluders <= boards and 0 <= cohort <= boards and tolerated >= 0):
        raise InputError(
            f"{colluders} colluders and a cohort of {cohort} out of {boards} boards, {tolerated} tolerated: none may "
            "be below 0, and neither colluders nor a cohort more than there are boards"
        )
    most = min(colluders, cohort)
    ways = sum(
        math.comb(colluders, x) * math.comb(boards - colluders, cohort - x) for x in range(tolerated + 1, most + 1)
    )
    return ways / math.comb(boards, cohort)


def abandoned(cohort: int, agreeing: int, dropouts: float) -> float:
    """P[fewer than agreeing + 1 boards of a cohort are left], when each is lost with probability `dropouts`.

    agreeing: u, the others with which a board has to agree; with fewer left, the round ends without a sum. Boards
    are lost independently of each other, over the whole round. InputError: a probability outside 0 to 1.
    """
    if not (0 <= dropouts <= 1 and cohort >= 0 and agreeing >= 0):
        raise InputError(f"{cohort} boards of which {dropouts:g} are lost: give a share from 0 to 1")
    few = (
        math.comb(cohort, left) * (1 - dropouts) ** left * dropouts ** (cohort - left)
        for left in range(min(agreeing, cohort) + 1)
    )
    return min(1.0, math.fsum(few))
