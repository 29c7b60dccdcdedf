"""EdgeLoRA on the device: a frozen INT8 network with low-rank adapters that train in integers."""

from typing import Union

Buffer = Union[bytes, bytearray, memoryview]

# A refused model, adapter or argument raises ValueError; the message says why and what to do.

class Adapter:
    """A verified `.ela` in memory, ready for `Model.use`."""
    buffer: Buffer

class AdapterFile:
    """An `.ela` file kept open for `Model.use_file`. `buffer`: memory to read it into, else it gets its own.

    Open it again after the file was replaced.
    """

    def __init__(self, path: str, buffer: Union[bytearray, None] = None) -> None: ...
    def close(self) -> None: ...

class Model:
    """A base network, used in place from `model` (a path or a buffer), and one arena for everything it needs.

    mode: "infer" (no training), "frozen_a" or "trainable_a". ranks: rank of each op's adapter, 0 for none;
    an int puts that rank on every conv and dense layer. Allocation happens here and never again:
    `infer`, `train`, `flush` and `use` work under `micropython.heap_lock()`.
    """

    base_id: bytes  # 8 bytes
    labels: list
    arena: bytearray
    ranks: bytes
    mode: str
    input_size: int
    output_size: int
    output: memoryview  # int8 logits of the last `infer`

    def __init__(
        self, model: Union[str, Buffer], ranks: Union[int, Buffer] = 4, mode: str = "frozen_a",
        micro_batch: int = 8, momentum: int = 0,
    ) -> None: ...
    def infer(self, x: Buffer) -> int:
        """int8 input [input_size] -> index of the largest logit; `output` holds the logits."""
    def begin(self, seed: int = 0) -> None:
        """A fresh adapter becomes the one that trains and is used."""
    def load(self, adapter: Union[str, Buffer]) -> None:
        """Goes on training from a saved adapter (bit-identically if saved with its state)."""
    def train(self, x: Buffer, label: int, learning_rate: int) -> int:
        """Forward, backward; every `micro_batch` samples an update. Returns the sample's loss in 1/4096 nat."""
    def flush(self, learning_rate: int) -> None:
        """Updates with the samples pending, if there are any."""
    def counts(self) -> tuple:
        """(updates, samples, samples pending) of the training adapter."""
    def save(self, path: Union[str, None] = None, state: bool = False) -> Union[bytearray, None]:
        """The training adapter as `.ela` bytes, or written to `path`: whole or not at all."""
    def adapter(self, source: Union[str, Buffer]) -> Adapter:
        """Reads and verifies a `.ela` for this base."""
    def use(self, adapter: Union[Adapter, None]) -> None:
        """Infers with this adapter from now on; None: the bare base. `begin` and `load` return to the training one."""
    def use_file(self, adapter_file: AdapterFile) -> None:
        """Reads, verifies and uses an adapter file, allocating nothing; if it is damaged, the bare base is in use."""
