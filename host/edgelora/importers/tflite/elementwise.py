"""Operators that go element by element: sums, functions of one value, softmax."""

from __future__ import annotations

from ... import formats
from ...formats import Op
from .builder import Builder, Handler, grid_of
from .file import Code

MAX_TFLITE_SOFTMAX = 511  # channels; with more, TFLite's kernel shifts by too much


def add(at: Builder) -> None:
    if at.tensor(0).shape != at.tensor(1).shape:
        shapes = f"{list(at.tensor(0).shape)} and {list(at.tensor(1).shape)}"
        raise at.refusal(f"adds {shapes}: both must have the same shape")
    at.want_shape(at.tensor(0).shape)
    first, second = at.source(0), at.source(1)
    if first != second and at.shape_of(first) != at.shape_of(second):
        first, second = at.spatial_source(0), at.spatial_source(1)
    at.emit(Op("add", first, 0, input2=second), at.shape_of(first), at.operator.number(0, "b"))


def softmax(at: Builder) -> None:
    source = at.channel_source()
    at.want_shape(at.tensor(0).shape)
    beta = at.operator.options.real(0) if at.operator.options else 0.0
    if beta != 1:
        raise at.refusal(f"beta is {beta:g}, must be 1")
    if at.shape_of(source)[2] > MAX_TFLITE_SOFTMAX:
        raise at.refusal(f"{at.shape_of(source)[2]} channels, at most {MAX_TFLITE_SOFTMAX} are possible")
    want_grid(at, formats.SOFTMAX_GRID)
    at.emit(Op("softmax", source, 0), at.shape_of(source))


def want_grid(at: Builder, grid: tuple[float, int]) -> None:
    if grid_of(at.target) != grid:
        raise at.refusal(f"output scale and zero point are {grid_of(at.target)}, must be {grid}")


def lookup(at: Builder) -> Op:
    source = at.source()
    at.want_shape(at.tensor(0).shape)
    return at.emit(Op("lookup", source, 0), at.shape_of(source))


def function(at: Builder) -> None:
    """An operator that `fixed_point` has by name."""
    name = Code(at.operator.code).name.lower()
    if name in ("logistic", "tanh"):
        want_grid(at, {"logistic": formats.LOGISTIC_GRID, "tanh": formats.TANH_GRID}[name])
    op = lookup(at)
    formats.derive(at.model, op, name)
    if name == "logistic":
        at.logistic.add(op.output)


def relu6(at: Builder) -> None:
    at.same_grid(at.source())
    op = lookup(at)
    formats.set_relu6(op, at.model.tensors[op.output])


def leaky_relu(at: Builder) -> None:
    alpha = at.operator.options.real(0) if at.operator.options else 0.0
    if not abs(alpha) < 2**20:
        raise at.refusal(f"alpha is {alpha}")
    op = lookup(at)
    formats.set_leaky_relu(op, at.model.tensors[op.input], at.model.tensors[op.output], alpha)


def hard_swish(at: Builder) -> None:
    op = lookup(at)
    formats.set_hard_swish(op, at.model.tensors[op.input], at.model.tensors[op.output])


HANDLERS = {
    Code.ADD: Handler(add, 2, 2, options=True),
    Code.SOFTMAX: Handler(softmax, 1, 1, options=True),
    Code.LOGISTIC: Handler(function, 1, 1),
    Code.TANH: Handler(function, 1, 1),
    Code.RELU: Handler(function, 1, 1),
    Code.RELU6: Handler(relu6, 1, 1),
    Code.LEAKY_RELU: Handler(leaky_relu, 1, 1, options=True),
    Code.HARD_SWISH: Handler(hard_swish, 1, 1),
}
