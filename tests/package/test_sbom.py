"""A release's bill of materials: valid CycloneDX, and nothing of what is delivered is missing."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edgelora import __version__
from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import manifest  # noqa: E402
import sbom  # noqa: E402
import try_page  # noqa: E402

FILES = (f"edgelora-{__version__}.tar.gz", f"edgelora-c-{__version__}.zip", f"site/firmware/edgelora-{__version__}.uf2")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release's folder with a file of each kind."""
    folder = tmp_path_factory.mktemp("release")
    (folder / "site" / "firmware").mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(name.encode())
    (folder / f"edgelora-{__version__}-py3-none-any.whl").touch()
    sbom.main(folder)
    return folder


@pytest.fixture(scope="module")
def bill(release: Path) -> dict[str, Any]:
    return dict(json.loads((release / f"edgelora-{__version__}.cdx.json").read_text()))


def test_it_is_valid(release: Path) -> None:
    text = (release / f"edgelora-{__version__}.cdx.json").read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"type": "firmware"', '"type": "thing"')) is not None


def test_it_names_the_release_and_its_files(release: Path, bill: dict[str, Any]) -> None:
    own = bill["metadata"]["component"]
    assert (own["name"], own["version"]) == ("edgelora", __version__)
    hashes = {part["name"]: part["hashes"][0]["content"] for part in bill["components"] if "hashes" in part}
    assert hashes == {Path(name).name: manifest.sha256(release / name) for name in FILES}


def test_it_has_every_dependency_in_the_version_of_the_tests(bill: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)
    purls = [part["purl"] for part in bill["components"] if part.get("purl", "").startswith("pkg:pypi/")]
    listed = dict(purl.removeprefix("pkg:pypi/").split("@") for purl in purls)
    assert {re.split(">=", line)[0] for line in project["dependencies"]} <= set(listed)
    assert {name: locked[name] for name in listed} == listed
    assert "websockets" in listed  # of an extra of esp-pylib that esptool needs
    [own] = [one for one in bill["dependencies"] if one["ref"] == bill["metadata"]["component"]["bom-ref"]]
    known = {part["bom-ref"] for part in bill["components"]}
    assert set(own["dependsOn"]) <= known and len(own["dependsOn"]) > len(project["dependencies"])


def test_it_has_what_firmware_is_built_from(bill: dict[str, Any]) -> None:
    """Packages of sources, C libraries and compilers that the build fetches, with licence and version."""
    parts = {part["name"]: part for part in bill["components"] if part.get("purl", "").startswith("pkg:deb/")}
    assert set(parts) == set(sbom.BUILT_FROM)
    assert all(part["version"] and part["licenses"][0]["expression"] for part in parts.values())
    build = "".join((ROOT / name).read_text() for name in ("Makefile", "tools/fetch_sources.sh"))
    assert all(name in build for name in sbom.BUILT_FROM)


def test_it_has_what_the_page_loads(bill: dict[str, Any]) -> None:
    """Every package of npm that the page has modules of, and what these were bundled with."""
    purls = {part["purl"].rpartition("@")[0] for part in bill["components"] if "pkg:npm/" in part.get("purl", "")}
    named = {f"pkg:npm/{package}".replace("/@", "/%40") for package, _ in try_page.OTHERS.values()}
    assert named < purls and "pkg:npm/pako" in purls


def test_a_time_can_be_set(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1798761600")
    assert sbom.bill(tmp_path).metadata.timestamp.isoformat() == "2027-01-01T00:00:00+00:00"
