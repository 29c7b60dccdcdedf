"""Spectrograms of a live signal, column by column. No pages in here."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FAST_RATE = 1000  # samples per second: faster signals are shown as spectrograms
COLUMN_SECONDS, SPAN_SECONDS = 0.02, 0.032
BANDS = 48
LOWEST_HZ = 60.0
FLOOR_DB, TOP_DB = -96.0, -12.0  # of full scale: drawn darkest, and brightest
COLUMN = BANDS + 2  # bytes: minimum and maximum of its samples, then bands from the lowest


class Spectrogram:
    """Columns, uint8 [COLUMN], one every 20 ms, of a stream of int16. Bands are evenly spaced in mel."""

    def __init__(self, rate: float) -> None:
        self.hop = max(1, round(rate * COLUMN_SECONDS))
        self._span = max(self.hop, 1 << round(math.log2(rate * SPAN_SECONDS)))
        self._window = np.hanning(self._span)
        self._bands = _bands(rate, self._span)
        self._rest = np.zeros(0, np.int16)

    def feed(self, samples: NDArray[np.int16]) -> NDArray[np.uint8]:
        """The columns that samples [n] complete: [columns, COLUMN]."""
        self._rest = np.concatenate([self._rest, samples])
        count = max(0, (len(self._rest) - self._span) // self.hop + 1)
        if not count:
            return np.zeros((0, COLUMN), np.uint8)
        frames = np.lib.stride_tricks.sliding_window_view(self._rest, self._span)[:: self.hop][:count]
        power = np.abs(np.fft.rfft(frames / 32768 * self._window)) ** 2 / (self._window.sum() / 2) ** 2
        level = 10 * np.log10(power @ self._bands + 1e-12)
        columns = np.empty((count, COLUMN), np.uint8)
        newest = frames[:, -self.hop :]
        columns[:, 0], columns[:, 1] = (newest.min(1) >> 8) + 128, (newest.max(1) >> 8) + 128
        columns[:, 2:] = np.clip((level - FLOOR_DB) / (TOP_DB - FLOOR_DB) * 255, 0, 255)
        self._rest = self._rest[count * self.hop :]
        return columns


def _bands(rate: float, span: int) -> NDArray[np.float64]:
    """The weight of each bin in each band [span / 2 + 1, BANDS]: triangles with centres evenly spaced in mel."""
    mel = np.linspace(_mel(min(LOWEST_HZ, rate / 8)), _mel(rate / 2), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.fft.rfftfreq(span, 1 / rate)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    wide = rate / span  # a band narrower than a bin gets its nearest bin
    rising, falling = (bins - low) / np.maximum(middle - low, wide), (high - bins) / np.maximum(high - middle, wide)
    near = np.clip(1 - np.abs(bins - middle) / wide, 0, 1)
    shares: NDArray[np.float64] = np.maximum(np.clip(np.minimum(rising, falling), 0, 1), near)
    return shares


def _mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)
