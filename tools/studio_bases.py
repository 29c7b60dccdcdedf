"""Writes what comes with the studio: the base for motion, and when a window is like nothing that it was taught.

python tools/studio_bases.py
"""

from __future__ import annotations

from dataclasses import replace

from edgelora import datasets, formats, quantization, resources
from edgelora.formats import write_atomic
from edgelora.training import Base, Known, pretrained_har

FOLDER = resources.ROOT / "host" / "edgelora" / "studio" / "bases"
PERSON = 3  # who is not among those that it was trained on
EVERY = 4  # of their windows, those that the rule is made of


def motion() -> tuple[bytes, str]:
    """The base, and its rule of nothing, as they are shipped."""
    people = datasets.load_har(PERSON)
    model = quantization.quantize_on(pretrained_har(PERSON, 0), people.pretrain)
    base = Base("motion.elm", formats.pack_model(model), model)
    some = replace(people.pretrain, x=people.pretrain.x[::EVERY], y=people.pretrain.y[::EVERY])
    rule = Known(base, None, some).rule
    assert rule
    return base.elm, rule.text()


def main() -> None:
    elm, rule = motion()
    write_atomic(FOLDER / "motion.elm", elm)
    write_atomic(FOLDER / "motion.json", rule.encode())


if __name__ == "__main__":
    main()
