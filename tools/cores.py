"""Runs core and cryptography on every processor that can be emulated here, and on this machine.

Calls are collected, run together by a runner (tools/runner), and answered in order; names and arguments are those of
`session.Session`. Runners are Linux programs under QEMU's user mode, which start once and then answer calls in
milliseconds. Cortex-M also runs on an emulated board without an operating system: there `count` counts instructions
(QEMU has no model of cycles).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edgelora.base.resources import ROOT
from edgelora.core.twin.binding import MODES

CORE, CRYPTO = (ROOT / "micropython_module" / name for name in ("core", "crypto"))
RUNNER = Path(__file__).with_name("runner")
PROGRAMS = ROOT / ".build" / "cores"
XTENSA = ROOT / "firmware" / "xtensa"
NATMOD = ROOT / "micropython_module" / "natmod"
CORE_CALLS = ("open", "begin", "load", "use", "merge", "train", "flush", "save", "infer", "count")
CALLS = (*CORE_CALLS, "crypto", "front_end", "member", "session")
CRYPTO_CALLS = ("x25519", "public", "xor", "add", "subtract", "hmac", "random", "verify", "field")
BYTES = ("infer", "save", "crypto", "front_end", "member", "session")  # calls that return bytes
FRONT_ENDS = ("audio", "spectral")
MEMBER_CALLS = ("begin", "receive", "key", "work", "update", "reply")
SESSION_CALLS = ("probabilities", "features", "evaluate", "classes", "blend", "record", "reset", "next")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wcast-qual", "-Werror")
TIMEOUT = 120.0  # seconds

Answers = list[bytes | int]


class Calls:
    """Calls to the core, for a `Program` or a `Machine` to run."""

    def __init__(self) -> None:
        self._script = bytearray()
        self.names: list[str] = []
        self.kinds: list[str] = []  # names of the calls, with the function

    def __bytes__(self) -> bytes:
        return struct.pack("<I", len(self.names)) + self._script

    def _call(self, name: str, *arguments: int | bytes | NDArray[np.int8]) -> None:
        self._script += struct.pack("<I", CALLS.index(name))
        for argument in arguments:
            if isinstance(argument, int | np.integer):
                self._script += struct.pack("<I", argument)
            else:
                data = bytes(argument)
                self._script += struct.pack("<I", len(data)) + data + bytes(-len(data) % 4)
        self.names.append(name)
        self.kinds.append(name)

    def open(
        self,
        model: bytes,
        ranks: bytes,
        mode: str = "frozen_a",
        micro_batch: int = 8,
        momentum: int = 0,
        threshold: int = 0,
        frames: int = 1,
        plain: bool = False,
        cores: int = 1,
    ) -> None:
        kind = plain | (cores - 1) << 1
        self._call("open", model, ranks, MODES.index(mode), micro_batch, momentum, threshold, frames, kind)

    def begin(self, seed: int) -> None:
        self._call("begin", seed)

    def load(self, adapter: bytes) -> None:
        self._call("load", adapter)

    def use(self, adapter: bytes | None) -> None:
        self._call("use", adapter or b"")

    def merge(self, op: int) -> None:
        self._call("merge", op)

    def train(self, x: NDArray[np.int8], label: int | NDArray[np.int8], learning_rate: int, shift: int = 0) -> None:
        is_label = isinstance(label, int | np.integer)
        self._call("train", x, shift, b"" if is_label else label, label if is_label else 0, learning_rate)

    def flush(self, learning_rate: int) -> None:
        self._call("flush", learning_rate)

    def save(self, state: bool = False) -> None:
        self._call("save", int(state))

    def infer(self, x: NDArray[np.int8], shift: int = 0) -> None:
        """shift: bytes from a multiple of 4 to where the core sees x, 0 to 3."""
        self._call("infer", x, shift)

    def count(self, x: NDArray[np.int8], start: int, end: int, backward: bool = False) -> None:
        """Counts the instructions of ops [start, end) of an inference or a backward pass; -1 if they can't be counted.

        A backward pass needs the state of a `train` before it, which it destroys.
        """
        self._call("count", x, 0, start, end, int(backward))

    def crypto(self, what: str, data: bytes, shift: int = 0) -> None:
        """A function of the cryptography, see tools/runner/secrets.c for `data`. shift: as for `infer`."""
        self._call("crypto", CRYPTO_CALLS.index(what), data, shift)
        self.kinds[-1] += f" {what}"

    def front_end(self, kind: str, settings: tuple[int, ...], samples: NDArray[np.int16]) -> None:
        """Features of all whole steps of samples. settings: the arguments of `begin` in C, u32."""
        words = struct.pack(f"<{1 + len(settings)}I", FRONT_ENDS.index(kind), *settings)
        self._call("front_end", words, np.ascontiguousarray(samples, np.int16).view(np.int8))
        self.kinds[-1] += f" {kind}"

    def member(self, what: str, data: bytes = b"") -> None:
        """A call of the runner's only fleet member, see tools/runner/members.c for `data`."""
        self._call("member", MEMBER_CALLS.index(what), data)
        self.kinds[-1] += f" {what}"

    def session(self, what: str, x: NDArray[np.int8], label: int | NDArray[np.int8]) -> None:
        """Another operation of a session on a sample and its label, see tools/runner/sessions.c for the answer."""
        is_label = isinstance(label, int | np.integer)
        number, target = (label, b"") if is_label else (0, label)
        self._call("session", SESSION_CALLS.index(what), x, 0, target, number)
        self.kinds[-1] += f" {what}"

    def answers(self, data: bytes) -> Answers:
        """Each call's answer: bytes for BYTES (all outputs for `infer`), else a number (status, loss)."""
        return list(self._answers(data))

    def _answers(self, data: bytes) -> Iterator[bytes | int]:
        at = 0
        for name in self.names:
            size = int.from_bytes(data[at : at + 4], "little")
            answer = data[at + 4 : at + 4 + size]
            at += 4 + size
            yield answer if name in BYTES else int.from_bytes(answer, "little", signed=True)


