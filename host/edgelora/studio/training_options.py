"""Options of a training run: classes by base, and gain by memory budget. No pages in here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgelora.board.profiles import load_board
from edgelora.learn.planning.choose import Budget, Choice, Choices, choices
from edgelora.learn.planning.plan import Plan, plan
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets import dataset
from edgelora.model.datasets.dataset import HELD_OUT, Dataset, Parts, held_out

from .job import Job
from .project import Project
from .samples import ProjectSamples

PACKAGED = Path(__file__).parent / "bases"  # made by `tools/studio_bases.py`, as `edgelora pretrain` and `quantize` do
OWN = "own-"  # prefix of a base whose outputs have the user's class names
LEAST_OF_CLASS = 4  # samples, of which one is held out


@dataclass(frozen=True)
class Prospect:
    """The options of training on samples: classes in `learned` are trained, those in `added` get a new output row.

    base: the network to train, with the user's class names if `renamed`. problem, remedy: why it can't be trained.
    """

    base: Base
    counts: dict[str, int]
    learned: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    renamed: bool = False
    problem: str = ""
    remedy: str = ""

    def suited(self, recipe: Recipe) -> Recipe:
        """The recipe, with layers alone if outputs have the user's class names: own rows are drawn toward the base's,
        which are of other classes."""
        return replace(recipe, rows=recipe.rows and not self.base.name.startswith(OWN))


def prospect(base: Base, data: Dataset | None) -> Prospect:
    """How a base could be trained on the classes of some samples.

    Classes that it knows by name are trained. If it knows none, its outputs are renamed and retrained.
    """
    counts = counts_of(data)
    there = [label for label, count in counts.items() if count]
    known = tuple(label for label in there if label in base.model.labels)
    if not there:
        remedy = "record some in Collect: eight of each of at least two classes"
        return Prospect(base, counts, problem="there are no samples yet", remedy=remedy)
    if len(there) < 2:
        return Prospect(base, counts, problem="all samples are of one class", remedy="record another class in Collect")
    if data and not fits(base, data):
        problem = f"samples are {data.x.shape[1:]}, this base needs {base.model.input.shape}"
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
    """Splits samples into training and test data. Few samples choose the epoch and test; the report says so.

    on_board: the board controls training. Otherwise the last epochs train on all samples.
    """
    held = held_out(data.y)
    if np.bincount(data.y, minlength=2).min() >= HELD_OUT**2:  # a quarter for testing, one of the rest for validation
        return dataset.split(data, name)
    test = Dataset(data.x[held], data.y[held], data.labels, data.signal)
    learned = "" if on_board else ", and were trained on in the last epochs"
    message = f"{int(held.sum())} samples held out from training, which also chose the best epoch{learned}"
    return Parts(data, test, message, seen=int(held.sum()))


def fits(base: Base, data: Dataset) -> bool:
    """Whether samples have the base's input shape."""
    try:
        base.model.frames(data.x.shape[1:])
    except ValueError:
        return False
    return True


# ---- budgets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    """The choice within a budget, and its cost on the board."""

    choice: Choice
    plan: Plan

    @property
    def recipe(self) -> Recipe:
        return replace(self.choice.chosen.recipe, on_board=True)


def measured_choices(project: Project, prospect: Prospect, data: Dataset, recipe: Recipe) -> Job:
    """Measures each layer's value for these samples on this computer. The job's result is `Choices`."""
    samples = prospect.base.samples(data.only(prospect.learned))
    mine = replace(recipe, on_board=False)

    def work(job: Job) -> Choices:
        return choices(prospect.base.elm, samples, mine, progress=job.progress)

    return project.submit("measure layers", work)


def offer(found: Choices, board: str, ram: int, adapter: int | None) -> Offer:
    """The best choice within a budget in bytes. InputError, which names the smallest budget, if none fits."""
    choice = found.within(Budget(ram, adapter))
    return Offer(choice, plan(found.elm, load_board(board), choice.chosen.recipe, found.frames))


def planned(base: Base, board: str, recipe: Recipe) -> Plan:
    """The cost of a run without a budget."""
    return plan(base.elm, load_board(board), recipe)


def about(base: Base) -> str:
    """A description of an included base: classes, data, accuracy; "" for other bases, whatever their name."""
    try:
        if (PACKAGED / base.name).read_bytes() == base.elm:
            return (PACKAGED / base.name).with_suffix(".txt").read_text(encoding="utf-8").strip()
    except OSError:
        pass
    return ""


# ---- samples ---------------------------------------------------------------------------------------------------------


def collected(project: Project, base: Base | None) -> Dataset | None:
    """The project's samples, cut into a base's windows; None if there are none."""
    return project.of(ProjectSamples).dataset(base)


def left_out(project: Project, base: Base | None) -> list[str]:
    """Why some samples of the project are left out, in words."""
    return project.of(ProjectSamples).left_out(base)


def collected_version(project: Project) -> int:
    """Rises with each change of the samples."""
    return project.of(ProjectSamples).version
