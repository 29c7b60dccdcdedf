"""The live view: it shows the board's decisions, switches adapters meanwhile, and gives way to other jobs."""

from __future__ import annotations

import json
import re
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fresh import slow
from playwright.sync_api import Page, expect
from sensing import adapters, motion_base, put_board, session_of, waves
from studio_pages import sense
from waiting import until

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import pack_model
from edgelora.learn.streaming.decisions import listen_on_twin
from edgelora.learn.training.data.base import Base
from edgelora.studio import live as live_module
from edgelora.studio.board_session import BoardSession
from edgelora.studio.live import DECISIONS_KEPT, Cursor, Live, Said, Sensor, Tape
from edgelora.studio.spectrogram import BANDS, COLUMN, Spectrogram

NAMES = ("first", "second")


def told(frame: bytes | None) -> tuple[dict[str, Any], bytes]:
    assert frame
    (size,) = struct.unpack_from("<I", frame)
    return json.loads(frame[4 : 4 + size]), frame[4 + size :]


@pytest.fixture(scope="module")
def base() -> Base:
    return motion_base()


@pytest.fixture(scope="module")
def made(base: Base) -> dict[str, bytes]:
    return dict(zip(NAMES, adapters(base, 2), strict=True))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, made: dict[str, bytes]) -> Iterator[BoardSession]:
    """A running board with two adapters in its store."""
    with session_of(put_board(tmp_path_factory.mktemp("desk"), stored=made)) as session:
        until(lambda: session.state.store)
        yield session


@pytest.fixture
def live(session: BoardSession) -> Iterator[Live]:
    live = session.of(Live)
    yield live
    live.stop()
    until(lambda: session.state.job is None)


def by_twin(base: Base, adapter: bytes | None, samples: np.ndarray) -> dict[int, tuple[int, float]]:
    """Class and probability of each window, by the window's end."""
    replies = listen_on_twin(base, [adapter] if adapter else [], samples)
    return {d.end: (d.seen, d.probability or 0.0) for reply in replies for d in reply.decisions}


def test_what_is_shown_is_what_the_board_says(live: Live, base: Base, made: dict[str, bytes]) -> None:
    """Samples of the board's own source, and the twin's decision for each window with the active adapter."""
    live.start(Sensor("waves"), base, "")
    cursor, samples, said = Cursor(), b"", []

    def pull() -> None:
        live.wait(cursor, 0.2)
        frame = live.frame(cursor)
        if frame and live.metadata.base:
            text, data = told(frame)
            nonlocal samples
            samples += data
            said.extend(text["said"])

    while not any(s[3] == "second" for s in said):
        pull()
        if len(said) in (1, 2):
            live.use(NAMES[len(said) - 1])
        assert len(said) < 20
    tallies: dict[str, int] = {}
    while not tallies or sum(tallies.values()) != len(said):
        pull()
        tallies = {name: tally.windows for name, tally in live.tallies.items()}
    shown = np.frombuffer(samples, "<i2").reshape(-1, 6)
    assert np.array_equal(shown, waves(len(shown)))
    wanted = {name: by_twin(base, made.get(name), shown) for name in ("", *NAMES)}
    assert [s[0] for s in said] == sorted(wanted["first"])[: len(said)], "every window, once"
    for end, seen, us, adapter, p in said:
        assert us > 0 and (seen, round(p[seen], 3)) == (wanted[adapter][end][0], round(wanted[adapter][end][1], 3))
    assert tallies == {name: sum(s[3] == name for s in said) for name in ("", *NAMES)}
    assert any(wanted["first"][s[0]] != wanted["second"][s[0]] for s in said), "the adapters differ"


