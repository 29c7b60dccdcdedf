"""EdgeLoRA on the device: a frozen INT8 network with low-rank adapters that train in integers."""

from typing import IO, Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from edgelora.store import Store

_Buffer = Union[bytes, bytearray, memoryview]

# A refused model, adapter or argument raises ValueError; the message says why and what to do. Buffers hold bytes or
# int8: bytes, bytearray, array('b'), array('B') or a memoryview of one. A model is for one call at a time: while
# another core, thread or interrupt is in a call of the same one, that is ValueError as well.

__version__: str
MODES: Tuple[str, ...]
MOMENTA: Tuple[int, ...]  # by mode: what a model has unless it is given
LEARNING_RATES: Tuple[int, ...]  # by mode

def read(source: Union[str, _Buffer]) -> memoryview:
    """The bytes of a file or a buffer; of a file in ROMFS they are used in place, else read into memory."""

def write(path: str, data: _Buffer) -> None:
    """Writes a file whole or not at all."""

def hex_id(data: _Buffer) -> str:
    """Bytes in hexadecimal, as ids are shown everywhere."""

class Signal:
    """What a base's input is made of: the signal record of its file. `Model.signal` is it."""

    rate: float  # samples a second
    channels: int  # values of a sample
    window: int  # samples of an input
    hop: int  # samples from an input to the next
    front: str  # the front end: "none", "audio" or "spectral"
    values: int  # how many of each of these there are: channels or, with a front end, its outputs, or 1 for all
    scales: List[float]  # units a count
    means: List[float]  # the network takes (units - mean) / std
    stds: List[float]
    units: str  # what the units are, for people

    def __init__(self, file: _Buffer, at: int) -> None: ...

class Adapter:
    """A verified `.ela` in memory, ready for `Model.use`; `Model.adapter` makes it."""

    buffer: _Buffer
    def __init__(self, buffer: _Buffer) -> None: ...
    def record(self, kind: int) -> Optional[memoryview]:
        """The body of its record of a kind (SPEC.md, section 9), in place; None: it has none."""

class AdapterFile:
    """An `.ela` file kept open for `Model.use_file`. `buffer`: memory to read it into, else it gets its own.

    Open it again after the file was replaced.
    """

    file: IO[bytes]
    buffer: Union[bytearray, memoryview]
    def __init__(self, path: str, buffer: Union[bytearray, memoryview, None] = None) -> None: ...
    def close(self) -> None: ...

