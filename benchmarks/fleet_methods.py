"""`edgelora bench fleet methods`: ways to learn more under the same noise.

Results are in docs/experiments.md.

Boards train, clip and add their noise by their own C, and sums are averaged in integers, as in a federation. Only
correlated noise is drawn here, for the sum: boards have no way to make it (see the page).
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.ela import Adapter, pack_adapter, unpack_adapter
from edgelora.core.twin.fleet import gaussian_noise
from edgelora.fleet import averaging, privacy, simulated_boards
from edgelora.fleet.averaging import UNITS, board_seed, server_step, with_vector
from edgelora.fleet.client_training import fleet_recipe, learner_of
from edgelora.fleet.personalize import bare_start
from edgelora.fleet.plan import MOST_CLIP, Plan
from edgelora.fleet.privacy import Spent
from edgelora.fleet.simulated_boards import Boards, boards_of, private_update
from edgelora.learn.training.base import Base
from edgelora.learn.training.loop import train
from edgelora.learn.training.samples import Samples
from edgelora.learn.training.warm_start import fleet_vector, restarted

from .fleet_controls import unshared_of
from .learning import mean_and_error

Vector = NDArray[np.int64]
Matrix = NDArray[np.float64]
FLEETS: dict[str, dict[str, Any]] = {
    "1,000 boards": {"boards": 1000, "rounds": 20, "share": 0.1, "least": 60, "cohort": 65},
    "100 boards": {"boards": 100, "rounds": 20, "share": 0.2, "least": 12},
}
NOISES = (1.0, 2.0)
SETTINGS = [(size, noise) for size in FLEETS for noise in NOISES]
JUDGED = 8  # boards: one for each recording of a fleet by name
COUNTING = 0.05  # of the budget, in 1 / z^2, for the counts that an adaptive clip goes by
CLIP_STEP = 0.2  # of the logarithm of an adaptive clip, for each round, where all boards are on one side
HALF = 128  # of a board's vote for a clip: +-1/2, in the units of its noise


@dataclass(frozen=True)
class Method:
    """How a federation is run under noise; other settings are those of `Plan.suited`.

    clips: of updates, in masters, for each of `SETTINGS`. alternate: A and B train in turns, by rounds or by updates.
    quantile: this share of updates is to be longer than the clip, which follows them; 0: it is fixed. turns: boards are
    asked in fixed groups, one after the other, and not by Poisson sampling. bands: of the factor of correlated noise,
    at most as many as groups; 1: rounds have independent noise. equal: the noise of turns is such that this epsilon is
    that of a federation without turns.
    """

    clips: tuple[int, ...]
    mode: str = "frozen_a"
    alternate: Literal["", "rounds", "updates"] = ""
    quantile: float = 0.0
    turns: bool = False
    bands: int = 1
    equal: Literal["", "outsider", "server"] = ""

    def plan(self, size: str, noise: float, seed: int) -> Plan:
        clip = self.clips[SETTINGS.index((size, noise))]
        plan = Plan.suited(noise=noise, mode=self.mode, seed=seed, clip=clip, **FLEETS[size])
        return replace(plan, noise=matched(plan, self.equal)) if self.equal else plan


PLAIN = "frozen A"
METHODS: dict[str, Method] = {  # clips and the quantile were chosen on people 3 to 6
    PLAIN: Method((1000, 1000, 1000, 500)),
    "trained A": Method((2000, 2000, 2000, 1000), "trainable_a"),
    "A and B by rounds": Method((1000, 1000, 1000, 1000), "trainable_a", "rounds"),
    "A and B by updates": Method((1000, 1000, 1000, 1000), "trainable_a", "updates"),
    "adaptive clip": Method((1000, 1000, 1000, 1000), quantile=0.8),
    "in turns": Method((1000, 1000, 500, 500), turns=True),
    "in turns, correlated": Method((2000, 2000, 1000, 1000), turns=True, bands=10),
    "in turns, server's epsilon": Method((1000, 1000, 2000, 1000), turns=True, equal="server"),
    "in turns, correlated, server's epsilon": Method((2000, 2000, 2000, 1000), turns=True, bands=10, equal="server"),
    "in turns, outsider's epsilon": Method((500, 500, 250, 500), turns=True, equal="outsider"),
    "in turns, correlated, outsider's epsilon": Method((2000, 2000, 1000, 500), turns=True, bands=10, equal="outsider"),
}


# ---- one federation


@dataclass
class Carried:
    """The state of an experiment's federation. velocity: of masters [n]; clip: of the next round, if adaptive.

    asked: boards, by round; clips: by round.
    """

    base: Base
    plan: Plan
    method: Method
    boards: Boards
    adapter: bytes
    velocity: Vector
    clip: float
    asked: list[list[int]] = field(default_factory=list)
    clips: list[int] = field(default_factory=list)


def federated(base: Base, plan: Plan, method: Method, data: str) -> Carried:
    """Runs all rounds of a federation with a method."""
    start = bare_start(base, plan, plan.seed)
    boards = boards_of(data, base.elm, base.name, plan.boards)
    count = sum(state.master.size for state in unpack_adapter(start).states)
    one = Carried(base, plan, method, boards, start, np.zeros(count, np.int64), plan.clip)
    noise = correlated(plan, method, len(fleet_vector(start))) if method.bands > 1 else None
    for step in range(plan.rounds):
        _carry(one, step, None if noise is None else noise[step])
    return one


def _carry(one: Carried, step: int, noise: Vector | None) -> None:
    """One round. noise: of the sum; None: boards add theirs."""
    before, seed = fleet_vector(one.adapter), round_seed(one.plan, step)
    asked = in_turn(one.plan, step) if one.method.turns else drawn(one.plan, step)
    one.asked.append(asked)
    if len(asked) < one.plan.least:  # their noise would be too small
        return
    held = _held(one, step)
    plan = replace(
        one.plan,
        clip=_clip(one),
        noise=0.0 if noise is not None else noise_left(one.plan.noise, one.method),
    )
    moving = np.ones(len(before), bool) if held is None else ~held
    total, votes = np.zeros(int(moving.sum()), np.int64), 0
    for index in asked:
        own = board_seed(seed, index)
        after = _trained(one, step, own, one.boards.of(index).train)
        total += private_update(before[moving], after[moving], plan, own)
        votes += _vote(one, before, after, own) if one.method.quantile else 0
    if noise is not None:
        total += noise
    one.clips.append(plan.clip)
    _move(one, before, moving, averaging.mean(total, len(asked)))
    if one.method.quantile:
        one.clip *= math.exp(CLIP_STEP * (votes / (2 * HALF * len(asked)) + 0.5 - one.method.quantile))


def _move(one: Carried, before: NDArray[np.int16], moving: NDArray[np.bool_], average: Vector) -> None:
    """The server's step of what moves; what is held keeps its velocity, too."""
    masters = moving[: len(one.velocity)]
    velocity, part = server_step(one.velocity[masters], average, one.plan.server_rate, one.plan.server_momentum)
    one.velocity[masters] = velocity
    step = np.zeros(len(before), np.int64)
    step[moving] = part
    one.adapter = pack_adapter(with_vector(unpack_adapter(one.adapter), averaging.moved(before, step)))


