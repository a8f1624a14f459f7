"""Own environments whose actions are not within ±1: whatever a user touches is in their units."""

import dataclasses
import json
import runpy

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from slow_cases import slow_but
from tiny_runs import SCHEDULE, online_settings, small
from tiny_runs import made as made_settings

from xql_jax.data.arrays import from_arrays
from xql_jax.data.dataset import with_scaled_actions
from xql_jax.data.loading import load_dataset
from xql_jax.data.rows import read_rows, write_hdf5
from xql_jax.data.suspicions import suspicions
from xql_jax.envs import action_bounds
from xql_jax.errors import UserError
from xql_jax.policy import load_policy
from xql_jax.rollout.evaluation import episode_seed
from xql_jax.runs.kinds import Finetune, Offline
from xql_jax.runs.load import load_run
from xql_jax.runs.resolve import resolved
from xql_jax.runs.run_data import load_data
from xql_jax.runs.train import train_run as run_finetuning
from xql_jax.runs.train import train_run as run_offline
from xql_jax.runs.train import train_run as run_online
from xql_jax.suites.tasks import get_task
from xql_jax.types import UNKNOWN
from xql_jax.workshop.tools.choose import ChoiceSettings, choose
from xql_jax.workshop.tools.collect import CollectionSettings, collect
from xql_jax.workshop.tools.evaluate import EvaluationSettings, evaluate
from xql_jax.workshop.tools.export import export_policy, read_artifact, read_onnx

BOUNDS = {
    "Two": ((-2.0,), (2.0,)),
    "Small": ((-0.4, -0.4), (0.4, 0.4)),
    "Askew": ((-1.0, 0.0), (3.0, 0.5)),
}
EPISODES = 3


class Drift(gymnasium.Env):
    """A point that its actions move; it refuses actions beyond the bounds, and pays for staying at 0.3."""

    def __init__(self, low, high):
        self.action_space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(low) + 1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._x = self.np_random.uniform(-1.0, 1.0, len(self.action_space.low))
        return self._seen(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self._x = 0.9 * self._x + 0.1 * action
        return self._seen(), float(-np.abs(self._x - 0.3).sum()), False, False, {}

    def _seen(self):
        return np.append(self._x, 1.0).astype(np.float32)


for _name, (_low, _high) in (BOUNDS | {"Five": ((-5.0,), (5.0,))}).items():
    gymnasium.register(
        f"{_name}-v0", entry_point=Drift, max_episode_steps=12, kwargs={"low": _low, "high": _high}
    )


def env_name_of(name):
    return f"{__name__}:{name}-v0"


def collected(output, name, **settings):
    collect(CollectionSettings(env_name=env_name_of(name), output=str(output), **settings))
    return read_rows(output)


def offline_settings(folder, name, data, **changes):
    settings = {
        "config": small("xql"), **SCHEDULE, "env_name": env_name_of(name), "dataset": (str(data),),
        "save_dir": str(folder), "batch_size": 8, "eval_episodes": EPISODES, **changes,
    }  # fmt: skip
    return made_settings(Offline, **settings)


def trained(folder, name, data, **changes):
    return run_offline(offline_settings(folder, name, data, **changes)).path


def score_by_hand(name, act):
    """The mean return of the episodes of `evaluate`, by env.step alone."""
    env, returns = gymnasium.make(f"{name}-v0"), []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=episode_seed(0, episode))
        returns.append(0.0)
        if hasattr(act, "begin"):
            act.begin()
        over = False
        while not over:
            observation, reward, _, over, _ = env.step(act(observation))
            returns[-1] += reward
            if hasattr(act, "remember"):
                act.remember(reward)
    return np.mean(returns)


def same(score):
    return pytest.approx(score, rel=1e-5)


def evaluated(path, **settings):
    settings = EvaluationSettings(checkpoint=str(path), episodes=EPISODES, seed=0, **settings)
    return evaluate(settings)["members"][0]["return_mean"]


