#!/usr/bin/env python3
"""Writes stubs of the device's modules, for editors, from the modules' annotations and docstrings.

stubs.py FOLDER fills FOLDER/edgelora with a .pyi for each module that applications import, and `_types.pyi`. A module's
stub has its public constants, functions and classes, including those imported from modules with an underscore, and
the private classes that their annotations name. A member of a public class without an annotation is an error.
"""

from __future__ import annotations

import ast
import io
import json
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEVICE = Path(__file__).resolve().parents[1] / "micropython_module" / "python" / "edgelora"
TYPES = DEVICE / "_types.pyi"  # written by hand: types in annotations that no module defines
SPECIAL = ("__init__", "__iter__", "__aiter__", "__anext__")  # methods that Python calls implicitly
LONGEST = 120
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class StubError(Exception):
    """A module lacks an annotation; the message says where."""


@dataclass
class Module:
    """A module's source. imported: `import` nodes by imported name; comments: trailing comments by line."""

    name: str
    lines: list[str]
    tree: ast.Module
    imported: dict[str, ast.ImportFrom | ast.Import] = field(default_factory=dict)
    comments: dict[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str) -> Module:
        text = (DEVICE / f"{name}.py").read_text()
        found = cls(name, text.splitlines(), ast.parse(text))
        for node in found.tree.body:
            for inner in [node, *(node.body if isinstance(node, ast.If) else ())]:
                if isinstance(inner, ast.ImportFrom | ast.Import):
                    found.imported |= {alias.asname or alias.name: inner for alias in inner.names}
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip():
                found.comments[token.start[0]] = f"  {token.string}"
        return found

    def definitions(self) -> dict[str, Definition]:
        return {node.name: node for node in self.tree.body if isinstance(node, Definition)}

    def assigned(self, name: str) -> ast.expr | None:
        """The expression that the module assigns to a name, None if it doesn't."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
                return node.value
        return None

    def listed(self, name: str) -> dict[str, str]:
        """A dict or tuple of names that the module assigns, as a dict; an empty one if it doesn't."""
        value = self.assigned(name)
        found = ast.literal_eval(value) if value else {}
        return found if isinstance(found, dict) else dict.fromkeys(found, "")


def public_modules() -> list[str]:
    """Names of the modules that applications import."""
    return sorted(p.stem for p in DEVICE.glob("*.py") if p.stem == "__init__" or not p.stem.startswith("_"))


# ---- a stub's content


@dataclass
class Part:
    """A part of a stub, and its source module. constants: type by name."""

    module: Module
    node: ast.stmt
    constants: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        return {self.node.name} if isinstance(self.node, Definition) else set(self.constants)


def parts_of(module: Module) -> list[Part]:
    """What applications can import, in source order, and the private classes that it names in annotations."""
    exported = module.listed("__all__")
    found = [
        part
        for part in candidates(module, exported.keys())
        if part.names & exported.keys() or not exported and all(map(is_public, part.names))
    ]
    private = {name: node for name, node in module.definitions().items() if not is_public(name)}
    size = -1
    while size != len(found):  # a private class may name another one
        size = len(found)
        there = set().union(*(part.names for part in found))
        wanted = set().union(*(named(part) for part in found)) - there
        found += [
            Part(module, private[name])
            for name in private
            if name in wanted and isinstance(private[name], ast.ClassDef)
        ]
    return sorted(found, key=lambda part: (part.module is module, part.node.lineno))


def is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__version__"


def candidates(module: Module, exported: object) -> Iterator[Part]:
    for node in module.tree.body:
        if isinstance(node, Definition):
            yield Part(module, node)
        elif isinstance(node, ast.AnnAssign):
            yield Part(module, node, {ast.unparse(node.target): annotation(node.annotation)})
        elif isinstance(node, ast.Assign):
            yield Part(module, node, constants(module, node))
        elif isinstance(node, ast.ImportFrom) and node.level and (node.module or "").startswith("_"):
            other = Module.read(node.module or "")
            for part in candidates(other, ()):
                taken = part.names & {alias.name for alias in node.names}
                if taken and (isinstance(part.node, ast.ClassDef) or taken & set(exported)):  # type: ignore[call-overload]
                    yield part
    for name, lender in module.listed("_ELSEWHERE").items():
        other = Module.read(lender)
        yield Part(other, other.definitions()[name])


