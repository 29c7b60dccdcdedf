"""What others see of the project: its addresses, citation, templates of issues, long description, and tags."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgelora.base.resources import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
URLS: dict[str, str] = PROJECT["urls"]
SITE, REPOSITORY = URLS["Homepage"], URLS["Repository"]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.split()
PAGES = ("README", "DESIGN", "SPEC", "CHANGELOG", "LEDGER", "CONTRIBUTING")  # of the top folder, also in the site


def page_of(address: str) -> Path:
    """The file that an address of the site comes from."""
    path = address.removeprefix(SITE).partition("#")[0] or "index.html"
    name = path.removesuffix(".html")
    if name == path or (ROOT / "docs" / path).exists():
        return ROOT / "docs" / path
    return (
        ROOT / f"{name}.md"
        if name in PAGES
        else ROOT / "README.md"
        if name == "index"
        else ROOT / "docs" / f"{name}.md"
    )


# ---- addresses


def test_addresses_are_those_of_pyproject() -> None:
    """Every mention of the project's site or repository, in any file, begins with the one in [project.urls]."""
    mention = re.compile(
        r"https?://(?:github\.com/edgelora|edgelora\.github\.io|[\w.]*githubusercontent\.com/edgelora)[^\s)\"'`<>]*"
    )
    found = [
        (name, address)
        for name in LISTED
        if (ROOT / name).is_file()
        for address in mention.findall((ROOT / name).read_text(errors="ignore"))
    ]
    assert len({name for name, _ in found}) >= 5
    known = re.compile(rf"{re.escape(SITE)}|{re.escape(REPOSITORY)}(?![\w.-])")
    assert not [(name, address) for name, address in found if not known.match(address)]
    assert SITE.endswith("/") and all(url.startswith((SITE, REPOSITORY)) for url in URLS.values())


def test_pages_that_addresses_name_exist() -> None:
    named = [url for url in URLS.values() if url.startswith(SITE)]
    named += re.findall(rf"{re.escape(SITE)}[\w./-]*\.html", "".join(path.read_text() for path in TEMPLATES))
    assert len(named) > 3 and not [address for address in named if not page_of(address).exists()]


def test_the_site_knows_its_address() -> None:
    assert re.search(r"^site_url: (\S+)$", (ROOT / "mkdocs.yml").read_text(), re.M)[1] == SITE  # type: ignore[index]


def test_the_citation_is_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert str(citation["version"]) == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert (citation["repository-code"], citation["url"]) == (REPOSITORY, SITE)
    assert citation["authors"] == PROJECT["authors"]


# ---- templates


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_issue_template(path: Path) -> None:
    """Forms have what GitHub requires: a name, a description, and fields with unique ids and labels."""
    form: dict[str, Any] = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert form["blank_issues_enabled"] is False
        assert all(set(link) == {"name", "url", "about"} for link in form["contact_links"])
        return
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields and {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields) and all(f["attributes"]["label"] for f in fields)


def test_a_vulnerability_is_reported_in_private() -> None:
    address = f"{REPOSITORY}/security/advisories/new"
    for path in (
        ROOT / "SECURITY.md",
        ROOT / "docs" / "security.md",
        ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml",
    ):
        assert address in path.read_text(), path.name


# ---- the long description


@pytest.fixture
def description(monkeypatch: pytest.MonkeyPatch) -> str:
    """The text that a package index shows, as scikit-build-core makes it."""
    monkeypatch.chdir(ROOT)
    provider = importlib.import_module(PYPROJECT["tool"]["scikit-build"]["metadata"]["readme"]["provider"])
    return str(provider.dynamic_metadata("readme", {}, PROJECT)["text"])


def test_its_links_and_pictures_are_absolute_and_lead_somewhere(description: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", description)
    assert len(links) > 30 and not [link for link in links if not link.startswith("https://")]
    pages = [link for link in links if link.startswith(SITE)]
    assert len(pages) > 30 and not [link for link in pages if not page_of(link).exists()]


def test_it_renders_without_what_indexes_remove(description: str) -> None:
    markdown = importlib.import_module("readme_renderer.markdown")
    page = markdown.render(description)
    assert page and page.count("<img") == description.count("![") and page.count("<table") == 2


# ---- tags


def release(folder: Path, tag: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, folder / "tools" / "release.py", "notes", tag]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "release.py", tmp_path / "tools")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- New.\n\n## 1.2.30\n\n- Other.\n")
    return tmp_path


def test_a_tag_of_another_version_is_refused(tree: Path) -> None:
    for tag in ("v1.2.4", "1.2.3", "v1.2.3rc1", "v1.2.30"):
        refused = release(tree, tag)
        assert refused.returncode and f"the tag is {tag}, and pyproject.toml has version 1.2.3" in refused.stderr


def test_a_version_without_a_section_is_refused(tree: Path) -> None:
    refused = release(tree, "v1.2.3")
    assert refused.returncode and "CHANGELOG.md says nothing about 1.2.3" in refused.stderr
    (tree / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3\n\n## 1.2.2\n\n- Old.\n")
    assert release(tree, "v1.2.3").returncode


def test_the_text_of_a_release_is_its_section(tree: Path) -> None:
    (tree / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 1.2.3 (2026-11-30)\n\n- New.\n- Newer.\n\n## 1.2.2\n\n- Old.\n"
    )
    done = release(tree, "v1.2.3")
    assert (done.returncode, done.stdout) == (0, "- New.\n- Newer.\n")


def test_this_version_has_a_section() -> None:
    assert release(ROOT, f"v{PROJECT['version']}").returncode == 0