@dataclass(frozen=True)
class Core:
    """A processor: the compiler with options, the emulator for its programs, options and libraries to link these.

    like: a core whose objects it shares where sources don't mention the macro that the last option defines.
    archive: the core, already compiled.
    """

    name: str
    compiler: tuple[str, ...]
    emulator: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    like: Core | None = None
    archive: Path | None = None


BARE = ("-nostdlib", "-Wl,-Ttext=0x400000")


def _like(core: Core, name: str, macro: str) -> Core:
    return replace(core, name=name, compiler=(*core.compiler, f"-D{macro}"), like=core)


def _cortex_m_flags(core: str) -> tuple[str, ...]:
    vectors = ("-mfloat-abi=hard",) if core == "cortex-m55" else ()
    return ("-std=gnu99", "-O3", f"-mcpu={core}", "-mthumb", *vectors)


def _cortex_m(name: str, emulated: str) -> Core:
    compiler = ("arm-none-eabi-gcc", *_cortex_m_flags(name), "-ffreestanding")
    return Core(name, compiler, ("qemu-arm", "-cpu", emulated), BARE, ("-lgcc",))


# The kernels for this machine's widest vectors, those for AVX2, and those without vectors.
HOST = Core("x86-64", ("cc", "-std=gnu99", "-O3"))
AVX2 = _like(HOST, "x86-64-avx2", "EDGELORA_NO_VNNI")
NO_SIMD = Core("x86-64-no-simd", (*HOST.compiler, "-DEDGELORA_NO_SIMD"))
_SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DEDGELORA_ASSERTS")
_SANITIZED = ("cc", "-std=gnu99", "-O1", "-g", *_SANITIZERS)
# GCC 12 doesn't align vectors in the frames that a newer libasan keeps after return: AVX-512 would fault.
SANITIZED = Core(
    "sanitizers",
    (*_SANITIZED, "--param=asan-use-after-return=0"),
    archive=ROOT / ".build" / "sanitized" / "libcore.a",  # by the same options: `make sanitized`
)
SANITIZED_NO_SIMD = Core("sanitizers-no-simd", (*_SANITIZED, "-DEDGELORA_NO_SIMD", "-DEDGELORA_READS_AHEAD"))
AARCH64 = Core("aarch64", ("aarch64-linux-gnu-gcc", "-std=gnu99", "-O3"), ("qemu-aarch64",), ("-static",))
CORTEX_M0PLUS = _cortex_m("cortex-m0plus", "cortex-m0")  # the same instructions; unaligned reads fault
CORTEX_M4 = _cortex_m("cortex-m4", "cortex-m4")
CORTEX_M7 = _cortex_m("cortex-m7", "cortex-m7")
CORTEX_M33 = _cortex_m("cortex-m33", "cortex-m33")
CORTEX_M55 = _cortex_m("cortex-m55", "cortex-m55")  # with Helium
RV32 = Core(
    "rv32imc",
    ("riscv64-unknown-elf-gcc", "-std=gnu99", "-O2", "-march=rv32imc", "-mabi=ilp32", "-ffreestanding"),
    ("qemu-riscv32",),
    ("-Wl,--no-relax", *BARE),
    ("-lgcc",),
)
XTENSAWIN = Core("xtensawin", (str(ROOT / "tools" / "xtensawin-gcc"), "-Os"), ("qemu-xtensa", "-cpu", "dc233c"))
# ESP32-S3: its vector instructions trap, and the runner carries them out (tools/runner/esp32s3.c).
ESP32_S3 = _like(XTENSAWIN, "xtensawin-s3", "ESP32_S3")
_WASM = ("clang-22", "-std=gnu99", "-O3", "--target=wasm32", "-mbulk-memory", "-ffreestanding")
_WASM_LINK = ("-nostdlib", "-Wl,--no-entry", "-Wl,--import-undefined", "-Wl,-z,stack-size=262144")
WASM32 = Core("wasm32", _WASM, ("node", str(RUNNER / "wasm.mjs")), _WASM_LINK)
WASM32_SIMD128 = replace(WASM32, name="wasm32-simd128", compiler=(*WASM32.compiler, "-msimd128"))
CORES = (
    *(HOST, AVX2, NO_SIMD, SANITIZED, SANITIZED_NO_SIMD, AARCH64),
    *(CORTEX_M0PLUS, CORTEX_M4, CORTEX_M7, CORTEX_M33, CORTEX_M55, RV32),
    *(XTENSAWIN, ESP32_S3, WASM32, WASM32_SIMD128),
)


