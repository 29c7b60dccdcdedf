"""Virtual boards: real firmware on the emulated chip."""

import contextlib
import fcntl
import importlib
import itertools
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import asdict
from pathlib import Path

import programs
import pytest
import serial
from commands import execute
from fresh import slow
from mpremote.transport_serial import SerialTransport

from benchmarks.networks import dense_chain, network
from edgelora.board import build, devices, uf2, virtual_boards
from edgelora.board import virtual_boards as registry
from edgelora.board.flash import common, write
from edgelora.board.link.client import Link
from edgelora.board.link.replies import LinkError
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.board.sim.session import Ended, Terminal
from edgelora.board.sim.unix import Unix
from edgelora.cli.main import main
from edgelora.core.formats.elm import pack_model

sim_start = importlib.import_module("edgelora.board.sim.virtual_board")
FILES = {"a.bin": bytes(range(256)) * 40, "b.bin": b"second"}


@pytest.fixture(scope="module")
def firmware(tmp_path_factory):
    return build.build_firmware("virtual-pico", FILES, tmp_path_factory.mktemp("firmware") / "fw.uf2")


def running(firmware, state, kind="virtual-pico"):
    return programs.running(kind, firmware, state)


def wait(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("command", [["sim"], ["demo", "har", "--board"], ["demo", "machine", "--board"]])
def test_missing_parts_of_a_virtual_board_are_reported_first(command, tmp_path, monkeypatch, capsys):
    """What is missing is reported before any pretraining, without a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sim_start, "find_spec", lambda name: None)
    monkeypatch.setattr(sim_start, "UNIX_BINARY", tmp_path / "micropython")
    monkeypatch.setattr(sim_start.shutil, "which", lambda name: None)
    remedies = {"virtual-pico": "edgelora[sim]", "unix": "make firmware-unix", "virtual-riscv": "qemu-system-riscv"}
    for board, remedy in remedies.items():
        assert main([*command, board]) == 1
        told = capsys.readouterr().err
        assert remedy in told and "pretrain" not in told and "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_the_advice_about_a_board_in_use_works(tmp_path, monkeypatch, capsys):
    """A demo stops before pretraining, and the command in its message unplugs only the board that is in its way."""
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "out" / "har" / "unix.board"
    with running(None, state, "unix"), running(None, tmp_path / "other", "unix") as other:
        assert main(["demo", "har", "--board", "unix"]) == 1
        told = capsys.readouterr().err
        assert "pretrain" not in told
        [remedy] = re.findall("`edgelora (.*)` unplugs it", told)
        assert main(shlex.split(remedy)) == 0
        assert [board.state_dir for board in virtual_boards.running()] == [other.state_dir]


def test_a_pico_without_firmware_says_what_to_do(tmp_path, capsys):
    assert main(["sim", "virtual-pico", "--state", str(tmp_path / "new")]) == 0
    assert "edgelora build --board virtual-pico --model MODEL.elm" in capsys.readouterr().err
    assert main(["sim", "--stop", "--state", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == "stopped 1\n"


def test_files_are_mapped_and_flash_survives_a_power_cut(firmware, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = """
v = memoryview(open('/rom/a.bin', 'rb'))
import uctypes
print(len(v), uctypes.addressof(v) - 0x100C0000 < 0x40000, uctypes.addressof(v) % 16, __import__('binascii').crc32(v))
with open('kept', 'w') as f: f.write('still here')
"""
    crc = zlib.crc32(FILES["a.bin"])
    with running(firmware, tmp_path) as board:
        assert execute(board.port, code) == f"10240 True 0 {crc}"
        assert board in virtual_boards.running()
        assert devices.pick_port() == board.port
    assert board not in virtual_boards.running()
    with running(None, tmp_path) as board:
        assert execute(board.port, "print(open('kept').read(), open('/rom/b.bin').read())") == "still here second"
        # a reset does not power-cycle the port: the same path answers again
        transport = SerialTransport(board.port)
        transport.enter_raw_repl(soft_reset=False)
        transport.exec_raw_no_follow("x = 1; import machine; machine.reset()")
        time.sleep(0.3)  # so that the next client's Ctrl-C comes after the reset
        transport.close()
        assert execute(board.port, "print('x' in globals())") == "False"


def test_flashing_through_the_boot_loader(firmware, tmp_path):
    with running(None, tmp_path / "empty") as board:
        drive = Path(board.drive)
        assert "Board-ID: RPI-RP2" in (drive / "INFO_UF2.TXT").read_text()
        # after an incomplete copy the boot loader waits; after a complete one the board boots
        (drive / "fw.uf2").write_bytes(firmware.read_bytes()[:100_000])
        time.sleep(0.3)
        assert drive.exists()
        shutil.copy(firmware, drive / "fw.uf2")
        wait(lambda: not drive.exists())
        assert execute(board.port, "print(1 + 1)") == "2"
        execute(board.port, "open('kept', 'w').write('x')")

        second = build.build_firmware("virtual-pico", {"new.bin": b"new model"}, tmp_path / "second.uf2")
        steps = []
        assert write.flash(board.port, second, lambda *told: steps.append(told)) == board.port
        assert steps[-2] == (*[second.stat().st_size] * 2, "writing")
        code = "import os; print(os.listdir('/rom'), os.listdir('/'))"
        assert execute(board.port, code) == "['new.bin'] ['rom', 'kept']"


def test_a_model_arrives_behind_a_program_that_ends_within_a_sector(tmp_path, monkeypatch):
    """Built for it; and flashed from an image whose sectors nobody filled, which the boot ROM would half erase."""
    model, code = tmp_path / "wide.elm", "import edgelora; print(len(edgelora.Model('/rom/wide.elm').output))"
    model.write_bytes(pack_model(network(dense_chain(64, 128, 10))))
    program = uf2.parse(build.program(load_board("virtual-pico")).read_bytes())
    program.put(program.end, bytes(uf2.PAYLOAD_BYTES * (program.end % uf2.SECTOR_BYTES == 0)))
    longer, built, unfilled = (tmp_path / name for name in ("longer.uf2", "built.uf2", "unfilled.uf2"))
    longer.write_bytes(uf2.serialize(program))
    monkeypatch.setattr(build, "program", lambda *_: longer)
    command = ["build", "--board", "virtual-pico", "--model", str(model), "-o"]
    assert main([*command, str(built)]) == 0
    with monkeypatch.context() as patched:
        patched.setattr(uf2, "SECTOR_BYTES", uf2.PAYLOAD_BYTES)
        assert main([*command, str(unfilled)]) == 0
    assert unfilled.stat().st_size < built.stat().st_size
    with running(built, tmp_path / "state") as board:
        assert execute(board.port, code) == "10"
        assert main(["flash", str(unfilled), "--port", board.port]) == 0
        assert execute(board.port, code) == "10"


def test_flash_refuses_before_touching_the_board(firmware, tmp_path):
    bad = tmp_path / "bad.uf2"
    bad.write_bytes(firmware.read_bytes()[:-512])
    with pytest.raises(uf2.Uf2Error, match="the file is incomplete"):
        write.flash("/dev/does-not-exist", bad)
    with pytest.raises(common.FlashError, match="cannot open"):
        write.flash("/dev/does-not-exist", firmware)
    with pytest.raises(common.FlashError, match="not a boot loader's volume"):
        write.flash(tmp_path, firmware)


def test_serial_port_is_transparent_both_ways(firmware, tmp_path):
    with running(firmware, tmp_path) as board:
        transport = SerialTransport(board.port)
        transport.enter_raw_repl(soft_reset=False)
        transport.exec_raw_no_follow(
            "import sys, micropython\nmicropython.kbd_intr(-1)\nb = bytearray(4096)\n"
            "sys.stdout.buffer.write(b'!')\nsys.stdin.buffer.readinto(b)\nsys.stdout.buffer.write(b)\n"
            "micropython.kbd_intr(3)"
        )
        assert transport.serial.read(1) == b"!"
        data = os.urandom(4096)
        transport.serial.write(data)
        time.sleep(1.0)  # a slow reader must not lose bytes
        transport.serial.timeout = 10
        assert transport.serial.read(4096) == data
        transport.close()


def test_a_hosts_frames_interrupt_where_firmware_asks_for_it(firmware, tmp_path):
    """Each millisecond, which ends light sleep. TinyUSB stops asking when nothing is left to send."""
    code = """
import machine, time
def asleep():
    began = time.ticks_us()
    machine.lightsleep(100)
    return time.ticks_diff(time.ticks_us(), began)
FRAME, ENABLED = 0x50110048, 0x50110090
time.sleep_ms(20)
undisturbed = asleep()
frame = machine.mem32[FRAME]
while machine.mem32[FRAME] == frame:
    pass
machine.mem32[ENABLED] |= 1 << 17  # as TinyUSB does, a millisecond before the next frame
asking = asleep()
time.sleep_ms(20)
frame = machine.mem32[FRAME]
time.sleep_ms(50)
print(undisturbed, asking, machine.mem32[FRAME] - frame & 0x7FF, machine.mem32[ENABLED] >> 17 & 1)
"""
    with running(firmware, tmp_path) as board:
        undisturbed, asking, frames, enabled = map(int, execute(board.port, code).split())
    assert 100_000 <= undisturbed < 103_000
    assert asking < 5000
    assert 50 <= frames <= 51 and not enabled


def test_a_board_that_cannot_start_says_why(tmp_path):
    bad = tmp_path / "bad.uf2"
    bad.write_bytes(b"no firmware")
    with pytest.raises(virtual_boards.SimError, match="whole number of 512-byte blocks"):
        virtual_board.start("virtual-pico", bad, tmp_path)
    with pytest.raises(virtual_boards.SimError, match="real hardware"):
        virtual_board.start("rpi_pico", None, tmp_path)


def test_one_board_per_state_folder_that_ends_with_its_parent(tmp_path):
    code = f"""
from pathlib import Path
from edgelora.board import virtual_boards
from edgelora.board.sim import virtual_board
state = Path({str(tmp_path)!r})
print(virtual_board.start("virtual-pico", None, state, die_with_parent=True).pid)
try:
    virtual_board.start("virtual-pico", None, state)
except virtual_boards.SimError as error:
    print("already runs" in str(error))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out[1] == "True"
    wait(lambda: not any(board.pid == int(out[0]) for board in virtual_boards.running()))


@pytest.mark.parametrize("typed, left", [(b"print(1)\r", b"print(1)\r"), (b"x\r\x03\x03\r\x01", b"\r\x01")])
def test_what_is_typed_ahead_reaches_the_unix_board(typed, left, tmp_path):
    """Input typed while a program runs that reads none; a Ctrl-C ends the program and discards what was typed before
    it."""
    begun = "print('begun', flush=True); import time; time.sleep(60)"
    program = subprocess.Popen([sys.executable, "-c", begun], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert program.stdout.readline() == b"begun\n"
    terminal = Terminal(tmp_path / "port")
    os.write(terminal._client, typed)
    looks = iter(range(200))

    class Session:
        def check(self, seconds):
            if next(looks) == 99:
                raise Ended

        def announce(self):
            pass

    Session.terminal = terminal
    board = Unix(load_board("unix"), tmp_path, Session())
    with contextlib.suppress(Ended):
        board._watch(program, time.monotonic())
    assert (program.poll() is None) is (b"\x03" not in typed)
    program.kill()
    program.wait()
    os.set_blocking(terminal.fd, False)
    assert os.read(terminal.fd, 100) == left


def test_unix_board(tmp_path):
    romfs = build.build_firmware("unix", {"a.bin": b"model"}, tmp_path / "fw.romfs")
    board = virtual_board.start("unix", romfs, tmp_path / "state", die_with_parent=True)
    try:
        assert board.running
        assert (tmp_path / "state" / "rom").read_bytes() == romfs.read_bytes()
        again = build.build_firmware("unix", {"b.bin": b"other"}, tmp_path / "again.romfs")
        assert write.flash(board.port, again) == board.port
        assert (tmp_path / "state" / "rom").read_bytes() == again.read_bytes()
        assert board.running
    finally:
        board.stop()
    assert not board.running


def test_riscv_board(tmp_path):
    program = build.build_firmware("virtual-riscv", {}, tmp_path / "fw.elf")
    with running(program, tmp_path / "state", kind="virtual-riscv") as board:
        execute(board.port, "with open('kept', 'w') as f: f.write('still here')")
        execute(board.port, "with open('main.py', 'w') as f: f.write('ran = 1')")
        noise = "import os; a = os.urandom(513); print(len(a), len(set(a)) > 128, a != os.urandom(513), os.urandom(0))"
        assert execute(board.port, noise) == "513 True True b''"
        transport = SerialTransport(board.port)
        transport.enter_raw_repl(soft_reset=False)
        transport.exec_raw_no_follow("while True: pass")
        time.sleep(0.3)
        transport.close()
        assert execute(board.port, "print(1 + 1)") == "2"  # Ctrl-C has ended the loop
        bursts(board.port)
        transport = SerialTransport(board.port)
        transport.enter_raw_repl(soft_reset=False)
        transport.exec_raw_no_follow("import machine; machine.reset()")
        time.sleep(0.5)
        transport.close()
        assert execute(board.port, "print(ran, open('kept').read())") == "1 still here"
        code = (
            "import time; a = time.ticks_us(); time.sleep_ms(50); print(time.ticks_diff(time.ticks_us(), a) >= 50000)"
        )
        assert execute(board.port, code) == "True"
    with running(None, tmp_path / "state", kind="virtual-riscv") as board:  # the power was cut
        assert execute(board.port, "print(open('kept').read())") == "still here"


def bursts(port: str) -> None:
    """Programs of every length around the serial FIFO's size, and a Ctrl-C right after one."""
    with serial.Serial(port, timeout=10) as line:
        line.write(b"\r\x03\x03\r\x01")
        line.read_until(b"exit\r\n>")
        for length in (*range(1, 34), 511, 512, 513, 20_000):
            text = ("abcdefghi" * 2300)[:length]
            line.write(f"x = {text!r}\nprint(x)\x04".encode())
            assert line.read_until(b"\x04\x04>") == f"OK{text}\r\n\x04\x04>".encode()
        line.write(b"while True: pass\x04\x03")
        assert b"KeyboardInterrupt" in line.read_until(b"\x04>")
        line.write(b"\x02")


# --- the registry


def test_a_registry_that_others_may_write_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "edgelora"
    assert virtual_boards.running() == [] and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(virtual_boards.SimError, match="not a private folder of yours"):
        virtual_boards.running()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(virtual_boards.SimError, match="not a private folder of yours"):
        virtual_boards.running()
    folder.unlink()
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 4321)  # the folder now belongs to another user
    monkeypatch.setattr(registry, "_is_safe_parent", lambda folder: True)
    with pytest.raises(virtual_boards.SimError, match="not a private folder of yours"):
        virtual_boards.running()


@pytest.mark.parametrize("base", [None, "missing", "open"])
def test_without_a_runtime_folder_of_ones_own_the_registry_is_in_tmp(base, tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    if base:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / base))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = virtual_boards.registry()
    assert path == tmp_path / f"edgelora-{os.getuid()}" and path.stat().st_mode & 0o777 == 0o700


