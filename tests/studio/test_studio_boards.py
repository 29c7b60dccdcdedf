"""Boards and adapters on the page; what is kept when pages close, cables are pulled and the studio ends."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fresh import FULL, slow
from playwright.sync_api import expect
from sensing import WAVES, session_of
from studio_pages import card, choose, sense, start_virtual
from studio_projects import BOARD, project
from studio_user import Visitor, visit
from waiting import until

from edgelora.base.errors import InputError
from edgelora.board import virtual_boards
from edgelora.board.devices import Device
from edgelora.board.link.client import Link
from edgelora.board.link.serial_line import SerialLine
from edgelora.board.sim import virtual_board
from edgelora.core.formats import elu
from edgelora.core.twin.session import Session
from edgelora.fleet.client_training import fresh_adapter
from edgelora.learn.training.data.base import adapter_ranks, load_base
from edgelora.studio import adapter_actions
from edgelora.studio import board_session as sessions
from edgelora.studio import project as desks
from edgelora.studio.board_session import BoardSession
from edgelora.studio.board_status import condition
from edgelora.studio.capture import Taker
from edgelora.studio.job import Job
from edgelora.studio.live import Live, Sensor
from edgelora.studio.project import Project
from edgelora.studio.run import Head, StudioRun
from edgelora.studio.runs import ProjectRuns
from edgelora.studio.samples import ProjectSamples
from edgelora.studio.training_options import PACKAGED

BASE = PACKAGED / "motion.elm"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An untrained adapter for the base that comes with the studio."""
    path = tmp_path / "walk.ela"
    path.write_bytes(fresh_adapter(load_base(BASE).elm, 8, "frozen_a", 1, state=False))
    return path


@slow
def test_actions_on_two_boards(studios: Callable, pages: Callable, adapter: Path) -> None:
    studio = studios()
    page = pages(studio)
    page.get_by_text("No board yet").wait_for()
    for name in ("one", "two"):
        start_virtual(page, "unix", name)
        card(page, name).get_by_text("ready").wait_for()
    button = card(page, "two").get_by_role("button", name="Choose two")
    button.click()
    expect(button).to_have_count(0)
    card(page, "two").get_by_role("button", name="Put a base on two").click()
    page.get_by_role("button", name="Copy to the board").click()
    card(page, "two").get_by_text("/motion.elm").wait_for()
    expect(card(page, "one").get_by_text("none yet")).to_be_visible()
    page.get_by_role("button", name="Next: see its sensor live").click()
    page.get_by_role("heading", name="Live", exact=True).wait_for()

    page.get_by_role("link", name="Adapters").click()
    page.get_by_text("No adapters yet. Pull one from a board").wait_for()
    page.get_by_label("Add an adapter file").set_input_files(
        {"name": "bad.ela", "mimeType": "", "buffer": b"no adapter"}
    )
    page.get_by_role("alert").get_by_text("bad.ela").wait_for()
    page.get_by_label("Add an adapter file").set_input_files(adapter)
    page.get_by_role("button", name="Push walk.ela").click()
    walk = card(page, "walk")
    walk.get_by_role("button", name="Use walk").click()
    walk.get_by_text("in use").wait_for()
    walk.get_by_text("not measured in this project").wait_for()  # it was added as a file
    walk.get_by_role("button", name="Advanced").click()
    walk.get_by_role("button", name="Pin walk").click()
    walk.get_by_text("pinned").wait_for()
    walk.get_by_role("button", name="Rename walk").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("New name").fill("../up")
    dialog.get_by_role("button", name="Rename").click()
    dialog.get_by_role("alert").wait_for()
    dialog.get_by_label("New name").fill("stroll")
    dialog.get_by_role("button", name="Rename").click()
    stroll = card(page, "stroll")
    stroll.get_by_role("button", name="Pull stroll").click()
    page.get_by_role("button", name="Push stroll.ela").wait_for()
    stroll.get_by_role("button", name="Advanced").click()
    stroll.get_by_role("button", name="Release stroll").click()
    dialog.get_by_role("button", name="Sign and release").click()
    page.get_by_text("signed by key").wait_for()
    page.get_by_role("button", name="Close").click()
    bundle = elu.unpack((studio.folder / "releases" / "stroll.elu").read_bytes())
    assert (bundle.name, bundle.version, bundle.target) == ("stroll", 1, "unix")
    assert (studio.folder / "adapters" / "stroll.ela").read_bytes() == adapter.read_bytes()
    choose(page, "Board", re.compile("^one"))
    expect(stroll).to_have_count(0)  # each board has its own store
    choose(page, "Board", re.compile("^two"))
    stroll.get_by_role("button", name="Remove stroll").click()
    dialog.get_by_role("button", name="Remove").click()
    expect(stroll).to_have_count(0)

    page.get_by_role("link", name="Boards").click()
    card(page, "two").get_by_role("button", name="Stop two").click()
    card(page, "two").get_by_text("unplugged", exact=True).wait_for()
    expect(card(page, "one").get_by_text("ready")).to_be_visible()
    card(page, "two").get_by_role("button", name="Start two").click()  # the studio ends while the board starts