@pytest.fixture(scope="module", params=slow_but(BOUNDS, "Askew"))
def made(request, tmp_path_factory):
    """The bounds' name, a folder, collected data in it, and the run that was trained on these."""
    folder = tmp_path_factory.mktemp(request.param)
    collected(folder / "set.hdf5", request.param, policy="random", transitions=240)
    return request.param, folder, trained(folder / "runs", request.param, folder / "set.hdf5")


def test_every_way_of_acting_has_the_same_score(made):
    name, folder, path = made
    low, high = (np.array(bound, np.float32) for bound in BOUNDS[name])
    policy, expected = load_policy(path), evaluated(path)
    assert score_by_hand(name, policy) == same(expected)
    export_policy(checkpoint=str(path))
    files = path / "export"
    ways = {
        "jax": read_artifact(files / "policy.jax"),
        "onnx": read_onnx(files / "policy.onnx"),
        "npz": runpy.run_path(str(files / "act.py"))["load"](files / "policy.npz")[0],
    }
    for act in ways.values():
        assert score_by_hand(name, lambda seen, act=act: act(seen[None])[0]) == same(expected)
    written = json.loads((files / "policy.json").read_text())
    np.testing.assert_array_equal(np.float32([written["low"], written["high"]]), [low, high])
    far = 100 * np.random.default_rng(0).normal(size=(50, len(low) + 1)).astype(np.float32)
    for act in (policy, *ways.values()):
        actions = act(far)
        assert ((low <= actions) & (actions <= high)).all()
        assert (np.ptp(actions, axis=0) > 0.9 * (high - low)).all()  # both bounds are reached
    drawn = policy(far[:1].repeat(300, 0), key=0)
    assert ((low <= drawn) & (drawn <= high)).all()
    rows, _ = collected(folder / "own.hdf5", name, policy=str(path), deterministic=True, episodes=2)
    np.testing.assert_allclose(rows["actions"], policy(rows["observations"]), rtol=1e-5)


@pytest.mark.slow
def test_a_policy_that_remembers_its_actions(made):
    name, folder, _ = made
    config = small("dt", embed_dim=8, num_layers=1, context_length=4)
    run = trained(folder / "dt", name, folder / "set.hdf5", config=config)
    assert score_by_hand(name, load_policy(run)) == same(evaluated(run))


@pytest.mark.slow
def test_fine_tuned_and_online_runs_act_in_the_same_units(made):
    """A replay buffer has the learners' units, and the file that it is written to the environment's."""
    name, folder, path = made
    low, high = (np.array(bound, np.float32) for bound in BOUNDS[name])
    settings = {**SCHEDULE, "env_name": env_name_of(name), "eval_episodes": EPISODES}
    settings["save_dir"] = str(folder / "acting")
    checkpoint = {"checkpoint": str(path), "exploration_noise": 0.5}
    tuned = run_finetuning(made_settings(Finetune, config=small("xql"), **settings, **checkpoint)).path
    (phases,) = load_run(tuned).summary["finetuning"]
    assert "cumulative_regret" not in phases  # the task has no returns of scores 0 and 100
    online = run_online(online_settings(folder, **settings)).path
    for run in (tuned, online):
        assert score_by_hand(name, load_policy(run)) == same(evaluated(run))
    collect(CollectionSettings(replay=str(online), output=str(folder / "replay.hdf5")))
    rows, _ = read_rows(folder / "replay.hdf5")
    assert (np.ptp(rows["actions"], axis=0) > 0.5 * (high - low)).all()  # warm-up's are over the whole range
    moved = 0.9 * rows["observations"][:, :-1] + 0.1 * rows["actions"]
    np.testing.assert_allclose(moved, rows["next_observations"][:, :-1], rtol=1e-4, atol=1e-6)


