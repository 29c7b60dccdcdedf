"""The handlers of all importable operators."""

from __future__ import annotations

from . import constants, elementwise, layers, lstm, moves, quantize_ops, recurrent
from .builder import Handler
from .codes import Code

HANDLERS: dict[Code, Handler] = {
    **layers.HANDLERS,
    **elementwise.HANDLERS,
    **moves.HANDLERS,
    **quantize_ops.HANDLERS,
    **recurrent.HANDLERS,
    **lstm.HANDLERS,
    **constants.HANDLERS,
}
