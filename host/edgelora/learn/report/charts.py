"""The charts of a report: the loss over updates, and the arena's memory over the steps of a pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from edgelora.core.twin.regions import HISTORY, Region

from . import page
from .measures import Accuracy, Error
from .record import Report

# --- Loss curve ---


_LOSS = (440, 300, 48, 10, 34, 44)  # width, height; margins left, right, top, bottom
_MOST_POINTS = 1500


def loss_section(report: Report) -> Markup:
    """The loss curve, and the accuracy or error on held-out samples."""
    charts = [chart for chart in (_loss_figure(report), _measure_figure(report.measure)) if chart]
    return page.section("Learning", page.part("group", "side", charts)) if charts else Markup()


def _loss_figure(report: Report) -> Markup:
    if not _finite([*enumerate(report.losses), *enumerate(report.epoch_losses)]):
        return Markup()
    lines = [
        ("update", report.losses, "one update"),
        ("epoch", report.epoch_losses, "mean of an epoch, on the board"),
        ("float", report.float_lora_losses, "mean of an epoch, float LoRA"),
    ]
    legend = [(page.key(f"loss-{kind}"), meaning) for kind, losses, meaning in lines if losses]
    loss = "Softmax cross-entropy in nats" if _in_nats(report) else "Squared error, in squared units of the data"
    caption = f"{loss}; updates number the micro-batches."
    label = "Training loss over updates"
    epochs = _finite([*enumerate(report.epoch_losses, 1)])
    if len(epochs) > 1:
        (first, start), (last, end) = epochs[0], epochs[-1]
        label = f"Training loss, from {_loss(report, start)} in epoch {first} to {_loss(report, end)} in epoch {last}"
        caption = f"{label}. {caption}"
    return page.figure(_loss_chart(report, label), label, caption, legend)


def _in_nats(report: Report) -> bool:
    return isinstance(report.measure, Accuracy)


def _loss(report: Report, loss: float) -> str:
    return f"{loss:.3f}" if _in_nats(report) else f"{loss:.3g}"


def _loss_chart(report: Report, label: str) -> Markup:
    width, height, left, right, top, bottom = _LOSS
    steps = max(1, report.steps or len(report.losses) or report.epochs)
    per_epoch = steps / max(1, report.epochs)
    first, first_epoch = steps - len(report.losses), report.epochs - len(report.epoch_losses)
    updates = _thinned(_finite([(first + i + 0.5, loss) for i, loss in enumerate(report.losses)]))
    epochs = _finite([((first_epoch + i + 0.5) * per_epoch, loss) for i, loss in enumerate(report.epoch_losses)])
    floats = _finite([((i + 0.5) * per_epoch, loss) for i, loss in enumerate(report.float_lora_losses)])
    ticks = page.ticks(max([0.0, *(loss for _, loss in [*updates, *epochs, *floats])]), 5)

    def x(step: float) -> float:
        return left + (width - left - right) * step / steps

    def y(loss: float) -> float:
        return height - bottom - (height - top - bottom) * loss / ticks[-1]

    parts = [page.line(left, y(tick), width - right, y(tick), "grid" if tick else "axis") for tick in ticks]
    parts += [page.text(left - 8, y(tick) + 4, f"{tick:g}", "tick", "end") for tick in ticks]
    upright = f"translate(13 {(top + height - bottom) / 2:.0f}) rotate(-90)"
    unit = "nats" if _in_nats(report) else "squared units"
    parts.append(page.element("text", f"loss ({unit})", transform=upright, text_anchor="middle", class_="axis-name"))
    parts += _update_axis(steps, report.epochs, x)
    for points, kind in ((updates, "update"), (floats, "float"), (epochs, "epoch")):
        parts.append(page.path([(x(step), y(loss)) for step, loss in points], f"loss-{kind}"))
        if kind != "update" and len(points) <= 60:
            parts += [page.dot(x(step), y(loss), kind, f"{_loss(report, loss)} {unit}") for step, loss in points]
    return page.svg(width, height, label, parts)


def _update_axis(steps: int, epochs: int, x: Callable[[float], float]) -> list[Markup]:
    """Numbers of updates below the chart, those of epochs above it, and borders between epochs."""
    width, height, left, right, top, bottom = _LOSS
    whole = [tick for tick in page.ticks(steps, 5) if tick <= steps and tick == int(tick)]
    parts = [page.text(x(tick), height - bottom + 18, f"{tick:,.0f}", "tick") for tick in whole]
    parts.append(page.text((left + width - right) / 2, height - 6, "update", "axis-name"))
    parts.append(page.text(left - 8, top - 12, "epoch", "axis-name", "end"))
    for epoch in range(0, epochs, max(1, math.ceil(epochs / 10))):
        parts.append(page.text(x((epoch + 0.5) * steps / epochs), top - 12, str(epoch + 1), "tick"))
    borders = [x(epoch * steps / epochs) for epoch in range(1, epochs)] if epochs <= 60 else []
    return parts + [page.line(at, top, at, height - bottom, "epoch-border") for at in borders]


# --- Accuracy or error by epoch ---


def _measure_figure(measure: Accuracy | Error) -> Markup:
    if not measure.epochs:
        return Markup()
    last = measure.epochs[-1]
    label = f"{measure.title} on held-out samples, from {measure.shown(measure.before)} to {measure.shown(last)}"
    caption = (
        f"{label}. Epoch 0 is the base. Measured on the host twin with each epoch's adapter; not used to "
        "choose the epoch."
    )
    legend = [(page.key("loss-epoch"), "after an epoch, on the host twin")]
    if measure.interval(last):
        legend.append((page.key("interval"), "95% interval"))
    return page.figure(_measure_chart(measure, label), label, caption, legend)


def _measure_chart(measure: Accuracy | Error, label: str) -> Markup:
    width, height, left, right, top, bottom = _LOSS
    values = [measure.before, *measure.epochs]
    intervals = [measure.interval(value) for value in values]
    levels = measure.levels([*values, *(within.low for within in intervals if within)])
    floor, ceiling = levels[0], levels[-1]
    epochs = len(values) - 1

    def x(epoch: float) -> float:
        return left + 8 + (width - left - right - 16) * epoch / epochs

    def y(value: float) -> float:
        return height - bottom - (height - top - bottom) * (value - floor) / (ceiling - floor)

    parts = [
        page.line(left, y(level), width - right, y(level), "grid" if level > floor else "axis") for level in levels
    ]
    parts += [page.text(left - 8, y(level) + 4, measure.tick(level), "tick", "end") for level in levels]
    every = math.ceil(epochs / 10)
    parts += [page.text(x(epoch), height - bottom + 18, str(epoch), "tick") for epoch in range(0, epochs + 1, every)]
    parts.append(page.text((left + width - right) / 2, height - 6, "epoch", "axis-name"))
    if epochs <= 60:
        spans = [(x(i), within) for i, within in enumerate(intervals) if within]
        parts += [page.line(at, y(within.low), at, y(within.high), "interval") for at, within in spans]
    parts.append(page.path([(x(i), y(value)) for i, value in _thinned([*enumerate(values)])], "loss-epoch"))
    if epochs <= 60:
        tips = [f"epoch {i}: {measure.shown(value)}" for i, value in enumerate(values)]
        parts += [page.dot(x(i), y(value), "epoch", tips[i]) for i, value in enumerate(values)]
    return page.svg(width, height, label, parts)


def _finite(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None and math.isfinite(y)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most _MOST_POINTS points, each the mean of a few neighbours."""
    few = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[at : at + few] for at in range(0, len(points), few)] if few else []
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


