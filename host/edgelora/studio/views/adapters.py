"""The view Adapters: adapters in the board's store, and adapter files of the project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nicegui import ui

from edgelora.base.errors import InputError
from edgelora.board.link.replies import StoredAdapter
from edgelora.learn.training.data.base import Base
from edgelora.studio import adapter_actions
from edgelora.studio.adapter_status import knowledge
from edgelora.studio.board_session import BoardSession
from edgelora.studio.job import Job
from edgelora.studio.project import Project
from edgelora.studio.runs import ProjectRuns
from edgelora.studio.samples import ProjectSamples

from . import widgets
from .charts import facts


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Adapters", "The board's adapters, by name. It uses one of them, or the base alone.", project)
    widgets.follow(lambda: project.selected, lambda: _of_board(project, project.selected))
    widgets.follow(lambda: adapter_actions.files(project), lambda: _files(project), 1.0)


def _of_board(project: Project, session: BoardSession | None) -> None:
    if session is None:
        return widgets.empty("No board is selected: plug one in, or start a virtual one, in Boards.", "memory")
    widgets.place_job(session)
    opened: dict[str, set[str]] = {}  # expanded details, by adapter
    widgets.follow(
        lambda: (session.state.store, session.state.status == "away"), lambda: _store(project, session, opened)
    )
    compared: list[Job] = []  # the last comparison stays when the store changes
    widgets.follow(lambda: _comparable(session), lambda: _compare(project, session, _comparable(session), compared))
    widgets.follow(lambda: (compared[0], compared[0].state) if compared else None, lambda: _compared(compared))


def _store(project: Project, session: BoardSession, opened: dict[str, set[str]]) -> None:
    store = session.state.store
    if store is None:
        if session.state.problem:
            return widgets.problem(session.state.problem, session.state.remedy)
        return widgets.empty("The board has no adapter store yet: install EdgeLoRA on it.", "layers_clear")
    for notice in store.notices:
        ui.label(notice).classes("quiet")
    with ui.element("div").classes("cards"):
        for adapter in store.adapters:
            _card(project, session, adapter, store.active, opened.setdefault(adapter.name, set()))
        _bare(project, session, store.active)
    ui.label(f"{store.free / 1024:.0f} KB free in the store").classes("quiet")


def _bare(project: Project, session: BoardSession, active: str | None) -> None:
    with ui.element("section").classes("card").props('aria-label="The base alone"'):
        with ui.element("div").classes("row-line"):
            ui.label("The base alone").props("role=heading aria-level=2").classes("job-name grow")
            _chip("check_circle", "in use", active is None)
        ui.label("The pretrained network without an adapter.").classes("quiet")
        if active is not None:
            with ui.element("div").classes("row-line actions"):
                widgets.button(
                    "Use",
                    lambda: adapter_actions.activate(project, session, adapter_actions.BARE),
                    icon="play_arrow",
                    label="Use the base alone",
                )


def _card(
    project: Project, session: BoardSession, adapter: StoredAdapter, active: str | None, opened: set[str]
) -> None:
    name, knows = widgets.plain(adapter.name), knowledge(project, session, adapter)
    in_use = adapter.name == active and not adapter.trial
    with ui.element("section").classes("card").props(f'aria-label="{widgets.attribute(name)}"'):
        with ui.element("div").classes("row-line"):
            ui.label(name).props("role=heading aria-level=2").classes("job-name grow")
            _chip("check_circle", "in use", in_use)
            _chip("push_pin", "pinned", adapter.pinned)
            _chip("science", "on trial", adapter.trial)
        facts(
            [
                ("knows", widgets.plain(", ".join(knows.classes)) or "unknown"),
                ("accuracy", widgets.plain(knows.how_well) or "not measured in this project"),
                ("since", widgets.when(knows.since) if knows.since else "unknown"),
            ]
        )
        with ui.element("div").classes("row-line actions"):
            if not in_use:
                widgets.button(
                    "Use",
                    lambda: adapter_actions.activate(project, session, adapter.name),
                    icon="play_arrow",
                    label=f"Use {name}",
                    main=True,
                )
            widgets.button("Rename", lambda: _rename(project, session, adapter), icon="edit", label=f"Rename {name}")
            widgets.button(
                "Pull",
                lambda: adapter_actions.pull(project, session, adapter.name),
                icon="download",
                label=f"Pull {name}",
            )
            widgets.button("Remove", lambda: _remove(session, adapter.name), icon="delete", label=f"Remove {name}")
        with widgets.fold("Advanced", opened=opened):
            base = knows.base.removesuffix(".elm") or adapter.base_id
            facts([("base", widgets.plain(base)), ("size", f"{adapter.size} bytes"), ("version", str(adapter.version))])
            with ui.element("div").classes("row-line"):
                _rare_actions(project, session, adapter, name)


def _rare_actions(project: Project, session: BoardSession, adapter: StoredAdapter, name: str) -> None:
    pinned = "Unpin" if adapter.pinned else "Pin"
    widgets.button(
        pinned,
        lambda: adapter_actions.pin(session, adapter.name, not adapter.pinned),
        icon="push_pin",
        label=f"{pinned} {name}",
    )
    widgets.button(
        "Release", lambda: _release(project, session, adapter.name), icon="verified", label=f"Release {name}"
    )


def _chip(icon: str, word: str, holds: bool) -> None:
    if holds:
        with ui.element("span").classes("chip"):
            ui.icon(icon).props("aria-hidden=true")
            ui.label(word)


# --- dialogs


def _rename(project: Project, session: BoardSession, adapter: StoredAdapter) -> None:
    with widgets.dialog(f"Rename {widgets.plain(adapter.name)}") as dialog:
        to = ui.input("New name", value=adapter.name).props("outlined maxlength=24").classes("wide")
        widgets.choices(dialog, "Rename", lambda: project.of(ProjectRuns).rename(session, adapter, to.value.strip()))


def _remove(session: BoardSession, name: str) -> None:
    with widgets.dialog(f"Remove {widgets.plain(name)}?") as dialog:
        ui.label("This deletes it from the board. Pull it first to keep a copy.")
        widgets.choices(dialog, "Remove", lambda: adapter_actions.remove(session, name))


def _release(project: Project, session: BoardSession, name: str) -> None:
    with widgets.dialog(f"Release {widgets.plain(name)}") as dialog:
        ui.label("Signs it with the project's key and writes it to the folder releases, for boards to download.")
        target = ui.input("For product", value=session.state.board or "").props("outlined maxlength=24")
        target.classes("wide")
        answer: list[Job] = []
        widgets.choices(
            dialog,
            "Sign and release",
            lambda: answer.append(adapter_actions.release(project, session, name, target.value.strip())),
            lambda: _when_done(answer[0], _released),
        )


def _released(job: Job) -> None:
    done = job.result
    with widgets.dialog(f"Released {done.name} {done.version}") as dialog:
        ui.label(f"for {done.target}, signed by key {done.key_id}")
        for file in done.files:
            if file.written:
                ui.label(f"{file.path}, {file.bytes} bytes").classes("quiet")
        with ui.element("div").classes("row-line actions"):
            widgets.button("Close", dialog.close, main=True)


def _when_done(job: Job, show: Callable[[Job], None]) -> None:
    """Shows a job's result when it ends, if the page is still open."""

    def look() -> None:
        if job.ended:
            timer.cancel()
            if job.state == "done":
                show(job)

    timer = ui.timer(widgets.POLL_SECONDS, look)


