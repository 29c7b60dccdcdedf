"""The device's end of the EdgeLoRA link (SPEC.md, section 10).

`run()` turns the REPL's byte stream into a channel of binary frames and serves requests: files, the model,
training. It returns, and the REPL is back, on QUIT, on Ctrl-C between frames, or when no host spoke for `idle_ms`.
What was loaded stays loaded until the board resets, so a host that lost the line goes on where it was.
"""

import binascii
import gc
import io
import json
import os
import select
import struct
import sys
import time
from array import array

import micropython

gc.collect()  # here and below: what stays lies close together, and leaves the heap in one piece for models and arenas
try:
    import edgelora

    if not hasattr(edgelora, "__version__"):  # a folder of that name, without the module
        edgelora = None
except ImportError:
    edgelora = None
try:
    import _edgelora as _builtin  # the firmware's own; a native module has its code inside
except ImportError:
    _builtin = None
try:
    from _edgelora_stdin import readinto as _read_waiting  # whole packets, without blocking
except ImportError:
    _read_waiting = None

LINK_VERSION = 1
_crc32 = getattr(edgelora, "core_crc32", binascii.crc32)  # the module's is twice as fast

_SYNC = 0xE5
_HEADER = 9
_STALL_MS = 300  # a frame that stands still this long is given up
_QUIET_MS = 20  # after damage: wait for this much silence before asking again
_POSITIONS = 32  # of 3s in a frame, taken at a time
# Bytes per read where reads block until all are there: a USB packet. One on a desktop, where Ctrl-C ends no such read.
_CHUNK = 1 if sys.platform in ("linux", "darwin") else 64
_FLUSH_BYTES = 65536  # of an upload are at risk when the power fails
_BLOCK = 4096
_ALIVE_MS = 1000  # between signs of life while a request is being carried out
_MOST_WORDS = 1000  # characters of an error message
_MOST_SLEEP_MS = 60000  # of a run between its steps: nobody can reach the board meanwhile
_SPEECHLESS = b'{"kind": "MemoryError", "error": "no memory is left to say what went wrong; reset the board"}'

_OK, _WORKING, _NAK, _ERROR, _NO_SESSION = 0, 1, 2, 3, 4
_HELLO, _QUIT, _REPEAT = 1, 2, 3
_PUT_DATA, _GET_DATA = 0x11, 0x14
_QUICK = (_PUT_DATA, _GET_DATA)  # answered without announcing work first
_LOCK_HEAP, _LOGITS = 1, 2

# What fields of a request are, where they are not null; and the elements of lists.
_FIELDS = {str: ("path", "place", "name", "to", "do", "what", "mode"), list: ("paths", "names", "ops")}
_FIELDS[int] = ("session", "size", "crc", "skip", "count", "seed", "n", "ms", "learning_rate", "sleep_ms", "cache")
_ELEMENTS = {"paths": str, "names": str, "ops": int}


class _Damaged(Exception):
    """What arrived was not a whole, intact frame."""


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
        # Fills buffer[:end]. Only this runs with Ctrl-C enabled: no frame holds a byte 3, so one arriving here is
        # damage, or someone who wants to get out of a read that waits for bytes which never come.
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
        """The rest of a frame whose sync byte was read: (sequence, op, payload size). The payload is in `body`."""
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
        """Discards input until it falls silent; True at once if a Ctrl-C is among it."""
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
        """Tells that the request has arrived, and is being carried out."""
        self._seal(self._working, memoryview(self._working), sequence, _WORKING, 0)
        self._stdout.write(self._working)
        self._spoken = time.ticks_ms()

    def alive(self):
        """Tells it again if it is a while ago; takes nothing from the heap."""
        if time.ticks_diff(time.ticks_ms(), self._spoken) >= _ALIVE_MS:
            self._spoken = time.ticks_ms()
            self._stdout.write(self._working)

    def signal(self, sequence, status, payload=b""):
        """Sends a frame apart, leaving the answer that `repeat` sends as it is."""
        out = bytearray(_HEADER + len(payload) + 4)
        out[_HEADER : _HEADER + len(payload)] = payload
        self._seal(out, memoryview(out), sequence, status, len(payload))
        self._stdout.write(out)