# --- Memory map ---


@dataclass(frozen=True)
class _Kind:
    """A category of arena regions: the planner's names for them, and their content."""

    key: str
    title: str
    meaning: str
    names: tuple[str, ...]


_KINDS = (
    _Kind("session", "session", "layer tables, counters, a second core's stack", ("session",)),
    _Kind("scratch", "scratch", "what the kernels of one layer need while it runs", ("scratch",)),
    _Kind(
        "activation",
        "activations",
        "outputs of the layers",
        ("output", "recomputed output", HISTORY["output"], HISTORY["recomputed output"]),
    ),
    _Kind(
        "kept",
        "kept for backward",
        "the adapters' inner vectors t, activation masks, values of earlier frames",
        ("t", "mask", HISTORY["t"]),
    ),
    _Kind(
        "error",
        "error vectors",
        "gradients passed from layer to layer, and to earlier frames, in the backward pass",
        ("error", "work", HISTORY["mask"]),
    ),
    _Kind("weight", "adapter weights", "A and B as the kernels read them, int8", ("A weight", "B weight")),
    _Kind("master", "master weights", "the same at full resolution, int16", ("A master", "B master")),
    _Kind("gradient", "gradients", "sums over a micro-batch, int32", ("A gradient", "B gradient")),
    _Kind("momentum", "momentum", "running mean of the gradients, int16", ("A momentum", "B momentum")),
    _Kind("other", "other", "", ()),
)
_MAP = (800, 380, 60, 8, 26, 44)  # width, height; margins left, right, top, bottom


def _kind(region: Region) -> _Kind:
    return next((kind for kind in _KINDS if region.name in kind.names), _KINDS[-1])


def memory_section(report: Report) -> Markup:
    if not report.memory or report.memory_steps < 1:
        return Markup()
    used = [kind for kind in _KINDS if any(_kind(region) is kind for region in report.memory)]
    legend = [(page.part("swatch", kind.key), kind.title) for kind in used]
    label = f"Memory map of the arena, {page.size(report.arena_bytes)}, over the steps of one training pass"
    caption = (
        f"The arena, {page.size(report.arena_bytes)} ({page.count(report.arena_bytes, 'byte')}), while one sample"
        " trains. A block, named by its content and layer, spans the steps that need it; blocks never needed "
        "together share addresses."
    )
    return page.section(
        "Memory", page.figure(_memory_map(report, label), label, caption, legend), _memory_table(report, used)
    )


