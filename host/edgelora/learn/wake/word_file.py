"""A wake word in a file (.elm), with its manifest (.json) beside it."""

from __future__ import annotations

from pathlib import Path

from edgelora.base.errors import InputError
from edgelora.core.formats.wake_manifest import WakeManifest, manifest_beside
from edgelora.learn.training.data.base import load_base

from .word import Rule, WakeWord


def word_of(
    path: Path, adapter: Path | None = None, cutoff: float | None = None, window: int | None = None
) -> tuple[WakeWord, WakeManifest]:
    """The wake word in a file and its manifest, which lies beside it; its rule is that beside the adapter, if one is
    there, and what is given."""
    there = manifest_beside(path)
    if there is None:
        raise InputError(
            f"{path}: has no manifest, {path.with_suffix('.json').name}, beside it",
            remedy="import the wake word by its .json: edgelora import okay_nabu.json -o nabu.elm",
        )
    learned = manifest_beside(adapter) if adapter else None
    ruled = (learned or there)[1].with_rule(cutoff, window)
    return WakeWord(load_base(path), Rule(ruled.cutoff, ruled.window)), there[1]
