"""Mutation testing of the core's C: reports the small changes that no test detects: `make mutants SAMPLE=200`.

A mutant changes one line: a comparison, an operator, a constant by 1, a statement removed, a condition negated. A seed
draws them uniformly from the code of core and crypto that a processor without vectors runs (without tables and
strings). For each mutant only its file is compiled. Then tests run, the fastest first, until one detects it: a runner
with calls whose answers the NumPy reference computed before (golden runs, drawn ops: tests/core/test_cores.py), the
fuzzers' harnesses, and the tests of its folder with a twin of the mutant. A mutant that hangs counts as detected; one
that compiles to the same code does not count. Equivalent mutants are listed with reasons in
tests/core/equivalent_mutants.txt and counted separately. Exits with 1 if the share detected is below the goal.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cores

ROOT = Path(__file__).resolve().parent.parent
MODULE, FUZZ, WORK = ROOT / "micropython_module", ROOT / "tests" / "fuzz", ROOT / ".build" / "mutants"
RUNNER = ROOT / "tools" / "runner"
RUNNER_SOURCES = tuple(path.stem for path in cores.SOURCES if path.parent == RUNNER)
EQUIVALENT = ROOT / "tests" / "core" / "equivalent_mutants.txt"
GOAL = 95.0  # per cent
VECTORS = re.compile(r"\bsimd\b|\bsimd_\w+\(|simd_level|vector")  # lines for vectors, which this build lacks
OTHERS = re.compile(r"/(m0plus|dsp|simd)/|_m0plus|tables\.c|status\.c|secret\.c")
FLAGS = ["-std=gnu11", "-O2", "-fPIC", "-w", "-DEDGELORA_NO_SIMD", f"-I{MODULE}/core", f"-I{MODULE}/crypto"]
# flags of the harnesses, as in the suite
SANITIZERS = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DEDGELORA_ASSERTS"]
DRAWN_OPS = 250  # that the runner's calls use
HARNESSES = {  # with their arguments
    "member": ("1500", "1", "340"),
    "signal": ("400", "1", "60"),
    "crypto": ("300", "1", "300"),
    "files": ("400", "1"),
    "session": ("400", "1"),
}
PLANS: dict[str, tuple[str | tuple[str, ...], ...]] = {  # by folder: the runner, a harness, files of tests
    "crypto": ("crypto", ("core/test_crypto.py", "core/test_ed25519.py"), ("core/test_fleet_member.py",)),
    "core/fleet": ("member", ("core/test_fleet_member.py", "core/test_fleet_privacy.py", "core/test_misuse.py")),
    "core/signal": ("signal", ("core/test_frontends.py", "core/test_misuse.py")),
    "core/formats": (
        "runner",
        ("formats/test_limits.py", "formats/test_signal.py", "training/test_classes.py", "core/test_misuse.py"),
        "files",
        "session",
        ("core/test_core.py", "core/test_changed.py", "formats/test_damage.py"),
    ),
    "core": (
        "runner",
        (
            *("core/test_class_training.py", "training/test_classes.py", "core/test_order.py"),
            *("core/test_misuse.py", "core/test_scratch.py"),
        ),
        "session",
        ("core/test_core.py", "formats/test_limits.py", "core/test_changed.py"),
        ("core/test_extremes.py",),
    ),
}
LONGEST = 100  # seconds of processor time; a mutant that takes longer hangs and is detected
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
    """A file with one changed line."""

    file: str  # path in micropython_module
    number: int  # line number, from 1
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}: {self.old.strip()}  ->  {self.new.strip() or '(left out)'}"


def code_of(line: str) -> str:
    """A line without its comment, with the content of strings masked; columns stay the same."""
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
    """All mutants of the code that this build has."""
    found = []
    for path in [*sorted((MODULE / "core").rglob("*.c")), *sorted((MODULE / "crypto").rglob("*.c"))]:
        name = path.relative_to(MODULE).as_posix()
        if OTHERS.search(f"/{name}"):
            continue
        lines, table, other = path.read_text().splitlines(), False, False
        for number, line in enumerate(lines, 1):
            table = table or bool(re.match(r"^static const .*\[.*= \{$", line))
            other = (other and not line.startswith("}")) or line.startswith("static bool simd_")
            if (
                not table
                and not other
                and not VECTORS.search(line)
                and line.startswith((" ", "\t"))
                and not line.strip().startswith(("//", "#", "*"))
            ):
                found += [Mutant(name, number, line, new) for new in changes(line)]
            table = table and not line.startswith("}")
    return found


def compile_file(source: Path, made: Path, include: tuple[Path, ...], flags: list[str]) -> bool:
    """Compiles a file; whether it succeeds."""
    command = ["cc", *FLAGS, *flags, *(f"-I{folder}" for folder in include), "-c", str(source), "-o", str(made)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Objects:
    """Objects to link: the core's by source file, and those of drivers and harnesses."""

    core: dict[str, Path]
    others: dict[str, Path]
    flags: list[str]

    def but(self, file: str, source: Path) -> Objects:
        """A copy in which another source replaces a file's; ValueError if it does not compile."""
        made = source.with_suffix(".sanitized.o" if self.flags else ".o")
        if not compile_file(source, made, ((MODULE / file).parent,), self.flags):
            raise ValueError(source)
        return Objects({**self.core, file: made}, self.others, self.flags)

    def archive(self, out: Path) -> Path:
        """Archives the core's objects."""
        out.unlink(missing_ok=True)
        subprocess.run(["ar", "rcs", out, *self.core.values()], check=True)
        return out

    def link(self, out: Path, *names: str, options: tuple[str, ...] = ()) -> Path:
        """Links these others with the core to a program or library; their definitions precede the core's."""
        archive = self.archive(out.with_suffix(".a"))
        whole = ["-Wl,--whole-archive", archive, "-Wl,--no-whole-archive"] if "-shared" in options else [archive]
        own = [self.others[name] for name in names]
        command = ["cc", *self.flags, *options, *own, *whole, "-lpthread", "-o", out]
        subprocess.run(command, check=True, capture_output=True)
        return out


