"""Over-the-air updates of adapters in signed bundles (SPEC.md, section 14). SPDX-License-Identifier: MIT

    updater = Updater(store, *trusted(), model)
    try:
        version = updater.fetch("http://10.0.0.2:8000/wake.elu")  # installed: on trial from the next store.start() on
    except NotNewer:
        pass
    ...
    store.start()  # after the reset; once the application has seen that all is well:
    store.confirm()

With asyncio, `for _ in updater.steps(url): await asyncio.sleep_ms(10)` instead of `fetch`. The header is validated
before anything is written; the payload goes to a file, from which an interrupted update continues; only a complete
adapter that fits the model reaches the store. OSError: the connection failed, try again later. UpdateError is final.
"""

import gc
import hashlib
import os
import struct
import time

from . import _core, _only_absent, hex_id
from ._bases import base_path, open_base, ranks_of
from ._http import Http
from ._index import NO_SPACE
from ._trust import TRUST, UpdateError, key_id, text, trusted

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Iterable, Iterator

    from . import Model
    from ._types import Buffer
    from .store import Store

__all__ = (
    "HEADER_SIZE", "OWN", "TRUST", "Header", "NoMemory", "NotNewer", "UpdateError", "Updater", "Worse", "key_id",
    "trusted",
)  # fmt: skip

HEADER_SIZE = 256
_SIGNED = 192  # bytes of the header that the signature covers
# magic, format, header size, kind, packing, 0, version, from version, payload and result size, 0, base, key, name,
# target, SHA-256 of payload, result, origin
_HEADER = "<4sHHBBHIIIII8s8s24s24s32s32s32s"
_WHOLE, _DELTA = 1, 2
_DEFLATE = 1
_WBITS = 10
_BLOCK = 512
_FLUSH_BYTES = 4096  # payload bytes that a power failure can lose
OWN = ("/samples.elr", "/held.eld")  # the board's own samples: a reservoir, or a run's held-out samples


class NotNewer(UpdateError):
    """There is no update: the board has had this version or a later one."""


class NoMemory(UpdateError):
    """There is too little free memory to check or validate the adapter now. A reset may free enough."""


class Worse(UpdateError):
    """The update classifies fewer of the board's own samples correctly than the current version. It is declined."""


class Header:
    """The fields of a bundle's header. from_version, origin_hash: the adapter that a delta starts from."""

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

    def __init__(self, data: Buffer) -> None:
        if len(data) != HEADER_SIZE:
            raise UpdateError("the bundle ends within its header")
        (
            magic, form, size, self.kind, self.packing, zero, self.version, self.from_version, self.payload_size,
            self.result_size, zero2, self.base_id, self.key_id, name, target, self.payload_hash, self.result_hash,
            self.origin_hash,
        ) = struct.unpack_from(_HEADER, data)  # fmt: skip
        if magic != b"ELU1":
            raise UpdateError("this is not an update bundle")
        if (
            form != 1
            or size != HEADER_SIZE
            or zero
            or zero2
            or self.kind not in (_WHOLE, _DELTA)
            or self.packing > _DEFLATE
        ):
            raise UpdateError(
                "a bundle of format %d.%d.%d: this firmware is older, update it" % (form, self.kind, self.packing)
            )
        self.name, self.target = text(name), text(target)


