#!/usr/bin/env python3
"""Prints micropython_module/core/signal/tables.c: the constants of SPEC.md, section 15.

If TensorFlow Lite Micro's front end computes a table in 32-bit floats at its start, each operation is rounded to 32
bits here, too, so that the tables are equal. `make tables` writes that file; a test compares it with this output.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

TURN = 256  # steps of the sines' argument in half a turn
WINDOW, WINDOW_BITS = 480, 12
RATE, FFT = 16000, 512
CHANNELS, LOW, HIGH, WEIGHT_BITS = 40, 125.0, 7500.0, 12
STRENGTH, OFFSET, GAIN_BITS, NOISE_BITS = 0.95, 80.0, 21, 7
BANDS, ENVELOPE_BANDS, BINS = 40, 24, 256


def f32(value: float) -> float:
    """The value rounded to the nearest 32-bit float."""
    return struct.unpack("f", struct.pack("f", value))[0]


def rounded(value: float) -> int:
    return math.floor(f32(value + 0.5))


def sines() -> list[int]:
    """Q15 sin(pi j / 256), j in [0, 3 * 63 * 2 + 128]; cosines have an offset of 128."""
    return [math.floor(32767 * math.sin(math.pi * j / TURN) + 0.5) for j in range(2 * 3 * 63 + TURN // 2 + 1)]


def window() -> list[int]:
    """The Hann window, Q12. In 32-bit floats it is not symmetric: [17] and [462] differ."""
    turn = f32(f32(f32(math.pi) * 2.0) / WINDOW)
    whole = []
    for i in range(WINDOW):
        value = f32(0.5 - f32(0.5 * f32(math.cos(f32(turn * f32(i + 0.5))))))
        whole.append(rounded(f32(value * (1 << WINDOW_BITS))))
    return whole


def mel(frequency: float) -> float:
    return f32(1127.0 * f32(math.log1p(f32(frequency / 700.0))))


def triangles() -> tuple[int, list[int], list[int]]:
    """The first bin, the number of bins on each of 41 rising edges, and the bins' weights, Q12.

    A bin's weight on the falling edge of the previous triangle is 4096 minus its weight.
    """
    hz = f32(0.5 * RATE / (FFT // 2))
    low, high = mel(LOW), mel(HIGH)
    step = f32(f32(high - low) / (CHANNELS + 1))
    centers = [f32(low + f32(step * (i + 1))) for i in range(CHANNELS + 1)]
    first = at = int(f32(1.5 + f32(LOW / hz)))
    widths, weights = [], []
    for i, center in enumerate(centers):
        before = low if i == 0 else centers[i - 1]
        begin = at
        while mel(f32(at * hz)) <= center:
            weight = f32(f32(center - mel(f32(at * hz))) / f32(center - before))
            weights.append(rounded(f32(weight * (1 << WEIGHT_BITS))))
            assert weights[-1] + rounded(f32(f32(1.0 - weight) * (1 << WEIGHT_BITS))) == 1 << WEIGHT_BITS
            at += 1
        widths.append(at - begin)
    assert max(widths) <= 16  # sums of 16 bits times 12 stay within 32
    return first, widths, weights


def gain(x: int) -> int:
    value = f32((1 << GAIN_BITS) * f32(f32(f32(x / (1 << NOISE_BITS)) + OFFSET) ** f32(-f32(STRENGTH))))
    return 32767 if value > 32767 else int(f32(value + 0.5))


def gains() -> list[int]:
    """The gain at 0 and 1, then a parabola for each bit length from 2: start value, slope, curvature, unused."""
    table = [gain(0), gain(1)]
    for bits in range(2, 33):
        start = 1 << (bits - 1)
        end = 2 * start if bits < 32 else start + (start - 1)
        y0, y1, y2 = gain(start), gain(start + (start >> 1)), gain(end)
        slope = 4 * (y1 - y0) - (y2 - y0)
        table += [y0, slope, y2 - y0 - slope, 0]
    return table[:-1]


def logarithms() -> list[int]:
    """Q16 log2(1 + i / 128) - i / 128."""
    return [math.floor(65536 * (math.log2(1 + i / 128) - i / 128) + 0.5) for i in range(129)]


def edges(bands: int) -> list[int]:
    """Widths of bands over bins 1 to 255: at least one bin each, and as equal as possible on a logarithmic axis."""
    ends = [1]
    for left in range(bands, 0, -1):
        ends.append(max(ends[-1] + 1, math.floor(ends[-1] * (BINS / ends[-1]) ** (1 / left) + 0.5)))
    assert ends[-1] == BINS
    return [end - begin for begin, end in zip(ends, ends[1:], strict=False)]


def array(kind: str, name: str, values: Sequence[int]) -> str:
    lines, line = [], ""
    for value in values:
        word = f"{value},"
        if len(line) + len(word) > 95:
            lines.append(line)
            line = ""
        line += (" " if line else "") + word
    body = "\n".join(f"    {text}" for text in (*lines, line))
    return f"const {kind} edgelora_{name}[{len(values)}] = {{\n{body}\n}};\n"


def main() -> None:
    first, widths, weights = triangles()
    assert (first, first + len(weights)) == (5, 241)
    print("// Written by tools/signal_tables.py; tables.h says what is what.")
    print("// SPDX-License-Identifier: MIT\n")
    print('#include "signal/tables.h"\n')
    for table in (
        array("int16_t", "sines", sines()),
        array("int16_t", "audio_window", window()),
        array("uint8_t", "audio_widths", widths),
        array("uint16_t", "audio_weights", weights),
        array("int16_t", "audio_gains", gains()),
        array("uint16_t", "logarithms", logarithms()),
        array("uint8_t", "spectral_widths", edges(BANDS)),
        array("uint8_t", "envelope_widths", edges(ENVELOPE_BANDS)),
    ):
        print(table, end="\n" if "envelope" not in table else "")


if __name__ == "__main__":
    main()
