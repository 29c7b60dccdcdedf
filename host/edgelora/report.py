"""What is left of a personalization run: `metrics.jsonl` while it goes on, `report.json` and `report.html` at its end.

The page is one file without scripts or outside resources: it can be mailed, printed and opened offline.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

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


@dataclass
class Report:
    """One personalization run. Accuracies are shares of 1; None stands for what was not measured.

    infer_us, train_step_us and swap_us are microseconds on the board: one inference, one training sample with its
    share of the update, a swap to an adapter in RAM; swap_flash_us a swap to one read from flash. learning_rate is that
    of the first update, in int8 steps / 8192; momentum a shift, 0 = none. losses are nats, one an update, the last ones
    if the run was resumed; epoch_losses and float_lora_losses one an epoch. Confusion matrices count [true][predicted].
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
    active_watts: float | None = None  # of the board while it computes, for the energy estimate
    power_source: str = ""
    link: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """The text of `report.json`: one flat object."""
        return json.dumps(_plain(asdict(self)), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Reads `to_json`'s text. Unknown keys are left out; ReportError names what is missing."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ReportError(f"report.json is not JSON ({error}): it was cut off or is another file") from None
        report = _record(cls, data, "report.json")
        report.layers = [_record(LayerRow, row, f"report.json, layers[{i}]") for i, row in enumerate(report.layers)]
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


def _plain(value: Any) -> Any:
    """The same for JSON: NumPy's scalars become Python's, NaN and infinities null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- Metrics ---


class Metrics:
    """Appends to a `metrics.jsonl`: one JSON object a line, on its way to the disk before the call returns.

    A half-written last line of a killed run is cut off first, so that the file goes on with whole lines.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps(_plain({"event": event, **values}), ensure_ascii=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def update(self, step: int, epoch: int, loss: float, learning_rate: int, samples: int, us: float | None) -> None:
        """One update: its number and epoch, mean loss in nats, samples in it, and the board's microseconds."""
        self.write("update", step=step, epoch=epoch, loss=loss, learning_rate=learning_rate, samples=samples, us=us)

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


# --- Words and units ---


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def _three_digits(value: float) -> str:
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if 0 < value < 1000 else f"{value:,.0f}"


def _time(us: float | None) -> str:
    if us is None:
        return "–"
    unit, name = next((pair for pair in ((1e6, "s"), (1e3, "ms")) if us >= pair[0]), (1, "µs"))
    return f"{_three_digits(us / unit)} {name}"


def _energy(uj: float) -> str:
    unit, name = next((pair for pair in ((1e6, "J"), (1e3, "mJ")) if uj >= pair[0]), (1, "µJ"))
    return f"{_three_digits(uj / unit)} {name}"


def _size(count: float) -> str:
    return f"{count:,.0f} B" if count < 1024 else f"{_three_digits(count / 1024)} KB"


def _shape(sizes: Sequence[int]) -> str:
    return "\u00a0×\u00a0".join(str(size) for size in sizes)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _date(iso: str) -> str:
    """Day and minute of an ISO time, as it is if it is none."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{time.day} {time:%B %Y, %H:%M %Z}".strip()


def _mode(mode: str) -> str:
    return {"frozen_a": "frozen A (B trains)", "trainable_a": "A and B train"}.get(mode, mode)


def _names(report: Report) -> list[str]:
    count = max(len(report.confusion_base), len(report.confusion_adapted))
    return [*report.labels, *(f"class {i}" for i in range(len(report.labels), count))]


# --- HTML ---


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, last: str = "") -> str:
    """A table of escaped cells: first column row headers, the others numbers. `last` marks the last row ("total")."""
    top = "".join(f'<th scope="col">{cell}</th>' if cell else "<td></td>" for cell in head)
    lines = [f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) for first, *rest in rows]
    body = "".join(
        f'<tr class="{last}">{line}</tr>' if last and line is lines[-1] else f"<tr>{line}</tr>" for line in lines
    )
    header = f"<thead><tr>{top}</tr></thead>" if head else ""
    table = f"<table><caption>{caption}</caption>{header}<tbody>{body}</tbody></table>"
    return _wide(table, caption)


def _wide(content: str, label: str) -> str:
    """Scrolls on its own where the page is too narrow for it."""
    return f'<div class="wide" role="region" aria-label="{label}" tabindex="0">{content}</div>'


def _section(title: str, *content: str) -> str:
    inner = "\n".join(part for part in content if part)
    return f"<section>\n<h2>{title}</h2>\n{inner}\n</section>" if inner else ""


def _figure(picture: str, label: str, caption: str, legend: Sequence[tuple[str, str]]) -> str:
    """An SVG with its legend of (mark, text) above and a caption below."""
    keys = "".join(f"<li>{mark}{text}</li>" for mark, text in legend)
    return f'<figure><ul class="legend">{keys}</ul>{_wide(picture, label)}<figcaption>{caption}</figcaption></figure>'


def _svg(width: int, height: float, label: str, parts: Iterable[str]) -> str:
    inner = "\n".join(parts)
    return f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{label}">\n{inner}\n</svg>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"></line>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{text}</text>'


# --- Headline ---


def _headline(report: Report) -> str:
    about = [report.subject, report.board, _date(report.created)]
    under = " · ".join(escape(part) for part in about if part)
    numbers = [
        ("before", _percent(report.base_accuracy), "INT8 base network"),
        ("after", _percent(report.adapted_accuracy), "personalized on the board"),
    ]
    if report.float_lora_accuracy is not None:
        numbers.append(("float", _percent(report.float_lora_accuracy), "float LoRA, for comparison"))
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
        f"On data it had not seen, the base network scored {_percent(report.base_accuracy)}{right}.",
        f"After {_count(report.epochs, 'epoch')} over {_count(report.samples, 'training sample')} on {board} "
        f"it scored {_percent(report.adapted_accuracy)}: {_difference(report)}.",
    ]
    if report.float_lora_accuracy is not None:
        gap = 100 * (report.adapted_accuracy - report.float_lora_accuracy)
        place = "the same as" if abs(gap) < 0.05 else f"{abs(gap):.1f} points {'above' if gap > 0 else 'below'}"
        parts.append(f"That is {place} LoRA in floating point.")
    cost = f"Learning took {_size(report.arena_bytes)} of RAM"
    if report.train_step_us is not None:
        cost += f" and {_time(report.train_step_us)} a sample"
    parts.append(f"{cost}; what was learned is an adapter of {_size(report.adapter_bytes)}.")
    return f'<p class="summary">{" ".join(parts)}</p>'


def _right(report: Report, accuracy: float) -> str:
    return f"{round(accuracy * report.test_samples):,} of {_count(report.test_samples, 'test sample')}"


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
    return _section("Loss", _figure(_loss_chart(report, label), label, caption, legend))


def _stroke(kind: str) -> str:
    return f'<svg class="key" viewBox="0 0 22 10" aria-hidden="true">{_line(1, 5, 21, 5, f"loss-{kind}")}</svg>'


def _loss_chart(report: Report, label: str) -> str:
    width, height, left, right, top, bottom = _LOSS
    steps = report.steps or len(report.losses) or report.epochs
    per_epoch = steps / max(1, report.epochs)
    first, first_epoch = steps - len(report.losses), report.epochs - len(report.epoch_losses)
    updates = _thinned(_finite([(first + i + 0.5, loss) for i, loss in enumerate(report.losses)]))
    epochs = _finite([((first_epoch + i + 0.5) * per_epoch, loss) for i, loss in enumerate(report.epoch_losses)])
    floats = _finite([((i + 0.5) * per_epoch, loss) for i, loss in enumerate(report.float_lora_losses)])
    ticks = _ticks(max(loss for _, loss in [*updates, *epochs, *floats]), 5)

    def x(step: float) -> float:
        return left + (width - left - right) * step / steps

    def y(loss: float) -> float:
        return height - bottom - (height - top - bottom) * loss / ticks[-1]

    parts = [_line(left, y(tick), width - right, y(tick), "grid" if tick else "axis") for tick in ticks]
    parts += [_text(left - 8, y(tick) + 4, f"{tick:g}", "tick", "end") for tick in ticks]
    parts.append(
        f'<text transform="translate(13 {(top + height - bottom) / 2:.0f}) rotate(-90)" text-anchor="middle" '
        'class="axis-name">loss (nats)</text>'
    )
    parts += _update_axis(steps, report.epochs, x)
    for points, kind in ((updates, "update"), (floats, "float"), (epochs, "epoch")):
        path = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in points)
        parts.append(f'<polyline points="{path}" class="loss-{kind}"></polyline>' if path else "")
        if kind != "update" and len(points) <= 60:
            parts += [_dot(x(step), y(loss), kind, f"{loss:.3f} nats") for step, loss in points]
    return _svg(width, height, label, parts)


def _update_axis(steps: int, epochs: int, x: Callable[[float], float]) -> list[str]:
    """Numbers of updates below the chart, those of epochs above it, and borders between epochs."""
    width, height, left, right, top, bottom = _LOSS
    whole = [tick for tick in _ticks(steps, 8) if tick <= steps and tick == int(tick)]
    parts = [_text(x(tick), height - bottom + 18, f"{tick:,.0f}", "tick") for tick in whole]
    parts.append(_text((left + width - right) / 2, height - 6, "update", "axis-name"))
    parts.append(_text(left - 8, top - 12, "epoch", "axis-name", "end"))
    for epoch in range(0, epochs, max(1, math.ceil(epochs / 16))):
        parts.append(_text(x((epoch + 0.5) * steps / epochs), top - 12, str(epoch + 1), "tick"))
    borders = [x(epoch * steps / epochs) for epoch in range(1, epochs)] if epochs <= 60 else []
    return parts + [_line(at, top, at, height - bottom, "epoch-border") for at in borders]


def _dot(x: float, y: float, kind: str, tip: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" class="dot-{kind}"><title>{tip}</title></circle>'


def _finite(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None and math.isfinite(y)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most _MOST_POINTS points, each the mean of a few neighbours."""
    few = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[at : at + few] for at in range(0, len(points), few)] if few else []
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _ticks(top: float, most: int) -> list[float]:
    """0 and up to `most` round steps; the last reaches `top` or is the first beyond it."""
    if top <= 0:
        return [0, 1]
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice * most >= top * (1 - 1e-9))
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