def round_seed(plan: Plan, step: int) -> int:
    return int(np.random.default_rng((plan.seed, step, 2)).integers(2**32))


def drawn(plan: Plan, step: int) -> list[int]:
    secret = np.random.default_rng((plan.seed, 3)).bytes(32)
    return privacy.sampled(secret, step, range(plan.boards), plan.share)


def groups_of(plan: Plan) -> int:
    """Groups of boards that are sampled in turn."""
    return round(1 / plan.share)


def in_turn(plan: Plan, step: int) -> list[int]:
    mixed = np.random.default_rng((plan.seed, 4)).permutation(plan.boards)
    return sorted(int(index) for index in mixed[step % groups_of(plan) :: groups_of(plan)])


# ---- A and B in turns


def _held(one: Carried, step: int) -> NDArray[np.bool_] | None:
    """What of the vector a round leaves as it is [n]; None: nothing. B learns first: while it is 0, A has no gradient.

    Scales, which follow slowly where a clip binds, are left out of such rounds.
    """
    if one.method.alternate != "rounds":
        return None
    matrix = _of_a(unpack_adapter(one.adapter))
    scales = np.ones(len(fleet_vector(one.adapter)) - len(matrix), bool)
    return np.concatenate([matrix if step % 2 == 0 else ~matrix, scales])


