# SPDX-License-Identifier: MIT
"""Corrections teach at once: "no, that was wave", or "no" alone.

    teacher = Teacher(model, samples, denied, store, "me")   # two SampleFiles; store and name may be left out
    teacher.correct(window, label)                           # "that is wave": after a mistake, or a sample of its own
    teacher.deny(window, said)                               # "no": the window is not of this class

After each the person's own rows are made anew (`rows`), and are in use if samples with labels say that they are better.
These are all that judge. A denied window is taken for the most probable of the other classes, where that is more
probable than the rest together, and only if rows with such hints are better than rows without.

A window of each class should be recorded first: mistakes alone can't tell what a correction would spoil, so nothing is
taught while none of the samples was right before.
"""

from array import array

from .rows import OwnRows

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from . import Model
    from ._types import Buffer
    from .store import Store
    from .training import SampleFile


class _Hints:
    # Denied windows as samples of the class that each is taken for.

    def __init__(self, denied, numbers, labels):
        self._denied, self._numbers, self._labels = denied, numbers, labels
        self.count = len(numbers)

    def read(self, i, buffer):
        self._denied.read(self._numbers[i], buffer)
        return self._labels[i]


class Teacher:
    """Keeps samples and corrections, and the rows that they make.

    model: in a mode that trains; it infers with the rows in use, or the base alone. samples: a `SampleFile` of windows
    with their labels; denied: another, whose labels are the classes that windows are not of. store: keeps the rows as
    `name`, active.

    doubt: of the rows in use (`rows.DOUBTS`), 0: the base alone. hinted: how many denied windows they are made of;
    doubtful: how many samples they are made without, as their labels look wrong.
    """

    model: Model
    samples: SampleFile
    denied: SampleFile
    store: Store | None
    name: str
    doubt: int
    hinted: int
    doubtful: int

    def __init__(
        self, model: Model, samples: SampleFile, denied: SampleFile, store: Store | None = None, name: str = "personal"
    ) -> None:
        self.model, self.samples, self.denied, self.store, self.name = model, samples, denied, store, name
        self.doubt = self.hinted = self.doubtful = 0
        self._x = bytearray(model.sample_size)
        self.teach()

    def correct(self, window: Buffer, label: int) -> bool:
        """Takes a window with its class, one of the base's. Returns whether rows are in use."""
        self._check(label)
        self.samples.append(window, label)
        return self.teach()

    def deny(self, window: Buffer, said: int) -> bool:
        """Takes a window that is not of the class `said`. Returns whether rows are in use."""
        self._check(said)
        self.denied.append(window, said)
        return self.teach()

    def undo(self) -> bool:
        """Takes the last `correct` back. Returns whether rows are in use."""
        self.samples.undo()
        return self.teach()

    def _check(self, label):
        if not 0 <= label < self.model.output_size:
            raise ValueError("class %d: only the base's classes can be corrected; see add_class()" % label)

    def teach(self) -> bool:
        """Makes the rows anew from all samples. Returns whether rows are in use: else the base alone is.

        After an error, too, the base alone is in use, until the next `teach` or reset. What `correct` or `deny` were
        given is then in its file if the file's `count` says so: call `teach` for that.
        """
        try:
            return self._taught()
        except BaseException:
            self._use_base()
            raise

    def _use_base(self):
        self.model.use(None)
        self.doubt = self.hinted = self.doubtful = 0

    def _taught(self):
        self._use_base()
        rows = self._judged(None)
        if rows.doubt and rows.before[0]:
            made, self.doubt = rows.adapter(), rows.doubt
            hints = self._taken()
            better = hints.count and self._judged(hints)
            if better and better.doubt and better.after[1] < rows.after[1]:
                made, self.doubt, self.hinted = better.adapter(), better.doubt, hints.count
                rows = better
            self.doubtful = sum(rows.doubtful)
            self.model.use(made)
            if self.store:
                self.store.put(self.name, made.buffer)
                self.store.activate(self.name)
        elif self.store and self.store.active == self.name:
            self.store.activate(None)
        return self.doubt > 0

    def _judged(self, hints):
        rows = OwnRows(self.model, self.samples, None, hints)
        for _ in rows.judge():
            pass
        return rows

    def _taken(self):
        # What denied windows are taken for, with the rows in use.
        numbers, labels = array("I"), bytearray()
        for number in range(self.denied.count):
            said = self.denied.read(number, self._x)
            self.model.infer_sample(self._x)
            chances = self.model.probabilities()
            best = -1
            for label in range(len(chances)):
                if label != said and (best < 0 or chances[label] > chances[best]):
                    best = label
            if 2 * chances[best] > sum(chances) - chances[said]:
                numbers.append(number)
                labels += bytes((best,))
        self.model.use(None)
        return _Hints(self.denied, numbers, labels)
