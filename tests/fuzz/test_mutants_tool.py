"""Which changes `make mutants` makes, and that it detects one and recognizes a change without effect."""

from __future__ import annotations

import sys
from pathlib import Path

from fresh import slow

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import mutants


def test_changes_of_a_line() -> None:
    found = set(mutants.changes("    if (a < 3 && b) { // a > 3"))
    assert found == {
        "    if (a <= 3 && b) { // a > 3",
        "    if (a < 3 || b) { // a > 3",
        "    if (a < 4 && b) { // a > 3",
        "    if (a < 2 && b) { // a > 3",
    } | {found_one for found_one in found if "!(" in found_one}
    assert "" in set(mutants.changes("    sum += x;"))
    assert "" not in set(mutants.changes("    int32_t sum = x;"))


def test_mutants_cover_most_files() -> None:
    every = mutants.mutants()
    files = {mutant.file for mutant in every}
    assert len(every) > 5000 and len(files) > 50
    assert not any("m0plus" in name or name.endswith("tables.c") for name in files)
    assert all(mutant.new != mutant.old for mutant in every)


def test_equivalents_are_changes_of_lines_that_exist() -> None:
    every = {(mutant.file, mutant.old.strip(), mutant.new.strip()) for mutant in mutants.mutants()}
    assert mutants.equivalents() <= every
    rows = [line for line in mutants.EQUIVALENT.read_text().splitlines() if line and not line.startswith("#")]
    assert all(len(row.split(" ;; ")[3]) > 10 for row in rows)


@slow
def test_a_change_is_detected_unless_it_has_no_effect(tmp_path: Path) -> None:
    """A harness detects it within seconds; identical code is no mutant."""
    file = "core/signal/audio.c"
    lines = (mutants.MODULE / file).read_text().splitlines()
    number, line = next((n, line) for n, line in enumerate(lines, 1) if line.strip() == "audio->steps = 0;")
    parts, checked = mutants.objects("core/signal"), mutants.objects("core/signal", mutants.SANITIZERS)
    tests = mutants.Tests(tmp_path, b"", {})
    changed = mutants.Mutant(file, number, line, line.replace("0", "1"))
    assert mutants.seen(parts, checked, tests, changed, tmp_path) == "signal (fails)"
    same = mutants.Mutant(file, number, line, line + " // so")
    assert mutants.seen(parts, checked, tests, same, tmp_path) == "same"
