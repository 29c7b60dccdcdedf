"""The view Act: actions of classes on a board that runs on its own."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from edgelora.board.devices import Device
from edgelora.learn.streaming.main_program import KEYS, KINDS, Act
from edgelora.studio.actions import VOTES, Acts, pins_of
from edgelora.studio.board_session import BoardSession
from edgelora.studio.project import Project

from . import console, widgets


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Act", "What the board does on its own when it recognizes a class.", project)
    acts = project.of(Acts)
    widgets.follow(lambda: (acts.version, tuple(acts.there())), lambda: _alone(acts))
    widgets.follow(
        lambda: (acts.version, project.selected, tuple(acts.labels(project.selected))), lambda: _list(project, acts)
    )
    widgets.job_card(lambda: next((job for job in reversed(project.jobs) if job.name == "let the board act"), None))
    widgets.follow(lambda: project.selected, lambda: _saving(acts, project.selected))
    widgets.follow(lambda: id(acts.saved), lambda: _saved(acts))


# --- the actions


def _list(project: Project, acts: Acts) -> None:
    with ui.element("section").classes("card whole stack tight").props('aria-label="Actions"'):
        widgets.heading("What each class does")
        for act in acts.acts:
            words = _words(act)
            with ui.element("div").classes("row-line act-line"):
                ui.label(act.label).classes("bar-name job-name")
                ui.label(words).classes("grow")
                remove = partial(acts.remove, act)
                widgets.button("Remove", remove, icon="delete", label=f"Remove: {act.label}, {words}")
        if not acts.acts:
            ui.label("No actions yet.").classes("quiet")
        _new(acts, acts.labels(project.selected))


def _words(act: Act) -> str:
    kind = KINDS[act.kind]
    if kind.target == "Pin":
        message = f"{kind.words.replace('pin', f'pin {act.target}', 1)}{act.text and f': {act.text} ms'}"
    else:
        message = " ".join(part for part in (kind.words + ":", act.target, act.text) if part)
    return widgets.plain(message)


def _new(acts: Acts, labels: list[str]) -> None:
    kinds = {name: kind.words for name, kind in KINDS.items()}
    with ui.element("div").classes("row-line choice"):
        label = widgets.Choice(labels, value=labels[0] if labels else None, label="When it sees")
        kind = widgets.Choice(kinds, value="hold", label="Do")
        target, text = ui.input("Pin", value="15").classes("narrow"), ui.input("Text").classes("field")
        key = widgets.Choice(list(KEYS), value="space", label="Key").classes("narrow")
        for field in (label, kind, target, text, key):
            field.props("dense outlined options-dense")
        end = ui.element("div").classes("follow")

    def show() -> None:
        chosen = KINDS[str(kind.value)]
        target.set_visibility(bool(chosen.target) and kind.value != "key")
        key.set_visibility(kind.value == "key")
        text.set_visibility(bool(chosen.text))
        target.props(f'label="{chosen.target}"')
        text.props(f'label="{chosen.text or "Text"}"')

    def changed() -> None:
        chosen = KINDS[str(kind.value)]
        target.value = {"Pin": "15", "http://": "http://"}.get(chosen.target, "")
        text.value = chosen.usual
        show()

    def add() -> None:
        on = str(key.value) if kind.value == "key" else str(target.value or "").strip()
        chosen = KINDS[str(kind.value)]
        more = str(text.value or "").strip() if chosen.text else ""
        acts.add(Act(str(label.value or ""), str(kind.value), on if chosen.target else "", more))

    kind.on_value_change(changed)
    show()
    with end:
        act = widgets.reporting(add)
        widgets.button("Add", act, icon="add", label="Add action")


# --- save to the board


def _saving(acts: Acts, session: BoardSession | None) -> None:
    if session is None:
        if not acts.there():
            widgets.empty("No board yet: plug one in, or start a virtual one, in Boards.", "memory")
        return
    with ui.element("section").classes("card whole stack tight").props('aria-label="On its own"'):
        widgets.heading("Without this computer")
        ui.label(
            "Writes main.py, which the board runs after each reset, without this computer: it reads the sensor, uses "
            "the active adapter, and performs these actions. The studio then releases the board."
        ).classes("quiet")
        nothing = ui.checkbox("Say “nothing” when a window resembles no sample", value=acts.nothing).props("dense")
        nothing.on_value_change(lambda event: acts.set_nothing(bool(event.value)))
        vote = widgets.Choice(VOTES, value=acts.vote, label="Votes for a decision").props("dense outlined")
        vote.classes("choice-line").on_value_change(lambda event: acts.set_vote(str(event.value)))
        act = widgets.reporting(lambda: acts.start(session))
        widgets.button("Save to the board and start", act, icon="rocket_launch", main=True)


def _saved(acts: Acts) -> None:
    if acts.saved is None:
        return
    if acts.saved.kept:
        ui.label(f"The board's previous main.py was renamed to {acts.saved.kept}.").classes("quiet")
    if acts.saved.shares:
        ui.label(f"“Nothing”: {acts.saved.shares.words}.").classes("quiet")
    elif acts.nothing:
        ui.label("“Nothing” is off: the adapter's classes have too few samples.").classes("quiet")
    with widgets.fold("The program", "code"):
        ui.label(acts.saved.main).classes("program").props('role=region aria-label="The program" tabindex=0')


# --- boards that run on their own


def _alone(acts: Acts) -> None:
    for device in acts.there():
        with ui.element("section").classes("card whole").props('aria-label="Runs on its own"'):
            with ui.element("div").classes("row-line"):
                ui.icon("rocket_launch").props("aria-hidden=true")
                ui.label(f"{device.description} runs on its own").props("role=heading aria-level=2").classes("grow")
                connect = widgets.reporting(partial(acts.connect, device))
                widgets.button("Stop and connect", connect, icon="link")
                console.watch_button(acts.project, device)
            _pins(device)


def _pins(device: Device) -> None:
    if pins_of(device) is None:
        return
    label = ui.label().classes("quiet").props('role=status aria-label="Pins"')

    def tell() -> None:
        levels = pins_of(device) or {}
        words = ", ".join(f"pin {pin} {'high' if level else 'low'}" for pin, level in levels.items())
        label.set_text(words or "no output pins yet")

    tell()
    ui.timer(0.3, tell)
