"""Learning for years, from samples as they come; nothing worse takes the place of what is in use."""

from typing import Collection, Iterator, Optional, Sequence, Union

from edgelora import Model
from edgelora.reservoir import Reservoir
from edgelora.store import Store
from edgelora.training import Run

_Buffer = Union[bytes, bytearray, memoryview]

REPLAYED: int  # samples learned again with each new one
HORIZON: int  # updates after which the rate is half of what it was
DOUBTED: int  # one label that judges in so many may stay unexplained before more than chance has to speak for a gain

class Learner:
    """Learns each sample once with `REPLAYED` of the reservoir, and keeps the best adapter as `name` in the store.

    model: in a mode that trains, with micro-batches of more than `REPLAYED`. It infers with what is in use: the store's
    adapter `name`, or the bare base. judge_every: updates after which what was learned is judged against that, by the
    reservoir's held samples; until there are enough of them, nothing takes its place. learning_rate 0: the mode's.

    only: numbers of the classes that count, others may be forgotten; None: all, those of the base and added ones.
    Nothing takes the place of what is in use while one that counts has no samples in the reservoir (`untold`).

    Classes that the base does not have are added and removed here, so that they outlive what learns on: their samples
    are in the reservoir and learned as any, and whatever is judged has their rows made anew of these.
    """

    model: Model
    reservoir: Reservoir
    store: Store
    name: str
    seed: int
    learning_rate: int
    judge_every: int
    only: Optional[Collection[int]]
    updates: int  # since the last start or consolidation
    judged: Optional[tuple[tuple[int, int], tuple[int, int]]]  # (right, sum of losses) in use and learned, at the last judge
    def __init__(
        self,
        model: Model,
        reservoir: Reservoir,
        store: Store,
        name: str,
        seed: int = 0,
        learning_rate: int = 0,
        judge_every: int = 16,
        only: Optional[Collection[int]] = None,
    ) -> None: ...
    @property
    def in_use(self) -> Optional[bytearray]:
        """The bytes of the adapter, or None."""
    @property
    def untold(self) -> set[int]:
        """Numbers of classes that count and have no samples: what learning does to these, nothing tells."""
    @property
    def rate(self) -> int:
        """Of the next update."""
    def learn(self, sample: _Buffer, label: int) -> Optional[int]:
        """Learns a sample, int8 [sample_size], and puts it into the reservoir. Its loss before; None if it will judge.

        Every `judge_every` updates it takes the time to infer all held samples twice, and those of classes' rows.
        ValueError while a consolidation is unfinished.
        """
    def judge(self) -> Optional[bool]:
        """Whether what was learned is better than what is in use, which it then takes the place of.

        None: too few samples judge, or some class has none.
        """
    def consolidate(self, epochs: int = 0, commit_every: int = 32) -> Iterator[Run]:
        """Trains an adapter anew from the reservoir: a generator of its `training.Run`, one bounded step at a time.

        At the end it is in use if it is better than what was. Begun and not ended, by a reset too, it goes on when it
        is called with the same epochs again. ValueError if too few samples judge, or a class that counts has none.
        """
    def add_class(self, name: Union[str, int], samples: Sequence[_Buffer]) -> int:
        """A class that the base does not have, or the person's own picture of one that it has. Returns its number.

        They go into the reservoir, too, which needs room for the class (`Reservoir.create(..., classes=)`). The class
        is in use then. What was learned and not yet found better is lost, as by a reset. ValueError if clearly
        fewer of the samples that judge, its own among them, would be right with it: all stays as it was.
        """
    def remove_class(self, name: Union[str, int]) -> None:
        """The adapter without it, to the byte what it was; of one that the base does not have, samples go as well."""
    def discard(self) -> None:
        """Gives an unfinished consolidation up."""
