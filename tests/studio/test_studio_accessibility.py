"""No view has a fault of accessibility by axe-core's rules, wide and narrow, light and dark; the focus is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect
from studio_projects import BOARD, federated, project, reported

from edgelora.resources import ROOT
from edgelora.studio.book import MOST_LABEL

AXE = ROOT / ".build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
VIEWS = ("Boards", "Live", "Collect", "Learn", "Act", "Adapters", "Fleet", "Reports")
FOUND = """async () => (await axe.run()).violations
    .map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.target + " " + node.html).join(" ; ")}`)"""


def test_no_view_has_a_fault(studios: Callable[..., Any], browser: Browser, tmp_path: Path) -> None:
    folder = project(tmp_path / "project", {"W" * MOST_LABEL: 4, "wave": 4})  # as wide as it gets
    reported(folder)
    federated(folder)
    context = browser.new_context()
    page = context.new_page()
    page.goto(studios("project").url)
    expect(page.get_by_role("combobox", name="Board")).to_have_value(f"{BOARD} (ready)", timeout=60_000)
    page.evaluate(AXE.read_text())
    faults = {}
    for view in VIEWS:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
        page.get_by_role("heading", name=view, exact=True).first.wait_for()
        unfold(page, view)
        for width, theme in ((1280, "light"), (1280, "dark"), (400, "dark"), (400, "light")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            page.wait_for_function(f"document.body.classList.contains('body--{theme}')")
            page.wait_for_timeout(200)  # until charts have their new size
            faults |= dict.fromkeys(f"{view}, {theme}, {width} px: {fault}" for fault in page.evaluate(FOUND))
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{view} is wider than its window"
    context.close()
    assert not faults, "\n".join(faults)


def unfold(page: Page, view: str) -> None:
    """Has a view show what it only shows when asked."""
    if view == "Learn":
        page.get_by_role("button", name="Advanced").click()
        page.get_by_role("checkbox", name="Choose by a budget of memory").click()
        expect(page.get_by_text("gain expected")).to_be_visible(timeout=60_000)
    if view == "Reports":
        for mark in page.get_by_role("checkbox", name="Compare run").all():
            mark.click()
        expect(page.get_by_role("heading", name="Side by side")).to_be_visible()
