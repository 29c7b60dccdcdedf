"""Runs side by side and their pages, federations and releases on the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect
from studio_projects import federated, motion, reported

from edgelora.fleet import rollout as fleet_rollout
from edgelora.fleet import simulate as fleet_simulate
from edgelora.fleet.federation import Federation
from edgelora.fleet.member import Identity
from edgelora.fleet.plan import Plan
from edgelora.fleet.privacy import ADJACENCY
from edgelora.fleet.roster import Site
from edgelora.learn.report.compare import comparison
from edgelora.learn.updates.keys import load_key, new_key

expect.set_options(timeout=60_000)
Studios, Pages = Callable[..., Any], Callable[..., Page]  # as conftest.py has them


def cells(page: Page, table: str) -> list[list[str]]:
    rows = page.get_by_role("table", name=table).get_by_role("row").all()
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]


def test_runs_side_by_side(studios: Studios, pages: Pages, tmp_path: Path) -> None:
    """The table equals that of `compare`; a damaged run is reported; pages are files without scripts."""
    folder = tmp_path / "project"
    runs = [(f"{number:03d}", report) for number, report in enumerate(reported(folder), 1)]
    studio = studios("project")
    page = pages(studio)
    page.get_by_role("link", name="Reports").click()
    expect(page.get_by_role("row", name="003")).to_contain_text("JSON")
    for name, _ in runs:
        page.get_by_role("checkbox", name=f"Compare run {name}").click()
    expect(page.get_by_role("img", name="001: 40.0% before, 75.0% after; 002: 40.0% before")).to_be_visible()
    head, rows = comparison(runs)
    assert cells(page, "Runs side by side") == [list(head), *rows]
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Save as a page").click()
    expect(opened.value.get_by_role("heading", name="2 runs compared")).to_be_visible()
    assert (folder / "reports" / "comparison.html").exists()
    answered = page.request.get(f"{studio.origin}/page/002")
    assert answered.status == 200 and "script" not in answered.text()
    assert "default-src 'none'" in answered.headers["content-security-policy"]
    for name in ("004", "..%2Fstudio.json", "..%2f..%2fetc%2fpasswd"):
        assert page.request.get(f"{studio.origin}/page/{name}").status == 404


def test_a_federation_and_its_releases(studios: Studios, pages: Pages, tmp_path: Path) -> None:
    """Rounds, boards and epsilons as in its files; the adapter is published to a few, to all, and rolled back."""
    folder = tmp_path / "project"
    federation = federated(folder)
    key = folder / "keys" / "release.pem"
    new_key(key)
    site = Site.create(folder / "fleets" / "site", "band", load_key(key))
    twins = [Identity.create(tmp_path / f"twin-{number}.key") for number in range(4)]
    site.enroll_all([(twin.public, "") for twin in twins], load_key(key))
    page = pages(studios("project"))
    page.get_by_role("link", name="Fleet").click()
    expect(page.get_by_text("2 of 2", exact=True).first).to_be_visible()
    last = federation.rounds[-1].accuracies
    assert cells(page, "Accuracy by board after the last round")[1:] == [
        [f"board {index}", f"{share:.1%}"] for index, share in last.items()
    ]
    expect(page.get_by_text("unbounded: boards add no noise").first).not_to_be_visible()
    page.get_by_role("button", name="Advanced").first.click()
    expect(page.get_by_text("unbounded: boards add no noise")).to_have_count(2)
    expect(page.get_by_text("unbounded: boards add no noise").first).to_be_visible()
    expect(page.get_by_text(ADJACENCY)).to_be_visible()
    expect(page.get_by_text("no budget was set")).to_be_visible()

    def publish(button: str, told: str) -> None:
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.get_by_role("status")).to_contain_text(told)

    publish("Publish to first boards", "global, version 1, is on the first boards")
    publish("To all", "global, version 1, is on all boards")
    publish("Publish to first boards", "global, version 2, is on the first boards")
    publish("To all", "global, version 2, is on all boards")
    publish("Roll back", "global, version 3, is on all boards")
    rollout = fleet_rollout.state(site, "global")
    assert rollout and rollout.version == 3 and rollout.everyone


def test_a_federation_is_simulated_to_its_end(studios: Studios, pages: Pages, tmp_path: Path) -> None:
    """Errors are shown next to the form; an unfinished federation resumes, with the same result as without a page."""
    folder, plan = tmp_path / "project", Plan(boards=3, rounds=2, masks=False)
    for place in (folder / "fleets" / "three-of-us", tmp_path / "alone"):
        Federation.create(place, plan, motion())
    alone = Federation.open(tmp_path / "alone")
    fleet_simulate.simulate(alone, "har", "loop")
    page = pages(studios("project"))
    page.get_by_role("link", name="Fleet").click()
    expect(page.get_by_text("0 of 2", exact=True).first).to_be_visible()

    def simulate(name: str, boards: str) -> None:
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Boards", exact=True).fill(boards)
        page.get_by_role("button", name="Simulate", exact=True).click()

    simulate("../up", "3")
    expect(page.get_by_role("alert").first).to_contain_text("../up")
    simulate("small", "0")
    expect(page.get_by_role("alert").first).to_contain_text("boards")
    simulate("three-of-us", "3")
    expect(page.get_by_text("2 of 2", exact=True).first).to_be_visible()
    assert Federation.open(folder / "fleets" / "three-of-us").sha256 == alone.sha256
    assert not (tmp_path / "up").exists() and not (folder / "fleets" / "small").exists()
