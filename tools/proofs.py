"""Proves the functions prove_* of tests/proofs with CBMC, of each of which it takes seconds: `make proofs`.

CBMC tries all values that are assumed, and checks on the way every array access, pointer, shift, division and signed
overflow. `proofs.py [NAME...]`: those alone. Exits with 1 if one fails or takes too long.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER, MODULE = ROOT / "tests" / "proofs", ROOT / "micropython_module"
UNWIND = {"parsers": 8, "fft": 5, "softmax": 7, "fixed": 7}  # loops go round so often at most, which is proven, too
CHECKED = ("signed-overflow", "undefined-shift", "div-by-zero", "bounds", "pointer")
CHECKS = [f"--{what}-check" for what in CHECKED]
LONGEST = 600  # seconds


def functions() -> list[tuple[Path, str]]:
    """Each proof and its file."""
    files = sorted(FOLDER.glob("*.c"))
    return [
        (file, name) for file in files for name in re.findall(r"^void prove_(\w+)\(", file.read_text(), re.MULTILINE)
    ]


def prove(file: Path, name: str) -> tuple[bool, str]:
    """Whether it holds, and what was said if not."""
    command = ["cbmc", str(file), "--function", f"prove_{name}", *CHECKS, f"-I{MODULE / 'core'}", f"-I{FOLDER}"]
    command += ["--unwind", str(UNWIND[file.stem]), "--unwinding-assertions", "--object-bits", "9"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return False, f"not ended in {LONGEST} s"
    wrong = [line for line in done.stdout.splitlines() if line.endswith("FAILURE")]
    proven = done.returncode == 0 and "VERIFICATION SUCCESSFUL" in done.stdout
    return proven, "; ".join(wrong[:3]) or done.stderr[-300:]


def main(names: list[str]) -> int:
    """Prints a line for each proof; returns the exit code."""
    failed = 0
    for file, name in functions():
        if names and name not in names:
            continue
        start = time.monotonic()
        proven, why = prove(file, name)
        print(
            f"{file.stem:8} {name:18} {'proven' if proven else 'FAILED ' + why} {time.monotonic() - start:6.1f} s",
            flush=True,
        )
        failed += not proven
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
