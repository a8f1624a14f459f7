"""Runs of Decision Transformer: resumed, streamed and evaluated as those of any other method."""

import logging

import numpy as np
import pytest
from tiny_runs import assert_same_bits, offline_settings, stopped_at, untimed

from xql_jax.configuration import suite_config
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.runs.load import load_run
from xql_jax.runs.offline import OfflineRun

O, A = 4, 2
TINY = {"embed_dim": 8, "num_layers": 1, "num_heads": 2, "context_length": 3, "max_timesteps": 30}


def settings_of(data, folder, **changes):
    """Two returns to ask for, one of them the highest of the data."""
    config = suite_config("dt", suites=("pointmaze",), differences={"dt": TINY})
    changes = {"top_returns": 1.0, "sweep": "target_return=3,inf"} | changes
    return offline_settings(data, config=config, save_dir=str(folder), **changes)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    with OfflineRun(settings_of(data, tmp_path_factory.mktemp("whole"))) as run:
        run.run()
    return run


def states_of(run):
    return load_run(run.folder.path, 12).states


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_nothing_had_been(data, whole, tmp_path):
    with OfflineRun(settings_of(data, tmp_path)) as run, stopped_at(run, "update 6: score"):
        assert run.run()["step"] == 6
    with OfflineRun(settings_of(data, tmp_path, resume=True)) as run:
        run.run()
    assert_same_bits(states_of(run), states_of(whole))
    for name in ("metrics.csv", "evaluations.csv"):
        assert untimed(run.folder.path / name) == untimed(whole.folder.path / name)


@pytest.mark.slow
def test_streamed_from_the_host_it_learns_the_same(data, whole, tmp_path, caplog):
    with (
        caplog.at_level(logging.INFO, "xql_jax"),
        OfflineRun(settings_of(data, tmp_path, data_on="host")) as run,
    ):
        run.run()
    assert "in the host's memory" in caplog.text
    assert_same_bits(states_of(run), states_of(whole))


@pytest.mark.slow
def test_its_state_knows_the_highest_return_of_the_data(data, whole):
    with np.load(data / "data.npz") as arrays:
        returns = (
            np.where(arrays["timeouts"], 0, arrays["rewards"]).reshape(3, 40).sum(1)
        )  # the last is dropped
    for state in states_of(whole).values():
        assert state.highest_return == returns.max()


def with_preprocessing(run, preprocessing):
    saved = load_run(run.folder.path)
    vars(saved)["preprocessing"] = preprocessing  # instead of reading it
    return saved


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
def test_saved_policies_remember_rewards_as_they_were_learned_from(whole):
    """Two episodes of a saved run's policies: rewards halved and lowered, here and by hand."""
    fitted = Preprocessing(reward_scale=0.5, reward_shift=-1.0, observation_mean=(1.0,) * O,
                           observation_std=(2.0,) * O)  # fmt: skip
    policy, plain = (with_preprocessing(whole, each).policy() for each in (fitted, Preprocessing()))
    observations = np.random.default_rng(0).normal(size=(4, 2, 1, O)).astype(np.float32)
    rewards = np.random.default_rng(1).integers(0, 90, (4, 2, 1)).astype(np.float64)
    actions = act_through(policy, observations, rewards)
    normalised = (observations - np.float32(1)) / np.float32(2)
    np.testing.assert_array_equal(actions, act_through(plain, normalised, 0.5 * rewards - 1))
    unlike = (actions != act_through(plain, normalised, rewards)).any(axis=(-1, -2))
    assert unlike[1:].all()
    assert not unlike[0].any()  # before any reward
    np.testing.assert_array_equal(actions, act_through(policy, observations, rewards))  # begun anew


@pytest.mark.slow
def test_a_memory_that_is_told_nothing_is_an_error(whole):
    policy = load_run(whole.folder.path).policy()
    seen = np.zeros((2, 1, O), np.float32)
    with pytest.raises(RuntimeError, match="needs a call of begin or remember"):
        policy(seen)
    policy.begin()
    policy(seen)
    with pytest.raises(RuntimeError, match="needs a call of begin or remember"):
        policy(seen)


def test_hidden_layers_that_it_does_not_have_are_refused(data, tmp_path):
    settings = settings_of(data, tmp_path / "runs")
    settings.config.hidden_dims = (8,)
    with pytest.raises(UserError, match=r"^config\.hidden_dims: dt has no network of hidden layers$"):
        OfflineRun(settings).__enter__()
