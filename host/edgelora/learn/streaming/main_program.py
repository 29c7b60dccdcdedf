"""Actions of a board for the classes that it predicts: writes its `main.py`, which runs after each reset.

sensor -> pipeline -> network with an adapter of the store -> vote -> "nothing" if unlike all samples -> actions

Names from a person or a board are checked and then written to the program as literals.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from edgelora.base.errors import InputError
from edgelora.board.link.client import Link
from edgelora.core.sensors import MOST_PIN, check_pins, named, sensors
from edgelora.core.store_names import store_name
from edgelora.core.twin import device
from edgelora.learn.training.board.board_learner import base_path, open_base
from edgelora.learn.training.data.base import Base, adapter_ranks, labels_of
from edgelora.learn.training.heads.known import NOTHING, Known, Shares
from edgelora.learn.training.heads.new_classes import stored_adapter
from edgelora.learn.training.recipe import inference
from edgelora.model.datasets.dataset import Dataset

from .decisions import Vote, signal_of

MAIN_PATH, RULE_PATH = "/main.py", "/main.json"
KEPT_PATH = "/main.old.py"  # a copy of a main.py that EdgeLoRA did not write
MADE_BY = '"""What this board does by itself when it sees a class. Made by EdgeLoRA'
MOST_ACTIONS = 50
MOST_TEXT = 200  # characters
KEYS: tuple[str, ...] = (*"abcdefghijklmnopqrstuvwxyz0123456789", *device.module("keyboard").NAMES)
NUMBER = re.compile(r"[0-9]{1,9}")
MODULE = re.compile(r"[A-Za-z_]\w{0,40}", re.ASCII)
URL = re.compile(r"http://[A-Za-z0-9.-]{1,100}(:[0-9]{1,5})?(/[!-~]{0,200})?")
BROKER = re.compile(r"([A-Za-z0-9.-]{1,100})(?::([0-9]{1,5}))?/(.{1,100})")


@dataclass(frozen=True)
class Act:
    """One action. label: of the class, or "nothing"; kind: of `KINDS`; target: a pin, a key, an address."""

    label: str
    kind: str
    target: str = ""
    text: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of action. words: its description; target, text: what these are called, "" if unused; usual: a text."""

    words: str
    target: str
    call: Callable[[Act], str]
    text: str = ""
    usual: str = ""


def _pin(act: Act) -> str:
    text = act.target.strip()
    if text.upper() == "LED":
        return ascii("LED")
    if not (NUMBER.fullmatch(text) and int(text) <= MOST_PIN):
        raise InputError(f"{text[:40]!r} is not a pin", remedy=f"give a number from 0 to {MOST_PIN}, or LED")
    return str(int(text))


def _pulse(act: Act) -> str:
    text = act.text.strip() or KINDS["pulse"].usual
    if not (NUMBER.fullmatch(text) and 1 <= int(text) <= 60_000):
        raise InputError(f"{text[:40]!r}: give 1 to 60000 ms")
    return f"Pulse({_pin(act)}, ms={int(text)})"


def _text(text: str) -> str:
    if not text or len(text) > MOST_TEXT or not text.isprintable():
        raise InputError(f"{text[:40]!r}: give 1 to {MOST_TEXT} printable characters on one line")
    return ascii(text)


def _key(act: Act) -> str:
    key = act.target.strip().lower()
    if key not in KEYS:
        raise InputError(f"unknown key {key[:40]!r}", remedy=f"give one of {', '.join(KEYS[36:])}, a letter or a digit")
    return ascii(key)


def _url(act: Act) -> str:
    if not URL.fullmatch(act.target):
        raise InputError(
            f"{act.target[:60]!r} is not an address", remedy="give http://HOST[:PORT]/PATH; boards can't use https"
        )
    return ascii(act.target)


def _publish(act: Act) -> str:
    found = BROKER.fullmatch(act.target)
    if not found or not found[3].isprintable() or set(found[3]) & set("+#"):
        raise InputError(
            f"{act.target[:60]!r} is not a broker's topic", remedy="give HOST[:PORT]/TOPIC, without + and #"
        )
    host, port, topic = found.groups()
    return f"Publish({ascii(host)}, {ascii(topic)}, {_text(act.text)}{f', port={int(port)}' if port else ''})"


KINDS: dict[str, Kind] = {
    "hold": Kind("pin high while it is seen", "Pin", lambda act: f"Hold({_pin(act)})"),
    "high": Kind("pin high", "Pin", lambda act: f"Set({_pin(act)}, 1)"),
    "low": Kind("pin low", "Pin", lambda act: f"Set({_pin(act)}, 0)"),
    "toggle": Kind("toggle pin", "Pin", lambda act: f"Toggle({_pin(act)})"),
    "pulse": Kind("pin high for a while", "Pin", _pulse, "ms", "500"),
    "print": Kind("print a line", "", lambda act: f"Say({_text(act.text)})", "Text"),
    "key": Kind("press a key, as a USB keyboard", "Key", lambda act: f"Press({_key(act)})"),
    "get": Kind("request a page: HTTP GET", "http://", lambda act: f"Get({_url(act)})"),
    "post": Kind("send a text: HTTP POST", "http://", lambda act: f"Post({_url(act)}, {_text(act.text)})", "Text"),
    "mqtt": Kind("publish by MQTT", "Host/topic", _publish, "Text"),
}


def check_keys(acts: Sequence[Act], is_virtual: bool) -> None:
    """InputError for keys on a virtual board: its emulator has no keyboard, and the board would become unreachable."""
    if is_virtual and any(act.kind == "key" for act in acts):
        raise InputError("a virtual board can't be a keyboard", remedy="use a real board, or another action")


def parse_act(text: str) -> Act:
    """Parses `CLASS=KIND TARGET TEXT`, such as `wave=hold 15`. InputError for other text."""
    label, sign, rest = text.partition("=")
    kind, _, rest = rest.strip().partition(" ")
    if not sign or kind not in KINDS:
        raise InputError(
            f"{text[:80]!r} is not an action",
            remedy=f"give CLASS=KIND ..., for example wave=hold 15; kinds are {', '.join(KINDS)}",
        )
    target = ""
    if KINDS[kind].target:
        target, _, rest = rest.strip().partition(" ")
    return checked_act(Act(label.strip(), kind, target, rest.strip()))


def checked_act(act: Act) -> Act:
    """Returns the action unchanged. InputError if it is not possible."""
    if act.kind not in KINDS:
        raise InputError(f"unknown action {act.kind[:40]!r}", remedy=f"choose one of {', '.join(KINDS)}")
    KINDS[act.kind].call(act)
    return act


@dataclass(frozen=True)
class Sense:
    """The source of a board's samples: a name as for `Link.sense`, or a module on the board with source()."""

    source: str = "mpu6050"
    pins: tuple[int, ...] = (4, 5)
    bus: int = 0


