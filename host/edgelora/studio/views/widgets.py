"""Building blocks of views. Text from boards, files and users goes into text nodes only."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from nicegui import events, ui
from nicegui.element import Element

from edgelora.base.errors import EdgeloraError
from edgelora.base.text import printable
from edgelora.studio.board_session import BoardSession
from edgelora.studio.error_messages import trouble_of
from edgelora.studio.job import Job
from edgelora.studio.next_steps import Step, next_step
from edgelora.studio.project import Project

STATIC = Path(__file__).parents[1] / "static"
POLL_SECONDS = 0.2
MOST_BYTES = 32 << 20  # of a dropped file


def title(text: str, subtitle: str, project: Project) -> None:
    """A view's heading, the only one of level 1, and the button for the next step."""
    with ui.element("header").classes("view-title"):
        with ui.element("div").classes("grow"):
            ui.label(text).props("role=heading aria-level=1").classes("view-name")
            ui.label(subtitle).classes("quiet")
        follow(lambda: _written(next_step(project, text)), lambda: _next(project, text), 0.5)


def _written(step: Step | None) -> tuple[str, str] | None:
    return (step.text, step.path) if step else None


def _next(project: Project, view: str) -> None:
    """The button to the next view: filled, in place, once the step is complete."""
    step = next_step(project, view)
    if step is None:
        return
    made = ui.button(f"Next: {step.text}", on_click=lambda: ui.navigate.to(step.path))
    made.props("no-caps icon-right=arrow_forward").classes("next")

    def look() -> None:
        now = next_step(project, view)
        style, other = ("unelevated", "outline") if now and now.ready else ("outline", "unelevated")
        made.props(style, remove=other)

    look()
    ui.timer(0.5, look)


def heading(text: str) -> ui.label:
    """The heading of a section of a view."""
    return ui.label(text).props("role=heading aria-level=2").classes("part-name")


class Choice(ui.select):
    """A drop-down. is_open: its options are shown, so its container must not be redrawn."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.is_open = False
        self.on("popup-show", lambda: setattr(self, "is_open", True))
        self.on("popup-hide", lambda: setattr(self, "is_open", False))


def follow(version: Callable[[], object], draw: Callable[[], None], seconds: float = POLL_SECONDS) -> ui.element:
    """A box that `draw` fills again whenever the value of `version()` changes.

    Redrawing loses the keyboard focus: leave out of `version` what changes all the time. While a drop-down in the
    box is open, redrawing waits.
    """
    box = ui.element("div").classes("follow")
    last: list[object] = []

    def look() -> None:
        now = version()
        if last != [now] and not any(isinstance(one, Choice) and one.is_open for one in box.descendants()):
            last[:] = [now]
            box.clear()
            with box:
                draw()

    look()
    ui.timer(seconds, look)
    return box


def problem(what: str, remedy: str = "") -> None:
    """A card with an error and its remedy."""
    with ui.element("div").classes("problem").props("role=alert"):
        ui.icon("error_outline").props("aria-hidden=true")
        with ui.element("div"):
            ui.label(what)
            if remedy and remedy not in what:
                ui.label(remedy).classes("remedy")


def empty(text: str, icon: str = "inbox") -> None:
    """A placeholder for an empty view: what to do first."""
    with ui.element("div").classes("empty"):
        ui.icon(icon).props("aria-hidden=true")
        ui.label(text)


def job_card(job: Callable[[], Job | None]) -> None:
    """A job's progress with a stop button, or its error. Follows the job that `job()` returns."""

    def draw() -> None:
        now = job()
        if now is None or now.state in ("done", "cancelled"):
            return
        if now.state == "failed":
            return problem(f"{now.name}: {now.error}", now.remedy)
        with ui.element("div").classes("job"):
            with ui.element("div").classes("job-line"):
                ui.label(now.name).classes("job-name")
                text = ui.label().classes("quiet grow")
                button("Stop", now.cancel, icon="stop", label=f"Stop: {now.name}")
            bar = ui.linear_progress(0, show_value=False).props(f'aria-label="{attribute(now.name)}" rounded')

        def tell() -> None:
            share = now.share
            bar.set_value(share or 0)
            bar.props(remove="indeterminate") if share is not None else bar.props("indeterminate")
            count = f" {now.done} / {now.total}" if now.total else ""
            text.set_text(("stopping " if now.cancelled else now.text) + count)

        tell()
        ui.timer(POLL_SECONDS, tell)

    follow(lambda: (id(job()), state.state if (state := job()) else None), draw)


def place_job(session: BoardSession) -> None:
    """The latest exclusive job of a board, if it runs or failed."""
    job_card(lambda: next((job for job in reversed(session.jobs) if job.exclusive), None))


def fold(text: str, icon: str = "", is_open: bool = False, opened: set[str] | None = None) -> ui.expansion:
    """A collapsible section. opened: remembers by `text` whether it is open, over redraws."""
    made = ui.expansion(text, icon=icon or None, value=is_open or bool(opened and text in opened))
    if opened is not None:
        made.on_value_change(lambda event: opened.add(text) if event.value else opened.discard(text))
    return made.classes("fold").props("dense dense-toggle header-class=fold-head")


