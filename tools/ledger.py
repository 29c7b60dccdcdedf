#!/usr/bin/env python3
"""Writes LEDGER.md, the size, stack and cycles of every kernel of the core, so that a regression shows in a diff.

`make ledger` builds everything, then runs this. --no-cycles is quick and keeps the cycles that LEDGER.md has.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.instructions import count_kernels  # noqa: E402

LEDGER = ROOT / "LEDGER.md"
MODULE = ROOT / "micropython_module"
CORE, CRYPTO = MODULE / "core", MODULE / "crypto"
NATIVE = ROOT / ".build" / "natmod" / "armv6m" / "build" / "edgelora.native.mpy"
KERNELS = ("core/kernels", "core/signal", "core/training", "crypto")  # folders of the functions in the ledger
BENCH = "bench kernels --board virtual-pico"
NOISE_CYCLES, NOISE = 100, 0.001  # noise of a time: this many cycles plus this share of it
TOOLS = "arm-none-eabi-"
# The flags of the rp2 firmware's build: pico-sdk's, then for the core those of micropython_module/usermod.
FLAGS = ("-mcpu=cortex-m0plus", "-mthumb", "-Os", "-DNDEBUG", "-ffunction-sections", "-fdata-sections")
IN_RAM = '=__attribute__((section(".time_critical.edgelora")))'
CORE_FLAGS = (*FLAGS, "-O3", f"-DEDGELORA_HOT{IN_RAM}", f"-DEDGELORA_RAM{IN_RAM}")
ONCE_AN_OP = {
    CORE / f"{name}.c" for name in ("session/arena", "session/infer", "session/train", "training/loss", "graph")
}
HEAD = """# Kernel ledger

Written by `make ledger`. Bytes are those of the Cortex-M0+, as arm-none-eabi-gcc {compiler} compiles the core and
the cryptography for the rp2 firmware.
"""
KERNELS_HEAD = """
## Kernels

Stack is a function's own frame, without what it calls. What the compiler inlines everywhere has no line; its clones of
a function count as that function.
"""
TOTALS_HEAD = """
## Totals

The native module's size is without its Python part.
"""
CYCLES_HEAD = f"""
## Cycles

`edgelora {BENCH}`: one run, without the call. Cycles/MAC are the fast kernel's; where there
is none, both columns are the plain one's. The board's interrupts move a time a little from run to run: a line changes
if one of its times moves by more than {NOISE_CYCLES} cycles plus {NOISE:.1%}.
"""
INSTRUCTIONS_HEAD = """
## Instructions

Of a Cortex-M33 (RP2350) as QEMU runs it, which counts instructions and has no model of cycles: one run, without the
call. One instruction (SMLADX) makes two multiply-accumulates, so that 0.50 is the least there could be.
"""


@dataclass(frozen=True, order=True)
class Kernel:
    """A function: code and stack frame in bytes."""

    file: str
    name: str
    code: int
    stack: int


@dataclass(frozen=True, order=True)
class Cycles:
    """A kernel at one size: cycles (or instructions) of the plain and of the fast one; the latter's for each MAC."""

    op: str
    shape: str
    plain: int
    fast: int
    per_mac: float


@dataclass(frozen=True)
class Ledger:
    """The content of LEDGER.md. totals: bytes by component."""

    compiler: str
    kernels: list[Kernel]
    totals: dict[str, int]
    cycles: list[Cycles]
    instructions: list[Cycles]

    def __str__(self) -> str:
        kernels = [(k.file, k.name, k.code, k.stack) for k in sorted(self.kernels)]
        cycles, instructions = (
            [(c.op, c.shape, c.plain, c.fast, f"{c.per_mac:.2f}") for c in sorted(costs)]
            for costs in (self.cycles, self.instructions)
        )
        return "".join(
            (
                HEAD.format(compiler=self.compiler),
                KERNELS_HEAD + _table(("file", "kernel", "code", "stack"), kernels),
                TOTALS_HEAD + _table(("what", "bytes"), self.totals.items()),
                CYCLES_HEAD + _table(("kernel", "shape", "plain", "fast", "cycles/MAC"), cycles),
                INSTRUCTIONS_HEAD + _table(("kernel", "shape", "plain", "fast", "instructions/MAC"), instructions),
            )
        )


def parse(text: str) -> Ledger:
    """Parses a ledger from its text, the inverse of str()."""
    compiler = re.search(r"arm-none-eabi-gcc (\S+)", text)
    if not compiler:
        raise ValueError("this is no kernel ledger: write one with `make ledger`")
    return Ledger(
        compiler[1],
        [Kernel(file, name, int(code), int(stack)) for file, name, code, stack in _rows(text, "Kernels")],
        {what: int(size) for what, size in _rows(text, "Totals")},
        *(
            [Cycles(op, shape, int(p), int(f), float(mac)) for op, shape, p, f, mac in _rows(text, title)]
            for title in ("Cycles", "Instructions")
        ),
    )


