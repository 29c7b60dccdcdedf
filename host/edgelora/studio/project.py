"""A project: its folder, its boards, and jobs without a board. No pages in here."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.board import virtual_boards
from edgelora.board.build import program
from edgelora.board.devices import Device, find_boot_loaders, find_devices
from edgelora.board.profiles import list_boards, load_board
from edgelora.board.sim.virtual_board import start
from edgelora.core.formats.files import write_atomic
from edgelora.core.store_names import store_name

from .board_session import JOBS_KEPT, BoardSession
from .error_messages import Trouble, trouble_of
from .job import Job

FOLDERS = ("samples", "bases", "adapters", "reports", "boards", "keys", "releases")
STATE_FILE = "studio.json"
LOOK_SECONDS = 1.0  # between scans of connected devices
TROUBLES_KEPT = 3
THEMES = ("auto", "light", "dark")
T = TypeVar("T")


class Project:
    """A project's folder and its state: boards by port, jobs without a board, the selected board.

    `studio.json` keeps state over a restart: the boards, the virtual ones by name and which of them are
    on, and choices.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.devices: tuple[Device, ...] = ()  # connected devices, of the last scan
        self.sessions: dict[str, BoardSession] = {}
        self.jobs: deque[Job] = deque(maxlen=JOBS_KEPT)
        self.troubles: tuple[Trouble, ...] = ()  # errors outside of jobs, latest last
        self.version = 0  # rises at each change of the above
        self._parts: dict[Any, Any] = {}
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._state = _read(self.folder / STATE_FILE)
        self._watcher = threading.Thread(target=self._watch, name="devices", daemon=True)

    def open(self) -> None:
        """Starts scanning for boards, and starts the virtual ones that were on."""
        for name, board in sorted(self._virtual.items()):
            with contextlib.suppress(EdgeloraError):
                self._show_virtual(board, store_name(name))
                if name in self._on:
                    self.start_virtual(board, name)
        for entry in self._state["boards"]:
            if "://" in entry["port"]:
                self.connect_address(entry["port"])
        self._watcher.start()

    def close(self) -> None:
        """Ends jobs, leaves boards at their REPL, and powers off virtual ones that were started here."""
        self._closing.set()
        for job in self.jobs:
            if not job.ended:
                job.cancel()
        for part in self._parts.values():
            if close := getattr(part, "close", None):
                close()
        closers = [threading.Thread(target=session.close) for session in self.sessions.values()]
        for thread in closers:
            thread.start()
        for thread in closers:
            thread.join()
        for board in self._own_boards():
            board.stop()

    def of(self, kind: Callable[[Project], T]) -> T:
        """This project's instance of `kind`, created on first use: `ProjectSamples(project)`. It may have a `close`."""
        with self._lock:
            if kind not in self._parts:
                self._parts[kind] = kind(self)
            part: T = self._parts[kind]
            return part

    def submit(self, name: str, work: Callable[[Job], Any]) -> Job:
        """Runs work without a board (a build, training on this computer) on a separate thread."""
        job = Job(name, changed=self._touch)
        self.jobs.append(job)
        threading.Thread(target=job.run, args=(lambda: work(job),), name=name, daemon=True).start()
        return job

    # --- errors

    def trouble(self, error: BaseException) -> None:
        """Shows an unexpected error on every page, once."""
        found = trouble_of(error)
        with self._lock:
            if found not in self.troubles:
                self.troubles = (*self.troubles, found)[-TROUBLES_KEPT:]
                self.version += 1

    def calm(self) -> None:
        """Clears the errors after they were read."""
        self.troubles = ()
        self._touch()

    # --- boards

    @property
    def selected(self) -> BoardSession | None:
        """The board that views show: the selected one, else the first."""
        sessions = self.sessions
        return sessions.get(self._state["selected"]) or next(iter(sessions.values()), None)

    def select(self, port: str) -> None:
        self._remember(selected=port)

    def connect(self, device: Device) -> BoardSession:
        """Opens the board at a port, which may reset the device, and keeps it until `release`."""
        with self._lock:
            session = self.held(device)
            if session is None:
                key = device.port
                while key in self.sessions:  # of a known board
                    key += "'"
                session = BoardSession(device, key)
                self.sessions = self.sessions | {key: session}
            entry = {"port": device.port, "serial_number": device.serial_number, "state_dir": device.state_dir}
            self._remember(boards=[*(one for one in self._state["boards"] if one != entry), entry])
            return session

    def held(self, device: Device) -> BoardSession | None:
        """The board of a device, if it was opened here."""
        return next((session for session in self.sessions.values() if session.holds(device)), None)

    @property
    def others(self) -> tuple[Device, ...]:
        """Connected devices that are not opened here, without virtual boards of other projects."""
        return tuple(one for one in self.devices if self.held(one) is None and not self._is_of_another(one))

    def _is_of_another(self, device: Device) -> bool:
        """Whether a virtual board belongs to another project."""
        if not device.state_dir:
            return False
        folder = Path(device.state_dir).parent.parent
        return folder != self.folder and (folder / STATE_FILE).is_file()

    def connect_address(self, port: str) -> BoardSession:
        """Opens a port by its name, or by an address such as `socket://10.0.0.2:3333`."""
        if not port:
            raise InputError("no port is given", remedy="give a name like COM3, or a URL like socket://10.0.0.2:3333")
        there = next((device for device in find_devices() if device.port == port), None)
        return self.connect(there or Device(port, port, virtual=False))

    def release(self, key: str) -> None:
        """Releases a board: other programs can use its port."""
        with self._lock:
            session = self.sessions.get(key)
            self.sessions = {name: other for name, other in self.sessions.items() if name != key}
            if session:
                self._forget_virtual(session.device)
                gone = {"serial_number": session.device.serial_number, "state_dir": session.device.state_dir}
                ports = (key, session.device.port)
                kept = [one for one in self._state["boards"] if one["port"] not in ports or one | gone != one]
                self._remember(boards=kept)
        if session:
            session.close()

    @property
    def virtual_kinds(self) -> list[str]:
        """Kinds of virtual boards that can be started here."""
        return [name for name in list_boards() if load_board(name).is_virtual] if virtual_boards.SUPPORTED else []

    def start_virtual(self, board: str, name: str = "") -> Job:
        """Powers on a virtual board by its name; its flash is in the project. The job's result is its Place."""
        name = store_name(name or self._free_name(board))
        if board not in self.virtual_kinds:
            raise InputError(f"{board} is not a virtual board", remedy=f"choose one of {', '.join(self.virtual_kinds)}")
        if self._virtual.get(name, board) != board:
            raise InputError(f"{name} is a {self._virtual[name]}", remedy="give another name")
        self._remember(on=self._on | {name: board}, virtual=self._virtual | {name: board})
        return self.submit(f"start {name}", lambda job: self._power_up(board, name, job))

    def _power_up(self, board: str, name: str, job: Job) -> BoardSession:
        state = self.folder / "boards" / name
        handle = next((there for there in virtual_boards.running() if there.state_dir == str(state)), None)
        if handle is None:
            profile, firmware = load_board(board), None
            if profile.port != "unix" and not state.exists():
                job.tell("building its firmware: a few minutes the first time")
                firmware = program(profile, job.tell)
            job.tell("starting")
            handle = start(board, firmware, state, die_with_parent=True)  # also if this process is killed
        if self._closing.is_set():
            handle.stop()
        device = Device(handle.port, f"virtual {board}", True, board, state_dir=handle.state_dir)
        return self.connect(device)

    def is_there(self, session: BoardSession) -> bool:
        """Whether a board's port existed at the last scan."""
        return any(device.port == session.device.port for device in self.devices)

    def waits_for_firmware(self, session: BoardSession) -> bool:
        """Whether a board is in its boot loader, so it can only be flashed."""
        return any(device.boot_loader and device.port == session.device.port for device in self.devices)

    def stop_virtual(self, key: str) -> None:
        """Powers off a virtual board and keeps its flash. It is away until started again."""
        session = self.sessions.get(key)
        if session is None or not session.device.state_dir:
            return
        name = Path(session.device.state_dir).name
        self._remember(on={other: board for other, board in self._on.items() if other != name})
        for board in self._own_boards():
            if board.state_dir == session.device.state_dir:
                board.stop()

    def is_own(self, device: Device) -> bool:
        """Whether a device is a virtual board of this project."""
        return bool(device.state_dir) and Path(str(device.state_dir)).parent == self.folder / "boards"

    def cut_power(self, device: Device) -> None:
        """Power-cycles a virtual board, unless it was stopped meanwhile. Takes a moment.

        Raises `SimError` if it does not start.
        """
        state = Path(str(device.state_dir))
        for board in self._own_boards():
            if board.state_dir == device.state_dir:
                board.stop()
        if state.name in self._on:
            handle = start(str(device.board), None, state, die_with_parent=True)
            if state.name not in self._on:  # it was stopped meanwhile
                handle.stop()

    def _show_virtual(self, board: str, name: str) -> None:
        """Shows a virtual board that is off."""
        state = self.folder / "boards" / name
        if board in self.virtual_kinds and state.is_dir():
            self.connect(Device(str(state / "port"), f"virtual {board}", True, board, state_dir=str(state)))

    def _forget_virtual(self, device: Device) -> None:
        """Forgets a released virtual board at the next start; its flash stays in the project."""
        if self.is_own(device):
            name = Path(str(device.state_dir)).name
            kept = {what: {n: b for n, b in self._state[what].items() if n != name} for what in ("on", "virtual")}
            self._remember(**kept)

    def _own_boards(self) -> list[virtual_boards.SimHandle]:
        return [board for board in virtual_boards.running() if board.belongs_to(self.folder / "boards")]

    def _free_name(self, board: str) -> str:
        taken = {path.name for path in (self.folder / "boards").iterdir()}
        return next(name for n in range(1, 1000) if (name := f"{board}-{n}"[-24:]) not in taken)

    def _watch(self) -> None:
        while not self._closing.wait(0 if not self.version else LOOK_SECONDS):
            with contextlib.suppress(EdgeloraError, OSError):  # a full disk, for one: the next scan may succeed
                there = tuple(find_devices() + find_boot_loaders())
                if there != self.devices or not self.version:
                    self.devices = there
                    self._touch()
                for device in self.devices:
                    if self.held(device) is None and self._is_known(device):
                        self.connect(device)

    def _is_known(self, device: Device) -> bool:
        """Whether this board was opened before, so it is reopened automatically."""
        if device.boot_loader and not device.virtual:
            return False
        mine = {"port": device.port, "serial_number": device.serial_number, "state_dir": device.state_dir}
        return mine in self._state["boards"]

    # --- state kept over a restart

    @property
    def theme(self) -> str:
        """ "auto", "light" or "dark"."""
        return str(self._state["theme"])

    def set_theme(self, theme: str) -> None:
        self._remember(theme=theme)

    @property
    def _on(self) -> dict[str, str]:
        """Virtual boards of the project that are on: kinds by name."""
        on: dict[str, str] = self._state["on"]
        return on

    @property
    def _virtual(self) -> dict[str, str]:
        """All virtual boards of the project."""
        virtual: dict[str, str] = self._state["virtual"]
        return virtual

    def _remember(self, **changes: Any) -> None:
        with self._lock:
            self._state = self._state | changes
            write_atomic(self.folder / STATE_FILE, json.dumps(self._state, indent=1).encode())
            self.version += 1

    def _touch(self) -> None:
        with self._lock:
            self.version += 1


def _read(path: Path) -> dict[str, Any]:
    """A project's saved state, as far as valid: the file may have been edited."""
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        said = {}
    said = said if isinstance(said, dict) else {}
    boards = said.get("boards") if isinstance(said.get("boards"), list) else []
    on, virtual = (_kinds(said.get(what)) for what in ("on", "virtual"))
    known = {"port", "serial_number", "state_dir"}
    return {
        "boards": [b for b in boards or [] if isinstance(b, dict) and set(b) == known and isinstance(b["port"], str)],
        "on": on,
        "virtual": virtual | on,
        "selected": said.get("selected") if isinstance(said.get("selected"), str) else None,
        "theme": said.get("theme") if said.get("theme") in THEMES else "auto",
    }


def _kinds(said: Any) -> dict[str, str]:
    """The valid kinds of boards, by name."""
    return {name: kind for name, kind in said.items() if isinstance(kind, str)} if isinstance(said, dict) else {}
