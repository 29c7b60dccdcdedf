"""The contents of a board's replies."""

from __future__ import annotations

import functools
import inspect
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ParamSpec, TypeVar

import numpy as np

from edgelora.base.errors import EdgeloraError
from edgelora.base.text import printable

from .protocol import LEAST_PAYLOAD, LINK_VERSION, MAX_PAYLOAD

_DECISION = struct.Struct("<I4H")  # end, class seen, class of the vote, probability, score; outputs follow
_WATCH = struct.Struct("<3IHBx")  # samples lost, microseconds, clipped, samples, buttons; samples, decisions follow
_NONE = 65535  # no class, no probability
# Modules of an unmodified MicroPython are in the heap; EdgeLoRA's firmware executes them from flash.
_HEAP_FULL = (
    "reset the board and try again; if it runs MicroPython's own firmware, flash EdgeLoRA's: it leaves more heap free"
)
_P = ParamSpec("_P")
_R = TypeVar("_R")
_Kind = TypeVar("_Kind", bound=type)
# Exceptions of malformed answers: no JSON, wrong fields or types, too few bytes.
_ODD = (struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)


class LinkError(EdgeloraError, RuntimeError):
    """The board can't be reached, or lost its state."""


class DeviceError(EdgeloraError, RuntimeError):
    """The board refused a request; the message is the board's. `kind` names its exception type."""

    def __init__(self, kind: str, message: str) -> None:
        full = kind == "MemoryError" and message.startswith("memory allocation failed")
        super().__init__(printable(message), remedy=_HEAP_FULL if full else "")
        self.kind = printable(kind)

    @property
    def lacks_memory(self) -> bool:
        """Whether the board had too little free RAM, of which it has more after a restart."""
        return self.kind in ("MemoryError", "NoMemory")


