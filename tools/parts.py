"""Runs the parts of `make test-all`, which are the folders of tests: python tools/parts.py [--changed MINUTES].

tests/passed.json has, of each part that passed, a hash of the files that it depended on, and its time. `--changed` runs
those whose files differ now, in the order of PARTS, as long as their times fit into MINUTES; it names the others, and
draws no seed. Other options are pytest's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PASSED = ROOT / "tests" / "passed.json"
WORKERS = 2 * (os.cpu_count() or 1)  # they wait for boards and pages
BASIS = (
    "tests/support",
    "tests/conftest.py",
    "pyproject.toml",
    "micropython_module/core",
    "micropython_module/crypto",
    *(f"host/edgelora/{name}" for name in ("base", "core", "model")),
)
LEARN = (*BASIS, "micropython_module/python", "host/edgelora/learn", "host/edgelora/board")
FLEET = (*LEARN, "host/edgelora/fleet")
HERE = ("tests/support", "tests/conftest.py", "pyproject.toml", "Makefile")
PRODUCT = (*HERE, "host", "micropython_module", "firmware", "boards")


@dataclass(frozen=True)
class Part:
    """What a folder of tests depends on, beside itself; the targets of `make` that build it; where its pytest is."""

    files: tuple[str, ...]
    builds: tuple[str, ...] = ()
    environment: str = ".venv"


PARTS = {
    "core": Part(BASIS),
    "formats": Part((*BASIS, "host/edgelora/board")),
    "importers": Part(BASIS, ("keras-models",)),
    "frameworks": Part((*BASIS, "requirements.lock"), ("frameworks",), ".build/frameworks"),
    "flower": Part((*FLEET, "requirements-fleet.lock"), ("fleet",), ".build/fleet"),
    "fleet": Part(FLEET),
    "report": Part(LEARN),
    "training": Part(LEARN),
    "fuzz": Part((*BASIS, "host")),
    "device": Part(PRODUCT, ("firmware-cortex-m55",)),
    "boards": Part(PRODUCT),
    "link": Part(PRODUCT),
    "updates": Part(PRODUCT),
    "planning": Part((*PRODUCT, "benchmarks")),
    "cli": Part(PRODUCT),
    "page": Part((*PRODUCT, "docs/try")),
    "studio": Part(PRODUCT),
    "package": Part(
        (*PRODUCT, "tools", "docs", "c_package", "examples"), ("frameworks", "wheel-aarch64", "python-aarch64")
    ),
}


def hash_of(name: str) -> str:
    """Of the files that a part depends on: names and contents."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *PARTS[name].files, f"tests/{name}"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    whole = hashlib.sha256()
    for file in sorted(filter(None, listed.split("\0"))):
        if (ROOT / file).is_file():
            whole.update(f"{file}\0{hashlib.sha256((ROOT / file).read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def changed(passed: dict[str, dict[str, Any]], minutes: float) -> list[str]:
    """Parts that have changed since they passed, as many as fit into so many minutes; prints which are left."""
    chosen, left = [], 60 * minutes
    for name in PARTS:
        before = passed.get(name)
        if before is None:
            print(f"{name}: never passed, so its time is unknown: not run; `tools/parts.py {name}` runs it", flush=True)
        elif before["files"] == hash_of(name):
            continue
        elif before["seconds"] > left:
            print(f"{name}: changed since it passed, but takes {before['seconds']} s: not run", flush=True)
        else:
            chosen.append(name)
            left -= before["seconds"]
    print(f"parts of test-all to run: {', '.join(chosen) or 'none'}", flush=True)
    return chosen


def run(name: str, options: list[str]) -> bool:
    """Builds a part and runs it; whether it passed."""
    part = PARTS[name]
    environment = os.environ | {"EDGELORA_FULL": "1", "OPENBLAS_NUM_THREADS": "1"}
    pytest = [f"{part.environment}/bin/pytest", f"tests/{name}", *options]
    if part.environment == ".venv":
        pytest += ["-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder"]
    builds = [["make", *part.builds]] if part.builds else []
    return all(subprocess.run(one, cwd=ROOT, env=environment, check=False).returncode == 0 for one in (*builds, pytest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all by default: {', '.join(PARTS)}")
    parser.add_argument("--changed", type=float, metavar="MINUTES", help="only those that changed, and fit")
    arguments, options = parser.parse_known_args()
    passed = json.loads(PASSED.read_text())
    names = arguments.parts or [*PARTS] if arguments.changed is None else changed(passed, arguments.changed)
    if arguments.changed is not None:
        os.environ.setdefault("EDGELORA_SEED", "1")
    failed = []
    for name in names:
        files, began = hash_of(name), time.monotonic()
        if run(name, options):
            passed[name] = {"files": files, "seconds": round(time.monotonic() - began)}
            PASSED.write_text(json.dumps({one: passed[one] for one in PARTS if one in passed}, indent=1) + "\n")
        else:
            failed.append(name)
    if failed:
        sys.exit(f"parts that failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
