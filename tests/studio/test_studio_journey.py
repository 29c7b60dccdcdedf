"""A person's whole path on the page with a virtual Pico: from nothing to gestures of their own, kept, and one more.

Only by keyboard, with samples taken by the board's own button.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import LEARN_MS
from fresh import in_full_runs
from playwright.sync_api import Locator, Page, expect
from sensing import session_of
from studio_pages import card

from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.data.base import load_base
from edgelora.model.datasets import har
from edgelora.studio import adapter_actions
from edgelora.studio.samples import ENOUGH, ProjectSamples

GESTURES = ("circle", "wave", "shake", "knock")  # the last one is added later
BOARD = "virtual-pico-1"
BUTTON = "15"  # its pin


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four of a person's exercises as motion in g and rad/s: the first 40 % to record, the rest for later."""
    folder = tmp_path_factory.mktemp("motion")
    data = har._load_watch(har.HAR_SUBJECTS)[0]
    for name, label in zip(GESTURES, (0, 2, 4, 6), strict=True):
        units = max((r.samples for r in data if (r.subject, r.label) == (3, label)), key=len) * har.HAR_UNITS
        cut = len(units) * 2 // 5
        (folder / "later").mkdir(exist_ok=True)
        np.savetxt(folder / f"{name}.csv", units[:cut], "%.5f", ",")
        np.savetxt(folder / "later" / f"{name}.csv", units[cut:], "%.5f", ",")
    return folder


class Person:
    """A user of the page, who follows its texts, and only uses the keyboard."""

    def __init__(self, page: Page, motion: Path) -> None:
        self.page, self.motion = page, motion

    def do(self, control: Locator) -> None:
        expect(control).to_be_enabled(timeout=LEARN_MS)
        control.press("Enter")

    def choose(self, what: str, option: Locator) -> None:
        self.do(self.page.get_by_label(what))
        option.wait_for()
        while not option.and_(self.page.locator(".q-manual-focusable--focused")).count():
            self.page.keyboard.press("ArrowDown")
        self.page.keyboard.press("Enter")

    def go(self, view: str) -> None:
        self.do(self.page.get_by_role("navigation", name="Views").get_by_role("link", name=view))
        self.page.get_by_role("heading", name=view, exact=True).first.wait_for()

    def press(self, button: str) -> None:
        self.do(self.page.get_by_role("button", name=button, exact=True))

    def board(self):
        return card(self.page, BOARD)

    def give(self, where: str, file: Path) -> None:
        self.page.get_by_label(where, exact=True).set_input_files(file)

    def start_board(self) -> None:
        self.press("Start a virtual board")
        self.board().get_by_text("ready").wait_for()

    def plug_in(self) -> None:
        self.go("Boards")
        self.board().get_by_text("unplugged", exact=True).wait_for()
        self.press(f"Start {BOARD}")
        self.board().get_by_text("unplugged", exact=True).wait_for(state="detached")

    def sense(self) -> None:
        """The virtual board's sensor measures a gesture repeatedly, and the page shows it."""
        self.go("Collect")
        self.do(self.page.locator(".q-expansion-item .q-item", has_text="Sensor input of this virtual board"))
        self.measure("circle")
        self.page.get_by_label("Button pins").fill(BUTTON)
        self.press("Start")

    def measure(self, label: str) -> None:
        self.give("Add a recording (.csv)", self.motion / f"{label}.csv")
        around = self.page.get_by_role("region", name="Around the virtual board")
        around.locator(".q-select").get_by_text(f"{label}.csv", exact=True).wait_for()  # it plays

    def name(self, label: str) -> None:
        self.page.get_by_role("textbox", name="New class").fill(label)
        self.press("Add class")
        self.page.get_by_role("button", name=label, exact=True, pressed=True).wait_for()

    def record_on_board(self, label: str) -> None:
        """Records eight samples of a gesture, each by pressing the board's own button."""
        self.measure(label)
        self.name(label)
        presses = ",".join(f"{2.1 + 0.3 * i:.1f}" for i in range(ENOUGH))  # the first window has only this gesture
        self.page.get_by_label("Pin to press").fill(f"{BUTTON}@{presses}")
        self.page.get_by_text("ms a window").wait_for()  # a whole window has arrived
        self.press("Press button")
        samples = self.page.get_by_role("group", name=f"Samples of {label}").get_by_role("button")
        expect(samples).to_have_count(ENOUGH, timeout=LEARN_MS)

    def drop(self, label: str) -> None:
        """Adds samples of a gesture from a file."""
        self.go("Collect")
        self.give("Drop files here, or choose them", self.motion / f"{label}.csv")
        shown = self.page.get_by_role("region", name=f"Class {label}", exact=True)
        shown.get_by_text(re.compile(r"[1-9]\d* to test")).wait_for()

    def follow(self, step: str, view: str) -> None:
        """Clicks on the next step."""
        self.press(f"Next: {step}")
        self.page.get_by_role("heading", name=view, exact=True).first.wait_for()

    def learn(self) -> None:
        self.follow("learn", "Learn")
        self.choose("Length", self.page.get_by_role("option", name=re.compile("^quick")))
        self.press("Learn")
        self.page.get_by_text("The board is training.").wait_for()

    def wait_updates(self, count: int) -> None:
        self.page.wait_for_function(
            "n => Number((/update (\\d+) of/.exec(document.querySelector('#view').innerText) || [0, 0])[1]) >= n",
            arg=count,
            timeout=LEARN_MS,
            polling=250,  # ms; polling at each frame would take half a core
        )

    def keep(self) -> None:
        keep = self.page.get_by_role("button", name="Keep", exact=True)
        keep.wait_for(timeout=LEARN_MS)
        self.do(keep)
        self.page.get_by_text("Kept.").wait_for()

    def in_use(self) -> None:
        self.go("Adapters")
        self.page.get_by_role("region", name=NAME, exact=True).get_by_text("in use").wait_for()


