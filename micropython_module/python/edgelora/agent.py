"""The device's end of the EdgeLoRA link (SPEC.md, section 10): frames, sessions and files.

The host lends it to boards that lack EdgeLoRA, so it imports no other module of the package; `_handlers` does.

`run()` serves requests in binary frames over the REPL's byte stream. It returns to the REPL on QUIT, on Ctrl-C
between frames, or after `idle_ms` without a byte from the host. What was loaded stays loaded until the board resets,
so a host that lost the connection continues where it was.
"""

import binascii
import gc
import hashlib
import io
import json
import os
import select
import struct
import sys
import time

import micropython

gc.collect()  # here and below: objects that stay lie close together, and leave one large block for models and arenas
try:
    import edgelora

    if not hasattr(edgelora, "__version__"):  # a folder of that name, without the module
        edgelora = None
except ImportError:
    edgelora = None
try:
    import _edgelora as _builtin  # the firmware's core; a native module contains its own
except ImportError:
    _builtin = None
try:
    from _edgelora_stdin import readinto as _read_waiting  # reads whole packets, without blocking
except ImportError:
    _read_waiting = None

LINK_VERSION = 2
_crc32 = getattr(getattr(edgelora, "_core", None), "crc32", binascii.crc32)  # the module's is twice as fast

_SYNC = 0xE5
_HEADER = 9
_STALL_MS = 300  # a frame that stalls this long is dropped
_QUIET_MS = 20  # after damage: wait for this much silence before asking again
_POSITIONS = 32  # positions of bytes 3 in a frame that are read at a time
# Bytes per blocking read: a USB packet; one byte on a desktop, where Ctrl-C does not end a blocking read.
_CHUNK = 1 if sys.platform in ("linux", "darwin") else 64
_FLUSH_BYTES = 65536  # most bytes of an upload that a power cut loses
_BLOCK = 4096
_ROOMY = 150000  # bytes of free heap: with these or more, frames have two blocks; with fewer, half a block
_FULL = 28  # errno ENOSPC
_ALIVE_MS = 1000  # between _WORKING frames while a request runs
_MOST_WORDS = 1000  # characters of an error message
_SPEECHLESS = b'{"kind": "MemoryError", "error": "no memory is left to say what went wrong; reset the board"}'

_OK, _WORKING, _NAK, _ERROR, _NO_SESSION = 0, 1, 2, 3, 4
_HELLO, _QUIT, _REPEAT = 1, 2, 3
_PUT_DATA, _GET_DATA = 0x11, 0x14
_MORE_OPS = 0x20  # ops from here on are in _handlers
_LARGE = (0x20, 0x34)  # ops that open a model, now or at the end of an update
_QUICK = (_PUT_DATA, _GET_DATA)  # answered without a _WORKING frame first

# Types of a request's fields, where these are not null; `_ELEMENTS` has those of the elements of lists.
_FIELDS = {str: ("path", "place", "name", "to", "do", "what", "mode", "source", "sha256", "text")}
_FIELDS[list] = ("paths", "names", "ops", "vote", "pins", "scales", "buttons")
_FIELDS[int] = ("session", "size", "skip", "count", "seed", "n", "ms", "learning_rate", "sleep_ms", "cache")
_SECRET = "fleet.key"  # a path with a part that begins so is never read, written or removed over the link
_ELEMENTS = {"paths": str, "names": str, "ops": int, "vote": int, "pins": int, "buttons": int}


class _Damaged(Exception):
    """The bytes that arrived were not a whole, intact frame."""


