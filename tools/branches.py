"""Prints which share of the branches of core and crypto the C-level tests take: `make coverage`.

Three builds with clang's source-based coverage, as a processor takes only its own kernels: the widest vectors, AVX2,
and none. Each runs the fuzzers' harnesses on seeds drawn anew; the first and the last also run tests that take the
twin. Exits with 1 below the goal. What other processors run (assembly for Cortex-M0+, DSP, NEON) is not built here:
tests/core/test_cores.py compares it with the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE, FUZZ, WORK = ROOT / "micropython_module", ROOT / "tests" / "fuzz", ROOT / ".build" / "coverage"
GOAL = 95.0  # per cent of branches
BUILDS = {"vnni": "", "avx2": "-DEDGELORA_NO_VNNI", "narrow": "-DEDGELORA_NARROW"}
FLAGS = "-O1 -g -fprofile-instr-generate -fcoverage-mapping"
TESTS = ("core/test_core.py", "core/test_class_training.py", "core/test_fleet_member.py", "core/test_ed25519.py")
MORE_TESTS = ("core/test_frontends.py", "core/test_extremes.py", "formats/test_damage.py", "formats/test_signal.py")
HARNESSES = {"files": "sweep.c", "session": "sweep.c", "member": "drawn.c", "signal": "drawn.c", "crypto": "drawn.c"}
DRAWN = {"member": ("20000", "1", "340"), "signal": ("500", "1", "60"), "crypto": ("1000", "1", "300")}


def build(name: str, flag: str) -> Path:
    """A twin with coverage; its objects are beside it."""
    folder = WORK / name
    make = ["cmake", "-S", ROOT, "-B", folder, "-DCMAKE_C_COMPILER=clang-22", "-DCMAKE_BUILD_TYPE=Coverage"]
    make += [f"-DCMAKE_C_FLAGS={FLAGS} {flag}", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={folder}"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    build_it = ["cmake", "--build", folder, f"-j{os.cpu_count()}"]
    subprocess.run(build_it, check=True, stdout=subprocess.DEVNULL)
    return folder / "libedgelora.so"


def harness(name: str, folder: Path) -> Path:
    """A fuzzer's harness over the objects of a build, without a fuzzer."""
    objects = [path for path in folder.rglob("*.c.o") if path.name != "twin.c.o"]
    if name == "member":  # which has a stand-in
        objects = [path for path in objects if path.name != "x25519.c.o"]
    program = folder / name
    includes = [f"-I{MODULE}/core", f"-I{MODULE}/crypto"]
    sources = [FUZZ / f"fuzz_{name}.c", FUZZ / HARNESSES[name]]
    subprocess.run(
        ["clang-22", "-std=c11", "-O1", *FLAGS.split(), *includes, *sources, *objects, "-o", program], check=True
    )
    return program


def run(name: str, library: Path, seeds: Path) -> None:
    """What takes the branches of a build."""
    raw = WORK / "raw"
    env = {**os.environ, "LLVM_PROFILE_FILE": f"{raw}/{name}-%p.profraw", "EDGELORA_OTHER_TWIN": str(library)}
    env["PYTHONPATH"] = str(ROOT / "tests" / "support")
    for which in HARNESSES:
        drawn = [str(path) for path in sorted((seeds / which).iterdir())[::50]] if which not in DRAWN else []
        arguments = DRAWN.get(which, ("1000", "1", *drawn))
        subprocess.run([harness(which, library.parent), *arguments], check=True, env=env, stdout=subprocess.DEVNULL)
    tests = {"vnni": (*TESTS, *MORE_TESTS), "avx2": (), "narrow": TESTS[:2]}[name]
    for test in tests:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "other_twin",
            ROOT / "tests" / test,
            "-k",
            "not sanitizers",
        ]
        subprocess.run(command, check=True, env=env, cwd=ROOT, stdout=subprocess.DEVNULL)


def main() -> int:
    """Builds, runs, prints a line for each file; returns the exit code."""
    raw, seeds = WORK / "raw", WORK / "seeds"
    raw.mkdir(parents=True, exist_ok=True)
    for old in raw.iterdir():
        old.unlink()
    subprocess.run([sys.executable, ROOT / "tools" / "fuzz_seeds.py", seeds], check=True)
    libraries = {name: build(name, flag) for name, flag in BUILDS.items()}
    for name, library in libraries.items():
        run(name, library, seeds)
    return report(list(libraries.values()))


def report(libraries: list[Path]) -> int:
    """Prints the share of branches of each file, least first, and of all; returns the exit code."""
    merged = WORK / "merged.profdata"
    subprocess.run(
        ["llvm-profdata-22", "merge", "-sparse", *sorted((WORK / "raw").iterdir()), "-o", merged], check=True
    )
    first, *others = libraries
    command = ["llvm-cov-22", "report", first, *(f"-object={path}" for path in others), f"-instr-profile={merged}"]
    sources = [*(MODULE / "core").rglob("*.c"), *(MODULE / "crypto").rglob("*.c")]
    done = subprocess.run([*command, "--show-branch-summary", *sources], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if "%" in line]
    rows.sort(key=lambda row: float(row[-1].rstrip("%")) if row[-1] != "-" else 101)
    for name, *_, branches, missed, share in rows:
        if branches != "0":
            print(f"{name:45} {branches:>6} branches, {missed:>4} not taken {share:>8}")
    total = next(float(row[-1].rstrip("%")) for row in rows if row[0] == "TOTAL")
    print(f"{total} % of branches; the goal is {GOAL} %")
    return 0 if total >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
