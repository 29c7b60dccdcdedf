"""No view violates an accessibility rule of axe-core, wide and narrow, light and dark; the focus is visible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import AXE, FAULTS
from fresh import slow
from playwright.sync_api import Browser, Page, expect
from studio_pages import go
from studio_projects import BOARD, federated, project, reported

from edgelora.studio.samples import MOST_LABEL

VIEWS = ("Boards", "Live", "Collect", "Learn", "Act", "Wake word", "Words", "Adapters", "Fleet", "Reports")


@pytest.fixture
def page(studios: Callable[..., Any], browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """Of a project with everything, and the widest possible label."""
    folder = project(tmp_path / "project", {"W" * MOST_LABEL: 4, "wave": 4})
    reported(folder)
    federated(folder)
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(studios("project").url)
    expect(page.get_by_role("combobox", name="Board")).to_have_value(f"{BOARD} (ready)")
    yield page
    context.close()


def open_dialog(page: Page) -> None:
    go(page, "Boards")
    page.get_by_role("button", name=f"Put a base on {BOARD}").click()
    page.get_by_role("dialog").wait_for()


def test_no_view_has_a_fault(page: Page) -> None:
    page.evaluate(AXE.read_text())
    faults = {}
    for view in VIEWS:
        page.set_viewport_size({"width": 1280, "height": 900})
        go(page, view)
        unfold(page, view)
        for width, theme in ((1280, "light"), (1280, "dark"), (400, "dark"), (400, "light")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            page.wait_for_function(f"document.body.classList.contains('body--{theme}')")
            page.wait_for_timeout(200)  # until charts have been resized
            faults |= dict.fromkeys(f"{view}, {theme}, {width} px: {fault}" for fault in page.evaluate(FAULTS))
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{view} is wider than its window"
    open_dialog(page)
    faults |= dict.fromkeys(f"a dialog: {fault}" for fault in page.evaluate(FAULTS))
    assert not faults, "\n".join(faults)


# The HTML of the focused element if neither it nor an element around it has an outline; null if nothing has the focus.
UNSEEN = """() => {
  const now = document.activeElement;
  if (!now || now === document.body || now.dataset.seen) return null;
  now.dataset.seen = 1;
  for (let one = now, up = 0; one && up < 4; one = one.parentElement, up++) {
    const style = getComputedStyle(one);
    if (style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2) return "";
  }
  return now.outerHTML.slice(0, 200);
}"""


@slow
def test_the_focus_is_seen_on_every_control(page: Page) -> None:
    """In each view and in a dialog, with the Tab key."""
    unseen = {view: tabbed(page, view) for view in VIEWS}
    open_dialog(page)
    unseen["a dialog"] = walked(page)
    assert not any(unseen.values()), unseen


def tabbed(page: Page, view: str) -> list[str]:
    """Controls of a view whose focus is not visible."""
    go(page, view)
    page.wait_for_timeout(500)  # until it is rendered
    page.evaluate("document.activeElement.blur()")
    return walked(page)


def walked(page: Page) -> list[str]:
    page.evaluate("document.querySelectorAll('[data-seen]').forEach((one) => delete one.dataset.seen)")
    found, count = [], 0
    while True:
        page.keyboard.press("Tab")
        said = page.evaluate(UNSEEN)
        if said is None:
            assert count > 2, "nothing takes the focus"
            return found
        count += 1
        found += [said] if said else []


def unfold(page: Page, view: str) -> None:
    """Expands what a view only shows on demand."""
    if view == "Boards":
        page.get_by_text("The project as one file").click()
        expect(page.get_by_role("button", name="Export the project")).to_be_visible()
    if view == "Collect":
        page.get_by_text("Look for mislabelled samples").click()
        page.get_by_role("button", name="Draw the map").click()
        expect(page.get_by_role("img", name="Map of 8 samples of 2 classes")).to_be_visible(timeout=60_000)
    if view == "Learn":
        page.get_by_role("button", name="Advanced").click()
        page.get_by_role("checkbox", name="Choose layers by a memory budget").click()
        expect(page.get_by_text("expected gain")).to_be_visible(timeout=60_000)
    if view == "Reports":
        for mark in page.get_by_role("checkbox", name="Compare run").all():
            mark.click()
        expect(page.get_by_role("heading", name="Side by side")).to_be_visible()
