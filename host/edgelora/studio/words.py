"""Words that a keyboard suggests, before and after it learned somebody's text. No pages in here.

words/BASE.elm   the language model
words/mine.ela   what was learned; the text itself is never written
"""

from __future__ import annotations

from dataclasses import dataclass

from edgelora.base.errors import InputError
from edgelora.base.workers import apart
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.files import write_atomic
from edgelora.learn.training.base import Base, load_base
from edgelora.learn.training.words import MOST, TwinWords

from .file_import import file_name
from .job import Job
from .project import Project

LEAST_TEXT = 64 * 40  # characters: fewer have no windows to validate with
MOST_TEXT = 200_000
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
    """The keyboard of a project. Get it by `project.of(ProjectWords)`. `version` changes with it."""

    def __init__(self, project: Project) -> None:
        self._project, self.folder = project, project.folder / "words"
        self.version = 0
        self.job: Job | None = None
        self._base: Base | None = None
        self._readers: list[TwinWords] = []

    @property
    def base(self) -> Base | None:
        """The language model; None until it was given."""
        path = next(iter(sorted(self.folder.glob("*.elm"))), None)
        if self._base is None and path:
            self._base = load_base(path)
        return self._base

    @property
    def adapter(self) -> bytes | None:
        path = self.folder / "mine.ela"
        return path.read_bytes() if path.exists() else None

    def give(self, name: str, content: bytes) -> None:
        """Takes a language model of characters (.elm) in place of another. InputError for other files."""
        model = apart(unpack_model, content, name)
        base = Base(file_name(name), content, model)
        try:
            TwinWords(base, "nobody")
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error
        self.forget()
        for path in self.folder.glob("*.elm"):
            path.unlink()
        write_atomic(self.folder / base.name, content)
        self._base, self._readers = base, []
        self.version += 1

    def forget(self) -> None:
        """Removes what was learned."""
        (self.folder / "mine.ela").unlink(missing_ok=True)
        self._readers = []
        self.version += 1

    def suggest(self, typed: str) -> tuple[Suggestion, Suggestion | None]:
        """After a text, by the base alone, and with what was learned; None before anything was."""
        base, adapter = self.base, self.adapter
        if base is None:
            raise InputError("no language model yet: give its .elm first")
        if not self._readers:
            self._readers = [TwinWords(base, "nobody")] + ([TwinWords(base, "mine", adapter)] if adapter else [])
        found = [_after(reader, typed) for reader in self._readers]
        return found[0], found[1] if adapter else None

    def learn(self, text: str) -> Job:
        """Types a text on the host twin, which learns it as a board does. The job's result is `Learned`."""
        base = self.base
        if base is None:
            raise InputError("no language model yet: give its .elm first")
        if not LEAST_TEXT <= len(text) <= MOST_TEXT:
            raise InputError(f"{len(text):,} characters: give {LEAST_TEXT:,} to {MOST_TEXT:,}")
        if self.job and not self.job.ended:
            raise InputError("it is learning already: wait for it, or stop it")
        twin = TwinWords(base, "mine", self.adapter)

        def work(job: Job) -> Learned:
            twin.learn(text, job.progress)
            if twin.adapter:
                write_atomic(self.folder / "mine.ela", twin.adapter)
            self._readers = []
            self.version += 1
            return Learned(twin.own.learned, twin.own.kept, twin.own.undone)

        self.job = self._project.submit("learn words", work)
        self.version += 1
        return self.job


def _after(reader: TwinWords, typed: str) -> Suggestion:
    own = reader.own
    own.use(own.name)
    own.type(typed[-own.length :])
    characters = [(character, probability / 32768) for character, probability in own.suggest(SHOWN)]
    return Suggestion(own.complete(MOST), characters)
