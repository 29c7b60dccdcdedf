"""The vibration front end of SPEC.md, section 15, in NumPy: bit-exact in integers, and in floats.

It shares nothing with the C code under test: tables are computed by formula, the FFT is recursive, sums are of arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FRAME, OF_ENVELOPE = 512, 8


def s16(x: Ints) -> Ints:
    return (x + 32768) % 65536 - 32768


def q15(x: Floats) -> Ints:
    return np.floor(32767 * x + 0.5).astype(np.int64)


def rounded(x: Ints) -> Ints:
    return (x + (1 << 14)) >> 15


def transform(r: Ints, i: Ints) -> tuple[Ints, Ints]:
    """Radix 4, decimation in time, along the last axis; each stage divides by 4."""
    n = r.shape[-1]
    if n == 1:
        return r, i
    quarters = [np.stack([part[..., row::4] for row in range(4)], axis=-2) for part in (r, i)]
    a, b = (rounded(part * 8191) for part in transform(*quarters))
    angle = np.arange(4)[:, None] * (2 * np.pi * np.arange(n // 4) / n)
    c, s = q15(np.cos(angle)), q15(np.sin(angle))
    turned = np.arange(4)[:, None] > 0  # the first has no twiddle factor
    p, q = np.where(turned, rounded(a * c + b * s), a), np.where(turned, rounded(b * c - a * s), b)
    (ar, br, cr, dr), (ai, bi, ci, di) = (np.moveaxis(part, -2, 0) for part in (p, q))
    rows_r = ar + br + cr + dr, ar - cr + bi - di, ar + cr - br - dr, ar - cr - bi + di
    rows_i = ai + bi + ci + di, ai - ci - br + dr, ai + ci - bi - di, ai - ci + br - dr
    return s16(np.concatenate(rows_r, axis=-1)), s16(np.concatenate(rows_i, axis=-1))


def energies(x: Ints) -> Ints:
    """|X[k]|^2 of bins 0 to 255; bin 0 has no meaning."""
    r, i = transform(s16(x[0::2]), s16(x[1::2]))
    k = np.arange(256)
    ar, ai = rounded(r * 16383), rounded(i * 16383)
    br, bi = rounded(r[-k % 256] * 16383), rounded(s16(-i[-k % 256]) * 16383)
    s, c = q15(np.sin(np.pi * k / 256)), q15(np.cos(np.pi * k / 256))
    turned_r = s16(rounded((ai - bi) * c - (ar - br) * s))
    turned_i = s16(rounded(-(ai - bi) * s - (ar - br) * c))
    first = ((ar + br + turned_r) >> 1) ** 2 + ((ai + bi + turned_i) >> 1) ** 2
    # the upper half is computed from the lower half's values, including k = 128
    second = ((ar + br - turned_r) >> 1) ** 2 + ((turned_i - ai - bi) >> 1) ** 2
    return np.where(k < 128, first, second[-k % 256])


# log2(1 + t) - t at t = j / 128, in 1/65536.
BENDS = [int(np.floor(65536 * (np.log2(1 + j / 128) - j / 128) + 0.5)) for j in range(129)]


def log2_q16(x: int) -> int:
    whole = x.bit_length() - 1
    rest = ((x - (1 << whole)) << 16) >> whole
    line, inside = divmod(rest, 512)
    return (whole << 16) + rest + BENDS[line] + ((BENDS[line + 1] - BENDS[line]) * inside >> 16)


def edges(bands: int) -> list[int]:
    """The edges of bands over bins 1 to 255."""
    found = [1]
    for left in range(bands, 0, -1):
        found.append(max(found[-1] + 1, int(np.floor(found[-1] ** (1 - 1 / left) * 256 ** (1 / left) + 0.5))))
    return found


def windowed(v: Ints) -> tuple[Ints, int]:
    shift = 15 - int(np.abs(v).max()).bit_length()
    n = np.arange(FRAME)
    hann = (32768 - q15(np.cos(2 * np.pi * np.minimum(n, FRAME - n) / FRAME))) >> 1
    return (v * hann + ((1 << 15 - shift) >> 1)) >> (15 - shift), shift


def logs(x: Ints, bands: int) -> tuple[Ints, int]:
    """Q16 log2 of the bands' energies of values without their mean, and the octaves to subtract from them."""
    inside, shift = windowed(x)
    found = energies(inside)
    ends = edges(bands)
    sums = [int(found[a:b].sum()) for a, b in zip(ends, ends[1:], strict=False)]
    return np.array([log2_q16(max(1, e)) for e in sums]), 2 * shift