def constants(module: Module, node: ast.Assign) -> dict[str, str]:
    """Types of names that are assigned literals. StubError if a public name is assigned anything else."""
    target, value = node.targets[0], node.value
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    values = value.elts if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) else [value]
    found = {}
    for name, one in zip(names, values, strict=False):
        if not isinstance(name, ast.Name):
            continue
        try:
            found[name.id] = type_of(ast.literal_eval(one))
        except ValueError:
            if is_public(name.id):
                raise StubError(f"{module.name}.py:{node.lineno}: annotate {name.id}") from None
    return found


def type_of(value: object) -> str:
    if isinstance(value, tuple):
        [kind] = {type_of(one) for one in value}
        return f"tuple[{kind}, ...]"
    if isinstance(value, dict):
        [(key, kind)] = {(type_of(key), type_of(one)) for key, one in value.items()}
        return f"dict[{key}, {kind}]"
    return type(value).__name__


def named(part: Part) -> set[str]:
    """The names in a part's stub: in annotations, bases and decorators."""
    node = part.node
    if isinstance(node, Function):
        said = [*(arg.annotation for arg in arguments_of(node)), node.returns, *node.decorator_list]
    elif isinstance(node, ast.ClassDef):
        inside = [Part(part.module, member) for member in members(node)]
        return names_in(node.bases).union(*map(named, inside))
    else:
        said = [node.annotation if isinstance(node, ast.AnnAssign) else None]
    return names_in(said)


def arguments_of(node: Function) -> list[ast.arg]:
    said = node.args
    every = (*said.posonlyargs, *said.args, *said.kwonlyargs, said.vararg, said.kwarg)
    return [arg for arg in every if arg]


def names_in(nodes: Sequence[ast.expr | None]) -> set[str]:
    found: set[str] = set()
    for node in filter(None, nodes):
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                found.add(inner.id)
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and inner.value.strip():
                found |= names_in(
                    [ast.parse(inner.value, mode="eval").body]
                )  # of a class that the module defines below
    return found


def members(node: ast.ClassDef) -> list[ast.stmt]:
    """Attributes, then methods and properties, that others use; in a private class only those with annotations."""
    methods = [
        member
        for member in node.body
        if isinstance(member, Function) and (is_public(member.name) or member.name in SPECIAL)
    ]
    if not is_public(node.name):
        methods = [method for method in methods if method.returns]
    attributes = [member for member in node.body if isinstance(member, ast.AnnAssign)]
    return [*attributes, *methods]


# ---- a stub's text


def stub(name: str) -> str:
    """The text of a module's stub."""
    module = Module.read(name)
    parts = parts_of(module)
    blocks = [docstring_of(module, module.tree).replace(" SPDX-License-Identifier: MIT", ""), imports(parts)]
    plain = [part for part in parts if part.constants]
    blocks.append("\n".join(line for part in plain for line in constant_lines(part)))
    blocks += [definition(part.module, part.node) for part in parts if isinstance(part.node, Definition)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def constant_lines(part: Part) -> Iterator[str]:
    comment = part.module.comments.get(part.node.lineno, "")
    yield from (f"{name}: {kind}{comment}" for name, kind in part.constants.items() if is_public(name))


def imports(parts: list[Part]) -> str:
    """The import lines of names that a stub does not define itself."""
    there = set().union(*(part.names for part in parts))
    found: dict[str, set[str]] = {}
    for part in parts:
        for name in (named(part) & part.module.imported.keys()) - there:
            node = part.module.imported[name]
            if isinstance(node, ast.Import):
                found.setdefault(f"import {name}", set())
            else:
                path = ".".join(filter(None, ("edgelora" if node.level else "", node.module)))
                found.setdefault(f"from {path} import ", set()).add(name)
    order = sorted(found, key=lambda line: ("edgelora" in line, line))
    return "\n".join(line + ", ".join(sorted(found[line])) for line in order)


def docstring_of(module: Module, node: ast.Module | Definition) -> str:
    """A docstring as in the source, with its quotes; "" without one."""
    if not ast.get_docstring(node):
        return ""
    first = node.body[0]
    return "\n".join(module.lines[first.lineno - 1 : first.end_lineno])


def definition(module: Module, node: ast.stmt) -> str:
    if isinstance(node, ast.ClassDef):
        return class_lines(module, node)
    assert isinstance(node, Function)
    return function_lines(module, node)


def class_lines(module: Module, node: ast.ClassDef) -> str:
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    head = f"class {node.name}{bases}:"
    check_attributes(module, node)
    doc, inside = docstring_of(module, node), members(node)
    if not doc and not inside:
        return f"{head} ..."
    lines = [head, *([doc, ""] if doc and inside else [doc] if doc else [])]
    for member in inside:
        if isinstance(member, ast.AnnAssign):
            comment = module.comments.get(member.lineno, "")
            lines.append(f"    {ast.unparse(member.target)}: {annotation(member.annotation)}{comment}")
        else:
            assert isinstance(member, Function)
            lines.append(function_lines(module, member, f"{node.name}."))
    return "\n".join(lines)


def check_attributes(module: Module, node: ast.ClassDef) -> None:
    """Raises StubError if a public class sets attributes that neither it nor a base annotates."""
    known = described(module, node)
    for part in ast.walk(node) if is_public(node.name) else ():
        if not isinstance(part, ast.Attribute) or not isinstance(part.ctx, ast.Store) or part.attr in known:
            continue
        if ast.unparse(part.value) == "self" and is_public(part.attr):
            raise StubError(f"{module.name}.py:{part.lineno}: annotate {part.attr} in class {node.name}")


def described(module: Module, node: ast.ClassDef) -> set[str]:
    """Names of the attributes, methods and properties of a class and its bases."""
    found = {ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)}
    found |= {part.name for part in node.body if isinstance(part, Function)}
    for name in map(ast.unparse, node.bases):
        lender = module.imported.get(name)
        home = Module.read(lender.module) if isinstance(lender, ast.ImportFrom) and lender.module else module
        base = home.definitions().get(name)
        found |= described(home, base) if isinstance(base, ast.ClassDef) else set()  # built-in bases have no source
    return found


