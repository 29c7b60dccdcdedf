"""QuantModels as INT8 `.tflite` files, and TensorFlow Lite Micro to run them: the oracle of the base layers.

A file holds scales, not multipliers; TFLite Micro derives the multipliers from them.
"""

from __future__ import annotations

import flatbuffers
import numpy as np
from numpy.typing import NDArray
from random_models import same_padding
from tflite_micro.python.tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from edgelora.model import Op, QuantModel, Tensor

ACTIVATIONS = {(False, False): 0, (True, False): 1, (True, True): 3}  # masks -> NONE, RELU, RELU6


def write_tflite(model: QuantModel) -> bytes:
    """The model as an INT8 `.tflite` file; its padding must be SAME or VALID, its ranges those of `fused_range`."""
    writer = _Writer()
    tensors = [writer.activation(tensor) for tensor in model.tensors]
    for op in model.ops:
        writer.op(model, op, tensors)
    return writer.finish(tensors[0], tensors[-1])


def run_tflm(file: bytes, x: NDArray[np.int8]) -> NDArray[np.int8]:
    """The output of one inference, flattened; x: int8 [height, width, channels]."""
    return TflmModel(file)(x)


class TflmModel:
    """A `.tflite` file ready to run in TensorFlow Lite Micro."""

    def __init__(self, file: bytes) -> None:
        self.interpreter = runtime.Interpreter.from_bytes(file, arena_size=4_000_000)

    def __call__(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        self.interpreter.set_input(np.ascontiguousarray(x[None], np.int8), 0)
        self.interpreter.invoke()
        return self.interpreter.get_output(0).reshape(-1)


class _Writer:
    def __init__(self) -> None:
        self.buffers = [_buffer(b"")]
        self.tensors: list[schema.TensorT] = []
        self.operators: list[schema.OperatorT] = []
        self.codes: list[int] = []

    def activation(self, tensor: Tensor) -> int:
        return self._tensor([1, *tensor.shape], schema.TensorType.INT8, [tensor.scale], [tensor.zero_point])

    def op(self, model: QuantModel, op: Op, tensors: list[int]) -> None:
        source, target = model.tensors[op.input], model.tensors[op.output]
        inputs, outputs = [tensors[op.input]], [tensors[op.output]]
        fused = ACTIVATIONS[op.mask_low, op.mask_high]
        if op.kind == "mean":
            axes = self._tensor([2], schema.TensorType.INT32, data=np.array([1, 2], np.int32))
            options = schema.ReducerOptionsT(keepDims=True)
            self._operator(schema.BuiltinOperator.MEAN, [*inputs, axes], outputs, options)
        elif op.kind == "average_pool":
            options = schema.Pool2DOptionsT(
                padding=_padding(op, source, target),
                strideH=op.stride[0],
                strideW=op.stride[1],
                filterHeight=op.kernel[0],
                filterWidth=op.kernel[1],
                fusedActivationFunction=fused,
            )
            self._operator(schema.BuiltinOperator.AVERAGE_POOL_2D, inputs, outputs, options)
        elif op.kind == "conv":
            options = schema.Conv2DOptionsT(
                padding=_padding(op, source, target),
                strideH=op.stride[0],
                strideW=op.stride[1],
                dilationHFactor=op.dilation[0],
                dilationWFactor=op.dilation[1],
                fusedActivationFunction=fused,
            )
            self._operator(schema.BuiltinOperator.CONV_2D, inputs + self._weights(source, op), outputs, options)
        else:
            flat = self._tensor([1, source.size], schema.TensorType.INT8, [source.scale], [source.zero_point])
            shape = self._tensor([2], schema.TensorType.INT32, data=np.array([1, source.size], np.int32))
            options = schema.ReshapeOptionsT(newShape=[1, source.size])
            self._operator(schema.BuiltinOperator.RESHAPE, [*inputs, shape], [flat], options)
            self.tensors[outputs[0]].shape = [1, target.shape[2]]
            options = schema.FullyConnectedOptionsT(fusedActivationFunction=fused)
            parameters = self._weights(source, op)
            self._operator(schema.BuiltinOperator.FULLY_CONNECTED, [flat, *parameters], outputs, options)

    def finish(self, source: int, target: int) -> bytes:
        graph = schema.SubGraphT(
            tensors=self.tensors, inputs=[source], outputs=[target], operators=self.operators, name="main"
        )
        codes = [schema.OperatorCodeT(deprecatedBuiltinCode=c, builtinCode=c, version=1) for c in self.codes]
        model = schema.ModelT(
            version=3, operatorCodes=codes, subgraphs=[graph], buffers=self.buffers, description="test"
        )
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _weights(self, source: Tensor, op: Op) -> list[int]:
        """Weight and bias tensors; one scale for all channels is written as such."""
        scales = op.weight_scale if len(set(op.weight_scale)) > 1 else op.weight_scale[:1]
        shape = op.weights.shape if op.kind == "conv" else (len(op.weights), op.weights.size // len(op.weights))
        zeros = [0] * len(scales)
        weights = self._tensor(shape, schema.TensorType.INT8, scales, zeros, op.weights)
        products = np.float32(source.scale) * np.asarray(scales, np.float32)
        bias = self._tensor(op.bias.shape, schema.TensorType.INT32, products, zeros, op.bias)
        return [weights, bias]

    def _tensor(self, shape, kind: int, scales=(), zero_points=(), data: NDArray | None = None) -> int:
        buffer = 0
        if data is not None:
            buffer = len(self.buffers)
            self.buffers.append(_buffer(data.astype(data.dtype.newbyteorder("<")).tobytes()))
        quantization = None
        if len(scales):
            floats = [float(scale) for scale in scales]
            quantization = schema.QuantizationParametersT(scale=floats, zeroPoint=list(zero_points))
        name = f"t{len(self.tensors)}"
        tensor = schema.TensorT(
            shape=list(shape), type=kind, buffer=buffer, name=name, quantization=quantization, hasRank=True
        )
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _operator(self, code: int, inputs: list[int], outputs: list[int], options) -> None:
        if code not in self.codes:
            self.codes.append(code)
        kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        operator = schema.OperatorT(
            opcodeIndex=self.codes.index(code),
            inputs=inputs,
            outputs=outputs,
            builtinOptionsType=kind,
            builtinOptions=options,
        )
        self.operators.append(operator)


def _buffer(data: bytes) -> schema.BufferT:
    return schema.BufferT(data=np.frombuffer(data, np.uint8) if data else None)


def _padding(op: Op, source: Tensor, target: Tensor) -> int:
    """SAME or VALID, whichever the op has."""
    for code, same in ((schema.Padding.VALID, False), (schema.Padding.SAME, True)):
        plan = []
        for axis in range(2):
            size, kernel, stride, dilation = source.shape[axis], op.kernel[axis], op.stride[axis], op.dilation[axis]
            valid = ((size - dilation * (kernel - 1) - 1) // stride + 1, 0)
            plan.append(same_padding(size, kernel, stride, dilation) if same else valid)
        if [(target.shape[axis], op.padding[axis]) for axis in range(2)] == plan:
            return code
    raise ValueError(f"padding {op.padding} of a {op.kind} is neither SAME nor VALID")