def _exists(path):
    try:
        return os.stat(path)[0] & 0x8000 != 0
    except OSError:
        return False


def _make_folders(path):
    # Those that a file will be in.
    end = path.find("/", 1)
    while end > 0:
        try:
            os.mkdir(path[:end])
        except OSError:
            pass  # it is there, or opening the file tells what is wrong
        end = path.find("/", end + 1)


def _crc_of(path, alive, digest=None):
    # (size, CRC-32) of a file; feeds `digest` too, and calls `alive` now and then.
    block = bytearray(_BLOCK)
    view = memoryview(block)
    size = crc = 0
    with open(path, "rb") as file:
        while True:
            count = file.readinto(block)
            if not count:
                return size, crc
            crc = _crc32(view[:count], crc)
            if digest:
                digest.update(view[:count])
            size += count
            alive()


def _replace(source, target):
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != 17:  # EEXIST: FAT does not rename onto a file
            raise
        os.remove(target)
        os.rename(source, target)


def _identity():
    try:
        import machine

        return binascii.hexlify(machine.unique_id()).decode()
    except (ImportError, AttributeError):
        return ""


class _Cache:
    """Features of up to `count` samples, which come in order, in RAM or, given a path, in a file."""

    def __init__(self, size, count, path):
        self.path = path
        self._size, self._count, self._kept = size, count, 0
        self._file = open(path, "w+b") if path else None
        try:
            self._slots = [bytearray(size) for _ in range(1 if path else count)]
        except MemoryError:
            raise MemoryError(f"no room for a feature cache of {size * count} bytes in RAM; keep it in flash")

    def slot(self, i):
        """Where the features of the next sample go."""
        if i != self._kept or i >= self._count:
            raise ValueError(f"sample {i} does not come next: {self._kept} of {self._count} are in the feature cache")
        return self._slots[0 if self._file else i]

    def store(self):
        if self._file:
            self._file.write(self._slots[0])
        self._kept += 1

    def check(self, i):
        if i >= self._kept:
            raise ValueError(f"sample {i} is not in the feature cache of {self._kept}")

    def sync(self):
        if self._file:
            self._file.flush()

    def load(self, i):
        """A checked sample's features; from a file, until the next is loaded."""
        if not self._file:
            return self._slots[i]
        self._file.seek(i * self._size)
        self._file.readinto(self._slots[0])
        return self._slots[0]

    def close(self):
        if self._file:
            self._file.close()