@contextlib.contextmanager
def dialog(text: str) -> Iterator[ui.dialog]:
    """A dialog that opens at once and is deleted when closed. Elements built inside go into it.

    It belongs to the page, so it survives a redraw of the button that opened it.
    """
    with ui.context.client.layout:
        made = ui.dialog().props(f'aria-label="{attribute(text)}"')
    with made, ui.element("div").classes("card dialog"):
        ui.label(text).props("role=heading aria-level=2").classes("part-name")
        yield made
    made.on("hide", made.delete)
    made.open()


def choices(made: ui.dialog, text: str, act: Callable[[], object], then: Callable[[], object] | None = None) -> None:
    """A dialog's buttons: cancel, or act. Errors appear in the dialog; then: runs after it closes."""

    def done() -> None:
        act()
        made.close()
        if then:
            with made.parent_slot.parent if made.parent_slot else made:
                then()

    begin = reporting(done)
    with ui.element("div").classes("row-line actions"):
        button("Cancel", made.close)
        button(text, begin, main=True)


def reporting(act: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    """A handler that shows in a card, right there, the error that an action raises or the text that it returns.

    The action may take a while.
    """
    with ui.element("div").classes("follow") as box:
        pass

    async def done() -> None:
        box.clear()
        try:
            words, remedy = await finished(act()), ""
        except (EdgeloraError, OSError) as error:
            trouble = trouble_of(error)
            words, remedy = trouble.what, trouble.remedy
        if words and isinstance(words, str) and not box.is_deleted:  # its container may have been redrawn
            with box:
                problem(words, remedy)

    return done


class Drop(Element, component=STATIC / "drop.js"):
    """A labelled file field in front of the framework's uploader, which is hidden and has no label."""

    def __init__(self, label: str, accept: str, uploader: ui.upload) -> None:
        super().__init__()
        self._props.update(label=label, accept=accept, uploader=uploader.id, most=MOST_BYTES)


class Microphone(Element, component=STATIC / "microphone.js"):
    """A button that records with this computer's microphone, and gives the framework's uploader a .wav."""

    def __init__(self, label: str, seconds: int, name: str, uploader: ui.upload) -> None:
        super().__init__()
        self._props.update(label=label, seconds=seconds, name=name, uploader=uploader.id)


def drop(
    label: str,
    accept: str,
    given: Callable[[str, bytes], object],
    small: bool = False,
    microphone: tuple[str, int, str] | None = None,
) -> None:
    """A drop zone for files. given: gets the name and content of each file.

    It may take a while, and return a message to show; errors are shown with the file's name. small: as large as a
    button. microphone: the text of a button that records, for how many seconds at most, and the file's name.
    """
    with ui.element("div").classes("follow").props("aria-live=polite") as box:
        pass

    def refused(event: events.GenericEventArguments) -> None:
        for name, why in event.args if isinstance(event.args, list) else []:
            with box:
                problem(plain(f"{str(name)[:200]}: {str(why)[:200]}"))

    async def uploaded(event: events.UploadEventArguments) -> None:
        name = plain(event.file.name)
        with box, ui.element("div").classes("follow") as line, ui.element("div").classes("row-line quiet"):
            ui.spinner(size="1.2em").props("aria-hidden=true")
            ui.label(f"{name} is read")
        try:
            words, remedy, wrong = await finished(given(name, await event.file.read())), "", False
        except (EdgeloraError, OSError, ValueError) as error:
            words, remedy, wrong = (trouble := trouble_of(error)).what, trouble.remedy, True
        if line.is_deleted:  # the page is gone, or another file was given
            return
        line.clear()
        with line:
            if wrong:
                problem(plain(words if words.startswith(name) else f"{name}: {words}"), remedy)
            elif words:
                problem(plain(f"{name}: {words}"))

    upload = ui.upload(auto_upload=True, multiple=True, max_file_size=MOST_BYTES, on_upload=uploaded)
    upload.props(f"accept={accept}").classes("unseen")
    field = Drop(label, accept, upload).classes("drop-small" if small else "")
    fields: list[Element] = [field]
    if microphone:
        words, seconds, name = microphone
        fields.append(Microphone(words, seconds, name, upload))
    for one in fields:
        one.on("begun", box.clear)
        one.on("refused", refused)


async def finished(made: object) -> Any:
    """The result, awaited if it is a coroutine."""
    return await made if inspect.isawaitable(made) else made


def plain(text: object) -> str:
    """Text of a board or file on one line, without unprintable characters."""
    return printable(text)


def when(iso: str) -> str:
    """A time in a readable form."""
    try:
        return datetime.fromisoformat(iso).astimezone().strftime("%d %b %H:%M")
    except ValueError:
        return plain(iso)


def button(
    text: str, on_click: Callable[[], object], *, icon: str | None = None, label: str = "", main: bool = False
) -> ui.button:
    """A button. label: its name for screen readers, where `text` is ambiguous."""
    made = ui.button(text, on_click=lambda: on_click(), icon=icon)
    made.props("no-caps unelevated" if main else "no-caps outline")
    if label:
        made.props(f'aria-label="{attribute(label)}"')
    return made


def attribute(text: str) -> str:
    """Text as the value of an attribute in `props`, with quotes and backslashes escaped."""
    return "".join(" " if c in "\"'\\`" or not c.isprintable() else c for c in text)
