"""What boards install from the site: packages that mip and ViperIDE take, images, checksums, signatures."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import fresh
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from served import Served, served

from edgelora.base.resources import ROOT
from edgelora.board import installing
from edgelora.board.build import DIST, NATIVE_ARCHES
from edgelora.board.probe import NATIVE_ARCHES as NUMBERED
from edgelora.board.probe import native_arch
from edgelora.core.formats.elu import public_bytes
from edgelora.learn.updates.keys import load_key, new_key

sys.path.insert(0, str(ROOT / "tools"))

import manifest  # noqa: E402
import release_site  # noqa: E402

FORMAT = "6.3"  # of native modules, since MicroPython 1.23
IMAGE = b"an image of a board"
MICROPYTHON = Path(sys.executable).with_name("micropython")  # stock MicroPython, which has mip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Served]]:
    """A site without its documents, and a server of it."""
    folder = tmp_path_factory.mktemp("site")
    missing = [arch for arch in NATIVE_ARCHES if not (DIST / arch / "package.json").exists()]
    assert not missing, f"no packages for {missing}: `make natmods`"
    (folder / "image.uf2").write_bytes(IMAGE)
    with served(folder) as there, pytest.MonkeyPatch.context() as environment:
        environment.delenv(manifest.KEY, raising=False)
        packages = {arch: DIST / arch for arch in NATIVE_ARCHES}
        release_site.complete(folder, packages, {"rpi_pico": folder / "image.uf2"}, there.address)
        yield folder, there


def bootstrap(folder: Path) -> ModuleType:
    """The site's bootstrap, on the host."""
    module = ModuleType("edgelora_mip")
    source = (folder / "mip" / release_site.BOOTSTRAP).read_text()
    exec(source.replace("sys.implementation._mpy", "0"), module.__dict__)
    return module


# ---- packages


def test_every_package_is_there_under_its_format(site: tuple[Path, Served]) -> None:
    folder, _ = site
    for arch in NATIVE_ARCHES:
        copied = folder / "mip" / FORMAT / arch
        assert installing.read_package(copied) == installing.read_package(DIST / arch)


def test_the_bootstrap_chooses_as_the_host_does(site: tuple[Path, Served]) -> None:
    """For each architecture of MicroPython, with any flags of newer firmware: bit 14, and from 16 on."""
    chosen = bootstrap(site[0])
    assert [None, *chosen.ARCHES] == list(NUMBERED) and tuple(chosen.THUMB) == installing.THUMB
    random = np.random.default_rng(fresh.SEED)
    drawn = [0, 1, 2, 3, *(int(flags) for flags in random.integers(0, 1 << 14, 20))]
    for number, name in enumerate(NUMBERED):
        there = name and installing.resolve(name, NATIVE_ARCHES)
        for mpy in (6 | 3 << 8 | number << 10 | bit << 14 | flags << 16 for flags in drawn for bit in (0, 1)):
            assert native_arch(mpy) == name
            if there:
                assert chosen.package(mpy) == f"{FORMAT}/{there}"
            else:
                with pytest.raises(ValueError, match=f"no package for {name}" if name else "no native modules"):
                    chosen.package(mpy)


@pytest.mark.parametrize("number", [*range(len(NUMBERED), 16), *range(32, 48)])
def test_an_architecture_of_later_firmware_is_refused(site: tuple[Path, Served], number: int) -> None:
    """Bit 15 is part of the number, so that 36 is not taken for 4, armv6m."""
    for flags in (0, 1, 1 << 13):
        mpy = 6 | 3 << 8 | number << 10 | flags << 16
        assert native_arch(mpy) is None
        with pytest.raises(ValueError, match=rf"an unknown kind \(.* {mpy}\)"):
            bootstrap(site[0]).package(mpy)


@pytest.mark.parametrize("arch", NATIVE_ARCHES)
def test_packages_need_no_extension_of_the_core(arch: str) -> None:
    """Bit 6 of a module's third byte would say that it needs some, and firmware without them would refuse it."""
    modules = sorted((DIST / arch).rglob("*.mpy"))
    native = [path for path in modules if path.read_bytes()[2] >> 2]
    assert len(native) == 3
    for path in native:
        features = path.read_bytes()[2]
        assert not features & 0x40 and NUMBERED[features >> 2] == arch and features & 3 == 3


@pytest.mark.parametrize("mpy", [5 | 3 << 8 | 4 << 10, 6 | 2 << 8 | 4 << 10, 7 | 0 << 8 | 4 << 10])
def test_the_bootstrap_refuses_another_format(site: tuple[Path, Served], mpy: int) -> None:
    with pytest.raises(ValueError, match=r"native modules of format \d.\d, there are packages for \['6.3'\]"):
        bootstrap(site[0]).package(mpy)


