"""A pytest plugin that runs tests with another build of the core instead of the usual ones.

EDGELORA_OTHER_TWIN names the library, EDGELORA_OTHER_CORE an archive of the same objects, with which the compiler
EDGELORA_OTHER_CC links the tests' C programs. EDGELORA_OTHER_RUNNERS names programs of tools/runner with such objects,
which replace those of all cores.
"""

import os
import subprocess
import sys
from pathlib import Path

import sanitized

from edgelora.base import resources

sys.path.insert(0, str(resources.ROOT / "tools"))
import cores

OTHER = Path(os.environ["EDGELORA_OTHER_TWIN"])
resources.twin = lambda: OTHER
resources.core_digest = lambda: ""  # the build may have changed sources


def build(source: Path, folder: Path, *others: Path) -> Path:
    """Replaces `sanitized.build`: links with the archive, without sanitizers."""
    program = folder / source.stem
    includes = [f"-I{sanitized.CORE}", f"-I{sanitized.CRYPTO}"]
    command = [*os.environ["EDGELORA_OTHER_CC"].split(), "-std=gnu11", "-pthread", *includes]
    subprocess.run([*command, source, *others, os.environ["EDGELORA_OTHER_CORE"], "-o", program], check=True)
    return program


sanitized.build = sanitized.build_for_addresses = build
runners = [Path(path) for path in os.environ.get("EDGELORA_OTHER_RUNNERS", "").split()]
if runners:
    cores.CORES = tuple(cores.Core(str(path), ()) for path in runners)
    cores.HOST = cores.SANITIZED = cores.CORES[0]
    cores.built = lambda core: Path(core.name)
