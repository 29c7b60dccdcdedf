"""A user's own words: the included base for sound, recordings that are cut into words, a board that recognizes them."""

from __future__ import annotations

import re
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LEARN_MS
from fresh import fresh_seeds, slow
from numpy.typing import NDArray
from playwright.sync_api import Page, expect
from studio_pages import card, choose, go, start_virtual

import edgelora
from edgelora.learn.report.conclusion import TITLES
from edgelora.learn.training.data.base import load_base
from edgelora.model.datasets import keywords, speech
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.speech import RATE
from edgelora.studio.runs import USUAL
from edgelora.studio.training_options import PACKAGED, about, prospect
from edgelora.studio.word_segments import starts_of

WORDS = ("lamp", "curtain")  # not in the base's training data
VOICE = keywords.VOICES["slt"]  # nor is her voice
SAID = 10  # repetitions of each
WINDOW, HOP = 15_920, 4_000


def said(word: str, count: int, seed: int) -> NDArray[np.int16]:
    """A recording of a word, repeated with about a second between."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(count):
        spoken = speech.speak(VOICE, word, rng.uniform(0.85, 1.2), rng.uniform(-2, 2))
        parts += [np.zeros(int(rng.uniform(0.8, 1.2) * RATE)), 0.1 * spoken / np.sqrt(np.mean(spoken**2))]
    sound = np.concatenate([*parts, np.zeros(RATE)])
    return np.clip(32767 * (sound + rng.normal(0, 0.002, len(sound))), -32768, 32767).astype(np.int16)


def write_wav(path: Path, sound: NDArray[np.int16]) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, len(sound), "NONE", ""))
        file.writeframes(sound.astype("<i2").tobytes())
    return path


@pytest.mark.parametrize("seed", fresh_seeds(3))
def test_windows_are_cut_at_words(seed: int) -> None:
    """Bursts in noise, with a word's length and a pause inside: each is in the middle of one window."""
    rng = np.random.default_rng(seed)
    sound, middles = rng.normal(0, 30, RATE), []
    for _ in range(6):
        length = int(rng.uniform(0.15, 0.7) * RATE)
        word = rng.normal(0, 3000, length)
        word[length // 3 : length // 3 + int(0.05 * RATE)] *= 0.01
        middles.append(len(sound) + length / 2)
        sound = np.concatenate([sound, word, rng.normal(0, 30, int(rng.uniform(0.7, 2) * RATE))])
    starts = starts_of(sound.astype(np.int16), RATE, WINDOW, HOP)
    assert len(starts) == len(middles)
    assert np.abs(np.array(starts) + WINDOW / 2 - middles).max() < 0.02 * RATE


def test_sound_that_goes_on_is_cut_by_the_hop() -> None:
    rng = np.random.default_rng(1)
    every = list(range(0, 5 * RATE - WINDOW + 1, HOP))
    for steady in (rng.normal(0, 3000, 5 * RATE), np.zeros(5 * RATE), 9000 * np.sin(np.arange(5 * RATE) / 9)):
        assert starts_of(steady.astype(np.int16), RATE, WINDOW, HOP) == every
    vacuum = np.concatenate([rng.normal(0, 30, 2 * RATE), rng.normal(0, 3000, 3 * RATE)]).astype(np.int16)
    starts = starts_of(vacuum, RATE, WINDOW, HOP)
    assert len(starts) == (3 * RATE - WINDOW) // HOP + 1 and abs(starts[0] - 2 * RATE) < 0.02 * RATE
    assert starts_of(vacuum[: WINDOW - 1], RATE, WINDOW, HOP) == []
    click = np.zeros(2 * RATE, np.int16)
    click[RATE] = 32767
    assert starts_of(click, RATE, WINDOW, HOP) == list(range(0, 2 * RATE - WINDOW + 1, HOP)), "a click is no word"
    short = np.concatenate([np.zeros(9000), rng.normal(0, 3000, 7000)]).astype(np.int16)
    assert starts_of(short, RATE, WINDOW, HOP) == [len(short) - WINDOW], "a word at the end is in the last window"


def test_the_base_for_sound_is_as_accurate_as_stated() -> None:
    """Small, and as accurate as stated for a new voice; the statement only applies to these bytes."""
    base = load_base(PACKAGED / "sound.elm")
    assert len(base.elm) < 100_000 and base.model.signal == keywords.SIGNAL
    told = re.search(r"(\d+)% accuracy on .* \(standard deviation \d+%, worst (\d+)%\)", about(base))
    assert told and all(label in about(base) for label in base.model.labels) and "synthetic voices" in about(base)
    data = keywords.record([VOICE], keywords.PARTS["train"])
    assert edgelora.evaluate(base, data) >= int(told[2]) / 100 - 0.05
    assert about(base.renamed("sound.elm", list(WORDS))) == ""


def test_words_of_the_user_are_learned_by_layers() -> None:
    """Own rows are drawn toward the base's, which are of other words: they are for words that it knows."""
    base = load_base(PACKAGED / "sound.elm")
    x, y = np.zeros((8, *base.model.input.shape), np.float32), np.arange(8) % 2
    theirs, known = (Dataset(x, y, labels, keywords.SIGNAL) for labels in (list(WORDS), base.model.labels[:2]))
    found = prospect(base, theirs)
    assert found.renamed and not found.problem and not found.suited(USUAL).rows
    again = prospect(found.base, theirs)
    assert not again.renamed and again.learned == WORDS and not again.suited(USUAL).rows
    assert prospect(base, known).suited(USUAL) == USUAL


@slow
def test_own_words(studios: Callable[..., Any], pages: Callable[..., Page], tmp_path: Path) -> None:
    """From an empty page: the base for sound, a recording of each of two words, learn, the verdict, recognition."""
    page = pages(studios())
    press = lambda name: page.get_by_role("button", name=name, exact=True).click()  # noqa: E731

    start_virtual(page, "unix", "mine")
    board = card(page, "mine")
    board.get_by_text("ready").wait_for()
    press("Put a base on mine")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Wrist exercises: ").wait_for()
    choose(page, "Base network", re.compile("^sound.elm"))
    dialog.get_by_text("Spoken words: yes, no,").wait_for()
    press("Copy to the board")
    board.get_by_text("/sound.elm").wait_for()

    go(page, "Collect")
    for seed, word in enumerate(WORDS):
        zone = page.get_by_label("Drop files here, or choose them", exact=True)
        zone.set_input_files(write_wav(tmp_path / f"{word}.wav", said(word, SAID, seed)))
        samples = page.get_by_role("group", name=f"Samples of {word}").get_by_role("button")
        expect(samples).to_have_count(SAID)
    press("Next: learn")
    page.get_by_text("The base knows none of these").wait_for()
    press("Learn")
    page.get_by_role("button", name="Keep", exact=True).click(timeout=LEARN_MS)
    page.get_by_text("Kept.").wait_for()
    verdict = page.get_by_role("status").get_by_text(re.compile(f"^({'|'.join(map(re.escape, TITLES.values()))})$"))
    expect(verdict).to_be_visible()

    go(page, "Live")
    choose(page, "Source", re.compile("^a recording"))
    page.get_by_label("Add a recording (.csv, .wav, .npz)", exact=True).set_input_files(
        write_wav(tmp_path / "later.wav", said(WORDS[1], 4, 99))
    )
    expect(page.get_by_label("Recording", exact=True)).to_have_value("later.wav")
    choose(page, "Network", re.compile("^own-sound"))
    press("Start")
    often = re.compile(rf"(?=.*\b{WORDS[1]} \d\d).*\bnothing \d\d")  # silence between its words
    told = page.get_by_role("cell", name=often).inner_text()
    counts = {label: int(count) for label, count in (part.rsplit(" ", 1) for part in told.split(", "))}
    assert counts[WORDS[1]] > counts.get(WORDS[0], 0), counts
