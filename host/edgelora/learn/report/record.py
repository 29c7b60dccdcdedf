"""`report.json`: a run's record, and its strict typed reader."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from edgelora.base.errors import EdgeloraError, FileError
from edgelora.base.text import notebook_table, plain, printable
from edgelora.board.energy import EnergyRow
from edgelora.core.formats.files import read_bounded
from edgelora.core.twin.regions import Region

from .conclusion import Conclusion, conclude
from .measures import Accuracy, Error
from .statistics import Interval

_Record = TypeVar("_Record")
MAX_BYTES = 64 << 20  # of a report.json
MAX_TEXT = 10_000  # characters of a text
MAX_ITEMS = 1 << 20  # numbers in a list
MAX_PARTS = 4096  # texts, lists or objects in a list, keys of an object


class ReportError(EdgeloraError, ValueError):
    """A report or metrics file can't be read; the message names file, key and reason."""


@dataclass(frozen=True)
class Within:
    """The range of a number, ends included."""

    least: float
    most: float


_ANY_INT, _ANY_FLOAT = Within(-(1 << 53), 1 << 53), Within(-1e15, 1e15)
Count = Annotated[int, Within(0, 1 << 53)]
Few = Annotated[int, Within(0, 1 << 14)]
Share = Annotated[float, Within(0, 1)]
Amount = Annotated[float, Within(0, 1e15)]
Scalar = bool | int | float | str | None


@dataclass
class LayerRow:
    """One op: shapes [height, width, channels], number of int8 weights, adapter rank (0: none) and bytes."""

    op: Count
    kind: str
    input: list[Count]
    output: list[Count]
    weights: Count
    rank: Count
    adapter_bytes: Count


@dataclass
class Change:
    """The 95% confidence interval of error after minus error before, of the same samples: below 0 is better."""

    low: float
    high: float


@dataclass
class Sureness:
    """From which probability on answers count, see `training.confidence.Confidence`."""

    least: Count
    samples: Count
    answered: Count
    wrong: Count
    test_samples: Count
    test_answered: Count
    test_wrong: Count
    test_wrong_of_all: Count


