"""The page of a keyboard that learned its owner: what it suggests, by amount of text, beside float LoRA."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from edgelora.core.formats.files import write_atomic
from edgelora.model.datasets.text import WINDOW

from . import page


@dataclass(frozen=True)
class Amount:
    """What is suggested after so many characters: bits a character and shares of 1, as in `training.words.Suggested`.

    own: with the adapter in use on the board; float_lora: of the same text.
    """

    characters: int
    own: dict[str, float]
    float_lora: dict[str, float]


@dataclass(frozen=True)
class Switched:
    """The rest of a word, after the same text, with each owner's adapter."""

    typed: str
    owner: str
    other: str


@dataclass(frozen=True)
class Repeated:
    """Little text learned many times: bits a character of the base, of the adapter in training, of what is in use."""

    characters: int
    times: int
    base: float
    trained: float
    in_use: float
    kept: int
    undone: int


@dataclass(frozen=True)
class WordsReport:
    """A keyboard's results. amounts: the first is that of no text. examples: first letters, rest, before, after.

    difference: what the board did first that its host twin did not, or "". kept_over_reset: None without an adapter.
    clock: what the times are. other_learned: whether the other has an adapter, which the host twin trained; else the
    base suggests.
    """

    created: str
    board: str
    owner: str
    other: str
    elm: str
    base_id: str
    activated: bool
    host_twin_identical: bool
    difference: str
    kept_over_reset: bool | None
    amounts: list[Amount]
    examples: list[tuple[str, str, str, str]]
    switched: list[Switched]
    other_learned: bool
    repeated: Repeated
    learned: int
    kept: int
    undone: int
    adapter_bytes: int
    arena_bytes: int
    heap_free: int
    clock: str
    train_step_us: float | None
    key_us: float
    switch_us: float

    @property
    def before(self) -> Amount:
        return self.amounts[0]

    @property
    def after(self) -> Amount:
        return self.amounts[-1]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def name_of(author: str) -> str:
    return author.replace("_", " ").title()


def write_words_page(report: WordsReport, path: Path) -> Path:
    """Writes the page atomically."""
    title = f"A keyboard that learned {name_of(report.owner)}"
    sections = [
        _headline(report, title),
        page.section("By amount of text", _amounts(report)),
        page.section("Words", _examples(report)),
        page.section("Two owners", _switched(report)),
        page.section("Little text, many times", _repeated(report)),
        page.section("Costs", _costs(report)),
    ]
    write_atomic(path, page.whole(title, sections).encode())
    return path


def _headline(report: WordsReport, title: str) -> Markup:
    before, after = report.before, report.after
    numbers = [
        ("before", "bits a character, base", f"{before.own['bits']:.3f}"),
        ("after", f"after {after.characters:,} characters", f"{after.own['bits']:.3f}"),
        ("float", "float LoRA of the same text", f"{after.float_lora['bits']:.3f}"),
    ]
    badges = [
        _badge(report.activated, "Adapter in use", _judged(report)),
        _badge(report.host_twin_identical, "Host twin identical", _compared(report)),
    ]
    if report.kept_over_reset is not None:
        badges.append(
            _badge(report.kept_over_reset, "Kept over a reset", "The same adapter, and the same suggestions.")
        )
    sentences = [
        "Measured on later text of the same author, which neither base nor adapter have seen.",
        f"The text was sent over the link, {WINDOW} characters at a time; the board trained after each part, and "
        "stored no text. It learned seven of eight windows, each once, and validated on the others. Float LoRA "
        "learned all.",
    ]
    return page.part(
        "headline", "keyboard report", title, [report.board, page.date(report.created)], numbers, badges, sentences
    )


def _badge(holds: bool, what: str, meaning: str) -> tuple[str, str, str]:
    word = "yes" if holds else "no"
    return word, f"{what}: {word}", meaning


def _judged(report: WordsReport) -> str:
    if report.activated:
        return "Better on windows of the text that were held out."
    if report.kept:
        return "The board's adapter is not the one that the host twin trained."
    return "None was better than the base on windows of the text that were held out."


def _compared(report: WordsReport) -> str:
    if report.host_twin_identical:
        return "Losses of all windows learned, adapters and suggestions, bit for bit."
    return f"They differ in {report.difference}. Figures by amount of text are the host twin's."


def _amounts(report: WordsReport) -> Markup:
    rows = []
    for amount in report.amounts:
        own = "board" if report.host_twin_identical else "host twin"
        for name, of in ((own, amount.own), ("float LoRA", amount.float_lora)):
            shares = (page.percent(of[key]) for key in ("first", "three", "words"))
            rows.append([f"{amount.characters:,} characters, {name}", f"{of['bits']:.3f}", *shares])
    head = ["Text", "bits a character", "next character", "among three", "words after two letters"]
    return page.table(head, rows, "On later text: bits, and how often a suggestion is right")


def _examples(report: WordsReport) -> Markup:
    rows = [
        [f"{first}{rest}", f"{first}|{before}", f"{first}|{after}"] for first, rest, before, after in report.examples
    ]
    if not rows:
        return Markup()
    return page.table(["Word", "before", "after"], rows, "Words of the later text that only one of both completes")


def _switched(report: WordsReport) -> Markup:
    rows = [[one.typed, f"{one.typed}|{one.owner}", f"{one.typed}|{one.other}"] for one in report.switched]
    learned = ((report.owner, report.adapter_bytes > 0), (report.other, report.other_learned))
    names = [name_of(name) + ("" if has else " (the base alone)") for name, has in learned]
    trained = "; the host twin trained the second adapter" if report.other_learned else ""
    switching = f"Switching takes {page.time(report.switch_us)}, and forgets what was typed"
    return page.table(["Typed", *names], rows, switching + trained)


def _repeated(report: WordsReport) -> Markup:
    one = report.repeated
    rows = [
        ["base", f"{one.base:.3f}"],
        [f"adapter trained {one.times} times on {one.characters:,} characters", f"{one.trained:.3f}"],
        ["in use, under the guard", f"{one.in_use:.3f}"],
        ["adapters that the guard kept", str(one.kept)],
        ["times that it undid the training", str(one.undone)],
    ]
    return page.table([], rows, "Bits a character of later text, on the host twin")


def _costs(report: WordsReport) -> Markup:
    rows = [
        ["adapter", page.size(report.adapter_bytes)],
        ["arenas that train and decode", page.size(report.arena_bytes)],
        ["heap left", page.size(report.heap_free)],
        ["learning a window", page.time(report.train_step_us)],
        ["a key with three suggestions", page.time(report.key_us)],
        ["windows learned", str(report.learned)],
        ["adapters kept", str(report.kept)],
        ["trainings undone", str(report.undone)],
    ]
    return page.table([], rows, report.clock)
