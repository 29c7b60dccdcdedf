"""The adapter store on real MicroPython: power cuts at every flash operation, use with a real model, its commands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import class_cases
import numpy as np
import pytest
from commands import edgelora, execute, result
from fresh import in_full_runs, slow

from benchmarks.swap import MODEL, WIDTHS, layers_and_adapters
from edgelora.base.resources import ROOT
from edgelora.board import build, virtual_boards
from edgelora.board.link.client import Link
from edgelora.board.link.replies import DeviceError
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.core.formats.elm import base_id, pack_model

DEVICE = Path(__file__).parent / "programs"
RECORDER = ROOT / "tests" / "support" / "flash_recorder.py"


def run_device(code: str, heap: str = "4m", timeout: int = 300) -> str:
    """The output of code on desktop MicroPython, which can import the device programs."""
    done = subprocess.run(
        [UNIX_BINARY, "-X", f"heapsize={heap}", "-c", code],
        cwd=DEVICE,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.stdout + done.stderr


def check_cuts(output: str, least: int) -> None:
    """Asserts that there were no failures, and at least this many cuts."""
    failures = [line for line in output.splitlines() if line.startswith("FAIL")]
    assert not failures, failures[:10]
    ended = re.search(r"^CUTS (\d+) 0$", output, re.MULTILINE)
    assert ended, output[-2000:]
    assert int(ended[1]) >= least


def names(state: dict[str, Any]) -> list[tuple[str, int]]:
    return [(a["name"], a["version"]) for a in state["adapters"]]


NAMES = """
from edgelora.store import Store, StoreError
import os, struct, sys
store = Store("adapters", cache=0)
for name in sys.argv[1:]:
    for change in (
        lambda: store.put(name, b"data"),
        lambda: store.rename("good", name),
        lambda: store.install(name, 9, b"data"),
    ):
        store = Store("adapters", cache=0)
        if not store.find("good"):
            store.put("good", b"data")
        try:
            change()
            print("FAIL took", repr(name))
        except StoreError as error:
            if "give 1 to 24 of" not in str(error):
                print("FAIL", error)
# An index that another hand has made, whole in all but its names.
for name in sys.argv[1:]:
    for path in os.listdir("adapters"):
        os.remove("adapters/" + path)
    store = Store("adapters", cache=0)
    store.put("good", b"data")
    entry = store._entries[0]
    entry.name = name
    store._save([entry], name, (name, 7))
    store = Store("adapters", cache=0)
    (found,) = store.list()
    for text in [found.name, store.active] + store.notices:
        print(repr(text))
    if store.read(found.name) != b"data":
        print("FAIL lost")
