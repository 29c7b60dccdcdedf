"""Networks and adapters from other frameworks."""

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .peft import FLATTENINGS
else:
    __getattr__, __dir__ = lazily(__name__, __file__)

__all__ = ["FLATTENINGS"]