def objects(folders: str = "", flags: list[str] | None = None) -> Objects:
    """Compiles the unchanged core. folders: a regular expression of the files to take."""
    flags = flags or []
    folder = WORK / ("sanitized" if flags else "objects")
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in [*MODULE.rglob("*.h"), Path(__file__)])
    core: dict[str, Path] = {}
    for path in [*sorted((MODULE / "core").rglob("*.c")), *sorted((MODULE / "crypto").rglob("*.c"))]:
        name = path.relative_to(MODULE).as_posix()
        if not re.search(folders, name):
            continue
        core[name] = folder / (name.replace("/", "_") + ".o")
        if not core[name].exists() or core[name].stat().st_mtime < max(newest, path.stat().st_mtime):
            assert compile_file(path, core[name], (path.parent,), flags), path
    (WORK / "twin_sources.h").write_text('#define EDGELORA_SOURCES ""\n')
    sources = {"twin": ROOT / "host" / "native" / "twin.c", "sweep": FUZZ / "sweep.c", "drawn": FUZZ / "drawn.c"}
    sources |= {name: FUZZ / f"fuzz_{name}.c" for name in HARNESSES}
    sources |= {name: RUNNER / f"{name}.c" for name in RUNNER_SOURCES}
    others = {name: folder / f"{name}.o" for name in sources}
    for name, path in sources.items():
        assert compile_file(path, others[name], (WORK, FUZZ, RUNNER), flags), path
    return Objects(core, others, flags)