@slow
def test_a_board_stays_usable_and_a_project_as_it_was(studios: Callable, pages: Callable, tmp_path: Path) -> None:
    """A running board is not opened without a click, and has its REPL when the studio has ended."""
    board = virtual_board.start("unix", None, tmp_path / "outside", die_with_parent=True)
    with Link.connect(board.port) as link:
        link.put("/mine", b"1")
    studio = studios()
    page = pages(studio)
    page.get_by_text(board.port).wait_for()
    with Link.connect(board.port) as link:  # its port is free
        assert link.get("/mine") == b"1"
    page.get_by_role("button", name=f"Connect {board.port}").click()
    card(page, "outside").get_by_text("ready").wait_for()
    start_virtual(page, "unix", "inside")
    card(page, "inside").get_by_text("ready").wait_for()
    card(page, "inside").get_by_role("button", name="Choose inside").click()
    page.get_by_role("button", name="Colors: auto").click()
    assert studio.stop() == 130
    assert [one.state_dir for one in virtual_boards.running()] == [board.state_dir]  # the studio's own board is off
    with Link.connect(board.port) as link:
        assert link.get("/mine") == b"1"
    studio.start()
    page = pages(studio)
    for name in ("outside", "inside"):
        card(page, name).get_by_text("ready").wait_for()
    page.get_by_role("button", name="Colors: light").wait_for()
    expect(page.get_by_role("button", name="Choose outside")).to_be_visible()
    expect(page.get_by_role("button", name="Choose inside")).to_have_count(0)
    card(page, "outside").get_by_role("button", name="Stop outside").wait_for()
    board.kill()
    card(page, "outside").get_by_text("unplugged", exact=True).wait_for()


@slow
def test_a_virtual_board_without_power_stays_on_the_desk(studios: Callable, pages: Callable) -> None:
    """A stopped board is kept over a restart of the studio, with its files; a forgotten one is not."""
    studio = studios()
    page = pages(studio)
    start_virtual(page, "unix", "one")
    card(page, "one").get_by_text("ready").wait_for()
    with_base = card(page, "one")
    with_base.get_by_role("button", name="Put a base on one").click()
    page.get_by_role("button", name="Copy to the board").click()
    with_base.get_by_text("/motion.elm").wait_for()
    with_base.get_by_role("button", name="Stop one").click()
    with_base.get_by_text("unplugged", exact=True).wait_for()
    studio.stop()
    studio.start()
    page = pages(studio)
    card(page, "one").get_by_text("unplugged", exact=True).wait_for()
    card(page, "one").get_by_role("button", name="Start one").click()
    card(page, "one").get_by_text("/motion.elm").wait_for()
    card(page, "one").get_by_role("button", name="Stop one").click()
    card(page, "one").get_by_role("button", name="Forget one").click()
    page.get_by_text("No board yet").wait_for()
    studio.stop()
    studio.start()
    pages(studio).get_by_text("No board yet").wait_for()
    assert (studio.folder / "boards" / "one").is_dir()


