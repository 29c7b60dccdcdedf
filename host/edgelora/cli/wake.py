"""Commands for wake words that learn their owner."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgelora.base.errors import InputError
from edgelora.base.streams import note, say
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.wake_manifest import MAX_WINDOW
from edgelora.core.store_names import store_name
from edgelora.learn.streaming.decisions import signal_of
from edgelora.learn.training.data.base import load_adapter
from edgelora.learn.wake.guard import Recall, Streams, StreamScore, scored
from edgelora.learn.wake.household import Household, learn_all
from edgelora.learn.wake.learning import RECIPE
from edgelora.learn.wake.on_board import on_board
from edgelora.learn.wake.recordings import KINDS, Recordings
from edgelora.learn.wake.replay import shipped
from edgelora.learn.wake.teaching import Owner, Recorded
from edgelora.learn.wake.word import WakeWord
from edgelora.learn.wake.word_file import word_of
from edgelora.model.datasets.recordings import PLAIN, load_recording

from . import console, wake_live
from .arguments import add_port, connect, whole
from .command_line import Add
from .console import emit
from .exit_codes import ExitCode

WAKE = """Teaches a wake word its owner's voice.

The word is a microWakeWord model that was imported with its manifest:

    edgelora import okay_nabu.json -o nabu.elm

Record the word ten times and a minute of other speech, with a board's microphone and a button, or into files (16 kHz,
16 bits), then:

    edgelora wake enrol nabu.elm --button 15 -o me
    edgelora wake learn nabu.elm --owner me -o me.ela
    edgelora wake listen nabu.elm --adapter me.ela --button 15 -o me
    edgelora wake test nabu.elm --adapter me.ela --said new.*.wav --speech radio.wav
    edgelora merge okay_nabu.json me.ela -o mine.tflite

The guide is docs/guides/wake-word.md."""


def add_commands(add: Add) -> None:
    add = add.group("wake", "Teaches a wake word its owner's voice", WAKE)
    wake_live.add_commands(add)
    p = add("learn", cmd_learn)
    p.add_argument("model", type=Path, help="the base (.elm) of a wake word, with its manifest (.json) beside it")
    p.add_argument(
        "--owner",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="recordings of `edgelora wake enrol`; repeatable: one adapter learns several owners, and each is judged",
    )
    p.add_argument("--enrol", type=Path, nargs="+", default=[], metavar="FILE", help="the word, once in each file")
    p.add_argument("--miss", type=Path, nargs="+", default=[], metavar="FILE", help="a close phrase, once in each file")
    p.add_argument("--talk", type=Path, nargs="+", default=[], metavar="FILE", help="the owner's other speech")
    _add_speech(p)
    p.add_argument("--word", help="the name of the word in the replay set (the manifest's model)")
    p.add_argument("--epochs", type=whole(1, 1000), default=RECIPE.epochs, help="over all windows (%(default)s)")
    p.add_argument("-o", "--output", type=Path, default=Path("me.ela"), help="the adapter (%(default)s)")
    p.add_argument("--force", action="store_true", help="write the adapter even if it is not better")
    p.add_argument("--name", help="put the adapter into a board's store by this name, too, and activate it")
    add_port(p)
    p.epilog = (
        "Cross-validation judges: each file, and each voice of the replay set, is heard by an adapter that did not "
        "learn from it. If they are better than the base, an adapter that learned from all is written, and beside it a "
        "manifest with the decision rule that was chosen for it, which test and merge take."
    )
    p.set_defaults(stopped="stopped; the board and its adapters are as they were, or have the new one")
    p = add("test", cmd_test)
    p.add_argument("model", type=Path, help="the base (.elm) of a wake word, with its manifest (.json) beside it")
    p.add_argument("--adapter", type=Path, help="an adapter (.ela; the base alone)")
    p.add_argument("--said", type=Path, nargs="+", default=[], metavar="FILE", help="the word, in each file")
    _add_speech(p)
    p.add_argument("--cutoff", type=float, help="of the mean probability, 0 to 1 (the manifest of adapter or base)")
    p.add_argument("--window", type=whole(1, MAX_WINDOW), help="how many probabilities are averaged (likewise)")
    p.add_argument("--on-board", action="store_true", help="let a board hear the recordings, instead of the host twin")
    add_port(p)


def _add_speech(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--speech",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="sound without the word, files or folders: counts false accepts. Hours of it tell more",
    )


def cmd_learn(args: argparse.Namespace) -> ExitCode:
    """Learns the owner's voice from recordings.

    Trains on this computer, byte for byte as a board would, on windows that a board would have kept. Other voices and
    other speech are replayed from a set that comes with EdgeLoRA, so that they stay heard and refused.
    """
    word, manifest = word_of(args.model)
    name = args.word or Path(manifest.model).stem
    stored = store_name(args.name) if args.name else None
    owners = {name: Owner(*(_recorded(paths, word) for paths in given)) for name, given in _owners(args).items()}
    replay = shipped(name)
    if not replay.sayings:
        note(f"no other voices say {name!r} in the replay set: they may be heard less often", args.json)
    speech = _recorded(args.speech, word)
    recipe = replace(RECIPE, epochs=args.epochs)
    with console.progress("learn", args.json) as progress:
        household = learn_all(word, owners, replay, speech, recipe, progress)
    found, judgement = household.learned, household.learned.judgement
    writes = household.better or args.force
    if writes:
        write_atomic(args.output, found.adapter)
        manifest.with_rule(found.word.rule.cutoff, found.word.rule.window).save(args.output.with_suffix(".json"))
    if writes and stored:
        with connect(args) as link:
            link.store_put(stored, found.adapter)
            link.store_activate(stored)
    if args.json:
        emit(_judged(household) | {"output": str(args.output) if writes else None, "windows": found.windows})
    else:
        _tell(household)
        if writes:
            say(f"{args.output}: {len(found.adapter)} bytes, learned from {found.windows} windows")
            say(f"{args.output.with_suffix('.json')}: the rule for it, {found.word.rule}")
    if household.better and judgement.unknown:
        note(f"{judgement.unknown}: give --talk or --speech", args.json)
    if not household.better:
        note(f"not better, {'but' if writes else 'and not'} written: {household.reason}", args.json)
    return ExitCode.OK if household.better else ExitCode.NOT_ACTIVATED


def cmd_test(args: argparse.Namespace) -> None:
    """Measures recall and false accepts on recordings.

    By the deployed rule: the mean of the last probabilities is above a cutoff. Both shares have 95 % intervals.
    """
    if not args.said and not args.speech:
        raise InputError("nothing to test on: give --said, --speech, or both")
    word, _ = word_of(args.model, args.adapter, args.cutoff, args.window)
    adapter = load_adapter(args.adapter, word.base) if args.adapter else None
    said, speech = _recorded(args.said, word), _recorded(args.speech, word)
    if args.on_board:
        with connect(args) as link, console.progress("listen", args.json) as progress:
            score = on_board(link, word, adapter, said, speech, progress)
    else:
        own, other = ([word.heard(one.sound) for one in part] for part in (said, speech))
        with console.step("listen", args.json):
            score = scored(word, adapter, Streams(own, [], [], other))
    if args.json:
        return emit(_score(score))
    say(f"rule: {score.rule}")
    if said:
        say(f"heard: {score.own}")
    if speech:
        say(f"false accepts: {score.speech}")


def _owners(args: argparse.Namespace) -> dict[str, list[list[Path]]]:
    """The files of the word, close phrases and other speech, by owner; files given alone are the first one's."""
    given = [list(args.enrol), list(args.miss), list(args.talk)]
    found = {folder.name: [Recordings(folder).of(kind) for kind in KINDS] for folder in args.owner} or {"owner": given}
    if len(found) < len(args.owner):
        raise InputError(f"--owner {', '.join(map(str, args.owner))}: give each folder another name")
    if args.owner:
        first = args.owner[0].name
        found[first] = [mine + more for mine, more in zip(found[first], given, strict=True)]
    if silent := [name for name, files in found.items() if not files[0]]:
        raise InputError(
            f"{silent[0]}: no recordings of the word",
            remedy="record it with `edgelora wake enrol`, or give --enrol FILES",
        )
    return found


