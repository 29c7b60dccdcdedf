# SPDX-License-Identifier: MIT
"""What a board does when it recognizes a class: pins, lines, keys, requests.

    run(pipeline, {"wave": [Hold(15)], "circle": [Say("round"), Get("http://10.0.0.2/lamp")]})

An action's `on` is called when its class is recognized and was not before, `off` when another class is recognized, and
`step` between windows: requests wait for the network there, so no sample is lost. `end` is called when the run ends, by
Ctrl-C too, and ends what is still under way, such as a pulse.
"""

import time

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Sequence
    from typing import Any

    from .pipeline import Pipeline

_MOST_MS = 8000  # longest time of a request, from its start to the answer
_SILENT_MS = 4000


class Action:
    """What is done when a class is recognized; an action of your own has these four methods."""

    def on(self) -> None:
        """Called when the class is recognized, and was not before."""
        pass

    def off(self) -> None:
        """Called when another class is recognized."""
        pass

    def step(self) -> None:
        """Called between windows: continues what takes longer."""
        pass

    def end(self) -> None:
        """Called when the run ends, by Ctrl-C too: ends what is still under way."""
        pass


class _Output(Action):
    """pin: a number, or a name such as "LED"; low at first."""

    pin: Any

    def __init__(self, pin: Any) -> None:
        from machine import Pin

        self.pin = Pin(pin, Pin.OUT, value=0)


class Set(_Output):
    """Sets a pin to a value."""

    value: int

    def __init__(self, pin: Any, value: int = 1) -> None:
        super().__init__(pin)
        self.value = value

    def on(self) -> None:
        self.pin.value(self.value)


class Hold(_Output):
    """Keeps a pin high while the class is recognized."""

    def on(self) -> None:
        self.pin.value(1)

    def off(self) -> None:
        self.pin.value(0)


class Toggle(_Output):
    """Toggles a pin between high and low."""

    def on(self) -> None:
        self.pin.value(not self.pin.value())


class Pulse(_Output):
    """Sets a pin high for `ms` milliseconds."""

    ms: int

    def __init__(self, pin: Any, ms: int = 500) -> None:
        super().__init__(pin)
        self.ms = ms
        self._since = None

    def on(self) -> None:
        self.pin.value(1)
        self._since = time.ticks_ms()

    def step(self) -> None:
        if self._since is not None and time.ticks_diff(time.ticks_ms(), self._since) >= self.ms:
            self.end()

    def end(self) -> None:
        if self._since is not None:
            self.pin.value(0)
            self._since = None


class Say(Action):
    """Prints a line on the board's serial port."""

    text: str

    def __init__(self, text: str) -> None:
        self.text = text

    def on(self) -> None:
        print(self.text)


class Press(Action):
    """Presses a key on the computer, for which the board is a USB keyboard. key: such as "a", "space", "right".

    Needs machine.USBDevice: RP2 boards, ESP32-S2 and S3. ValueError on other boards, and for unknown keys.
    """

    key: str

    def __init__(self, key: str) -> None:
        from .keyboard import Keyboard

        self.key = key
        self._keyboard = Keyboard.shared()
        self._code = self._keyboard.code(key)

    def on(self) -> None:
        self._keyboard.press(self._code)

    def step(self) -> None:
        self._keyboard.step()

    def end(self) -> None:
        self._keyboard.release()


class _Talk(Action):
    """A request to a server, in the background. Failures are printed; while a request runs, another one is skipped."""

    host: str
    port: int

    # _job: the generator of the request under way, or None.

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._job = None

    def on(self) -> None:
        from ._http import Http

        if self._job:
            return print("%s:%d: still busy, left out" % (self.host, self.port))
        end = time.ticks_add(time.ticks_ms(), _MOST_MS)
        self._job = self._talk(Http(self.host, self.port, _SILENT_MS, end))

    def step(self) -> None:
        if not self._job:
            return
        try:
            next(self._job)
        except StopIteration:
            self._job = None
        except (OSError, ValueError) as error:  # a board continues without a network
            self._job = None
            why = str(error).partition(";")[0]  # the rest is about downloads, which resume
            print("%s:%d: %s" % (self.host, self.port, why))

    def end(self) -> None:
        if self._job:
            self._job.close()
            self._job = None

    def _talk(self, http):
        try:
            yield from self._ask(http)
        finally:
            http.close()


