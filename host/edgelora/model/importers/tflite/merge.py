"""Merges an adapter into the `.tflite` file that its base was imported from.

The weights of layers with an adapter are patched in place, as are biases and scales if the merging has changed them;
all other bytes of the file stay. An imported op's arrays are views of the file, which gives their offsets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats import elm as formats_elm
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.network import Op, QuantModel
from edgelora.core.formats.signal import Signal
from edgelora.core.front_ends import HEARD_AS, heard_as
from edgelora.model.quantization import merging as quantization_merging
from edgelora.model.quantization.merging import Freedom, Merging

from .codes import Code
from .convert import calibrate, inputs_for_calibration, set_loss
from .file import FileTensor, read_graph
from .flatbuffer import TfliteError
from .graph import Importer
from .write import write_tflite

INPUTS = 256  # evaluated by a merging
REMEDY = "merge into the .elm instead, which writes a new file"


@dataclass(frozen=True)
class Source:
    """A `.tflite` file and its import: the base, its `.elm` bytes, and the operator that each op comes from."""

    name: str
    data: bytes
    model: QuantModel
    elm: bytes
    importer: Importer

    def weights(self, index: int) -> FileTensor:
        """The weights of the operator that became op `index`."""
        return self.importer.graph.tensors[self.importer.makers[index].inputs[1]]

    def bias(self, index: int) -> FileTensor | None:
        """The bias of the operator that became op `index`, if it has one."""
        maker = self.importer.makers[index]
        place = 3 if maker.code == Code.TRANSPOSE_CONV else 2
        found = maker.inputs[place] if len(maker.inputs) > place else -1
        return self.importer.graph.tensors[found] if found >= 0 else None

    def freedom(self, index: int) -> Freedom:
        """What can be refitted in op `index`: a bias of its own, and a scale for each channel or for all."""
        op, bias = self.model.ops[index], self.bias(index)
        assert op.weights is not None
        own = bias is not None and bias.data is not None and self._uses(bias.data) == 1
        return Freedom(own, len(self.weights(index).scale) == len(op.weights))

    def _uses(self, data: NDArray[np.uint8]) -> int:
        """How often the file's operators read a constant: converters store equal ones once."""
        graph = self.importer.graph
        read = [graph.tensors[i].data for operator in graph.operators for i in operator.inputs if i >= 0]
        return sum(_address(other) == _address(data) for other in read if other is not None)


def find_source(
    data: bytes,
    base_id: bytes,
    name: str,
    elm: bytes | None = None,
    x: NDArray[Any] | None = None,
    labels: Sequence[str] = (),
) -> Source:
    """The base with id `base_id`, imported from a `.tflite` file.

    elm: the base as first imported, whose labels, loss, signal and adapter shifts are then used. Without it the import
    uses the defaults or these labels, adapter shifts calibrated on noise, then on inputs x, and each front end or none.
    Raises TfliteError if no import has that id.
    """
    try:
        importer = Importer(read_graph(data))
        model = importer.run()
    except TfliteError as error:
        raise TfliteError(f"{name}: {error}") from error
    base_model = None if elm is None else unpack_model(elm)
    found = "another network"
    with contextlib.suppress(TfliteError, FormatError):  # labels or a loss that don't fit this network
        loss = base_model.loss if base_model else None
        set_loss(model, base_model.labels if base_model else (), loss, importer.ends_logistic)
        known = [model.labels] if base_model or not labels else [model.labels, list(labels)]
        for packed in _packed(model, base_model, x, known):
            found = formats_elm.base_id(packed).hex()
            if found == base_id.hex():
                return Source(name, data, model, packed, importer)
    if elm is None:
        remedy = "give --elm, the .elm that was imported from it (labels, a loss and calibration inputs are part of it)"
    elif formats_elm.base_id(elm) == base_id:
        remedy = "the given .elm was made from another .tflite file: give that file"
    else:
        remedy = f"the given .elm is base {formats_elm.base_id(elm).hex()}: give the adapter's base"
    raise TfliteError(f"the adapter was made for base {base_id.hex()}, {name} is {found}: {remedy}")


def _packed(
    model: QuantModel, base_model: QuantModel | None, x: NDArray[Any] | None, names: Sequence[list[str]]
) -> Iterator[bytes]:
    """The `.elm` bytes of the imported model by each way to import it, to which it is set."""
    for signal in _signals(model, base_model):
        model.signal = signal
        for _ in _calibrated(model, base_model, x):
            for labels in names:
                model.labels = labels
                yield pack_model(model)


def _signals(model: QuantModel, base_model: QuantModel | None) -> list[Signal | None]:
    """What the import may have been told of the input: what the base says, or nothing, or each front end."""
    if base_model is not None:
        return [base_model.signal]
    found: list[Signal | None] = [None]
    for kind in HEARD_AS:
        with contextlib.suppress(InputError):  # a front end that this input is not of
            found.append(heard_as(kind, model.input))
    return found


