"""The base that comes with the studio is what the commands make."""

import runpy

from studio_projects import motion

from edgelora.resources import ROOT
from edgelora.studio.prospect import PACKAGED


def test_the_base_for_motion_is_what_pretrain_and_quantize_make() -> None:
    elm, rule = runpy.run_path(str(ROOT / "tools" / "studio_bases.py"))["motion"]()
    assert motion().elm == elm and (PACKAGED / "motion.json").read_text() == rule
