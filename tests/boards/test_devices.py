"""Finding, identifying and diagnosing boards: virtual boards, and ports that misbehave."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial
from mpremote.transport_serial import SerialTransport

from edgelora.board import build, devices, doctor, virtual_boards
from edgelora.board.flash import rp2 as flash_rp2
from edgelora.board.link import serial_line
from edgelora.board.link.client import Link
from edgelora.board.probe import Answer, ask, board_of
from edgelora.board.sim import virtual_board
from edgelora.cli.main import main

SECONDS = 15.0  # limit for identifying whatever is at a port, on a busy computer


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> virtual_boards.SimHandle:
    folder = tmp_path_factory.mktemp("pico")
    image = build.build_firmware("virtual-pico", {}, folder / "fw.uf2")
    return virtual_board.start("virtual-pico", image, folder / "board", die_with_parent=True)


@pytest.fixture(scope="module")
def unix(tmp_path_factory: pytest.TempPathFactory) -> virtual_boards.SimHandle:
    return virtual_board.start("unix", None, tmp_path_factory.mktemp("unix"), die_with_parent=True)


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A serial port; the test has its other end."""
    here, there = os.openpty()
    tty.setraw(there)
    yield here, os.ttyname(there)
    os.close(here)
    os.close(there)


def test_boards_tell_what_they_are_and_stay_usable(
    pico: virtual_boards.SimHandle, unix: virtual_boards.SimHandle, capsys
) -> None:
    for _ in range(2):
        assert main(["devices", "--json"]) == 0
        rows = {row["board"]: row for row in json.loads(capsys.readouterr().out)}
        assert (rows["virtual-pico"]["state"], rows["unix"]["state"]) == ("ready", "agent")
        assert [(row["native_arch"], row["edgelora"], row["micropython"]) for row in rows.values()] == [
            ("armv6m", "0.1.0", "1.25.0") if name == "virtual-pico" else ("x64", "0.1.0", "1.25.0") for name in rows
        ]
        for board in (pico, unix):
            with Link.connect(board.port) as link:
                assert link.hello().edgelora == "0.1.0"


def test_a_running_program_is_left_alone_unless_told(pico: virtual_boards.SimHandle) -> None:
    with contextlib.closing(SerialTransport(pico.port)) as repl:
        repl.enter_raw_repl(soft_reset=False)
        repl.exec_raw_no_follow(
            "import time\nn = 0\nwhile True:\n    print('n =', n)\n    n += 1\n    time.sleep_ms(20)"
        )
        assert ask(pico.port).state == "in use"
    first = ask(pico.port)
    assert first.state == "silent" and "--interrupt" in first.detail
    with serial.Serial(pico.port, timeout=5) as line:
        assert b"n = " in line.read_until(b"n = ")
    answer = ask(pico.port, interrupt=True)
    assert (answer.state, answer.board) == ("ready", "rpi_pico")


@pytest.mark.parametrize("says", [b"", b"garbage >>> \x00\xff" * 20, b">>> "])
def test_detection_ends_for_anything_at_a_port(says: bytes, terminal: tuple[int, str]) -> None:
    here, port = terminal
    done = threading.Event()

    def talk() -> None:
        os.set_blocking(here, False)
        while not done.wait(0.002):
            with contextlib.suppress(BlockingIOError):
                os.write(here, says)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        started = time.monotonic()
        assert ask(port).state == "silent"
        assert time.monotonic() - started < SECONDS
    finally:
        done.set()
        talker.join()


def test_a_board_that_accepts_no_data_is_silent(terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_line, "WRITE_SECONDS", 0.1)
    monkeypatch.setattr(serial_line.SerialLine, "_write_some", lambda line, data: 0)
    answer = ask(terminal[1])
    assert answer.state == "silent" and "accepted no data" in answer.detail


