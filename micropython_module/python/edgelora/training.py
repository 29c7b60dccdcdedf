# EdgeLoRA: training on the board by itself, asleep most of the time (SPEC.md, section 13). SPDX-License-Identifier: MIT
#
#     samples = SampleFile("/me.eld")          # the host wrote it, or SampleFile.create(path, model) and append() did
#     run = Run(model, samples, Store("/adapters"), "me")
#     scheduler = Scheduler(run, clock_hz=48_000_000, sleep_ms=100, budget_ms=60_000)
#     for state in scheduler:                  # a window of a minute, one step at a time; or: await scheduler.run()
#         poll_the_buttons()
#     scheduler.suspend()                      # whatever comes now, deep sleep or no power: nothing is learned twice
#
# After a reset the same lines go on where it stopped; at the end the store has the adapter "me". `unfinished` tells
# whether there is something to go on with.

import hashlib
import struct
import time

try:
    import machine
except ImportError:
    machine = None

from edgelora import core_adapter_size, core_crc32, core_order, core_save

_SAMPLES = "<4sHH8sIIII"
_SAMPLES_SIZE = 32
_WHOLE = 0x2144DF1C  # CRC-32 of anything with its own CRC-32 behind it

_CHECKPOINT = "<4sHH8s8sIIIIIIIIHH4I4IIQQ24s"
_CHECKPOINT_SIZE = 140
_CHECKPOINT_HEAD = struct.pack("<4sHH", b"ELC1", 1, _CHECKPOINT_SIZE)
_NONE = (0, 0, 0, 0)
_LONGEST_NAME = 20  # with its ending a name of the store
LEAST_UPDATES = 600  # of a run that chooses its own number of epochs: fewer learn little,
LEAST_EPOCHS = 6  # and so many times at least through the samples


class _Slices:
    def __getitem__(self, index):
        return index


_ALL = _Slices()[:]  # made once: [:] in the code would make a new one at each step, on a heap that may be locked


class SampleFile:
    """Samples in a file: recorded on the board, or put there by the host. Labels, or int8 targets for losses of such.

    Appending touches only the file's end; what a cut leaves half-written is no sample.
    """

    def __init__(self, path, append=False):
        self.path = path
        self._file = open(path, "r+b" if append else "rb")
        head = self._file.read(_SAMPLES_SIZE)
        if len(head) < _SAMPLES_SIZE or head[:4] != b"ELD1" or core_crc32(head, 0) != _WHOLE:
            raise ValueError("%s is no sample file, or damaged: make it again" % path)
        _, version, size, self.base_id, self.sample_size, self.target_size, _, _ = struct.unpack(_SAMPLES, head)
        if (version, size) != (1, _SAMPLES_SIZE):
            raise ValueError("%s has format version %d, known is 1: update the board's software" % (path, version))
        target = self.target_size or 1
        self._record = bytearray(target + self.sample_size + 4)
        view = memoryview(self._record)
        self._target, self._sample, self._both = view[:target], view[target:-4], view[:-4]
        self.count = (self._file.seek(0, 2) - _SAMPLES_SIZE) // len(self._record)
        if self.count and not self._load(self.count - 1):
            self.count -= 1  # the power went while it was written

    @classmethod
    def create(cls, path, model):
        """An empty file for samples of this model, opened to append."""
        head = bytearray(_SAMPLES_SIZE)
        sizes = (model.sample_size, model.target_size)
        struct.pack_into(_SAMPLES, head, 0, b"ELD1", 1, _SAMPLES_SIZE, model.base_id, *sizes, 0, 0)
        struct.pack_into("<I", head, _SAMPLES_SIZE - 4, core_crc32(memoryview(head)[:-4], 0))
        with open(path, "wb") as file:
            file.write(head)
        return cls(path, True)

    def _load(self, i):
        self._file.seek(_SAMPLES_SIZE + i * len(self._record))
        return self._file.readinto(self._record) == len(self._record) and core_crc32(self._record, 0) == _WHOLE

    def read(self, i, buffer):
        """Copies sample i, int8 [sample_size], into the buffer; its label, or its target until the next read."""
        if not 0 <= i < self.count or not self._load(i):
            raise ValueError("sample %d of %s can't be read: it is damaged, or the file has fewer" % (i, self.path))
        buffer[_ALL] = self._sample
        return self._target if self.target_size else self._record[0]

    def append(self, sample, label):
        """Writes a sample behind the others, to the flash before it returns."""
        if len(sample) != self.sample_size:
            raise ValueError("a sample of %d values, the file's have %d" % (len(sample), self.sample_size))
        self._sample[:] = bytes(sample)
        if self.target_size:
            self._target[:] = bytes(label)
        else:
            self._record[0] = label
        struct.pack_into("<I", self._record, len(self._record) - 4, core_crc32(self._both, 0))
        self._file.seek(_SAMPLES_SIZE + self.count * len(self._record))
        self._file.write(self._record)
        self._file.flush()
        self.count += 1

    def crc(self, count):
        """CRC-32 of the first `count` samples and their labels (with the records' CRCs it would be one constant)."""
        crc = 0
        for i in range(count):
            self._load(i)
            crc = core_crc32(self._both, crc)
        return crc

    def close(self):
        self._file.close()


