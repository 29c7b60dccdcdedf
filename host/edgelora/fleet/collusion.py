"""Probabilities of a round: that a cohort has more colluders than tolerated, and that the round ends without a sum.

A board sets its thresholds for c colluders in its cohort of m boards (`colluders` of a task). With up to c colluders
the guarantee is certain: whatever the server claims, each sum that it can open has the updates of m - c honest boards.

Against a malicious server, c must be at least C, the number of colluders in the whole fleet: that server chooses the
cohort and may put all colluders in it. A smaller c fails with probability `crowded`, which holds only for an honest
server that draws cohorts at random and whose colluders are passive. For a malicious server it says nothing.
"""

from __future__ import annotations

import math

from edgelora.base.errors import InputError


def crowded(boards: int, colluders: int, cohort: int, tolerated: int) -> float:
    """P[more than `tolerated` of `colluders` are in a cohort], drawn at random from all `boards` without replacement.

    The hypergeometric tail, in exact integers, for one round. It does not apply to a server that chooses cohorts: that
    one puts all colluders in one, and only `tolerated` >= `colluders` protects. InputError: a part exceeds the whole.
    """
    if not (0 <= colluders <= boards and 0 <= cohort <= boards and tolerated >= 0):
        raise InputError(
            f"{colluders} colluders and a cohort of {cohort} out of {boards} boards, {tolerated} tolerated: give 0 "
            f"or more, and at most {boards} colluders and {boards} boards in a cohort"
        )
    most = min(colluders, cohort)
    ways = sum(
        math.comb(colluders, x) * math.comb(boards - colluders, cohort - x) for x in range(tolerated + 1, most + 1)
    )
    return ways / math.comb(boards, cohort)


def abandoned(cohort: int, agreeing: int, dropouts: float) -> float:
    """P[fewer than agreeing + 1 boards of a cohort are left] when each drops out with probability `dropouts`.

    agreeing: u, how many others a board needs to agree with; with fewer left, the round ends without a sum. Boards
    drop out independently; `dropouts` is for the whole round. InputError: a probability outside 0 to 1.
    """
    if not (0 <= dropouts <= 1 and cohort >= 0 and agreeing >= 0):
        raise InputError(f"{cohort} boards of which {dropouts:g} are lost: give a share from 0 to 1")
    few = (
        math.comb(cohort, left) * (1 - dropouts) ** left * dropouts ** (cohort - left)
        for left in range(min(agreeing, cohort) + 1)
    )
    return min(1.0, math.fsum(few))
