"""Counts instructions on an emulated ESP32-S3, and estimates their cycles from what was executed.

QEMU logs the address of each instruction; those that it has not, such as the vector unit's, are carried out one at a
time by the runner's handler (tools/runner/esp32s3.c), whose own are left out. The estimate's rules are those of a
five-stage Xtensa pipeline, as the chip's Technical Reference Manual gives them under instruction performance:

- an instruction takes a cycle;
- one more if it needs what the instruction before it loaded or multiplied;
- two more for a taken branch, jump, call or return; a hardware loop takes none.

Data and code are in internal RAM. None of it was measured.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import IO

from .cores import RUNNER, TRACED, Calls, build, objects_of

FEATURES = "+density,+windowed,+sext,+nsa,+minmax,+clamps,+mul16,+mul32,+mul32high,+div32,+exception,+loop"  # of LLVM
NEEDED_LATE, TAKEN = 1, 2  # cycles
CHUNK = 1 << 22  # bytes of QEMU's log
TEXT, ROOM = 0x400000, 0x100000  # of the runner's code
MARKS = ("start_counting", "counted", "edgelora_trap", "edgelora_restore")
# Of the vector unit's: the registers that the next instruction waits for, and those that are read, by the operand's
# place in the handler's table.
VECTOR = {
    **dict.fromkeys(("VLD_128_IP", "LD_128_USAR_IP", "VLDBC_8_IP", "VLDBC_32_IP"), ("q0", "a1")),
    **dict.fromkeys(("ZERO_ACCX", "ZERO_QACC", "RUR_ACCX_0"), ("", "")),
    **dict.fromkeys(("SRC_Q", "XORQ"), ("", "q1 q2")),
    **dict.fromkeys(("VMULAS_S8_ACCX", "VMULAS_S8_QACC"), ("", "q0 q1")),
    **dict.fromkeys(("VMULAS_S8_ACCX_LD_IP", "VMULAS_S8_QACC_LD_IP"), ("q0", "a1 q3 q4")),
    **{f"ST_QACC_{half}_{part}_IP": ("", "a0") for half in "LH" for part in ("L_128", "H_32")},
    "VST_128_IP": ("", "q0 a1"),
}


@dataclass(frozen=True)
class Executed:
    """Instructions of one count, and their estimated cycles."""

    instructions: int
    cycles: int


@dataclass(frozen=True)
class Instruction:
    """late: registers whose value the next instruction waits for. end: of a hardware loop, from this instruction."""

    size: int
    late: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    end: int = 0


def count(calls: Calls) -> list[Executed]:
    """Each `count` of the calls. subprocess.SubprocessError, OSError: no compiler or emulator (`make cores`)."""
    return executed(build(TRACED), objects_of(TRACED), bytes(calls), calls.names.count("count"))


def executed(elf: Path, objects: Path, script: bytes, counts: int) -> list[Executed]:
    """Between each start and end of counting of a program that reads the script. objects: folder of its object files.

    RuntimeError: there are fewer counts, as when it died from an instruction that its handler does not know.
    """
    code, found = elf.read_bytes(), []
    for trace in _traces(elf, next(objects.glob("*_esp32s3.o")), script):
        found.append(Executed(len(trace), cycles_of(trace, _program(code, set(trace)))))
    if len(found) != counts:
        raise RuntimeError(f"{elf.name} ended after {len(found)} of {counts} counts")
    return found


def cycles_of(trace: Sequence[int], program: dict[int, Instruction]) -> int:
    """By the rules above. trace: addresses of the instructions that were executed."""
    loops = {at + one.size: at + one.end for at, one in program.items() if one.end}
    cycles = len(trace)
    for at, then in pairwise(trace):
        one, after = program[at], at + program[at].size
        cycles += NEEDED_LATE * bool(one.late & program[then].reads)
        cycles += TAKEN * (then != after and loops.get(then) != after)
    return cycles


def _traces(elf: Path, handler: Path, script: bytes) -> Iterator[Sequence[int]]:
    """The addresses that each count executes, without those of the handler."""
    symbols = _symbols(elf)
    start, stop, trap, back = (symbols[name] for name in MARKS)
    behind = trap + _text_bytes(handler)
    ranges = [f"{TEXT:#x}..{trap:#x}", *(f"{at:#x}..{at:#x}" for at in (back, start, stop)), f"{behind:#x}+{ROOM:#x}"]
    command: list[str | Path] = [*TRACED.emulator, "-one-insn-per-tb", "-d", "exec,nochain"]
    command += ["-dfilter", ",".join(ranges), elf]
    inside, ours, trace = False, True, array("I")
    with tempfile.TemporaryFile() as given:
        given.write(struct.pack("<I", len(script)) + script)
        given.seek(0)
        with subprocess.Popen(command, stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            assert process.stderr
            for at in _addresses(process.stderr):
                if at == stop:
                    inside = False
                    yield trace
                elif at == start:
                    inside, trace = True, array("I")
                elif at in (trap, back):
                    ours = at == back
                elif inside and ours:
                    trace.append(at)


def _addresses(log: IO[bytes]) -> Iterator[int]:
    rest = b""
    while chunk := log.read(CHUNK):
        lines, _, rest = (rest + chunk).rpartition(b"\n")
        for at in re.findall(rb"^Trace .*?\[\w+/(\w+)/", lines, re.MULTILINE):
            yield int(at, 16)


def _symbols(elf: Path) -> dict[str, int]:
    said = subprocess.run(["xtensa-lx106-elf-nm", elf], capture_output=True, text=True, check=True).stdout
    return {name: int(at, 16) for at, _, name in map(str.split, said.splitlines())}


def _text_bytes(file: Path) -> int:
    said = subprocess.run(["xtensa-lx106-elf-size", "-A", file], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"^\.text +(\d+)", said, re.MULTILINE)[0])


def _program(elf: bytes, addresses: set[int]) -> dict[int, Instruction]:
    headers = int.from_bytes(elf[28:32], "little")
    offset, base = struct.unpack_from("<II", elf, headers + 4)  # of the segment with the code
    words = {at: _word(elf, at - base + offset) for at in addresses}
    decoded = decode(set(words.values()))
    return {at: decoded[word] for at, word in words.items()}


def decode(words: set[bytes]) -> dict[bytes, Instruction]:
    known = _of_the_vector_unit(words)
    return known | _of_every_core(words - set(known))


def _word(code: bytes, at: int) -> bytes:
    nibble = code[at] & 15
    return code[at : at + (3 if nibble < 8 else 2 if nibble < 14 else 4)]


def _of_every_core(words: set[bytes]) -> dict[bytes, Instruction]:
    """As LLVM disassembles them."""
    ordered = sorted(words)
    text = "\n".join(" ".join(f"{byte:#x}" for byte in word) for word in ordered)
    command = ["llvm-mc-22", "--disassemble", "-triple=xtensa", f"-mattr={FEATURES}"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    lines = [line for line in map(str.strip, done.stdout.splitlines()) if line and not line.startswith(".")]
    if len(lines) != len(ordered):
        raise RuntimeError(f"{len(ordered) - len(lines)} instructions are unknown: {done.stderr}")
    return {word: _disassembled(word, line) for word, line in zip(ordered, lines, strict=True)}


def _disassembled(word: bytes, line: str) -> Instruction:
    name, _, rest = line.partition("\t")
    registers = re.findall(r"\ba\d+\b", rest)
    if re.match(r"s(8|16|32)i|b|loop|ss[rl]|wsr|jx|callx", name):
        end = word[2] + 4 if name.startswith("loop") else 0
        return Instruction(len(word), frozenset(), frozenset(registers), end)
    late = registers[:1] if re.match(r"l\d|mul", name) else []
    return Instruction(len(word), frozenset(late), frozenset(registers[1:]))


def _of_the_vector_unit(words: set[bytes]) -> dict[bytes, Instruction]:
    """As the table of the runner's handler says; it also has some that every core has."""
    found = {}
    for word in words:
        value = int.from_bytes(word, "little")
        for name, (mask, match, operands) in _forms().items():
            if len(word) == 3 + (mask >> 31) and value & mask == match and name in VECTOR:
                fields = [sum((value >> (bit & 31) & 1) << k for k, bit in enumerate(bits)) for bits in operands]
                late, reads = (frozenset(f"{r[0]}{fields[int(r[1])]}" for r in some.split()) for some in VECTOR[name])
                found[word] = Instruction(len(word), late, reads)
    return found


def carries_out(mnemonic: str) -> bool:
    """Whether the runner's handler has this instruction of the vector unit, such as ee.zero.accx."""
    return re.sub(r"[._]", "_", mnemonic.removeprefix("ee.")).upper() in _forms()


@cache
def _forms() -> dict[str, tuple[int, int, list[bytes]]]:
    """Name to mask, match, and the bits of each operand, lowest first."""
    source = (RUNNER / "esp32s3.c").read_text()
    text = {name: _octal(value) for name, value in re.findall(r'^#define (\w+) "([^"]+)"', source, re.MULTILINE)}

    def bits(operand: str) -> bytes:
        parts = re.findall(r'"([^"]+)"|(\w+)', operand)
        return b"".join(text.get(name, b"") if name else _octal(literal) for literal, name in parts)

    forms = re.findall(r"\[(\w+)\] =\s*\{(0x\w+), (0x\w+), \{(.*?)\}\}", source, re.DOTALL)
    return {
        name: (int(mask, 16), int(match, 16), list(map(bits, operands.split(","))))
        for name, mask, match, operands in forms
    }


def _octal(text: str) -> bytes:
    return bytes(int(number, 8) for number in text.split("\\")[1:])