@dataclass(frozen=True)
class Tests:
    """The tests for mutants. questions, answers: the runner's calls and right answers; seeds: of sweeping harnesses."""

    questions: Path
    answers: bytes
    seeds: dict[str, list[str]]
    steps: int = 9  # most tests of a plan

    def plan(self, file: str) -> tuple[str | tuple[str, ...], ...]:
        """The tests for a file's mutants."""
        return PLANS[next(name for name in PLANS if file.startswith(name + "/"))][: self.steps]

    def sees(self, parts: Objects, checked: Objects, what: str | tuple[str, ...], folder: Path) -> str:
        """How one test of a plan detects the change, "" if it doesn't.

        checked: objects under sanitizers, for harnesses. folder: to work in.
        """
        if what == "runner":
            return self.asked(parts.link(folder / "runner", *RUNNER_SOURCES))
        if isinstance(what, str):
            driver = "sweep" if what in self.seeds else "drawn"
            program = checked.link(folder / what, what, driver)
            how = _end([program, *HARNESSES[what], *self.seeds.get(what, [])])
            return how and f"{what}{how}"
        library = parts.link(folder / "libedgelora.so", "twin", options=("-shared",))
        env = os.environ | {
            "EDGELORA_OTHER_TWIN": str(library),
            "EDGELORA_OTHER_CORE": str(checked.archive(folder / "checked.a")),
            "EDGELORA_OTHER_CC": " ".join(["cc", "-w", *SANITIZERS]),
            "EDGELORA_SEED": "1",
            "PYTHONPATH": f"{ROOT}/tests/support:{ROOT}/host",
        }
        if "core/test_crypto.py" in what:
            env["EDGELORA_OTHER_RUNNERS"] = str(parts.link(folder / "runner", *RUNNER_SOURCES))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "other_twin", "-p", "no:cacheprovider"]
        how = _end([*command, *(ROOT / "tests" / test for test in what)], env)
        return how and " ".join(Path(test).stem for test in what) + how

    def asked(self, program: Path) -> str:
        """The first difference in a runner's answers, "" if there is none."""
        limited = ["prlimit", f"--cpu={LONGEST}", program]
        with self.questions.open("rb") as given:
            process = subprocess.Popen(limited, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        at = 0
        while part := process.stdout.read1(1 << 16):
            if part != self.answers[at : at + len(part)]:
                break
            at += len(part)
        process.kill()
        process.communicate()
        return "" if at == len(self.answers) else "runner"


def _end(command: list[str | Path], env: dict[str, str] | None = None) -> str:
    """Runs a command; "", or how it failed. Limits processor time, so that a busy machine makes nothing hang."""
    done = subprocess.run(
        ["prlimit", f"--cpu={LONGEST}", *command], env=env, cwd=ROOT, capture_output=True, check=False
    )
    hangs = done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
    return " (hangs)" if hangs else " (fails)" if done.returncode else ""


def prepared(parts: Objects, steps: int) -> Tests:
    """Makes the tests: seeds, and calls with answers from the NumPy reference and golden files."""
    sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "core")]
    import numpy as np
    from drawn_runs import runs_of
    from random_ops import drawn_op, generated
    from test_cores import FIXED, GOLDEN, golden_calls

    subprocess.run([sys.executable, ROOT / "tools" / "fuzz_seeds.py", WORK / "seeds"], check=True)
    seeds = {
        name: sorted(str(path) for path in (WORK / "seeds" / name).iterdir())[:: 1 << 6]
        for name in ("files", "session")
    }
    draw = generated(np.random.default_rng(1))
    runs = [golden_calls(path) for path in GOLDEN]
    for op in [*FIXED.values(), *(drawn_op(draw, work=15) for _ in range(DRAWN_OPS))]:
        made = runs_of(op)
        runs.append((made.calls, made.answers))
    questions = WORK / "questions"
    questions.write_bytes(b"".join(struct.pack("<I", len(bytes(calls))) + bytes(calls) for calls, _ in runs))
    program = parts.link(WORK / "runner", *RUNNER_SOURCES)
    with questions.open("rb") as given:
        answers, at = subprocess.run([program], stdin=given, capture_output=True, check=True).stdout, 0
    for calls, expected in runs:
        size = int.from_bytes(answers[at : at + 4], "little")
        assert calls.answers(answers[at + 4 : at + 4 + size]) == expected
        at += 4 + size
    assert at == len(answers)
    return Tests(questions, answers, seeds, steps)


def seen(parts: Objects, checked: Objects, tests: Tests, mutant: Mutant, folder: Path) -> str:
    """Which test detects the mutant; "": none; "same": it compiles to the same code, or does not compile."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / Path(mutant.file).name
    lines = (MODULE / mutant.file).read_text().splitlines()
    lines[mutant.number - 1] = mutant.new
    source.write_text("\n".join(lines) + "\n")
    try:
        changed = parts.but(mutant.file, source)
    except ValueError:
        return "same"
    if text_of(changed.core[mutant.file]) == text_of(parts.core[mutant.file]):
        return "same"
    plan = tests.plan(mutant.file)
    if plan[0] == "runner" and (how := tests.sees(changed, checked, "runner", folder)):
        return how
    checked = checked.but(mutant.file, source)
    rest = plan[plan[0] == "runner" :]
    return next(filter(None, (tests.sees(changed, checked, what, folder) for what in rest)), "")


def text_of(made: Path) -> str:
    """A hash of an object's code and constants."""
    dump = ["objdump", "-s", "-r", "-j", ".text", "-j", ".rodata", "-j", ".data.rel.ro", str(made)]
    output = subprocess.run(dump, capture_output=True, text=True, check=False).stdout
    return hashlib.sha256(output.split("\n", 3)[-1].encode()).hexdigest()


