"""The one-file example is the library's XQL, bit for bit."""

import re
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from driver import ROOT

import xql_jax
from xql_jax.data.loading import load_dataset
from xql_jax.data.preprocessing import fit_preprocessing

ONE_FILE = ROOT / "examples" / "xql_one_file.py"
STEPS, SEED = 100, 7


def test_it_has_data_and_environments_from_the_library_and_no_more():
    rooms = re.findall(r"^ *(?:from|import) xql_jax\.?(\w*)", ONE_FILE.read_text("utf-8"), re.MULTILINE)
    assert {*rooms} <= {"data", "envs", "errors", "rollout", "suites", "tasks", "types"}


def test_what_it_cannot_load_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["xql_one_file.py", "--dataset=gone.npz"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ONE_FILE), run_name="__main__")
    assert ended.value.code == 2
    place = Path.cwd() / "gone.npz"
    assert capsys.readouterr().err.splitlines()[-1] == f"xql_one_file.py: error: {place}: no such file"


def test_its_parameters_are_those_of_the_library(tmp_path, compiled_fully):
    generator = np.random.default_rng(0)
    rows = 1_000
    np.savez(
        tmp_path / "data.npz",
        observations=generator.normal(size=(rows, 4)),
        actions=generator.uniform(-1, 1, (rows, 2)),
        rewards=generator.random(rows),
        next_observations=generator.normal(size=(rows, 4)),
        terminals=np.arange(rows) % 10 == 9,
    )
    file = str(tmp_path / "data.npz")
    policy = xql_jax.train(
        dataset=file, method="xql", config="pointmaze", max_steps=STEPS, seed=SEED, progress=False
    )
    expected = policy.run.states[policy.member.name]

    one_file = runpy.run_path(str(ONE_FILE))
    dataset = load_dataset(None, [file])
    data = fit_preprocessing(dataset, None).dataset(dataset).batch
    key_init, key_updates, _, _ = jax.random.split(jax.random.key(SEED), 4)
    agent = one_file["initial_agent"](key_init, data.observations, data.actions)
    for start, stop in ((0, 30), (30, STEPS)):
        agent = one_file["train"](agent, data, key_updates, start, stop, STEPS, one_file["Settings"]())

    [critic], [target] = expected.critic.params, expected.critic.target
    learnt = agent.policy.params, agent.value.params, agent.critic.params, agent.target
    jax.tree.map(
        np.testing.assert_array_equal, learnt, (expected.policy.params, expected.value.params, critic, target)
    )