def centred(x: Ints) -> Ints:
    return np.clip(x - ((int(x.sum()) + 256) >> 9), -32767, 32767)


def spectral(x: NDArray[np.int16], frames: int) -> Ints:
    """The features of one channel, int64 [windows, 68]."""
    whole = x[: len(x) // (FRAME * frames) * FRAME * frames].astype(np.int64)
    older = np.concatenate([whole[:1], whole[:1], whole])
    beats = np.abs(older[2:] - 2 * older[1:-1] + older[:-2]).reshape(-1, 8).sum(axis=1)
    rows = []
    for window in range(len(whole) // (FRAME * frames)):
        parts = whole.reshape(-1, frames, FRAME)[window]
        envelopes = beats.reshape(-1, frames // OF_ENVELOPE, OF_ENVELOPE, FRAME // 8)[window]
        bands = sum(np.subtract(*_scaled(logs(centred(part), 40))) for part in parts)
        modulation = np.zeros(24, np.int64)
        for envelope in envelopes:
            shifts = np.array([max(0, int(part.max()).bit_length() - 15) for part in envelope])
            joined = (envelope >> shifts.max()).reshape(-1)
            modulation += np.subtract(*_scaled(logs(centred(joined), 24))) + 2 * int(shifts.max()) * 65536
        rows.append([*_means(bands, frames), *_means(modulation, frames // 8), *statistics(parts)])
    return np.array(rows, np.int64).reshape(-1, 68)


def _scaled(found: tuple[Ints, int]) -> tuple[Ints, int]:
    return found[0], found[1] * 65536


def _means(sums: Ints, count: int) -> list[int]:
    return [(int(v) + 128 * count) // (256 * count) for v in sums]


def statistics(parts: Ints) -> list[int]:
    values = np.array([centred(part) for part in parts])
    count = log2_q16(values.size)
    peak = int(np.abs(values).max())
    second = fourth = log_peak = 0
    if peak:
        second = _log2_wide(int((values**2).sum()))
        log_peak = log2_q16(peak)
        least, total = 15, 0
        for part in values:
            shift = 15 - int(np.abs(part).max()).bit_length()
            squares = (part << shift) ** 2 >> 14
            amount = int((squares**2).sum())
            if shift < least:
                total, least = total >> 4 * (least - shift), shift
            else:
                amount >>= 4 * (shift - least)
            total += amount
        fourth = _log2_wide(total) + (28 - 4 * least) * 65536
    rms = (second - count) >> 1
    found = rms, log_peak, log_peak - rms, fourth + count - 2 * second
    return [(v + 128) >> 8 for v in found]


def _log2_wide(v: int) -> int:
    over = max(0, v.bit_length() - 32)
    return log2_q16(v >> over) + over * 65536


def spectral_float(x: NDArray[np.int16], frames: int) -> Floats:
    """The same features without rounding: float64 [windows, 68] in 1/256 octave."""
    whole = x[: len(x) // (FRAME * frames) * FRAME * frames].astype(float)
    older = np.concatenate([whole[:1], whole[:1], whole])
    beats = np.abs(older[2:] - 2 * older[1:-1] + older[:-2]).reshape(-1, 8).sum(axis=1)
    parts = whole.reshape(-1, frames, FRAME)
    y = parts - parts.mean(axis=-1, keepdims=True)
    bands = _float_logs(y, 40).mean(axis=1)
    modulation = _float_logs(beats.reshape(len(parts), frames // 8, FRAME), 24).mean(axis=1)
    flat = y.reshape(len(parts), -1)
    rms, peak = np.sqrt((flat**2).mean(axis=1)), np.abs(flat).max(axis=1)
    kurtosis = (flat**4).mean(axis=1) / rms**4
    told = np.log2(np.stack([rms, peak, peak / rms, kurtosis], axis=1))
    return 256 * np.concatenate([bands, modulation, told], axis=1)


def _float_logs(x: Floats, bands: int) -> Floats:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    power = np.abs(np.fft.rfft((x - x.mean(axis=-1, keepdims=True)) * window) / FRAME) ** 2
    ends = edges(bands)
    return np.log2(np.stack([power[..., a:b].sum(axis=-1) for a, b in zip(ends, ends[1:], strict=False)], axis=-1))