@dataclass
class Report:
    """One personalization run; None stands for a value that was not measured.

    It has either accuracies, shares of 1, or mean squared errors of a network that learns values, in squared units of
    the data. `measure` is the present one.

    infer_us, train_step_us and swap_us are microseconds on the board: one inference, one training sample with its
    share of the update, a swap to an adapter in RAM; swap_flash_us a swap to one read from flash. learning_rate is
    that of the first update, in int8 steps / 8192; momentum a shift, 0 = none; rank the highest of any layer.
    losses are nats, or squared units of the data, one an update, the last ones if the run was resumed; epoch_losses and
    float_lora_losses one an epoch. Confusion matrices are counts, `[true][predicted]`.
    """

    board: str
    base_accuracy: Share | None
    adapted_accuracy: Share | None
    float_lora_accuracy: Share | None
    host_twin_identical: bool | None
    arena_bytes: Count
    adapter_bytes: Count
    infer_us: Amount | None
    train_step_us: Amount | None
    swap_us: Amount | None
    samples: Count
    epochs: Count
    rank: Count
    mode: str
    title: str = "Personalization"
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    subject: str = ""
    seed: Count = 0
    labels: list[str] = field(default_factory=list)
    test_samples: Count = 0
    tested_on: str = ""  # what these are
    tested_on_seen: Count = 0  # how many of them were used for training or choosing the epoch
    micro_batch: Annotated[int, Within(1, 1 << 32)] = 1
    momentum: Few = 0
    learning_rate: Count = 0
    steps: Count = 0  # updates
    base_id: str = ""  # hex
    model_bytes: Count = 0
    firmware: str = ""
    float_base_accuracy: Share | None = None
    losses: Sequence[float | None] = field(default_factory=list)
    epoch_losses: Sequence[float | None] = field(default_factory=list)
    float_lora_losses: Sequence[float | None] = field(default_factory=list)
    confusion_base: list[list[Count]] = field(default_factory=list)
    confusion_adapted: list[list[Count]] = field(default_factory=list)
    layers: list[LayerRow] = field(default_factory=list)
    memory: list[Region] = field(default_factory=list)
    memory_steps: Few = 0  # of one pass: ops forward, the loss, ops recomputed and backward
    swap_flash_us: Amount | None = None
    free_heap_bytes: Count | None = None  # left on the board beside the module, its agent, the model and the arena
    predicted_infer_us: Amount | None = None  # by `planning.predict`; None: the board's kernels were not measured
    predicted_train_step_us: Amount | None = None
    active_watts: Amount | None = None  # power while computing, for the energy estimate
    power_source: str = ""
    update_joules: Amount | None = None  # at the clock of the run
    energy: list[EnergyRow] = field(default_factory=list)  # at several clocks
    checkpoint_bytes: Count | None = None  # of a run controlled by the board
    link: dict[str, Scalar] | None = None
    notes: list[str] = field(default_factory=list)
    gained: Few | None = None  # test samples that became correct with the adapter,
    lost: Few | None = None  # and that became wrong
    activated: bool | None = None  # whether the adapter was activated
    judged: str = ""  # on held-out samples: see `early_stopping.Verdict`
    held_out: Count = 0  # validation samples, not trained on
    own_rows: bool = False  # the adapter has a person's own rows of the classes, and no trained layers
    best_epoch: Count | None = None  # counted from 1: chosen by validation
    final_epochs: Few = 0  # of the final adapter over all samples, held-out ones too; 0: there is none
    epoch_accuracies: list[Share] = field(default_factory=list)  # on the test samples, after each epoch, by the twin
    base_error: Amount | None = None
    adapted_error: Amount | None = None
    error_change: Change | None = None  # None: too few test samples
    epoch_errors: list[Amount] = field(default_factory=list)  # as epoch_accuracies
    base_path: str = ""  # on the board, of the base,
    adapter_path: str = ""  # and with the adapter
    clipped: Share | None = None  # share of the training samples' values beyond the base's input range
    saturated: Share | None = None  # share of the test samples with a saturated output
    confidence: Sureness | None = None  # of what is in use; None: nothing to choose it on
    store_name: str = ""  # in the board's store, of a run controlled by the board

    @property
    def measure(self) -> Accuracy | Error:
        """The run's metric. ReportError if the record has both kinds of figures, or none."""
        accuracies, errors = (self.base_accuracy, self.adapted_accuracy), (self.base_error, self.adapted_error)
        if self.base_accuracy is not None and self.adapted_accuracy is not None and errors == (None, None):
            counts = (self.test_samples, self.gained, self.lost)
            return Accuracy(self.base_accuracy, self.adapted_accuracy, self.epoch_accuracies, *counts)
        if self.base_error is not None and self.adapted_error is not None and accuracies == (None, None):
            change = self.error_change
            gap = Interval(change.low, change.high) if change else None
            return Error(self.base_error, self.adapted_error, self.epoch_errors, gap)
        raise ReportError("needs either base_accuracy and adapted_accuracy, or base_error and adapted_error")

    @property
    def verdict(self) -> str | None:
        """The verdict of the test samples alone: "better", "worse" or "no measurable difference".

        None if they were not compared pairwise.
        """
        return self.measure.verdict

    @property
    def conclusion(self) -> Conclusion:
        """The run's conclusion from the twin, held-out samples and test samples."""
        return conclude(self)

    def __repr__(self) -> str:
        return f"<Report {self.title}: {self.message}, {self.conclusion.short}>"

    @property
    def message(self) -> str:
        """Before and after, in short."""
        measure = self.measure
        return f"{measure.name} {measure.shown(measure.before)} -> {measure.shown(measure.after)}"

    def _repr_html_(self) -> str:
        measure = self.measure
        rows = [
            ("board", self.board),
            (f"{measure.name} before", _with_interval(measure, measure.before)),
            (f"{measure.name} after", _with_interval(measure, measure.after)),
            ("conclusion", self.conclusion.short),
            ("bytes of arena, adapter", f"{self.arena_bytes:,}, {self.adapter_bytes:,}"),
        ]
        return notebook_table(self.title, [(name, value) for name, value in rows if value])

    def to_json(self) -> str:
        """The content of `report.json`: one flat object."""
        return json.dumps(plain(asdict(self)), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "report.json") -> Report:
        """Reads `to_json`'s text. Ignores unknown keys; ReportError names a missing or invalid one."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ReportError(f"{where} is not JSON ({error}): it is truncated or another file") from None
        report = read_record(cls, data, where)
        for name in ("confusion_base", "confusion_adapted"):
            counts = getattr(report, name)
            if any(len(row) != len(counts) for row in counts):
                raise ReportError(f"{where}, {name}: each of its {len(counts)} rows needs that many numbers")
        try:
            measure = report.measure
        except ReportError as error:
            raise ReportError(f"{where}: {error}") from None
        if isinstance(measure, Error) and (odd := _of_classes(report)):
            raise ReportError(f"{where}, {odd}: a run with errors has no such figures")
        if report.error_change and report.error_change.low > report.error_change.high:
            raise ReportError(f"{where}, error_change: its low end is above the high one")
        return report


def read_report(path: Path) -> Report:
    """The record in a file. Raises ReportError or an OSError."""
    if not path.exists():
        raise FileError(f"{path} does not exist: a run writes it at its end; `edgelora watch` shows a running one")
    return Report.from_json(read_bounded(path, MAX_BYTES), str(path))


_OF_CLASSES = (
    "float_base_accuracy",
    "float_lora_accuracy",
    "float_lora_losses",
    "confusion_base",
    "confusion_adapted",
    "gained",
    "lost",
    "epoch_accuracies",
)


def _of_classes(report: Report) -> str:
    """A table row that only runs with accuracies have."""
    return next((name for name in _OF_CLASSES if getattr(report, name) not in (None, [])), "")


def _with_interval(measure: Accuracy | Error, value: float) -> str:
    within, shown = measure.interval(value), measure.shown
    return shown(value) + (f" (95% interval {shown(within.low)} to {shown(within.high)})" if within else "")


# --- The typed reader ---


def read_record(kind: type[_Record], data: object, where: str) -> _Record:
    """Reads a JSON object as a dataclass, with each field of its declared type. Ignores unknown keys.

    Raises ReportError; `where` begins its message. Numbers must be finite and in range, texts and lists bounded.
    """
    if not isinstance(data, dict):
        raise ReportError(f"{where}: an object was expected, not {_shown(data)}")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    needed = [name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in data]
    if missing:
        raise ReportError(f"{where}: {', '.join(missing)} missing: not a report of one run, or one of another version")
    types = _types(cast(Hashable, kind))
    return kind(**{name: _read(types[name], data[name], f"{where}, {name}") for name in known if name in data})


@cache
def _types(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields, cached as resolving them is slow."""
    return get_type_hints(kind, include_extras=True)


