"""Energy of inference and training on a board at several clocks: its own times, and power by its data sheet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import formats
from .boards import BoardProfile, Power
from .errors import InputError
from .link import Link
from .personalize import Recipe


@dataclass(frozen=True)
class EnergyRow:
    """At one clock: microseconds of a training sample, updates included, and of an inference, watts, joules of both."""

    clock_mhz: float
    step_us: float
    infer_us: float
    watts: float
    update_joules: float
    infer_joules: float


ELM = "/energy.elm"
STEPS = 2  # measured at each clock, the shorter counts: a micro-batch's last has the update in it


def energy_by_clock(
    link: Link, profile: BoardProfile, micro_batch: int, step_us: float, infer_us: float, clock_hz: int | None = None
) -> list[EnergyRow]:
    """What step_us, a training sample with its share of an update at clock_hz, and infer_us take at the board's clocks.

    infer_us is at the usual clock. The board, whose model is open, takes a few steps at each: begin or load anew.
    Empty where the board's power is not known at several clocks.
    """
    if not profile.clocks_mhz or profile.power is None:
        return []
    at_run = link.bench_train(STEPS, clock_hz=clock_hz).min_us
    usual = link.bench_infer(STEPS).min_us
    rows = []
    for mhz in profile.clocks_mhz:
        hz = mhz * 1_000_000
        step = step_us * link.bench_train(STEPS, clock_hz=hz).min_us / at_run
        infer = infer_us * link.bench_infer(STEPS, clock_hz=hz).min_us / usual
        watts = profile.power.watts(hz)
        if watts is not None:
            joules = (micro_batch * step * 1e-6 * watts, infer * 1e-6 * watts)
            rows.append(EnergyRow(mhz, round(step, 1), round(infer, 1), watts, *joules))
    return rows


@dataclass(frozen=True)
class EnergyBench:
    """A model's energy on a board by clock. mean_milliwatts: with an update every so often, light sleep between."""

    board: str
    model: str
    micro_batch: int
    source: str
    clocks: list[EnergyRow]
    every_seconds: float | None
    mean_milliwatts: list[float]

    @property
    def cheapest_mhz(self) -> float:
        return min(self.clocks, key=lambda row: row.update_joules).clock_mhz


def check_power(profile: BoardProfile, every: float | None) -> Power:
    """ValueError where a board's profile has no power at several clocks, or, if `every` is given, none asleep."""
    if not profile.clocks_mhz or profile.power is None:
        raise InputError(f"{profile.name}'s profile names no power at several clocks: choose another --board")
    if every is not None and profile.power.sleep_watts is None:
        raise InputError(f"{profile.name}'s profile names no power asleep: leave --every out")
    return profile.power


def bench_energy(
    link: Link, profile: BoardProfile, elm: bytes, name: str, recipe: Recipe, every: float | None = None
) -> EnergyBench:
    """Trains one micro-batch of noise on a board, and times a few steps and inferences at each of its clocks.

    ValueError as `check_power`, or if an update takes longer than `every` seconds.
    """
    power = check_power(profile, every)
    model = formats.unpack_model(elm)
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (recipe.micro_batch, model.input.size)).astype(np.int8)
    targets = model.targets(rng.integers(0, model.classes, recipe.micro_batch))
    try:
        link.put(ELM, elm)
        link.open_model(ELM, recipe.ranks(model), recipe.mode, recipe.micro_batch, recipe.momentum)
        link.begin(recipe.seed)
        step_us = link.train(x, targets, recipe.learning_rate).elapsed_us / recipe.micro_batch
        rows = energy_by_clock(link, profile, recipe.micro_batch, step_us, link.bench_infer(STEPS).mean_us)
    finally:
        if link.size(ELM) is not None:
            link.remove(ELM)
    mean = []
    if every is not None:
        asleep = power.sleep_watts or 0
        for row in rows:
            busy = recipe.micro_batch * row.step_us * 1e-6
            if busy > every:
                raise InputError(f"an update takes {busy:.2f} s at {row.clock_mhz:g} MHz: give --every more")
            mean.append(round(1000 * (row.update_joules + asleep * (every - busy)) / every, 4))
    return EnergyBench(profile.name, name, recipe.micro_batch, power.source, rows, every, mean)