class _Checkpoint:
    # What is read back of one: see Run._keep.
    def __init__(self, data):
        fields = struct.unpack(_CHECKPOINT, data)
        self.identity = fields[3:7]
        self.sequence = fields[7]
        self.name = fields[26][: fields[14]]
        self.generations = fields[19:23], fields[15:19]  # the one that was being committed, the one before
        self.resumes, self.busy_us, self.energy_uj = fields[23:26]

    @classmethod
    def of(cls, data, name):
        """None if these bytes are no whole checkpoint of a run of this name."""
        data = bytes(data)
        if len(data) == _CHECKPOINT_SIZE and data[:8] == _CHECKPOINT_HEAD and core_crc32(data, 0) == _WHOLE:
            found = cls(data[:-4])
            if found.name == name.encode():
                return found


def _rtc_memory(rtc):
    # Memory that survives sleep and reset, if there is some and nobody else keeps something there.
    if rtc is None and machine and hasattr(machine, "RTC"):
        rtc = machine.RTC()
    if hasattr(rtc, "memory") and bytes(rtc.memory())[:4] in (b"", b"ELC1"):
        return rtc
    return None


def unfinished(store, name):
    """Whether a run of this name has begun and is not through: make it again, and it goes on."""
    return store.find(name + ".chk") is not None


def discard(store, name, rtc=None):
    """Forgets an unfinished run. The adapter of that name, if the store has one, stays."""
    rtc = _rtc_memory(rtc)
    if rtc and _Checkpoint.of(rtc.memory(), name):
        rtc.memory(b"")
    for ending in (".chk", ".run"):
        if store.find(name + ending):
            store.remove(name + ending)