def measure(cycles: list[Cycles], instructions: list[Cycles]) -> Ledger:
    """The ledger of the current core. If a native module was not built, its total is left out."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _compile(set(CORE.rglob("*.c")) - ONCE_AN_OP, CORE_FLAGS, place)
        _compile(ONCE_AN_OP, (*CORE_FLAGS, "-Os"), place)
        _compile(CRYPTO.rglob("*.c"), FLAGS, place)
        kernels, totals = _kernels(place), _totals(place)
    totals = {"functions above": sum(k.code for k in kernels)} | totals
    if NATIVE.exists():
        totals["native module armv6m"] = NATIVE.stat().st_size
    return Ledger(_run("gcc", "-dumpfullversion").strip(), sorted(kernels), totals, cycles, instructions)


def bench() -> list[Cycles]:
    """Measures cycles on the virtual board, with its firmware as built."""
    command = [sys.executable, "-m", "edgelora", *BENCH.split(), "--json"]
    return measured(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def measured(told: dict[str, Any]) -> list[Cycles]:
    """The cycles that `BENCH` prints with --json."""
    plain = {(t["op"], t["shape"]): t["cycles"] for t in told["kernels"] if t["variant"] == "plain"}
    return [
        Cycles(t["op"], t["shape"], plain[t["op"], t["shape"]], t["cycles"], t["cycles_per_mac"])
        for t in told["kernels"]
        if t["variant"] == "fast"
    ]


def count() -> list[Cycles]:
    """Counts instructions on an emulated Cortex-M33."""
    return [Cycles(c.op, c.shape, c.plain, c.fast, round(c.per_mac, 2)) for c in count_kernels("cortex-m33")]


def settled(new: list[Cycles], old: list[Cycles]) -> list[Cycles]:
    """The new times; if the difference is noise, the old one, so that slow drift adds up until it shows."""
    before = {(c.op, c.shape): c for c in old}
    return [_steadier(c, before.get((c.op, c.shape), c)) for c in new]


def _steadier(new: Cycles, old: Cycles) -> Cycles:
    times = ((new.plain, old.plain), (new.fast, old.fast))
    return old if all(abs(a - b) <= NOISE_CYCLES + NOISE * b for a, b in times) else new


def frames(disassembly: str) -> dict[str, int]:
    """Bytes of stack that each function in objdump's disassembly takes by push and sub."""
    functions = re.split(r"^[0-9a-f]+ <([^>]+)>:$", disassembly, flags=re.MULTILINE)[1:]
    return {_base(name): _frame(code) for name, code in zip(functions[::2], functions[1::2], strict=True)}


def _frame(code: str) -> int:
    """The deepest stack of a function. Code after a return is a jump target, where the frame is in place again."""
    depth = deepest = 0
    for what, operands in re.findall(r"\t(push|pop|sub|add)\t(\{[^}]+\}|sp, #\d+)", code):
        size = 4 * len(operands.split(",")) if what in ("push", "pop") else int(operands.split("#")[1])
        depth += size if what in ("push", "sub") else -size
        deepest = max(deepest, depth)
        if what == "pop" and "pc" in operands:
            depth = deepest
    return deepest


def kernel_sources() -> list[Path]:
    """The source files whose functions are in the ledger: all that compile to code on the Cortex-M0+."""
    return sorted(path for folder in KERNELS for path in (MODULE / folder).rglob("*.c") if path.parent.name != "dsp")


def _compile(sources: Iterable[Path], flags: Sequence[str], place: Path) -> None:
    """Compiles each source to an object and a stack usage file, in `place` at its path in MODULE."""
    for source in sorted(sources):
        out = _object(source, place)
        out.parent.mkdir(parents=True, exist_ok=True)
        _run("gcc", *flags, f"-I{CORE}", f"-I{CRYPTO}", "-fstack-usage", "-c", source, "-o", out)


def _object(source: Path, place: Path) -> Path:
    return place / source.relative_to(MODULE).with_suffix(".o")


def _kernels(place: Path) -> list[Kernel]:
    return [kernel for source in kernel_sources() for kernel in _kernels_of(source, _object(source, place))]


def _kernels_of(source: Path, path: Path) -> list[Kernel]:
    sizes: Counter[str] = Counter()
    for line in _run("nm", "--format=posix", "--defined-only", path).splitlines():
        name, kind, _, size = line.split()
        if kind in "tT":
            sizes[_base(name)] += int(size, 16)
    file, stacks = str(source.relative_to(MODULE)).removeprefix("core/"), _stacks(path)
    return [Kernel(file, name, size, stacks[name]) for name, size in sizes.items()]


def _stacks(path: Path) -> dict[str, int]:
    """Stack frames of an object's functions, from the compiler or, for naked functions, from the code."""
    stacks = frames(_run("objdump", "--disassemble", "--no-show-raw-insn", path))
    seen: dict[str, int] = {}
    for line in path.with_suffix(".su").read_text().splitlines():
        where, size, _ = line.split("\t")
        name = _base(where.rsplit(":", 1)[1])
        seen[name] = max(seen.get(name, 0), int(size))
    return stacks | {name: size for name, size in seen.items() if size}


def _totals(place: Path) -> dict[str, int]:
    core, crypto = (_sections([_object(path, place) for path in folder.rglob("*.c")]) for folder in (CORE, CRYPTO))
    return {
        "core, code in RAM": core[".time_critical"],
        "core, code in flash": core[".text"],
        "core, constants": core[".rodata"],
        "core": core.total(),
        "cryptography, code in flash": crypto[".text"],
        "cryptography, constants": crypto[".rodata"],
    }


def _sections(objects: list[Path]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    output = _run("size", "-A", "-d", *objects)
    for section, size in re.findall(r"^(\.text|\.rodata|\.time_critical)\S* +(\d+)", output, re.MULTILINE):
        sizes[section] += int(size)
    return sizes


def _base(symbol: str) -> str:
    """The function's name of a symbol, which may be a clone (name.constprop.0)."""
    return symbol.partition(".")[0]


def _run(tool: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run([TOOLS + tool, *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, check=True).stdout


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. Cells are not padded, so that a new row does not change other lines."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n" + "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _rows(text: str, title: str) -> list[list[str]]:
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--no-cycles", action="store_true", help="keep those that LEDGER.md has")
    options = parser.parse_args()
    written = parse(LEDGER.read_text()).cycles if LEDGER.exists() else []
    cycles = written if options.no_cycles else settled(bench(), written)
    text = str(measure(cycles, count()))
    LEDGER.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