def test_a_request_to_terminate_counts_as_ctrl_c(studios: Callable, tmp_path: Path) -> None:
    studio = studios(project(tmp_path / "project", {}).name)
    until(virtual_boards.running)
    assert studio.stop(signal.SIGTERM) == 130
    assert not virtual_boards.running()


def test_unexpected_errors_are_shown_on_every_page(tmp_path: Path) -> None:
    """For example a setting that can't be written: shown until someone closes it, while the rest of the page works."""
    (tmp_path / "studio.json").mkdir()

    async def story(first: Visitor, second: Visitor) -> None:
        for page in (first, second):
            await page.open("/")
        await first.press("Colors: auto")
        for page in (first, second):
            await page.see("studio.json is not a regular file")
        await second.press("Close errors")
        for page in (first, second):
            await page.see("studio.json is not a regular file", 0)
        await first.open("/collect")
        await first.see("Collect")

    visit(tmp_path, story, visitors=2)


def test_a_scan_that_finds_a_ready_board_leaves_its_buttons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redrawing them would lose a click on its way."""
    found = threading.Event()
    monkeypatch.setattr(Project, "is_there", lambda project, session: found.is_set())

    async def story(page: Visitor) -> None:
        await page.open("/")
        await page.see("ready")
        buttons = [await page.control(f"{text} {BOARD}") for text in ("Put a base on", "Console of")]
        found.set()
        await asyncio.sleep(1)  # in which they would be redrawn
        assert not any(button.is_deleted for button in buttons)

    visit(project(tmp_path / "project", {}), story)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (InputError("wrong", remedy="mend it"), "wrong: mend it"),
        (KeyError("x"), "this is a bug in edgelora: KeyError"),
    ],
)
def test_words_for_any_error(error: Exception, words: str, tmp_path: Path) -> None:
    """On the page and for a job; repeated errors are shown once."""
    project, job = Project(tmp_path), Job("work")
    for _ in range(3):
        project.trouble(error)
    job.run(lambda: (_ for _ in ()).throw(error))
    [trouble] = project.troubles
    assert words in trouble.what and job.error == trouble.what and job.remedy == trouble.remedy


# --- without a page


def test_boards_of_other_projects_are_not_offered(tmp_path: Path) -> None:
    """A virtual board started by a project belongs to it; one of no project may be connected."""
    folders = [tmp_path / "other/boards/theirs", tmp_path / "free"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/studio.json").write_text("{}")
    handles = [virtual_board.start("unix", None, folder, die_with_parent=True) for folder in folders]
    project = Project(tmp_path / "mine")
    project.open()
    until(lambda: len(project.devices) == 2)
    assert [device.state_dir for device in project.others] == [str(folders[1])]
    project.close()
    for handle in handles:
        handle.kill()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[BoardSession]:
    with session_of(tmp_path / "board") as session:
        yield session


def test_one_word_shows_the_state_of_a_board(tmp_path: Path) -> None:
    """From its start through jobs to a pulled cable; a port that another program has open does not count as pulled."""
    project = Project(tmp_path / "project")
    (project.folder / "boards" / "mine").mkdir()
    (ours, theirs) = pty.openpty()
    other = SerialLine(os.ttyname(theirs))
    taken = BoardSession(Device(os.ttyname(theirs), "taken", True))
    until(lambda: taken.state.problem)
    taken._find = lambda: True  # it is in no list of boards
    until(lambda: condition(project, taken) == "used elsewhere")
    assert "another program" in taken.state.problem
    other.close()
    taken.close()
    os.close(ours)

    start = project.start_virtual("unix", "mine")
    assert start.wait(60) and start.state == "done", start.error
    session, go = start.result, threading.Event()
    until(lambda: condition(project, session) == "ready")

    def long(link: Link, job: Job) -> None:
        go.wait(60)

    def sense(link: Link, job: Job) -> None:
        while not (job.wanted or job.cancelled):
            time.sleep(0.01)

    sensing = session.submit("sense", sense, exclusive=False)
    until(lambda: condition(project, session) == "listening")
    work = session.submit("work", long)
    until(lambda: condition(project, session) == "working")
    go.set()
    assert work.wait(60)
    until(lambda: condition(project, session) == "listening")
    sensing.cancel()
    until(lambda: condition(project, session) == "ready")
    project.stop_virtual(session.key)
    until(lambda: condition(project, session) == "unplugged")
    begun = Job("start mine")
    project.jobs.append(begun)
    assert condition(project, session) == "starting"
    begun.end("done")
    assert condition(project, session) == "unplugged"
    project.close()


def test_jobs_take_turns_and_outlive_the_board(session: BoardSession, tmp_path: Path) -> None:
    """A non-exclusive job gives way and resumes; a lost connection only fails the running job."""
    until(lambda: session.state.status == "idle")
    calls: list[int] = []

    def sense(link: Link, job: Job) -> None:
        calls.append(0)
        while not (job.wanted or job.cancelled):
            link.hello()
            calls[-1] += 1

    sensing = session.submit("sense", sense, exclusive=False)
    until(lambda: calls and calls[-1] > 3)
    space = session.submit("space", lambda link, job: link.space("/"))
    assert space.wait(60) and space.state == "done" and space.result.free > 0
    until(lambda: len(calls) == 2 and calls[-1] > 3)
    assert sensing.state == "running" and not sensing.ended

    def endless(link: Link, job: Job) -> None:
        while True:
            job.progress(1, 2, "on")
            link.hello()

    stopped = session.submit("stopped", endless)
    until(lambda: stopped.done == 1)
    assert stopped.share == 0.5
    stopped.cancel()
    assert stopped.wait(60) and stopped.state == "cancelled"

    lost = session.submit("lost", endless)
    until(lambda: lost.done == 1)
    handle = virtual_boards.find(session.device.port)
    assert handle
    handle.kill()
    assert lost.wait(60) and lost.state == "failed" and "line" in lost.error
    until(lambda: session.state.status == "away")
    refused = session.submit("refused", endless)
    assert refused.wait(60) and refused.state == "failed" and refused.error
    before = len(calls)
    virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    until(lambda: len(calls) > before and calls[-1] > 3)  # without a request
    bug = session.submit("bug", lambda link, job: 1 // 0)
    assert bug.wait(60) and "ZeroDivisionError" in bug.error and "report" in bug.remedy
    session.close()
    assert sensing.state == "cancelled"
    with Link.connect(session.device.port) as link:  # its port is free
        assert link.hello()


def test_a_board_that_is_lost_ends_its_countdown(session: BoardSession, tmp_path: Path) -> None:
    until(lambda: session.state.status == "idle")
    put = session.submit("put", lambda link, job: link.put("/waves.py", WAVES.encode()))
    assert put.wait(60) and put.state == "done", put.error
    live, taker = session.of(Live), Taker(session.of(Live), ProjectSamples(SimpleNamespace(folder=tmp_path)))
    live.start(Sensor("waves", ()), load_base(BASE))
    until(lambda: live.end)
    taker.label, taker.seconds = "wave", 600
    taker.begin()
    assert taker.phase == "counting"
    handle = virtual_boards.find(session.device.port)
    assert handle
    handle.kill()
    until(lambda: taker.phase == "idle")
    assert "was lost" in taker.problem


HANGS = {
    "hangs": "def source():\n    while True:\n        pass\n",
    "prints": "def source():\n    while True:\n        print('for ever and ever')\n",
    "hangs_later": WAVES.replace("due = time", "time.sleep(9999)\n        due = time"),
}


def hanging(session: BoardSession, module: str, content: str) -> Live:
    """A live view of a module that never returns, once the board runs it."""
    put = session.submit("put", lambda link, job: link.put(f"/{module}.py", content.encode()))
    assert put.wait(60) and put.state == "done", put.error
    live = session.of(Live)
    live.start(Sensor(module, ()), None)
    until(lambda: live.job and live.job.state == "running")
    time.sleep(1)  # until the board runs it
    return live


@pytest.mark.parametrize("module", HANGS)
def test_a_module_that_never_ends_is_ended(session: BoardSession, module: str) -> None:
    """The page's Stop interrupts it by Ctrl-C: the board answers again, and keeps its model."""
    until(lambda: session.state.status == "idle")
    live = hanging(session, module, HANGS[module])
    job = live.job
    live.stop()
    assert job and job.wait(60) and job.state == "cancelled"
    until(lambda: session.state.status == "idle")
    space = session.submit("space", lambda link, job: link.space("/"))
    assert space.wait(60) and space.state == "done"


