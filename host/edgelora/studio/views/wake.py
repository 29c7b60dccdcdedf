"""The view Wake word: its files, the owner's recordings, and learning."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from nicegui import ui

from edgelora.learn.wake.guard import StreamScore
from edgelora.learn.wake.learning import Learned
from edgelora.learn.wake.recordings import KINDS
from edgelora.studio.project import Project
from edgelora.studio.wake import MOST_SECONDS, ProjectWake

from . import widgets
from .charts import table

TITLES = {"said": "The word", "misses": "Close phrases", "talk": "Other speech"}
ADVICE = {
    "said": "Say it ten times, each in a recording of its own, as you would at home.",
    "misses": "A few phrases that sound like it and must not wake: one in each recording.",
    "talk": "A minute in which you talk about anything else.",
}
SECONDS = {"said": 3, "misses": 3, "talk": 60}  # of a recording by this computer's microphone
HEAD = ("held-out recordings", "rule", "owner heard", "others heard", "close phrases accepted", "false accepts")


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Wake word", "Teach a wake word its owner's voice. Recordings stay on this computer.", project)
    wake = project.of(ProjectWake)
    with ui.element("div").classes("stack"):
        _word(wake)
        for kind in KINDS:
            _recordings(wake, kind)
        with ui.element("section").classes("card stack").props('aria-label="Learning"'):
            widgets.heading("Learn")
            widgets.follow(lambda: (wake.version, _state(wake)), partial(_learn, wake))
            widgets.job_card(lambda: wake.job)
            widgets.follow(lambda: (wake.version, _state(wake)), partial(_result, wake))


def _word(wake: ProjectWake) -> None:
    def draw() -> None:
        if found := wake.word:
            manifest, word = found
            ui.label(f"{manifest.wake_word}: is heard with {word.rule}").classes("wake-word")
        else:
            ui.label("None yet: drop a microWakeWord model, its .json and its .tflite.").classes("quiet")

    async def give(name: str, content: bytes) -> str:
        return await asyncio.to_thread(wake.give, name, content)

    with ui.element("section").classes("card stack").props('aria-label="Model"'):
        widgets.heading("Model")
        widgets.follow(lambda: wake.version, draw)
        widgets.drop("Drop a wake word's .json and .tflite, or choose them", ".json,.tflite", give)


def _recordings(wake: ProjectWake, kind: str) -> None:
    async def add(name: str, content: bytes) -> None:
        await asyncio.to_thread(wake.add, kind, name, content)

    def draw() -> None:
        found = wake.recordings(kind)
        ui.label(f"{len(found)} recordings" if len(found) != 1 else "1 recording").classes("quiet")
        with ui.element("div").classes("row-line"):
            for path in found:
                made = widgets.button(path.stem, partial(wake.remove, path), icon="close", label=f"Remove {path.stem}")
                made.props("flat dense padding='2px 8px'")

    with ui.element("section").classes("card stack").props(f'aria-label="{TITLES[kind]}"'):
        widgets.heading(TITLES[kind])
        ui.label(ADVICE[kind])
        widgets.follow(lambda: wake.version, draw)
        words = f"Record {TITLES[kind].lower()}, up to {SECONDS[kind]} s"
        label = f"Drop .wav files of {KINDS[kind]}, up to {MOST_SECONDS[kind]} s each"
        widgets.drop(label, ".wav", add, microphone=(words, SECONDS[kind], kind))


def _state(wake: ProjectWake) -> str | None:
    return wake.job.state if wake.job else None


def _learn(wake: ProjectWake) -> None:
    if wake.missing:
        ui.label(wake.missing).classes("quiet")
    elif wake.job is None or wake.job.ended:
        widgets.button("Learn", widgets.reporting(lambda: wake.learn() and None), icon="school", main=True)


def _result(wake: ProjectWake) -> None:
    learned = wake.job.result if wake.job and wake.job.state == "done" else None
    if isinstance(learned, Learned):
        judgement = learned.judgement
        rows = {"base": judgement.base, "adapted": judgement.adapted}
        table("Judged by recordings it did not learn from", HEAD, [(name, *_cells(row)) for name, row in rows.items()])
        if judgement.better:
            ui.label(f"Better than the base: learned from {learned.windows} windows.").classes("wake-better")
            if judgement.unknown:
                ui.label(f"But {judgement.unknown}. Record other speech.")
        else:
            widgets.problem(
                f"Not better, and not written: {judgement.reason}.", "Record the word more often, or other speech."
            )
    with ui.element("div").classes("row-line"):
        for path in wake.results:
            widgets.button(path.name, partial(_download, path), icon="download", label=f"Download {path.name}")
    if wake.results:
        ui.label("Put the .tflite and the .json on your web server or repository, and name them in ESPHome.")


def _download(path: Path) -> None:
    ui.download.content(path.read_bytes(), path.name)


def _cells(score: StreamScore) -> tuple[str, ...]:
    return (str(score.rule), *(str(part) for part in (score.own, score.others, score.misses, score.speech)))
