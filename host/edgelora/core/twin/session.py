"""A session of the core on the host."""

from __future__ import annotations

import ctypes as C
import struct
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.classes import ClassRow
from edgelora.core.formats.network import QuantModel

from . import native
from .binding import MODES, SHAPE_BYTES, _aligned, check, check_model, library
from .native import refuse
from .regions import layout

WEIGHT_ONE = 4096  # a weight of 1 in a sum of adapters
NAT = 4096  # a loss of 1


class Scratch:
    """The scratch memory of the fast kernels of a model's ops, by the core's own rules."""

    def __init__(self, model: bytes) -> None:
        check_model(model)
        self._model, self._lib = _aligned(model), library()
        self._shape = (C.c_uint64 * (SHAPE_BYTES // 8))()

    def of(self, op: int, rank: int, backward: bool) -> int:
        """Bytes that an op's fast kernels need; 0: its shape has none."""
        self._lib.edgelora_shape_into(self._shape, self._model, C.c_uint32(op))
        if backward:
            self._lib.edgelora_shape_backward(self._shape, self._model)
        size: int = self._lib.edgelora_packed_scratch(self._shape, C.c_uint32(rank), C.c_bool(backward))
        return size


class _Record(C.Structure):
    """`edgelora_samples_t` of host/native/twin.c."""

    _fields_ = [
        ("x", C.c_void_p),
        ("labels", C.c_void_p),
        ("targets", C.c_void_p),
        ("size", C.c_uint32),
        ("target_size", C.c_uint32),
        ("count", C.c_uint32),
    ]


class _Samples:
    """The samples of one call; `record` is valid as long as this object lives."""

    def __init__(
        self,
        x: NDArray[np.int8],
        size: int,
        labels: NDArray[Any] | None = None,
        targets: NDArray[np.int8] | None = None,
        target_size: int = 0,
    ) -> None:
        self._x = np.ascontiguousarray(x)
        self._labels = None if labels is None else np.ascontiguousarray(labels, np.uint32)
        self._targets = None if targets is None else np.ascontiguousarray(targets)
        places = (None if a is None else a.ctypes.data for a in (self._x, self._labels, self._targets))
        self.record = _Record(*places, size, target_size, len(x))


class Session:
    """One model with one arena; the methods are those of `edgelora.Model` on the device.

    plain: only the reference kernels, whose results are the same. frames: per sample (see `edgelora_infer_sample`);
    more than 1 only in models with history. cores: 2 plans the memory of a board that uses both; here one computes.
    """

    def __init__(
        self,
        model: bytes,
        ranks: bytes,
        mode: str = "frozen_a",
        micro_batch: int = 8,
        momentum: int = 0,
        recompute: bytes | None = None,
        threshold: int = 0,
        plain: bool = False,
        frames: int = 1,
        cores: int = 1,
    ) -> None:
        options = (micro_batch, momentum, recompute, threshold, plain, frames, cores)
        self._layout = layout(model, ranks, mode, *options)
        self.arena_bytes, self.mode, self.ranks = self._layout.arena_bytes, mode, ranks
        self._lib, self._model = library(), bytes(model)
        self._arena = bytearray(self.arena_bytes + self._lib.edgelora_simd_room())
        settings = (MODES.index(mode), micro_batch, momentum, threshold, recompute, plain, frames, cores)
        native.init(self._arena, self._model, ranks, *settings)
        self._address = native.address(memoryview(self._arena))
        self.input_size = self._lib.edgelora_input_size(self._model)
        self.sample_size = frames * self.input_size
        self.output_size = self._lib.edgelora_output_size(self._model)
        if mode == "decode":  # the outputs of one row
            at = int.from_bytes(self._model[28:32], "little")
            height, width = struct.unpack_from("<2H", self._model, at)
            self.output_size //= height * width
        self.target_size = self._lib.edgelora_target_size(self._model)
        self.feature_size = native.feature_size(self._arena)
        self.class_size = native.class_size(self._arena)
        self._used: bytes | None = None
        self._loaded: bytes | None = None  # `save` copies its records
        self._merged: dict[int, bytearray] = {}

    def infer(self, x: NDArray[np.int8]) -> int:
        """The class of one input, int8 [input_size], with history a stream's next frame; `logits` has all outputs."""
        data = _int8(x).tobytes()
        if len(data) != self.input_size:
            refuse("ERR_SIZE")
        return check(self._lib.edgelora_infer(self._address, data))

    def next(self, symbol: int) -> int:
        """The likeliest symbol after this one and those taken since `reset`, in mode decode; `logits` has all."""
        return native.next(self._arena, symbol)

    def choose(self, temperature: float, seed: int, place: int) -> int:
        """Draws a symbol to follow the last one, number `place` of the seed's draws; temperature: 1/256 to 255."""
        return native.choose(self._arena, round(256 * temperature), seed, place)

    def back(self, count: int) -> int:
        """Takes back the last `count` symbols of `next`; returns how many the window still has."""
        return native.back(self._arena, count)

    def reset(self) -> None:
        """Starts a new stream with the next input."""
        native.reset(self._arena)

    def infer_sample(self, x: NDArray[np.int8]) -> int:
        """`infer` on a sample's frames, int8 [frames, input_size], as a new stream; returns the last one's class."""
        return native.infer_sample(self._arena, _int8(x))

    @property
    def logits(self) -> NDArray[np.int8]:
        return np.frombuffer(self._part(native.output(self._arena), self.output_size), np.int8)

    def _part(self, offset: int, size: int) -> bytes:
        return bytes(self._arena[offset : offset + size])

    def quantize(self, counts: NDArray[np.int16]) -> tuple[NDArray[np.int8], int]:
        """Converts a sensor's counts, int16 [...], to int8 inputs by the model's signal; also how many were clipped.

        With a front end, counts are its outputs. TwinError for a model without signal.
        """
        out = np.zeros(counts.shape, np.int8)
        return out, native.quantize(self._arena, np.ascontiguousarray(counts), out)

    def probabilities(self) -> NDArray[np.uint16]:
        """Probabilities of the last inference's outputs, in 1/32768 [output_size, and one for each added class]."""
        out = np.zeros(native.class_count(self._arena), np.uint16)
        native.probabilities(self._arena, out)
        return out

    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]:
        """Classes [N] of N samples, int8 [N, ...]."""
        best = np.zeros(len(x), np.int32)
        samples = self._samples(x, None, self.sample_size)
        check(self._lib.edgelora_twin_infer(self._address, C.byref(samples.record), C.c_void_p(best.ctypes.data), None))
        return best.astype(np.int64)

    def accuracy(self, x: NDArray[np.int8], y: NDArray[np.integer]) -> float:
        return float(np.mean(self.predict(x) == y))

    def begin(self, seed: int = 0) -> None:
        native.begin(self._arena, seed)

    def _samples(self, x: NDArray[np.int8], y: NDArray[Any] | None, size: int) -> _Samples:
        """Samples [N, ...] of `size` values, None or labels [N] or targets [N, ...], checked."""
        if x.dtype != np.int8:
            refuse("ERR_TYPE")
        if x.size != len(x) * size or (y is not None and len(y) != len(x)):
            refuse("ERR_SIZE")
        if y is None:
            return _Samples(x, size)
        if y.ndim > 1:
            if y.dtype != np.int8:
                refuse("ERR_TYPE")
            if y.size != len(y) * self.target_size:
                refuse("ERR_SIZE")
            return _Samples(x, size, targets=y, target_size=self.target_size)
        if len(y) and not 0 <= y.min() <= y.max() < 1 << 32:
            refuse("ERR_LABEL")
        return _Samples(x, size, labels=y)

    def train(self, x: NDArray[np.int8], label: int | NDArray[np.int8], learning_rate: int) -> int:
        """Trains on one sample with its label or, for losses other than cross-entropy, its target, int8 [target_size].

        Returns its loss in 1/4096 nat, or 1/16 squared step of the output.
        """
        return self.train_all(x[None], np.array([label]), learning_rate)[0]

    def train_all(self, x: NDArray[np.int8], y: NDArray[Any], learning_rate: int, features: bool = False) -> list[int]:
        """`train` (features: `train_features`) on samples [N, ...] in order, y: labels [N] or targets [N, ...]."""
        samples = self._samples(x, y, self.feature_size if features else self.sample_size)
        losses = np.zeros(len(x), np.int32)
        options = C.c_bool(features), native.rate(learning_rate), C.c_void_p(losses.ctypes.data)
        check(self._lib.edgelora_twin_train(self._address, C.byref(samples.record), *options))
        kept: list[int] = losses.tolist()
        return kept

    def evaluate(self, x: NDArray[np.int8], label: int | NDArray[np.int8]) -> tuple[int, int]:
        """The class of one sample by the adapter in use, and its loss as in `train`, without training."""
        best, losses = self.evaluate_all(x[None], np.array([label]))
        return int(best[0]), int(losses[0])

    def evaluate_all(self, x: NDArray[np.int8], y: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Classes and losses [N] of samples [N, ...], as in `evaluate`, y: labels [N] or targets [N, ...]."""
        samples = self._samples(x, y, self.sample_size)
        best, losses = np.zeros(len(x), np.int32), np.zeros(len(x), np.int32)
        found = C.c_void_p(best.ctypes.data), C.c_void_p(losses.ctypes.data)
        check(self._lib.edgelora_twin_infer(self._address, C.byref(samples.record), *found))
        return best, losses

    def features(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        """A sample's features: outputs below the lowest adapter, int8 [feature_size]; training never changes them."""
        out = np.zeros(self.feature_size, np.int8)
        native.features(self._arena, _int8(x), out)
        return out

    def train_features(self, features: NDArray[np.int8], label: int | NDArray[np.int8], learning_rate: int) -> int:
        """`train` from a sample's features, bit-identical."""
        return self.train_all(features[None], np.array([label]), learning_rate, True)[0]

    def infer_features(self, features: NDArray[np.int8]) -> int:
        return native.infer_features(self._arena, _int8(features))

    def forward_range(self, x: NDArray[np.int8], start: int, end: int) -> None:
        """Runs ops [start, end) of an inference; those before `start` must have run."""
        native.forward_range(self._arena, _int8(x), start, end)

    @cached_property
    def _places(self) -> dict[int, int]:
        """The offset of each op's output in the arena."""
        return {region.op: region.offset for region in self._layout.regions if region.name in ("output", "history")}

    def activations(self, x: NDArray[np.int8], model: QuantModel) -> list[NDArray[Any]]:
        """All tensors of one inference, [height, width, channels], int16 of streams; `model` must be this session's.

        With history, x is a stream's next frame.
        """
        found: list[NDArray[Any]] = [x.reshape(model.input.shape)]
        for op, tensor in enumerate(model.tensors[1:]):
            values = model.ops[op].values
            if values is None:
                self.forward_range(x, op, op + 1)
                values = np.frombuffer(self._part(self._places[op], tensor.nbytes), tensor.dtype).reshape(tensor.shape)
            found.append(values)
        return found

    def sample_activations(self, x: NDArray[np.int8], model: QuantModel) -> list[NDArray[Any]]:
        """All tensors of the last frame of a sample, int8 [frames, height, width, channels] or a frame alone."""
        self.reset()
        return [self.activations(np.ascontiguousarray(frame), model) for frame in x.reshape(-1, *model.input.shape)][-1]

    def merge(self, op: int) -> bytes:
        """Merges the adapter in use into an op's weights until the next `use`, `begin` or `load`.

        Returns the merged weights, uint8 offset binary, followed by the bias, int32.
        """
        merged = bytearray(native.merge_size(self._arena, op))
        native.merge(self._arena, op, merged)
        self._merged[op] = merged
        return bytes(merged)

    def flush(self, learning_rate: int) -> None:
        native.flush(self._arena, learning_rate)

    def gradients(self, matrix: str) -> dict[int, NDArray[np.int64]]:
        """Sums over the micro-batch so far of the gradients of "A" or "B" by op, without their exponents."""
        places = [region for region in self._layout.regions if region.name == f"{matrix} gradient"]
        raw = {place.op: self._part(place.offset, place.size) for place in places}
        return {op: np.frombuffer(sums, np.int32).astype(np.int64) for op, sums in raw.items()}

    def error(self, op: int) -> NDArray[np.int8]:
        """The last trained sample's error of an op's output, int8, padded to whole words, without its exponent.

        op: the lowest with an adapter, as those below reuse its memory.
        """
        place = next(region for region in self._layout.regions if (region.op, region.name) == (op, "error"))
        return np.frombuffer(self._part(place.offset, place.size), np.int8)

    def save(self, state: bool = False) -> bytes:
        """The training adapter as `.ela` bytes."""
        out = bytearray(native.adapter_size(self._arena, state))
        native.save(self._arena, state, out)
        return bytes(out)

    def blend(self, adapters: Sequence[bytes], weights: Sequence[int], fine: bool = True) -> bytes:
        """The weighted sum of `.ela` files, weights in 1/4096, as `.ela` bytes; the adapter in use stays.

        fine: B has the finest steps that int8 allows; else the finest steps of the adapters.
        """
        for adapter in adapters:
            native.adapter_check(self._arena, adapter)
        parts = [part for pair in zip(adapters, weights, strict=True) for part in pair]
        out = bytearray(native.blend(self._arena, None, fine, *parts))
        native.blend(self._arena, out, fine, *parts)
        return bytes(out)

    def with_record(self, adapter: bytes | None, kind: int, body: bytes | None) -> bytes:
        """An adapter (`.ela` bytes, None: the base alone) with this body as record of a kind; None: without the record.

        No bytes if only the base is left.
        """
        if adapter is not None:
            native.adapter_check(self._arena, adapter)
        out = bytearray(native.with_record(self._arena, adapter, kind, body, None))
        if out:
            native.with_record(self._arena, adapter, kind, body, out)
        return bytes(out)

    def class_row(self, samples: NDArray[np.int8], number: int, name: str = "") -> ClassRow:
        """A class made of samples, int8 [N, sample_size], by their inputs of the last layer with the adapter in use.

        number: one of the base's classes, which then has no name, or a higher one. TwinError if the base has no class
        statistics.
        """
        sums = self._class_sums(samples)
        out = bytearray(32 + (2 * self.class_size + 3) // 4 * 4)
        native.class_row(self._arena, sums, len(samples), out)
        bias, _, count = struct.unpack_from("<i2H", out)
        row = np.frombuffer(out, "<i2", self.class_size, 32).astype(np.int16)
        return ClassRow(number, name, count, bias, row)

    def last_inputs(self, samples: NDArray[np.int8]) -> NDArray[np.int32]:
        """The last layer's inputs of each sample, int32 [N, class_size], minus zero points. TwinError as above."""
        sums = b"".join(self._class_sums(x[None]) for x in samples)
        return np.frombuffer(sums, np.int32).reshape(len(samples), self.class_size)

    def _class_sums(self, samples: NDArray[np.int8]) -> bytearray:
        sums = bytearray(4 * self.class_size)
        for x in samples:
            native.class_sample(self._arena, _int8(np.ascontiguousarray(x)), sums)
        return sums

    def load(self, adapter: bytes) -> None:
        native.load(self._arena, adapter)
        self._loaded = adapter

    def use(self, adapter: bytes | None) -> None:
        """Infers with these `.ela` bytes from now on; None: with the base alone."""
        if adapter is not None:
            native.adapter_check(self._arena, adapter)
        native.use(self._arena, adapter)
        self._used = adapter
        self._merged.clear()


def _int8(x: NDArray[np.int8]) -> NDArray[np.int8]:
    """Refuses an array that isn't int8, or whose values are not one behind the other."""
    if x.dtype != np.int8:
        refuse("ERR_TYPE")
    if not x.flags.c_contiguous:
        refuse("ERR_SIZE")
    return x