def test_a_run_on_data_alone_takes_the_bounds_of_the_task_it_acts_in(made, tmp_path, caplog):
    """Without a task its actions are within ±1, and so are those of its data when they are read again."""
    name, folder, path = made
    rows, _ = read_rows(folder / "set.hdf5")
    bounds = action_bounds(get_task(env_name_of(name)))
    within = {**rows, "actions": bounds.to_learner(rows["actions"])}
    write_hdf5(tmp_path / "within.hdf5", within, {})
    alone = trained(tmp_path, name, tmp_path / "within.hdf5", env_name=None)
    policy = load_policy(alone)
    assert score_by_hand(name, lambda seen: bounds.to_environment(policy(seen))) == same(evaluated(path))
    assert evaluated(alone, env_name=env_name_of(name)) == same(evaluated(path))
    assert caplog.text.count("trained on data alone: its actions, within ±1, are scaled") == 1
    place = {"checkpoint": str(alone), "env_name": env_name_of(name)}
    settings = {**SCHEDULE, **place, "save_dir": str(tmp_path)}
    again = load_data(resolved(made_settings(Finetune, config=small("xql"), **settings)), None).dataset
    assert again.fingerprint() == load_run(alone).record["dataset_fingerprint"]
    choose(ChoiceSettings(**place, max_steps=3, hidden_dims="4", tqdm=False))
    assert "not the data" not in caplog.text


def test_an_environment_with_other_bounds_than_the_runs_is_refused_unless_allowed(tmp_path):
    """With the flag its actions are in the run's units: those that the policy returns."""
    collected(tmp_path / "set.hdf5", "Two", policy="random", transitions=120)
    path = trained(tmp_path / "runs", "Two", tmp_path / "set.hdf5")
    five, policy, allowed = env_name_of("Five"), load_policy(path), {"allow_other_bounds": True}
    env, options = gymnasium.make("Five-v0"), {"policy": str(path), "episodes": 2}
    tuning = {**SCHEDULE, "checkpoint": str(path), "env_name": five, "config": small("xql")}

    def fine_tuned(**changes):
        return load_data(resolved(made_settings(Finetune, **tuning, save_dir=str(tmp_path), **changes)), None)

    acting = [
        lambda **allowed: evaluated(path, env_name=five, **allowed),
        lambda **allowed: policy.evaluate(five, episodes=EPISODES, seed=0, **allowed)["return_mean"],
        lambda **allowed: policy.evaluate(env, episodes=EPISODES, seed=0, **allowed)["return_mean"],
        lambda **allowed: collected(tmp_path / "five.hdf5", "Five", deterministic=True, **options, **allowed),
        fine_tuned,
        lambda **allowed: export_policy(checkpoint=str(path), env_name=five, **allowed),
    ]
    for act in acting:
        with pytest.raises(
            UserError, match=r"-2 to 2 in entry 0, and .*Five-v0.* takes -5 to 5.*allow_other"
        ):
            act()
    for act in acting[:3]:
        assert act(**allowed) == same(score_by_hand("Five", policy))
    there, _ = acting[3](**allowed)
    np.testing.assert_allclose(there["actions"], policy(there["observations"]), rtol=1e-5)
    assert fine_tuned(**allowed).preprocessing.action_bounds.high == (2.0,)


def test_a_policy_of_data_alone_stays_within_their_range(tmp_path, caplog):
    """By each entry, in Python and exported; one of a run that did not record the range acts as it did."""
    rows, _ = collected(tmp_path / "set.hdf5", "Small", policy="random", transitions=120)
    actions = rows["actions"] * np.float32([0.1, 1.0]) + np.float32([0.02, 0.5])  # ±0.04, and ±0.4 about 0.5
    write_hdf5(tmp_path / "alone.hdf5", {**rows, "actions": actions}, {})
    path = trained(tmp_path / "runs", "Small", tmp_path / "alone.hdf5", env_name=None)
    assert "actions are in small units: entries 0-1, entry 0 of -0.0195 to 0.0593" in caplog.text
    assert "small units" in load_run(path).record["warnings"][-1]
    low, high = actions.min(0), actions.max(0)
    far = 100 * np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    policy = load_policy(path)
    drawn = policy(far[:1].repeat(300, 0), key=0)
    assert ((low <= drawn) & (drawn <= high)).all()
    export_policy(checkpoint=str(path))
    files = path / "export"
    within = policy(far)
    for act in (
        read_artifact(files / "policy.jax"),
        read_onnx(files / "policy.onnx"),
        runpy.run_path(str(files / "act.py"))["load"](files / "policy.npz")[0],
    ):
        np.testing.assert_allclose(act(far), within, atol=1e-5)
    written = json.loads((files / "policy.json").read_text())
    np.testing.assert_array_equal(np.float32([written["low"], written["high"]]), [low, high])
    with pytest.raises(UserError, match=r"-0.019\d* to 0.059\d* in entry 0; .*Small-v0 takes -0.4 to 0.4"):
        evaluated(path, env_name=env_name_of("Small"))
    run = load_run(path)
    dataclasses.replace(run.fitted, action_range=UNKNOWN).save(run.files.preprocessing, run.run_id)
    before = load_policy(path)(far)
    assert (before > high).any()
    np.testing.assert_array_equal(within, before.clip(low, high))


