"""The page of docs/try puts what it learned on boards: frames as in SPEC.md, and a whole virtual Pico."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fresh
import numpy as np
import pytest
from page_board import MOST_SECONDS, SERIAL, Cable, wait_until_lit
from page_motion import MOVEMENTS, TAKEN, Phone, learned, recorded
from playwright.sync_api import BrowserContext, Page, expect

from edgelora import __version__
from edgelora.base.resources import ROOT
from edgelora.board.build import program
from edgelora.board.installing import InstallError, choose_arch
from edgelora.board.link.client import Link
from edgelora.board.link.protocol import LINK_VERSION, FrameReader, Op, Status, encode
from edgelora.board.link.replies import Hello
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.board.sim.world import set_world
from edgelora.board.virtual_boards import SimHandle
from edgelora.learn.streaming.main_program import KEPT_PATH, MAIN_PATH, Act, Sense, Wish
from edgelora.learn.streaming.main_program import program as main_py
from edgelora.learn.training.data.base import load_base
from edgelora.studio.training_options import PACKAGED

BOARD = "virtual-pico-stock"
OWN = b"print('mine')\n"  # a program that its owner has on the board
ENCODE = """async ({ sequence, op, payload }) => {
  const { encode } = await import("./link.js");
  return Array.from(encode(sequence, op, Uint8Array.from(payload)));
}"""
NUMBERS = "import('./link.js').then(({ OPS, STATUS, LINK_VERSION }) => ({ OPS, STATUS, LINK_VERSION }))"
READ = """async ({ stream, each }) => {
  const { FrameReader } = await import("./link.js");
  const reader = new FrameReader();
  const frames = [];
  for (let at = 0; at < stream.length; at += each) {
    frames.push(...reader.feed(Uint8Array.from(stream.slice(at, at + each))));
  }
  return [frames.map(({ sequence, code, payload }) => [sequence, code, Array.from(payload)]), reader.damaged];
}"""
PACKAGES = """async (numbers) => {
  const { packageFor } = await import("./install.js");
  return numbers.map(packageFor);
}"""
PROGRAM = """async ({ name, labels, acts }) => {
  const { program } = await import("./program.js");
  return program({ base: { name }, path: `/${name}.elm`, labels, adapter: "mine" }, acts);
}"""
# Restarts a board that says this.
RESTART = """async (said) => {
  const { RawRepl } = await import("./repl.js");
  const waiting = said.map((text) => new TextEncoder().encode(text));
  const line = {
    write: async () => {},
    read: async (ms) => waiting.shift() ?? new Promise((done) => setTimeout(done, ms, new Uint8Array())),
  };
  return new RawRepl(line).restart(500).then(() => "", (error) => error.message);
}"""

# A board that the page talks to instead of one behind a port: it refuses its sensor, senses, or is lost.
FAKE = """async () => {
  const { Board, Refused } = await import("./board.js");
  const board = {
    hello: { builtin: true },
    async control() {
      if (window.is === "unwired") throw new Refused("The board says: [Errno 5] EIO");
    },
    async request() {
      if (window.is === "lost") throw new Error("The board was disconnected.");
      return new Uint8Array(4 + 2 * 6);
    },
    async release() {},
    async close() {},
  };
  Board.on = async () => board;
}"""


def test_frames_are_the_specs(opened: Callable[[], Page]) -> None:
    """The example of SPEC.md, and drawn requests as the host encodes them."""
    page, rng = opened(), np.random.default_rng(fresh.SEED)

    def made(sequence: int, op: int, payload: bytes) -> bytes:
        return bytes(page.evaluate(ENCODE, {"sequence": sequence, "op": op, "payload": list(payload)}))

    example = "e5 82 91 88 80 81 80 c3 85 00 00 00 00 01 02 00 04 58 b8 58 2c 86 80"
    assert example in " ".join((ROOT / "SPEC.md").read_text().split())
    assert made(2, Op.PUT_DATA, bytes(4) + bytes([1, 2, 3, 4])).hex(" ") == example
    for size in (0, 1, 5, 300, 9000):
        payload = rng.integers(0, 6, size).astype(np.uint8).tobytes()
        sequence, op = int(rng.integers(0, 128)), int(rng.integers(1, 64))
        assert made(sequence, op, payload) == encode(sequence, op, payload)


def test_numbers_are_the_hosts(opened: Callable[[], Page]) -> None:
    numbers = opened().evaluate(NUMBERS)
    assert numbers["LINK_VERSION"] == LINK_VERSION
    assert numbers["STATUS"] == {status.name: status.value for status in Status}
    assert numbers["OPS"] == {name: Op[name].value for name in numbers["OPS"]}


def test_answers_are_found_among_other_bytes(opened: Callable[[], Page]) -> None:
    """Damaged ones are left out, in pieces of any length, as the host does."""
    rng = np.random.default_rng(fresh.SEED)
    stream = bytearray()
    for i in range(12):
        payload = bytes(byte for byte in rng.bytes(int(rng.integers(0, 400))) if byte != 3)
        frame = bytearray(encode(i, i % 5, payload))
        if frame[5:7] != b"\x80\x80":  # a CRC with a byte 3: boards don't mark these
            continue
        if i % 4 == 1:
            frame[int(rng.integers(9, len(frame)))] ^= 1 << int(rng.integers(0, 8))
        stream += rng.bytes(int(rng.integers(0, 30))) + frame
    reader = FrameReader()
    reader.feed(bytes(stream))
    wanted = [[frame.sequence, frame.code, list(frame.payload)] for frame in reader.frames()]
    found = opened().evaluate(READ, {"stream": list(stream), "each": int(rng.integers(1, 200))})
    assert found == [wanted, reader.damaged]


def test_packages_fit_the_boards(opened: Callable[[], Page]) -> None:
    """By `sys.implementation._mpy`, as the host chooses, also with the flags of newer firmware."""
    flags = [0, 1 << 14, 3 << 16, 1 << 29]
    numbers = [6 | 3 << 8 | arch << 10 | each for arch in (*range(16), *range(32, 48)) for each in flags]
    nothing = dict.fromkeys(Hello.__dataclass_fields__)

    def by_host(mpy: int) -> str | None:
        try:
            return choose_arch(Hello(**nothing | {"mpy": mpy, "board": "b"}))  # type: ignore[arg-type]
        except InstallError:
            return None

    assert opened().evaluate(PACKAGES, numbers) == [by_host(mpy) for mpy in numbers]


@pytest.mark.parametrize(("name", "sense"), [("motion", Sense()), ("sound", Sense("i2s", (16, 17, 18)))])
def test_the_program_is_that_of_the_command(opened: Callable[[], Page], name: str, sense: Sense) -> None:
    """The main.py of `edgelora act`, with names that need care."""
    base = load_base(PACKAGED / f"{name}.elm")
    labels = [*base.model.labels, "it's", 'a "tone"\\', "Grüße \u2603"]
    told = [Act(label, "print", "", label) for label in (labels[-2], labels[-1], labels[1])]
    acts = [Act(labels[-3], "hold", "LED"), *told]
    ranks = bytes(8 if op.is_matrix else 0 for op in base.model.ops)
    wanted = main_py(base, f"/{name}.elm", ranks, labels, Wish(tuple(acts), sense, "mine"), False)
    chosen = [{"label": act.label, "kind": act.kind, "target": act.target or act.text} for act in acts]
    assert opened().evaluate(PROGRAM, {"name": name, "labels": labels, "acts": chosen}) == wanted


def test_a_program_that_ends_at_once_is_told(opened: Callable[[], Page]) -> None:
    """Such as without its sensor; one that goes on says nothing of errors."""
    page = opened()
    begin = ["\r\n>>> ", "\r\nMPY: soft reboot\r\n"]
    ended = ["Traceback (most recent call last):\r\n", '  File "main.py", line 20\r\nOSError: [Errno 5] EIO\r\n']
    assert "its program ended: OSError: [Errno 5] EIO. Check" in page.evaluate(
        RESTART, [*begin, *ended, "MicroPython v1.28\r\n>>> "]
    )
    assert page.evaluate(RESTART, [*begin, "shake\r\n"]) == ""


def test_a_sensor_that_fails_is_told(opened: Callable[[], Page], context: BrowserContext) -> None:
    """It is not wired, or the board is unplugged while it senses; then it can be chosen again."""
    context.add_init_script(SERIAL)
    page = opened()
    page.evaluate(FAKE)
    button, alert = page.get_by_role("button", name="Motion sensor of my board"), page.get_by_role("alert")
    page.evaluate("window.is = 'unwired'")
    button.click()
    expect(alert).to_have_text("The board says: [Errno 5] EIO. Check how the sensor is wired, then choose it again.")
    for _ in range(2):
        page.evaluate("window.is = 'there'")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(alert).to_have_text("")
        expect(page.locator("#chance")).to_contain_text("%")
        page.evaluate("window.is = 'lost'")
        expect(alert).to_have_text("The board was disconnected.")
        expect(button).to_have_attribute("aria-pressed", "false")


def test_firmware_is_where_the_site_has_it(opened: Callable[[], Page]) -> None:
    links = opened().evaluate("Array.from(document.querySelectorAll('a[download]'), (a) => a.getAttribute('href'))")
    images = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("IMAGES :="))
    assert links == [f"../firmware/edgelora-{__version__}-{name}.uf2" for name in images.split()[2:]]


@pytest.fixture
def pico(tmp_path: Path) -> Iterator[SimHandle]:
    """A Pico with MicroPython's own firmware, its owner's main.py, and a motion sensor that is shaken."""
    firmware, state = program(load_board(BOARD)), tmp_path / "board"
    set_world(state, recorded("shake", tmp_path), [])
    board = virtual_board.start(BOARD, firmware, state, die_with_parent=True)
    with Link.connect(board.port) as link:
        link.put(MAIN_PATH, OWN)
    yield board
    board.kill()


@fresh.slow
def test_a_pico_acts_on_what_the_page_learned(
    opened: Callable[[], Page], context: BrowserContext, pico: SimHandle, tmp_path: Path
) -> None:
    """Its sensor is the page's, too. Someone unplugs it meanwhile, of which the page tells, and puts it there twice."""
    cable = Cable(context, pico.port)
    page = opened()
    learned(page, Phone(page))
    page.get_by_label("shake", exact=True).select_option("LED on while it is seen")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the adapter").click()
    download.value.save_as(tmp_path / "mine.ela")
    put = page.get_by_role("button", name="Put it on my board")
    state, alert = page.locator("#put-state"), page.locator("#trouble")

    sensor = page.get_by_role("button", name="Motion sensor of my board")
    begin = time.monotonic()
    sensor.click()
    expect(sensor).to_have_attribute("aria-pressed", "true", timeout=1000 * MOST_SECONDS)
    expect(page.locator("#answer")).to_have_text("shake")
    print(f"{time.monotonic() - begin:.0f} s to install, and feel the board's sensor")
    page.get_by_role("button", name="Record shake").click()
    expect(page.get_by_role("listitem").filter(has_text="shake").first).to_contain_text(str(TAKEN + 2))
    page.get_by_role("button", name="Stop recording shake").click()

    cable.left = 5_000
    put.click()
    expect(alert).to_contain_text("The board was disconnected.", timeout=1000 * MOST_SECONDS)
    expect(state).to_have_text("Not done.")
    assert page.evaluate("window.asked") == 1  # the sensor's board, without asking again
    with Link.connect(pico.port) as link:
        assert link.get(MAIN_PATH) == OWN
        assert link.size("/motion.elm") is None

    cable.plug()
    begin = time.monotonic()
    put.click()
    expect(state).to_contain_text("Done.", timeout=1000 * MOST_SECONDS)
    print(f"{time.monotonic() - begin:.0f} s to put: {state.inner_text()}")
    assert not alert.inner_text()
    wait_until_lit(page, pico)
    put.click()
    expect(state).to_contain_text("Connecting")
    expect(state).to_contain_text("one.", timeout=1000 * MOST_SECONDS)
    assert (state.inner_text()[:5], alert.inner_text()) == ("Done.", "")
    wait_until_lit(page, pico)
    cable.line.close()
    with Link.connect(pico.port) as link:
        assert link.store_list().active == "mine"
        assert link.store_get("mine") == (tmp_path / "mine.ela").read_bytes()
        assert link.get("/motion.elm") == (PACKAGED / "motion.elm").read_bytes()
        assert link.get(KEPT_PATH) == OWN
        assert all(f"'{name}':" in link.get(MAIN_PATH).decode() for name in MOVEMENTS)
