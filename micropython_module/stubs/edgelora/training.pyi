"""Training on the board by itself, asleep most of the time, through resets and power cuts."""

from typing import Any, Callable, Iterator, Optional, Protocol, Sequence, Union

from edgelora import Model
from edgelora.store import Store

_Buffer = Union[bytes, bytearray, memoryview]

# States of a window, which `Scheduler` tells.
TRAINING: str
PAUSED: str
LOW_BATTERY: str
DONE: str

class _Samples(Protocol):
    """What `Run` learns from. If it also has `crc(count)`, a run that goes on knows its samples again."""

    count: int
    def read(self, i: int, buffer: bytearray) -> Union[int, memoryview]: ...

LEAST_UPDATES: int  # of a run that chooses its own number of epochs,
LEAST_EPOCHS: int  # and of these
HELD_OUT: int  # one sample in so many of each class judges what the others taught,
MOST_TIMES: int  # an epoch may have a sample of a rare class so often
MOST_SHARED: int  # the largest value that a fleet shares
LEAST_JUDGED: int  # if these are so many at least
CLASSES: int  # kind of an adapter's record: the classes that were added to it

class SampleFile:
    """Samples in a file: recorded on the board, or put there by the host.

    They have labels, or int8 targets for losses that take them. Appending and taking back touch only the file's end;
    what a cut leaves half-written is no sample. ValueError for a file that is none, or is damaged.
    """

    path: str
    base_id: bytes
    sample_size: int  # int8 values
    target_size: int  # int8 values; 0: samples have labels
    count: int
    def __init__(self, path: str, append: bool = False) -> None: ...
    @classmethod
    def create(cls, path: str, model: Model) -> SampleFile:
        """An empty file for samples of this model, opened to append."""
    def read(self, i: int, buffer: bytearray) -> Union[int, memoryview]:
        """Copies sample i, int8 [sample_size], into the buffer; its label, or its target until the next read."""
    def append(self, sample: _Buffer, label: Union[int, _Buffer]) -> None:
        """Writes a sample behind the others, to the flash before it returns."""
    def undo(self) -> Union[int, memoryview]:
        """Takes the last sample back, in flash before it returns; its label, or its target until the next read."""
    def crc(self, count: int) -> int:
        """CRC-32 of the first `count` samples and their labels."""
    def close(self) -> None: ...

class Part:
    """Some of the samples of another source, by number: a source itself. samples: as for `split`."""

    count: int
    base_id: Optional[bytes]
    sample_size: int
    target_size: int
    def __init__(self, samples: Any, numbers: Sequence[int]) -> None: ...
    def read(self, i: int, buffer: bytearray) -> Union[int, memoryview]: ...
    def crc(self, count: int) -> int: ...

def split(samples: Any, count: int = 0) -> tuple[_Samples, Optional[_Samples]]:
    """(learned, held): two parts of samples, or of their first `count`, for `Run`.

    Held is the last one in `HELD_OUT` of each class, or of all where samples have targets. (all, None) where fewer than
    `LEAST_JUDGED` could be held, or labels of one class. samples: a `SampleFile`, or what has `sample_size` and
    `target_size` as well.
    """

def fitting_epochs(places: int, micro_batch: int) -> int:
    """How many epochs a run has that chooses them itself. places: samples of an epoch."""

def falling_rate(rate: int, update: int, updates: int) -> int:
    """The learning rate of an update, from 0, of so many: it falls to 0."""

def is_enough(since: int, epochs: int) -> bool:
    """Whether a run of so many epochs ends early, which had its best one so many epochs ago."""

def repeated(samples: _Samples, count: int, buffer: bytearray, target_size: int) -> Sequence[int]:
    """The samples, by number, that an epoch has once more, and more often: those of rare classes."""

class Judge:
    """Judges what infers by samples held out, one at each `step`: how many it names right (of labels), then the sum of
    losses, 1/4096 nat.

    right, loss: of the judgement under way, of `at` samples so far, of `count`.
    """

    count: int
    at: int
    right: int
    loss: int
    def __init__(self, model: Model, held: _Samples, count: int = 0) -> None: ...
    def restart(self) -> None: ...
    @property
    def left(self) -> int:
        """Steps until it ends."""
    def step(self) -> bool:
        """Judges by another sample. Whether it was the last one. Allocates nothing with sums below 2^30."""

def milder(right: int, loss: int, than_right: int, than_loss: int) -> bool:
    """Whether one epoch's judgement comes before another's."""

def better(right: int, loss: int, than_right: int, than_loss: int) -> bool:
    """Whether one judgement is better than another."""

def stored(store: Store, name: str, model: Model) -> Optional[bytearray]:
    """The bytes of an adapter in the store, if it is there and for this model's base."""

def unfinished(store: Store, name: str) -> bool:
    """Whether a run of this name has begun and is not through: make it again, and it goes on."""

def without_classes(store: Store, name: str, model: Model) -> None:
    """ValueError if the adapter of that name has added classes: a run, which makes its adapter anew, would lose them."""

def begun(store: Store, name: str, rtc: Any = None) -> int:
    """How many samples, learned and held, an unfinished run of this name has; 0 if it begins.

    `split` asks for it, where samples were added since.
    """

def discard(store: Store, name: str, rtc: Any = None) -> None:
    """Forgets an unfinished run. The adapter of that name, if the store has one, stays."""

def shared_scale(vm: int, vx: int) -> int:
    """A gradient's scale `(vm, vx)` as one value: 256 to an octave, 0 for 1/2, and for none."""

def restarted(data: _Buffer, draws: int) -> bytearray:
    """The adapter file that a run starts from: masters and scales are its; momentum and counts are fresh, and draws go on
    from that number."""

