"""Changes the core's C in small ways, one at a time, and tells which changes no test sees: `make mutants SAMPLE=200`.

A mutant is one change of one line: a comparison, an operator, a constant by 1, a statement left out, a condition
turned round. So many are drawn by a seed from all of core and crypto that this build has (without kernels for other
processors, tables and texts). Each is compiled for a processor without vectors and goes through the sweep of
sessions, whose portable and fast kernels must agree, then through tests that take the twin. What compiles to the same
code is not counted; what can't make a difference is listed with the reason in tests/core/equivalent_mutants.txt.
Exits with 1 if less than the goal are seen.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE, FUZZ, WORK = ROOT / "micropython_module", ROOT / "tests" / "fuzz", ROOT / ".build" / "mutants"
EQUIVALENT = ROOT / "tests" / "core" / "equivalent_mutants.txt"
GOAL = 95.0  # per cent
OTHERS = re.compile(r"/(m0plus|dsp|wide)/|_m0plus|tables\.c|status\.c|secret\.c")
FLAGS = ["-std=c99", "-O1", "-fPIC", "-w", "-DEDGELORA_NARROW", f"-I{MODULE}/core", f"-I{MODULE}/crypto"]
SWEEP = ("800", "1")  # pairs of fields, seed
TESTS = {  # by folder: those that tell soonest, first
    "crypto": ("core/test_ed25519.py", "core/test_fleet_member.py"),
    "core/fleet": ("core/test_fleet_member.py", "core/test_fleet_privacy.py"),
    "core/signal": ("core/test_frontends.py",),
    "core/formats": (
        "formats/test_damage.py",
        "core/test_core.py",
        "formats/test_signal.py",
        "core/test_class_training.py",
    ),
    "core": ("core/test_class_training.py", "core/test_core.py", "core/test_extremes.py"),
}
LONGEST = 400  # seconds of a test run: a mutant that hangs is seen
SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "*": "+", "/": "*",
    "&&": "||", "||": "&&", "<<": ">>", ">>": "<<", "&": "|", "|": "&", "+=": "-=", "-=": "+=", "++": "--", "^": "&",
}  # fmt: skip
OPERATOR = re.compile(r" (<=|>=|==|!=|&&|\|\||<<|>>|\+=|-=|[<>+\-*/&|^]) |(\+\+)")
NUMBER = re.compile(r"(?<![\w.])(\d+)(u?)(?![\w.])")
STATEMENT = re.compile(r"^\s+[\w\->.\[\]*()+ ]+( [-+|&^]?= .*|\(.*\)|\+\+|--);$")
DECLARATION = re.compile(
    r"^\s+(const |static |unsigned |struct )?\w+_t [*\w]|^\s+(int|bool|const|return|uint\w+|char) ?"
)


@dataclass(frozen=True)
class Mutant:
    """A line of a file that is another one."""

    file: str  # below micropython_module
    number: int  # of the line, from 1
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}: {self.old.strip()}  ->  {self.new.strip() or '(left out)'}"


def code_of(line: str) -> str:
    """A line without its comment and texts, of the same length before them."""
    return re.sub(r'"[^"]*"', lambda text: "_" * len(text.group()), line.split("//")[0])


def changes(line: str) -> Iterator[str]:
    """All changes of one line."""
    code = code_of(line)
    for found in OPERATOR.finditer(code):
        which = 1 if found.group(1) else 2
        start, end = found.span(which)
        yield line[:start] + SWAPS[found.group(which)] + line[end:]
    for found in NUMBER.finditer(code):
        for value in (int(found.group(1)) + 1, int(found.group(1)) - 1):
            if value >= 0:
                yield line[: found.start(1)] + str(value) + line[found.end(1) :]
    if STATEMENT.match(code.rstrip()) and not DECLARATION.match(code):
        yield ""
    condition = re.match(r"^(\s+(?:\} else )?(?:if|while) )\((.*)\) \{$", code.rstrip())
    if condition:
        yield f"{condition.group(1)}(!({condition.group(2)})) {{"


def mutants() -> list[Mutant]:
    """All of the core that this build has."""
    found = []
    for path in [*sorted((MODULE / "core").rglob("*.c")), *sorted((MODULE / "crypto").rglob("*.c"))]:
        name = path.relative_to(MODULE).as_posix()
        if OTHERS.search(f"/{name}"):
            continue
        lines, table = path.read_text().splitlines(), False
        for number, line in enumerate(lines, 1):
            table = table or bool(re.match(r"^static const .*\[.*= \{$", line))
            if not table and line.startswith((" ", "\t")) and not line.strip().startswith(("//", "#", "*")):
                found += [Mutant(name, number, line, new) for new in changes(line)]
            table = table and not line.startswith("}")
    return found


def compile_file(source: Path, made: Path, include: Path) -> bool:
    """Whether it compiles."""
    command = ["cc", *FLAGS, f"-I{include}", "-c", str(source), "-o", str(made)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def objects() -> dict[str, Path]:
    """The core as it is, compiled: an object for each file."""
    made = {}
    newest = max(path.stat().st_mtime for path in MODULE.rglob("*.h"))
    for path in [*sorted((MODULE / "core").rglob("*.c")), *sorted((MODULE / "crypto").rglob("*.c"))]:
        name = path.relative_to(MODULE).as_posix()
        made[name] = WORK / "objects" / (name.replace("/", "_") + ".o")
        made[name].parent.mkdir(parents=True, exist_ok=True)
        if not made[name].exists() or made[name].stat().st_mtime < max(newest, path.stat().st_mtime):
            assert compile_file(path, made[name], path.parent), path
    made["twin"] = WORK / "objects" / "twin.o"
    (WORK / "twin_sources.h").write_text('#define EDGELORA_SOURCES ""\n')
    assert compile_file(ROOT / "host" / "native" / "twin.c", made["twin"], WORK)
    for name in ("session", "member", "signal", "crypto"):
        driver = "sweep" if name == "session" else "drawn"
        made[name] = WORK / "objects" / f"fuzz_{name}.o"
        made[driver] = WORK / "objects" / f"{driver}.o"
        assert compile_file(FUZZ / f"fuzz_{name}.c", made[name], FUZZ)
        assert compile_file(FUZZ / f"{driver}.c", made[driver], FUZZ)
    return made


DRIVERS = ("twin", "session", "member", "signal", "crypto", "sweep", "drawn")


def program(parts: dict[str, Path], name: str, arguments: list[str]) -> bool:
    """Whether a harness ends well with these objects."""
    driver = "sweep" if name == "session" else "drawn"
    core = [path for part, path in parts.items() if part not in DRIVERS and not (name == "member" and "x25519" in part)]
    made = WORK / f"run_{name}"
    subprocess.run(["cc", parts[name], parts[driver], *core, "-o", made], check=True, capture_output=True)
    try:
        return subprocess.run([made, *arguments], capture_output=True, timeout=60, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def tests_pass(parts: dict[str, Path], file: str) -> bool:
    """Whether the tests of this file's folder pass with a twin of these objects."""
    library = WORK / "libedgelora.so"
    core = [path for part, path in parts.items() if part == "twin" or part not in DRIVERS]
    subprocess.run(["cc", "-shared", *core, "-o", library], check=True, capture_output=True)
    folder = next(name for name in TESTS if file.startswith(name + "/"))
    env = {**os.environ, "EDGELORA_OTHER_TWIN": str(library), "PYTHONPATH": str(ROOT / "tests" / "support")}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "other_twin", "-p", "no:cacheprovider"]
    command += ["-k", "not sanitizers and not flipped and not drop"]
    command += [str(ROOT / "tests" / test) for test in TESTS[folder]]
    try:
        done = subprocess.run(
            command, env={**env, "EDGELORA_SEED": "1"}, cwd=ROOT, capture_output=True, timeout=LONGEST
        )
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False


