"""What the board's replies say."""

from __future__ import annotations

import functools
import inspect
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import ParamSpec, TypeVar

import numpy as np

from edgelora.base.errors import EdgeloraError
from edgelora.base.text import printable

from .protocol import LEAST_PAYLOAD, LINK_VERSION, MAX_PAYLOAD

_DECISION = struct.Struct("<I4H")  # end, class seen, class of the vote, probability, score; outputs follow
_WATCH = struct.Struct("<3IHBx")  # samples lost, microseconds, clipped, samples, buttons; samples, decisions follow
_NONE = 65535  # no class, no probability
_P = ParamSpec("_P")
_R = TypeVar("_R")
_Kind = TypeVar("_Kind", bound=type)
# What an answer raises that is not what it should be: no JSON, other fields or kinds of them, too few bytes.
_ODD = (struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)


class LinkError(EdgeloraError, RuntimeError):
    """The board cannot be reached, or lost what the host relied on."""


class DeviceError(EdgeloraError, RuntimeError):
    """The board refused a request; the message is the board's own. `kind` names its exception type."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(printable(message))
        self.kind = printable(kind)


def understood(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Makes whatever an odd answer of a board raises in a function a LinkError."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except EdgeloraError:
            raise
        except _ODD as error:
            said = printable(f"{type(error).__name__}: {error}")
            raise LinkError(
                f"the board's answer makes no sense ({function.__name__}: {said})",
                remedy="reset the board, and install or flash EdgeLoRA anew if this comes again",
            ) from error

    return call


def all_understood(kind: _Kind) -> _Kind:
    """`understood`, for all methods of a class but generators."""
    for name, function in list(vars(kind).items()):
        if inspect.isfunction(function) and not inspect.isgeneratorfunction(function):
            setattr(kind, name, understood(function))
    return kind


@dataclass(frozen=True)
class Hello:
    """Who answers. `edgelora`: module version, None without the module; `free`: heap bytes; `trained`: samples.

    builtin: the firmware has EdgeLoRA's native part in it, so that no native module is needed.
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
        """What an agent's answer says. LinkError for an agent of another version."""
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
                f"the board's agent is of another version ({error}): reset the board, install again"
            ) from None
        if not LEAST_PAYLOAD <= hello.max_payload <= MAX_PAYLOAD:
            raise LinkError(f"the board takes requests of {hello.max_payload!r} bytes: reset it, and try again")
        return hello


@dataclass(frozen=True)
class FileStat:
    """Bytes that the board has, as they read back, and their SHA-256 in hex."""

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
    """An opened model. `arena`: bytes it took; `free`: heap bytes left."""

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
    """Where a run is that the board does by itself. losses, times_us: of the samples learned since it was last asked.

    state: "training", "paused" (its budget is used up), "low battery" or "done"; samples, updates: learned; pending:
    samples since the last update; busy_us, energy_uj: of the whole run, over all resumes; checkpoint: bytes of it;
    crc: of the adapter that the run left in the store at the end; notice: what was lost, if something was. Where
    samples were held out: better (at the end), judged (one judgement of what was in use before, then one an epoch),
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
class FleetState:
    """A board's place in its fleet: its index in roster number `roster`, which has so many boards.

    fleet: id, hex; round: the last one that it took part in.
    """

    index: int
    roster: int
    boards: int
    fleet: str
    round: int


@dataclass(frozen=True)
class FleetBudget:
    """Rounds in a board's life that an update left in, what they have cost (millionths of 1 / z^2, digits) and its
    policy, as /fleet.json has it or where there is none the safe one."""

    rounds: int
    spent: str
    policy: dict[str, int]


@dataclass(frozen=True)
class FleetWork:
    """How far a board is with a message. state: that of its training, "working" or "ready".

    samples, steps: of its training, learned and in all; size, sha256: of the reply, when it is ready.
    """

    state: str
    samples: int
    steps: int
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class EvalReply:
    """predictions: uint8 [n]; logits: int8 [n, outputs] or None; elapsed_us: inference alone, on the board's clock."""

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
    """What a board says of a window of samples. end: samples up to the window's end, from the first that was sent.

    seen: its class; label: that of the vote, None for none yet; probability: of `seen`, None where outputs are values;
    outputs: int8 [outputs]. score: a monitor's, 1/1024; its classes are 0 and, in an alarm, 1. probabilities: where all
    were asked for, and then no outputs: float64, of the base's classes, then of those added, by rising numbers.
    """

    end: int
    seen: int
    label: int | None
    probability: float | None
    outputs: np.ndarray
    score: int = 0
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class MonitorReply:
    """Of a board's monitor: its stage, the windows that this still takes, and its threshold, 1/1024."""

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
        """What an answer to LISTEN_DATA says, of a model with so many outputs; None: probabilities are told instead."""
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
    """What the board's own source has measured since the last one, and what the board says of it.

    counts: int16 [n, channels]; lost: samples in all; decisions, elapsed_us, clipped: see ListenReply, none where
    nothing listens; down: which of the buttons are pressed, by their places.
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
        """What an answer to WATCH says. LinkError for one that holds less than it says."""
        head = _WATCH.size
        lost, elapsed_us, clipped, samples, buttons = _WATCH.unpack_from(payload)
        counts = np.frombuffer(payload, "<i2", samples * channels, head).astype(np.int16)
        decisions = _decisions(payload, head + 2 * len(counts), outputs)
        down = frozenset(i for i in range(8) if buttons >> i & 1)
        return WatchReply(counts.reshape(-1, channels), lost, decisions, elapsed_us, clipped, down)


@dataclass(frozen=True)
class Timing:
    """What `n` runs of one operation took on the board's clock."""

    n: int
    total_us: int
    min_us: int
    max_us: int

    @property
    def mean_us(self) -> float:
        return self.total_us / self.n


@dataclass(frozen=True)
class StoredAdapter:
    """One in the board's store. base_id: hex, zeros for what is no adapter; trial: an update not confirmed yet."""

    name: str
    version: int
    size: int
    base_id: str
    pinned: bool
    trial: bool


@dataclass(frozen=True)
class StoreState:
    """What the board's store holds, and its name that is active, if any. free: bytes; place: a folder, or what it says.

    notices: what opening the store found, a change that a power failure cut off.
    """

    adapters: list[StoredAdapter]
    active: str | None
    free: int
    place: str
    notices: list[str]


@dataclass(frozen=True)
class UpdateState:
    """What the board is, and trusts (ids of keys, hex): "" and none at first. active: an adapter's name or None.

    confirmed: names that were on trial until this request; notices: what opening the store found. declined: names and
    versions of updates that were here and did not stay, being worse on the board's own samples or not confirmed.
    """

    target: str
    keys: list[str]
    adapters: list[StoredAdapter]
    active: str | None
    confirmed: list[str]
    notices: list[str]
    declined: list[tuple[str, int]] = field(default_factory=list)
