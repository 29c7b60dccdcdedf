"""Named adapters in flash, the ones in use in RAM."""

from typing import Any, Dict, List, Optional, Protocol, Tuple, Union

from edgelora import Model

_Buffer = Union[bytes, bytearray, memoryview]

class _BlockDevice(Protocol):
    """What MicroPython calls a block device with the extended interface: rp2.Flash, esp32.Partition."""

    def readblocks(self, block: int, buffer: Any, offset: int = 0) -> Any: ...
    def writeblocks(self, block: int, buffer: Any, offset: int = 0) -> Any: ...
    def ioctl(self, op: int, arg: int) -> Any: ...

class StoreError(ValueError):
    """A store can't do what was asked; the message says why and what would help. Nothing has changed."""

class Entry:
    """A committed adapter, or other bytes. size 0: removed, but its `floor` is kept."""

    name: str
    version: int
    size: int
    crc: int
    floor: int  # the highest version there was
    base_id: bytes
    flags: int
    places: Tuple[int, ...]
    def __init__(
        self,
        name: str,
        version: int,
        size: int,
        crc: int,
        floor: int,
        base_id: bytes,
        flags: int,
        places: Tuple[int, ...],
    ) -> None: ...
    @property
    def pinned(self) -> bool:
        """It stays in RAM once it is there."""
    @property
    def trial(self) -> bool:
        """An update that has not been confirmed."""
    def changed(self, **changes: Any) -> Entry:
        """A copy with other values."""

class _Slot:
    buffer: memoryview

class Store:
    """Adapters by name in `place`: a folder, or a block device of its own.

    cache: bytes of RAM for adapters in use. adapters: the most it can hold.
    """

    place: str
    notices: List[str]  # changes that a power cut undid, told once
    def __init__(self, place: Union[str, _BlockDevice], cache: int = 8192, adapters: int = 32) -> None: ...
    @property
    def active(self) -> Optional[str]:
        """What `start` goes on with; None: the bare base."""
    def list(self) -> List[Entry]:
        """The entries, those on trial included."""
    def find(self, name: str) -> Optional[Entry]:
        """The entry that `use` takes, or None."""
    def read(self, name: str) -> bytearray:
        """The bytes of an entry, checked."""
    def floor(self, name: str) -> int:
        """The highest version there has been of this name: an update must be above it."""
    def free(self) -> int:
        """Bytes that can be put."""
    def put(self, name: str, data: _Buffer, version: Optional[int] = None) -> int:
        """Commits data under a name (1 to 24 bytes), in place of what it had; returns its version.

        That is the last one's + 1 unless given.
        """
    def install(self, name: str, version: int, data: _Buffer) -> None:
        """An update: kept beside the one in use, on trial from the next `start` on."""
    def confirm(self) -> List[str]:
        """The updates on trial are good: they replace what they update. Returns their names."""
    def decline(self, name: str, version: int, why: str) -> None:
        """An update that is not to be kept: of this name nothing up to its version is installed. why: a notice."""
    def declined(self) -> List[Tuple[str, int]]:
        """(name, version) of updates that were here and did not stay: declined, or not confirmed."""
    def rename(self, old: str, new: str) -> None:
        """Gives an adapter another name; one that is active stays so."""
    def remove(self, *names: str) -> None:
        """Removes adapters in one change, updates of them on trial included. The one in use stays in RAM until the next
        `use`."""
    def replace(self, name: str, source: str, *removed: str) -> None:
        """The data of the entry `source` becomes that of `name`, and `removed` go, in one change.

        Its version is the last one's + 1. The name stays active if it or `source` was.
        """
    def pin(self, name: str, on: bool = True) -> None:
        """A pinned adapter stays in RAM once it is there."""
    def open(self, model: Model) -> None:
        """Binds the store to a model, whose adapters `use` switches. The cache is empty then."""
    def use(self, name: Optional[str]) -> None:
        """Inference is that of this adapter (None: the bare base) from the next call on. Nothing is written."""
    @property
    def in_use(self) -> Optional[str]:
        """What `use` was called with last; None as well if that was given up to make room."""
    @property
    def used(self) -> Optional[_Slot]:
        """What it has switched to, as Model.use takes it; None: the bare base."""
    @property
    def switches(self) -> int:
        """How often it has switched."""
    def activate(self, name: Optional[str]) -> None:
        """`use`, and remembered: `start` goes on with it after a reset."""
    def start(self) -> None:
        """Once after a reset: uses the active adapter, updates on trial among them.

        An update gets one start. If the application has not called `confirm` by the next, the old version is back.
        """

def default_place() -> Union[str, _BlockDevice]:
    """Where this board's store is: the partition that the firmware keeps for it, else a folder."""

def erase(device: _BlockDevice) -> None:
    """Makes a partition empty, whatever is in it: the next Store on it begins anew."""