@slow
def test_a_board_that_ignores_ctrl_c_has_its_power_cut(studios: Callable, pages: Callable) -> None:
    """Reset restores a virtual board in any state."""
    studio = studios()
    page = pages(studio)
    start_virtual(page, "unix", "one")
    card(page, "one").get_by_text("ready").wait_for()
    studio.stop()
    board = virtual_board.start("unix", None, studio.folder / "boards" / "one")
    with Link.connect(board.port) as link:
        pause = "" if FULL else "    time.sleep_ms(5)\n"  # without one, what it says keeps a processor busy
        deaf = f"import micropython, time\nmicropython.kbd_intr(-1)\nwhile True:\n    print('no')\n{pause}"
        link.put("/deaf.py", deaf.encode())
    board.stop()
    studio.start()
    page = pages(studio)
    card(page, "one").get_by_text("ready").wait_for()
    sense(page, "Live", "deaf")
    page.get_by_role("link", name="Boards").click()
    card(page, "one").get_by_text("listening").wait_for()
    page.wait_for_timeout(1000)
    [before] = [one.pid for one in virtual_boards.running() if one.belongs_to(studio.folder)]
    card(page, "one").get_by_role("button", name="Reset one").click()
    card(page, "one").get_by_text("ready").wait_for()
    [after] = [one.pid for one in virtual_boards.running() if one.belongs_to(studio.folder)]
    assert after != before, "its power was cut: another process is the board now"


