"""Agreement of an integer network and its adapter with a float network with the same change."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.ela import Adapter, pack_adapter
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.network import MASK_KINDS, QuantModel
from edgelora.core.twin.session import Session
from edgelora.model.floatnet.layers import Array

from .report import classes_of, total_bits

MUCH = 0.02  # significant loss of accuracy; without labels, of agreement
CHANCE = 2.0  # standard errors
FULL_SAMPLES = 64  # evenly spaced, whose activations are examined
FULL = 0.01  # share of saturated outputs of an op, above the base's, that is reported as a cause
BITS_MUCH = 0.03  # a symbol; quantization of the base costs a third of it
VALUES_MUCH = 0.1  # relative root mean square error, for outputs that are values


@dataclass(frozen=True)
class Fidelity:
    """The integer network with an adapter against its float original, on some samples.

    agreement: share of equal predictions; accuracies: with labels; error: of outputs that are values,
    relative, root of squares (of others None); bits: what a language model's symbols cost, with labels. full: the ops
    whose outputs the adapter drives to an end of the base's range (for logits, the upper one), with the increase over
    the base alone in share of outputs.
    """

    samples: int
    agreement: float | None = None
    float_accuracy: float | None = None
    accuracy: float | None = None
    chance: float = 0.0  # standard error of the difference of the accuracies
    error: float | None = None
    full: tuple[tuple[int, float], ...] = ()
    float_bits: float | None = None
    bits: float | None = None

    @property
    def lost(self) -> bool:
        """Whether the loss is large and significant."""
        if self.bits is not None and self.float_bits is not None:
            return self.bits - self.float_bits > BITS_MUCH
        if self.accuracy is not None and self.float_accuracy is not None:
            return self.float_accuracy - self.accuracy > max(MUCH, CHANCE * self.chance)
        if self.agreement is not None:
            return 1 - self.agreement > MUCH + CHANCE * math.sqrt(MUCH / self.samples)
        return self.error is not None and self.error > VALUES_MUCH

    def message(self, reference: str) -> str:
        """A line on the agreement with `reference`."""
        if self.error is not None:
            return f"error against {reference}: {self.error:.1%} of the outputs' size ({self.samples} samples)"
        if self.bits is not None and self.float_bits is not None:
            return f"bits a symbol: {reference} {self.float_bits:.4f}, integer {self.bits:.4f}"
        same = f"both predict the same for {self.agreement:.1%} of {self.samples} samples"
        if self.accuracy is None or self.float_accuracy is None:
            return f"against {reference}: {same}"
        return f"accuracy: {reference} {self.float_accuracy:.1%}, integer {self.accuracy:.1%}; {same}"


def with_adapter(elm: bytes, model: QuantModel, adapter: Adapter | None) -> Session:
    """The host twin with an adapter, or the base alone."""
    if adapter is None or not adapter.layers:
        return Session(elm, bytes(len(model.ops)), "infer")
    session = Session(elm, adapter.ranks(len(model.ops)), "infer", 1)
    session.use(pack_adapter(adapter))
    return session


def compare_adapter(
    elm: bytes, adapter: Adapter, wanted: Array, x: Array, y: NDArray[np.integer] | None = None
) -> Fidelity:
    """Compares the twin's outputs with `wanted`, real outputs [N, n], on real inputs x [N, H, W, C].

    y: their classes [N], or the symbols behind those of x, [N, positions].
    """
    model = unpack_model(elm)
    session = with_adapter(elm, model, adapter)
    inputs = model.quantize(x)
    outputs = np.stack([session.activations(row, model)[-1] for row in inputs]).reshape(len(x), -1)
    got = model.output.dequantize(outputs)
    full = _full(elm, model, adapter, inputs[:: -(-len(x) // FULL_SAMPLES)])
    if model.learns_values:
        error = float(np.linalg.norm(got - wanted)) / max(float(np.linalg.norm(wanted)), 1e-30)
        return Fidelity(len(x), error=error, full=full)
    mine, theirs = classes_of(model, got), classes_of(model, wanted)
    agreement = float(np.mean(mine == theirs))
    if y is None:
        return Fidelity(len(x), agreement, full=full)
    right, float_right = mine == y, theirs == y
    chance = math.sqrt(np.count_nonzero(right != float_right)) / right.size
    found = Fidelity(len(x), agreement, float(np.mean(float_right)), float(np.mean(right)), chance, full=full)
    if not model.learns_sequences:
        return found
    return replace(found, float_bits=total_bits(wanted, y) / y.size, bits=total_bits(got, y) / y.size)


def _full(elm: bytes, model: QuantModel, adapter: Adapter, x: NDArray[np.int8]) -> tuple[tuple[int, float], ...]:
    more = _shares_at_ends(with_adapter(elm, model, adapter), model, x)
    more -= _shares_at_ends(with_adapter(elm, model, None), model, x)
    return tuple((int(op), float(more[op])) for op in np.flatnonzero(more > FULL))


def _shares_at_ends(session: Session, model: QuantModel, x: NDArray[np.int8]) -> NDArray[np.float64]:
    """The number of saturated outputs of each op, except at bounds of fused activations."""
    shares = np.zeros(len(model.ops))
    for row in x:
        for index, (op, q) in enumerate(zip(model.ops, session.activations(row, model)[1:], strict=True)):
            if op.kind in MASK_KINDS:
                far_below = model.loss == "cross_entropy" and op.output == model.loss_index  # isn't heard
                low, high = not (op.mask_low or far_below), not op.mask_high
                shares[index] += np.mean((q == 127) & high | (q == -128) & low)
    return shares / len(x)
