"""The choice among a run's members: FQE's values against a linear solve on the raw file, and scores."""

import logging
import math
import re

import numpy as np
import pytest
from tiny_runs import contents, offline_settings, online_settings, small

import xql_jax
from xql_jax.errors import UserError
from xql_jax.runs.load import load_run
from xql_jax.runs.train import train_run
from xql_jax.workshop.tools import choose as tool
from xql_jax.workshop.tools.choose import STATISTICS, ChoiceSettings, best_first, by_setting

pytestmark = pytest.mark.slow

DISCOUNT = 0.9
LINEAR = {  # in observations and actions
    "hidden_dims": "()", "critic_layer_norm": False, "discount": DISCOUNT, "tau": 0.05, "critic_lr": 3e-3,
    "batch_size": 256, "max_steps": 5_000,
}  # fmt: skip


def choose(checkpoint, **changes):
    return tool.choose(ChoiceSettings(checkpoint=str(checkpoint), **changes))


def in_order(report):
    """The entries in the members' own order."""
    return sorted(report["members"], key=lambda entry: entry["index"])


def judged_by(caplog):
    """The transitions, initial states and discount that the log names."""
    found = re.search(r"(\S+) transitions and (\S+) initial states .* discount (\S+)", caplog.text)
    return tuple(map(float, found.groups()))


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


def exact_values(path, policy, mask):
    """By the raw file what FQE's fixed point gives the initial states, linear in s and a: least squares.

    Rows 39, 79 and 119 end a trajectory by a time-out and bring no transition. All three trajectories count,
    normalised by those two of the highest returns that the run learned from.
    """
    file = np.load(path)
    observations = file["observations"].astype(float)
    rows = np.arange(120).reshape(3, 40)[:, :-1]
    best = rows[np.argsort(-file["rewards"][rows].sum(1))[:2]]
    used = observations[best.ravel()]
    observations = (observations - used.mean(0)) / used.std(0)

    def features(at, actions):
        return np.hstack([observations[at], actions, np.ones((len(at), 1))])

    now, first = rows.ravel(), rows[:, 0]
    taken = features(now, file["actions"][now])
    following = features(now + 1, policy(file["observations"][now + 1]))
    weights = np.linalg.solve(taken.T @ (taken - mask * DISCOUNT * following), taken.T @ file["rewards"][now])
    return (features(first, policy(file["observations"][first])) @ weights).mean()


def test_values_are_those_of_a_linear_solve_and_scores_those_of_the_last_evaluation(data, unbroken, caplog):
    chosen, saved = choose(unbroken.path, **LINEAR), load_run(unbroken.path)

    def exact(member, mask=1.0):
        act = saved.policy([member])
        return exact_values(data / "data.npz", lambda seen: act(seen[None])[0], mask)

    values = [exact(member) for member in saved.members]
    found = [entry["fqe_value"] for entry in in_order(chosen)]
    assert [entry["fqe_value"] for entry in chosen["members"]] == sorted(found, reverse=True)
    np.testing.assert_allclose(found, values, rtol=0.01)
    # What it would be were time-outs terminal: far away.
    ended = [exact(member, mask=0.0) for member in saved.members]
    assert np.abs(np.subtract(ended, values)).min() > 0.3 * np.mean(values)
    assert judged_by(caplog) == (117, 3, DISCOUNT)
    scores = unbroken.summary["results"][0]["last_score_by_seed"]
    assert [entry["score"] for entry in in_order(chosen)] == pytest.approx(scores)
    known = {name for name in STATISTICS if chosen["members"][0][name] is not None}
    assert known == {"fqe_value", "fqe_uncertainty", "fqe_error"}  # cloning has neither V nor Q


@pytest.mark.parametrize("method", ["iql+flow", "iql+weighted_flow", "fql"])
def test_a_flow_s_value_is_the_reward_of_its_actions_where_each_step_ends(tmp_path, method):
    states, actions = np.random.default_rng(0).uniform(-1, 1, (2, 2_000, 1))
    rewards = -((actions - states)[:, 0] ** 2)
    arrays = {"observations": states, "actions": actions, "rewards": rewards, "next_observations": states}
    np.savez(tmp_path / "own.npz", **arrays, terminals=np.ones(2_000))
    policy = xql_jax.train(
        dataset=str(tmp_path / "own.npz"),
        method=method,
        max_steps=50,
        save_dir=tmp_path,
        hidden_dims=(16, 16),
        progress=False,
    )
    options = {"max_steps": 1_000, "hidden_dims": "32", "critic_lr": 1e-2, "tau": 0.1}
    (entry,) = choose(policy.path, **options)["members"]
    assert entry["fqe_value"] == pytest.approx(-((policy(states) - states) ** 2).mean(), abs=0.05)


