# EdgeLoRA on the device: the Python layer over the C core. SPDX-License-Identifier: MIT
# The C functions are those of _core: in firmware a built-in module, in the native module a class that is
# already among this module's globals.

import gc
import os
import struct
from array import array

if "_core" not in globals():
    import _edgelora as _core

__version__ = "0.1.0"

MODES = ("infer", "frozen_a", "trainable_a")
MOMENTA = (0, 2, 2)  # by mode, unless given,
LEARNING_RATES = (0, 6000, 7000)  # and what goes with them


def read(source):
    """The bytes of a path or buffer, in place if they are memory-mapped (ROMFS)."""
    if not isinstance(source, str):
        return memoryview(source)
    with open(source, "rb") as f:
        try:
            return memoryview(f)
        except TypeError:
            size = f.seek(0, 2)
    del f
    gc.collect()  # what an open file takes leaves no gap before the bytes
    data = bytearray(size)
    with open(source, "rb") as f:
        f.readinto(data)
    return memoryview(data)


def write(path, data):
    """Writes a file whole or not at all."""
    _write(path, (data,))


def _write(path, pieces):
    part = path + ".part"
    try:
        with open(part, "wb") as f:
            for piece in pieces:
                f.write(piece)
        _replace(part, path)
    except OSError as e:
        if e.errno == 28:  # ENOSPC; after other errors nothing is written: see `_only_absent`
            try:
                os.remove(part)
            except OSError:
                pass
        raise e


def _only_absent(error):
    # Raises an OSError unless it tells that there is no such file. A littlefs whose flash could not be read once may
    # take an older state of a folder for its newest, until it is mounted anew: what is written then undoes all since.
    if error.errno not in (2, 19):  # ENOENT, ENODEV
        raise error


def _replace(path, to):
    # A file takes another one's place.
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno != 17:  # EEXIST: FAT does not rename onto a file
            raise
        os.remove(to)
        os.rename(path, to)


def hex_id(data):
    return "".join("%02x" % b for b in data)


class Signal:
    """What a base's input is made of (SPEC.md, section 8), of the record at an offset of its file."""

    def __init__(self, file, at):
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
    """A verified .ela in memory, ready for Model.use."""

    def __init__(self, buffer):
        self.buffer = buffer

    def __repr__(self):
        return "<Adapter for base %s, %d bytes>" % (hex_id(bytes(self.buffer[16:24])), len(self.buffer))

    def record(self, kind):
        found = _core.record(self.buffer, kind)
        return found and memoryview(self.buffer)[found[0] : found[0] + found[1]]


def _classes(adapter):
    # The classes of an adapter or of none: bytes each, of 32 and its row.
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
    """An .ela file kept open for Model.use_file; files that are never used at once may share a buffer."""

    def __init__(self, path, buffer=None):
        self.file = open(path, "rb")
        size = self.file.seek(0, 2)
        self.buffer = bytearray(size) if buffer is None else memoryview(buffer)[:size]

    def close(self):
        self.file.close()


class _Now:
    # What `use` changes, apart from the model, whose attributes take long to set as it has properties.
    def __init__(self):
        self.used = self.wanted = self.loaded = None  # keep the buffers that the core has, or is about to have
        self.training = False  # whether the training adapter is the one in use
        self.switches = 0  # of the store, when that was so


