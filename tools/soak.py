"""Runs every fuzzer of tests/fuzz for a time, on new random seeds and a persistent corpus: `make soak TIME=600`.

Builds of the C: `asan` (AddressSanitizer and UBSan), `integer` (wraps and truncations, except those in
tests/fuzz/wraps.txt), `msan` (MemorySanitizer). Needs clang-22 with its compiler-rt and libFuzzer. `host`: the host's
parsers of untrusted bytes (fuzz_host.py), guided by atheris if that is installed. .build/fuzz has a corpus for each
harness, and failing inputs in `found`. All fuzzers get the same time. The last line is the total; exits with 1 if
anything failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE, FUZZ, WORK = ROOT / "micropython_module", ROOT / "tests" / "fuzz", ROOT / ".build" / "fuzz"
CLANG = "clang-22"
VARIANTS = {
    "asan": ["-fsanitize=address,undefined"],
    "integer": ["-fsanitize=integer", f"-fsanitize-ignorelist={FUZZ / 'wraps.txt'}"],
    "msan": ["-fsanitize=memory", "-fsanitize-memory-track-origins"],
}
ALL = [*VARIANTS, "host"]
HARNESSES = {  # sources in addition to fuzz_NAME.c, and most bytes of an input
    "files": (["mutator.c"], 2000),
    "session": (["mutator.c"], 2500),
    "member": ([], 340),
    "signal": ([], 60),
    "crypto": ([], 400),
}
SWEEPS = {"files": 100_000, "session": 20_000}  # pairs of fields of an input
FLAGS = [
    "-std=c11",
    "-g",
    "-O2",
    "-Wall",
    "-Wextra",
    "-fno-sanitize-recover=all",
    "-DEDGELORA_ASSERTS",
    f"-I{MODULE}/core",
    f"-I{MODULE}/crypto",
]
HOST = "fuzz_host.py"
OPTIONS = {"ASAN_OPTIONS": "quarantine_size_mb=1:malloc_context_size=4"}


@dataclass
class Result:
    """The result of one run."""

    name: str
    executions: int
    failed: bool
    note: str = ""


def compile_core(variant: str, jobs: int) -> Path:
    """Compiles core and crypto to a library; only files that are newer than their objects."""
    folder = WORK / variant
    folder.mkdir(parents=True, exist_ok=True)
    sources = [*(MODULE / "core").rglob("*.c"), *(MODULE / "crypto").rglob("*.c")]
    shared = [*(MODULE / "core").rglob("*.h"), *(MODULE / "crypto").rglob("*.h"), FUZZ / "wraps.txt"]
    newest = max(path.stat().st_mtime for path in shared)

    def compile_one(source: Path) -> Path:
        made = folder / ("_".join(source.relative_to(MODULE).parts) + ".o")
        if not made.exists() or made.stat().st_mtime < max(newest, source.stat().st_mtime):
            cover = ["-fsanitize=fuzzer-no-link", "-fno-sanitize-coverage=trace-cmp"]
            subprocess.run([CLANG, *FLAGS, *VARIANTS[variant], *cover, "-c", source, "-o", made], check=True)
        return made

    with ThreadPoolExecutor(jobs) as pool:
        made = list(pool.map(compile_one, sources))
    library = folder / "libcore.a"
    library.unlink(missing_ok=True)
    subprocess.run(["ar", "rcs", library, *made], check=True)
    return library


def link(variant: str, name: str, library: Path) -> Path:
    """Links a fuzzer; its program."""
    program = WORK / variant / name
    sources = [FUZZ / f"fuzz_{name}.c", *(FUZZ / more for more in HARNESSES[name][0])]
    subprocess.run(
        [CLANG, *FLAGS, *VARIANTS[variant], "-fsanitize=fuzzer", *sources, library, "-o", program], check=True
    )
    return program


def link_sweep(variant: str, name: str, library: Path) -> Path:
    """Links the same harness with a driver that varies every field of the seeds."""
    program = WORK / variant / f"sweep_{name}"
    sources = [FUZZ / f"fuzz_{name}.c", FUZZ / "sweep.c"]
    flags = [*FLAGS, *VARIANTS[variant], "-fsanitize=fuzzer-no-link"]
    subprocess.run([CLANG, *flags, *sources, library, "-o", program], check=True)
    return program


def fuzz(variant: str, name: str, program: Path, seconds: int) -> Result:
    """Runs a fuzzer on its corpus and seeds."""
    corpus, found = WORK / "corpus" / name, WORK / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    seeds = [str(folder) for folder in [WORK / "seeds" / name] if folder.is_dir()]
    command = [
        program,
        f"-max_total_time={seconds}",
        f"-max_len={HARNESSES[name][1]}",
        "-entropic=0",
        "-print_final_stats=1",
    ]
    command += [f"-artifact_prefix={found}/{variant}-{name}-", "-timeout=20", str(corpus), *seeds]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env={**os.environ, **OPTIONS}, check=False
    )
    (WORK / f"{variant}-{name}.log").write_text(done.stderr)
    executions = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    summary = re.search(r"^SUMMARY: .*|^\S+\.c:\d+: .*", done.stderr, re.MULTILINE)
    note = summary.group(0) if summary and done.returncode else ""
    return Result(f"{variant} {name}", int(executions.group(1)) if executions else 0, done.returncode != 0, note)


def sweep(variant: str, name: str, program: Path, seconds: int) -> Result:
    """Sweeps random seeds until the time is up."""
    seeds, executions = sorted((WORK / "seeds" / name).iterdir()), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seed = random.choice(seeds)
        command = [program, str(SWEEPS[name]), str(random.randrange(1 << 31)), seed]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            (WORK / "found").mkdir(exist_ok=True)
            (WORK / "found" / f"{variant}-sweep-{name}.log").write_text(
                " ".join(map(str, command)) + "\n" + done.stderr
            )
            return Result(f"{variant} sweep of {name}", executions, True, done.stderr[-300:].splitlines()[-1])
        executions += int(done.stdout.split()[0])
    return Result(f"{variant} sweep of {name}", executions, False)


def host_targets() -> list[str]:
    """The names of fuzz_host.py's targets."""
    listed = subprocess.run([sys.executable, FUZZ / HOST, "--list"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def fuzz_host(variant: str, name: str, program: Path, seconds: int) -> Result:
    """Runs a target of fuzz_host.py; without atheris, mutations are not guided by coverage."""
    corpus, found, seeds = WORK / "corpus" / f"host-{name}", WORK / "found", WORK / "seeds" / f"host-{name}"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, program, name]
    subprocess.run([*command, "--seeds", seeds], check=True)
    if importlib.util.find_spec("atheris"):
        limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048"]
        command += [*limits, "-print_final_stats=1", f"-artifact_prefix={found}/host-{name}-", str(corpus), str(seeds)]
    else:
        command += ["--draw", str(seconds * 500), str(random.randrange(1 << 31))]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    (WORK / f"host-{name}.log").write_text(done.stdout + done.stderr)
    executions = re.search(r"^Done (\d+) runs|^(\d+) executions", done.stdout + done.stderr, re.MULTILINE)
    errors = re.findall(r"^\S*(?:Error|Exception|Warning)\b.*|^SUMMARY: .*", done.stderr, re.MULTILINE)
    count = int(executions[1] or executions[2]) if executions else 0
    return Result(f"host {name}", count, done.returncode != 0, errors[0] if errors and done.returncode else "")


def main() -> int:
    """Divides the time among all builds and harnesses, and runs them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=int, help="of all fuzzers together, without building")
    parser.add_argument("--variants", nargs="+", choices=ALL, default=ALL)
    parser.add_argument("--harnesses", nargs="+", choices=[*HARNESSES], default=[*HARNESSES])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="of compilers")
    args = parser.parse_args()
    subprocess.run([sys.executable, ROOT / "tools" / "fuzz_seeds.py", WORK / "seeds"], check=True)
    runs: list[tuple[Callable[[str, str, Path, int], Result], str, str, Path]] = []
    for variant in [variant for variant in args.variants if variant in VARIANTS]:
        library = compile_core(variant, args.jobs)
        for name in args.harnesses:
            runs.append((fuzz, variant, name, link(variant, name, library)))
            if name in SWEEPS and variant != "msan":
                runs.append((sweep, variant, name, link_sweep(variant, name, library)))
    if "host" in args.variants:
        runs += [(fuzz_host, "host", name, FUZZ / HOST) for name in host_targets()]
    results = []
    for run, variant, name, program in runs:
        results.append(result := run(variant, name, program, max(1, args.seconds // len(runs))))
        print(
            f"{result.name:26} {result.executions:>12,} {'FAILED ' + result.note if result.failed else 'ok'}",
            flush=True,
        )
    failed = sum(result.failed for result in results)
    print(f"{sum(result.executions for result in results):,} executions, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
