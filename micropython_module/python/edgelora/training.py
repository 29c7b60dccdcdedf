# SPDX-License-Identifier: MIT
"""Training on the board without a host: in windows of time and energy, across resets and power cuts.

    samples = SampleFile("/me.eld")          # written by the host, or by SampleFile.create(path, model) and append()
    learned, held = split(samples)           # the last quarter of each class validates
    run = Run(model, learned, Store("/adapters"), "me", held=held)
    scheduler = Scheduler(run, clock_hz=48_000_000, sleep_ms=100, budget_ms=60_000)
    for state in scheduler:                  # a window of a minute, step by step; or: await scheduler.run()
        poll_the_buttons()
    scheduler.suspend()                      # deep sleep or a power cut after this repeats no step

After a reset the same lines resume the run. At the end the new adapter becomes "me" in the store if it scores better
than the previous one. `unfinished` says whether there is a run to resume.
"""

import hashlib
import struct
import sys
import time
from array import array

try:
    import machine
except ImportError:
    machine = None

from . import _core, read, write

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from . import Model
    from ._types import Buffer, Samples
    from .store import Store

_SAMPLES = "<4sHH8sIIII"
_SAMPLES_SIZE = 32
_WHOLE = 0x2144DF1C  # CRC-32 of any data followed by its own CRC-32

_CHECKPOINT = "<4sHH8s8sIIIIIIIIHH4I4IIQQIIIIQQII24s"
_CHECKPOINT_SIZE = 180
_VERSION = 2
_CHECKPOINT_HEAD = struct.pack("<4sHH", b"ELC1", _VERSION, _CHECKPOINT_SIZE)
_NONE = (0, 0, 0, 0)
CLASSES = 1  # record kind of an adapter's added classes
MOST_SHARED = 32512  # largest magnitude of a value that a fleet shares
_LONGEST_NAME = 20  # bytes; with its ending it must be a valid name in the store
LEAST_UPDATES = 600  # minimum for a run that chooses its number of epochs: fewer learn little
LEAST_EPOCHS = 6  # minimum number of epochs of such a run
HELD_OUT = 4  # one in HELD_OUT samples of each class is held out for validation
MOST_TIMES = 4  # most occurrences of a sample of a rare class in an epoch
LEAST_JUDGED = 6  # fewest held-out samples that can validate; with labels, of two classes or more


class _Slices:
    def __getitem__(self, index):
        return index


_ALL = _Slices()[:]  # created once: [:] in the code would create a new one at each step, on a heap that may be locked


class SampleFile:
    """Samples in a file, recorded on the board or written by the host.

    They have labels, or int8 targets for losses that take targets. `append` and `undo` write only at the file's end;
    a sample that a power cut left incomplete is dropped. ValueError if the file is damaged or of another kind.
    """

    path: str
    base_id: bytes
    sample_size: int  # int8 values
    target_size: int  # int8 values; 0: samples have labels
    count: int

    def __init__(self, path: str, append: bool = False) -> None:
        self.path = path
        self._file = open(path, "r+b" if append else "rb")
        head = self._file.read(_SAMPLES_SIZE)
        if len(head) < _SAMPLES_SIZE or head[:4] != b"ELD1" or _core.crc32(head, 0) != _WHOLE:
            raise ValueError("%s is not a sample file, or damaged: make it again" % path)
        _, version, size, self.base_id, self.sample_size, self.target_size, _, _ = struct.unpack(_SAMPLES, head)
        if (version, size) != (1, _SAMPLES_SIZE):
            raise ValueError("%s has format version %d, must be 1: update the board's software" % (path, version))
        target = self.target_size or 1
        self._record = bytearray(target + self.sample_size + 4)
        view = memoryview(self._record)
        self._target, self._sample, self._both = view[:target], view[target:-4], view[:-4]
        self.count = (self._file.seek(0, 2) - _SAMPLES_SIZE) // len(self._record)
        while self.count and not self._load(self.count - 1):
            self.count -= 1  # a power cut left it incomplete, or `undo` removed it

    @classmethod
    def create(cls, path: str, model: Model) -> "SampleFile":
        """Creates an empty file for samples of this model, opened for `append`."""
        head = bytearray(_SAMPLES_SIZE)
        sizes = (model.sample_size, model.target_size)
        struct.pack_into(_SAMPLES, head, 0, b"ELD1", 1, _SAMPLES_SIZE, model.base_id, *sizes, 0, 0)
        struct.pack_into("<I", head, _SAMPLES_SIZE - 4, _core.crc32(memoryview(head)[:-4], 0))
        write(path, head)
        return cls(path, True)

    def _load(self, i):
        self._file.seek(_SAMPLES_SIZE + i * len(self._record))
        return self._file.readinto(self._record) == len(self._record) and _core.crc32(self._record, 0) == _WHOLE

    def read(self, i: int, buffer: bytearray) -> int | memoryview:
        """Copies sample i, int8 [sample_size], to the buffer; returns its label, or its target until the next read."""
        if not 0 <= i < self.count or not self._load(i):
            raise ValueError("sample %d of %s can't be read: it is damaged, or the file has fewer" % (i, self.path))
        buffer[_ALL] = self._sample
        return self._target if self.target_size else self._record[0]

    def append(self, sample: Buffer, label: int | Buffer) -> None:
        """Appends a sample, which is in flash when this returns."""
        if len(sample) != self.sample_size:
            raise ValueError("a sample of %d values, the file's have %d" % (len(sample), self.sample_size))
        _core.take(self._record, len(self._target), sample, 0, 1, len(sample), 1)
        if self.target_size:
            self._target[_ALL] = bytes(label)
        else:
            self._record[0] = label
        struct.pack_into("<I", self._record, len(self._record) - 4, _core.crc32(self._both, 0))
        self._file.seek(_SAMPLES_SIZE + self.count * len(self._record))
        self._file.write(self._record)
        self._file.flush()
        self.count += 1

    def undo(self) -> int | memoryview:
        """Removes the last sample, also from flash; returns its label, or its target until the next read."""
        if not self.count or not self._load(self.count - 1):
            raise ValueError("%s has no sample to take back" % self.path)
        label = self._target if self.target_size else self._record[0]
        for i in range(4):
            self._record[len(self._record) - 4 + i] ^= 255
        self._file.seek(_SAMPLES_SIZE + (self.count - 1) * len(self._record))
        self._file.write(self._record)
        self._file.flush()
        self.count -= 1
        return label

    def crc(self, count: int) -> int:
        """Returns the CRC-32 of the first `count` samples and their labels."""
        crc = 0
        for i in range(count):
            self._load(i)
            crc = _core.crc32(self._both, crc)
        return crc

    def close(self) -> None:
        self._file.close()


