"""What a run records of its beginning and of each resumption, and that other code is told of."""

import importlib

import numpy as np
import pytest
from driver import Driver
from python_cases import SMALL, bandit

import xql_jax
from xql_jax.errors import Damaged
from xql_jax.files import read_record, write_record
from xql_jax.runs.load import load_run


def recorded(path, **changes):
    """Replaces entries of config.json."""
    content = read_record(path / "config.json")
    write_record(path / "config.json", content | changes)
    return content


def test_a_resumed_run_keeps_what_began_it_and_says_what_is_another(tmp_path, monkeypatch, caplog):
    """And an edited record is refused."""
    monkeypatch.setenv("NPROC", "7")
    run = Driver(
        xql_jax.train, tmp_path, {"dataset": bandit(60), "max_steps": 20, "log_interval": 5, **SMALL}
    )
    run.step(1, of=("row",), log_interval=5)
    began = recorded(run.path)
    recorded(run.path, versions={**began["versions"], "jax": "0.0"}, code="edited")
    monkeypatch.setenv("NPROC", "1")
    caplog.clear()
    run.resume(log_interval=5)
    content = read_record(run.path / "config.json")
    assert (content["versions"]["jax"], content["code"]) == ("0.0", "edited")
    [resumed] = content["resumed"]
    assert (resumed["after_step"], resumed["code"]) == (10, began["code"])
    [line] = [line for line in caplog.messages if "another setup" in line]
    for part in ("step 10", f"edited, here {began['code']}", "jax 0.0, here", "NPROC=7"):
        assert part in line
    text = (run.path / "config.json").read_text()
    (run.path / "config.json").write_text(text.replace('"max_steps": 20', '"max_steps": 21'))
    with pytest.raises(Damaged, match=r"config\.json: damaged"):
        load_run(run.path)


def test_other_code_of_an_own_environment_is_told_when_a_finished_run_is_loaded(
    tmp_path, monkeypatch, caplog
):
    """Its module's, or that of the package of its class."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "world").mkdir()
    for name, text in {
        "world/__init__.py": "",
        "world/make.py": "from driver import Drift as World\n",
        "world/rewards.py": "SCALE = 1\n",
        "own_world.py": "import gymnasium as g\ng.register('W-v0', 'world.make:World', max_episode_steps=3)",
    }.items():
        (tmp_path / name).write_text(text)
    importlib.import_module("world")
    seen = {name: np.zeros((400, 3)) for name in ("observations", "next_observations")}
    data = {**bandit(), **seen, "actions": np.zeros((400, 2))}
    settings = {"env_name": "own_world:W-v0", "dataset": data, "max_steps": 2, "eval_episodes": 1, **SMALL}
    run = Driver(xql_jax.train, tmp_path / "runs", settings)
    run.resume()
    for name, text in (("world/rewards.py", "SCALE = 2\n"), ("own_world.py", "")):
        (tmp_path / name).write_text(text)
        caplog.clear()
        run.resume()
        assert [line for line in caplog.messages if "trained by other code" in line and "world" in line]
