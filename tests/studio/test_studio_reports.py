"""Runs side by side and their pages, federations and releases on the page."""

from __future__ import annotations

from pathlib import Path

from sensing import motion_base
from studio_projects import federated, reported
from studio_user import Visitor, visit

from edgelora.fleet import rollout as fleet_rollout
from edgelora.fleet import simulate as fleet_simulate
from edgelora.fleet.federation import Federation
from edgelora.fleet.member import Identity
from edgelora.fleet.plan import Plan
from edgelora.fleet.privacy import ADJACENCY
from edgelora.fleet.roster import Site
from edgelora.learn.report.compare import comparison
from edgelora.learn.updates.keys import load_key, new_key


def test_runs_side_by_side(tmp_path: Path) -> None:
    """The table equals that of `compare`; a damaged run is reported; pages are files without scripts."""
    folder = tmp_path / "project"
    runs = [(f"{number:03d}", report) for number, report in enumerate(reported(folder), 1)]

    async def story(page: Visitor) -> None:
        await page.open("/reports")
        assert "JSON" in page.texts()  # of the damaged run
        for name, _ in runs:
            await page.press(f"Compare run {name}")
        await page.see("001: 40.0% before, 75.0% after; 002: 40.0% before")
        head, rows = comparison(runs)
        assert page.table("Runs side by side") == [list(head), *rows]
        await page.press("Save as a page")
        answered = [await page.http.get(f"/page/{name}") for name in ("comparison", "002")]
        assert "2 runs compared" in answered[0].text
        for one in answered:
            assert one.status_code == 200 and "script" not in one.text
            assert "default-src 'none'" in one.headers["content-security-policy"]
        for name in ("004", "..%2Fstudio.json", "..%2f..%2fetc%2fpasswd"):
            assert (await page.http.get(f"/page/{name}")).status_code == 404

    visit(folder, story)


def test_a_federation_and_its_releases(tmp_path: Path) -> None:
    """Rounds, boards and epsilons as in its files; the adapter is published to a few, to all, and rolled back."""
    folder = tmp_path / "project"
    federation = federated(folder)
    key = folder / "keys" / "release.pem"
    new_key(key)
    site = Site.create(folder / "fleets" / "site", "band", load_key(key))
    twins = [Identity.create(tmp_path / f"twin-{number}.key") for number in range(4)]
    site.enroll_all([(twin.public, "") for twin in twins], load_key(key))

    async def story(page: Visitor) -> None:
        await page.open("/fleet")
        await page.see("2 of 2")
        last = federation.rounds[-1].accuracies
        assert page.table("Accuracy by board after the last round")[1:] == [
            [f"board {index}", f"{share:.1%}"] for index, share in last.items()
        ]
        assert page.texts().count("unbounded: boards add no noise") == 2
        assert ADJACENCY in page.texts() and "no budget was set" in page.texts()
        for button, told in (
            ("Publish to first boards", "global, version 1, is on the first boards"),
            ("To all", "global, version 1, is on all boards"),
            ("Publish to first boards", "global, version 2, is on the first boards"),
            ("To all", "global, version 2, is on all boards"),
            ("Roll back", "global, version 3, is on all boards"),
        ):
            await page.press(button)
            await page.see(told)

    visit(folder, story)
    rollout = fleet_rollout.state(site, "global")
    assert rollout and rollout.version == 3 and rollout.everyone


def test_a_federation_is_simulated_to_its_end(tmp_path: Path) -> None:
    """Errors are shown next to the form; an unfinished federation resumes, with the same result as without a page."""
    folder, plan = tmp_path / "project", Plan(boards=3, rounds=2, masks=False)
    for place in (folder / "fleets" / "three-of-us", tmp_path / "alone"):
        Federation.create(place, plan, motion_base())
    alone = Federation.open(tmp_path / "alone")
    fleet_simulate.simulate(alone, "har", "loop")

    async def story(page: Visitor) -> None:
        await page.open("/fleet")
        await page.see("0 of 2")
        for name, boards, told in (("../up", 3, "../up"), ("small", 0, "boards: "), ("three-of-us", 3, "2 of 2")):
            await page.fill("Name", name)
            await page.fill("Boards", boards)
            await page.press("Simulate")
            await page.see(told)

    visit(folder, story)
    assert Federation.open(folder / "fleets" / "three-of-us").sha256 == alone.sha256
    assert not (tmp_path / "up").exists() and not (folder / "fleets" / "small").exists()
