"""EdgeLoRA's host half: from data to a personalized adapter on a board."""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .importers.keras import from_keras as from_keras
    from .importers.torch import from_torch as from_torch

__all__ = ["__version__", "from_keras", "from_torch"]

__version__ = metadata.version("edgelora")

_OF_EXTRAS = {
    "from_keras": "importers.keras",
    "from_torch": "importers.torch",
}  # imported when asked for, as they need large packages


def __getattr__(name: str) -> Any:
    if name not in _OF_EXTRAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_OF_EXTRAS[name]}", __name__), name)