# --- compare two adapters


def _comparable(session: BoardSession) -> dict[str, str]:
    """Ids of the base networks, by name of the adapter in the store."""
    return {one.name: one.base_id for one in session.state.store.adapters} if session.state.store else {}


def _compare(project: Project, session: BoardSession, ids: dict[str, str], answer: list[Job]) -> None:
    if not ids:
        return
    names = {adapter_actions.BARE: "the base alone"} | {name: widgets.plain(name) for name in ids}
    card = ui.element("section").classes("card whole").props('aria-label="Compare"')
    with card:
        widgets.heading("Compare two on your samples")
    with card, ui.element("div").classes("row-line field-line"):
        first = widgets.Choice(names, value=adapter_actions.BARE, label="This").props("outlined dense").classes("field")
        second = widgets.Choice(names, value=next(iter(ids)), label="with").props("outlined dense").classes("field")

        def begin() -> None:
            chosen = [str(first.value or ""), str(second.value or "")]
            bases = {base.base_id: base for base in project.of(ProjectRuns).bases().values()}
            base = next((bases[ids[name]] for name in chosen if ids.get(name) in bases), None)
            answer[:] = [_begin(project, session, base, chosen)]

        widgets.button("Compare", widgets.reporting(begin), icon="compare_arrows", main=True)


def _begin(project: Project, session: BoardSession, base: Base | None, names: Sequence[str]) -> Job:
    if base is None:
        raise InputError("the project does not have the base of these adapters", remedy="add its .elm in Boards")
    data = project.of(ProjectSamples).dataset(base)
    if data is None:
        raise InputError("there are no samples to compare with", remedy="record some in Collect")
    return adapter_actions.compare(session, base, data, names, project.of(ProjectRuns).learned_samples())


def _compared(answer: Sequence[Any]) -> None:
    if not answer or answer[0].state != "done":
        return
    found: adapter_actions.Comparison = answer[0].result
    titles = [one.name or "the base alone" for one in found.answers]
    with ui.element("table").classes("table"):
        for what, seen in (("new samples", False), ("training samples", True)):
            if rows := found.rows(seen):
                _row("th", [what, "samples", *(f"{widgets.plain(title)}: correct" for title in titles)])
                for label, count, right in rows:
                    _row("td", [widgets.plain(label), str(count), *map(str, right)])
                totals = [sum(column) for column in zip(*(right for _, _, right in rows), strict=True)]
                _row("td", ["all", str(sum(count for _, count, _ in rows)), *map(str, totals)])
        _row("td", ["inference time", "", *(f"{one.infer_us / 1000:.1f} ms" for one in found.answers)])
    if any(found.seen):
        ui.label("Only new samples show the true accuracy: an adapter may have memorized its training samples.")
    ui.label(f"They disagree on {found.apart} of {len(found.classes)} samples.")


def _row(kind: str, cells: Sequence[str]) -> None:
    with ui.element("tr"):
        for cell in cells:
            with ui.element(kind).props("scope=col" if kind == "th" else ""):
                ui.label(cell)


# --- the project's files


def _files(project: Project) -> None:
    files = adapter_actions.files(project)
    with ui.element("section").classes("card whole stack tight").props('aria-label="In the project"'):
        widgets.heading("In the project")
        for name, size in files.items():
            with ui.element("div").classes("row-line"):
                ui.label(name).classes("grow")
                ui.label(f"{size} bytes").classes("quiet")
                widgets.button(
                    "Push", widgets.reporting(partial(_push, project, name)), icon="upload", label=f"Push {name}"
                )
        if not files:
            ui.label("No adapters yet. Pull one from a board.").classes("quiet")
        widgets.drop(
            "Add an adapter file (.ela)",
            ".ela",
            lambda name, content: adapter_actions.keep_file(project, name, content),
        )


def _push(project: Project, name: str) -> None:
    if project.selected is None:
        raise InputError("no board is selected", remedy="plug one in, or start a virtual one, in Boards")
    adapter_actions.push(project, project.selected, name)