def test_mip_installs_on_a_board_that_chooses_its_own_package(site: tuple[Path, Served], tmp_path: Path) -> None:
    """With MicroPython's own mip, over HTTP, on stock MicroPython for this computer."""
    folder, there = site
    script = f"""
import sys
sys.path[:] = ["", ".frozen", {str(tmp_path / "lib")!r}]
import mip
mip.install({there.address + "mip/"!r})
import edgelora_mip
edgelora_mip.install()
import edgelora
print(edgelora.__file__, edgelora.__version__)
"""
    done = subprocess.run([MICROPYTHON, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    version, contents = installing.read_package(folder / "mip" / FORMAT / "x64")
    assert done.stdout.splitlines()[-1] == f"{tmp_path}/lib/edgelora/__init__.mpy {version}"
    for path, content in contents.items():
        assert (tmp_path / path.lstrip("/")).read_bytes() == content, path


@pytest.mark.parametrize("arch", [*NATIVE_ARCHES, "armv7em", "armv7emdp"])
def test_viper_ide_installs_by_a_link(site: tuple[Path, Served], arch: str) -> None:
    """As its package manager reads package.json: `native` has an entry for each architecture, after `urls`.

    It fetches from another origin. Static files that are asked for by plain GET need no more than a server that allows
    all origins, as GitHub Pages does: nothing here has a query, and nothing is redirected.
    """
    folder, there = site
    there.asked.clear()
    link = f"{there.address}mip/package.json"
    with urllib.request.urlopen(link, timeout=20) as answer:
        package = json.load(answer)
    assert FORMAT in package["mpy"] and package["deps"] == []
    got = {}
    for path, url in [*package["urls"], *package["native"][arch]["urls"]]:
        assert re.fullmatch(r"[\w.]+(/[\w.]+)*", url), url
        with urllib.request.urlopen(f"{link.rpartition('/')[0]}/{url}", timeout=20) as answer:
            got[f"/lib/{path}"] = answer.read()
    assert {status for _, status in there.asked} == {200} and len(there.asked) == 1 + len(got)
    assert got.pop("/lib/edgelora_mip.py") == (folder / "mip" / "edgelora_mip.py").read_bytes()
    own = installing.resolve(arch, NATIVE_ARCHES)
    assert own and got == installing.read_package(DIST / own)[1]


def test_the_index_names_every_package_and_image(site: tuple[Path, Served]) -> None:
    folder, there = site
    page = html.unescape((folder / "mip" / "index.html").read_text())
    for arch in NATIVE_ARCHES:
        assert f"{there.address}mip/{FORMAT}/{arch}/" in page
    for link in re.findall(r'href="(\.\./(?:firmware|manifest)[^"]*)"', page):
        assert (folder / "mip" / link).exists(), link
    [image] = (folder / "firmware").iterdir()
    assert image.read_bytes() == IMAGE and image.name in page and manifest.sha256(image) in page
    assert f"https://viper-ide.org/?install={there.address}mip/package.json" in page
    assert (folder / ".nojekyll").exists()


# ---- the manifest


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, bytes]:
    """A folder of a few files that a release key has signed, and its public key."""
    public = new_key(tmp_path / "release.pem")
    monkeypatch.setenv(manifest.KEY, (tmp_path / "release.pem").read_text())
    folder = tmp_path / "release"
    (folder / "mip").mkdir(parents=True)
    for name in ("a.whl", "mip/b.mpy"):
        (folder / name).write_bytes(name.encode())
    manifest.write(folder, ["."], manifest.signing_key())
    assert public.read_bytes() == public_bytes(load_key(tmp_path / "release.pem"))
    return folder, public.read_bytes()


def test_a_signed_folder_is_verified(signed: tuple[Path, bytes]) -> None:
    folder, public = signed
    assert manifest.verify(folder, public) == 2
    done = subprocess.run(["sha256sum", "-c", manifest.SUMS], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "a.whl: OK\nmip/b.mpy: OK\n"


def test_another_key_verifies_nothing(signed: tuple[Path, bytes]) -> None:
    with pytest.raises(manifest.Refused, match="not signed by this key"):
        manifest.verify(signed[0], public_bytes(Ed25519PrivateKey.generate()))


@pytest.mark.parametrize("name", ["a.whl", "mip/b.mpy"])
def test_a_changed_or_missing_file_is_refused(signed: tuple[Path, bytes], name: str) -> None:
    folder, public = signed
    (folder / name).write_bytes(name.encode()[:-1] + b"!")
    with pytest.raises(manifest.Refused, match=f"{name} is missing, or not what manifest.json says"):
        manifest.verify(folder, public)
    (folder / name).unlink()
    with pytest.raises(manifest.Refused, match=name):
        manifest.verify(folder, public)


def test_a_changed_manifest_is_refused(signed: tuple[Path, bytes]) -> None:
    folder, public = signed
    for name in (manifest.NAME, manifest.SIGNATURE):
        content = (folder / name).read_bytes()
        for change in (content[:-1] + bytes([content[-1] ^ 1]), content[:-1], b""):
            (folder / name).write_bytes(change)
            with pytest.raises(manifest.Refused, match="not signed by this key"):
                manifest.verify(folder, public)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("key", ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_release_key_that_is_none_signs_nothing(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A secret that isn't set is empty in a workflow."""
    monkeypatch.setenv(manifest.KEY, key)
    with pytest.raises(manifest.Refused, match=f"{manifest.KEY} is not a private key"):
        manifest.signing_key()
