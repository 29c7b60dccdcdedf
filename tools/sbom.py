#!/usr/bin/env python3
"""Writes a release's bill of materials, in CycloneDX: sbom.py FOLDER

It lists the sdist, the C library and firmware, the packages that pip installs with EdgeLoRA, in the versions that the
tests use, the modules of others in the page that learns, and the sources and libraries that native modules, firmware
and the emulator are built from. Wheels are not
in it, since other computers build some of them later: the release's manifest has their checksums.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import manifest
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgelora import __version__

ROOT = Path(__file__).resolve().parents[1]
# What firmware and native modules hold beside EdgeLoRA: Debian's packages of sources and libraries, and their licences.
# Of compilers it is libgcc, their arithmetic.
COMPILER = "GPL-3.0-or-later WITH GCC-exception-3.1"
BUILT_FROM = {
    "micropython": "MIT",
    "mbedtls": "Apache-2.0 OR GPL-2.0-or-later",
    "pico-sdk-source": "BSD-3-Clause",
    "tinyusb-source": "MIT",
    "libnewlib-arm-none-eabi": "BSD-3-Clause",
    "picolibc-riscv64-unknown-elf": "BSD-3-Clause",
    "gcc-arm-none-eabi": COMPILER,
    "gcc-riscv64-unknown-elf": COMPILER,
}
SOURCES = {"micropython", "mbedtls"}  # source packages, which tools/fetch_sources.sh keeps in .build/src
PAGE = ROOT / ".build" / "page" / "node_modules" / ".package-lock.json"  # what `make page` has installed
EMULATOR = "rp2040py"  # compiled into the wheel for Linux on x86-64


def requirements(name: str, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """What a distribution and some of its extras require on this computer, directly."""
    for line in metadata.requires(name) or ():
        wanted = Requirement(line)
        if not wanted.marker or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield wanted


def distributions(name: str) -> dict[str, list[str]]:
    """All that `name` requires, also indirectly, and what each of these requires."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(name)]
    seen = set()
    while waiting:
        one = waiting.pop()
        own = canonicalize_name(one.name)
        for extra in {"", *one.extras} - {extra for name, extra in seen if name == own}:
            seen.add((own, extra))
            needed = list(requirements(own, [extra]))
            found.setdefault(own, set()).update(canonicalize_name(wanted.name) for wanted in needed)
            waiting += needed
    return {one: sorted(needed) for one, needed in found.items()}


def debian_version(package: str) -> str:
    """The version of Debian's package that was built from."""
    if package in SOURCES:
        [source] = (ROOT / ".build" / "src" / "apt").glob(f"{package}_*.dsc")
        return re.findall(r"^Version: (\S+)$", source.read_text(), re.M)[0]
    shown = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=True
    )
    return shown.stdout


def library(purl: PackageURL, **more: Any) -> Component:
    return Component(name=purl.name, version=purl.version, purl=purl, bom_ref=str(purl), **more)


def of_python(name: str) -> Component:
    """A distribution as it is installed here."""
    return library(PackageURL("pypi", None, name, metadata.version(name)), scope=ComponentScope.REQUIRED)


def of_debian(package: str, licence: str) -> Component:
    purl = PackageURL("deb", "debian", package, debian_version(package))
    return library(purl, licenses=[LicenseExpression(licence)])


def of_page() -> Iterator[Component]:
    """The packages of npm that the page's modules of others come from."""
    for path, told in json.loads(PAGE.read_text())["packages"].items():
        group, _, name = path.removeprefix("node_modules/").rpartition("/")
        purl = PackageURL("npm", group or None, name, told["version"])
        yield library(purl, group=group or None, licenses=[LicenseExpression(told["license"])])


def of_file(path: Path, name: str) -> Component:
    kind = ComponentType.FIRMWARE if path.suffix == ".uf2" else ComponentType.FILE
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=manifest.sha256(path))]
    return Component(type=kind, name=name, version=__version__, hashes=hashes, bom_ref=name)


def bill(folder: Path) -> Bom:
    """The bill of a release's folder. Its time is $SOURCE_DATE_EPOCH, else now."""
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"https://pypi.org/project/edgelora/{__version__}/"))
    at = int(os.environ.get("SOURCE_DATE_EPOCH", datetime.now(UTC).timestamp()))
    bom.metadata.timestamp = datetime.fromtimestamp(at, UTC)
    about = metadata.metadata("edgelora")
    purl = PackageURL("pypi", None, "edgelora", __version__)
    references = [
        ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(line.partition(", ")[2]))
        for line in about.get_all("Project-URL") or ()
        if line.startswith("Homepage, ")
    ]
    own = Component(
        type=ComponentType.APPLICATION,
        name="edgelora",
        version=__version__,
        purl=purl,
        bom_ref=str(purl),
        description=about["Summary"],
        licenses=[DisjunctiveLicense(id="MIT")],
        external_references=references,
    )
    bom.metadata.component = own
    graph = distributions("edgelora")
    parts = {name: own if name == "edgelora" else of_python(name) for name in graph}
    for name, needed in graph.items():
        bom.register_dependency(parts[name], [parts[one] for one in needed])
    built_from = [of_debian(*one) for one in BUILT_FROM.items()] + [of_python(EMULATOR), *of_page()]
    bom.register_dependency(own, built_from)
    files = (
        path for kind in ("edgelora-*.tar.gz", "edgelora-c-*.zip", "site/firmware/*") for path in folder.glob(kind)
    )
    made = [of_file(path, path.name) for path in sorted(files)]
    for one in [*(part for part in parts.values() if part is not own), *built_from, *made]:
        bom.components.add(one)
    return bom


def main(folder: Path) -> None:
    text = JsonV1Dot6(bill(folder)).output_as_string(indent=1)
    (folder / f"edgelora-{__version__}.cdx.json").write_text(text + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