class Part:
    """A subset of another source's samples, selected by number; also a source. samples: as for `split`."""

    count: int
    base_id: bytes | None
    sample_size: int
    target_size: int

    def __init__(self, samples: Any, numbers: Sequence[int]) -> None:
        self._samples, self._numbers = samples, numbers
        self.count = len(numbers)
        self.base_id = getattr(samples, "base_id", None)
        self.sample_size, self.target_size = samples.sample_size, samples.target_size

    def read(self, i: int, buffer: bytearray) -> int | memoryview:
        return self._samples.read(self._numbers[i], buffer)

    def crc(self, count: int) -> int:
        crc, buffer, label = 0, bytearray(self.sample_size), bytearray(1)
        for i in range(count):
            answer = self.read(i, buffer)
            if not self.target_size:
                label[0] = answer
                answer = label
            crc = _core.crc32(buffer, _core.crc32(answer, crc))
        return crc


def split(samples: Any, count: int = 0) -> tuple[Samples, Samples | None]:
    """Returns (learned, held): two parts of the samples, or of their first `count`, for `Run`.

    The last 1/`HELD_OUT` of each class (`labels_of`) is held out, or of all samples without classes. Returns
    (all, None) if fewer than `LEAST_JUDGED` would be held out, or only one class. samples: a `SampleFile`, or another
    source that has `sample_size` and `target_size`.
    """
    count = count or samples.count
    found = labels_of(samples, count, bytearray(samples.sample_size), samples.target_size)
    labels = found or bytearray(count)
    learned, held = apart(labels)
    if not can_judge([labels[i] for i in held], found is None):
        return Part(samples, array("I", range(count))), None
    return Part(samples, learned), Part(samples, held)


def labels_of(samples: Samples, count: int, buffer: bytearray, target_size: int) -> bytearray | None:
    """Returns the classes of the first `count` samples: labels, or targets that are a single 0 or 1 each, no or yes.

    None if they have other targets.
    """
    labels = bytearray(count)
    if target_size > 1:
        return None
    for i in range(count):
        answer = samples.read(i, buffer)
        labels[i] = answer[0] & 255 if target_size else answer
        if target_size and labels[i] > 1:
            return None
    return labels


