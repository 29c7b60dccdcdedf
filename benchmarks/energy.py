"""Energy of inference and training at a board's clocks, from measured times and the data sheet's power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelora.base.errors import InputError
from edgelora.board.energy import STEPS, EnergyRow, check_power, energy_by_clock
from edgelora.board.link.client import Link
from edgelora.board.profiles import BoardProfile
from edgelora.core.formats.elm import unpack_model
from edgelora.learn.training.recipe import Recipe

ELM = "/energy.elm"


@dataclass(frozen=True)
class EnergyBench:
    """A model's energy on a board by clock. mean_milliwatts: with an update per interval and light sleep in between."""

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


def bench_energy(
    link: Link, profile: BoardProfile, elm: bytes, name: str, recipe: Recipe, every: float | None = None
) -> EnergyBench:
    """Trains on a micro-batch of noise, and times a few steps and inferences at each of the board's clocks.

    ValueError as `check_power`, or if an update takes longer than `every` seconds.
    """
    power = check_power(profile, every)
    model = unpack_model(elm)
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (recipe.micro_batch, model.input.size)).astype(np.int8)
    targets = model.targets(rng.integers(0, model.classes, recipe.micro_batch))
    try:
        link.put(ELM, elm)
        link.open_model(ELM, *recipe.settings(elm))
        link.begin(recipe.seed)
        step_us = link.train(x, targets, recipe.initial_rate).elapsed_us / recipe.micro_batch
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
