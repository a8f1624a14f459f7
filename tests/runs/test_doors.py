"""What a run knows of itself is told wherever its policies, its numbers or its rows are handed on."""

import json
import logging

import numpy as np
import pytest

import xql_jax
from xql_jax.runs.load import load_run
from xql_jax.workshop.tools.choose import ChoiceSettings, choose
from xql_jax.workshop.tools.evaluate import EvaluationSettings, evaluate
from xql_jax.workshop.tools.export import export_policy

TASK = "pointmaze-umaze-v0"
DIVERGED, OF_DATA = "diverged: seed 1 between updates 0 and 4 (", "every reward is 1"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A run whose two seeds diverged at once, on data with a suspicion."""
    seen = np.random.default_rng(0).normal(size=(60, 4)).cumsum(axis=0)
    arrays = {"observations": seen[:-1], "next_observations": seen[1:], "rewards": np.ones(59)}
    folder = tmp_path_factory.mktemp("doors")
    np.savez(folder / "d.npz", **arrays, actions=np.sin(seen[1:, :2]), terminals=np.arange(59) % 7 == 6)
    return xql_jax.train(
        TASK, dataset=folder / "d.npz", max_steps=4, num_seeds=2, seed=1, eval_episodes=0, critic_lr=1e30,
        hidden_dims=(8,), batch_size=16, save_dir=folder / "runs", progress=False,
    ).path  # fmt: skip


def by_export(path, folder):
    export_policy(checkpoint=str(path), member=0, output=str(folder), formats=("npz",))
    return json.loads((folder / "policy.json").read_text())["warnings"]


DOORS = {
    "export": by_export,
    "load_policy": lambda path, folder: [repr(xql_jax.load_policy(path))],
    "evaluation": lambda path, folder: evaluate(
        EvaluationSettings(checkpoint=str(path), member=0, episodes=1, tqdm=False)
    )["warnings"],
    "choice": lambda path, folder: (
        choose(ChoiceSettings(checkpoint=str(path), max_steps=1, hidden_dims=(4,), batch_size=8, tqdm=False))
        and []
    ),
    "report": lambda path, folder: load_run(path).caveats(),
}


@pytest.mark.parametrize("door", DOORS)
def test_it_is_told_at_every_door(path, door, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    kept = DOORS[door](path, tmp_path)
    if kept:  # in what is handed on
        assert all(line in "; ".join(kept) for line in (DIVERGED, OF_DATA))
    if door != "report":  # and to who asks
        assert sum(DIVERGED in line for line in caplog.messages) == 1
        assert any(OF_DATA in line for line in caplog.messages)


def test_a_member_is_not_blamed_for_another_nor_before_it_diverged(path, caplog):
    run = load_run(path)
    first, second = ([*run.caveats([member])] for member in run.members)
    assert [line.split(" between ")[0] for line in first + second if "diverged" in line] == [
        "diverged: seed 1",
        "diverged: seed 2",
    ]
    assert "seed 2" not in repr(xql_jax.load_policy(path, seed=1))
