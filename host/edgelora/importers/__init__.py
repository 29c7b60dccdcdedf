"""Networks and adapters from other frameworks."""

from .peft import FLATTENINGS

__all__ = ["FLATTENINGS"]
