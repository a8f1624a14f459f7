"""What is said of the tasks against the environments themselves, and the page against the table."""

import dataclasses
import fnmatch
import sys
from pathlib import Path

import pytest

from xql_jax.envs import SUITES, make_environment
from xql_jax.envs.d4rl_backend import d4rl_suite
from xql_jax.envs.fidelity import FAMILIES, describe_environment, family, fidelity, markdown
from xql_jax.tasks import TASKS, get_task

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
PATTERNS = [(each, pattern) for each in FAMILIES for pattern in each.patterns]


def tasks_of(pattern):
    return [task for task in TASKS.values() if fnmatch.fnmatchcase(task.name, pattern)]


def test_every_task_has_one_pattern():
    assert sorted(task.name for _, pattern in PATTERNS for task in tasks_of(pattern)) == sorted(TASKS)
    for each, pattern in PATTERNS:
        for task in tasks_of(pattern):
            assert family(task) is each
            assert fidelity(task) is each.fidelity


@pytest.mark.parametrize("pattern", [pattern for _, pattern in PATTERNS])
def test_tasks_of_a_pattern_share_a_row(pattern):
    rows = {(task.suite, task.min_return, task.max_return, task.episode_limit) for task in tasks_of(pattern)}
    assert len(rows) == 1


@pytest.mark.parametrize(("each", "pattern"), PATTERNS, ids=[pattern for _, pattern in PATTERNS])
def test_sizes_are_those_of_the_environment(each, pattern, monkeypatch, request):
    task = tasks_of(pattern)[0]
    if task.suite == "bullet":
        request.getfixturevalue("d4rl_package")
        monkeypatch.setitem(sys.modules, "mujoco_py", None)
        env = d4rl_suite(task).make(task)
    else:
        assert task.suite in SUITES
        if task.suite in ("kitchen", "adroit"):
            pytest.importorskip("gymnasium_robotics")
        env = make_environment(task)
    assert env.observation_space.shape == (int(each.observation.split(":")[0]),)
    assert env.action_space.shape == (each.action_dim,)
    assert (env.action_space.low == -1).all()
    assert (env.action_space.high == 1).all()
    env.close()


def test_only_what_can_end_is_said_to_terminate():
    never = {each.title for each in FAMILIES if each.termination == "never"}
    mazes = {"maze2d", "maze2d-dense", "pointmaze", "bullet-maze2d"}
    assert never == {"halfcheetah", "door", "hammer", "relocate", "bullet-halfcheetah"} | mazes


def test_the_page_says_what_the_table_says():
    # Where it does not: its end has to be what `python -m xql_jax.envs.fidelity` prints.
    assert PAGE.read_text().endswith(markdown())


def test_a_row_worked_by_hand():
    row = (
        "| `walker2d-*` | 17: positions but x, velocities within ±10 | 6 | 1000 | height outside 0.8 to 2, "
        "or lean ≥ 1 rad | speed + 1 − 0.001 · Σ action² | 1.63 | 4592.30 |"
    )
    assert row in markdown().splitlines()
    assert "−274.9 ± 0.2" in fidelity(get_task("hammer-cloned-v0")).unknown


def test_of_d4rls_own_environments_nothing_is_said_that_holds_for_ours():
    task = TASKS["hopper-medium-v2"]
    assert describe_environment(task, "d4rl", False) == {"backend": "d4rl", "legacy_inertia": False}
    ours = describe_environment(task, "mujoco", True)
    assert ours == {"backend": "mujoco", "legacy_inertia": True, **dataclasses.asdict(fidelity(task))}
