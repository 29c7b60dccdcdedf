"""Builds a QuantModel from the operators of a `.tflite` file, in order."""

from __future__ import annotations

from edgelora.core.formats.elm import check_op
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.network import QuantModel

from . import float_islands, refusals
from .builder import Builder, Handler, _OperatorError, grid_of, spatial
from .codes import Code
from .file import Operator, Type
from .flatbuffer import TfliteError
from .operators import HANDLERS
from .refusals import CONVERT

# Positions of inputs that are an operator's own variables.
STATE_PLACES: dict[int, tuple[int, ...]] = {Code.SVDF: (4,), Code.UNIDIRECTIONAL_SEQUENCE_LSTM: (18, 19)}


class Importer(Builder):
    """Converts a graph's operators to a model."""

    @property
    def ends_logistic(self) -> bool:
        return len(self.model.tensors) - 1 in self.logistic

    def run(self) -> QuantModel:
        written = {self.graph.input}
        for operator in self.graph.operators:
            self.operator = operator
            self._check_known()
            if any(i in written or i < 0 or self.graph.tensors[i].data is not None for i in operator.outputs):
                raise self.refusal("writes a tensor that already has a value: the file is damaged")
            written.update(operator.outputs)
        self._input()
        for operator in self._needed():
            self.operator = operator
            real = operator.code != Code.QUANTIZE and any(i in self.reals for i in operator.inputs)
            try:
                (float_islands.compute if real else HANDLERS[Code(operator.code)].run)(self)
            except _OperatorError:
                raise
            except ValueError as error:  # from the file or the arithmetic, such as scales that TFLite rejects
                raise self.refusal(str(error)) from error
        end = self.graph.output
        self.model.rounds = any(op.kind == "matmul" for op in self.model.ops)
        self._check_ops()
        if end not in self.found or not self.model.ops:
            raise TfliteError("the output doesn't depend on the input through any supported layer")
        shape = self.graph.tensors[end].shape
        if 2 <= len(shape) <= 4 and shape[0] == 1:
            self.found[end] = self.reshaped(self.found[end], spatial(shape))
        return self.model

    def _check_ops(self) -> None:
        """Raises TfliteError, which names the operator, for an op that `.elm` can't hold."""
        for index, operator in enumerate(self.makers):
            self.operator = operator
            try:
                check_op(self.model, index, f"op {index}")
            except FormatError as error:
                raise self.refusal(str(error)) from error

    def _needed(self) -> list[Operator]:
        """The operators that the output depends on."""
        wanted, needed = {self.graph.output}, []
        for operator in reversed(self.graph.operators):
            if wanted & set(operator.outputs):
                needed.append(operator)
                wanted |= set(operator.inputs)
        self.read = wanted
        return needed[::-1]

    def _check_known(self) -> None:
        code = self.operator.code
        own = STATE_PLACES.get(code, ())
        variable = (i >= 0 and self.graph.tensors[i].is_variable for i in self.operator.inputs)
        if any(is_one and place not in own for place, is_one in enumerate(variable)):
            raise self.refusal(f"not supported: it keeps a variable; {refusals.STATELESS}")
        first = self.graph.tensors[self.operator.inputs[0]] if self.operator.inputs[:1] else None
        if code in HANDLERS:
            form = HANDLERS[Code(code)]
        elif code in float_islands.FUNCTIONS and first and first.type == Type.FLOAT32:
            form = Handler(
                float_islands.compute, float_islands.FUNCTIONS[Code(code)], float_islands.FUNCTIONS[Code(code)]
            )
        else:
            raise self.refusal(f"not supported: it {refusals.why(code)}")
        inputs, outputs = len(self.operator.inputs), len(self.operator.outputs)
        most = inputs if form.most is None else form.most
        if not form.least <= inputs <= most or form.outputs not in (None, outputs):
            raise self.refusal(f"has {inputs} inputs and {outputs} outputs: the file is damaged")
        if form.options and self.operator.options is None:
            raise self.refusal("lacks its options: the file is damaged")

    def _input(self) -> None:
        """Adds an int8 or uint8 input to the model; a float input is replaced by the output of its QUANTIZE."""
        tensor = self.graph.tensors[self.graph.input]
        if tensor.data is not None or tensor.is_variable:
            raise TfliteError(f"the input '{tensor.name}' has a value in the file: it is damaged")
        if tensor.type in (Type.INT8, Type.UINT8):
            self.found[self.graph.input] = self.add_tensor(spatial(tensor.shape), *grid_of(tensor))
        elif tensor.type != Type.FLOAT32:
            raise TfliteError(f"the input '{tensor.name}' is {tensor.type_name}, must be int8; {CONVERT}")