class _Line:
    """Frames over the REPL's stream. One request is in `body` at a time; `reply` builds the answer in place."""

    def __init__(self, max_payload):
        self.max_payload = max_payload
        self._stdin = sys.stdin.buffer
        self._stdout = sys.stdout.buffer
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        self._body = bytearray(max_payload + 4)
        self.body = memoryview(self._body)
        self._small = bytearray(2 * _POSITIONS)  # the rest of a header, then positions of 3s
        self._small_view = memoryview(self._small)
        self._working = bytearray(_HEADER + 4)
        self._spoken = 0  # when `_working` was sent last
        self._head = bytearray(_HEADER)
        self._head_view = memoryview(self._head)
        self._byte = memoryview(bytearray(1))
        self._out = bytearray(_HEADER + max_payload + 4)
        self._out_view = memoryview(self._out)
        self._out_end = 0
        self.payload = self._out_view[_HEADER : _HEADER + max_payload]  # where handlers put an answer

    def _waiting(self, milliseconds):
        for _ in self._poll.ipoll(milliseconds):
            return True
        return False

    def next_byte(self, milliseconds):
        """The next byte, or -1 if none comes in time."""
        if not self._waiting(milliseconds) or not self._stdin.readinto(self._byte):
            return -1
        return self._byte[0]

    def _read(self, buffer, view, end):
        # Fills buffer[:end]. Ctrl-C is enabled only here: no frame contains a byte 3, so one that arrives here is
        # damage, or a user who interrupts a read of bytes that never come.
        pos = 0
        micropython.kbd_intr(3)
        try:
            while pos < end:
                if not self._waiting(_STALL_MS):
                    raise _Damaged
                if _read_waiting:
                    pos = _read_waiting(buffer, pos, end)
                else:
                    pos += self._stdin.readinto(view[pos : min(pos + _CHUNK, end)])
        except KeyboardInterrupt:
            raise _Damaged from None
        finally:
            micropython.kbd_intr(-1)

    def receive(self):
        """Reads the rest of a frame after its sync byte: (sequence, op, payload size). The payload is in `body`."""
        head = self._head
        head[0] = _SYNC
        self._read(self._small, self._small_view, _HEADER - 1)
        self._head_view[1:] = self._small_view[: _HEADER - 1]
        size = head[3] & 127 | (head[4] & 127) << 7
        fixes = head[5] & 127 | (head[6] & 127) << 7
        check = _crc32(self._head_view[:7], 0)
        if head[7] != check & 127 | 128 or head[8] != check >> 7 & 127 | 128 or size > self.max_payload:
            raise _Damaged
        end = size + 4
        self._read(self._body, self.body, end)
        body = self._body
        listed = self._small
        while fixes:
            count = min(fixes, _POSITIONS)
            self._read(listed, self._small_view, 2 * count)
            for i in range(0, 2 * count, 2):
                position = listed[i] & 127 | (listed[i + 1] & 127) << 7
                if position >= end:
                    raise _Damaged
                body[position] = 3
            fixes -= count
        crc = _crc32(self.body[:size], _crc32(self._head_view[:5], 0))
        if crc != struct.unpack_from("<I", body, size)[0]:
            raise _Damaged
        return head[1] & 127, head[2] & 127, size

    def drain(self):
        """Discards input until the line is silent; returns True at once if the input contains a Ctrl-C."""
        while self._waiting(_QUIET_MS):
            if _read_waiting:
                count = _read_waiting(self._small, 0, len(self._small))
                if b"\x03" in bytes(self._small_view[:count]):
                    return True
            elif self.next_byte(0) == 3:
                return True
        return False

    def _seal(self, out, view, sequence, status, size):
        out[0] = _SYNC
        out[1] = sequence | 128
        out[2] = status | 128
        out[3] = size & 127 | 128
        out[4] = size >> 7 | 128
        out[5] = out[6] = 128
        check = _crc32(view[:7], 0)
        out[7] = check & 127 | 128
        out[8] = check >> 7 & 127 | 128
        end = _HEADER + size
        struct.pack_into("<I", out, end, _crc32(view[_HEADER:end], _crc32(view[:5], 0)))
        return _HEADER + size + 4

    def reply(self, sequence, status, size):
        """Sends the answer whose `size` bytes are in `payload`; `repeat` sends it again."""
        self._out_end = self._seal(self._out, self._out_view, sequence, status, size)
        self.repeat()

    def repeat(self):
        self._stdout.write(self._out_view[: self._out_end])

    def working(self, sequence):
        """Tells the host that its request has arrived and is running."""
        self._seal(self._working, memoryview(self._working), sequence, _WORKING, 0)
        self._stdout.write(self._working)
        self._spoken = time.ticks_ms()

    def alive(self):
        """Repeats the last `working` frame if it is `_ALIVE_MS` old; allocates nothing."""
        if time.ticks_diff(time.ticks_ms(), self._spoken) >= _ALIVE_MS:
            self._spoken = time.ticks_ms()
            self._stdout.write(self._working)

    def signal(self, sequence, status, payload=b""):
        """Sends a separate frame; the answer that `repeat` sends does not change."""
        out = bytearray(_HEADER + len(payload) + 4)
        out[_HEADER : _HEADER + len(payload)] = payload
        self._seal(out, memoryview(out), sequence, status, len(payload))
        self._stdout.write(out)


def _exists(path):
    try:
        return os.stat(path)[0] & 0x8000 != 0
    except OSError as error:
        if error.errno not in (2, 19):  # as edgelora._only_absent
            raise
        return False