def without_environment(data, folder, sweep, **changes):
    """A run of XQL with two seeds."""
    changes |= {"env_name": None, "normalize_observations": False, "top_returns": 1.0, "num_seeds": 2}
    config = small("xql", discount=0.95)
    return train_run(offline_settings(data, config=config, save_dir=str(folder), sweep=sweep, **changes))


@pytest.fixture(scope="module")
def swept(data, tmp_path_factory):
    return without_environment(data, tmp_path_factory.mktemp("swept"), "beta=1,2")


def test_a_run_without_an_environment(swept, caplog):
    before = contents(swept.path)
    settings = {"max_steps": 40, "tau": 1.0, "hidden_dims": "8"}
    report = choose(swept.path, **settings)
    assert contents(swept.path) == before
    assert {entry["setting"]: entry["seeds"] for entry in report["settings"]} == {"beta=1": 2, "beta=2": 2}
    assert judged_by(caplog) == (117, 3, 0.95)
    for entry in report["members"]:
        assert all(math.isfinite(entry[name]) for name in STATISTICS)


def test_data_that_are_given(unbroken, data, tmp_path, caplog):
    """All six trajectories count, though the run learned from the better two of three."""
    twice, arrays = tmp_path / "twice.npz", dict(np.load(data / "data.npz"))
    np.savez(twice, **{key: np.concatenate([array] * 2) for key, array in arrays.items()})
    choose(unbroken.path, dataset=(str(twice),), max_steps=3)
    assert judged_by(caplog)[:2] == (6 * 39, 6)
    assert f"{twice}: not the data that the run learned from" in caplog.text
    sizes = {"observations": 3, "actions": 2}
    arrays |= {key: np.random.default_rng(0).uniform(-1, 1, (120, size)) for key, size in sizes.items()}
    np.savez(tmp_path / "three.npz", **arrays)
    with pytest.raises(UserError, match=r"observations have 3 entries, those of .* have 4$"):
        choose(unbroken.path, dataset=(str(tmp_path / "three.npz"),))


def test_initial_states_are_those_in_which_episodes_begin(tmp_path, caplog):
    """Not those behind a goal, after which OGBench's episodes go on."""
    at_goal, place = np.isin(np.arange(120), [20, 21, 90]), np.random.default_rng(0).normal(size=(120, 3))
    rows = {"observations": place, "actions": np.tanh(place[:, :2]), "rewards": at_goal - 1.0}
    np.savez(tmp_path / "goals.npz", **rows, masks=~at_goal, terminals=np.arange(120) % 40 == 39)
    run = without_environment(tmp_path, tmp_path, "", dataset=[f"ogbench:{tmp_path / 'goals.npz'}"])
    choose(run.path, max_steps=3)
    assert judged_by(caplog)[1] == 3


def test_members_of_different_discounts_need_one_to_be_judged_by(data, tmp_path, caplog):
    run = without_environment(data, tmp_path, "discount=0.9,0.95")
    with pytest.raises(UserError, match=r"discounts differ, 0\.9, 0\.95: give .* --discount"):
        choose(run.path)
    choose(run.path, discount=0.9, max_steps=3)
    assert judged_by(caplog)[2] == 0.9


def test_policies_that_no_q_judges_are_refused(data, tmp_path):
    config = small("dt", embed_dim=4, num_layers=1, context_length=3)
    run = train_run(offline_settings(data, config=config, save_dir=str(tmp_path), env_name=None))
    with pytest.raises(UserError, match="dt acts by what it remembers"):
        choose(run.path)
    run = train_run(online_settings(tmp_path, eval_episodes=0))
    with pytest.raises(UserError, match="td3 learned online: no dataset"):
        choose(run.path)


def entry(seed, beta, score, **known):
    found = {"diverged": beta == 3.0 and seed == 1, **dict.fromkeys(STATISTICS), **known}
    return {"seed": seed, "beta": beta, **found, "score": score}


def test_order_and_means_by_setting():
    members = [
        entry(0, 1.0, 10.0, fqe_value=3.0, td_error=0.1),
        entry(1, 1.0, 20.0, fqe_value=5.0, td_error=0.3),
        entry(0, 2.0, 50.0, fqe_value=4.5, td_error=0.4),
        entry(1, 2.0, 30.0, fqe_value=None, td_error=0.2),
        entry(0, 3.0, 0.0, fqe_value=1.0, td_error=0.9),
        entry(1, 3.0, None, fqe_value=1.5, td_error=0.7),
    ]
    assert [member["fqe_value"] for member in best_first(members)] == [5.0, 4.5, 3.0, 1.5, 1.0, None]
    settings = by_setting(members, ["beta"])
    assert [one["setting"] for one in settings] == ["beta=2", "beta=1", "beta=3"]
    assert [(one["fqe_value"], one["score"]) for one in settings] == [(4.5, 40.0), (4.0, 15.0), (1.25, 0.0)]
    assert [one["diverged"] for one in settings] == [0, 0, 1]
