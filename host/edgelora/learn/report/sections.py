"""The page of a report, section by section."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from markupsafe import Markup

from edgelora.core.formats.files import write_atomic

from . import page
from .charts import loss_section, memory_section
from .conclusion import Conclusion
from .record import Report

# --- Headline ---


def _headline(report: Report) -> Markup:
    measure = report.measure
    unit = "" if measure.name == "accuracy" else ", mean squared error"
    numbers = [
        ("before", f"INT8 base network{unit}", measure.shown(measure.before)),
        ("after", f"personalized on the board{unit}", measure.shown(measure.after)),
    ]
    if report.float_lora_accuracy is not None:
        numbers.append(("float", "float LoRA, for comparison", page.percent(report.float_lora_accuracy)))
    under = [report.subject, report.board, page.date(report.created)]
    badges = [_conclusion_badge(report.conclusion), _twin_badge(report.host_twin_identical)]
    return page.part("headline", "personalization report", report.title, under, numbers, badges, _summary(report))


def _conclusion_badge(conclusion: Conclusion) -> tuple[str, str, str]:
    kind = {"good": "yes", "bad": "no", "neutral": ""}[conclusion.tone]
    return kind, conclusion.headline, conclusion.text


def _twin_badge(identical: bool | None) -> tuple[str, str, str]:
    if identical is None:
        return "", "Host twin identical: not checked", ""
    if identical:
        return "yes", "Host twin identical: yes", "The board's adapter equals the host's, byte for byte."
    meaning = "The board's adapter differs from the one the host computed: do not trust these results."
    return "no", "Host twin identical: no", meaning


def _summary(report: Report) -> list[str]:
    measure = report.measure
    parts = [
        f"The base network {measure.scored(measure.before)}.",
        f"After {page.count(report.epochs, 'epoch')} over {page.count(report.samples, 'training sample')} on "
        f"{report.board} it {measure.scored(measure.after)}: {measure.change}.",
    ]
    if report.float_lora_accuracy is not None and report.adapted_accuracy is not None:
        gap = 100 * (report.adapted_accuracy - report.float_lora_accuracy)
        place = "the same as" if abs(gap) < 0.05 else f"{abs(gap):.1f} points {'above' if gap > 0 else 'below'}"
        parts.append(f"That is {place} float LoRA.")
    if report.tested_on:
        parts.append(f"Tested on {report.tested_on}.")
    cost = f"Training used {page.size(report.arena_bytes)} of RAM"
    if report.train_step_us is not None:
        cost += f" and {page.time(report.train_step_us)} per sample"
    parts.append(f"{cost}; the adapter has {page.size(report.adapter_bytes)}.")
    return parts


# --- Confusion matrices ---


def _confusion_section(report: Report) -> Markup:
    count = max(len(report.confusion_base), len(report.confusion_adapted))
    names = [*report.labels, *(f"class {i}" for i in range(len(report.labels), count))]
    pairs = (
        (f"Before: base network, {page.percent(report.base_accuracy)}", report.confusion_base),
        (f"After: personalized, {page.percent(report.adapted_accuracy)}", report.confusion_adapted),
    )
    tables = [page.part("confusion", counts, names, title) for title, counts in pairs if counts]
    return page.section("Confusion", page.part("matrices", tables, len(names) > 8)) if tables else Markup()


def _classes_section(report: Report) -> Markup:
    """Each class's recall before and after."""
    before, after = report.confusion_base, report.confusion_adapted
    if not before or len(before) != len(after):
        return Markup()
    names = [*report.labels, *(f"class {i}" for i in range(len(report.labels), len(before)))]
    rows = [[name, *_recalls(i, before[i], after[i])] for i, name in enumerate(names[: len(before)]) if sum(before[i])]
    head = ["Class", "Before", "After", "Change", "Test samples"]
    note = page.part("note", "Recall: the share of a class's test samples that the network classifies correctly.")
    return page.section("Classes", page.table(head, rows, "Recall by class, correct samples in parentheses"), note)


def _recalls(i: int, before: list[int], after: list[int]) -> list[str]:
    def right(row: list[int]) -> int:
        return row[i] if i < len(row) else 0

    def shown(row: list[int]) -> str:
        return f"{page.percent(right(row) / sum(row) if sum(row) else None)} ({right(row):,})"

    change = 100 * (right(after) / max(1, sum(after)) - right(before) / sum(before))
    points = "0" if abs(change) < 0.05 else f"{change:+.1f}".replace("-", "\u2212")
    return [shown(before), shown(after), f"{points} points", f"{sum(before):,}"]


# --- Next steps ---


def _go_on_section(report: Report) -> Markup:
    """Commands for the computer, and a program for the board, with the files of this run."""
    if not (report.base_path and report.adapter_path):
        return Markup()
    caution = f"{report.conclusion.title}." if report.activated is False else ""
    note = page.part("note", f"Run the commands in the folder of this report. {caution}".strip())
    return page.section(
        "Next steps",
        page.part("listing", "On the computer", _commands(report)),
        page.part("listing", "On the board", device_code(report)),
        note,
    )


