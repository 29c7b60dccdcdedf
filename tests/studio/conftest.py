"""A studio in its own process, and Debian's chromium to view it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import launched
from playwright.sync_api import Browser, Page, expect
from processes import COMMAND

WAIT_MS = 60_000  # for slow operations of a board, on a computer that is busy with other tests
LEARN_MS = 300_000  # for learning
expect.set_options(timeout=WAIT_MS)


class Studio:
    """The server of a project, from `start` to `stop`. url: the whole address, with its token."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.parent / f"{folder.name}.log"
        self.start()

    def start(self) -> None:
        with open(self.log, "ab") as log:
            command = [COMMAND, "studio", self.folder, "--no-browser", "--json"]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        said = ""
        while not said.endswith("}\n"):
            line = self.process.stdout.readline()
            assert line, self.log.read_text()
            said += line
        self.url = json.loads(said)["url"]

    @property
    def origin(self) -> str:
        return self.url.partition("/?")[0]

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    @property
    def token(self) -> str:
        return self.url.partition("token=")[2]

    def stop(self, how: int = signal.SIGINT) -> int:
        """Stops the server; its exit code."""
        self.process.send_signal(how)
        try:
            return self.process.wait(60)
        finally:
            if self.process.stdout:
                self.process.stdout.close()

    @property
    def board_port(self) -> str:
        """The port of the one virtual board that it has started."""
        (state,) = (self.folder / "boards").iterdir()
        return str(state / "port")


@pytest.fixture
def studios(tmp_path: Path) -> Iterator[Callable[[str], Studio]]:
    """Opens studios of projects by name; none may log an error of its own."""
    opened: list[Studio] = []

    def studio(name: str = "project") -> Studio:
        opened.append(Studio(tmp_path / name))
        return opened[-1]

    yield studio
    for one in opened:
        if one.process.poll() is None:
            one.stop()
        said = one.log.read_text()
        wrong = ("Traceback", "this is a bug", "has been deleted but is still being used")
        assert not any(words in said for words in wrong), said


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def pages(browser: Browser) -> Iterator[Callable[[Studio], Page]]:
    """Opens a studio's page by its address; no page may have a script error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    errors: list[str] = []

    def opened(studio: Studio) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(studio.url)
        page.get_by_role("navigation", name="Views").wait_for()
        return page

    yield opened
    context.close()
    assert not errors
