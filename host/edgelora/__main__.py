from __future__ import annotations

import sys

from edgelora.cli.main import main

sys.exit(main())
