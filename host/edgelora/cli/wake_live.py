"""Commands for wake words at a board's own microphone: enrolment, and hearing with corrections."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.streams import note, say
from edgelora.board.link.client import Link
from edgelora.board.link.replies import WatchReply
from edgelora.core.front_ends import AUDIO_RATE
from edgelora.core.sensors import check_pins, pins_of
from edgelora.learn.streaming.decisions import ranks_of_all
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.board.board_paths import SWITCHED_PATH
from edgelora.learn.training.data.base import load_adapter
from edgelora.learn.training.recipe import inference
from edgelora.learn.wake.live import Corrections, Enrolment, Wanted
from edgelora.learn.wake.recordings import KINDS, Recordings
from edgelora.learn.wake.word import WakeWord
from edgelora.learn.wake.word_file import word_of

from .arguments import add_port, connect, whole
from .command_line import Add
from .console import emit
from .recording import END_KEYS, TAKE_KEYS, UNDO_KEYS, keys
from .streaming import switch

SKIP_KEYS = "nN"
CLOSED = END_KEYS[-1]  # what a keyboard gives that nobody sits at


def add_commands(add: Add) -> None:
    """Adds `wake enrol` and `wake listen`."""
    p = add("enrol", cmd_enrol)
    p.add_argument("model", type=Path, help="the base (.elm) of a wake word, with its manifest (.json) beside it")
    p.add_argument("-o", "--owner", type=Path, default=Path("me"), help="the owner's folder (%(default)s)")
    p.add_argument("--count", type=whole(0, 100), default=Wanted.said, help="times the word (%(default)s)")
    p.add_argument("--misses", type=whole(0, 100), default=Wanted.misses, help="close phrases (%(default)s)")
    p.add_argument("--talk", type=whole(0, 600), default=Wanted.talk, help="seconds of other speech (%(default)s)")
    _add_microphone(p)
    p.epilog = (
        "Each recording is a file at once, in OWNER/said, misses or talk, so Ctrl-C loses none. Run it again to add "
        "more; then: edgelora wake learn MODEL --owner OWNER"
    )
    p = add("listen", cmd_listen)
    p.add_argument("model", type=Path, help="the base (.elm) of a wake word, with its manifest (.json) beside it")
    p.add_argument("--adapter", type=Path, action="append", default=[], help="an adapter (.ela), one for each owner")
    p.add_argument(
        "--switch",
        type=switch,
        action="append",
        default=[],
        metavar="SECONDS=N",
        help="switch to adapter N (0: the base alone) after so many seconds; keys 0 to 9 do so, too. Repeatable",
    )
    p.add_argument("-o", "--owner", type=Path, default=Path("me"), help="where corrections go (%(default)s)")
    p.add_argument("--seconds", type=whole(1), help="how long (until q or Ctrl-C)")
    _add_microphone(p)
    p.epilog = (
        "A press right after a wake says that it was none; any other says that the word was just said and not heard. "
        "Either is recorded into OWNER, for the next `edgelora wake learn MODEL --owner OWNER`."
    )


def _add_microphone(p: argparse.ArgumentParser) -> None:
    p.add_argument("--source", default="i2s", help="i2s, or a module on the board with source() (%(default)s)")
    p.add_argument("--pins", default="16,17,18", metavar="SCK,WS,SD", help="pins of the microphone (%(default)s)")
    p.add_argument("--button", type=whole(0, 47), metavar="PIN", help="a button to ground, as good as Enter")
    p.set_defaults(stopped="stopped")
    add_port(p)


def cmd_enrol(args: argparse.Namespace) -> None:
    """Records the owner's voice with a board's microphone.

    Says what to say: the word, some phrases close to it, then a minute of other speech. Press the button, or Enter,
    half a second after each. u undoes the last one, n goes on to the next kind, q or Ctrl-C ends; all recordings stay.
    """
    word, manifest = word_of(args.model)
    enrolment = Enrolment(word, Recordings(args.owner), Wanted(args.count, args.misses, args.talk))
    tell = _teller(args, enrolment, manifest.wake_word)
    try:
        with connect(args) as link, contextlib.suppress(KeyboardInterrupt):
            _open(link, args)
            tell()
            for reply, key in _polled(link, args):
                enrolment.hear(reply.counts, reply.lost)
                if key and key in UNDO_KEYS:
                    path = enrolment.undo()
                    note(f"removed {path}" if path else "nothing to undo", args.json)
                elif key and key in SKIP_KEYS:
                    enrolment.skip()
                elif key and key in TAKE_KEYS:
                    _press(enrolment.press, args)
                if enrolment.kind is None:
                    break
                tell()
    finally:
        enrolment.close()
    new = [str(path) for path in enrolment.new]
    counts = {kind: len(enrolment.recordings.of(kind)) for kind in KINDS}
    if args.json:
        return emit({"owner": str(args.owner), "new": new, "counts": counts, "lost": enrolment.sounding.lost})
    words = ", ".join(f"{counts[kind]} of {name}" for kind, name in KINDS.items())
    say(f"{args.owner}: {len(new)} new recordings; now {words}")


def _teller(args: argparse.Namespace, enrolment: Enrolment, phrase: str) -> Callable[[], None]:
    """Gives what says what to say, when that changes."""
    press = "Enter" if args.button is None else f"the button on pin {args.button}, or Enter"
    advice = {
        "said": f'say "{phrase}", then press {press}',
        "misses": f'say a phrase close to "{phrase}" that must not wake it, then press {press}',
        "talk": f'talk about anything else, without "{phrase}"',
    }
    told: list[object] = []

    def tell() -> None:
        kind, left = enrolment.kind, enrolment.left
        now = (kind, left if kind != "talk" else -(-left // 10))
        if kind and now not in told[-1:]:
            told.append(now)
            note(f"{advice[kind]} ({left}{' s' if kind == 'talk' else ''} left)", args.json)

    return tell


def cmd_listen(args: argparse.Namespace) -> None:
    """Lets a board listen for its wake word, and records corrections.

    Each output line has the seconds since the start and the adapter that heard the word. A press of the button, or of
    Enter, corrects it: see below. With several adapters, keys 0 to 9 switch without a pause; q or Ctrl-C ends.
    """
    if len(args.adapter) > 9:
        raise InputError(f"{len(args.adapter)} adapters: keys switch between 9 at most")
    word, _ = word_of(args.model, args.adapter[0] if args.adapter else None)
    corrections = Corrections(word, Recordings(args.owner))
    heard: list[dict[str, Any]] = []
    with connect(args) as link, contextlib.suppress(KeyboardInterrupt):
        adapters = _Adapters(link, word, args)
        try:
            _open(link, args)
            link.listen(sensor=True)
            adapters.use(min(1, len(args.adapter)))
            note(f"listening, with {word.rule}", args.json)
            for reply, key in _polled(link, args):
                adapters.follow(corrections.sounding.heard, key)
                outputs = [(decision.end, int(decision.outputs[0]) + 128) for decision in reply.decisions]
                for end in corrections.hear(reply.counts, reply.lost, outputs):
                    heard.append({"seconds": round(end / AUDIO_RATE, 2), "adapter": adapters.name})
                    if not args.json:
                        say(f"{end / AUDIO_RATE:9.2f} s  heard  ({adapters.name or 'base'})")
                if key and key in TAKE_KEYS:
                    _press(corrections.press, args)
                if args.seconds and corrections.sounding.heard >= args.seconds * AUDIO_RATE:
                    break
        finally:
            adapters.remove()
    new = [str(path) for path in corrections.new]
    if args.json:
        return emit({"heard": heard, "new": new, "lost": corrections.sounding.lost})
    say(f"heard {len(heard)} times; {len(new)} corrections in {args.owner}")


class _Adapters:
    """The owners' adapters on the board, and which one hears now."""

    def __init__(self, link: Link, word: WakeWord, args: argparse.Namespace) -> None:
        self._link, self._paths = link, list[str]()
        self._switches = [(seconds * AUDIO_RATE, number) for seconds, number in args.switch]
        self._names = ["", *(path.stem for path in args.adapter)]
        if wrong := [number for _, number in args.switch if number >= len(self._names)]:
            raise InputError(f"--switch to {wrong[0]}: there are {len(args.adapter)} adapters, 0 is the base alone")
        adapters = [load_adapter(path, word.base) for path in args.adapter]
        BoardLearner(link, word.base, inference(ranks_of_all(word.base, adapters)))
        for number, adapter in enumerate(adapters, 1):
            link.put(SWITCHED_PATH.format(number), adapter)
            self._paths.append(SWITCHED_PATH.format(number))
        self.name = ""

    def use(self, number: int) -> None:
        """Switches without a pause: the stream goes on. 0: the base alone."""
        self._link.use(self._paths[number - 1] if number else None)
        self.name = self._names[number]

    def follow(self, heard: int, key: str) -> None:
        """Switches as a key says, or as `--switch` does after so many samples."""
        while self._switches and heard >= self._switches[0][0]:
            self.use(self._switches.pop(0)[1])
        if key.isdecimal() and int(key) < len(self._names):
            self.use(int(key))

    def remove(self) -> None:
        for path in self._paths:
            with contextlib.suppress(EdgeloraError):
                self._link.remove(path)


