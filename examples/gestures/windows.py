"""From recordings to data: python examples/gestures/windows.py BASE.elm circle wave rest

Reads circle.csv, wave.csv and rest.csv. The first 60 % of each become gestures.npz, to train on;
the last 40 % become later.npz, to test on. gestures.json tells the board the gestures' names and
the scale of the base's input.
"""

import json
import sys
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgelora.formats import unpack_model

LENGTH = 100  # of a window: 2 s
HOP = 25  # from a window to the next: half a second


def windows(recording: np.ndarray) -> np.ndarray:
    """[time, 6] -> [windows, 1, 100, 6]."""
    return sliding_window_view(recording, LENGTH, axis=0)[::HOP].transpose(0, 2, 1)[:, None]


def main(base: str, names: list[str]) -> None:
    recordings = [np.loadtxt(f"{name}.csv", np.float32, delimiter=",") for name in names]
    for path, start, end in (("gestures.npz", 0.0, 0.6), ("later.npz", 0.6, 1.0)):
        cuts = [(round(start * len(r)), round(end * len(r))) for r in recordings]
        parts = [windows(r[a:b]) for r, (a, b) in zip(recordings, cuts, strict=True)]
        y = np.repeat(np.arange(len(names)), [len(part) for part in parts])
        np.savez(path, x=np.concatenate(parts), y=y)  # by number: the base's own names are others
        print(f"{path}: {len(y)} windows")
    tensor = unpack_model(Path(base).read_bytes()).input
    scale = {"scale": float(tensor.scale), "zero_point": int(tensor.zero_point)}
    Path("gestures.json").write_text(json.dumps({"names": names, **scale}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