"""
SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,23}")
BAD_NAMES = ("../up", "a/b", "a\\b", ".hidden", "..", "a\x1b[2J", "a\nb", "ä", "a b", "\x7f")


def test_names_on_the_board_are_safe_in_paths_and_on_terminals(tmp_path: Path) -> None:
    """Other names are refused; if flash contains one, which the store never writes, it is read as a safe name."""
    command = [UNIX_BINARY, "-X", "heapsize=4m", tmp_path / "names.py", *BAD_NAMES]
    (tmp_path / "names.py").write_text(NAMES)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout.splitlines()
    assert done.returncode == 0 and not [line for line in said if "FAIL" in line], done.stdout + done.stderr
    names = [line.strip("'") for line in said if " " not in line]
    assert len(said) == 3 * len(BAD_NAMES) and len(names) == 2 * len(BAD_NAMES)
    assert all(SAFE_NAME.fullmatch(name) for name in names), names
    assert all(line.isascii() and line.isprintable() and "/" not in line and "\\" not in line for line in said), said


# ---- the commands


def test_commands(tmp_path: Path) -> None:
    """Every `edgelora store` command on desktop MicroPython, and its refusals."""
    elm, adapters = layers_and_adapters((32, 32, 8), 2)
    _, (foreign,) = layers_and_adapters((16, 16, 8), 1)
    for name, content in {"walk.ela": adapters[0], "run.ela": adapters[1], "bad.ela": adapters[0][:-1]}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "foreign.ela").write_bytes(foreign)
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)

    def store(*args: object, code: int = 0) -> Any:
        args = ("store", *args, "--port", board.port)
        return edgelora(*args, code=code) if code else result(*args)

    try:
        empty = store("list")
        assert not empty["adapters"] and empty["active"] is None and not empty["notices"]
        assert store("put", tmp_path / "walk.ela") == {"name": "walk", "version": 1, "bytes": len(adapters[0])}
        assert store("put", tmp_path / "run.ela", "--name", "walk")["version"] == 2
        assert store("put", tmp_path / "run.ela", "--version", 7)["version"] == 7
        store("activate", "walk")
        store("pin", "run")
        state = store("rename", "walk", "stroll")
        assert sorted(names(state)) == [("run", 7), ("stroll", 2)] and state["active"] == "stroll"
        assert [a["pinned"] for a in state["adapters"] if a["name"] == "run"] == [True]
        assert {a["base_id"] for a in state["adapters"]} == {base_id(elm).hex()}
        store("get", "stroll", "-o", tmp_path / "got.ela")
        assert (tmp_path / "got.ela").read_bytes() == adapters[1]
        with Link.connect(board.port) as link:  # with an open model, which uses the activated adapter
            link.put("/soak.elm", elm)
            link.store_put("foreign", foreign)
            link.open_model("/soak.elm", mode="infer")
            windows = np.random.default_rng(0).integers(-128, 128, (8, 32)).astype(np.int8)
            before = link.eval(windows, logits=True).logits
            link.store_activate("run")
            assert (link.eval(windows, logits=True).logits != before).any()
            with pytest.raises(DeviceError, match="made for base"):
                link.store_put("more", foreign)
            with pytest.raises(DeviceError, match="not an adapter for this model's base"):
                link.store_activate("foreign")
            assert link.store_remove("foreign").active == "run"
        for told, args in (
            ("no adapter named walk", ("activate", "walk")),
            ("no adapter named walk", ("get", "walk", "-o", tmp_path / "none.ela")),
            ("stroll is taken", ("rename", "run", "stroll")),
            *(
                ("give 1 to 24 of", ("put", tmp_path / "run.ela", "--name", name))
                for name in ("x" * 25, "", "../run", "a/b", ".run", "a\x1b[2J", "ä", "a b", "a\n")
            ),
            ("give 1 to 24 of", ("rename", "run", "../walk")),
            ("give 1 to 24 of", ("get", "../run")),
            ("version 0", ("put", tmp_path / "run.ela", "--version", 0)),
            ("bad.ela", ("put", tmp_path / "bad.ela")),
        ):
            assert told in store(*args, code=1), told
        assert not (tmp_path / "none.ela").exists()
        state = store("list")
        assert sorted(names(state)) == [("run", 7), ("stroll", 2)] and state["active"] == "run"
        assert not store("activate")["active"]
        store("unpin", "run")
        store("remove", "run")
        assert names(store("remove", "stroll")) == [] and store("list")["free"] == empty["free"]
        for i in range(32):
            store("put", tmp_path / "run.ela", "--name", f"run-{i}")
        assert "holds 32 entries, its limit" in store("put", tmp_path / "walk.ela", code=1)
        assert len(store("list")["adapters"]) == 32, "an answer of more than a frame"
    finally:
        board.kill()


@slow
def test_files_of_firmware_without_a_store_stay(tmp_path: Path) -> None:
    """A Pico whose filesystem fills the whole storage keeps it, with adapters in a folder. Other data is erased."""
    _, (adapter,) = layers_and_adapters((32, 8), 1)
    (tmp_path / "a.ela").write_bytes(adapter)
    image = build.build_firmware("virtual-pico", {}, tmp_path / "fw.uf2")
    board = virtual_board.start("virtual-pico", image, tmp_path / "pico", die_with_parent=True)
    whole = "import vfs, rp2\nvfs.umount('/')\nvfs.VfsLfs2.mkfs(rp2.Flash(), progsize=256)\n"
    whole += "vfs.mount(vfs.VfsLfs2(rp2.Flash(), progsize=256), '/')\n"
    whole += "f = open('/kept', 'w')\nf.write('still here')\nf.close()"
    try:
        blocks = "[0, 1] + list(range(190, 256))"
        execute(board.port, f"import rp2\nfor i in {blocks}: rp2.Flash().writeblocks(i, bytes(4096))")
        board.kill()
        board = virtual_board.start("virtual-pico", None, tmp_path / "pico", die_with_parent=True)
        assert result("store", "list", "--port", board.port)["place"] == "a partition of its own"
        execute(board.port, whole)
        board.kill()
        board = virtual_board.start("virtual-pico", None, tmp_path / "pico", die_with_parent=True)
        assert execute(board.port, "print(open('/kept').read())") == "still here"
        edgelora("store", "put", tmp_path / "a.ela", "--port", board.port)
        state = result("store", "list", "--port", board.port)
        assert names(state) == [("a", 1)] and state["place"] == "/adapters"
    finally:
        board.kill()


# ---- power cuts on a simulated flash, at each of its operations, and once more while the store opens


def test_power_cut_at_every_operation_of_a_partition() -> None:
    check_cuts(run_device("import store_cuts; store_cuts.main('partition', 60, 1)"), 800)


def test_power_cut_at_every_operation_of_a_folder() -> None:
    check_cuts(run_device("import store_cuts; store_cuts.main('folder', 10, 1)"), 300)


UNREADABLE = """
from edgelora import _folder
from edgelora.store import Store