def apart(labels: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Returns (learned, held): numbers of the samples with these labels. The last 1/`HELD_OUT` of each class is held
    out, as one block in time, because windows of a recording overlap."""
    left, held = {}, {}
    for label in labels:
        left[label] = left.get(label, 0) + 1
        held[label] = left[label] // HELD_OUT
    learned, last = array("I"), array("I")
    for i in range(len(labels)):
        label = labels[i]
        (last if left[label] <= held[label] else learned).append(i)
        left[label] -= 1
    return learned, last


def can_judge(labels: Sequence[int], targets: bool = False) -> bool:
    """Whether samples with these labels can validate: at least `LEAST_JUDGED`, of two classes or with targets that are
    no classes."""
    return len(labels) >= LEAST_JUDGED and (targets or min(labels) < max(labels))


class Judge:
    """Validates the model in use on held-out samples, one per `step`.

    right: how many of the `at` samples so far are correct (with labels); loss: the sum of their losses, 1/4096 nat;
    count: the number of held-out samples.
    """

    count: int
    at: int
    right: int
    loss: int

    def __init__(self, model: Model, held: Samples, count: int = 0) -> None:
        self._model, self._held = model, held
        self.count = count or held.count
        self._buffer, self._loss = bytearray(model.sample_size), bytearray(4)
        self.restart()

    def restart(self) -> None:
        self.at = self.right = self.loss = 0

    @property
    def left(self) -> int:
        """The number of steps left."""
        return self.count - self.at

    def step(self) -> bool:
        """Validates on the next sample; returns whether it was the last. Allocates nothing with sums below 2^30."""
        label = self._held.read(self.at, self._buffer)
        named, loss = self._model.evaluate(self._buffer, label, self._loss), self._loss
        if not self._model.target_size and named == label:
            self.right += 1
        self.loss += loss[0] | loss[1] << 8 | loss[2] << 16 | loss[3] << 24
        self.at += 1
        return self.at == self.count


def milder(right: int, loss: int, than_right: int, than_loss: int) -> bool:
    """Whether one epoch's validation is better than another's: first by loss, which shows overfitting early."""
    return loss < than_loss or loss == than_loss and right > than_right


def better(right: int, loss: int, than_right: int, than_loss: int) -> bool:
    """Whether one validation is better than another: first by correct samples, then by loss."""
    return right > than_right or right == than_right and loss < than_loss


class _Checkpoint:
    # A checkpoint that was read back: see Run._keep.
    def __init__(self, data):
        fields = struct.unpack(_CHECKPOINT, data)
        self.identity = fields[3:7] + fields[26:28]
        self.sequence = fields[7]
        self.name = fields[34][: fields[14]]
        self.generations = fields[19:23], fields[15:19]  # the generation being committed, the one before
        self.resumes, self.busy_us, self.energy_uj = fields[23:26]
        self.judged = fields[28:34]

    @classmethod
    def of(cls, data, name):
        """Returns the checkpoint in these bytes; None if they are not an intact checkpoint of a run of this name."""
        data = bytes(data)
        if len(data) == _CHECKPOINT_SIZE and data[:8] == _CHECKPOINT_HEAD and _core.crc32(data, 0) == _WHOLE:
            found = cls(data[:-4])
            if found.name == name.encode():
                return found


def _states(data):
    # Yields (offset of the training state, elements) of each trained matrix in an adapter file, in the file's order.
    flags, layers = struct.unpack_from("<HH", data, 28)
    if not flags & 2 or flags & 8:
        raise ValueError("a starting adapter needs its training state, and no classes or monitor: save(state=True)")
    copies = 2 if data[40] else 1  # masters and, with momentum, its means
    counts, at = [], 48 + 12 * layers
    for record in range(48, at, 12):
        _, rank, outputs, inputs = struct.unpack_from("<4H", data, record)
        a, b = rank * inputs, rank * outputs
        at += (_aligned(a) if flags & 1 else 0) + _aligned(b)
        counts += (a, b) if flags & 4 else (b,)
    for count in counts:
        yield at, count
        at += 4 + copies * _aligned(2 * count)


def _aligned(size):
    return (size + 3) & ~3


def shared_scale(vm: int, vx: int) -> int:
    """Encodes a gradient's scale `(vm, vx)` as one value: 256 steps per octave, 0 for 1/2 and for no scale."""
    return max(-MOST_SHARED, min(MOST_SHARED, (vx + 16) * 256 + (vm - 0x8000 >> 7))) if vm else 0


def fleet_vector(data: Buffer) -> bytearray:
    """Returns what a fleet shares of an adapter file with training state, int16 [n] as bytes: masters and, if A trains,
    scales, both layer by layer, first A's if it trains, then B's (SPEC.md, 17)."""
    view, found, scales = memoryview(data), bytearray(), array("h")
    for at, count in _states(data):
        found += view[at + 4 : at + 4 + 2 * count]
        vm, vx = struct.unpack_from("<Hh", data, at)
        scales.append(shared_scale(vm, vx))
    return found + bytes(scales) if data[28] & 4 else found


def restarted(data: Buffer, draws: int) -> bytearray:
    """Returns the adapter file that a run starts from: it keeps masters and scales, resets momentum and counts, and
    continues its random draws at this number."""
    data = bytearray(data)
    for at, count in _states(data):
        if data[40]:
            size = _aligned(2 * count)
            data[at + 4 + size : at + 4 + 2 * size] = bytes(size)
    struct.pack_into("<II", data, 32, 0, draws)
    struct.pack_into("<I", data, 44, 0)
    struct.pack_into("<I", data, 12, _core.crc32(memoryview(data)[16:], 0))
    return data


def _rtc_memory(rtc):
    # Returns memory that survives sleep and reset; None if there is none or other data is in it.
    if rtc is None and machine and hasattr(machine, "RTC"):
        rtc = machine.RTC()
    if hasattr(rtc, "memory") and bytes(rtc.memory())[:4] in (b"", b"ELC1"):
        return rtc
    return None


def stored(store: Store, name: str, model: Model) -> bytearray | None:
    """Returns the bytes of an adapter in the store; None if it is absent or for another base."""
    entry = store.find(name)
    return store.read(name) if entry and entry.base_id == model.base_id else None


def without_classes(store: Store, name: str, model: Model) -> None:
    """ValueError if the adapter of that name has added classes: a run creates a new adapter and would lose them."""
    before = stored(store, name, model)
    found = _core.record(before, CLASSES) if before else None
    if found and not before[found[0] + 11] >> 4:  # a person's own rows may be replaced: see `rows`
        text = (
            "%s has added classes, which a run would lose: consolidate() of a Learner keeps them, or take another name"
        )
        raise ValueError(text % name)


def unfinished(store: Store, name: str) -> bool:
    """Whether a run of this name is unfinished; create the run again to resume it."""
    return store.find(name + ".chk") is not None


def begun(store: Store, name: str, rtc: Any = None) -> int:
    """Returns how many samples, learned and held out, an unfinished run of this name has; 0 if there is no such run.

    Pass it to `split` as `count` if samples may have been added since.
    """
    found = _found(store, name, _rtc_memory(rtc))[0]
    return found.identity[2] + found.identity[4] if found else 0


def discard(store: Store, name: str, rtc: Any = None) -> None:
    """Deletes an unfinished run. An adapter of that name in the store stays."""
    _forget(name, _rtc_memory(rtc))
    left = _left(store, name)
    if left and store.find(name + ".new"):
        left.append(name + ".new")
    if left:
        store.remove(*left)


def _forget(name, rtc):
    if rtc and _Checkpoint.of(rtc.memory(), name):
        rtc.memory(b"")


def _left(store, name):
    # Returns the names of an unfinished run's entries in the store.
    return [name + ending for ending in (".chk", ".run") if store.find(name + ending)]


def _found(store, name, rtc):
    # Returns the newest intact checkpoint of this run or None, and whether the one in the store is damaged.
    kept = store.read(name + ".chk") if unfinished(store, name) else b""
    found = [_Checkpoint.of(kept, name), _Checkpoint.of(rtc.memory(), name) if rtc else None]
    damaged = bool(kept) and not found[0]
    found = [one for one in found if one]
    return max(found, key=lambda one: one.sequence) if found else None, damaged


class Run:
    """A training run over all epochs, one bounded `step` at a time, that survives sleep and reset.

    model: in a mode that trains. samples: anything with `count` and `read(i, buffer) -> label`; with `crc(count)`, a
    resumed run checks that its samples are the same. store: receives the adapter `name` at the end and, during the
    run, training state `name.run` (every `commit_every` updates) and checkpoint `name.chk`. rtc: an object with
    `memory()` like machine.RTC on an ESP32 (detected): the checkpoint is then there, too, after every step. epochs,
    learning_rate: 0 for a default by the number of samples, and by the mode. held: held-out samples (`split`), which
    validate what was in use before (the adapter `name` of the store, or the base alone), then every epoch. The best
    epoch is `name.new` in the store. At the end it becomes `name` if it is better than what was before (`better`), else
    it stays `name.new`. Without `held`, the state after the last step becomes `name`. start: an adapter file with
    training state, its bytes or a path: the run starts from its masters and scales instead of a new one. keep_state:
    `name` is not written at the end; the training state stays, as `state` and in the store, until `discard`.

    ValueError if a run of this name was begun with another base, other settings or samples, or if `name` in the store
    has added classes, which would be lost (`learner.Learner.consolidate` keeps them). notice: "", or what was lost, so
    that the run starts over. watch: if set, called with the run after every sample that it learns.
    """

    checkpoint_size: int
    model: Model
    samples: Samples
    store: Store
    name: str
    epochs: int
    seed: int
    learning_rate: int
    commit_every: int
    notice: str  # "", or what was lost, so that the run starts over
    done: bool
    better: bool | None  # at the end of a run with validation: whether it is better than what was in use before
    passed: int  # epochs completed
    judged: int  # validations so far: one of what was in use before, then one per epoch
    before: tuple[int, int]  # validation of what was in use before: correct samples, sum of losses
    best: tuple[int, int]  # the same of the best epoch
    best_epoch: int  # from 0
    watch: "Callable[[Run], Any] | None"  # if set, called after every sample that it learns
    loss: int  # of the last sample, as Model.train returns it
    count: int  # samples
    places: int  # samples per epoch; those of rare classes are repeated
    steps: int  # in total: epochs * places
    position: int  # steps done
    pending: int  # samples that are not yet in an update
    updates: int
    updates_in_all: int
    rate: int  # the current learning rate
    sequence: int
    resumes: int
    busy_us: int  # time spent computing and writing, resumed runs included
    energy_uj: int
    step_us: int  # of the last step, without its commit
    commit_us: int  # of the last commit

    checkpoint_size = _CHECKPOINT_SIZE

    def __init__(
        self,
        model: Model,
        samples: Samples,
        store: Store,
        name: str,
        epochs: int = 0,
        seed: int = 0,
        learning_rate: int = 0,
        commit_every: int = 32,
        rtc: Any = None,
        held: Samples | None = None,
        start: str | Buffer | None = None,
        keep_state: bool = False,
    ) -> None:
        if not 1 <= len(name.encode()) <= _LONGEST_NAME:
            raise ValueError("%r can't be a run's name: give 1 to %d bytes" % (name, _LONGEST_NAME))
        learning_rate = learning_rate or model.learning_rate
        if not 1 <= learning_rate <= 65535 or not 0 <= epochs <= 65535 or commit_every < 1:
            raise ValueError("learning_rate and epochs must be 1 to 65535, or 0, commit_every at least 1")
        for what in ("base_id", "sample_size", "target_size"):
            for source in (samples, held):
                if getattr(source, what, None) not in (None, getattr(model, what)):
                    text = "the samples are for another base, or of another size (%s): make them again"
                    raise ValueError(text % what)
        self.model, self.samples, self.store, self.name = model, samples, store, name
        self.seed, self.learning_rate = seed, learning_rate
        self._start, self._keeps_state = start, keep_state
        self.commit_every, self.notice, self.done, self.watch = commit_every, "", False, None
        self._astray = False  # a step was interrupted, and the run's position may be wrong
        self.better = None
        self.loss = self.sequence = self.resumes = self.busy_us = self.energy_uj = 0
        self.step_us = self.commit_us = 0  # of the last step without its commit, of the last commit
        self._rtc = _rtc_memory(rtc)
        self._buffer = bytearray(model.sample_size)
        self._packed = bytearray(_CHECKPOINT_SIZE)
        self._generations = _NONE, _NONE
        found, damaged = _found(store, name, self._rtc)
        if damaged:
            self.notice = "the checkpoint of %s is damaged, or of another version: the run starts over" % name
        # samples that were appended since wait for the next run
        self.count, crc = _counted(samples, found.identity[2] if found else 0, name)
        judges, held_crc = _counted(held, found.identity[4] if found else 0, name) if held else (0, 0)
        self._judge = Judge(self.model, held, judges) if held else None
        self.judged = self.best_epoch = 0  # validations: one of what was before, then one per epoch; the best epoch
        self.before = self.best = 0, 0  # (correct, sum of losses)
        self._judged_kept = 0  # validations that flash has recorded
        self._again = repeated(samples, self.count, self._buffer, model.target_size)
        self.places = self.count + len(self._again)  # samples per epoch; those of rare classes are repeated
        epochs = epochs or fitting_epochs(self.places, model.micro_batch)
        self.epochs = epochs
        self.steps = epochs * self.places
        self.updates_in_all = -(-self.steps // model.micro_batch)
        settings = model.settings + struct.pack("<IIH", epochs, seed, learning_rate)
        if start is not None:
            settings += hashlib.sha256(model.adapter(start).buffer).digest()
        settings = hashlib.sha256(settings).digest()[:8]
        self._identity = bytes(model.base_id), settings, self.count, crc, judges, held_crc
        resumed = found is not None and self._resume(found)
        if not resumed:
            self._begin()
        self._state = bytearray(_core.adapter_size(model.arena, True))
        self._synchronize()
        self._keep(flash=not resumed)

    def _begin(self):
        # Sets the training adapter to what the run starts from.
        without_classes(self.store, self.name, self.model)
        if self._start is None:
            self.model.begin(self.seed)
        else:
            self.model.load(restarted(read(self._start), self.seed))

    @property
    def state(self) -> bytearray:
        """The training adapter with its state, as a file. Read it between two updates; valid until the next commit."""
        _core.save(self.model.arena, True, self._state)
        return self._state

    def _use_before(self):
        # Uses what was in use before, for its validation.
        before = stored(self.store, self.name, self.model)
        try:
            if before:
                self.model.load(before)
            else:
                self.model.use(None)
        except ValueError as error:
            raise ValueError(
                "%s in the store can't be validated (%s): remove it, or give the run another name" % (self.name, error)
            )

    # --- resuming

    def _resume(self, found):
        # Loads the committed generation; returns False if there is none to resume from.
        whats = ("base", "settings", "samples", "samples", "held-out samples", "held-out samples")
        for what, was, this in zip(whats, found.identity, self._identity):
            if was != this:
                raise ValueError(
                    "%s is unfinished with other %s: continue with those, or discard(store, %r) first"
                    % (self.name, what, self.name)
                )
        self.sequence, self.resumes = found.sequence, found.resumes + 1
        self.busy_us, self.energy_uj = found.busy_us, found.energy_uj
        entry = self.store.find(self.name + ".run")
        kept = found.judged[4] < 2 or self.store.find(self.name + ".new")
        for generation in found.generations if kept else ():
            if generation == _NONE:  # nothing was committed yet: start from the beginning
                self._begin()
            elif entry and (entry.version, entry.crc) == generation[:2]:
                self.model.load(self.store.read(self.name + ".run"))
                self._generations = generation, generation
            else:
                continue
            right, best_right, loss, best_loss, self.judged, self.best_epoch = found.judged
            self.before, self.best = (right, loss), (best_right, best_loss)
            self._judged_kept = self.judged
            return True
        self.notice = "the training state of %s is gone: the run starts over" % self.name
        return False

    def _synchronize(self):
        # Sets the run's position from the model's counts, which are correct whatever was interrupted.
        self.updates = self.position = self.pending = 0
        if self._judge:
            self._judge.restart()
        if self._judge and not self.judged:
            self._use_before()
        else:
            self.updates, self.position, self.pending = self.model.counts()
        self._updated()
        self._astray = False

    def _updated(self):
        # Sets what depends on the number of updates: the next learning rate, and whether other work is due.
        self.passed = self._passed_by(self.updates)
        begins = not self.updates or self.passed > self._passed_by(self.updates - 1)
        self._making = self._first() if begins and (self.judged or not self._judge) else None
        self.rate = self._rate()

    def _passed_by(self, updates):
        # Returns how many epochs are complete after this many updates.
        batch = self.model.micro_batch
        return updates if batch > self.places else min(self.epochs, updates * batch // self.places)

    def _first(self):
        # Returns work to do before an epoch is validated and the next one begins, `left` times a `step`; or None.
        pass

    def _rate(self):
        return falling_rate(self.learning_rate, self.updates, self.updates_in_all)

    @property
    def judging(self) -> bool:
        """Whether the next step validates."""
        return self._judge is not None and self.judged <= self.passed

    @property
    def rest(self) -> int:
        """Steps until the run can suspend without repeating any; the last of them may write to flash."""
        rest = self._judge.left if self.judging else self.model.micro_batch - self.pending
        return rest + self._making.left if self._making else rest

    @property
    def between(self) -> bool:
        """Whether neither a micro-batch nor a validation is under way."""
        making = self._making and self._making.left
        return not self.pending and not making and not (self._judge and self._judge.at)

    @property
    def _over(self):
        # Whether learning is over: all epochs are done, or no better one is expected.
        if self.position == self.steps:
            return True
        return is_enough(self.judged - 2 - self.best_epoch, self.epochs)

    # --- learning

    def step(self) -> int:
        """Learns one sample, with an update if it fills the micro-batch, and a commit if due; or validates on one.

        Returns the loss of the sample learned last, as Model.train does. Only a commit and the end of a validation
        allocate memory (with learning_rate * updates and sums of losses below 2^30). After an interruption, by Ctrl-C
        or a full store, call it again.
        """
        if self.done:
            return 0
        if self._astray:
            self._synchronize()
        try:
            start = time.ticks_us()
            making, judging = self._making, self.judging
            if making and making.left:
                making.step()
            elif judging:
                self._judge_sample()
            elif not self._over or self.pending:
                self._learn_sample()
            self.step_us = time.ticks_diff(time.ticks_us(), start)
            self.busy_us += self.step_us
            if self.watch and not judging:
                self.watch(self)
            if self.judging:
                pass
            elif self._over and not self.pending:
                self._finish()
            elif not self.pending and self.updates - self._generations[0][2] >= self.commit_every:
                self.commit()
            if self._rtc and not self.done:
                self._keep(flash=False)
        except BaseException:
            self._astray = True  # stays set if there is no memory for `_synchronize`
            self._synchronize()
            raise
        return self.loss

    def _learn_sample(self):
        if self.position < self.steps:
            places = self.places
            at = _core.order(self.seed, self.position // places, places, self.position % places)
            if at >= self.count:
                at = self._again[at - self.count]
            label = self.samples.read(at, self._buffer)
            self.loss = self.model.train(self._buffer, label, self.rate)
            self.position += 1
            self.pending += 1
        if self.pending == self.model.micro_batch or self.position == self.steps:
            self.model.flush(self.rate)
            self.pending = 0
            self.updates = -(-self.position // self.model.micro_batch)
            self._updated()

    def _judge_sample(self):
        judge = self._judge
        if not judge.step():
            return
        if not self.judged:
            self.before = judge.right, judge.loss
            self._begin()
        elif self.judged == 1 or milder(judge.right, judge.loss, *self.best):
            self.store.put(self.name + ".new", self.model.save())
            self.best, self.best_epoch = (judge.right, judge.loss), self.judged - 1
        self.judged += 1
        judge.restart()
        if self.judged == 1:
            self._updated()  # training begins

    def suspend(self) -> None:
        """Finishes the micro-batch or validation under way and commits, so that no step is repeated later."""
        while not self.between:
            self.step()
        if self.done:
            return
        if self.updates != self._generations[0][2]:
            self.commit()
        elif self.judged != self._judged_kept:
            self._keep(flash=True)

    def commit(self) -> None:
        """Writes the training state to the store, if there was an update. Call it only between two updates.

        The checkpoint is written first and names both this and the previous generation: a power cut costs neither.
        """
        if not self.updates:
            return self._keep(flash=True)  # the state is still the initial one
        start = time.ticks_us()
        _core.save(self.model.arena, True, self._state)
        entry = self.store.find(self.name + ".run")
        draws = struct.unpack_from("<I", self._state, 36)[0]
        generation = (entry.version if entry else 0) + 1, _core.crc32(self._state, 0), self.updates, draws
        self._generations = generation, self._generations[1]
        self._keep(flash=True)
        self.store.put(self.name + ".run", self._state, generation[0])
        self._generations = generation, generation
        self.commit_us = time.ticks_diff(time.ticks_us(), start)
        self.busy_us += self.commit_us

    def _finish(self):
        store, name = self.store, self.name
        if self._keeps_state:
            if self.updates != self._generations[0][2]:
                self.commit()
            self.done = True
            return
        if self._judge:
            self.better = self._is_better()
        else:
            store.put(name, self.model.save())
        _forget(name, self._rtc)
        if self.better:
            store.replace(name, name + ".new", *_left(store, name))
        else:
            store.remove(*_left(store, name))
        self.done = True

    def _is_better(self):
        return better(*self.best, *self.before)

    def _keep(self, flash):
        self.sequence += 1
        packed, name = self._packed, self.name.encode()
        place = self.position // self.places, self.position % self.places
        identity = self._identity
        struct.pack_into(
            _CHECKPOINT, packed, 0, b"ELC1", _VERSION, _CHECKPOINT_SIZE, *identity[:4], self.sequence, self.seed,
            *place, self.position, self.updates, self.pending, len(name), *self._generations[1], *self._generations[0],
            self.resumes, self.busy_us, self.energy_uj, *identity[4:], self.before[0], self.best[0], self.before[1],
            self.best[1], self.judged, self.best_epoch, name,
        )  # fmt: skip
        struct.pack_into("<I", packed, _CHECKPOINT_SIZE - 4, _core.crc32(memoryview(packed)[:-4], 0))
        if self._rtc:
            self._rtc.memory(packed)
        if flash:
            self.store.put(self.name + ".chk", packed)
            self._judged_kept = self.judged


def fitting_epochs(places: int, micro_batch: int) -> int:
    """Returns the default number of epochs. places: samples per epoch."""
    return max(LEAST_EPOCHS, -(-LEAST_UPDATES * micro_batch // places))


def falling_rate(rate: int, update: int, updates: int) -> int:
    """Returns the learning rate of an update, numbered from 0, out of `updates`: it decays linearly to 0."""
    return max(1, rate * (updates - update) // updates)


def is_enough(since: int, epochs: int) -> bool:
    """Whether a run of this many epochs stops early, `since` epochs after its best one."""
    return since > max(2, (34 * epochs + 50) // 100)


def repeated(samples: Samples, count: int, buffer: bytearray, target_size: int) -> Sequence[int]:
    """Returns the numbers of the samples that an epoch repeats, once or more often: those of rare classes
    (`labels_of`)."""
    labels = labels_of(samples, count, buffer, target_size)
    return array("I") if labels is None else _rare(labels)


def _rare(labels):
    # Returns the numbers of the samples with these labels that an epoch repeats.
    again, counts = array("I"), {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    most = max(counts.values())
    for turn in range(1, MOST_TIMES):
        for i in range(len(labels)):
            n = counts[labels[i]]
            if turn < (2 * most + n) // (2 * n):
                again.append(i)
    return again


def _counted(samples, count, name):
    # Returns how many samples a run has, as many as it began with or all, and their CRC if the source has `crc`.
    wanted = count or samples.count
    if wanted < 1 or wanted > samples.count:
        raise ValueError("%s needs %d samples or more, there are %d" % (name, max(1, wanted), samples.count))
    return wanted, samples.crc(wanted) if hasattr(samples, "crc") else 0


TRAINING, PAUSED, LOW_BATTERY, DONE = "training", "paused", "low battery", "done"
_KEEP_TIME = ("rp2", "esp32")  # platforms whose clock goes on in light sleep


def _light_sleep(ms):
    # Sleeps lightly until so much time has passed: an interrupt, such as USB's once a millisecond, ends each sleep.
    began, left = time.ticks_ms(), ms
    while left > 0:
        machine.lightsleep(left)
        left = ms - time.ticks_diff(time.ticks_ms(), began)


class Scheduler:
    """Drives a run in windows of time and energy. `for state in scheduler` runs one window, step by step; so do
    `spend()`, in one call, and `await run()`, which lets other tasks run after each step. `state` says how it ended:

    PAUSED  the budget is used up; RAM keeps everything, and the next window continues at once
    LOW_BATTERY  `battery()` is below battery_floor; the run was suspended. The next window checks again
    DONE  the run is finished

    clock_hz: CPU clock during steps and sleep; the previous clock is restored after each, even after an error.
    sleep_ms: light sleep after every update, on RP2 and ESP32 boards; it goes on when an interrupt ends it early.
    budget_ms, budget_mj: milliseconds, sleep included, and millijoules per window. A micro-batch that would not end in
    it is not begun, if a window has room for one. power: a function from Hz to milliwatts; sleep_mw: asleep.
    sleep: replaces light sleep, e.g. time.sleep_ms if USB must stay up. Its time is measured.
    """

    training: Run
    state: str
    sleep_ms: int
    budget_ms: int | None
    budget_mj: float | None
    battery: Callable[[], float] | None
    battery_floor: float | None
    sleep_mw: float

    def __init__(
        self,
        run: Run,
        clock_hz: int | None = None,
        sleep_ms: int = 0,
        budget_ms: int | None = None,
        budget_mj: float | None = None,
        battery: Callable[[], float] | None = None,
        battery_floor: float | None = None,
        power: Callable[[int], float] | None = None,
        sleep_mw: float = 0,
        sleep: Callable[[int], Any] | None = None,
    ) -> None:
        if budget_mj is not None and power is None:
            raise ValueError("a budget of energy needs power, a function that gives milliwatts at a clock in Hz")
        if (battery is None) != (battery_floor is None):
            raise ValueError("battery and battery_floor go together")
        self.training, self.state = run, PAUSED
        self.sleep_ms, self.budget_ms, self.budget_mj = sleep_ms, budget_ms, budget_mj
        self.battery, self.battery_floor, self.sleep_mw = battery, battery_floor, sleep_mw
        self._clock = clock_hz if hasattr(machine, "freq") else None
        light = hasattr(machine, "lightsleep") and sys.platform in _KEEP_TIME
        self._sleep = sleep or (_light_sleep if light else time.sleep_ms)
        self._power = power
        self._mw = 0
        try:
            self._call(self._look_at_clock)
        except ValueError:
            raise ValueError("this chip can't compute at %d Hz" % clock_hz) from None
        self._usual_us = self._worst_us = 0  # longest steps without and with their commit
        self._late_us = 0  # longest time between the end of a sleep as asked and as measured
        self._spent_us = self._spent_uj = 0  # in this window

    # --- windows

    def __iter__(self) -> Iterator[str]:
        return self._window(True)

    def spend(self) -> str:
        """Runs a whole window. Returns the state."""
        for _ in self._window(True):
            pass
        return self.state

    async def run(self) -> str:
        """Runs a whole window as an asyncio task that sleeps with asyncio. Returns the state."""
        import asyncio

        for _ in self._window(False):
            sleep_ms = self.sleep_ms if self.state == TRAINING and self.training.between else 0
            await asyncio.sleep_ms(sleep_ms)
            self._account(1000 * sleep_ms, self.sleep_mw)
        return self.state

    def suspend(self) -> None:
        """Finishes the micro-batch or validation under way and commits: sleep or a power cut repeats no step."""
        self._call(lambda: self._timed(self.training.suspend))

    def _window(self, sleeps):
        self._spent_us = self._spent_uj = 0
        while True:
            # sleep between two micro-batches: before each, except at the window's first step
            sleep_ms = self.sleep_ms if sleeps and self._spent_us and self.training.between else 0
            self.state = self._next(sleep_ms and 1000 * sleep_ms + self._late_us)
            if self.state == TRAINING:
                self._call(lambda sleep_ms=sleep_ms: self._sleep_and_step(sleep_ms))
                if self.training.done:
                    self.state = DONE
            yield self.state
            if self.state != TRAINING:
                return

    def _next(self, sleep_us):
        run = self.training
        if run.done:
            return DONE
        if run.between and self.battery and self.battery() < self.battery_floor:
            self.suspend()
            return LOW_BATTERY
        rest = run.rest
        step_us = self._worst_us if rest == 1 else self._usual_us
        batch_us = (rest - 1) * self._usual_us + self._worst_us
        if run.between and self._fits(0, 0, sleep_us, batch_us):
            step_us = batch_us  # if whole micro-batches or validations fit into a window, it ends between two
        if self._fits(self._spent_us, self._spent_uj, sleep_us, step_us):
            return TRAINING
        if not self._spent_us:
            raise ValueError("a step takes %d us, which a window's budget has no room for: raise it" % step_us)
        return PAUSED

    def _fits(self, spent_us, spent_uj, sleep_us, busy_us):
        if self.budget_ms is not None and spent_us + sleep_us + busy_us > 1000 * self.budget_ms:
            return False
        energy = (sleep_us * self.sleep_mw + busy_us * self._mw) / 1000
        return self.budget_mj is None or spent_uj + energy <= 1000 * self.budget_mj

    # --- steps

    def _step(self):
        took = self._timed(self.training.step)
        self._usual_us = max(self._usual_us, self.training.step_us)
        self._worst_us = max(self._worst_us, took)

    def _timed(self, work):
        before = self.training.busy_us
        try:
            work()
        finally:
            took = self.training.busy_us - before
            self._account(took, self._mw)
        return took

    def _sleep_and_step(self, sleep_ms):
        if sleep_ms:
            began = time.ticks_ms()  # in microseconds, minutes of sleep would wrap
            self._sleep(sleep_ms)
            slept_us = 1000 * time.ticks_diff(time.ticks_ms(), began)
            self._late_us = max(self._late_us, slept_us - 1000 * sleep_ms)
            self._account(slept_us, self.sleep_mw)
            if self._clock and machine.freq() != self._clock:
                machine.freq(self._clock)  # light sleep may restore the chip's default clock
        self._step()

    def _account(self, us, milliwatts):
        energy = int(us * milliwatts) // 1000
        self.training.energy_uj += energy
        self._spent_us += us
        self._spent_uj += energy

    def _look_at_clock(self):
        if self._power:
            self._mw = self._power(machine.freq() if hasattr(machine, "freq") else 0)

    def _call(self, function):
        # Calls the function at `clock_hz`; restores the previous clock afterwards.
        if self._clock is None:
            return function()
        usual = machine.freq()
        try:
            if usual != self._clock:
                machine.freq(self._clock)
            return function()
        finally:
            if machine.freq() != usual:
                machine.freq(usual)