def fleet_vector(data: _Buffer) -> bytearray:
    """What a fleet shares of an adapter file with training state, int16 [n]: masters and, where A trains, then a value
    for each scale, 256 to an octave; both layer by layer, A's if it trains, then B's."""

class Run:
    """A training run over all epochs, one bounded `step` at a time, that survives sleep and reset.

    model: in a mode that trains. store: where the adapter `name` (1 to 20 bytes) is put at the end and, while the run
    goes on, training state `name.run` (every `commit_every` updates) and checkpoint `name.chk`. rtc: what has
    `memory()` as machine.RTC has on an ESP32 (found by itself): the checkpoint is then there too, after every step.

    held: samples like the others that judge (`split`): what was in use before, which is the adapter `name` of the store
    or the bare base, then every epoch. The best is `name.new` in the store. At the end it becomes `name` if it is
    better than what was before, else both stay. A third of the epochs without a better one ends the run. Without them,
    what was learned last becomes `name`. start: an adapter file with training state, its bytes or a path, whose masters
    the run goes on from instead of a fresh adapter. keep_state: nothing becomes `name`; the training state stays, as
    `state` and in the store, until `discard`. The model infers with what it learned last: `use` what the store has.

    ValueError if a run of this name was begun with another base, other settings or samples, if what the store has can't
    be judged, or if that has added classes, which would be lost: `learner.Learner.consolidate` keeps them.
    """

    checkpoint_size: int
    model: Model
    samples: _Samples
    store: Store
    name: str
    epochs: int
    seed: int
    learning_rate: int
    commit_every: int
    notice: str  # "", or what was lost and that the run begins anew
    done: bool
    better: Optional[bool]  # at the end of a run that is judged: than what was in use before
    passed: int  # epochs that are behind it
    judged: int  # judgements so far: one of what was in use before, then one an epoch
    before: tuple[int, int]  # of what was in use before: samples named right, sum of losses
    best: tuple[int, int]  # of the best epoch
    best_epoch: int  # from 0
    watch: Optional[Callable[[Run], Any]]  # called after every sample that it learns, if it is set
    loss: int  # of the last sample, as Model.train returns it
    count: int  # samples
    places: int  # of an epoch: every sample, and those of rare classes again
    steps: int  # in all: epochs * places
    position: int  # steps done
    pending: int  # of them, not yet in an update
    updates: int
    updates_in_all: int
    rate: int  # the learning rate now
    sequence: int
    resumes: int
    busy_us: int  # computing and writing so far, resumed runs included
    energy_uj: int
    step_us: int  # of the last step without its commit
    commit_us: int  # of the last commit
    def __init__(
        self,
        model: Model,
        samples: _Samples,
        store: Store,
        name: str,
        epochs: int = 0,
        seed: int = 0,
        learning_rate: int = 0,
        commit_every: int = 32,
        rtc: Any = None,
        held: Optional[_Samples] = None,
        start: Union[str, _Buffer, None] = None,
        keep_state: bool = False,
    ) -> None: ...
    @property
    def state(self) -> bytearray:
        """The training adapter with its state, as a file: between two updates, good until the next commit."""
    @property
    def judging(self) -> bool:
        """Whether the next step judges."""
    @property
    def rest(self) -> int:
        """Steps until it may suspend without repeating any: the last of them may write to flash."""
    @property
    def between(self) -> bool:
        """Whether neither a micro-batch nor a judgement is under way."""
    def step(self) -> int:
        """Learns one sample, with the update if it fills the micro-batch, and the commit if that is due. Or judges by
        one.

        Returns the loss of the sample learned last. Nothing is allocated but by a commit and at the end of a judgement.
        Whatever ends it early: call it again.
        """
    def suspend(self) -> None:
        """Finishes the micro-batch or judgement under way and commits: going on from here, nothing is done twice."""
    def commit(self) -> None:
        """Puts the training state into the store, if there was an update. Only between two."""

class Scheduler:
    """Drives a run in windows of time and energy.

    `for state in scheduler` is one window, a step at a time; so are `spend()`, in one call, and `await run()`, which
    lets other tasks go on after every step. `state` says how it ended: PAUSED (the window is used up), LOW_BATTERY
    (`battery()` is below battery_floor, and the run was suspended) or DONE (the adapter is in the store).

    clock_hz: of the core during steps and sleep. sleep_ms: of light sleep after every update. budget_ms, budget_mj:
    milliseconds, sleep included, and millijoules of a window. power: milliwatts at a clock, a function of Hz; sleep_mw:
    asleep. sleep: used instead of machine.lightsleep, e.g. time.sleep_ms where USB must stay up.
    """

    training: Run
    state: str
    sleep_ms: int
    budget_ms: Optional[int]
    budget_mj: Optional[float]
    battery: Optional[Callable[[], float]]
    battery_floor: Optional[float]
    sleep_mw: float
    def __init__(
        self,
        run: Run,
        clock_hz: Optional[int] = None,
        sleep_ms: int = 0,
        budget_ms: Optional[int] = None,
        budget_mj: Optional[float] = None,
        battery: Optional[Callable[[], float]] = None,
        battery_floor: Optional[float] = None,
        power: Optional[Callable[[int], float]] = None,
        sleep_mw: float = 0,
        sleep: Optional[Callable[[int], Any]] = None,
    ) -> None: ...
    def __iter__(self) -> Iterator[str]: ...
    def spend(self) -> str:
        """A whole window. Returns the state."""
    async def run(self) -> str:
        """A window as a task: sleep is left to asyncio."""
    def suspend(self) -> None:
        """Finishes the micro-batch or judgement under way and commits: nothing is done twice after sleep or a cut."""
