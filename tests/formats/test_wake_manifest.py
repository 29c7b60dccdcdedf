"""Manifests of wake words: those of pymicro-wakeword are read and written; what no device loads is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgelora.base.errors import InputError
from edgelora.core.formats.wake_manifest import WakeManifest, load_manifest, manifest_beside
from edgelora.core.twin import device

NABU = WakeManifest("Okay Nabu", "okay_nabu.tflite", 0.85, 5, 37000, ("en", "nl"), "Kevin", "https://example.org/")


def test_deployed_manifests_are_written_as_they_are_read(tmp_path: Path) -> None:
    pytest.importorskip("pymicro_wakeword")
    from wake_words import MODELS, WAKE_WORDS

    for name in WAKE_WORDS:
        found = load_manifest(MODELS / f"{name}.json")
        found.save(tmp_path / "word.json")
        assert json.loads((tmp_path / "word.json").read_text()) == json.loads((MODELS / f"{name}.json").read_text())
        assert (found.window, found.labels) == (5, ["other", name])
    rule = device.module("wake").Rule.read(str(MODELS / "okay_nabu.json"))
    assert (rule.cutoff, rule.window) == (216, 5), "ESPHome rounds down"


def test_files_and_rules(tmp_path: Path) -> None:
    NABU.save(tmp_path / "a.json")
    assert load_manifest(tmp_path / "a.json") == NABU and manifest_beside(tmp_path / "a.elm") == ("a.json", NABU)
    assert manifest_beside(tmp_path / "b.elm") is None
    (tmp_path / "b.json").write_text('{"type": "plan"}')
    (tmp_path / "c.json").write_text("[")
    assert manifest_beside(tmp_path / "b.elm") is None and manifest_beside(tmp_path / "c.elm") is None
    mine = NABU.with_rule(0.5, None)
    assert (mine.cutoff, mine.window) == (0.5, 5) and NABU.with_rule(None, 9).window == 9
    for cutoff, window in ((1.1, None), (float("nan"), None), (None, 0), (None, 256)):
        with pytest.raises(InputError, match="must be a (number|whole number) from"):
            NABU.with_rule(cutoff, window)


def changed(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(fields: dict[str, Any]) -> None:
        (fields["micro"] if key in fields["micro"] else fields)[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed("type", "vad"), 'no "type"'),
        (changed("version", 1), "version is 1, must be 2"),
        (changed("version", True), "version is True"),
        (changed("micro", []), '"micro" is not an object'),
        (changed("feature_step_size", 20), "computed every 20 ms, boards compute them every 10 ms"),
        (changed("feature_step_size", "10"), '"feature_step_size" is 10, must be a whole number'),
        (changed("model", "../okay_nabu.tflite"), "must be the name of a .tflite file"),
        (changed("model", "/etc/passwd"), "must be the name of a .tflite file"),
        (changed("model", "C:\\x.tflite"), "must be the name of a .tflite file"),
        (changed("model", "x\n.tflite"), "printable"),
        (changed("model", 3), '"model" is not a text'),
        (changed("wake_word", ""), '"wake_word" is not a text of 1 to 200'),
        (changed("wake_word", "x" * 201), '"wake_word" is not a text'),
        (changed("author", None), '"author" is not a text of 0'),
        (changed("website", 5), '"website" is not a text'),
        (changed("trained_languages", {}), '"trained_languages" is not a list'),
        (changed("trained_languages", ["en"] * 101), "at most 100"),
        (changed("trained_languages", [1]), '"trained_languages" is not a text'),
        (changed("probability_cutoff", 1.5), '"probability_cutoff" is 1.5'),
        (changed("probability_cutoff", float("inf")), '"probability_cutoff" is inf'),
        (changed("probability_cutoff", True), '"probability_cutoff" is True'),
        (changed("probability_cutoff", 10**400), "must be a number from 0 to 1"),
        (changed("sliding_window_size", 0), "whole number from 1 to 255"),
        (changed("sliding_window_size", 2.5), "whole number from 1 to 255"),
        (changed("tensor_arena_size", -1), '"tensor_arena_size" is -1'),
        (changed("minimum_esphome_version", "new"), 'must be such as "2024.7.0"'),
    ],
)
def test_what_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    fields = NABU.as_json()
    change(fields)
    (tmp_path / "a.json").write_text(json.dumps(fields))
    with pytest.raises(InputError) as error:
        load_manifest(tmp_path / "a.json")
    assert words in str(error.value) and error.value.remedy
    assert str(tmp_path / "a.json") in str(error.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 60_000, b'"x"', b"1e999"])
def test_bytes_that_are_no_manifest(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match="is not a manifest of a wake word"):
        load_manifest(tmp_path / "a.json")
