"""Federations and fleets of a project, and releases to a fleet's boards. No pages in here.

fleets/NAME/    a federation, as created by `edgelora fleet init` or `simulate`
fleets/NAME/    or a fleet's site, with the roster of its boards, as created by `edgelora fleet enroll`
"""

from __future__ import annotations

from pathlib import Path

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.core.store_names import store_name
from edgelora.fleet import rollout as publishing
from edgelora.fleet import simulate as fleet_simulate
from edgelora.fleet.federation import Federation
from edgelora.fleet.plan import Plan
from edgelora.fleet.rollout import Rollout
from edgelora.fleet.roster import Site
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.learn.updates.keys import load_key

from .job import Job
from .project import Project

FOLDER = "fleets"
DATA = "har"  # the data set of a simulation's boards
KEY_FILE = "release.pem"


class Federations:
    """The federations of a project, and of folders added from elsewhere. Get them by `project.of(Federations)`."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.folder = project.folder / FOLDER
        self.others: list[Path] = []
        self.job: Job | None = None  # the last simulation
        self._read: dict[Path, tuple[int, Federation | EdgeloraError]] = {}

    @property
    def version(self) -> tuple[tuple[str, int], ...]:
        """A value that changes with the federations' files."""
        return tuple((str(path), path.stat().st_mtime_ns) for path in self._paths("state.json", "roster.elg"))

    def all(self) -> dict[str, Federation | EdgeloraError]:
        """By name: each federation, or why it can't be read."""
        found = {}
        for path in self._paths("state.json"):
            changed = path.stat().st_mtime_ns
            if self._read.get(path, (-1,))[0] != changed:
                self._read[path] = (changed, _opened(path.parent))
            found[self._name(path.parent)] = self._read[path][1]
        return found

    def sites(self) -> dict[str, Site]:
        """Fleets that can get releases."""
        return {self._name(path.parent): Site(path.parent) for path in self._paths("roster.elg")}

    def add(self, folder: Path) -> None:
        """Adds a folder elsewhere. InputError if it is neither a federation nor a fleet."""
        if not (folder / "state.json").exists() and not (folder / "roster.elg").exists():
            raise InputError(
                f"{folder} is neither a federation nor a fleet", remedy="give the folder of `edgelora fleet init`"
            )
        self.others.append(folder.resolve())

    def simulate(self, name: str, plan: Plan) -> Job:
        """Simulates a federation of host twins, or continues one of that name. The job's result is the Federation."""
        folder = self.folder / store_name(name)

        def work(job: Job) -> Federation:
            if not (folder / "state.json").exists():
                job.tell("training a base for the twins: a few minutes the first time")
                base = fleet_base(progress=job.progress)
                Federation.create(folder, plan, base)
            federation = Federation.open(folder)
            fleet_simulate.simulate(federation, DATA, "loop", job.progress)
            return federation

        self.job = self.project.submit(f"simulate {name}", work)
        return self.job

    def publish(self, site: Site, federation: Federation, name: str, share: int) -> Rollout:
        """Signs the global adapter and releases it to a share of the fleet's boards, in percent."""
        key = self.project.folder / "keys" / KEY_FILE
        if not key.exists():
            raise InputError(
                f"the project has no {key.parent.name}/{key.name}, this fleet's signing key",
                remedy="put the fleet's original key there",
            )
        return publishing.to_few(site, federation.adapter, store_name(name), load_key(key), share, federation.base)[0]

    def to_everyone(self, site: Site, name: str) -> Rollout:
        """Releases to all boards what the first boards have."""
        return publishing.to_all(site, store_name(name))

    def back(self, site: Site, name: str) -> Rollout:
        """Rolls all boards back to the previous release."""
        return publishing.back(site, store_name(name), load_key(self.project.folder / "keys" / KEY_FILE))

    def rollouts(self, site: Site) -> list[Rollout]:
        """The state of each release."""
        return [one for name in publishing.published(site) if (one := publishing.state(site, name)) is not None]

    def _paths(self, *names: str) -> list[Path]:
        folders = [*sorted(self.folder.glob("*")), *self.others]
        return [path for folder in folders for name in names if (path := folder / name).exists()]

    def _name(self, folder: Path) -> str:
        return folder.name if folder.parent == self.folder else str(folder)


def _opened(folder: Path) -> Federation | EdgeloraError:
    try:
        return Federation.open(folder)
    except EdgeloraError as error:
        return error