def _memory_table(report: Report, used: list[_Kind]) -> Markup:
    live = {kind: _live(report, kind) for kind in used}
    rows = [[kind.title, kind.meaning, *_share(max(live[kind]), report)] for kind in used]
    rows.append(["total, at its peak", "", *_share(max(map(sum, zip(*live.values(), strict=True))), report)])
    return page.table(["Kind", "Holds", "Bytes at its peak", "Share of the arena"], rows, "Bytes by kind", total=True)


def _share(count: int, report: Report) -> tuple[str, str]:
    return f"{count:,}", f"{100 * count / report.arena_bytes:.0f}%" if report.arena_bytes else "–"


def _live(report: Report, kind: _Kind) -> list[int]:
    """Live bytes of a kind at each step."""
    changes = [0] * report.memory_steps
    for region in report.memory:
        if _kind(region) is kind and max(region.birth, 0) <= min(region.death, report.memory_steps - 1):
            changes[max(region.birth, 0)] += region.size
            if region.death + 1 < report.memory_steps:
                changes[region.death + 1] -= region.size
    return list(accumulate(changes))


def _memory_map(report: Report, label: str) -> Markup:
    width, height, left, right, top, bottom = _MAP
    steps, ops = report.memory_steps, 1 + max(region.op for region in report.memory)
    arena = max([1, report.arena_bytes, *(region.offset + region.size for region in report.memory)])
    column = (width - left - right) / steps

    def y(offset: float) -> float:
        return height - bottom - (height - top - bottom) * offset / arena

    parts = [page.line(left - 4, y(tick), width - right, y(tick), "grid") for tick in _byte_ticks(arena)]
    unit, name = (1024, "KB") if arena >= 2048 else (1, "B")
    parts += [page.text(left - 8, y(at) + 4, f"{at / unit:g} {name}", "tick", "end") for at in _byte_ticks(arena)]
    for region in report.memory:
        last = min(region.death, steps - 1)
        box = (left + column * region.birth, y(region.offset + region.size), column * (last + 1 - region.birth))
        parts += _block(report, region, box, y(region.offset) - y(region.offset + region.size))
    for start, end, name in ((0, ops, "forward"), (ops, ops + 1, "loss"), (ops + 1, steps, "backward")):
        if column * (end - start) >= 24:
            parts.append(page.text(left + column * (start + end) / 2, top - 10, name, "axis-name"))
        if start:
            parts.append(page.line(left + column * start, top - 6, left + column * start, height - bottom + 6, "phase"))
    every = math.ceil(22 / column)
    active = _active_layers(report, ops)
    for step in (*range(0, ops, every), *range(steps - 1, ops, -every)):
        if step in active:
            parts.append(page.text(left + column * (step + 0.5), height - bottom + 18, str(active[step]), "tick"))
    parts.append(page.text((left + width - right) / 2, height - 6, "active layer", "axis-name"))
    return page.svg(width, height, label, parts)


def _active_layers(report: Report, ops: int) -> dict[int, int]:
    """The layer that runs, by step: those that run backward, whose errors end there, and those recomputed for them."""
    again = {region.birth: region.op for region in report.memory if region.name == "recomputed output"}
    back = {region.death: region.op for region in report.memory if region.name == "error"}
    return {op: op for op in range(ops)} | again | back


def _block(report: Report, region: Region, box: tuple[float, float, float], height: float) -> list[Markup]:
    """A region's rectangle at `box` (left, top, width), with a tooltip, and a label where there is room."""
    x, y, width = box
    kinds = {row.op: row.kind for row in report.layers}
    owner = f"layer {region.op} {kinds.get(region.op, '')}".strip() + ", " if region.op >= 0 else ""
    end = report.memory_steps - 1
    always = region.birth == 0 and region.death >= end
    when = "the whole pass" if always else f"steps {region.birth} to {min(region.death, end)}"
    tip = f"{owner}{region.name}: {region.size:,} bytes at {region.offset:,}, {when}"
    edge = " edged" if height >= 3 and width >= 3 else ""
    block = page.element(
        "rect",
        page.element("title", tip),
        x=float(x),
        y=f"{y:.2f}",
        width=float(max(width, 0)),
        height=f"{max(height, 0.4):.2f}",
        class_=f"fill-{_kind(region).key}{edge}",
    )
    name = f"{region.name} {region.op}" if region.op >= 0 else region.name
    fits = height >= 13 and width >= 7 * len(name) + 8
    return [block, *([page.text(x + 5, y + height / 2 + 4, name, "block", "start")] if fits else [])]


def _byte_ticks(top: int) -> list[int]:
    step = 1 << max(0, math.ceil(math.log2(max(1, top) / 6)))
    return list(range(0, top + 1, step))
