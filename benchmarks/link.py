"""Speed of file transfers over EdgeLoRA's link and with `mpremote cp`, on the same port, in the same run."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edgelora.board.link.client import Link
from edgelora.board.link.replies import LinkError

LINK_FILE = "/bench_link.bin"
MPREMOTE_FILE = "/bench_mpremote.bin"


@dataclass(frozen=True)
class LinkBench:
    """Seconds and bytes/s of both. `hashes_equal`: both files were read back from the board's flash as sent."""

    size: int
    link_seconds: float
    link_rate: float
    mpremote_seconds: float
    mpremote_rate: float
    speedup: float
    hashes_equal: bool


def bench_link(port: str, size: int = 100 * 1024, seed: int = 1) -> LinkBench:
    """Pushes `size` random bytes by both and compares. The board needs space for both files, which are removed
    afterwards.

    The link's time is that of `Link.put` on an open link, whole-file check included; mpremote's that of its command.
    Raises LinkError if either fails.
    """
    data = random.Random(seed).randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    with Link.connect(port) as link:
        start = time.perf_counter()
        link.put(LINK_FILE, data)
        link_seconds = time.perf_counter() - start
    mpremote_seconds = _mpremote_seconds(port, data)
    with Link.connect(port) as link:
        equal = all(link.stat(path).sha256 == digest for path in (LINK_FILE, MPREMOTE_FILE))
        link.remove(LINK_FILE)
        link.remove(MPREMOTE_FILE)
    return LinkBench(
        size=size,
        link_seconds=link_seconds,
        link_rate=size / link_seconds,
        mpremote_seconds=mpremote_seconds,
        mpremote_rate=size / mpremote_seconds,
        speedup=mpremote_seconds / link_seconds,
        hashes_equal=equal,
    )


def _mpremote_seconds(port: str, data: bytes) -> float:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "bench.bin"
        source.write_bytes(data)
        command = [sys.executable, "-m", "mpremote", "connect", port, "resume", "cp", str(source), f":{MPREMOTE_FILE}"]
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if run.returncode:
        raise LinkError(f"mpremote cp failed: {run.stderr.strip() or run.stdout.strip()}")
    return seconds
