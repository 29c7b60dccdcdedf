"""C programs that link the core, under AddressSanitizer and UBSan."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgelora.base.resources import ROOT

CORE, CRYPTO = (ROOT / "micropython_module" / name for name in ("core", "crypto"))
LIBRARY = ROOT / ".build" / "sanitized" / "libcore.a"
FLAGS = ["-std=c99", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-DEDGELORA_ASSERTS"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(source: Path, folder: Path, *others: Path) -> Path:
    """Compiles C files and links them with the core of `make sanitized`; the program is named after the first file."""
    sources = [file for part in (CORE, CRYPTO) for file in part.rglob("*.[ch]")]
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < max(file.stat().st_mtime for file in sources):
        raise RuntimeError(f"{LIBRARY} is older than the core: run `make sanitized`")
    program = folder / source.stem
    flags = [*FLAGS, "-O1", *SANITIZERS, f"-I{CORE}", f"-I{CRYPTO}"]
    subprocess.run(["cc", *flags, source, *others, LIBRARY, "-o", program], check=True)
    return program


def build_for_addresses(source: Path, folder: Path) -> Path:
    """Compiles a C file and the core under AddressSanitizer without UBSan, to test the effect of unchecked values.

    Not optimized, which takes a fifth of the time to compile. No frames are kept after return: see SANITIZED in
    tools/cores.py.
    """
    return _build_all(source, folder, ["-fsanitize=address", "--param=asan-use-after-return=0"])


def build_for_threads(source: Path, folder: Path) -> Path:
    """Compiles a C file and the core under ThreadSanitizer."""
    return _build_all(source, folder, ["-O1", "-fsanitize=thread"])


def _build_all(source: Path, folder: Path, sanitizer: list[str]) -> Path:
    flags = [*FLAGS, *sanitizer, f"-I{CORE}", f"-I{CRYPTO}"]
    sources = [file for part in (CORE, CRYPTO) for file in part.rglob("*.c")] + [source]
    objects = [folder / f"{i}.o" for i in range(len(sources))]

    def compiled(one: Path, target: Path) -> None:
        subprocess.run(["cc", *flags, "-c", str(one), "-o", str(target)], check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compiled, sources, objects))
    program = folder / source.stem
    subprocess.run(["cc", *flags, *map(str, objects), "-o", str(program)], check=True)
    return program
