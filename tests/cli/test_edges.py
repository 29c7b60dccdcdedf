"""Edge cases of the command: Ctrl-C, closed and full streams, full disks, links, control characters, bugs."""

from __future__ import annotations

import ast
import builtins
import errno
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import edgelora
from edgelora.base import errors, progress, streams, text
from edgelora.base.errors import EdgeloraError
from edgelora.board.link.replies import DeviceError
from edgelora.cli import console
from edgelora.cli.exit_codes import ExitCode
from edgelora.cli.main import main
from edgelora.core.formats import files
from edgelora.learn.updates import keys

COMMAND = Path(sys.executable).parent / "edgelora"
PACKAGE = Path(edgelora.__file__).parent
HOSTILE = "a\x1b[2J\rb\u202e\nc\x9b"


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a line of shell, in which `edgelora` is the command."""
    script = f'set -o pipefail; edgelora() {{ {COMMAND} "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


# ---- exit codes and streams


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("edgelora boards | true", ExitCode.OUTPUT_CLOSED, ""),
        ("edgelora boards > /dev/full", ExitCode.FAILED, "edgelora: the result can't be written to standard"),
        ("edgelora boards >&-", ExitCode.OK, ""),
        ("edgelora boards 2>&- > boards", ExitCode.OK, ""),
        ("edgelora plan absent.elm 2>&-", ExitCode.FAILED, ""),
        ("edgelora plan absent.elm 2> /dev/full", ExitCode.FAILED, ""),
        ("edgelora plan absent.elm", ExitCode.FAILED, "edgelora: absent.elm: No such file or directory"),
        ("edgelora plan", ExitCode.USAGE, "usage: edgelora plan"),
        ("edgelora sim unix --state taken/x", ExitCode.FAILED, "edgelora: "),
        ("edgelora keygen taken/key.pem", ExitCode.FAILED, "edgelora: taken"),
        ("edgelora keygen $'\\e[31mred.pub'", ExitCode.FAILED, "edgelora: \\x1b[31mred.pub"),
    ],
)  # fmt: skip
def test_exit_codes_and_one_line(line: str, code: ExitCode, said: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    done = shell(line, tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith(said) and bool(done.stderr) == bool(said)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr and "\x1b" not in done.stderr


def test_a_file_never_takes_a_closed_streams_place(tmp_path: Path) -> None:
    assert shell("edgelora keygen key.pem --debug <&- 2>&- >&-", tmp_path).returncode == 0
    assert keys.load_key(tmp_path / "key.pem")


@pytest.mark.parametrize("moment", ["numpy", "edgelora.cli.boards"])
def test_ctrl_c_during_imports(moment: str, tmp_path: Path) -> None:
    """As if the signal came while a module is being imported."""
    (tmp_path / "strike.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {moment!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from edgelora.cli.main import main\n"
        "sys.exit(main(['flash', 'absent.bin', '--port', '/dev/absent']))\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "strike.py"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.INTERRUPTED, "", "\nstopped\n")


def test_ctrl_c_is_handled_as_before_afterwards() -> None:
    assert main(["boards"]) == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# ---- a user's mistake, and ours


def test_bugs_are_distinguished_from_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise KeyError("arena")

    monkeypatch.setattr("edgelora.cli.boards.list_boards", broken)
    assert main(["boards"]) == ExitCode.BUG
    said = capsys.readouterr().err
    assert "this is a bug in edgelora" in said and "KeyError at test_edges.py:" in said and "report it" in said
    assert said.count("\n") == 1
    assert main(["boards", "--debug"]) == ExitCode.BUG
    assert "Traceback" in capsys.readouterr().err
    assert main(["boards", "--json"]) == ExitCode.BUG
    assert json.loads(capsys.readouterr().err)["error"]["type"] == "KeyError"


def test_errors_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key.pem"
    assert main(["keygen", str(key), "--json"]) == 0
    capsys.readouterr()
    assert main(["keygen", str(key), "--json"]) == ExitCode.FAILED
    out, err = capsys.readouterr()
    assert out == ""
    error = json.loads(err)["error"]
    assert (error["type"], error["remedy"]) == ("FileError", "choose another name")
    assert error["message"] == f"{key} already exists, and keys are never overwritten: choose another name"
    assert main(["keygen", "--json"]) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().err)["error"]["type"] == "UsageError"


def test_one_tree_of_errors() -> None:
    """The package only raises errors of its own tree, or built-in ones that indicate a bug."""
    outside = {
        "ValueError",
        "RuntimeError",
        "OSError",
        "ImportError",
        "ModuleNotFoundError",
        "FileExistsError",
        "Exception",
    }
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                assert node.exc.func.id not in outside, f"{path.name}:{node.lineno}: raise one of edgelora.base.errors"
    assert issubclass(DeviceError, EdgeloraError) and issubclass(DeviceError, RuntimeError)
    assert str(errors.FileError("this", remedy="do that")) == "this: do that"


def test_the_drawing_of_errors_is_complete() -> None:
    """Every exception class except the private ones derives from `EdgeloraError`, has a unique name, and is drawn in
    the tree of errors.py."""
    inner = {
        "OutputClosed",
        "Ended",
        "Cancelled",
        "Interrupted",
        "Refused",
        "Stuck",  # a LineLost that discovery tells apart
    }  # caught by the caller; they do not report an error
    bases: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                names = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                if {*names} & {*bases} or any(_is_exception(name) for name in names):
                    assert node.name not in bases, f"{path.name}: there is another {node.name}"
                    bases[node.name] = names
    public = {name for name in bases if not name.startswith("_")} - inner - {"EdgeloraError"}
    assert all(bases[name][0] == "EdgeloraError" for name in public)
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert len(drawn) == len(set(drawn)) and set(drawn) == public


def _is_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return name == "EdgeloraError" or isinstance(kind, type) and issubclass(kind, BaseException)


# ---- text


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert text.printable(HOSTILE) == "a\\x1b[2J\\rb\\u202e\\nc\\x9b"
    assert text.printable("größer 5 µs ‰ 名") == "größer 5 µs ‰ 名"
    console.table(("name",), [(HOSTILE,)])
    streams.say(HOSTILE)
    streams.note(HOSTILE)
    console.emit({HOSTILE: HOSTILE})
    with console.progress("put") as progress:
        progress(1, 1, HOSTILE)
    out, err = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in out + err)
    assert out.startswith("name\na\\x1b[2J\\rb\\u202e\\nc\\x9b\na\\x1b[2J\\rb\\u202e\nc\\x9b\n")


def test_commands_print_through_the_console() -> None:
    for path in PACKAGE.glob("cli/*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"], path


# ---- files


def test_write_atomic_keeps_modes_and_links(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        files.write_atomic(tmp_path / "new", b"1")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
        (tmp_path / "new").chmod(0o600)
        files.write_atomic(tmp_path / "new", b"2")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
        keys.new_key(tmp_path / "key.pem")
        assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "key.pub").stat().st_mode) == 0o640
    finally:
        os.umask(old)
    (tmp_path / "secret").write_bytes(b"mine")
    (tmp_path / "secret").chmod(0o666)
    (tmp_path / "link").symlink_to("secret")
    files.write_atomic(tmp_path / "link", b"3")
    assert (tmp_path / "secret").read_bytes() == b"mine"
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_bytes() == b"3"
    assert stat.S_IMODE((tmp_path / "link").stat().st_mode) == 0o666 & ~old
    for place in ("/dev/full", "/dev/null", tmp_path):
        with pytest.raises(errors.FileError, match="not a regular file"):
            files.write_atomic(place, b"4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.pem", "key.pub", "link", "new", "secret"]


def _full(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Simulates a full disk: every fsync fails after the first `after`."""
    calls = iter(range(100))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("after", [0, 2])
