"""The choice among a run's members: FQE's values against a linear solve on the raw file, and scores."""

import json
import math

import numpy as np
import pytest
from tiny_runs import contents, offline_settings, small

from xql_jax.errors import UserError
from xql_jax.files import as_json
from xql_jax.runs.kinds import train_run as run_offline
from xql_jax.runs.load import load_run
from xql_jax.tools import choose as tool
from xql_jax.tools.choose import STATISTICS, ChoiceSettings, agreement_of, best_first, by_setting

pytestmark = pytest.mark.slow

DISCOUNT = 0.9
LINEAR = {  # in observations and actions
    "hidden_dims": "()", "critic_layer_norm": False, "discount": DISCOUNT, "tau": 0.05, "critic_lr": 3e-3,
    "batch_size": 256, "max_steps": 15_000,
}  # fmt: skip


def choose(checkpoint, **changes):
    return tool.choose(ChoiceSettings(checkpoint=str(checkpoint), **changes))


def in_order(report):
    """The entries in the members' own order."""
    return sorted(report["members"], key=lambda entry: entry["index"])


def exact_values(path, policy, *, top_returns, mask=1.0):
    """By the raw file what FQE's fixed point gives the initial states, linear in s and a: least squares.

    Rows 39, 79 and 119 end a trajectory by a time-out and bring no transition. Of the three trajectories the
    two of the highest returns stay, and their observations are normalised.
    """
    file = np.load(path)
    observations = file["observations"].astype(float)
    rows = np.arange(120).reshape(3, 40)[:, :-1]
    if top_returns:
        rows = np.sort(rows[np.argsort(-file["rewards"][rows].sum(1))[:2]], axis=0)
        used = observations[rows.ravel()]
        observations = (observations - used.mean(0)) / used.std(0)

    def features(at, actions):
        return np.hstack([observations[at], actions, np.ones((len(at), 1))])

    now, first = rows.ravel(), rows[:, 0]
    taken = features(now, file["actions"][now])
    following = features(now + 1, policy(file["observations"][now + 1]))
    weights = np.linalg.solve(taken.T @ (taken - mask * DISCOUNT * following), taken.T @ file["rewards"][now])
    return (features(first, policy(file["observations"][first])) @ weights).mean()


def policies_of(folder):
    """The members' policies of the environment's own observations."""
    saved = load_run(folder)
    each = [saved.policy([member]) for member in saved.members]
    return [lambda observations, act=act: act(observations[None])[0] for act in each]


@pytest.fixture(scope="module")
def chosen(unbroken):
    """What the choice says of six cloned policies."""
    return choose(unbroken.path, **LINEAR)


def test_values_are_those_of_a_linear_solve(data, unbroken, chosen):
    policies = policies_of(unbroken.path)
    exact = [exact_values(data / "data.npz", policy, top_returns=True) for policy in policies]
    found = [entry["fqe_value"] for entry in in_order(chosen)]
    assert [entry["fqe_value"] for entry in chosen["members"]] == sorted(found, reverse=True)
    np.testing.assert_allclose(found, exact, rtol=0.01)
    # What it would be were time-outs terminal: far away.
    ended = [exact_values(data / "data.npz", policy, top_returns=True, mask=0.0) for policy in policies]
    assert np.abs(np.subtract(ended, exact)).min() > 0.3 * np.mean(exact)
    assert chosen["initial_states"] == 2
    assert chosen["transitions"] == 78


def test_scores_are_those_of_the_runs_last_evaluation(unbroken, chosen):
    scores = unbroken.content["results"][0]["last_score_by_seed"]
    assert chosen["step"] == 12
    assert [entry["score"] for entry in in_order(chosen)] == pytest.approx(scores)
    # Cloning has neither V nor Q.
    assert chosen["agreement"]["statistics"].keys() == {"fqe_value", "fqe_error"}


