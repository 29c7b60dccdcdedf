"""The link: with any fault of the line, files arrive complete and every sample is trained once."""

import contextlib
import hashlib
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import threading
import time
import tty
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import execute
from random_models import random_input, random_model, random_target

from benchmarks.link import bench_link
from edgelora.base.resources import ROOT
from edgelora.board import virtual_boards
from edgelora.board.link import raw_repl, serial_line
from edgelora.board.link.client import Link
from edgelora.board.link.protocol import HEADER_SIZE, LINK_VERSION, FrameReader, Op, Status, encode
from edgelora.board.link.replies import DeviceError, Hello, LinkError
from edgelora.board.link.serial_line import SerialLine
from edgelora.board.link.transport import LineLost
from edgelora.board.sim import virtual_board
from edgelora.cli.main import main
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.session import Session

UNIX = ROOT / ".build/unix/micropython"
PICO = ROOT / ".build/rp2/rpi_pico/firmware.uf2"
DEVICE = ROOT / "micropython_module/python/edgelora"


def pause(pid: int, seconds: float) -> None:
    """Stops a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


RAM_DISK = """
import vfs
class Disk:
    def __init__(self): self.data = bytearray(64 * 512)
    def readblocks(self, n, buf, off=0): buf[:] = self.data[n * 512 + off : n * 512 + off + len(buf)]
    def writeblocks(self, n, buf, off=0): self.data[n * 512 + off : n * 512 + off + len(buf)] = buf
    def ioctl(self, op, arg): return {4: 64, 5: 512, 6: 0}.get(op)
disk = Disk()
vfs.VfsLfs2.mkfs(disk)
vfs.mount(disk, '/ram')
"""

Fault = Callable[[bytes], bytes]


class FaultyLine(SerialLine):
    """A line that damages data. `on_write` and `on_read`: a fault for each of the next writes or reads, or None.

    noise: (distance, fault) pairs: the fault applies after that many more bytes have been read, in any number of reads.
    cut: bytes that can be written before the cable is pulled.
    """

    def __init__(self, port: str) -> None:
        super().__init__(port)
        self.on_write: list[Fault | None] = []
        self.on_read: list[Fault | None] = []
        self.noise: list[tuple[int, Fault]] = []
        self.cut: int | None = None

    def write(self, data: bytes) -> None:
        fault = self.on_write.pop(0) if self.on_write else None
        data = fault(data) if fault else data
        if self.cut is not None:
            part, self.cut = data[: self.cut], self.cut - len(data)
            if self.cut < 0:
                super().write(part)
                raise LineLost("cable pulled")
        super().write(data)

    def read(self, size: int, timeout: float) -> bytes:
        data = super().read(size, timeout)
        fault = self.on_read.pop(0) if data and self.on_read else None
        return self._noisy(fault(data) if fault else data)

    def _noisy(self, data: bytes) -> bytes:
        passed = b""
        while self.noise:
            distance, fault = self.noise[0]
            if distance >= len(data):
                self.noise[0] = (distance - len(data), fault)
                break
            self.noise.pop(0)
            passed += data[:distance]
            data = fault(data[distance:])
        return passed + data


def corrupt(at: int, how: int = 0x41) -> Fault:
    return lambda data: data[:at] + bytes([data[at] ^ how]) + data[at + 1 :] if at < len(data) else data


def drop(at: int, count: int = 1) -> Fault:
    return lambda data: data[:at] + data[at + count :]


def cut_off(at: int) -> Fault:
    return lambda data: data[:at]


def twice(data: bytes) -> bytes:
    return data + data


def after_noise(data: bytes) -> bytes:
    return b"\xe5noise\r\n" + data


def trained(seed: int, windows: np.ndarray, labels: np.ndarray, learning_rate: int) -> list[int]:
    """The losses of link_model.py for these samples."""
    losses, total = [], seed
    for window, label in zip(windows, labels, strict=True):
        for x in window.view(np.uint8):
            total = (total * 31 + int(x) + int(label) + learning_rate) & 0xFFFFFF
        losses.append(total)
    return losses


@contextlib.contextmanager
def micropython(folder: Path, search: str, first: str = ""):
    """Runs the agent on desktop MicroPython in `folder`, with modules from `search`, after code `first`; its port."""
    if not UNIX.exists():
        pytest.fail("the unix firmware is missing: run `make firmware-unix`")
    shutil.copy(DEVICE / "agent.py", folder)
    board, port = pty.openpty()
    tty.setraw(port)
    code = f"{first}\nimport sys\nsys.path[:] = {search}\nimport agent\nwhile True: agent.run()"
    process = subprocess.Popen([UNIX, "-c", code], cwd=folder, stdin=board, stdout=board, stderr=board)
    yield os.ttyname(port)
    process.kill()
    process.wait()
    os.close(board)
    os.close(port)


@pytest.fixture
def terminal():
    """A serial port whose other end, a descriptor, is the test's."""
    here, there = pty.openpty()
    tty.setraw(there)
    yield here, os.ttyname(there)
    os.close(here)
    os.close(there)


