"""Over-the-air updates of adapters in signed bundles."""

from typing import Iterable, Iterator, List, Optional, Tuple, Union

from edgelora import Model
from edgelora.store import Store

_Buffer = Union[bytes, bytearray, memoryview]

TRUST: str  # the file with the board's target and the keys it trusts
OWN: Tuple[str, ...]  # files of the board's own samples: a reservoir, or what a run held out
HEADER_SIZE: int  # bytes of a bundle's header

class UpdateError(ValueError):
    """The bundle is refused; the message says why. What the board had is as it was."""

class NotNewer(UpdateError):
    """There is no update: the board has had this version, or a later one."""

class Worse(UpdateError):
    """The update names fewer of the board's own samples right than what it would replace. It is not asked for again."""

def trusted(path: str = TRUST) -> Tuple[List[bytes], str]:
    """(keys, target) of the file that `edgelora update --trust` puts on a board. UpdateError without one."""

def key_id(key: bytes) -> bytes:
    """What bundles call a public key, 8 bytes."""

class Header:
    """What a bundle's header says; of a delta, origin is what it starts from."""

    kind: int
    packing: int
    version: int
    from_version: int
    payload_size: int
    result_size: int
    base_id: bytes
    key_id: bytes
    name: str
    target: str
    payload_hash: bytes
    result_hash: bytes
    origin_hash: bytes
    def __init__(self, data: _Buffer) -> None: ...

class Updater:
    """Takes bundles that one of `keys` (32 bytes each) signed for `target`, and puts them into the store.

    model: the one that adapters are for; without it, a base on the board is looked for. limit: most bytes of a payload
    and of an adapter. part: the file that an update waits in until it is complete. own: files of which the first that
    has samples of this base judges an update: of a reservoir those that judge, of a sample file all.

    UpdateError is final; an OSError is the line's: try again later.
    """

    store: Store
    target: str
    model: Optional[Model]
    limit: int
    name: Optional[str]  # what was installed last
    version: Optional[int]
    kept: int  # bytes of the payload that are here
    def __init__(
        self,
        store: Store,
        keys: Iterable[bytes],
        target: str,
        model: Optional[Model] = None,
        limit: int = 65536,
        part: str = "/update.part",
        own: Iterable[str] = OWN,
    ) -> None: ...
    def begin(self, data: _Buffer, name: Optional[str] = None, length: Optional[int] = None) -> int:
        """Judges a bundle by its header of 256 bytes, before anything is written.

        name: the adapter that was asked for; length: of the bundle, if the line tells. Returns the bytes of the
        payload that an interrupted update has left here already.
        """
    def write(self, block: _Buffer) -> None:
        """The payload's next bytes."""
    def close(self) -> None:
        """Leaves an unfinished update for later."""
    def finish(self) -> Iterator[None]:
        """Checks the payload and what it unpacks to, and installs that. A generator of short steps."""
    def fetch(self, url: str, timeout_ms: int = 10000, total_ms: int = 300000) -> int:
        """Gets a bundle from a web server and installs it; blocks. Returns the version. See `steps`."""
    def steps(self, url: str, timeout_ms: int = 10000, total_ms: int = 300000) -> Iterator[None]:
        """The same as a generator, which yields between short steps (looking up a host's name may take longer).

        url: http://HOST[:PORT]/PATH/NAME.elu. If the server has NAME.from-V.elu, the change from the version that is
        here, that is taken first. timeout_ms: how long the server may be silent; total_ms: for all of the download, what
        the caller does between steps included. An OSError tells which of them is over; the next call goes on from there.
        """
