"""The task table against the installed d4rl package, and the score."""

import dataclasses
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from xql_jax.errors import UserError
from xql_jax.suites.tasks import SUITES, TASKS, References, get_task, referenced
from xql_jax.workshop.reports.scores import PAPER_TABLES, read_paper_table

D4RL_TASKS = [task for task in TASKS.values() if task.suite.reads_as_d4rl and task.dataset_url]


@pytest.fixture(scope="session")
def registered(d4rl_package):
    """By name, (episode limit, URL) of D4RL's `register` calls, read as text: most suites need mujoco-py."""
    block = re.compile(
        r"register\(\s*id='([\w-]+)',.*?max_episode_steps=(\d+),.*?'dataset_url'\s*:\s*'([^']+)'", re.DOTALL
    )
    suites = ("locomotion", "gym_mujoco", "hand_manipulation_suite", "kitchen", "pointmaze")
    folder = Path(d4rl_package.__file__).parent
    text = "".join((folder / suite / "__init__.py").read_text() for suite in suites)
    # Split first: a call without a dataset would else run into the next one.
    calls = [block.match("register(" + call) for call in text.split("register(")[1:]]
    return {call[1]: (int(call[2]), call[3]) for call in calls if call}


def test_every_task_of_the_paper_is_known():
    datasets = {dataset for table in PAPER_TABLES for dataset in read_paper_table(table).datasets}
    assert len(datasets) == 26
    assert datasets <= TASKS.keys()


def test_addresses_are_those_of_d4rl(d4rl_package, registered):
    for task in D4RL_TASKS:
        # antmaze-*-v1 stand only in the `register` calls.
        url = d4rl_package.infos.DATASET_URLS.get(task.name) or registered[task.name][1]
        assert task.dataset_url == url, task.name


def test_reference_returns_are_those_of_d4rl(d4rl_package):
    infos = d4rl_package.infos
    for task in D4RL_TASKS:
        name = re.sub("^(antmaze.*)-v1", r"\1-v0", task.name)
        assert (task.min_return, task.max_return) == (infos.REF_MIN_SCORE[name], infos.REF_MAX_SCORE[name]), (
            name
        )


def test_no_dataset_of_these_suites_is_left_out(d4rl_package):
    wanted = re.compile(
        "(halfcheetah|hopper|walker2d|antmaze|kitchen|pen|door|hammer|relocate)-.*"
        "|maze2d-(umaze|medium|large)(-dense)?-v1"
    )
    names = {name for name in d4rl_package.infos.DATASET_URLS if wanted.fullmatch(name)}
    assert {name for name in names - TASKS.keys() if "full-replay" not in name} == set()


def test_episode_limits_are_those_of_d4rl(registered):
    assert len(D4RL_TASKS) > 80
    for task in D4RL_TASKS:
        # Locomotion and Adroit register later versions in a loop, with the limits of v0.
        name = task.name if task.name in registered else re.sub(r"-v\d$", "-v0", task.name)
        assert task.episode_limit == registered[name][0], task.name


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
def test_pointmaze_has_the_rules_of_maze2d(maze):
    ours, theirs = get_task(f"pointmaze-{maze}-v0"), get_task(f"maze2d-{maze}-v1")
    same = {"name": theirs.name, "suite": theirs.suite, "dataset_url": theirs.dataset_url}
    assert dataclasses.replace(ours, **same) == theirs
    assert ours.dataset_url is None


def test_score_is_0_at_random_and_100_at_expert():
    # kitchen: 0 and 4 tasks; 3 of 4 tasks are 75.
    scores = get_task("kitchen-mixed-v0").normalized_score(np.array([0.0, 3.0, 4.0]))
    np.testing.assert_allclose(scores, [0.0, 75.0, 100.0])
    # hopper: (3234.3 - 20.272305) / 2 = 1607.01... is half way.
    half = (3234.3 + -20.272305) / 2
    np.testing.assert_allclose(get_task("hopper-medium-v2").normalized_score(np.array([half])), [50.0])
    assert get_task("ball_in_cup-catch").normalized_score(np.array([0.0, 650.0])).tolist() == [0.0, 65.0]
    cube, successes = get_task("cube-single-play-singletask-v0"), np.array([1, 0])
    assert cube.normalized_score(np.array([-7.0, -200.0]), successes).tolist() == [100.0, 0.0]
    assert get_task("HalfCheetah-v5").normalized_score(np.array([-3.0, 650.0])).tolist() == [-3.0, 650.0]


def test_returns_of_0_and_100_are_references_like_any_other():
    plain = get_task("HalfCheetah-v5")
    own = referenced(plain, References(0.0, 100.0))
    assert (plain.quantity, own.quantity) == ("return", "score")
    assert own != plain  # so a run with them is another one
    assert own.normalized_score(np.array([-3.0, 650.0])).tolist() == [-3.0, 650.0]


def test_a_task_of_dm_control_takes_the_references_of_its_data():
    of_data = referenced(get_task("cheetah-run"), References(0.0, 500.0))
    assert of_data.normalized_score(np.array([250.0])).tolist() == [50.0]


def test_the_suites_without_datasets_are_those_installed():
    suite = importlib.import_module("dm_control.suite")
    names = [task.name for task in SUITES["dm_control"].tasks()]
    assert names == ["-".join(pair) for pair in suite.ALL_TASKS]
    registry = importlib.import_module("gymnasium").registry
    limits = {task.name: task.episode_limit for task in SUITES["gymnasium"].tasks()}
    assert limits == {
        name: spec.max_episode_steps
        for name, spec in registry.items()
        if str(spec.entry_point).startswith("gymnasium.envs.mujoco") and spec.version == 5
    }


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("chetah-run", "cheetah-run"),
        ("HalfCheetah-v2", "HalfCheetah-v5"),
        ("D4RL/pen/human-v2", "--dataset=minari:D4RL/pen/human-v2"),
        ("Pendulm-v1", "Pendulum-v1"),
    ],
)
def test_a_misspelt_task_names_the_nearest(name, near):
    with pytest.raises(UserError, match=rf"(unknown|gone) .*'{name}'; nearest known: .*{near}\b"):
        get_task(name)
