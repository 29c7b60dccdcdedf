"""Suggestions that learn: what `Words` keeps, undoes and forgets, and what a reader sees after each key."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import blocks
from programs import desktop
from typed import drawn_text, language_base

from benchmarks.networks import language
from edgelora.base.resources import ROOT
from edgelora.board.profiles import load_board
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin import device
from edgelora.core.twin.regions import layout
from edgelora.learn.training.data.base import Base, opened
from edgelora.learn.training.words import TwinWords, integer_logits, own, suggested
from edgelora.model.datasets import text
from edgelora.model.floatnet.zoo import LANGUAGE


@pytest.fixture(scope="module")
def base() -> Base:
    return language_base()[1]


def likely(base: Base, adapter: bytes | None, typed: str) -> list[tuple[str, int]]:
    """The next characters by inference of the whole window."""
    x = np.zeros((1, text.WINDOW), np.uint8)
    ids = text.encode(typed)
    x[0, : len(ids)] = ids
    logits = integer_logits(base, adapter)(x)[0, len(ids) - 1]
    return [text.SYMBOLS[i] for i in np.argsort(-logits, kind="stable")[:3]]


def test_both_models_of_a_whole_base_fit_a_pico() -> None:
    """The demo's: its arenas, with nothing computed again, leave room for three adapters, in use, next and another."""
    model = language(len(text.SYMBOLS), text.WINDOW, LANGUAGE)
    elm = pack_model(model, "text.elm")
    twin = TwinWords(Base("text.elm", elm, model), "me")
    trains = layout(elm, twin.ranks, "trainable_a", own.BATCH, own.MOMENTUM).arena_bytes
    decodes = layout(elm, twin.ranks, "decode", 1).arena_bytes
    assert trains + decodes + 3 * len(twin.in_training) <= load_board("rpi_pico").arena_bytes


