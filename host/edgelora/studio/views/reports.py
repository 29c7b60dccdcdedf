"""The view Reports: the project's runs, and a comparison of selected ones."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse
from nicegui import ui

from edgelora.base.errors import EdgeloraError
from edgelora.learn.report.compare import comparison, differences, write_comparison
from edgelora.learn.report.record import Report
from edgelora.studio.project import Project
from edgelora.studio.runs import ProjectRuns

from . import widgets
from .charts import PairChart, table

HEAD = ("run", "conclusion", "before", "after", "learned", "board", "when")
COMPARISON = "comparison"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # for pages without scripts


def routes(app: FastAPI, project: Project) -> None:
    """Serves the reports' own pages, which are self-contained and have no scripts."""

    @app.get("/page/{name}", response_model=None)
    def _report_page(name: str) -> FileResponse | HTMLResponse:
        pages = {run: folder / "report.html" for run, folder in project.of(ProjectRuns).folders().items()}
        pages[COMPARISON] = project.folder / "reports" / f"{COMPARISON}.html"
        if name not in pages or not pages[name].exists():
            return HTMLResponse("<!doctype html><title>Not found</title>There is no such report.", 404)
        return FileResponse(pages[name], headers={"content-security-policy": POLICY}, media_type="text/html")


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Reports", "Results of all runs. Select several to compare them.", project)
    _Page(project).build()


class _Page:
    """The view and its selected runs."""

    def __init__(self, project: Project) -> None:
        self.project, self.runs = project, project.of(ProjectRuns)
        self.marked: set[str] = set()

    def build(self) -> None:
        with ui.element("div").classes("stack"):
            widgets.follow(lambda: tuple(self.runs.folders()), self._runs, 1.0)
            widgets.follow(lambda: tuple(sorted(self.marked)), self._beside)

    def _runs(self) -> None:
        found = self.runs.reports()
        if not found:
            return widgets.empty("No finished runs yet. Train a board in Learn.", "insights")
        with ui.element("section").classes("card"), ui.element("div").classes("table-box"), ui.element("table") as box:
            box.classes("table runs")
            with ui.element("thead"), ui.element("tr"):
                for name in ("mark", *HEAD, "page"):
                    with ui.element("th").props("scope=col"):
                        ui.label(name)
            with ui.element("tbody"):
                for name, report in found.items():
                    self._row(name, report)

    def _row(self, name: str, report: Report | EdgeloraError) -> None:
        with ui.element("tr"):
            if isinstance(report, EdgeloraError):
                ui.element("td")
                with ui.element("th").props("scope=row"):
                    ui.label(name)
                with ui.element("td").props(f"colspan={len(HEAD)}"):
                    ui.label(str(report))
                return
            measure = report.measure
            with ui.element("td"):
                mark = ui.checkbox(value=name in self.marked, on_change=lambda event: self._mark(name, event.value))
                mark.props(f'dense aria-label="Compare run {widgets.attribute(name)}"')
            with ui.element("th").props("scope=row"):
                ui.label(name)
            said = (
                report.conclusion.short,
                measure.shown(measure.before),
                measure.shown(measure.after),
                ", ".join(_learned(report)),
                report.board,
                widgets.when(report.created),
            )
            for text in said:
                with ui.element("td"):
                    ui.label(text)
            with ui.element("td"):
                link = ui.link("Open", f"/page/{name}", new_tab=True)
                link.props(f'aria-label="Open the report of run {widgets.attribute(name)}"')

    def _mark(self, name: str, on: bool) -> None:
        self.marked = self.marked | {name} if on else self.marked - {name}

    def _beside(self) -> None:
        found = self.runs.reports()
        runs = [(name, one) for name in sorted(self.marked) if isinstance(one := found.get(name), Report)]
        if not runs:
            return
        with ui.element("section").classes("card stack"):
            widgets.heading("Side by side")
            for line in differences(runs):
                ui.label(line).classes("quiet")
            by_measure: dict[str, list[tuple[str, Report]]] = {}
            for run in runs:
                by_measure.setdefault(run[1].measure.name, []).append(run)
            for alike in by_measure.values():
                PairChart(alike)
            head, rows = comparison(runs)
            table("Runs side by side", head, rows)

            def write() -> None:
                write_comparison(self.project.folder / "reports" / f"{COMPARISON}.html", runs)
                ui.navigate.to(f"/page/{COMPARISON}", new_tab=True)

            widgets.button("Save as a page", write, icon="open_in_new")


def _learned(report: Report) -> list[str]:
    """The classes of its test samples."""
    there = [label for label, row in zip(report.labels, report.confusion_base, strict=False) if sum(row)]
    return there or [report.subject]