def test_two_adapters_on_the_same_samples(session: BoardSession, adapter: Path, tmp_path: Path) -> None:
    """The board's answers equal the twin's for each sample, with an adapter and with none; its store is unchanged."""
    base, collection = load_base(BASE), ProjectSamples(SimpleNamespace(folder=tmp_path))
    drawn = np.random.default_rng(1)
    for name, scale in (("still", 0.1), ("wild", 2.0)):
        text = "\n".join(",".join(f"{value:.4f}" for value in row) for row in drawn.normal(0, scale, (300, 6)))
        collection.drop(f"{name}.csv", text.encode(), name, base)
    data = collection.dataset(base)
    assert data is not None
    put = session.submit("put", lambda link, job: link.store_put("walk", adapter.read_bytes()))
    assert put.wait(60) and put.result == 1
    compared = adapter_actions.compare(session, base, data, [adapter_actions.BARE, "walk"], {data.x[0].tobytes()})
    assert compared.wait(120) and compared.state == "done", compared.error
    twin = Session(base.elm, adapter_ranks(base, adapter.read_bytes()), "infer")
    for one, used in zip(compared.result.answers, (None, adapter.read_bytes()), strict=True):
        twin.use(used)
        numbers = twin.predict(base.model.input.quantize(data.x))
        assert one.said == tuple(base.model.labels[number] for number in numbers) and one.infer_us > 0
    assert compared.result.apart == 0 and compared.result.classes[0] == "still"
    for seen, counts in ((False, [("still", 4), ("wild", 5)]), (True, [("still", 1)])):
        assert [(label, count) for label, count, _ in compared.result.rows(seen)] == counts
    store = session.submit("store", lambda link, job: link.store_list())
    assert store.wait(60) and [entry.name for entry in store.result.adapters] == ["walk"]


