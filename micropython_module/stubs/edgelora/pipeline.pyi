"""From a sensor to a decision: source, window, front end, int8 input, inference or learning."""

from typing import Any, AsyncIterator, Optional, Protocol, Sequence, Tuple

from edgelora import Model, Signal

NEAR: float  # how far a source's rate and scales may be from the base's, as a share

class _Source(Protocol):
    """Where samples come from: those of `edgelora.sources`, or one of your own."""

    rate: float  # samples a second
    channels: int  # values of a sample
    scales: Optional[Sequence[float]]  # units a count, of each channel
    overruns: int  # samples lost
    ended: bool
    def read_into(self, buffer: Any) -> int:
        """Puts whole samples that are there into an int16 buffer, waits for none; returns how many."""

class _Front(Protocol):
    """What makes rows of values of samples, such as those of `edgelora.frontend`.

    Rows are int16, which the base's normalizations make int8, or, where `typecode` says "b", int8 of the input. A front
    end may have a `span`, the samples that an output is of, where that is not `window`, and a `stride`, from one output
    to the next, where that is not `hop`.
    """

    window: int  # samples a step takes
    hop: int  # samples from a step to the next
    size: int  # values it gives
    def step(self, samples: Any, out: Any) -> Any:
        """Samples in, int16, a row out; False or 0 says that there is none yet."""
    def reset(self) -> None: ...

class Pipeline:
    """Decisions about what a source brings, as the base's signal says. ValueError where the two don't fit.

    All memory is taken here: `step` works under `micropython.heap_lock()`. front: in place of the one that the base
    names, which is that of `edgelora.frontend` (vibration: of channel 0). vote: (k, n), a class is decided on when k of
    the last n windows say it; of several the one said last. chunk: samples read at once at most.

        for a loop:        if pipeline.step(): print(pipeline.name)
        under asyncio:     async for now in pipeline: print(now.name)
    """

    model: Model
    source: _Source
    front: Optional[_Front]
    signal: Signal
    x: bytearray  # the int8 input of the last window
    label: Optional[int]  # what the vote says; None: nothing yet
    seen: Optional[int]  # what the last window alone says
    teach: Any  # None, or the label (or target) that steps learn instead of inferring, by `model.learning_rate`
    loss: Optional[int]  # of the last window that was learned
    windows: int  # looked at
    clipped: int  # values beyond the input's grid
    samples: int  # taken from the source
    end: int  # samples up to the last window's end

    def __init__(
        self,
        model: Model,
        source: _Source,
        front: Optional[_Front] = None,
        vote: Optional[Tuple[int, int]] = None,
        chunk: Optional[int] = None,
    ) -> None: ...
    def reset(self) -> None:
        """What comes next is another stream: windows, votes and what the model remembers begin anew."""
    @property
    def pending(self) -> bool:
        """Whether samples were read that `step` has not looked at yet."""
    @property
    def ended(self) -> bool:
        """Whether the source has nothing more, and all of it was looked at."""
    @property
    def overruns(self) -> int: ...
    @property
    def name(self) -> Optional[str]:
        """The name of `label`."""
    def probabilities(self) -> Any:
        """`Model.probabilities` of the last window."""
    def step(self) -> bool:
        """One bounded piece of work: a read of a chunk at most, one window at most. True: a decision is new."""
    async def decision(self) -> Optional["Pipeline"]:
        """Itself, when the next decision is there; None when the source has ended."""
    def __aiter__(self) -> AsyncIterator["Pipeline"]: ...
    async def __anext__(self) -> "Pipeline": ...