# This core answers each call with its bytes of stack (tools/stacks.py).
STACKS = _like(CORTEX_M0PLUS, "cortex-m0plus-stacks", "EDGELORA_STACKS")
# This one's handler carries out one instruction a trap, so that QEMU logs each (tools/esp32s3.py).
TRACED = _like(ESP32_S3, "xtensawin-s3-traced", "AT_ONCE=1")

_RUNNERS = tuple(RUNNER / f"{name}.c" for name in ("calls", "sessions", "secrets", "members", "read_ahead"))
_CORES = (*sorted(CORE.rglob("*.c")), *sorted(CRYPTO.rglob("*.c")))
_LINUX = (RUNNER / "linux.c", RUNNER / "esp32s3.c")
SHARED = (*_RUNNERS, *_CORES)
SOURCES = (*_LINUX, *SHARED)
INCLUDE = tuple(f"-I{folder}" for folder in (CORE, CRYPTO, RUNNER))


def built(core: Core) -> Path:
    """The runner of a core. Raises `RuntimeError` unless `build` has made it from the current sources."""
    out = PROGRAMS / core.name
    read = [*SOURCES, *_headers(), Path(__file__), *filter(None, [core.archive])]
    if not all(file.exists() for file in (out, *read)) or out.stat().st_mtime <= max(f.stat().st_mtime for f in read):
        raise RuntimeError(f"{out} is not up to date: `make cores` first")
    return out


