"""`edgelora bench studio`: load of the live view, with a real page in Chromium and a virtual board.

Its source begins on a whole second and tells what is due by the computer's clock, so a page knows by the number of
samples when the newest was measured: from there to the frame in which it is drawn is the delay.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelora.base.errors import InputError, MissingPackage
from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.board.sim.virtual_board import start
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.signal import Normal
from edgelora.core.front_ends import AUDIO_SIZE, audio_signal
from edgelora.learn.training.base import Base, load_base
from edgelora.studio.training_options import PACKAGED

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
ROWS, EVERY = 49, 10  # of sound: an input is 0.5 s, one comes every 0.1 s
STEADY_SECONDS = 4.0  # until a view that has begun is looked at
DRAWN_MS = 2000  # until a view has the board that was chosen
MOST_FRAMES = 20000
SOURCE = """
import math, time
from array import array
from edgelora import _core

RATE, CHANNELS = {rate}, {channels}
AT = [6.2832 * i / RATE for i in range(RATE)]
TABLE = array("h", [int({size} * math.sin(({turns} + c) * at)) for at in AT for c in range(CHANNELS)])

class Stamped:
    rate, channels, scales, overruns, ended = RATE, CHANNELS, None, 0, False

    def __init__(self):
        self.at, self.start = 0, time.time_ns() // 1000000000 * 1000 + 1000

    def read_into(self, buffer):
        due = (time.time_ns() // 1000000 - self.start) * RATE // 1000
        count, done = min(due - self.at, len(buffer) // CHANNELS), 0
        while done < count:
            first = self.at % RATE
            part = min(count - done, RATE - first)
            _core.take(buffer, done * CHANNELS, TABLE, first * CHANNELS, 1, part * CHANNELS, 2)
            self.at += part
            done += part
        return done

def source():
    return Stamped()
"""
ALONE = """
import time, edgelora, {module}
from edgelora.pipeline import Pipeline

class Told:
    rate, channels, overruns, ended = 1, 1, 0, False

def source():
    model = edgelora.Model("{path}", ranks=bytes({ops}), mode="infer", micro_batch=1)
    pipeline = Pipeline(model, {module}.source())
    go(pipeline, 1500)
    told = Told()
    told.scales = go(pipeline, {ms})
    return told

def go(pipeline, ms):
    began, windows, took, ends = time.ticks_ms(), 0, 0, []
    while time.ticks_diff(time.ticks_ms(), began) < ms:
        start = time.ticks_us()
        new = pipeline.step()
        took += time.ticks_diff(time.ticks_us(), start) if new or pipeline.pending else 0
        if new:
            ends = [ends[0] if ends else time.ticks_ms(), time.ticks_ms()]
            windows += new
        if not pipeline.pending:
            time.sleep_ms(1)
    return windows, took, time.ticks_diff(ends[1], ends[0]) if ends else 0
"""
WATCHED = """
() => {
  window.frames_drawn = [];
  window.last_end = null;
  const signal = document.querySelector(".signal");
  signal.addEventListener("drawn", (event) => {
    const { end, sent, came } = event.detail;
    // In the next frame what was drawn is on the screen.
    requestAnimationFrame(() => {
      const shown = performance.timeOrigin + performance.now();
      if (window.last_end !== null && end > window.last_end && window.frames_drawn.length < MOST)
        window.frames_drawn.push([end - window.last_end, end, sent * 1000, performance.timeOrigin + came, shown]);
      window.last_end = end;
    });
  });
}
"""
CONTROL = """
<!doctype html><title>control</title>
<canvas width="1100" height="420" style="width: 1100px"></canvas><p></p>
<script>
  const pen = document.querySelector("canvas").getContext("2d");
  let n = 0;
  setInterval(() => requestAnimationFrame(() => {
    pen.clearRect(0, 0, 1100, 420);
    for (let lane = 0; lane < 6; lane++) {
      pen.beginPath();
      for (let i = 0; i < 400; i++) pen.lineTo(i * 2.75, 70 * lane + 35 + 30 * Math.sin((n + i) / 20));
      pen.stroke();
      pen.fillText(`value ${n}`, 6, 70 * lane + 20);
    }
    document.querySelector("p").textContent = `frame ${n++}`;
  }), 45);
</script>
"""
ASKED = """
(board) => new Promise((done, failed) => {
  const socket = new WebSocket(`ws://${location.host}/senses/live?board=${encodeURIComponent(board)}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send("");
  socket.onerror = () => failed("no frame");
  socket.onmessage = (event) => {
    const size = new DataView(event.data).getUint32(0, true);
    done(new TextDecoder().decode(new Uint8Array(event.data, 4, size)));
    socket.close();
  };
})
"""


@dataclass(frozen=True)
class Kind:
    """What is watched: samples a second, channels, and the network that listens."""

    name: str
    rate: int
    channels: int
    base: Callable[[], Base]


@dataclass(frozen=True)
class Watched:
    """What a board did, in so many seconds: windows a second, mean microseconds of one, samples lost."""

    seconds: float
    windows_per_second: float
    window_us: float
    lost: int


@dataclass(frozen=True)
class Delay:
    """Milliseconds from a sample to the frame in which it is drawn: of all samples, in so many frames.

    held, way, drawn: medians of its parts, for the newest sample of a frame: until the studio hands it out, until the
    page has it, until it is on the screen. The rest is that a sample waits for its frame.
    """

    frames: int
    median_ms: float
    p95_ms: float
    max_ms: float
    held_ms: float
    way_ms: float
    drawn_ms: float


@dataclass(frozen=True)
class KindBench:
    """alone: the board's own program, without a host; unseen: watched by the studio, without a page; seen: with one.

    unseen and seen take turns, a run each. lowered: percent of windows a second that a page costs, the mean of the
    runs, and its spread: their standard deviation.
    """

    kind: str
    rate: int
    channels: int
    delays: list[Delay]
    alone: Watched
    unseen: list[Watched]
    seen: list[Watched]
    lowered_percent: float
    lowered_spread: float


@dataclass(frozen=True)
class Memory:
    """Kilobytes after so many seconds: of the server, of the pages' processes, of their JavaScript objects after a
    collection, of the processes of a plain page that draws as often; nodes: of the pages' documents."""

    seconds: float
    server_kb: int
    renderer_kb: int
    heap_kb: int
    nodes: int
    control_kb: int


@dataclass(frozen=True)
class Growth:
    """Kilobytes a minute, by least squares after the first third, when all has come that stays."""

    server: float
    heap: float
    renderer: float
    control: float


@dataclass(frozen=True)
class StudioBench:
    """memory: while a page of each kind is open."""

    kinds: list[KindBench]
    memory: list[Memory]
    growth: Growth


def _sound_base() -> Base:
    from .swap import layers_and_adapters  # a studio that serves does without

    elm, _ = layers_and_adapters((ROWS * AUDIO_SIZE, 12), 0)
    model = unpack_model(elm)
    model.signal = audio_signal(ROWS, EVERY, Normal(0.01))
    elm = pack_model(model)
    return Base("sound.elm", elm, unpack_model(elm))


KINDS = (
    Kind("motion", 50, 6, lambda: load_base(PACKAGED / "motion.elm")),
    Kind("sound", 16000, 1, _sound_base),
)


def bench_studio(seconds: int = 60, span: int = 20, runs: int = 3, progress: Progress = no_progress) -> StudioBench:
    """Watches two boards at once, one of each kind; memory is followed for so many seconds, the rest for a span each.

    InputError without Chromium, `MissingPackage` without playwright.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MissingPackage(f"this takes the package playwright ({error})", remedy="pip install playwright") from None
    if not os.path.exists(CHROMIUM):
        raise InputError(f"{CHROMIUM} is missing", remedy="apt-get install chromium")
    steps = 3 * len(KINDS)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        alone = []
        for kind in KINDS:
            alone.append(_prepared(folder, kind, span))
            progress(len(alone), steps, f"{kind.name}, the board alone")
        url, server = stack.enter_context(_served(folder))
        chromium = stack.enter_context(sync_playwright()).chromium

        def launched() -> Any:
            browser = chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            stack.callback(browser.close)
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            context.set_default_timeout(60_000)
            return browser, context

        browser, context = launched()
        kinds, pages = [], []
        for kind, before in zip(KINDS, alone, strict=True):
            kinds.append(_measured(context, url, folder, kind, before, span, runs))
            progress(len(KINDS) + len(kinds), steps, f"{kind.name}, with a page and without")
        if seconds:
            for kind in KINDS:
                pages.append(_page(context, url, kind))
                progress(2 * len(KINDS) + len(pages), steps, f"{kind.name}, for memory")
            control, plain = launched()
            plain.new_page().set_content(CONTROL)
            memory = list(_followed(browser, control, pages, server, seconds, progress))
        else:
            memory = []
    late = memory[len(memory) // 3 :]

    def slope(of: Callable[[Memory], int]) -> float:
        return _slope([(one.seconds, of(one)) for one in late])

    growth = Growth(
        slope(lambda one: one.server_kb),
        slope(lambda one: one.heap_kb),
        slope(lambda one: one.renderer_kb),
        slope(lambda one: one.control_kb),
    )
    return StudioBench(kinds, memory, growth)


def _prepared(folder: Path, kind: Kind, span: int) -> Watched:
    """Puts a board of this kind into a project, and has it look at its source by itself first."""
    state = folder / "boards" / kind.name
    state.mkdir(parents=True)
    base = kind.base()
    (folder / "bases").mkdir(exist_ok=True)
    (folder / "bases" / base.name).write_bytes(base.elm)
    board = start("unix", None, state, die_with_parent=True)
    try:
        with Link.connect(board.port) as link:
            size, turns = (6000, 440) if kind.channels == 1 else (3000, 1)
            module = SOURCE.format(rate=kind.rate, channels=kind.channels, size=size, turns=turns)
            link.put(f"/stamped_{kind.name}.py", module.encode())
            link.put(base.paths[1], base.elm)
            code = ALONE.format(
                module=f"stamped_{kind.name}", path=base.paths[1], ops=len(base.model.ops), ms=1000 * span
            )
            link.put(f"/alone_{kind.name}.py", code.encode())
            link.sense(f"alone_{kind.name}")  # the board's own program runs, and says nothing until it ends
            windows, took, ms = link.sensed_scales
    finally:
        board.stop()
    state_file = folder / "studio.json"
    told = json.loads(state_file.read_text()) if state_file.exists() else {"on": {}}
    told["on"][kind.name] = "unix"
    state_file.write_text(json.dumps(told))
    # ms: from the end of the first window to that of the last.
    return Watched(ms / 1000, (windows - 1) / max(ms / 1000, 1e-3), took / max(windows, 1), 0)


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[str, int]]:
    """A studio in a process of its own: its address, its process."""
    command = [sys.executable, "-m", "edgelora", "studio", str(folder), "--no-browser", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        said = ""
        while "}" not in said:
            line = process.stdout.readline()
            if not line:
                raise InputError("the studio did not start", remedy="try `edgelora studio` by itself")
            said += line
        yield json.loads(said)["url"], process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()


def _page(context: Any, url: str, kind: Kind) -> Any:
    """A page whose live view watches the board of this kind."""
    page = context.new_page()
    page.goto(url)
    page.get_by_role("link", name="Live").click()
    page.get_by_label("Board", exact=True).click()
    page.get_by_role("option", name=re.compile(f"^{kind.name} ")).click()
    page.wait_for_timeout(DRAWN_MS)
    if not page.get_by_text("Listening to").count():  # as it does from the first page on
        _start(page, kind)
    page.locator(".bar-row").first.wait_for()
    time.sleep(STEADY_SECONDS)
    return page


def _start(page: Any, kind: Kind) -> None:
    page.get_by_label("Source", exact=True).click()
    page.get_by_role("option", name="a module on the board").click()
    page.get_by_label("Module").fill(f"stamped_{kind.name}")
    page.get_by_label("Network").click()
    page.get_by_role("option", name=kind.name, exact=True).click()
    page.get_by_role("button", name="Start").click()


def _measured(context: Any, url: str, folder: Path, kind: Kind, alone: Watched, span: int, runs: int) -> KindBench:
    board = str(folder.resolve() / "boards" / kind.name / "port")
    delays, seen, unseen = [], [], []
    for _ in range(runs):
        page = _page(context, url, kind)
        page.evaluate(WATCHED.replace("MOST", str(MOST_FRAMES)))
        seen.append(_watched(page, board, span))
        delays.append(_delay(page.evaluate("() => window.frames_drawn"), kind.rate))
        page.goto("about:blank")
        page.goto(url)
        page.get_by_role("navigation", name="Views").wait_for()
        unseen.append(_watched(page, board, span))
        page.close()
    lowered = [100 * (1 - a.windows_per_second / b.windows_per_second) for a, b in zip(seen, unseen, strict=True)]
    mean, spread = float(np.mean(lowered)), float(np.std(lowered, ddof=min(1, len(lowered) - 1)))
    return KindBench(kind.name, kind.rate, kind.channels, delays, alone, unseen, seen, round(mean, 3), round(spread, 3))


def _delay(frames: Sequence[Sequence[float]], rate: int) -> Delay:
    """frames: of each the samples that are new, those until its end, and when it was sent, had come and was shown, in
    milliseconds of the computer's clock. The source began on a whole second, and no delay is a second."""
    if not frames:
        return Delay(0, *[math.nan] * 6)
    new, end, sent, came, shown = np.array(frames).T
    newest = (shown - end * 1000 / rate) % 1000
    step = max(1, rate // 1000)
    ages = [age + np.arange(0, count, step) * 1000 / rate for age, count in zip(newest, new, strict=True)]
    median, p95, most = np.percentile(np.concatenate(ages), (50, 95, 100))
    held, way, drawn = (np.median(one) for one in ((sent - end * 1000 / rate) % 1000, came - sent, shown - came))
    return Delay(len(frames), *(round(float(one), 1) for one in (median, p95, most, held, way, drawn)))


def _watched(page: Any, board: str, span: int) -> Watched:
    """What the board did meanwhile, by what its view says before and after.

    A window has its end in samples, so that the count is as fine as a sample, not as a window.
    """
    first = json.loads(page.evaluate(ASKED, board))
    page.wait_for_timeout(span * 1000)
    last = json.loads(page.evaluate(ASKED, board))
    took, samples = last["now"] - first["now"], last["end"] - first["end"]
    said = [one for one in last["said"] if first["end"] < one[0] <= last["end"]]
    ends = [one[0] for one in said]
    by_sample = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
    us = sum(one[2] for one in said) / max(len(said), 1)
    return Watched(round(took, 2), by_sample * samples / took, us, last["lost"] - first["lost"])


def _followed(
    browser: Any, control: Any, pages: Sequence[Any], server: int, seconds: int, progress: Progress
) -> Iterator[Memory]:
    """Memory now and then, some 60 times."""
    sessions = [page.context.new_cdp_session(page) for page in pages]
    for session in sessions:
        session.send("Performance.enable")
    plain = control.contexts[0].pages[0].context.new_cdp_session(control.contexts[0].pages[0])
    ours, its = browser.new_browser_cdp_session(), control.new_browser_cdp_session()
    began, every = time.monotonic(), max(seconds / 60, 1.0)
    while (now := time.monotonic() - began) <= seconds:
        heap = nodes = 0
        for session in sessions:
            session.send("HeapProfiler.collectGarbage")
            metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
            heap, nodes = heap + metrics["JSHeapUsedSize"], nodes + metrics["Nodes"]
        plain.send("HeapProfiler.collectGarbage")
        yield Memory(
            round(now, 1), _resident_kb(server), _renderers_kb(ours), round(heap / 1024), int(nodes), _renderers_kb(its)
        )
        progress(min(int(now), seconds), seconds, "seconds of memory")
        pages[0].wait_for_timeout(every * 1000)


def _renderers_kb(session: Any) -> int:
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(_resident_kb(one["id"]) for one in processes if one["type"] == "renderer")


def _resident_kb(pid: int) -> int:
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Units a minute, by least squares; 0 for fewer than three points."""
    if len(points) < 3:
        return 0.0
    x, y = np.array(points, np.float64).T
    return round(float(np.polyfit(x, y, 1)[0]) * 60, 1)
