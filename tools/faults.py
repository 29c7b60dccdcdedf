"""Injects a fault at each allocation, flash operation and interrupt of every action on a board: `make faults`.

The firmware of `make firmware-faults` runs tests/device/programs/faults_suite.py in parts, two at a time. Results are
kept in .build/faults/done-*.json, by firmware and programs, so that an interrupted run resumes. Prints for each action
how often its state after a fault was the old one, the new one or, if the state has several parts, a mix; and how often
it was lost or the board was stuck. Exits with 1 if any was lost or stuck, or if an action ended in another way.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS, BUILD = ROOT / "tests" / "device" / "programs", ROOT / ".build" / "faults"
FIRMWARE = BUILD / "micropython"
FAULTS = ("allocation", "allocation for ever", "flash", "flash for ever", "interrupt")
PART = 400  # faults in a part
LONGEST = 3600  # seconds that a part may take
COLUMNS = ("faults", "before", "after", "between", "lost", "stuck")

sys.path.insert(0, str(ROOT / "tests" / "support"))
import fault_cases  # noqa: E402


def run(code: str, folder: Path) -> list[str]:
    """Runs code on the firmware in a folder; the lines that it prints."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import faults_suite; faults_suite.{code}"
    command = [folder / FIRMWARE.name, "-X", "heapsize=4m", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=LONGEST)
    if done.returncode:
        raise RuntimeError(f"{code}\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout.splitlines()


def journal() -> Path:
    """The file of results of this firmware with these programs."""
    digest = hashlib.sha256(FIRMWARE.read_bytes())
    for path in sorted([*PROGRAMS.glob("faults_*.py"), Path(fault_cases.__file__)]):
        digest.update(path.read_bytes())
    return BUILD / f"done-{digest.hexdigest()[:16]}.json"


def parts(sizes: list[list[int]]) -> list[tuple[int, int, int, int]]:
    """All parts as (action, fault, first, end); end is 0 in the last part of each fault."""
    found = []
    for action, counts in enumerate(sizes):
        for fault, count in enumerate(counts):
            for first in range(0, max(count, 0) + (count >= 0), PART):
                found.append((action, fault, first, first + PART if first + PART < count else 0))
    return sorted(found, key=lambda part: (sum(sizes[part[0]]), part))  # small actions first


def made(folder: Path, part: tuple[int, int, int, int]) -> tuple[list[int], list[str]]:
    """Runs a part; its counts, and the lines about failures."""
    lines = run("part({}, {}, {}, {})".format(*part), folder)
    ended = next(line for line in lines if line.startswith("PART "))
    return [int(word) for word in ended.split()[1:]], [line for line in lines if re.match("LOST|STUCK", line)]


def main() -> int:
    """Runs the parts without a result; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="actions whose names have this")
    args = parser.parse_args()
    done: dict[str, tuple[list[int], list[str]]] = {}
    path = journal()
    if path.exists():
        done = json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(i) for i in range(args.jobs)]
        for folder in folders:
            folder.mkdir()
            fault_cases.fill(folder)
            for source in [FIRMWARE, *PROGRAMS.glob("faults_*.py")]:  # copies: a build or an edit must not change a run
                shutil.copy2(source, folder)
        told = [line.split(maxsplit=7) for line in run("sizes()", folders[0]) if line.startswith("SIZE ")]
        names = [words[7] for words in told]
        all_parts = [
            p for p in parts([[int(word) for word in words[2:7]] for words in told]) if args.only in names[p[0]]
        ]
        run_parts(all_parts, names, folders, done, path)
    return report(all_parts, names, done)


def run_parts(
    all_parts: list[tuple[int, int, int, int]],
    names: list[str],
    folders: list[Path],
    done: dict[str, tuple[list[int], list[str]]],
    path: Path,
) -> None:
    """Runs the parts without a result, each in a folder of its own; progress on stderr, failures on stdout."""
    left = [part for part in all_parts if json.dumps(part) not in done]
    free, start, count = list(folders), time.monotonic(), 0

    def one(part: tuple[int, int, int, int]) -> tuple[tuple[int, int, int, int], tuple[list[int], list[str]]]:
        folder = free.pop()
        try:
            return part, made(folder, part)
        except (RuntimeError, StopIteration, subprocess.TimeoutExpired) as error:
            return part, ([0, 0, 0, 0, 0, 1], [f"ENDED {names[part[0]]} | {FAULTS[part[1]]} {part[2]} | {error}"])
        finally:
            free.append(folder)

    with ThreadPoolExecutor(len(folders)) as pool:
        for future in as_completed([pool.submit(one, part) for part in left]):
            part, result = future.result()
            done[json.dumps(part)] = result
            count += 1
            print("\n".join(line[:300] for line in result[1][:5]), end="\n" if result[1] else "", flush=True)
            path.write_text(json.dumps(done))
            said = f"{len(all_parts) - len(left) + count} of {len(all_parts)} parts, {time.monotonic() - start:.0f} s"
            print(f"\r{said}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def report(
    all_parts: list[tuple[int, int, int, int]], names: list[str], done: dict[str, tuple[list[int], list[str]]]
) -> int:
    """Prints totals; returns the exit code."""
    totals = {name: [0] * len(COLUMNS) for name in dict.fromkeys(names[part[0]] for part in all_parts)}
    for part in all_parts:
        for i, count in enumerate(done[json.dumps(part)][0]):
            totals[names[part[0]]][i] += count
    everything = [sum(column) for column in zip(*totals.values(), strict=True)]
    print(f"{'action':48}" + "".join(f"{column:>9}" for column in COLUMNS))
    for name, counts in [*totals.items(), (f"{len(totals)} actions", everything)]:
        print(f"{name:48}" + "".join(f"{count:>9,}" for count in counts))
    return 1 if everything[4] or everything[5] else 0


if __name__ == "__main__":
    sys.exit(main())