def test_damaged_settings_of_a_project_are_ignored(tmp_path: Path) -> None:
    for content in ("", "[]", '{"boards": 3, "on": [], "selected": {}, "theme": "<b>"}', '{"boards": [{"port": 1}]}'):
        (tmp_path / "studio.json").write_text(content)
        project = Project(tmp_path)
        assert project.selected is None and project.theme == "auto"
    (tmp_path / "studio.json").write_text('{"on": {"../../evil": "unix", "gone": "no-board"}}')
    project = Project(tmp_path)
    project.open()
    project.close()
    assert not (tmp_path.parent / "evil").exists() and not (tmp_path / "boards" / "gone").exists()


def test_another_board_at_the_same_port(tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests for a board do not reach another one that was plugged in instead; that one has its own page.

    If USB serial numbers differ, both boards are listed; otherwise chip ids distinguish them, which are simulated here.
    """
    port, at, one = tmp_path / "ttyACM0", ["", ""], None
    handles = [virtual_board.start("unix", None, tmp_path / name, die_with_parent=True) for name in ("a", "b")]

    def plug(board: int, serial_number: str) -> None:
        port.unlink(missing_ok=True)
        port.symlink_to(handles[board].port)
        at[:] = "ab"[board], serial_number

    def devices() -> list[Device]:
        if one and "use" in [job.name for job in one.jobs] and not port.is_symlink():
            plug(1, "")  # before any other lookup
        return [Device(str(port), "a board", False, None, at[1])] if port.is_symlink() else []

    hello = Link.hello
    monkeypatch.setattr(Link, "hello", lambda link: replace(hello(link), id=at[0]))
    for module in (sessions, desks):
        monkeypatch.setattr(module, "find_devices", devices)
    plug(0, "")
    project = Project(tmp_path / "project")
    one = project.connect(*devices())
    until(lambda: one.state.store)
    for put in (
        one.submit("put", lambda link, job: link.store_put("walk", adapter.read_bytes())),
        one.submit("put", lambda link, job: link.put("/waves.py", WAVES.encode())),
    ):
        assert put.wait(60) and put.state == "done", put.error
    until(lambda: one.state.store.adapters)
    learned = StudioRun(tmp_path / "1", Head("t", str(port), "", {}, "", (), 1, "judged", id="a"))
    project.of(ProjectRuns).runs.append(learned)
    live = one.of(Live)
    live.start(Sensor("waves", ()), None)
    until(lambda: live.end)
    assert project.of(ProjectRuns).of(one) is learned

    port.unlink()
    handles[0].kill()
    until(lambda: one.state.status == "away")
    use = one.submit("use", lambda link, job: link.store_activate("walk"))
    assert use.wait(60) and "another board" in use.error
    until(lambda: one.state.id == "b" and one.state.store)
    assert not one.state.store.adapters and not one.state.models and project.of(ProjectRuns).of(one) is None
    assert live.job.ended and "another board" in live.job.error
    kept = project.of(ProjectRuns).keep(one, learned)
    assert kept.wait(60) and "another board" in kept.error
    project.release(one.key)

    handles[0] = virtual_board.start("unix", None, tmp_path / "a", die_with_parent=True)
    plug(0, "A")
    first = project.connect(*devices())
    until(lambda: first.state.id == "a")
    plug(1, "B")
    handles[0].kill()
    until(lambda: first.state.status == "away")
    assert project.held(*devices()) is None
    second = project.connect(*devices())
    until(lambda: second.state.id == "b")
    assert first.state.status == "away" and list(project.sessions.values()) == [first, second]
    assert project.of(ProjectRuns).of(first) is learned
    project.close()
    handles[1].kill()
