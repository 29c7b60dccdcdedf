"""One machine, and what is usual for it: what it does is scored, and too much of the unusual is an alarm."""

from typing import Any, Optional

from edgelora import Adapter, Model, Signal
from edgelora.training import SampleFile

class Monitor:
    """Watches a machine with a base that gives back its input, on a grid of 32 steps for 1.0 (SPEC.md, section 16).

    It learns what is usual stage by stage, each from windows of its own, of normal operation:

        scale       mean and spread of each value
        learn       inputs go into a SampleFile, from which a Run trains an adapter
        residuals   mean and spread of what the network, with the adapter in use, gives back less its input
        threshold   the scores of which the highest set it
        watch       scores and alarms

    To a Pipeline it is the model: `Pipeline(Monitor(model), source)`. least, votes: so many of the last windows above
    the threshold are an alarm, up to 16. one_in: one normal window in so many may be above it. values: that have a mean
    and spread of their own, and divide the input; 0: each. Windows take nothing from the heap, stages do. ValueError
    for a base of another kind, and settings out of range.
    """

    model: Model
    signal: Optional[Signal]
    input_size: int
    output_size: int
    output: memoryview
    labels: list[str]
    score: int  # of the last window, 1/1024: the mean square of residuals in spreads; 1024 is usual
    alarm: bool  # what it and the windows before come to
    threshold: int
    windows: int  # that it was chosen from
    least: int
    votes: int
    one_in: int
    left: int  # windows until this stage has enough
    means: Any  # int16 of each value, and gains, 2^17 over its spread,
    gains: Any
    residual_means: Any  # int16 of each residual, in 1/16, and gains, 2^14 over its spread
    residual_gains: Any

    def __init__(self, model: Model, least: int = 3, votes: int = 5, one_in: int = 50, values: int = 0) -> None: ...
    @property
    def stage(self) -> str: ...
    def calibrate(self, stage: str, windows: int = 0, samples: Optional[SampleFile] = None) -> None:
        """Ends the stage before and begins this one, of `windows` windows; further ones are not counted.

        samples: what "learn" appends to. ValueError where the stage before needs more windows, or is missing.
        """
    def update(self, values: Any) -> int:
        """Takes a window's values, int16 [input_size], as its stage has them; the score. Allocates nothing."""
    def quantize_counts(self, counts: Any, out: Any) -> int:
        """A row of values, int16, as int8 of the input; how many were clipped."""
    def infer(self, x: Any) -> int:
        """Takes an input that `quantize_counts` made; 1 in an alarm."""
    def probabilities(self) -> Any:
        """There are none: ValueError."""
    def reset(self) -> None:
        """What comes next is another stream: windows before it count no more."""
    def record(self) -> bytearray:
        """The body of the record. ValueError until the threshold is known."""
    def adapter(self) -> Adapter:
        """The adapter in use, or the bare base, with the record in it: all that makes the machine."""
    def use(self, adapter: Adapter) -> None:
        """Watches the machine whose adapter this is, as of `Monitor.adapter` and `Model.adapter`.

        ValueError, with nothing changed, for an adapter without a record, or with one for another base.
        """
