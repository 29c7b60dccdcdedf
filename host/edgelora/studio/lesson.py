"""What the boards of a project learn: bases, budgets, runs and what becomes of them. No pages in here.

A run is `edgelora.training.personalize_board`, on the board's thread; all that it takes and leaves is in a folder of
its own, so that it can go on after the page, the studio or the board was gone:

    reports/NNN/lesson.json     what it is, and how far it has come
                base.elm        the network, and samples.npz, test.npz
                previous.ela    what the board had before, if anything
                metrics.jsonl   every update
                adapter.ela     what was learned, report.json and report.html
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import datasets, formats, training, twin
from ..boards import load_board
from ..datasets import Dataset
from ..errors import EdgeloraError, InputError
from ..formats import write_atomic
from ..link import LineLost, Link, LinkError
from ..planning import Budget, Choice, Choices, Plan, choices, plan
from ..report import Metrics, Report, Update, make_report, read_metrics, read_report, write_report
from ..text import printable, store_name
from ..training import NAME, AddedClasses, Base, Measure, Recipe, Suspended, load_base
from .book import Book
from .desk import Desk
from .job import Job
from .place import Place

PACKAGED = Path(__file__).parent / "bases"  # made by `edgelora pretrain` and `quantize`
OWN = "own-"  # before the name of a base whose outputs have the person's names
USUAL = Recipe(on_board=True)
LEAST_OF_CLASS = 4  # samples: of these one judges
VERSION = 1
Status = Literal["learning", "pausing", "paused", "cut off", "judged", "kept", "discarded", "given up", "failed"]
GOING, UNFINISHED = ("learning", "pausing"), ("learning", "pausing", "paused", "cut off")


# ---- what could be learned -------------------------------------------------------------------------------------------


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
    if data and not _fits(base, data):
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


def only(data: Dataset, labels: Sequence[str]) -> Dataset:
    """The samples of some classes, numbered as these are."""
    number = {data.labels.index(label): i for i, label in enumerate(labels)}
    chosen = np.isin(data.y, list(number))
    y = np.array([number[int(label)] for label in data.y[chosen]], np.int64)
    return Dataset(data.x[chosen], y, list(labels), data.signal)


def parted(data: Dataset, name: str) -> datasets.Parts:
    """What trains and what tests. Of few samples, those that choose the epoch test too."""
    held = datasets.held_out(data.y)
    if np.bincount(data.y, minlength=2).min() >= datasets.HELD_OUT**2:  # a quarter tests, and of the rest one judges
        return datasets.split(data, name)
    test = Dataset(data.x[held], data.y[held], data.labels, data.signal)
    told = f"{int(held.sum())} samples held out from training, which also chose the best epoch"
    return datasets.Parts(data, test, told)


def _fits(base: Base, data: Dataset) -> bool:
    try:
        base.model.frames(data.x.shape[1:])
    except ValueError:
        return False
    return True


# ---- a run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """What `lesson.json` says."""

    title: str
    port: str
    board: str
    recipe: dict[str, Any]
    tested_on: str
    learned: tuple[str, ...]
    total: int  # updates
    status: Status = "learning"
    error: str = ""
    active: str | None = None  # in the board's store before
    name: str = ""  # under which it was kept
    begun: bool = False  # whether the board has got as far as a checkpoint of this run
    version: int = VERSION


@dataclass(frozen=True)
class Words:
    """A verdict, for people. good: whether the board should use what it learned."""

    good: bool
    title: str
    text: str


class Lesson:
    """One run in its folder. Another thread does it; any thread may read this.

    updates: so far; accuracies: on held-out samples after each epoch that is over, by the twin, which is the board's
    to the byte.
    """

    def __init__(self, folder: Path, head: Head) -> None:
        self.folder, self.head = folder, head
        self.version = 0
        self.doing = ""  # beside learning: what goes on
        self.updates: list[Update] = []
        self.job: Job | None = None
        self._accuracies: list[Measure] = []
        self._pause = threading.Event()
        self._since = (0.0, 0)  # when this session began to learn, and after how many updates

    @classmethod
    def read(cls, folder: Path) -> Lesson:
        """One that was begun before. InputError if its folder can't be used."""
        try:
            said = json.loads((folder / "lesson.json").read_bytes())
            known = {one.name for one in fields(Head)}
            head = Head(**{key: value for key, value in said.items() if key in known})
            head = replace(head, learned=tuple(map(str, head.learned)))
            Recipe(**_recipe_fields(head.recipe))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder / 'lesson.json'} is damaged ({error})", remedy="delete its folder") from None
        if head.status in GOING:
            head = replace(head, status="cut off", error="the studio was closed while the board learned")
        lesson = cls(folder, head)
        if (folder / "metrics.jsonl").exists():
            with_epochs = [one for one in read_metrics(folder / "metrics.jsonl") if one.get("event") == "update"]
            known = {one.name for one in fields(Update) if one.init}
            lesson.updates = [Update(**{k: v for k, v in one.items() if k in known}) for one in with_epochs]
        return lesson

    # --- what it is

    @property
    def number(self) -> str:
        return self.folder.name

    @property
    def status(self) -> Status:
        """Also after its job failed before it began, as the board was not there."""
        if self.head.status in GOING and self.job is not None and self.job.ended:
            return "cut off"
        return self.head.status

    @property
    def error(self) -> str:
        if self.head.error or self.job is None:
            return self.head.error
        return self.job.error

    @property
    def recipe(self) -> Recipe:
        return Recipe(**_recipe_fields(self.head.recipe))

    @property
    def base(self) -> Base:
        base = load_base(self.folder / "base.elm")
        return replace(base, name=str(self.head.recipe["base_name"]))

    @property
    def report(self) -> Report | None:
        path = self.folder / "report.json"
        return read_report(path) if path.exists() else None

    @property
    def page(self) -> Path:
        return self.folder / "report.html"

    # --- how far it is

    @property
    def done(self) -> int:
        """Updates."""
        return self.updates[-1].step if self.updates else 0

    @property
    def epochs(self) -> int:
        return self.recipe.epochs

    @property
    def epoch(self) -> int:
        """The one that it is in, from 1; 0 before the first."""
        return self.updates[-1].epoch if self.updates else 0

    @property
    def accuracies(self) -> list[float]:
        """On held-out samples: of what was there before, then after each epoch that the board has done."""
        if (report := self.report) is not None and report.epoch_accuracies:
            return [report.base_accuracy or 0.0, *report.epoch_accuracies]
        over = self.epoch - 1 + (self.done == self.head.total)
        return [one.rounded for one in self._accuracies[: max(over, 0) + 1]]

    @property
    def joules(self) -> float | None:
        """So far, by the data sheet; None where the board's power is not known."""
        spent = [one.joules for one in self.updates]
        return None if not spent or None in spent else float(sum(one or 0.0 for one in spent))

    @property
    def seconds_left(self) -> float | None:
        """Of learning, as it has gone in this session; None before it can be told."""
        since, first = self._since
        if self.status != "learning" or self.done <= first or not since:
            return None
        return (time.monotonic() - since) / (self.done - first) * (self.head.total - self.done)

    # --- what one does with it

    def pause(self) -> None:
        """Has the board finish its micro-batch and keep what it has. It goes on with `Lessons.resume`."""
        if self.head.status == "learning":
            self._pause.set()
            self._now(status="pausing")

    def words(self) -> Words | None:
        """What became of it; None before its end."""
        report = self.report
        return None if report is None else in_words(report)

    # --- the run, on the board's thread

    def run(self, link: Link, job: Job) -> None:
        """Learns, from where it was; `Suspended` and a lost line leave it to go on."""
        self._pause.clear()
        try:
            self._run(link, job)
        except (Suspended, _Paused):
            self._now(status="paused")
        except (LinkError, LineLost) as error:
            self._now(status="cut off", error=printable(error))
            raise
        except (EdgeloraError, OSError) as error:
            self._now(status="failed", error=printable(error))
            raise

    def _run(self, link: Link, job: Job) -> None:
        base, recipe = self.base, self.recipe
        train, tested = (datasets.load_dataset(self.folder / f"{name}.npz") for name in ("samples", "test"))
        samples, test = base.samples(train), base.samples(tested)
        resume = self._prepared(link, base)
        self._now(status="learning", error="")
        course, previous = training.prepared(samples, recipe), self._previous
        epochs: list[Measure] = []
        again: list[Any] = []
        before = _bare(base, test)
        self._accuracies = [before]

        def judged(measure: Measure) -> None:
            epochs.append(measure)
            self._accuracies = [before, *epochs]
            self.version += 1

        ahead = threading.Thread(
            target=lambda: again.append(training.course_on_twin(base, course, test, previous, judged)), daemon=True
        )
        ahead.start()
        self._since = (0.0, self.done)

        def told(done: int, total: int, what: str) -> None:
            self.doing = what
            job.done, job.total = self.done, self.head.total
            job.tell(what)
            self.version += 1
            if stop() and not recipe.on_board:
                raise _Paused

        def stop() -> bool:
            return self._pause.is_set() or job.cancelled

        with Metrics(self.folder / "metrics.jsonl", fresh=not resume) as metrics:
            if not resume:
                self.updates = []
            run = training.personalize_board(
                link,
                base,
                samples,
                test,
                recipe,
                _Log(self, metrics),
                told,
                resume,
                note=lambda text: job.tell(text),
                stop=stop,
            )
            hello = link.hello()
        if run.activated and not recipe.on_board:
            link.store_put(NAME, run.run.adapter)
            link.store_activate(NAME)
        job.tell("the same on this computer, to compare")
        ahead.join()
        twin_run = training.compared(run, again[0], epochs)
        report = make_report(base, test, run, hello, None, self.head.title, twin_run, self.head.tested_on)
        report.title = self.head.title
        write_atomic(self.folder / "adapter.ela", run.run.adapter)
        write_report(report, self.folder)
        self.doing = ""
        self._now(status="judged", error="")

    def _prepared(self, link: Link, base: Base) -> bool:
        """Whether the board goes on with this run; else all is as it was before it first began."""
        there = link.store_list()
        checkpoint = any(entry.name == f"{NAME}.chk" for entry in there.adapters)
        if not self.recipe.on_board:
            checkpoint = link.size(training.STATE_PATH) is not None
        if self.head.begun and checkpoint and self.done:
            return True
        if self.head.begun:
            self._restore(link)
        elif any(entry.name == NAME and entry.base_id != base.base_id for entry in there.adapters):
            _set_aside(link)
        if not self.recipe.on_board and link.size(training.STATE_PATH) is not None:
            link.remove(training.STATE_PATH)  # of an earlier run
        previous = training.stored_adapter(link, base, NAME)
        write_atomic(self.folder / "previous.ela", previous or b"")
        self._now(begun=True, active=link.store_list().active)
        return False

    @property
    def _previous(self) -> bytes | None:
        path = self.folder / "previous.ela"
        return (path.read_bytes() or None) if path.exists() else None

    def _restore(self, link: Link) -> None:
        """The board's store has what it had before."""
        previous, there = self._previous, {entry.name for entry in link.store_list().adapters}
        if previous:
            link.store_put(NAME, previous)
        elif NAME in there:
            if link.store_list().active == NAME:
                link.store_activate(None)
            link.store_remove(NAME)
        if f"{NAME}.new" in there:
            link.store_remove(f"{NAME}.new")
        if self.head.active in {entry.name for entry in link.store_list().adapters}:
            project = self.folder.parents[1]
            there_too = [*sorted((project / "bases").glob("*.elm")), *sorted(PACKAGED.glob("*.elm"))]
            training.activate_stored(link, map(load_base, there_too), self.head.active)

    def keep(self, link: Link, name: str) -> None:
        """The board uses it from now on, after a reset too, by this name in its store."""
        adapter = (self.folder / "adapter.ela").read_bytes()
        if name != NAME:
            self._restore(link)
        link.store_put(store_name(name), adapter)
        training.activate_stored(link, [self.base], name)
        self._now(status="kept", name=name)

    def discard(self, link: Link) -> None:
        """The board is as it was before the run; what was learned stays in the run's folder."""
        self._restore(link)
        self._now(status="discarded")

    def give_up(self) -> None:
        """It will not go on: another run has the board."""
        self._now(status="given up")

    def _now(self, **changes: Any) -> None:
        self.head = replace(self.head, **changes)
        write_atomic(self.folder / "lesson.json", json.dumps(asdict(self.head), indent=1).encode())
        self.version += 1


