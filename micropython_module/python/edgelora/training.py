# SPDX-License-Identifier: MIT
"""Training on the board alone: in windows of time and energy, through resets and power cuts.

    samples = SampleFile("/me.eld")          # the host wrote it, or SampleFile.create(path, model) and append() did
    learned, held = split(samples)           # the last quarter of each class judges
    run = Run(model, learned, Store("/adapters"), "me", held=held)
    scheduler = Scheduler(run, clock_hz=48_000_000, sleep_ms=100, budget_ms=60_000)
    for state in scheduler:                  # a window of a minute, one step at a time; or: await scheduler.run()
        poll_the_buttons()
    scheduler.suspend()                      # whatever comes now, deep sleep or no power: nothing is learned twice

After a reset the same lines continue the run. At the end the store has the adapter "me", unless the one before
scores as well. `unfinished` says whether there is a run to continue.
"""

import hashlib
import struct
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
_WHOLE = 0x2144DF1C  # CRC-32 of anything with its own CRC-32 behind it

_CHECKPOINT = "<4sHH8s8sIIIIIIIIHH4I4IIQQIIIIQQII24s"
_CHECKPOINT_SIZE = 180
_VERSION = 2
_CHECKPOINT_HEAD = struct.pack("<4sHH", b"ELC1", _VERSION, _CHECKPOINT_SIZE)
_NONE = (0, 0, 0, 0)
CLASSES = 1  # kind of a record of an adapter
MOST_SHARED = 32512  # of a value that a fleet shares
_LONGEST_NAME = 20  # with its ending a name of the store
LEAST_UPDATES = 600  # of a run that chooses its own number of epochs: fewer learn little,
LEAST_EPOCHS = 6  # and so many times at least through the samples
HELD_OUT = 4  # one sample in so many of each class judges what the others taught,
MOST_TIMES = 4  # an epoch may have a sample of a rare class so often
LEAST_JUDGED = 6  # if these are so many at least, of two classes or more


class _Slices:
    def __getitem__(self, index):
        return index


_ALL = _Slices()[:]  # made once: [:] in the code would make a new one at each step, on a heap that may be locked


class SampleFile:
    """Samples in a file: recorded on the board, or put there by the host.

    They have labels, or int8 targets for losses that take them. `append` and `undo` write only at the file's end;
    a sample that a power cut left half-written is dropped. ValueError if the file is damaged or of another kind.
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
            self.count -= 1  # the power went while it was written, or it was taken back

    @classmethod
    def create(cls, path: str, model: Model) -> "SampleFile":
        """An empty file for samples of this model, opened to append."""
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
        """Copies sample i, int8 [sample_size], into the buffer; its label, or its target until the next read."""
        if not 0 <= i < self.count or not self._load(i):
            raise ValueError("sample %d of %s can't be read: it is damaged, or the file has fewer" % (i, self.path))
        buffer[_ALL] = self._sample
        return self._target if self.target_size else self._record[0]

    def append(self, sample: Buffer, label: int | Buffer) -> None:
        """Adds a sample at the end; it is in flash when this returns."""
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
        """Removes the last sample, in flash when this returns; its label, or its target until the next read."""
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
        """CRC-32 of the first `count` samples and their labels."""
        crc = 0
        for i in range(count):
            self._load(i)
            crc = _core.crc32(self._both, crc)
        return crc

    def close(self) -> None:
        self._file.close()


class Part:
    """A subset of another source's samples, by number; a source, too. samples: as for `split`."""

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
    """(learned, held): two parts of samples, or of their first `count`, for `Run`.

    Held is the last one in `HELD_OUT` of each class, or of all where samples have targets. (all, None) where fewer than
    `LEAST_JUDGED` could be held, or labels of one class. samples: a `SampleFile`, or what has `sample_size` and
    `target_size` as well.
    """
    labels, buffer = bytearray(count or samples.count), bytearray(samples.sample_size)
    if not samples.target_size:
        for i in range(len(labels)):
            labels[i] = samples.read(i, buffer)
    learned, held = apart(labels)
    if not can_judge([labels[i] for i in held], samples.target_size > 0):
        return Part(samples, array("I", range(len(labels)))), None
    return Part(samples, learned), Part(samples, held)


