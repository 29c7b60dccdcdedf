"""What `make mutants` changes, and that it sees a change and a line that does nothing."""

from __future__ import annotations

import sys

from edgelora.resources import ROOT

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


def test_there_are_many_everywhere() -> None:
    every = mutants.mutants()
    files = {mutant.file for mutant in every}
    assert len(every) > 5000 and len(files) > 50
    assert not any("m0plus" in name or name.endswith("tables.c") for name in files)
    assert all(mutant.new != mutant.old for mutant in every)


def test_equivalents_are_lines_that_exist() -> None:
    for file, old, _ in mutants.equivalents():
        lines = [line.strip() for line in (mutants.MODULE / file).read_text().splitlines()]
        assert old in lines, f"{file}: {old}"
