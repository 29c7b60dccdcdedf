"""The deployed wake words of the package pymicro-wakeword."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgelora.base.errors import MissingPackage
from edgelora.core.formats.wake_manifest import load_manifest, model_beside

WAKE_WORDS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")


def manifest_of(name: str) -> Path:
    """The manifest of one of `WAKE_WORDS`. MissingPackage without pymicro-wakeword."""
    found = find_spec("pymicro_wakeword")
    if found is None or found.origin is None:
        raise MissingPackage("the wake words are in the package pymicro-wakeword: pip install pymicro-wakeword")
    return Path(found.origin).parent / "models" / f"{name}.json"


def network_of(name: str) -> bytes:
    """The `.tflite` of one of `WAKE_WORDS`."""
    path = manifest_of(name)
    return model_beside(path, load_manifest(path)).read_bytes()