@pytest.fixture
def desktop(tmp_path):
    """The port of a desktop board with link_model.py in place of `edgelora`."""
    (tmp_path / "edgelora").mkdir()
    shutil.copy(ROOT / "tests/device/programs/link_model.py", tmp_path / "edgelora/__init__.py")
    shutil.copy(DEVICE / "_handlers.py", tmp_path / "edgelora")
    (tmp_path / "base.elm").write_bytes(b"")
    with micropython(tmp_path, "['']") as port:
        yield port


@pytest.fixture
def learning(tmp_path):
    """A link to a desktop board with the real module."""
    with micropython(tmp_path, "['', '.frozen']") as port, Link.connect(port) as link:
        yield link


@contextlib.contextmanager
def faulty(port: str, **options):
    """A link over FaultyLines, and the list of these."""
    lines = []

    def opener():
        lines.append(FaultyLine(port))
        return lines[-1]

    with Link(opener, **{"timeout": 0.6, **options}) as link:
        yield link, lines


SLOW = 9  # in link_model.py, the label of a sample that takes half a second
SAMPLES = 12
FRAME = HEADER_SIZE + 4 + SAMPLES * 17 + 4
POSITIONS = [*range(HEADER_SIZE), HEADER_SIZE + 5, FRAME // 2, FRAME - 2]


def samples(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(-128, 128, (SAMPLES, 16), dtype=np.int8), rng.integers(0, 3, SAMPLES)


def test_damaged_requests_train_once(desktop):
    rng = np.random.default_rng(1)
    faults = [f(at) for at in POSITIONS for f in (corrupt, drop, cut_off)] + [twice, after_noise]
    with faulty(desktop) as (link, lines):
        link.open_model("base.elm")
        link.begin(seed=7)
        total, count = 7, 0
        for fault in faults:
            windows, labels = samples(rng)
            lines[0].on_write = [fault]
            reply = link.train(windows, labels, 5)
            want = trained(total, windows, labels, 5)
            assert reply.losses.tolist() == want
            total, count = want[-1], count + SAMPLES
            assert reply.trained == count
        assert link.stats.resent >= len(faults) - 2
        assert len(lines) == 1


def test_damaged_answers_train_once(desktop):
    rng = np.random.default_rng(2)
    size = HEADER_SIZE + 8 + 4 * SAMPLES + 4
    faults = [f(at) for at in (*range(HEADER_SIZE), size // 2, size - 1) for f in (corrupt, drop, cut_off)]
    with faulty(desktop) as (link, lines):
        link.open_model("base.elm")
        link.begin(seed=7)
        total = 7
        for fault in [*faults, twice, after_noise]:
            windows, labels = samples(rng)
            lines[0].on_read = [fault, fault]  # the announcement of work and the answer may come in one read or in two
            reply = link.train(windows, labels, 5)
            want = trained(total, windows, labels, 5)
            assert reply.losses.tolist() == want
            total = want[-1]
        assert link.hello().trained == SAMPLES * (len(faults) + 2)


def test_file_over_a_bad_line(desktop):
    rng = random.Random(3)
    data = rng.randbytes(250_000) + bytes([3]) * 5000  # including the byte of Ctrl-C

    def fault(reach: int) -> Fault:
        at = rng.randrange(reach)
        return rng.choice([corrupt(at), drop(at, 1 + rng.randrange(500)), cut_off(at), twice])

    with faulty(desktop) as (link, lines):
        lines[0].on_write = [rng.choice([None, None, fault(4200)]) for _ in range(90)]
        lines[0].noise = [(rng.randrange(200), fault(1)) for _ in range(20)]  # answers to an upload are short
        link.put("file", data)
        assert link.stats.resent > 5
        before = link.stats.resent
        lines[0].noise = [(rng.randrange(2000, 20_000), fault(1)) for _ in range(20)]
        assert link.get("file") == data
        assert link.stats.resent > before + 3


def test_upload_goes_on_after_the_cable_was_pulled(desktop):
    data = random.Random(4).randbytes(100_000)
    with faulty(desktop, reconnect=5.0) as (link, lines):
        lines[0].cut = 33_333
        link.put("file", data)
        assert link.stats.reconnects == 1
        assert link.stats.bytes_sent < 115_000
        assert link.get("file") == data

    with pytest.raises(LinkError, match="lost"), faulty(desktop) as (link, lines):
        lines[0].cut = 50_000
        link.put("other", data)


def test_upload_resumes_in_a_new_session(desktop):
    data = random.Random(5).randbytes(100_000)
    with pytest.raises(LinkError, match="lost"), faulty(desktop) as (link, lines):
        lines[0].cut = 50_000
        link.put("file", data)
    steps = []
    with faulty(desktop) as (link, _):
        assert "file" not in {entry.name for entry in link.list(".")}
        link.put("file", data, lambda done, total, what: steps.append(done))
        assert steps[0] > 40_000 and steps[-1] == len(data)
        assert link.get("file") == data
        # the remains of another file are not taken for the beginning of this one
        link._control(Op.PUT_OPEN, path="file", size=9000, sha256="")
        link._request(Op.PUT_DATA, bytes(4) + b"x" * 4096)
        link.put("file", data[::-1])
        assert link.get("file") == data[::-1]


def sample_files() -> tuple[bytes, bytes]:
    """Two sample files with the same size and, as each part ends with its own CRC-32, the same CRC-32."""
    rng = np.random.default_rng(7)
    x = rng.integers(-128, 128, (300, 40)).astype(np.int8)
    files = [pack_samples(x, np.arange(300) % 4 + shift, None, bytes(8)) for shift in (0, 1)]
    assert zlib.crc32(files[0]) == zlib.crc32(files[1]) and files[0] != files[1]
    return files[0], files[1]


def test_sample_files_of_one_size_are_told_apart(desktop):
    first, second = sample_files()
    with faulty(desktop) as (link, _):
        link.put("./samples.eld", first)
        assert link.holds("./samples.eld", first) and not link.holds("samples.eld", second)
        assert link.stat("./samples.eld").sha256 == hashlib.sha256(first).hexdigest()


def test_an_upload_does_not_continue_another_sample_file(desktop):
    first, second = sample_files()
    whole_records = 32 + 45 * 200
    with faulty(desktop) as (link, _):
        link._control(Op.PUT_OPEN, path="samples.eld", size=len(first), sha256=hashlib.sha256(first).hexdigest())
        for start in range(0, whole_records, 1024):
            part = first[start : min(start + 1024, whole_records)]
            link._request(Op.PUT_DATA, start.to_bytes(4, "little") + part)
        link.put("samples.eld", second)
        assert link.get("samples.eld") == second


def test_failed_commit_keeps_the_old_file(desktop):
    with faulty(desktop) as (link, lines):
        link.put("file", b"old")
        link._control(Op.PUT_OPEN, path="file", size=3, sha256="1")
        link._request(Op.PUT_DATA, bytes(4) + b"new")
        with pytest.raises(DeviceError, match="file arrived damaged"):
            link._control(Op.PUT_DONE)
        assert link.get("file") == b"old"
        assert {entry.name for entry in link.list(".")} == {"file", "base.elm", "edgelora", "agent.py"}


def test_training_survives_the_line(desktop):
    rng = np.random.default_rng(6)
    windows, labels = samples(rng)
    with faulty(desktop, reconnect=5.0) as (link, lines):
        link.open_model("base.elm")
        link.begin(seed=7)
        link.train(windows, labels, 5)
        link.save("checkpoint", state=True)
        lines[0].cut = 100  # in the middle of the next request
        reply = link.train(windows, labels, 5)
        want = trained(7, np.concatenate([windows] * 2), np.concatenate([labels] * 2), 5)
        assert reply.losses.tolist() == want[SAMPLES:] and reply.trained == 2 * SAMPLES
        link.load("checkpoint")
        assert link.train(windows, labels, 5).losses.tolist() == want[SAMPLES:]
        assert link.eval(windows, logits=True).logits[:, 0].tolist() == windows[:, 0].tolist()


def test_requests_are_refused_with_reasons(desktop):
    with faulty(desktop) as (link, _):
        link.put("new/folder/of/a", b"file")  # missing folders are created
        for request, reason in [
            (lambda: link.get("nowhere"), "nowhere: no such file"),
            (lambda: link.put("new/folder/of/a/file", b"x"), "new/folder/of/a/file: "),
            (lambda: link.begin(), "no model is open"),
            (lambda: link.open_model("missing.elm"), "missing.elm: no such file"),
            (lambda: link._request(Op.PUT_DATA, bytes(9)), "no upload is open"),
            (lambda: link._request(0x7E, b""), "unknown request 126"),  # type: ignore[arg-type]
            (lambda: link._request(Op.MODEL, b"[not JSON"), "JSON"),
        ]:
            with pytest.raises(DeviceError, match=reason):
                request()
        link.open_model("base.elm")
        with pytest.raises(DeviceError, match="not a whole number of samples of 17"):
            link._request(Op.TRAIN, bytes(4 + 20))
        assert link.hello().model


# --- complete requests with any content

ODD = [None, True, 0, 1, -1, 3, 255, 256, 2**31, 2**32, 10**12, 1.5, "", "x", "no/where", "é", "\0", "p" * 3000]
ODD += [[], {}, [[]], [1e9], ["x", 5], [0, -1], {"path": "x"}]
MEANT: dict[Op, dict[str, object]] = {
    Op.PUT_OPEN: {"path": "f", "size": 8, "sha256": "", "fresh": False},
    Op.STAT: {"path": "model.elm", "sha256": True},
    Op.LIST: {"path": ".", "skip": 0},
    Op.REMOVE: {"path": "f"},
    Op.SPACE: {"path": "."},
    Op.MODEL: {"path": "model.elm", "ranks": 2, "mode": "frozen_a", "micro_batch": 4, "momentum": 0, "recompute": [0]},
    Op.BEGIN: {"seed": 1},
    Op.LOAD: {"path": "a.ela"},
    Op.FLUSH: {"learning_rate": 9},
    Op.SAVE: {"path": "b.ela", "state": True},
    Op.USE: {"path": "a.ela"},
    Op.BENCH: {"what": "swap_file", "n": 2, "paths": ["a.ela", "a.ela"], "ops": [0, 1], "clock_hz": None},
    Op.CACHE_OPEN: {"path": None, "count": 2},
    Op.STORE: {"do": "put", "name": "n", "path": "a.ela", "version": 1, "place": "shelf", "to": "m", "on": True},
    Op.UPDATE_STATE: {"confirm": True},
    Op.RUN_START: {
        **{"path": "s", "name": "n", "epochs": 1, "seed": 1, "learning_rate": 9, "commit_every": 1, "resume": True},
        **{"clock_hz": None, "sleep_ms": 0, "budget_ms": 9, "budget_mj": 9, "power_mw": 9, "sleep_mw": 9},
    },
    Op.RUN_GO: {"ms": 1},
}  # fmt: skip


def odd_payloads(op: Op, meant: dict[str, object]) -> list[bytes]:
    """Bytes of many sizes, JSON of other types, and the valid request with one field missing or wrong."""
    noise = random.Random(op)
    payloads = [noise.randbytes(size) for size in (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 100, 4000)]
    payloads += [bytes(size) for size in (1, 3, 4, 8, 257)] + [b"\xff" * size for size in (4, 8, 300)]
    payloads += [b"{" * 3000, b"[" * 3000, b'{"path"', b'{"path": "\xff"}', b"1e999"]
    requests: list[object] = [value for value in ODD if value is not None]
    for name in meant:
        requests.append({key: value for key, value in meant.items() if key != name})
        requests += [{**meant, name: value} for value in ODD]
    return payloads + [json.dumps(request).encode() for request in requests]


@pytest.mark.parametrize("op", [op for op in Op if op not in (Op.HELLO, Op.QUIT, Op.REPEAT)])
def test_requests_with_any_content_are_answered(learning, op):
    task = Task(CHAIN, "cross_entropy", 4, 6)
    task.open(learning)
    learning.save("a.ela")
    refused = 0
    for payload in odd_payloads(op, MEANT.get(op, {})):
        learning._control(Op.PUT_OPEN, path="f", size=8, sha256="", fresh=True)
        try:
            learning._request(op, payload)
        except DeviceError as error:
            refused += 1
            assert str(error) and "object has no attribute" not in str(error), (payload, error)
    assert refused or op in (Op.PUT_DONE, Op.RUN_SUSPEND)
    assert learning.stats.resent == 0
    task.open(learning)
    task.check(learning, learning.train(task.x[task.order], task.y[task.order], 9000).losses)


def test_hellos_with_any_content_are_answered(desktop):
    with faulty(desktop) as (link, _):
        link.put("file", b"kept")
        for payload in [b"", b"{}", b"[]", b"7", b"not JSON", b"\xff\xfe", b'{"session": null}', b'{"session": "x"}']:
            answer = link._exchange(Op.HELLO, payload, 0)
            assert answer.code == Status.ERROR and json.loads(answer.payload)["error"]
        assert link.hello().resumed
        assert link.get("file") == b"kept"


def test_a_full_disk_reports_no_free_space(tmp_path):
    with micropython(tmp_path, "['']", RAM_DISK) as port, faulty(port) as (link, _):
        content = random.Random(8).randbytes(24_000)
        link._control(Op.PUT_OPEN, path="/ram/file", size=30_000, sha256="")
        for start in range(0, len(content), 4000):
            link._request(Op.PUT_DATA, start.to_bytes(4, "little") + content[start : start + 4000])
        link._control(Op.PUT_OPEN, path="/ram/file", size=30_000, sha256="")  # resumes, so that blocks count twice
        link._request(Op.PUT_DATA, len(content).to_bytes(4, "little") + bytes(600))
        assert link.space("/ram").free == 0


def test_an_answer_that_fits_no_frame_is_an_error(desktop):
    with faulty(desktop) as (link, _):
        assert len(link._control(Op.MODEL, path="base.elm", labels=100)["labels"]) == 100
        with pytest.raises(DeviceError, match="the answer of .* bytes does not fit a frame"):
            link._control(Op.MODEL, path="base.elm", labels=1000)


def test_frames_hold_no_ctrl_c():
    rng = random.Random(7)
    for size in range(300):
        payload = bytes(rng.choice((3, 3, rng.randrange(256))) for _ in range(size))
        frame = encode(size % 128, Op.PUT_DATA, payload)
        assert 3 not in frame and min(frame[:HEADER_SIZE]) >= 128


def test_reader_finds_frames_in_noise():
    # An answer is a frame without fix-ups, like one to the board without a byte 3.
    frame = encode(5, Status.OK, b"answer!")
    assert frame[5:7] == b"\x80\x80"
    reader = FrameReader()
    for byte in b"\xe5\xe5noise" + frame + frame[:-1] + b"?" + frame:
        reader.feed(bytes([byte]))
        for found in reader.frames():
            assert (found.sequence, found.code, found.payload) == (5, Status.OK, b"answer!")
            frame = frame[:1] + frame[1:]
    assert reader.damaged == 1


# --- patience


def test_a_port_that_nobody_reads_is_given_up(terminal, monkeypatch):
    monkeypatch.setattr(serial_line, "WRITE_SECONDS", 0.3)
    line = SerialLine(terminal[1])
    with contextlib.closing(line), pytest.raises(LineLost, match="accepted no data for 0.3 s; unplug and reconnect"):
        line.write(bytes(100_000))


def test_ports_without_a_board_keep_standard_output_for_json(terminal, monkeypatch, capsys):
    monkeypatch.setattr(raw_repl, "ROUNDS", 1)
    os.write(terminal[0], b"\xff\xfe login: ")
    assert main(["pull", "/x", "--port", terminal[1], "--json"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "no MicroPython REPL answers" in said.err and "login" not in said.err


def test_a_board_at_work_says_so(desktop):
    with faulty(desktop, timeout=0.2, patience=1.5, retries=1) as (link, _):
        link.open_model("base.elm")
        link.begin(seed=0)
        signs = []
        next_frame = link._next_frame
        link._next_frame = lambda *args: signs.append(next_frame(*args)) or signs[-1]  # type: ignore[method-assign]
        reply = link.train(np.zeros((12, 16), np.int8), np.full(12, SLOW), 5)
        assert reply.trained == 12
        assert sum(frame is not None and frame.code == Status.WORKING for frame in signs) >= 4


# --- training with the real module


class Task:
    """A model with adapters above its first layers, samples for it, and the host twin's results."""

    def __init__(self, kinds: tuple[str, ...], loss: str, lowest: int, seed: int) -> None:
        rng = np.random.default_rng(8)
        model = random_model(seed, "medium", kinds, edges=False, loss=loss)
        self.elm = pack_model(model)
        self.ranks = bytes(2 if op.is_matrix and i >= lowest else 0 for i, op in enumerate(model.ops))
        self.x = np.stack([random_input(rng, model) for _ in range(9)])
        targets = [random_target(rng, model) for _ in self.x]
        self.y = np.stack(targets) if loss != "cross_entropy" else np.array(targets)
        self.order = np.concatenate([rng.permutation(9) for _ in range(4)])
        self.twin = Session(self.elm, self.ranks, "trainable_a", 4, 2)
        self.twin.begin(5)
        self.losses = [self.twin.train(self.x[i], self.y[i], 9000) for i in self.order]

    def open(self, link: Link) -> None:
        link.put("model.elm", self.elm)
        info = link.open_model("model.elm", self.ranks, "trainable_a", 4, 2)
        assert (info.arena, info.feature_size) == (self.twin.arena_bytes, self.twin.feature_size)
        link.begin(5)

    def check(self, link: Link, losses: np.ndarray) -> None:
        assert losses.tolist() == self.losses
        for state in (False, True):
            link.save("a.ela", state)
            assert link.get("a.ela") == self.twin.save(state)


CHAIN = ("conv", "residual", "residual", "conv", "dense")


@pytest.mark.parametrize(
    "kinds, loss, lowest, seed",
    [(CHAIN, "cross_entropy", 4, 6), (("dense", "dense", "autoencoder"), "mean_squared_error", 1, 8)],
)
def test_training_and_caches_equal_the_twin(learning, kinds, loss, lowest, seed):
    task = Task(kinds, loss, lowest, seed)
    task.open(learning)
    task.check(learning, learning.train(task.x[task.order], task.y[task.order], 9000).losses)
    for path in (None, "features.bin"):
        task.open(learning)
        assert learning.cache(task.x, path) == task.twin.feature_size
        parts = [learning.train_cached(part, task.y[part], 9000) for part in np.split(task.order, (7, 20))]
        task.check(learning, np.concatenate([part.losses for part in parts]))
        assert parts[-1].trained == len(task.order)
    assert learning.stat("features.bin").size == 9 * task.twin.feature_size
    learning.remove("features.bin")
    with pytest.raises(DeviceError, match="no feature cache is open"):
        learning.train_cached([0], task.y[:1], 9000)


def test_a_cache_refuses_what_it_does_not_hold(learning):
    task = Task(CHAIN, "cross_entropy", 4, 8)
    with pytest.raises(DeviceError, match="no model is open"):
        learning._control(Op.CACHE_OPEN, path=None, count=1)
    task.open(learning)
    with pytest.raises(DeviceError, match="no feature cache is open"):
        learning.train_cached([0], task.y[:1], 9000)
    for path in (None, "features.bin"):
        task.open(learning)
        learning.cache(task.x[:5], path)
        learning.train_cached([4, 0], task.y[[4, 0]], 9000)
        for lock_heap in (True, False):
            with pytest.raises(DeviceError, match="sample 5 is not in the feature cache of 5"):
                learning.train_cached([1, 5], task.y[[1, 5]], 9000, lock_heap)
        with pytest.raises(DeviceError, match="sample 5 does not come next"):
            learning._request(Op.CACHE_PUT, bytes([5, 0, 0, 0]) + task.x[5].tobytes())
        assert learning.hello().trained == 2  # none of a refused request
        with pytest.raises(DeviceError, match="label"):
            learning.train_cached([0], [200], 9000)
        with pytest.raises(ValueError, match="0 to 65535"):
            learning.train_cached([65536], [0], 9000)
    with pytest.raises(DeviceError, match="no room for a feature cache .* keep it in flash"):
        learning._control(Op.CACHE_OPEN, path=None, count=10**6)
    learning.open_model("model.elm", task.ranks)
    with pytest.raises(DeviceError, match="no feature cache is open"):
        learning.train_cached([0], task.y[:1], 9000)


def test_labels_and_targets_that_do_not_fit_are_refused(learning):
    task = Task(("dense", "autoencoder"), "mean_squared_error", 0, 8)
    task.open(learning)
    for y in (task.y.astype(float), task.y.astype(int), np.full(9, 256), np.full(9, -1)):
        with pytest.raises(ValueError, match="labels from 0 to 255, or targets as int8"):
            learning.train(task.x, y, 9000)
    with pytest.raises(DeviceError, match="not a whole number of samples"):
        learning.train(task.x, np.zeros(9, int), 9000)
    assert learning.bench_train(2).n == learning.bench_train(2, features=True).n == 2
    learning.open_model("model.elm", task.ranks, "infer")
    with pytest.raises(DeviceError, match="train"):
        learning.train(task.x, task.y, 9000)


# --- on the emulated Pico


@pytest.fixture(scope="module")
def pico(tmp_path_factory):
    """The port of a virtual Pico."""
    if not PICO.exists():
        pytest.fail("the rp2 firmware is missing: run `make firmware-rp2`")
    board = virtual_board.start("virtual-pico", PICO, tmp_path_factory.mktemp("pico"), die_with_parent=True)
    yield os.path.realpath(board.port)
    board.kill()


def test_pico_full_disk_keeps_the_old_file(pico):
    execute(pico, RAM_DISK)
    with Link.connect(pico) as link:
        link.put("/ram/file", b"old")
        with pytest.raises(DeviceError, match="/ram/file: the filesystem is full"):
            link.put("/ram/file", random.Random(8).randbytes(40_000))
        assert [entry.name for entry in link.list("/ram")] == ["file"]
        assert link.get("/ram/file") == b"old"
        link.put("/ram/file", b"new")
        assert link.get("/ram/file") == b"new"


def test_pico_that_is_paused_and_continues(pico):
    """The emulator's process is stopped for longer than the host's patience, during each kind of work."""
    board = virtual_boards.find(pico)
    data = random.Random(10).randbytes(16_000)
    with faulty(pico, timeout=0.3, patience=0.6, retries=1) as (link, _):
        for work in (
            lambda: link.put("/file", data),
            lambda: link.stat("/file"),
            lambda: link.get("/file"),
        ):
            stop_soon = threading.Timer(0.1, pause, (board.pid, 2.0))
            stop_soon.start()
            work()
            stop_soon.join()
        assert link.get("/file") == data
        link.remove("/file")
    pauses = threading.Thread(target=pause, args=(board.pid, 2.0))
    pauses.start()  # also on the way into the raw REPL
    with faulty(pico, timeout=0.3, patience=0.6, retries=1) as (link, _):
        assert link.hello().micropython
    pauses.join()


def test_pico_that_stays_paused_is_given_up(pico, monkeypatch):
    monkeypatch.setattr(serial_line, "STANDSTILL_SECONDS", 1.0)
    board = virtual_boards.find(pico)
    link = Link.connect(pico)
    os.kill(board.pid, signal.SIGSTOP)
    try:
        with pytest.raises(LinkError, match="not advanced for 1 s"):
            link.put("/nothing", bytes(20_000))
    finally:
        os.kill(board.pid, signal.SIGCONT)


def test_pico_that_is_paused_can_be_disconnected(pico):
    board = virtual_boards.find(pico)
    with pytest.raises(KeyboardInterrupt), Link.connect(pico) as link:
        os.kill(board.pid, signal.SIGSTOP)
        try:
            link._send(bytes(3000))
            link.close()
            raise KeyboardInterrupt
        finally:
            os.kill(board.pid, signal.SIGCONT)
    assert execute(pico, "print(1+1)") == "2"


def test_a_desktop_whose_input_ends_in_a_frame_ends():
    """It used to wait for the rest forever, at full CPU load."""
    code = "import sys\nsys.path[:] = ['.frozen']\nfrom edgelora.agent import run\nrun()"
    done = subprocess.run([UNIX, "-c", code], input=b"\xe5\x81\x81", capture_output=True, timeout=60, check=False)
    assert done.returncode == 1 and b"OSError" in done.stderr + done.stdout


def test_pico_bad_line_and_cable_loss(pico):
    data = random.Random(9).randbytes(24_000)
    with faulty(pico, timeout=3.0, reconnect=20.0) as (link, lines):
        lines[0].on_write = [
            None, corrupt(0), corrupt(3), corrupt(2000), twice, drop(2000), cut_off(3000), cut_off(5), after_noise,
            lambda frame: frame[:1000] + b"\x03" + frame[1001:],  # damage that looks like Ctrl-C
        ]  # fmt: skip
        lines[0].on_read = [None, None, None, corrupt(10), drop(3)]  # answers to these frames
        lines[0].noise = [(250, corrupt(0)), (60, drop(0))]  # and to others
        link.put("/file", data)
        assert not lines[0].on_write and not lines[0].on_read and not lines[0].noise
        assert link.stats.resent >= 9 and link.stats.damaged  # seven frames, and two whose answers are damaged
        lines[0].cut = 10_000
        link.put("/file", data[::-1])
        assert link.stats.reconnects == 1 and link.get("/file") == data[::-1]
        link.remove("/file")


def test_pico_ctrl_c_leaves_a_repl(pico):
    with Link.connect(pico) as link:
        link.hello()
    assert execute(pico, "print(1+1)") == "2"  # after a normal end

    for half in (b"", encode(1, Op.PUT_DATA, bytes(range(256)) * 4)[:500]):  # between frames, and inside one
        link = Link.connect(pico)
        link._line.write(half)
        link._line.write(b"\x03")
        time.sleep(2)  # emulated milliseconds take longer
        link._line.write(b"\x03")
        time.sleep(1)
        link._line.close()
        assert execute(pico, "print(1+1)") == "2"

    with pytest.raises(KeyboardInterrupt), Link.connect(pico) as link:  # Ctrl-C on the host
        link.hello()
        raise KeyboardInterrupt
    assert execute(pico, "print(1+1)") == "2"


def test_pico_agent_without_a_host_returns_to_the_repl(pico):
    link = Link.connect(pico, idle_ms=200)
    link._line.close()
    line = SerialLine(pico)
    deadline = time.monotonic() + 30
    seen = b""
    while b">>>" not in seen and time.monotonic() < deadline:
        seen += line.read(100, 1.0)
    line.close()
    assert b">>>" in seen


def test_bench_link_sends_its_stated_bytes_both_ways(pico):
    bench = bench_link(pico, size=8 * 1024)
    assert bench.hashes_equal
    assert bench.speedup == pytest.approx(bench.mpremote_seconds / bench.link_seconds)
    with Link.connect(pico) as link:
        left = {entry.name for entry in link.list("/")}
    assert not {"bench_link.bin", "bench_mpremote.bin"} & left


def test_agents_of_other_versions_are_told() -> None:
    said = {"link": LINK_VERSION, "edgelora": "1", "board": "b", "micropython": "1.25", "mpy": 0, "free": 1, "id": "x"}
    said |= {"max_payload": 900, "resumed": False, "sequence": 0, "model": False, "trained": 0, "ticks_us": 0}
    assert Hello.of(json.dumps(said | {"of_the_future": 1}).encode()).board == "b"
    for other, words in (({**said, "link": 99}, "link version 99"), ({"link": LINK_VERSION}, "another version")):
        with pytest.raises(LinkError, match=words):
            Hello.of(json.dumps(other).encode())


def test_a_full_heap_names_its_remedy() -> None:
    """MicroPython's message alone does not help users, so a remedy is added; the board's own messages have theirs."""
    full = DeviceError("MemoryError", "memory allocation failed, allocating 5121 bytes")
    assert str(full).startswith("memory allocation failed, allocating 5121 bytes: reset the board")
    assert "flash EdgeLoRA's" in full.remedy
    assert not DeviceError("MemoryError", "no room for a feature cache of 9 bytes in RAM; keep it in flash").remedy
