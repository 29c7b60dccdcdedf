"""Building blocks of HTML pages: words and units, parts from templates, elements of charts.

A page is a self-contained file without scripts: it can be mailed, printed and opened offline. Markup comes only from
the templates and from `element`, which escape all values; everything else is text.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from jinja2 import Template

# --- Words and units ---


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def three_digits(value: float) -> str:
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if 0 < value < 1000 else f"{value:,.0f}"


def time(us: float | None) -> str:
    if us is None:
        return "–"
    unit, name = next((pair for pair in ((1e6, "s"), (1e3, "ms")) if us >= pair[0]), (1, "µs"))
    return f"{three_digits(us / unit)} {name}"


def energy(uj: float) -> str:
    unit, name = next((pair for pair in ((1e6, "J"), (1e3, "mJ")) if uj >= pair[0]), (1, "µJ"))
    return f"{three_digits(uj / unit)} {name}"


def size(count: float) -> str:
    return f"{count:,.0f} B" if count < 1024 else f"{three_digits(count / 1024)} KB"


def shape(sizes: Sequence[int]) -> str:
    return "\u00a0×\u00a0".join(str(size) for size in sizes)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def date(iso: str) -> str:
    """Day and minute of an ISO time; other text is returned unchanged."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{time.day} {time:%B %Y, %H:%M %Z}".strip()


def mode(mode: str) -> str:
    return {"frozen_a": "frozen A (B trains)", "trainable_a": "A and B train"}.get(mode, mode)


# --- HTML ---


@functools.cache
def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # takes a while to import

    templates = Environment(
        loader=PackageLoader("edgelora.learn.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["percent"] = percent
    return templates.get_template(name)


def part(name: str, *values: object) -> Markup:
    """A macro of parts.html with these values."""
    macro = getattr(_template("parts.html").module, name)
    return Markup(macro(*values).strip())


def whole(title: str, sections: Iterable[Markup]) -> str:
    """The HTML of a page."""
    return _template("page.html").render(title=title, sections=list(sections)) + "\n"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, total: bool = False, marked: int | None = None
) -> Markup:
    """A table: the first cell of a row is its header, the others are numbers. total: the last row is a total.

    marked: the index of a highlighted row.
    """
    return part("table", head, list(rows), caption, total, marked)


def section(title: str, *content: Markup) -> Markup:
    """A section with a title; nothing if it has no content."""
    return part("section", title, content) if any(content) else Markup()


def figure(picture: Markup, label: str, caption: str, legend: Sequence[tuple[Markup, str]]) -> Markup:
    """A chart with its legend of (mark, text) above and a caption below."""
    return part("figure", picture, label, caption, legend)


# --- Charts ---


def element(name: str, *content: str, **attributes: object) -> Markup:
    """An element: text is escaped, elements are not. `_` in attribute names becomes `-`, a final one is dropped.

    Numbers are rounded to a tenth.
    """
    given = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    start = Markup("").join(Markup(' {}="{}"').format(key, _attribute(value)) for key, value in given)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), start, Markup("").join([escape(part) for part in content]))


def _attribute(value: object) -> object:
    return f"{value:.1f}" if isinstance(value, float) else value


def svg(width: int, height: float, label: str, parts: Iterable[Markup]) -> Markup:
    """A drawing; scrolls on screens that are narrower, to keep its text readable."""
    inner, kind = Markup("\n").join(parts), "small" if width <= 480 else "large"
    return element(
        "svg", "\n", inner, "\n", viewBox=f"0 0 {width} {height:.0f}", class_=kind, role="img", aria_label=label
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=kind)


def text(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> Markup:
    return element("text", text, x=float(x), y=float(y), text_anchor=anchor, class_=kind)


def dot(x: float, y: float, kind: str, tip: str) -> Markup:
    return element("circle", element("title", tip), cx=float(x), cy=float(y), r=3.2, class_=f"dot-{kind}")


def path(points: Iterable[tuple[float, float]], kind: str) -> Markup:
    """A line through points; nothing without points."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=joined, class_=kind) if joined else Markup()


def key(kind: str) -> Markup:
    """A legend's line of this kind."""
    return element("svg", line(1, 5, 21, 5, kind), class_="key", viewBox="0 0 22 10", aria_hidden="true")


def ticks(top: float, most: int) -> list[float]:
    """0 and up to `most` round steps; the last is the first at or above `top`."""
    if top <= 1e-9:
        return [0, 1]
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice * most >= top * (1 - 1e-9))
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]
