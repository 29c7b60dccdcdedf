"""The view Wake word in Chromium: a word from its files, recordings from files and from a (fake) microphone."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import hears, launched
from conftest import WAIT_MS, Studio
from fresh import slow
from playwright.sync_api import Browser, Locator, Page
from recurrent_sketches import SvdfSketch
from wake_words import MODELS

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.wake_manifest import load_manifest
from edgelora.model.datasets.capture import Capture, save_wav
from edgelora.model.datasets.wake_speech import DEVELOPMENT, PHRASES, TALK, say_all
from edgelora.studio.project import Project
from edgelora.studio.wake import ProjectWake

OWNER, PHRASE = DEVELOPMENT[0], PHRASES["okay_nabu"]


def _said(folder: Path, *texts: str, count: int = 1) -> list[Path]:
    """Recordings in which the owner says each text so many times."""
    lines = [(OWNER, text, i) for text in texts for i in range(count)]
    paths = [folder / f"{text.replace(' ', '_')}.{i}.wav" for _, text, i in lines]
    for path, (sound, _) in zip(paths, say_all(lines, 1), strict=True):
        save_wav(path, Capture(sound[:, None].astype(float), 16000.0, counts=True))
    return paths


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium whose microphone plays a recording in a loop."""
    (file,) = _said(tmp_path_factory.mktemp("microphone"), PHRASE.said)
    with launched(*hears(file)) as browser:
        yield browser


def _part(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def _give(page: Page, part: str, files: list[Path]) -> None:
    _part(page, part).locator("input[type=file]").first.set_input_files(files)


def test_files_that_are_no_wake_word_leave_the_one_that_is_there(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    wake = project.of(ProjectWake)
    manifest, network = (MODELS / f"alexa.{kind}" for kind in ("json", "tflite"))
    assert wake.give(network.name, network.read_bytes()) == "now give its manifest, the .json beside it"
    assert wake.give(manifest.name, manifest.read_bytes()) == "" and wake.word
    other = json.loads(manifest.read_text()) | {"model": "other.tflite"}
    dense = SvdfSketch(1, 5).svdf(4, 3).file()  # not a wake word
    wrong = (("alexa.json", b"{}"), ("new.json", b"[1]"), ("alexa.tflite", b"no network"), ("alexa.tflite", dense))
    for name, content in wrong:
        with pytest.raises((EdgeloraError, ValueError)):
            wake.give(name, content)
        assert wake.word and sorted(path.name for path in wake.folder.iterdir()) == ["alexa.json", "alexa.tflite"]
    assert wake.give("../other.json", json.dumps(other).encode()) == "now give its network, other.tflite"
    assert wake.word is None and not (wake.folder / "alexa.json").exists()
    with pytest.raises(EdgeloraError, match="no wake word yet"):
        wake.add("said", "a.wav", b"")
    assert project.of(ProjectWake).missing == "Give the wake word first."


@slow
def test_a_wake_word_learns_its_owner(
    studios: Callable[[str], Studio], pages: Callable[[Studio], Page], tmp_path: Path
) -> None:
    studio = studios("project")
    page = pages(studio)
    page.get_by_role("link", name="Wake word").click()
    page.get_by_text("Give the wake word first.").wait_for()
    _give(page, "Model", [MODELS / "okay_nabu.json"])
    page.get_by_text("now give its network, okay_nabu.tflite").wait_for()
    _give(page, "Model", [MODELS / "okay_nabu.tflite"])
    page.get_by_text("is heard with cutoff").wait_for()

    page.get_by_role("button", name="Record the word").click()
    page.get_by_role("button", name="Remove 001-said").wait_for()
    with wave.open(str(studio.folder / "wake" / "said" / "001-said.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert 2.9 < len(heard) / 16000 < 3.3 and np.abs(heard).max() > 2000

    _give(page, "The word", _said(tmp_path, PHRASE.said, count=9)[1:])
    page.get_by_text("9 recordings", exact=True).wait_for()
    _give(page, "Close phrases", _said(tmp_path, *PHRASE.misses[:3]))
    page.get_by_text("3 recordings", exact=True).wait_for()
    _give(page, "Other speech", _said(tmp_path, *TALK[:4]))
    page.get_by_text("4 recordings", exact=True).wait_for()
    (tmp_path / "noise.wav").write_bytes(b"RIFF of nothing")
    _give(page, "Other speech", [tmp_path / "noise.wav"])
    page.get_by_role("alert").get_by_text("noise.wav").wait_for()

    page.get_by_role("button", name="Learn", exact=True).click()
    table = page.get_by_role("table", name="Judged by recordings it did not learn from")
    table.wait_for(timeout=10 * WAIT_MS)
    assert "adapted" in table.inner_text() and " of 9 (" in table.inner_text()
    assert page.get_by_text("Better than the base").is_visible(), table.inner_text()
    mine = studio.folder / "wake" / "mine"
    assert sorted(path.suffix for path in mine.iterdir()) == [".ela", ".json", ".tflite"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download okay_nabu.json").click()
    assert json.loads(Path(download.value.path()).read_text())["model"] == "okay_nabu.tflite"
    manifest = load_manifest(mine / "okay_nabu.json")
    assert f"cutoff {manifest.cutoff:.2f}, window {manifest.window}" in table.inner_text()
