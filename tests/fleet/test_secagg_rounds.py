"""Rounds with masks, by the boards' own C: the same bytes as a plain loop; only boards that drop out are missing."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.fleet import federation
from edgelora.fleet.federation import Federation
from edgelora.fleet.member import Identity, Past, TwinMember
from edgelora.fleet.plan import Plan
from edgelora.fleet.policy import SUMS
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg_rounds import Deliver, federate_site, in_stages
from edgelora.fleet.simulate import plain_loop
from edgelora.fleet.simulated_boards import Boards, boards_of, fleet_base

PLAN = Plan(boards=8, rounds=2, least=5, colluders=0, seed=9)


def site_of(folder: Path, count: int) -> tuple[Site, list[Identity]]:
    key = Ed25519PrivateKey.generate()
    site = Site.create(folder / "site", "watch", key)
    identities = [Identity.create(folder / f"twin-{i}.key", SUMS) for i in range(count)]
    site.enroll_all([(one.public, f"twin-{i}") for i, one in enumerate(identities)], key)
    return site, identities


def members_of(site: Site, identities: list[Identity], elm: bytes, boards: Boards) -> list[TwinMember]:
    return [TwinMember(one, site.roster, elm, lambda index: boards.of(index).train) for one in identities]


def by_hand(members: list[TwinMember], lost: dict[int, set[int]] | None = None) -> Deliver:
    """Boards answer at once, except those that drop out from a stage on."""

    def deliver(messages: dict[int, bytes], adapter: bytes, seconds: float) -> dict[int, list[bytes]]:
        replies = {}
        for index, message in messages.items():
            if index not in (lost or {}).get(message[4], set()):
                replies[index] = [b"forged", members[index].answer(message, adapter)]
        return replies

    return deliver


def test_masks_cancel_to_the_last_bit(tmp_path: Path) -> None:
    base = fleet_base()
    boards = boards_of("har", base.elm, base.name, 8)
    site, identities = site_of(tmp_path, 8)
    members = members_of(site, identities, base.elm, boards)
    plain = Federation.create(tmp_path / "plain", PLAN, base)
    federation.federate(plain, plain_loop(plain, boards))
    masked = Federation.create(tmp_path / "masked", PLAN, base)
    federation.federate(masked, in_stages(masked, site.roster(), site.secret(), by_hand(members)), site.roster().active)
    assert masked.sha256 == plain.sha256
    assert all(one.up > 8 * 4 * 632 and one.down > 0 for one in masked.rounds)


def test_few_lost_boards_are_left_out_and_too_many_end_the_round(tmp_path: Path) -> None:
    base = fleet_base()
    boards = boards_of("har", base.elm, base.name, 8)
    site, identities = site_of(tmp_path, 8)
    for lost, survivors in (({1: {0}, 7: {0, 5}}, 6), ({1: {0, 1, 2, 3}}, 0)):
        members = members_of(site, identities, base.elm, boards)
        plan = Plan(boards=8, rounds=1, least=5, colluders=0, patience=1.0, deadline=1.0, seed=9)
        one = Federation.create(tmp_path / str(survivors), plan, base)
        before = one.sha256
        told: list[str] = []
        exchange = in_stages(one, site.roster(), site.secret(), by_hand(members, lost))
        federation.federate(one, exchange, site.roster().active, lambda *what, told=told: told.append(what[2]))
        assert one.rounds[0].survivors == survivors
        assert (one.sha256 == before) == (survivors == 0)
        assert ("boards are left" in told[0]) == (survivors == 0)
        for identity in identities:
            identity.keep(Past())  # the next round is in the same second


def test_boards_take_the_rounds_of_a_server_that_starts_again_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    base = fleet_base()
    boards = boards_of("har", base.elm, base.name, 8)
    site, identities = site_of(tmp_path, 8)
    deliver = by_hand(members_of(site, identities, base.elm, boards))
    Federation.create(tmp_path / "one", replace(PLAN, rounds=4), base)
    for stop in (2, 3, 4):
        one = Federation.open(tmp_path / "one")
        exchange = in_stages(one, site.roster(), site.secret(), deliver)
        federation.federate(one, exchange, site.roster().active, stop=stop)
    assert [each.survivors for each in one.rounds] == [8] * 4


def test_boards_are_enrolled_and_revoked_while_a_federation_runs(tmp_path: Path) -> None:
    base = fleet_base()
    boards = boards_of("har", base.elm, base.name, 8)
    key = Ed25519PrivateKey.generate()
    site = Site.create(tmp_path / "site", "watch", key)
    identities = [Identity.create(tmp_path / f"twin-{i}.key", SUMS) for i in range(8)]
    site.enroll_all([(one.public, "") for one in identities[:7]], key)
    members = members_of(site, identities[:7], base.elm, boards)

    def between(done: int, *_: object) -> None:
        if done == 1:
            site.enroll(identities[7].public, "late", key)
            members.extend(members_of(site, identities[7:], base.elm, boards))
        elif done == 2:
            site.revoke("0", key)

    one = Federation.create(tmp_path / "one", replace(PLAN, boards=7, rounds=3), base)
    federate_site(one, site, lambda *asked: by_hand(members)(*asked), between)
    assert [each.survivors for each in one.rounds] == [7, 8, 7]
    assert one.asked == [list(range(7)), list(range(8)), list(range(1, 8))]