def _open(link: Link, args: argparse.Namespace) -> None:
    pins = pins_of(args.pins)
    check_pins(args.source, pins)
    buttons = [] if args.button is None else [args.button]
    rate, channels = link.sense(args.source, pins=list(pins), rate=AUDIO_RATE, buttons=buttons)
    if channels != 1 or abs(rate - AUDIO_RATE) > AUDIO_RATE // 20:
        raise InputError(f"the source has {channels} channels at {rate:g} Hz, a wake word hears one at {AUDIO_RATE}")


def _polled(link: Link, args: argparse.Namespace) -> Iterator[tuple[WatchReply, str]]:
    """What the board senses, with the key that was pressed, "" for none; a press of the button is Enter.

    Ends with q or, where there is no button and no `--seconds`, with the keyboard.
    """
    down, sits = False, True
    with keys() as read:
        while True:
            key = read() if sits else ""
            if key == CLOSED and (args.button is not None or getattr(args, "seconds", None)):
                key, sits = "", False
            if key and key in END_KEYS:
                return
            reply = link.watch()
            if reply.down and not down:
                key = TAKE_KEYS[0]
            down = bool(reply.down)
            yield reply, key


def _press(press: Callable[[], Path | None], args: argparse.Namespace) -> None:
    try:
        path = press()
        if path:
            note(f"  {path}", args.json)
    except InputError as error:
        note(f"  {error}", args.json)
