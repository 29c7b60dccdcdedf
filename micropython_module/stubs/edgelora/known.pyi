"""A class for what is like no sample that was learned from."""

from array import array
from typing import Any, Sequence

from edgelora import Model, Signal

NOTHING: str
VERSION: int  # of a rule

def distance(values: Sequence[int], means: Sequence[int], gains: Sequence[int]) -> int:
    """How far values are from means, all in 1/16: the mean of squared spreads, in 1/1024. gains: 2^18 over a spread."""

def movement(x: bytes, rows: int, moved: Any) -> None:
    """Puts 64 times the root of each value's mean distance from its mean into `moved`. x: int8 [rows, values], bytes."""

class Known:
    """A model that says `nothing` of windows that are unlike the samples of the class that it would have said.

    To a pipeline it is the model. It is made while the adapter is in use that the rule is of; `edgelora act` and the
    studio make that from a person's samples.
    """

    model: Model
    signal: Signal | None
    input_size: int
    output_size: int
    output: memoryview
    labels: list[str]  # those of the model, with "nothing" behind them
    nothing: int  # the number that stands for it
    classes: array[int]  # numbers of those that the rule knows; any other one is nothing

    def __init__(self, model: Model, rule: str | dict[str, Any]) -> None:
        """rule: a path, or what such a file holds. ValueError if it is damaged, or another base's or
        adapter's."""
    @property
    def used(self) -> Any: ...
    def reset(self) -> None: ...
    def quantize_counts(self, counts: Any, out: Any) -> int: ...
    def probabilities(self) -> array[int]: ...
    def infer(self, x: Any) -> int:
        """The class of an input, or `nothing`. Takes nothing from the heap; it infers twice, where a rule asks that."""
