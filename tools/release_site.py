#!/usr/bin/env python3
"""Adds to the site what boards install: packages for mip and ViperIDE, and firmware images.

release_site.py FOLDER BOARD...    adds mip/ and firmware/ to the site that mkdocs has built there, from dist and .build

    mip/package.json          the bootstrap edgelora_mip.py, and for ViperIDE a package for each architecture
    mip/6.3/armv6m/           a package for one format and architecture of native modules, as in dist/armv6m
    mip/index.html            what there is, with checksums
    firmware/NAME.uf2         images of boards, with EdgeLoRA in them
    manifest.json, .sig       checksums of all these, and their signature (tools/manifest.py)
"""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import jinja2
import manifest

from edgelora import __version__
from edgelora.board.installing import resolve

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
PROGRAMS = ROOT / ".build"
BOOTSTRAP = "edgelora_mip.py"  # beside this file; neither firmware nor packages have it
# Names of architectures that run another's package, besides those that have their own.
ALIASES = ("armv7em", "armv7emdp")
SITE: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>EdgeLoRA {{ version }} for boards</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border: 1px solid #888; padding: .2rem .5rem; text-align: left }
code { overflow-wrap: anywhere }
:root { color-scheme: light dark }
</style>
<h1>EdgeLoRA {{ version }} for boards</h1>
<p>The <a href="../guides/stock-micropython.html">guide</a> says how to install it.
<a href="../manifest.json">manifest.json</a> has the checksum of every file,
<a href="../manifest.json.sig">manifest.json.sig</a> its signature.</p>
<h2>Packages for stock MicroPython</h2>
<p>In ViperIDE: <a href="https://viper-ide.org/?install={{ site }}mip/package.json">install</a>.</p>
<table>
<tr><th>native modules<th>core<th><code>mpremote mip install</code><th>bytes
{%- for package in packages %}
<tr><td>{{ package.format }}<td>{{ package.arch }}
<td><code>{{ site }}mip/{{ package.format }}/{{ package.arch }}/</code><td>{{ package.bytes }}
{%- endfor %}
</table>
<h2>Firmware</h2>
<table>
<tr><th>image<th>bytes<th>SHA-256
{%- for image in images %}
<tr><td><a href="../firmware/{{ image.name }}">{{ image.name }}</a>
<td>{{ image.bytes }}<td><code>{{ image.sha256 }}</code>
{%- endfor %}
</table>
</html>
"""


def add_packages(site: Path, packages: Mapping[str, Path], address: str = SITE) -> None:
    """Fills site/mip. packages: folders by architecture, as tools/natmods.py makes them; address: of the site."""
    folder = site / "mip"
    shutil.rmtree(folder, ignore_errors=True)
    forms: dict[str, list[str]] = {}
    for arch, source in packages.items():
        form = native_format(source)
        shutil.copytree(source, folder / form / arch)
        forms.setdefault(form, []).append(arch)
    text = Path(__file__).with_name(BOOTSTRAP).read_text()
    for name, value in (("INDEX", f"{address}mip"), ("FORMATS", forms)):
        [line] = [line for line in text.splitlines() if line.startswith(f"{name} = ")]
        text = text.replace(line, f"{name} = {value!r}")
    (folder / BOOTSTRAP).write_text(text)
    top = {
        "name": "edgelora",
        "version": __version__,
        "mpy": sorted(forms),
        "urls": [[BOOTSTRAP, BOOTSTRAP]],
        "native": {name: {"urls": urls} for name, urls in _native(folder, max(forms), forms[max(forms)]).items()},
        "deps": [],
    }
    (folder / "package.json").write_text(json.dumps(top, indent=1) + "\n")


def _native(folder: Path, form: str, arches: list[str]) -> dict[str, list[list[str]]]:
    """For ViperIDE, which knows a board's architecture: files on the board and in the index, for each."""
    found = {}
    for name in sorted([*arches, *ALIASES]):
        arch = resolve(name, arches)
        if arch:
            urls = json.loads((folder / form / arch / "package.json").read_text())["urls"]
            found[name] = [[path, f"{form}/{arch}/{url}"] for path, url in urls]
    return found


def native_format(package: Path) -> str:
    """The format of a package's native module, such as 6.3: MicroPython's version and sub-version of .mpy files."""
    head = (package / "edgelora" / "__init__.mpy").read_bytes()[:3]
    if head[:1] != b"M":
        raise ValueError(f"{package} has no native module")
    return f"{head[1]}.{head[2] & 3}"


def add_images(site: Path, images: Mapping[str, Path]) -> None:
    """Fills site/firmware. images: files by board."""
    folder = site / "firmware"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, path in images.items():
        shutil.copyfile(path, folder / f"edgelora-{__version__}-{name}{path.suffix}")


def add_page(site: Path, address: str = SITE) -> None:
    """Writes site/mip/index.html, which lists packages and images."""
    packages = [
        {"format": path.parts[-3], "arch": path.parts[-2], "bytes": f"{size(path.parent):,}"}
        for path in sorted(site.glob("mip/*/*/package.json"))
    ]
    images = [
        {"name": path.name, "bytes": f"{path.stat().st_size:,}", "sha256": manifest.sha256(path)}
        for path in sorted((site / "firmware").iterdir())
    ]
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(PAGE)
    text = page.render(version=__version__, site=address, packages=packages, images=images)
    (site / "mip" / "index.html").write_text(text)


def size(package: Path) -> int:
    """Bytes of a package's files on a board."""
    return sum(path.stat().st_size for path in package.rglob("*.mpy"))


def complete(site: Path, packages: Mapping[str, Path], images: Mapping[str, Path], address: str = SITE) -> None:
    """Adds everything, and signs it."""
    add_packages(site, packages, address)
    add_images(site, images)
    add_page(site, address)
    (site / ".nojekyll").touch()  # GitHub Pages would leave out files that begin with an underscore
    manifest.write(site, ["mip", "firmware"], manifest.signing_key())


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    made = {path.parent.name: path.parent for path in sorted(DIST.glob("*/package.json"))}
    try:
        complete(Path(sys.argv[1]), made, {name: PROGRAMS / "rp2" / name / "firmware.uf2" for name in sys.argv[2:]})
    except manifest.Refused as refused:
        sys.exit(f"release_site.py: {refused}")