def test_a_recording_of_this_computer_is_listened_to(live: Live, base: Base) -> None:
    samples = waves(260)
    live.start(Tape("mine.csv", samples), base, "")
    until(lambda: live.metadata.source == "mine.csv" and live.latest and live.latest.end >= 200)
    wanted = by_twin(base, None, samples)
    for one in list(live._said):
        if one.end <= len(samples):
            assert (one.seen, one.p[one.seen]) == wanted[one.end] and one.adapter == ""
    window = live.window(150, 100)
    assert window is not None and np.array_equal(window, samples[50:150])
    assert live.window(live.end + 1, 100) is None and live.window(50, 100) is None
    with pytest.raises(InputError, match="choose a base"):
        live.start(Tape("mine.csv", samples), None)


def test_others_get_the_board_and_it_goes_on_afterwards(live: Live, session: BoardSession, base: Base) -> None:
    before = live.run
    live.start(Sensor("waves"), base)
    until(lambda: live.run > before and live.end > 20)
    assert live.metadata.adapter == ""
    session.submit("use", lambda link, job: link.store_activate("second"))
    until(lambda: live.metadata.adapter == "second")  # the active one, unless an adapter has been chosen
    live.use("first")
    until(lambda: live.metadata.adapter == "first")
    before = live.run
    session.submit("use none", lambda link, job: link.store_activate(None))
    until(lambda: live.run > before and live.end > 20)
    live.pause()
    time.sleep(0.4)  # what was in progress
    still = live.end
    time.sleep(0.4)
    assert live.end == still and live.metadata.paused and live.is_running
    live.pause(False)
    until(lambda: live.end > still + 20)
    assert live.window(still + 10, 20) is None, "a pause is a hole"
    run = live.run
    other = session.submit("another", lambda link, job: link.hello().board)
    assert other.wait(20) and other.result
    until(lambda: live.run > run and live.end > 20)
    assert live.is_running
    live.start(Sensor("no_such_module"), base, "")
    until(lambda: live.job and live.job.ended)
    assert live.job and "no module named" in live.job.error


def test_rings_have_a_fixed_size(session: BoardSession) -> None:
    """Nothing grows for a page that never asks; a late page gets what is kept, in order."""
    live = Live(session)
    live._clear(1, 16000.0, 8160)
    live._tell(rate=16000.0, fast=True, labels=("a", "b"), scales=(1.0,))
    kept = {name: getattr(live, name).nbytes for name in ("_ring", "_pictures")}
    rng, late, count = np.random.default_rng(1), Cursor(), 0
    for i in range(300):
        part = rng.integers(-3000, 3000, (int(rng.integers(1, 9000)), 1)).astype(np.int16)
        count += len(part)
        live._feed(part, 0, [Said(count, i % 2, (0.5, 0.5), 10.0, "")] * 5)
    assert kept == {name: getattr(live, name).nbytes for name in kept} and live.end == count
    text, data = told(live.frame(late))
    assert len(text["said"]) == DECISIONS_KEPT and len(data) == live._pictures.size
    assert text["first"] == live._columns - len(live._pictures) and live.frame(late) is None
    live._feed(part, 7, [])
    assert live.window(live.end, len(part) + 1) is None and live.lost == 7
    assert live.window(live.end, len(part)) is not None


@slow
def test_memory_does_not_grow_over_minutes() -> None:
    """Motion and sound, 2,500 parts each: the view holds as much memory at the end as at half time."""
    live, cursor, rng = Live(SimpleNamespace()), Cursor(), np.random.default_rng(2)
    own = tracemalloc.Filter(True, str(Path(live_module.__file__).parent / "*.py"))
    for rate, channels in ((50.0, 6), (16000.0, 1)):
        live._clear(channels, rate, 100)
        live._tell(rate=rate, fast=rate > 1000, labels=("a", "b"), scales=(1.0,) * channels)
        part = rng.integers(-3000, 3000, (round(rate * 0.1), channels)).astype(np.int16)
        held = []
        tracemalloc.start()
        for number in range(2500):
            live._feed(part, 0, [Said(live.end, number % 2, (0.5, 0.5), 10.0, "x")])
            assert live.frame(cursor)
            if number in (1250, 2499):
                held.append(sum(one.size for one in tracemalloc.take_snapshot().filter_traces([own]).traces))
        tracemalloc.stop()
        assert 0 < held[1] < held[0] + 2000, held


