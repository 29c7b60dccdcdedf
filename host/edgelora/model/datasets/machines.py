"""Simulated machines: vibration of slow geared drives, healthy and with faults. Nothing here was measured on a machine.

    shaft ------ harmonics --------------+
      |                                  |
      +-- gear mesh, with sidebands -----+--> mounting, sensor noise --> int16 counts
      |                                  |
      +-- bearing: impulses that ring ---+        load and speed wander all the time
    noise that the structure's resonances shape

A machine's parameters are drawn from its number: speed, teeth, bearing, resonances, levels, mounting. Load and speed of
each stream drift by the stream's seed. The sensor is an accelerometer such as an LSM6DS3: one axis, 833 samples a
second, +-8 g. Faults have severities 1 to 5, each twice the amplitude of the one before. They differ in how easily they
are detected: bearing faults immediately, worn teeth hardly at 3.

Frequencies follow the kinematics of gears and rolling bearings. Levels are plausible choices, not measured: the
ranges in `machine`, and in g or as shares the steps of faults, the effect of load and the noise below.

Counts are identical on every computer: phases are integers, waves and impulse responses integer tables, sums exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.front_ends import SPECTRAL_FRAME

MACHINE_RATE = 833  # samples a second
MACHINE_FRAMES = 8  # of a window: 4.9 s
MACHINE_WINDOW = SPECTRAL_FRAME * MACHINE_FRAMES
FAULTS = ("outer race", "inner race", "gear wear", "unbalance", "misalignment", "looseness")
SEVERITIES = (1, 2, 3, 4, 5)
G = 1 / 4096  # of a count: +-8 g in 16 bits
_BLOCK = 256  # samples in which load and speed are constant
_UNIT = 1 << 16  # of a wave's table
_TABLE = 4096  # values of a turn
_RING = 96  # samples that a resonance rings for
_SINE = np.array([round(_UNIT * math.sin(2 * math.pi * i / _TABLE)) for i in range(_TABLE)], np.float64)
_NOISE = 1 << 10  # standard deviation of white noise before it is filtered
_MAINS = 50.0  # Hz
_CAGE = 0.4  # turns of a bearing's cage in one of the shaft: (1 - d/D) / 2 for rollers of d = 0.2 D, without slip
_BANDWIDTH = 0.45  # of the rate, which the sensor's filter lets pass


@dataclass(frozen=True)
class Resonance:
    """A resonance. hz: of the structure; damping: ratio of its decay; level: g of the noise that it shapes."""

    hz: float
    damping: float
    level: float


@dataclass(frozen=True)
class Machine:
    """Parameters of one drive: shaft in Hz at no load, teeth of the gear, rollers and slip (a share) of the bearing.

    Levels in g: harmonics of the shaft from the first; mesh of the gear at its frequency and twice that; hum of the
    mains; floor of the sensor's noise. gain: of the mounting.
    """

    number: int
    shaft: float
    teeth: int
    rollers: int
    harmonics: tuple[float, ...]
    mesh: tuple[float, float]
    sideband: float
    resonances: tuple[Resonance, ...]
    gain: float
    hum: float
    floor: float
    slip: float


def machine(number: int) -> Machine:
    """The machine with this number, deterministic. InputError below 0."""
    if number < 0:
        raise InputError(f"machine {number}: give 0 or more")
    rng = np.random.default_rng([number, 1])

    def between(low: float, high: float) -> float:
        return float(low + (high - low) * rng.random())

    shaft = between(6.0, 13.0)
    teeth = int(rng.integers(15, 1 + math.floor(330 / shaft)))
    resonances = tuple(
        Resonance(between(low, high), between(0.02, 0.08), between(0.01, 0.05))
        for low, high in ((50, 120), (130, 240), (250, 380))
    )
    loudness = between(0.03, 0.12)
    return Machine(
        number,
        shaft,
        teeth,
        int(rng.integers(7, 12)),
        tuple(loudness * between(0.3, 1.0) / (i + 1) for i in range(5)),
        (between(0.02, 0.12), between(0.01, 0.05)),
        between(0.05, 0.3),
        resonances,
        between(0.6, 1.6),
        between(0.0, 0.02),
        between(0.003, 0.008),
        between(0.004, 0.015),
    )


def vibration(of: Machine, windows: int, seed: int, fault: str | None = None, severity: int = 0) -> NDArray[np.int16]:
    """Counts of a stream of this many windows, int16 [windows * MACHINE_WINDOW], normal or with a fault.

    Deterministic. InputError for an unknown fault or severity.
    """
    if fault is not None and fault not in FAULTS:
        raise InputError(f"fault {fault!r}: choose one of {', '.join(FAULTS)}")
    if (severity not in SEVERITIES) if fault else severity:
        raise InputError(f"severity {severity}: give {SEVERITIES[0]} to {SEVERITIES[-1]} with a fault, 0 without one")
    rng = np.random.default_rng([of.number, 2, seed, FAULTS.index(fault) + 1 if fault else 0, severity])
    worse = {name: 2.0 ** (severity - 1) if name == fault else 0.0 for name in FAULTS}
    count = windows * MACHINE_WINDOW
    load = _wander(rng, count)
    speed = of.shaft * (1 - 0.03 * (load - 0.5)) + 0.08 * (_wander(rng, count) - 0.5)
    turn = _phase(rng, speed)
    total = _shaft(of, turn, load, worse) + _gear(of, turn, load, worse)
    total += _structure(of, rng, load, worse["looseness"], turn)
    total += _bearing(of, rng, turn, load, worse)
    total += _wave(_phase(rng, np.full(len(load), _MAINS))) * of.hum
    counts = np.rint(total * (of.gain / G / _UNIT)) + np.rint(_white(rng, count) * (of.floor / G / _NOISE))
    saturated: NDArray[np.int16] = np.clip(counts, -32768, 32767).astype(np.int16)
    return saturated


def machine_signal(normal: Normal) -> Signal:
    """The signal of a base's input: the front end's outputs, normalized."""
    return Signal(MACHINE_RATE, 1, MACHINE_WINDOW, MACHINE_WINDOW, (normal,), "spectral", "1/256 octave")


# ---- what vibrates: values are g, times _UNIT ------------------------------------------------------------------------


def _shaft(
    of: Machine, turn: NDArray[np.uint32], load: NDArray[np.float64], worse: dict[str, float]
) -> NDArray[np.float64]:
    """Harmonics of the shaft. Unbalance adds to the first, misalignment to the next two, looseness from there on."""
    levels = np.array(of.harmonics)
    own = levels[0]
    levels[0] += 0.05 * own * worse["unbalance"]
    levels[1] += 0.05 * own * worse["misalignment"]
    levels[2] += 0.02 * own * worse["misalignment"]
    levels[2:] += 0.02 * own * worse["looseness"]
    total = np.zeros(len(turn))
    for i, level in enumerate(levels):
        total += _wave(turn * np.uint32(i + 1)) * level
    return total * _spread(0.9 + 0.2 * load)


def _gear(
    of: Machine, turn: NDArray[np.uint32], load: NDArray[np.float64], worse: dict[str, float]
) -> NDArray[np.float64]:
    """The gear mesh, louder under load, modulated by the turning shaft: more so when teeth are worn."""
    deep = of.sideband + 0.08 * worse["gear wear"]
    modulated = 1 + _wave(turn) * (deep / _UNIT)
    mesh = _wave(turn * np.uint32(of.teeth)) * of.mesh[0]
    if 2 * of.teeth * of.shaft < _BANDWIDTH * MACHINE_RATE:
        mesh += _wave(turn * np.uint32(2 * of.teeth)) * of.mesh[1]
    return mesh * modulated * _spread(0.4 + 1.2 * load)


def _structure(
    of: Machine, rng: np.random.Generator, load: NDArray[np.float64], loose: float, turn: NDArray[np.uint32]
) -> NDArray[np.float64]:
    """Noise that resonances shape, more of it under load, and in pulses of the shaft where something is loose."""
    total = np.zeros(len(turn))
    for each in of.resonances:
        ring = _ringing(each)
        shaped = np.convolve(_white(rng, len(turn)), ring)[: len(turn)]
        total += shaped * (each.level / (_NOISE * math.sqrt(float(np.sum((ring / _UNIT) ** 2)))))
    if loose:
        total *= 1 + _wave(turn) * (min(0.03 * loose, 0.8) / _UNIT)
    return total * _spread(0.7 + 0.6 * load)


def _bearing(
    of: Machine, rng: np.random.Generator, turn: NDArray[np.uint32], load: NDArray[np.float64], worse: dict[str, float]
) -> NDArray[np.float64]:
    """Impulses at each passing roller, which ring at the upper resonances; weak ones in healthy bearings, too."""
    cage = _CAGE * (1 - of.slip)  # the outer race meets rollers at this rate, the inner race at the rest
    outer = _passing(of, rng, turn, cage, 0.02 + 0.06 * worse["outer race"], 0.0)
    inner = _passing(of, rng, turn, 1 - cage, 0.01 + 0.06 * worse["inner race"], 0.9)
    total = np.zeros(len(turn))
    for each in of.resonances[1:]:
        total += np.convolve(outer + inner, _ringing(each))[: len(turn)]
    return total * _spread(0.6 + 0.8 * load)


def _passing(
    of: Machine, rng: np.random.Generator, turn: NDArray[np.uint32], share: float, level: float, modulated: float
) -> NDArray[np.float64]:
    """Impulses of `level` g, `share` times the number of rollers per turn, with a sample of jitter.

    modulated: depth of amplitude modulation by the shaft.
    """
    turns = np.cumsum(np.diff(turn, prepend=turn[0]).astype(np.int64))  # 2**32 a turn
    passed = turns // round(2.0**32 / (share * of.rollers))
    at = np.flatnonzero(np.diff(passed, prepend=passed[0]))
    at = np.clip(at + rng.integers(-1, 2, len(at)), 0, len(turn) - 1)
    out = np.zeros(len(turn))
    strength = level * (0.75 + 0.5 * rng.random(len(at))) * (1 + modulated * _wave(turn[at]) / _UNIT)
    out[at] = np.rint(strength * _UNIT) / _UNIT
    return out


# ---- tables ----------------------------------------------------------------------------------------------------------


def _wander(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """A level from 0 to 1 for each block, which drifts and sometimes jumps."""
    blocks = -(-count // _BLOCK)
    step = rng.integers(-120, 121, blocks)
    jump = rng.integers(0, 400, blocks) == 0
    step[jump] += rng.integers(-1000, 1001, int(jump.sum()))
    place = (np.cumsum(step) + int(rng.integers(0, 2048))) % 2048
    level: NDArray[np.float64] = np.minimum(place, 2048 - place) / 1024
    return level


def _spread(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    each: NDArray[np.float64] = np.repeat(levels, _BLOCK)
    return each


def _phase(rng: np.random.Generator, hz: NDArray[np.float64]) -> NDArray[np.uint32]:
    """The phase at each sample, in 2**-32 turns, of a frequency given for each block."""
    steps = np.rint(hz * (2.0**32 / MACHINE_RATE)).astype(np.uint64)
    total = np.cumsum(np.repeat(steps, _BLOCK)) + np.uint64(rng.integers(0, 1 << 32))
    return (total & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def _wave(turn: NDArray[np.uint32]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = _SINE[turn >> np.uint32(20)]
    return values


def _ringing(each: Resonance) -> NDArray[np.float64]:
    """Impulse response, [_RING], in 1 / _UNIT."""
    turn = 2 * math.pi * each.hz / MACHINE_RATE
    return np.array([round(_UNIT * math.exp(-each.damping * turn * i) * math.sin(turn * i)) for i in range(_RING)])


def _white(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Approximately normal integers of standard deviation `_NOISE`: sums of four uniform ones."""
    words = rng.integers(0, 1 << 44, count, np.int64)
    total = np.full(count, -4094, np.int64)
    for i in range(4):
        total += (words >> (11 * i)) & 2047
    level: NDArray[np.float64] = np.rint(total * (_NOISE / (2048 * math.sqrt(4 / 12))))
    return level
