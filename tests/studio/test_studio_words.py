"""The view Words in Chromium: a language model, a text that teaches it, and suggestions before and after."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from chromium import AXE, FAULTS
from conftest import WAIT_MS, Studio
from fresh import slow
from playwright.sync_api import Page, expect
from typed import drawn_text, language_base, misleading_text

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.elm import pack_model
from edgelora.model.datasets import text
from edgelora.model.quantization.quantize import quantize
from edgelora.studio.project import Project
from edgelora.studio.words import ProjectWords


def test_other_models_and_little_text_are_refused(tmp_path: Path) -> None:
    words, base = Project(tmp_path / "project").of(ProjectWords), language_base()[1]
    with pytest.raises(EdgeloraError, match="no language model"):
        words.learn(drawn_text(9000, 1, 7))
    for content in (b"no model", base.elm[:-4]):
        with pytest.raises((EdgeloraError, ValueError)):
            words.give("text.elm", content)
    words.give("../text.elm", base.elm)
    with pytest.raises(EdgeloraError, match="characters: give"):
        words.learn("too short")
    assert [path.name for path in words.folder.iterdir()] == ["text.elm"]
    before, after = words.suggest("Baco")
    assert after is None and len(before.characters) == 3


def test_text_that_the_base_does_not_know(tmp_path: Path) -> None:
    """Typographic characters count as the base's; of others too few are left, which is said."""
    words = Project(tmp_path / "project").of(ProjectWords)
    words.give("text.elm", language_base()[1].elm)
    with pytest.raises(EdgeloraError, match="9,000 characters, of which the base knows 0: give 2,560 to 200,000"):
        words.learn("\u65e5" * 9000)
    job = words.learn(drawn_text(16384, 2, 7).replace(" ", "\u2014\u00a0"))
    assert job.wait(60) and job.result.windows > 200


def test_what_was_learned_stays_with_its_model(tmp_path: Path) -> None:
    """The same model given again changes nothing, another forgets; neither comes while a text is learned."""
    words, base = Project(tmp_path / "project").of(ProjectWords), language_base()[1]
    words.give("text.elm", base.elm)
    job = words.learn(drawn_text(200_000, 2, 7))
    for act in (words.forget, partial(words.give, "text.elm", base.elm), partial(words.learn, drawn_text(3000, 2, 7))):
        with pytest.raises(EdgeloraError, match="a text is being learned"):
            act()
    job.cancel()
    assert job.wait(60) and words.adapter is None
    job = words.learn(drawn_text(16384, 2, 7))
    assert job.wait(60) and job.result.kept
    learned = words.adapter
    words = Project(tmp_path / "project").of(ProjectWords)
    words.give("again.elm", base.elm)
    assert learned and words.adapter == learned and [path.name for path in words.folder.glob("*.elm")] == ["again.elm"]
    assert words.suggest("Baco")[1]
    windows = text.windows(text.encode(drawn_text(5000, 1, 0)), text.WINDOW)
    other = quantize(language_base()[0], windows.x, head_room=3.0)
    words.give("text.elm", pack_model(other, "text.elm"))
    assert words.adapter is None and words.job is None and words.suggest("Baco")[1] is None


def test_damaged_files_of_the_project(tmp_path: Path) -> None:
    """They are named, with what to do; another model can be given."""
    words, base = Project(tmp_path / "project").of(ProjectWords), language_base()[1]
    words.give("text.elm", base.elm)
    (words.folder / "mine.ela").write_bytes(b"ELA1 and nothing else")
    for act in (partial(words.suggest, "Baco"), partial(words.learn, drawn_text(3000, 2, 7))):
        with pytest.raises(EdgeloraError, match="what was learned can't be read: .*forget it"):
            act()
    words.forget()
    assert words.suggest("Baco")[1] is None
    (words.folder / "text.elm").write_bytes(base.elm[:-4])
    opened = Project(tmp_path / "project").of(ProjectWords)
    assert opened.base is None and "text.elm" in str(opened.fault)
    opened.give("text.elm", base.elm)
    assert opened.base and opened.fault is None


@slow
def test_suggestions_before_and_after(
    studios: Callable[[str], Studio], pages: Callable[[Studio], Page], tmp_path: Path
) -> None:
    studio = studios("project")
    page = pages(studio)
    page.set_viewport_size({"width": 360, "height": 800})
    page.get_by_role("link", name="Words", exact=True).click()
    (tmp_path / "text.elm").write_bytes(language_base()[1].elm)
    page.get_by_role("region", name="Model").locator("input[type=file]").first.set_input_files(tmp_path / "text.elm")
    page.get_by_text("text.elm: ").wait_for()
    page.get_by_label("Type here").fill("Baco")
    table = page.get_by_role("table", name="Suggestions")
    table.get_by_role("rowheader", name="before").wait_for()
    assert "Baco|" in table.inner_text() and "after" not in table.inner_text()
    page.get_by_label("Text to learn").fill(drawn_text(16384, 2, 7))
    page.get_by_role("button", name="Learn", exact=True).click()
    page.get_by_text("Better on held-out text").wait_for(timeout=2 * WAIT_MS)
    table.get_by_role("rowheader", name="after").wait_for()
    page.evaluate(AXE.read_text())
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_function(f"document.body.classList.contains('body--{theme}')")
        page.wait_for_timeout(200)
        assert not page.evaluate(FAULTS), theme
    mine = studio.folder / "words"
    assert sorted(path.name for path in mine.iterdir()) == ["mine.ela", "text.elm"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_label("Type here").fill("\u65e5\u672c")
    page.get_by_text("The base knows none of these characters.").wait_for()
    page.get_by_label("Type here").fill("Baco")
    page.get_by_label("Text to learn").fill(misleading_text(4096, 7))
    page.get_by_role("button", name="Learn", exact=True).click()
    page.get_by_text("what was learned before stays in use").wait_for()
    page.get_by_label("Text to learn").fill("")
    page.get_by_label("Text to learn").focus()
    page.keyboard.insert_text("a word " * 200_000)
    page.get_by_text("200000 / 200000").wait_for()
    page.get_by_role("button", name="Forget").click()
    page.wait_for_function("!document.body.innerText.includes('after\\t')")
    assert not (mine / "mine.ela").exists()
    expect(page.get_by_text("Better on held-out text")).to_have_count(0)
    expect(page.get_by_text("stays in use")).to_have_count(0)