def _recorded(paths: Sequence[Path], word: WakeWord) -> list[Recorded]:
    """The recordings in files, and in all files of folders."""
    signal = signal_of(word.base)
    files = [
        file
        for path in paths
        for file in (sorted(one for one in path.rglob("*") if one.suffix in PLAIN) if path.is_dir() else [path])
    ]
    if paths and not files:
        raise InputError(f"{paths[0]}: has no recordings, {', '.join(PLAIN)}")
    return [Recorded(str(file), np.ascontiguousarray(load_recording(file, signal).counts[:, 0])) for file in files]


def _tell(household: Household) -> None:
    judgement = household.learned.judgement
    rows = [("base", judgement.base), ("adapted", judgement.adapted)]
    console.table(
        ("cross-validated", "rule", "owner heard", "others heard", "close misses accepted", "false accepts"),
        [(name, score.rule, score.own, score.others, score.misses, score.speech) for name, score in rows],
    )
    if len(household.members) > 1:
        say("")
        console.table(
            ("owner", "heard by base", "adapted"), [(one.name, one.base, one.adapted) for one in household.members]
        )
    say("")


def _judged(household: Household) -> dict[str, Any]:
    judgement = household.learned.judgement
    return {
        "better": household.better,
        "reason": household.reason,
        "base": _score(judgement.base),
        "adapted": _score(judgement.adapted),
        "owners": {one.name: {"base": _recall(one.base), "adapted": _recall(one.adapted)} for one in household.members},
    }


def _recall(one: Recall) -> dict[str, Any]:
    return {"heard": one.heard, "of": one.of, "interval": one.interval and list(one.interval)}


def _score(score: StreamScore) -> dict[str, Any]:
    speech, interval = score.speech, score.speech.interval
    return {
        "cutoff": score.rule.cutoff,
        "window": score.rule.window,
        "own": _recall(score.own),
        "others": _recall(score.others),
        "misses": _recall(score.misses),
        "speech": {
            "false_accepts": speech.count,
            "hours": round(speech.hours, 4),
            "per_hour": round(speech.per_hour, 3),
            "interval": interval and list(interval),
        },
    }