def equivalents() -> set[tuple[str, str, str]]:
    """Mutants that can't make a difference: file, old and new line."""
    rows = [line.split(" ;; ") for line in EQUIVALENT.read_text().splitlines() if line and not line.startswith("#")]
    return {(file, old, "" if new == "(left out)" else new) for file, old, new, _ in rows}


class Tally:
    """Tries mutants one after the other and prints each result."""

    def __init__(
        self, parts: Objects, checked: Objects, tests: Tests, drawn: Iterator[Mutant], sample: int, end: float
    ) -> None:
        self.parts, self.checked, self.tests, self.drawn = parts, checked, tests, drawn
        self.sample, self.end = sample, end
        self.known = equivalents()
        self.killed, self.equivalent, self.same = 0, 0, 0
        self.survivors: list[Mutant] = []

    def tried(self) -> int:
        return self.killed + self.equivalent + len(self.survivors)

    def work(self, folder: Path) -> None:
        """Tries mutants until the sample is complete, or the time is up."""
        while self.tried() < self.sample and time.monotonic() < self.end:
            mutant = next(self.drawn, None)
            if mutant is None:
                return
            start = time.monotonic()
            listed = (mutant.file, mutant.old.strip(), mutant.new.strip()) in self.known
            by = "" if listed else seen(self.parts, self.checked, self.tests, mutant, folder)
            if by == "same":
                self.same += 1
                continue
            self.killed += bool(by)
            self.equivalent += listed
            if not by and not listed:
                self.survivors.append(mutant)
            verdict = "equivalent" if listed else f"seen by {by}" if by else "SURVIVED"
            print(f"[{self.tried()}/{self.sample}] {time.monotonic() - start:5.1f} s {verdict:32} {mutant}", flush=True)

    def unchanged_passes(self, jobs: int) -> bool:
        """Whether the unchanged core passes all plans; otherwise the results mean nothing."""

        def check(name: str) -> bool:
            folder = WORK / "unchanged" / name.replace("/", "_")
            folder.mkdir(parents=True, exist_ok=True)
            wrong = next(
                filter(None, (self.tests.sees(self.parts, what, folder) for what in self.tests.plan(name + "/"))), ""
            )
            print(f"{name} as it is: {wrong or 'passes'}", flush=True)
            return not wrong

        with ThreadPoolExecutor(jobs) as pool:
            return all(list(pool.map(check, reversed(PLANS))))

    def report(self) -> int:
        """Prints the survivors and the mutation score; returns the exit code."""
        for mutant in self.survivors:
            print(f"survived: {mutant}")
        differ, every = self.killed + len(self.survivors), self.tried()
        share, strict = 100 * self.killed / max(1, differ), 100 * self.killed / max(1, every)
        print(f"{every} mutants tried, {self.same} more left out as the same code: {self.killed} seen, ", end="")
        print(f"{len(self.survivors)} survived, {self.equivalent} listed as equivalent")
        print(f"{share:.1f} % seen of those that differ, {strict:.1f} % of all; the goal is {GOAL} %")
        return 0 if share >= GOAL else 1


def main() -> int:
    """Draws mutants, tries them and prints the results; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--files", default="", help="a regular expression of the files to change")
    parser.add_argument("--line", type=int, default=0, help="of the files: this line alone")
    parser.add_argument("--seconds", type=int, default=1 << 30, help="end after so many")
    parser.add_argument("--steps", type=int, default=9, help="of what a mutant meets, the fastest first")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    end, parts, checked = time.monotonic() + args.seconds, objects(), objects(flags=SANITIZERS)
    tests = prepared(parts, args.steps)
    every = [m for m in mutants() if re.search(args.files, m.file) and args.line in (0, m.number)]
    print(f"{len(every)} mutants, seed {args.seed}", flush=True)
    random.Random(args.seed).shuffle(every)
    tally = Tally(parts, checked, tests, iter(every), args.sample, end)
    if not tally.unchanged_passes(args.jobs):
        return 1
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(tally.work, [WORK / f"job{k}" for k in range(args.jobs)]))
    return tally.report()


if __name__ == "__main__":
    sys.exit(main())