class Run:
    """A training run over all epochs, one bounded `step` at a time, that survives sleep and reset.

    model: in a mode that trains. samples: anything with `count` and `read(i, buffer) -> label`; if it has `crc(count)`,
    a run that goes on knows its samples again. store: where the adapter `name` is put at the end and, while the run
    goes on, training state `name.run` (every `commit_every` updates) and checkpoint `name.chk`. rtc: what has
    `memory()` as machine.RTC has on an ESP32 (found by itself): the checkpoint is then there too, after every step.
    epochs, learning_rate 0: what suits the number of samples, and the mode.

    ValueError if a run of this name was begun with another base, other settings or samples. notice: "" or what was
    lost and that it begins anew. watch: called with the run after every sample, if it is set.
    """

    checkpoint_size = _CHECKPOINT_SIZE

    def __init__(self, model, samples, store, name, epochs=0, seed=0, learning_rate=0, commit_every=32, rtc=None):
        if not 1 <= len(name.encode()) <= _LONGEST_NAME:
            raise ValueError("%r is no name for a run: give 1 to %d bytes" % (name, _LONGEST_NAME))
        learning_rate = learning_rate or model.learning_rate
        if not 1 <= learning_rate <= 65535 or not 0 <= epochs <= 65535 or commit_every < 1:
            raise ValueError("learning_rate and epochs must be 1 to 65535, or 0, commit_every at least 1")
        for what in ("base_id", "sample_size", "target_size"):
            if getattr(samples, what, None) not in (None, getattr(model, what)):
                raise ValueError("the samples are for another base, or of another size (%s): make them again" % what)
        self.model, self.samples, self.store, self.name = model, samples, store, name
        self.seed, self.learning_rate = seed, learning_rate
        self.commit_every, self.notice, self.done, self.watch = commit_every, "", False, None
        self.loss = self.sequence = self.resumes = self.busy_us = self.energy_uj = 0
        self.step_us = self.commit_us = 0  # of the last step without its commit, of the last commit
        self._rtc = _rtc_memory(rtc)
        self._buffer = bytearray(model.sample_size)
        self._packed = bytearray(_CHECKPOINT_SIZE)
        self._generations = _NONE, _NONE
        found = self._find()
        self.count = found.identity[2] if found else samples.count  # those appended since wait for the next run
        if self.count < 1 or self.count > samples.count:
            raise ValueError("%s needs %d samples or more, there are %d" % (name, max(1, self.count), samples.count))
        epochs = epochs or max(LEAST_EPOCHS, -(-LEAST_UPDATES * model.micro_batch // self.count))
        self.epochs = epochs
        self.steps = epochs * self.count
        self.updates_in_all = -(-self.steps // model.micro_batch)
        crc = samples.crc(self.count) if hasattr(samples, "crc") else 0
        settings = model.settings + struct.pack("<IIH", epochs, seed, learning_rate)
        self._identity = bytes(model.base_id), hashlib.sha256(settings).digest()[:8], self.count, crc
        resumed = found is not None and self._resume(found)
        if not resumed:
            model.begin(seed)
        self._state = bytearray(core_adapter_size(model.arena, True))
        self._synchronize()
        self._keep(flash=not resumed)

    # --- going on

    def _find(self):
        # The newest whole checkpoint of this run's name.
        kept = self.store.read(self.name + ".chk") if unfinished(self.store, self.name) else b""
        found = [_Checkpoint.of(kept, self.name), _Checkpoint.of(self._rtc.memory(), self.name) if self._rtc else None]
        if kept and not found[0]:
            self.notice = "the checkpoint of %s is damaged: the run begins anew" % self.name
        found = [one for one in found if one]
        return max(found, key=lambda one: one.sequence) if found else None

    def _resume(self, found):
        # Loads the committed generation; False if there is none to go on from.
        for what, was, this in zip(("base", "settings", "samples", "samples"), found.identity, self._identity):
            if was != this:
                raise ValueError(
                    "%s is unfinished with other %s: go on with those, or discard(store, %r) first"
                    % (self.name, what, self.name)
                )
        self.sequence, self.resumes = found.sequence, found.resumes + 1
        self.busy_us, self.energy_uj = found.busy_us, found.energy_uj
        entry = self.store.find(self.name + ".run")
        for generation in found.generations:
            if generation == _NONE:  # nothing was committed yet: what follows from the seed is all there was
                self.model.begin(self.seed)
                return True
            if entry and (entry.version, entry.crc) == generation[:2]:
                self.model.load(self.store.read(self.name + ".run"))
                self._generations = generation, generation
                return True
        self.notice = "the training state of %s is gone: the run begins anew" % self.name
        return False

    def _synchronize(self):
        # Where the run is, by the model: it learned a sample or it didn't, whatever was interrupted.
        self.updates, self.position, self.pending = self.model.counts()
        self.rate = self._rate()

    def _rate(self):
        return max(1, self.learning_rate * (self.updates_in_all - self.updates) // self.updates_in_all)

    # --- learning

    def step(self):
        """Learns one sample, with the update if it fills the micro-batch, and the commit if that is due.

        Returns its loss as Model.train does. Nothing is allocated but by a commit (with learning_rate * updates below
        2^30). Whatever ends it early, Ctrl-C or a full store: call it again.
        """
        if self.done:
            return 0
        try:
            start = time.ticks_us()
            if self.position < self.steps:
                at = core_order(self.seed, self.position // self.count, self.count, self.position % self.count)
                label = self.samples.read(at, self._buffer)
                self.loss = self.model.train(self._buffer, label, self.rate)
                self.position += 1
                self.pending += 1
            if self.pending == self.model.micro_batch or self.position == self.steps:
                self.model.flush(self.rate)
                self.pending = 0
                self.updates = -(-self.position // self.model.micro_batch)
                self.rate = self._rate()
            self.step_us = time.ticks_diff(time.ticks_us(), start)
            self.busy_us += self.step_us
            if self.watch:
                self.watch(self)
            if self.position == self.steps:
                self._finish()
            elif not self.pending and self.updates - self._generations[0][2] >= self.commit_every:
                self.commit()
            elif self._rtc:
                self._keep(flash=False)
        except BaseException:
            self._synchronize()
            raise
        return self.loss

    def suspend(self):
        """Finishes the micro-batch under way and commits: going on from here, nothing is learned twice."""
        while self.pending:
            self.step()
        if not self.done and self.updates != self._generations[0][2]:
            self.commit()

    def commit(self):
        """Puts the training state into the store. Only between two updates.

        The checkpoint goes first and names both this generation and the one before: a cut in between costs neither.
        """
        start = time.ticks_us()
        core_save(self.model.arena, True, self._state)
        entry = self.store.find(self.name + ".run")
        draws = struct.unpack_from("<I", self._state, 36)[0]
        generation = (entry.version if entry else 0) + 1, core_crc32(self._state, 0), self.updates, draws
        self._generations = generation, self._generations[1]
        self._keep(flash=True)
        self.store.put(self.name + ".run", self._state, generation[0])
        self._generations = generation, generation
        self.commit_us = time.ticks_diff(time.ticks_us(), start)
        self.busy_us += self.commit_us

    def _finish(self):
        self.store.put(self.name, self.model.save())
        self.done = True
        discard(self.store, self.name, self._rtc)

    def _keep(self, flash):
        self.sequence += 1
        packed, name = self._packed, self.name.encode()
        place = self.position // self.count, self.position % self.count
        struct.pack_into(
            _CHECKPOINT, packed, 0, b"ELC1", 1, _CHECKPOINT_SIZE, *self._identity, self.sequence, self.seed, *place,
            self.position, self.updates, self.pending, len(name), *self._generations[1], *self._generations[0],
            self.resumes, self.busy_us, self.energy_uj, name,
        )  # fmt: skip
        struct.pack_into("<I", packed, _CHECKPOINT_SIZE - 4, core_crc32(memoryview(packed)[:-4], 0))
        if self._rtc:
            self._rtc.memory(packed)
        if flash:
            self.store.put(self.name + ".chk", packed)


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

    def __init__(
        self, run, clock_hz=None, sleep_ms=0, budget_ms=None, budget_mj=None, battery=None, battery_floor=None,
        power=None, sleep_mw=0, sleep=None,
    ):  # fmt: skip
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

    def __iter__(self):
        return self._window(True)

    def spend(self):
        """A whole window. Returns the state."""
        for _ in self._window(True):
            pass
        return self.state

    async def run(self):
        """A window as a task: sleep is left to asyncio."""
        import asyncio

        for _ in self._window(False):
            sleep_ms = self.sleep_ms if self.state == TRAINING and not self.training.pending else 0
            await asyncio.sleep_ms(sleep_ms)
            self._account(1000 * sleep_ms, self.sleep_mw)
        return self.state

    def suspend(self):
        """Finishes the micro-batch under way and commits: nothing is learned twice after deep sleep or a power cut."""
        self._call(lambda: self._timed(self.training.suspend))

    def _window(self, sleeps):
        self._spent_us = self._spent_uj = 0
        while True:
            # asleep between two micro-batches: before one, unless it is the window's first step
            sleep_ms = self.sleep_ms if sleeps and self._spent_us and not self.training.pending else 0
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
        if not run.pending and self.battery and self.battery() < self.battery_floor:
            self.suspend()
            return LOW_BATTERY
        rest = run.model.micro_batch - run.pending
        step_us = self._worst_us if rest == 1 else self._usual_us
        batch_us = (rest - 1) * self._usual_us + self._worst_us
        if not run.pending and self._fits(0, 0, sleep_us, batch_us):
            step_us = batch_us  # a window that has room for whole micro-batches ends between two
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