def test_foreign_entries_of_the_registry_are_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = virtual_boards.registry()
    (tmp_path / "precious.json").write_text("{}")
    (folder / "link.json").symlink_to(tmp_path / "precious.json")
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    numbers = dict.fromkeys(("board", "port", "drive", "pid", "state_dir"), 7)
    for text in ("no JSON", "[]", '{"board": "x"}', "7", json.dumps(numbers)):
        with open(folder / "held.json", "w") as file:
            file.write(text)
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX)
            assert virtual_boards.running() == []
    assert (tmp_path / "precious.json").exists() and (folder / "link.json").is_symlink()
    (folder / "link.json").rename(virtual_boards.entry_of(tmp_path / "state"))
    with pytest.raises(virtual_boards.SimError, match="did not start"):
        virtual_board.start("virtual-pico", None, tmp_path / "state")
    assert (tmp_path / "precious.json").read_text() == "{}"


def test_the_port_of_a_dead_board_does_not_lead_to_another(tmp_path):
    """The kernel reuses the dead board's pseudo-terminal for the next process that opens one."""
    board = virtual_board.start("unix", None, tmp_path / "state", die_with_parent=True)
    name = os.readlink(board.port)
    virtual_boards.send(board.pid, signal.SIGKILL)
    wait(lambda: not board.running and not os.path.exists(name))
    others = []
    try:
        while name not in [os.ttyname(line) for pair in others for line in pair[1:]]:
            others.append(pty.openpty())
            assert len(others) < 100
        with pytest.raises(LinkError, match="cannot open"):
            Link.connect(board.port)
    finally:
        for line in itertools.chain(*others):
            os.close(line)


@slow
def test_a_board_that_starts_during_a_search_is_found(tmp_path, monkeypatch):
    """Readers remove entries of dead boards, but never the entry of a board that is starting in the same place."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    entry = virtual_boards.entry_of(tmp_path / "state")
    look = "from edgelora.board import virtual_boards\nprint(flush=True)\nwhile True: virtual_boards.running()"
    command = [sys.executable, "-c", look]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) for _ in range(3)]
    try:
        for one in others:
            one.stdout.readline()
        for turn in range(500):
            descriptor = virtual_boards.hold(entry)
            assert virtual_boards.running() == [], f"in turn {turn}"  # starting: a dead board's entry is cleared
            handle = virtual_boards.SimHandle("unix", "port", "drive", 2**31 - 1, str(tmp_path / "state"))
            os.write(descriptor, json.dumps(asdict(handle)).encode())
            time.sleep(0.001)
            assert virtual_boards.running() == [handle], f"in turn {turn}"
            os.close(descriptor)  # the power is cut
            if turn % 2:
                handle.kill()
    finally:
        for one in others:
            one.kill()
            one.communicate()