def apart(labels: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """(learned, held): numbers of the samples that have these labels. Held is the last one in `HELD_OUT` of each class:
    they are neighbours in time, as windows of a recording overlap."""
    left, held = {}, {}
    for label in labels:
        left[label] = left.get(label, 0) + 1
        held[label] = left[label] // HELD_OUT
    parts = array("I"), array("I")
    for i in range(len(labels)):
        label = labels[i]
        parts[left[label] <= held[label]].append(i)
        left[label] -= 1
    return parts


def can_judge(labels: Sequence[int], targets: bool = False) -> bool:
    """Whether samples with these labels are enough to judge by: `LEAST_JUDGED`, of two classes or with targets."""
    return len(labels) >= LEAST_JUDGED and (targets or len(set(labels)) > 1)


class Judge:
    """Validates the model in use by samples held out, one at each `step`.

    right: how many of `at` samples so far are correct (of labels); loss: the sum of their losses, 1/4096 nat. count:
    of all.
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
        """Steps that are left."""
        return self.count - self.at

    def step(self) -> bool:
        """Validates by the next sample; whether it was the last. Allocates nothing with sums below 2^30."""
        label = self._held.read(self.at, self._buffer)
        named, loss = self._model.evaluate(self._buffer, label, self._loss), self._loss
        if not self._model.target_size and named == label:
            self.right += 1
        self.loss += loss[0] | loss[1] << 8 | loss[2] << 16 | loss[3] << 24
        self.at += 1
        return self.at == self.count


def milder(right: int, loss: int, than_right: int, than_loss: int) -> bool:
    """Whether one epoch's judgement comes before another's: by losses, which tell early of overfitting."""
    return loss < than_loss or loss == than_loss and right > than_right


def better(right: int, loss: int, than_right: int, than_loss: int) -> bool:
    """Whether one judgement is better than another."""
    return right > than_right or right == than_right and loss < than_loss


class _Checkpoint:
    # What is read back of one: see Run._keep.
    def __init__(self, data):
        fields = struct.unpack(_CHECKPOINT, data)
        self.identity = fields[3:7] + fields[26:28]
        self.sequence = fields[7]
        self.name = fields[34][: fields[14]]
        self.generations = fields[19:23], fields[15:19]  # the one that was being committed, the one before
        self.resumes, self.busy_us, self.energy_uj = fields[23:26]
        self.judged = fields[28:34]

    @classmethod
    def of(cls, data, name):
        """None if these bytes are no whole checkpoint of a run of this name."""
        data = bytes(data)
        if len(data) == _CHECKPOINT_SIZE and data[:8] == _CHECKPOINT_HEAD and _core.crc32(data, 0) == _WHOLE:
            found = cls(data[:-4])
            if found.name == name.encode():
                return found


def _states(data):
    # (offset of its training state, its elements) of each matrix that trains in an adapter file, in the file's order.
    flags, layers = struct.unpack_from("<HH", data, 28)
    if not flags & 2 or flags & 8:
        raise ValueError("a starting adapter needs its training state, and no classes or monitor: save(state=True)")
    copies = 2 if data[40] else 1  # masters and, if there is momentum, its means
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
    """A gradient's scale `(vm, vx)` as one value: 256 to an octave, 0 for 1/2, and for none."""
    return max(-MOST_SHARED, min(MOST_SHARED, (vx + 16) * 256 + (vm - 0x8000 >> 7))) if vm else 0


def fleet_vector(data: Buffer) -> bytearray:
    """What a fleet shares of an adapter file with training state, int16 [n] as bytes: masters and, where A trains, then
    scales, each layer by layer, A's if it trains, then B's (SPEC.md, 17)."""
    view, found, scales = memoryview(data), bytearray(), array("h")
    for at, count in _states(data):
        found += view[at + 4 : at + 4 + 2 * count]
        vm, vx = struct.unpack_from("<Hh", data, at)
        scales.append(shared_scale(vm, vx))
    return found + bytes(scales) if data[28] & 4 else found


def restarted(data: Buffer, draws: int) -> bytearray:
    """The adapter file that a run starts from: masters and scales are its; momentum and counts are fresh, and draws go
    on from that number."""
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
    # Memory that survives sleep and reset, if there is some and nobody else keeps something there.
    if rtc is None and machine and hasattr(machine, "RTC"):
        rtc = machine.RTC()
    if hasattr(rtc, "memory") and bytes(rtc.memory())[:4] in (b"", b"ELC1"):
        return rtc
    return None


def stored(store: Store, name: str, model: Model) -> bytearray | None:
    """The bytes of an adapter in the store, if it is there and for this model's base."""
    entry = store.find(name)
    return store.read(name) if entry and entry.base_id == model.base_id else None


def without_classes(store: Store, name: str, model: Model) -> None:
    """ValueError if the adapter of that name has added classes: a run makes its adapter anew and would lose them."""
    before = stored(store, name, model)
    if before and _core.record(before, CLASSES):
        text = (
            "%s has added classes, which a run would lose: consolidate() of a Learner keeps them, or take another name"
        )
        raise ValueError(text % name)


def unfinished(store: Store, name: str) -> bool:
    """Whether a run of this name is unfinished: create it again to continue."""
    return store.find(name + ".chk") is not None


def begun(store: Store, name: str, rtc: Any = None) -> int:
    """How many samples, learned and held, an unfinished run of this name has; 0 if there is none.

    `split` asks for it, where samples were added since.
    """
    found = _found(store, name, _rtc_memory(rtc))[0]
    return found.identity[2] + found.identity[4] if found else 0


def discard(store: Store, name: str, rtc: Any = None) -> None:
    """Deletes an unfinished run. The adapter of that name, if the store has one, stays."""
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
    # What an unfinished run has in the store.
    return [name + ending for ending in (".chk", ".run") if store.find(name + ending)]


def _found(store, name, rtc):
    # The newest whole checkpoint of this run's name or None, and whether one is damaged.
    kept = store.read(name + ".chk") if unfinished(store, name) else b""
    found = [_Checkpoint.of(kept, name), _Checkpoint.of(rtc.memory(), name) if rtc else None]
    damaged = bool(kept) and not found[0]
    found = [one for one in found if one]
    return max(found, key=lambda one: one.sequence) if found else None, damaged


class Run:
    """A training run over all epochs, one bounded `step` at a time, that survives sleep and reset.

    model: in a mode that trains. samples: anything with `count` and `read(i, buffer) -> label`; if it has `crc(count)`,
    a run that goes on knows its samples again. store: where the adapter `name` is put at the end and, while the run
    goes on, training state `name.run` (every `commit_every` updates) and checkpoint `name.chk`. rtc: what has
    `memory()` as machine.RTC has on an ESP32 (found by itself): the checkpoint is then there too, after every step.
    epochs, learning_rate 0: what suits the number of samples, and the mode. held: samples like the others that judge
    (`split`): what was in use before, which is the adapter `name` of the store or the bare base, then every epoch. The
    best is `name.new` in the store. At the end it becomes `name` if it is better than what was before (`better`), else
    it stays where it is. Without them, what was learned last becomes `name`. start: an adapter file with training
    state, its bytes or a path: the run goes on from its masters and scales, instead of a fresh adapter. keep_state: at
    the end nothing becomes `name`; the training state stays, as `state` and in the store, until `discard`.

    ValueError if a run of this name was begun with another base, other settings or samples, or if `name` of the store
    has classes that were added: they would be lost (`learner.Learner.consolidate` keeps them). notice: "" or what was
    lost and that it begins anew. watch: called with the run after every sample that it learns, if it is set.
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
    notice: str  # "", or what was lost and that the run begins anew
    done: bool
    better: bool | None  # at the end of a run that is judged: than what was in use before
    passed: int  # epochs that are behind it
    judged: int  # judgements so far: one of what was in use before, then one an epoch
    before: tuple[int, int]  # of what was in use before: correct samples, sum of losses
    best: tuple[int, int]  # of the best epoch
    best_epoch: int  # from 0
    watch: "Callable[[Run], Any] | None"  # called after every sample that it learns, if it is set
    loss: int  # of the last sample, as Model.train returns it
    count: int  # samples
    places: int  # of an epoch: every sample, and those of rare classes again
    steps: int  # in all: epochs * places
    position: int  # steps done
    pending: int  # of them, not yet in an update
    updates: int
    updates_in_all: int
    rate: int  # the learning rate now
    sequence: int
    resumes: int
    busy_us: int  # computing and writing so far, resumed runs included
    energy_uj: int
    step_us: int  # of the last step without its commit
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
        self._astray = False  # a step was broken off, and what is known of it may be wrong
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
        # those appended since wait for the next run
        self.count, crc = _counted(samples, found.identity[2] if found else 0, name)
        judges, held_crc = _counted(held, found.identity[4] if found else 0, name) if held else (0, 0)
        self._judge = Judge(self.model, held, judges) if held else None
        self.judged = self.best_epoch = 0  # judgements: one of what was before, then one an epoch; the best of these
        self.before = self.best = 0, 0  # (right, sum of losses)
        self._judged_kept = 0  # judgements that flash knows of
        self._again = repeated(samples, self.count, self._buffer, model.target_size)
        self.places = self.count + len(self._again)  # of an epoch: every sample, and those of rare classes again
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
        # The training adapter is what the run starts from.
        without_classes(self.store, self.name, self.model)
        if self._start is None:
            self.model.begin(self.seed)
        else:
            self.model.load(restarted(read(self._start), self.seed))

    @property
    def state(self) -> bytearray:
        """The training adapter with its state, as a file: between two updates, good until the next commit."""
        _core.save(self.model.arena, True, self._state)
        return self._state

    def _use_before(self):
        # What was in use before infers, to be judged.
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

    # --- going on

    def _resume(self, found):
        # Loads the committed generation; False if there is none to go on from.
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
            if generation == _NONE:  # nothing was committed yet: what it started from is all there was
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
        # Where the run is, by the model: it learned a sample or it didn't, whatever was interrupted.
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
        # What follows from the number of updates: the next one's rate, and whether something else is due.
        self.passed = self._passed_by(self.updates)
        begins = not self.updates or self.passed > self._passed_by(self.updates - 1)
        self._making = self._first() if begins and (self.judged or not self._judge) else None
        self.rate = self._rate()

    def _passed_by(self, updates):
        # Epochs after each of which another one began, or the run ended.
        batch = self.model.micro_batch
        return updates if batch > self.places else min(self.epochs, updates * batch // self.places)

    def _first(self):
        # What is to be made, `left` times by a `step`, before an epoch is judged and another one begins; or None.
        pass

    def _rate(self):
        return falling_rate(self.learning_rate, self.updates, self.updates_in_all)

    @property
    def judging(self) -> bool:
        """Whether the next step judges."""
        return self._judge is not None and self.judged <= self.passed

    @property
    def rest(self) -> int:
        """Steps until it can suspend without repeating any; the last of them may write to flash."""
        rest = self._judge.left if self.judging else self.model.micro_batch - self.pending
        return rest + self._making.left if self._making else rest

    @property
    def between(self) -> bool:
        """Whether neither a micro-batch nor a validation is under way."""
        making = self._making and self._making.left
        return not self.pending and not making and not (self._judge and self._judge.at)

    @property
    def _over(self):
        # Nothing is left to learn: all is learned, or nothing better is to be expected.
        if self.position == self.steps:
            return True
        return is_enough(self.judged - 2 - self.best_epoch, self.epochs)

    # --- learning

    def step(self) -> int:
        """Learns one sample, with the update if it fills the micro-batch, and a commit if one is due. Or judges by one.

        Returns the loss of the sample learned last as Model.train does. Nothing is allocated but by a commit and at the
        end of a judgement (with learning_rate * updates and sums of losses below 2^30). Whatever ends it early, Ctrl-C
        or a full store: call it again.
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
            self._astray = True  # as long as there is no memory to find out where it is
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
            self._updated()  # it begins

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
        """Puts the training state into the store, if there was an update. Only between two.

        The checkpoint goes first and names both this generation and the one before: a cut in between costs neither.
        """
        if not self.updates:
            return self._keep(flash=True)  # what there is follows from the start
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
    """How many epochs a run has that chooses them itself. places: samples of an epoch."""
    return max(LEAST_EPOCHS, -(-LEAST_UPDATES * micro_batch // places))


def falling_rate(rate: int, update: int, updates: int) -> int:
    """The learning rate of an update, from 0, of so many: it falls to 0."""
    return max(1, rate * (updates - update) // updates)


def is_enough(since: int, epochs: int) -> bool:
    """Whether a run of so many epochs ends early, which had its best one so many epochs ago."""
    return since > max(2, (34 * epochs + 50) // 100)


def repeated(samples: Samples, count: int, buffer: bytearray, target_size: int) -> Sequence[int]:
    """The samples, by number, that an epoch has once more, and more often: those of rare classes."""
    again = array("I")
    if target_size:
        return again
    labels, counts = bytearray(count), {}
    for i in range(count):
        labels[i] = label = samples.read(i, buffer)
        counts[label] = counts.get(label, 0) + 1
    most = max(counts.values())
    for turn in range(1, MOST_TIMES):
        for i in range(count):
            n = counts[labels[i]]
            if turn < (2 * most + n) // (2 * n):
                again.append(i)
    return again


def _counted(samples, count, name):
    # How many samples a run has, of those there are: the number that it began with, or all. And their CRC, if told.
    wanted = count or samples.count
    if wanted < 1 or wanted > samples.count:
        raise ValueError("%s needs %d samples or more, there are %d" % (name, max(1, wanted), samples.count))
    return wanted, samples.crc(wanted) if hasattr(samples, "crc") else 0


TRAINING, PAUSED, LOW_BATTERY, DONE = "training", "paused", "low battery", "done"


class Scheduler:
    """Drives a run in windows of time and energy. `for state in scheduler` is one window, a step at a time; so are
    `spend()`, in one call, and `await run()`, which lets other tasks go on after every step. `state` says how it ended:

    PAUSED  the window is used up; RAM has everything, the next window goes on at once
    LOW_BATTERY  `battery()` is below battery_floor; the run was suspended. A window begun later looks again
    DONE  the adapter is in the store

    clock_hz: of the core during steps and sleep; the clock from before is back after each, whatever happens. sleep_ms:
    of light sleep after every update. budget_ms, budget_mj: milliseconds, sleep included, and millijoules of a window.
    Micro-batches are not begun that would not end in it, if a window has room for one. power: milliwatts at a clock, a
    function of Hz; sleep_mw: asleep. sleep: instead of machine.lightsleep, e.g. time.sleep_ms where USB must stay up.
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
        self._sleep = sleep or getattr(machine, "lightsleep", time.sleep_ms)
        self._power = power
        self._mw = 0
        try:
            self._call(self._look_at_clock)
        except ValueError:
            raise ValueError("this chip can't compute at %d Hz" % clock_hz) from None
        self._usual_us = self._worst_us = 0  # of steps without and with their commit
        self._spent_us = self._spent_uj = 0  # of this window

    # --- windows

    def __iter__(self) -> Iterator[str]:
        return self._window(True)

    def spend(self) -> str:
        """A whole window. Returns the state."""
        for _ in self._window(True):
            pass
        return self.state

    async def run(self) -> str:
        """A whole window as an asyncio task, which sleeps by asyncio. Returns the state."""
        import asyncio

        for _ in self._window(False):
            sleep_ms = self.sleep_ms if self.state == TRAINING and self.training.between else 0
            await asyncio.sleep_ms(sleep_ms)
            self._account(1000 * sleep_ms, self.sleep_mw)
        return self.state

    def suspend(self) -> None:
        """Finishes the micro-batch or validation under way and commits: no step is repeated after sleep or a cut."""
        self._call(lambda: self._timed(self.training.suspend))

    def _window(self, sleeps):
        self._spent_us = self._spent_uj = 0
        while True:
            # asleep between two micro-batches: before one, unless it is the window's first step
            sleep_ms = self.sleep_ms if sleeps and self._spent_us and self.training.between else 0
            self.state = self._next(1000 * sleep_ms)
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
            step_us = batch_us  # a window that has room for whole micro-batches or judgements ends between two
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
            self._sleep(sleep_ms)
            self._account(1000 * sleep_ms, self.sleep_mw)
            if self._clock and machine.freq() != self._clock:
                machine.freq(self._clock)  # light sleep may bring back the chip's own
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
        # At the lower clock; the usual one is back afterwards.
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
