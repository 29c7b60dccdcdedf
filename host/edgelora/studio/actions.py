"""Actions of a project's classes on a board that runs on its own. No pages in here.

The actions are stored in the project's `actions.json`. The studio releases the port of a board that runs its program.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.board.devices import Device
from edgelora.board.link.client import Link
from edgelora.board.profiles import load_board
from edgelora.board.resetting import reset
from edgelora.board.sim.world import driven_pins
from edgelora.core.formats.files import write_atomic
from edgelora.learn.streaming.decisions import Vote
from edgelora.learn.streaming.main_program import (
    MOST_ACTIONS,
    Act,
    Acting,
    Sense,
    Wish,
    check_keys,
    checked_act,
    save_acting,
)
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.heads.known import NOTHING

from .board_session import BoardSession
from .job import Job
from .live import Live, Sensor
from .project import Project
from .runs import ProjectRuns
from .samples import ProjectSamples

FILE = "actions.json"
VOTES = {"1/1": "each window", "2/3": "2 of the last 3 windows", "3/5": "3 of the last 5 windows"}
USUAL_VOTE = "2/3"


class Acts:
    """The actions of a project, and the boards that run them.

    acts: in order; nothing: whether unknown input is rejected; vote: one of `VOTES`. alone: devices by port; saved: the
    program that was saved last.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.version = 0  # rises at each change
        self.alone: dict[str, Device] = {}
        self.saved: Acting | None = None
        self._path = project.folder / FILE
        self.read()

    def read(self) -> None:
        """Reads the file again, as another program may have changed it."""
        said = _read(self._path)
        self.acts: tuple[Act, ...] = tuple(_acts(said.get("acts")))
        self.nothing = said.get("nothing") is not False
        vote = said.get("vote")
        self.vote = vote if isinstance(vote, str) and vote in VOTES else USUAL_VOTE
        self.version += 1

    def add(self, act: Act) -> None:
        """Adds an action. InputError if it is invalid."""
        if not act.label:
            raise InputError("no class is selected", remedy="select one, or record one in Collect")
        if len(self.acts) >= MOST_ACTIONS:
            raise InputError(f"the limit is {MOST_ACTIONS} actions", remedy="remove some")
        self._now(acts=(*self.acts, checked_act(act)))

    def remove(self, act: Act) -> None:
        left = list(self.acts)
        left.remove(act)
        self._now(acts=tuple(left))

    def set_nothing(self, on: bool) -> None:
        self._now(nothing=on)

    def set_vote(self, vote: str) -> None:
        self._now(vote=vote if vote in VOTES else USUAL_VOTE)

    def _now(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        said = {"acts": [asdict(act) for act in self.acts], "nothing": self.nothing, "vote": self.vote}
        write_atomic(self._path, json.dumps(said, indent=1).encode())
        self.version += 1

    # --- on a board

    def labels(self, session: BoardSession | None) -> list[str]:
        """Names of classes that can have actions: those of the samples, else of the base."""
        labels = list(self.project.of(ProjectSamples).labels)
        if not labels and session and (base := self._base(session)):
            labels = list(base.model.labels)
        return [*labels, *([NOTHING] if self.nothing and NOTHING not in labels else [])]

    def _base(self, session: BoardSession) -> Base | None:
        """The base of the board's active adapter; without one, a base that fits the samples."""
        bases, active = self.project.of(ProjectRuns).bases(), session.state.active
        entries = session.state.store.adapters if session.state.store else ()
        if active:
            base_id = next((entry.base_id for entry in entries if entry.name == active), "")
            return next((base for base in bases.values() if base.base_id == base_id), None)
        return bases.get(
            self.project.of(ProjectRuns).usual_base(self.project.of(ProjectSamples).dataset(), session) or ""
        )

    def start(self, session: BoardSession) -> Job:
        """Saves the program on a board, releases the board, and resets it. The job's result is `Acting`.

        InputError without actions, or if the board can't run them.
        """
        check_keys(self.acts, session.state.is_virtual)
        base = self._base(session)
        if base is None:
            raise InputError(
                "the project does not have the base of the active adapter", remedy="add its .elm in Boards"
            )
        if not self.acts:
            raise InputError("there are no actions yet", remedy="add an action")
        if session.device.board and load_board(session.device.board).port == "unix":
            raise InputError(
                "this virtual board can't run a program on its own", remedy="use a virtual Pico or a real board"
            )
        source = session.of(Live).source
        sensor = source if isinstance(source, Sensor) else Sensor()
        least, _, windows = self.vote.partition("/")
        sense, vote = Sense(sensor.source, sensor.pins, sensor.bus), Vote(int(least), int(windows))
        wish = Wish(self.acts, sense, session.state.active or "", vote, self.nothing)
        data = self.project.of(ProjectSamples).dataset(base)
        session.of(Live).stop()

        def save(link: Link, job: Job) -> Acting:
            return save_acting(link, base, data, wish)

        saving = session.submit("save the program", save)
        return self.project.submit("let the board act", lambda job: self._let_go(session, saving, job))

    def _let_go(self, session: BoardSession, saving: Job, job: Job) -> Acting:
        job.tell("the program is saved")
        while not saving.wait(0.2):
            if job.cancelled:
                saving.cancel()
        if saving.state != "done":
            raise EdgeloraError(saving.error or "the program was not saved", remedy=saving.remedy)
        device = session.device
        self.saved = saving.result
        job.tell("the board restarts with it")
        self.project.release(session.key)
        reset(device.port)
        self.alone = self.alone | {device.port: device}
        self.version += 1
        made: Acting = saving.result
        return made

    def connect(self, device: Device) -> BoardSession:
        """Reconnects a board, which stops its program until the next reset."""
        session = self.project.connect(device)
        self.alone = {port: one for port, one in self.alone.items() if port != device.port}
        self.version += 1
        return session

    def there(self) -> list[Device]:
        """Boards that run on their own and were not reconnected."""
        return [device for device in self.alone.values() if self.project.held(device) is None]


def pins_of(device: Device) -> dict[int, int] | None:
    """Levels of a virtual Pico's output pins; None for other boards, whose LEDs are visible."""
    return driven_pins(Path(device.state_dir)) if device.virtual and device.state_dir else None


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _acts(said: Any) -> list[Act]:
    """The valid actions of a file, which may have been edited."""
    acts = []
    for one in said[:MOST_ACTIONS] if isinstance(said, list) else []:
        try:
            if all(isinstance(value, str) for value in one.values()):
                acts.append(checked_act(Act(**one)))
        except (InputError, TypeError, AttributeError):
            continue
    return acts
