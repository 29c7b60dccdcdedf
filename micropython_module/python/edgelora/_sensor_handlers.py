"""Requests of the link about the board's own sensor (SPEC.md, section 10). SPDX-License-Identifier: MIT"""

import gc
import struct
from array import array

import micropython

_HEAD = 16  # bytes of an answer before its samples
_ENDED = "Ctrl-C interrupted the source"


def _source_of(request):
    # A sensor by its name, or the result of `source()` in a module on the board.
    from .sources import SENSORS, open_sensor

    name = request["source"]
    if name in SENSORS:
        return open_sensor(name, request["pins"], request["rate"], request.get("scales"), request.get("bus", 0))
    micropython.kbd_intr(3)  # user code, which may never return
    try:
        return __import__(name).source()
    except KeyboardInterrupt:
        raise RuntimeError(_ENDED)
    finally:
        micropython.kbd_intr(-1)


class SensorHandlers:
    """Sends samples of a source on the board over the link. handlers: provides the pipeline that classifies them."""

    def __init__(self, agent, handlers):
        self._agent, self._line, self._handlers = agent, agent.line, handlers
        self.source = None
        self._buttons = ()
        self._sensed = None

    def open(self, size):
        request = self._agent.json(size)
        if hasattr(self.source, "close"):
            self.source.close()
        self.source = None
        gc.collect()
        self.source = source = _source_of(request)
        room = (self._line.max_payload - _HEAD) // (2 * source.channels)
        if room < 1:
            raise ValueError("a sample does not fit an answer")
        self._sensed = memoryview(array("h", bytes(2 * room * source.channels)))
        self._buttons = ()
        if request.get("buttons"):
            from machine import Pin

            self._buttons = [Pin(pin, Pin.IN, Pin.PULL_UP) for pin in request["buttons"]]
        scales = source.scales
        return {"rate": source.rate, "channels": source.channels, "scales": scales and list(scales)}

    def opened(self):
        """The open source; ValueError if there is none."""
        if not self.source:
            raise ValueError("no source is open: open one first")
        return self.source

    def data(self, size):
        source = self.opened()
        end = 4 + self._read(4, len(self._sensed))
        struct.pack_into("<I", self._line.payload, 0, source.overruns)
        return end

    def watch(self, size):
        source, handlers, out = self.opened(), self._handlers, self._line.payload
        pipeline = handlers.watching()
        most, at = len(self._sensed), _HEAD
        if pipeline:  # its decisions must fit the answer, too
            hop, sample, decision = pipeline.signal.hop, 2 * source.channels, handlers.decision_size
            fit = (len(out) - _HEAD - decision) * hop // (sample * hop + decision)
            most = min(most, fit * source.channels, handlers.chunk * source.channels)
        at += self._read(at, most)
        count = (at - _HEAD) // (2 * source.channels)
        elapsed = clipped = 0
        if pipeline:
            self._agent.check_least(size, 1)
            at, elapsed = handlers.hear(out[_HEAD:at], self._line.body[0], at)
            clipped = pipeline.clipped
        down = 0
        for i, pin in enumerate(self._buttons):
            down |= (not pin.value()) << i
        struct.pack_into("<IIIHBx", out, 0, source.overruns, elapsed, clipped, count, down)
        return at

    def _read(self, at, most):
        # Copies at most `most` values of the source into the answer; returns their bytes.
        micropython.kbd_intr(3)
        try:
            size = 2 * self.source.channels * self.source.read_into(self._sensed[:most])
        except KeyboardInterrupt:
            raise RuntimeError(_ENDED)
        finally:
            micropython.kbd_intr(-1)
        self._line.payload[at : at + size] = bytes(self._sensed[: size // 2])
        return size