def _make_folders(path):
    # Creates the folders of a file's path.
    end = path.find("/", 1)
    while end > 0:
        try:
            os.mkdir(path[:end])
        except OSError as error:
            if error.errno != 17:  # EEXIST
                raise
        end = path.find("/", end + 1)


def _hex(digest):
    return binascii.hexlify(digest.digest()).decode()


def _hash_of(path, line):
    # (size, SHA-256 in hex) of a file. Reads it into the answer's buffer, as the heap may be full, and tells the host
    # that it is alive. A CRC-32 is the same for all files of one size whose records end in their own CRC-32.
    block = line.payload
    size, digest = 0, hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            count = file.readinto(block)
            if not count:
                return size, _hex(digest)
            digest.update(block[:count])
            size += count
            line.alive()


def _replace(path, to):
    # The same as edgelora._replace, which a board may lack.
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno != 17:  # EEXIST: FAT does not rename onto a file
            raise
        os.remove(to)
        os.rename(path, to)


def _identity():
    try:
        import machine

        return binascii.hexlify(machine.unique_id()).decode()
    except (ImportError, AttributeError):
        return ""


def _largest():
    # Allocates about the largest free block of the heap.
    size = gc.mem_free()
    while size > 4096:
        try:
            return bytearray(size)
        except MemoryError:
            size -= size // 8


def _imported(name):
    """Imports a module of the package into gaps of the heap, so that models find the largest free block whole."""
    gc.collect()
    hold = _largest()
    try:
        module = __import__("edgelora." + name, None, None, ("*",))
    except MemoryError:
        hold = None
        gc.collect()
        module = __import__("edgelora." + name, None, None, ("*",))
    del hold
    gc.collect()
    return module