class Updater:
    """Installs bundles for `target`, signed by one of `keys` (32 bytes each), in the store.

    model: the model of the adapters; None: a base on the board. limit: maximum bytes of a payload and of an adapter.
    part: the file that keeps an incomplete update. own: files of the board's own samples; the first that has samples
    for the base validates updates, with the held-out samples of a reservoir or all samples of a sample file.

    UpdateError is final; OSError means that the connection failed: try again later.
    """

    store: Store
    target: str
    model: Model | None
    limit: int
    name: str | None  # of the adapter that was installed last
    version: int | None
    kept: int  # payload bytes received so far

    def __init__(
        self,
        store: Store,
        keys: Iterable[bytes],
        target: str,
        model: Model | None = None,
        limit: int = 65536,
        part: str = "/update.part",
        own: Iterable[str] = OWN,
    ) -> None:
        self.store, self.target, self.model, self.limit = store, target, model, limit
        self.name = self.version = None  # of the adapter that was installed last
        self._keys = {key_id(key): bytes(key) for key in keys}
        self._part, self._own = part, own
        self._file = self._head = None

    # --- a bundle over any connection: begin, write, finish

    def begin(self, data: Buffer, name: str | None = None, length: int | None = None) -> int:
        """Validates a bundle's header (256 bytes) before anything is written.

        name: the requested adapter; length: bytes of the bundle, if known. Returns how many bytes of the payload an
        interrupted update has left on the board.
        """
        self.close()
        head = self._judge(data, name)
        if length is not None and length != HEADER_SIZE + head.payload_size:
            raise UpdateError("a bundle of %d bytes declares %d" % (length, HEADER_SIZE + head.payload_size))
        kept = 0
        try:
            with open(self._part, "rb") as file:
                if file.read(HEADER_SIZE) == data:
                    kept = file.seek(0, 2) - HEADER_SIZE
        except OSError as error:
            _only_absent(error)
        if not 0 < kept <= head.payload_size:
            kept = 0
        self._head, self.kept = head, kept
        self._file = open(self._part, "ab" if kept else "wb")
        if not kept:
            self._save(data, False)
        return kept

    def write(self, block: Buffer) -> None:
        """Appends the next bytes of the payload."""
        if not self._file:
            raise UpdateError("no update has begun")
        end = self.kept + len(block)
        if end > self._head.payload_size:
            self._refuse("the bundle is longer than the %d bytes that it declares" % self._head.payload_size)
        self._save(block, end == self._head.payload_size or end // _FLUSH_BYTES != self.kept // _FLUSH_BYTES)
        self.kept = end

    def close(self) -> None:
        """Closes the file; an unfinished update can continue later."""
        file, self._file = self._file, None
        if file:
            try:
                file.close()
            except OSError as error:
                if error.errno != NO_SPACE:
                    raise
                # bytes that were not written are requested again

    def finish(self) -> Iterator[None]:
        """Checks the payload and the adapter in it, and installs that adapter. A generator of short steps."""
        head = self._head
        if not head:
            raise UpdateError("no update has begun")
        self.close()
        if self.kept != head.payload_size:
            raise UpdateError("the bundle is truncated: %d of %d bytes of payload" % (self.kept, head.payload_size))
        try:
            with open(self._part, "rb") as file:
                yield from _check_payload(file, head)
                result = yield from _unpacked(file, head)
            if head.kind == _DELTA:
                yield from _add(result, self.store.read(head.name))
            if hashlib.sha256(result).digest() != head.result_hash:
                raise UpdateError("the bundle does not make the adapter that its header names")
            yield
            model = self._check(result)
            yield
            yield from self._weigh(model, result)
        except UpdateError:
            os.remove(self._part)
            raise
        yield
        self.store.install(head.name, head.version, result)
        os.remove(self._part)
        self.name, self.version = head.name, head.version

    def _judge(self, data, name):
        head = Header(data)
        key = self._keys.get(head.key_id)
        if key is None:
            raise UpdateError("signed by key %s, which this board does not trust" % hex_id(head.key_id))
        if not _core.verify(key, data[:_SIGNED], data[_SIGNED:]):
            raise UpdateError("the signature is wrong: the bundle is damaged or forged")
        if head.target != self.target:
            raise UpdateError("made for %s, this is %s" % (head.target, self.target))
        if name is not None and head.name != name:
            raise UpdateError("this is adapter %s, not %s" % (head.name, name))
        if self.model and head.base_id != self.model.base_id or not self.model and not base_path(head.base_id):
            raise UpdateError("made for base %s, which this board does not have" % hex_id(head.base_id))
        floor = self.store.floor(head.name)
        if head.version <= floor:
            raise NotNewer(
                "version %d of %s is not above %d, which this board has had" % (head.version, head.name, floor)
            )
        if head.kind == _DELTA:
            self._check_origin(head)
        most = max(head.payload_size, head.result_size)
        if most > self.limit or not min(head.payload_size, head.result_size):
            raise UpdateError("%d bytes for an adapter: this board takes 1 to %d" % (most, self.limit))
        if head.result_size > self.store.free():
            raise UpdateError("no room for %d bytes in the store: remove an adapter" % head.result_size)
        if head.packing == _DEFLATE and not _inflater():
            raise UpdateError("this firmware has no deflate module: release with --no-compress")
        return head

    def _check_origin(self, head):
        entry = self.store.find(head.name)
        if not entry or hashlib.sha256(self.store.read(head.name)).digest() != head.origin_hash:
            raise UpdateError(
                "a change of version %d, which is not what this board has: take the full bundle" % head.from_version
            )

    def _check(self, data):
        # Returns a model that can use this adapter; UpdateError if there is none.
        ranks = ranks_of(data)
        try:
            try:
                model = self.model or open_base(self._head.base_id, ranks)
            except MemoryError:  # free what the first try allocated, so that the heap is less fragmented
                gc.collect()
                model = open_base(self._head.base_id, ranks)
            model.adapter(data)
        except ValueError as error:
            raise UpdateError("the adapter does not fit: %s" % error) from None
        except MemoryError:
            raise NoMemory("no memory to check the adapter: reset the board, then update") from None
        if not data[28] & 1 and any(ranks.get(op, 0) != rank for op, rank in enumerate(model.ranks)):
            raise UpdateError("the adapter does not fit: its A comes from a seed, and its ranks are not the model's")
        return model

    def _weigh(self, model, data):
        # Raises Worse if fewer of the board's own samples are correct than before. A generator of short steps.
        own = [path for path in self._own if _exists(path)]
        if not own:
            return
        from ._update_check import compare, held_in

        head, store = self._head, self.store
        held, entry = held_in(own, model), store.find(head.name)
        if not held:
            return
        old = store.read(head.name) if entry and entry.base_id == model.base_id else None
        try:
            found = yield from compare(model, self.model is not None, held, data, old)
        except MemoryError:
            raise NoMemory("no memory to validate the adapter: reset the board, then update") from None
        finally:
            held.close()
        if found and found[0] < found[1]:
            told = "version %d of %s is worse on the board's own samples, and not kept: of %d, %d are correct, %d were"
            told %= head.version, head.name, held.count, found[0], found[1]
            store.decline(head.name, head.version, told)
            raise Worse(told)

    def _save(self, data, flush):
        try:
            self._file.write(data)
            if flush:
                self._file.flush()
        except OSError as error:
            if error.errno != NO_SPACE:
                raise
            self._refuse("no room for the bundle on the filesystem of %s: remove files" % self._part)

    def _refuse(self, why):
        self.close()
        os.remove(self._part)
        raise UpdateError(why)

    # --- HTTP

    def fetch(self, url: str, timeout_ms: int = 10000, total_ms: int = 300000) -> int:
        """Downloads a bundle from a web server and installs it; blocks. Returns the version. See `steps`."""
        for _ in self.steps(url, timeout_ms, total_ms):
            time.sleep_ms(2)
        return self.version

    def steps(self, url: str, timeout_ms: int = 10000, total_ms: int = 300000) -> Iterator[None]:
        """`fetch` as a generator, which yields between short steps (a DNS look-up may take longer).

        url: http://HOST[:PORT]/PATH/NAME.elu. NAME.from-V.elu, a delta from the board's version V, is tried
        first. timeout_ms: maximum silence of the server; total_ms: maximum duration of the download, including the time
        that the caller takes between steps. If either is exceeded, an OSError says which one, and the next call
        continues the download.
        """
        host, port, path = _address(url)
        name = path.rsplit("/", 1)[1][:-4]
        entry = self.store.find(name)
        end = time.ticks_add(time.ticks_ms(), total_ms)
        try:
            if entry:
                try:
                    yield from self._get(
                        Http(host, port, timeout_ms, end), "%s.from-%d.elu" % (path[:-4], entry.version), name
                    )
                    return
                except ValueError:
                    pass  # no delta, or none for this board: try the full bundle
            yield from self._get(Http(host, port, timeout_ms, end), path, name)
        finally:
            self.close()

    def _get(self, http, path, name):
        try:
            yield from _ask(http, path, 0)
            header = bytearray(HEADER_SIZE)
            yield from http.read_exactly(header)
            length = http.length
            kept = self.begin(bytes(header), name, length)
            size = self._head.payload_size
            if 0 < kept < size:
                try:
                    yield from _ask(http, path, HEADER_SIZE + kept)
                except UpdateError as error:
                    self._refuse("can't continue, start again: %s" % error)
                if http.length != length:
                    self._refuse("the server's file has changed: start again")
            while self.kept < size:
                self.write((yield from http.read()) or http.ended())
            if kept < size and http.length is None and (yield from http.read()):
                self._refuse("the bundle is longer than the %d bytes that it declares" % size)
        finally:
            http.close()
        yield from self.finish()


def _exists(path):
    try:
        os.stat(path)
    except OSError as error:
        _only_absent(error)
        return False
    return True


def _ask(http, path, start):
    # Requests a file from byte `start` on; `read` begins there even if the server sends the whole file.
    status, fields = yield from http.ask("GET", path, "Range: bytes=%d-\r\n" % start if start else "")
    if status == 404:
        raise UpdateError("the server has no %s" % path)
    if 300 <= status < 400:
        raise UpdateError("the server redirects to %s: give that address" % fields.get("location", "elsewhere"))
    if status not in (200, 206) or "transfer-encoding" in fields:
        raise UpdateError("the server's answer to %s is unusable: status %d" % (path, status))
    if status == 206:
        first, _, total = fields.get("content-range", "").partition("/")
        if not start or first[: first.find("-")] != "bytes %d" % start:
            raise UpdateError("the server sent another part than requested")
        http.length = int(total) if total.isdigit() else None
        start = 0
    while start:  # the server ignores ranges: skip these bytes
        start -= len((yield from http.read(start)) or http.ended())


def _address(url):
    # (host, port, path) of a bundle.
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    host, _, port = host.partition(":")
    if scheme != "http" or not host or not path.endswith(".elu") or port and not port.isdigit():
        raise UpdateError("%s: give http://HOST[:PORT]/NAME.elu (bundles are signed: they need no https)" % url)
    return host, int(port or 80), "/" + path


def _check_payload(file, head):
    # Checks the payload's SHA-256 against the signed header. Leaves the file at the payload's start.
    digest = hashlib.sha256()
    block = bytearray(_BLOCK)
    file.seek(HEADER_SIZE)
    while True:
        count = file.readinto(block)
        if not count:
            break
        digest.update(memoryview(block)[:count])
        yield
    if digest.digest() != head.payload_hash:
        raise UpdateError("the payload is damaged: its SHA-256 is not the header's")
    file.seek(HEADER_SIZE)


def _unpacked(file, head):
    # Unpacks at most the declared number of bytes; UpdateError if the payload unpacks to more or fewer.
    result = bytearray(head.result_size)
    view = memoryview(result)
    stream = _inflater()(file) if head.packing == _DEFLATE else file
    at = 0
    try:
        while at < len(result):
            count = stream.readinto(view[at : at + _BLOCK])
            if not count:
                break
            at += count
            yield
        more = stream.read(1)
    except EOFError:
        at = more = 0
    except OSError as error:
        if error.errno != 22:  # EINVAL: a damaged stream, not a failed read
            raise
        at = more = 0
    if at != len(result) or more:
        raise UpdateError("the payload does not unpack to %d bytes" % len(result))
    return result


def _inflater():
    # Returns a function that unpacks a file, or None without the module `deflate`.
    try:
        from deflate import RAW, DeflateIO
    except ImportError:
        return None
    return lambda file: DeflateIO(file, RAW, _WBITS)


def _add(result, origin):
    # result += origin, byte by byte; the origin counts as 0 beyond its end.
    for start in range(0, min(len(result), len(origin)), _BLOCK):
        for i in range(start, min(start + _BLOCK, len(result), len(origin))):
            result[i] = (result[i] + origin[i]) & 255
        yield
