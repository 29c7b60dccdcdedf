"""Measures the branch coverage of core and crypto by the C-level tests: `make coverage`.

Makes three builds with clang's source-based coverage, since a processor runs only its own kernels: the widest vectors,
AVX2, and none. The tests of the core run with them instead of the usual builds (tests/support/other_twin.py). Code for
other processors (assembly for Cortex-M0+, DSP, NEON) is not built here: tests/core/test_cores.py compares its results
with the others'.

A condition in the source has two branches, true and false (or one for each case of a switch). A branch is taken if any
test takes it, in any build and in any file that includes it. Branches that can't be taken are listed with reasons in
tests/core/untakable_branches.txt and counted separately. Exits with 1 if a listed branch is taken, if a listed branch
is not in the source, if a test fails, or if the coverage is below the goal.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE, RUNNER, WORK = ROOT / "micropython_module", ROOT / "tools" / "runner", ROOT / ".build" / "coverage"
UNTAKABLE = ROOT / "tests" / "core" / "untakable_branches.txt"
GOAL = 95.0  # per cent of branches
BUILDS = {"vnni": "", "avx2": "-DEDGELORA_NO_VNNI", "no-simd": "-DEDGELORA_NO_SIMD"}
FLAGS = "-O1 -g -fprofile-instr-generate -fcoverage-mapping"
TESTS = (  # in tests/, with a twin
    *("core/test_core.py", "core/test_class_training.py", "core/test_fleet_member.py", "core/test_fleet_privacy.py"),
    *("core/test_ed25519.py", "core/test_frontends.py", "core/test_extremes.py", "core/test_misuse.py"),
    *("core/test_changed.py", "core/test_order.py"),
    *("formats/test_limits.py", "formats/test_signal.py", "training/test_classes.py"),
    *("fuzz/test_fuzz.py", "formats/test_damage.py"),
)
NO_SIMD_TESTS = ("core/test_core.py", "core/test_class_training.py", "fuzz/test_fuzz.py")
RUNNER_TESTS = ("core/test_cores.py", "core/test_crypto.py")  # with the runners of all builds
LEFT_OUT = "not mutator and not instructions_are_counted and not program_that_dies"


@dataclass(frozen=True)
class Build:
    """A build with coverage."""

    name: str

    @property
    def folder(self) -> Path:
        return WORK / self.name

    @property
    def twin(self) -> Path:
        return self.folder / "libedgelora.so"

    @property
    def archive(self) -> Path:
        return self.folder / "libcore.a"

    @property
    def runner(self) -> Path:
        return self.folder / "runner"


def compiled(name: str) -> Build:
    """Compiles the library, the archive of its objects, and the runner that links them."""
    made = Build(name)
    make = ["cmake", "-S", ROOT, "-B", made.folder, "-DCMAKE_C_COMPILER=clang-22", "-DCMAKE_BUILD_TYPE=Coverage"]
    make += [f"-DCMAKE_C_FLAGS={FLAGS} {BUILDS[name]}", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={made.folder}"]
    subprocess.run(make, check=True, capture_output=True)
    build_it = ["cmake", "--build", made.folder, f"-j{os.cpu_count()}"]
    subprocess.run(build_it, check=True, stdout=subprocess.DEVNULL)
    objects = [path for path in made.folder.rglob("*.c.o") if path.name != "twin.c.o"]
    made.archive.unlink(missing_ok=True)
    subprocess.run(["ar", "rcs", made.archive, *objects], check=True)
    link = ["clang-22", "-std=gnu99", *FLAGS.split(), f"-I{MODULE}/core", f"-I{MODULE}/crypto", f"-I{RUNNER}"]
    sources = sorted(set(RUNNER.glob("*.c")) - {RUNNER / "bare.c"})
    subprocess.run([*link, *sources, made.archive, "-o", made.runner], check=True)
    return made


def run(test: str, build: Build, runners: list[Build]) -> str:
    """Runs a file of tests with a build; its output if it fails."""
    env = os.environ | {
        "LLVM_PROFILE_FILE": f"{WORK}/raw/{build.name}-%4m.profraw",
        "EDGELORA_OTHER_TWIN": str(build.twin),
        "EDGELORA_OTHER_CORE": str(build.archive),
        "EDGELORA_OTHER_CC": f"clang-22 {FLAGS}",
        "EDGELORA_OTHER_RUNNERS": " ".join(str(one.runner) for one in runners),
        "PYTHONPATH": f"{ROOT}/tests/support:{ROOT}/host",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "other_twin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, ROOT / "tests" / test, "-k", LEFT_OUT], env=env, cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout[-3000:] + done.stderr[-1000:] if done.returncode else ""


def measure(builds: list[Build]) -> int:
    """Runs all tests with their builds and prints a line for each; returns how many failed."""
    shutil.rmtree(WORK / "raw", ignore_errors=True)
    widest, avx2, no_simd = builds
    plan = [(test, widest, builds) for test in RUNNER_TESTS]
    plan += [(test, widest, []) for test in TESTS]
    plan += [(test, no_simd, []) for test in NO_SIMD_TESTS] + [("fuzz/test_fuzz.py", avx2, [])]
    failed = 0
    for number, (test, build, runners) in enumerate(plan, 1):
        start = time.monotonic()
        told = run(test, build, runners)
        failed += bool(told)
        name = "all" if runners else build.name
        taken = f"{time.monotonic() - start:6.1f} s"
        print(f"[{number}/{len(plan)}] {name:6} {test:32} {taken} {'FAILED' if told else ''}", flush=True)
        if told:
            print(told, flush=True)
    return failed


@dataclass(frozen=True, order=True)
class Place:
    """A condition in the source; lines and columns from 1."""

    file: str  # path in micropython_module
    line: int
    function: str
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Branch:
    """One of the two outcomes of a condition."""

    file: str
    function: str
    condition: str
    way: str  # "true" or "false"

    def __str__(self) -> str:
        return f"{self.file} | {self.function} | {self.condition} | {self.way}"


def taken(builds: list[Build]) -> dict[Place, tuple[bool, bool]]:
    """For each condition: whether it was ever true, and ever false."""
    merged = WORK / "merged.profdata"
    raw = sorted((WORK / "raw").iterdir())
    subprocess.run(["llvm-profdata-22", "merge", "-sparse", *raw, "-o", merged], check=True)
    counts: dict[Place, list[int]] = defaultdict(lambda: [0, 0])
    for build in builds:
        command = ["llvm-cov-22", "export", build.twin, f"-instr-profile={merged}", "-format=text", "-skip-expansions"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for function in json.loads(told)["data"][0]["functions"]:
            for line, column, end_line, end_column, true, false, file, *_ in function["branches"]:
                path = Path(function["filenames"][file])
                if path.is_relative_to(MODULE):
                    name = re.split("[:;]", function["name"])[-1]
                    place = Place(path.relative_to(MODULE).as_posix(), line, name, column, end_line, end_column)
                    counts[place][0] += true
                    counts[place][1] += false
    return {place: (true > 0, false > 0) for place, (true, false) in counts.items()}


def branches_of(place: Place, lines: list[str]) -> tuple[Branch, Branch]:
    """The two branches of a condition."""
    whole = [*lines[place.line - 1 : place.end_line]]
    whole[-1] = whole[-1][: place.end_column - 1]
    whole[0] = whole[0][place.column - 1 :]
    condition = " ".join(line.strip() for line in whole)
    true, false = (Branch(place.file, place.function, condition, way) for way in ("true", "false"))
    return true, false


def untakable() -> set[str]:
    """The entries of tests/core/untakable_branches.txt, without their reasons."""
    lines = UNTAKABLE.read_text().splitlines()
    return {line.rsplit(" | ", 1)[0] for line in lines if line and not line.startswith("#")}


def report(found: dict[Place, tuple[bool, bool]], excused: set[str]) -> int:
    """Prints the branches not taken, and the coverage of each file and in total; returns the exit code."""
    count: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])  # branches, missed, untakable
    wrong, seen = [], set()
    for place in sorted(found):
        lines = (MODULE / place.file).read_text().splitlines()
        of_file = count[place.file]
        for branch, was_taken in zip(branches_of(place, lines), found[place], strict=True):
            listed = str(branch) in excused
            seen.add(str(branch))
            of_file[0] += 1
            of_file[1] += not was_taken and not listed
            of_file[2] += not was_taken and listed
            if listed and was_taken:
                wrong.append(f"taken, though it is listed as untakable: {branch}")
            if not was_taken and not listed:
                print(f"{place.file}:{place.line}: {place.function}: never {branch.way}: {branch.condition}")
    wrong += [f"not in the source: {entry}" for entry in sorted(excused - seen)]
    for name, (branches, missed, never) in sorted(count.items(), key=lambda item: item[1][1]):
        note = f", {never} can't be" if never else ""
        print(f"{name:45} {branches:>6} branches, {missed:>4} not taken{note}")
    every, missed, never = (sum(of_file[k] for of_file in count.values()) for k in range(3))
    share, strict = 100 * (every - missed - never) / (every - never), 100 * (every - missed - never) / every
    print(*wrong, sep="\n")
    print(f"{every} branches: {every - missed - never} taken, {missed} not taken, {never} listed as untakable")
    print(f"{share:.2f} % of those that can be taken, {strict:.2f} % of all; the goal is {GOAL} %")
    return 1 if wrong or share < GOAL else 0


def main(names: list[str]) -> int:
    """Builds, runs and reports; returns the exit code. "report": reports the previous run."""
    start = time.monotonic()
    if names == ["report"]:
        return report(taken([Build(name) for name in BUILDS]), untakable())
    builds = [compiled(name) for name in BUILDS]
    print(f"built in {time.monotonic() - start:.0f} s", flush=True)
    failed = measure(builds)
    return report(taken(builds), untakable()) or int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
