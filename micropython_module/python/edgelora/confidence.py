# SPDX-License-Identifier: MIT
"""Says `unsure` where the most probable class is not probable enough.

    model = Sure(model, 24000)               # in 1/32768: what `edgelora personalize` says, as `least`
    pipeline = Pipeline(model, source)       # Sure takes the place of the model; pipeline.name may be "unsure" now

`least_chance` chooses it, from samples that neither taught nor chose what infers.
"""

from ._around import Around

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Sequence
    from typing import Any

UNSURE = "unsure"
ALLOWED = 20  # one answer in ALLOWED may be wrong
ONE = 32768  # a probability of 1
NEVER = 32769  # above every probability


def least_chance(chances: Sequence[int], right: Sequence[bool], allowed: int = ALLOWED) -> tuple[int, int, int]:
    """Returns (least, answered, wrong): the least probability, in 1/32768, with which an answer counts.

    chances: of each sample's most probable class; right: whether it is the sample's class. As many samples as possible
    are answered, of which one in `allowed` may be wrong; 0 if all may be, `NEVER` if none can.
    """
    order = sorted(range(len(chances)), key=lambda i: -chances[i])
    least, answered, wrong, failed = NEVER, 0, 0, 0
    for at in range(len(order)):
        failed += not right[order[at]]
        ends = at + 1 == len(order) or chances[order[at + 1]] < chances[order[at]]
        if ends and allowed * failed <= at + 1:
            least, answered, wrong = chances[order[at]], at + 1, failed
    return 0 if answered == len(order) and order else least, answered, wrong


class Sure(Around):
    """A model that returns `unsure` where its most probable class has a probability below `least`, in 1/32768.

    To a pipeline it is the model. It goes around a `known.Known`, too.
    """

    unsure: int  # the number of the class "unsure"
    least: int

    def __init__(self, model: Any, least: int) -> None:
        if not 0 <= least <= NEVER:
            raise ValueError("least of %d: give 0 to %d" % (least, NEVER))
        super().__init__(model, UNSURE)
        self.least, self.unsure = least, len(model.labels)

    def infer(self, x: Any) -> int:
        """The class of an input, or `unsure`. Allocates nothing after the first call."""
        label = self.model.infer(x)
        return label if max(self.model.probabilities()) >= self.least else self.unsure
