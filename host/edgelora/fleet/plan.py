"""What a federation is to do: the settings of all its rounds, a JSON file beside its state."""

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
RATES = {"trainable_a": 4500, "frozen_a": 3000}  # of the first round, by mode
NOISY = {"rounds": 40, "server_rate": 256}  # each round costs epsilon, and the server's steps carry the noise, too
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
    """z: the noise of a sum of so many boards, each with a standard deviation of sigma, in clips."""
    return sigma * math.sqrt(boards) / clip


@dataclass(frozen=True)
class Plan:
    """A federation's settings. InputError outside `LIMITS`.

    share: the chance of a board to be asked in a round; noise: z, the noise of a sum in clips; least: the fewest boards
    whose sum is opened; cohort: the most boards of one sum: where more are asked there are several; colluders: so many
    boards of one may work for the server. rate, of the first round, 0: the mode's own; it falls to 0 over rounds.
    server_rate, server_momentum: in 1/256 (`averaging.server_step`). budget: the most epsilon, 0: none; deadline:
    seconds that boards have to train; patience: those that they have for a message after that. seed 0: the sampling's
    seed is drawn, else a run can be repeated.
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
            raise InputError(f"least {self.least}: a sum is of {self.cohort} boards at most; give that or less")
        if self.noise and self.sigma > MOST_SIGMA:
            raise InputError(f"noise of {self.sigma} a board: at most {MOST_SIGMA}; clip lower, or ask for less noise")

    @property
    def sigma(self) -> int:
        """Standard deviation of a board's own noise, in masters: its share where the fewest boards are left."""
        return math.ceil(self.noise * self.clip / math.sqrt(self.least))

    @property
    def multiplier(self) -> float:
        """The noise of a sum in clips, at least: z as the integers have it."""
        return noise_in_clips(self.sigma, self.clip, self.least)

    @property
    def alone(self) -> float:
        """The noise of one board's own update in clips: all that hides it from a server without masks."""
        return noise_in_clips(self.sigma, self.clip, 1)

    @property
    def seen(self) -> float:
        """The noise of what the server sees of a board, in clips: of a sum, or without masks of the board alone."""
        return self.multiplier if self.masks else self.alone

    @property
    def usual_cohort(self) -> int:
        """Boards of a sum in a round in which as many are asked as the share says."""
        asked = max(round(self.boards * self.share), 1)
        return asked // -(-asked // self.cohort)

    def task(
        self, roster: int, base_id: bytes, adapter_sha256: bytes, parameters: int, rate: int = 0, seed: int = 0
    ) -> Task:
        """What boards are asked to do in a round of these settings."""
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
        """The learning rate of round `step`, from 0, where the first has `rate`."""
        return max(1, rate * (self.rounds - step) // self.rounds)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def suited(cls, **given: Any) -> Plan:
        """A plan whose mode, rates and rounds suit the others, where they are not given.

        A fleet whose A trains, too, learns more. Noise goes with the root of the values that are summed: with some, A
        stays as the seed has it, and a quarter of them is left. More rounds and larger steps of the server learn more,
        but each has its noise.
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
            raise InputError(f"{path}: is no JSON ({error}): make it again with edgelora fleet init") from error

    def write(self, path: Path) -> None:
        write_atomic(path, (json.dumps(self.as_json(), indent=2) + "\n").encode())
