# SPDX-License-Identifier: MIT
"""Lifelong learning from samples as they come; a new adapter must score better than the active one.

    learner = Learner(model, Reservoir("/samples.elr"), Store("/adapters"), "me")
    learner.learn(window, label)       # one update: this sample and three earlier ones
    for run in learner.consolidate():  # when idle: trains a new adapter, one bounded step at a time
        feed_the_watchdog()
    learner.add_class("wave", windows) # a class that the base lacks

Inference uses the adapter that scored best on held-out samples. Only a better one replaces it.
"""

import struct

from . import _core
from .training import CLASSES, Judge, Run, better, discard, stored, unfinished

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Collection, Iterator, Sequence

    from . import Model
    from ._types import Buffer
    from .reservoir import Reservoir
    from .store import Store

_MOST = 1024  # most samples that a class's row is computed from
_STREAM = 131073  # random stream of the replay draws
REPLAYED = 3  # samples learned again with each new one
HORIZON = 64  # updates after which the rate is half of what it was
DOUBTED = 10  # if more than 1 in DOUBTED held-out samples is misclassified, a gain must exceed chance


def _clear(gained, wrong):
    # Whether a gain of `gained` correct samples, with `wrong` still misclassified, exceeds chance. The gain's standard
    # deviation is the root of the number of samples that only one of the two gets right, at most gained + 2 * wrong.
    return gained > 0 and gained**2 > 2 * (gained + 2 * wrong)


class _Rows:
    # Recomputes the rows of an adapter's classes in its buffer, from their samples and with the adapter in use, one
    # sample per step. A class without samples keeps its row.

    def __init__(self, model, adapter, samples):
        self._model, self._samples = model, samples
        self._buffer, self._x = memoryview(adapter), bytearray(model.sample_size)
        self._size = _core.class_size(model.arena)
        self._span = 32 + (2 * self._size + 3) // 4 * 4
        self._sums = {number: [bytearray(4 * self._size), 0] for number in _numbers(adapter)}
        self.left = samples.count if self._sums else 0

    def step(self):
        x = self._x
        of_class = self._sums.get(self._samples.read(self._samples.count - self.left, x))
        if of_class and of_class[1] < _MOST:
            _core.class_sample(self._model.arena, x, of_class[0])
            of_class[1] += 1
        self.left -= 1
        if not self.left:
            self._write()

    def _write(self):
        for at, number in _places(self._buffer, self._span):
            sums, count = self._sums[number]
            entry = self._buffer[at : at + self._span]
            if count and entry[7] >> 4:  # a person's own row
                from .rows import own_row

                own_row(self._model, sums, count, number, entry[7] >> 4, entry)
            elif count:
                _core.class_row(self._model.arena, sums, count, entry)
        struct.pack_into("<I", self._buffer, 12, _core.crc32(self._buffer[16:], 0))


def _places(adapter, span=0):
    # (offset, number) of each class in an adapter's bytes; empty without an adapter.
    found = _core.record(adapter, CLASSES) if adapter else None
    if not found:
        return []
    at, count = found[0] + 4, adapter[found[0]] | adapter[found[0] + 1] << 8
    span = span or (found[1] - 4) // count
    return [(at + i * span, adapter[at + i * span + 4] | adapter[at + i * span + 5] << 8) for i in range(count)]


def _numbers(adapter):
    # Numbers of the classes in an adapter's bytes; empty without an adapter.
    return {number for _, number in _places(adapter)}


