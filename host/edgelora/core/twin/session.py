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

from .binding import SHAPE_BYTES, _aligned, _config, _Part, check, check_model, library, statuses
from .regions import layout

WEIGHT_ONE = 4096  # a weight of 1 in a sum of adapters


class Scratch:
    """The scratch memory of a model's ops, by the core's own rules; it decides which kernels run."""

    def __init__(self, model: bytes) -> None:
        check_model(model)
        self._model, self._lib = _aligned(model), library()
        self._shape = (C.c_uint64 * (SHAPE_BYTES // 8))()

    def of(self, op: int, rank: int, backward: bool) -> tuple[int, int]:
        """Bytes that an op's fast kernels need (0: its shape has none), and bytes that a session has for the op."""
        self._lib.edgelora_shape_into(self._shape, self._model, C.c_uint32(op))
        wanted = (self._shape, C.c_uint32(rank), C.c_bool(backward))
        return self._lib.edgelora_packed_scratch(*wanted), self._lib.edgelora_op_scratch(*wanted, C.c_bool(False))


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
    more than 1 only in models with history.
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
    ) -> None:
        options = (micro_batch, momentum, recompute, threshold, plain, frames)
        self._layout = layout(model, ranks, mode, *options)
        size = self._layout.arena_bytes
        self._lib = library()
        self._model = _aligned(model)
        with_vectors = size + self._lib.edgelora_simd_room()
        self._arena = (C.c_uint64 * (with_vectors // 8))()
        config = _config(model, ranks, mode, *options)
        check(self._lib.edgelora_init(self._arena, C.c_uint32(with_vectors), self._model, C.byref(config)))
        self.arena_bytes, self.mode, self.ranks = size, mode, ranks
        self.input_size = self._lib.edgelora_input_size(self._model)
        self.sample_size = frames * self.input_size
        self.output_size = self._lib.edgelora_output_size(self._model)
        self.target_size = self._lib.edgelora_target_size(self._model)
        self.feature_size = self._lib.edgelora_feature_size(self._arena)
        self.class_size = self._lib.edgelora_class_size(self._model)
        self._used: C.Array[C.c_uint64] | None = None
        self._loaded: C.Array[C.c_uint64] | None = None  # `save` copies its records
        self._merged: dict[int, C.Array[C.c_uint64]] = {}

    def _buffer(self, x: NDArray[np.int8], size: int) -> C.c_void_p:
        if x.dtype != np.int8:
            check(statuses()["ERR_TYPE"])
        if x.size != size or not x.flags.c_contiguous:
            check(statuses()["ERR_SIZE"])
        return C.c_void_p(x.ctypes.data)

    def _input(self, x: NDArray[np.int8]) -> C.c_void_p:
        return self._buffer(x, self.input_size)

    def _sample(self, x: NDArray[np.int8]) -> C.c_void_p:
        return self._buffer(x, self.sample_size)

    def infer(self, x: NDArray[np.int8]) -> int:
        """The class of one input, int8 [input_size], with history a stream's next frame; `logits` has all outputs."""
        return check(self._lib.edgelora_infer(self._arena, self._input(x)))

    def reset(self) -> None:
        """Starts a new stream with the next input."""
        check(self._lib.edgelora_reset(self._arena))

    def infer_sample(self, x: NDArray[np.int8]) -> int:
        """`infer` on a sample's frames, int8 [frames, input_size], as a new stream; returns the last one's class."""
        return check(self._lib.edgelora_infer_sample(self._arena, self._sample(x)))

    @property
    def logits(self) -> NDArray[np.int8]:
        address = self._lib.edgelora_output(self._arena)
        return np.frombuffer(C.string_at(address, self.output_size), np.int8)

    def quantize(self, counts: NDArray[np.int16]) -> tuple[NDArray[np.int8], int]:
        """Converts a sensor's counts, int16 [...], to int8 inputs by the model's signal; also how many were clipped.

        With a front end, counts are its outputs. TwinError for a model without signal.
        """
        if counts.dtype != np.int16:
            check(statuses()["ERR_COUNTS"])
        counts = np.ascontiguousarray(counts)
        out = np.zeros(counts.shape, np.int8)
        addresses = C.c_void_p(counts.ctypes.data), C.c_uint32(counts.size), C.c_void_p(out.ctypes.data)
        return out, check(self._lib.edgelora_quantize(self._model, *addresses))

    def probabilities(self) -> NDArray[np.uint16]:
        """Probabilities of the last inference's outputs, in 1/32768 [output_size, and one for each added class]."""
        out = np.zeros(self._lib.edgelora_class_count(self._arena), np.uint16)
        check(self._lib.edgelora_probabilities(self._arena, C.c_void_p(out.ctypes.data)))
        return out

    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]:
        """Classes [N] of N samples, int8 [N, ...]."""
        best = np.zeros(len(x), np.int32)
        samples = self._samples(x, None, self.sample_size)
        check(self._lib.edgelora_twin_infer(self._arena, C.byref(samples.record), C.c_void_p(best.ctypes.data), None))
        return best.astype(np.int64)

    def accuracy(self, x: NDArray[np.int8], y: NDArray[np.integer]) -> float:
        return float(np.mean(self.predict(x) == y))

    def begin(self, seed: int = 0) -> None:
        check(self._lib.edgelora_begin(self._arena, C.c_uint32(seed)))

    def _samples(self, x: NDArray[np.int8], y: NDArray[Any] | None, size: int) -> _Samples:
        """Samples [N, ...] of `size` values, None or labels [N] or targets [N, ...], checked."""
        if x.dtype != np.int8:
            check(statuses()["ERR_TYPE"])
        if x.size != len(x) * size or (y is not None and len(y) != len(x)):
            check(statuses()["ERR_SIZE"])
        if y is None:
            return _Samples(x, size)
        if y.ndim > 1:
            if y.dtype != np.int8:
                check(statuses()["ERR_TYPE"])
            if y.size != len(y) * self.target_size:
                check(statuses()["ERR_SIZE"])
            return _Samples(x, size, targets=y, target_size=self.target_size)
        if len(y) and not 0 <= y.min() <= y.max() < 1 << 32:
            check(statuses()["ERR_LABEL"])
        return _Samples(x, size, labels=y)

    def _answer(self, label: int | NDArray[np.int8]) -> tuple[C.c_void_p | None, int]:
        """A target, or None and the label."""
        if not isinstance(label, int | np.integer):
            return self._buffer(label, self.target_size), 0
        if not 0 <= label < 1 << 32:
            check(statuses()["ERR_LABEL"])
        return None, int(label)

    def _train(self, function: str, data: C.c_void_p, label: int | NDArray[np.int8], learning_rate: int) -> int:
        target, number = self._answer(label)
        loss = C.c_int32()
        status = getattr(self._lib, function)(
            self._arena, data, C.c_uint32(number), target, C.c_uint16(learning_rate), C.byref(loss)
        )
        check(status)
        return loss.value

    def train(self, x: NDArray[np.int8], label: int | NDArray[np.int8], learning_rate: int) -> int:
        """Trains on one sample with its label or, for losses other than cross-entropy, its target, int8 [target_size].

        Returns its loss in 1/4096 nat, or 1/16 squared step of the output.
        """
        return self._train("edgelora_train", self._sample(x), label, learning_rate)

    def train_all(self, x: NDArray[np.int8], y: NDArray[Any], learning_rate: int, features: bool = False) -> list[int]:
        """`train` (features: `train_features`) on samples [N, ...] in order, y: labels [N] or targets [N, ...]."""
        samples = self._samples(x, y, self.feature_size if features else self.sample_size)
        losses = np.zeros(len(x), np.int32)
        options = C.c_bool(features), C.c_uint16(learning_rate), C.c_void_p(losses.ctypes.data)
        check(self._lib.edgelora_twin_train(self._arena, C.byref(samples.record), *options))
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
        check(self._lib.edgelora_twin_infer(self._arena, C.byref(samples.record), *found))
        return best, losses

    def features(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        """A sample's features: outputs below the lowest adapter, int8 [feature_size]; training never changes them."""
        out = np.zeros(self.feature_size, np.int8)
        check(self._lib.edgelora_features(self._arena, self._sample(x), C.c_void_p(out.ctypes.data)))
        return out

    def train_features(self, features: NDArray[np.int8], label: int | NDArray[np.int8], learning_rate: int) -> int:
        """`train` from a sample's features, bit-identical."""
        data = self._buffer(features, self.feature_size)
        return self._train("edgelora_train_features", data, label, learning_rate)

    def infer_features(self, features: NDArray[np.int8]) -> int:
        return check(self._lib.edgelora_infer_features(self._arena, self._buffer(features, self.feature_size)))

    def forward_range(self, x: NDArray[np.int8], start: int, end: int) -> None:
        """Runs ops [start, end) of an inference; those before `start` must have run."""
        check(self._lib.edgelora_forward_range(self._arena, self._input(x), C.c_uint32(start), C.c_uint32(end)))

    @cached_property
    def _places(self) -> dict[int, int]:
        """The offset of each op's output in the arena."""
        return {region.op: region.offset for region in self._layout.regions if region.name in ("output", "history")}

    def activations(self, x: NDArray[np.int8], model: QuantModel) -> list[NDArray[np.int8]]:
        """All tensors of one inference, [height, width, channels]; `model` must be this session's.

        With history, x is a stream's next frame.
        """
        data, arena = self._input(x), C.addressof(self._arena)
        found = [x.reshape(model.input.shape)]
        for op, tensor in enumerate(model.tensors[1:]):
            values = model.ops[op].values
            if values is None:
                check(self._lib.edgelora_forward_range(self._arena, data, C.c_uint32(op), C.c_uint32(op + 1)))
                raw = C.string_at(arena + self._places[op], tensor.size)
                values = np.frombuffer(raw, np.int8).reshape(tensor.shape)
            found.append(values)
        return found

    def sample_activations(self, x: NDArray[np.int8], model: QuantModel) -> list[NDArray[np.int8]]:
        """All tensors of the last frame of a sample, int8 [frames, height, width, channels] or a frame alone."""
        self.reset()
        return [self.activations(np.ascontiguousarray(frame), model) for frame in x.reshape(-1, *model.input.shape)][-1]

    def merge(self, op: int) -> bytes:
        """Merges the adapter in use into an op's weights until the next `use`, `begin` or `load`.

        Returns the merged weights, uint8 offset binary, followed by the bias, int32.
        """
        size = self._lib.edgelora_merge_size(self._arena, C.c_uint32(op))
        buffer = (C.c_uint64 * (size // 8 + 1))()
        check(self._lib.edgelora_merge(self._arena, C.c_uint32(op), buffer))
        self._merged[op] = buffer
        return bytes(buffer)[:size]

    def flush(self, learning_rate: int) -> None:
        check(self._lib.edgelora_flush(self._arena, C.c_uint16(learning_rate)))

    def gradients(self, matrix: str) -> dict[int, NDArray[np.int64]]:
        """Sums over the micro-batch so far of the gradients of "A" or "B" by op, without their exponents."""
        start = C.addressof(self._arena)
        places = [region for region in self._layout.regions if region.name == f"{matrix} gradient"]
        raw = {place.op: C.string_at(start + place.offset, place.size) for place in places}
        return {op: np.frombuffer(sums, np.int32).astype(np.int64) for op, sums in raw.items()}

    def save(self, state: bool = False) -> bytes:
        """The training adapter as `.ela` bytes."""
        size = self._lib.edgelora_adapter_size(self._arena, C.c_bool(state))
        out = (C.c_uint64 * (size // 8 + 1))()
        check(self._lib.edgelora_save(self._arena, C.c_bool(state), out, C.c_uint32(size)))
        return bytes(out)[:size]

    def _checked(self, adapter: bytes) -> C.Array[C.c_uint64]:
        buffer = _aligned(adapter)
        check(self._lib.edgelora_adapter_check(self._arena, buffer, C.c_uint32(len(adapter))))
        return buffer

    def blend(self, adapters: Sequence[bytes], weights: Sequence[int], fine: bool = True) -> bytes:
        """The weighted sum of `.ela` files, weights in 1/4096, as `.ela` bytes; the adapter in use stays.

        fine: B has the finest steps that int8 allows; else the finest steps of the adapters.
        """
        buffers = [self._checked(adapter) for adapter in adapters]
        parts = (_Part * len(buffers))()
        for part, buffer, adapter, weight in zip(parts, buffers, adapters, weights, strict=True):
            part.adapter, part.size, part.weight = C.addressof(buffer), len(adapter), weight
        call = (self._arena, parts, C.c_uint32(len(parts)), C.c_bool(fine))
        size = check(self._lib.edgelora_blend(*call, None, C.c_uint32(0)))
        out = (C.c_uint64 * (size // 8 + 1))()
        check(self._lib.edgelora_blend(*call, out, C.c_uint32(size)))
        return bytes(out)[:size]

    def with_record(self, adapter: bytes | None, kind: int, body: bytes | None) -> bytes:
        """An adapter (`.ela` bytes, None: the base alone) with this body as record of a kind; None: without the record.

        No bytes if only the base is left.
        """
        buffer = None if adapter is None else self._checked(adapter)
        size, record = C.c_uint32(len(adapter or b"")), None if body is None else (body, len(body))
        call = (self._arena, buffer, size, kind, *(record or (None, 0)))
        room = check(self._lib.edgelora_with_record(*call, None, C.c_uint32(0)))
        out = _aligned(bytes(room))
        check(self._lib.edgelora_with_record(*call, out, C.c_uint32(room)))
        return bytes(out)[:room]

    def class_row(self, samples: NDArray[np.int8], number: int, name: str = "") -> ClassRow:
        """A class made of samples, int8 [N, sample_size], by their inputs of the last layer with the adapter in use.

        number: one of the base's classes, which then has no name, or a higher one. TwinError if the base has no class
        statistics.
        """
        sums = self._class_sums(samples)
        out = (C.c_uint32 * (8 + self.class_size))()
        check(self._lib.edgelora_class_row(self._arena, sums, C.c_uint32(len(samples)), out))
        bias, _, count = struct.unpack_from("<i2H", bytes(out))
        row = np.frombuffer(bytes(out), "<i2", self.class_size, 32).astype(np.int16)
        return ClassRow(number, name, count, bias, row)

    def last_inputs(self, samples: NDArray[np.int8]) -> NDArray[np.int32]:
        """The last layer's inputs of each sample, int32 [N, class_size], minus zero points. TwinError as above."""
        return np.array([list(self._class_sums(x[None]))[: self.class_size] for x in samples], np.int32).reshape(
            -1, self.class_size
        )

    def _class_sums(self, samples: NDArray[np.int8]) -> C.Array[C.c_int32]:
        sums: C.Array[C.c_int32] = (C.c_int32 * max(self.class_size, 1))()
        for x in samples:
            check(self._lib.edgelora_class_sample(self._arena, self._sample(np.ascontiguousarray(x)), sums))
        return sums

    def load(self, adapter: bytes) -> None:
        buffer = _aligned(adapter)
        check(self._lib.edgelora_load(self._arena, buffer, C.c_uint32(len(adapter))))
        self._loaded = buffer

    def use(self, adapter: bytes | None) -> None:
        """Infers with these `.ela` bytes from now on; None: with the base alone."""
        buffer = None if adapter is None else self._checked(adapter)
        check(self._lib.edgelora_use(self._arena, buffer, C.c_uint32(len(adapter or b""))))
        self._used = buffer
        self._merged.clear()
