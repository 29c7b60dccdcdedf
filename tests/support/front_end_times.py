"""Cycles of each front end's step on a board, and whether its features are the twin's."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.board.link.raw_repl import RawRepl
from edgelora.board.link.serial_line import SerialLine
from edgelora.core.front_ends import AudioFrontEnd, SpectralFrontEnd

STEPS = 24  # of each signal: three windows of the vibration front end
SEED = 0x2545F491
SIGNALS = ("noise", "silence")
# What the board runs. Noise is xorshift's, as `noise` has it; what a call without work takes is taken off.
PROGRAM = """
import json, time
from array import array
from edgelora.frontend import Audio, Spectral

def fill(x, state):
    for i in range(len(x)):
        state ^= state << 13 & 0xffffffff
        state ^= state >> 17
        state ^= state << 5 & 0xffffffff
        x[i] = (state >> 8 & 0x7fff) - 0x4000
    return state

def nothing(x, out):
    return False

def measure(step, x, out):
    start = time.ticks_us()
    done = step(x, out)
    return time.ticks_diff(time.ticks_us(), start), done

def run(front, noisy):
    x, out, times, rows, state = array("h", [0] * front.window), array("h", [0] * front.size), [], [], {seed}
    idle = min(measure(nothing, x, out)[0] for _ in range(8))
    for _ in range({steps}):
        if noisy:
            state = fill(x, state)
        took, done = measure(front.step, x, out)
        times.append(took - idle)
        if done:
            rows.append(bytes(out).hex())
    return times, rows, len(front.state)

print(json.dumps(run({front}(), {noisy})))
"""


@dataclass(frozen=True)
class FrontEndTime:
    """A front end on one signal. Cycles of a step with output (sound) or of a frame without and with the envelope's.

    cycles: the mean; most: the longest step. state_bytes: of RAM. equal: the board's features are the twin's.
    """

    front_end: str
    signal: str
    cycles: int
    most: int
    step_ms: float
    state_bytes: int
    equal: bool


def front_end_times(port: str, clock_mhz: float) -> list[FrontEndTime]:
    """Runs both front ends on noise and on silence. Raises LineLost if the board has no `edgelora.frontend`."""
    line = SerialLine(port)
    try:
        repl = RawRepl(line, port)
        repl.enter()
        times = []
        for name in ("Audio", "Spectral"):
            for signal in SIGNALS:
                times.append(_measured(repl, name, signal, clock_mhz))
        repl.leave()
        return times
    finally:
        line.close()


def _measured(repl: RawRepl, name: str, signal: str, clock_mhz: float) -> FrontEndTime:
    noisy = signal == "noise"
    program = PROGRAM
    for key, value in {"steps": STEPS, "seed": SEED, "front": name, "noisy": noisy}.items():
        program = program.replace("{" + key + "}", str(value))
    microseconds, rows, state_bytes = json.loads(repl.run(program))
    front = AudioFrontEnd() if name == "Audio" else SpectralFrontEnd()
    samples = noise(STEPS * front.window) if noisy else np.zeros(STEPS * front.window, np.int16)
    expected = [row.tobytes().hex() for row in front.feed(samples)]
    took = microseconds[2:] if name == "Audio" else microseconds  # the first window of sound takes three steps
    mean, most = sum(took) / len(took), max(took)
    return FrontEndTime(
        name, signal, round(mean * clock_mhz), round(most * clock_mhz), mean / 1000, state_bytes, rows == expected
    )


def noise(count: int) -> NDArray[np.int16]:
    """Xorshift's, int16 [count] in [-16384, 16383]."""
    state, values = SEED, []
    for _ in range(count):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        values.append((state >> 8 & 0x7FFF) - 0x4000)
    return np.array(values, np.int16)
