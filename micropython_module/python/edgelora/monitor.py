# SPDX-License-Identifier: MIT
"""Anomaly detection for one machine: each window gets a score, and high scores in a row raise an alarm.

    monitor = Monitor(model)                    # model: a base that reconstructs its input
    pipeline = Pipeline(monitor, source)        # the monitor takes the place of a model
    monitor.calibrate("scale", 48)              # stage by stage, each with its own windows:
    while monitor.left: pipeline.step()         # "scale", "learn", "residuals", "threshold"
    ...
    monitor.calibrate("watch")
    if pipeline.step() and monitor.alarm: ...   # monitor.score says how unusual the last window was

`monitor.adapter()` is the adapter with this calibration in it; `monitor.use` switches to another machine's adapter.
"""

import struct
from array import array

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from typing import Any

    from . import Adapter, Model, Signal
    from .training import SampleFile

_RECORD = 2  # kind
_HEAD = "<3H2B2I"
_HEAD_SIZE = struct.calcsize(_HEAD)
_GRID = 0x3D000000  # the bits of 1/32
_STAGES = ("scale", "learn", "residuals", "threshold", "watch")
_SCALE, _LEARN, _RESIDUALS, _THRESHOLD, _WATCH = range(5)
_MOST_WINDOWS = 16383
_MOST_GAIN, _MOST_RESIDUAL_GAIN = 32767, 16384
_MOST_RESIDUAL = 16 * 255