@pytest.fixture(scope="module")
def swept(data, tmp_path_factory):
    """A run of XQL without an environment: two seeds, two betas."""
    config = small("xql", discount=0.95)
    changes = {"env_name": None, "normalize_observations": False, "top_returns": 1.0, "num_seeds": 2}
    folder = tmp_path_factory.mktemp("swept")
    settings = offline_settings(data, config=config, save_dir=str(folder), sweep="beta=1,2", **changes)
    return run_offline(settings)


def test_a_run_without_an_environment(data, swept, tmp_path):
    before = contents(swept.path)
    settings = {"max_steps": 40, "tau": 1.0, "hidden_dims": "8"}
    report = choose(swept.path, output=str(tmp_path / "choice.json"), **settings)
    assert contents(swept.path) == before
    assert json.loads((tmp_path / "choice.json").read_text()) == json.loads(as_json(report))
    assert report["env_name"] is None
    assert report["agreement"] == report["agreement_of_settings"] == {}
    assert {entry["setting"]: entry["seeds"] for entry in report["settings"]} == {"beta=1": 2, "beta=2": 2}
    assert report["evaluation"]["discount"] == pytest.approx(0.95)
    assert (report["initial_states"], report["transitions"]) == (3, 117)
    for entry in report["members"]:
        assert all(math.isfinite(entry[name]) for name in STATISTICS)


def test_data_that_are_given(unbroken, data, tmp_path, caplog):
    """The better two thirds of six trajectories are four, though the run kept two of three."""
    twice, arrays = tmp_path / "twice.npz", dict(np.load(data / "data.npz"))
    np.savez(twice, **{key: np.concatenate([array] * 2) for key, array in arrays.items()})
    report = choose(unbroken.path, dataset=(str(twice),), max_steps=3)
    assert (report["transitions"], report["initial_states"]) == (4 * 39, 4)
    assert f"{twice}: not the data that the run learned from" in caplog.text
    sizes = {"observations": 3, "actions": 2}
    arrays |= {key: np.random.default_rng(0).uniform(-1, 1, (120, size)) for key, size in sizes.items()}
    np.savez(tmp_path / "three.npz", **arrays)
    with pytest.raises(UserError, match=r"observations and actions have \(3, 2\) entries, not \(4, 2\)$"):
        choose(unbroken.path, dataset=(str(tmp_path / "three.npz"),))


def test_an_evaluation_that_diverges_has_no_value(swept, caplog):
    report = choose(swept.path, max_steps=300, critic_lr=1e30, hidden_dims="8")
    assert caplog.text.count("its evaluation diverged at update") == 4
    for entry in report["members"]:
        assert entry["fqe_value"] is None
        assert entry["fqe_error"] is None
        assert math.isfinite(entry["td_error"])


def entry(seed, beta, score, **known):
    return {"seed": seed, "beta": beta, **dict.fromkeys(STATISTICS), **known, "score": score}


def test_order_means_by_setting_and_correlations_in_the_direction_of_each_statistic():
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
    found = agreement_of(members)
    assert found["statistics"].keys() == {"fqe_value", "td_error"}
    value, error = found["statistics"]["fqe_value"], found["statistics"]["td_error"]
    # Among those with both, values 3, 5, 4.5, 1 beside 10, 20, 50, 0: ranks 2 4 3 1 and 2 3 4 1.
    assert (value["policies"], value["rho"]) == (4, pytest.approx(1 - 6 * 2 / (4 * 15)))
    assert value["regret"] == 30.0  # 50, which nobody chose, less 20
    # Errors 0.1, 0.3, 0.4, 0.2, 0.9, least first, beside 10, 20, 50, 30, 0: ranks 5 3 2 4 1 and 2 3 5 4 1.
    assert (error["policies"], error["rho"]) == (5, pytest.approx(1 - 6 * 18 / (5 * 24)))
    assert found["regret_by_chance"] == pytest.approx(50 - 110 / 5)
    assert agreement_of(members[-1:]) == agreement_of([]) == {}