class _Agent:
    """Carries out requests. Handlers return a dict (sent as JSON) or the size of what they put in `line.payload`."""

    imported = staticmethod(_imported)

    def __init__(self, max_payload):
        self.line = _Line(max_payload)
        self.session = None  # the host's random number
        self.sequence = 0  # of the last request carried out
        self._upload = None
        self._download = None
        self._path = ""
        self._more = None  # `_handlers.Handlers` after the first request that needs the package's other modules
        self._by_op = {
            0x10: self._put_open,
            _PUT_DATA: self._put_data,
            0x12: self._put_done,
            0x13: self._stat,
            _GET_DATA: self._get_data,
            0x15: self._list,
            0x16: self._remove,
            0x17: self._space,
        }

    # --- frames

    def serve(self, idle_ms):
        line = self.line
        while True:
            byte = line.next_byte(idle_ms)
            if byte < 0 or byte == 3:
                return
            try:
                if byte != _SYNC:
                    if byte in b"\r\n":
                        continue
                    raise _Damaged
                sequence, op, size = line.receive()
            except (_Damaged, KeyboardInterrupt):
                if line.drain():
                    return
                line.signal(0, _NAK)
                continue
            if op == _QUIT:
                self.pause()  # before the answer, after which the host may send Ctrl-C
                line.signal(sequence, _OK)
                return
            if op == _HELLO:
                try:
                    line.signal(sequence, _OK, self._hello(size))
                except Exception as error:
                    line.signal(sequence, _ERROR, self._words(error))
            elif self.session is None:
                line.signal(sequence, _NO_SESSION)
            elif sequence == self.sequence:
                line.repeat()  # it was carried out: the answer got lost, or the request came twice
            elif op == _REPEAT:
                line.signal(sequence, _NAK)
            elif sequence == self.sequence % 127 + 1:
                self.sequence = sequence
                if op in _LARGE:
                    gc.collect()  # later calls allocate in the lowest gaps, not amid the block that the model needs
                self._answer(sequence, op, size)
            else:
                line.signal(sequence, _NO_SESSION)

    def _answer(self, sequence, op, size):
        line = self.line
        if op not in _QUICK:
            line.working(sequence)
        status = _OK
        try:
            handler = self._by_op.get(op) or (self._more_by_op() if op >= _MORE_OPS else {}).get(op)
            if handler is None:
                raise ValueError(f"unknown request {op}: the firmware is older than the host tools; update it")
            answer = handler(size)
            if not isinstance(answer, int):
                answer = self._put(json.dumps(answer).encode())
        except Exception as error:
            status = _ERROR
            answer = self._put(self._words(error))
        line.reply(sequence, status, answer)

    def _more_by_op(self):
        # Handlers of requests that need the package's other modules, which are imported on first use.
        if self._more is None:
            if edgelora is None:
                raise ValueError("this board has no EdgeLoRA: `edgelora install`, or flash its firmware")
            try:
                Handlers = _imported("_handlers").Handlers
            except ImportError:
                raise ValueError(
                    "this board's EdgeLoRA is older than the host tools: install or flash it again"
                ) from None
            self._more = Handlers(self)
            gc.collect()
        return self._more.by_op

    def _put(self, text):
        if len(text) > self.line.max_payload:
            raise ValueError(f"the answer of {len(text)} bytes does not fit a frame of {self.line.max_payload}")
        self.line.payload[: len(text)] = text
        return len(text)

    def _words(self, error):
        # The message about an error for the host, in any state of the heap.
        try:
            if isinstance(error, MemoryError):
                gc.collect()
            said = _describe(error, self._path)[:_MOST_WORDS]
            return json.dumps({"kind": type(error).__name__, "error": said}).encode()
        except Exception:
            return _SPEECHLESS

    def json(self, size):
        """The fields of a request, with their types checked."""
        self._path = ""
        request = json.loads(bytes(self.line.body[:size])) if size else {}
        if not isinstance(request, dict):
            raise ValueError("a request is a JSON object")
        for kind, names in _FIELDS.items():
            for name in names:
                value = request.get(name)
                if value is not None:
                    _check_kind(name, value, kind)
        for name, kind in _ELEMENTS.items():
            for value in request.get(name) or ():
                _check_kind(name, value, kind)
        for path in [request.get(name) for name in ("path", "place", "held", "adapter")] + (request.get("paths") or []):
            _check_open(path or "")
        self._path = request.get("path") or ""  # for error messages
        return request

    def check_least(self, size, least):
        """Raises ValueError if a request has fewer than `least` bytes."""
        if size < least:
            raise ValueError(f"{size} bytes are too few for this request: {least} at least")

    def _hello(self, size):
        session = self.json(size)["session"]
        if session is None:
            raise ValueError("session of a request is of type int, not null")
        resumed = session == self.session
        if not resumed:
            self.session = session
            self.sequence = 0
        gc.collect()
        return json.dumps(
            {
                "link": LINK_VERSION,
                "edgelora": edgelora and edgelora.__version__,
                "builtin": _builtin is not None,
                "board": sys.implementation._machine,
                "micropython": ".".join(str(part) for part in sys.implementation[1][:3]),
                "mpy": getattr(sys.implementation, "_mpy", 0),
                "free": gc.mem_free(),
                "id": _identity(),
                "max_payload": self.line.max_payload,
                "resumed": resumed,
                "sequence": self.sequence,
                "model": bool(self._more and self._more.model),
                "trained": self._more.trained if self._more else 0,
                "ticks_us": time.ticks_us(),
            }
        ).encode()

    # --- files

    def pause(self):
        """Writes an unfinished upload or update to flash; it resumes when the host is back."""
        if self._more:
            self._more.pause()
        if self._upload:
            try:
                self._upload[0].flush()
            except OSError as error:
                self._drop_upload(error)

    def _close_files(self):
        files = (self._upload, self._download)
        self._upload = self._download = None
        for entry in files:
            try:
                if entry:
                    entry[0].close()
            except OSError as error:
                if error.errno != _FULL:
                    raise
                # the host sends again what could not be written: an upload resumes at its file's size

    def download(self, name, data):
        """Makes GET_DATA send these bytes under a name; returns their size and SHA-256 for the host."""
        self._close_files()
        self._download = [io.BytesIO(data), name]
        return {"size": len(data), "sha256": _hex(hashlib.sha256(data))}

    def _put_open(self, size):
        request = self.json(size)
        self._close_files()
        path = request["path"]
        part = path + ".part"
        offset, found = 0, ""
        _make_folders(path)
        if _exists(part) and not request.get("fresh"):
            offset, found = _hash_of(part, self.line)
        self._upload = [open(part, "ab" if offset else "wb"), path, offset, request["size"], request["sha256"]]
        return {"offset": offset, "sha256": found}

    def _put_data(self, size):
        if not self._upload:
            raise ValueError("no upload is open")
        self.check_least(size, 4)
        upload = self._upload
        offset = struct.unpack_from("<I", self.line.body)[0]
        if offset != upload[2]:
            raise ValueError(f"the upload is at offset {upload[2]}, not {offset}")
        try:
            upload[0].write(self.line.body[4:size])
            upload[2] += size - 4
            if offset // _FLUSH_BYTES != upload[2] // _FLUSH_BYTES:
                upload[0].flush()
        except OSError as error:
            self._drop_upload(error)
            raise
        struct.pack_into("<I", self.line.payload, 0, upload[2])
        return 4

    def _drop_upload(self, error):
        file, path = self._upload[:2]
        self._upload = None
        if error.errno != _FULL:
            return  # no writes after a flash error: see edgelora._only_absent
        try:
            file.close()
        except OSError:
            pass  # closing writes what is buffered, and the disk is full
        os.remove(path + ".part")

    def _put_done(self, size):
        if not self._upload:
            raise ValueError("no upload is open")
        file, path, offset, want_size, want_hash = self._upload
        part = path + ".part"
        try:
            file.close()
        except OSError as error:
            self._drop_upload(error)
            raise
        self._upload = None
        if _hash_of(part, self.line) != (want_size, want_hash):
            os.remove(part)
            raise ValueError(f"{path} arrived damaged; the old file is unchanged, send it again")
        _replace(part, path)
        return {"sha256": want_hash}

    def _stat(self, size):
        request = self.json(size)
        self._close_files()
        length, found = _hash_of(request["path"], self.line)
        return {"size": length, "sha256": found}

    def _get_data(self, size):
        self.check_least(size, 8)
        offset, count = struct.unpack_from("<II", self.line.body)
        path = str(bytes(self.line.body[8:size]), "utf-8")
        _check_open(path)
        if not self._download or self._download[1] != path:
            self._close_files()
            self._download = [open(path, "rb"), path]
        self._download[0].seek(offset)
        count = self._download[0].readinto(self.line.payload[: min(count, self.line.max_payload)])
        if not count:
            self._close_files()
        return count

    def _list(self, size):
        request = self.json(size)
        entries = []
        room = self.line.max_payload - 64
        skip = request.get("skip", 0)
        found = (entry for entry in os.ilistdir(request["path"]) if not _is_secret(entry[0]))
        for index, entry in enumerate(found):
            if index < skip:
                continue
            room -= 16 + 2 * len(entry[0])
            if room < 0:
                return {"entries": entries, "more": True}
            path = request["path"].rstrip("/") + "/" + entry[0]
            entries.append([entry[0], -1 if entry[1] == 0x4000 else os.stat(path)[6]])
        return {"entries": entries, "more": False}

    def _remove(self, size):
        self._close_files()
        path = self.json(size)["path"]
        if self._more:
            self._more.forget(path)
        os.remove(path)
        return {}

    def _space(self, size):
        info = os.statvfs(self.json(size)["path"])
        # A full littlefs may report more used blocks than it has; the unsigned number of free blocks then wraps around.
        blocks = info[3] if 0 <= info[3] <= info[2] else 0
        return {"free": info[0] * blocks, "total": info[1] * info[2], "heap": gc.mem_free()}


