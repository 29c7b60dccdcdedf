"""The bases that come with the studio are those that the commands make."""

import runpy

import pytest
from fresh import FULL

from edgelora.base.resources import ROOT
from edgelora.studio.training_options import PACKAGED


@pytest.mark.parametrize(
    "name",
    ["motion", pytest.param("sound", marks=pytest.mark.skipif(not FULL, reason="pretrains for half an hour"))],
)
@pytest.mark.timeout(7200)
def test_a_base_is_what_pretrain_and_quantize_make(name: str) -> None:
    made = runpy.run_path(str(ROOT / "tools" / "studio_bases.py"))["BASES"][name]()
    there = [(PACKAGED / f"{name}.{ending}").read_bytes() for ending in ("elm", "json", "txt")]
    assert there == [made.elm, made.rule.encode(), made.about.encode()]
