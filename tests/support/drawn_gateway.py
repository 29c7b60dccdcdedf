"""`edgelora`, but its twins save their random seeds, so that tests can draw the same: FOLDER ARGUMENTS..."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from edgelora.cli.main import main
from edgelora.core.twin.fleet import Member
from edgelora.fleet import member

FOLDER = Path(sys.argv[1])


class Keeping(Member):
    def __init__(self, secret: bytes, server: bytes, fleet: bytes, seed: bytes, index: int, **settings: Any) -> None:
        (FOLDER / str(index)).write_bytes(seed)
        super().__init__(secret, server, fleet, seed, index, **settings)


setattr(member, "Twin", Keeping)  # noqa: B010 (its name there is its own)
sys.exit(main(sys.argv[2:]))
