"""Staged rollout of a global adapter by signed updates: to a few canary boards, then to all, or rolled back.

site/updates/canary/    releases for canary boards
site/updates/all/       releases for all other boards
site/updates/NAME.json  the state of the newest release

A hash selects the canary boards of each version. A board that fetches a release tries it from its next start, and
returns to the previous one if its application does not confirm it (SPEC.md, section 14).
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.elu import HEADER_SIZE, check_name, key_id, public_bytes
from edgelora.core.formats.files import read_bounded, write_atomic
from edgelora.core.formats.limits import MAX_UPDATE
from edgelora.learn.training.data.base import Base
from edgelora.learn.updates.releasing import Release, release, releases

from .roster import Roster, Site

MAX_STATE = 4096
MOST_BACK = 100  # versions


class PublishError(EdgeloraError, RuntimeError):
    """An adapter can't be published or rolled back; the message says why. Boards' releases are unchanged."""


@dataclass(frozen=True)
class Rollout:
    """The state of a release. share: percent of boards that get it first; everyone: all boards get it.

    line: versions that all boards got, the newest last, without those rolled back; `back` returns along it.
    """

    name: str
    version: int
    share: int
    everyone: bool
    line: tuple[int, ...] = ()

    def first(self, roster: Roster) -> list[int]:
        """The canary boards, ascending: about `share` percent, selected by a hash, and at least one."""
        drawn = {index: self._draw(roster.fleet, index) for index in roster.active}
        few = [index for index, draw in drawn.items() if draw * 100 < self.share << 32]
        return few or sorted(drawn, key=drawn.__getitem__)[:1]

    def _draw(self, fleet: bytes, index: int) -> int:
        place = struct.pack("<II", self.version, index)
        drawn = hashlib.sha512(b"edgelora canary" + fleet + self.name.encode() + place).digest()
        return int.from_bytes(drawn[:4], "little")


def to_few(
    site: Site, adapter: bytes, name: str, key: Ed25519PrivateKey, share: int, base: Base | None = None
) -> tuple[Rollout, Release]:
    """Signs an `.ela` and publishes it to `share` percent of the boards. base: check the adapter against it.

    The release has no training state. Raises PublishError, ReleaseError, BundleError or FormatError.
    """
    if not 1 <= share <= 100:
        raise PublishError(f"a share of {share} %: give 1 to 100")
    if public_bytes(key) not in site.trusted():
        raise PublishError(
            f"boards of this fleet trust {', '.join(key_id(one).hex() for one in site.trusted())}, not "
            f"{key_id(public_bytes(key)).hex()}",
            remedy=f"sign with the fleet's key; if boards trust this one, add its .pub to {site.folder}/release.pub",
        )
    made = unpack_adapter(adapter, name=name)
    for layer in made.layers:
        layer.a_state = layer.b_state = None
    roster, few = site.roster(), folder(site, False)
    version = max(releases(few, name, [public_bytes(key)]), default=0) + 1
    before = state(site, name)
    rollout = Rollout(name, version, share, False, before.line if before else ())
    done = release(few, pack_adapter(made), name, key, version=version, target=roster.target, base=base)
    _write(site, rollout)
    return rollout, done


def to_all(site: Site, name: str) -> Rollout:
    """Publishes the canary boards' release to all boards. Raises PublishError."""
    rollout = state(site, name)
    if rollout is None:
        raise PublishError(f"{name} was not published", remedy="publish it to a share of boards first")
    source, target = folder(site, False), folder(site, True)
    paths = [*source.glob(f"{name}.from-*.elu"), source / f"{name}.v{rollout.version}.elu", source / f"{name}.elu"]
    files = {path.name: read_bounded(path, MAX_UPDATE + HEADER_SIZE, False) for path in paths}
    for file, content in files.items():  # `NAME.elu` last, after the files that it needs
        write_atomic(target / file, content)
    for stale in target.glob(f"{name}.from-*.elu"):  # earlier versions stay, for `back`
        if stale.name not in files:
            stale.unlink()
    line = rollout.line if rollout.everyone else (*rollout.line, rollout.version)
    rollout = replace(rollout, everyone=True, line=line[-MOST_BACK:])
    _write(site, rollout)
    return rollout


def back(site: Site, name: str, key: Ed25519PrivateKey) -> Rollout:
    """Publishes to all boards, under a new version, the adapter before the newest release. Raises PublishError.

    Each further call goes one version further back, and never to one that was rolled back.
    """
    rollout = state(site, name)
    earlier = releases(folder(site, True), name, [public_bytes(key)])
    line = rollout.line[: -1 if rollout.everyone else None] if rollout else ()
    line = tuple(version for version in line if version in earlier)
    if rollout is None or not line:
        raise PublishError(
            f"no earlier version of {name} was published to all boards",
            remedy="boards fall back on their own if it isn't confirmed",
        )
    adapter = earlier[line[-1]].adapter()
    made = release(folder(site, False), adapter, name, key, target=site.roster().target, force=True)
    _write(site, Rollout(name, made.version, rollout.share, False, line[:-1]))
    return to_all(site, name)


def state(site: Site, name: str) -> Rollout | None:
    """The state of the newest release of a name, None if there is none. Raises PublishError."""
    check_name(name)
    path = site.folder / "updates" / f"{name}.json"
    try:
        saved = json.loads(read_bounded(path, MAX_STATE))
        found = Rollout(**saved | {"line": tuple(saved.get("line", ()))})
        if found.name != name or any(type(number) is not int for number in (found.version, found.share, *found.line)):
            raise ValueError
        return found
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError):
        raise PublishError(f"{path} is damaged", remedy="publish again") from None


def published(site: Site) -> list[str]:
    """The names of all releases."""
    return sorted(path.stem for path in (site.folder / "updates").glob("*.json"))


def folder(site: Site, everyone: bool) -> Path:
    """The folder of releases for all boards, or for canary boards."""
    return site.folder / "updates" / ("all" if everyone else "canary")


def folder_of(site: Site, name: str, index: int) -> Path:
    """The folder from which a board gets its releases."""
    rollout = state(site, name)
    return folder(site, not (rollout and not rollout.everyone and index in rollout.first(site.roster())))


def _write(site: Site, rollout: Rollout) -> None:
    write_atomic(site.folder / "updates" / f"{rollout.name}.json", json.dumps(asdict(rollout)).encode())
