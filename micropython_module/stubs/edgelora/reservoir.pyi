"""A bounded, class-balanced memory of samples in flash, for learning for years."""

from typing import Container, Optional, Union

from edgelora import Model
from edgelora.training import Part

_Buffer = Union[bytes, bytearray, memoryview]

class Reservoir:
    """Samples in a file of a fixed number of slots, as many of each class as can be. A source for `training.Run`.

    A power cut costs at most the sample that was being written, and the one that was in its slot. ValueError for a file
    that is none, or is damaged.
    """

    path: str
    base_id: bytes
    sample_size: int  # int8 values
    target_size: int  # 0
    slots: int
    classes: int
    seed: int
    count: int  # slots that are full
    seen: list[int]  # how many samples of each class have come
    def __init__(self, path: str) -> None: ...
    @classmethod
    def create(cls, path: str, model: Model, slots: int, seed: int = 0, classes: int = 0) -> Reservoir:
        """An empty one for samples of this model, which learns classes; it takes all of its room at once.

        classes: the base's and those that may be added to it, up to 255; 0: the base's alone.
        """
    def read(self, i: int, buffer: bytearray) -> int:
        """Copies the i-th full slot's sample, int8 [sample_size], into the buffer; its label."""
    def crc(self, count: int) -> int:
        """CRC-32 of the first `count` samples and their labels."""
    def parts(self, classes: Optional[Container[int]] = None) -> tuple[Part, Optional[Part]]:
        """(learned, held): those that teach, and those that judge; None if these are too few to. Good until the next
        `add`. classes: of these alone."""
    def tally(self, classes: Optional[Container[int]] = None) -> tuple[dict[int, int], dict[int, int]]:
        """(learned, held): how many samples of each class teach, and how many judge. classes: of these alone."""
    def judges(self, label: int) -> bool:
        """Whether the next sample of this class will be one that judges: two in eight are."""
    def add(self, sample: _Buffer, label: int) -> Optional[int]:
        """Takes a sample in, if its class is to have more, or by chance in another one's place.

        The slot that it got, or None. Written to flash before it returns.
        """
    def forget(self, label: int) -> None:
        """Empties the slots that a class has. It is as if none of it had come."""
    def close(self) -> None: ...
