"""Epsilon equals an independent computation, whatever happened to the federation, and means what it claims."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import privacy_loss
import pytest
from commands import edgelora, result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fleet_twins import Twins

from edgelora.base.resources import ROOT
from edgelora.fleet import federation, privacy
from edgelora.fleet.federation import Federation, Total
from edgelora.fleet.member import Identity
from edgelora.fleet.plan import Plan
from edgelora.fleet.policy import SUMS
from edgelora.fleet.privacy import ADJACENCY, BudgetSpent, Spent
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg_rounds import federate_site
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.twin.warm_start import fleet_vector

DELTA = 1e-5
NOISY = Plan(boards=6, rounds=40, rank=1, mode="frozen_a", share=0.5, clip=2000, noise=1.0, least=2, colluders=0)


@pytest.fixture(scope="module")
def base() -> Base:
    return fleet_base()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with six boards."""
    key = Ed25519PrivateKey.generate()
    made = Site.create(tmp_path / "site", "band", key)
    made.enroll_all([(Identity.create(tmp_path / f"{i}.key", SUMS).public, "") for i in range(6)], key)
    return made


# ---- arithmetic


@pytest.mark.parametrize(
    "rounds",
    [
        [(2.0, 0.1, 20)],
        [(1.0, 0.1, 20)],
        [(1.0, 0.5, 40)],
        [(4.0, 0.1, 1000)],
        [(0.5, 0.5, 30)],
        [(20.0, 0.01, 10_000)],
        [(0.7, 0.02, 3)],
        [(1.0, 1.0, 1)],
        [(5.0, 1.0, 40)],
        [(0.3, 1.0, 7)],
        [(1.0, 0.5, 2), (10.0, 0.5, 30)],
        [(1.0, 0.5, 3), (2.0, 0.1, 9), (3.0, 1.0, 4)],
        [(8.0, 0.02, 500), (1.5, 0.3, 2), (1.5, 1.0, 1)],
    ],
    ids=str,
)
def test_epsilon_equals_an_independent_pld_to_three_digits_and_is_never_lower(
    rounds: list[tuple[float, float, int]],
) -> None:
    told = privacy.epsilons(Spent(tuple(rounds), sum(times / z**2 for z, _, times in rounds)), DELTA)
    wanted = privacy_loss.composed(rounds, DELTA)
    assert wanted * (1 - 1e-5) < told.outsider < wanted * (1 + 3e-4)
    alone = privacy_loss.gaussian(math.sqrt(sum(times / z**2 for z, _, times in rounds)), DELTA)
    assert alone * (1 - 1e-9) < told.server < alone * (1 + 3e-4)


def test_a_removed_board_would_cost_more_than_one_that_sends_zeros() -> None:
    """One round, z 1, least and survivors 20: why epsilon is stated for zero-out adjacency.

    The other boards' updates are C; the board in question has -C or is removed, and the divisor depends on the number
    of survivors.
    """
    clip, spread = 1.0, 1.0 / math.sqrt(20)
    zeros = privacy_loss.normals((20 * clip / 21, spread / 21**0.5), (19 * clip / 21, spread / 21**0.5), DELTA)
    told = privacy.epsilons(Spent((), 1.0), DELTA).server
    assert f"{told:.3g}" == "4.38" and zeros < told
    removed = privacy_loss.normals((20 * clip / 20, spread / 20**0.5), (19 * clip / 21, spread / 21**0.5), DELTA)
    assert f"{removed:.4g}" == "10.31"
    assert "zero-out" in ADJACENCY and "survivors unchanged" in ADJACENCY


def test_epsilon_for_an_outsider_who_knows_the_number_of_survivors() -> None:
    """Sampling hides a board from an outsider who does not know how many boards answered. An outsider who knew which
    boards were asked would learn more, but never more than the server."""
    z, share, rounds = 2.0, 0.1, 20
    told = privacy.epsilons(Spent(((z, share, rounds),), rounds / z**2), DELTA)
    chances = [math.comb(rounds, n) * share**n * (1 - share) ** (rounds - n) for n in range(rounds + 1)]

    def excess(epsilon: float) -> float:
        parts = (chance * privacy_loss.hockey_stick(math.sqrt(n) / z, epsilon) for n, chance in enumerate(chances))
        return sum(parts) - DELTA

    known = privacy_loss.root(excess, 100.0)
    assert (f"{told.outsider:.2f}", f"{known:.1f}") == ("1.08", "4.4")
    assert told.outsider < known < told.server


