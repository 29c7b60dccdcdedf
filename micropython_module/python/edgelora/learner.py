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
from array import array

from . import _core
from ._axes import TURNS, _Axes, matrix_of, zero_of
from .reservoir import RECENT
from .training import CLASSES, Judge, Run, _found, better, discard, milder, stored, unfinished

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
_BASE = 1 << TURNS + 1  # bit of the base alone; bit 0 is the adapter's, bit i + 1 the adapter's with turn i
_LABEL = TURNS + 2  # first bit of the label, of 7
FEWEST = 16  # outcomes to compare; other comparisons use all that the reservoir remembers
ALERT = 64  # labelled samples after a change in which turns are tried and the adapter rests more readily
# By how many times the variance one has to be ahead of the other, in a comparison of outcomes:
REST, WAKE = 3, 16  # the base, for the adapter to rest; the adapter, to wake
TURNED, TURNED_ALERT = 6, 4  # a turn
AHEAD = 6  # the adapter, to be replaced for a gain that chance may have
SPREAD = 2  # what a turn has to gain without its best class: a single class may gain by chance
LACKS, CHANGED = 3, 12  # what was usual: to try turns; to take it for a change
PART = 0.75  # of what a consolidation has learned: nearly as good, and closer to the base when life changes
DOUBTED = 10  # if more than 1 in DOUBTED held-out samples is misclassified, a gain must exceed chance


def _exceeds_chance(gained, wrong):
    # Whether a gain of `gained` correct samples, with `wrong` still misclassified, exceeds chance. The gain's standard
    # deviation is the root of the number of samples that only one of the two gets right, at most gained + 2 * wrong.
    return gained > 0 and gained**2 > 2 * (gained + 2 * wrong)


def _guesses(right, labels):
    # Whether so many correct samples, of those with these labels, are not two standard deviations above guessing the
    # most frequent class: random labels teach nothing.
    most, count = max([labels.count(label) for label in range(max(labels) + 1)]), len(labels)
    return right <= most or (right - most) ** 2 * count <= 4 * most * (count - most)


def _many(wrong, count):
    # Whether so many held-out samples are misclassified that labels may be wrong.
    return wrong * DOUBTED > count


def _is_final(store, name):
    # Whether the unfinished consolidation of this name is in its final part, which has no held-out samples.
    found = _found(store, name, None)[0]
    return found is not None and not found.identity[4]