def test_a_store_is_opened_behind_both_models(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it keeps would else lie where the arenas have to be."""
    made: list[str] = []
    model, store = own.Model, TwinWords(base, "me").store

    def noted(what: str, make: Callable[..., Any], *args: Any) -> Any:
        made.append(what)
        return make(*args)

    monkeypatch.setattr(own, "Model", partial(noted, "model", model))
    words = own.Words(base.elm, partial(noted, "store", lambda: store), "me")
    assert made == ["model", "model", "store"] and words.store is store


def test_words_of_an_owner_are_learned_and_kept(base: Base) -> None:
    """What is in use suggests later text better than the base; a new `Words` of the same store begins with it."""
    twin, later = TwinWords(base, "me"), drawn_text(6000, 3, 7)
    twin.learn(drawn_text(64 * 300, 2, 7))
    assert twin.own.kept >= 2 and twin.own.skipped == 0
    assert twin.own.learned == 300 - 1 - 299 // own.HELD_OUT - 1  # the last character begins another window
    before, after = (suggested(integer_logits(base, each), later) for each in (None, twin.adapter))
    assert after.bits < before.bits - 0.05 and after.first > before.first
    again = own.Words(base.elm, twin.store, "me")
    assert bytes(again.adapter) == twin.adapter
    again.forget()
    assert again.adapter is None and twin.store.find("me") is None


def test_what_does_not_help_is_undone(base: Base) -> None:
    """Windows of drawn letters, learned many times, make held-out windows of words worse: the base stays in use."""
    rng, words = np.random.default_rng(4), drawn_text(6400, 3, 0)
    letters = ["".join(rng.choice(list("xyzwvkj "), 64)) for _ in range(64)]
    typed = [words[64 * i : 64 * i + 64] if i % own.HELD_OUT == 0 else letters[i] for i in range(64)]
    twin = TwinWords(base, "me", times=4)
    twin.learn("".join(typed))
    assert twin.own.undone and not twin.own.kept and twin.adapter is None
    before, after, count = twin.own.judged
    assert after > before and count <= own.MOST_HELD


def test_keys_are_taken_and_taken_back(base: Base) -> None:
    """Suggestions are those of the text that is left; a completion changes nothing."""
    words, typed = TwinWords(base, "me").own, drawn_text(300, 5, 0)
    assert words.suggest() == [] and words.complete() == ""
    words.type(typed[:20] + "\x07é")
    wanted = likely(base, None, typed[:20])
    assert [character for character, _ in words.suggest()] == wanted
    made = words.complete()
    assert made.isalpha() or not made
    assert [character for character, _ in words.suggest()] == wanted and words.complete() == made
    words.type("xq\b\b")
    assert [character for character, _ in words.suggest()] == wanted
    words.suggest()
    words.type("\b" * 100)
    assert words.suggest() == []
    words.type(typed)  # more than the window has
    half = typed[-text.WINDOW // 2 :]
    assert [character for character, _ in words.suggest()] == likely(base, None, half)


def test_several_keys_are_taken_back_after_suggestions(base: Base) -> None:
    """However many: what is suggested then is that of the text that is left, as far back as half a window."""
    words, typed = TwinWords(base, "me").own, drawn_text(300, 5, 0)
    for count in (1, 2, 3, 5):
        words.use("me")
        words.type(typed[:20])
        words.suggest()
        words.type("\b" * count)
        assert [one for one, _ in words.suggest()] == likely(base, None, typed[: 20 - count]), count
        words.type("\b\bab\b\b")
        assert [one for one, _ in words.suggest()] == likely(base, None, typed[: 18 - count]), count
    for step in (1, 2, 40):
        words.use("me")
        words.type(typed[: text.WINDOW])
        for _ in range(40 // step):
            words.suggest()  # read from half a window on
            words.type("\b" * step)
        assert [one for one, _ in words.suggest()] == likely(base, None, typed[: text.WINDOW - 40]), step


def test_a_long_completion_changes_nothing(base: Base) -> None:
    """It is shorter than half a window, so that what was typed stays in the model's window."""
    words, typed = TwinWords(base, "me").own, drawn_text(300, 5, 0)
    words.symbols = "a" * len(words.symbols)  # each makes the word longer
    words.type("a")
    words._recent = bytearray(text.encode(typed[:50]))
    words._new = len(words._recent)
    made, before = words.complete(1000), words._reader.suggest(3)
    assert len(made) == text.WINDOW // 2 - 1
    assert words.complete(1000) == made and words._reader.suggest(3) == before


def test_names_that_no_store_takes_are_refused_at_once(base: Base) -> None:
    """Else they would be once the first adapter is better, after minutes."""
    with pytest.raises(ValueError, match="give 1 to 24"):
        TwinWords(base, "Ann Lee")
    words = TwinWords(base, "me").own
    words.type("Dear")
    with pytest.raises(ValueError, match="give 1 to 24"):
        words.use("")
    assert words.name == "me" and words.suggest()


def test_an_adapter_that_the_store_refuses_is_not_kept(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes out of `step`; the base stays in use, and learning goes on to the next validation."""
    twin = TwinWords(base, "me")

    def full(*_: object) -> None:
        raise OSError(28)

    with monkeypatch.context() as broken:
        broken.setattr(twin.store, "put", full)
        with pytest.raises(OSError):
            twin.learn(drawn_text(64 * 100, 2, 7))
    assert twin.own.kept == 0 and twin.adapter is None and not twin.store.find("me")
    twin.learn(drawn_text(64 * 60, 3, 7))
    assert twin.own.kept == 1 and twin.adapter == bytes(twin.store.read("me"))


def test_more_text_than_is_learned_is_skipped(base: Base) -> None:
    words = TwinWords(base, "me").own
    words.type(drawn_text(64 * 40 + 1, 1, 0))
    assert words.skipped == 40 - own.MOST_WAITING and words.busy
    words.use("you")
    assert not words.busy and words.skipped == 0 and words.name == "you"


def test_other_bases_are_refused(base: Base) -> None:
    store = device.module("store").Store(device.Flash.of(1 << 14))
    with pytest.raises(ValueError, match="language model of characters"):
        own.Words(base.elm, store, "me", symbols="abc")
    assert opened(base, None).output_size == text.WINDOW * len(text.SYMBOLS)


def with_files(folder: Path, code: str, base: Base) -> str:
    """A program with the base and the store in this folder."""
    (folder / "text.elm").write_bytes(base.elm)
    for was, now in (("/rom/text.elm", "text.elm"), ("Store(default_place())", 'Store("store")')):
        assert was in code
        code = code.replace(was, now)
    return code


def test_the_guides_program(base: Base, tmp_path: Path) -> None:
    [code] = blocks("docs/guides/your-words.md", "python", "tested: words")
    suggested, rest = desktop(tmp_path, with_files(tmp_path, code, base)).splitlines()
    twin = TwinWords(base, "me")
    twin.own.type("the American peo")
    assert suggested == str(twin.own.suggest()) and rest == twin.own.complete()


def test_the_example_types_over_usb(base: Base, tmp_path: Path) -> None:
    """Keys of the matrix reach the computer, a backspace and the word's rest, too; silence is used to learn."""
    code = (ROOT / "examples" / "keyboard" / "main.py").read_text()
    (tmp_path / "main.py").write_text(with_files(tmp_path, code, base))
    plain = drawn_text(300, 5, 0).lower().replace("\n", " ")
    twin = TwinWords(base, "me")
    twin.own.type(plain + "bx\b")
    rest = twin.own.complete() + " "
    (tmp_path / "keys").write_text(f"{plain}bx\b\t")
    *shown, said = desktop(tmp_path, "import keyboard_example").splitlines()
    reports, learned = json.loads(said)
    codes = device.module("keyboard").Keyboard.code
    assert [report for report in reports if report[1]] == [[0, codes(one)] for one in f"{plain}bx\b{rest}"]
    assert f"b|{rest.strip()}" in shown and learned >= 3
