#!/usr/bin/env python3
"""Prints how much flash the C library takes in programs that infer alone and in programs that train, by processor.

Code and constants of the core, and of what it needs from the compiler's libraries, at -Os. The linker leaves out what
the functions in `PROGRAMS` don't use. The rows are those of docs/guides/c-library.md.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cores import CORE, CRYPTO, WARNINGS

INFER = ("model_check", "quantize", "init", "session", "infer", "adapter_check", "use")
TRAIN = ("begin", "train", "flush", "save", "evaluate", "order")
PROGRAMS = {"infers": INFER, "trains": INFER + TRAIN}
SMALL = ("-DEDGELORA_ATTENTION=0", "-DEDGELORA_RECURRENT=0")
USED = re.compile(r"\bEDGELORA_(?:ATTENTION|RECURRENT)\b")
FLAGS = ("-std=c99", "-Os", "-ffunction-sections", "-fdata-sections", *WARNINGS, f"-I{CORE}", f"-I{CRYPTO}")
LINK = ("-nostartfiles", "-Wl,--gc-sections", "-Wl,-e,main", "-Wl,--no-warn-rwx-segments")


@dataclass(frozen=True)
class Target:
    """A processor: its name in the table, and the compiler for it."""

    name: str
    prefix: str
    flags: tuple[str, ...]


def _arm(name: str, core: str) -> Target:
    return Target(name, "arm-none-eabi-", (f"-mcpu={core}", "-mthumb", "--specs=nosys.specs"))


TARGETS = (
    _arm("Cortex-M0+ (RP2040, SAMD21)", "cortex-m0plus"),
    _arm("Cortex-M33 (RP2350, nRF53)", "cortex-m33"),
    Target("RV32IMC (ESP32-C3)", "riscv64-unknown-elf-", ("-march=rv32imc", "-mabi=ilp32", "--specs=picolibc.specs")),
)


def measure(target: Target) -> list[int]:
    """Bytes of each of `PROGRAMS` without transformers, lstm and SVDF, then of each with them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {path: folder / f"{i}.o" for i, path in enumerate(sorted(CORE.rglob("*.c")))}
        sizes = []
        for chosen, changed in ((SMALL, sources), ((), _affected(sources))):
            flags = (*target.flags, *FLAGS, *chosen)
            _compile(f"{target.prefix}gcc", flags, {path: sources[path] for path in changed})
            sizes += [_linked(target, flags, sources.values(), called) for called in PROGRAMS.values()]
        return sizes


def _affected(sources: Iterable[Path]) -> list[Path]:
    """The sources that the macros of `SMALL` change. No header uses them but the one that defines them."""
    users = {path for path in CORE.rglob("*.[ch]") if USED.search(path.read_text())}
    assert {path.name for path in users if path.suffix == ".h"} == {"graph.h"}, "all sources are affected"
    return [path for path in sources if path in users]


def _compile(compiler: str, flags: Sequence[str], sources: Mapping[Path, Path]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pair: _run(compiler, *flags, "-c", pair[0], "-o", pair[1]), sources.items()))


def _linked(target: Target, flags: Sequence[str], objects: Collection[Path], called: Sequence[str]) -> int:
    """Bytes of a program that calls these functions, less those of one that calls none."""
    return _bytes(target, flags, objects, called) - _bytes(target, flags, objects, ())


def _bytes(target: Target, flags: Sequence[str], objects: Collection[Path], called: Sequence[str]) -> int:
    folder = next(iter(objects)).parent
    source, program = folder / "program.c", folder / "program.elf"
    used = "".join(f"(void (*)(void))edgelora_{name}, " for name in called)
    source.write_text(
        f'#include "edgelora.h"\nint main(void);\nint main(void) {{\n'
        f"    void (*const volatile used[])(void) = {{{used}0}};\n    return used[0] != 0;\n}}\n"
    )
    _run(f"{target.prefix}gcc", *flags, *LINK, source, *objects, "-o", program)
    text, data, *_ = _run(f"{target.prefix}size", program).splitlines()[1].split()
    return int(text) + int(data)


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def row(target: Target) -> str:
    """A line of the table."""
    return " | ".join([f"| {target.name}", *(f"{size:,}" for size in measure(target))]) + " |"


def main() -> None:
    print("| processor | infers, small | trains, small | infers | trains |")
    print("| --- | --- | --- | --- | --- |")
    for target in TARGETS:
        print(row(target), flush=True)


if __name__ == "__main__":
    main()
