"""EdgeLoRA's host half: from data to a personalized adapter on a board.

What a name needs is imported when it is first asked for, so that `import edgelora` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Board as Board
    from .api import blend as blend
    from .api import confusion_matrix as confusion_matrix
    from .api import evaluate as evaluate
    from .api import load as load
    from .api import merge as merge
    from .api import personalize as personalize
    from .api import plan as plan
    from .api import predict as predict
    from .api import pretrain as pretrain
    from .api import quantize as quantize
    from .base.errors import EdgeloraError as EdgeloraError
    from .learn.training.recipe import Recipe as Recipe
    from .model.importers.keras import from_keras as from_keras
    from .model.importers.language_models import from_language_model as from_language_model
    from .model.importers.torch import from_torch as from_torch

    __version__: str

__all__ = [
    "Board",
    "EdgeloraError",
    "Recipe",
    "__version__",
    "blend",
    "confusion_matrix",
    "evaluate",
    "from_keras",
    "from_language_model",
    "from_torch",
    "load",
    "merge",
    "personalize",
    "plan",
    "predict",
    "pretrain",
    "quantize",
]

_HOMES = {
    "EdgeloraError": "base.errors",
    "Recipe": "learn.training.recipe",
    "from_keras": "model.importers.keras",
    "from_language_model": "model.importers.language_models",
    "from_torch": "model.importers.torch",
}  # all others are of `api`


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("edgelora")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'api')}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
