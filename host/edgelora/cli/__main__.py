"""`python -m edgelora.cli`."""

import sys

from . import main

sys.exit(main())
