"""`edgelora` as it is, but for this: what its twins draw is kept, so that others can draw the same. FOLDER WORDS..."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from edgelora import cli
from edgelora.fleet import member

FOLDER = Path(sys.argv[1])
_Twin = member.Twin


def keeping(secret: bytes, server: bytes, fleet: bytes, seed: bytes, index: int, **settings: Any) -> Any:
    (FOLDER / str(index)).write_bytes(seed)
    return _Twin(secret, server, fleet, seed, index, **settings)


member.Twin = keeping  # type: ignore[assignment, misc]
sys.exit(cli.main(sys.argv[2:]))