# --- Confusion matrices ---


def _confusion_section(report: Report) -> str:
    names = [escape(name) for name in _names(report)]
    pairs = (
        (f"Before: base network, {_percent(report.base_accuracy)}", report.confusion_base),
        (f"After: personalized, {_percent(report.adapted_accuracy)}", report.confusion_adapted),
    )
    tables = "".join(_confusion_table(counts, names, title) for title, counts in pairs if counts)
    note = (
        '<p class="note">A row is a true class, a column what the network said. Shading is the share of the row: '
        '<span class="keep"><span class="swatch hit"></span> right</span>, '
        '<span class="keep"><span class="swatch miss"></span> confused</span>.</p>'
    )
    size = "" if len(names) <= 8 else " many"
    return _section("Confusion", f'<div class="matrices{size}">{tables}</div>{note}') if tables else ""


def _confusion_table(counts: list[list[int]], names: list[str], title: str) -> str:
    columns = zip(names, counts, strict=False)
    head = "".join(f'<th scope="col" class="upright"><span>{name}</span></th>' for name, _ in columns)
    rows = []
    for i, row in enumerate(counts):
        total = sum(row)
        cells = "".join(_confusion_cell(count, total, i == j) for j, count in enumerate(row))
        recall = _percent(row[i] / total) if total else "–"
        rows.append(f'<tr><th scope="row"><span>{names[i]}</span></th>{cells}<td class="recall">{recall}</td></tr>')
    head += '<th scope="col" class="upright recall"><span>recall</span></th>'
    table = (
        f'<table class="confusion"><caption>{title}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return _wide(table, title)


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
    label = f"Memory map of the arena, {_size(report.arena_bytes)}, over the steps of one training pass"
    caption = (
        f"The whole arena, {_size(report.arena_bytes)} ({_count(report.arena_bytes, 'byte')}), while one sample trains."
        " A block, named by what it holds and its layer, spans the steps it is needed for; blocks never needed "
        "together share addresses."
    )
    return _section("Memory", _figure(_memory_map(report, label), label, caption, legend), _memory_table(report, used))


def _memory_table(report: Report, used: list[_Kind]) -> str:
    busy = [sum(_live(report, step, kind) for kind in used) for step in range(report.memory_steps)]
    rows = []
    for kind in used:
        most = max(_live(report, step, kind) for step in range(report.memory_steps))
        share = f"{100 * most / report.arena_bytes:.0f}%" if report.arena_bytes else "–"
        rows.append([kind.title, kind.meaning, f"{most:,}", share])
    most_share = f"{100 * max(busy) / report.arena_bytes:.0f}%" if report.arena_bytes else "–"
    rows.append(["all at once, at most", "", f"{max(busy):,}", most_share])
    return _table(["Kind", "Holds", "Bytes at its peak", "Of the arena"], rows, "Bytes by kind", "total")


def _live(report: Report, step: int, kind: _Kind) -> int:
    return sum(r.size for r in report.memory if r.birth <= step <= r.death and _kind(r) is kind)


def _memory_map(report: Report, label: str) -> str:
    width, height, left, right, top, bottom = _MAP
    steps, ops = report.memory_steps, report.memory_steps // 2
    arena = max([report.arena_bytes, *(region.offset + region.size for region in report.memory)])
    column = (width - left - right) / steps

    def y(offset: float) -> float:
        return height - bottom - (height - top - bottom) * offset / arena

    parts = [_line(left - 4, y(tick), width - right, y(tick), "grid") for tick in _byte_ticks(arena)]
    unit, name = (1024, "KB") if arena >= 2048 else (1, "B")
    parts += [_text(left - 8, y(at) + 4, f"{at / unit:g} {name}", "tick", "end") for at in _byte_ticks(arena)]
    for region in report.memory:
        last = min(region.death, steps - 1)
        box = (left + column * region.birth, y(region.offset + region.size), column * (last + 1 - region.birth))
        parts.append(_block(report, region, box, y(region.offset) - y(region.offset + region.size)))
    for start, end, name in ((0, ops, "forward"), (ops, ops + 1, "loss"), (ops + 1, steps, "backward")):
        if column * (end - start) >= 24:
            parts.append(_text(left + column * (start + end) / 2, top - 10, name, "axis-name"))
        if start:
            parts.append(_line(left + column * start, top - 6, left + column * start, height - bottom + 6, "phase"))
    every = math.ceil(22 / column)
    for op in range(0, ops, every):
        for step in (op, steps - 1 - op):
            parts.append(_text(left + column * (step + 0.5), height - bottom + 18, str(op), "tick"))
    parts.append(_text((left + width - right) / 2, height - 6, "layer at work", "axis-name"))
    return _svg(width, height, label, parts)


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
    return block + (_text(x + 5, y + height / 2 + 4, escape(name), "block", "start") if fits else "")


def _byte_ticks(top: int) -> list[int]:
    step = 1 << max(0, math.ceil(math.log2(max(1, top) / 6)))
    return list(range(0, top + 1, step))


# --- Tables ---


def _cost_section(report: Report) -> str:
    tables = _time_table(report) + _size_table(report)
    source = f" ({escape(report.power_source)})" if report.power_source else ""
    watts = report.active_watts
    note = "" if watts is None else f'<p class="note">Energy is estimated: time multiplied by {watts:g} W{source}.</p>'
    return _section("Time and size", f'<div class="side">{tables}</div>', note)


def _time_table(report: Report) -> str:
    update = None if report.train_step_us is None else report.train_step_us * report.micro_batch
    times = [
        ("Inference", report.infer_us),
        ("Training, one sample", report.train_step_us),
        (f"Training, one update of {report.micro_batch}", update),
        ("Swap to an adapter in RAM", report.swap_us),
        ("Swap to an adapter in flash", report.swap_flash_us),
    ]
    measured = [(name, us) for name, us in times if us is not None]
    if not measured:
        return ""
    if report.active_watts is None:
        return _table(["", "Time"], [[name, _time(us)] for name, us in measured], "On the board")
    rows = [[name, _time(us), _energy(us * report.active_watts)] for name, us in measured]
    return _table(["", "Time", "Energy"], rows, "On the board")


def _size_table(report: Report) -> str:
    sizes = [
        ("Arena (RAM)", report.arena_bytes),
        ("Adapter file", report.adapter_bytes),
        ("Base network file", report.model_bytes),
    ]
    rows = [[name, _size(size), f"{size:,}"] for name, size in sizes if size]
    return _table(["", "Size", "Bytes"], rows, "In memory and on disk")


def _layers_section(report: Report) -> str:
    if not report.layers:
        return ""
    rows = [
        [
            escape(f"{row.op} {row.kind}".replace("_", " ").replace(" ", "\u00a0")),
            _shape(row.input),
            _shape(row.output),
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
    return _section("Layers", _table(head, rows, "The base network and where it is adapted", "total"), note)


def _settings_section(report: Report) -> str:
    links = {f"Link: {key}".replace("_", " "): _value(value) for key, value in (report.link or {}).items()}
    decay = f"shift {report.momentum} (keeps 1 − 2<sup>−{report.momentum}</sup>)" if report.momentum else "none"
    rows = [
        ("Board", escape(report.board)),
        ("Firmware", escape(report.firmware)),
        ("Subject", escape(report.subject)),
        ("Base network", f"<code>{escape(report.base_id)}</code>" if report.base_id else ""),
        ("Mode", escape(_mode(report.mode))),
        ("Rank", str(report.rank)),
        ("Training samples", f"{report.samples:,}"),
        ("Test samples", f"{report.test_samples:,}" if report.test_samples else ""),
        ("Epochs", str(report.epochs)),
        ("Micro-batch", _count(report.micro_batch, "sample")),
        ("Updates", f"{report.steps:,}" if report.steps else ""),
        ("Learning rate", f"{report.learning_rate:,} / 8192 int8 steps, falling to 0" if report.learning_rate else ""),
        ("Momentum", decay),
        ("Seed", str(report.seed)),
        ("Float base accuracy", _percent(report.float_base_accuracy) if report.float_base_accuracy is not None else ""),
        *((escape(name), escape(value)) for name, value in links.items()),
        ("Made", escape(report.created)),
    ]
    table = _table([], [[name, value] for name, value in rows if value], "How this run was made")
    return _section("Settings", f'<div class="settings">{table}</div>')


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else _three_digits(value) if isinstance(value, float) else str(value)


def _notes_section(report: Report) -> str:
    notes = [*report.notes, "1 KB is 1024 bytes."]
    return _section("Notes", f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>')


# --- The page ---


_STYLE = """
:root { color-scheme: light dark;
  --bg: #fbfaf7; --ink: #1d1f21; --muted: #5c6065; --rule: #dedbd3; --soft: #efede7;
  --accent: #1f5f8b; --warm: #a2451d; --hit: 31 95 139; --miss: 190 84 36; }
@media (prefers-color-scheme: dark) { :root {
  --bg: #17191b; --ink: #e7e5e0; --muted: #a5a8ab; --rule: #36393c; --soft: #222527;
  --accent: #83b9df; --warm: #e6a077; --hit: 56 126 178; --miss: 196 98 48; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
main { max-width: 58rem; margin: 0 auto; padding: 3.5rem 1.5rem 4rem; }
h1, h2 { font-family: Charter, "Bitstream Charter", Cambria, Georgia, "Liberation Serif", serif; font-weight: 600;
  line-height: 1.2; overflow-wrap: anywhere; }
h1 { font-size: 2.1rem; margin: 0 0 .3rem; }
h2 { font-size: 1.35rem; margin: 0 0 1rem; }
section { margin-top: 2.75rem; padding-top: 1.5rem; border-top: 1px solid var(--rule); }
.eyebrow { margin: 0 0 .6rem; font-size: .85rem; color: var(--muted); letter-spacing: .02em; }
.under { margin: 0; color: var(--muted); overflow-wrap: anywhere; }
.numbers { display: flex; flex-wrap: wrap; gap: 1.25rem 3rem; margin: 2rem 0 1.5rem; }
.numbers div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.numbers dt { font-size: .875rem; color: var(--muted); }
.numbers dd { margin: 0; font-size: 3.25rem; line-height: 1.1; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.numbers .before dd { color: var(--muted); }
.numbers .after dd { color: var(--accent); font-weight: 600; }
.numbers .float { padding-left: 3rem; border-left: 1px solid var(--rule); }
.numbers .float dd { color: var(--muted); }
.badge { display: inline-block; margin: 0 0 1.5rem; padding: .3rem .75rem; border: 1px solid var(--rule);
  border-left: 4px solid var(--muted); background: var(--soft); font-size: .9rem; }
.badge.yes { border-left-color: var(--accent); }
.badge.no { border-left-color: var(--warm); }
.badge.no strong { color: var(--warm); }
.badge span { color: var(--muted); }
.summary { margin: 0; font-size: 1.075rem; max-width: 44rem; }
.note, figcaption { font-size: .875rem; color: var(--muted); margin: .75rem 0 0; max-width: 44rem; }
figure { margin: 0; }
.wide { overflow-x: auto; }
.wide:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.25rem; margin: 0 0 .6rem; padding: 0;
  font-size: .875rem; }
.legend li { display: inline-flex; align-items: center; gap: .45rem; }
.key { width: 22px; height: 10px; }
.swatch { display: inline-block; width: .8rem; height: .8rem; vertical-align: -.08rem; background: var(--fill); }
.keep { white-space: nowrap; }
.swatch.hit { background: rgb(var(--hit) / .62); }
.swatch.miss { background: rgb(var(--miss) / .62); }
figure .wide svg { display: block; width: 100%; min-width: 40rem; height: auto; }
svg text { font-size: 12px; fill: var(--muted); font-variant-numeric: tabular-nums; }
svg text.axis-name { fill: var(--ink); }
svg text.block { fill: #1d1f21; font-size: 11px; pointer-events: none; }
line.grid { stroke: var(--rule); }
line.axis { stroke: var(--muted); }
line.epoch-border { stroke: var(--rule); stroke-dasharray: 1 4; }
line.phase { stroke: var(--ink); stroke-width: 1; }
.loss-update { fill: none; stroke: var(--muted); stroke-width: .9; stroke-opacity: .75; stroke-linejoin: round; }
.loss-epoch { fill: none; stroke: var(--accent); stroke-width: 2.75; stroke-linejoin: round; }
.loss-float { fill: none; stroke: var(--warm); stroke-width: 2; stroke-dasharray: 5 4; }
.dot-epoch { fill: var(--accent); }
.dot-float { fill: var(--warm); }
.fill-session { --fill: #c6c4bd; } .fill-activation { --fill: #ecd08f; } .fill-kept { --fill: #e0a869; }
.fill-error { --fill: #d98068; } .fill-weight { --fill: #b9d4e8; } .fill-master { --fill: #88b4d6; }
.fill-gradient { --fill: #6b9bd0; } .fill-momentum { --fill: #82bfae; } .fill-other { --fill: #a99bb8; }
rect { fill: var(--fill); }
rect.edged { stroke: var(--bg); stroke-width: .75; }
rect:hover { stroke: var(--ink); stroke-width: 1.5; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .32rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: baseline; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
tbody th { font-weight: 400; }
thead th { font-weight: 400; color: var(--muted); font-size: .94em; border-bottom-color: var(--muted); }
thead td { border-bottom-color: var(--muted); }
sup { line-height: 0; }
tr.total th, tr.total td { font-weight: 600; border-bottom: 0; border-top: 1px solid var(--muted); }
figure + .wide { margin-top: 1.5rem; }
figure + .wide td:nth-child(2), figure + .wide th:nth-child(2) { text-align: left; color: var(--muted); }
.matrices, .side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
  gap: 2rem 2.5rem; align-items: start; }
.matrices.many { grid-template-columns: minmax(0, 1fr); }
.confusion { width: auto; }
.confusion td { min-width: 2.2rem; padding: .42rem .25rem; text-align: center; border: 2px solid var(--bg); }
.confusion tbody th { padding-right: .6rem; border: 0; text-align: right; }
.confusion tbody th span { display: block; max-width: 11rem; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.confusion thead th { border: 0; text-align: center; vertical-align: bottom; color: var(--ink); padding: 0 0 .4rem; }
.confusion .upright span { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg);
  max-height: 9rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.confusion thead td { border: 0; }
.confusion td.none { color: var(--muted); background: var(--soft); }
.confusion td.recall { padding-left: .7rem; text-align: right; }
.confusion thead th.recall { color: var(--muted); padding-left: .7rem; }
.settings td { overflow-wrap: anywhere; }
.settings th, .settings td { text-align: left; }
.settings tbody th { width: 14rem; color: var(--muted); }
code { font: .95em ui-monospace, "SF Mono", Consolas, "DejaVu Sans Mono", monospace; }
.notes { margin: 0; padding-left: 1.1rem; color: var(--muted); font-size: .9rem; }
@media (max-width: 40rem) {
  main { padding: 2rem 1rem 3rem; }
  h1 { font-size: 1.7rem; }
  .numbers { gap: 1rem 1.75rem; }
  .numbers dd { font-size: 2.1rem; }
  .numbers .float { padding-left: 0; border-left: 0; }
  .settings tbody th { width: 9.5rem; } }
@media print {
  :root { --bg: #fff; --ink: #000; --muted: #444; --rule: #bbb; --soft: #f2f2f2; --accent: #1f5f8b; --warm: #a2451d;
    --hit: 31 95 139; --miss: 190 84 36; color-scheme: light;
    print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  .wide { overflow: visible; }
  figure .wide svg { min-width: 0; }
  .matrices { gap: 1.5rem 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
  .confusion { font-size: 8pt; }
  .confusion td { min-width: 1.7rem; }
  figure, tr, .badge, .matrices > div { break-inside: avoid; }
  h2, caption { break-after: avoid; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

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
    return _PAGE.format(title=escape(f"{report.title} · EdgeLoRA"), style=_STYLE, body=body)


def write_report(report: Report, out_dir: Path) -> Path:
    """Writes `report.json` and `report.html` into `out_dir`, each whole or not at all; the path of the page."""
    out_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(out_dir / "report.json", report.to_json().encode())
    page = out_dir / "report.html"
    write_atomic(page, render_html(report).encode())
    return page
