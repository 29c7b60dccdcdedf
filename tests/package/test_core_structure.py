"""Modules of the C core have no circular dependencies (tools/core_structure.py)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import core_structure  # noqa: E402


def test_the_core_has_no_import_cycle() -> None:
    graph = core_structure.dependencies()
    assert len(graph) > 90 and "kernels/dispatch" in graph["session/infer"], "the tool does not see the core"
    assert core_structure.circles(graph) == []


def test_rooms_of_the_core_include_none_listed_below_them() -> None:
    table = (ROOT / "DESIGN.md").read_text().split("| room of the core |")[1].split("\n\n")[0]
    rooms = [re.findall(r"`([\w/]+)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    graph = core_structure.dependencies()
    floors = {
        module: [f for f, names in enumerate(rooms) for name in names if f"{module}/".startswith(f"{name}/")]
        for module in graph
    }
    assert all(len(found) == 1 for found in floors.values()), floors
    assert not [(m, other) for m in graph for other in graph[m] if floors[other] > floors[m]]


# Headers by processor, which its compiler takes.
OTHERS = {
    "arm-none-eabi-gcc -mcpu=cortex-m55 -mfloat-abi=hard": ("simd/lanes_helium.h", "simd/strips.h"),
    "aarch64-linux-gnu-gcc": ("simd/lanes_neon.h",),
    "clang-22 --target=wasm32 -msimd128 -ffreestanding": ("simd/lanes_wasm.h",),
    "cc -mavx512f -mavx512bw -mavx512vl -mavx512vnni": ("simd/lanes_vnni.h",),
}


def test_each_header_compiles_alone() -> None:
    """But for the table of ops, which is included with a macro."""
    headers = {path.relative_to(core_structure.CORE).as_posix() for path in core_structure.CORE.rglob("*.h")}
    assert len(headers) > 60
    others = {f"kernels/{header}": compiler for compiler, names in OTHERS.items() for header in names}
    options = ["-std=gnu99", "-fsyntax-only", "-Wall", "-Wno-unused", "-Werror", "-I.", "-I../crypto", "-x", "c"]
    for header in sorted(headers - {"edgelora_ops.h"}):
        command = [*others.get(header, "cc -mavx2").split(), *options, header]
        done = subprocess.run(command, cwd=core_structure.CORE, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:2000]


PROCESSOR = re.compile(
    r"M0PLUS|_DSP|X86|NEON|SIMD|VNNI|WASM|HELIUM|PIE|__ARM|__arm|__x86|__aarch|__riscv|__wasm|__XTENSA"
)
# each for one processor
VECTORS = tuple(f"simd/{name}." for name in ("avx2", "helium", "neon", "pie", "s3", "vnni", "wasm"))
WHOLE_FILES = ("m0plus/", "dsp/", "portable/", "simd/pie.h", *VECTORS)
CHOOSERS = {  # decisions in these files that depend on the target processor
    "kernels/packed/pair.h": "whose primitives the packed engine has",
    "kernels/packed/extras.h": "what these have beside them",
    "kernels/simd/lanes.h": "whose lanes a header that is compiled alone gets",
    "kernels/simd/simd.h": "whether there are vectors",
    "kernels/simd/simd.c": "which ones this machine has",
    "session/lock.c": "how an exchange is made",
}


def test_kernels_are_chosen_in_few_places() -> None:
    """Only kernels/dispatch.c chooses between kernels of ops; only one header of each engine tests for processors."""
    seen = set()
    for path in sorted(core_structure.CORE.rglob("*.[ch]")):
        file = path.relative_to(core_structure.CORE).as_posix()
        conditions = re.findall(r"^[ \t]*#[ \t]*(?:if|elif)\w*[ \t]+(.*)", path.read_text(), re.MULTILINE)
        conditions = [c for c in conditions if PROCESSOR.search(c) and not re.fullmatch(r"EDGELORA_\w+_H", c)]
        if any(part in file for part in WHOLE_FILES):
            assert len(conditions) == (path.suffix == ".c" or bool(conditions)), f"{file}: of one processor as a whole"
        elif conditions:
            seen.add(file)
    assert seen == {*CHOOSERS}
    users = {
        m
        for m, below in core_structure.dependencies().items()
        if any(b.startswith("kernels/reference/") for b in below)
    }
    assert {m for m in users if not m.startswith("kernels/reference/")} == {"kernels/dispatch"}


@pytest.mark.parametrize(
    "upper",
    [
        '#include "high.h"\nint edgelora_low(void) {\n    return 0;\n}\n',
        "int edgelora_high(void);\nint edgelora_low(void) {\n    return edgelora_high();\n}\n",
        "extern const int edgelora_limit;\nint edgelora_low(void) {\n    return edgelora_limit;\n}\n",
    ],
    ids=["include", "call", "constant"],
)
def test_a_cycle_is_found(tmp_path: Path, upper: str) -> None:
    calls = "int edgelora_high(void) {\n    return edgelora_low(); // edgelora_other()\n}\n"
    (tmp_path / "high.h").write_text("int edgelora_high(void);\n")
    (tmp_path / "high.c").write_text(f'#include "high.h"\n#include "low.h"\nconst int edgelora_limit = 1;\n{calls}')
    (tmp_path / "low.h").write_text("int edgelora_low(void); // not a use of it\n")
    (tmp_path / "low.c").write_text("int edgelora_low(void) {\n    return 0;\n}\n")
    (tmp_path / "other.c").write_text("int edgelora_other(void) {\n    return edgelora_high();\n}\n")
    assert core_structure.circles(core_structure.dependencies(tmp_path)) == []
    (tmp_path / "low.c").write_text(upper)
    assert core_structure.circles(core_structure.dependencies(tmp_path)) == [["high", "low"]]