def _headers() -> Iterator[Path]:
    for folder in (CORE, CRYPTO, RUNNER):
        yield from folder.rglob("*.h")


def build(core: Core) -> Path:
    """Compiles the runner for a core, unless it is up to date; before it that of the core whose objects it shares."""
    with contextlib.suppress(RuntimeError):
        return built(core)
    if core.like:
        build(core.like)
    out, folder, sources = PROGRAMS / core.name, objects_of(core), SOURCES
    if core.archive:
        sources = (*_LINUX, *_RUNNERS)
    if core.emulator == XTENSAWIN.emulator:
        sources = (*sources, *_XTENSA_SOURCES)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _compile((*core.compiler, *WARNINGS, *INCLUDE), sources, folder, core)
    if core.emulator == XTENSAWIN.emulator:
        link_xtensa([*folder.iterdir()], out)
    else:
        archives = filter(None, [core.archive])
        _run(*core.compiler, *core.link, *sorted(folder.iterdir()), *archives, "-o", out, *core.libraries)
    return out


def _compile(compiler: Sequence[str], sources: Iterable[Path], folder: Path, core: Core | None = None) -> None:
    """To one object each, or a link to that of the core that `core` is like."""
    macro = core.compiler[-1].removeprefix("-D").partition("=")[0] if core and core.like else ""
    if macro and any(macro in header.read_text() for header in _headers()):
        raise RuntimeError(f"a header mentions {macro}: objects can't be shared")
    for k, source in enumerate(sources):
        name = f"{k}_{source.stem}.o"  # stems may repeat
        if core and core.like and macro not in source.read_text():
            os.link(objects_of(core.like) / name, folder / name)
        else:
            _run(*compiler, "-c", source, "-o", folder / name)


_XTENSA_SOURCES = (NATMOD / "muldi3.c", XTENSA / "start.S")


def build_xtensa(compiler: Sequence[str], sources: Iterable[Path], folder: Path, out: Path) -> None:
    """folder: empty, for objects."""
    _compile(compiler, [*sources, *_XTENSA_SOURCES], folder)
    link_xtensa([*folder.iterdir()], out)


def objects_of(core: Core) -> Path:
    """The folder of a core's object files."""
    return PROGRAMS / f"{core.name}-objects"


def link_xtensa(objects: list[Path], out: Path) -> None:
    _run("xtensa-lx106-elf-ld", "-Ttext=0x400000", "-z", "noexecstack", "-o", out, *sorted(objects))


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


class Program:
    """A running core's runner. `run` may be called repeatedly; a crashed program is restarted."""

    def __init__(self, core: Core, runner: Path | None = None) -> None:
        """runner: another than the core's."""
        self.core = core
        self._command: list[str | Path] = [*core.emulator, runner or built(core)]
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, calls: Calls) -> Answers:
        """Runs the calls; their answers. RuntimeError, with the program's output, if it crashes."""
        if self._process is None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe)
        process, script = self._process, bytes(calls)
        assert process.stdin and process.stdout and process.stderr
        try:
            process.stdin.write(struct.pack("<I", len(script)) + script)
            process.stdin.flush()
            return calls.answers(_read(process.stdout, int.from_bytes(_read(process.stdout, 4), "little")))
        except (BrokenPipeError, EOFError):
            process.kill()
            message = process.stderr.read().decode(errors="replace")
            self.close()
            raise RuntimeError(f"{self.core.name}: the program died\n{message}") from None
        except BaseException:  # such as a timeout: the next call would get this one's answer, or wait for ever
            process.kill()
            self.close()
            raise

    def close(self) -> None:
        """Closes the program's input, which ends it; kills it after a timeout."""
        if self._process:
            try:
                self._process.communicate(timeout=10)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self._process.kill()
                self._process.communicate()
            self._process = None


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