class _Paused(Exception):
    """Somebody pauses a run that this computer leads: the board has the state of the last epoch."""


class _Log:
    """Every update to the lesson and its file."""

    def __init__(self, lesson: Lesson, metrics: Metrics) -> None:
        self._lesson, self._metrics = lesson, metrics

    def update(
        self,
        step: int,
        epoch: int,
        loss: float,
        learning_rate: int,
        samples: int,
        us: float | None,
        joules: float | None = None,
    ) -> None:
        lesson = self._lesson
        if not lesson._since[0]:
            lesson._since = (time.monotonic(), step)
        self._metrics.update(step, epoch, loss, learning_rate, samples, us, joules)
        kept = [one for one in lesson.updates[-64:] if one.step < step]  # a resumed run repeats a few
        lesson.updates[-64:] = [*kept, Update(step, epoch, loss, learning_rate, samples, us, joules)]


def _bare(base: Base, test: training.Samples) -> Measure:
    """How right the base is by itself."""
    session = twin.Session(base.elm, bytes(len(base.model.ops)), "infer", frames=test.frames)
    return training.measured(base, training.answers(base, session, test), test)


def _set_aside(link: Link) -> None:
    """What the store has under the name of runs is for another base: it gets a name of its own."""
    entries = {entry.name: entry for entry in link.store_list().adapters}
    name = f"{NAME}-{entries[NAME].base_id[:8]}"
    if name in entries:
        link.store_remove(name)
    link.store_rename(NAME, name)