class Model:
    def __init__(
        self,
        model,
        ranks=8,
        mode="frozen_a",
        micro_batch=8,
        momentum=None,
        recompute=None,
        threshold=0,
        plain=False,
        frames=1,
        labels=None,
    ):
        self.mode = mode
        gc.collect()  # base and arena, the largest pieces, go into the lowest gaps: what is free stays in one piece
        self.buffer = read(model)
        if mode not in MODES:
            raise ValueError("mode must be infer, frozen_a or trainable_a")
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
        layout = (self.ranks, MODES.index(mode), micro_batch, momentum, threshold, recompute, plain, frames)
        self.arena = bytearray(_core.arena_size(self.buffer, *layout))
        _core.init(self.arena, self.buffer, *layout)
        if labels is not None:  # other names than the file's; what an adapter adds comes behind them
            if len(labels) != self.output_size:
                raise ValueError("%d labels for %d outputs: give one each" % (len(labels), self.output_size))
            self._labels = [str(label) for label in labels]
        start = _core.output(self.arena)
        self.output = memoryview(self.arena)[start : start + self.output_size]
        self.micro_batch = micro_batch
        self.settings = bytes((MODES.index(mode), micro_batch, momentum)) + threshold.to_bytes(2, "little")
        self.settings += frames.to_bytes(2, "little") + self.ranks  # what decides how it learns
        self.sample_size = frames * self.input_size
        self.feature_size = _core.feature_size(self.arena)
        self._now = _Now()
        self.store = None  # one that was opened with this model switches adapters, too
        self.merged = {}
        self._probabilities = None

    def __repr__(self):
        told = hex_id(self.base_id), self.mode, max(self.ranks), self.input_size, self.output_size, len(self.arena)
        return "<Model of base %s, %s, rank %d, %d inputs, %d outputs, arena of %d bytes>" % told

    @property
    def signal(self):
        at = 4 * int.from_bytes(self.buffer[66:68], "little")
        return Signal(self.buffer, at) if at else None

    def _everywhere(self, rank, ops):
        # kinds 1 and 2 are dense and conv, which can carry an adapter; 21 to 23 pass no gradient: nothing below trains
        table, cut, ranks = int.from_bytes(self.buffer[32:36], "little"), set(), bytearray(ops)
        for i in reversed(range(ops)):
            kind, _, source, _ = struct.unpack_from("<BBHH", self.buffer, table + 36 * i)
            if kind in (21, 22, 23) or i + 1 in cut:
                cut.add(source)
                cut.add(struct.unpack_from("<H", self.buffer, table + 36 * i + 18)[0])
            elif kind in (1, 2):
                ranks[i] = rank
        return ranks

    def infer(self, x):
        return _core.infer(self.arena, x)

    def quantize(self, values, out):
        size = len(values)
        if size != len(out):
            raise ValueError("%d values do not fit an input of %d" % (size, len(out)))
        tensor = int.from_bytes(self.buffer[28:32], "little")
        zero_point = (self.buffer[tensor + 6] ^ 128) - 128
        scale = struct.unpack_from("<f", self.buffer, tensor + 8)[0]
        clipped = 0
        for i in range(size):
            q = int((2 * values[i] / scale + 1) // 2) + zero_point  # no decimals: some firmware has none
            if not -128 <= q <= 127:
                q = -128 if q < 0 else 127
                clipped += 1
            out[i] = q & 255
        return clipped

    def quantize_counts(self, counts, out):
        return _core.quantize(self.arena, counts, out)

    def probabilities(self):
        count = _core.class_count(self.arena)
        if self._probabilities is None or len(self._probabilities) != count:
            self._probabilities = array("H", bytes(2 * count))
        _core.probabilities(self.arena, self._probabilities)
        return self._probabilities

    def reset(self):
        _core.reset(self.arena)

    def infer_sample(self, x):
        return _core.infer_sample(self.arena, x)

    def forward_range(self, x, start, end):
        _core.forward_range(self.arena, x, start, end)

    def backward_range(self, x, start, end):
        _core.backward_range(self.arena, x, start, end)

    def features(self, x, out):
        _core.features(self.arena, x, out)

    def infer_features(self, features):
        return _core.infer_features(self.arena, features)

    def begin(self, seed=0):
        switches = self._switches()
        _core.begin(self.arena, seed)
        self._set_used(None, True, switches)

    def load(self, adapter):
        buffer = self.adapter(adapter).buffer
        loaded, switches = buffer if buffer[28] & 8 else None, self._switches()  # its records are saved again
        _core.load(self.arena, buffer)
        self._now.loaded = loaded
        self._set_used(None, True, switches)

    def train(self, x, label, learning_rate):
        return _core.train(self.arena, x, label, learning_rate)

    def train_features(self, features, label, learning_rate):
        return _core.train_features(self.arena, features, label, learning_rate)

    def evaluate(self, x, label, loss):
        return _core.evaluate(self.arena, x, label, loss)

    def evaluate_all(self, samples, labels):
        right = total = count = 0
        loss = bytearray(4)
        for x in samples:
            right += self.evaluate(x, labels[count], loss) == labels[count]
            total += int.from_bytes(loss, "little")
            count += 1
        return right, total // max(count, 1)

    def flush(self, learning_rate):
        _core.flush(self.arena, learning_rate)

    def counts(self):
        return _core.counts(self.arena)

    def save(self, path=None, state=False):
        data = bytearray(_core.adapter_size(self.arena, state))
        _core.save(self.arena, state, data)
        if path is None:
            return data
        write(path, data)

    def adapter(self, source):
        name = source if isinstance(source, str) else "adapter"
        data = read(source)
        try:
            _core.adapter_check(self.arena, data)
        except ValueError as e:
            made_for = bytes(data[16:24])
            if len(data) >= 48 and data[:4] == b"ELA1" and "another base" in str(e):
                raise ValueError(
                    "adapter %s was made for base %s, this model is %s" % (name, hex_id(made_for), hex_id(self.base_id))
                )
            raise ValueError("%s: %s" % (name, e))
        return Adapter(data)

    def use(self, adapter):
        buffer, switches = adapter and adapter.buffer, self._switches()
        self._now.wanted = adapter
        _core.use(self.arena, buffer)
        self._set_used(adapter, False, switches)

    def use_file(self, adapter_file):
        switches = self._switches()
        _core.use(self.arena, None)  # a damaged file leaves the bare base
        self._set_used(None, False, switches)
        self._now.wanted = adapter_file
        adapter_file.file.seek(0)
        adapter_file.file.readinto(adapter_file.buffer)
        _core.adapter_check(self.arena, adapter_file.buffer)
        _core.use(self.arena, adapter_file.buffer)
        self._set_used(adapter_file, False, switches)

    def merge(self, op, buffer=None):
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

    def blend(self, adapters, weights, fine=True, buffer=None):
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

    def with_record(self, adapter, kind, body, buffer=None):
        adapter = adapter and adapter.buffer
        size = _core.with_record(self.arena, adapter, kind, body, None)
        if not size:
            return None
        buffer = bytearray(size) if buffer is None else memoryview(buffer)[:size]
        _core.with_record(self.arena, adapter, kind, body, buffer)
        return Adapter(buffer)

    @property
    def labels(self):
        found = self._labels
        loaded = self._training and self._now.loaded
        for entry in _classes(self.used or loaded and Adapter(loaded)):
            number = _number(entry)
            if number >= self.output_size:
                found = found + [str(i) for i in range(len(found), number)]
                found[number:] = [_name(entry)]
        return found

    def add_class(self, name, samples):
        adapter = Adapter(self.save()) if self._training else self.used
        entries, number = _classes(adapter), self._class_number(name)
        if number is None:
            taken = [_number(entry) for entry in entries]
            number = self.output_size
            while number in taken:
                number += 1
        key = b"" if number < self.output_size else name.encode()
        if len(key) > 24 or b"\0" in key:
            raise ValueError("%r is no name for a class: give 1 to 24 bytes" % name)
        size, count = _core.class_size(self.arena), 0
        sums, entry = bytearray(4 * size), bytearray(32 + (2 * size + 3) // 4 * 4)
        struct.pack_into("<2H24s", entry, 4, number, 0, key)
        for x in samples:
            _core.class_sample(self.arena, x, sums)
            count += 1
        _core.class_row(self.arena, sums, count, entry)
        return self._use_classes(adapter, [e for e in entries if _number(e) != number] + [entry])

    def remove_class(self, name):
        adapter = Adapter(self.save()) if self._training else self.used
        entries, number = _classes(adapter), self._class_number(name)
        kept = [e for e in entries if _number(e) != number]
        if len(kept) == len(entries):
            raise ValueError("the adapter in use has no class %s" % name)
        return self._use_classes(adapter, kept)

    def _class_number(self, name):
        # Of a class that the base or the adapter in use has, else None.
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
    def used(self):
        return self.store.used if self._switched() else self._now.used

    @property
    def _training(self):
        return self._now.training and not self._switched()

    def _switched(self):
        # Whether the store has switched last.
        return self.store is not None and self.store.switches != self._now.switches

    def _switches(self):
        # Of the store, for `_set_used`.
        return self.store.switches if self.store else 0

    def _set_used(self, adapter, training, switches):
        # After the core has switched: without a loop or branch, so that no interrupt comes between.
        now = self._now
        now.used, now.training, now.switches = adapter, training, switches
        self.merged.clear()
