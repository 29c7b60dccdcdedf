"""A federation's plan: the settings of all its rounds, in a JSON file next to its state."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgelora.base.errors import InputError
from edgelora.core.formats.files import write_atomic

from .messages import MAX_COHORT, Task

MOST_CLIP = MOST_SIGMA = 65535
RATES = {"trainable_a": 4500, "frozen_a": 3000}  # learning rates of the first round, by mode
NOISY = {"rounds": 40, "server_rate": 256}  # each round costs epsilon, and the server's rate scales the noise, too
LIMITS: dict[str, tuple[float, float]] = {
    "boards": (1, 65535),
    "rounds": (1, 100_000),
    "epochs": (1, 1000),
    "rate": (0, 65535),
    "rank": (1, 16),
    "server_rate": (1, 4096),
    "server_momentum": (0, 255),
    "share": (1e-4, 1.0),
    "clip": (1, MOST_CLIP),
    "noise": (0.0, 100.0),
    "least": (1, 65535),
    "cohort": (2, MAX_COHORT),
    "colluders": (0, MAX_COHORT),
    "delta": (1e-12, 0.1),
    "budget": (0.0, 1e6),
    "deadline": (1.0, 7 * 86400.0),
    "patience": (1.0, 86400.0),
    "seed": (0, 2**32 - 1),
}


def noise_in_clips(sigma: int, clip: int, boards: int) -> float:
    """z: the standard deviation of the noise in a sum of `boards` updates with sigma each, in clips."""
    return sigma * math.sqrt(boards) / clip


@dataclass(frozen=True)
class Plan:
    """A federation's settings. InputError outside `LIMITS`.

    share: probability that a round asks a board; noise: z, the noise of a sum in clips; least: fewest boards whose sum
    is opened; cohort: most boards of one sum; if more are asked, there are several cohorts; colluders: boards of a
    cohort that may work for the server. rate: of the first round, 0: the mode's default; it falls linearly toward 0
    over the rounds. server_rate, server_momentum: in 1/256 (`averaging.server_step`). budget: largest epsilon, 0: no
    limit; deadline: seconds for training; patience: seconds for each message after that. seed: 0 draws a random secret
    for sampling; other seeds make a run reproducible.
    """

    boards: int = 8
    rounds: int = 160
    epochs: int = 1
    rate: int = RATES["trainable_a"]
    rank: int = 8
    mode: str = "trainable_a"
    server_rate: int = 768
    server_momentum: int = 192
    share: float = 1.0
    clip: int = MOST_CLIP
    noise: float = 0.0
    least: int = 1
    cohort: int = 33
    colluders: int = 2
    masks: bool = True
    delta: float = 1e-5
    budget: float = 0.0
    deadline: float = 600.0
    patience: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
                raise InputError(f"{name.replace('_', ' ')} {value!r}: give one from {low:g} to {high:g}")
        if not isinstance(self.mode, str) or self.mode not in RATES:
            raise InputError(f"mode {self.mode!r}: give frozen_a or trainable_a")
        if self.least > self.boards:
            raise InputError(
                f"least {self.least} of {self.boards} boards: no round could end; give {self.boards} or less"
            )
        if self.masks and self.least > self.cohort:
            raise InputError(f"least {self.least}: a sum has at most {self.cohort} boards; give that or less")
        if self.noise and self.sigma > MOST_SIGMA:
            raise InputError(
                f"noise of {self.sigma} per board, the limit is {MOST_SIGMA}: lower the clip, or use less noise"
            )

    @property
    def sigma(self) -> int:
        """Standard deviation of one board's noise, in masters: enough for z if only `least` boards survive."""
        return math.ceil(self.noise * self.clip / math.sqrt(self.least))

    @property
    def multiplier(self) -> float:
        """The least noise of a sum in clips: z after rounding sigma up."""
        return noise_in_clips(self.sigma, self.clip, self.least)

    @property
    def alone(self) -> float:
        """The noise of one board's update in clips; without masks nothing else hides it from the server."""
        return noise_in_clips(self.sigma, self.clip, 1)

    @property
    def seen(self) -> float:
        """The noise in what the server sees, in clips: in a sum with masks, in one board's update without."""
        return self.multiplier if self.masks else self.alone

    @property
    def usual_cohort(self) -> int:
        """The size of a cohort in a round that asks the expected number of boards."""
        asked = max(round(self.boards * self.share), 1)
        return asked // -(-asked // self.cohort)

    def task(
        self, roster: int, base_id: bytes, adapter_sha256: bytes, parameters: int, rate: int = 0, seed: int = 0
    ) -> Task:
        """The task of a round with these settings."""
        return Task(
            roster=roster,
            base_id=base_id,
            adapter_sha256=adapter_sha256,
            parameters=parameters,
            epochs=self.epochs,
            learning_rate=rate,
            seed=seed,
            clip=self.clip,
            sigma=self.sigma,
            least=self.least,
            cohort=self.cohort if self.masks else 0,
            colluders=self.colluders if self.masks else 0,
            masks=self.masks,
        )

    def rate_of(self, step: int, rate: int) -> int:
        """The learning rate of round `step`, counted from 0. rate: that of the first round."""
        return max(1, rate * (self.rounds - step) // self.rounds)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def suited(cls, **given: Any) -> Plan:
        """A plan whose mode, rates and rounds suit the given settings, unless they are given, too.

        A fleet learns more with trainable A. The noise's norm grows with the root of the number of values: so with
        noise A is frozen, which leaves a quarter of the values. More rounds and larger server steps learn more, but
        each round adds noise.
        """
        noisy = bool(given.get("noise"))
        mode = given.get("mode") or ("frozen_a" if noisy else "trainable_a")
        return cls(**{"rate": RATES.get(mode, 0)} | (NOISY if noisy else {}) | given | {"mode": mode})

    @classmethod
    def of_json(cls, raw: Any, name: str = "plan") -> Plan:
        known = {field.name for field in fields(cls)}
        if not isinstance(raw, dict) or set(raw) - known:
            odd = ", ".join(sorted(set(raw) - known)) if isinstance(raw, dict) else type(raw).__name__
            raise InputError(f"{name}: unknown {odd}; a plan has {', '.join(sorted(known))}")
        try:
            return cls(**raw)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Plan:
        try:
            return cls.of_json(json.loads(path.read_text()), str(path))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not JSON ({error}): make it again with edgelora fleet init") from error

    def write(self, path: Path) -> None:
        write_atomic(path, (json.dumps(self.as_json(), indent=2) + "\n").encode())