def test_epsilon_without_noise_is_infinite() -> None:
    assert privacy.epsilons(Spent(), DELTA) == privacy.Epsilons(0.0, 0.0)
    assert math.isinf(privacy.epsilons(Spent(((0.0, 0.5, 1),), math.inf), DELTA).outsider)
    assert math.isinf(privacy.epsilons(Spent(((1.0, 0.5, 1),), math.inf), DELTA).server)


def test_rounds_left_are_those_that_fit_the_budget() -> None:
    plan = replace(NOISY, budget=8.0, noise=3.0)
    spent = Spent(((1.0, 1.0, 1),), 1.0)
    left = privacy.standing(plan, spent, 40).within
    assert 0 < left < 40
    assert privacy.planned(plan, spent, left).most <= 8.0 < privacy.planned(plan, spent, left + 1).most
    assert privacy.standing(replace(plan, budget=0.0), spent, 40).within == 40
    assert privacy.standing(replace(plan, budget=1.0), spent, 40).within == 0
    assert privacy.most_asked(100, 1.0, 7) == 7
    drawn = np.random.default_rng(5).binomial(40, 0.5, (4000, 48)).max(1)
    most = privacy.most_asked(48, 0.5, 40)
    assert np.mean(drawn > most) <= privacy.UNLIKELY < np.mean(drawn > most - 2)


# ---- federations


def carry(one: Federation, keys: dict[int, bytes], stop: int) -> None:
    """Runs rounds that no board drops out of, if there are enough boards."""
    nothing = np.zeros(len(fleet_vector(one.adapter)), np.int64)
    federation.federate(one, lambda call: Total(nothing, len(call.boards)), keys, stop=stop)


def begun(folder: Path, site: Site, base: Base, **changed: object) -> Federation:
    return Federation.create(folder, replace(NOISY, **changed), base, site)  # type: ignore[arg-type]


class Counted:
    """The test's own count of what boards were asked for: (z, share) by round, 1 / z^2 by board's key."""

    def __init__(self) -> None:
        self.rounds: dict[tuple[float, float], int] = {}
        self.boards: dict[bytes, float] = {}

    def add(self, one: Federation, keys: dict[int, bytes], since: int = 0) -> None:
        """Adds all attempts of a federation from `since` on, with its current settings."""
        plan = one.plan
        for asked in one.asked[since:]:
            if len(asked) >= plan.least:  # otherwise the round asks nobody
                z = plan.sigma * math.sqrt(plan.least) / plan.clip
                self.rounds[z, plan.share] = self.rounds.get((z, plan.share), 0) + 1
                seen = z if plan.masks else plan.sigma / plan.clip
                for index in asked:
                    self.boards[keys[index]] = self.boards.get(keys[index], 0.0) + 1 / seen**2

    def agrees(self, one: Federation) -> None:
        rounds = [(z, share, times) for (z, share), times in self.rounds.items() if times]
        outsider = privacy_loss.composed(rounds, DELTA)
        server = privacy_loss.gaussian(math.sqrt(max(self.boards.values())), DELTA)
        told = one.epsilons
        assert outsider * (1 - 1e-5) < told.outsider < outsider * (1 + 3e-4)
        assert server * (1 - 1e-5) < told.server < server * (1 + 3e-4)


def edited(folder: Path, site: Site, base: Base) -> tuple[Counted, Federation]:
    """Noise from 1 to 10, then other clip and share, after four rounds."""
    counted, one = Counted(), begun(folder / "one", site, base)
    carry(one, site.roster().members, 4)
    counted.add(one, site.roster().members)
    plan = json.loads((folder / "one" / "plan.json").read_text())
    (folder / "one" / "plan.json").write_text(json.dumps(plan | {"noise": 10.0, "share": 0.7, "clip": 1000}))
    one = Federation.open(folder / "one")
    counted.agrees(one)
    carry(one, site.roster().members, 6)
    counted.add(one, site.roster().members, since=4)
    return counted, one


