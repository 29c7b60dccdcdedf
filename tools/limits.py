#!/usr/bin/env python3
"""Copies the limits of host/edgelora/core/formats/limits.py to C and SPEC.md: `make tables`.

tools/limits.py header     prints micropython_module/core/edgelora_limits.h
tools/limits.py spec       prints SPEC.md with an updated table
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "| limit | value | of |\n| --- | --- | --- |\n"


def limits() -> dict[str, tuple[int, str]]:
    """Name -> value and description."""
    source = runpy.run_path(str(ROOT / "host" / "edgelora" / "core" / "formats" / "limits.py"))
    return {name: (source[name], what) for name, what in source["TABLE"].items()}


def header() -> str:
    lines = [
        "// The limits of the formats, written by `make tables` from host/edgelora/core/formats/limits.py.",
        "// SPDX-License-Identifier: MIT",
        "",
        "#ifndef EDGELORA_LIMITS_H",
        "#define EDGELORA_LIMITS_H",
        "",
    ]
    for name, (value, what) in limits().items():
        lines += [f"// {what}", f"#define EDGELORA_{name} {value if value >= 0 else f'({value})'}"]
    return "\n".join([*lines, "", "#endif", ""])


def shown(value: int) -> str:
    """The value as text, large powers of two as 2^n."""
    power = value > 100_000 and value & (value - 1) == 0
    return f"2^{value.bit_length() - 1}" if power else str(value)


def spec() -> str:
    text = (ROOT / "SPEC.md").read_text()
    before, rest = text.split(BEGIN)
    after = rest.split("\n\n", 1)[1]
    rows = [f"| `{name}` | {shown(value)} | {what} |" for name, (value, what) in limits().items()]
    return before + BEGIN + "\n".join(rows) + "\n\n" + after


if __name__ == "__main__":
    print({"header": header, "spec": spec}[sys.argv[1]](), end="")
