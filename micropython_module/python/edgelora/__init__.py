# SPDX-License-Identifier: MIT
"""EdgeLoRA on the device: a frozen INT8 network with low-rank adapters, trained in integer arithmetic.

The C functions are in `_core`: in firmware a built-in module; in the native module a class that is already
among this module's globals.
"""

import gc
import os
import struct
from array import array

if "_core" not in globals():
    import _edgelora as _core

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Iterable, Sequence
    from typing import IO, Any

    from ._types import Buffer
    from .store import Store

__version__ = "0.1.0"

MODES = ("infer", "frozen_a", "trainable_a", "decode")
MOMENTA = (0, 2, 2, 0)  # default momentum by mode
COPIED = 12288  # bytes of a base that is faster in RAM: in flash it and the program would share a cache of 16 KB
LEARNING_RATES = (0, 6000, 7000, 0)  # default learning rates by mode, for this momentum


def read(source: str | Buffer, copied: int = 0) -> memoryview:
    """Returns the bytes of a file or a buffer. A file in ROMFS is used in place, unless it has at most `copied` bytes
    and four times its size is free; other files are read into memory. A file's bytes can't be changed, so that the core
    checks a base only once.
    """
    if not isinstance(source, str):
        return memoryview(source)
    with open(source, "rb") as f:
        try:
            data = memoryview(f)
            in_place = len(data) > min(copied, gc.mem_free() // 4)
            return data if in_place else memoryview(bytes(data))
        except TypeError:
            size = f.seek(0, 2)
    del f
    gc.collect()  # frees the open file's memory, which would leave a gap before the data
    with open(source, "rb") as f:
        return memoryview(f.read(size))


def write(path: str, data: Buffer) -> None:
    """Writes a file through `PATH.part`, so that `path` never has partial contents."""
    _write(path, (data,))


_broken = []  # files that flash failed to write: closing or collecting one would write what it has left


def _write(path, pieces):
    part, file = path + ".part", None
    try:
        file = open(part, "wb")
        for piece in pieces:
            file.write(piece)
        file.close()
        _replace(part, path)
    except BaseException as error:
        errno = isinstance(error, OSError) and error.errno
        if errno and errno != 28:  # after an error other than ENOSPC nothing more is written: see `_only_absent`
            if file:
                _broken.append(file)
            raise
        if file:
            _try(file.close)
        if errno:
            _try(os.remove, part)
        raise


def _try(function, *args):
    try:
        function(*args)
    except OSError:
        pass


def _only_absent(error):
    # Raises an OSError unless it means that the file does not exist. After one failed flash read, littlefs may use an
    # older state of a folder as the newest until it is remounted. A write would then undo all later changes.
    if error.errno not in (2, 19):  # ENOENT, ENODEV
        raise error


def _replace(path, to):
    # Renames a file, which replaces an existing one.
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno != 17:  # EEXIST: FAT does not rename onto a file
            raise
        os.remove(to)
        os.rename(path, to)


def hex_id(data: Buffer) -> str:
    """Returns bytes in hexadecimal, the way ids are displayed everywhere."""
    return "".join("%02x" % b for b in data)


class Signal:
    """The description of a base's input, from the signal record of its file: see `Model.signal`."""

    rate: float  # samples per second
    channels: int  # values per sample
    window: int  # samples per input
    hop: int  # samples from the start of one input to the next
    front: str  # the front end: "none", "audio" or "spectral"
    values: int  # length of the lists below: channels or, with a front end, its outputs; 1 if all share one entry
    scales: list[float]  # units per count
    means: list[float]  # the network's input is (units - mean) / std
    stds: list[float]
    units: str  # name of the units, for display

    def __init__(self, file: Buffer, at: int) -> None:
        _, front, self.channels, self.rate, self.window, self.hop, self.values, size = struct.unpack_from(
            "<2BHI2I2H", file, at
        )
        self.rate /= 1000
        self.front = ("none", "audio", "spectral")[front]
        each = [struct.unpack_from("<3f", file, at + 20 + 20 * i) for i in range(self.values)]
        self.scales, self.means, self.stds = [[one[i] for one in each] for i in range(3)]
        self.units = str(file[at + 20 + 20 * self.values :][:size], "utf-8")

    def __repr__(self):
        told = self.channels, self.rate, self.window, self.hop, self.units or "counts"
        return "<Signal of %d channels at %s Hz, windows of %d every %d, in %s>" % told


class Adapter:
    """A verified `.ela` in memory, ready for `Model.use`. `Model.adapter` creates it."""

    buffer: Buffer

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer

    def __repr__(self):
        return "<Adapter for base %s, %d bytes>" % (hex_id(bytes(self.buffer[16:24])), len(self.buffer))

    def record(self, kind: int) -> memoryview | None:
        """Returns the body of the record of this kind (SPEC.md, section 9), in place; None if the adapter has none."""
        found = _core.record(self.buffer, kind)
        return found and memoryview(self.buffer)[found[0] : found[0] + found[1]]


def _classes(adapter):
    # Returns the class entries of an adapter or None: bytes, each a 32-byte header and the class's row.
    found = adapter and _core.record(adapter.buffer, 1)
    if not found:
        return []
    at, size = found
    count = adapter.buffer[at] | adapter.buffer[at + 1] << 8
    span, at = (size - 4) // count, at + 4
    return [bytes(adapter.buffer[at + span * i : at + span * (i + 1)]) for i in range(count)]


def _number(entry):
    return entry[4] | entry[5] << 8


def _name(entry):
    return str(entry[8:32].rstrip(b"\0"), "utf-8")


class AdapterFile:
    """An `.ela` file kept open for `Model.use_file`, and read into `buffer` or, by default, into memory of its own.

    Open it again after the file was replaced.
    """

    file: IO[bytes]
    buffer: bytearray | memoryview

    def __init__(self, path: str, buffer: bytearray | memoryview | None = None) -> None:
        self.file = open(path, "rb")
        size = self.file.seek(0, 2)
        self.buffer = bytearray(size) if buffer is None else memoryview(buffer)[:size]

    def close(self) -> None:
        self.file.close()


class _Now:
    # The state that `use` changes. It is not in the model, whose properties make setting attributes slow.
    def __init__(self):
        self.used = self.wanted = self.loaded = None  # references to buffers that the core uses or is about to use
        self.training = False  # whether the training adapter is in use
        self.switches = 0  # `switches` of the store at that time


class Model:
    """A base network, used in place from `model` (a path or a buffer), and one arena for all memory that it needs.

    mode: "infer" (no training), "frozen_a", "trainable_a" or, of a language model, "decode": it takes one symbol at a
    time with `next` and keeps the keys and values of earlier ones. ranks: rank of each op's adapter, 0 for none;
    an int puts that rank on every conv and dense layer. All memory is allocated here: `infer`, `train`,
    `flush`, `use` and the methods for features work under `micropython.heap_lock()`.

    threshold: an update skips elements whose gradient is less than threshold / 2048 of the matrix's scale.
    recompute: one byte per op; 1 means that the backward pass computes the op's output again instead of keeping it,
    which saves memory. plain: use only the reference kernels. cores: 2 computes large layers on both cores of a Pico,
    with EdgeLoRA's firmware, while no thread of `_thread` runs. No option of these changes a result. labels: names of
    the outputs, one each, instead of the file's.

    A model with history processes a stream frame by frame: `infer` takes the next frame, `reset` starts a new stream.
    It is trained on samples of `frames` frames, each sample a stream of its own: the loss is that of the last frame,
    and no gradient flows into the history of earlier frames. Training does not change the stream that `infer` is in.
    """

    buffer: memoryview  # the model's bytes
    base_id: bytes  # 8 bytes
    arena: bytearray
    ranks: bytes
    mode: str
    learning_rate: int  # initially the mode's default
    micro_batch: int
    settings: bytes  # all that affects training: mode, micro-batch, momentum, threshold, frames, ranks
    input_size: int
    output_size: int
    target_size: int  # int8 values of a target; 0: the model's loss takes a label
    sample_size: int  # frames * input_size
    feature_size: int  # int8 values of a sample's features; 0 without adapters
    output: memoryview  # int8 outputs of the last `infer`; training reuses the memory
    store: Store | None  # a store that was opened with this model; it switches adapters, too
    merged: dict[int, bytearray | memoryview]  # merged weights by op

    def __init__(
        self,
        model: str | Buffer,
        ranks: int | Buffer = 8,
        mode: str = "frozen_a",
        micro_batch: int = 8,
        momentum: int | None = None,
        recompute: Buffer | None = None,
        threshold: int = 0,
        plain: bool = False,
        frames: int = 1,
        labels: Sequence[str] | None = None,
        cores: int = 1,
    ) -> None:
        self.mode = mode
        gc.collect()  # base and arena, the largest blocks, go into the lowest gaps: free memory stays contiguous
        self.buffer = read(model, COPIED)
        if mode not in MODES:
            raise ValueError("mode must be infer, frozen_a, trainable_a or decode")
        if momentum is None:
            momentum = MOMENTA[MODES.index(mode)]
        self.learning_rate = LEARNING_RATES[MODES.index(mode)]
        ops, self.input_size, self.output_size, self.target_size, at, size = _core.model_check(self.buffer)
        self.base_id = bytes(self.buffer[16:24])
        self._labels = str(self.buffer[at : at + size], "utf-8").split("\n") if size else []
        if isinstance(ranks, int):
            ranks = self._everywhere(ranks, ops)
        self.ranks = bytes(ranks)
        if recompute is not None:
            recompute = bytes(recompute)
        layout = (self.ranks, MODES.index(mode), micro_batch, momentum, threshold, recompute, plain, frames, cores)
        self.arena = bytearray(_core.arena_size(self.buffer, *layout))
        _core.init(self.arena, self.buffer, *layout)
        self._rows = self.input_size
        if mode == "decode":  # the window's symbols, and the outputs of one
            at = int.from_bytes(self.buffer[28:32], "little")
            height, width = struct.unpack_from("<2H", self.buffer, at)
            self._rows = height * width
            self.output_size //= self._rows
        if labels is not None:  # replace the file's names; classes that an adapter adds follow them
            if len(labels) != self.output_size:
                raise ValueError("%d labels for %d outputs: give one each" % (len(labels), self.output_size))
            self._labels = [str(label) for label in labels]
        start = _core.output(self.arena)
        self.output = memoryview(self.arena)[start : start + self.output_size]
        self.micro_batch = micro_batch
        self.settings = bytes((MODES.index(mode), micro_batch, momentum)) + threshold.to_bytes(2, "little")
        self.settings += frames.to_bytes(2, "little") + self.ranks  # all that affects training
        self.sample_size = frames * self.input_size
        self.feature_size = _core.feature_size(self.arena)
        self._now = _Now()
        self.store = None  # a store that is opened with this model switches adapters, too
        self.merged = {}
        self._window = array("H", bytes(2 * self._rows if mode == "decode" else 0))
        self._taken = self._place = 0  # symbols in the window, and since `reset`
        self._probabilities = None

    def __repr__(self):
        told = hex_id(self.base_id), self.mode, max(self.ranks), self.input_size, self.output_size, len(self.arena)
        return "<Model of base %s, %s, rank %d, %d inputs, %d outputs, arena of %d bytes>" % told

    @property
    def signal(self) -> Signal | None:
        """The description of the base's input; None if the base has none."""
        at = 4 * int.from_bytes(self.buffer[66:68], "little")
        return Signal(self.buffer, at) if at else None

    def _everywhere(self, rank, ops):
        # kinds 1, 2 and 25, dense, conv and project, can have an adapter; 21, lstm, passes no gradient, so that nothing
        # below trains; 29, attend, reads a third tensor
        table, cut, ranks = int.from_bytes(self.buffer[32:36], "little"), set(), bytearray(ops)
        for i in reversed(range(ops)):
            kind, _, source, _ = struct.unpack_from("<BBHH", self.buffer, table + 36 * i)
            if kind == 21 or i + 1 in cut:
                cut.add(source)
                for at in (18, 12) if kind == 29 else (18,):
                    cut.add(struct.unpack_from("<H", self.buffer, table + 36 * i + at)[0])
            elif kind in (1, 2, 25):
                ranks[i] = rank
        return ranks

    def infer(self, x: Buffer) -> int:
        """Runs an int8 input [input_size] and returns the index of the largest output; `output` has all of them.

        For a single output with binary cross-entropy: 1 if its probability is above 1/2, else 0.
        """
        return _core.infer(self.arena, x)

    def quantize(self, values: Sequence[float], out: bytearray | memoryview) -> int:
        """Quantizes real values, in the units that the network was trained in, to an int8 input [input_size].

        values: any sequence of numbers. Saturates, and returns how many values were clipped.
        """
        size = len(values)
        if size != len(out):
            raise ValueError("%d values do not fit an input of %d" % (size, len(out)))
        tensor = int.from_bytes(self.buffer[28:32], "little")
        zero_point = (self.buffer[tensor + 6] ^ 128) - 128
        scale = struct.unpack_from("<f", self.buffer, tensor + 8)[0]
        clipped = 0
        for i in range(size):
            q = int((2 * values[i] / scale + 1) // 2) + zero_point  # no float literals: some firmware has no floats
            if not -128 <= q <= 127:
                q = -128 if q < 0 else 127
                clipped += 1
            out[i] = q & 255
        return clipped

    def quantize_counts(self, counts: Any, out: bytearray | memoryview) -> int:
        """Quantizes a sensor's counts, int16 in whole samples, to int8 by the base's signal, in integer arithmetic.

        counts: array('h') or a memoryview of one; with a front end, its outputs. Saturates, and returns how many
        values were clipped.
        """
        return _core.quantize(self.arena, counts, out)

    def probabilities(self) -> Any:
        """Returns the probability of each output of the last `infer`, in 1/32768: array('H'), the same one every time.

        Softmax of the logits or, with binary cross-entropy, their sigmoids: `dict(zip(model.labels,
        model.probabilities()))`. Allocates on the first call, and when the number of classes has changed.
        """
        count = _core.class_count(self.arena)
        if self._probabilities is None or len(self._probabilities) != count:
            self._probabilities = array("H", bytes(2 * count))
        _core.probabilities(self.arena, self._probabilities)
        return self._probabilities

    def next(self, symbol: int) -> int:
        """Takes the next symbol of a text, in mode "decode"; returns the likeliest one after it, `probabilities` all.

        A full window slides first, by half.
        """
        if self._taken == self._rows:
            self.slide(self._rows // 2)
        best = _core.next(self.arena, symbol)
        self._window[self._taken] = symbol
        self._taken += 1
        self._place += 1
        return best

    def slide(self, keep: int) -> None:
        """Begins the window again with its last `keep` symbols, which are computed again.

        `next` does so when the window is full. In idle time, before, it makes no keystroke wait.
        """
        if not 0 <= keep <= self._taken:
            raise ValueError("the window has %d symbols to keep, not %d" % (self._taken, keep))
        _core.reset(self.arena)
        window, gone, self._taken = self._window, self._taken - keep, 0
        for at in range(keep):
            window[at] = window[gone + at]
            _core.next(self.arena, window[at])
            self._taken += 1

    def sample(self, temperature: float = 1, seed: int = 0) -> int:
        """Draws a symbol to follow the last one; a seed and a text give the same one on every machine.

        temperature, 1/256 to 255: 1 draws a symbol as often as `probabilities` says, a lower one likely symbols more.
        """
        scaled = round(256 * temperature)  # no float literals: see `quantize`
        if not 0 < scaled < 65536:
            raise ValueError("temperature must be from 1/256 to 255")
        return _core.choose(self.arena, scaled, seed, self._place)

    def back(self, count: int = 1) -> None:
        """Takes back the last `count` symbols of `next`, or all that the window has. The next one is computed as if
        they had not come; `probabilities` are those of the last one until then.
        """
        left = _core.back(self.arena, count)
        self._place -= self._taken - left
        self._taken = left

    def suggest(self, count: int = 3) -> list[tuple[int, int]]:
        """The `count` likeliest symbols after the last one, with their probabilities in 1/32768, likeliest first."""
        found = self.probabilities()
        likely = sorted(range(len(found)), key=lambda symbol: symbol - (found[symbol] << 10))  # of equals the first
        return [(symbol, found[symbol]) for symbol in likely[:count]]

    def reset(self) -> None:
        """Starts a new stream with the next input: resets the model's history, and what `next` has taken."""
        _core.reset(self.arena)
        self._taken = self._place = 0

    def infer_sample(self, x: Buffer) -> int:
        """Runs a sample [sample_size], a stream of its own; returns what `infer` does for the last frame."""
        return _core.infer_sample(self.arena, x)

    def forward_range(self, x: Buffer, start: int, end: int) -> None:
        """Runs ops [start, end) of an inference, to measure one at a time; the ops before them must have run."""
        _core.forward_range(self.arena, x, start, end)

    def backward_range(self, x: Buffer, start: int, end: int) -> None:
        """Runs the backward steps of ops [start, end) on any data, to measure; call `begin` or `load` afterwards."""
        _core.backward_range(self.arena, x, start, end)

    def features(self, x: Buffer, out: bytearray | memoryview) -> None:
        """Writes the outputs of the layers below the lowest adapter for a sample, int8 [feature_size].

        Training does not change them, so that they can be cached.
        """
        _core.features(self.arena, x, out)

    def infer_features(self, features: Buffer) -> int:
        """`infer_sample` from a sample's features, for adapters without layers below the session's lowest adapter."""
        return _core.infer_features(self.arena, features)

    def begin(self, seed: int = 0) -> None:
        """Creates a new adapter, which is trained and used from now on."""
        switches = self._switches()
        _core.begin(self.arena, seed)
        self._set_used(None, True, switches)

    def load(self, adapter: str | Buffer) -> None:
        """Continues training from a saved adapter, bit-identically if it was saved with its state."""
        buffer = self.adapter(adapter).buffer
        loaded, switches = buffer if buffer[28] & 8 else None, self._switches()  # `save` writes its records again
        _core.load(self.arena, buffer)
        self._now.loaded = loaded
        self._set_used(None, True, switches)

    def train(self, x: Buffer, label: int | Buffer, learning_rate: int) -> int:
        """Runs forward and backward pass of a sample [sample_size], and an update after every `micro_batch` samples.

        label: the class, of the base or of the training adapter; for losses other than cross-entropy the target,
        int8 [target_size]: 0 and 1 for binary cross-entropy, values on the output's scale for the squared error.
        Returns the sample's loss in 1/4096 nat, or in 1/16 squared step of the output.
        """
        return _core.train(self.arena, x, label, learning_rate)

    def train_features(self, features: Buffer, label: int | Buffer, learning_rate: int) -> int:
        """`train` from a sample's features: bit-identical, without the layers below the lowest adapter."""
        return _core.train_features(self.arena, features, label, learning_rate)

    def evaluate(self, x: Buffer, label: int | Buffer, loss: bytearray | memoryview) -> int:
        """Returns the class as `infer_sample` does, and writes the loss as `train` computes it; overwrites `output`.

        It runs the adapter in use: the training adapter or, after `use`, that one. loss: a buffer of 4 bytes for the
        loss, an int32, lowest byte first.
        """
        return _core.evaluate(self.arena, x, label, loss)

    def evaluate_all(self, samples: Sequence[Buffer], labels: Sequence[Any]) -> tuple[int, int]:
        """Evaluates each sample; returns (number of correct samples, mean loss)."""
        right = total = count = 0
        loss = bytearray(4)
        for x in samples:
            right += self.evaluate(x, labels[count], loss) == labels[count]
            total += int.from_bytes(loss, "little")
            count += 1
        return right, total // max(count, 1)

    def flush(self, learning_rate: int) -> None:
        """Updates the adapter from the pending samples, if there are any."""
        _core.flush(self.arena, learning_rate)

    def counts(self) -> tuple[int, int, int]:
        """(updates, samples, samples pending) of the training adapter."""
        return _core.counts(self.arena)

    def save(self, path: str | None = None, state: bool = False) -> bytearray | None:
        """Returns the training adapter, with or without its state, as `.ela` bytes, or writes it to `path`."""
        data = bytearray(_core.adapter_size(self.arena, state))
        _core.save(self.arena, state, data)
        if path is None:
            return data
        write(path, data)

    def adapter(self, source: str | Buffer) -> Adapter:
        """Reads and verifies a `.ela` for this base."""
        name = source if isinstance(source, str) else "adapter"
        data = read(source)
        fault = _core.adapter_fault(self.arena, data)
        if fault is not None:
            made_for = bytes(data[16:24])
            if len(data) >= 48 and data[:4] == b"ELA1" and "another base" in fault:
                raise ValueError(
                    "adapter %s was made for base %s, this model is %s" % (name, hex_id(made_for), hex_id(self.base_id))
                )
            raise ValueError("%s: %s" % (name, fault))
        return Adapter(data)

    def use(self, adapter: Adapter | None) -> None:
        """Infers with this adapter from now on; None: the base alone. `begin` and `load` return to the training one.

        An adapter for another base, or whose ranks don't fit, is refused, and the one before stays in use.
        """
        switches = self._switches()
        self._now.wanted = adapter
        # `is None`, since the truth of an object takes an RP2040 20 us: its class is searched for a method
        _core.use(self.arena, None if adapter is None else adapter.buffer)
        self._set_used(adapter, False, switches)

    def use_file(self, adapter_file: AdapterFile) -> None:
        """Reads, verifies and uses an adapter file without allocating; if it is damaged, the base alone is in use."""
        switches = self._switches()
        _core.use(self.arena, None)  # after a damaged file the base alone is in use
        self._set_used(None, False, switches)
        self._now.wanted = adapter_file
        adapter_file.file.seek(0)
        adapter_file.file.readinto(adapter_file.buffer)
        # No jump up to the end: an interrupt comes before or after.
        _core.adapter_check(self.arena, adapter_file.buffer)
        _core.use(self.arena, adapter_file.buffer)
        self._set_used(adapter_file, False, switches)

    def merge(self, op: int, buffer: bytearray | memoryview | None = None) -> Buffer:
        """Rounds the adapter in use into a copy of an op's weights, so that the adapter costs no inference time.

        The copy is made in `buffer`, or in a new one, and used until the next `use`, `begin` or `load`. Training
        continues with the original weights. Format: uint8 weights, offset by 128, then the int32 bias.
        """
        size = _core.merge_size(self.arena, op)
        buffer = bytearray(size) if buffer is None else memoryview(buffer)[:size]
        before = self.merged.get(op)
        self.merged[op] = buffer  # before the core has its address
        try:
            _core.merge(self.arena, op, buffer)
        except ValueError:
            self.merged[op] = before
            raise
        return buffer

    def blend(
        self,
        adapters: Sequence[Adapter],
        weights: Sequence[float],
        fine: bool = True,
        buffer: bytearray | memoryview | None = None,
    ) -> Adapter:
        """Returns the sum of up to 8 adapters, each times its weight (-8 to 8, in steps of 1/4096), ready for `use`.

        If all have the same A (frozen, one seed), their B are added; else their ranks are, up to 32. The sum is written
        to `buffer`, which must not be one of theirs, or to a new one. fine: B at full int8 resolution; False keeps the
        step size of training, for `load`. The sum has no records.
        """
        if not 0 < len(adapters) == len(weights) <= 8:
            raise ValueError("blend takes 1 to 8 adapters and as many weights")
        parts = []
        if min(weights) < -8 or max(weights) > 8:
            raise ValueError("adapters can't be added up: give weights from -8 to 8")
        for i in range(len(adapters)):
            parts += adapters[i].buffer, round(4096 * weights[i])
        size = _core.blend(self.arena, None, fine, *parts)
        buffer = bytearray(size) if buffer is None else memoryview(buffer)[:size]
        _core.blend(self.arena, buffer, fine, *parts)
        return Adapter(buffer)

    def with_record(
        self, adapter: Adapter | None, kind: int, body: Buffer | None, buffer: bytearray | memoryview | None = None
    ) -> Adapter | None:
        """Returns an adapter (None: the base alone) with this body as its record of a kind; body None removes it.

        The result is written to `buffer`, which must not be the adapter's, or to a new one. Returns None if only the
        base is left. `load` and `save` keep the records of an adapter.
        """
        adapter = adapter and adapter.buffer
        size = _core.with_record(self.arena, adapter, kind, body, None)
        if not size:
            return None
        buffer = bytearray(size) if buffer is None else memoryview(buffer)[:size]
        _core.with_record(self.arena, adapter, kind, body, buffer)
        return Adapter(buffer)

    @property
    def labels(self) -> list[str]:
        """Class names: the base's, then those of the classes that the adapter in use adds."""
        found = self._labels
        loaded = self._training and self._now.loaded
        for entry in _classes(self.used or loaded and Adapter(loaded)):
            number = _number(entry)
            if number >= self.output_size:
                found = found + [str(i) for i in range(len(found), number)]
                found[number:] = [_name(entry)]
        return found

    def add_class(self, name: str | int, samples: Iterable[Buffer]) -> Adapter:
        """Adds a class, or gives a class of the base, by name or number, a row learned from these samples.

        samples: up to 1024 of the class, int8 [sample_size] each; about ten are enough. Returns the adapter in use, or
        the base alone, with the class, and uses it from now on: keep its `buffer` in a file or a store. The adapter's
        earlier row of that class is replaced. ValueError if the base has no class statistics. The adapter in training
        is not changed: to train with the class, `load` the returned adapter.
        """
        adapter = Adapter(self.save()) if self._training else self.used
        entries, number = _classes(adapter), self._class_number(name)
        if number is None:
            taken = [_number(entry) for entry in entries]
            number = self.output_size
            while number in taken:
                number += 1
        key = b"" if number < self.output_size else name.encode()
        if len(key) > 24 or b"\0" in key:
            raise ValueError("%r can't be a class's name: give 1 to 24 bytes" % name)
        size, count = _core.class_size(self.arena), 0
        sums, entry = bytearray(4 * size), bytearray(32 + (2 * size + 3) // 4 * 4)
        struct.pack_into("<2H24s", entry, 4, number, 0, key)
        for x in samples:
            _core.class_sample(self.arena, x, sums)
            count += 1
        _core.class_row(self.arena, sums, count, entry)
        return self._use_classes(adapter, [e for e in entries if _number(e) != number] + [entry])

    def remove_class(self, name: str | int) -> Adapter | None:
        """Returns the adapter in use without its row of a class, byte-identical to before it; uses it from now on.

        Returns None if only the base is left.
        """
        adapter = Adapter(self.save()) if self._training else self.used
        entries, number = _classes(adapter), self._class_number(name)
        kept = [e for e in entries if _number(e) != number]
        if len(kept) == len(entries):
            raise ValueError("the adapter in use has no class %s" % name)
        return self._use_classes(adapter, kept)

    def _class_number(self, name):
        # Returns the number of a class of the base or of the adapter in use, or None.
        if not isinstance(name, str):
            return name if 0 <= name < self.output_size else None
        labels = self.labels
        return labels.index(name) if name and name in labels else None

    def _use_classes(self, adapter, entries):
        entries.sort(key=_number)
        body = entries and struct.pack("<2H", len(entries), _core.class_size(self.arena)) + b"".join(entries)
        adapter = self.with_record(adapter, 1, body or None)
        self.use(adapter)
        return adapter

    @property
    def used(self) -> Adapter | AdapterFile | None:
        """The adapter that infers, set by the model or its store; None: the base alone, or the training adapter.

        A store's adapter has a `buffer`, which is valid until the store gives its memory to another.
        """
        return self.store.used if self._switched() else self._now.used

    @property
    def _training(self):
        return self._now.training and not self._switched()

    def _switched(self):
        # Whether the last switch was the store's.
        return self.store is not None and self.store.switches != self._now.switches

    def _switches(self):
        # Returns the store's count of switches, for `_set_used`.
        return 0 if self.store is None else self.store.switches

    def _set_used(self, adapter, training, switches):
        # Runs after the core has switched. Without a loop or a branch, no interrupt comes in between.
        now = self._now
        now.used, now.training, now.switches = adapter, training, switches
        self.merged.clear()