def test_columns_of_a_spectrogram() -> None:
    """The same for any split of the samples; a tone is brightest in its own band, silence is dark."""
    rate, seconds = 16000, 1.0
    time_of = np.arange(int(rate * seconds)) / rate
    tone = (8000 * np.sin(2 * np.pi * 1000 * time_of)).astype(np.int16)
    whole = Spectrogram(rate).feed(tone)
    cut = Spectrogram(rate)
    parts = np.concatenate([cut.feed(part) for part in np.array_split(tone, 37)])
    assert np.array_equal(whole, parts) and whole.shape[1] == COLUMN and 48 <= len(whole) <= 50
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731
    expected = (mel(1000) - mel(60)) / (mel(8000) - mel(60)) * (BANDS + 1) - 1
    assert abs(int(np.median(whole[:, 2:].argmax(1))) - expected) <= 1
    assert (whole[:, 2:].max(1) > 200).all() and not Spectrogram(rate).feed(np.zeros(rate, np.int16))[:, 2:].any()


@slow
def test_a_page_sees_and_switches(studios: Callable[..., Any], pages: Callable[..., Page], tmp_path: Path) -> None:
    """Frames are drawn, an adapter is switched while running, a hidden page gets nothing, names are text."""
    hostile = "<img src=x onerror=alert(1)>"
    model = motion_base().model
    model.labels = [hostile, *model.labels[1:]]
    base = Base("mine.elm", pack_model(model), model)
    (tmp_path / "project/bases").mkdir(parents=True)
    (tmp_path / "project/bases/mine.elm").write_bytes(base.elm)
    put_board(tmp_path / "project", stored=dict(zip(NAMES, adapters(base, 2), strict=True)))
    page = pages(studios("project"))
    frames: list[int] = []
    page.on(
        "websocket",
        lambda socket: "senses" in socket.url and socket.on("framereceived", lambda data: frames.append(len(data))),
    )
    sense(page, "Live", network="mine")
    page.locator(".bar-seen").wait_for()
    assert re.fullmatch(r".+, ?\d+ %", page.locator(".headline").inner_text().replace("\n", " "))
    expect(page.get_by_label("Source", exact=True)).not_to_be_visible()  # folded while listening
    expect(page.get_by_role("button", name="Listening to waves, with mine")).to_be_visible()
    page.evaluate("""() => {
        window.ends = [];
        document.querySelector(".signal").addEventListener("drawn", (event) => window.ends.push(event.detail.end));
    }""")
    page.wait_for_function("window.ends.length > 20")
    ends = page.evaluate("window.ends")
    assert ends == sorted(ends) and ends[-1] > ends[0]
    inked = """() => {
        const canvas = document.querySelector(".signal canvas");
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value);
    }"""
    assert page.evaluate(inked)
    page.get_by_role("group", name="Active adapter").get_by_role("button", name="second").click()
    page.locator(".signal .chip", has_text="adapter: second").wait_for()
    page.get_by_role("cell", name="second").wait_for()
    assert page.locator(".bar-name").first.inner_text() == hostile and not page.locator("img").count()
    page.get_by_role("button", name="Pause").click()
    page.locator(".signal .chip", has_text="paused").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.wait_for_function("(count) => window.ends.length > count + 10", arg=page.evaluate("window.ends.length"))
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { get: () => window.away });
        window.away = true;
    }""")
    page.wait_for_timeout(800)  # an answer in transit
    count = len(frames)
    page.wait_for_timeout(1000)
    assert len(frames) == count, "a hidden page asks for nothing"
    page.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")
    page.wait_for_function("(count) => window.ends.length > count + 5", arg=page.evaluate("window.ends.length"))
