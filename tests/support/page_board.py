"""A virtual board behind the serial port of a browser that shows the page of docs/try."""

from __future__ import annotations

import base64
import time
from pathlib import Path

from playwright.sync_api import BrowserContext, Page

from edgelora.board.link.serial_line import SerialLine
from edgelora.board.link.transport import LineLost
from edgelora.board.sim.world import driven_pins
from edgelora.board.virtual_boards import SimHandle

LED_PIN = 25
MOST_SECONDS = 240  # for an emulated board, on a computer that is busy with other tests
# A port whose bytes the test carries. It is unplugged when the test raises an error.
SERIAL = """
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const text = (data) => btoa(String.fromCharCode(...data));
const port = {
  getInfo: () => ({}),
  async setSignals({ dataTerminalReady, requestToSend }) {
    this.talks = dataTerminalReady && requestToSend;
  },
  async open() {
    let open = true;
    this.readable = new ReadableStream({
      async pull(controller) {
        for (let data = ""; open && !data; ) {
          data = await window.fromBoard();
          if (NEEDS_DTR && !port.talks) data = ""; // as MicroPython's USB port without DTR
          if (data) controller.enqueue(bytes(data));
        }
      },
      cancel() { open = false; },
    }, { highWaterMark: 0 });
    this.writable = new WritableStream({ write: (data) => window.toBoard(text(data)) });
  },
  async close() {
    this.talks = false;
    this.readable = this.writable = null;
  },
};
window.asked = 0;
const requestPort = async () => {
  window.asked++;
  return port;
};
Object.defineProperty(navigator, "serial", { value: { requestPort } });
"""


class Cable:
    """Carries the page's bytes to a board and back. left: how many more it takes before someone unplugs it.

    needs_dtr: the board says nothing without the signal DTR, as MicroPython's USB ports do.
    """

    def __init__(self, context: BrowserContext, port: str, needs_dtr: bool = True) -> None:
        self._port, self.left = port, 1 << 30
        self.plug()
        context.expose_function("toBoard", self._to)
        context.expose_function("fromBoard", self._from)
        context.add_init_script(SERIAL.replace("NEEDS_DTR", str(needs_dtr).lower()))

    def plug(self) -> None:
        self.line, self.left = SerialLine(self._port), 1 << 30

    def _to(self, text: str) -> None:
        data = base64.b64decode(text)
        self.line.write(data[: self.left])
        self.left -= len(data)
        if self.left <= 0:
            self.line.close()
            raise LineLost("unplugged")

    def _from(self) -> str:
        return base64.b64encode(self.line.read(4096, 0.02)).decode()


def wait_until_lit(page: Page, pico: SimHandle) -> None:
    """Waits until the board's program, which runs since a restart, turns the LED on."""
    end = time.monotonic() + MOST_SECONDS
    while not driven_pins(Path(pico.state_dir)).get(LED_PIN):
        assert time.monotonic() < end
        page.wait_for_timeout(100)
