"""Rounds with masks, by the boards' own C: the same bytes as a plain loop; only boards that drop out are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fleet_twins import Twins

from edgelora.fleet import federation
from edgelora.fleet.federation import Federation
from edgelora.fleet.plan import Plan
from edgelora.fleet.secagg_rounds import federate_site
from edgelora.fleet.simulate import plain_loop
from edgelora.fleet.simulated_boards import fleet_base

PLAN = Plan(boards=8, rounds=2, least=5, colluders=0, seed=9)


def test_masks_cancel_to_the_last_bit(tmp_path: Path) -> None:
    base = fleet_base()
    twins = Twins(tmp_path, base, 8, most=1000)
    plain = Federation.create(tmp_path / "plain", PLAN, base)
    federation.federate(plain, plain_loop(plain, twins.boards))
    masked = Federation.create(tmp_path / "masked", PLAN, base)
    federate_site(masked, twins.site, twins.deliver)
    assert masked.sha256 == plain.sha256
    assert all(one.up > 8 * 4 * 632 and one.down > 0 for one in masked.rounds)


def test_boards_are_enrolled_and_revoked_while_a_federation_runs(tmp_path: Path) -> None:
    base = fleet_base()
    twins = Twins(tmp_path, base, 7)

    def between(done: int, *_: object) -> None:
        if done == 1:
            late = twins.identity(7)
            twins.site.enroll(late.public, "late", twins.key)
            twins.members.append(twins.member(late))
        elif done == 2:
            twins.site.revoke("0", twins.key)

    one = Federation.create(tmp_path / "one", replace(PLAN, boards=7, rounds=3), base)
    federate_site(one, twins.site, twins.deliver, between)
    assert [each.survivors for each in one.rounds] == [7, 8, 7]
    assert one.asked == [list(range(7)), list(range(8)), list(range(1, 8))]
