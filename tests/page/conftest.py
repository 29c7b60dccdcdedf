"""The page of docs/try, made from its sources and served from a folder."""

from __future__ import annotations

import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import hears, launched
from playwright.sync_api import Browser, BrowserContext, Page, expect
from served import Served, served

from edgelora.base.resources import ROOT
from edgelora.board.build import DIST, NATIVE_ARCHES

sys.path.insert(0, str(ROOT / "tools"))

import try_page  # noqa: E402

BUILD = ROOT / ".build" / "page"
CORE = ROOT / "micropython_module" / "core"
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)
SOUND_RATE = 48000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files."""
    sources = [*CORE.rglob("*.[ch]"), *(ROOT / "firmware" / "wasm").iterdir()]
    newest = max(path.stat().st_mtime for path in sources)
    for name in ("core-simd.wasm", "core-plain.wasm"):
        if not (BUILD / name).exists() or (BUILD / name).stat().st_mtime < newest:
            pytest.fail(f"{BUILD / name} is not up to date: make page")
    if missing := [arch for arch in NATIVE_ARCHES if not (DIST / arch / "package.json").exists()]:
        pytest.fail(f"no packages for {', '.join(missing)}: make page")
    folder = tmp_path_factory.mktemp("page") / "try"
    try_page.make(BUILD, folder)
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Served]:
    with served(folder) as site:
        yield site


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears again and again: a tone of half a second each second."""
    at = np.arange(2 * SOUND_RATE) / SOUND_RATE
    sound = np.where(at % 1 < 0.5, 0.5 * np.sin(2 * np.pi * 700 * at), 0)
    path = tmp_path_factory.mktemp("sound") / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SOUND_RATE, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def browser(spoken: Path) -> Iterator[Browser]:
    with launched(*hears(spoken)) as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A phone of 360 px. No page may have a script error."""
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, reduced_motion="reduce", permissions=["accelerometer", "gyroscope"]
    )
    context.set_default_timeout(WAIT_MS)
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield context
    context.close()
    assert not errors


@pytest.fixture
def opened(context: BrowserContext, site: Served) -> Callable[[], Page]:
    """Opens the page, until its buttons work."""

    def opened() -> Page:
        page = context.new_page()
        page.goto(site.address)
        page.locator("body[data-ready]").wait_for()
        return page

    return opened