store = Store({folder!r})
store.put("old", b"abcd")
save, whole = store._flash.save_index, _folder.Folder._whole

def broken(*told):
    raise OSError(5)

def tell(what):
    try:
        print(what())
    except (OSError, ValueError) as error:
        print(type(error).__name__)

store._flash.save_index, _folder.Folder._whole = broken, lambda *told: None
tell(lambda: store.rename("old", "new"))
tell(lambda: [entry.name for entry in store.list()])
store._flash.save_index, _folder.Folder._whole = save, whole
tell(lambda: [entry.name for entry in store.list()])
"""


def test_a_failed_change_is_not_reported_while_flash_is_unreadable(tmp_path: Path) -> None:
    """The cached index then contains a change that was never written."""
    (tmp_path / "store").mkdir()
    said = run_device(UNREADABLE.format(folder=str(tmp_path / "store"))).split("\n")[:3]
    assert said == ["OSError", "StoreError", "['old']"], said


SWITCHED = """
import edgelora
from edgelora.store import Store
model = edgelora.Model("base.elm", 2)
store = Store("adapters", 4096)
store.open(model)
model.begin(1)
own = model.save()
with_wave = model.add_class("wave", [bytes([1, 200, 3, 4, 5]), bytes([1, 190, 3, 4, 5])])
store.put("wave", with_wave.buffer)
store.put("plain", own)
store.use("wave")
print(model.labels[3:], bytes(model.used.buffer) == bytes(with_wave.buffer))
store.use("plain")
print(model.labels[3:], bytes(model.add_class("jump", [bytes(5)]).buffer)[: len(own)][48:] == bytes(own)[48:])
print(model.labels[3:])
store.use(None)
print(model.labels[3:], model.used)
model.use(with_wave)
print(model.labels[3:])
store.use("plain")
model.begin(1)
print(model.labels[3:], model.used)
"""


def test_a_class_is_added_to_what_the_store_has_switched_to(tmp_path: Path) -> None:
    """Even if the model itself was last told to use another one."""
    (tmp_path / "base.elm").write_bytes(pack_model(class_cases.small_base(np.random.default_rng(0))))
    done = subprocess.run(
        [UNIX_BINARY, "-c", SWITCHED], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    said = ["['wave'] True", "[] True", "['jump']", "[] None", "['wave']", "[] None"]
    assert (done.stdout.splitlines(), done.stderr) == (said, "")


# ---- power cuts on the virtual Pico, at each flash command of a store's life through the commands

APP = b"""
import edgelora
from edgelora.store import Store, default_place
model = edgelora.Model("/bench.elm", 4, "infer")
store = Store(default_place(), 4096)
store.open(model)
store.start()
"""


@dataclass
class RecordedPico:
    """A virtual Pico whose flash commands are recorded; the steps done with it, each with the state after it."""

    folder: Path
    steps: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._done = 0
        self.start()

    def start(self) -> None:
        state = self.folder / "pico"
        command = [sys.executable, RECORDER, self.folder / "record", "virtual-pico", state]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        assert process.stdout
        self.handle = virtual_boards.SimHandle(**json.loads(process.stdout.readline()))
        self.port = self.handle.port
        self.process = process

    def end(self) -> None:
        self.handle.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def restart(self) -> None:
        self.end()
        self.start()
        execute(self.port, "from app import *")

    def state(self) -> list[Any]:
        told = result("store", "list", "--port", self.port)
        rows = [[a["name"], a["version"], a["pinned"], a["trial"]] for a in told["adapters"]]
        return [sorted(rows), told["active"]]

    def step(self, name: str, do: Callable[[], object]) -> None:
        do()
        state = self.state()
        records = self.records()
        self.steps.append({"name": name, "records": len(records) - self._done, "state": state})
        self._done = len(records)

    def records(self) -> list[tuple[int, bytes]]:
        data, at, found = (self.folder / "record").read_bytes(), 0, []
        while at < len(data):
            offset, size = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4))
            found.append((offset, data[at + 8 : at + 8 + size]))
            at += 8 + size
        return found


@in_full_runs("test_learner.py cuts the power of a virtual Pico, the tests above at every operation elsewhere")
def test_power_cut_at_every_flash_command_of_the_virtual_pico(tmp_path: Path) -> None:
    """Put, replace, evict, pin, rename, activate, remove, update, fall back: 0 adapters lost, 0 unusable stores.

    The state after every command, half done and complete, is checked by the same code on desktop MicroPython; some are
    booted.
    """
    elm, adapters = layers_and_adapters(WIDTHS, 4)
    for i, adapter in enumerate(adapters):
        (tmp_path / f"{i}.ela").write_bytes(adapter)
    (tmp_path / "app.py").write_bytes(APP)
    (tmp_path / "bench.elm").write_bytes(elm)
    image = build.build_firmware("virtual-pico", {}, tmp_path / "fw.uf2")
    board = virtual_board.start("virtual-pico", image, tmp_path / "pico", die_with_parent=True)
    edgelora("keygen", tmp_path / "key.pem")
    edgelora("push", tmp_path / "bench.elm", MODEL, "--port", board.port)
    edgelora("push", tmp_path / "app.py", "--port", board.port)
    edgelora("update", "--trust", tmp_path / "key.pub", "--target", "band", "--port", board.port)
    edgelora("store", "list", "--port", board.port)  # creates the store
    board.kill()
    shutil.copy(tmp_path / "pico" / "flash.bin", tmp_path / "flash")
    (tmp_path / "record").touch()
    pico = RecordedPico(tmp_path)
    crcs = {}

    def put(name: str, i: int, version: int) -> None:
        crcs[f"{name} {version}"] = zlib.crc32(adapters[i])
        pico.step(f"put {name}", lambda: store("put", tmp_path / f"{i}.ela", "--name", name))

    def store(*args: object) -> dict[str, Any]:
        return result("store", *args, "--port", pico.port)

    def update(i: int, version: int) -> None:
        crcs[f"a {version}"] = zlib.crc32(adapters[i])
        options = ("--name", "a", "--target", "band", "--key", tmp_path / "key.pem", "-o", tmp_path / "site")
        edgelora("release", tmp_path / f"{i}.ela", *options, "--version", version)
        pico.step("update", lambda: edgelora("update", tmp_path / "site" / "a.elu", "--port", pico.port))
        pico.step("start", pico.restart)

    try:
        first = pico.state()
        put("a", 0, 1)
        put("b", 1, 1)
        put("a", 2, 2)
        pico.step("activate", lambda: store("activate", "a"))
        pico.step("evict", lambda: execute(pico.port, "from app import *\nfor n in 'abab': store.use(n)"))
        assert pico.steps[-1]["records"] == 0
        crcs["c 1"] = crcs["b 1"]
        pico.step("rename", lambda: store("rename", "b", "c"))
        pico.step("pin", lambda: store("pin", "c"))
        update(3, 5)
        pico.step("confirm", lambda: edgelora("update", "--confirm", "--port", pico.port))
        update(1, 6)
        pico.step("fall back", pico.restart)
        pico.step("remove", lambda: store("remove", "c"))
        assert pico.state() == [[["a", 5, False, False]], "a"]
    finally:
        pico.end()
    layout = load_board("virtual-pico").flash
    assert layout
    told = {
        "storage": layout.storage_offset,
        "store": layout.total_bytes - layout.store_bytes,
        "crcs": crcs,
        "state": first,
        "steps": pico.steps,
    }
    (tmp_path / "steps.json").write_text(json.dumps(told))
    check_cuts(run_device(f"import flash_replay; flash_replay.main({str(tmp_path)!r})"), 200)
    boot_some(pico, first, every=40)


def boot_some(pico: RecordedPico, state: list[Any], every: int) -> None:
    """Starts the virtual Pico with the power cut after every so many commands: the store is usable."""
    flash = bytearray((pico.folder / "flash").read_bytes())
    records = iter(pico.records())
    done = 0
    for step in pico.steps:
        for _ in range(step["records"]):
            offset, data = next(records)
            flash[offset : offset + len(data)] = data
            done += 1
            if done % every == 0:
                (pico.folder / "pico" / "flash.bin").write_bytes(flash)
                board = virtual_board.start("virtual-pico", None, pico.folder / "pico", die_with_parent=True)
                try:
                    told = result("store", "list", "--port", board.port)
                    rows = sorted([a["name"], a["version"], a["pinned"], a["trial"]] for a in told["adapters"])
                    assert [rows, told["active"]] in (state, step["state"]), step
                    edgelora("store", "put", pico.folder / "0.ela", "--name", "new", "--port", board.port)
                finally:
                    board.kill()
        state = step["state"]


# ---- everything at once


def test_soak(tmp_path: Path) -> None:
    """20,000 random operations with real networks and power cuts: nothing lost, wrong or leaked."""
    elm, adapters = layers_and_adapters((32, 32, 32, 8), 8)
    (tmp_path / "soak.elm").write_bytes(elm)
    for i, adapter in enumerate(adapters):
        (tmp_path / f"{i}.ela").write_bytes(adapter)
    output = run_device(f"import store_soak; store_soak.main({str(tmp_path)!r}, 20000, 1)")
    print(output)
    told = dict(line.split(" ", 1) for line in output.splitlines() if " " in line)
    operations, cuts = map(int, told["SOAK"].split())
    least, most = map(int, told["WEAR"].split())
    assert operations == 20000 and cuts > 200
    assert abs(int(told["HEAP"])) < 2048, "the heap grows"
    assert most <= 2 * least, "wear is not spread"
