"""A studio's pages in this process: a user without a browser, who finds controls by their names for screen readers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from nicegui import Client, ui
from nicegui.elements.mixins.disableable_element import DisableableElement
from nicegui.elements.mixins.value_element import ValueElement
from nicegui.elements.upload_files import SmallFileUpload
from nicegui.helpers import event_type_to_camel_case
from nicegui.testing import User, UserInteraction
from nicegui.testing.general import nicegui_reset_globals

from edgelora.studio.project import Project
from edgelora.studio.views.layout import show
from edgelora.studio.views.widgets import Drop

SECONDS = 60.0  # for what a page does, on a computer that is busy with other tests


class Visitor:
    """One page of a studio, and its user. Unlike in a browser, what is folded can be seen."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http, self.user = http, User(http)

    @property
    def page(self) -> Client:
        assert self.user.client
        return self.user.client

    async def open(self, view: str) -> None:
        """Opens a view by its path."""
        await self.user.open(view)

    async def see(self, text: str, count: int | None = None) -> None:
        """Waits for a text; count: until it is there so many times."""
        await self._until(lambda: (n := self.texts().count(text)) == count or count is None and n > 0, text)

    def texts(self) -> str:
        """All texts of the page, a line each."""
        said = [str(one.props.get("description") or getattr(one, "text", "")) for one in self._elements()]
        return "\n".join([*said, *self.user.notify.messages])

    async def control(self, name: str) -> ui.element:
        """Waits for the one control with this name that can be used."""
        await self._until(lambda: len(self._controls(name)) == 1, f"one control named {name}")
        return self._controls(name)[0]

    async def press(self, name: str) -> None:
        UserInteraction(self.user, {await self.control(name)}, name).click()

    def tell(self, one: ui.element, event: str) -> None:
        """Reports an event of the browser."""
        UserInteraction(self.user, {one}, None).trigger(event_type_to_camel_case(event))

    async def fill(self, name: str, value: object) -> None:
        """Enters a value."""
        control = await self.control(name)
        assert isinstance(control, ValueElement)
        with self.page:
            control.value = value

    async def choose(self, name: str, option: str) -> None:
        """Chooses the option that begins like this, of a drop-down."""
        control = await self.control(name)
        await self.fill(name, next(value for value, text in options_of(control) if text.startswith(option)))

    async def has(self, name: str, shown: str) -> None:
        """Waits until a field's text, or its chosen option, begins like this."""
        await self._until(
            lambda: any(shown_in(one).startswith(shown) for one in self._controls(name)), f"{name}: {shown}"
        )

    async def drop(self, label: str, files: dict[str, bytes]) -> None:
        """Gives files to a drop zone."""
        upload = self.page.elements[(await self.control(label)).props["uploader"]]
        assert isinstance(upload, ui.upload)
        with self.page:
            await upload.handle_uploads([SmallFileUpload(name, "", content) for name, content in files.items()])

    def table(self, caption: str) -> list[list[str]]:
        """The texts of a table's cells, by row."""
        boxes = [one for one in self._elements() if one.props.get("aria-label") == caption]
        rows = [one for one in boxes[0].descendants() if one.tag == "tr"]
        return [[_text(cell) for cell in row.descendants() if cell.tag in ("th", "td")] for row in rows]

    def _elements(self) -> list[ui.element]:
        return [one for one in self.page.layout.descendants() if all(each.visible for each in (one, *one.ancestors()))]

    def _controls(self, name: str) -> list[ui.element]:
        return [
            one
            for one in self._elements()
            if isinstance(one, ValueElement | ui.button | Drop)
            and name in names_of(one)
            and (not isinstance(one, DisableableElement) or one.enabled)
        ]

    async def _until(self, true: Callable[[], bool], what: str) -> None:
        end = asyncio.get_running_loop().time() + SECONDS
        while not true():
            assert asyncio.get_running_loop().time() < end, f"no {what} in\n{self.page.layout}"
            await asyncio.sleep(0.1)


def names_of(one: ui.element) -> list[str]:
    """A control's names: of a group of radio buttons, those of its options."""
    if isinstance(one, ui.radio):
        return [text for _, text in options_of(one)]
    return [str(one.props.get("aria-label") or one.props.get("label") or getattr(one, "text", ""))]


def options_of(one: ui.element) -> list[tuple[Any, str]]:
    """Values and texts of the options of a drop-down; of other controls none."""
    options = getattr(one, "options", [])
    pairs = options.items() if isinstance(options, dict) else [(value, value) for value in options]
    return [(value, str(text)) for value, text in pairs]


def shown_in(one: ui.element) -> str:
    value = getattr(one, "value", "")
    return str(dict(options_of(one)).get(value, value))


def _text(cell: ui.element) -> str:
    return " ".join(one.text for one in cell.descendants() if isinstance(one, ui.label))


Story = Callable[..., Awaitable[None]]


def visit(folder: Path, story: Story, visitors: int = 1) -> Project:
    """Runs a story, a coroutine that gets a page for each visitor, in a project's studio; no error may be left on its
    pages. The project, closed."""
    with nicegui_reset_globals(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("NICEGUI_USER_SIMULATION", "true")
        with ThreadPoolExecutor(1) as own:  # Playwright keeps a loop in the thread of the tests
            return own.submit(asyncio.run, _visited(Project(folder), story, visitors)).result()


async def _visited(project: Project, story: Story, visitors: int) -> Project:
    app = FastAPI()
    show(app, project)
    project.open()
    try:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://studio") as http,
        ):
            await story(*(Visitor(http) for _ in range(visitors)))
    finally:
        project.close()
    assert not project.troubles
    return project