def understood(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turns exceptions of malformed answers in a function into LinkError."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except EdgeloraError:
            raise
        except _ODD as error:
            said = printable(f"{type(error).__name__}: {error}")
            raise LinkError(
                f"the board's answer is malformed ({function.__name__}: {said})",
                remedy="reset the board, and install or flash EdgeLoRA again if this recurs",
            ) from error

    return call


def all_understood(kind: _Kind) -> _Kind:
    """Applies `understood` to all methods of a class except generators."""
    for name, function in list(vars(kind).items()):
        if inspect.isfunction(function) and not inspect.isgeneratorfunction(function):
            setattr(kind, name, understood(function))
    return kind


@dataclass(frozen=True)
class Hello:
    """The agent's answer to HELLO. `edgelora`: module version, None without it; `free`: heap bytes; `trained`: samples.

    builtin: the firmware includes EdgeLoRA's native part, so no native module is needed.
    ticks_us: the board's clock, which wraps at 2^30.
    """

    link: int
    edgelora: str | None
    board: str
    micropython: str
    mpy: int
    free: int
    id: str
    max_payload: int
    resumed: bool
    sequence: int
    model: bool
    trained: int
    ticks_us: int
    builtin: bool = False

    @staticmethod
    @understood
    def of(payload: bytes) -> Hello:
        """Parses an agent's answer. LinkError for an agent of another version."""
        said = json.loads(payload)
        if said.get("link") != LINK_VERSION:
            raise LinkError(
                f"the board speaks link version {said.get('link')}, not {LINK_VERSION}: update its firmware, or "
                "`edgelora install` again"
            )
        known = {field.name: said[field.name] for field in fields(Hello) if field.name in said}
        try:
            hello = Hello(**known)
        except TypeError as error:
            raise LinkError(
                f"the board's agent has another version ({error}): reset the board, install again"
            ) from None
        if not LEAST_PAYLOAD <= hello.max_payload <= MAX_PAYLOAD:
            raise LinkError(f"the board's request limit is {hello.max_payload!r} bytes: reset it, and try again")
        return hello


@dataclass(frozen=True)
class FileStat:
    """A file's size on the board, and the SHA-256 of its content in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One name in a folder; `size` in bytes, None for a folder."""

    name: str
    size: int | None


@dataclass(frozen=True)
class Space:
    """Bytes free and total of a filesystem, and free heap."""

    free: int
    total: int
    heap: int


@dataclass(frozen=True)
class ModelInfo:
    """An opened model. `arena`: its bytes; `free`: heap bytes left."""

    arena: int
    base_id: str
    input_size: int
    sample_size: int
    output_size: int
    feature_size: int
    ranks: list[int]
    mode: str
    labels: list[str]
    free: int


@dataclass(frozen=True)
class TrainReply:
    """losses: int32 [n] in 1/4096 nat; trained: samples since begin or load; elapsed_us: on the board's clock."""

    losses: np.ndarray
    trained: int
    elapsed_us: int


@dataclass(frozen=True)
class RunReply:
    """The progress of a run controlled by the board. losses, times_us: of samples trained since the last request.

    state: "training", "paused" (its budget is used up), "low battery" or "done"; samples, updates: done; pending:
    samples since the last update; busy_us, energy_uj: of the whole run, over all resumes; checkpoint: bytes of it;
    crc: of the resulting adapter in the store; notice: what was lost, if anything. If
    samples were held out: better (at the end), judged (validations done: of the previous adapter, then one per epoch),
    best_epoch (from 0), before and best (how many are correct, the sum of losses in 1/4096 nat).
    """

    state: str
    losses: list[int]
    times_us: list[int]
    samples: int
    updates: int
    pending: int
    resumes: int
    busy_us: int
    energy_uj: int
    checkpoint: int
    crc: int | None
    better: bool | None = None
    judged: int = 0
    best_epoch: int = 0
    before: Sequence[int] = (0, 0)
    best: Sequence[int] = (0, 0)
    resumed: bool = False
    notice: str = ""


@dataclass(frozen=True)
class RowsReply:
    """A person's own rows, judged by a board. doubt: that of the rows in use now; 0: they are no better.

    before, after: (correct samples, sum of losses in 1/4096 nat) of what was in use before and of the rows.
    """

    doubt: int
    before: tuple[int, int]
    after: tuple[int, int]


@dataclass(frozen=True)
class FleetState:
    """A board's place in its fleet: its index in roster number `roster`, with `boards` boards.

    fleet: id, hex; round: the last one that it joined.
    """

    index: int
    roster: int
    boards: int
    fleet: str
    round: int


@dataclass(frozen=True)
class FleetBudget:
    """A board's rounds in which an update was sent, their total cost (millionths of 1 / z^2, digits) and its
    policy from /fleet.json, or the safe default."""

    rounds: int
    spent: str
    policy: dict[str, int]


@dataclass(frozen=True)
class FleetWork:
    """A board's progress on a message. state: that of its training, "working" or "ready".

    samples, steps: of its training, done and in total; size, sha256: of the reply, when it is ready.
    """

    state: str
    samples: int
    steps: int
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class EvalReply:
    """predictions: uint8 [n]; logits: int8 [n, outputs] or None; elapsed_us: only inference, on the board's clock."""

    predictions: np.ndarray
    logits: np.ndarray | None
    elapsed_us: int


@dataclass(frozen=True)
class JudgeReply:
    """predictions: uint8 [n]; losses: int32 [n] in 1/4096 nat; elapsed_us: on the board's clock."""

    predictions: np.ndarray
    losses: np.ndarray
    elapsed_us: int


@dataclass(frozen=True)
class Decision:
    """A board's decision on a window. end: samples up to the window's end, counted from the first one sent.

    seen: its class; label: the vote's class, None for none yet; probability: of `seen`, None if outputs are values;
    outputs: int8 [outputs]. score: a monitor's, 1/1024; its classes are 0 and, in an alarm, 1. probabilities: if all
    were requested, instead of outputs: float64, of the base's classes, then of added ones, in rising order.
    """

    end: int
    seen: int
    label: int | None
    probability: float | None
    outputs: np.ndarray
    score: int = 0
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class WordsReply:
    """The state of a text on a board: see the device's `Words`.

    arena: bytes of both models; crc: of the adapter in use, None for the base alone. suggested: characters with their
    probabilities in 1/32768; completed: the rest of the word; us: what typing, or changing the person, took. losses:
    of windows learned meanwhile, 1/4096 nat, and times_us.
    """

    name: str
    busy: bool
    learned: int
    skipped: int
    judged: list[int] | None
    kept: int
    undone: int
    arena: int
    free: int
    crc: int | None
    taken: int = 0
    suggested: list[list[Any]] = field(default_factory=list)
    completed: str = ""
    us: int = 0
    losses: list[int] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class MonitorReply:
    """A monitor's stage, the windows that the stage still needs, and its threshold, 1/1024."""

    stage: str
    left: int
    threshold: int


@dataclass(frozen=True)
class ListenReply:
    """decisions, in order; elapsed_us: on the board's clock; clipped: values beyond the grid since the start."""

    decisions: list[Decision]
    elapsed_us: int
    clipped: int

    @staticmethod
    @understood
    def of(payload: bytes, outputs: int | None) -> ListenReply:
        """Parses an answer to LISTEN_DATA of a model with `outputs` outputs; None: it has probabilities instead."""
        elapsed_us, clipped = struct.unpack_from("<II", payload)
        return ListenReply(_decisions(payload, 8, outputs), elapsed_us, clipped)


def _decisions(payload: bytes, at: int, outputs: int | None) -> list[Decision]:
    decisions = []
    while at < len(payload):
        end, seen, label, chance, score = _DECISION.unpack_from(payload, at)
        at += _DECISION.size
        row, all_of_them = np.zeros(0, np.int8), None
        if outputs is None:
            (count,) = struct.unpack_from("<H", payload, at)
            all_of_them = np.frombuffer(payload, "<u2", count, at + 2) / 32768
            at += 2 + 2 * count
        else:
            row = np.frombuffer(payload, np.int8, outputs, at)
            at += outputs
        probability = None if chance == _NONE else chance / 32768
        decisions.append(Decision(end, seen, None if label == _NONE else label, probability, row, score, all_of_them))
    return decisions


@dataclass(frozen=True)
class WatchReply:
    """New samples of the board's source since the last reply, and its decisions.

    counts: int16 [n, channels]; lost: samples in total; decisions, elapsed_us, clipped: see ListenReply, empty if
    no model listens; down: indices of pressed buttons.
    """

    counts: np.ndarray
    lost: int
    decisions: list[Decision]
    elapsed_us: int
    clipped: int
    down: frozenset[int]

    @staticmethod
    @understood
    def of(payload: bytes, channels: int, outputs: int | None) -> WatchReply:
        """Parses an answer to WATCH. LinkError if it is truncated."""
        head = _WATCH.size
        lost, elapsed_us, clipped, samples, buttons = _WATCH.unpack_from(payload)
        counts = np.frombuffer(payload, "<i2", samples * channels, head).astype(np.int16)
        decisions = _decisions(payload, head + 2 * len(counts), outputs)
        down = frozenset(i for i in range(8) if buttons >> i & 1)
        return WatchReply(counts.reshape(-1, channels), lost, decisions, elapsed_us, clipped, down)


@dataclass(frozen=True)
class Timing:
    """The time of `n` runs of one operation on the board's clock."""

    n: int
    total_us: int
    min_us: int
    max_us: int

    @property
    def mean_us(self) -> float:
        return self.total_us / self.n


@dataclass(frozen=True)
class StoredAdapter:
    """An entry of the board's store. base_id: hex, zeros if not an adapter; trial: an update not confirmed yet."""

    name: str
    version: int
    size: int
    base_id: str
    pinned: bool
    trial: bool


@dataclass(frozen=True)
class StoreState:
    """The content of the board's store, and the active name, if any. free: bytes; place: its folder or description.

    notices: findings when opening the store, such as a change interrupted by a power failure.
    """

    adapters: list[StoredAdapter]
    active: str | None
    free: int
    place: str
    notices: list[str]


@dataclass(frozen=True)
class UpdateState:
    """A board's target and trusted keys (ids, hex): "" and none at first. active: an adapter's name or None.

    confirmed: names whose trial this request ended; notices: findings when opening the store. declined: names and
    versions of updates that were rejected, as worse on the board's own samples or not confirmed.
    """

    target: str
    keys: list[str]
    adapters: list[StoredAdapter]
    active: str | None
    confirmed: list[str]
    notices: list[str]
    declined: list[tuple[str, int]] = field(default_factory=list)