def _of_a(adapter: Adapter) -> NDArray[np.bool_]:
    """Which masters are A's [n]."""
    of_a = {id(layer.a_state) for layer in adapter.layers}
    return np.concatenate([np.full(state.master.size, id(state) in of_a) for state in adapter.states])


def _trained(one: Carried, step: int, seed: int, samples: Samples) -> NDArray[np.int16]:
    """The vector [n] after a board's training."""
    plan = one.plan
    learner = learner_of(one.base.elm, plan.rank, plan.mode)
    recipe = replace(
        fleet_recipe(plan.rank, plan.mode),
        epochs=plan.epochs,
        learning_rate=plan.rate_of(step, plan.rate),
        seed=seed,
    )
    places = len(samples.of_epoch)
    settings = recipe.resolved(one.base.elm, places)
    learner.load(restarted(one.adapter, seed))
    if not one.method.alternate:
        return fleet_vector(train(learner, samples, settings).state)
    updates = plan.epochs * -(-places // recipe.micro_batch)
    state = learner.save(True)
    for update in range(updates):
        before = unpack_adapter(state)
        after = unpack_adapter(train(learner, samples, settings, done=update, stop=update + 1).state)
        turn = step if one.method.alternate == "rounds" else update
        state = pack_adapter(_put_back(before, after, "ab"[turn % 2]))
        learner.load(state)
    return fleet_vector(state)


def _put_back(before: Adapter, after: Adapter, which: str) -> Adapter:
    """What an update left, but for one matrix of each layer, which is as it was."""
    layers = [
        replace(new, a=old.a, a_state=old.a_state) if which == "a" else replace(new, b=old.b, b_state=old.b_state)
        for old, new in zip(before.layers, after.layers, strict=True)
    ]
    return replace(after, layers=layers)


# ---- a clip that adapts


def _clip(one: Carried) -> int:
    return min(MOST_CLIP, max(1, round(one.clip)))


def noise_left(noise: float, method: Method) -> float:
    """z of the updates, where the counts have their share: 1 / z^2 = 1 / z_updates^2 + 1 / z_counts^2."""
    return noise / math.sqrt(1 - COUNTING) if method.quantile else noise


def _vote(one: Carried, before: NDArray[np.int16], after: NDArray[np.int16], seed: int) -> int:
    """A board's word on whether its update is longer than the clip, +-`HALF`, with its share of noise."""
    longer = int(((after.astype(np.int64) - before) ** 2).sum()) > round(one.clip) ** 2
    sigma = math.ceil(one.plan.noise / math.sqrt(COUNTING * one.plan.least) * HALF)
    key = np.random.default_rng((seed, 5)).bytes(32)
    noise = int(gaussian_noise(key, sigma, 1)[0]) if sigma else 0
    return (HALF if longer else -HALF) + noise


# ---- noise that is correlated between rounds


def correlated(plan: Plan, method: Method, size: int) -> Vector:
    """Noise of each round's sum, int64 [rounds, size]: C^-1 z, where z is independent.

    A board takes part every so many rounds, at least as many as C has bands: its columns are orthogonal, of norm 1, so
    that the sensitivity of C x is the clip times the root of how often a board takes part. Rounding C^-1 z is done
    after the mechanism, as x is whole. z is drawn in floating point: a figure, not a product.
    """
    bands = min(method.bands, groups_of(plan))
    factor = banded_factor(plan.rounds, bands, plan.server_momentum / UNITS)
    each = plan.sigma * math.sqrt(plan.boards / groups_of(plan))
    independent = np.random.default_rng((plan.seed, 6)).normal(0.0, each, (plan.rounds, size))
    rounded: Vector = np.rint(np.linalg.solve(factor, independent)).astype(np.int64)
    return rounded


def banded_factor(rounds: int, bands: int, momentum: float) -> Matrix:
    """C, lower triangular with so many bands and columns of norm 1: the workload's square root, cut off (Kalinin and
    Lampert, 2024).

    The workload is what each round's adapter has of each round's average: of u rounds ago (1 - m^(u + 1)) / (1 - m). As
    a power series it is 1 / ((1 - x) (1 - m x)), and its root the product of two of this kind.
    """

    def root(of: float) -> Matrix:
        """Of 1 / (1 - of x)."""
        ages = np.arange(1, bands)
        return np.cumprod(np.concatenate([[1.0], of * (2 * ages - 1) / (2 * ages)]))

    series = np.convolve(root(1.0), root(momentum))[:bands]
    factor = sum(np.diag(np.full(rounds - age, value), -age) for age, value in enumerate(series[:rounds]))
    return np.asarray(factor / np.linalg.norm(factor, axis=0))


# ---- epsilon


def epsilons(one: Carried) -> tuple[float, float]:
    """Of an outsider and of the server, as `fleet.epsilons` has them.

    With turns anyone may know who was asked: both are one.
    """
    plan = one.plan
    server = epsilon(plan.multiplier, 1.0, _most(one.asked), plan.delta)
    if one.method.turns:
        return server, server
    return epsilon(plan.multiplier, plan.share, plan.rounds, plan.delta), server


def _most(asked: list[list[int]]) -> int:
    """The largest number of rounds of a single board."""
    return int(np.bincount(list(itertools.chain(*asked))).max())


@functools.cache
def epsilon(z: float, share: float, times: int, delta: float) -> float:
    """Of so many rounds of noise z, each with a chance of `share` for a board to take part."""
    return privacy.epsilons(Spent(((z, share, times),)), delta).outsider


def matched(plan: Plan, whose: str) -> float:
    """z with which boards in turns tell an outsider, or the server, as much as with plan's z boards that are drawn."""
    times = math.ceil(plan.rounds / groups_of(plan))
    if whose == "server":
        most = _most([drawn(plan, step) for step in range(plan.rounds)])
        return plan.multiplier * math.sqrt(times / most)
    wanted = epsilon(plan.multiplier, plan.share, plan.rounds, plan.delta)
    low, high = plan.noise / 4, plan.noise * 16
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if epsilon(middle, 1.0, times, plan.delta) <= wanted else (middle, high)
    return high


# ---- all of them


def methods(base: Base, seeds: int, data: str = "har", progress: Progress = no_progress) -> dict[str, Any]:
    """By fleet, noise and method: accuracy (the mean over boards) and gain (over `PLAIN` with the same seed), each a
    mean over seeds and its standard error; and the largest epsilons of an outsider and of the server.

    Of boards that share nothing the accuracy alone, as many epochs, with A frozen.
    """
    kinds = [(size, noise, name) for size, noise in SETTINGS for name in METHODS]
    jobs = [(base, *kind, seed, data) for kind in kinds for seed in range(1, seeds + 1)]
    runs = []
    for run in in_parallel(one_run, jobs):
        runs.append(run)
        progress(len(runs), len(jobs), " ".join(map(str, jobs[len(runs) - 1][1:4])))
    by_kind = {kind: runs[place * seeds : (place + 1) * seeds] for place, kind in enumerate(kinds)}
    found: dict[str, Any] = {}
    for size, noise, name in kinds:
        mine, plain = by_kind[size, noise, name], by_kind[size, noise, PLAIN]
        found[f"{size}, z {noise:g}, {name}"] = {
            "accuracy": mean_and_error([run[0] for run in mine]),
            "gain": mean_and_error([run[0] - other[0] for run, other in zip(mine, plain, strict=True)]),
            "outsider": round(max(run[1] for run in mine), 2),
            "server": round(max(run[2] for run in mine), 2),
        }
    for size in FLEETS:
        plans = [(base, METHODS[PLAIN].plan(size, 1.0, seed), data) for seed in range(1, seeds + 1)]
        found[f"{size}, alone"] = {"accuracy": mean_and_error(list(in_parallel(unshared_of, plans)))}
    return {"methods": found}


def one_run(base: Base, size: str, noise: float, name: str, seed: int, data: str) -> tuple[float, float, float]:
    """The mean of boards' accuracies after a federation, and its epsilons: outsider, server."""
    method = METHODS[name]
    one = federated(base, method.plan(size, noise, seed), method, data)
    found = simulated_boards.accuracies(one.plan, base.elm, one.adapter, one.boards, list(range(JUDGED)))
    return (float(np.mean(found)), *epsilons(one))
