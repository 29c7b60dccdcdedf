"""The host's end of the link to a board (SPEC.md, section 10): files, the model and training over its serial port.

with Link.connect("/dev/ttyACM0") as link:
    link.put("/me.ela", data)
    link.open_model("/rom/har.elm")
    link.begin(seed=1)
    reply = link.train(windows, labels, learning_rate=8192)
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress

from .channel import Channel
from .protocol import Op
from .replies import (
    DeviceError,
    Entry,
    EvalReply,
    FileStat,
    FleetBudget,
    FleetState,
    FleetWork,
    JudgeReply,
    LinkError,
    ListenReply,
    ModelInfo,
    MonitorReply,
    RowsReply,
    RunReply,
    Space,
    StoredAdapter,
    StoreState,
    Timing,
    TrainReply,
    UpdateState,
    WatchReply,
    WordsReply,
    all_understood,
)

PUT_BLOCK = 8192
MOST_FILE = 1 << 26  # bytes: more than any board's flash
MOST_LISTED = 10_000  # limit of a folder's files, and of a store's adapters
ROSTER_UPLOAD = "/fleet.roster.new"  # of a roster until its signature is verified
FLEET_REPLY = ":fleet"  # the name of a board's reply in GET_DATA
STORE_UPLOAD = "/store.upload"  # of an adapter on the board until it is in the store


@all_understood
class Link(Channel):
    """The requests to a board. Use as a context manager; leaving it leaves the board at a usable REPL."""

    # --- files

    def put(self, path: str, data: bytes, progress: Progress = no_progress) -> None:
        """Writes a file atomically. An interrupted upload continues where it stopped if called again.

        progress: in bytes. Raises DeviceError, such as for a full filesystem; the old file stays.
        """
        whole = {"path": path, "size": len(data), "sha256": _sha256(data)}
        have = self._control(Op.PUT_OPEN, **whole)
        offset, size = have["offset"], len(data)
        if offset > size or offset and have["sha256"] != _sha256(data[:offset]):
            offset = self._control(Op.PUT_OPEN, **whole, fresh=True)["offset"]
        _check_offset(offset, size)
        block = min(PUT_BLOCK, self._max_payload - 4)
        while offset < size:
            step = min(block - offset % block, size - offset)  # stay aligned with the filesystem's blocks
            self._request(Op.PUT_DATA, struct.pack("<I", offset) + data[offset : offset + step])
            offset += step
            progress(offset, size, "bytes")
        self._control(Op.PUT_DONE)

    def get(self, path: str, progress: Progress = no_progress) -> bytes:
        """Reads a file and verifies its SHA-256."""
        return self._download(path, self.stat(path), progress)

    def _download(self, path: str, whole: FileStat, progress: Progress = no_progress) -> bytes:
        data = bytearray()
        name = path.encode()
        if not 0 <= whole.size <= MOST_FILE:
            raise LinkError(f"the board reports {whole.size} bytes for {path}, the limit is {MOST_FILE}: reset it")
        while len(data) < whole.size:
            part = self._request(Op.GET_DATA, struct.pack("<II", len(data), PUT_BLOCK) + name)
            if not part:
                break
            data += part
            progress(len(data), whole.size, "bytes")
        if _sha256(data) != whole.sha256:
            raise LinkError(f"{path} changed on the board while it was read; try again")
        return bytes(data)

    def stat(self, path: str) -> FileStat:
        """Size and SHA-256 of a file, computed on the board."""
        return _file_stat(self._control(Op.STAT, path=path))

    def list(self, path: str = "/") -> list[Entry]:
        """The entries of a folder."""
        entries: list[Entry] = []
        while True:
            answer = self._control(Op.LIST, path=path, skip=len(entries))
            entries += [Entry(name, None if size < 0 else size) for name, size in answer["entries"]]
            if not _more(answer, "entries", len(entries)):
                return entries

    def holds(self, path: str, content: bytes) -> bool:
        """Whether the file `path` exists with this content."""
        return self.size(path) == len(content) and self.stat(path).sha256 == _sha256(content)

    def size(self, path: str) -> int | None:
        """Size of a file in bytes; None if it does not exist."""
        folder, _, name = path.rpartition("/")
        try:
            return {entry.name: entry.size for entry in self.list(folder or "/")}.get(name)
        except DeviceError:
            return None

    def remove(self, path: str) -> None:
        """Deletes a file."""
        self._control(Op.REMOVE, path=path)

    def space(self, path: str = "/") -> Space:
        """Free space of the filesystem that has `path`, and of the heap."""
        return Space(**self._control(Op.SPACE, path=path))

    # --- model

    def open_model(
        self,
        path: str,
        ranks: int | Sequence[int] = 4,
        mode: str = "frozen_a",
        micro_batch: int = 8,
        momentum: int = 0,
        recompute: Sequence[int] | None = None,
        threshold: int = 0,
        plain: bool = False,
        frames: int = 1,
        cores: int = 1,
    ) -> ModelInfo:
        """Opens a base on the board; arguments as for the device's `edgelora.Model`."""
        wanted = ranks if isinstance(ranks, int) else [int(rank) for rank in ranks]
        more: dict[str, Any] = {"recompute": list(recompute)} if recompute else {}
        if threshold or plain:
            more |= {"threshold": threshold, "plain": plain}
        if frames != 1:
            more["frames"] = frames
        if cores != 1:
            more["cores"] = cores
        answer = self._control(
            Op.MODEL, path=path, ranks=wanted, mode=mode, micro_batch=micro_batch, momentum=momentum, **more
        )
        info = ModelInfo(**answer)
        self._sample_size, self._output_size = info.sample_size, info.output_size
        self._listening = 0
        return info

    def begin(self, seed: int = 0) -> None:
        """Starts training with a fresh adapter."""
        self._control(Op.BEGIN, seed=seed)

    def load(self, path: str) -> None:
        """Continues training from an adapter file on the board."""
        self._control(Op.LOAD, path=path)

    def train(
        self,
        windows: np.ndarray,
        labels: np.ndarray | Sequence[int],
        learning_rate: int,
        lock_heap: bool = True,
        progress: Progress = no_progress,
    ) -> TrainReply:
        """Trains on samples in order. windows: int8 [n, ...]; labels: [n] or, if the loss needs them, int8 targets.

        lock_heap: fail if training allocates memory on the board. progress: in samples.
        """
        windows = self._windows(windows)
        samples = np.concatenate([self._labels(labels, len(windows)), windows.view(np.uint8)], axis=1)
        return self._train(Op.TRAIN, samples, learning_rate, lock_heap, progress)

    def cache(self, windows: np.ndarray, path: str | None = None, progress: Progress = no_progress) -> int:
        """Caches on the board, for `train_cached`, the outputs of the layers below the lowest adapter for int8 windows.

        Windows are [n, ...]. The cache is in RAM or, given a path, in a file on the board, until another model is
        opened or the file is removed. Returns bytes per sample.
        """
        windows = self._windows(windows)
        if len(windows) > 65536:
            raise InputError(f"{len(windows)} samples are too many for a feature cache; the highest index is 65535")
        size = self._control(Op.CACHE_OPEN, path=path, count=len(windows))["feature_size"]
        for start, part in self._parts(windows, 4, 1):
            self._request(Op.CACHE_PUT, struct.pack("<HH", start, 0) + part.tobytes())
            progress(start + len(part), len(windows), "windows")
        return int(size)

    def train_cached(
        self, picked: np.ndarray, labels: np.ndarray, learning_rate: int, lock_heap: bool = True
    ) -> TrainReply:
        """`train` on cached samples, by indices [n], with labels [n]: bit-identical to `train`."""
        numbers = np.array(picked)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() <= 65535:
            raise InputError("samples of a feature cache have indices from 0 to 65535")
        numbers = numbers.astype("<u2")[:, None].view(np.uint8)
        samples = np.concatenate([self._labels(labels, len(picked)), numbers], axis=1)
        return self._train(Op.TRAIN_CACHED, samples, learning_rate, lock_heap, no_progress)

    def _labels(self, labels: np.ndarray | Sequence[int], count: int) -> np.ndarray:
        """Labels [n] as bytes [n, 1], or int8 targets [n, ...] unchanged."""
        labels = np.asarray(labels)
        if len(labels) != count:
            raise InputError(f"{count} samples but {len(labels)} labels")
        if labels.dtype == np.int8:
            return labels.reshape(count, -1).view(np.uint8)
        if labels.ndim != 1 or count and not 0 <= labels.min() <= labels.max() <= 255:
            raise InputError("give labels from 0 to 255, or targets as int8 [n, ...]")
        return labels.astype(np.uint8)[:, None]

    def _train(
        self, op: Op, samples: np.ndarray, learning_rate: int, lock_heap: bool, progress: Progress
    ) -> TrainReply:
        losses = [np.zeros(0, np.int32)]
        trained = elapsed = 0
        for start, part in self._parts(samples, 4, 4):
            head = struct.pack("<HBx", learning_rate, int(lock_heap))
            answer = self._request(op, head + part.tobytes())
            trained, took = struct.unpack_from("<II", answer)
            elapsed += took
            losses.append(np.frombuffer(answer, "<i4", offset=8))
            progress(start + len(part), len(samples), "samples")
        return TrainReply(np.concatenate(losses), trained, elapsed)

    def eval(
        self, windows: np.ndarray, logits: bool = False, lock_heap: bool = False, progress: Progress = no_progress
    ) -> EvalReply:
        """Classifies int8 windows [n, ...]."""
        windows = self._windows(windows)
        predictions = [np.zeros(0, np.uint8)]
        rows = [np.zeros((0, self._output_size), np.int8)]
        elapsed = 0
        for start, part in self._parts(windows, 4, 1 + self._output_size * logits):
            head = struct.pack("<B3x", int(lock_heap) | 2 * int(logits))
            answer = self._request(Op.EVAL, head + part.tobytes())
            elapsed += int.from_bytes(answer[:4], "little")
            predictions.append(np.frombuffer(answer, np.uint8, len(part), 4))
            if logits:
                rows.append(np.frombuffer(answer, np.int8, offset=4 + len(part)).reshape(len(part), -1))
            progress(start + len(part), len(windows), "windows")
        return EvalReply(np.concatenate(predictions), np.concatenate(rows) if logits else None, elapsed)

    def judge(
        self, windows: np.ndarray, labels: np.ndarray, lock_heap: bool = False, progress: Progress = no_progress
    ) -> JudgeReply:
        """Classes and losses of int8 windows [n, ...] by the active adapter, without training; see `train`."""
        windows = self._windows(windows)
        samples = np.hstack([self._labels(labels, len(windows)), windows.view(np.uint8)])
        predictions, losses = [np.zeros(0, np.uint8)], [np.zeros(0, np.int32)]
        elapsed = 0
        for start, part in self._parts(samples, 4, 5):
            answer = self._request(Op.JUDGE, struct.pack("<B3x", int(lock_heap)) + part.tobytes())
            elapsed += int.from_bytes(answer[:4], "little")
            predictions.append(np.frombuffer(answer, np.uint8, len(part), 4))
            losses.append(np.frombuffer(answer[4 + len(part) :], "<i4"))
            progress(start + len(part), len(samples), "held-out samples")
        return JudgeReply(np.concatenate(predictions), np.concatenate(losses), elapsed)

    def listen(
        self,
        vote: tuple[int, int] = (1, 1),
        monitor: dict[str, int] | None = None,
        path: str | None = None,
        sensor: bool = False,
        probabilities: bool = False,
    ) -> int:
        """Starts classifying a stream by the model's signal, with a vote of k among n windows.

        monitor: least, votes and one_in of a `Monitor`, which replaces the model's decisions, to be calibrated
        or to `watch` a machine. path: of a sample file to write on the board; then nothing is inferred, and windows
        labelled by `hear` are saved. sensor: samples come from the source opened by `sense`, for `watch`.
        probabilities: return those of all classes instead of outputs. Returns how many samples `hear` sends at once.
        """
        own = {name: True for name, on in (("sensor", sensor), ("all", probabilities)) if on}
        answer = self._control(Op.LISTEN_OPEN, vote=list(vote), monitor=monitor, path=path, **own)
        if path and answer.get("path") != path:
            raise LinkError("this board's EdgeLoRA is older than the host tools: install or flash it again")
        self._listening, self._tells_all = int(answer["chunk"]), bool(answer.get("all"))
        return self._listening

    def monitor_calibrate(self, stage: str, windows: int = 0, path: str | None = None) -> MonitorReply:
        """Begins a stage of the monitor's calibration. path: of the sample file that `learn` writes."""
        return self._monitor("calibrate", stage=stage, windows=windows, path=path)

    def monitor_state(self) -> MonitorReply:
        return self._monitor("state")

    def monitor_save(self, path: str) -> MonitorReply:
        """Writes the monitor's adapter, with its machine's record, to a file on the board."""
        return self._monitor("save", path=path)

    def monitor_use(self, path: str) -> MonitorReply:
        """Starts monitoring with the machine's adapter in this file on the board."""
        return self._monitor("use", path=path)

    def _monitor(self, do: str, **fields: Any) -> MonitorReply:
        answer = self._control(Op.MONITOR, do=do, **fields)
        return MonitorReply(str(answer["stage"]), int(answer["left"]), int(answer["threshold"]))

    def hear(
        self, counts: np.ndarray, lock_heap: bool = True, anew: bool = False, label: int | None = None
    ) -> Iterator[ListenReply]:
        """Sends the next samples of the stream, int16 [n, channels]; yields the board's answer to each chunk.

        lock_heap: fail if the board allocates memory. anew: a new stream begins. label: of the window
        that ends with them, which the board saves.
        """
        if not self._listening:
            raise LinkError("the board is not listening; call listen first")
        counts = np.ascontiguousarray(counts, "<i2")
        for start in range(0, len(counts), self._listening):
            part = counts[start : start + self._listening].tobytes()
            keep = label is not None and start + self._listening >= len(counts)
            flags = int(lock_heap) | 2 * (anew and not start) | 4 * keep
            answer = self._request(Op.LISTEN_DATA, struct.pack("<2B2x", flags, label or 0) + part)
            yield ListenReply.of(answer, self._probabilities_told)

    @property
    def _probabilities_told(self) -> int | None:
        """Outputs per decision; None if it has probabilities instead."""
        return None if self._tells_all else self._output_size

    def sense(self, source: str, **settings: Any) -> tuple[float, int]:
        """Starts a source on the board by name, or a module on the board.

        source: of `edgelora.core.sensors`, with pins in the order of its roles, rate, scales and bus. buttons: pins,
        each with a button to ground, reported by `watch`. Returns its samples per second and its channels.
        """
        made = self._control(Op.SENSE_OPEN, source=source, **settings)
        self._sensed = int(made["channels"])
        self.sensed_scales = tuple(float(scale) for scale in made["scales"] or ())
        return float(made["rate"]), self._sensed

    def sensed(self) -> tuple[np.ndarray, int]:
        """New samples of the source since the last call, int16 [n, channels], and how many were lost."""
        if not self._sensed:
            raise LinkError("no source is open on the board; call sense first")
        answer = self._request(Op.SENSE_DATA, b"")
        values = np.frombuffer(answer, "<i2", offset=4)
        return values.reshape(-1, self._sensed).astype(np.int16), int.from_bytes(answer[:4], "little")

    def watch(self, lock_heap: bool = True) -> WatchReply:
        """As `sensed`, with the buttons and, after `listen` with `sensor`, the board's decisions.

        lock_heap: fail if inference allocates memory on the board.
        """
        if not self._sensed:
            raise LinkError("no source is open on the board; call sense first")
        answer = self._request(Op.WATCH, bytes([lock_heap]))
        return WatchReply.of(answer, self._sensed, self._probabilities_told)

    def _windows(self, windows: np.ndarray) -> np.ndarray:
        if not self._sample_size:
            raise LinkError("no model is open; call open_model first")
        flat = np.ascontiguousarray(windows, dtype=np.int8).reshape(len(windows), -1)
        if flat.shape[1] != self._sample_size:
            raise InputError(f"windows have {flat.shape[1]} values, this model needs {self._sample_size}")
        return flat

    def _parts(self, rows: np.ndarray, head: int, answer_bytes: int) -> Iterator[tuple[int, np.ndarray]]:
        """Splits rows into requests that fit a frame, as do their answers (8 bytes + answer_bytes per row)."""
        most = min((self._max_payload - head) // rows.shape[1], (self._max_payload - 8) // answer_bytes)
        if not most:
            raise InputError(f"a sample has {rows.shape[1]} bytes; this board takes {self._max_payload} per request")
        for start in range(0, len(rows), most):
            yield start, rows[start : start + most]

    def flush(self, learning_rate: int) -> None:
        """Applies the update of an unfinished micro-batch."""
        self._control(Op.FLUSH, learning_rate=learning_rate)

    def save(self, path: str, state: bool = False) -> int:
        """Writes the training adapter to the board's flash; returns the samples it has seen since begin or load."""
        return int(self._control(Op.SAVE, path=path, state=state)["trained"])

    def use(self, path: str | None) -> None:
        """Switches to an adapter file; None: the base alone."""
        self._control(Op.USE, path=path)

    # --- store

    def store_list(self, place: str | None = None) -> StoreState:
        """The content of the board's store, or of the one in a folder `place` on it."""
        return self._store("list", place=place)

    def store_put(self, name: str, data: bytes, version: int | None = None, place: str | None = None) -> int:
        """Commits an adapter under a name; returns its version, the one before + 1 unless given."""
        self.put(STORE_UPLOAD, data)
        try:
            fields = {"do": "put", "name": name, "path": STORE_UPLOAD, "version": version, "place": place}
            return int(self._control(Op.STORE, **fields)["version"])
        finally:
            self.remove(STORE_UPLOAD)

    def store_get(self, name: str) -> bytes:
        """Reads an adapter of the store and verifies it."""
        return self._download(":" + name, _file_stat(self._control(Op.STORE, do="get", name=name)))

    def class_add(self, name: str, path: str) -> None:
        """Adds a class, from a sample file on the board, to the active adapter; the file's labels are ignored."""
        self._control(Op.CLASS, **{"do": "add", "class": name, "path": path})

    def class_own(self, path: str) -> RowsReply:
        """Makes and judges a person's own rows of the base's classes, from a sample file on the board.

        Where they are better than what is in use, they are used from now on; `class_get` reads them.
        """
        answer = self._control(Op.CLASS, do="own", path=path)
        before, after = ((int(right), int(loss)) for right, loss in (answer["before"], answer["after"]))
        return RowsReply(int(answer["doubt"]), before, after)

    def class_remove(self, name: str) -> None:
        """Removes a class from the active adapter."""
        self._control(Op.CLASS, **{"do": "remove", "class": name})

    def class_get(self) -> bytes:
        """Reads and verifies the adapter made by the last of these; no bytes: the base alone."""
        return self._download(":class", _file_stat(self._control(Op.CLASS, do="get")))

    def store_activate(self, name: str | None) -> StoreState:
        """Activates an adapter, also after a reset; None: the base alone."""
        return self._store("activate", name=name)

    def store_rename(self, name: str, to: str) -> StoreState:
        return self._store("rename", name=name, to=to)

    def store_remove(self, name: str, place: str | None = None) -> StoreState:
        return self._store("remove", name=name, place=place)

    def store_pin(self, name: str, on: bool = True) -> StoreState:
        """A pinned adapter stays in the board's RAM once loaded."""
        return self._store("pin", name=name, on=on)

    def _store(self, do: str, **fields: Any) -> StoreState:
        answer = self._control(Op.STORE, do=do, **fields)
        rows = answer["adapters"]
        while _more(answer, "adapters", len(rows)):
            place = fields.get("place")
            answer = self._control(Op.STORE, do="list", place=place, skip=len(rows))
            rows += answer["adapters"]
        adapters = [StoredAdapter(*row) for row in rows]
        return StoreState(adapters, answer["active"], answer["free"], answer["place"], answer["notices"])

    # --- updates

    def update(self, bundle: bytes, progress: Progress = no_progress) -> tuple[str, int]:
        """Has the board verify, evaluate and install a bundle; returns its adapter's name and version.

        An interrupted one continues where it stopped if called again. progress: in bytes. Raises DeviceError.
        """
        from edgelora.core.formats.elu import HEADER_SIZE  # with cryptography, which other requests do without

        header, payload = bundle[:HEADER_SIZE], bundle[HEADER_SIZE:]
        at = json.loads(self._request(Op.UPDATE_OPEN, header))["offset"]
        _check_offset(at, len(payload))
        block = min(PUT_BLOCK, self._max_payload - 4)
        while at < len(payload):
            part = payload[at : at + block]
            self._request(Op.UPDATE_DATA, struct.pack("<I", at) + part)
            at += len(part)
            progress(at, len(payload), "bytes")
        answer = self._control(Op.UPDATE_DONE)
        return answer["name"], answer["version"]

    def update_state(self, confirm: bool = False) -> UpdateState:
        """The board's trusted keys and its adapters; `confirm` ends the trial of those on trial."""
        answer = self._control(Op.UPDATE_STATE, confirm=confirm)
        return UpdateState(**answer | {"adapters": [StoredAdapter(*entry) for entry in answer["adapters"]]})

    # --- runs controlled by the board

    def run_start(self, path: str, name: str, **settings: Any) -> RunReply:
        """Prepares a run over the samples of a file on the board, whose adapter becomes `name` in the board's store.

        settings: epochs, seed, learning_rate, commit_every; held, the path of validation samples, or None; resume;
        clock_hz, sleep_ms, budget_ms, budget_mj, power_mw, sleep_mw as for the device's Scheduler.
        """
        return RunReply(**self._control(Op.RUN_START, path=path, name=name, **settings))

    def run_go(self, ms: int) -> RunReply:
        """Runs for about that long, at least a step."""
        return RunReply(**self._control(Op.RUN_GO, ms=ms))

    def run_suspend(self) -> RunReply:
        """Finishes the current micro-batch and commits; `run_start` with `resume` continues, also after a reset."""
        return RunReply(**self._control(Op.RUN_SUSPEND))

    # --- a text that is typed

    def words_open(self, path: str, name: str, **settings: Any) -> WordsReply:
        """Opens the device's `Words` of a base on the board, with the adapter `name` of its store.

        settings: ranks, recompute, mode, learning_rate, seed, times, as for `Words`. The model that was open is closed.
        """
        listed = {key: list(value) if isinstance(value, bytes) else value for key, value in settings.items()}
        return WordsReply(**self._control(Op.WORDS, do="open", path=path, name=name, **listed))

    def words_type(self, text: str, suggest: int = 0, complete: int = 0) -> WordsReply:
        """Types text, then asks for so many next characters, and for the rest of a word of at most so many letters."""
        return WordsReply(**self._control(Op.WORDS, do="type", text=text, suggest=suggest, complete=complete))

    def words_go(self, ms: int) -> WordsReply:
        """Lets the board learn for about that long, or until nothing is left to learn."""
        return WordsReply(**self._control(Op.WORDS, do="go", ms=ms))

    def words_use(self, name: str) -> WordsReply:
        """Changes the person: another adapter of the store, or a new one."""
        return WordsReply(**self._control(Op.WORDS, do="use", name=name))

    # --- a fleet

    def fleet_identity(self, fresh: bool = False) -> bytes:
        """The board's public key, X25519, 32 bytes; creates the secret if missing. fresh: it must not exist."""
        return bytes.fromhex(self._control(Op.FLEET, do="identity", fresh=fresh)["public"])

    def fleet_forget(self) -> None:
        """Deletes the board's secret for good: revoke its key, and enroll the board again."""
        self._control(Op.FLEET, do="forget")

    def fleet_install(self, roster: bytes) -> FleetState:
        """Installs a signed roster. DeviceError if the board doesn't trust it, has a newer one, or isn't in it."""
        self.put(ROSTER_UPLOAD, roster)
        return FleetState(**self._control(Op.FLEET, do="install", path=ROSTER_UPLOAD))

    def fleet_status(self) -> FleetState:
        return FleetState(**self._control(Op.FLEET, do="status"))

    def fleet_budget(self) -> FleetBudget:
        """The privacy cost of its rounds, and its policy for tasks."""
        return FleetBudget(**self._control(Op.FLEET, do="budget"))

    def fleet_open(self, path: str, **settings: Any) -> int:
        """Opens the model of the round's adapter, /fleet.ela, to join and train on a sample file. Returns its index.

        settings: neighbours (the most to reserve memory for), commit_every, clock_hz, sleep_ms. With the same adapter,
        samples, roster and neighbours an open round continues. A round's state is in RAM, except training: opening
        a model drops out of a round that has reached COHORT.
        """
        return int(self._control(Op.FLEET, do="open", path=path, **settings)["index"])

    def fleet_send(self, message: bytes) -> None:
        """Gives the board a message of its fleet's server, which `fleet_go` processes."""
        most = self._max_payload - 8
        for start in range(0, max(len(message), 1), most):
            head = struct.pack("<II", start, len(message))
            self._request(Op.FLEET_DATA, head + message[start : start + most])

    def fleet_go(self, ms: int) -> FleetWork:
        """Works for about that long, at least a step. DeviceError: the message is refused, nothing has changed."""
        return FleetWork(**self._control(Op.FLEET, do="go", ms=ms))

    def fleet_reply(self, ready: FleetWork) -> bytes:
        """The board's reply, once `fleet_go` says that it is ready."""
        return self._download(FLEET_REPLY, FileStat(ready.size, ready.sha256))

    # --- measuring

    def bench_ops(self, first: int, end: int, n: int = 20, backward: bool = False) -> Timing:
        """Times ops [first, end) of an inference or, from the last down, of a backward pass. None: an empty call."""
        return Timing(**self._control(Op.BENCH, what="backward" if backward else "ops", n=n, ops=[first, end]))

    def bench_infer(self, n: int = 20, clock_hz: int | None = None) -> Timing:
        """Times inferences, optionally at another clock."""
        return Timing(**self._control(Op.BENCH, what="infer", n=n, clock_hz=clock_hz))

    def bench_train(self, n: int = 20, features: bool = False, clock_hz: int | None = None) -> Timing:
        """Times training steps with learning rate 0, from inputs or features; begin or load again afterwards."""
        what = "train_features" if features else "train"
        return Timing(**self._control(Op.BENCH, what=what, n=n, clock_hz=clock_hz))

    def merge(self, op: int) -> Timing:
        """Merges the active adapter into an op's weights, until the next `use`, `begin` or `load`."""
        return Timing(**self._control(Op.BENCH, what="merge", n=1, ops=[op, op]))

    def bench_add_class(self, samples: int, n: int = 5) -> Timing:
        """Times adding a class of `samples` samples to the active adapter, which is replaced."""
        return Timing(**self._control(Op.BENCH, what="add_class", n=n, ops=[0, samples]))

    def bench_swap(self, first: str, second: str, n: int = 100) -> Timing:
        """Times switching between two adapters in RAM."""
        return Timing(**self._control(Op.BENCH, what="swap", n=n, paths=[first, second]))

    def bench_swap_file(self, first: str, second: str, n: int = 20) -> Timing:
        """Times switching between two open adapter files: read, verify, use."""
        return Timing(**self._control(Op.BENCH, what="swap_file", n=n, paths=[first, second]))

    def bench_swap_store(self, names: Sequence[str], cache: int, n: int = 100, place: str | None = None) -> Timing:
        """Times switching between adapters of the store in turn, with `cache` bytes of RAM for them."""
        return Timing(**self._control(Op.BENCH, what="swap_store", n=n, names=list(names), cache=cache, place=place))


def _sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_offset(offset: int, size: int) -> None:
    if not 0 <= offset <= size:
        raise LinkError(f"the board reports {offset} of {size} bytes: reset it, and try again")


def _more(answer: dict[str, Any], name: str, count: int) -> bool:
    """Whether a list continues. LinkError if it exceeds the limit."""
    if answer["more"] and (not answer[name] or count > MOST_LISTED):
        raise LinkError(f"the board's list of {name} does not end: reset it, and try again")
    return bool(answer["more"])


def _file_stat(answer: dict[str, Any]) -> FileStat:
    try:
        return FileStat(**answer)
    except TypeError:
        raise LinkError("this board's EdgeLoRA is older than the host tools: install or flash it again") from None
