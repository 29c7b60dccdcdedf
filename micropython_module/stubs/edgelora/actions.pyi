"""What a board does when it sees a class: pins, lines, keys, requests."""

from typing import Any, Dict, Sequence

from edgelora.pipeline import Pipeline

class Action:
    """What is done when a class is seen; one of your own has these four."""

    def on(self) -> None:
        """Its class is seen, and was not before."""
    def off(self) -> None:
        """Another class is seen."""
    def step(self) -> None:
        """Called between windows: goes on with what takes its time."""
    def end(self) -> None:
        """The run ends, by Ctrl-C too: ends what was to last for a moment."""

class _Output(Action):
    """pin: a number, or a name as "LED"; low at first."""

    pin: Any
    def __init__(self, pin: Any) -> None: ...

class Set(_Output):
    """A pin has a value from then on."""

    value: int
    def __init__(self, pin: Any, value: int = 1) -> None: ...
    def on(self) -> None: ...

class Hold(_Output):
    """A pin is high for as long as the class is seen."""

    def on(self) -> None: ...
    def off(self) -> None: ...

class Toggle(_Output):
    """A pin that was high is low then, and the other way round."""

    def on(self) -> None: ...

class Pulse(_Output):
    """A pin is high for so many ms."""

    ms: int
    def __init__(self, pin: Any, ms: int = 500) -> None: ...
    def on(self) -> None: ...
    def step(self) -> None: ...
    def end(self) -> None: ...

class Say(Action):
    """A line for whoever listens at the board's port."""

    text: str
    def __init__(self, text: str) -> None: ...
    def on(self) -> None: ...

class Press(Action):
    """A key of a keyboard, which the board is to the computer that it is plugged into. key: as "a", "space", "right".

    Where MicroPython has machine.USBDevice: RP2 boards, ESP32-S2 and S3. ValueError elsewhere, and for other keys.
    """

    key: str
    def __init__(self, key: str) -> None: ...
    def on(self) -> None: ...
    def step(self) -> None: ...
    def end(self) -> None: ...

class _Talk(Action):
    """A request to a server, beside what goes on. A failure is printed; while one is under way another is left out."""

    host: str
    port: int
    def __init__(self, host: str, port: int) -> None: ...
    def on(self) -> None: ...
    def step(self) -> None: ...
    def end(self) -> None: ...

class Get(_Talk):
    """Asks a server for http://HOST[:PORT]/PATH. What it answers does not matter, but for a failure."""

    def __init__(self, url: str) -> None: ...

class Post(Get):
    """Sends a text there."""

    def __init__(self, url: str, text: str) -> None: ...

class Publish(_Talk):
    """A message for an MQTT broker, at most once, over a connection of its own. name: of the client."""

    def __init__(self, host: str, topic: str, text: str, port: int = 1883, name: str = "edgelora") -> None: ...

def run(pipeline: Pipeline, actions: Dict[str, Sequence[Action]], idle_ms: int = 5) -> None:
    """Does what belongs to each class when it is seen, until the source ends. actions: some of each class.

    A class is seen when `pipeline.name` changes to it, so after a vote, if the pipeline has one. ValueError for a class
    that the model has not.
    """