def function_lines(module: Module, node: Function, within: str = "") -> str:
    indent = "    " if within else ""
    bare = [arg.arg for arg in arguments_of(node) if not arg.annotation and arg.arg not in ("self", "cls")]
    if bare or not node.returns:
        raise StubError(
            f"{module.name}.py:{node.lineno}: annotate {', '.join(bare) or 'what it returns'} of {within}{node.name}"
        )
    decorators = [f"{indent}@{ast.unparse(one)}" for one in node.decorator_list]
    doc = docstring_of(module, node)
    return "\n".join([*decorators, header(node, indent, "" if doc else " ..."), *([doc] if doc else [])])


def header(node: Function, indent: str, end: str) -> str:
    """A function's header on one line, or with a line for each argument."""
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    start, close = f"{indent}{kind} {node.name}(", f") -> {annotation(node.returns)}:{end}"
    arguments = list(argument_texts(node.args))
    whole = start + ", ".join(arguments) + close
    if len(whole) <= LONGEST:
        return whole
    return "\n".join([start, *(f"{indent}    {argument}," for argument in arguments), indent + close])


def argument_texts(arguments: ast.arguments) -> Iterator[str]:
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    for arg, default in zip(plain, defaults, strict=True):
        yield argument_text(arg, default)
    if arguments.vararg:
        yield f"*{argument_text(arguments.vararg, None)}"
    elif arguments.kwonlyargs:
        yield "*"
    for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield argument_text(arg, default)
    if arguments.kwarg:
        yield f"**{argument_text(arguments.kwarg, None)}"


def argument_text(arg: ast.arg, default: ast.expr | None) -> str:
    text = arg.arg + (f": {annotation(arg.annotation)}" if arg.annotation else "")
    if default is None:
        return text
    value = ast.unparse(default) if isinstance(default, ast.Constant | ast.Name) else "..."
    if isinstance(default, ast.Constant) and isinstance(default.value, str):
        value = json.dumps(default.value)
    return text + (f" = {value}" if arg.annotation else f"={value}")


def annotation(node: ast.expr | None) -> str:
    """An annotation as in the source, but without quotes, which stubs never need."""
    assert node
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return ast.unparse(node)


def write(folder: Path) -> None:
    """Writes all stubs to folder/edgelora."""
    target = folder / "edgelora"
    target.mkdir(parents=True, exist_ok=True)
    for name in public_modules():
        (target / f"{name}.pyi").write_text(stub(name))
    (target / TYPES.name).write_text(TYPES.read_text())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        write(Path(sys.argv[1]))
    except StubError as error:
        sys.exit(str(error))