def _read(kind: Any, value: object, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _number(inner[0], value, inner[1], where)
    if origin is UnionType or type(None) in inner:
        return _one_of(inner, value, where)
    if origin in (list, Sequence):
        most = MAX_ITEMS if _is_number(inner[0]) else MAX_PARTS
        items = _checked(list, value, f"a list of at most {most}", where, most)
        return [_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(items)]
    if origin is dict:
        pairs = _checked(dict, value, f"an object of at most {MAX_PARTS} keys", where, MAX_PARTS)
        return {_text(key, where): _read(inner[1], item, f"{where}, {printable(key)}") for key, item in pairs.items()}
    if is_dataclass(kind):
        return read_record(kind, value, where)  # type: ignore[arg-type]
    if kind is str:
        return _text(value, where)
    if kind is bool:
        return _checked(bool, value, "true or false", where)
    return _number(kind, value, _ANY_INT if kind is int else _ANY_FLOAT, where)


def _one_of(kinds: Sequence[Any], value: object, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    refusal = ReportError(f"{where}: {_shown(value)} is invalid")
    for kind in kinds:
        if kind is not type(None):
            try:
                return _read(kind, value, where)
            except ReportError as error:
                refusal = error
    raise refusal


def _number(kind: type, value: object, within: Within, where: str) -> Any:
    wanted = int if kind is int else (int, float)
    number = _checked(wanted, value, "a whole number" if kind is int else "a number", where)
    if isinstance(number, bool) or not within.least <= number <= within.most:
        raise ReportError(f"{where}: {_shown(value)} is not within {within.least:g} and {within.most:g}")
    return kind(number)


def _text(value: object, where: str) -> str:
    text: str = _checked(str, value, f"text of at most {MAX_TEXT} characters", where, MAX_TEXT)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ReportError(f"{where}: {_shown(value)} has a lone surrogate, which isn't valid text") from None
    return text


def _checked(kind: Any, value: Any, expected: str, where: str, most: float = math.inf) -> Any:
    if not isinstance(value, kind) or (most < math.inf and len(value) > most):
        raise ReportError(f"{where}: {expected} was expected, not {_shown(value)}")
    return value


def _is_number(kind: Any) -> bool:
    return bool({kind, *get_args(kind)} & {int, float})


def _shown(value: object) -> str:
    """A value of JSON in a message."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:36]}..."
