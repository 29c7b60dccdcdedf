"""A copy of the checkout in which a test makes the change that a row of CONTRIBUTING.md describes.

Files are hard links to the checkout's; an edit replaces the file, so that the checkout stays unchanged.
"""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgelora.base.resources import ROOT

COPIED = ("host", "micropython_module", "boards", "benchmarks", "docs", "examples", "tools", "firmware", "tests")
COPIED += ("dist/stubs", "Makefile", "CMakeLists.txt", "mkdocs.yml", "pyproject.toml")
COPIED += tuple(sorted(page.name for page in ROOT.glob("*.md")))


@dataclass(frozen=True)
class Row:
    """A task and its cells: the last cell names tests, all others name files."""

    task: str
    cells: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(re.findall(r"`([\w.-]+/[^` ]+|\w+[.](?:md|yml))`", " ".join(self.cells[1:-1])))

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(re.findall(r"`(\w+[.]py)`", self.cells[-1]))


def rows() -> dict[str, Row]:
    """The tables of CONTRIBUTING.md, by task."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Add\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return {cells[0].strip(): Row(cells[0].strip(), tuple(cells)) for cells in lines}


@dataclass
class Tree:
    """A copy of the checkout in which a row's files may be changed."""

    root: Path
    row: Row

    @classmethod
    def copy(cls, root: Path, row: Row) -> Tree:
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, copy_function=_link, symlinks=True, ignore=_ignored)
            else:
                _link(ROOT / name, root / name)
        (root / ".build").symlink_to(ROOT / ".build")
        return cls(root, row)

    def apply(self, diff: Path) -> None:
        """Applies a patch, which may only change the row's files and add files next to them."""
        for old, new in re.findall(r"^diff --git a/(\S+) b/(\S+)$", diff.read_text(), re.M):
            named = new in self.row.files if old == new and (self.root / new).exists() else self._is_beside(new)
            assert named, f"CONTRIBUTING.md, {self.row.task}: {new} is not named"
        self.run(["git", "apply", "--whitespace=nowarn", str(diff)], {"GIT_CEILING_DIRECTORIES": str(self.root.parent)})

    def _is_beside(self, name: str) -> bool:
        """Whether a new file is next to one that the row names, or in a folder next to one that it names."""
        files = {Path(one).parent for one in self.row.files if (self.root / one).is_file()}
        folders = {Path(one).parent for one in self.row.files if (self.root / one).is_dir()}
        return Path(name).parent in files or Path(name).parent.parent in folders

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def python(self, code: str, *arguments: object, **variables: str) -> str:
        """Runs a program with the copy's packages; its output."""
        return self.run([sys.executable, "-S", "-c", code, *map(str, arguments)], variables)

    def edgelora(self, *arguments: object, **variables: str) -> str:
        return self.run([sys.executable, "-S", "-m", "edgelora", *map(str, arguments)], variables)

    def make(self, target: str) -> None:
        """Runs `make` in the copy, in its own build folder."""
        self.own_build()
        self.run(["make", "--no-print-directory", target, f"PYTHON={sys.executable}"], {"MAKEFLAGS": ""})

    def own_build(self) -> Path:
        """The copy's own build folder: links to the checkout's, except for the twin and the board `unix`."""
        folder = self.root / ".build"
        if folder.is_symlink():
            folder.unlink()
            folder.mkdir()
            for path in (ROOT / ".build").iterdir():
                if path.name not in ("twin", "unix"):
                    (folder / path.name).symlink_to(path)
        return folder

    def pytest(self, *arguments: str) -> str:
        """Runs tests in the copy and asserts that all pass; their output."""
        options = ("-q", "-p", "no:cacheprovider", "-o", "addopts=")
        return self.run([sys.executable, "-S", "-m", "pytest", *options, *arguments], {})

    def run(self, command: list[str], variables: dict[str, str]) -> str:
        """Runs a command; its output. Python gets -S, so that the copy's package is imported, not the checkout's."""
        own = [str(self.root / name) for name in ("host", "tests/support", "")]
        packages = [*own, *site.getsitepackages()]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(packages)} | variables
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another filesystem
        shutil.copy2(source, target)


def _ignored(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("golden",) and folder.endswith("tests")}


def build_twin(tree: Tree, *more: str) -> None:
    """Compiles the copy's core to a library, without optimization, which is faster to build."""
    made = tree.own_build() / "twin"
    made.mkdir(exist_ok=True)
    digest = tree.python("from edgelora.base.resources import core_digest; print(core_digest())").strip()
    (made / "twin_sources.h").write_text(f'#define EDGELORA_SOURCES "{digest}"\n')
    module = tree.root / "micropython_module"
    sources = [*(module / "core").rglob("*.c"), *(module / "crypto").rglob("*.c"), tree.root / "host/native/twin.c"]
    options = ["-std=c99", "-O0", "-fPIC", "-Wall", "-Wextra", "-Werror", "-shared", *more]
    includes = [f"-I{folder}" for folder in (module / "core", module / "crypto", made)]
    command = [os.environ.get("CC", "cc"), *options, *includes, *map(str, sources), "-o", str(made / "libedgelora.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
