"""What could be learned from a project's samples, by which base, and what a budget of memory buys. No pages in here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgelora.board.profiles import load_board
from edgelora.learn.planning.choose import Budget, Choice, Choices, choices
from edgelora.learn.planning.plan import Plan, plan
from edgelora.learn.training.base import Base
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets import dataset
from edgelora.model.datasets.dataset import HELD_OUT, Dataset, Parts, held_out

from .job import Job
from .project import Desk
from .samples import Book

PACKAGED = Path(__file__).parent / "bases"  # made by `tools/studio_bases.py`, as `edgelora pretrain` and `quantize` do
OWN = "own-"  # before the name of a base whose outputs have the person's names
LEAST_OF_CLASS = 4  # samples: of these one judges


@dataclass(frozen=True)
class Prospect:
    """What learning from these samples would be: `learned` are classes that train, `added` get a row of their own.

    base: the network as it would be taught, with the person's names if `renamed`. problem, remedy: why it can't be.
    """

    base: Base
    counts: dict[str, int]
    learned: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    renamed: bool = False
    problem: str = ""
    remedy: str = ""


def prospect(base: Base, data: Dataset | None) -> Prospect:
    """How a base could learn the classes of some samples.

    Those that it knows by name are trained. If it knows none of them its outputs are renamed, and trained anew.
    """
    counts = counts_of(data)
    there = [label for label, count in counts.items() if count]
    known = tuple(label for label in there if label in base.model.labels)
    if not there:
        remedy = "record some in Collect: eight of each of two classes or more"
        return Prospect(base, counts, problem="there are no samples yet", remedy=remedy)
    if len(there) < 2:
        return Prospect(base, counts, problem="all samples are of one class", remedy="record another class in Collect")
    if data and not fits(base, data):
        problem = f"samples are {data.x.shape[1:]}, this base takes {base.model.input.shape}"
        return Prospect(base, counts, problem=problem, remedy="choose a base for this sensor")
    learned, renamed = known, False
    if len(known) < 2:
        learned, renamed = tuple(there[: base.model.classes]), True
    added = tuple(label for label in there if label not in learned)
    few = [label for label in learned if counts[label] < LEAST_OF_CLASS]
    problem = f"{', '.join(few)}: fewer than {LEAST_OF_CLASS} samples" if few else ""
    taught = base.renamed(OWN + base.name.removeprefix(OWN), learned) if renamed else base
    return Prospect(taught, counts, learned, added, renamed, problem, "record some more in Collect" if few else "")


def counts_of(data: Dataset | None) -> dict[str, int]:
    """Samples by class."""
    return {} if data is None else {label: int((data.y == i).sum()) for i, label in enumerate(data.labels)}


def parted(data: Dataset, name: str, on_board: bool) -> Parts:
    """What trains and what tests. Of few samples, those that choose the epoch test too, and it is said.

    on_board: the board leads. Where this computer does, a run's last epochs learn from all samples.
    """
    held = held_out(data.y)
    if np.bincount(data.y, minlength=2).min() >= HELD_OUT**2:  # a quarter tests, and of the rest one judges
        return dataset.split(data, name)
    test = Dataset(data.x[held], data.y[held], data.labels, data.signal)
    learned = "" if on_board else ", and were learned from in the last epochs"
    message = f"{int(held.sum())} samples held out from training, which also chose the best epoch{learned}"
    return Parts(data, test, message, seen=int(held.sum()))


def fits(base: Base, data: Dataset) -> bool:
    """Whether samples have a shape that the base takes."""
    try:
        base.model.frames(data.x.shape[1:])
    except ValueError:
        return False
    return True


# ---- budgets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    """What a budget buys: a choice, and what it takes on the board."""

    choice: Choice
    plan: Plan

    @property
    def recipe(self) -> Recipe:
        return replace(self.choice.chosen.recipe, on_board=True)


def measured_choices(desk: Desk, prospect: Prospect, data: Dataset, recipe: Recipe) -> Job:
    """Measures on this computer what each layer is worth for these samples: the job's result is `Choices`."""
    samples = prospect.base.samples(data.only(prospect.learned))
    mine = replace(recipe, on_board=False)

    def work(job: Job) -> Choices:
        return choices(prospect.base.elm, samples, mine, progress=job.progress)

    return desk.submit("measure layers", work)


def offer(found: Choices, board: str, ram: int, adapter: int | None) -> Offer:
    """The best within a budget in bytes. InputError, which names the smallest that works, if none fits."""
    choice = found.within(Budget(ram, adapter))
    return Offer(choice, plan(found.elm, load_board(board), choice.chosen.recipe))


def planned(base: Base, board: str, recipe: Recipe) -> Plan:
    """What a run takes without a budget."""
    return plan(base.elm, load_board(board), recipe)


def about(base: Base) -> str:
    """What a base that comes with the studio knows, of what, and how well; "" for others, of whatever name."""
    try:
        if (PACKAGED / base.name).read_bytes() == base.elm:
            return (PACKAGED / base.name).with_suffix(".txt").read_text(encoding="utf-8").strip()
    except OSError:
        pass
    return ""


# ---- samples ---------------------------------------------------------------------------------------------------------


def collected(desk: Desk, base: Base | None) -> Dataset | None:
    """The samples of the project, cut as a base takes them; None where there are none."""
    return desk.of(Book).dataset(base)


def left_out(desk: Desk, base: Base | None) -> list[str]:
    """Why some samples of the project are not among these, in words."""
    return desk.of(Book).left_out(base)


def collected_version(desk: Desk) -> int:
    """Rises with each change of these."""
    return desk.of(Book).version