def _recipe_fields(said: dict[str, Any]) -> dict[str, Any]:
    known = {one.name for one in fields(Recipe)}
    given = {key: value for key, value in said.items() if key in known}
    if given.get("given_ranks") is not None:
        given["given_ranks"] = tuple(given["given_ranks"])
    return given


def in_words(report: Report) -> Words:
    """What the guard says of a run."""
    judged, count = report.judged, report.held_out
    measure = report.measure
    before, after = measure.shown(measure.before), measure.shown(measure.after)
    told = f"Named right of the {report.test_samples} samples it did not learn from: {before} before, {after} now."
    good = bool(report.activated)
    title, text = {
        training.Verdict.BETTER: ("Better than before", f"{told} {count} samples held out of training judged it."),
        training.Verdict.CAUTIOUS: (
            "It looks better, but few samples judged it",
            f"{told} Too few samples were there to hold some out, so the board took shorter steps. Record more.",
        ),
        training.Verdict.WORSE: ("Worse than before", f"{told} What was in use before stays in use."),
        training.Verdict.UNTOLD: (
            "It can't be judged",
            "All samples are of one class, so nobody knows what it did to the others. Record another class.",
        ),
    }.get(
        training.Verdict(judged) if judged in list(training.Verdict) else training.Verdict.NOT_BETTER,
        (
            "No better than before",
            f"{told} By the {count} samples held out of training it is no better than what was in use, which stays. "
            "Record more samples, of the classes that are mixed up above all.",
        ),
    )
    return Words(good, title, text)