def seen(parts: dict[str, Path], mutant: Mutant, seeds: list[str]) -> str:
    """What sees the mutant; "": nothing does; "same": it compiles to the same code, or not at all."""
    source = WORK / Path(mutant.file).name
    lines = (MODULE / mutant.file).read_text().splitlines()
    lines[mutant.number - 1] = mutant.new
    source.write_text("\n".join(lines) + "\n")
    made = WORK / "mutant.o"
    if not compile_file(source, made, (MODULE / mutant.file).parent):
        return "same"
    if text_of(made) == text_of(parts[mutant.file]):
        return "same"
    changed = {**parts, mutant.file: made}
    if mutant.file.startswith("crypto/") and not program(changed, "crypto", ["300", "1", "300"]):
        return "harness"
    if mutant.file.startswith("core/fleet/") and not program(changed, "member", ["2000", "1", "340"]):
        return "harness"
    if mutant.file.startswith("core/signal/") and not program(changed, "signal", ["100", "1", "60"]):
        return "harness"
    others = mutant.file.startswith(("crypto/", "core/fleet/", "core/signal/"))
    if not others and not program(changed, "session", [*SWEEP, *seeds]):
        return "sweep"
    return "" if tests_pass(changed, mutant.file) else "tests"


def text_of(made: Path) -> str:
    """A hash of an object's code and constants."""
    dump = ["objdump", "-s", "-r", "-j", ".text", "-j", ".rodata", "-j", ".data.rel.ro", str(made)]
    told = subprocess.run(dump, capture_output=True, text=True, check=False).stdout
    return hashlib.sha256(told.split("\n", 3)[-1].encode()).hexdigest()


def equivalents() -> set[tuple[str, str, str]]:
    """Mutants that can't make a difference: file, old and new line."""
    rows = [line.split(" | ") for line in EQUIVALENT.read_text().splitlines() if line and not line.startswith("#")]
    return {(row[0].strip(), row[1].strip(), row[2].strip()) for row in rows}


def main() -> int:
    """Draws, tries and prints; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--files", default="", help="a regular expression of the files to change")
    parser.add_argument("--seconds", type=int, default=1 << 30, help="end after so many")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, ROOT / "tools" / "fuzz_seeds.py", WORK / "seeds"], check=True)
    seeds = sorted(str(path) for path in (WORK / "seeds" / "session").iterdir())[::60]
    parts, known = objects(), equivalents()
    every = [mutant for mutant in mutants() if re.search(args.files, mutant.file)]
    print(f"{len(every)} mutants, seed {args.seed}", flush=True)
    random.Random(args.seed).shuffle(every)
    end, killed, survived = time.monotonic() + args.seconds, 0, 0
    for mutant in every:
        if killed + survived >= args.sample or time.monotonic() > end:
            break
        if (mutant.file, mutant.old.strip(), mutant.new.strip()) in known:
            continue
        by = seen(parts, mutant, seeds)
        killed += by not in ("", "same")
        survived += not by
        if by != "same":
            print(f"{'seen by ' + by if by else 'SURVIVED':16} {mutant}", flush=True)
    share = 100 * killed / max(1, killed + survived)
    print(f"{killed} of {killed + survived} seen, {share:.1f} %; the goal is {GOAL} %")
    return 0 if share >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