def _calibrated(model: QuantModel, base_model: QuantModel | None, x: NDArray[Any] | None) -> Iterator[None]:
    """Sets the imported model's adapter shifts to each candidate set."""
    if base_model is not None:
        same = [op.kind for op in model.ops] == [op.kind for op in base_model.ops]
        for op, its in zip(model.ops, base_model.ops, strict=True) if same else ():
            op.t_shift, op.branch_shift = its.t_shift, its.branch_shift
        yield
        return
    for inputs in (None, x) if x is not None else (None,):
        calibrate(model, inputs_for_calibration(model, inputs))
        yield


@dataclass(frozen=True)
class Merged:
    """A network with an adapter merged in. patched: the `.tflite` file that the base came from, with it merged."""

    merging: Merging
    patched: bytes | None = None

    def file(self, name: str) -> bytes:
        """The content of a `.tflite` or `.elm`. Raises InputError for other suffixes and ops that it can't hold."""
        if check_suffix(name) == ".elm":
            return self.merging.elm
        return write_tflite(self.merging.model) if self.patched is None else self.patched


def check_suffix(name: str) -> str:
    """The suffix of a merged network's name. Raises InputError for unknown ones."""
    for suffix in (".tflite", ".elm"):
        if name.endswith(suffix):
            return suffix
    raise InputError(f"{name}: a merged network is a .tflite or .elm file: give a name with that ending")


def merge_tflite(source: Source, ela: bytes, x: NDArray[Any] | None = None, refit: bool = False) -> Merged:
    """The file with the adapter merged in, and its error on inputs x (None: noise). refit: fit biases and scales to x.

    Raises TfliteError if layers share a constant and the merged weights differ.
    """
    able = (i for i, op in enumerate(source.model.ops) if op.is_matrix)
    freedom = {i: source.freedom(i) for i in able} if refit else None
    inputs = inputs_for_calibration(source.model, x, INPUTS)
    merging = quantization_merging.merge(source.elm, source.model, ela, inputs, freedom)
    data = bytearray(source.data)
    for row in merging.layers:
        _patch(source, data, row.op, merging.model.ops[row.op])
    _check(source, bytes(data), merging.model)
    return Merged(merging, bytes(data))


def merge_elm(elm: bytes, ela: bytes, x: NDArray[Any] | None = None, refit: bool = False) -> Merged:
    """The base with the adapter merged in, without the `.tflite` file that it may come from."""
    model = unpack_model(elm)
    freedom = {i: Freedom() for i, op in enumerate(model.ops) if op.is_matrix} if refit else None
    return Merged(quantization_merging.merge(elm, model, ela, inputs_for_calibration(model, x, INPUTS), freedom))


def _patch(source: Source, data: bytearray, index: int, op: Op) -> None:
    before, weights, bias = source.model.ops[index], source.weights(index), source.bias(index)
    assert before.weights is not None and op.weights is not None and op.bias is not None
    if weights.size != op.weights.size:
        raise TfliteError(
            f"{source.name}: op {index} has channel groups, the file no room for weights across groups: {REMEDY}"
        )
    _write(source.data, data, before.weights, op.weights)
    if bias is not None and bias.data is not None:
        _write(source.data, data, bias.values().reshape(-1), op.bias)
    assert op.weight_scale is not None
    scale = op.weight_scale[: len(weights.scale)].astype(np.float32)
    changed = weights.scale != scale
    _write(source.data, data, weights.scale, scale)
    if bias is not None and len(bias.scale) == len(scale):
        product = np.float32(source.model.tensors[op.input].scale) * scale
        _write(source.data, data, bias.scale, np.where(changed, product, bias.scale))


def _write(file: bytes, data: bytearray, view: NDArray[Any], values: NDArray[Any]) -> None:
    """Writes values into `data`, a copy of `file`, at the offset of `view`, a view of `file`."""
    at = _address(view) - _address(np.frombuffer(file, np.uint8))
    assert 0 <= at < len(file), "not a view of the file"
    np.ndarray(view.shape, view.dtype, data, at, view.strides)[...] = values.astype(view.dtype)


def _address(view: NDArray[Any]) -> int:
    return int(view.__array_interface__["data"][0])


def _check(source: Source, data: bytes, wanted: QuantModel) -> None:
    """Raises unless the patched file imports as `wanted`, as a constant may be shared by several layers."""
    importer = Importer(read_graph(data))
    model = importer.run()
    for index, (op, its) in enumerate(zip(model.ops, wanted.ops, strict=True)):
        for what in ("weights", "bias", "multiplier", "shift", "initial"):
            mine, other = getattr(op, what), getattr(its, what)
            if mine is not None and not np.array_equal(mine, other):
                name = source.importer.makers[index].outputs[0]
                raise TfliteError(
                    f"{source.name}: {what} of op {index} (tensor '{source.importer.graph.tensors[name].name}') is a "
                    f"constant that another layer shares: {REMEDY}"
                )
