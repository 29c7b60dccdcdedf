"""`edgelora bench frontend`: cycles of each front end's step on a board, and equality of its features with the twin's.

With a number of values it compares sound alone, and all three: the board, the twin and pymicro-features. The board has
16 s of sound in its flash, and hears it again and again, each time from some samples further on, so that no
window comes twice; of what it makes of it all, the CRC-32 comes back.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.board.link.raw_repl import RawRepl
from edgelora.board.link.serial_line import SerialLine
from edgelora.core.front_ends import AUDIO_HOP, AUDIO_SIZE, AudioFrontEnd, SpectralFrontEnd
from edgelora.model.datasets.prompts import PROMPTS, load_prompts
from edgelora.model.datasets.speech import RATE

from .oracles import micro_frontend

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


def bench_frontend(port: str, clock_mhz: float, progress: Progress = no_progress) -> list[FrontEndTime]:
    """Runs both front ends on noise and on silence. Raises LineLost if the board has no `edgelora.frontend`."""
    line = SerialLine(port)
    try:
        repl = RawRepl(line, port)
        repl.enter()
        times = []
        for name in ("Audio", "Spectral"):
            for signal in SIGNALS:
                times.append(_measured(repl, name, signal, clock_mhz))
                progress(len(times), 2 * len(SIGNALS), f"{name} {signal}")
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


# ---- many values of sound

SOUND_PATH = "/bench.raw"
PIECE = 16384  # samples of each kind of sound: 1 s
PRIME = 7  # samples from where one pass begins to where the next does, of the 160 of a step
MANY = """
import binascii
from array import array
from edgelora.frontend import Audio

front = Audio()
samples, out = array("h", [0] * front.window), array("h", [0] * front.size)

def heard(start, steps, crc):
    with open("{path}", "rb") as file:
        file.seek(2 * start)
        for _ in range(steps):
            file.readinto(samples)
            if front.step(samples, out):
                crc = binascii.crc32(out, crc)
    return crc
"""


@dataclass(frozen=True)
class ManyValues:
    """values: how many were compared; board_equal: the board's are the twin's; different: of the twin's values, those
    that are not pymicro-features'; seconds: of sound."""

    values: int
    seconds: float
    board_equal: bool
    different: int


def bench_many_values(port: str, least: int, progress: Progress = no_progress) -> ManyValues:
    """Compares `least` values or some more, fewer where the board's differ. MissingPackage without pymicro-features."""
    sound = _kinds_of_sound()
    starts, steps = _passes(len(sound), least)
    with Link.connect(port) as link:
        link.put(SOUND_PATH, sound.astype("<i2").tobytes())
    line = SerialLine(port)
    try:
        repl = RawRepl(line, port)
        repl.enter()
        repl.run(MANY.replace("{path}", SOUND_PATH))
        front, pieces, ours = AudioFrontEnd(), [], []
        crc = expected = 0
        for start in starts:
            crc = int(repl.run(f"print(heard({start}, {steps}, {crc}))"))
            pieces.append(sound[start : start + steps * AUDIO_HOP])
            ours.append(front.feed(pieces[-1]))
            expected = zlib.crc32(ours[-1].astype("<i2").tobytes(), expected)
            if crc != expected:
                break
            progress(len(ours), len(starts), f"passes, {sum(part.size for part in ours):,} values as the twin has them")
        repl.run(f"import os; os.remove({SOUND_PATH!r})")
        repl.leave()
    finally:
        line.close()
    stream, values = np.concatenate(pieces), np.concatenate(ours)
    different = int(np.sum(values != micro_frontend(stream)))
    return ManyValues(values.size, len(stream) / RATE, crc == expected, different)


def _passes(samples: int, least: int) -> tuple[list[int], int]:
    """Where each pass begins, and its steps: as many as give so many values."""
    steps = samples // AUDIO_HOP - 1
    count = -(-(least // AUDIO_SIZE + 2) // steps)
    return [i * PRIME % AUDIO_HOP for i in range(count)], steps


def _kinds_of_sound() -> NDArray[np.int16]:
    """Silence, constants, -32768, full scale, a few bits, levels that jump, clipped tones and people, int16."""
    rng, n = np.random.default_rng(SEED), np.arange(PIECE)
    levels = np.repeat(2.0 ** rng.integers(0, 16, PIECE // AUDIO_HOP + 1), AUDIO_HOP)[:PIECE]
    square = np.sin(2 * np.pi * 0.123 * n * (1 + n / PIECE)) < 0
    quiet = np.zeros(PIECE, np.int16)
    quiet[PIECE // 4 : PIECE // 2], quiet[PIECE // 2 : 3 * PIECE // 4] = 32767, -32768
    pieces = [
        quiet,
        rng.integers(-32768, 32768, PIECE).astype(np.int16),
        rng.choice(np.array([-32768, 0, 32767], np.int16), PIECE),
        np.where(square, -32768, 32767).astype(np.int16),
        rng.integers(-3, 4, PIECE).astype(np.int16),
        np.clip(rng.normal(size=PIECE) * levels, -32768, 32767).astype(np.int16),
        *_people(),
    ]
    return np.concatenate(pieces)


def _people() -> Iterator[NDArray[np.int16]]:
    """The beginning of a speaker's prompts in each language, two pieces long."""
    for language in PROMPTS:
        heard: list[NDArray[np.int16]] = []
        for _, sound in load_prompts(language):
            heard.append(sound)
            if sum(map(len, heard)) >= 2 * PIECE:
                break
        yield np.concatenate(heard)[: 2 * PIECE]
