"""QUANTIZE and DEQUANTIZE, between two grids and at a network's input and output."""

from __future__ import annotations

from edgelora.core.formats import fixed_point
from edgelora.core.formats.network import Op

from . import float_islands
from .builder import FORMS, Builder, Handler, grid_of, spatial
from .codes import Code
from .file import Type
from .refusals import CONVERT


def requantize(at: Builder) -> None:
    """QUANTIZE of the input, between two grids, or to a uint8 output, which is int8 with another zero point."""
    begins = at.operator.inputs[:1] == (at.graph.input,)
    ends = at.operator.outputs == (at.graph.output,)
    source, target = at.tensor(0), at.target
    at.want_shape(source.shape)
    if target.type not in ((Type.INT8, Type.UINT8) if ends else (Type.INT8,)):
        raise at.refusal(f"makes {target.type_name}{FORMS.get(target.type, '')}, must make int8; {CONVERT}")
    if begins and source.type == Type.FLOAT32:
        return _quantized_input(at)
    if at.operator.inputs[0] in at.reals:
        return float_islands.end(at)
    if not (begins and source.type == Type.UINT8):
        at.source()
    index = at.found[at.operator.inputs[0]]
    tensor, grid = at.model.tensors[index], grid_of(target)
    if (tensor.scale, tensor.zero_point) == grid:
        at.found[at.operator.outputs[0]] = index
        return
    op = Op("lookup", index, 0)
    at.found[at.operator.outputs[0]] = at.append(op, tensor.shape, *grid)
    fixed_point.derive(at.model, op, "requantize")


def _quantized_input(at: Builder) -> None:
    """Makes the QUANTIZE of a float input the model's int8 input."""
    shape, grid = spatial(at.target.shape), grid_of(at.target)
    if not at.model.tensors:
        at.add_tensor(shape, *grid)
    elif (at.model.input.shape, at.model.input.scale, at.model.input.zero_point) != (shape, *grid):
        raise at.refusal("the input is quantized twice, to different scales")
    at.found[at.operator.outputs[0]] = 0


def dequantize(at: Builder) -> None:
    """A final DEQUANTIZE is dropped: its int8 input becomes the output. Others begin a float island."""
    at.want_shape(at.tensor(0).shape)
    if at.target.type != Type.FLOAT32:
        raise at.refusal(f"makes {at.target.type_name}, must make float32: the file is damaged")
    if at.operator.outputs != (at.graph.output,):
        return float_islands.begin(at)
    at.found[at.operator.outputs[0]] = at.source()


HANDLERS = {
    Code.QUANTIZE: Handler(requantize, 1, 1),
    Code.DEQUANTIZE: Handler(dequantize, 1, 1),
}
