"""Counts instructions of other libraries' kernels on the emulated cores that ours are counted on.

`tools/peers.py --cmsis-nn DIR`: a checkout of CMSIS-NN, versions 4 to 7, which no package registry has; its DSP kernels
on a Cortex-M33, its Helium ones on a Cortex-M55. The shapes and what is counted are those of `bench kernels --cores`.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
from pathlib import Path

from cores import MPS2_CORTEX_M33, MPS3_CORTEX_M55, ROOT, RUNNER, Machine

sys.path.insert(0, str(ROOT))

from benchmarks.kernels import SHAPES  # noqa: E402
from benchmarks.networks import Shape  # noqa: E402

KINDS = ("dense", "conv", "depthwise")
COUNTED = tuple(s for s in SHAPES if s.kind in KINDS)
FOLDERS = ("ConvolutionFunctions", "FullyConnectedFunctions", "NNSupportFunctions")  # of CMSIS-NN's sources
PROGRAM = Path(__file__).with_name("peers") / "cmsis_nn.c"


def cmsis_nn(folder: Path, machine: Machine) -> list[int]:
    """Instructions of CMSIS-NN's kernels for each of `COUNTED`; -1: it refused the shape.

    ValueError: no checkout. subprocess.SubprocessError: it doesn't compile, or the machine hangs.
    """
    sources = sorted(file for name in FOLDERS for file in (folder / "Source" / name).glob("*.c"))
    if not sources or not (folder / "Include" / "arm_nnfunctions.h").exists():
        raise ValueError(f"{folder} is no checkout of CMSIS-NN: it needs Include/arm_nnfunctions.h and Source")
    script = struct.pack("<I", len(COUNTED)) + b"".join(struct.pack("<13i", *_words(s)) for s in COUNTED)
    with tempfile.TemporaryDirectory() as place:
        program = [RUNNER / "bare.c", PROGRAM, *sources]
        elf = machine.build(Path(place), program, (f"-I{folder / 'Include'}", "-w"))
        return list(struct.unpack(f"<{len(COUNTED)}i", machine.run_script(script, elf)))


def _words(shape: Shape) -> tuple[int, ...]:
    place = (*shape.output, *shape.kernel, *shape.stride, *shape.padding)
    return (KINDS.index(shape.kind), *shape.size, *place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cmsis-nn", type=Path, required=True, metavar="DIR", help="its checkout")
    folder = parser.parse_args().cmsis_nn
    counts = [cmsis_nn(folder, machine) for machine in (MPS2_CORTEX_M33, MPS3_CORTEX_M55)]
    print(f"{'CMSIS-NN: instructions/MAC':32} {'cortex-m33':>11} {'cortex-m55':>11}")
    for shape, m33, m55 in zip(COUNTED, *counts, strict=True):
        print(f"{shape.op:15} {shape.name:16} {m33 / shape.macs:11.2f} {m55 / shape.macs:11.2f}")


if __name__ == "__main__":
    main()
