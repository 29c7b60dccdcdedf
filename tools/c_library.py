#!/usr/bin/env python3
"""Makes the C library, the core without MicroPython: dist/c and dist/edgelora-c-VERSION.zip (`make c-library`).

One tree is a CMake package, an Arduino library, a Zephyr module and a PlatformIO library. Its sources are the core's;
includes become relative, so that a compiler needs one include path, or none for the library itself. Files from
c_package get the version. The same checkout gives the same bytes.
"""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath
from posixpath import relpath

import edgelora
from edgelora.base.resources import ROOT
from edgelora.core.formats.elm import unpack_model
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.exporting import header_of, sample_file_of
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parent))

import c_library_model  # noqa: E402

MODULE, LAYOUT, DIST = ROOT / "micropython_module", ROOT / "c_package", ROOT / "dist"
PUBLIC = ("edgelora.h", "edgelora_limits.h", "edgelora_ops.h", "signal/frontend.h", "fleet/fleet.h", "crypto/crypto.h")
INCLUDE = re.compile(r'^(\s*#\s*include ")([^"]+)(")', re.MULTILINE)
FIXED_TIME = (2026, 1, 1, 0, 0, 0)  # of files in the zip
OF_EACH = {"train": 8, "test": 20}  # windows of each gesture


def make(folder: Path) -> None:
    """Fills an empty folder with the library."""
    sources = _sources()
    for name, text in sources.items():
        _write(folder / "src" / name, _with_relative_includes(name, text, sources))
    lists = {"SOURCES": [name for name in sources if name.endswith(".c")], "HEADERS": PUBLIC}
    listed = (["", f"set(EDGELORA_{name}", *(f"    src/{file}" for file in lists[name]), ")"] for name in lists)
    _write(folder / "cmake" / "sources.cmake", "\n".join(line for lines in listed for line in lines) + "\n")
    for path in sorted(file for file in LAYOUT.rglob("*") if file.is_file()):
        _write(folder / path.relative_to(LAYOUT), path.read_text().replace("@VERSION@", edgelora.__version__))
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    _write_example(folder / "examples")


def make_zip(folder: Path, archive: Path) -> None:
    """The folder in a zip, the same bytes for the same files; in it, they lie in a folder named like the zip."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            info = zipfile.ZipInfo(f"{archive.stem}/{path.relative_to(folder).as_posix()}", FIXED_TIME)
            info.external_attr, info.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            packed.writestr(info, path.read_bytes())


def _sources() -> dict[str, str]:
    """The C files by their paths below src: those of the core, and crypto's in a folder."""
    core, crypto = MODULE / "core", MODULE / "crypto"
    found = {path.relative_to(core).as_posix(): path.read_text() for path in core.rglob("*.[ch]")}
    found |= {f"crypto/{path.name}": path.read_text() for path in crypto.glob("*.[ch]")}
    return dict(sorted(found.items()))


def _with_relative_includes(name: str, text: str, sources: dict[str, str]) -> str:
    folder = PurePosixPath(name).parent.as_posix()

    def relative(match: re.Match[str]) -> str:
        [found] = [place for place in (match[2], f"crypto/{match[2]}") if place in sources]
        return match[1] + relpath(found, folder) + match[3]

    return INCLUDE.sub(relative, text)


def _write_example(examples: Path) -> None:
    """A base and its owner's samples: files for examples/train, a header for the sketch."""
    base, parts = example()
    (examples / "train" / "gestures.elm").write_bytes(base.elm)
    (examples / "train" / "owner.eld").write_bytes(sample_file_of(base, parts["train"]))
    _write(examples / "Personalize" / "model.h", header_of(base, Recipe(), parts))


def example() -> tuple[Base, dict[str, Samples]]:
    """The base, and its owner's samples, to train and to test."""
    elm = c_library_model.base()
    base = Base("gestures", elm, unpack_model(elm))
    session = Session(elm, bytes(len(base.model.ops)), "infer")
    owner = {name: c_library_model.owner(count, seed) for seed, (name, count) in enumerate(OF_EACH.items())}
    return base, {name: Samples(session.quantize(counts)[0], y) for name, (counts, y) in owner.items()}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="\n")


def main() -> None:
    folder, archive = DIST / "c", DIST / f"edgelora-c-{edgelora.__version__}.zip"
    shutil.rmtree(folder, ignore_errors=True)
    make(folder)
    make_zip(folder, archive)
    print(f"{archive}: {archive.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
