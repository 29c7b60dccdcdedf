"""Writes the bases that come with the studio, for motion and sound, with their rules that detect unknown windows.

python tools/studio_bases.py [motion] [sound]

The base for sound is that of `edgelora demo keywords`. It needs speech voices (`make setup`), and an hour on two cores.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import edgelora
from edgelora.base import resources
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.files import write_atomic
from edgelora.learn.training.data.base import Base, pretrained_har, pretrained_kws
from edgelora.learn.training.heads.known import Known
from edgelora.model.datasets import keywords
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.har import HAR_SUBJECTS, load_har
from edgelora.model.datasets.keywords import PRETRAINING, VOICES, load_kws
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.quantization.quantize import quantize_on

FOLDER = resources.ROOT / "host" / "edgelora" / "studio" / "bases"
PERSON = 3  # not among the people that the base was trained on
EVERY = 4  # the rule uses one in this many of their windows


@dataclass(frozen=True)
class Packaged:
    """A base as shipped: its .elm, its rule for unknown windows, and a description for users."""

    elm: bytes
    rule: str
    about: str

    def write(self, name: str) -> None:
        for ending, content in (("elm", self.elm), ("json", self.rule.encode()), ("txt", self.about.encode())):
            write_atomic(FOLDER / f"{name}.{ending}", content)


def motion() -> Packaged:
    people = load_har(PERSON)
    base, rule = _quantized("motion.elm", pretrained_har(PERSON, 0), people.pretrain)
    right = edgelora.evaluate(base, people.test)
    return Packaged(
        base.elm,
        rule,
        f"Wrist exercises: {_listed(base)}. Trained on {len(HAR_SUBJECTS) - 1} people; {right:.0%} accuracy on "
        f"{len(people.test)} windows of a person outside the training data.\n",
    )


def sound() -> Packaged:
    base, rule = _quantized("sound.elm", pretrained_kws(0), keywords.spoken(PRETRAINING, "pretrain"))
    heard = [load_kws(voice).test for voice in VOICES]
    right = [edgelora.evaluate(base, voice) for voice in heard]
    return Packaged(
        base.elm,
        rule,
        f"Spoken words: {_listed(base)}. Trained on {len(PRETRAINING)} synthetic voices; "
        f"{statistics.mean(right):.0%} accuracy on {sum(map(len, heard))} clips of {len(right)} other voices (standard "
        f"deviation {statistics.stdev(right):.0%}, worst {min(right):.0%}).\n",
    )


def _listed(base: Base) -> str:
    return ", ".join(label.lower() for label in base.model.labels)


def _quantized(name: str, net: FloatNet, data: Dataset) -> tuple[Base, str]:
    """The base, and the rule from a part of its training data."""
    model = quantize_on(net, data)
    base = Base(name, pack_model(model), model)
    rule = Known(base, None, replace(data, x=data.x[::EVERY], y=data.y[::EVERY])).rule
    assert rule
    return base, rule.text()


BASES: dict[str, Callable[[], Packaged]] = {"motion": motion, "sound": sound}


def main(names: list[str]) -> None:
    for name in names or list(BASES):
        BASES[name]().write(name)


if __name__ == "__main__":
    main(sys.argv[1:])