def deleted(folder: Path, site: Site, base: Base) -> tuple[Counted, Federation]:
    """The federation's folder is deleted, and another federation created in its place."""
    counted, one = Counted(), begun(folder / "one", site, base)
    carry(one, site.roster().members, 5)
    counted.add(one, site.roster().members)
    shutil.rmtree(folder / "one")
    one = begun(folder / "one", site, base, noise=2.0)
    counted.agrees(one)
    carry(one, site.roster().members, 2)
    counted.add(one, site.roster().members)
    return counted, one


def parallel(folder: Path, site: Site, base: Base) -> tuple[Counted, Federation]:
    """Two federations on one site, taking turns."""
    counted = Counted()
    both = begun(folder / "one", site, base), begun(folder / "other", site, base, noise=1.5, share=0.8)
    for stop in (1, 2, 3):
        for one in both:
            carry(one, site.roster().members, stop)
    for one in both:
        counted.add(one, site.roster().members)
    assert both[0].epsilons == both[1].epsilons
    return counted, both[0]


def bare(folder: Path, site: Site, base: Base) -> tuple[Counted, Federation]:
    """Without masks the server sees each board's update with only that board's noise."""
    counted, one = Counted(), begun(folder / "one", site, base, masks=False, noise=4.0)
    carry(one, site.roster().members, 4)
    counted.add(one, site.roster().members)
    return counted, one


def enrolled_again(folder: Path, site: Site, base: Base) -> tuple[Counted, Federation]:
    """The same boards in another order, in a new roster."""
    counted, one, keys = Counted(), begun(folder / "one", site, base, share=0.5), site.roster().members
    carry(one, keys, 6)
    counted.add(one, keys)
    (site.folder / "roster.elg").unlink()
    key = Ed25519PrivateKey.generate()
    made = Site.create(site.folder, "band", key)
    made.enroll_all([(keys[index], "") for index in (5, 3, 1, 0, 2, 4)], key)
    one = begun(folder / "other", made, base, share=0.5)
    carry(one, made.roster().members, 6)
    counted.add(one, made.roster().members)
    return counted, one


@pytest.mark.parametrize("story", [edited, deleted, parallel, bare, enrolled_again])
def test_epsilon_covers_all_rounds_that_were_run(
    story: Callable[[Path, Site, Base], tuple[Counted, Federation]], tmp_path: Path, site: Site, base: Base
) -> None:
    counted, one = story(tmp_path, site, base)
    counted.agrees(one)
    counted.agrees(Federation.open(one.folder))


def test_two_federations_have_one_budget(tmp_path: Path, site: Site, base: Base) -> None:
    """Whichever ends first, even if both have begun a round that only one of them can afford."""
    both = [begun(tmp_path / name, site, base, share=1.0, noise=2.0, budget=4.5) for name in ("one", "other")]
    keys = site.roster().members
    for stop in range(1, 10):
        for one in both:
            try:
                carry(one, keys, stop)
            except BudgetSpent:
                break
    told = both[0].epsilons
    assert 3.5 < told.most <= 4.5 and sum(one.done for one in both) == 4

    wide = [
        Federation.create(tmp_path / f"wide{i}", replace(one.plan, budget=5.3), base, site)
        for i, one in (enumerate(both))
    ]
    first = wide[0].call(keys, 1000)
    second = wide[1].call(keys, 1000)
    first.charge(first.boards)
    with pytest.raises(BudgetSpent, match="zero-out adjacency"):
        second.charge(second.boards)
    assert wide[1].epsilons.most <= 5.3


def test_the_budget_is_a_hard_stop_after_every_restart(tmp_path: Path, base: Base) -> None:
    plan = Plan.suited(boards=12, rounds=50, share=0.6, noise=2.0, clip=2000, least=3, seed=11, budget=4.0)
    one = Federation.create(tmp_path / "one", plan, base)
    nothing = Total(np.zeros(632, np.int64), 6)
    with pytest.raises(BudgetSpent, match="the budget is 4"):
        federation.federate(one, lambda call: nothing)
    again = Federation.open(tmp_path / "one")
    assert again.done == one.done > 0 and again.epsilons == one.epsilons and again.epsilons.most <= 4.0
    with pytest.raises(BudgetSpent):
        again.call(range(12), 6000)
    assert Federation.open(tmp_path / "one").done == one.done
    open_to_all = Federation.create(tmp_path / "bare", replace(plan, masks=False), base)
    with pytest.raises(BudgetSpent) as spent:
        federation.federate(open_to_all, lambda call: nothing)
    assert open_to_all.done < one.done and "with masks" in spent.value.remedy