@dataclass(frozen=True)
class Machine:
    """An emulated board without an operating system, whose instructions can be counted.

    emulator: the command, up to the program. tick_ps: of a Cortex-M's timer.
    """

    name: str
    compiler: tuple[str, ...]
    emulator: tuple[str, ...]
    tick_ps: int = 0
    calls_bytes: int = 0x100000

    def build(self, folder: Path, sources: Iterable[Path] = (), options: Iterable[str] = WARNINGS) -> Path:
        """Compiles the runner, or other sources with `bare.c`, to an executable in `folder`."""
        out = folder / f"{self.name}.elf"
        rooms = {"CALLS_ROOM": self.calls_bytes, "ANSWERS_ROOM": 0x80000, "ARENA_ROOM": 0x40000}
        defines = [f"-D{name}={value}" for name, value in {**rooms, "TICK_PS": self.tick_ps}.items()]
        sources = tuple(sources) or (RUNNER / "bare.c", *SHARED)
        _run(*self.compiler, *options, *INCLUDE, *defines, *sources, "-o", out)
        return out

    def run(self, calls: Calls, elf: Path) -> Answers:
        """Runs the calls; their answers, as `run_script`."""
        return calls.answers(self.run_script(bytes(calls), elf))

    def run_script(self, script: bytes, elf: Path) -> bytes:
        """Runs what a program reads; what it writes.

        Raises `RuntimeError` if the calls exceed the machine's memory for them, `subprocess.SubprocessError` if the
        machine hangs or the answers exceed their memory.
        """
        if len(script) > self.calls_bytes:
            raise RuntimeError(f"{len(script)} bytes of calls, {self.name} takes {self.calls_bytes}: run them in parts")
        folder = elf.parent
        (folder / "calls").write_bytes(script)
        (folder / "answers").unlink(missing_ok=True)
        options = ["-icount", "shift=6", "-nographic", "-monitor", "none", "-serial", "none"]
        options += ["-semihosting-config", "enable=on,target=native"]
        subprocess.run([*self.emulator, *options, "-kernel", elf], cwd=folder, check=True, timeout=TIMEOUT)
        return (folder / "answers").read_bytes()


def _mps(core: str, board: str, code: int, ram: int, tick_ps: int) -> Machine:
    """One of Arm's boards. code, ram: addresses of its memories."""
    link = (
        *("-nostartfiles", "--specs=nosys.specs", "-Wl,-emain", f"-Wl,--section-start=.vectors={code:#x}"),
        *(f"-Wl,-Ttext={code + 0x1000:#x}", f"-Wl,-Tdata={ram:#x}", f"-Wl,--defsym=stack_end={ram + 0x400000:#x}"),
    )
    compiler = ("arm-none-eabi-gcc", *_cortex_m_flags(core), *link)
    return Machine(core, compiler, ("qemu-system-arm", "-machine", board), tick_ps)


def _virt(name: str, architecture: str) -> Machine:
    """QEMU's RISC-V board."""
    memory = {"flash": 0x80000000, "flash_size": 0x400000, "ram": 0x80400000, "ram_size": 0x800000}
    link = [f"-Wl,--defsym=__{name}={value:#x}" for name, value in {**memory, "stack_size": 0x10000}.items()]
    flags = ("-std=gnu99", "-O2", f"-march={architecture}_zicsr", "-mabi=ilp32", "--specs=picolibc.specs")
    emulator = ("qemu-system-riscv32", "-machine", "virt", "-bios", "none")
    return Machine(name, ("riscv64-unknown-elf-gcc", *flags, *link), emulator)


MPS2_CORTEX_M33 = _mps("cortex-m33", "mps2-an505", 0x10000000, 0x38000000, 50_000)
MPS3_CORTEX_M55 = _mps("cortex-m55", "mps3-an547", 0x0, 0x70000000, 31_250)
VIRT_RV32 = _virt("rv32imc", "rv32imc")  # ESP32-C3
VIRT_RV32_ZB = _virt("rv32imc-zb", "rv32imc_zba_zbb_zbs")  # with bit manipulation, as the RP2350's


def main() -> None:
    cores = (*CORES, STACKS, TRACED)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, [core for core in cores if not core.like]))
    for core in cores:
        build(core)


if __name__ == "__main__":
    main()
