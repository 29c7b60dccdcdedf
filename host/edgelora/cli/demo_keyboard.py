"""`edgelora demo keyboard`: a board suggests words, and learns its owner's from what is typed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edgelora.base import streams
from edgelora.base.errors import InputError
from edgelora.board.link.client import Link
from edgelora.board.link.replies import WordsReply
from edgelora.board.resetting import reset
from edgelora.core.formats.files import write_atomic
from edgelora.learn.report.words_page import Amount, Repeated, Switched, WordsReport, write_words_page
from edgelora.learn.training import words
from edgelora.learn.training.board.board_learner import base_path
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.words import (
    MOST,
    SUGGESTED,
    TwinWords,
    Typing,
    float_logits,
    float_lora,
    integer_logits,
    key_by_key,
    next_characters,
    suggested,
    type_on_board,
)
from edgelora.model.datasets.text import WINDOW, author_text
from edgelora.model.floatnet.layers import FloatNet

from . import console
from .demo import set_up

PARTS = (8, 4, 2, 1)  # measured after an eighth of the text, a quarter, half, all
LITTLE, TIMES = 32, 16  # windows that are learned so many times
SPOKEN = "we must see to it that the American peo"  # typed key by key
PROMPTS = ("The American peo", "We will not for", "My fellow cit", "the United Na", "and I am asking the Con")
EXAMPLES = 8


def demo_keyboard(
    board: str, owner: str, other: str, characters: int, output: Path, port: str | None = None, quiet: bool = False
) -> tuple[WordsReport, Path]:
    """Lets a board learn an author's text as it is typed, then types with another's adapter. Returns report and page.

    A virtual board is started, flashed through its drive, and unplugged at the end; a real one is found or named by
    `port`. Everything is left in `output`.
    """
    if owner == other:
        raise InputError(f"owner and other are both {owner}", remedy="give two authors: --owner and --other")
    here = set_up(board, output, port, quiet)
    with console.step("read texts", quiet):
        taught, later = author_text(owner)
        taught = taught[: characters // WINDOW * WINDOW]
        other_text = author_text(other)[0][: len(taught)]
    with console.progress("pretrain on authors from 1900 to 1945, minutes the first time", quiet) as progress:
        net, base = words.language_base(progress)
    write_atomic(output / base.name, base.elm)
    streams.note(f"base: {len(base.elm)} bytes, {base.base_id}", quiet)
    with console.step(f"{other} types on the host twin", quiet):
        theirs = TwinWords(base, other)
        theirs.learn(other_text)
    twin = TwinWords(base, owner)
    with here.board(base) as at:
        ran = _on_board(at, base, {owner: twin, other: theirs}, taught, quiet)
    with console.step("measure on later text, beside float LoRA", quiet):
        amounts, examples = _by_amount(net, base, ran.typing, taught, later, twin.ranks)
        repeated = _repeated(base, taught, later, amounts[0].own["bits"])
    end = ran.typing.end
    report = WordsReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        board=board,
        owner=owner,
        other=other,
        elm=base.name,
        base_id=base.base_id,
        activated=end.crc is not None and ran.typing.identical,
        host_twin_identical=ran.typing.identical,
        difference=ran.typing.difference,
        kept_over_reset=ran.kept,
        amounts=amounts,
        examples=examples,
        switched=ran.switched,
        other_learned=theirs.adapter is not None,
        repeated=repeated,
        learned=end.learned,
        kept=end.kept,
        undone=end.undone,
        adapter_bytes=len(twin.adapter or b""),
        arena_bytes=end.arena,
        heap_free=end.free,
        clock=here.clock,
        train_step_us=ran.typing.step_us,
        key_us=ran.key_us,
        switch_us=ran.switch_us,
    )
    if twin.adapter:
        write_atomic(output / "adapter.ela", twin.adapter)
    else:
        (output / "adapter.ela").unlink(missing_ok=True)  # of an earlier run
    write_atomic(output / "report.json", (json.dumps(report.as_json(), indent=1) + "\n").encode())
    return report, write_words_page(report, output / "report.html")


@dataclass(frozen=True)
class _OnBoard:
    """What a board did. kept: as `_kept_over_reset`. key_us, switch_us: microseconds of a key, and of a switch."""

    typing: Typing
    kept: bool | None
    switched: list[Switched]
    key_us: float
    switch_us: float


def _on_board(at: str, base: Base, twins: dict[str, TwinWords], taught: str, quiet: bool) -> _OnBoard:
    """Types an owner's text, resets the board, types with both owners' adapters. twins: the owner's comes first."""
    (owner, twin), (other, theirs) = twins.items()
    marks = sorted({len(taught) // part // WINDOW * WINDOW for part in PARTS} - {0})
    with Link.connect(at) as link:
        path = _put(link, base, quiet)
        _without_adapters(link, owner, other)
        opened = link.words_open(path, owner)
        with console.progress(f"{owner} types on the board", quiet) as progress:
            typing = type_on_board(link, opened, twin, taught, marks, progress)
        keys, same = key_by_key(link, twin, SPOKEN)
        typing.compare(same, "suggestions key by key")
    with console.step("reset", quiet):
        reset(at)
    with Link.connect(at) as link, console.step("two owners type in turn", quiet):
        again = link.words_open(path, owner)
        kept = _kept_over_reset(link, again, base, owner, twin)
        typing.compare(kept is not False, "the adapter or suggestions after the reset")
        switched, switch_us, same = _switch(link, base, {owner: twin.adapter, other: theirs.adapter})
        typing.compare(same, "completions with each owner's adapter")
    return _OnBoard(typing, kept, switched, float(np.median(keys)), switch_us)


def _put(link: Link, base: Base, quiet: bool) -> str:
    """The path of the base on the board; stock firmware gets it over the link."""
    path = base_path(link, base)
    if path is None:
        path = base.paths[1]
        with console.progress(f"put {base.name} on the board", quiet) as progress:
            link.put(path, base.elm, progress)
    return path


def _without_adapters(link: Link, *owners: str) -> None:
    """Removes what an earlier run taught a board that is still there: this one begins with the base alone."""
    for name in {adapter.name for adapter in link.store_list().adapters}.intersection(owners):
        link.store_remove(name)


def _kept_over_reset(link: Link, opened: WordsReply, base: Base, owner: str, twin: TwinWords) -> bool | None:
    """Whether a restarted board has the same adapter, and suggests the same as a twin that starts with it.

    None: there was no adapter to keep, and it suggests what the base does.
    """
    fresh = TwinWords(base, owner, twin.adapter)
    reply = link.words_type(PROMPTS[0], suggest=SUGGESTED, complete=MOST)
    fresh.own.type(PROMPTS[0])
    same = opened.crc == twin.crc and words.agrees(fresh, reply)
    return None if same and twin.crc is None else same


def _switch(link: Link, base: Base, adapters: dict[str, bytes | None]) -> tuple[list[Switched], float, bool]:
    """Types the same with each owner's adapter in turn; the second one's is put on the board.

    Returns what each suggests, microseconds of a switch, and whether host twins suggest the same.
    """
    _, other = adapters
    if adapter := adapters[other]:
        link.store_put(other, adapter)
    twins = {name: TwinWords(base, name, adapter) for name, adapter in adapters.items()}
    found, times, same = [], [], True
    for prompt in PROMPTS:
        rests = []
        for name, twin in twins.items():
            times.append(link.words_use(name).us)
            rests.append(link.words_type(prompt, complete=MOST).completed)
            twin.own.use(name)
            twin.own.type(prompt)
            same &= twin.own.complete(MOST) == rests[-1]
        found.append(Switched(prompt, *rests))
    return found, float(np.median(times)), same


def _by_amount(
    net: FloatNet, base: Base, typing: Typing, taught: str, later: str, ranks: bytes
) -> tuple[list[Amount], list[tuple[str, str, str, str]]]:
    """What each mark's adapter suggests on later text, beside float LoRA; words that the last one changed."""
    amounts, completed = [], []
    for mark, adapter in sorted(typing.adapters.items()):
        own = suggested(integer_logits(base, adapter), later)
        lora = float_lora(net, taught[: mark + 1], ranks) if mark else net
        amounts.append(Amount(mark, own.as_json(), suggested(float_logits(lora), later).as_json()))
        completed.append(own.completed)
    return amounts, _examples(completed[0], completed[-1])


def _examples(before: list[tuple[str, str, str]], after: list[tuple[str, str, str]]) -> list[tuple[str, str, str, str]]:
    """Words that only one of base and adapter completes, in the order of the text: gains and losses."""
    pairs = [(*one, two[2]) for one, two in zip(before, after, strict=True)]
    return [pair for pair in pairs if (pair[2] == pair[1]) != (pair[3] == pair[1])][:EXAMPLES]


def _repeated(base: Base, taught: str, later: str, base_bits: float) -> Repeated:
    """What becomes of little text that is learned many times, and what the guard does about it."""
    little = taught[: LITTLE * WINDOW]
    twin = TwinWords(base, "little", times=TIMES)
    twin.learn(little)
    trained, in_use = (
        next_characters(integer_logits(base, adapter), later)[0] for adapter in (twin.in_training, twin.adapter)
    )
    return Repeated(len(little), TIMES, base_bits, trained, in_use, twin.own.kept, twin.own.undone)