def test_a_full_disk_leaves_nothing_half_made(
    after: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _full(monkeypatch, after)
    assert main(["keygen", str(tmp_path / "key.pem")]) == ExitCode.FAILED
    assert "No space left on device" in capsys.readouterr().err
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(tmp_path / "file", b"1")
    assert list(tmp_path.iterdir()) == []


def test_time_left_is_told_once_something_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time left counts down between reports; without progress there is no estimate."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])  # shared by all of Python
    lines = console._Lines("rounds")
    for second, done in ((0, 0), (10, 0), (20, 1), (30, None), (60, None), (61, 2)):
        now[0] = 100.0 + second
        lines._tell() if done is None else lines(done, 2, f"{done} done")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "rounds: 0/2 0 done (10 s)",
        "rounds: 1/2 1 done, 20 s left (20 s)",
        "rounds: 1/2 1 done, 10 s left (30 s)",
        "rounds: 1/2 1 done, 0 s left (60 s)",
        "rounds: 2/2 2 done, 0 s left (61 s)",
    ]


# Reports as (seconds since the command began, done, total, expected time left after it).
LATE = [(600, 1, 11, None), (610, 2, 11, 90.0), (630, 4, 11, 70.0)]  # after ten minutes of other work
RESUMED = [(5, 90, 100, None), (10, 91, 100, 45.0)]  # 89 were done before
PHASES = [(0, 0, 2, None), (50, 2, 2, 0.0), (100, 2, 8, None), (101, 3, 8, 5.0)]  # done rises, total changes
AGAIN = [(0, 0, 4, None), (8, 4, 4, 0.0), (30, 1, 4, None), (40, 2, 4, 20.0)]


@pytest.mark.parametrize("reports", [LATE, RESUMED, PHASES, AGAIN], ids=["late", "resumed", "total", "again"])
def test_time_left_is_of_the_present_phase(
    reports: list[tuple[int, int, int, float | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate excludes what a command did before this phase, or a run before it was resumed."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines, bar = console._Lines("learn"), progress.TimeLeft()
    for second, done, total, left in reports:
        now[0] = float(second)
        lines(done, total, "")
        bar.report(done, total)
        assert lines._left.seconds == bar.seconds == left


def test_a_bar_on_a_terminal_tells_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, screen = [0.0], io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with console.progress("learn") as tell:
        for second, done in ((600, 1), (610, 2)):
            now[0] = float(second)
            tell(done, 11, "updates")
    assert "2/11" in screen.getvalue() and "90 s left" in screen.getvalue()
