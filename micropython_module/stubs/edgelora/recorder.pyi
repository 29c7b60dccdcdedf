"""Samples of one's own, from a sensor and a button or two."""

from typing import Any, List, MutableSequence, Optional, Sequence, Tuple, Union

from edgelora import Model
from edgelora.pipeline import Pipeline
from edgelora.reservoir import Reservoir
from edgelora.training import SampleFile

class Recorder(Pipeline):
    """The newest window of a source, put into a store of samples when a button, or a call, says what it was.

    A sample is in flash when `step` or `take` returns. `step` works under `micropython.heap_lock()` but for when it
    writes a sample, which takes a number from the heap for a moment. The window is that of when the button went down,
    to a 16th of its length; a front end's newest rows. It is taken when the button is let go; held for a second, the
    button takes the last sample back.

    samples: a file that is open to append, or a reservoir, from which nothing can be taken back. buttons: pins that
    read 0 when pressed, and what each stands for. front, chunk: as of a pipeline.
    """

    store: Union[SampleFile, Reservoir]
    counts: List[int]  # samples of each class; of a reservoir, how many have come
    labels: MutableSequence[int]  # what each button stands for
    taken: Optional[int]  # the class of what was taken last; None after it was taken back
    ready: bool  # whether a whole window has come
    def __init__(
        self,
        model: Model,
        source: Any,
        samples: Union[SampleFile, Reservoir],
        buttons: Sequence[Tuple[Any, int]] = (),
        front: Any = None,
        chunk: Optional[int] = None,
    ) -> None: ...
    def reset(self) -> None:
        """What comes next is another stream: it takes a whole window of it until there is a sample."""
    def step(self) -> bool:
        """Takes what the source has, and looks at the buttons; whether a sample was taken, or taken back."""
    def take(self, label: int) -> bool:
        """Puts the window that ends now into the store, as this class. False if no whole window has come yet."""
    def undo(self) -> bool:
        """Takes the newest sample back, one that was there before too. False if there is none."""
    async def run(self) -> None:
        """Steps for as long as the source brings samples, and leaves time to others."""
