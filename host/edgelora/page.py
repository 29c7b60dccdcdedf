"""What the HTML pages are made of: words and units, tables, charts, the style.

A page is one file without scripts or outside resources: it can be mailed, printed and opened offline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape

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
    """Day and minute of an ISO time, as it is if it is none."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{time.day} {time:%B %Y, %H:%M %Z}".strip()


def mode(mode: str) -> str:
    return {"frozen_a": "frozen A (B trains)", "trainable_a": "A and B train"}.get(mode, mode)


# --- HTML ---


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, last: str = "") -> str:
    """A table of escaped cells: first column row headers, the others numbers. `last` marks the last row ("total")."""
    top = "".join(f'<th scope="col">{cell}</th>' if cell else "<td></td>" for cell in head)
    lines = [f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) for first, *rest in rows]
    body = "".join(
        f'<tr class="{last}">{line}</tr>' if last and line is lines[-1] else f"<tr>{line}</tr>" for line in lines
    )
    header = f"<thead><tr>{top}</tr></thead>" if head else ""
    table = f"<table><caption>{caption}</caption>{header}<tbody>{body}</tbody></table>"
    return wide(table, caption)


def wide(content: str, label: str) -> str:
    """Scrolls on its own where the page is too narrow for it."""
    return f'<div class="wide" role="region" aria-label="{label}" tabindex="0">{content}</div>'


def section(title: str, *content: str) -> str:
    inner = "\n".join(part for part in content if part)
    return f"<section>\n<h2>{title}</h2>\n{inner}\n</section>" if inner else ""


def figure(picture: str, label: str, caption: str, legend: Sequence[tuple[str, str]]) -> str:
    """An SVG with its legend of (mark, text) above and a caption below."""
    keys = "".join(f"<li>{mark}{text}</li>" for mark, text in legend)
    return f'<figure><ul class="legend">{keys}</ul>{wide(picture, label)}<figcaption>{caption}</figcaption></figure>'


def svg(width: int, height: float, label: str, parts: Iterable[str]) -> str:
    inner = "\n".join(parts)
    return f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{label}">\n{inner}\n</svg>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"></line>'


def text(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{text}</text>'


def dot(x: float, y: float, kind: str, tip: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" class="dot-{kind}"><title>{tip}</title></circle>'


def ticks(top: float, most: int) -> list[float]:
    """0 and up to `most` round steps; the last reaches `top` or is the first beyond it."""
    if top <= 0:
        return [0, 1]
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice * most >= top * (1 - 1e-9))
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


def whole(title: str, body: str) -> str:
    """The text of a page; `body` is HTML, `title` is not."""
    return _PAGE.format(title=escape(f"{title} · EdgeLoRA"), style=_STYLE, body=body)


# --- Style ---


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
.ring { fill: none; stroke: var(--ink); stroke-width: 2; }
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