def _commands(report: Report) -> str:
    name = report.store_name or "personal"
    lines = [f"edgelora push adapter.ela {shlex.quote(report.adapter_path)}  # to another board with this base"]
    if not report.store_name:
        lines.append(f"edgelora store put adapter.ela --name {name}  # or to a board's store, under a name")
    lines.append(f"edgelora store activate {shlex.quote(name)}  # active, also after a reset")
    return "\n".join(lines)


def device_code(report: Report) -> str:
    """A program for the board that runs inference with this run's adapter."""
    rows = sorted(report.layers, key=lambda row: row.op)
    alike = all(row.rank == report.rank for row in rows if row.weights)
    ranks = str(report.rank) if alike else f"bytes({[row.rank for row in rows]})"
    lines = ["seen = model.infer(window)", "print(model.labels[seen] if model.labels else seen)"]
    if report.measure.name == "error":
        lines = ["model.infer(window)", "print(list(model.output))  # int8, on the output's grid"]
    return "\n".join(
        (
            "import edgelora",
            "",
            f'model = edgelora.Model({json.dumps(report.base_path)}, ranks={ranks}, mode="infer")',
            f"model.use(model.adapter({json.dumps(report.adapter_path)}))",
            "window = bytearray(model.input_size)  # int8, quantized like the base's input",
            *lines,
        )
    )


# --- Tables ---


def _cost_section(report: Report) -> Markup:
    tables = page.part("group", "side", [_time_table(report), _size_table(report)])
    source = f" ({report.power_source})" if report.power_source else ""
    note = Markup()
    if report.active_watts is not None:
        usual = f"{1000 * report.active_watts:.1f} mW at the usual clock"
        note = page.part("note", f"Energy is estimated as time multiplied by power, {usual}{source}.")
    return page.section("Time and size", tables, _energy_table(report), note)


def _energy_table(report: Report) -> Markup:
    if not report.energy:
        return Markup()
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
    head = [
        "Clock",
        "Training, one sample",
        "Power",
        f"Energy of an update of {report.micro_batch}",
        "Inference energy",
    ]
    return page.table(head, rows, "Energy by clock")


def _time_table(report: Report) -> Markup:
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
        return Markup()
    head, columns = ["", "Time"], [[row[0] for row in measured], [row[1] for row in measured]]
    if any(expected is not None for _, _, expected, _ in measured):
        head.append("Predicted")
        columns.append([page.time(expected) for _, _, expected, _ in measured])
    if any(energy is not None for *_, energy in measured):
        head.append("Energy")
        columns.append(["" if energy is None else page.energy(energy) for *_, energy in measured])
    return page.table(head, zip(*columns, strict=True), "On the board")


def _size_table(report: Report) -> Markup:
    sizes = [
        ("Arena (RAM)", report.arena_bytes),
        ("MicroPython heap left", report.free_heap_bytes),
        ("Adapter file", report.adapter_bytes),
        ("Base network file", report.model_bytes),
        ("Checkpoint, besides the training state", report.checkpoint_bytes),
    ]
    rows = [[name, page.size(size), f"{size:,}"] for name, size in sizes if size]
    return page.table(["", "Size", "Bytes"], rows, "Memory and storage")


def _layers_section(report: Report) -> Markup:
    if not report.layers:
        return Markup()
    rows = [
        [
            f"{row.op} {row.kind}".replace("_", " ").replace(" ", "\u00a0"),
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
    note = page.part("note", "Shapes are height × width × channels. The adapter file adds headers and padding.")
    return page.section("Layers", page.table(head, rows, "The base network and its adapted layers", total=True), note)


def _settings_section(report: Report) -> Markup:
    links = {f"Link: {key}".replace("_", " "): _value(value) for key, value in (report.link or {}).items()}
    decay = page.part("decay", report.momentum) if report.momentum else "none"
    rows = [
        ("Board", report.board),
        ("Firmware", report.firmware),
        ("Subject", report.subject),
        ("Base network", page.part("code", report.base_id) if report.base_id else ""),
        ("Mode", page.mode(report.mode)),
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
        *links.items(),
        ("Made", report.created),
    ]
    table = page.table([], [[name, value] for name, value in rows if value], "Settings of this run")
    return page.section("Settings", page.part("group", "settings", [table]))


def _ranks(report: Report) -> str:
    """The rank, and whether it varies by layer."""
    alike = all(row.rank in (0, report.rank) for row in report.layers)
    return str(report.rank) if alike else f"up to {report.rank}, by layer"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:,}" if isinstance(value, int) else page.three_digits(value) if isinstance(value, float) else str(value)
    )


def _notes_section(report: Report) -> Markup:
    notes = [*report.notes, "1 KB is 1024 bytes."]
    return page.section("Notes", page.part("notes", notes))


# --- The page ---


_SECTIONS = (
    _headline,
    loss_section,
    _classes_section,
    _confusion_section,
    _go_on_section,
    memory_section,
    _cost_section,
    _layers_section,
    _settings_section,
    _notes_section,
)


def render_html(report: Report) -> str:
    """The text of `report.html`."""
    return page.whole(report.title, [section(report) for section in _SECTIONS])


def write_report(report: Report, out_dir: Path) -> Path:
    """Writes `report.json` and `report.html` into `out_dir`, each atomically; returns the page's path."""
    write_atomic(out_dir / "report.json", report.to_json().encode())
    path = out_dir / "report.html"
    write_atomic(path, render_html(report).encode())
    return path
