"""A map of the samples, with those that look like another class, to relabel or delete."""

from __future__ import annotations

import asyncio
from functools import partial

from nicegui import ui

from edgelora.base.errors import InputError
from edgelora.studio.project import Project
from edgelora.studio.sample_map import Spot, sample_map
from edgelora.studio.samples import ProjectSamples

from . import widgets
from .signals import usual_base

SIZE = 320  # of the drawing, in pixels
SHAPES = ("M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0", "M-5,-5h10v10h-10z", "M0,-6l6,10h-12z", "M0,-6l6,6l-6,6l-6,-6z")
COLORS = ("#0f6b5c", "#b3480f", "#3b4fa3", "#8a1a5b", "#5f6b0f", "#555555")


def panel(project: Project) -> None:
    """A folded panel: the map is computed on request."""
    project_samples = project.of(ProjectSamples)
    with widgets.fold("Look for mislabelled samples", "scatter_plot"):
        ui.label(
            "Each sample as the network sees it. Samples that are much closer to another class than to their own are "
            "listed: they may be mislabelled, or only part of a gesture."
        ).classes("quiet")
        found: list[Spot] = []
        made = [0]

        async def look() -> None:
            base = usual_base(project, project.selected)
            if base is None:
                raise InputError("there is no base network", remedy="add one to the project's folder bases")
            found[:] = await asyncio.to_thread(sample_map, project_samples, base)
            made[0] += 1

        widgets.button("Draw the map", widgets.reporting(look), icon="scatter_plot")
        widgets.follow(lambda: made[0], lambda: _draw(found))
        widgets.follow(lambda: (made[0], project_samples.version), lambda: _suspects(project_samples, found))


def _draw(found: list[Spot]) -> None:
    if not found:
        return
    labels = list(dict.fromkeys(spot.label for spot in found))
    words = f"Map of {len(found)} samples of {len(labels)} classes"
    view = f"-10 -10 {SIZE + 20} {SIZE + 20}"
    with ui.element("svg").props(f'viewBox="{view}" width={SIZE} role=img aria-label="{words}"').classes("sample-map"):
        for spot in found:
            k = labels.index(spot.label)
            x, y = ((1 + at) * SIZE / 2 for at in (spot.x, spot.y))
            mark = ui.element("path").props(f'd="{SHAPES[k % len(SHAPES)]}" transform="translate({x:.1f},{y:.1f})"')
            mark.props(f'fill="{COLORS[k % len(COLORS)]}" stroke="{"#b3261e" if spot.looks_like else "none"}"')
            mark.props("stroke-width=3 fill-opacity=.75")
    with ui.element("div").classes("row-line"):
        for k, label in enumerate(labels):
            with ui.element("svg").props('viewBox="-8 -8 16 16" width=16 aria-hidden=true'):
                ui.element("path").props(f'd="{SHAPES[k % len(SHAPES)]}" fill="{COLORS[k % len(COLORS)]}"')
            ui.label(label)


def _suspects(project_samples: ProjectSamples, found: list[Spot]) -> None:
    if not found:
        return
    there = {sample.id: sample.label for sample in project_samples.samples}
    suspects = [spot for spot in found if spot.looks_like and there.get(spot.id) == spot.label]
    ui.label(f"{len(suspects)} look like another class." if suspects else "None looks like another class.")
    for number, spot in enumerate(suspects, 1):
        with ui.element("div").classes("row-line"):
            words = f"{number}: {spot.label} looks like {spot.looks_like}"
            ui.label(words).classes("grow")
            relabel, delete = (
                partial(project_samples.relabel, [spot.id], spot.looks_like),
                partial(project_samples.remove, [spot.id]),
            )
            widgets.button(
                f"Relabel as {spot.looks_like}", widgets.reporting(relabel), icon="label", label=f"Relabel {words}"
            )
            widgets.button("Delete", widgets.reporting(delete), icon="delete", label=f"Delete {words}")