def guided(site: Path, folder: Path, base: Base, *instead: object) -> list[object]:
    """The arguments of the guide's `fleet init`, with these paths and changed settings."""
    text = (ROOT / "docs" / "guides" / "fleet.md").read_text().replace("\\\n", " ")
    [line] = re.findall(r"edgelora (fleet init .*)", text)
    words: list[object] = list(line.split())
    (folder.parent / "base.elm").write_bytes(base.elm)
    words[2] = folder
    for name, value in (
        ("--site", site),
        ("--base", folder.parent / "base.elm"),
        *zip(*2 * [iter(instead)], strict=True),
    ):
        words[words.index(name) + 1] = value
    return words


def test_the_guides_federation_is_within_its_budget_to_its_end(tmp_path: Path, base: Base) -> None:
    """The plan for 200 boards, even for one that is asked in every round; and all its rounds, with ten boards."""
    key = Ed25519PrivateKey.generate()
    many = Site.create(tmp_path / "many", "band", key)
    many.enroll_all([(Identity.create(tmp_path / "keys" / f"{i}.key", SUMS).public, "") for i in range(200)], key)
    told = result(*guided(many.folder, tmp_path / "planned", base))
    assert told["rounds"] == told["rounds_within_budget"] == 40
    assert 0 < told["planned"]["outsider"] < told["planned"]["server"] <= told["budget"] == 8
    plan = Federation.open(tmp_path / "planned").plan
    always = privacy.epsilons(Spent().plus(plan, plan.rounds, plan.rounds), plan.delta)
    assert always.most <= plan.budget

    few = Twins(tmp_path / "few", base, 10)
    edgelora(*guided(few.site.folder, tmp_path / "short", base, "--least", 2), "--colluders", 0)
    federate_site(Federation.open(tmp_path / "short"), few.site, few.deliver)
    one = Federation.open(tmp_path / "short")
    assert one.done == one.plan.rounds and sum(each.survivors > 0 for each in one.rounds) > 30
    assert 4 < one.epsilons.most <= 8 and one.standing().left == 8 - one.epsilons.most


def test_pages_say_what_an_epsilon_protects() -> None:
    pages = [ROOT / "DESIGN.md", *(ROOT / "docs").rglob("*.md")]
    found = {page.name for page in pages if re.search(r"[Ee]psilon", page.read_text())}
    assert {"fleet.md", "security.md", "figures.md", "DESIGN.md"} <= found
    for page in pages:
        text = " ".join(page.read_text().split())
        assert page.name not in found or "zero-out adjacency" in text, page
        for place in re.finditer(r"[Ee]psilon (?:at a delta of \S+ )?is \d", text):
            assert "zero-out adjacency" in text[place.start() - 200 : place.end() + 200], (page, place)


def test_commands_say_what_an_epsilon_protects(tmp_path: Path) -> None:
    plan = ("--rounds", 2, "--boards", 4, "--least", 4, "--clip", 1000, "--noise", 3, "--budget", 5)
    assert ADJACENCY in edgelora("fleet", "simulate", tmp_path / "one", "--engine", "loop", *plan)
    told = result("fleet", "status", tmp_path / "one")
    assert told["adjacency"] == ADJACENCY and told["budget"] == 5
    assert told["left"] == pytest.approx(5 - max(told["outsider"], told["server"]))
    assert told["rounds"] == 2 and told["rounds_left"] == 0 and told["rounds_within_budget"] == 0
    assert ADJACENCY in edgelora("fleet", "status", tmp_path / "one")
    page = (tmp_path / "one" / "report.html").read_text()
    assert "zero-out adjacency" in page and "remaining budget" in page
