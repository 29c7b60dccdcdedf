"""Trimming of recordings. No pages in here."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from edgelora.base.errors import InputError
from edgelora.model.datasets.recordings import save_capture

from .file_import import read_capture
from .project import Project
from .project_files import keep_capture

FOLDER = "recordings"
USUAL_RATE = 50.0  # of files without a rate, as a virtual board's sensor reads them
WRITTEN = {".csv", ".wav", ".npz", ".json", ".cbor"}


def seconds_of(project: Project, name: str) -> float:
    """The duration of a recording of the project. InputError if it is not a recording."""
    capture = read_capture(_path(project, name))
    return len(capture.values) / (capture.rate or USUAL_RATE)


def trim(project: Project, name: str, start: float, end: float) -> str:
    """Saves the part between two times, in seconds, in a new file; returns its name.

    InputError for an empty part, or one outside of the recording.
    """
    path = _path(project, name)
    capture = read_capture(path)
    rate = capture.rate or USUAL_RATE
    first, last = round(start * rate), round(end * rate)
    if not 0 <= first < last <= len(capture.values):
        raise InputError(
            f"{start:g} to {end:g} s: the recording has {len(capture.values) / rate:g} s",
            remedy="choose a part of it",
        )
    part = f"{start:g}-{end:g} s".replace(".", "_")  # a dot ends the class name
    kept = path.with_name(f"{path.stem[:50]} {part}{path.suffix}")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / kept.name
        save_capture(replace(capture, values=capture.values[first:last]), made)
        return keep_capture(kept, made.read_bytes()).name


def _path(project: Project, name: str) -> Path:
    folder = project.folder / FOLDER
    if name not in {path.name for path in folder.glob("*") if path.suffix.lower() in WRITTEN}:
        raise InputError("no recording is selected", remedy="select one")
    return folder / name