def _root(n):
    # floor of the square root
    x = 1
    while x * x <= n:
        x <<= 1
    while True:
        y = (x + n // x) // 2
        if y >= x:
            return x
        x = y


def _check(model):
    data = model.buffer
    tensors, at = int.from_bytes(data[28:32], "little"), int.from_bytes(data[24:26], "little") - 1
    for start in (tensors, tensors + 12 * at):  # the output is the last tensor
        if data[start + 6] or int.from_bytes(data[start + 8 : start + 12], "little") != _GRID:
            raise ValueError("a monitor takes a base with 32 steps for 1.0 and zero point 0 on both ends")
    if not model.target_size or not model.input_size == model.output_size <= 256:
        raise ValueError("a monitor takes an autoencoder of at most 256 values")


def check_alarm(least: int, votes: int, one_in: int) -> None:
    """Raises ValueError if settings of alarms are out of range."""
    if not 1 <= least <= votes <= 16 or one_in < 2:
        raise ValueError("least of votes windows: 1 to 16; one_in: 2 or more")


def check_windows(stage: str, windows: int, one_in: int) -> None:
    """Raises ValueError if a stage can't have this number of windows."""
    if stage != "watch" and not 2 <= windows <= _MOST_WINDOWS:
        raise ValueError("stage %s of %d windows: 2 to %d" % (stage, windows, _MOST_WINDOWS))
    if stage == "threshold" and windows + 1 < one_in:
        raise ValueError("a threshold for one window in %d takes %d at least" % (one_in, one_in - 1))


class Monitor:
    """Watches a machine with a base that reconstructs its input, on a grid of 32 steps for 1.0 (SPEC.md, section 16).

    It is calibrated in stages, each with its own windows of normal operation:

        scale       mean and spread of each value
        learn       windows are appended to a SampleFile, from which a Run trains an adapter
        residuals   mean and spread of each residual: the network's output, with the adapter in use, minus its input
        threshold   the highest anomaly scores set the threshold
        watch       scores and alarms

    To a Pipeline it is the model: `Pipeline(Monitor(model), source)`. least, votes: an alarm is `least` of the last
    `votes` windows above the threshold, at most 16. one_in: one normal window in `one_in` may be above it. values: how
    many values have their own mean and spread, a divisor of the input's size; 0: all. Windows allocate nothing on the
    heap, stages do. ValueError for another kind of base and for settings out of range.
    """

    model: Model
    signal: Signal | None
    input_size: int
    output_size: int
    output: memoryview
    labels: list[str]
    score: int  # of the last window, in 1/1024: the mean square of residuals in spreads; about 1024 in normal operation
    alarm: bool  # whether `least` of the last `votes` windows are above the threshold
    threshold: int
    windows: int  # number of windows that the threshold was chosen from
    least: int
    votes: int
    one_in: int
    left: int  # windows that this stage still needs
    means: Any  # int16 mean of each value
    gains: Any  # uint16 of each value: 2^17 over its spread
    residual_means: Any  # int16 mean of each residual, in 1/16
    residual_gains: Any  # uint16 of each residual: 2^14 over its spread

    def __init__(self, model: Model, least: int = 3, votes: int = 5, one_in: int = 50, values: int = 0) -> None:
        _check(model)
        values = values or model.input_size
        if model.input_size % values:
            raise ValueError("%d values do not make up an input of %d" % (values, model.input_size))
        check_alarm(least, votes, one_in)
        self.model, self.signal = model, model.signal
        self.input_size, self.output_size, self.output = model.input_size, model.output_size, model.output
        self.labels = ["normal", "alarm"]
        self.least, self.votes, self.one_in = least, votes, one_in
        self.threshold, self.windows = 65535, 0  # the threshold, and how many windows it was chosen from
        self.means, self.gains = array("h", bytes(2 * values)), array("H", bytes(2 * values))
        outputs = model.output_size
        self.residual_means, self.residual_gains = array("h", bytes(2 * outputs)), array("H", bytes(2 * outputs))
        size = max(values, outputs)
        self._first, self._sums = array("h", bytes(2 * values)), array("i", bytes(4 * size))
        self._low, self._high = array("i", bytes(4 * size)), array("i", bytes(4 * size))
        self._largest = array("H", bytes(2))  # scores, the highest first
        self._samples = None
        self._x = bytearray(model.input_size)
        self._stage, self._done = _WATCH, -1  # the current stage, and the last one completed
        self.left = self._taken = 0  # windows that this stage still needs; rows summed up
        self.reset()

    @property
    def stage(self) -> str:
        return _STAGES[self._stage]

    def reset(self) -> None:
        """Begins another stream: earlier windows no longer count."""
        self.model.reset()
        self._above = 0  # a bit for each of the last windows
        self.score, self.alarm = 0, False

    def probabilities(self) -> Any:
        """Raises ValueError: a monitor has no probabilities."""
        return self.model.probabilities()

    # --- calibration

    def calibrate(self, stage: str, windows: int = 0, samples: SampleFile | None = None) -> None:
        """Ends the current stage and begins this one, of `windows` windows; further windows are not counted.

        samples: the SampleFile that "learn" appends to. ValueError if an earlier stage needs windows or is missing.
        """
        if stage not in _STAGES:
            raise ValueError("stages are scale, learn, residuals, threshold, watch")
        if self.left:
            raise ValueError("stage %s still needs %d windows" % (self.stage, self.left))
        at, done = _STAGES.index(stage), self._done
        if self._stage != _WATCH:  # the current stage ends
            done = max(done, self._stage)
        if done < at - 1 and at != _RESIDUALS or at == _RESIDUALS and done < _SCALE:
            raise ValueError("stage %s comes after the ones before it: begin with scale" % stage)
        check_windows(stage, windows, self.one_in)
        if at == _LEARN and samples is None:
            raise ValueError("stage learn takes a SampleFile that windows are appended to")
        means, gains, residual_means, residual_gains, threshold = self._learned()
        largest = array("H", bytes(2 * ((windows + 1) // self.one_in))) if at == _THRESHOLD else self._largest
        size = len(self._sums)
        sums, low, high = (array("i", bytes(4 * size)) for _ in range(3))
        kept = samples if at == _LEARN else None
        left, judged = (0, self.windows) if at == _WATCH else (windows, windows if at == _THRESHOLD else self.windows)
        done = done if at == _WATCH else min(done, at - 1)
        self.model.reset()
        # Atomic: without a loop or an allocation, such as a tuple of four, no exception can interrupt these lines.
        self.means, self.gains, self.threshold = means, gains, threshold
        self.residual_means, self.residual_gains = residual_means, residual_gains
        self._largest, self.windows, self._samples = largest, judged, kept
        self._sums, self._low, self._high = sums, low, high
        self._taken, self._stage = 0, at
        self.left, self._done = left, done
        self._above, self.score, self.alarm = 0, 0, False

    def _add(self, i, value, sign=1):
        # Adds an integer below 2^15 to the sums. These stay below 2^30: larger integers take memory on small boards.
        self._sums[i] += sign * value
        square = value * value
        self._low[i] += sign * (square & 65535)
        self._high[i] += sign * (square >> 16)

    def _statistics(self, means, gains, unit, bits, most):
        count = self._taken
        for i in range(len(means)):
            total = self._sums[i]
            apart = count * ((self._high[i] << 16) + self._low[i]) - total * total
            means[i] += (2 * unit * total + count) // (2 * count)
            gains[i] = min(max(_root((count * count << bits) // max(apart, 1)), 1), most)

    def _learned(self):
        # Results of the current stage, in new arrays: means and gains of values and residuals, and the threshold.
        means, gains, threshold = self.means, self.gains, self.threshold
        residual_means, residual_gains = self.residual_means, self.residual_gains
        if self._stage == _SCALE:
            means, gains = array("h", self._first), array("H", gains)
            self._statistics(means, gains, 1, 34, _MOST_GAIN)
        elif self._stage == _RESIDUALS:
            residual_means, residual_gains = array("h", bytes(2 * self.output_size)), array("H", residual_gains)
            self._statistics(residual_means, residual_gains, 16, 28, _MOST_RESIDUAL_GAIN)
        elif self._stage == _THRESHOLD:
            threshold = self._largest[-1]
        return means, gains, residual_means, residual_gains, threshold

    # --- windows

    def quantize_counts(self, counts: Any, out: Any) -> int:
        """Quantizes int16 values to the int8 input, as a model does for a pipeline; returns how many were clipped."""
        size = len(self.means)
        if len(counts) != len(out) or len(counts) % size:
            raise ValueError("%d values, a row has %d" % (len(counts), size))
        if self._stage == _SCALE:
            if self.left:
                self._scale(counts, size)
            return 0
        means, gains, clipped = self.means, self.gains, 0
        for i in range(len(counts)):
            k = i % size
            apart = counts[i] - means[k]
            apart = -16383 if apart < -16383 else 16383 if apart > 16383 else apart
            q = (apart * gains[k] + 2048) >> 12
            if not -128 <= q <= 127:
                q = -128 if q < 0 else 127
                clipped += 1
            out[i] = q & 255
        return clipped

    def _scale(self, counts, size):
        first, done, rows = self._first, 0, len(counts) // size
        if not self._taken:
            for k in range(size):
                first[k] = counts[k]
        try:
            while done < len(counts):
                self._add(done % size, self._apart(counts, done, size))
                done += 1
            self._taken += rows
            self.left -= 1
        except BaseException:  # atomic: a window that was counted in part is undone
            for i in range(done):
                self._add(i % size, self._apart(counts, i, size), -1)
            raise

    def _apart(self, counts, i, size):
        apart = counts[i] - self._first[i % size]
        return -32767 if apart < -32767 else 32767 if apart > 32767 else apart

    def infer(self, x: Any) -> int:
        """Processes an input by the current stage. Returns the class for a pipeline: 1 if there is an alarm, or 0."""
        stage = self._stage
        if stage >= _THRESHOLD:
            self.model.infer(x)
            self._scored(x)
        if not self.left:
            return int(self.alarm)
        if stage == _LEARN:
            self._samples.append(x, x)
            self.left -= 1
        elif stage == _RESIDUALS:
            self.model.infer(x)
            self._residuals(x)
        elif stage == _THRESHOLD:
            self._keep()
        return 0  # `quantize_counts` has counted the windows of scale

    def _residuals(self, x):
        output, done = self.output, 0
        try:
            while done < len(x):
                self._add(done, (output[done] ^ 128) - (x[done] ^ 128))
                done += 1
            self._taken += 1
            self.left -= 1
        except BaseException:  # atomic: a window that was counted in part is undone
            for i in range(done):
                self._add(i, (output[i] ^ 128) - (x[i] ^ 128), -1)
            raise

    def _scored(self, x):
        means, gains, output = self.residual_means, self.residual_gains, self.output  # four would need a tuple
        total = 0
        for i in range(len(x)):
            z = ((16 * ((output[i] ^ 128) - (x[i] ^ 128)) - means[i]) * gains[i] + 2048) >> 12
            z = -2047 if z < -2047 else 2047 if z > 2047 else z
            total += z * z
        score = min(total // len(x) >> 2, 65535)
        if self._stage != _WATCH:
            self.score = score
            return
        above = (self._above << 1 | (score > self.threshold)) & (1 << self.votes) - 1
        count = 0
        for i in range(self.votes):
            count += above >> i & 1
        self.score, self._above, self.alarm = score, above, count >= self.least

    def _keep(self):
        # Inserts the score into the largest scores.
        largest, score, at = self._largest, self.score, 0
        while at < len(largest) and score <= largest[at]:
            at += 1
        if at == len(largest):
            self.left -= 1
            return
        last, i = largest[-1], len(largest) - 1
        try:
            while i > at:
                largest[i] = largest[i - 1]
                i -= 1
            largest[at] = score
            self.left -= 1
        except BaseException:  # atomic: scores that moved are moved back
            for k in range(i, len(largest) - 1):
                largest[k] = largest[k + 1]
            largest[-1] = last
            raise

    def update(self, values: Any) -> int:
        """Processes a window's values, int16 [input_size]; returns the score. Allocates nothing."""
        self.quantize_counts(values, self._x)
        self.infer(self._x)
        return self.score

    # --- the record

    def record(self) -> bytearray:
        """The body of the monitor's record. ValueError before the threshold stage is complete."""
        if self._done < _THRESHOLD:
            raise ValueError("the monitor is not calibrated: its stages end with threshold")
        sizes = len(self.means), len(self.residual_means)
        told = self.threshold, self.least, self.votes, self.one_in, self.windows
        body = bytearray(_HEAD_SIZE + 4 * (sizes[0] + sizes[1]))
        struct.pack_into(_HEAD, body, 0, *sizes, *told)
        at = _HEAD_SIZE
        for means, gains in ((self.means, self.gains), (self.residual_means, self.residual_gains)):
            for i in range(len(means)):
                struct.pack_into("<hH", body, at, means[i], gains[i])
                at += 4
        return body

    def adapter(self) -> Adapter:
        """The adapter in use, or the base alone, as an adapter with the monitor's record in it."""
        return self.model.with_record(self.model.used, _RECORD, self.record())

    def use(self, adapter: Adapter) -> None:
        """Switches to the machine of this adapter, which `Monitor.adapter` made or `Model.adapter` loaded.

        ValueError, with nothing changed, for an adapter without a record, or with one for another base.
        """
        body = adapter.record(_RECORD)
        if body is None:
            raise ValueError("this adapter has no record of a machine: calibrate a monitor with it")
        self._look(body)
        _, _, threshold, least, votes, one_in, windows = struct.unpack_from(_HEAD, body)
        learned = []
        at = _HEAD_SIZE
        for count in (len(self.means), len(self.residual_means)):
            means, gains = array("h", bytes(2 * count)), array("H", bytes(2 * count))
            for i in range(count):
                means[i], gains[i] = struct.unpack_from("<hH", body, at)
                at += 4
            learned += [means, gains]
        self.model.reset()
        self.model.use(adapter)
        # Atomic: without a loop or an allocation, such as a tuple of four, no exception can interrupt these lines.
        self.means, self.gains, self.residual_means, self.residual_gains = learned
        self.threshold, self.least, self.votes = threshold, least, votes
        self.one_in, self.windows, self._samples = one_in, windows, None
        self._stage, self._done, self.left = _WATCH, _WATCH, 0
        self._above, self.score, self.alarm = 0, 0, False

    def _look(self, body):
        values, outputs = len(self.means), len(self.residual_means)
        whole = len(body) == _HEAD_SIZE + 4 * (values + outputs)
        if not whole or struct.unpack_from("<2H", body) != (values, outputs):
            raise ValueError("the record of a machine is cut off, or for another base: calibrate again")
        least, votes, one_in, windows = struct.unpack_from("<2B2I", body, 6)
        ok = 1 <= least <= votes <= 16 and 2 <= one_in <= windows + 1 <= _MOST_WINDOWS + 1
        for i in range(values + outputs):
            mean, gain = struct.unpack_from("<hH", body, _HEAD_SIZE + 4 * i)
            if i < values:
                ok = ok and 1 <= gain <= _MOST_GAIN
            else:
                ok = ok and 1 <= gain <= _MOST_RESIDUAL_GAIN and -_MOST_RESIDUAL <= mean <= _MOST_RESIDUAL
        if not ok:
            raise ValueError("the record of a machine is out of range: calibrate again")
