"""Export and import of a project as one file, and a sample project. No pages in here.

A bundle is a .zip of a project's samples, bases, adapters, recordings and actions, without keys, boards and reports. An
imported one is untrusted: only names that the studio itself would write are accepted, sizes are counted while
unpacking, whatever the directory says, and everything is checked before anything is written.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable

import numpy as np

from edgelora.base import resources
from edgelora.base.errors import EdgeloraError, InputError
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.files import write_atomic
from edgelora.core.twin.binding import check_model
from edgelora.model.datasets.har import har_takes

from .actions import FILE as ACTIONS
from .actions import Acts
from .job import Job
from .project import Project
from .runs import ProjectRuns
from .samples import CLASSES_FILE, ProjectSamples, checked_label

MOST_FILES = 20_000
MOST_BYTES = 256 << 20  # in all, unpacked
MOST_OF_ONE = 32 << 20
TIME = (2000, 1, 1, 0, 0, 0)  # of all entries: equal projects give equal files
NAME = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,60}"
SAMPLE = re.compile(r"samples/([^/]{1,80})\.([0-9]{1,20})\.npz")
CLASSES = f"samples/{CLASSES_FILE}"
REMEDY = "give a file exported by the studio"


def _sample(name: str, content: bytes) -> None:
    found = SAMPLE.fullmatch(name)
    assert found
    if checked_label(found[1]) != found[1]:
        raise InputError(f"{found[1]!r} is not a class name")
    if content[:2] != b"PK":  # its content is checked whenever it is read
        raise InputError(f"{name}: is not a sample", remedy=REMEDY)


def _base(name: str, content: bytes) -> None:
    unpack_model(content, name)
    check_model(content)


def _adapter(name: str, content: bytes) -> None:
    unpack_adapter(content, name=name)


def _classes(name: str, content: bytes) -> None:
    for label in json.loads(content):
        checked_label(str(label))


def _json(name: str, content: bytes) -> None:
    json.loads(content)


def _any(name: str, content: bytes) -> None:
    """Accepts any content: it is validated on use."""


KINDS: tuple[tuple[re.Pattern[str], Callable[[str, bytes], None]], ...] = (
    (SAMPLE, _sample),
    (re.compile(re.escape(CLASSES)), _classes),
    (re.compile(re.escape(ACTIONS)), _json),
    (re.compile(rf"bases/{NAME}\.elm"), _base),
    (re.compile(rf"adapters/{NAME}\.ela"), _adapter),
    (re.compile(r"recordings/[\w-][\w. -]{0,80}\.(csv|wav|npz|json|cbor)", re.IGNORECASE), _any),
)


def _kind(name: str) -> Callable[[str, bytes], None] | None:
    return next((check for pattern, check in KINDS if pattern.fullmatch(name)), None)


def export(project: Project) -> bytes:
    """A project's bundle. InputError if the project is too large."""
    made, total = io.BytesIO(), 0
    paths = sorted(path for path in project.folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in paths:
            name = path.relative_to(project.folder).as_posix()
            if _kind(name) is None:
                continue
            content = path.read_bytes()
            total += len(content)
            if total > MOST_BYTES or len(content) > MOST_OF_ONE:
                raise InputError(f"the project has more than {MOST_BYTES >> 20} MB", remedy=f"move {name} away")
            bundle.writestr(zipfile.ZipInfo(name, TIME), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    """A bundle's checked content. InputError for anything that the studio would not write."""
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as bundle:
            entries = bundle.infolist()
            if len(entries) > MOST_FILES:
                raise InputError(f"it has {len(entries)} files, the limit is {MOST_FILES}", remedy=REMEDY)
            left = MOST_BYTES
            for entry in entries:
                check = _kind(entry.filename)
                if check is None or entry.filename in files or entry.flag_bits & 1:
                    raise InputError(f"it has {entry.filename[:80]!r}, which is not a project file", remedy=REMEDY)
                with bundle.open(entry) as file:
                    data = file.read(min(left, MOST_OF_ONE) + 1)
                if len(data) > min(left, MOST_OF_ONE):
                    raise InputError(f"{entry.filename}: is too large", remedy=REMEDY)
                left -= len(data)
                check(entry.filename, data)
                files[entry.filename] = data
    except EdgeloraError:
        raise
    except Exception as error:  # hostile bytes can raise any error of zipfile, zlib and JSON
        raise InputError(f"it is not a project file: {error or type(error).__name__}", remedy=REMEDY) from None
    if not files:
        raise InputError("it is empty", remedy=REMEDY)
    return files


def take_in(project: Project, content: bytes) -> int:
    """Adds a bundle's files to the project; returns how many are new.

    InputError, with nothing changed, for an invalid bundle, or one that has a different file of an existing name.
    """
    files = unpacked(content)
    named = [str(label) for label in json.loads(files.pop(CLASSES, b"[]"))]
    if (project.folder / ACTIONS).exists():
        files.pop(ACTIONS, None)  # the project's own choices stay
    new = {}
    for name, data in files.items():
        path = project.folder / name
        if not path.exists():
            new[path] = data
        elif path.read_bytes() != data:
            raise InputError(f"the project has another {name}", remedy="use a new one: `edgelora studio NEW`")
    for path, data in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    project_samples = project.of(ProjectSamples)
    project_samples.adopt(named)
    if (project.folder / ACTIONS) in new:
        project.of(Acts).read()
    return len(new)


# --- a sample project

PERSON = 3  # not among the included base's training data
GESTURES = {
    "swing": 0,
    "lift": 1,
    "raise": 2,
    "row": 6,
}  # exercises, under names that the base does not have
SAMPLES = 12


def put_samples(project: Project) -> int:
    """Fills an empty project with a person's real movements, and recordings for a virtual board to play.

    Returns the number of samples. InputError if the project has samples; `MissingPackage` without the recordings.
    """
    project_samples, base = project.of(ProjectSamples), project.of(ProjectRuns).bases()["motion.elm"]
    if len(project_samples):
        raise InputError("the project has samples of its own", remedy="open a new one: `edgelora studio NEW`")
    assert base.model.signal
    train, later = har_takes(PERSON, "train"), har_takes(PERSON, "test")
    windows = []
    for label, number in GESTURES.items():
        mine = [counts for counts, of in train if of == number]
        picked = np.linspace(0, len(mine) - 1, min(SAMPLES, len(mine))).astype(int)
        windows += [(label, mine[i]) for i in picked]
        units = np.concatenate([counts for counts, of in later if of == number]) * np.array(base.model.signal.scales)
        text = io.StringIO()
        np.savetxt(text, units, "%.5f", ",")
        write_atomic(project.folder / "recordings" / f"{label}.csv", text.getvalue().encode())
    still = "0.10000,0.20000,0.97000,0.00000,0.00000,0.00000\n" * base.model.signal.window
    write_atomic(project.folder / "recordings" / "lying still.csv", still.encode())
    return len(project_samples.take_all(windows, base.model.signal, base.model.input.shape))


def sample_project(project: Project) -> Job:
    """The same, and starts a virtual board if there is none. The job's result is the number of samples."""

    def work(job: Job) -> int:
        job.tell("adding a person's movements to the project")
        count = put_samples(project)
        if not project.sessions and project.virtual_kinds:
            kinds = project.virtual_kinds
            can_build = "virtual-pico" in kinds and not resources.installed()
            project.start_virtual("virtual-pico" if can_build else "unix")
        return count

    return project.submit("make a sample project", work)
