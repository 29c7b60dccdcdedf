"""Multiply-accumulates of a quantized network and of its adapters."""

from __future__ import annotations

from . import network
from .network import QuantModel


def op_macs(model: QuantModel, index: int) -> int:
    """Multiply-accumulates of an op's inference, padding included; 0 for ops without weights but attend and matmul."""
    op = model.ops[index]
    if op.kind == "attend":
        rows, channels = model.tensors[op.input].positions, model.tensors[op.input].shape[2]
        return (rows * (rows + 1) if op.causal else 2 * rows * rows) * channels
    if op.kind == "matmul":
        return model.tensors[op.output].size * model.tensors[op.input].shape[2]
    if op.taps is not None:
        return op.taps.size
    if op.weights is None:
        return 0
    height, width, _ = model.tensors[op.input if op.kind == "lstm" else op.output].shape
    return height * width * op.weights.size


def adapter_macs(model: QuantModel, ranks: bytes, index: int) -> int:
    """Additional multiply-accumulates of an op's adapter per inference."""
    if not ranks[index]:
        return 0
    height, width, _ = model.tensors[model.ops[index].output].shape
    return height * width * ranks[index] * sum(network.layer_size(model, index))
