"""Words that a keyboard suggests, before and after it learned somebody's text. No pages in here.

words/BASE.elm   the language model
words/mine.ela   what was learned; the text itself is never written
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.workers import apart
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.files import write_atomic
from edgelora.learn.training.data.base import Base, load_adapter, load_base
from edgelora.learn.training.words import MOST, TwinWords
from edgelora.model.datasets.text import WINDOW, plain_text

from .file_import import file_name
from .job import Job
from .project import Project

LEAST_WINDOWS = 40  # of a text: fewer have no windows to validate with
MOST_TEXT = 200_000  # characters
SHOWN = 3  # next characters


@dataclass(frozen=True)
class Suggestion:
    """After a text: the likely rest of the word, and next characters with their probabilities, 0 to 1."""

    rest: str
    characters: list[tuple[str, float]]


@dataclass(frozen=True)
class Learned:
    """What a text taught: windows learned, and adapters that were better on windows held out."""

    windows: int
    kept: int
    undone: int


class ProjectWords:
    """The keyboard of a project. Get it by `project.of(ProjectWords)`. `version` changes with it.

    job: of the text learned last; None if what it taught was removed. fault: why the project's model can't be read.
    """

    def __init__(self, project: Project) -> None:
        self._project, self.folder = project, project.folder / "words"
        self._mine = self.folder / "mine.ela"
        self.version = 0
        self.job: Job | None = None
        self.fault: EdgeloraError | None = None
        self._base: Base | None = None
        self._readers: tuple[int, list[TwinWords]] = (-1, [])  # of this version
        self._lock = threading.RLock()

    @property
    def base(self) -> Base | None:
        """The language model; None until one was given that can be read."""
        path = next(iter(sorted(self.folder.glob("*.elm"))), None)
        if self._base is None and path and not self.fault:
            try:
                self._base = load_base(path)
            except EdgeloraError as error:
                self.fault = error
        return self._base

    @property
    def least_text(self) -> int:
        """Characters of the shortest text that can be learned."""
        base = self.base
        return LEAST_WINDOWS * (math.prod(base.model.input.shape) if base else WINDOW)

    @property
    def learning(self) -> bool:
        return self.job is not None and not self.job.ended

    @property
    def has_adapter(self) -> bool:
        """Whether something was learned, even if its file is damaged."""
        return self._mine.exists()

    @property
    def adapter(self) -> bytes | None:
        """What was learned; None: nothing. InputError if its file is damaged."""
        base = self.base
        if base is None or not self.has_adapter:
            return None
        try:
            return load_adapter(self._mine, base)
        except EdgeloraError as error:
            raise InputError(f"what was learned can't be read: {error}", remedy="forget it, and learn again") from error

    def give(self, name: str, content: bytes) -> None:
        """Takes a language model of characters (.elm). InputError for other files, and while a text is learned.

        What was learned by another model is removed.
        """
        self._not_learning()
        model = apart(unpack_model, content, name)
        base = Base(file_name(name), content, model)
        try:
            TwinWords(base, "nobody")
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error
        with self._lock:
            self._not_learning()
            write_atomic(self.folder / base.name, content)
            for path in self.folder.glob("*.elm"):
                if path.name != base.name:
                    path.unlink()
            self._base, self.fault = base, None
            try:
                learned = self.adapter
            except EdgeloraError:  # of another model, or damaged
                learned = None
            if learned is None:
                self.forget()
            self.version += 1

    def forget(self) -> None:
        """Removes what was learned. InputError while a text is learned."""
        with self._lock:
            self._not_learning()
            self._mine.unlink(missing_ok=True)
            self.job = None
            self.version += 1

    def _not_learning(self) -> None:
        if self.learning:
            raise InputError("a text is being learned: wait for it, or stop it")

    def suggest(self, typed: str) -> tuple[Suggestion, Suggestion | None]:
        """After a text, by the base alone, and with what was learned; None before anything was."""
        version, readers = self._readers
        if version != self.version:
            version, base = self.version, self._given()
            adapter = self.adapter
            readers = [TwinWords(base, "nobody")] + ([TwinWords(base, "mine", adapter)] if adapter else [])
            self._readers = version, readers
        found = [_after(reader, typed) for reader in readers]
        return found[0], found[1] if len(found) > 1 else None

    def _given(self) -> Base:
        if self.base is None:
            raise InputError("no language model yet: give its .elm first")
        return self.base

    def learn(self, text: str) -> Job:
        """Types a text on the host twin, which learns it as a board does. The job's result is `Learned`.

        Typographic characters are replaced by the base's, others are left out.
        """
        base = self._given()
        with self._lock:
            self._not_learning()
            twin = TwinWords(base, "mine", self.adapter)
            typed = "".join(one for one in plain_text(text) if one in twin.own.symbols)
            if not self.least_text <= len(typed) <= MOST_TEXT:
                known = "" if len(typed) == len(text) else f", of which the base knows {len(typed):,}"
                raise InputError(f"{len(text):,} characters{known}: give {self.least_text:,} to {MOST_TEXT:,}")
            self.job = self._project.submit("learn words", functools.partial(self._learn, twin, typed))
            self.version += 1
        return self.job

    def _learn(self, twin: TwinWords, typed: str, job: Job) -> Learned:
        twin.learn(typed, job.progress)
        if twin.adapter and twin.own.kept:
            write_atomic(self._mine, twin.adapter)
        self.version += 1
        return Learned(twin.own.learned, twin.own.kept, twin.own.undone)


def _after(reader: TwinWords, typed: str) -> Suggestion:
    own = reader.own
    own.use(own.name)
    own.type(typed[-own.length :])
    characters = [(character, probability / 32768) for character, probability in own.suggest(SHOWN)]
    return Suggestion(own.complete(MOST), characters)
