"""What a release is made of: the wheel away from the clone, who is cited, what the workflows call."""

import os
import re
import shutil
import subprocess

import pytest
import yaml
from guides import ROOT, blocks

import xql_jax

PYTHONS = ("python3.11", "python3.12", "python3.13")
BY_CORE = ("xql-train-offline", "xql-evaluate", "xql-runs")  # README's commands that need no extra
OURS = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MPLBACKEND", "XLA_FLAGS")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in OURS}
in_a_release = [pytest.mark.release, pytest.mark.timeout(1_800)]


def test_the_citation_and_the_changelog_name_this_version_and_its_date():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == f"{xql_jax.__version__} ({citation['date-released']})"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \((\d{4}-\d\d-\d\d|not released)\)", one) for one in headings)
    wheels = re.findall(r"xql_jax-(\S+?)-py3", (ROOT / "docs/troubleshooting.md").read_text("utf-8"))
    assert {*wheels, citation["version"]} == {xql_jax.__version__}


@pytest.mark.parametrize(
    "workflow", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name
)
def test_a_workflow_calls_targets_that_the_makefile_has(workflow):
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1].split()
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    called = set(re.findall(r"^make (\S+)", "\n".join(commands), re.MULTILINE))
    assert called
    assert called <= {*phony, ".venv/dev.stamp"}


def run(*command, folder, **environment):
    """Runs a command as a user does, in a folder without the clone; returns what it printed."""
    ended = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-3_000:]}\n{ended.stderr[-3_000:]}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel():
    run("make", "dist", folder=ROOT)
    (built,) = (ROOT / "dist").glob("*.whl")
    return built


def fresh_environment(python, folder):
    """Makes an environment in the folder; returns the folder of its commands."""
    if not shutil.which(python) or subprocess.run([python, "-c", "import venv"], check=False).returncode:
        pytest.skip(f"there is no {python} in PATH that runs")
    run(python, "-m", "venv", "environment", folder=folder)
    return folder / "environment" / "bin"


@pytest.mark.parametrize("python", [pytest.param(name, marks=in_a_release) for name in PYTHONS])
def test_the_wheel_runs_what_readme_shows(python, wheel, tmp_path):
    commands = fresh_environment(python, tmp_path)
    run(commands / "pip", "install", "--quiet", wheel, folder=tmp_path)
    run(commands / "pip", "check", folder=tmp_path)
    *_, block = blocks("README.md", "python")
    *_, action = run(commands / "python", "-c", block.code, folder=tmp_path).splitlines()
    assert float(action.strip("[]")) == pytest.approx(0.5, abs=0.05)
    shown = "\n".join(block.code for block in blocks("README.md", "sh") if not block.reason)
    lines = [line for line in shown.splitlines() if line.startswith(BY_CORE)]
    assert len(lines) == len(BY_CORE)
    path = f"{commands}:{ENVIRONMENT['PATH']}"
    printed = run("bash", "-euc", "\n".join(lines), folder=tmp_path, PATH=path)
    assert "done: pointmaze-umaze-v0, xql, 10,000 updates" in printed
    assert re.search(r"^1 runs$", printed, re.MULTILINE)