def test_data_that_cannot_be_of_the_environment_are_warned_of(tmp_path, caplog):
    """Normalised observations; in fine-tuning also rewards of another unit."""
    rows, _ = collected(tmp_path / "set.hdf5", "Small", policy="random", transitions=240)
    seen, scaled = rows["observations"], {**rows, "rewards": rows["rewards"] / 100}
    mean, std = seen.mean(0), np.maximum(seen.std(0), 1e-3)
    both = {name: (rows[name] - mean) / std for name in ("observations", "next_observations")}
    write_hdf5(tmp_path / "normalised.hdf5", {**rows, **both}, {})
    write_hdf5(tmp_path / "scaled.hdf5", scaled, {})
    settings = {**SCHEDULE, "env_name": env_name_of("Small"), "eval_episodes": EPISODES, "batch_size": 8}
    settings |= {"save_dir": str(tmp_path), "config": small("xql"), "num_pretraining_steps": 0}
    right = run_finetuning(made_settings(Finetune, dataset=(str(tmp_path / "set.hdf5"),), **settings))
    assert not [one for one in caplog.records if one.levelname == "WARNING"]
    run_finetuning(made_settings(Finetune, dataset=(str(tmp_path / "scaled.hdf5"),), **settings))
    [line] = [one.message for one in caplog.records if one.levelname == "WARNING" and "online" in one.message]
    assert "another unit" in line
    caplog.clear()
    other = trained(tmp_path, "Small", tmp_path / "normalised.hdf5")
    assert "VecNormalize" in load_run(other).record["warnings"][-1]
    assert caplog.text.count("VecNormalize") == 1
    alone = trained(tmp_path, "Small", tmp_path / "normalised.hdf5", env_name=None)
    caplog.clear()
    evaluated(alone, env_name=env_name_of("Small"), allow_other_bounds=True)  # its own was compared before
    assert caplog.text.count("VecNormalize") == 1
    assert right.record["warnings"] == []


def arrays_of(rows, actions, **others):
    keys = ("observations", "rewards", "terminals", "next_observations")
    return {**{key: rows[key] for key in keys}, "actions": actions, **others}


def test_actions_in_other_units_are_warned_of_or_refused(tmp_path, caplog):
    rows, _ = collected(tmp_path / "own.hdf5", "Two", policy="random", episodes=4)
    bounds = action_bounds(get_task(env_name_of("Two")))

    def loaded(actions):
        dataset = load_dataset(None, [from_arrays(arrays_of(rows, actions), "arrays")])
        return with_scaled_actions(dataset, bounds)

    np.testing.assert_array_equal(loaded(rows["actions"]).batch.actions, rows["actions"] / 2)
    assert loaded(np.float16(2) * np.ones_like(rows["actions"])).batch.actions.max() == 1
    assert not [told for told in suspicions(loaded(rows["actions"])) if "environment takes" in told]
    told = suspicions(loaded(rows["actions"] / 2))[0]
    assert "all actions are within ±1, and the environment takes -2 to 2" in told
    with pytest.raises(UserError, match=r"arrays: entry 0 .* bounds -2 to 2: .* scale them to the bounds"):
        loaded(rows["actions"] * 1.1)
