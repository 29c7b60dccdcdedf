"""An owner's recordings in a folder: FOLDER/said/, misses/ and talk/, each with .wav files in order."""

from __future__ import annotations

from pathlib import Path

from edgelora.base.errors import InputError
from edgelora.core.front_ends import AUDIO_RATE
from edgelora.model.datasets.capture import Capture, save_wav

from .teaching import Sound

KINDS = {"said": "the word", "misses": "close phrases", "talk": "other speech"}


class Recordings:
    """The recordings in a folder, by kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, kind: str) -> list[Path]:
        """Of one of `KINDS`, in the order in which they came."""
        return sorted((self.folder / kind).glob("*.wav"))

    def next(self, kind: str, name: str = "") -> Path:
        """Where another one goes, behind those that are there."""
        there = self.of(kind)
        if there and not there[-1].name[:3].isdecimal():
            raise InputError(f"{there[-1]}: begin its name with a number of three digits, as those of others")
        return self.folder / kind / f"{int(there[-1].name[:3]) + 1 if there else 1:03}{name or '.wav'}"

    def add(self, kind: str, sound: Sound) -> Path:
        """Writes another one of 16 kHz."""
        path = self.next(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_wav(path, Capture(sound.reshape(-1, 1).astype(float), float(AUDIO_RATE), counts=True))
        return path
