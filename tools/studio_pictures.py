"""Takes pictures of the studio by using its page as a person does: real server and browser, virtual board, real data.

    make pictures        docs/pictures/studio-*.png, those of docs/guides/studio.md, and all views in out/pictures

All views are taken at 1,280 and 400 px, light and dark. The data are a watch's recordings of a person who is not in the
base's training data, renamed as gestures; each gesture is uploaded to the page as a CSV file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect, sync_playwright

from edgelora.fleet.federation import Federation
from edgelora.fleet.plan import Plan
from edgelora.fleet.simulate import simulate
from edgelora.learn.training.data.base import load_base
from edgelora.model.datasets.har import har_takes
from edgelora.studio.training_options import PACKAGED

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "pictures"
EVERY = ROOT / "out" / "pictures"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
VIEWS = ("Boards", "Live", "Collect", "Learn", "Act", "Adapters", "Fleet", "Reports")
PERSON, FIRST = 3, 3  # person of the recordings; first class used
GESTURES = ("circle", "wave", "shake", "knock")
OVERLAP = 4  # every 4th window follows the previous one without overlap or gap
NARROW = 400  # px, a window next to an editor, or a phone
COLORS = "96"  # in a picture's palette
PATIENCE_MS = 300_000  # a computer may be busy


def recordings(folder: Path) -> dict[str, Path]:
    """Writes CSV files of consecutive windows in counts of an MPU-6050: one for each gesture, and one with three."""
    takes = har_takes(PERSON, "train")
    files, rows = {}, {}
    for label, name in enumerate(GESTURES, FIRST):
        rows[name] = np.concatenate([counts for counts, of in takes if of == label][::OVERLAP])
    for name, counts in rows.items():
        files[name] = folder / f"{name}.csv"
        np.savetxt(files[name], counts, "%d", ",")
    files["mixed"] = folder / "my hand.csv"
    np.savetxt(files["mixed"], np.concatenate([rows[name][:250] for name in (*GESTURES, *GESTURES)]), "%d", ",")
    return files


@contextmanager
def studio(project: Path, board: str) -> Iterator[str]:
    """Runs the studio of an empty project with its virtual board on; the studio's address."""
    project.mkdir(parents=True)
    federate(project)
    (project / "studio.json").write_text(json.dumps({"on": {"my-board": board}}))
    command = [sys.executable, "-m", "edgelora", "studio", str(project), "--no-browser", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    said = ""
    while not said.endswith("}\n"):
        said += process.stdout.readline() or sys.exit("the studio did not start")
    try:
        yield json.loads(said)["url"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def federate(project: Path) -> None:
    """Runs a federation of twins in the project, with the people whose recordings come with seglearn."""
    base = load_base(PACKAGED / "motion.elm")
    plan = Plan(boards=8, rounds=4, masks=False)
    federation = Federation.create(project / "fleets" / "watches", plan, base)
    simulate(federation, "har", "loop")


class Person:
    """A user of the page who takes pictures."""

    def __init__(self, page: Page, files: dict[str, Path]) -> None:
        self.page, self.files = page, files

    def go(self, view: str) -> None:
        self.page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
        self.page.get_by_role("heading", name=view, exact=True).first.wait_for()

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def put_base(self) -> None:
        self.page.get_by_role("button", name="Put a base on my-board").click()
        self.press("Copy to the board")
        self.page.get_by_text("/motion.elm").first.wait_for()

    def listen(self, network: str) -> None:
        """Lets the board classify a recording in a loop."""
        self.go("Live")
        self.page.get_by_label("Source", exact=True).click()
        self.page.get_by_role("option", name="a recording on this computer").click()
        self.page.get_by_label("Add a recording (.csv, .wav, .npz)").set_input_files(self.files["mixed"])
        expect(self.page.get_by_label("Recording", exact=True)).to_have_value(self.files["mixed"].name)
        self.page.get_by_label("Network").click()
        self.page.get_by_role("option", name=network, exact=True).click()
        self.press("Start")
        self.page.wait_for_timeout(21_000)  # until all gestures have been played
        self.recognize()

    def recognize(self) -> None:
        """Waits until the board names a gesture, in the middle of one."""
        self.page.locator(".headline-share", has_text="%").wait_for()

    def collect(self, gesture: str) -> None:
        self.go("Collect")
        self.page.get_by_label("Drop files here").set_input_files(self.files[gesture])
        self.page.get_by_role("group", name=f"Samples of {gesture}").get_by_role("button").first.wait_for()
        self.page.wait_for_timeout(6000)  # until its thumbnails are shown, and the notice has disappeared

    def learn(self) -> None:
        self.go("Learn")
        self.press("Learn")
        self.page.get_by_role("button", name="Keep", exact=True).wait_for()

    def act(self, label: str, kind: str, pin: str = "15") -> None:
        """Gives a class an action."""
        self.go("Act")
        for field, option in (("When it sees", label), ("Do", kind)):
            self.page.get_by_label(field, exact=True).click()
            self.page.get_by_role("option", name=option, exact=True).click()
        self.page.get_by_label("Pin", exact=True).fill(pin)
        self.press("Add action")
        self.page.get_by_role("button", name=f"Remove: {label}, ").wait_for()

    def picture(self, path: Path, width: int = 1280, theme: str = "light", height: int = 900) -> None:
        """Takes a picture of the whole view, as a small file."""
        page = self.page
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(700)
        whole = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": width, "height": min(max(height, whole), 2400)})
        page.wait_for_timeout(500)
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path)
        if shutil.which("pngquant"):
            subprocess.run(["pngquant", "--force", "--strip", "--ext", ".png", COLORS, path], check=True)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KB", flush=True)


def take_all(person: Person) -> None:
    """Takes the pictures of docs/guides/studio.md, then of every view."""
    page = person.page
    page.get_by_role("combobox", name="Board").wait_for()
    page.get_by_text("ready").first.wait_for()
    person.put_base()
    person.picture(DOCS / "studio-1-board.png")
    person.listen("motion")
    person.picture(DOCS / "studio-2-live.png")
    person.press("Stop")
    for gesture in GESTURES[:3]:
        person.collect(gesture)
    person.picture(DOCS / "studio-3-collect.png")
    person.learn()
    person.press("Keep")
    page.get_by_text("Kept.").wait_for()
    person.picture(DOCS / "studio-4-learn.png")
    person.picture(DOCS / "studio-8-narrow-learn.png", NARROW)
    person.collect(GESTURES[3])
    person.go("Learn")
    person.press(f"Add {GESTURES[3]}")
    page.get_by_text(f"Added: {GESTURES[3]}").wait_for()
    person.picture(DOCS / "studio-5-add.png")
    person.listen("own-motion")
    person.picture(DOCS / "studio-6-known.png")
    person.recognize()
    person.picture(DOCS / "studio-8-narrow-live.png", NARROW)
    person.act("wave", "pin high while it is seen")
    person.act("shake", "toggle pin", "LED")
    person.picture(DOCS / "studio-7-act.png")
    person.picture(DOCS / "studio-8-narrow-act.png", NARROW)
    for view in VIEWS:
        person.go(view)
        if view == "Reports":
            page.get_by_role("checkbox").first.click()
        page.wait_for_timeout(1500)
        for width in (1280, NARROW):
            for theme in ("light", "dark"):
                person.picture(EVERY / f"{view.lower()}-{width}-{theme}.png", width, theme)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", default="unix", help="kind of virtual board (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgelora-") as folder, sync_playwright() as playwright:
        os.environ["XDG_RUNTIME_DIR"] = folder
        with studio(Path(folder) / "my gestures", args.board) as url:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
            page.set_default_timeout(PATIENCE_MS)
            expect.set_options(timeout=PATIENCE_MS)
            page.goto(url)
            try:
                take_all(Person(page, recordings(Path(folder))))
            except BaseException:
                page.screenshot(path=EVERY.parent / "pictures-failed.png")
                raise
            browser.close()


if __name__ == "__main__":
    main()
