"""A board in a fleet that learns together: secure aggregation and privacy on the board."""

from typing import Any, Generator, Iterator, Optional, Tuple, Union

from edgelora import Model
from edgelora.store import Store

_Buffer = Union[bytes, bytearray, memoryview]

KEY: str  # files on the board: its secret and counters,
ROSTER: str  # who is of its fleet,
POLICY: str  # what its owner asks of tasks,
ADAPTER: str  # and the global adapter of the round
RUN: str  # name of a round's run in the store
SERVER: int  # the server's index
RULES: Tuple[str, ...]  # what a policy may say, in the core's order,
SAFE: Tuple[int, ...]  # what it says where the owner gave none,
LIMITS: Tuple[int, ...]  # and the largest values

# What `Member.steps` tells of the step that it has done; of a training also what a `Scheduler` tells.
TRAINING: str
WORKING: str

class FleetError(ValueError):
    """This board can't do that; the message says why. What it had is as it was."""

class Identity:
    """What a board is: an X25519 secret, how often it began to draw keys, the last round that it took part in, how many
    these were, and what they have cost (in millionths of 1 / z^2).

    All in one file, which is written as a whole or not at all. FleetError if there is none, or it is damaged.
    """

    round: int
    rounds: int
    spent: int
    def __init__(self, path: str = KEY) -> None: ...
    @staticmethod
    def exists(path: str = KEY) -> bool:
        """Whether there is one, be it damaged."""
    @classmethod
    def create(cls, path: str = KEY) -> Identity:
        """A new one; the board has to be enrolled then. FleetError if there is one, or the chip's noise is none."""
    @staticmethod
    def forget(path: str = KEY) -> None:
        """Removes it: this board is no longer who it was, and can't become it again. What its rounds cost stays."""
    @property
    def secret(self) -> bytes: ...
    @property
    def public(self) -> bytes:
        """The public key that a roster has, 32 bytes."""
    def draw(self) -> bytes:
        """32 bytes that nobody can tell, and that never come again."""
    def take_part(self, number: int) -> None:
        """From here on this board answers no round up to this number; it is in flash before this returns."""
    def spend(self, number: int, spent: int) -> None:
        """The same, for a round of which an update is about to leave. spent: what all rounds cost with this one."""

class Roster:
    """Who is of the fleet: an installed roster. FleetError if there is none, or this board does not trust its signer."""

    number: int  # higher with every change
    count: int  # entries
    target: str
    server: bytes  # public key of the server that adds updates up
    release: bytes  # the key that signed
    fleet: bytes  # id, 8 bytes
    def __init__(self, path: str = ROSTER) -> None: ...
    def key(self, index: int) -> bytes:
        """The public key of a board, 32 bytes; all 0: it was revoked, or never was."""
    def index(self, public: _Buffer) -> int:
        """The place of a board in it. FleetError if it has none."""
    def check(self) -> Iterator[None]:
        """FleetError unless every byte is what was signed, for this board's target. A generator of short steps."""

def hash_of(path: str) -> Optional[bytes]:
    """SHA-256 of a file, None if there is none."""

def open_model(adapter: str = ADAPTER) -> Model:
    """The model that learns from an adapter, with its ranks, mode and momentum, of its base on the board."""

def install(path: str, identity: Identity, to: str = ROSTER) -> Iterator[None]:
    """Checks the roster in a file and puts it in the old one's place, in one step. A generator of short steps.

    FleetError unless a key that this board trusts has signed it, for this board's target, with a higher number than the
    one that is here, and this board is in it.
    """

def policy(path: str = POLICY) -> dict[str, int]:
    """What the owner of this board asks of every task: least_survivors, least_z (hundredths), least_cohort, most_cohort,
    colluders, survivors_percent, masks, budget (SPEC.md, section 17); without a file what is safe."""

class Member:
    """This board in the rounds of its fleet: a message goes in, work is done in short steps, `reply` goes out.

    model: in a mode that trains, of the global adapter's ranks and mode; None: opened when that comes. samples: what it learns, all of
    it (`training.split` to hold some back). store: where the training under way is kept. neighbours: others
    of a cohort that there is memory for. rules: instead of `policy()`. pace: how it trains, as `Scheduler` takes it.

    What it has of a round behind its training is in RAM: a board that resets is out of the round.
    """

    model: Optional[Model]
    samples: Any
    store: Store
    adapter: str
    identity: Identity
    roster: Roster
    index: int  # of this board
    run: Any  # the round's `Run`, while it trains
    keeps: bool  # the model open after its training, as one that was given
    reply: Optional[bytearray]
    def __init__(
        self,
        model: Optional[Model],
        samples: Any,
        store: Store,
        identity: Identity,
        adapter: str = ADAPTER,
        neighbours: int = 32,
        rules: Optional[dict[str, int]] = None,
        commit_every: int = 32,
        **pace: Any,
    ) -> None: ...
    def begin(self) -> None:
        """Anew, with the roster that is installed now. Of a round under way nothing is left but its training."""
    @property
    def round(self) -> int:
        """The number of the round under way, 0 for none."""
    @property
    def over(self) -> bool:
        """Whether the round is over for this board."""
    def answer(self, message: _Buffer) -> bytearray:
        """What this board replies to a message, at once; blocks."""
    def steps(self, message: _Buffer) -> Iterator[str]:
        """The same as a generator, which yields between short steps: `reply` is there when it ends.

        ValueError if the message is refused; nothing has changed then, and the right one is taken after it. Begun again
        with the same message, it goes on where it was.
        """

def personalize(
    model: Model, samples: Any, store: Store, name: str, adapter: str = ADAPTER, seed: int = 0, **pace: Any
) -> Generator[str, None, str | None]:
    """After the fleet's rounds: learns from the global adapter, or from the base where that is clearly better.

    A run from each learns three quarters of the samples. Its best epoch is judged by the last quarter of each class:
    that from the base has to name two more right. If the run is better than the bare base and what the store has as
    `name`, its start learns all samples, and that becomes `name` of the store; else the store stays as it was. A
    generator of short steps, which goes on where it was after a reset, and begins anew if the global adapter is another
    one since. It returns what was best: "global", "base" (a run from it), `name` or None, which is the bare base:
    `store.use(None)` then. ValueError where too few samples could judge, or if `name` has added classes.
    """

def fetch_roster(url: str, identity: Identity, timeout_ms: int = 10000, total_ms: int = 300000) -> Iterator[Any]:
    """Gets the roster of a fleet's gateway and installs it: make a `Member` then. A generator of short steps.

    FleetError as of `install`: also if it is not newer than the one that is here. OSError: the line's; try again.
    """

class Poller:
    """Asks a fleet's gateway for messages over HTTP, and answers them. url: http://HOST[:PORT] of the gateway."""

    member: Member
    heard: bool  # whether the last asking found a message that was new
    def __init__(self, member: Member, url: str, timeout_ms: int = 10000, total_ms: int = 300000) -> None: ...
    def steps(self) -> Iterator[Optional[str]]:
        """Asks once, and answers what it gets, with the newest roster. A generator of short steps (looking up a host's
        name may take longer).

        OSError: the line's; ask again later. ValueError: the message is refused, and nothing has changed.
        """