class Get(_Talk):
    """Requests http://HOST[:PORT]/PATH. The answer is ignored, except for an error status."""

    _method = "GET"
    _more = ""
    _body = b""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        host, _, port = host.partition(":")
        if scheme != "http" or not host or port and not port.isdigit():
            raise ValueError("%s: give http://HOST[:PORT]/PATH" % url)
        super().__init__(host, int(port or 80))
        self._path = "/" + path

    def _ask(self, http):
        status, _ = yield from http.ask(self._method, self._path, self._more, self._body)
        if status >= 400:
            raise OSError("%s %s: the server says %d" % (self._method, self._path, status))


class Post(Get):
    """Sends a text to http://HOST[:PORT]/PATH."""

    _method = "POST"
    _more = "Content-Type: text/plain; charset=utf-8\r\n"

    def __init__(self, url: str, text: str) -> None:
        super().__init__(url)
        self._body = text.encode()


class Publish(_Talk):
    """Publishes a message at an MQTT broker, with QoS 0, over its own connection. name: the client's identifier."""

    def __init__(self, host: str, topic: str, text: str, port: int = 1883, name: str = "edgelora") -> None:
        super().__init__(host, port)
        name, topic, text = name.encode(), topic.encode(), text.encode()
        self._hello = _packet(0x10, _field(b"MQTT") + b"\x04\x02\x00\x3c" + _field(name))  # 3.1.1, clean session, 60 s
        self._message = _packet(0x30, _field(topic) + text)

    def _ask(self, http):
        yield from http.send(self._hello)
        answer = bytearray(4)
        yield from http.read_exactly(answer)
        if answer[0] != 0x20 or answer[3]:
            raise OSError("the broker refuses: %d" % answer[3])
        yield from http.send(self._message)
        yield from http.send(b"\xe0\x00")


def _field(data):
    return len(data).to_bytes(2, "big") + data


def _packet(kind, body):
    head, left = bytearray((kind,)), len(body)
    while left > 127:
        head.append(left & 127 | 128)
        left >>= 7
    head.append(left)
    return bytes(head) + body


def run(pipeline: Pipeline, actions: dict[str, Sequence[Action]], idle_ms: int = 5) -> None:
    """Runs the actions of each class when it is recognized, until the source ends. actions: by the class's name.

    A class is recognized when `pipeline.name` changes to it: after a vote, if the pipeline has one. ValueError for a
    class that the model lacks.
    """
    for name in actions:
        if name not in pipeline.model.labels:
            raise ValueError("no class %s: there are %s" % (name, ", ".join(pipeline.model.labels)))
    every = [action for several in actions.values() for action in several]
    seen, place = None, [0]
    try:
        while not pipeline.ended:
            if pipeline.step() and pipeline.name not in (None, seen):
                for action in actions.get(seen, ()):
                    action.off()
                seen = pipeline.name
                for action in actions.get(seen, ()):
                    action.on()
            for action in every:
                action.step()
            if not pipeline.pending:
                time.sleep_ms(idle_ms)
    finally:
        _end(actions.get(seen, ()), every, place)


def _end(on, every, place):
    # Ends all actions, even if one fails or Ctrl-C comes. place: [how many were ended]
    try:
        while place[0] < len(on) + len(every):
            at = place[0]
            if at < len(on):
                on[at].off()
            else:
                every[at - len(on)].end()
            place[0] = at + 1
    except BaseException as error:
        if isinstance(error, Exception):
            place[0] += 1
        _end(on, every, place)
        raise
