"""Paths mean what they meant when they were typed, though an environment changes the current folder."""

import os
import textwrap
from pathlib import Path

import numpy as np
import pytest
from python_cases import SMALL, bandit

import xql_jax
from xql_jax.errors import UserError
from xql_jax.files.paths import located, paths_from_here
from xql_jax.workshop.reports.scores import read_runs

MOVING = """
    import os, tempfile
    import gymnasium, numpy as np
    from gymnasium import spaces

    class Moving(gymnasium.Env):
        observation_space = action_space = spaces.Box(-1, 1, (1,), np.float32)

        def __init__(self):
            os.chdir(tempfile.mkdtemp())

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.uniform(-1, 1, 1).astype(np.float32), {}

        def step(self, action):
            os.chdir(tempfile.mkdtemp())
            return np.zeros(1, np.float32), float(-action[0] ** 2), False, False, {}

    gymnasium.register("Moving-v0", Moving, max_episode_steps=3)
    os.chdir(tempfile.mkdtemp())
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with data and an environment that changes it, also when its module is imported."""
    (tmp_path / "moving_env.py").write_text(textwrap.dedent(MOVING))
    np.savez(tmp_path / "mine.npz", **bandit())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_relative_path_begins_where_the_outermost_call_began(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with paths_from_here():
        os.chdir("deep")
        with paths_from_here():
            assert located("runs/a") == tmp_path / "runs" / "a"
        assert located("./runs/../b") == tmp_path / "runs" / ".." / "b"
        assert located("~/c") == tmp_path / "home" / "c"
        assert located(tmp_path / "d") == tmp_path / "d"
    assert Path.cwd() == tmp_path
    os.chdir("deep")
    assert located("a") == tmp_path / "deep" / "a"
    with pytest.raises(UserError, match=r"^~nobody-here/a: there is no home folder ~nobody-here$"):
        located("~nobody-here/a")


def test_a_training_in_python_keeps_its_paths_and_the_current_folder(place, capsys):
    settings = {"max_steps": 50, "eval_interval": 50, "eval_episodes": 1, **SMALL, "progress": True}
    policy = xql_jax.train("moving_env:Moving-v0", dataset="mine.npz", save_dir="runs", **settings)
    assert Path.cwd() == place
    assert policy.path.is_relative_to(place / "runs")
    assert policy.summary["status"] == "finished"
    assert f"files in {policy.path.relative_to(place)}" in capsys.readouterr().out
    policy.evaluate(episodes=1)
    assert Path.cwd() == place
    os.chdir("/")
    assert policy.evaluate(episodes=1)["episodes"] == 1  # the run is where it was


def test_a_run_is_not_looked_for_in_itself(place):
    """Whoever resumes with the run's folder as --save_dir would begin anew, where no command looks."""
    settings = {"dataset": "mine.npz", "max_steps": 50, **SMALL}
    run = xql_jax.train(**settings, save_dir="runs").path
    for inside in (run, run / "checkpoints"):
        with pytest.raises(UserError, match=f"whose own is {place / 'runs'}$"):
            xql_jax.train(**settings, save_dir=inside, resume=True)
    assert not list(run.glob("*/*/*/config.json"))
    os.chdir(run)
    settings["dataset"] = place / "mine.npz"
    assert xql_jax.train(**settings, seed=43, save_dir="../../..").path.parent.samefile(run.parent)


def test_data_are_the_same_by_whatever_name_for_resuming_and_in_reports(place):
    settings = {"save_dir": "runs", "max_steps": 20, **SMALL}
    policy = xql_jax.train(dataset="mine.npz", **settings)
    (place / "link.npz").symlink_to("mine.npz")
    (place / "copy.npz").write_bytes((place / "mine.npz").read_bytes())
    for data in ("./mine.npz", "deep/../mine.npz", place / "mine.npz", "link.npz", "copy.npz", bandit()):
        (place / "deep").mkdir(exist_ok=True)
        assert xql_jax.train(dataset=data, **settings).path == policy.path
    assert xql_jax.train(dataset="copy.npz", seed=7, **settings).path != policy.path
    named = {run.settings_text["dataset"] for run in read_runs(["runs/mine", "runs/copy"]).runs}
    assert named == {'["copy.npz"]'}
