"""The adapter store on real MicroPython: power cuts at every flash operation, use with a real model, its commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import class_cases
import numpy as np
import pytest
from commands import edgelora, execute, result
from fresh import slow
from programs import desktop, running

from benchmarks.swap import layers_and_adapters
from edgelora.board import build
from edgelora.board.link.client import Link
from edgelora.board.link.replies import DeviceError
from edgelora.core.formats.elm import base_id, pack_model


def names(state: dict[str, Any]) -> list[tuple[str, int]]:
    return [(a["name"], a["version"]) for a in state["adapters"]]


NAMES = """
from edgelora.store import Store, StoreError
import os
store = Store("adapters", cache=0)
for name in NAMES:
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
for name in NAMES:
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
    said = desktop(tmp_path, f"NAMES = {BAD_NAMES!r}{NAMES}").splitlines()
    assert not [line for line in said if "FAIL" in line], said
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

    def store(*args: object, code: int = 0) -> Any:
        args = ("store", *args, "--port", board.port)
        return edgelora(*args, code=code) if code else result(*args)

    with running("unix", None, tmp_path / "board") as board:
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


@slow
def test_files_of_firmware_without_a_store_stay(tmp_path: Path) -> None:
    """A Pico whose filesystem fills the whole storage keeps it, with adapters in a folder. Other data is erased."""
    _, (adapter,) = layers_and_adapters((32, 8), 1)
    (tmp_path / "a.ela").write_bytes(adapter)
    image = build.build_firmware("virtual-pico", {}, tmp_path / "fw.uf2")
    whole = "import vfs, rp2\nvfs.umount('/')\nvfs.VfsLfs2.mkfs(rp2.Flash(), progsize=256)\n"
    whole += "vfs.mount(vfs.VfsLfs2(rp2.Flash(), progsize=256), '/')\n"
    whole += "f = open('/kept', 'w')\nf.write('still here')\nf.close()"
    with running("virtual-pico", image, tmp_path / "pico") as board:
        blocks = "[0, 1] + list(range(190, 256))"
        execute(board.port, f"import rp2\nfor i in {blocks}: rp2.Flash().writeblocks(i, bytes(4096))")
    with running("virtual-pico", None, tmp_path / "pico") as board:
        assert result("store", "list", "--port", board.port)["place"] == "a partition of its own"
        execute(board.port, whole)
    with running("virtual-pico", None, tmp_path / "pico") as board:
        assert execute(board.port, "print(open('/kept').read())") == "still here"
        edgelora("store", "put", tmp_path / "a.ela", "--port", board.port)
        state = result("store", "list", "--port", board.port)
        assert names(state) == [("a", 1)] and state["place"] == "/adapters"


# ---- power cuts on a simulated flash, at each of its operations, and once more while the store opens


@pytest.mark.parametrize(("kind", "puts", "least"), [("partition", 60, 800), ("folder", 10, 300)])
def test_power_cut_at_every_operation(kind: str, puts: int, least: int, tmp_path: Path) -> None:
    output = desktop(tmp_path, f"import store_cuts; store_cuts.main({kind!r}, {puts}, 1)")
    failures = [line for line in output.splitlines() if line.startswith("FAIL")]
    assert not failures, failures[:10]
    ended = re.search(r"^CUTS (\d+) 0$", output, re.MULTILINE)
    assert ended and int(ended[1]) >= least, output[-2000:]


UNREADABLE = """
from edgelora import _folder
from edgelora.store import Store

store = Store("store")
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
    said = desktop(tmp_path, UNREADABLE).splitlines()
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
    said = ["['wave'] True", "[] True", "['jump']", "[] None", "['wave']", "[] None"]
    assert desktop(tmp_path, SWITCHED).splitlines() == said


def test_soak(tmp_path: Path) -> None:
    """20,000 random operations with real networks and power cuts: nothing lost, wrong or leaked."""
    elm, adapters = layers_and_adapters((32, 32, 32, 8), 8)
    (tmp_path / "soak.elm").write_bytes(elm)
    for i, adapter in enumerate(adapters):
        (tmp_path / f"{i}.ela").write_bytes(adapter)
    output = desktop(tmp_path, "import store_soak; store_soak.main('.', 20000, 1)")
    print(output)
    told = dict(line.split(" ", 1) for line in output.splitlines() if " " in line)
    operations, cuts = map(int, told["SOAK"].split())
    least, most = map(int, told["WEAR"].split())
    assert operations == 20000 and cuts > 200
    assert abs(int(told["HEAP"])) < 2048, "the heap grows"
    assert most <= 2 * least, "wear is not spread"
