"""Counts instructions of other libraries' kernels on the emulated cores that ours are counted on.

`tools/peers.py --cmsis-nn DIR`: a checkout of CMSIS-NN, versions 4 to 7, which no package registry has; its DSP kernels
on a Cortex-M33, its Helium ones on a Cortex-M55. `--esp-nn DIR`: one of ESP-NN, whose functions take `data_dims_t`; its
ANSI C on an ESP32-S3 without vectors, with estimated cycles. Its vector kernels need Espressif's compiler on the path,
as no other assembles them, and instructions that the runner's handler knows: what it lacks is listed.

The shapes and what is counted are those of `bench kernels --cores`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from cores import INCLUDE, MPS2_CORTEX_M33, MPS3_CORTEX_M55, ROOT, RUNNER, TRACED, Machine, build_xtensa

sys.path.insert(0, str(ROOT))

from benchmarks.kernels import SHAPES  # noqa: E402
from benchmarks.networks import Shape  # noqa: E402
from tools.esp32s3 import Executed, carries_out, executed  # noqa: E402

KINDS = ("dense", "conv", "depthwise")
COUNTED = tuple(s for s in SHAPES if s.kind in KINDS)
FOLDERS = ("ConvolutionFunctions", "FullyConnectedFunctions", "NNSupportFunctions")  # of CMSIS-NN's sources
ESP_FOLDERS = ("convolution", "fully_connected", "common")  # of ESP-NN's
ESP_HEADERS = {"ansi": "esp_nn_ansi_headers.h", "esp32s3": "esp_nn_esp32s3.h"}
ESPRESSIF = "xtensa-esp32s3-elf-gcc"
PROGRAMS = Path(__file__).with_name("peers")


def cmsis_nn(folder: Path, machine: Machine) -> list[int]:
    """Instructions of CMSIS-NN's kernels for each of `COUNTED`; -1: it refused the shape.

    ValueError: no checkout. subprocess.SubprocessError: it doesn't compile, or the machine hangs.
    """
    sources = sorted(file for name in FOLDERS for file in (folder / "Source" / name).glob("*.c"))
    if not sources or not (folder / "Include" / "arm_nnfunctions.h").exists():
        raise ValueError(f"{folder} is no checkout of CMSIS-NN: it needs Include/arm_nnfunctions.h and Source")
    with tempfile.TemporaryDirectory() as place:
        program = [RUNNER / "bare.c", PROGRAMS / "cmsis_nn.c", *sources]
        elf = machine.build(Path(place), program, (f"-I{folder / 'Include'}", "-w"))
        return list(struct.unpack(f"<{len(COUNTED)}i", machine.run_script(_script(), elf)))


def esp_nn(folder: Path, kind: str) -> list[Executed]:
    """Instructions and estimated cycles of ESP-NN's kernels for each of `COUNTED`. kind: ansi, or esp32s3 for vectors.

    ValueError: no checkout. subprocess.SubprocessError: it doesn't compile. RuntimeError: it died.
    """
    suffixes = ("_ansi.c", *["_esp32s3.c", "_esp32s3.S"] * (kind == "esp32s3"))
    sources = [file for file in _esp_files(folder) if file.name.endswith(suffixes)]
    if not sources or not (folder / "include" / ESP_HEADERS[kind]).exists():
        raise ValueError(f"{folder} is no checkout of ESP-NN: it needs include/{ESP_HEADERS[kind]} and src")
    options = ("-O2", "-w", *INCLUDE, f"-I{folder / 'include'}", f"-I{folder / 'src' / 'common'}")
    defines = (f"-DESP_NN(name)=name##_{kind}", f'-DESP_NN_HEADER="{ESP_HEADERS[kind]}"')
    target = ("-DCONFIG_IDF_TARGET_ARCH_XTENSA=1", f"-DCONFIG_IDF_TARGET_ESP32S3={int(kind == 'esp32s3')}")
    compiler = (shutil.which(ESPRESSIF) or TRACED.compiler[0], *TRACED.compiler[1:])
    runner = [RUNNER / "linux.c", RUNNER / "esp32s3.c", PROGRAMS / "esp_nn.c"]
    with tempfile.TemporaryDirectory() as place:
        objects, elf = Path(place, "objects"), Path(place, "esp-nn")
        objects.mkdir()
        build_xtensa((*compiler, *options, *defines, *target), [*runner, *sources], objects, elf)
        return executed(elf, objects, _script(), len(COUNTED))


def lacking(folder: Path) -> list[str]:
    """Vector instructions in ESP-NN's assembly for an ESP32-S3 that the runner's handler does not know."""
    text = "".join(file.read_text() for file in _esp_files(folder) if file.name.endswith("_esp32s3.S"))
    found = set(re.findall(r"^\s*(ee\.[\w.]+|mv\.qr)\b", text, re.MULTILINE | re.IGNORECASE))
    return sorted(name for name in map(str.lower, found) if not carries_out(name))


def _esp_files(folder: Path) -> list[Path]:
    return sorted(file for name in ESP_FOLDERS for file in (folder / "src" / name).glob("*.[cS]"))


def _script() -> bytes:
    return struct.pack("<I", len(COUNTED)) + b"".join(struct.pack("<13i", *_words(s)) for s in COUNTED)


def _words(shape: Shape) -> tuple[int, ...]:
    place = (*shape.output, *shape.kernel, *shape.stride, *shape.padding)
    return (KINDS.index(shape.kind), *shape.size, *place)


def _show(title: str, columns: dict[str, list[int]]) -> None:
    print(f"{title:32} " + " ".join(f"{name:>18}" for name in columns))
    for shape, *counts in zip(COUNTED, *columns.values(), strict=True):
        print(f"{shape.op:15} {shape.name:16} " + " ".join(f"{count / shape.macs:18.2f}" for count in counts))


def _show_esp_nn(folder: Path) -> None:
    columns = {}
    for kind in ("ansi", *["esp32s3"] * bool(shutil.which(ESPRESSIF) and not lacking(folder))):
        runs = esp_nn(folder, kind)
        columns[kind] = [run.instructions for run in runs]
        columns[f"{kind}, est. cycles"] = [run.cycles for run in runs]
    _show("ESP-NN: instructions/MAC", columns)
    if "esp32s3" not in columns:
        missing = ", ".join(lacking(folder)) or "none"
        print(f"vector kernels are not counted: {ESPRESSIF} on the path assembles them; the handler lacks {missing}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cmsis-nn", type=Path, metavar="DIR", help="its checkout")
    parser.add_argument("--esp-nn", type=Path, metavar="DIR", help="its checkout")
    args = parser.parse_args()
    if not (args.cmsis_nn or args.esp_nn):
        parser.error("give --cmsis-nn, --esp-nn or both")
    if args.cmsis_nn:
        machines = (MPS2_CORTEX_M33, MPS3_CORTEX_M55)
        _show("CMSIS-NN: instructions/MAC", {one.name: cmsis_nn(args.cmsis_nn, one) for one in machines})
    if args.esp_nn:
        _show_esp_nn(args.esp_nn)


if __name__ == "__main__":
    main()
