"""The command line: help, spelling, settings, completion, files on a board, resumed and compared runs."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from commands import edgelora, result

from edgelora.base.resources import ROOT
from edgelora.board.profiles import BoardError, board_name, list_boards, load_board
from edgelora.cli import console, index, settings
from edgelora.cli.command_line import Parser
from edgelora.cli.main import main
from edgelora.cli.parser import GROUPS, make_parser
from edgelora.learn.report.metrics import End, Metrics, Update, follow
from edgelora.learn.report.record import Change, Report, ReportError
from edgelora.learn.report.sections import write_report

HOSTILE = "a\x1b[2J<script>alert(1)</script>\u202e"


def commands(parser: Parser, name: str = "") -> Iterator[tuple[str, str]]:
    """All commands with their line of help."""
    assert parser.commands is not None
    for action in parser.commands._choices_actions:
        inner = parser.commands.choices[action.dest]
        yield f"{name}{action.dest}", str(action.help)
        if inner.commands is not None:
            yield from commands(inner, f"{name}{action.dest} ")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder without settings; the user's settings would be in home/edgelora."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    for variable in settings.VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "home" / "edgelora").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- help and spelling


def test_help_is_a_line_a_command_in_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([]) == 0
    said = capsys.readouterr().out
    for title, names in GROUPS:
        block = said.partition(f"\n{title}:\n")[2].partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in block] == list(names), title
    assert sorted(name for _, names in GROUPS for name in names) == sorted(
        name for name, _ in commands(make_parser()) if " " not in name
    )
    for name, line in commands(make_parser()):
        assert line and len(line) <= 62 and "\n" not in line, name
    assert main(["store"]) == 0
    assert "  activate  " in capsys.readouterr().out


def test_a_list_of_commands_imports_nothing_heavy() -> None:
    """And no command imports packages that only others need."""
    heavy = ("numpy", "rich", "jinja2", "serial", "esptool", "cryptography", "shtab", "importlib.metadata", "asyncio")
    script = "import sys; from edgelora.cli.main import main; main([WORDS]); print(*sys.modules, file=sys.stderr)"

    def imported(*words: str) -> set[str]:
        line = script.replace("WORDS", ", ".join(map(repr, words)))
        ran = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
        return set(ran.stderr.split())

    found = imported()
    assert "edgelora.cli.index" in found and not found & set(heavy)
    assert {name for name in found if name.startswith("edgelora.") and name.count(".") == 1} == {
        "edgelora.cli",
        "edgelora.base",
    }
    compared = imported("store")
    assert "edgelora.cli.store" in compared and "edgelora.cli.bench" not in compared
    planned = imported("plan", "none.elm")
    assert "edgelora.learn.planning.choose" in planned
    assert not planned & {
        "serial",
        "jinja2",
        "edgelora.model.quantization.quantize",
        "edgelora.model.importers.tflite.graph",
    }


def test_the_index_and_commands_have_the_same_summaries() -> None:
    lines = {name: line for name, line in commands(make_parser()) if " " not in name}
    assert lines == {name: entry.line for name, entry in index.COMMANDS.items()}
    for name, entry in index.COMMANDS.items():
        listed = make_parser([name, "--help"]).commands.choices
        here = {other for other, command in listed.items() if command.commands or command.option("--json")}
        assert here == {other for other, of in index.COMMANDS.items() if of.module == entry.module}


def test_help_contains_no_python_objects(capsys: pytest.CaptureFixture[str]) -> None:
    for name, _ in commands(make_parser()):
        with pytest.raises(SystemExit):
            main([*name.split(), "--help"])
        page = capsys.readouterr().out
        assert not re.search(r"\{'|': |PosixPath|<function|None\)", page), name


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("persnalize", "no command 'persnalize': did you mean personalize? see edgelora --help"),
        ("store activte x", "no command 'activte': did you mean activate? see edgelora store --help"),
        ("plan x.elm --bord pico", "no option --bord: did you mean --board? see edgelora plan --help"),
        ("eval x.elm --dta x.npz", "no option --dta: did you mean --data?"),
        ("--jsn plan", "no option --jsn: see edgelora --help"),
        ("plan x.elm --mode frozen", "--mode: 'frozen': give one of frozen_a, trainable_a"),
        ("eval x.elm --data x --adapt y", "no option --adapt: did you mean --adapter"),  # no abbreviations
        ("boards --js", "no option --js"),
        ("boards one two", "too many arguments, one two: see edgelora boards --help"),
    ],
)
def test_spelling(line: str, said: str) -> None:
    error = edgelora(*line.split(), code=2)
    assert said in error and error.startswith("usage: edgelora") and error.count("\n") == 2


def test_arguments_in_any_order() -> None:
    orders = ("fleet f.ela --name n --all", "fleet --name n f.ela --all", "--name n fleet --all f.ela")
    found = [vars(make_parser().parse_args(["fleet", "publish", *order.split()])) for order in orders]
    assert found[0] == found[1] == found[2] and found[0]["adapter"] == Path("f.ela")


@pytest.mark.parametrize(("line", "name"), [("bench attention", "parts"), ("bench trust --json", "task")])
def test_a_list_may_be_left_out(line: str, name: str) -> None:
    assert not getattr(make_parser().parse_args(line.split()), name)


def test_every_command_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    rows = {name: line for name, line in re.findall(r"^\| `([a-z][a-z -]*)` \| (.+?) \|$", page, re.MULTILINE)}
    assert rows == dict(commands(make_parser()))
    for variable in settings.VARIABLES.values():
        assert variable in page


# ---- boards and settings


def test_aliases_of_boards() -> None:
    names = list_boards()
    aliases = [alias for name in names for alias in load_board(name).aliases]
    assert len({*names, *aliases}) == len(names) + len(aliases)
    assert {board_name(name) for name in ("pico", "PICO", "rpi_pico")} == {"rpi_pico"}
    assert load_board("pico-w").name == "rpi_pico_w" and load_board("pico2").name == "rpi_pico2"
    assert load_board("virtual").name == "virtual-pico"
    with pytest.raises(BoardError, match="unknown board 'pcio'; did you mean pico"):
        load_board("pcio")


def board_of_plan(*args: str) -> tuple[str, int | None, str | None]:
    parser = make_parser()
    settings.apply(parser)
    args_ = parser.parse_args(["plan", "x.elm", *args])
    return args_.board, args_.rank, args_.usual_port


def test_flag_then_environment_then_folder_then_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert board_of_plan() == ("rpi_pico", None, None)
    user = home / "home" / "edgelora" / "edgelora.toml"
    user.write_text('port = "/dev/user"\nboard = "pico-w"\n[plan]\nrank = 3\n[bench.link]\nsize = 1000\n')
    assert board_of_plan() == ("rpi_pico_w", 3, "/dev/user")
    (home / "edgelora.toml").write_text('port = "/dev/folder"\n[plan]\nboard = "pico2"\n')
    assert board_of_plan() == ("rpi_pico2", 3, "/dev/folder")
    monkeypatch.setenv("EDGELORA_PORT", "/dev/environment")
    monkeypatch.setenv("EDGELORA_BOARD", "virtual")
    assert board_of_plan() == ("virtual-pico", 3, "/dev/environment")
    assert board_of_plan("--board", "pico", "--rank", "5")[:2] == ("rpi_pico", 5)
    assert "cannot open /dev/environment" in edgelora("ls", code=1)
    assert "cannot open /dev/flag" in edgelora("ls", "--port", "/dev/flag", code=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prt = 1", "edgelora.toml, prt: there is no such setting: did you mean port"),
        ("[pln]", "edgelora.toml, pln: there is no such setting: did you mean plan?"),
        ("[plan]\nrnk = 1", "edgelora.toml, [plan], rnk: edgelora plan has no such option: did you mean rank?"),
        ("[plan]\njson = true", "[plan], json: edgelora plan has no such option"),
        ('[plan]\nrank = "four"', "[plan], rank: invalid int value: 'four'"),
        ('[plan]\nmode = "frozen"', "[plan], mode: 'frozen': give one of frozen_a, trainable_a"),
        ("[personalize]\nresume = 1", "[personalize], resume: give true or false"),
        ("[bench.lnk]", "edgelora.toml, [bench], lnk: there is no such setting: did you mean link"),
        ("port = 1", "edgelora.toml, port: give text"),
        ("plan = 1", "edgelora.toml, plan is a command: write its settings under [plan]"),
        ("port = ", "edgelora.toml is not TOML"),
        ("a=" + "[" * 5000, "edgelora.toml is not TOML"),
        ("\udcff", "edgelora.toml is not TOML"),
    ],
)
def test_settings_that_are_refused(home: Path, text: str, said: str) -> None:
    (home / "edgelora.toml").write_bytes(text.encode(errors="surrogateescape"))
    error = edgelora("boards", code=1)
    assert said in error and error.count("\n") == 1


def test_verbose_tells_where_settings_come_from(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "edgelora.toml").write_text('port = "/dev/nowhere"\n')
    assert main(["ls", "-v"]) == main(["-v", "ls"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert (
        said[:2] == ["cli.settings: settings of edgelora.toml", "cli.arguments: port /dev/nowhere"]
        and said[:3] == said[3:]
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str, tmp_path: Path) -> None:
    script = edgelora("completion", shell)
    for word in (
        "personalize",
        "import-adapter",
        "watch",
        "pico2",
        "--learning-rate" if shell != "tcsh" else "learning-rate",
    ):
        assert word in script
    if shell == "bash":
        (tmp_path / "complete").write_text(script)
        line = "source complete; COMP_WORDS=(edgelora pers); COMP_CWORD=1; _shtab_edgelora; echo ${COMPREPLY[@]}"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == ["personalize"]


# ---- a board's files


def test_files_of_a_board_and_reset(home: Path) -> None:
    board = result("sim", "unix")
    try:
        assert result("sim", "--list") == [board]
        assert board["port"] in edgelora("sim", "--list")
        (home / "note.txt").write_text("12345")
        edgelora("push", "note.txt", "/a.txt")
        edgelora("push", "note.txt")
        listed = result("ls")
        assert listed["entries"] == [{"name": "a.txt", "size": 5}, {"name": "note.txt", "size": 5}]
        assert listed["free"] > 0 and "note.txt" in edgelora("ls", "/")
        assert result("rm", "/a.txt", "/note.txt") == {"removed": ["/a.txt", "/note.txt"]}
        assert result("ls")["entries"] == []
        assert "/a.txt: no such file" in edgelora("rm", "/a.txt", code=1)
        edgelora("push", "note.txt")
        assert result("reset") == {"port": board["port"], "hard": False}
        assert result("ls")["entries"] == [{"name": "note.txt", "size": 5}]
    finally:
        edgelora("sim", "unix", "--stop")
    assert "no virtual board runs" in edgelora("sim", "--list")
    assert "which board? give one of unix, virtual-pico" in edgelora("sim", code=1)


# ---- runs


def test_watch_follows_a_run_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"

    def grow() -> None:
        with Metrics(path) as metrics:
            for step in range(1, 4):
                time.sleep(0.3)
                metrics.update(step, 1, 0.5 / step, 6000, 8, 1200.0)
                metrics.write("of another kind")

    run = threading.Thread(target=grow)
    run.start()
    while not path.exists():
        time.sleep(0.01)
    lines = [json.loads(line) for line in edgelora("watch", tmp_path, "--json").splitlines()]
    run.join()
    assert [line.get("step") for line in lines] == [1, 2, 3, None]
    assert lines[0] | {"loss": 0.5} == lines[0] and lines[-1] == {"state": "done", "event": "end"}
    with Metrics(path) as metrics:  # resumed: it continues after the first end
        metrics.update(4, 2, 0.1, 100, 8, None)
    said = edgelora("watch", path).splitlines()
    assert said[-1] == "done after 4 updates" and len(said) == 6


def test_watch_starts_over_with_a_run_that_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    for step in range(1, 9):
        metrics.update(step, 1, 1.0, 1, 1, 1.0)
    events = follow(path, 0.01)
    assert [next(events).step for _ in range(8)][-1] == 8  # type: ignore[union-attr]
    assert next(events) is None
    with Metrics(path, fresh=True) as anew:
        anew.update(1, 1, 2.0, 1, 1, 1.0)
    seen = [event for event in events if event is not None]
    assert seen == [Update(1, 1, 2.0, 1, 1, 1.0), End("done")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]\n", "line 1: not a JSON object"),
        ('{"event": "update", "step": 1}\n', "line 1: epoch, loss, learning_rate, samples missing"),
        (
            '{"event": "update", "step": "1", "epoch": 1, "loss": 1, "learning_rate": 1, "samples": 1}\n',
            "step: a whole",
        ),
        ('{"event": "update", "step": 1, "epoch": 1, "loss": NaN, "learning_rate": 1, "samples": 1}\n', "loss"),
        ("x" * 200_000, "line 1: too long"),
        ("[" * 60_000 + "\n", "line 1: not a JSON object"),
    ],
)
def test_watch_refuses_damage(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ReportError, match=said):
        list(follow(tmp_path / "metrics.jsonl", 0.01))
    assert said in edgelora("watch", tmp_path, code=1)


def of(accuracy: float, **changes: object) -> Report:
    report = Report(
        "unix", 0.5, accuracy, None, True, 9000, 300, 10.0, 20.0, 1.0, 147, 4, 8, "frozen_a", test_samples=100
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def test_compare(tmp_path: Path) -> None:
    runs = []
    for name, report in (
        ("one", of(0.8)),
        ("two", of(0.9, rank=2, test_samples=0)),
        ("three", of(0.2, subject=HOSTILE, board=HOSTILE)),
    ):
        (tmp_path / name).mkdir()
        write_report(report, tmp_path / name)
        runs.append(tmp_path / name)
    page = tmp_path / "pages" / "compare.html"
    table = edgelora("compare", *runs, "-o", page)
    assert all(c.isprintable() or c == "\n" for c in table)
    rows = table.splitlines()
    assert len(rows) == 6 and "71.1% to 86.7%" in rows[1] and "different test samples" in rows[4]
    html = page.read_text()
    assert "<script" not in html and "alert(1)" in html and html.count("<circle") == 6
    assert html.count("\x1b") == 0 or "&lt;script" in html
    assert "The highest accuracy after personalization is that of" in html and "90.0%" in html
    told = result("compare", *runs, "-o", page)
    assert [run["adapted_interval"] is None for run in told["runs"]] == [False, True, False]
    low, high = told["runs"][0]["adapted_interval"]
    assert (round(low, 4), round(high, 4)) == (0.7112, 0.8666)
    errors = {"base_accuracy": None, "adapted_accuracy": None, "base_error": 0.5, "adapted_error": 0.25}
    values = of(0, **errors, error_change=Change(-0.3, -0.2))
    write_report(values, tmp_path / "values")
    row = edgelora("compare", tmp_path / "one", tmp_path / "values", "-o", page).splitlines()
    assert all(cell in row[2] for cell in (" 0.5 ", " 0.25 ", "\u22120.3 to \u22120.2", "better"))
    assert "Some runs have accuracies, others errors" in row[3]
    html = page.read_text()
    assert "The highest accuracy" in html and "The lowest mean squared error" in html and html.count("<circle") == 4
    (tmp_path / "two" / "report.json").write_text('{"board": 1}')
    assert "report.json" in edgelora("compare", *runs, code=1)
    said = edgelora("compare", tmp_path / "absent", code=1)  # the run is in progress, or was killed
    assert "does not exist: a run writes it at its end; `edgelora watch`" in said


def test_long_steps_report_that_they_are_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A long step that reports nothing prints lines repeatedly; a short one prints none."""
    with console.step("short"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(console, "LINE_SECONDS", 0.2)
    heard = threading.Event()
    monkeypatch.setattr(console, "note", lambda text: (lines.append(text), len(lines) > 1 and heard.set()))
    lines: list[str] = []
    with console.step("long"):
        assert heard.wait(60)
    assert all(re.fullmatch(r"long: \(\d+ s\)", line) for line in lines)


def test_help_of_a_command_has_two_ways(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for line in (["help", "personalize"], ["personalize", "--help"], ["help"], ["--help"], ["-V"], ["--version"]):
        with pytest.raises(SystemExit, match="0"):
            main(line)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and "edgelora personalize base.elm --data mine.npz --on-board --resume" in said[0]
    assert said[2] == said[3] and "help COMMAND" in " ".join(said[2].split())
    assert said[4] == said[5] and said[4].startswith("edgelora ")
    assert main(["help", "persnalize"]) == 2
    assert "did you mean personalize?" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_table_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only on a terminal: cells are never truncated in a file."""
    rows: list[tuple[object, ...]] = [("a name that is long" * 3, 12, "and words on it " * 5), ("short", 1, "")]
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    console.table(("name", "count", "words"), rows)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= columns and ("…" in lines[1]) == (columns < 150)
    assert all("12" in line or "1" in line for line in lines[1:])
    whole = io.StringIO()
    monkeypatch.setattr(sys, "stdout", whole)
    console.table(("name", "count", "words"), rows)
    assert "…" not in whole.getvalue()


def test_warnings_of_libraries_are_shown_only_when_debugging() -> None:
    program = "import numpy, sys; from edgelora.cli import main\nwith main._shown_log(sys.argv[1:]): numpy.mean([])"
    for flags, told in (([], False), (["-v"], True)):
        done = subprocess.run([sys.executable, "-c", program, *flags], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and ("Mean of empty slice" in done.stderr) == told, done.stderr
        assert not told or done.stderr.startswith("warnings: ")


def test_help_of_commands_loads_no_twin() -> None:
    """It may be missing or stale, which `edgelora doctor` then says."""
    code = (
        "import contextlib, sys; from edgelora.cli import main; from edgelora.core.twin import binding\n"
        "for name in ('flash', 'plan', 'fleet'):\n"
        "    with contextlib.suppress(SystemExit): main.main([name, '--help'])\n"
        "print('loaded', binding.library.cache_info().currsize)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.rstrip().endswith("loaded 0"), said[-300:]