class _Consolidation(Run):
    # The new adapter keeps the classes of the adapter in use. Each epoch begins by recomputing their rows from the
    # training samples. The rows depend only on the layers at that time, so a resumed run computes the same rows.
    # accepts(new, old): whether the score (correct, sum of losses) `new` is better than `old`.

    def __init__(self, accepts, *settings, held):
        self._accepts = accepts
        super().__init__(*settings, held=held)

    def _is_better(self):
        return self._accepts(self.best, self.before)

    def _begin(self):
        model, before = self.model, stored(self.store, self.name, self.model)
        found = _core.record(before, CLASSES) if before else None
        if not found:
            return model.begin(self.seed)
        fresh = model.with_record(None, CLASSES, memoryview(before)[found[0] : found[0] + found[1]]).buffer
        struct.pack_into("<I", fresh, 24, self.seed)
        struct.pack_into("<I", fresh, 12, _core.crc32(memoryview(fresh)[16:], 0))
        model.load(fresh)

    def _first(self):
        loaded = self.model._now.loaded
        return loaded and _Rows(self.model, loaded, self.samples)


class Learner:
    """Learns each sample once, with `REPLAYED` samples of the reservoir; the store keeps the best adapter as `name`.

    model: in a mode that trains, with micro-batches of more than `REPLAYED`. It infers with the adapter in use: the
    store's `name`, or the base alone. judge_every: updates between comparisons of the trained adapter with that one, on
    the reservoir's held-out samples; with too few of these, it is never replaced. learning_rate 0: the mode's default.

    judged: scores (correct, sum of losses) of the adapter in use and the trained one, at their last comparison.

    only: numbers of the classes to validate, others may be forgotten; None: all classes, of the base and added ones.
    The adapter in use is not replaced while one of these classes has no samples in the reservoir (`untold`).

    Add and remove classes here, not in the model, so that they survive further training: the reservoir keeps their
    samples, which are learned like all others, and each validation first recomputes the classes' rows from them.
    """

    model: Model
    reservoir: Reservoir
    store: Store
    name: str
    seed: int
    learning_rate: int
    judge_every: int
    only: Collection[int] | None
    updates: int  # since the last start or consolidation
    judged: (
        tuple[tuple[int, int], tuple[int, int]] | None
    )  # scores (correct, sum of losses) of the adapter in use and the trained one, at their last comparison

    def __init__(
        self,
        model: Model,
        reservoir: Reservoir,
        store: Store,
        name: str,
        seed: int = 0,
        learning_rate: int = 0,
        judge_every: int = 16,
        only: Collection[int] | None = None,
    ) -> None:
        if model.micro_batch <= REPLAYED:
            raise ValueError("micro_batch of %d: a learner takes %d or more" % (model.micro_batch, REPLAYED + 1))
        if (reservoir.base_id, reservoir.sample_size) != (model.base_id, model.sample_size):
            raise ValueError("the reservoir is for another base, or its samples have another size: create another one")
        self.model, self.reservoir, self.store, self.name = model, reservoir, store, name
        self._kept, self._cut = None, False
        self.seed, self.learning_rate = seed, learning_rate or model.learning_rate
        self.judge_every, self.judged, self.only = judge_every, None, only
        self._buffer = bytearray(model.sample_size)
        self._go_on()

    def _go_on(self):
        # Training continues from the adapter in use.
        self._cut = True
        model, kept = self.model, stored(self.store, self.name, self.model)
        if kept:
            model.load(bytearray(kept) if _numbers(kept) else kept)  # a copy, as its rows are recomputed
            self._activate()  # if a power cut prevented it
        else:
            model.begin(self.seed)
        self.updates = 0
        self._use(kept)
        self._kept, self._cut = kept, False

    @property
    def in_use(self) -> bytearray | None:
        """The bytes of the adapter, or None."""
        if self._cut:
            self._settle()
        return self._kept

    def _settle(self):
        # Recovers from a failed change: uses the store's adapter.
        if stored(self.store, self.name, self.model) != self._kept:
            self._go_on()
        self._use(self._kept)
        self._cut = False

    def _whole(self, change, *args):
        # Changes the adapter in use. If that fails, uses the store's adapter.
        if self._cut:
            self._settle()
        self._cut = True
        try:
            made = change(*args)
        except BaseException as error:
            try:
                if not isinstance(error, OSError):  # no writes after a flash error: see `edgelora._only_absent`
                    self._settle()
            except Exception:
                pass  # the next call tries again
            raise error
        self._cut = False
        return made

    def _use(self, adapter):
        self.model.use(adapter and self.model.adapter(adapter))

    @property
    def rate(self) -> int:
        """The learning rate of the next update."""
        return max(1, self.learning_rate * HORIZON // (HORIZON + self.updates))

    def learn(self, sample: Buffer, label: int) -> int | None:
        """Learns a sample, int8 [sample_size], and adds it to the reservoir. Returns its loss before; None if held out.

        Every `judge_every` updates, `judge` infers all held-out samples twice, and the samples of added classes.
        ValueError while a consolidation is unfinished.
        """
        self._at_rest()
        if label not in self._classes():
            raise ValueError("class %d is not the base's, nor was it added: call add_class()" % label)
        loss = None
        if not self.reservoir.judges(label):
            loss = self._update(sample, label)
        self.reservoir.add(sample, label)
        if loss is not None and self.updates % self.judge_every == 0:
            self.judge()
        return loss

    def _at_rest(self):
        if self._cut:
            self._settle()
        if unfinished(self.store, self.name):
            raise ValueError("a consolidation is unfinished: continue with consolidate(), or abandon it with discard()")

    def _classes(self):
        # Numbers of all classes: the base's and those of the adapter in use.
        return _numbers(self.in_use) | set(range(self.model.output_size))

    @property
    def untold(self) -> set[int]:
        """Numbers of the classes to validate that have no samples in the reservoir."""
        taught, held = self.reservoir.tally()
        counts = self._classes() if self.only is None else set(self.only)
        return counts - set(taught) - set(held)

    def _parts(self):
        # Training samples, and held-out samples or None if these are too few.
        return self.reservoir.parts(self._classes())

    def _update(self, sample, label):
        model, reservoir, rate = self.model, self.reservoir, self.rate
        loss = model.train(sample, label, rate)
        learned = self._parts()[0]
        for turn in range(REPLAYED if learned.count else 0):
            at = _core.draw(reservoir.seed, _STREAM, REPLAYED * sum(reservoir.seen) + turn, learned.count)
            old = learned.read(at, self._buffer)
            model.train(self._buffer, old, rate)
        model.flush(rate)
        self.updates += 1
        return loss

    def judge(self) -> bool | None:
        """Replaces the adapter in use by the trained one if that scores better; returns whether it does.

        None: there are too few held-out samples, or a class has no samples.
        """
        if self._cut:
            self._settle()
        samples, held = self._parts()
        if not held or self.untold:
            return None
        return self._whole(self._judge, samples, held)

    def _judge(self, samples, held):
        learned = self.model.save()
        self._use(learned)
        made = _Rows(self.model, learned, samples)
        while made.left:
            made.step()
        self._learn_by(learned)
        self.judged = self._judged(self._kept, held), self._judged(learned, held)
        is_better = self._accepts(self.judged[1], self.judged[0])
        if is_better:
            self.store.put(self.name, learned)
            self._activate()
            self._use(learned)
            self._kept = learned
        else:
            self._use(self._kept)
        return is_better

    def _accepts(self, learned, in_use):
        # Whether a score is good enough to replace that of the adapter in use. It must be two standard deviations above
        # guessing the most frequent class: random labels teach nothing. If many held-out samples stay misclassified,
        # labels may be wrong: then the gain must exceed chance, too.
        held, right = self.reservoir.tally(self._classes())[1], learned[0]
        count, most, gained = sum(held.values()), max(held.values()), right - in_use[0]
        guessed = right <= most or (right - most) ** 2 * count <= 4 * most * (count - most)
        doubted = (count - right) * DOUBTED > count and not _clear(gained, count - right)
        return not guessed and not doubted and better(*learned, *in_use)

    def _learn_by(self, made):
        # Training continues with the class rows of these bytes.
        found, loaded = _core.record(made, CLASSES), self.model._now.loaded
        if found:
            at = _core.record(loaded, CLASSES)[0]
            loaded[at : at + found[1]] = made[found[0] : found[0] + found[1]]

    def _judged(self, adapter, held):
        self._use(adapter)
        judge = Judge(self.model, held)
        while not judge.step():
            pass
        return judge.right, judge.loss

    def _activate(self):
        if self.store.active != self.name:
            self.store.activate(self.name)

    def consolidate(self, epochs: int = 0, commit_every: int = 32) -> Iterator[Run]:
        """Trains a new adapter from the reservoir: a generator of its `training.Run`, one bounded step at a time.

        The new adapter is used if it scores better. A consolidation that was interrupted, by a reset too, resumes when
        called with the same epochs. ValueError for too few held-out samples, or a class to validate without samples.
        """
        if self._cut:
            self._settle()
        learned, held = self._parts()
        if self.untold:
            text = "no samples of class %s: learn some, or give `only` the classes that count"
            raise ValueError(text % ", ".join(map(str, sorted(self.untold))))
        if not held:
            raise ValueError("too few samples to validate: consolidate when there are more, of at least two classes")
        settings = (epochs, self.seed, self.learning_rate, commit_every)
        run = _Consolidation(self._accepts, self.model, learned, self.store, self.name, *settings, held=held)
        while not run.done:
            run.step()
            yield run
        self._settled(run.better)

    def _settled(self, is_better):
        if is_better:
            self._activate()
        elif self.store.find(self.name + ".new"):
            self.store.remove(self.name + ".new")
        self._go_on()

    def add_class(self, name: str | int, samples: Sequence[Buffer]) -> int:
        """Adds a class that the base lacks, or a user's own version of one that it has. Returns the class's number.

        The samples go into the reservoir, too, which needs room for the class (`Reservoir.create(..., classes=)`). The
        class is in use then. Training that no validation accepted yet is lost, as by a reset. ValueError, with nothing
        changed, if clearly fewer held-out samples, the class's own among them, would be correct with the class.
        """
        self._at_rest()
        return self._whole(self._add_class, name, samples)

    def _add_class(self, name, samples):
        model, reservoir, before = self.model, self.reservoir, _numbers(self._kept)
        adapter = model.add_class(name, samples).buffer
        number = model._class_number(name)
        if number >= reservoir.classes:
            raise ValueError("the reservoir has room for %d classes: create one with more" % reservoir.classes)
        if number >= model.output_size and number not in before:
            reservoir.forget(number)  # a power cut may have left some samples
        for sample in samples:
            reservoir.add(sample, number)
        held = reservoir.parts(before | set(range(model.output_size)) | {number})[1]
        if held:
            right = self._right(adapter, held)
            without = self._right(self._kept, held)
            if _clear(without - right, held.count - without):
                if number >= model.output_size and number not in before:
                    reservoir.forget(number)
                text = "%s: of %d held-out samples %d would be correct, %d are without it: give more samples"
                raise ValueError(text % (name, held.count, right, without))
        self._keep(adapter)
        return number

    def _right(self, adapter, held):
        # Number of correct held-out samples; the adapter may lack some of their classes.
        self._use(adapter)
        return sum(held.read(i, self._buffer) == self.model.infer(self._buffer) for i in range(held.count))

    def remove_class(self, name: str | int) -> None:
        """Removes a class and restores the adapter's earlier bytes; removes its samples, too, if the base lacks it."""
        self._at_rest()
        self._whole(self._remove_class, name)

    def _remove_class(self, name):
        number = self.model._class_number(name)
        adapter = self.model.remove_class(name)
        if number >= self.model.output_size:
            self.reservoir.forget(number)  # first, so that a retry works: a removed class can't be removed again
        self._keep(adapter and adapter.buffer)

    def _keep(self, adapter):
        if adapter:
            self.store.put(self.name, adapter)
        else:
            self.store.remove(self.name)
        self._go_on()

    def discard(self) -> None:
        """Deletes an unfinished consolidation."""
        discard(self.store, self.name)
        self._go_on()
