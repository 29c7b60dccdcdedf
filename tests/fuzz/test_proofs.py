"""The proofs of `make proofs` that take seconds hold, and a wrong claim is not proven."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import proofs

QUICK = ("clamp", "abs", "bit_length", "align", "round_shift", "high_mul_bounds", "header", "sum", "halves", "plain")


@pytest.mark.parametrize("name", QUICK)
def test_proof_holds(name: str) -> None:
    (found,) = [(file, proof) for file, proof in proofs.functions() if proof == name]
    assert proofs.prove(*found) == (True, "")


def test_a_wrong_claim_is_not_proven(tmp_path: Path) -> None:
    wrong = tmp_path / "fixed.c"
    wrong.write_text(
        '#include "fixed.h"\n#include "proof.h"\n'
        "void prove_wrong(void) {\n    int32_t v = nondet_s32();\n    PROVE(clamp_s32(v, -5, 5) < 5);\n}\n"
    )
    proven, why = proofs.prove(wrong, "wrong")
    assert not proven and "clamp_s32" in why


def test_a_proof_that_times_out_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert proofs.main(["--seconds", "0", "clamp"]) == 2
    assert "0 proven, 1 not ended, 0 FAILED" in capsys.readouterr().out
