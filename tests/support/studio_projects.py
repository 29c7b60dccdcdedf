"""Projects of a studio with samples of gestures in them: windows of a person's watch under names of their own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from edgelora import datasets
from edgelora.studio.book import Book
from edgelora.studio.lesson import PACKAGED
from edgelora.training import Base, load_base

PERSON = 3  # whom the base that comes with the studio has never seen
FIRST = 3  # of the recordings' classes, so that the base names none of the gestures right by chance
BOARD = "desk"


def motion() -> Base:
    """The base that comes with the studio."""
    return load_base(PACKAGED / "motion.elm")


def collect(folder: Path, gestures: dict[str, int]) -> None:
    """Puts so many samples of each gesture into a project, as its book keeps them."""
    book, base = Book(SimpleNamespace(folder=folder)), motion()
    assert base.model.signal
    takes = datasets.har_takes(PERSON, "train")
    for label, (name, count) in enumerate(gestures.items(), FIRST):
        there = len([sample for sample in book.samples if sample.label == name])
        mine = [counts for counts, of in takes if of == label][there:count]
        for counts in mine:
            book.take(name, counts, base.model.signal, base.model.input.shape)


def project(folder: Path, gestures: dict[str, int], board: str = "unix") -> Path:
    """A project whose virtual board is on as soon as the studio is, with these samples."""
    folder.mkdir(parents=True)
    collect(folder, gestures)
    (folder / "studio.json").write_text(json.dumps({"on": {BOARD: board}}))
    return folder
