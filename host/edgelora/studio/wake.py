"""A wake word that learns its owner: the project's word, recordings and result. No pages in here.

wake/WORD.json, WORD.tflite   the word as it was given
wake/said/, misses/, talk/    the owner's recordings, .wav
wake/mine/                    what was learned: WORD.ela, WORD.tflite, WORD.json
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.workers import apart
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.wake_manifest import WakeManifest, load_manifest, model_beside
from edgelora.learn.streaming.decisions import signal_of
from edgelora.learn.wake.learning import LEAST, RECIPE, Learned, learn
from edgelora.learn.wake.recordings import KINDS, Recordings
from edgelora.learn.wake.replay import shipped
from edgelora.learn.wake.teaching import Owner, Recorded
from edgelora.learn.wake.word import WakeWord, imported
from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.merge import find_source, merge_tflite

from .file_import import file_name, read_tape, told_of
from .job import Job
from .project import Project

MOST_RECORDINGS = 200  # of a kind
MOST_SECONDS = {"said": 10, "misses": 10, "talk": 600}


class ProjectWake:
    """The wake word of a project. Get it by `project.of(ProjectWake)`. `version` changes with it."""

    def __init__(self, project: Project) -> None:
        self._project, self.folder = project, project.folder / "wake"
        self._recordings = Recordings(self.folder)
        self.version = 0
        self.job: Job | None = None
        self._word: tuple[WakeManifest, WakeWord] | None = None

    # --- the word

    @property
    def word(self) -> tuple[WakeManifest, WakeWord] | None:
        """The manifest and the imported word; None until both files are here."""
        there = self._manifest()
        if self._word is None and there:
            manifest = load_manifest(there)
            network = model_beside(there, manifest)
            self._word = (manifest, imported(network.read_bytes(), manifest)) if network.exists() else None
        return self._word

    def give(self, name: str, content: bytes) -> str:
        """Takes a manifest (.json) or its network (.tflite); returns what is still missing, "" if nothing.

        InputError for a file that is neither, or for a pair that is no wake word: what was there before stays.
        """
        path, there = self.folder / file_name(name), self._manifest()
        manifest: WakeManifest | None
        if path.suffix == ".json":
            manifest = _manifest_of(path.name, content)
            network = model_beside(path, manifest)
            data = network.read_bytes() if network.exists() else None
        else:
            apart(import_tflite, content)  # may be anything, so in a process of its own
            manifest = load_manifest(there) if there else None
            data = content if there and manifest and model_beside(there, manifest) == path else None
        word = imported(data, manifest) if data and manifest else None
        write_atomic(path, content)
        if path.suffix == ".json" and there and there != path:
            there.unlink()
        if word or path.suffix == ".json":
            self._word = (manifest, word) if manifest and word else None
        self._changed()
        if manifest is None:
            return "now give its manifest, the .json beside it"
        return "" if self.word else f"now give its network, {manifest.model}"

    def _manifest(self) -> Path | None:
        return next(iter(sorted(self.folder.glob("*.json"))), None)

    # --- recordings

    def recordings(self, kind: str) -> list[Path]:
        """Of one of `KINDS`, in the order in which they came."""
        return self._recordings.of(kind)

    def add(self, kind: str, name: str, content: bytes) -> None:
        """Adds a recording (.wav, 16 kHz, 16 bits). InputError for another file, or one that is too long."""
        found = self.word
        if found is None:
            raise InputError("no wake word yet: give its .json and .tflite first")
        if len(self.recordings(kind)) >= MOST_RECORDINGS:
            raise InputError(f"{MOST_RECORDINGS} recordings of {KINDS[kind]} are here: remove some first")
        path = self._recordings.next(kind, f"-{file_name(name)}")
        write_atomic(path, content)
        try:
            signal = signal_of(found[1].base)
            seconds = len(read_tape(path, signal)) / signal.rate
            if not 0.3 <= seconds <= MOST_SECONDS[kind]:
                raise InputError(f"{name}: lasts {seconds:.1f} s, {KINDS[kind]} can have 0.3 to {MOST_SECONDS[kind]} s")
        except EdgeloraError:
            path.unlink()
            raise
        self._changed()

    def remove(self, path: Path) -> None:
        if path in self.recordings(path.parent.name):
            path.unlink()
            self._changed()

    @property
    def missing(self) -> str:
        """What learning still needs, in words; "" if nothing."""
        if self.word is None:
            return "Give the wake word first."
        left = LEAST - len(self.recordings("said"))
        return f"Record the word {left} more times; 10 in all are better." if left > 0 else ""

    # --- learning

    def learn(self) -> Job:
        """Learns and judges. The job's result is `Learned`; its files are in `mine` if it is better than the base."""
        found = self.word
        if found is None or self.missing:
            raise InputError(self.missing)
        if self.job and not self.job.ended:
            raise InputError("it is learning already: wait for it, or stop it")
        manifest, word = found

        def work(job: Job) -> Learned:
            owner = Owner(*(self._recorded(kind, word) for kind in KINDS))
            learned = learn(word, owner, shipped(Path(manifest.model).stem), (), RECIPE, job.progress)
            if learned.judgement.better:
                job.tell("merging")
                self._write(manifest, word, learned)
            return learned

        self.job = self._project.submit(f"learn {manifest.wake_word}", work)
        self._changed()
        return self.job

    @property
    def results(self) -> list[Path]:
        """The files of the last adapter that was better than the base."""
        return sorted((self.folder / "mine").glob("*.*"))

    def _recorded(self, kind: str, word: WakeWord) -> list[Recorded]:
        signal = signal_of(word.base)
        return [
            Recorded(path.name, np.ascontiguousarray(read_tape(path, signal)[:, 0])) for path in self.recordings(kind)
        ]

    def _write(self, manifest: WakeManifest, word: WakeWord, learned: Learned) -> None:
        network = self.folder / manifest.model
        base_id = bytes.fromhex(word.base.base_id)
        source = find_source(network.read_bytes(), base_id, network.name, word.base.elm, None, manifest.labels)
        made = self.folder / "mine" / network.name
        rule = learned.word.rule
        write_atomic(made.with_suffix(".ela"), learned.adapter)
        write_atomic(made, merge_tflite(source, learned.adapter).file(made.name))
        replace(manifest.with_rule(rule.cutoff, rule.window), model=made.name).save(made.with_suffix(".json"))

    def _changed(self) -> None:
        self.version += 1


def _manifest_of(name: str, content: bytes) -> WakeManifest:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return told_of(path, lambda: load_manifest(path))
