"""What comments, docstrings and documents refer to exists: files, modules and their names, sections and headings."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from edgelora.base.resources import ROOT

HOST, DEVICE = ROOT / "host" / "edgelora", ROOT / "micropython_module" / "python" / "edgelora"
LIST = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
LISTED = subprocess.run(LIST, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
FILES = [name for name in LISTED if (ROOT / name).is_file()]
C, PYTHON, HASHED = (".c", ".h", ".S"), (".py", ".pyi"), (".toml", ".mk", ".cmake", ".sh", ".yml")
# Files of users, of MicroPython, ESP-IDF and ESP-NN, or made by a build or a run.
FOREIGN = {
    *("app.py", "boot.py", "main.py", "edgelora.toml", "config.toml", "idf.py", "mpy_ld.py", "edgelora.py", "all.c"),
    *("pyproject.toml", "mpconfigvariant.h", "cycles.toml", "twin_sources.h", "modos.c", "model.h"),
    "esp_nn_defs.h",
}
HISTORY = {"CHANGELOG.md"}  # describes earlier versions
FILE = re.compile(r"(?<![\w/.*<{$-])((?:[\w-]+/)*[A-Za-z_][\w-]*(?:\.cycles)?\.(?:py|pyi|c|h|S|md|toml|sh))(?![\w/(.])")
DOTTED = re.compile(r"(?<![\w./])edgelora((?:\.[A-Za-z_]\w*)+)")
MEMBER = re.compile(r"`([a-z_]+)\.([A-Z]\w+)[`.(\[]")
SECTIONS = re.compile(r"SPEC(?:\.md)?(?:'s)?,? (?:sections? )?(\d+(?:(?:, | and | to )\d+)*)")
INNER = re.compile(r"(?<!Datasheet, )\bsections? (\d+(?:(?:, | and | to )\d+)*)(?![.\d])")
PREFIXED = re.compile(r"\b(?:edgelora|EDGELORA)_\w+")
_REMARK = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
ANCHOR = re.compile(r"((?:DESIGN|SPEC)\.md)#([\w-]+)")


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The text that a file says to readers: (line, text), with the lines of a comment or paragraph joined."""
    text = path.read_text()
    if path.suffix == ".md":
        yield from _paragraphs(re.sub(r"^ *```.*?^ *```$", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S))
    elif path.suffix in C:
        found = re.finditer(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|(?://[^\n]*(?:\n[ \t]*)?)+', text, re.S)
        yield from ((text.count("\n", 0, m.start()) + 1, _joined(m[0], "//")) for m in found if m[0][0] == "/")
    else:
        yield from _docstrings(text) if path.suffix in PYTHON else ()
        found = re.finditer(r"(?:(?:^|(?<=\s))#[^\n]*(?:\n[ \t]*)?)+", text)
        yield from ((text.count("\n", 0, m.start()) + 1, _joined(m[0], "#")) for m in found)


def _docstrings(text: str) -> Iterator[tuple[int, str]]:
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if words := ast.get_docstring(node):
                yield node.body[0].lineno, " ".join(words.split())
            waiting += node.body


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    at = 1
    for part in re.split(r"\n\n", text):
        yield at, " ".join(part.split())
        at += part.count("\n") + 2


def _joined(text: str, mark: str) -> str:
    return " ".join(line.strip().removeprefix(mark).strip() for line in text.splitlines())


@cache
def _ends() -> frozenset[str]:
    """Every path of the checkout, and all its endings after a slash."""
    return frozenset("/".join(PurePosixPath(name).parts[at:]) for name in FILES for at in range(name.count("/") + 1))


def missing_files(text: str) -> set[str]:
    named = {m[1] for m in FILE.finditer(text)}
    return {
        name for name in named if name not in _ends() and PurePosixPath(name).name not in FOREIGN and "NAME" not in name
    }


@cache
def _names(path: Path) -> frozenset[str]:
    """The names that a Python module defines or imports, also in classes, but not in functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.alias):
                found.add(node.asname or node.name)
            elif isinstance(node, ast.Dict):  # of names that a module returns from __getattr__
                found.update(str(key.value) for key in node.keys if isinstance(key, ast.Constant))
            if not isinstance(node, ast.FunctionDef):
                waiting.append(node)
    return frozenset(found)


def _is_there(package: Path, names: list[str]) -> bool:
    """Whether names lead from a package through folders and modules to a module or to a name defined in it."""
    here = package
    for at, name in enumerate(names):
        if (here / name).is_dir():
            here /= name
            continue
        module = here / f"{name}.py"
        if module.exists():
            return at + 1 == len(names) or names[at + 1] in _names(module)
        return (here / "__init__.py").exists() and name in _names(here / "__init__.py")
    return True


def missing_names(text: str) -> set[str]:
    """Dotted names of the host's or the device's package that do not exist."""
    bare = FILE.sub("", re.sub(r"edgelora\.(?:toml|mpy|h|py|config\.h)\b", "", text))
    found = {m[1][1:] for m in DOTTED.finditer(bare)}
    return {f"edgelora.{one}" for one in found if not any(_is_there(p, one.split(".")) for p in (HOST, DEVICE))}


@cache
def _identifiers() -> frozenset[str]:
    """Every word of the code that begins with `edgelora_` or `EDGELORA_`, except in comments of C."""
    found: set[str] = set()
    paths = [ROOT / name for name in FILES if PurePosixPath(name).suffix != ".md"]
    for path in (path for path in paths if path != Path(__file__)):
        text = path.read_text(errors="ignore")
        found.update(PREFIXED.findall(_REMARK.sub(" ", text) if path.suffix in C else text))
    return frozenset(found | set(re.findall(r"(?<=EDGELORA_)\w+", " ".join(found))))


def missing_identifiers(text: str) -> set[str]:
    """Names with these prefixes that neither the core, the binding, a Makefile nor the environment defines."""
    return {name for name in PREFIXED.findall(text) if name not in _identifiers() and not name.endswith("_")}


@cache
def _modules() -> dict[str, list[Path]]:
    """Python modules of the checkout by their short names."""
    found: dict[str, list[Path]] = {}
    for name in FILES:
        path = ROOT / name
        if path.suffix == ".py" and path.exists():
            found.setdefault(path.parent.name if path.stem == "__init__" else path.stem, []).append(path)
    return found


def missing_members(text: str) -> set[str]:
    """References `module.Name` where no module with this name defines it."""
    found = {(m[1], m[2]) for m in MEMBER.finditer(text)}
    modules = _modules()
    return {
        f"{module}.{name}"
        for module, name in found
        if module in modules and not any(name in _names(path) for path in modules[module])
    }


@cache
def _headings(name: str) -> frozenset[str]:
    """The anchors of a document's headings."""
    heads = re.findall(r"^#+ (.+)$", (ROOT / name).read_text(), re.M)
    return frozenset(re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads)


@cache
def _sections() -> frozenset[str]:
    return frozenset(re.findall(r"^## (\d+)[.]", (ROOT / "SPEC.md").read_text(), re.M))


def missing_sections(text: str, of_spec: bool = False) -> set[str]:
    """Numbers of sections that SPEC.md does not have, and anchors that DESIGN.md or SPEC.md does not have."""
    named = [m[1] for pattern in (SECTIONS, INNER)[: 1 + of_spec] for m in pattern.finditer(text)]
    numbers = {number for part in named for number in re.findall(r"\d+", part)}
    anchors = {f"{m[1]}#{m[2]}" for m in ANCHOR.finditer(text) if m[2] not in _headings(m[1])}
    return {f"section {number}" for number in numbers - _sections()} | anchors


def missing(text: str, of_spec: bool = False) -> set[str]:
    by_name = missing_files(text) | missing_names(text) | missing_members(text) | missing_identifiers(text)
    return by_name | missing_sections(text, of_spec)


def stale(name: str) -> list[str]:
    found = [(line, missing(text, name == "SPEC.md")) for line, text in prose(ROOT / name)]
    return [f"{name}:{line}: {what}" for line, names in found for what in sorted(names)]


KINDS = (*C, *PYTHON, *HASHED, ".md")
SPOKEN = [name for name in FILES if name not in HISTORY and PurePosixPath(name).suffix in KINDS or name == "Makefile"]


@pytest.mark.parametrize("top", sorted({name.split("/")[0] for name in SPOKEN}))
def test_what_is_named_exists(top: str) -> None:
    found = [one for name in SPOKEN if name.split("/")[0] == top for one in stale(name)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# see nowhere.py\n", "nowhere.py"),
        ('"""The frames (SPEC.md, section 99)."""\n', "section 99"),
        ('"""Drawn (DESIGN.md#no-such-heading)."""\n', "DESIGN.md#no-such-heading"),
        ("# of `edgelora.nothing.here`\n", "edgelora.nothing.here"),
        ("# as `early_stopping.Nobody` has it\n", "early_stopping.Nobody"),
        ("# by edgelora_no_such_call\n", "edgelora_no_such_call"),
    ],
)
def test_what_is_missing_is_found(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(text)
    [(line, words)] = prose(path)
    assert line == 1 and missing(words) == {said}


def test_comments_of_c_are_read(tmp_path: Path) -> None:
    """Strings are skipped, and consecutive lines are one comment."""
    path = tmp_path / "a.c"
    path.write_text('char *a = "// no.c";\nint b; // sections 8 and\n       // 99 of SPEC\n/* c.h */\n')
    assert list(prose(path)) == [(2, "sections 8 and 99 of SPEC"), (4, "/* c.h */")]
