"""load_run gives what was trained: policies, rows, and memories of rewards; and says what it cannot read."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import SCHEDULE, evaluations_of, made, of_data, offline_settings, small

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.files import read_record, write_record
from xql_jax.policy import load_policy
from xql_jax.runs.kinds import EVALUATION_SEED, Finetune, Offline
from xql_jax.runs.load import load_run
from xql_jax.runs.train import train_run as run_finetuning
from xql_jax.runs.train import train_run as run_offline
from xql_jax.workshop.tools.choose import ChoiceSettings, choose
from xql_jax.workshop.tools.evaluate import EvaluationSettings, evaluate
from xql_jax.workshop.tools.export import export_policy

O = 4


def with_preprocessing(path, preprocessing):
    run = load_run(path)
    vars(run)["preprocessing"] = preprocessing  # instead of reading it
    return run


def test_policies_come_to_what_they_came_to_in_training(unbroken):
    """Put through the starts of training's own evaluation."""
    checkpoint = str(unbroken.path / "checkpoints" / "6")
    settings = EvaluationSettings(checkpoint=checkpoint, episodes=2, seed=EVALUATION_SEED)
    report = evaluate(settings)
    rows = [row for row in evaluations_of(unbroken) if row.step == 6]
    found = [(entry["member"], entry["return_mean"]) for entry in report["members"]]
    assert found == [(f"seed {row.seed}", row.results["return"]) for row in rows]
    assert any(row.results["return"] > 0 for row in rows)  # else any policy would do
    run = load_run(unbroken.path)
    episodes = [row.results["score"] for row in run.rows(run.files.episodes) if row.step == 6]
    scores = np.concatenate([entry["scores"] for entry in report["members"]])
    np.testing.assert_allclose(scores, episodes, rtol=1e-8)


def act_through(policy, observations, rewards):
    """The actions of an episode whose steps show and give these [T, 2, 1, ...]."""
    policy.begin()
    acted = []
    for seen, reward in zip(observations, rewards, strict=True):
        acted.append(policy(seen))
        told = reward.astype(np.float32)
        policy.remember(told)
        told[:] = np.nan  # the caller may overwrite them
    return np.stack(acted)


@pytest.mark.slow
def test_policies_remember_rewards_as_they_were_learned_from(data, tmp_path):
    """Two episodes of a saved run's policies: rewards halved and lowered, here and by hand."""
    config = small("dt", embed_dim=4, num_layers=1, context_length=3)
    path = run_offline(offline_settings(data, config=config, save_dir=str(tmp_path), num_seeds=2)).path
    fitted = Preprocessing(reward_scale=0.5, reward_shift=-1.0, observation_mean=(1.0,) * O,
                           observation_std=(2.0,) * O)  # fmt: skip
    policy, plain = (with_preprocessing(path, each).policy() for each in (fitted, Preprocessing()))
    observations = np.random.default_rng(0).normal(size=(4, 2, 1, O)).astype(np.float32)
    rewards = np.random.default_rng(1).integers(0, 90, (4, 2, 1)).astype(np.float64)
    actions = act_through(policy, observations, rewards)
    normalised = (observations - np.float32(1)) / np.float32(2)
    np.testing.assert_array_equal(actions, act_through(plain, normalised, 0.5 * rewards - 1))
    unlike = (actions != act_through(plain, normalised, rewards)).any(axis=(-1, -2))
    assert unlike[1:].all()
    assert not unlike[0].any()  # before any reward
    np.testing.assert_array_equal(actions, act_through(policy, observations, rewards))  # begun anew


def test_a_strangers_run_acts_and_is_exported_without_running_the_code_that_it_names(tmp_path, monkeypatch):
    """Only who names the environment, or has imported its module, runs that code."""
    monkeypatch.chdir(tmp_path)
    code = Path(__file__).parents[1] / "envs" / "own_maze.py"
    own = Path("strangers.py")
    own.write_text(code.read_text().replace("Line-v0", "Strange-v0"))
    ends = {"terminals": np.zeros(20), "timeouts": np.arange(20) % 5 == 4}
    np.savez("data.npz", observations=np.ones((20, 2)), actions=np.ones((20, 1)), rewards=np.ones(20), **ends)
    settings = {**of_data(tmp_path), "env_name": "strangers:Strange-v0", "config": small("bc")}
    path = str(run_offline(made(Offline, **settings)).path)
    del sys.modules["strangers"]
    own.write_text(code.read_text().replace("Line-v0", "Other-v0") + "open('was_run', 'w')")
    load_policy(path)([0.0, 1.0])
    export_policy(checkpoint=path, formats=("npz",))
    assert len(choose(ChoiceSettings(checkpoint=path, max_steps=3))["members"]) == 1
    finetune = made(Finetune, config=small("bc"), checkpoint=path, **SCHEDULE)
    for act in (
        lambda: evaluate(EvaluationSettings(checkpoint=path)),
        lambda: load_policy(path).evaluate(),
        lambda: run_finetuning(finetune),
    ):
        with pytest.raises(UserError, match=r"strangers\.py .* give --env_name=strangers:Strange-v0"):
            act()
    files = load_run(path).files
    transforms = read_record(files.preprocessing)
    write_record(files.preprocessing, {**transforms, "action_bounds": [[], []]})  # as of environments in JAX
    load_policy(path)([0.0, 1.0])
    assert not Path("was_run").exists()
    load_policy(path).evaluate("strangers:Other-v0", episodes=1, allow_other_bounds=True)
    assert Path("was_run").exists()


def test_policies_normalise_observations(data, unbroken):
    """As by hand from the file: its last rows of trajectories are no transitions."""
    with np.load(data / "data.npz") as arrays:
        kept = ~arrays["timeouts"]
        returns = np.where(kept, arrays["rewards"], 0).reshape(3, 40).sum(1)
        kept &= np.repeat(returns >= np.sort(returns)[1], 40)  # two trajectories of three are learned from
        transitions = arrays["observations"][kept].astype(np.float64)
    observations = np.random.default_rng(0).uniform(0.5, 3.5, (6, 5, O)).astype(np.float32)
    normalised = ((observations - transitions.mean(0)) / transitions.std(0)).astype(np.float32)
    plain = with_preprocessing(unbroken.path, Preprocessing()).policy()
    actions = load_run(unbroken.path).policy()(observations)
    np.testing.assert_allclose(actions, plain(normalised), rtol=1e-4, atol=1e-6)
    assert np.abs(actions - plain(observations)).max() > 0.01
