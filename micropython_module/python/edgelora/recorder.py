# SPDX-License-Identifier: MIT
"""Records labelled samples from a sensor, with a button or two.

samples = SampleFile.create("/mine.eld", model)          # SampleFile("/mine.eld", append=True) from then on
recorder = Recorder(model, source, samples, [(Pin(15, Pin.IN, Pin.PULL_UP), 0)])
while True:
    if recorder.step():                                  # a sample was recorded or removed
        print(recorder.counts)
"""

import time
from array import array

from . import _core
from .pipeline import Pipeline

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import MutableSequence, Sequence
    from typing import Any

    from . import Model
    from .reservoir import Reservoir
    from .training import SampleFile

_FINE = 16  # a window begins every 1/16 of its length
_BOUNCE_MS = 30  # shorter presses are contact bounce
_LONG_MS = 1000  # a press of this length removes the last sample


class Recorder(Pipeline):
    """Records the newest window of a source into a store of samples, labelled by a button or by a call.

    A sample is in flash when `step` or `take` returns. `step` works under `micropython.heap_lock()`, except when it
    writes a sample, which briefly allocates a number. The sample is the window at the time that the button is pressed,
    to a 16th of its length, or a front end's newest rows. It is recorded when the button is released. Holding the
    button for a second removes the last sample instead.

    samples: a file open for appending, or a reservoir, from which nothing can be removed. buttons: pins that read 0
    when pressed, each with its class. front, chunk: as for a pipeline.
    """

    store: SampleFile | Reservoir
    counts: list[int]  # samples of each class; of a reservoir, those added so far, stored or not
    labels: MutableSequence[int]  # the class of each button
    taken: int | None  # the class of the last recorded sample; None after its removal
    ready: bool  # whether a whole window is available

    def __init__(
        self,
        model: Model,
        source: Any,
        samples: SampleFile | Reservoir,
        buttons: Sequence[tuple[Any, int]] = (),
        front: Any = None,
        chunk: int | None = None,
    ) -> None:
        if (samples.base_id, samples.sample_size) != (model.base_id, model.sample_size):
            raise ValueError("the samples are another base's, or have another size: create another file for them")
        if model.sample_size != model.input_size or model.target_size:
            raise ValueError("a recorder takes whole windows, for a model that learns classes")
        super().__init__(model, source, front, None, chunk)
        if self.front:
            self._every = 1
        else:
            self._hop = max(1, self._need // _FINE)
        self.store = samples
        self.taken = None  # the class of the last recorded sample; None after its removal
        self.ready = False  # whether a whole window is available
        self._put = getattr(samples, "append", None) or samples.add
        self._held = bytearray(model.input_size)  # the window when a button was pressed
        self._pins = [pin for pin, _ in buttons]
        self.labels = array("H", [label for _, label in buttons])
        self._down = bytearray(len(self._pins))
        self._was_ready = False
        now = time.ticks_ms()
        self._moved = [now for _ in self._pins]  # when each button's level changed
        seen = getattr(samples, "seen", None)  # a reservoir has its own counts
        self.counts = [0] * model.output_size if seen is None else seen
        if seen is None:
            for i in range(samples.count):
                self.counts[samples.read(i, self._held)] += 1

    def reset(self) -> None:
        """Begins another stream: the next sample needs a whole window of it."""
        super().reset()
        self.ready = False

    def _decide(self):
        self.ready = True

    def step(self) -> bool:
        """Reads the source and the buttons; whether a sample was recorded or removed."""
        super().step()
        told = False
        now = time.ticks_ms()
        for i in range(len(self._pins)):
            down = self._pins[i].value() == 0
            if down == self._down[i]:
                continue
            self._down[i] = down
            since = time.ticks_diff(now, self._moved[i])
            self._moved[i] = now
            if down:
                self._hold()
            elif since >= _LONG_MS:
                told |= self.undo()
            elif since >= _BOUNCE_MS:
                told |= self._keep(self.labels[i])
        return told

    def _hold(self):
        _core.take(self._held, 0, self.x, 0, 1, len(self.x), 1)
        self._was_ready = self.ready

    def _keep(self, label):
        if not self._was_ready:
            return False
        if not 0 <= label < len(self.counts):
            raise ValueError("class %d: the model has %d" % (label, len(self.counts)))
        count = self.counts[label] + 1  # a reservoir has set it to the same by then
        self._put(self._held, label)
        self.counts[label], self.taken = count, label
        return True

    def take(self, label: int) -> bool:
        """Records the window that ends now as this class. False if no whole window has come yet."""
        self._hold()
        return self._keep(label)

    def undo(self) -> bool:
        """Removes the newest sample, even one from before. False if there is none."""
        if not hasattr(self.store, "undo"):
            raise ValueError("a reservoir can't take samples back: record into a SampleFile")
        if not self.store.count:
            return False
        label = self.store.undo()
        self.counts[label] -= 1
        self.taken = None
        return True

    async def run(self) -> None:
        """Calls `step` until the source ends, as an asyncio task."""
        import asyncio

        while not self.ended:
            self.step()
            await asyncio.sleep_ms(0 if self.pending else 5)