def test_ports_that_are_gone_or_locked_or_forbidden(terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask("/dev/does-not-exist").state == "gone"
    with serial.Serial(terminal[1], exclusive=True):
        assert ask(terminal[1]).state == "in use"

    def refuse(port: str, *_: object, **__: object) -> None:
        raise serial.SerialException(13, f"could not open port {port}: [Errno 13] Permission denied: '{port}'")

    monkeypatch.setattr(serial_line, "_open", refuse)
    assert ask(terminal[1]).state == "no access"


@pytest.mark.parametrize(
    ("machine", "build_name", "board"),
    [
        ("Raspberry Pi Pico W with RP2040", "RPI_PICO_W", "rpi_pico_w"),
        ("Raspberry Pi Pico2 with RP2350", "RPI_PICO2", "rpi_pico2"),
        ("Generic ESP32S3 module with ESP32S3", "ESP32_GENERIC_S3", "esp32s3"),
        ("LOLIN_C3_MINI with ESP32-C3FH4", "LOLIN_C3_MINI", "esp32c3"),
        ("ESP32C6 module with ESP32C6", "", "esp32c6"),
        ("Some board with RP2040", "SOME_BOARD", "rpi_pico"),
        ("OpenMV N6 with STM32N657X0", "OPENMV_N6", "openmv_n6"),
        ("OpenMV-AE3 with AE302F80F55D5AE", "", "openmv_ae3"),
        ("PYBv1.1 with STM32F405RG", "PYBV11", None),
    ],
)
def test_boards_are_known_by_what_their_firmware_says(machine: str, build_name: str, board: str | None) -> None:
    assert board_of(machine, build_name) == board


def test_boot_loaders_are_found_and_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "RPI-RP2").mkdir()
    (tmp_path / "RPI-RP2" / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nBoard-ID: RPI-RP2\n")
    monkeypatch.setattr(flash_rp2, "VOLUMES", (str(tmp_path / "*"),))
    monkeypatch.setattr(devices, "find_devices", list)
    ((device, answer),) = devices.survey()
    assert (device.port, answer.state) == (str(tmp_path / "RPI-RP2"), "boot loader")


def test_serial_ports_are_known_by_their_usb_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [
        usb_port("/dev/ttyS0", None, None),
        usb_port("/dev/ttyACM1", 0x303A, 0x1001),
        usb_port("/dev/ttyACM0", 0x2E8A, 5, product="Board"),
        usb_port("/dev/ttyACM2", 0x2341, 0x025E, manufacturer="MicroPython"),
        usb_port("/dev/ttyUSB0", 0x1A86, 0x7523),
    ]
    monkeypatch.setattr(devices.list_ports, "comports", lambda: ports)
    monkeypatch.setattr(devices.virtual_boards, "running", list)
    assert [(device.port, device.description, device.known) for device in devices.find_devices()] == [
        ("/dev/ttyACM0", "Raspberry Pi: Board", True),
        ("/dev/ttyACM1", "an ESP32-S3, C3 or C6 on its own USB", False),
        ("/dev/ttyACM2", "Arduino: y", True),
        ("/dev/ttyUSB0", "CH340 serial adapter: y", False),
    ]


def usb_port(device: str, vid: int | None, pid: int | None, **more: str) -> SimpleNamespace:
    known = {"product": None, "description": "y", "serial_number": None, "manufacturer": None} | more
    return SimpleNamespace(device=device, vid=vid, pid=pid, **known)


class Person(io.StringIO):
    """A user at a terminal, with typed input."""

    def isatty(self) -> bool:
        return True


def test_an_unspecific_port_is_opened_only_on_request(
    terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    here, port = terminal
    os.set_blocking(here, False)
    monkeypatch.setattr(devices.list_ports, "comports", lambda: [usb_port(port, 0x1A86, 0x7523)])
    monkeypatch.setattr(devices.virtual_boards, "running", list)

    def opened() -> bool:
        try:
            return bool(os.read(here, 1000))
        except BlockingIOError:
            return False

    assert main(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "not asked"
    main(["doctor"])
    assert f"board on {port}" in capsys.readouterr().out
    with pytest.raises(devices.PortError, match=f"unknown device's port:\n  --port {port}  CH340"):
        devices.pick_port()
    assert not opened()
    for answer, opens in (("n\n", False), ("", False), ("y\n", True)):
        monkeypatch.setattr("sys.stdin", Person(answer))
        monkeypatch.setattr("sys.stderr", Person())
        assert main(["devices"]) == 0
        assert opened() == opens
    assert main(["devices", "--json", "--probe"]) == main(["devices", "--json", "--port", port]) == 0
    assert opened() and devices.pick_port(port) == port


def test_virtual_boards_of_other_folders_have_to_be_named(
    unix: virtual_boards.SimHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.virtual_boards, "running", lambda: [unix])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(devices.PortError, match=f"--port {unix.port}  virtual unix"):
        devices.pick_port()
    assert main(["sim", "unix", "--stop"]) == 0 and unix.running
    for folder in (unix.state_dir, Path(unix.state_dir).parent):
        monkeypatch.chdir(folder)
        assert devices.pick_port() == unix.port


def test_doctor_is_content_with_this_computer_and_these_boards(
    pico: virtual_boards.SimHandle, unix: virtual_boards.SimHandle, capsys
) -> None:
    assert main(["doctor", "--json"]) == 0
    checks = {check["what"]: check for check in json.loads(capsys.readouterr().out)}
    assert {checks[f"EdgeLoRA on {board.port}"]["state"] for board in (pico, unix)} == {"ok"}
    assert all(check["remedy"] for check in checks.values() if check["state"] != "ok")


def test_doctor_names_problems_and_remedies(terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.0" if name == "esptool" else "99")
    assert main(["doctor", "--port", terminal[1]]) == 1
    said = capsys.readouterr()
    assert "usermod -aG" in said.out and "pip install 'esptool" in said.out
    assert f"access to {terminal[1]}" in said.err and f"board on {terminal[1]}" in said.err


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer("ready", "", "esp32c3", "m", "1.19.1", "rv32imc", "0.1.0"), "too old"),
        (Answer("ready", "", "esp32c3", "m", "1.25.0", "rv32imc", None), "not on the board"),
        (Answer("ready", "", "esp32c3", "m", "1.25.0", "rv32imc", "0.0.9"), "version 0.0.9, this computer has 0.1.0"),
        (Answer("ready", "", "esp32c3", "m", "1.25.0", "xtensawin", "0.1.0"), "esp32c3 needs rv32imc"),
        (Answer("ready", "its EdgeLoRA module cannot be imported: x", "esp32c3", "m", "1.25.0", "rv32imc"), "imported"),
        (Answer("no access", "permission denied"), "no access"),
    ],
)
def test_doctor_judges_what_boards_say(answer: Answer, problem: str) -> None:
    checks = doctor.check_board(devices.Device("/dev/x", "x", False), answer)
    assert [problem in check.detail for check in checks if check.state == "problem"] == [True]
    assert all(check.remedy for check in checks if check.state == "problem")


def test_a_board_that_another_program_has_is_no_problem(
    pico: virtual_boards.SimHandle, capsys: pytest.CaptureFixture[str]
) -> None:
    with Link.connect(pico.port):
        assert main(["doctor", "--port", pico.port, "--json"]) == 0
    checks = {check["what"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks[f"board on {pico.port}"]["state"] == "in use"
