"""The HTML page of a plan: the Pareto frontier, gains by layer, and the gain of a larger budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from edgelora.core.formats.files import write_atomic
from edgelora.learn.planning.choose import Candidate, Choice
from edgelora.learn.planning.plan import Plan

from . import page

_CHART = (440, 300, 52, 24, 28, 44)  # width, height; margins left, right, top, bottom
_LOOKS = {"frozen_a": "epoch", "trainable_a": "float"}  # the style's names of lines and dots


def write_plan_report(path: Path, choice: Choice, result: Plan, model_name: str, data_name: str) -> None:
    """Writes the page of a choice and its plan atomically."""
    title = f"A plan for {model_name} on {result.board}"
    parts = [
        _headline(title, choice, result, data_name),
        _chart_section("Gain by adapter bytes", choice, lambda one: one.adapter_bytes, choice.budget.adapter),
        _chart_section("Gain by arena bytes", choice, lambda one: one.arena_bytes, choice.budget.ram),
        _layers_section(choice, result),
        _frontier_section(choice),
    ]
    write_atomic(path, page.whole(title, parts).encode())


def _headline(title: str, choice: Choice, result: Plan, data_name: str) -> Markup:
    numbers = [
        ("after", f"of arena, of {page.size(choice.budget.ram)}", page.size(result.arena_bytes)),
        ("before", _of(choice.budget.adapter), page.size(result.adapter_bytes)),
    ]
    again = page.count(sum(result.recompute), "output")
    sentences = [
        f"{page.mode(result.mode)}, at ranks {_ranks(choice.chosen)}, in micro-batches of {result.micro_batch}.",
        f"Expected gain: {choice.chosen.gain:.3g} {choice.unit}.",
        f"{again} recomputed to save memory." if any(result.recompute) else "No output is recomputed.",
    ]
    if result.step_us is not None:
        sentences.append(f"Predicted: a training step takes {page.time(result.step_us)}")
        joules = result.update_joules
        sentences[-1] += "." if joules is None else f", an update {page.energy(joules * 1e6)}."
    sentences.append(_beyond(choice))
    return page.part("headline", "plan", title, [data_name], numbers, [], sentences)


def _of(limit: int | None) -> str:
    return "adapter file, no limit given" if limit is None else f"adapter file, of {page.size(limit)}"


def _beyond(choice: Choice) -> str:
    more = choice.beyond
    if more is None:
        return "A larger budget would gain almost nothing."
    sizes = f"{more.arena_bytes:,} bytes of arena and {more.adapter_bytes:,} of adapter"
    return f"The next useful budget, {sizes}, would gain {more.gain - choice.chosen.gain:.3g} more."


def _ranks(one: Candidate) -> str:
    return " ".join(map(str, one.recipe.given_ranks or ()))


def _chart_section(title: str, choice: Choice, size: Callable[[Candidate], int], limit: int | None) -> Markup:
    legend = [
        (page.key(f"loss-{_LOOKS[mode]}"), page.mode(mode))
        for mode in _LOOKS
        if any(one.recipe.mode == mode for one in choice.frontier)
    ]
    caption = "Each dot is a configuration with more gain than all smaller ones of its mode. The ring is the choice"
    caption += "; the vertical line is the budget." if limit else "."
    return page.section(title, page.figure(_chart(choice, size, limit, title), title, caption, legend))


def _chart(choice: Choice, size: Callable[[Candidate], int], limit: int | None, label: str) -> Markup:
    width, height, left, right, top, bottom = _CHART
    every = [*choice.frontier, choice.chosen]
    gains = page.ticks(max(one.gain for one in every), 5)
    most = max(max(map(size, every)), 1)
    sizes = page.ticks(most / 1024, 4)

    def x(count: float) -> float:
        return left + (width - left - right) * count / (sizes[-1] * 1024)

    def y(gain: float) -> float:
        return height - bottom - (height - top - bottom) * gain / gains[-1]

    parts = [page.line(left, y(tick), width - right, y(tick), "grid" if tick else "axis") for tick in gains]
    parts += [page.text(left - 8, y(tick) + 4, f"{tick:g}", "tick", "end") for tick in gains]
    parts += [page.text(x(tick * 1024), height - bottom + 18, f"{tick:g} KB", "tick") for tick in sizes]
    parts.append(page.text((left + width - right) / 2, height - 6, label.split(" by ")[1], "axis-name"))
    parts.append(page.text(0, 14, f"expected gain, {choice.unit}", "axis-name", "start"))
    if limit and limit <= sizes[-1] * 1024:
        parts.append(page.line(x(limit), top, x(limit), height - bottom, "phase"))
    for mode, look in _LOOKS.items():
        points = _staircase([one for one in every if one.recipe.mode == mode], size)
        if len(points) > 1:
            parts.append(page.path([(x(size(one)), y(one.gain)) for one in points], f"loss-{look}"))
        parts += [page.dot(x(size(one)), y(one.gain), look, f"ranks {_ranks(one)}: {one.gain:.3g}") for one in points]
    chosen = page.element("title", "the choice")
    parts.append(
        page.element("circle", chosen, cx=x(size(choice.chosen)), cy=y(choice.chosen.gain), r=8, class_="ring")
    )
    return page.svg(width, height, f"Expected gain in {choice.unit}, {label.lower()}", parts)


def _staircase(candidates: Sequence[Candidate], size: Callable[[Candidate], int]) -> list[Candidate]:
    """Configurations with more gain than all smaller ones, by size."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: (size(one), -one.gain)):
        if not kept or one.gain > kept[-1].gain:
            kept.append(one)
    return kept


def _layers_section(choice: Choice, result: Plan) -> Markup:
    tables = []
    for measured in choice.sensitivities:
        ranks = sorted({rank for by_rank in measured.gains.values() for rank in by_rank})
        rows = [
            [
                f"{op} {result.layers[op].kind}",
                *(f"{by_rank[rank]:.3g}" if rank in by_rank else "–" for rank in ranks),
                str(result.ranks[op]) if measured.mode == result.mode else "",
            ]
            for op, by_rank in measured.gains.items()
        ]
        head = ["Layer", *(f"rank {rank}" for rank in ranks), "chosen"]
        tables.append(page.table(head, rows, f"{page.mode(measured.mode)}: gain in {choice.unit}"))
    method = choice.sensitivities[0].method
    return page.section("Gain by layer", *tables, page.part("note", f"Method: {method}."))


def _frontier_section(choice: Choice) -> Markup:
    """The frontier with the choice, which may be off the frontier if it recomputes outputs."""
    others = [one for one in choice.frontier if one.recipe != choice.chosen.recipe]
    every = sorted([*others, choice.chosen], key=lambda one: one.gain)
    rows = [
        [
            _ranks(one) + (" (the choice)" if one is choice.chosen else ""),
            page.mode(one.recipe.mode),
            f"{one.adapter_bytes:,}",
            f"{one.arena_bytes:,}",
            f"{one.gain:.4f}",
        ]
        for one in every
    ]
    head = ["Ranks by op", "Mode", "Adapter bytes", "Arena bytes", f"Gain, {choice.unit}"]
    caption = "Configurations not dominated by another of their mode in both sizes"
    marked = next(i for i, one in enumerate(every) if one is choice.chosen)
    return page.section("The frontier", page.table(head, rows, caption, marked=marked))