class _Agent:
    """Carries out requests. Handlers return a dict (sent as JSON) or the size of what they put in `line.payload`."""

    def __init__(self, max_payload):
        self.line = _Line(max_payload)
        self.session = None  # the host's random number
        self.sequence = 0  # of the last request carried out
        self.model = None
        self.trained = 0  # samples since begin or load
        self._upload = None
        self._download = None
        self._cache = None
        self._store = self._place = None  # kept until a model is opened, which may need its room, or the host goes
        self._update = None
        self._scheduler = None  # of the run that the board does by itself,
        self._window = None  # the window it is in,
        self._learned = []  # and what it has learned since the host last asked: (loss, microseconds)
        self._path = ""
        self._handlers = {
            0x10: self._put_open,
            _PUT_DATA: self._put_data,
            0x12: self._put_done,
            0x13: self._stat,
            _GET_DATA: self._get_data,
            0x15: self._list,
            0x16: self._remove,
            0x17: self._space,
            0x20: self._model,
            0x21: self._begin,
            0x22: self._load,
            0x23: self._train,
            0x24: self._evaluate,
            0x25: self._flush,
            0x26: self._save,
            0x27: self._use,
            0x28: self._bench,
            0x29: self._cache_open,
            0x2A: self._cache_put,
            0x2B: self._train_cached,
            0x30: self._in_store,
            0x34: self._update_open,
            0x35: self._update_data,
            0x36: self._update_done,
            0x37: self._update_state,
            0x38: self._run_start,
            0x39: self._run_go,
            0x3A: self._run_suspend,
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
                self.pause()  # before the host hears of it, and may interrupt what comes next
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
                line.repeat()  # it has been carried out: the answer got lost, or it came twice
            elif op == _REPEAT:
                line.signal(sequence, _NAK)
            elif sequence == self.sequence % 127 + 1:
                self.sequence = sequence
                self._answer(sequence, op, size)
            else:
                line.signal(sequence, _NO_SESSION)

    def _answer(self, sequence, op, size):
        line = self.line
        if op not in _QUICK:
            line.working(sequence)
        status = _OK
        try:
            handler = self._handlers.get(op)
            if handler is None:
                raise ValueError(f"unknown request {op}: the firmware is older than the host tools; update it")
            answer = handler(size)
            if not isinstance(answer, int):
                answer = self._put(json.dumps(answer).encode())
        except Exception as error:
            status = _ERROR
            answer = self._put(self._words(error))
        line.reply(sequence, status, answer)

    def _put(self, text):
        if len(text) > self.line.max_payload:
            raise ValueError(f"the answer of {len(text)} bytes does not fit a frame of {self.line.max_payload}")
        self.line.payload[: len(text)] = text
        return len(text)

    def _words(self, error):
        # What the host hears of an error, whatever state the heap is in.
        try:
            if isinstance(error, MemoryError):
                gc.collect()
            said = _describe(error, self._path)[:_MOST_WORDS]
            return json.dumps({"kind": type(error).__name__, "error": said}).encode()
        except Exception:
            return _SPEECHLESS

    def _json(self, size):
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
        self._path = request.get("path") or ""  # what an error message names
        return request

    def _check_least(self, size, least):
        if size < least:
            raise ValueError(f"{size} bytes are too few for this request: {least} at least")

    def _hello(self, size):
        session = self._json(size)["session"]
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
                "model": self.model is not None,
                "trained": self.trained,
                "ticks_us": time.ticks_us(),
            }
        ).encode()

    # --- files

    def pause(self):
        """Puts a half-done upload or update safely into flash; it goes on when the host is back.

        Programs that run meanwhile may change the store.
        """
        self._store = None
        if self._upload:
            try:
                self._upload[0].flush()
            except OSError:
                self._drop_upload()  # the filesystem is full
        if self._update:
            self._update.close()
            self._update = None

    def _close_files(self):
        files = (self._upload, self._download)
        self._upload = self._download = None
        for entry in files:
            try:
                if entry:
                    entry[0].close()
            except OSError:
                pass  # what could not be written comes again: an upload counts what is in its file

    def _put_open(self, size):
        request = self._json(size)
        self._close_files()
        path = request["path"]
        part = path + ".part"
        offset = crc = 0
        _make_folders(path)
        if _exists(part) and not request.get("fresh"):
            offset, crc = _crc_of(part, self.line.alive)
        self._upload = [open(part, "ab" if offset else "wb"), path, offset, request["size"], request["crc"]]
        return {"offset": offset, "crc": crc}

    def _put_data(self, size):
        if not self._upload:
            raise ValueError("no upload is open")
        self._check_least(size, 4)
        upload = self._upload
        offset = struct.unpack_from("<I", self.line.body)[0]
        if offset != upload[2]:
            raise ValueError(f"the upload is at offset {upload[2]}, not {offset}")
        try:
            upload[0].write(self.line.body[4:size])
            upload[2] += size - 4
            if offset // _FLUSH_BYTES != upload[2] // _FLUSH_BYTES:
                upload[0].flush()
        except OSError:
            self._drop_upload()
            raise
        struct.pack_into("<I", self.line.payload, 0, upload[2])
        return 4

    def _drop_upload(self):
        file, path = self._upload[:2]
        self._upload = None
        try:
            file.close()
        except OSError:
            pass  # closing writes what is buffered, and the disk is full
        os.remove(path + ".part")

    def _put_done(self, size):
        if not self._upload:
            raise ValueError("no upload is open")
        file, path, offset, want_size, want_crc = self._upload
        part = path + ".part"
        try:
            file.close()
        except OSError:
            self._drop_upload()
            raise
        self._upload = None
        if _crc_of(part, self.line.alive) != (want_size, want_crc):
            os.remove(part)
            raise ValueError(f"{path} arrived damaged; the old file is unchanged, send it again")
        _replace(part, path)
        return {"crc": want_crc}

    def _stat(self, size):
        request = self._json(size)
        self._close_files()
        digest = None
        if request.get("sha256"):
            import hashlib

            digest = hashlib.sha256()
        length, crc = _crc_of(request["path"], self.line.alive, digest)
        return {"size": length, "crc": crc, "sha256": binascii.hexlify(digest.digest()).decode() if digest else ""}

    def _get_data(self, size):
        self._check_least(size, 8)
        offset, count = struct.unpack_from("<II", self.line.body)
        path = str(bytes(self.line.body[8:size]), "utf-8")
        if not self._download or self._download[1] != path:
            self._close_files()
            self._download = [open(path, "rb"), path]
        self._download[0].seek(offset)
        count = self._download[0].readinto(self.line.payload[: min(count, self.line.max_payload)])
        if not count:
            self._close_files()
        return count

    def _list(self, size):
        request = self._json(size)
        entries = []
        room = self.line.max_payload - 64
        skip = request.get("skip", 0)
        for index, entry in enumerate(os.ilistdir(request["path"])):
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
        path = self._json(size)["path"]
        if self._cache and self._cache.path == path:
            self._drop_cache()
        os.remove(path)
        return {}

    def _space(self, size):
        info = os.statvfs(self._json(size)["path"])
        # A full littlefs may count more blocks in use than it has: free ones are then below 0, as an unsigned number.
        blocks = info[3] if 0 <= info[3] <= info[2] else 0
        return {"free": info[0] * blocks, "total": info[1] * info[2], "heap": gc.mem_free()}

    # --- model

    def _opened(self):
        if self.model is None:
            raise ValueError("no model is open: open one first")
        return self.model

    def _model(self, size):
        if edgelora is None:
            raise ValueError("this firmware has no edgelora module: flash EdgeLoRA firmware or copy the .mpy")
        request = self._json(size)
        path = request.pop("path")
        for name in ("ranks", "recompute"):
            if isinstance(request.get(name), list):
                request[name] = bytes(request[name])
        self._drop_cache()
        self.model = self._scheduler = self._window = self._store = None
        self.trained = 0
        gc.collect()
        self.model = model = edgelora.Model(path, **request)
        gc.collect()
        return {
            "arena": len(model.arena),
            "base_id": binascii.hexlify(model.base_id).decode(),
            "input_size": model.input_size,
            "sample_size": model.sample_size,
            "output_size": model.output_size,
            "feature_size": model.feature_size,
            "ranks": list(model.ranks),
            "mode": model.mode,
            "labels": list(model.labels),
            "free": gc.mem_free(),
        }

    def _begin(self, size):
        self._opened().begin(self._json(size)["seed"])
        self.trained = 0
        return {}

    def _load(self, size):
        self._opened().load(self._json(size)["path"])
        self.trained = 0
        return {}

    def _windows(self, start, size, stride, skip):
        # Views of the windows in a request, made before the heap is locked.
        if size <= start or (size - start) % stride:
            raise ValueError(f"{size - start} bytes are no whole number of samples of {stride}")
        return [self.line.body[at + skip : at + stride] for at in range(start, size, stride)]

    def _train(self, size):
        model = self._opened()
        label = model.target_size or 1
        stride = label + model.sample_size
        windows = self._windows(4, size, stride, label)
        return self._train_each(model.train, lambda i: windows[i], stride, len(windows))

    def _cache_open(self, size):
        request = self._json(size)
        model = self._opened()
        self._drop_cache()
        gc.collect()
        self._cache = _Cache(model.feature_size, request["count"], request["path"])
        return {"feature_size": model.feature_size}

    def _drop_cache(self):
        cache, self._cache = self._cache, None
        if cache:
            cache.close()

    def _cached(self):
        if not self._cache:
            raise ValueError("no feature cache is open: open one first")
        return self._cache

    def _cache_put(self, size):
        model, cache = self._opened(), self._cached()
        first = struct.unpack_from("<H", self.line.body)[0]
        for i, window in enumerate(self._windows(4, size, model.sample_size, 0)):
            model.features(window, cache.slot(first + i))
            cache.store()
            self.line.alive()
        return {}

    def _train_cached(self, size):
        model, cache = self._opened(), self._cached()
        label = model.target_size or 1
        samples = self._windows(4, size, label + 2, label)
        for sample in samples:  # while there is memory for a message
            cache.check(sample[0] | sample[1] << 8)
        cache.sync()
        return self._train_each(
            model.train_features, lambda i: cache.load(samples[i][0] | samples[i][1] << 8), label + 2, len(samples)
        )

    def _train_each(self, train, fetch, stride, count):
        # Trains on samples whose labels are `stride` bytes apart in the request.
        learning_rate, flags = struct.unpack_from("<HB", self.line.body)
        if 8 + 4 * count > self.line.max_payload:
            raise ValueError(f"{count} samples are too many for one request")
        line, body = self.line, self.line.body
        target = self.model.target_size  # 0: a label
        labels = [body[at : at + target] if target else body[at] for at in range(4, 4 + count * stride, stride)]
        losses = array("i", bytes(4 * count))
        gc.collect()
        if flags & _LOCK_HEAP:
            micropython.heap_lock()
        try:
            start = time.ticks_us()
            for i in range(count):
                losses[i] = train(fetch(i), labels[i], learning_rate)
                self.trained += 1
                line.alive()
            elapsed = time.ticks_diff(time.ticks_us(), start)
        finally:
            if flags & _LOCK_HEAP:
                micropython.heap_unlock()
        struct.pack_into("<II", self.line.payload, 0, self.trained, elapsed)
        self.line.payload[8 : 8 + 4 * count] = bytes(losses)
        return 8 + 4 * count

    def _evaluate(self, size):
        model, line = self._opened(), self.line
        flags = self.line.body[0]
        windows = self._windows(4, size, model.sample_size, 0)
        count = len(windows)
        out = self.line.payload
        width = model.output_size
        answer = 4 + count + (count * width if flags & _LOGITS else 0)
        if answer > self.line.max_payload:
            raise ValueError(f"{count} samples are too many for one request")
        logits = [out[at : at + width] for at in range(4 + count, answer, width)]
        raw = memoryview(model.output) if logits else None
        gc.collect()
        elapsed = 0
        if flags & _LOCK_HEAP:
            micropython.heap_lock()
        try:
            for i in range(count):
                start = time.ticks_us()
                out[4 + i] = model.infer_sample(windows[i])
                elapsed += time.ticks_diff(time.ticks_us(), start)
                if logits:
                    row = logits[i]
                    for j in range(width):
                        row[j] = raw[j] & 255
                line.alive()
        finally:
            if flags & _LOCK_HEAP:
                micropython.heap_unlock()
        struct.pack_into("<I", out, 0, elapsed)
        return answer

    # --- the board by itself

    def _run_start(self, size):
        from edgelora import training

        request = self._json(size)
        model, name = self._opened(), request["name"]
        self._scheduler = self._window = None
        gc.collect()
        if not 0 <= request.get("sleep_ms", 0) <= _MOST_SLEEP_MS:
            raise ValueError(f"sleep_ms of {request['sleep_ms']}: 0 to {_MOST_SLEEP_MS} over the link")
        store = self._opened_store()
        if not request.get("resume"):
            training.discard(store, name)
        resumed = training.unfinished(store, name)
        settings = [request[key] for key in ("epochs", "seed", "learning_rate", "commit_every")]
        run = training.Run(model, training.SampleFile(request["path"]), store, name, *settings)
        milliwatts = request.get("power_mw")
        self._scheduler = training.Scheduler(
            run,
            clock_hz=request.get("clock_hz"),
            sleep_ms=request.get("sleep_ms", 0),
            budget_ms=request.get("budget_ms"),
            budget_mj=request.get("budget_mj"),
            power=milliwatts and (lambda hz: milliwatts),
            sleep_mw=request.get("sleep_mw", 0),
            sleep=time.sleep_ms,  # light sleep could lose what the host sends
        )
        self._window = iter(self._scheduler)
        run.watch = lambda run: self._learned.append((run.loss, run.step_us))
        return {"resumed": resumed, "notice": run.notice} | self._progress()

    def _run_go(self, size):
        until = time.ticks_add(time.ticks_ms(), self._json(size)["ms"])
        self._running()
        for _ in self._window:
            self.line.alive()
            if len(self._learned) >= 200 or time.ticks_diff(time.ticks_ms(), until) >= 0:
                break
        return self._progress()

    def _run_suspend(self, size):
        self._running()
        self._scheduler.suspend()
        return self._progress()

    def _running(self):
        if not self._scheduler:
            raise ValueError("no run has been started: start one, or resume it")
        return self._scheduler.training

    def _progress(self):
        run = self._running()
        self.trained = run.position
        learned, self._learned = self._learned, []
        return {
            "state": self._scheduler.state,
            "losses": [loss for loss, _ in learned],
            "times_us": [us for _, us in learned],
            "samples": run.position,
            "updates": run.updates,
            "pending": run.pending,
            "resumes": run.resumes,
            "busy_us": run.busy_us,
            "energy_uj": run.energy_uj,
            "checkpoint": run.checkpoint_size,
            "crc": run.store.find(run.name).crc if run.done else None,
        }

    def _flush(self, size):
        self._opened().flush(self._json(size)["learning_rate"])
        return {}

    def _save(self, size):
        request = self._json(size)
        self._opened().save(request["path"], request["state"])
        return {"trained": self.trained}

    def _use(self, size):
        path = self._json(size)["path"]
        model = self._opened()
        model.use(model.adapter(path) if path else None)
        return {}

    def _bench(self, size):
        request = self._json(size)
        model = self._opened()
        what = request["what"]
        count = min(request["n"], 1000)
        if count < 1:
            raise ValueError(f"{count} runs: 1 at least")
        window = bytearray(model.input_size)
        label = bytearray(model.target_size) if model.target_size else 0
        first, end = request.get("ops", (0, 0))
        if what == "infer":
            call, steps = model.infer, (window,)
        elif what == "ops":
            call, steps = (lambda x: model.forward_range(x, first, end)), (window,)
        elif what == "backward":
            call, steps = (lambda x: model.backward_range(x, first, end)), (window,)
        elif what == "train":
            call, steps = (lambda x: model.train(x, label, 0)), (bytearray(model.sample_size),)
        elif what == "train_features":
            call, steps = (lambda x: model.train_features(x, label, 0)), (bytearray(model.feature_size),)
        elif what == "merge":
            call, steps = model.merge, (first,)
        elif what == "swap":
            call, steps = model.use, [model.adapter(path) for path in request["paths"]]
        elif what == "swap_file":
            call, steps = model.use_file, [edgelora.AdapterFile(path) for path in request["paths"]]
        elif what == "swap_store":
            self._store = None
            store = self._opened_store(request.get("place"), request["cache"])
            store.open(model)
            call, steps = store.use, request["names"]
            for name in steps:
                call(name)
        else:
            raise ValueError(f"nothing named {what} to measure")
        total = worst = 0
        best = 1 << 30
        clock, usual = request.get("clock_hz"), None
        if clock:
            import machine

            if not hasattr(machine, "freq"):
                raise ValueError("this board's clock can't be set: leave clock_hz out")
            usual = machine.freq()
            machine.freq(clock)
        try:
            for i in range(count):
                step = steps[i % len(steps)]
                gc.collect()
                start = time.ticks_us()
                call(step)
                took = time.ticks_diff(time.ticks_us(), start)
                total += took
                best = min(best, took)
                worst = max(worst, took)
                self.line.alive()
        finally:
            if usual:
                machine.freq(usual)
        return {"n": count, "total_us": total, "min_us": best, "max_us": worst}

    # --- store

    def _opened_store(self, place=None, cache=8192):
        # The board's own, or the one in a folder.
        if self._store is None or self._place != place:
            from edgelora.store import Store, default_place

            self._store = None
            gc.collect()
            self._store = Store(place or default_place(), cache)
            self._place = place
        return self._store

    def _in_store(self, size):
        request = self._json(size)
        do, name = request["do"], request.get("name")
        if name is None and do not in ("list", "activate"):
            raise ValueError(f"{do} needs a name")
        store = self._opened_store(request.get("place"))
        if do == "put":
            data = edgelora.read(request["path"])
            gc.collect()
            return {"version": store.put(name, data, request.get("version"))}
        if do == "get":
            self._close_files()
            data = store.read(name)
            self._download = [io.BytesIO(data), ":" + name]
            return {"size": len(data), "crc": _crc32(data, 0)}
        if do == "activate":
            if self.model:
                store.open(self.model)
            store.activate(name)
        elif do == "rename":
            store.rename(name, request["to"])
        elif do == "remove":
            store.remove(name)
        elif do == "pin":
            store.pin(name, request["on"])
        elif do != "list":
            raise ValueError(f"nothing named {do} to do with the store")
        return self._store_list(store, request.get("skip", 0))

    def _store_list(self, store, skip):
        entries = store.list()
        room = self.line.max_payload - 1024
        rows = []
        while room > 0 and skip + len(rows) < len(entries):
            rows.append(_row(entries[skip + len(rows)]))
            room -= 120
        return {
            "adapters": rows,
            "more": skip + len(rows) < len(entries),
            "active": store.active,
            "free": store.free(),
            "place": store.place,
            "notices": store.notices,
        }

    # --- updates

    def _update_open(self, size):
        from edgelora.update import Updater, trusted

        self._update = Updater(self._opened_store(), *trusted())
        return {"offset": self._update.begin(bytes(self.line.body[:size]))}

    def _updating(self):
        if not self._update:
            raise ValueError("no update has begun: send the bundle again, it goes on where it was")
        return self._update

    def _update_data(self, size):
        self._check_least(size, 4)
        update = self._updating()
        offset = struct.unpack_from("<I", self.line.body)[0]
        if offset != update.kept:
            raise ValueError(f"the update is at offset {update.kept}, not {offset}")
        update.write(self.line.body[4:size])
        struct.pack_into("<I", self.line.payload, 0, update.kept)
        return 4

    def _update_done(self, size):
        update = self._updating()
        gc.collect()
        for _ in update.finish():
            self.line.alive()
        return {"name": update.name, "version": update.version}

    def _update_state(self, size):
        from edgelora.update import UpdateError, key_id, trusted

        store = self._opened_store()
        confirmed = store.confirm() if self._json(size)["confirm"] else []
        try:
            keys, target = trusted()
        except UpdateError:
            keys, target = [], ""
        return {
            "target": target,
            "keys": [edgelora.hex_id(key_id(key)) for key in keys],
            "adapters": [_row(entry) for entry in store.list()],
            "active": store.active,
            "confirmed": confirmed,
            "notices": store.notices,
        }


