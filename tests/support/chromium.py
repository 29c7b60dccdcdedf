"""Debian's chromium, for tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from edgelora.base.resources import ROOT

CHROMIUM = shutil.which("chromium-headless-shell") or "/usr/bin/chromium"  # the shell has no window frame
ARGUMENTS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
AXE = ROOT / ".build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
FAULTS = """async () => (await axe.run()).violations
    .map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.target + " " + node.html).join(" ; ")}`)"""


def hears(recording: Path) -> list[str]:
    """Arguments for a microphone, permitted to all pages, that plays a recording in a loop."""
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    return [*fake, f"--use-file-for-fake-audio-capture={recording}"]


@contextmanager
def launched(*arguments: str) -> Iterator[Browser]:
    """A browser with more arguments."""
    if not os.path.exists(CHROMIUM):
        pytest.fail(f"{CHROMIUM} is missing: make test-studio")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        yield browser
        browser.close()
