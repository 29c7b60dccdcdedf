"""A pytest plugin: tests with the library that EDGELORA_OTHER_TWIN names in place of the usual twin."""

import os
from pathlib import Path

from edgelora import resources

OTHER = Path(os.environ["EDGELORA_OTHER_TWIN"])
resources.twin = lambda: OTHER
resources.core_digest = lambda: ""  # it may have been made from changed sources
