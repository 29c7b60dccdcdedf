"""TensorFlow Lite Micro as what a base must equal, with LiteRT for the operators that it lacks.

LiteRT's convolutions round otherwise than TensorFlow Lite Micro's, so a network with one operator too many for the
latter is run in parts: each run of operators that it has by TensorFlow Lite Micro, the others one by one by LiteRT.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from itertools import groupby
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from tflite_micro.python.tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

ARENA = 16 << 20
LACKING = {
    schema.BuiltinOperator.__dict__[name]
    for name in ["GELU", "EXP", "LOG", "SQRT", "TILE", "RELU_N1_TO_1", "RELU_0_TO_1"]
}
Tensors = dict[int, NDArray[Any]]
Part = tuple[list[int], list[int], Callable[[list[NDArray[Any]]], list[NDArray[Any]]]]  # inputs, outputs, what it does


class Oracle:
    """Runs a `.tflite` file of one input and one output, each time from an empty state, as a base does."""

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromPackedBuf(content, 0)
        graph = self.model.subgraphs[0]
        self.source, self.target = int(graph.inputs[0]), int(graph.outputs[0])
        self.shape = tuple(graph.tensors[self.source].shape)
        groups = [(lacks, list(group)) for lacks, group in groupby(graph.operators, self._is_lacking)]
        whole = [part for lacks, group in groups for part in ([[o] for o in group] if lacks else [group])]
        self.name = "TensorFlow Lite Micro" if len(whole) == 1 else "TensorFlow Lite Micro and LiteRT"
        if len(whole) == 1:
            self.parts = [([self.source], [self.target], _micro(content))]
        else:
            self.parts = [self._part(group, whole[i + 1 :]) for i, group in enumerate(whole)]

    def __call__(self, x: NDArray[np.int8]) -> NDArray[Any]:
        """The output, flat, of an int8 input of any shape."""
        known: Tensors = {self.source: x.reshape(self.shape)}
        for inputs, outputs, run in self.parts:
            known |= zip(outputs, run([known[i] for i in inputs]), strict=True)
        return known[self.target].reshape(-1)

    def _is_lacking(self, operator: Any) -> bool:
        return self.model.operatorCodes[operator.opcodeIndex].builtinCode in LACKING

    def _part(self, operators: list[Any], later: list[list[Any]]) -> Part:
        tensors = self.model.subgraphs[0].tensors
        made = {int(i) for o in operators for i in o.outputs}
        read = {int(i) for o in operators for i in o.inputs if i >= 0} - made
        empty = (i for i in read if self.model.buffers[tensors[i].buffer].data is None)
        inputs = sorted(i for i in empty if not tensors[i].isVariable)  # a variable is the interpreter's own
        wanted = {self.target, *(int(i) for group in later for o in group for i in o.inputs)}
        outputs = sorted(made & wanted)
        part = copy.copy(self.model)
        graph = copy.copy(self.model.subgraphs[0])
        graph.operators, graph.inputs, graph.outputs = operators, inputs, outputs
        part.subgraphs, part.signatureDefs, part.metadata = [graph], None, None
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(part.Pack(builder), file_identifier=b"TFL3")
        content = bytes(builder.Output())
        return inputs, outputs, (_lite if self._is_lacking(operators[0]) else _micro)(content)


def _micro(content: bytes) -> Callable[[list[NDArray[Any]]], list[NDArray[Any]]]:
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # its notes
    try:
        interpreter = runtime.Interpreter.from_bytes(content, arena_size=ARENA)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
    outputs = len(schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0].outputs)

    def run(values: list[NDArray[Any]]) -> list[NDArray[Any]]:
        interpreter.reset()
        for i, value in enumerate(values):
            interpreter.set_input(value.reshape(interpreter.get_input_details(i)["shape"]), i)
        interpreter.invoke()
        return [np.array(interpreter.get_output(i)) for i in range(outputs)]

    return run


def _lite(content: bytes) -> Callable[[list[NDArray[Any]]], list[NDArray[Any]]]:
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(values: list[NDArray[Any]]) -> list[NDArray[Any]]:
        interpreter.reset_all_variables()
        for detail, value in zip(inputs, values, strict=True):
            interpreter.set_tensor(detail["index"], value.reshape(detail["shape"]))
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in outputs]

    return run
