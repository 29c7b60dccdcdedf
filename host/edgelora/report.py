"""What is left of a personalization run: `metrics.jsonl` while it goes on, then `report.json` and `report.html`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from . import page
from .console import plain
from .formats import write_atomic
from .twin import HISTORY, Region

_Record = TypeVar("_Record")


class ReportError(ValueError):
    """A report or metrics file that cannot be read; the message says why."""


# --- The record ---


@dataclass
class LayerRow:
    """One op: shapes [height, width, channels], count of int8 weights, adapter rank (0: none) and bytes of it."""

    op: int
    kind: str
    input: list[int]
    output: list[int]
    weights: int
    rank: int
    adapter_bytes: int


@dataclass(frozen=True)
class EnergyRow:
    """At one clock: microseconds of a training sample, updates included, and of an inference, watts, joules of both."""

    clock_mhz: float
    step_us: float
    infer_us: float
    watts: float
    update_joules: float
    infer_joules: float


@dataclass
class Report:
    """One personalization run. Accuracies are shares of 1; None stands for what was not measured.

    infer_us, train_step_us and swap_us are microseconds on the board: one inference, one training sample with its
    share of the update, a swap to an adapter in RAM; swap_flash_us a swap to one read from flash. learning_rate is
    that of the first update, in int8 steps / 8192; momentum a shift, 0 = none; rank the highest of any layer.
    losses are nats, one an update, the last ones if the run was resumed; epoch_losses and float_lora_losses one an
    epoch. Confusion matrices count [true][predicted].
    """

    board: str
    base_accuracy: float
    adapted_accuracy: float
    float_lora_accuracy: float | None
    host_twin_identical: bool | None
    arena_bytes: int
    adapter_bytes: int
    infer_us: float | None
    train_step_us: float | None
    swap_us: float | None
    samples: int
    epochs: int
    rank: int
    mode: str
    title: str = "Personalization"
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    subject: str = ""
    seed: int = 0
    labels: list[str] = field(default_factory=list)
    test_samples: int = 0
    tested_on: str = ""  # what these are
    micro_batch: int = 1
    momentum: int = 0
    learning_rate: int = 0
    steps: int = 0  # updates
    base_id: str = ""  # hex
    model_bytes: int = 0
    firmware: str = ""
    float_base_accuracy: float | None = None
    losses: list[float] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    float_lora_losses: list[float] = field(default_factory=list)
    confusion_base: list[list[int]] = field(default_factory=list)
    confusion_adapted: list[list[int]] = field(default_factory=list)
    layers: list[LayerRow] = field(default_factory=list)
    memory: list[Region] = field(default_factory=list)
    memory_steps: int = 0  # of one pass: each op forward, the loss, each op backward
    swap_flash_us: float | None = None
    free_heap_bytes: int | None = None  # left on the board beside the module, its agent, the model and the arena
    predicted_infer_us: float | None = None  # by `edgelora.cost`; None: the board's kernels were not measured
    predicted_train_step_us: float | None = None
    active_watts: float | None = None  # of the board while it computes, for the energy estimate
    power_source: str = ""
    update_joules: float | None = None  # at the clock of the run
    energy: list[EnergyRow] = field(default_factory=list)  # at several clocks
    checkpoint_bytes: int | None = None  # of a run that the board did by itself
    link: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """The text of `report.json`: one flat object."""
        return json.dumps(plain(asdict(self)), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Reads `to_json`'s text. Unknown keys are left out; ReportError names what is missing."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ReportError(f"report.json is not JSON ({error}): it was cut off or is another file") from None
        report = _record(cls, data, "report.json")
        report.layers = [_record(LayerRow, row, f"report.json, layers[{i}]") for i, row in enumerate(report.layers)]
        report.energy = [_record(EnergyRow, row, f"report.json, energy[{i}]") for i, row in enumerate(report.energy)]
        report.memory = [_record(Region, row, f"report.json, memory[{i}]") for i, row in enumerate(report.memory)]
        return report


def _record(kind: Callable[..., _Record], data: object, where: str) -> _Record:
    if not isinstance(data, dict):
        raise ReportError(f"{where}: an object was expected, not {type(data).__name__}")
    known = fields(kind)  # type: ignore[arg-type]
    needed = [f.name for f in known if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in data]
    if missing:
        raise ReportError(f"{where}: {', '.join(missing)} missing: not a report of one run, or one of another version")
    return kind(**{f.name: data[f.name] for f in known if f.name in data})


# --- Metrics ---


class Metrics:
    """Appends to a `metrics.jsonl`: one JSON object a line, on its way to the disk before the call returns.

    A half-written last line of a killed run is cut off first, so that the file goes on with whole lines; `fresh`: all
    that is there.
    """

    def __init__(self, path: Path, fresh: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        if fresh:
            self._file.truncate(0)
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps(plain({"event": event, **values}), ensure_ascii=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def update(
        self,
        step: int,
        epoch: int,
        loss: float,
        learning_rate: int,
        samples: int,
        us: float | None,
        joules: float | None = None,
    ) -> None:
        """One update: its number and epoch, mean loss in nats, samples in it, the board's microseconds and joules."""
        values = {"loss": loss, "learning_rate": learning_rate, "samples": samples, "us": us, "joules": joules}
        self.write("update", step=step, epoch=epoch, **values)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl`; a half-written last one is left out. ReportError names a damaged line."""
    lines = path.read_bytes().split(b"\n")[:-1]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ReportError(f"{path}, line {number}: not a JSON object")
        records.append(record)
    return records


def _names(report: Report) -> list[str]:
    count = max(len(report.confusion_base), len(report.confusion_adapted))
    return [*report.labels, *(f"class {i}" for i in range(len(report.labels), count))]


# --- Headline ---


def _headline(report: Report) -> str:
    about = [report.subject, report.board, page.date(report.created)]
    under = " · ".join(escape(part) for part in about if part)
    numbers = [
        ("before", page.percent(report.base_accuracy), "INT8 base network"),
        ("after", page.percent(report.adapted_accuracy), "personalized on the board"),
    ]
    if report.float_lora_accuracy is not None:
        numbers.append(("float", page.percent(report.float_lora_accuracy), "float LoRA, for comparison"))
    figures = "".join(f'<div class="{kind}"><dt>{text}</dt><dd>{value}</dd></div>' for kind, value, text in numbers)
    return (
        f'<header>\n<p class="eyebrow">EdgeLoRA · personalization report</p>\n<h1>{escape(report.title)}</h1>\n'
        f'<p class="under">{under}</p>\n<dl class="numbers">{figures}</dl>\n{_badge(report.host_twin_identical)}\n'
        f"{_summary(report)}\n</header>"
    )


def _badge(identical: bool | None) -> str:
    if identical is None:
        return '<p class="badge">Host twin identical: not checked</p>'
    word, meaning = (
        ("yes", "The board's adapter equals the host's, byte for byte.")
        if identical
        else ("no", "The board's adapter differs from the one the host computed: do not rely on these results.")
    )
    return f'<p class="badge {word}"><strong>Host twin identical: {word}</strong> <span>{meaning}</span></p>'


def _summary(report: Report) -> str:
    board = escape(report.board)
    right = f" ({_right(report, report.base_accuracy)} right)" if report.test_samples else ""
    parts = [
        f"The base network scored {page.percent(report.base_accuracy)}{right}.",
        f"After {page.count(report.epochs, 'epoch')} over {page.count(report.samples, 'training sample')} on {board} "
        f"it scored {page.percent(report.adapted_accuracy)}: {_difference(report)}.",
    ]
    if report.float_lora_accuracy is not None:
        gap = 100 * (report.adapted_accuracy - report.float_lora_accuracy)
        place = "the same as" if abs(gap) < 0.05 else f"{abs(gap):.1f} points {'above' if gap > 0 else 'below'}"
        parts.append(f"That is {place} LoRA in floating point.")
    if report.tested_on:
        parts.append(f"Tested on {escape(report.tested_on)}.")
    cost = f"Learning took {page.size(report.arena_bytes)} of RAM"
    if report.train_step_us is not None:
        cost += f" and {page.time(report.train_step_us)} a sample"
    parts.append(f"{cost}; what was learned is an adapter of {page.size(report.adapter_bytes)}.")
    return f'<p class="summary">{" ".join(parts)}</p>'


def _right(report: Report, accuracy: float) -> str:
    return f"{round(accuracy * report.test_samples):,} of {page.count(report.test_samples, 'test sample')}"


def _difference(report: Report) -> str:
    points = 100 * (report.adapted_accuracy - report.base_accuracy)
    if abs(points) < 0.05:
        return "no change"
    if points < 0:
        return f"{-points:.1f} points worse"
    fewer = 100 * (1 - (1 - report.adapted_accuracy) / (1 - report.base_accuracy))
    return f"{points:.1f} points better, {fewer:.0f}% fewer errors"


# --- Loss curve ---


_LOSS = (800, 324, 52, 12, 30, 44)  # width, height; margins left, right, top, bottom
_MOST_POINTS = 1500


def _loss_section(report: Report) -> str:
    if not _finite([*enumerate(report.losses), *enumerate(report.epoch_losses)]):
        return ""
    lines = [
        ("update", report.losses, "one update"),
        ("epoch", report.epoch_losses, "mean of an epoch, on the board"),
        ("float", report.float_lora_losses, "mean of an epoch, float LoRA"),
    ]
    legend = [(_stroke(kind), meaning) for kind, losses, meaning in lines if losses]
    caption = "Softmax cross-entropy in nats; updates number the micro-batches."
    label = "Training loss over updates"
    epochs = _finite([*enumerate(report.epoch_losses, 1)])
    if len(epochs) > 1:
        (first, start), (last, end) = epochs[0], epochs[-1]
        label = f"Training loss, from {start:.3f} in epoch {first} to {end:.3f} in epoch {last}"
        caption = f"{label}. {caption}"
    return page.section("Loss", page.figure(_loss_chart(report, label), label, caption, legend))


def _stroke(kind: str) -> str:
    return f'<svg class="key" viewBox="0 0 22 10" aria-hidden="true">{page.line(1, 5, 21, 5, f"loss-{kind}")}</svg>'


def _loss_chart(report: Report, label: str) -> str:
    width, height, left, right, top, bottom = _LOSS
    steps = report.steps or len(report.losses) or report.epochs
    per_epoch = steps / max(1, report.epochs)
    first, first_epoch = steps - len(report.losses), report.epochs - len(report.epoch_losses)
    updates = _thinned(_finite([(first + i + 0.5, loss) for i, loss in enumerate(report.losses)]))
    epochs = _finite([((first_epoch + i + 0.5) * per_epoch, loss) for i, loss in enumerate(report.epoch_losses)])
    floats = _finite([((i + 0.5) * per_epoch, loss) for i, loss in enumerate(report.float_lora_losses)])
    ticks = page.ticks(max(loss for _, loss in [*updates, *epochs, *floats]), 5)

    def x(step: float) -> float:
        return left + (width - left - right) * step / steps

    def y(loss: float) -> float:
        return height - bottom - (height - top - bottom) * loss / ticks[-1]

    parts = [page.line(left, y(tick), width - right, y(tick), "grid" if tick else "axis") for tick in ticks]
    parts += [page.text(left - 8, y(tick) + 4, f"{tick:g}", "tick", "end") for tick in ticks]
    parts.append(
        f'<text transform="translate(13 {(top + height - bottom) / 2:.0f}) rotate(-90)" text-anchor="middle" '
        'class="axis-name">loss (nats)</text>'
    )
    parts += _update_axis(steps, report.epochs, x)
    for points, kind in ((updates, "update"), (floats, "float"), (epochs, "epoch")):
        path = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in points)
        parts.append(f'<polyline points="{path}" class="loss-{kind}"></polyline>' if path else "")
        if kind != "update" and len(points) <= 60:
            parts += [page.dot(x(step), y(loss), kind, f"{loss:.3f} nats") for step, loss in points]
    return page.svg(width, height, label, parts)


def _update_axis(steps: int, epochs: int, x: Callable[[float], float]) -> list[str]:
    """Numbers of updates below the chart, those of epochs above it, and borders between epochs."""
    width, height, left, right, top, bottom = _LOSS
    whole = [tick for tick in page.ticks(steps, 8) if tick <= steps and tick == int(tick)]
    parts = [page.text(x(tick), height - bottom + 18, f"{tick:,.0f}", "tick") for tick in whole]
    parts.append(page.text((left + width - right) / 2, height - 6, "update", "axis-name"))
    parts.append(page.text(left - 8, top - 12, "epoch", "axis-name", "end"))
    for epoch in range(0, epochs, max(1, math.ceil(epochs / 16))):
        parts.append(page.text(x((epoch + 0.5) * steps / epochs), top - 12, str(epoch + 1), "tick"))
    borders = [x(epoch * steps / epochs) for epoch in range(1, epochs)] if epochs <= 60 else []
    return parts + [page.line(at, top, at, height - bottom, "epoch-border") for at in borders]


def _finite(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None and math.isfinite(y)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most _MOST_POINTS points, each the mean of a few neighbours."""
    few = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[at : at + few] for at in range(0, len(points), few)] if few else []
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


# --- Confusion matrices ---


def _confusion_section(report: Report) -> str:
    names = [escape(name) for name in _names(report)]
    pairs = (
        (f"Before: base network, {page.percent(report.base_accuracy)}", report.confusion_base),
        (f"After: personalized, {page.percent(report.adapted_accuracy)}", report.confusion_adapted),
    )
    tables = "".join(_confusion_table(counts, names, title) for title, counts in pairs if counts)
    note = (
        '<p class="note">A row is a true class, a column what the network said. Shading is the share of the row: '
        '<span class="keep"><span class="swatch hit"></span> right</span>, '
        '<span class="keep"><span class="swatch miss"></span> confused</span>.</p>'
    )
    size = "" if len(names) <= 8 else " many"
    return page.section("Confusion", f'<div class="matrices{size}">{tables}</div>{note}') if tables else ""


def _confusion_table(counts: list[list[int]], names: list[str], title: str) -> str:
    columns = zip(names, counts, strict=False)
    head = "".join(f'<th scope="col" class="upright"><span>{name}</span></th>' for name, _ in columns)
    rows = []
    for i, row in enumerate(counts):
        total = sum(row)
        cells = "".join(_confusion_cell(count, total, i == j) for j, count in enumerate(row))
        recall = page.percent(row[i] / total) if total else "–"
        rows.append(f'<tr><th scope="row"><span>{names[i]}</span></th>{cells}<td class="recall">{recall}</td></tr>')
    head += '<th scope="col" class="upright recall"><span>recall</span></th>'
    table = (
        f'<table class="confusion"><caption>{title}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return page.wide(table, title)


def _confusion_cell(count: int, total: int, right: bool) -> str:
    if not count:
        return '<td class="none">0</td>'
    alpha = 0.08 + 0.6 * count / total
    return f'<td style="background:rgb(var(--{"hit" if right else "miss"}) / {alpha:.2f})">{count}</td>'


# --- Memory map ---


@dataclass(frozen=True)
class _Kind:
    """A category of arena regions: the planner's names for them, and what they hold."""

    key: str
    title: str
    meaning: str
    names: tuple[str, ...]


_KINDS = (
    _Kind("session", "session", "layer tables, constants, counters", ("session",)),
    _Kind("activation", "activations", "outputs of the layers", ("output", "output again", *HISTORY)),
    _Kind("kept", "kept for backward", "the adapters' inner vectors t, activation masks", ("t", "mask")),
    _Kind("error", "error vectors", "what the backward pass hands from layer to layer", ("error", "work")),
    _Kind("weight", "adapter weights", "A and B as the kernels read them, int8", ("A weight", "B weight")),
    _Kind("master", "master weights", "the same at full resolution, int16", ("A master", "B master")),
    _Kind("gradient", "gradients", "sums over a micro-batch, int32", ("A gradient", "B gradient")),
    _Kind("momentum", "momentum", "running mean of the gradients, int16", ("A momentum", "B momentum")),
    _Kind("other", "other", "", ()),
)
_MAP = (800, 380, 60, 8, 26, 44)  # width, height; margins left, right, top, bottom


def _kind(region: Region) -> _Kind:
    return next((kind for kind in _KINDS if region.name in kind.names), _KINDS[-1])


def _memory_section(report: Report) -> str:
    if not report.memory or report.memory_steps < 1:
        return ""
    used = [kind for kind in _KINDS if any(_kind(region) is kind for region in report.memory)]
    legend = [(f'<span class="swatch fill-{kind.key}"></span>', kind.title) for kind in used]
    label = f"Memory map of the arena, {page.size(report.arena_bytes)}, over the steps of one training pass"
    caption = (
        f"The whole arena, {page.size(report.arena_bytes)} ({page.count(report.arena_bytes, 'byte')}), while one sample"
        " trains. A block, named by what it holds and its layer, spans the steps it is needed for; blocks never needed "
        "together share addresses."
    )
    return page.section(
        "Memory", page.figure(_memory_map(report, label), label, caption, legend), _memory_table(report, used)
    )


def _memory_table(report: Report, used: list[_Kind]) -> str:
    busy = [sum(_live(report, step, kind) for kind in used) for step in range(report.memory_steps)]
    rows = []
    for kind in used:
        most = max(_live(report, step, kind) for step in range(report.memory_steps))
        share = f"{100 * most / report.arena_bytes:.0f}%" if report.arena_bytes else "–"
        rows.append([kind.title, kind.meaning, f"{most:,}", share])
    most_share = f"{100 * max(busy) / report.arena_bytes:.0f}%" if report.arena_bytes else "–"
    rows.append(["all at once, at most", "", f"{max(busy):,}", most_share])
    return page.table(["Kind", "Holds", "Bytes at its peak", "Of the arena"], rows, "Bytes by kind", "total")


def _live(report: Report, step: int, kind: _Kind) -> int:
    return sum(r.size for r in report.memory if r.birth <= step <= r.death and _kind(r) is kind)


def _memory_map(report: Report, label: str) -> str:
    width, height, left, right, top, bottom = _MAP
    steps, ops = report.memory_steps, report.memory_steps // 2
    arena = max([report.arena_bytes, *(region.offset + region.size for region in report.memory)])
    column = (width - left - right) / steps

    def y(offset: float) -> float:
        return height - bottom - (height - top - bottom) * offset / arena

    parts = [page.line(left - 4, y(tick), width - right, y(tick), "grid") for tick in _byte_ticks(arena)]
    unit, name = (1024, "KB") if arena >= 2048 else (1, "B")
    parts += [page.text(left - 8, y(at) + 4, f"{at / unit:g} {name}", "tick", "end") for at in _byte_ticks(arena)]
    for region in report.memory:
        last = min(region.death, steps - 1)
        box = (left + column * region.birth, y(region.offset + region.size), column * (last + 1 - region.birth))
        parts.append(_block(report, region, box, y(region.offset) - y(region.offset + region.size)))
    for start, end, name in ((0, ops, "forward"), (ops, ops + 1, "loss"), (ops + 1, steps, "backward")):
        if column * (end - start) >= 24:
            parts.append(page.text(left + column * (start + end) / 2, top - 10, name, "axis-name"))
        if start:
            parts.append(page.line(left + column * start, top - 6, left + column * start, height - bottom + 6, "phase"))
    every = math.ceil(22 / column)
    for op in range(0, ops, every):
        for step in (op, steps - 1 - op):
            parts.append(page.text(left + column * (step + 0.5), height - bottom + 18, str(op), "tick"))
    parts.append(page.text((left + width - right) / 2, height - 6, "layer at work", "axis-name"))
    return page.svg(width, height, label, parts)


def _block(report: Report, region: Region, box: tuple[float, float, float], height: float) -> str:
    """A region's rectangle at `box` (left, top, width), with a tooltip, and a label where there is room."""
    x, y, width = box
    kinds = {row.op: row.kind for row in report.layers}
    owner = f"layer {region.op} {kinds.get(region.op, '')}".strip() + ", " if region.op >= 0 else ""
    end = report.memory_steps - 1
    always = region.birth == 0 and region.death >= end
    when = "the whole pass" if always else f"steps {region.birth} to {min(region.death, end)}"
    tip = escape(f"{owner}{region.name}: {region.size:,} bytes at {region.offset:,}, {when}")
    edge = " edged" if height >= 3 and width >= 3 else ""
    block = (
        f'<rect x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{max(height, 0.4):.2f}" '
        f'class="fill-{_kind(region).key}{edge}"><title>{tip}</title></rect>'
    )
    name = f"{region.name} {region.op}" if region.op >= 0 else region.name
    fits = height >= 13 and width >= 7 * len(name) + 8
    return block + (page.text(x + 5, y + height / 2 + 4, escape(name), "block", "start") if fits else "")


def _byte_ticks(top: int) -> list[int]:
    step = 1 << max(0, math.ceil(math.log2(max(1, top) / 6)))
    return list(range(0, top + 1, step))


# --- Tables ---


def _cost_section(report: Report) -> str:
    tables = _time_table(report) + _size_table(report)
    source = f" ({escape(report.power_source)})" if report.power_source else ""
    note = ""
    if report.active_watts is not None:
        usual = f"{1000 * report.active_watts:.1f} mW at the usual clock"
        note = f'<p class="note">Energy is estimated: time multiplied by power, {usual}{source}.</p>'
    return page.section("Time and size", f'<div class="side">{tables}</div>', _energy_table(report) + note)


def _energy_table(report: Report) -> str:
    if not report.energy:
        return ""
    cheapest = min(report.energy, key=lambda row: row.update_joules)
    rows = [
        [
            f"{row.clock_mhz:g} MHz" + (", cheapest" if row is cheapest else ""),
            page.time(row.step_us),
            f"{1000 * row.watts:.1f} mW",
            page.energy(1e6 * row.update_joules),
            page.energy(1e6 * row.infer_joules),
        ]
        for row in report.energy
    ]
    head = ["Clock", "Training, one sample", "Power", f"Energy of an update of {report.micro_batch}", "Of an inference"]
    return page.table(head, rows, "Energy by clock")


def _time_table(report: Report) -> str:
    def of_update(us: float | None) -> float | None:
        return None if us is None else us * report.micro_batch

    def by_watts(us: float | None) -> float | None:
        return None if us is None or report.active_watts is None else us * report.active_watts

    step, predicted = report.train_step_us, report.predicted_train_step_us
    update_uj = None if report.update_joules is None else 1e6 * report.update_joules
    step_uj = None if update_uj is None else update_uj / report.micro_batch
    times = [
        ("Inference", report.infer_us, report.predicted_infer_us, by_watts(report.infer_us)),
        ("Training, one sample", step, predicted, step_uj),
        (f"Training, one update of {report.micro_batch}", of_update(step), of_update(predicted), update_uj),
        ("Swap to an adapter in RAM", report.swap_us, None, by_watts(report.swap_us)),
        ("Swap to an adapter in flash", report.swap_flash_us, None, by_watts(report.swap_flash_us)),
    ]
    measured = [(name, page.time(us), expected, energy) for name, us, expected, energy in times if us is not None]
    if not measured:
        return ""
    head, columns = ["", "Time"], [[row[0] for row in measured], [row[1] for row in measured]]
    if any(expected is not None for _, _, expected, _ in measured):
        head.append("Predicted")
        columns.append([page.time(expected) for _, _, expected, _ in measured])
    if any(energy is not None for *_, energy in measured):
        head.append("Energy")
        columns.append(["" if energy is None else page.energy(energy) for *_, energy in measured])
    return page.table(head, zip(*columns, strict=True), "On the board")


def _size_table(report: Report) -> str:
    sizes = [
        ("Arena (RAM)", report.arena_bytes),
        ("MicroPython heap left", report.free_heap_bytes),
        ("Adapter file", report.adapter_bytes),
        ("Base network file", report.model_bytes),
        ("Checkpoint, beside the training state", report.checkpoint_bytes),
    ]
    rows = [[name, page.size(size), f"{size:,}"] for name, size in sizes if size]
    return page.table(["", "Size", "Bytes"], rows, "In memory and on disk")


def _layers_section(report: Report) -> str:
    if not report.layers:
        return ""
    rows = [
        [
            escape(f"{row.op} {row.kind}".replace("_", " ").replace(" ", "\u00a0")),
            page.shape(row.input),
            page.shape(row.output),
            f"{row.weights:,}" if row.weights else "–",
            str(row.rank) if row.rank else "–",
            f"{row.adapter_bytes:,}" if row.rank else "–",
        ]
        for row in report.layers
    ]
    weights, adapters = (sum(getattr(row, name) for row in report.layers) for name in ("weights", "adapter_bytes"))
    rows.append(["all layers", "", "", f"{weights:,}", "", f"{adapters:,}"])
    head = ["Layer", "Input", "Output", "Weights", "Rank", "Adapter bytes"]
    note = '<p class="note">Shapes are height × width × channels. The adapter file adds headers and padding.</p>'
    return page.section("Layers", page.table(head, rows, "The base network and where it is adapted", "total"), note)


def _settings_section(report: Report) -> str:
    links = {f"Link: {key}".replace("_", " "): _value(value) for key, value in (report.link or {}).items()}
    decay = f"shift {report.momentum} (keeps 1 − 2<sup>−{report.momentum}</sup>)" if report.momentum else "none"
    rows = [
        ("Board", escape(report.board)),
        ("Firmware", escape(report.firmware)),
        ("Subject", escape(report.subject)),
        ("Base network", f"<code>{escape(report.base_id)}</code>" if report.base_id else ""),
        ("Mode", escape(page.mode(report.mode))),
        ("Rank", _ranks(report)),
        ("Training samples", f"{report.samples:,}"),
        ("Test samples", f"{report.test_samples:,}" if report.test_samples else ""),
        ("Epochs", str(report.epochs)),
        ("Micro-batch", page.count(report.micro_batch, "sample")),
        ("Updates", f"{report.steps:,}" if report.steps else ""),
        ("Learning rate", f"{report.learning_rate:,} / 8192 int8 steps, falling to 0" if report.learning_rate else ""),
        ("Momentum", decay),
        ("Seed", str(report.seed)),
        (
            "Float base accuracy",
            page.percent(report.float_base_accuracy) if report.float_base_accuracy is not None else "",
        ),
        *((escape(name), escape(value)) for name, value in links.items()),
        ("Made", escape(report.created)),
    ]
    table = page.table([], [[name, value] for name, value in rows if value], "How this run was made")
    return page.section("Settings", f'<div class="settings">{table}</div>')


def _ranks(report: Report) -> str:
    """The rank, and whether it is only the highest of those in the table of layers."""
    alike = all(row.rank in (0, report.rank) for row in report.layers)
    return str(report.rank) if alike else f"up to {report.rank}, by layer"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:,}" if isinstance(value, int) else page.three_digits(value) if isinstance(value, float) else str(value)
    )


def _notes_section(report: Report) -> str:
    notes = [*report.notes, "1 KB is 1024 bytes."]
    return page.section("Notes", f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>')


# --- The page ---


_SECTIONS = (
    _headline,
    _loss_section,
    _confusion_section,
    _memory_section,
    _cost_section,
    _layers_section,
    _settings_section,
    _notes_section,
)


def render_html(report: Report) -> str:
    """The text of `report.html`."""
    body = "\n".join(part for section in _SECTIONS if (part := section(report)))
    return page.whole(report.title, body)


def write_report(report: Report, out_dir: Path) -> Path:
    """Writes `report.json` and `report.html` into `out_dir`, each whole or not at all; the path of the page."""
    out_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(out_dir / "report.json", report.to_json().encode())
    path = out_dir / "report.html"
    write_atomic(path, render_html(report).encode())
    return path
