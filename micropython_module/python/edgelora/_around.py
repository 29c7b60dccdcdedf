# SPDX-License-Identifier: MIT
"""What `known` and `confidence` put around a model: one more answer, which a pipeline takes for a class."""

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from array import array
    from typing import Any

    from . import Signal


class Around:
    """A model with one more answer. To a pipeline it is the model; another of these may be around it."""

    model: Any
    signal: Signal | None
    input_size: int
    output_size: int
    output: memoryview
    labels: list[str]  # those of the model, then that of the answer

    def __init__(self, model: Any, answer: str) -> None:
        self.model, self.signal = model, model.signal
        self.input_size, self.output_size, self.output = model.input_size, model.output_size, model.output
        self.labels = model.labels + [answer]

    @property
    def used(self) -> Any:
        return self.model.used

    def reset(self) -> None:
        self.model.reset()

    def quantize_counts(self, counts: Any, out: Any) -> int:
        return self.model.quantize_counts(counts, out)

    def probabilities(self) -> array[int]:
        return self.model.probabilities()
