"""The command line in a separate process, and the metrics that a run writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).parent / "edgelora"


def edgelora(*args: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command and asserts its exit code."""
    done = subprocess.run([COMMAND, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == code, done.stderr
    return done


def result(*args: object) -> Any:
    """The command's output with --json."""
    return json.loads(edgelora(*args, "--json").stdout)


def read_report(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def metric_lines(run: Path) -> list[dict[str, Any]]:
    """The metrics of a run's updates so far; the run may be in progress."""
    path = run / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [line for line in map(json.loads, lines) if line["event"] == "update"]
