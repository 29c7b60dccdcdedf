"""Export and import of a project as one file; a sample project for users without a sensor."""

from __future__ import annotations

import asyncio

from nicegui import ui

from edgelora.studio import bundle
from edgelora.studio.project import Project
from edgelora.studio.samples import ProjectSamples

from . import widgets


def sample_card(project: Project) -> None:
    """Offers the sample project while the project is empty."""
    project_samples = project.of(ProjectSamples)
    widgets.follow(lambda: len(project_samples) == 0 and not project.sessions, lambda: _sample(project))


def _sample(project: Project) -> None:
    if len(project.of(ProjectSamples)) or project.sessions:
        return
    with ui.element("section").classes("card whole stack tight").props('aria-label="Sample project"'):
        widgets.heading("Just looking? Try the sample project")
        names = ", ".join(bundle.GESTURES)
        ui.label(f"A person's real movements ({names}), and a virtual board that plays them.").classes("quiet")
        act = widgets.reporting(lambda: bundle.sample_project(project))
        widgets.button("Make a sample project", act, icon="auto_awesome")


def file_card(project: Project) -> None:
    """Exports the project, and imports one."""
    with widgets.fold("The project as one file", "folder_zip"):
        words = "Contains samples, networks, adapters, recordings and actions, but no keys, boards or reports."
        ui.label(words).classes("quiet")
        name = f"{project.folder.name}.zip"

        async def export() -> None:  # off the page's thread: it may be hundreds of MB
            ui.download.content(await asyncio.to_thread(bundle.export, project), name, "application/zip")

        async def given(name: str, content: bytes) -> None:
            count = await asyncio.to_thread(bundle.take_in, project, content)
            ui.notify(f"{count} files added", type="positive")

        widgets.button("Export", widgets.reporting(export), icon="download", label="Export the project")

        widgets.drop("Import a project (.zip)", ".zip", given)
