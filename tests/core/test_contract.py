"""The core's contracts (contract.h): assertions fire in checked builds and add no code to releases."""

import subprocess
from pathlib import Path

import pytest
import sanitized

from edgelora.base.resources import ROOT

CORE = ROOT / "micropython_module" / "core"
BROKEN = r"""
#include <stdio.h>
#include "kernels/packed/primitives.h"
#include "session/arena.h"
int main(int argc, char **argv) {
    edgelora_session_t s = {.arena_size = sizeof s, .busy = 1};
    int32_t row[4] = {0};
    int8_t t[4];
    arena_at(&s, s.arena_size);
    edgelora_leave(&s, 0);
    edgelora_shift_row_s8(t, 1, row, 4, 2);
    puts("kept");
    fflush(stdout);
    if (**++argv == 'a') {
        arena_at(&s, s.arena_size + 1);
    } else if (**argv == 'l') {
        edgelora_leave(&s, 0);
    } else {
        edgelora_shift_row_s8(t, 1, row, 3, 2);
    }
    return argc == 0;
}
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken.c").write_text(BROKEN)
    return sanitized.build(folder / "broken.c", folder)


@pytest.mark.parametrize(
    ("which", "what"), [("arena", "offset <= s->arena_size"), ("lock", "s->busy"), ("row", "count % 4 == 0")]
)
def test_a_contract_fails_where_a_caller_breaks_it(broken: Path, which: str, what: str) -> None:
    done = subprocess.run([broken, which], capture_output=True, text=True, check=False)
    assert done.stdout == "kept\n" and done.returncode != 0
    assert f"Assertion `{what}" in done.stderr


def test_the_twin_of_tests_checks() -> None:
    assert b"offset <= s->arena_size" in (ROOT / ".build" / "twin" / "libedgelora.so").read_bytes()


@pytest.mark.parametrize("source", ["kernels/dispatch.c", "session/plan.c", "training/update.c"])
def test_contracts_are_no_code_in_a_release(source: str, tmp_path: Path) -> None:
    """The object file equals one compiled without contracts."""
    objects = []
    for define in ([], ["-DEDGELORA_CONTRACT_H", "-DEDGELORA_ASSERT(c)=((void)0)"]):
        made = tmp_path / "object.o"
        flags = ["-std=c99", "-O2", "-w", *define, f"-I{CORE}"]
        subprocess.run(["cc", *flags, "-c", CORE / source, "-o", made], check=True)
        objects.append(made.read_bytes())
    assert objects[0] == objects[1] and b"__assert_fail" not in objects[0]
