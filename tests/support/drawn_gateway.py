"""`edgelora`, but its twins save their random seeds, so that tests can draw the same: FOLDER ARGUMENTS..."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from edgelora.cli import gateway
from edgelora.cli.main import main
from edgelora.fleet.member import TwinMember

FOLDER = Path(sys.argv[1])


class Keeping(TwinMember):
    def __init__(self, *settings: Any) -> None:
        seed = os.urandom(32)
        super().__init__(*settings, seed=lambda: seed)
        (FOLDER / str(self.index)).write_bytes(seed)


setattr(gateway, "TwinMember", Keeping)  # noqa: B010 (its name there is its own)
sys.exit(main(sys.argv[2:]))
