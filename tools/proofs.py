"""Proves the functions prove_* of tests/proofs with CBMC, each within a time limit: `make proofs`.

CBMC covers all values that the assumptions allow, and also checks every array access, pointer, shift, division and
signed overflow. A line for each proof says whether it is proven, fails, or did not end, in which case nothing is known.
`proofs.py [--seconds N] [NAME...]` runs only the named ones. Exits with 1 if one fails, with 2 if one did not end.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER, MODULE = ROOT / "tests" / "proofs", ROOT / "micropython_module"
UNWIND = {"parsers": 8, "fft": 5, "softmax": 7, "fixed": 7}  # most iterations of a loop; that bound is proven, too
CHECKED = ("signed-overflow", "undefined-shift", "div-by-zero", "bounds", "pointer")
CHECKS = [f"--{what}-check" for what in CHECKED]
LONGEST = 300  # seconds for a proof
NOT_ENDED = "not ended"


def functions() -> list[tuple[Path, str]]:
    """All proofs: file and name."""
    files = sorted(FOLDER.glob("*.c"))
    return [
        (file, name) for file in files for name in re.findall(r"^void prove_(\w+)\(", file.read_text(), re.MULTILINE)
    ]


def prove(file: Path, name: str, seconds: int = LONGEST) -> tuple[bool, str]:
    """Whether the proof holds; if not: `NOT_ENDED` after `seconds`, or what fails."""
    command = ["cbmc", str(file), "--function", f"prove_{name}", *CHECKS, f"-I{MODULE / 'core'}", f"-I{FOLDER}"]
    command += ["--unwind", str(UNWIND[file.stem]), "--unwinding-assertions", "--object-bits", "9"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return False, NOT_ENDED
    wrong = [line for line in done.stdout.splitlines() if line.endswith("FAILURE")]
    proven = done.returncode == 0 and "VERIFICATION SUCCESSFUL" in done.stdout
    return proven, "; ".join(wrong[:3]) or done.stderr[-300:]


def main(arguments: list[str]) -> int:
    """Runs proofs, prints a line for each and the counts of outcomes; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=LONGEST, help="of each proof")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args(arguments)
    count = {"proven": 0, NOT_ENDED: 0, "FAILED": 0}
    for file, name in functions():
        if args.names and name not in args.names:
            continue
        start = time.monotonic()
        proven, why = prove(file, name, args.seconds)
        verdict = "proven" if proven else NOT_ENDED if why == NOT_ENDED else "FAILED"
        count[verdict] += 1
        message = f"{verdict} {why}" if verdict == "FAILED" else verdict
        print(f"{file.stem:8} {name:18} {time.monotonic() - start:6.1f} s  {message}", flush=True)
    print(", ".join(f"{number} {verdict}" for verdict, number in count.items()))
    return 1 if count["FAILED"] else 2 if count[NOT_ENDED] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
