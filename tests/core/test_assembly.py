"""Assembly takes offsets of structs from the compiler: each function sets exactly the symbols that it uses."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

CORE = ROOT / "micropython_module" / "core"
CPU = {"m0plus": "cortex-m0plus", "dsp": "cortex-m33"}
SOURCES = sorted(path for folder in CPU for path in CORE.rglob(f"{folder}/*.c"))
USE = r"\.L[A-Za-z_][\w.]*"  # the compiler's own labels have a digit after L


def functions(source: Path) -> Iterator[tuple[set[str], set[str]]]:
    """The symbols that each function of the compiler's output sets, and those that it uses."""
    command = ["arm-none-eabi-gcc", f"-mcpu={CPU[source.parent.name]}", "-mthumb", "-Os", f"-I{CORE}"]
    done = subprocess.run([*command, "-S", "-o", "-", source], capture_output=True, text=True, check=True)
    for text in re.split(r"\n\s*\.type\s", done.stdout)[1:]:
        used = re.sub(r"\.set [^\n]*", "", text)
        compilers = set(re.findall(rf"^({USE}):", text, re.MULTILINE))
        yield set(re.findall(rf"\.set ({USE}),", text)), set(re.findall(USE, used)) - compilers


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_functions_set_what_they_use(source: Path) -> None:
    for are_set, used in functions(source):
        assert used <= are_set
        assert all("." not in name[2:] for name in are_set - used)  # only a struct's size may be unused


def test_there_are_such_functions() -> None:
    assert sum(len(are_set) for source in SOURCES for are_set, _ in functions(source)) > 150