def right(studio, motion: Path, tmp_path: Path) -> dict[str, float]:
    """The share of later windows of each gesture that the board classifies correctly with the adapter in its store."""
    with session_of(Path(studio.board_port).parent, "virtual-pico") as session:
        base = load_base(max((studio.folder / "bases").glob("*.elm")))
        collection = ProjectSamples(SimpleNamespace(folder=tmp_path / "later"))
        for name in GESTURES:
            collection.drop(f"{name}.csv", (motion / "later" / f"{name}.csv").read_bytes(), name, base)
        data = collection.dataset(base)
        assert data is not None
        compared = adapter_actions.compare(session, base, data, [NAME], set())
        assert compared.wait(600) and compared.state == "done", compared.error
        store = session.submit("store", lambda link, job: link.store_list())
        assert store.wait(60) and store.result.active == NAME
        return {label: counts[0] / total for label, total, counts in compared.result.rows(False)}


@in_full_runs("minutes; test_studio_learn.py and others go parts of the way, on a faster board")
def test_from_an_empty_page_to_own_gestures(studios: Callable, pages: Callable, motion: Path, tmp_path: Path) -> None:
    studio = studios("gestures")
    person = Person(pages(studio), motion)
    person.start_board()
    person.sense()
    for label in GESTURES[:3]:
        person.record_on_board(label)
    person.learn()
    person.wait_updates(4)
    person.page.close()  # the run continues
    person.page = page = pages(studio)
    person.go("Learn")
    page.get_by_text("The board is training.").or_(page.get_by_text("Done. Keep or")).first.wait_for()
    person.keep()
    person.follow("see it recognize them", "Live")
    person.go("Boards")
    person.press(f"Reset {BOARD}")
    person.in_use()
    person.go("Boards")
    person.press(f"Stop {BOARD}")
    person.plug_in()
    person.in_use()
    person.drop("knock")
    person.go("Learn")
    person.press("Add knock")
    page.get_by_text("Added: knock").wait_for(timeout=LEARN_MS)
    person.in_use()
    page.wait_for_timeout(2000)
    person.press("Compare")
    expect(page.get_by_role("cell", name="knock")).to_be_visible(timeout=LEARN_MS)
    assert studio.stop() == 130
    shares = right(studio, motion, tmp_path)
    assert min(shares.values()) > 0.5, shares