def _check_kind(name, value, kind):
    # open() takes a number as a file descriptor: in place of a path, it could open the link's own stream.
    if not isinstance(value, kind):
        raise ValueError(f"{name} of a request: {kind.__name__} is expected, not {type(value).__name__}")


def _is_secret(path):
    # Checks each part of a path: littlefs also removes a file by "name/", "name//" and "name/.".
    return any(part.lower().startswith(_SECRET) for part in path.split("/"))


def _check_open(path):
    if _is_secret(path):
        raise ValueError(f"{path} is this board's secret: it does not go over the link")


def _describe(error, path):
    if isinstance(error, OSError):
        known = {
            2: "no such file or folder",
            17: "there is a file of that name",
            21: "this is a folder",
            5: "the flash could not be read or written; reset the board, then try again",
            _FULL: "the filesystem is full; remove files and send it again",
            30: "this filesystem is read-only",
        }
        return (path + ": " if path else "") + known.get(error.errno, f"error {error} of the filesystem")
    if isinstance(error, KeyError):
        return f"the request lacks {error}"
    return str(error) or type(error).__name__


_agent = None


def run(idle_ms: int = 20000, max_payload: int | None = None) -> None:
    """Serves a host on the REPL's stream until QUIT, Ctrl-C, or `idle_ms` without a byte from the host.

    max_payload: most bytes of a frame's payload; None: chosen by the free heap.
    """
    global _agent
    if _agent is None:
        gc.collect()
        if max_payload is None:  # leave memory for models where there is little
            gc.collect()
            max_payload = (2 * _BLOCK if gc.mem_free() >= _ROOMY else _BLOCK // 2) + 64
        _agent = _Agent(max_payload)
    micropython.kbd_intr(-1)
    try:
        _agent.serve(idle_ms)
    finally:
        micropython.kbd_intr(3)
        _agent.pause()