def _sensor(sense: Sense, front: str) -> tuple[list[str], str]:
    """The imports, and the expression that opens the source. The expression may use `signal`."""
    if sense.source in sensors():
        pins = tuple(map(int, sense.pins))
        check_pins(sense.source, pins)
        scales = ", signal.scales" if front == "none" else ""
        bus = f", bus={int(sense.bus)}" if sense.bus else ""
        opened = f"open_sensor({ascii(sense.source)}, {pins}, round(signal.rate){scales}{bus})"
        return ["from edgelora.sources import open_sensor"], opened
    own = {"main", "boot", "edgelora"}
    if not MODULE.fullmatch(sense.source) or keyword.iskeyword(sense.source) or sense.source in own:
        raise InputError(f"{sense.source[:40]!r} is not a sensor", remedy=f"give {named()}, or a module")
    return [], f"__import__({ascii(sense.source)}).source()"


@dataclass(frozen=True)
class Wish:
    """The settings of a board's program. adapter: a name in its store, "" for the base alone; vote: decides on a class;
    nothing: whether a window unlike all samples is "nothing"."""

    acts: tuple[Act, ...]
    sense: Sense = field(default_factory=Sense)
    adapter: str = ""
    vote: Vote = Vote(2, 3)
    nothing: bool = True


