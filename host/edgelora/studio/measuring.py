"""`edgelora bench studio`: what the live view costs, with a real page of Chromium before a virtual board.

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

from .. import formats
from ..errors import InputError, MissingPackage
from ..formats import Normal
from ..link import Link
from ..progress import Progress, untold
from ..signal import AUDIO_SIZE, audio_signal
from ..sim import start
from ..training import Base, load_base
from .prospect import PACKAGED

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
ROWS, EVERY = 49, 10  # of sound: an input is 0.5 s, one comes every 0.1 s
STEADY_SECONDS = 4.0  # until a view that has begun is looked at
DRAWN_MS = 2000  # until a view has the board that was chosen
MOST_DELAYS = 20000
SOURCE = """
import math, time
from array import array
from edgelora import core_take

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
            core_take(buffer, done * CHANNELS, TABLE, first * CHANNELS, 1, part * CHANNELS, 2)
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
    began, windows, took = time.ticks_ms(), 0, 0
    while time.ticks_diff(time.ticks_ms(), began) < ms:
        start = time.ticks_us()
        new = pipeline.step()
        took += time.ticks_diff(time.ticks_us(), start) if new or pipeline.pending else 0
        windows += new
        if not pipeline.pending:
            time.sleep_ms(1)
    return windows, took, time.ticks_diff(time.ticks_ms(), began)
"""
WATCHED = """
() => {
  window.delays = [];
  const signal = document.querySelector(".signal");
  signal.addEventListener("drawn", (event) => {
    const end = event.detail.end;
    // In the next frame what was drawn is on the screen.
    requestAnimationFrame(() => {
      const now = performance.timeOrigin + performance.now();
      const delay = (((now - (end * 1000) / RATE) % 1000) + 1000) % 1000;
      if (window.delays.length < MOST) window.delays.push([end, delay]);
    });
  });
}
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
    """Milliseconds from a sample to the frame in which it is drawn, of so many frames."""

    frames: int
    median_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True)
class KindBench:
    """alone: the board's own program, without a host; unseen: watched by the studio, without a page; seen: with one."""

    kind: str
    rate: int
    channels: int
    delay: Delay
    alone: Watched
    unseen: Watched
    seen: Watched


@dataclass(frozen=True)
class Memory:
    """Kilobytes after so many seconds: of the server, of the pages' process, of its JavaScript objects after a
    collection; nodes: of the pages' documents."""

    seconds: float
    server_kb: int
    renderer_kb: int
    heap_kb: int
    nodes: int


@dataclass(frozen=True)
class StudioBench:
    """memory: while pages of all kinds are open. growth: kilobytes an hour, by least squares over the later half."""

    kinds: list[KindBench]
    memory: list[Memory]
    server_kb_an_hour: float
    heap_kb_an_hour: float


def _sound_base() -> Base:
    from ..bench import layers_and_adapters  # a studio that serves does without

    elm, _ = layers_and_adapters((ROWS * AUDIO_SIZE, 12), 0)
    model = formats.unpack_model(elm)
    model.signal = audio_signal(ROWS, EVERY, Normal(0.01))
    elm = formats.pack_model(model)
    return Base("sound.elm", elm, formats.unpack_model(elm))


KINDS = (
    Kind("motion", 50, 6, lambda: load_base(PACKAGED / "motion.elm")),
    Kind("sound", 16000, 1, _sound_base),
)


def bench_studio(seconds: int = 60, span: int = 20, progress: Progress = untold) -> StudioBench:
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
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        stack.callback(browser.close)
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(60_000)
        kinds, pages = [], []
        for kind, before in zip(KINDS, alone, strict=True):
            kinds.append(_measured(context, url, folder, kind, before, span))
            progress(len(KINDS) + len(kinds), steps, f"{kind.name}, with a page and without")
        for kind in KINDS:
            pages.append(_page(context, url, kind))
            progress(2 * len(KINDS) + len(pages), steps, f"{kind.name}, for memory")
        memory = list(_followed(browser, pages, server, seconds, progress))
    late = memory[len(memory) // 2 :]
    return StudioBench(
        kinds, memory, _slope([(m.seconds, m.server_kb) for m in late]), _slope([(m.seconds, m.heap_kb) for m in late])
    )


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
    return Watched(ms / 1000, windows / (ms / 1000), took / max(windows, 1), 0)


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
    page.get_by_label("Source", exact=True).click()
    page.get_by_role("option", name="a module on the board").click()
    page.get_by_label("Module").fill(f"stamped_{kind.name}")
    page.get_by_label("Network").click()
    page.get_by_role("option", name=kind.name, exact=True).click()
    page.get_by_role("button", name="Start").click()
    page.locator(".bar-row").first.wait_for()
    time.sleep(STEADY_SECONDS)
    return page


def _measured(context: Any, url: str, folder: Path, kind: Kind, alone: Watched, span: int) -> KindBench:
    page = _page(context, url, kind)
    board = str(folder.resolve() / "boards" / kind.name / "port")
    page.evaluate(WATCHED.replace("RATE", str(kind.rate)).replace("MOST", str(MOST_DELAYS)))
    seen = _watched(page, board, kind, lambda: page.wait_for_timeout(span * 1000))
    delays = np.array([delay for _, delay in page.evaluate("() => window.delays")] or [math.nan])
    page.goto("about:blank")
    page.goto(url)
    page.get_by_role("navigation", name="Views").wait_for()
    unseen = _watched(page, board, kind, lambda: page.wait_for_timeout(span * 1000))
    page.close()
    percentile = [round(float(value), 1) for value in np.percentile(delays, (50, 95, 100))]
    return KindBench(kind.name, kind.rate, kind.channels, Delay(len(delays), *percentile), alone, unseen, seen)


def _watched(page: Any, board: str, kind: Kind, wait: Callable[[], None]) -> Watched:
    """What the board did meanwhile, by what its view says before and after."""
    first, began = json.loads(page.evaluate(ASKED, board)), time.monotonic()
    wait()
    last, took = json.loads(page.evaluate(ASKED, board)), time.monotonic() - began
    said = [one for one in last["said"] if first["end"] < one[0] <= last["end"]]
    us = sum(one[2] for one in said) / max(len(said), 1)
    return Watched(round(took, 2), len(said) / took, us, last["lost"] - first["lost"])


def _followed(browser: Any, pages: Sequence[Any], server: int, seconds: int, progress: Progress) -> Iterator[Memory]:
    """Memory now and then, some 60 times."""
    sessions = [page.context.new_cdp_session(page) for page in pages]
    for session in sessions:
        session.send("Performance.enable")
    processes = browser.new_browser_cdp_session()
    began, every = time.monotonic(), max(seconds / 60, 1.0)
    while (now := time.monotonic() - began) <= seconds:
        heap = nodes = 0
        for session in sessions:
            session.send("HeapProfiler.collectGarbage")
            metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
            heap, nodes = heap + metrics["JSHeapUsedSize"], nodes + metrics["Nodes"]
        told = processes.send("SystemInfo.getProcessInfo")["processInfo"]
        renderers = sum(_resident_kb(one["id"]) for one in told if one["type"] == "renderer")
        yield Memory(round(now, 1), _resident_kb(server), renderers, round(heap / 1024), int(nodes))
        progress(min(int(now), seconds), seconds, "seconds of memory")
        pages[0].wait_for_timeout(every * 1000)


def _resident_kb(pid: int) -> int:
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Units an hour, by least squares; 0 for fewer than three points."""
    if len(points) < 3:
        return 0.0
    x, y = np.array(points, np.float64).T
    return round(float(np.polyfit(x, y, 1)[0]) * 3600, 1)