def _row(entry):
    # What the host hears of an adapter in the store.
    base = edgelora.hex_id(entry.base_id)
    return entry.name, entry.version, entry.size, base, entry.pinned, entry.trial


def _check_kind(name, value, kind):
    # A number in place of a path would open a file that is open already: the link's own.
    if not isinstance(value, kind):
        raise ValueError(f"{name} of a request: {kind.__name__} is expected, not {type(value).__name__}")


def _describe(error, path):
    if isinstance(error, OSError):
        known = {
            2: "no such file or folder",
            17: "there is a file of that name",
            21: "this is a folder",
            28: "the filesystem is full; remove files and send it again",
            30: "this filesystem is read-only",
        }
        return (path + ": " if path else "") + known.get(error.errno, f"error {error} of the filesystem")
    if isinstance(error, KeyError):
        return f"the request lacks {error}"
    return str(error) or type(error).__name__


_agent = None


def run(idle_ms=20000, max_payload=2 * _BLOCK + 64):
    """Serves a host on the REPL's stream until it quits, Ctrl-C, or `idle_ms` without a word from it."""
    global _agent
    if _agent is None:
        gc.collect()
        _agent = _Agent(max_payload)
    micropython.kbd_intr(-1)
    try:
        _agent.serve(idle_ms)
    finally:
        micropython.kbd_intr(3)
        _agent.pause()