class Model:
    """A base network, used in place from `model` (a path or a buffer), and one arena for everything it needs.

    mode: "infer" (no training), "frozen_a" or "trainable_a". ranks: rank of each op's adapter, 0 for none;
    an int puts that rank on every conv and dense layer. Allocation happens here and never again:
    `infer`, `train`, `flush`, `use` and those on features work under `micropython.heap_lock()`.

    threshold: an update leaves elements alone whose gradient is less than threshold / 2048 of the matrix's scale.
    recompute: one byte for each op, 1 = its output is computed again in the backward pass instead of being kept,
    which saves memory. plain: only the portable kernels. Neither of the two changes a result. labels: names of the
    outputs in place of the file's, one each.

    A model with history sees a stream, frame by frame: `infer` takes the next one, `reset` begins anew. It is trained
    with samples of `frames` frames, which are streams of their own: their last frame is what is learned, and what is
    held of the others is taken as given. Training leaves the stream that `infer` is in as it is.
    """

    buffer: memoryview  # the model's bytes
    base_id: bytes  # 8 bytes
    @property
    def used(self) -> Union[Adapter, AdapterFile, None]:
        """What inference is with, switched to by the model or its store; None: the bare base, or the training adapter.

        A store's has a `buffer`, and lasts until the store gives its room to another.
        """
    @property
    def labels(self) -> List[str]:
        """Names by class: the base's, then those of classes that the adapter in use adds."""
    arena: bytearray
    ranks: bytes
    mode: str
    learning_rate: int  # to begin with: the mode's usual one
    micro_batch: int
    settings: bytes  # what decides how it learns: mode, micro-batch, momentum, threshold, frames, ranks
    input_size: int
    output_size: int
    target_size: int  # int8 values of a target; 0: the model's loss takes a label
    sample_size: int  # frames * input_size
    feature_size: int  # int8 values of a sample's features; 0 without adapters
    output: memoryview  # int8 outputs of the last `infer`; training reuses the memory
    store: Optional[Store]  # what was opened with this model and switches adapters, too
    merged: Dict[int, Union[bytearray, memoryview]]  # merged weights by op

    def __init__(
        self,
        model: Union[str, _Buffer],
        ranks: Union[int, _Buffer] = 8,
        mode: str = "frozen_a",
        micro_batch: int = 8,
        momentum: Optional[int] = None,
        recompute: Union[_Buffer, None] = None,
        threshold: int = 0,
        plain: bool = False,
        frames: int = 1,
        labels: Optional[Sequence[str]] = None,
    ) -> None: ...
    @property
    def signal(self) -> Optional[Signal]:
        """What inputs are made of, if the base says so."""
    def quantize(self, values: Sequence[float], out: Union[bytearray, memoryview]) -> int:
        """Real values, in the units that the network was trained in, as an int8 input [input_size].

        values: any sequence of numbers. It saturates, and returns how many values were cut off.
        """
    def quantize_counts(self, counts: Any, out: Union[bytearray, memoryview]) -> int:
        """A sensor's counts, int16 in whole samples, as int8 values, by the base's signal and in integers alone.

        counts: array('h') or a memoryview of one; with a front end, its outputs. It saturates, and returns how many
        values were cut off.
        """
    def probabilities(self) -> Any:
        """Of the last `infer`, of each output, in 1/32768: array('H'), the same one every time.

        Softmax of logits or, with binary cross-entropy, their sigmoids: `dict(zip(model.labels,
        model.probabilities()))`. Takes memory the first time only.
        """
    def infer(self, x: _Buffer) -> int:
        """int8 input [input_size] -> index of the largest output; `output` holds all of them.

        Of a single output with binary cross-entropy: 1 if it says more than 1/2, else 0.
        """
    def reset(self) -> None:
        """The next input begins a stream: what the model holds of others is as at first."""
    def infer_sample(self, x: _Buffer) -> int:
        """`infer` for the last of a sample's frames [sample_size], which begin a stream."""
    def backward_range(self, x: _Buffer, start: int, end: int) -> None:
        """Backward steps of ops [start, end) on whatever is there, to measure them; begin or load anew afterwards."""

    def forward_range(self, x: _Buffer, start: int, end: int) -> None:
        """Ops [start, end) of an inference, after those before them: to measure one at a time."""
    def features(self, x: _Buffer, out: Union[bytearray, memoryview]) -> None:
        """Writes what the layers below the lowest adapter make of a sample, int8 [feature_size].

        It never changes: keep it.
        """
    def infer_features(self, features: _Buffer) -> int:
        """`infer_sample` from a sample's features, for adapters with nothing below the session's lowest."""
    def begin(self, seed: int = 0) -> None:
        """A fresh adapter becomes the one that trains and is used."""
    def load(self, adapter: Union[str, _Buffer]) -> None:
        """Goes on training from a saved adapter (bit-identically if saved with its state)."""
    def train(self, x: _Buffer, label: Union[int, _Buffer], learning_rate: int) -> int:
        """Forward, backward; every `micro_batch` samples [sample_size] an update.

        label: the class, of the base or of the adapter that trains; for losses other than cross-entropy the target,
        int8 [target_size]: 0 and 1 for binary cross-entropy, values like the output's for the squared error. Returns
        the sample's loss in 1/4096 nat, or 1/16 squared step of the output.
        """
    def train_features(self, features: _Buffer, label: Union[int, _Buffer], learning_rate: int) -> int:
        """`train` from a sample's features: the same, bit for bit, without the layers below."""
    def evaluate(self, x: _Buffer, label: Union[int, _Buffer], loss: Union[bytearray, memoryview]) -> int:
        """`infer_sample`, and the sample's loss as `train` tells it, without learning; `output` is spoiled.

        It is with what infers: the adapter in training or, after `use`, that one. loss: 4 bytes that take it, an
        int32, lowest byte first.
        """
    def evaluate_all(self, samples: Sequence[_Buffer], labels: Sequence[Any]) -> Tuple[int, int]:
        """`evaluate` of each: (how many have their label as class, the mean loss)."""
    def flush(self, learning_rate: int) -> None:
        """Updates with the samples pending, if there are any."""
    def counts(self) -> Tuple[int, int, int]:
        """(updates, samples, samples pending) of the training adapter."""
    def save(self, path: Optional[str] = None, state: bool = False) -> Optional[bytearray]:
        """The training adapter as `.ela` bytes, or written to `path`: whole or not at all."""
    def adapter(self, source: Union[str, _Buffer]) -> Adapter:
        """Reads and verifies a `.ela` for this base."""
    def use(self, adapter: Optional[Adapter]) -> None:
        """Infers with this adapter from now on; None: the bare base. `begin` and `load` return to the training one.

        One of another base, or whose ranks don't fit, is refused, and the one before stays in use.
        """
    def use_file(self, adapter_file: AdapterFile) -> None:
        """Reads, verifies and uses an adapter file, allocating nothing; if it is damaged, the bare base is in use."""
    def merge(self, op: int, buffer: Union[bytearray, memoryview, None] = None) -> _Buffer:
        """Rounds the adapter in use into a copy of an op's weights, so that inference pays nothing for it.

        The copy is made in `buffer`, or in a new one, and used until the next `use`, `begin` or `load`; training goes
        on beside it. Uint8 weights, offset by 128, then the int32 bias.
        """
    def blend(
        self,
        adapters: Sequence[Adapter],
        weights: Sequence[float],
        fine: bool = True,
        buffer: Union[bytearray, memoryview, None] = None,
    ) -> Adapter:
        """The sum of up to 8 adapters, each times its weight (-8 to 8, in steps of 1/4096), ready for `use`.

        Where they have one A (frozen, of one seed), B's add up; else ranks do, up to 32. It is made in `buffer`, which
        must be none of theirs, or in a new one. fine: B as fine as int8 holds; False keeps the steps that training
        moves by, for `load`. Records are not theirs to share: a sum has none.
        """
    def add_class(self, name: Union[str, int], samples: Iterable[_Buffer]) -> Adapter:
        """Adds a class, or gives the base's own class of that name (or number) a row of a person's own.

        samples: up to 1024 of it, int8 [sample_size] each; some ten are enough. Returns the adapter that was in use,
        or the bare base's, with the class; it is in use from now on: keep its `buffer` in a file or a store. What it
        had for that class before is replaced. ValueError if the base says nothing of its last layer's inputs. The
        adapter in training is not changed: `load` what this returns, to train on with it.
        """
    def remove_class(self, name: Union[str, int]) -> Optional[Adapter]:
        """The adapter in use without what it has for a class, to the byte what it was before; in use from now on.

        None: nothing is left but the bare base.
        """
    def with_record(
        self,
        adapter: Optional[Adapter],
        kind: int,
        body: Optional[_Buffer],
        buffer: Union[bytearray, memoryview, None] = None,
    ) -> Optional[Adapter]:
        """An adapter (None: the bare base) with this body as its record of a kind; body None: without that record.

        It is made in `buffer`, which must not be the adapter's, or in a new one. None where nothing is left but the
        bare base. `load` and `save` keep records, and what `load` was given with it.
        """