# ---- all of a project's ----------------------------------------------------------------------------------------------


@dataclass
class Lessons:
    """Bases and runs of a project. `desk.of(Lessons)` is the one of a desk."""

    desk: Desk
    runs: list[Lesson] = field(default_factory=list)  # the latest first
    version: int = 0

    def __post_init__(self) -> None:
        self.folder = self.desk.folder / "reports"
        self._bases: dict[Path, tuple[float, Base]] = {}
        for path in sorted(self.folder.glob("*/lesson.json"), reverse=True):
            try:
                self.runs.append(Lesson.read(path.parent))
            except (EdgeloraError, OSError):
                continue  # the reports view tells of a folder that can't be read

    # --- bases

    def bases(self) -> dict[str, Base]:
        """By name: those of the project, then those that come with the studio."""
        found: dict[str, Base] = {}
        for path in [*sorted((self.desk.folder / "bases").glob("*.elm")), *sorted(PACKAGED.glob("*.elm"))]:
            if path.name in found:
                continue
            changed = path.stat().st_mtime
            if self._bases.get(path, (0.0,))[0] != changed:
                try:
                    self._bases[path] = (changed, load_base(path))
                except (EdgeloraError, OSError):
                    continue
            found[path.name] = self._bases[path][1]
        return found

    def usual_base(self, data: Dataset | None) -> str | None:
        """The one that most likely fits: for these samples, of the person's own names, newest first."""
        bases = self.bases()
        fitting = [name for name, base in bases.items() if data is None or _fits(base, data)]
        own = [name for name in fitting if name.startswith(OWN)]
        return next(iter([*reversed(own), *fitting, *bases]), None)

    def put_base(self, base: Base) -> Base:
        """Puts a base into the project, under a name that no other one there has."""
        folder, stem = self.desk.folder / "bases", base.name.removesuffix(".elm")
        for number in range(1, 1000):
            name = f"{stem}.elm" if number == 1 else f"{stem}-{number}.elm"
            path = folder / name
            if not path.exists():
                write_atomic(path, base.elm)
                return replace(base, name=name)
            if path.read_bytes() == base.elm:
                return replace(base, name=name)
        raise InputError(f"{folder} has a thousand bases of this name", remedy="delete some")

    # --- reports

    def folders(self) -> dict[str, Path]:
        """By name, latest first: folders of runs that are over."""
        found = sorted(self.folder.glob("*/report.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        return {printable(path.parent.name): path.parent for path in found}

    def reports(self) -> dict[str, Report | EdgeloraError]:
        """By name, latest first: what runs left, or why it can't be read."""
        return {name: _report(folder) for name, folder in self.folders().items()}

    # --- runs

    def of(self, place: Place) -> Lesson | None:
        """The latest run of a board."""
        return next((one for one in self.runs if one.head.port == place.device.port), None)

    def start(self, place: Place, prospect: Prospect, data: Dataset, recipe: Recipe) -> Lesson:
        """Begins a run on a board. InputError where it can't be."""
        if prospect.problem:
            raise InputError(prospect.problem, remedy=prospect.remedy)
        there = self.of(place)
        if there and there.status in GOING:
            raise InputError("the board is learning", remedy="pause or await it")
        base = self.put_base(prospect.base) if prospect.renamed else prospect.base
        title = ", ".join(prospect.learned)
        parts = parted(only(data, prospect.learned), "the project")
        course = training.prepared(base.samples(parts.train), recipe)
        folder = self._fresh()
        datasets.save_dataset(parts.train, folder / "samples.npz")
        datasets.save_dataset(parts.test, folder / "test.npz")
        write_atomic(folder / "base.elm", base.elm)
        said = asdict(replace(recipe, epochs=course.recipe.epochs)) | {"base_name": base.name}
        total = len(training.schedule(course.samples, course.recipe))
        board = place.state.board or place.state.machine
        head = Head(title, place.device.port, board, said, parts.tested_on, prospect.learned, total)
        lesson = Lesson(folder, head)
        lesson._now()
        for other in self.runs:
            if other.head.port == place.device.port and other.status in UNFINISHED:
                other.give_up()
        self.runs.insert(0, lesson)
        self._submit(place, lesson)
        return lesson

    def resume(self, place: Place, lesson: Lesson) -> None:
        """A run goes on that was paused or cut off."""
        if lesson.status not in ("paused", "cut off", "failed"):
            raise InputError(f"the run is {lesson.status}", remedy="start another one")
        self._submit(place, lesson)

    def _submit(self, place: Place, lesson: Lesson) -> None:
        lesson._now(status="learning", error="")
        lesson.job = place.submit("learn", lesson.run)
        self.version += 1

    def keep(self, place: Place, lesson: Lesson, name: str = NAME) -> Job:
        """The board uses what was learned, whatever the guard says."""
        store_name(name)
        return place.submit("keep", lambda link, job: lesson.keep(link, name))

    def discard(self, place: Place, lesson: Lesson) -> Job:
        """The board goes back to what it had before."""
        return place.submit("discard", lambda link, job: lesson.discard(link))

    def add_classes(self, place: Place, base: Base, data: Dataset, name: str, force: bool = False) -> Job:
        """Adds all classes of the data to the adapter of that name: the job's result is `Added`."""

        def work(link: Link, job: Job) -> Added:
            made, used = training.add_stored_classes(link, base, data, name, job.progress, force)
            return Added(name, made, used)

        return place.submit("add a class", work)

    def consolidate(self, place: Place, base: Base, data: Dataset, name: str) -> Job:
        """Learns anew from all samples, added classes too; the job's result is `Consolidated`."""

        def work(link: Link, job: Job) -> Consolidated:
            return consolidated(link, base, data, name, job)

        return place.submit("consolidate", work)

    def _fresh(self) -> Path:
        taken = [int(path.name) for path in self.folder.iterdir() if path.name.isdigit()]
        folder = self.folder / f"{max(taken, default=0) + 1:03d}"
        folder.mkdir()
        return folder


def _report(folder: Path) -> Report | EdgeloraError:
    try:
        return read_report(folder / "report.json")
    except EdgeloraError as error:
        return error


@dataclass(frozen=True)
class Added:
    """Classes that were added to an adapter. used: it is active since."""

    name: str
    made: AddedClasses
    used: bool


@dataclass(frozen=True)
class Consolidated:
    """What learning anew came to: samples that judge, how many were named right before and would be now."""

    judged_by: int
    before: int
    after: int
    better: bool


def consolidated(link: Link, base: Base, data: Dataset, name: str, job: Job) -> Consolidated:
    """The twin of `edgelora.learner` consolidates as a board does, to the byte; the board gets what is better."""
    before = training.stored_adapter(link, base, name)
    adapter = formats.unpack_adapter(before, base.model) if before else None
    if before is None or adapter is None or not adapter.layers:
        raise InputError("the board has not learned this base yet", remedy="let it learn first")
    job.tell("learning anew from all samples")
    numbers = {label: number for number, label in enumerate(base.model.labels)}
    numbers |= {row.name: row.number for row in adapter.classes if row.name}
    known = only(data, [label for label in data.labels if label in numbers])
    x = base.model.input.quantize(known.x)
    y = [numbers[known.labels[label]] for label in known.y]
    slots = max(40, 2 * len(y))
    reservoir = training.Reservoir(base.model.input.shape, slots, max(numbers.values()) + 1)
    for i in _in_turn(np.array(y)):
        reservoir.add(x[i], y[i])
    mode = "trainable_a" if adapter.trainable_a else "frozen_a"
    recipe = Recipe(mode=mode, given_ranks=tuple(adapter.ranks(len(base.model.ops))))
    learner = training.Lifelong(base.elm, recipe, reservoir)
    learner.in_use = before
    learner.restart()
    outcome = learner.consolidate()
    held = reservoir.parts()[1]
    if outcome.better and learner.in_use:
        link.store_put(name, learner.in_use)
        link.store_activate(name)
    return Consolidated(0 if held is None else len(held), outcome.before.right, outcome.kept.right, outcome.better)


def _in_turn(y: np.ndarray) -> list[int]:
    """Samples, by number, one of each class after the other."""
    turn = np.zeros(len(y), np.int64)
    for one in np.unique(y):
        turn[y == one] = np.arange((y == one).sum())
    return [int(i) for i in np.lexsort((y, turn))]


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
    samples = prospect.base.samples(only(data, prospect.learned))
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
