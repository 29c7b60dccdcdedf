"""Manifests of microWakeWord models: the JSON files, version 2, that ESPHome and Home Assistant's voice devices load.

    {"type": "micro", "wake_word": "Okay Nabu", "author": ..., "website": ..., "model": "okay_nabu.tflite",
     "trained_languages": ["en"], "version": 2, "micro": {"probability_cutoff": 0.85, "sliding_window_size": 5,
     "feature_step_size": 10, "tensor_arena_size": 37000, "minimum_esphome_version": "2024.7.0"}}

The word counts as said while the mean of the last `sliding_window_size` probabilities is above the cutoff: on boards
`edgelora.wake.Rule`, which reads these files, too. Files are untrusted.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgelora.base.errors import EdgeloraError, InputError

from .files import read_bounded, write_atomic

MAX_BYTES = 1 << 16
MAX_TEXT = 200  # characters of a text
MAX_LANGUAGES = 100
MAX_WINDOW = 255  # probabilities, as boards keep them
STEP_MS = 10  # from one row of features to the next, by the boards' front end
VERSION = 2
_ESPHOME = re.compile(r"\d{1,4}\.\d{1,2}\.\d{1,3}[0-9A-Za-z.-]{0,20}")


@dataclass(frozen=True)
class WakeManifest:
    """A wake word's names, network and decision rule.

    model: the name of the `.tflite` file, which lies beside the manifest. cutoff: of probabilities, 0 to 1. window: how
    many of them are averaged. arena_bytes: of TensorFlow Lite Micro.
    """

    wake_word: str
    model: str
    cutoff: float
    window: int
    arena_bytes: int
    languages: tuple[str, ...] = ("en",)
    author: str = ""
    website: str = ""
    minimum_version: str = "2024.7.0"

    @property
    def labels(self) -> list[str]:
        """Names of the network's answers, no and yes."""
        return ["other", Path(self.model).stem]

    def with_rule(self, cutoff: float | None, window: int | None) -> WakeManifest:
        """The same with another rule, where it is given. InputError for one that no device has."""
        made = replace(
            self,
            cutoff=self.cutoff if cutoff is None else cutoff,
            window=self.window if window is None else window,
        )
        return _checked(made.as_json(), "the manifest")

    def as_json(self) -> dict[str, Any]:
        """The manifest's fields, in the usual order."""
        micro = {
            "probability_cutoff": self.cutoff,
            "sliding_window_size": self.window,
            "feature_step_size": STEP_MS,
            "tensor_arena_size": self.arena_bytes,
            "minimum_esphome_version": self.minimum_version,
        }
        site = {"website": self.website} if self.website else {}
        return {
            "type": "micro",
            "wake_word": self.wake_word,
            "author": self.author,
            **site,
            "model": self.model,
            "trained_languages": list(self.languages),
            "version": VERSION,
            "micro": micro,
        }

    def save(self, path: Path) -> None:
        write_atomic(path, self.packed())

    def packed(self) -> bytes:
        return (json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n").encode()


def load_manifest(path: Path) -> WakeManifest:
    """Reads a manifest. InputError, which names the field, for what is none, and for words that boards can't hear."""
    return _checked(_loaded(path), str(path))


def manifest_beside(path: Path) -> tuple[str, WakeManifest] | None:
    """The manifest with a base's name that lies beside its file, and the manifest's file name; None if there is none.

    A .json that says it is a manifest must be a valid one.
    """
    there = path.with_suffix(".json")
    try:
        fields = _loaded(there)
    except (OSError, EdgeloraError):
        return None
    is_one = isinstance(fields, dict) and fields.get("type") == "micro"
    return (there.name, _checked(fields, str(there))) if is_one else None


def _loaded(path: Path) -> Any:
    try:
        return json.loads(read_bounded(path, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise _wrong(str(path), f"can't be read as JSON ({str(error)[:100]})") from error


def model_beside(path: Path, manifest: WakeManifest) -> Path:
    """The `.tflite` file of a manifest at this path."""
    return path.parent / manifest.model


def _checked(fields: Any, name: str) -> WakeManifest:
    if not isinstance(fields, dict) or fields.get("type") != "micro":
        raise _wrong(name, 'it has no "type": "micro"')
    if (version := fields.get("version")) != VERSION or isinstance(version, bool):
        raise _wrong(name, f"its version is {str(version)[:20]}, must be {VERSION}")
    micro = fields.get("micro")
    if not isinstance(micro, dict):
        raise _wrong(name, '"micro" is not an object')
    step = _whole(micro, "feature_step_size", 1, 1000, name)
    if step != STEP_MS:
        raise InputError(
            f"{name}: features are computed every {step} ms, boards compute them every {STEP_MS} ms",
            remedy="take a model of version 2 that was trained on those",
        )
    model = _text(fields, "model", name)
    if not model.endswith(".tflite") or re.search(r"[/\\:\0]", model) or model.startswith("."):
        raise _wrong(name, f'"model" is {model!r}, must be the name of a .tflite file in the same folder')
    version_text = _text(micro, "minimum_esphome_version", name)
    if not _ESPHOME.fullmatch(version_text):
        raise _wrong(name, f'"minimum_esphome_version" is {version_text!r}, must be such as "2024.7.0"')
    return WakeManifest(
        _text(fields, "wake_word", name),
        model,
        _cutoff(micro, name),
        _whole(micro, "sliding_window_size", 1, MAX_WINDOW, name),
        _whole(micro, "tensor_arena_size", 1, 1 << 30, name),
        _languages(fields, name),
        _text(fields, "author", name, least=0),
        _text(fields, "website", name, least=0) if "website" in fields else "",
        version_text,
    )


def _cutoff(micro: dict[str, Any], name: str) -> float:
    found = micro.get("probability_cutoff")
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        raise _wrong(name, f'"probability_cutoff" is {str(found)[:40]}, must be a number from 0 to 1')
    return float(found)


def _whole(fields: dict[str, Any], key: str, low: int, high: int, name: str) -> int:
    found = fields.get(key)
    if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
        raise _wrong(name, f'"{key}" is {str(found)[:40]}, must be a whole number from {low} to {high}')
    return found


def _text(fields: dict[str, Any], key: str, name: str, least: int = 1) -> str:
    found = fields.get(key)
    if not isinstance(found, str) or not least <= len(found) <= MAX_TEXT or not (found + " ").isprintable():
        raise _wrong(name, f'"{key}" is not a text of {least} to {MAX_TEXT} printable characters')
    return found


def _languages(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    found = fields.get("trained_languages")
    found = [found] if isinstance(found, str) else found
    if not isinstance(found, list) or len(found) > MAX_LANGUAGES:
        raise _wrong(name, f'"trained_languages" is not a list of at most {MAX_LANGUAGES} texts')
    return tuple(_text({"trained_languages": one}, "trained_languages", name) for one in found)


def _wrong(name: str, why: str) -> InputError:
    return InputError(
        f"{name} is not a manifest of a wake word: {why}",
        remedy="give a microWakeWord model's .json, as ESPHome loads it",
    )
