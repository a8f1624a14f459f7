"""Own environments whose actions are not within ±1: whatever a user touches is in their units."""

import json
import runpy

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from tiny_runs import SCHEDULE, small

from xql_jax.data.rows import read_rows
from xql_jax.policy import load_policy
from xql_jax.rollout.evaluation import episode_seed
from xql_jax.runs.collection import collect
from xql_jax.runs.evaluation import evaluate
from xql_jax.runs.export import export_policy, read_artifact, read_onnx
from xql_jax.runs.offline import train_offline
from xql_jax.runs.settings import OfflineSettings
from xql_jax.runs.tool_settings import (
    CollectionSettings,
    EvaluationSettings,
    ExportSettings,
)

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


for _name, (_low, _high) in BOUNDS.items():
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
    return OfflineSettings(**settings)


def trained(folder, name, data, **changes):
    return train_offline(offline_settings(folder, name, data, **changes)).path


def score_by_hand(name, act):
    """The mean return of the episodes of `evaluate`, by env.step alone."""
    env, returns = gymnasium.make(f"{name}-v0"), []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=episode_seed(0, episode))
        returns.append(0.0)
        over = False
        while not over:
            observation, reward, _, over, _ = env.step(act(observation))
            returns[-1] += reward
    return np.mean(returns)


def evaluated(path, **settings):
    settings = EvaluationSettings(checkpoint=str(path), episodes=EPISODES, seed=0, **settings)
    return evaluate(settings)["members"][0]["return_mean"]


@pytest.fixture(scope="module", params=BOUNDS)
def made(request, tmp_path_factory):
    """The bounds' name, a folder, collected data in it, and the run that was trained on these."""
    folder = tmp_path_factory.mktemp(request.param)
    collected(folder / "set.hdf5", request.param, policy="random", transitions=240)
    return request.param, folder, trained(folder / "runs", request.param, folder / "set.hdf5")


def test_every_way_of_acting_has_the_same_score(made):
    name, folder, path = made
    low, high = (np.array(bound, np.float32) for bound in BOUNDS[name])
    policy, expected = load_policy(path), evaluated(path)
    assert score_by_hand(name, policy) == pytest.approx(expected, rel=1e-5)
    report = export_policy(ExportSettings(checkpoint=str(path), episodes=EPISODES, seed=0))
    files = path / "export"
    ways = {
        "jax": read_artifact(files / "policy.jax"),
        "onnx": read_onnx(files / "policy.onnx"),
        "npz": runpy.run_path(str(files / "act.py"))["load"](files / "policy.npz")[0],
    }
    for way, act in ways.items():
        assert score_by_hand(name, lambda seen, act=act: act(seen[None])[0]) == pytest.approx(
            expected, rel=1e-5
        )
        assert report["scores"][way] == pytest.approx(expected, rel=1e-5)
    told = json.loads((files / "policy.json").read_text())
    np.testing.assert_array_equal(np.float32([told["low"], told["high"]]), [low, high])
    far = 100 * np.random.default_rng(0).normal(size=(50, len(low) + 1)).astype(np.float32)
    for act in (policy, *ways.values()):
        actions = act(far)
        assert ((low <= actions) & (actions <= high)).all()
        assert (np.ptp(actions, axis=0) > 0.9 * (high - low)).all()  # both bounds are reached
    drawn = policy(far[:1].repeat(300, 0), key=0)
    assert ((low <= drawn) & (drawn <= high)).all()
    rows, _ = collected(folder / "own.hdf5", name, policy=str(path), deterministic=True, episodes=2)
    np.testing.assert_allclose(rows["actions"], policy(rows["observations"]), rtol=1e-5)
    again, _ = collected(folder / "npz.hdf5", name, policy=str(files / "policy.npz"), episodes=2)
    np.testing.assert_allclose(again["actions"], rows["actions"], atol=1e-5)