class _Outcomes:
    # Who classified the latest labelled samples correctly, before any of them was learned: a bit each. `state` is the
    # reservoir's: the bits of RECENT samples, then the fields below.
    #   count     samples noted since the adapter or the turn changed
    #   right     of `usual` samples, those before the latest FEWEST, the adapter classified these correctly
    #   alert     labelled samples for which a change is still suspected
    #   awake     whether the adapter was in use when that began
    #   crc       of the adapter

    def __init__(self, state):
        self._state = state

    def of(self, adapter):
        # Restarts if these are outcomes of another adapter.
        crc = _core.crc32(adapter, 0) if adapter else 0
        if self._state[RECENT + 5] != crc:
            self._state[RECENT + 5] = crc
            self.restart()

    @property
    def count(self):
        return self._state[RECENT]

    @property
    def alert(self):
        return self._state[RECENT + 3]

    @property
    def awake(self):
        return self._state[RECENT + 4]

    def restart(self):
        self._state[RECENT] = 0

    def add(self, bits):
        state, count = self._state, self._state[RECENT]
        if count >= FEWEST:
            if state[RECENT + 2] >= 4 * RECENT:
                state[RECENT + 1] //= 2
                state[RECENT + 2] //= 2
            state[RECENT + 1] += self.latest(FEWEST - 1) & 1
            state[RECENT + 2] += 1
        state[count % RECENT] = bits
        state[RECENT] = count + 1
        state[RECENT + 3] = max(state[RECENT + 3] - 1, 0)

    def latest(self, i):
        # The bits of the i-th latest.
        return self._state[(self._state[RECENT] - 1 - i) % RECENT]

    def mixed(self, classes):
        # Whether the latest samples are of more than half of the classes: one class alone says nothing of the others.
        return 2 * len({self.latest(i) >> _LABEL for i in range(FEWEST)}) > classes

    def changed(self, awake):
        # Notes a change: what was usual is so no more.
        self._state[RECENT + 1] = self._state[RECENT + 2] = 0
        self._state[RECENT + 3], self._state[RECENT + 4] = ALERT, awake

    def surely(self, one, other, times):
        # Whether one is better than the other, among the latest few or all that are remembered: by gained correct
        # samples whose square exceeds `times` the number of samples that only one of the two has right.
        for count in (FEWEST, RECENT):
            if self.count >= count:
                gained, apart = self._won(one, other, count)
                if gained > 0 and gained**2 > times * apart:
                    return True
        return False

    def _won(self, one, other, count):
        gained = apart = 0
        for i in range(count):
            bits = self.latest(i)
            if bool(bits & one) != bool(bits & other):
                gained += 1 if bits & one else -1
                apart += 1
        return gained, apart

    def lacks(self, times):
        # Whether the adapter has fewer of the latest samples right than is usual, by `times` the variance.
        right, usual = self._state[RECENT + 1], self._state[RECENT + 2]
        now = sum(self.latest(i) & 1 for i in range(FEWEST))
        lacks = FEWEST * right - now * usual
        return usual >= 2 * FEWEST and lacks > 0 and lacks**2 > times * FEWEST * right * (usual - right + 1)

    def fails(self):
        # Whether the adapter has many of the latest samples wrong after a change, and is not better than the base.
        right = sum(self.latest(i) & 1 for i in range(FEWEST))
        return self.alert and 4 * right < 3 * FEWEST and not self.surely(1, _BASE, 1)

    @property
    def doubtful(self):
        # Whether more than a quarter of the samples are usually misclassified, as with wrong labels.
        right, usual = self._state[RECENT + 1], self._state[RECENT + 2]
        return usual >= 2 * FEWEST and 4 * (usual - right) > usual

    def best_turn(self):
        # (turn, since): the turn that has most of the latest samples right, and that many samples ago it began to.
        best = 0, 0, 0
        for turn in range(TURNS):
            gained = most = since = 0
            for i in range(min(self.count, RECENT)):
                gained += self._gains(turn, i)
                if gained >= most:
                    most, since = gained, i
            if most > best[0]:
                best = most, turn, since
        return best[1:]

    def _gains(self, turn, i):
        # 1 if the i-th latest sample is right with the turn alone, -1 if without it alone, else 0.
        bits = self.latest(i)
        return (bits >> turn + 1 & 1) - (bits & 1)

    def spread(self, turn, since):
        # How many more of the latest samples a turn has right, without the class in which it gains most.
        gains = {}
        for i in range(since + 1):
            label = self.latest(i) >> _LABEL
            gains[label] = gains.get(label, 0) + self._gains(turn, i)
        return sum(gains.values()) - max(gains.values())


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
        known = self._model.output_size
        counts = [count for number, (_, count) in self._sums.items() if number < known]
        for at, number in _places(self._buffer, self._span):
            sums, count = self._sums[number]
            entry = self._buffer[at : at + self._span]
            doubt = entry[7] >> 4
            if count and doubt:  # a person's own row
                from .rows import own_row, trust_of

                own_row(self._model, sums, count, number, doubt, trust_of(counts, doubt), entry)
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
    # accepts(new, old, held, found): whether the score (correct, sum of losses) `new` is better than `old`. found:
    # numbers of the samples whose labels look wrong.

    def __init__(self, accepts, found, *settings, **options):
        self._accepts, self._wrong = accepts, found
        super().__init__(*settings, **options)

    def _is_better(self):
        return self._accepts(self.best, self.before, self._judge._held, self._wrong)

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
    left_out: numbers of the reservoir's samples that the latest consolidation left out, as their labels look wrong.

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
    left_out: Collection[int]  # numbers of samples that the latest consolidation left out: their labels look wrong
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
        self.left_out = ()
        self._buffer, self._turned = bytearray(model.sample_size), bytearray(model.sample_size)
        self._outcomes, self._zero = _Outcomes(reservoir.state), zero_of(model)
        self._axes = None if self._zero is None else _Axes(model, reservoir, self._zero)
        self._go_on()

    def _go_on(self):
        # Training continues from the adapter in use.
        self._cut = True
        model, kept = self.model, stored(self.store, self.name, self.model)
        if kept:
            model.load(bytearray(kept) if _numbers(kept) else kept)  # a copy, as its rows are recomputed
            if not self.reservoir.resting:
                self._activate()  # if a power cut prevented it
        else:
            model.begin(self.seed)
        self.updates = 0
        self._outcomes.of(kept)
        self._kept, self._cut = kept, False
        self._use(self.in_use)

    @property
    def in_use(self) -> bytearray | None:
        """The bytes of the adapter, or None."""
        if self._cut:
            self._settle()
        return None if self.reservoir.resting else self._kept

    def _settle(self):
        # Recovers from a failed change: uses the store's adapter.
        if stored(self.store, self.name, self.model) != self._kept:
            self._go_on()
        self._cut = False
        self._use(self.in_use)

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
        self._whole(self._watch, sample, label)
        if not self.reservoir.judges(label):
            self.reservoir.turned(sample, self._turned)
            loss = self._update(self._turned, label)
        self._put(sample, label)
        if loss is not None and self.updates % self.judge_every == 0:
            self.judge()
        return loss

    def _put(self, sample, label):
        slot = self.reservoir.add(sample, label)
        if self._axes and slot is not None:
            self.reservoir.turned(sample, self._turned)
            self._axes.put(slot, self._turned)

    def infer(self, sample: Buffer) -> int:
        """Class of a sample as the sensor gives it, by the adapter in use, its axes turned as `learn` found."""
        self.reservoir.turned(sample, self._turned)
        return self.model.infer_sample(self._turned)

    @property
    def matrix(self) -> "array[int] | None":
        """The turn of the sensor's axes that `infer` undoes: rows of a 3 x 3 matrix in 1/16384; None without one."""
        return self.reservoir.turns[-1][1] if self.reservoir.turns else None

    @property
    def notice(self) -> str:
        """What to ask or tell the person after a change, or ""."""
        if not self._outcomes.alert:
            return ""
        if self.matrix:
            return "the sensor is worn another way: its axes are turned back"
        return "samples are not what they were: is the sensor worn another way? teach each class again"

    def _watch(self, sample, label):
        # Notes who is right about a sample, as nobody has learned it yet, and draws the consequences.
        outcomes, reservoir = self._outcomes, self.reservoir
        now = reservoir.time
        outcomes.add(self._outcome(sample, label) | (label & 127) << _LABEL)
        if self._axes:
            reservoir.turned(sample, self._turned)
            self._axes.add(self._turned)
        if outcomes.count < FEWEST or not outcomes.mixed(len(self._classes())):
            return
        found = self._axes and self._axes.find()
        if found:
            self._turn(*found)
            return outcomes.changed(not reservoir.resting)
        if not outcomes.alert and outcomes.lacks(CHANGED):
            outcomes.changed(not reservoir.resting)
            reservoir.drop(now - FEWEST + 1)
        if (outcomes.alert or not reservoir.resting and outcomes.lacks(LACKS)) and self._turn_axes(now):
            return
        if self._kept and not _numbers(self._kept):
            rests = reservoir.resting
            if rests and outcomes.surely(1, _BASE, WAKE):
                self._rest(False)
            elif not rests and (outcomes.surely(_BASE, 1, REST) or outcomes.fails()):
                self._rest(True)

    def _rest(self, rests):
        self.reservoir.rest(rests)
        self._activate()
        self._use(self.in_use)

    def _outcome(self, sample, label):
        # Who is right about a sample: bit 0, the adapter, then with each turn of the axes; _BASE, the base alone.
        model, turned = self.model, self._turned
        self._use(self._kept)
        bits = int(self.infer(sample) == label)
        for i in range(TURNS if self._zero is not None else 0):
            _core.turn(turned, sample, self._zero, matrix_of(i, self.matrix))
            if model.infer_sample(turned) == label:
                bits |= 2 << i
        if self._kept:
            self._use(None)
            if self.infer(sample) == label:
                bits |= _BASE
            self._use(self.in_use)
        return bits

    def _turn_axes(self, now):
        # Undoes a turn of the sensor's axes, if the adapter surely classifies better with it; returns whether it does.
        outcomes = self._outcomes
        if self._zero is None:
            return False
        number, since = outcomes.best_turn()
        if not outcomes.surely(2 << number, 1, TURNED_ALERT if outcomes.alert else TURNED):
            return False
        if outcomes.spread(number, since) < SPREAD:
            return False
        self._turn(number, now - since)
        return True

    def _turn(self, number, start):
        outcomes = self._outcomes
        if outcomes.alert and outcomes.awake:
            self.reservoir.rest(False)
        outcomes.restart()
        self.reservoir.turn(matrix_of(number, self.matrix), self._zero, start)
        self._axes.restart()
        self._go_on()

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

    def _parts(self, but=()):
        # Training samples, and held-out samples or None if these are too few. but: numbers of those to leave out.
        return self.reservoir.parts(self._classes(), but)

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
        learned = self._with_rows(self.model.save(), samples)
        self._learn_by(learned)
        self.judged = self._judged(self._kept, held), self._judged(learned, held)
        is_better = self._accepts(self.judged[1], self.judged[0], held)
        if is_better:
            self.store.put(self.name, learned)
            self._activate()
            self._kept = learned
            self._outcomes.of(learned)
        self._use(None if self.reservoir.resting else self._kept)
        return is_better

    def _with_rows(self, learned, samples):
        # An adapter, the rows of its classes computed from these samples.
        self._use(learned)
        made = _Rows(self.model, learned, samples)
        while made.left:
            made.step()
        return learned

    def _accepts(self, learned, in_use, held, found=None):
        # Whether a score of held-out samples is good enough to replace that of the adapter in use. It must be better
        # than guessing. If many held-out samples stay misclassified, labels may be wrong: then the gain must exceed
        # chance, too; also if the samples that come are often misclassified, and no wrong labels were `found` and left
        # out that explain it. So must that of an adapter that learns samples as they come (None), which the last few
        # shape too much, and that over a recent adapter, where the base is nearly as good: there is little to gain
        # then, and each that is as good by chance may be worse.
        count, right, come = held.count, learned[0], found is None
        guessed, gained = _guesses(right, self.reservoir._labels_of(held)), right - in_use[0]
        doubted = come or _many(count - right, count) or self.reservoir.since and count < FEWEST or self._is_recent
        doubted = doubted or not found and self._outcomes.doubtful
        doubted = doubted and not _exceeds_chance(gained, count - right)
        tried = not come and (self.reservoir.resting or not self._kept)  # the base is in use
        if guessed or not better(*learned, *in_use) or doubted and (not tried or _numbers(self._kept)):
            return False
        self.reservoir.rest(doubted)  # until the samples to come show that it is better than the base
        return True

    @property
    def _is_recent(self):
        # Whether of the samples since life last changed fewer than 2 in 5 have come since the adapter in use was made,
        # and the base is nearly as good as that.
        if not self._kept or self.reservoir.resting or self._outcomes.surely(1, _BASE, AHEAD):
            return False
        return 5 * self._outcomes.count < 2 * (self.reservoir.time - self.reservoir.since)

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
        name = None if self.reservoir.resting else self.name
        if self.store.active != name:
            self.store.activate(name)

    def consolidate(self, epochs: int = 0, commit_every: int = 32) -> "Iterator[Run | None]":
        """Trains a new adapter from the reservoir: a generator of its `training.Run`, one bounded step at a time.

        First it looks for samples whose labels look wrong, and yields None; these take no part. The new adapter is used
        if it scores better. A consolidation that was interrupted, by a reset too, resumes when called with the same
        epochs. ValueError for too few held-out samples, or a class to validate without samples.
        """
        if self._cut:
            self._settle()
        if self.untold:
            text = "no samples of class %s: learn some, or give `only` the classes that count"
            raise ValueError(text % ", ".join(map(str, sorted(self.untold))))
        learned, held = self._parts()
        wrong = ()
        if held:
            wrong = self.left_out = yield from self._wrong()
            learned, held = self._parts(wrong)
        if not held:
            raise ValueError("too few samples to validate: consolidate when there are more, of at least two classes")
        settings = (epochs, self.seed, self.learning_rate, commit_every)
        final = _is_final(self.store, self.name)
        run = None
        if not final:
            run = _Consolidation(self._accepts, wrong, self.model, learned, self.store, self.name, *settings, held=held)
            while not run.done:
                run.step()
                yield run
            self._settled(run.better)
            final = run.better and not self.reservoir.resting and not _many(held.count - run.best[0], held.count)
        if final:
            yield from self._learn_all(settings, self.reservoir._whole(self._classes(), wrong), held, run)

    def _wrong(self):
        # Numbers of the reservoir's samples whose labels look wrong. They depend on the base and the reservoir alone,
        # so that a resumed consolidation has the same samples.
        if not _core.class_size(self.model.arena):
            return ()
        from .rows import OwnRows

        known = self.reservoir._whole(range(self.model.output_size))
        rows = OwnRows(self.model, known)
        try:
            for _ in rows.find_wrong():
                yield
        except BaseException:
            self._cut = True  # other rows may be in use
            raise
        self._use(self.in_use)
        return {known._numbers[i] for i in range(known.count) if rows.doubtful[i]}

    def _learn_all(self, settings, everything, held, before):
        # PART of a fresh adapter of all samples replaces the consolidated one, unless its loss of the held-out ones is
        # larger.
        run = _Consolidation(None, (), self.model, everything, self.store, self.name, *settings, keep_state=True)
        while not run.done:
            run.step()
            yield before or run
        self._whole(self._keep_milder, everything, held)
        if not before:
            run.better = True  # the part before a reset ended so
            yield run

    def _keep_milder(self, samples, held):
        model = self.model
        made = model.save()
        less = model.blend([model.adapter(made)], [PART])
        classes = _core.record(made, CLASSES)
        if classes:
            less = model.with_record(less, CLASSES, memoryview(made)[classes[0] : sum(classes)])
        learned = self._with_rows(less.buffer, samples)
        if milder(*self._judged(learned, held), *self._judged(self._kept, held)):
            self.store.put(self.name, learned)
        discard(self.store, self.name)
        self._go_on()

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
            self._put(sample, number)
        held = reservoir.parts(before | set(range(model.output_size)) | {number})[1]
        if held:
            right = self._right(adapter, held)
            without = self._right(self._kept, held)
            if _exceeds_chance(without - right, held.count - without):
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
        self.reservoir.rest(False)
        if adapter:
            self.store.put(self.name, adapter)
        else:
            self.store.remove(self.name)
        self._go_on()

    def discard(self) -> None:
        """Deletes an unfinished consolidation."""
        discard(self.store, self.name)
        self._go_on()
