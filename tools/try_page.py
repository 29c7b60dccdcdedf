"""Makes the page "try it here" from docs/try: python tools/try_page.py BUILD OUT.

BUILD has the core as WebAssembly. OUT gets the page's own files and, packed in modules, what it loads: by its
Content-Security-Policy the page may import scripts of its site, but open no connection. Prints the sizes.
"""

from __future__ import annotations

import ast
import base64
import gzip
import hashlib
import json
import shutil
import struct
import sys
import tomllib
from pathlib import Path

import pscript

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "try"
BASES = ROOT / "host" / "edgelora" / "studio" / "bases"
DEVICE = ROOT / "micropython_module" / "python" / "edgelora"
# Constants and functions of the device's modules that learn, which the page calls, too.
RULES = {
    "__init__": ["LEARNING_RATES"],
    "training": [
        *("HELD_OUT", "LEAST_EPOCHS", "LEAST_JUDGED", "LEAST_UPDATES", "MOST_TIMES", "_rare", "apart", "better"),
        *("can_judge", "falling_rate", "fitting_epochs", "is_enough", "milder"),
    ],
    "learner": ["_exceeds_chance", "_guesses"],
}
PACKAGES = ROOT / "dist"
WORKER = "sw.js"
# Modules of others, for boards: folders of the page, with a package's files there. They are as published.
OTHERS = {
    "esptool": ("esptool-js", ["bundle.js", "LICENSE"]),
    "hashes": ("@noble/hashes", ["legacy.js", "_md.js", "_u64.js", "utils.js", "LICENSE"]),
}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def module(content: bytes) -> str:
    """A JavaScript module with bytes, which `unpacked` of bytes.js reads."""
    packed = base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
    return f'export default "{packed}";\n'


def packed(build: Path) -> dict[str, str]:
    """Modules by file name."""
    cores = {f"{name}.js": build / f"{name}.wasm" for name in ("core-simd", "core-plain")}
    bases = {f"base-{path.stem}.js": path for path in BASES.glob("*.elm")}
    files = cores | bases | {"agent.js": DEVICE / "agent.py"}
    packages = {f"board-{path.parent.name}.js": package(path.parent) for path in PACKAGES.glob("*/package.json")}
    modules = {name: path.read_bytes() for name, path in files.items()} | packages
    return {name: module(modules[name]) for name in sorted(modules)}


def others(build: Path) -> dict[str, bytes]:
    """Modules of others by path in the page."""
    packages = build / "node_modules"
    return {
        f"{folder}/{name}": (packages / package / name).read_bytes()
        for folder, (package, names) in OTHERS.items()
        for name in names
    }


def package(folder: Path) -> bytes:
    """The native package of an architecture: the size of a head (u32), the head, as JSON, and its files' bytes.

    The head has the version, and the files' paths on a board and sizes.
    """
    told = json.loads((folder / "package.json").read_text())
    contents = {f"/lib/{name}": (folder / url).read_bytes() for name, url in told["urls"]}
    files = [[path, len(content)] for path, content in contents.items()]
    head = json.dumps({"version": told["version"], "files": files}).encode()
    return b"".join([struct.pack("<I", len(head)), head, *contents.values()])


def at_once(name: str) -> bool:
    """Whether every visitor loads this file. The core without vectors is for old processors; what is for boards is
    loaded when one is connected."""
    return name not in ("core-plain.js", "agent.js", WORKER) and not name.startswith(("board-", *OTHERS))


def rules() -> str:
    """The device's rules of learning as a JavaScript module, translated from Python."""
    parts = [part for name, names in RULES.items() for part in definitions(DEVICE / f"{name}.py", names)]
    names = ", ".join(name for names in RULES.values() for name in names)
    return f"const array = () => [];\n{pscript.py2js(chr(10).join(parts))}\nexport {{ {names} }};\n"


def definitions(path: Path, names: list[str]) -> list[str]:
    """Python that defines these constants and functions of a module, without docstrings and types."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            node.returns, node.body = None, node.body[ast.get_docstring(node) is not None :]
            for argument in node.args.args:
                argument.annotation = None
            found[node.name] = ast.unparse(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.unparse(node)
    return [found[name] for name in names]


def service_worker(files: dict[str, bytes]) -> str:
    """The service worker, with the files that it keeps; another version whenever a file changes."""
    whole = hashlib.sha256(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()
    text = (PAGE / WORKER).read_text()
    names = ["./", *sorted(filter(at_once, files))]
    constants = {'VERSION = ""': f'VERSION = "edgelora-try-{whole[:16]}"', "FILES = []": f"FILES = {json.dumps(names)}"}
    for old, new in constants.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def make(build: Path, out: Path) -> None:
    files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.name != WORKER}
    files["index.html"] = files["index.html"].replace(b"VERSION", VERSION.encode())  # of firmware in the site
    files |= {name: text.encode() for name, text in (packed(build) | {"rules.js": rules()}).items()} | others(build)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, content in (files | {WORKER: service_worker(files).encode()}).items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(content)
        print(f"{name:17} {len(content):7}")
    print(f"{'loaded':17} {loaded(out):7}")


def loaded(out: Path) -> int:
    """Bytes of what a visitor loads, before any compression by a server."""
    return sum(path.stat().st_size for path in out.iterdir() if path.is_file() and at_once(path.name))


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