def program(base: Base, path: str, ranks: bytes, labels: Sequence[str], wish: Wish, has_rule: bool) -> str:
    """The text of `main.py`. path: of the base on the board; labels: of its classes, including added ones.

    InputError for actions of unknown classes, and for impossible actions.
    """
    signal = signal_of(base)
    there = [*labels, *([NOTHING] if has_rule else [])]
    if not wish.acts or len(wish.acts) > MOST_ACTIONS:
        raise InputError(f"{len(wish.acts)} actions: give 1 to {MOST_ACTIONS}")
    for act in map(checked_act, wish.acts):
        if act.label not in there:
            raise InputError(f"unknown class {act.label[:40]!r}", remedy=f"choose one of {', '.join(there)}")
    with device.refusals():
        device.module("pipeline").check_vote(wish.vote.least, wish.vote.windows)
    more, sensor = _sensor(wish.sense, signal.front)
    calls = {label: [KINDS[a.kind].call(a) for a in wish.acts if a.label == label] for label in there}
    calls = {label: made for label, made in calls.items() if made}
    used = sorted({call.partition("(")[0] for made in calls.values() for call in made})
    imports = [
        f"from edgelora.actions import {', '.join([*used, 'run'])}",
        *(["from edgelora.known import Known"] if has_rule else []),
        "from edgelora.pipeline import Pipeline",
        *more,
        *(["from edgelora.store import Store, default_place"] if wish.adapter else []),
    ]
    lines = [
        f"{MADE_BY}; change it as you like.",
        "",
        "It runs after each reset, without a computer; Ctrl-C at the board's port ends it.",
        '"""',
        "",
        "import edgelora",
        *sorted(imports, key=lambda line: line.split()[1]),
        "",
        f"model = edgelora.Model({ascii(path)}, ranks={_ranks(base, ranks)}, mode='infer')",
    ]
    if wish.adapter:
        lines += [
            "store = Store(default_place())",
            "store.open(model)",
            f"store.use({ascii(store_name(wish.adapter))})",
        ]
    seen = f"Known(model, {ascii(RULE_PATH)})" if has_rule else "model"
    lines += [
        "signal = model.signal",
        f"sensor = {sensor}",
        f"pipeline = Pipeline({seen}, sensor, vote=({wish.vote.least}, {wish.vote.windows}))",
        "actions = {",
        *(f"    {ascii(label)}: [{', '.join(made)}]," for label, made in calls.items()),
        "}",
        "run(pipeline, actions)",
        "",
    ]
    return "\n".join(lines)


def _ranks(base: Base, ranks: bytes) -> str:
    """Ranks as the shortest Python expression."""
    each = {rank for rank, op in zip(ranks, base.model.ops, strict=True) if op.is_matrix}
    return str(each.pop()) if len(each) == 1 else f"bytes({tuple(ranks)})".replace(",)", ")")


@dataclass(frozen=True)
class Acting:
    """Files for a board. main: the program; rule: the file for `edgelora.known`, None without; shares: the rule's
    effect, None if not measured; kept: the board's copy of a main.py that EdgeLoRA did not write."""

    main: str
    rule: str | None
    shares: Shares | None
    kept: str | None = None


def acting_of(base: Base, path: str, adapter: bytes | None, data: Dataset | None, wish: Wish) -> Acting:
    """The program of a board that has the base at this path, with an adapter's bytes; data: the user's samples.

    Without samples, or with too few, there is no rule to detect "nothing".
    """
    known = Known(base, adapter, data) if data is not None and wish.nothing else None
    rule, shares = (known.rule, known.shares) if known else (None, None)
    return Acting(_main(base, path, adapter, wish, rule is not None), rule.text() if rule else None, shares)


def _main(base: Base, path: str, adapter: bytes | None, wish: Wish, has_rule: bool) -> str:
    return program(base, path, adapter_ranks(base, adapter), labels_of(base, adapter), wish, has_rule)


def save_acting(link: Link, base: Base, data: Dataset | None, wish: Wish) -> Acting:
    """Writes the program to a board, which runs it from its next reset on. Writes the base if it is missing.

    Copies a main.py that EdgeLoRA did not write to KEPT_PATH.

    InputError if the board's store lacks the adapter, or for impossible settings.
    """
    adapter = stored_adapter(link, base, wish.adapter) if wish.adapter else None
    if wish.adapter and adapter is None:
        raise InputError(
            f"the board's store has no adapter {wish.adapter} for {base.name}",
            remedy="train and keep one first, or see `edgelora store list`",
        )
    made = acting_of(base, base.paths[1], adapter, data, wish)  # raises before anything is changed
    open_base(link, base, inference(adapter_ranks(base, adapter)))
    path = base_path(link, base)
    if path and path != base.paths[1]:
        made = replace(made, main=_main(base, path, adapter, wish, made.rule is not None))
    if made.rule:
        link.put(RULE_PATH, made.rule.encode())
    elif link.size(RULE_PATH) is not None:
        link.remove(RULE_PATH)
    made = replace(made, kept=_keep_own(link))
    link.put(MAIN_PATH, made.main.encode())
    return made


def _keep_own(link: Link) -> str | None:
    """Copies a main.py that EdgeLoRA did not write; returns the copy's path."""
    there = link.get(MAIN_PATH) if link.size(MAIN_PATH) else b""
    if not there or there.startswith(MADE_BY.encode()):
        return None
    link.put(KEPT_PATH, there)
    return KEPT_PATH
