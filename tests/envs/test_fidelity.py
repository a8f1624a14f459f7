"""The guide to the tasks against the tasks and environments themselves, and the report's pointer into it."""

import fnmatch
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from xql_jax.envs import SUITES, Simulation, describe_environment, make_environment
from xql_jax.envs.d4rl_backend import d4rl_suite
from xql_jax.tasks import COMPILED, ONLINE_TASKS, TASKS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tasks.md").read_text()
# The text of each section of the environments by its anchor.
SECTIONS = {
    heading.replace(" ", "-"): text
    for heading, text in re.findall(r"^### (.+)\n((?:(?!#).*\n)*)", PAGE.split("## Environments")[1], re.M)
}


def rows_of(section):
    """The rows of a section's table by the names of its columns; a number's minus is the typographic one."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


ROWS = [(section, row) for section in SECTIONS for row in rows_of(section)]
ALL_ROWS = pytest.mark.parametrize(("section", "row"), ROWS, ids=[row["tasks"] for _, row in ROWS])


def tasks_of(row):
    return [task for task in TASKS.values() if fnmatch.fnmatchcase(task.name, row["tasks"])]


def test_every_suite_has_its_section():
    of_tasks = {task.suite for task in (TASKS | ONLINE_TASKS).values()}
    assert set(SECTIONS) == of_tasks | {"backend-d4rl", "own"}
    assert set(SUITES) - {COMPILED} | {"bullet"} <= set(SECTIONS)  # which has a guide of its own


def test_every_task_has_one_row():
    assert sorted(task.name for _, row in ROWS for task in tasks_of(row)) == sorted(TASKS)


@ALL_ROWS
def test_rows_say_what_the_tasks_do(section, row):
    for task in tasks_of(row):
        assert task.suite == section
        assert int(row["steps"]) == task.episode_limit
        assert row["return at 0"] == f"{task.min_return:.2f}".replace("-", "−")
        assert row["return at 100"] == f"{task.max_return:.2f}"


@ALL_ROWS
def test_sizes_are_those_of_the_environment(section, row, monkeypatch, request):
    task = tasks_of(row)[0]
    if section == "bullet":
        request.getfixturevalue("d4rl_package")
        monkeypatch.setitem(sys.modules, "mujoco_py", None)
        env = d4rl_suite(task).make(task)
    else:
        env = make_environment(task)
    assert env.observation_space.shape == (int(row["observation"].split(":")[0]),)
    assert env.action_space.shape == (int(row["actions"]),)
    assert (env.action_space.low == -1).all()
    assert (env.action_space.high == 1).all()
    env.close()


@pytest.mark.parametrize("suite", sorted(SECTIONS.keys() - {"backend-d4rl", "own"}))
@pytest.mark.parametrize("backend", ["mujoco", "d4rl"])
def test_reports_point_to_a_section(backend, suite):
    task = next(task for task in (TASKS | ONLINE_TASKS).values() if task.suite == suite)
    described = describe_environment(task, Simulation(backend))
    assert json.loads(json.dumps(described)) == described
    page, anchor = described["described_in"].split("#")
    assert (page, described["simulator"]) == ("docs/tasks.md", next(iter(described["versions"])))
    assert anchor == (suite if backend == "mujoco" or suite == "bullet" else "backend-d4rl")


def test_a_report_worked_by_hand():
    robotics = importlib.import_module("gymnasium_robotics").__version__
    assert describe_environment(TASKS["pen-human-v1"], Simulation(legacy_inertia=True)) == {
        "backend": "mujoco",
        "simulator": "mujoco",
        "versions": {"mujoco": importlib.import_module("mujoco").__version__, "gymnasium-robotics": robotics},
        "legacy_inertia": True,
        "described_in": "docs/tasks.md#adroit",
    }
