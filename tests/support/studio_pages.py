"""What a person does on many views of the studio's page in a browser."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page


def card(page: Page, name: str) -> Locator:
    """What the page shows of a board or an adapter."""
    return page.get_by_role("region", name=name, exact=True)


def go(page: Page, view: str) -> None:
    page.get_by_role("navigation", name="Views").get_by_role("link", name=view, exact=True).click()
    page.get_by_role("heading", name=view, exact=True).first.wait_for()


def choose(page: Page, what: str, option: str | re.Pattern[str]) -> None:
    page.get_by_label(what, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def start_virtual(page: Page, kind: str, name: str) -> None:
    choose(page, "Kind", kind)
    page.get_by_role("textbox", name="Name").fill(name)
    page.get_by_role("button", name="Start a virtual board").click()


def sense(page: Page, view: str, module: str = "waves", network: str = "") -> None:
    """Starts a module on the board as the source of a view."""
    go(page, view)
    choose(page, "Source", "a module on the board")
    page.get_by_label("Module").fill(module)
    if network:
        choose(page, "Network", re.compile(f"^{network}"))
    page.get_by_role("button", name="Start", exact=True).click()
