"""The view Words: a language model, a text that teaches it, and suggestions before and after."""

from __future__ import annotations

import asyncio
from functools import partial

from nicegui import ui

from edgelora.base.errors import EdgeloraError
from edgelora.studio.project import Project
from edgelora.studio.words import MOST_TEXT, Learned, ProjectWords, Suggestion

from . import widgets
from .charts import table

HEAD = ("learned", "rest of the word", "next characters")


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Words", "Type, and see what a keyboard suggests before and after it learned your text.", project)
    words = project.of(ProjectWords)
    with ui.element("div").classes("stack"):
        _model(words)
        _text(words)
        _typing(words)


def _model(words: ProjectWords) -> None:
    def draw() -> None:
        if words.base:
            ui.label(f"{words.base.name}: {len(words.base.elm) // 1024} KB")
        elif words.fault:
            widgets.problem(str(words.fault), words.fault.remedy)
        else:
            ui.label("None yet: drop a language model of characters, such as out/keyboard/text.elm of the demo.")

    async def give(name: str, content: bytes) -> None:
        await asyncio.to_thread(words.give, name, content)

    with ui.element("section").classes("card stack").props('aria-label="Model"'):
        widgets.heading("Model")
        widgets.follow(lambda: words.version, draw)
        widgets.drop("Drop a language model (.elm), or choose it", ".elm", give)


def _text(words: ProjectWords) -> None:
    with ui.element("section").classes("card stack").props('aria-label="Your text"'):
        widgets.heading("Your text")
        widgets.follow(lambda: words.least_text, lambda: _wanted(words))
        text = ui.textarea(label="Text to learn").props("outlined autogrow input-style='max-height: 12rem'")
        text.props(f"counter maxlength={MOST_TEXT}")  # the connection takes no larger message
        text.classes("whole")

        def draw() -> None:
            if words.base and not words.learning:
                with ui.element("div").classes("row-line"):
                    act = widgets.reporting(lambda: words.learn(text.value or "") and None)
                    widgets.button("Learn", act, icon="school", main=True)
                    if words.has_adapter:
                        widgets.button("Forget", widgets.reporting(words.forget), icon="delete")

        widgets.follow(lambda: (words.version, _state(words)), draw)
        widgets.job_card(lambda: words.job)
        widgets.follow(lambda: (words.version, _state(words)), partial(_result, words))


def _wanted(words: ProjectWords) -> None:
    length = f"{words.least_text:,} to {MOST_TEXT:,} characters; the field takes no more."
    ui.label(f"{length} Only what is learned is kept, not the text.").classes("quiet")


def _state(words: ProjectWords) -> str | None:
    return words.job.state if words.job else None


def _result(words: ProjectWords) -> None:
    learned = words.job.result if words.job and words.job.state == "done" else None
    if _state(words) == "cancelled":
        ui.label("Stopped: nothing of this text is kept.")
    elif isinstance(learned, Learned):
        if learned.kept:
            times = "once" if learned.kept == 1 else f"{learned.kept} times"
            ui.label(f"Better on held-out text {times}, learned from {learned.windows} windows.")
        elif words.has_adapter:
            ui.label("Not better on held-out text: what was learned before stays in use.")
        else:
            ui.label("Not better on held-out text, so the base suggests: give more text.")


def _typing(words: ProjectWords) -> None:
    with ui.element("section").classes("card stack").props('aria-label="Typing"'):
        widgets.heading("Typing")
        typed = ui.input(label="Type here").props("outlined autocomplete=off").classes("whole")

        def draw() -> None:
            if words.base and typed.value:
                try:
                    before, after = words.suggest(typed.value)
                except EdgeloraError as error:
                    return widgets.problem(str(error), error.remedy)
                if not before.characters:
                    ui.label("The base knows none of these characters.")
                    return None
                rows = [("before", *_cells(typed.value, before))]
                rows += [("after", *_cells(typed.value, after))] if after else []
                table("Suggestions", HEAD, rows)

        widgets.follow(lambda: (words.version, typed.value), draw)


def _cells(typed: str, found: Suggestion) -> tuple[str, str]:
    word = typed.rsplit(" ", 1)[-1]
    likely = ", ".join(f"{_shown(character)} {share:.0%}" for character, share in found.characters)
    return f"{word}|{found.rest}", likely


def _shown(character: str) -> str:
    return {" ": "space", "\n": "new line"}.get(character, character)
