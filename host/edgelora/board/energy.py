"""Energy of inference and training at a board's clocks: its own times, and power by its data sheet."""

from __future__ import annotations

from dataclasses import dataclass

from .link.client import Link
from .profiles import BoardProfile


@dataclass(frozen=True)
class EnergyRow:
    """Costs at one clock: microseconds of a training sample, with updates, and an inference; watts; joules of both."""

    clock_mhz: float
    step_us: float
    infer_us: float
    watts: float
    update_joules: float
    infer_joules: float


STEPS = 2  # of training at each clock; the shorter counts, as a micro-batch's last step includes the update


def energy_by_clock(
    link: Link, profile: BoardProfile, micro_batch: int, step_us: float, infer_us: float, clock_hz: int | None = None
) -> list[EnergyRow]:
    """Scales step_us, a training sample with its share of an update at clock_hz, and infer_us to all clocks.

    infer_us is at the usual clock. Runs a few steps at each on the board, whose model is open; begin or load later.
    Empty unless the board's power is known at several clocks.
    """
    if not profile.clocks_mhz or profile.power is None:
        return []
    at_run = link.bench_train(STEPS, clock_hz=clock_hz).min_us
    usual = link.bench_infer(1).min_us
    rows = []
    for mhz in profile.clocks_mhz:
        hz = mhz * 1_000_000
        step = step_us * link.bench_train(STEPS, clock_hz=hz).min_us / at_run
        infer = infer_us * link.bench_infer(1, clock_hz=hz).min_us / usual
        watts = profile.power.watts(hz)
        if watts is not None:
            joules = (micro_batch * step * 1e-6 * watts, infer * 1e-6 * watts)
            rows.append(EnergyRow(mhz, round(step, 1), round(infer, 1), watts, *joules))
    return rows
