"""`edgelora bench swap`: how long a board takes to switch adapters, on its own clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import formats
from .link import Link
from .model import Op, QuantModel, Tensor
from .tflite_math import quantize_multiplier

WIDTHS = (64,) * 8 + (28,)  # dense layers whose rank-4 adapter, A stored, is a file of exactly 4096 bytes
RANK = 4
NAMES = ("/bench.elm", "/bench-a.ela", "/bench-b.ela")


@dataclass(frozen=True)
class SwapBench:
    """Microseconds a switch: means, and the longest. flash: from files kept open, path: from files opened anew.

    flash_bytes: size of an adapter file, which is read, its CRC and base checked, at every switch.
    """

    ram_us: float
    ram_max_us: int
    flash_us: float
    flash_max_us: int
    path_us: float
    path_max_us: int
    flash_bytes: int
    layers: int
    runs: int


def bench_swap(link: Link, runs: int = 200) -> SwapBench:
    """Switches between two adapters in RAM, then between two files in flash (read, CRC and base checked)."""
    elm, adapters = _model_and_adapters()
    try:
        for name, content in zip(NAMES, (elm, *adapters), strict=True):
            link.put(name, content)
        link.open_model(NAMES[0], ranks=RANK, mode="infer", micro_batch=1)
        ram = link.bench_swap(NAMES[1], NAMES[2], runs)
        flash = link.bench_swap_file(NAMES[1], NAMES[2], runs // 4)
        path = link.bench_swap_path(NAMES[1], NAMES[2], runs // 4)
    finally:
        for name in NAMES:
            link.remove(name)
    return SwapBench(
        ram.mean_us,
        ram.max_us,
        flash.mean_us,
        flash.max_us,
        path.mean_us,
        path.max_us,
        len(adapters[0]),
        len(WIDTHS) - 1,
        runs,
    )


def _model_and_adapters() -> tuple[bytes, list[bytes]]:
    rng = np.random.default_rng(0)
    multiplier, shift = quantize_multiplier(1 / 500)
    model = QuantModel([Tensor((1, 1, width), 0.05, 0) for width in WIDTHS], [])
    for i, outputs in enumerate(WIDTHS[1:]):
        model.ops.append(
            Op(
                "dense",
                i,
                i + 1,
                weights=rng.integers(-127, 128, (outputs, 1, 1, WIDTHS[i])).astype(np.int8),
                bias=np.zeros(outputs, np.int32),
                multiplier=np.full(outputs, multiplier, np.int32),
                shift=np.full(outputs, shift, np.int8),
                t_shift=8,
            )
        )
    elm = formats.pack_model(model, "bench.elm")
    return elm, [_adapter(elm, rng) for _ in range(2)]


def _adapter(elm: bytes, rng: np.random.Generator) -> bytes:
    layers = [
        formats.AdapterLayer(
            i,
            rng.integers(-127, 128, (RANK, WIDTHS[i])).astype(np.int8),
            rng.integers(-127, 128, (outputs, RANK)).astype(np.int8),
            8,
            0,
        )
        for i, outputs in enumerate(WIDTHS[1:])
    ]
    return formats.pack_adapter(formats.Adapter(formats.base_id(elm), 0, layers, a_stored=True))
