"""The frame around views: navigation, board selection, light and dark."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI
from nicegui import app as pages
from nicegui import ui

from edgelora.studio.board_status import condition
from edgelora.studio.error_messages import OnlyBugs, is_bug
from edgelora.studio.project import THEMES, Project

from . import actions, adapters, boards, collect, fleet, learn, live, reports, wake, widgets, words
from .streams import add_routes

log = logging.getLogger(__name__)
STATIC = Path(__file__).parents[1] / "static"
STATIC_URL = "/static"


class View(NamedTuple):
    """A view: its path, name, icon and builder."""

    path: str
    name: str
    icon: str
    page: Callable[[Project], None]


VIEWS = (
    View("/", "Boards", "memory", boards.page),
    View("/live", "Live", "sensors", live.page),
    View("/collect", "Collect", "add_to_photos", collect.page),
    View("/learn", "Learn", "school", learn.page),
    View("/act", "Act", "bolt", actions.page),
    View("/wake", "Wake word", "record_voice_over", wake.page),
    View("/words", "Words", "keyboard", words.page),
    View("/adapters", "Adapters", "layers", adapters.page),
    View("/fleet", "Fleet", "hub", fleet.page),
    View("/reports", "Reports", "insights", reports.page),
)
THEME_ICONS = {"auto": "brightness_auto", "light": "light_mode", "dark": "dark_mode"}


def show(app: FastAPI, project: Project) -> None:
    """Adds the pages of a project to the app."""
    pages.add_static_files(STATIC_URL, STATIC)
    add_routes(pages, project)
    pages.config.quasar_config["loadingBar"]["skipHijack"] = True  # it has no name for screen readers
    reports.routes(app, project)
    pages.on_exception(project.trouble)
    logging.getLogger("nicegui").addFilter(OnlyBugs())
    ui.run_with(
        app,
        root=lambda: _frame(project),
        title="EdgeLoRA studio",
        dark=None,
        language="en-US",
        tailwind=False,  # rebuilt in the browser at each change of a class, and logged each time
        reconnect_timeout=10.0,
        show_welcome_message=False,
    )


def _frame(project: Project) -> None:
    for name in ("studio", "runs"):
        ui.add_head_html(f'<link rel="stylesheet" href="{STATIC_URL}/{name}.css">')
    ui.colors(primary="#0f6b5c", secondary="#345a8a", accent="#8a3b12", positive="#1b7a3d", negative="#b3261e")
    _skip_link()
    with ui.element("div").classes("studio"):
        with ui.element("header").classes("bar"):
            ui.label("EdgeLoRA studio").classes("brand")
            ui.label(project.folder.name).classes("quiet project")
            ui.space()
            _board_choice(project)
            _theme_button(project)
        _navigation()
        with ui.element("div").classes("view").props("id=view tabindex=-1"):  # in Quasar's main
            widgets.follow(lambda: project.troubles, lambda: _troubles(project))
            ui.sub_pages({view.path: _built(view, project) for view in VIEWS})


def _built(view: View, project: Project) -> Callable[[], None]:
    def page() -> None:
        try:
            view.page(project)
        except Exception as error:  # any error: the page around it stays
            if is_bug(error):
                log.exception("%s", view.name)
            project.trouble(error)
            widgets.empty(f"{view.name} can't be shown.", "error_outline")

    return page


def _troubles(project: Project) -> None:
    """Errors, until somebody closes them."""
    for one in project.troubles:
        widgets.problem(one.what, one.remedy)
    if project.troubles:
        widgets.button("Close", project.calm, icon="close", label="Close errors")


def _skip_link() -> None:
    ui.link("Skip to the view", "#view").classes("skip")


def _navigation() -> None:
    links: dict[str, ui.link] = {}
    with ui.element("nav").classes("tabs").props('aria-label="Views"'):
        for view in VIEWS:
            with ui.link(target=view.path).classes("tab") as link:
                ui.icon(view.icon).props("aria-hidden=true")
                ui.label(view.name)
            links[view.path] = link

    def mark(path: str) -> None:
        path = path.partition("?")[0].partition("#")[0]
        for target, link in links.items():
            link.props("aria-current=page") if target == path else link.props(remove="aria-current")

    router = ui.context.client.sub_pages_router
    router.on_path_changed(mark)
    mark(router.current_path)


def _board_choice(project: Project) -> None:
    """The selector of the board that views show."""

    def options() -> dict[str, str]:
        return {port: f"{one.state.name} ({condition(project, one)})" for port, one in project.sessions.items()}

    def chosen() -> str | None:
        return project.selected.key if project.selected else None

    choice = ui.select(options(), value=chosen(), label="Board", on_change=lambda event: _choose(project, event.value))
    choice.props("dense outlined options-dense").classes("board-choice")

    def look() -> None:
        if choice.options != options() or choice.value != chosen():
            choice.set_options(options(), value=chosen())
        choice.set_visibility(bool(project.sessions))

    look()
    ui.timer(0.5, look)


def _choose(project: Project, port: str | None) -> None:
    if port and (project.selected is None or port != project.selected.key):
        project.select(port)


def _theme_button(project: Project) -> None:
    dark = ui.dark_mode()
    button = ui.button().props("flat round dense").classes("theme")

    def apply() -> None:
        dark.value = {"auto": None, "light": False, "dark": True}[project.theme]
        button.props(f'icon={THEME_ICONS[project.theme]} aria-label="Colors: {project.theme}"')

    def turn() -> None:
        project.set_theme(THEMES[(THEMES.index(project.theme) + 1) % len(THEMES)])
        apply()

    button.on_click(turn)
    apply()
