"""A base, its session's settings and samples as a C header, for programs without a filesystem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH = 100  # columns of a line
Labelled = tuple[NDArray[np.int8], NDArray[np.integer]]
"""Samples [N, ...] and their labels [N], 0 to 255."""


@dataclass(frozen=True)
class ExportedModel:
    """A base with the settings of a session that trains it.

    ranks: of each op. arena, adapter: bytes that session and saved adapter take. sample: int8 values of a sample.
    """

    elm: bytes
    labels: Sequence[str]
    ranks: bytes
    mode: str
    micro_batch: int
    momentum: int
    threshold: int
    frames: int
    arena: int
    adapter: int
    sample: int


def c_header(model: ExportedModel, parts: Mapping[str, Labelled], made_by: str) -> str:
    """The header's text. parts: samples by a name that begins that of their arrays, such as "train"."""
    sizes = {
        "MODEL_SIZE": len(model.elm),
        "MODEL_OPS": len(model.ranks),
        "MODEL_ARENA": model.arena,
        "MODEL_ADAPTER": model.adapter,
        "SAMPLE_SIZE": model.sample,
        **{f"{name.upper()}_COUNT": len(y) for name, (_, y) in parts.items()},
    }
    fields = (
        *("model_ranks", f"EDGELORA_{model.mode.upper()}", model.micro_batch, model.momentum, 0, model.threshold),
        *(model.frames, 0, 1, 0, 1),
    )
    blocks = [
        f"// {made_by}\n// Sizes are bytes; arena and adapter are those of a session with model_config.",
        "#ifndef MODEL_H\n#define MODEL_H\n\n#include <edgelora.h>",
        "enum {\n" + "".join(f"    {name} = {value},\n" for name, value in sizes.items()) + "};",
        _array("const uint8_t model[MODEL_SIZE] __attribute__((aligned(8)))", model.elm),
        _array("const uint8_t model_ranks[MODEL_OPS]", model.ranks),
        "// ranks, mode, micro-batch, momentum, plain, threshold, frames, recompute, fixed, vectors, cores\n"
        f"static const edgelora_config_t model_config = {{\n    {', '.join(map(str, fields))}}};",
    ]
    if model.labels:
        names = "".join(f"    {_string(label)},\n" for label in model.labels)
        blocks.append(f"static const char *const model_labels[{len(model.labels)}] = {{\n{names}}};")
    for name, (x, y) in parts.items():
        rows = ",\n".join(f"    {{\n{_lines(row, 8)}    }}" for row in x.reshape(len(y), -1).tolist())
        count = f"{name.upper()}_COUNT"
        blocks.append(f"static const int8_t {name}_samples[{count}][SAMPLE_SIZE] = {{\n{rows}}};")
        blocks.append(_array(f"const uint8_t {name}_labels[{count}]", y.tolist()))
    return "\n\n".join([*blocks, "#endif\n"])


def _array(declared: str, values: Iterable[int]) -> str:
    return f"static {declared} = {{\n{_lines(values, 4)}}};"


def _lines(values: Iterable[int], indent: int) -> str:
    """Numbers with commas, in lines of at most WIDTH."""
    lines, line = [], " " * (indent - 1)
    for value in values:
        word = f" {value},"
        if len(line) + len(word) > WIDTH:
            lines.append(line)
            line = " " * (indent - 1)
        line += word
    return "".join(f"{line}\n" for line in [*lines, line])


def _string(text: str) -> str:
    """A string of C: ASCII, other bytes of UTF-8 as octal numbers."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return '"' + "".join(plain) + '"'
