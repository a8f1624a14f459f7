"""Runs whose beta is found: swept, ramped, through a hand-over, and told in the logs."""

import csv
from contextlib import nullcontext

import numpy as np
import pytest
from tiny_runs import finetune_settings, offline_settings, small, states_of, write_dataset

import xql_jax
from xql_jax.errors import UserError
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.folder import identity_of
from xql_jax.runs.kinds import Finetune, Offline
from xql_jax.runs.resolve import resolved, settings_from
from xql_jax.runs.train import _warn_of_beta, train_run


def metrics_of(run):
    with run.files.metrics.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path / "data.npz")
    return tmp_path


def test_nats_sweep_and_ramp_like_other_settings(data):
    """Beta stays 100 with 0 nats, and falls to be found with more; a ramp begins where beta was."""
    given = {"config": small("xql", beta=100.0), "eval_episodes": 0, "max_steps": 40, "log_interval": 20}
    swept = train_run(offline_settings(data, **given, sweep="beta_nats=0,0.5"))
    fixed, found = [
        [float(row["value/beta"]) for row in metrics_of(swept) if float(row["beta_nats"]) == nats]
        for nats in (0, 0.5)
    ]
    assert fixed == [100.0, 100.0]
    assert 90.0 < found[1] < found[0] < 100.0  # steps of 1% at most
    ramped = train_run(offline_settings(data, **given, ramp="beta_nats=0:0@0.5:0.5"))
    assert [float(row["value/beta"]) == 100.0 for row in metrics_of(ramped)] == [True, False]


@pytest.mark.parametrize("horizon", [{"n_step": 3}, {"action_chunk": 3}], ids=str)
def test_beta_is_found_over_several_steps_too(data, horizon):
    """It moves, by at most 1% an update, as over single steps."""
    given = {"config": small("xql", beta=100.0, beta_nats=0.5), "max_steps": 40, "top_returns": 1.0}
    run = train_run(offline_settings(data, **given, **horizon, eval_episodes=0, log_interval=20))
    first, last = (float(row["value/beta"]) for row in metrics_of(run))
    assert 100.0 * 0.99**40 < last < first < 100.0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"beta_nats": 1.4, "batch_size": 4},
            r"^beta_nats=1.4: minibatches of 4 rows .* log\(4\) = 1.39 nats",
        ),
        ({"sweep": "beta_nats=0,0.7", "batch_size": 2}, "^beta_nats=0.7: "),
        ({"ramp": "beta_nats=0:0.1", "batch_size": 1}, "^beta_nats=0.1: "),
        ({"beta_nats": 1.3, "batch_size": 4}, None),
        ({"batch_size": 1, "beta": 1.0, "awr_temperature": 1.0}, None),
        (
            {"policy_nats": 6},
            r"^policy_nats=6: minibatches of 256 rows .* larger --batch_size, or --awr_temp",
        ),
        ({"batch_size": 1, "beta": 1.0}, "^policy_nats=0.3: minibatches of 1 rows"),
        ({"method": "iql", "sweep": "policy_nats=0.1,3", "batch_size": 16}, "^policy_nats=3: "),
        ({"ramp": "policy_nats=0.1:1.4", "batch_size": 4, "beta_nats": 1}, "^policy_nats=1.4: "),
    ],
)
def test_nats_that_no_minibatch_shows_are_refused(given, told):
    """They would let beta fall for ever: p of B rows has at most log B nats."""
    asked = {"dataset": "mine.hdf5", **given}
    config = choose_config(Offline, **asked)
    settings = settings_from(config, {name: value for name, value in asked.items() if name != "method"})
    with pytest.raises(UserError, match=told) if told else nullcontext():
        resolved(settings)


@pytest.mark.parametrize(
    ("kind", "changes", "is_refused"),
    [
        (Offline, "beta_nats=1:0", True),
        (Offline, "beta_nats=0:1@0.5:0", True),
        (Offline, "beta_nats=1:0 beta=2:1", False),
        (Offline, "beta_nats=0:1", False),  # found from the first update on, beginning at beta
        (Finetune, "beta_nats=0", True),
        (Finetune, "beta_nats=0 beta=0.3", False),
        (Finetune, "beta_nats=0.5", False),
    ],
)
def test_a_found_beta_is_not_thrown_away_unasked(kind, changes, is_refused):
    """With 0 nats beta is --beta, where it began, and nobody means that after it was found."""
    asked = {
        "dataset": "mine.hdf5",
        "env_name": "pointmaze-umaze-v0",
        "config": "own",
        kind.changing: changes,
    }
    config = choose_config(kind, **asked)
    settings = settings_from(config, {name: value for name, value in asked.items() if name != "config"})
    told = "at beta_nats=0 beta would go from the one that was found back to where it began"
    with pytest.raises(UserError, match=told) if is_refused else nullcontext():
        resolved(settings)


def test_a_suites_beta_for_the_hand_over_gives_way_to_the_one_that_is_found(caplog):
    """The maze's suite has `beta=5:2` there, which would be recorded and do nothing."""
    caplog.set_level("INFO")
    asked = {"env_name": "pointmaze-umaze-v0", "beta_nats": 1}
    made = resolved(settings_from(choose_config(Finetune, **asked), asked))
    assert "beta" not in {ramp.name for ramp in made.ramps}
    assert "actor_lr" in {ramp.name for ramp in made.ramps}
    assert "beta stays after the hand-over: --online=beta=5:2 was the suite's" in caplog.text
    sweep = {**asked, "sweep": "beta_nats=0,1"}
    del sweep["beta_nats"]
    made = resolved(settings_from(choose_config(Finetune, **sweep), sweep))
    assert "beta" in {ramp.name for ramp in made.ramps}  # for the member that is given it


@pytest.mark.parametrize(("config", "is_told"), [("pointmaze", True), ("own", False)])
def test_rewards_that_stay_as_they_are_although_asked_are_told(tmp_path, capsys, config, is_told):
    settings = {"max_steps": 1, "eval_episodes": 0, "hidden_dims": 4, "batch_size": 8, "save_dir": tmp_path}
    xql_jax.train("pointmaze-umaze-v0", method="iql", config=config, scale_rewards=True, **settings)
    told = capsys.readouterr().out
    assert "rewards are multiplied by" in told or is_told
    assert ("--scale_rewards has no effect" in told) is is_told


def test_a_found_beta_goes_on_from_where_the_data_left_it(data):
    """In the online phase nothing sets it back to where it began."""
    config = small("xql", beta=5.0, beta_nats=0.5, batch_size=4, buffer_size=16, warmup_steps=0)
    run = train_run(
        finetune_settings(data, config=config, num_pretraining_steps=300, num_seeds=1, max_steps=12)
    )
    at = [np.exp(float(states_of(run, step)["seed3"].value.held.log_scale)) for step in (300, 312)]
    assert at[0] < 3.0  # the divergence began far below 0.5 nats
    assert 0.9 * at[0] < at[1] < at[0]


def last_numbers(place, factor, names, **given):
    """The last row's numbers of a run on data of one's own, whose rewards are multiplied by the factor."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(64, 3)).astype(np.float32)
    data = {"observations": rows, "next_observations": np.roll(rows, -1, axis=0)}
    data["actions"] = np.tanh(rows[:, :1])
    data |= {
        "rewards": rng.normal(2.0, 3.0, 64),
        "terminals": np.zeros(64),
        "timeouts": np.arange(64) % 8 == 7,
    }
    settings = {"hidden_dims": 8, "batch_size": 16, "max_steps": 40, "log_interval": 40, "save_dir": place}
    settings |= {"critic_lr": 0.01, "tau": 0.5}
    run = xql_jax.train(dataset={**data, "rewards": factor * data["rewards"]}, **settings | given)
    row = metrics_of(run.run)[-1]
    return [float(row[name]) for name in names]


@pytest.mark.parametrize("method", ["iql", "sql", "awac"])
def test_the_unit_of_the_rewards_does_not_matter_to_any_method(tmp_path, method):
    names = ("critic/q", "critic/loss", "actor/divergence")
    unit = last_numbers(tmp_path, 1.0, names, method=method)
    for factor in (0.01, 1000.0):
        np.testing.assert_allclose(last_numbers(tmp_path, factor, names, method=method), unit, rtol=1e-3)
    as_they_are = {"method": method, "scale_rewards": False}
    assert not np.allclose(last_numbers(tmp_path, 100.0, names, **as_they_are), unit, rtol=0.1)


def test_the_unit_of_the_rewards_does_not_matter_where_beta_is_found(tmp_path):
    """Rewards times 0.01 or 1000 give the same V, beta and divergence; not with a given beta."""

    def last(factor, **given):
        names = ("value/v", "value/beta", "actor/divergence")
        return last_numbers(tmp_path, factor, names, value_lr=0.01, **given)

    unit = last(1.0)
    for factor in (0.01, 1000.0):
        np.testing.assert_allclose(last(factor), unit, rtol=1e-3)
    for others in ({"beta": 1.0}, {"awr_temperature": 1.0}, {"sweep": "beta_nats=1,0"}):
        np.testing.assert_allclose(last(100.0, **others), last(1.0, **others), rtol=1e-3)
    unscaled = {"scale_rewards": False, "layer_norm": False}  # with it V moves little in so few updates
    for others in (unscaled, {**unscaled, "beta": 1.0}):
        assert not np.allclose(last(100.0, **others), last(1.0, **others), rtol=0.1)


def test_a_temperature_that_is_not_used_is_told(data, caplog):
    given = {"config": small("xql"), "eval_episodes": 0, "max_steps": 4, "top_returns": 1.0}
    train_run(offline_settings(data, **given, sweep="policy_nats=0.1,0.5 awr_temperature=1,2"))
    assert "awr_temperature is not used beside policy_nats" in caplog.text
    caplog.clear()
    train_run(offline_settings(data, **given, sweep="beta_nats=0.1,0.5 awr_temperature=1,2", n_step=3))
    assert "awr_temperature is not used" not in caplog.text


@pytest.mark.parametrize(
    ("given", "is_told"),
    [
        ({}, False),  # policy_nats is off, because the temperature is chosen
        ({"policy_nats": 0.0}, False),
        ({"policy_nats": 0.1}, True),
        ({"sweep": "policy_nats=0,0.1"}, True),
        ({"ramp": "policy_nats=0.1:0.2"}, True),
    ],
)
def test_a_temperature_is_told_to_be_unused_only_where_nats_find_it(caplog, given, is_told):
    asked = {"dataset": "mine.npz", "awr_temperature": 2.0, "max_steps": 5, **given}
    _warn_of_beta(resolved(settings_from(choose_config(Offline, **asked), asked)))
    assert ("awr_temperature is not used" in caplog.text) is is_told


@pytest.mark.parametrize(("online", "is_told"), [({}, False), ({"online": "beta=5:2"}, True)])
def test_a_beta_of_the_suites_own_is_not_called_unused(caplog, online, is_told):
    """A user who has beta found has not asked for it, so it gives way."""
    asked = {"env_name": "pointmaze-umaze-v0", "beta_nats": 0.5, "max_steps": 5, **online}
    made = resolved(settings_from(choose_config(Finetune, "xql", **asked), asked))
    assert ("beta=5:2" in made.online) is is_told
    _warn_of_beta(made)
    assert ("beta=5:2 is not used" in caplog.text) is is_told


def test_it_is_told_in_another_runs_fine_tuning_too(data, tmp_path, caplog):
    settings = {"config": small("xql", beta_nats=0.5), "save_dir": str(tmp_path), "top_returns": 1.0}
    source = train_run(offline_settings(data, **settings, max_steps=4, eval_episodes=0))
    online = "beta=0.5 policy_nats=0.1 awr_temperature=2"
    train_run(finetune_settings(data, checkpoint=str(source.path), online=online))
    assert "beta=0.5 is not used where beta_nats finds beta" in caplog.text
    assert "awr_temperature is not used beside policy_nats" in caplog.text


@pytest.mark.parametrize(("online", "is_kept"), [("beta=0.5", False), ("beta=0.5 beta_nats=0", True)])
def test_a_beta_for_the_hand_over_is_kept_or_it_is_told_that_it_is_not(data, caplog, online, is_kept):
    config = small("xql", beta=5.0, beta_nats=0.5, batch_size=4, buffer_size=16, warmup_steps=0)
    run = train_run(finetune_settings(data, config=config, online=online))
    last = metrics_of(run)[-1]
    assert (float(last["value/beta"]) == 0.5) == is_kept
    assert ("beta=0.5 is not used where beta_nats finds beta" in caplog.text) != is_kept


@pytest.mark.parametrize(
    ("task", "given", "is_so"),
    [
        ("pen-human-v1", {"beta_nats": 1}, False),  # the suite's awr_temperature is in its rewards
        ("pen-human-v1", {"sweep": "beta_nats=0,1"}, False),
        ("pen-human-v1", {}, False),
        ("pen-human-v1", {"config": "own"}, True),
        ("pen-human-v1", {"config": "own", "sweep": "beta_nats=0,1"}, True),
        ("pen-human-v1", {"config": "own", "scale_rewards": False}, False),
        ("hopper-medium-v2", {"beta_nats": 1}, False),  # scaled by its returns
        ("antmaze-umaze-v2", {"beta_nats": 1}, False),  # shifted by -1
        (None, {}, True),
        (None, {"ramp": "beta=20:5 beta_nats=0"}, True),  # whatever the method and its values
        (None, {"method": "iql"}, True),
        (None, {"method": "td3_bc"}, True),
        (None, {"method": "bc"}, False),  # which learns from no rewards
    ],
)
def test_whose_rewards_have_a_unit_of_their_own(task, given, is_so):
    asked = {"env_name": task, **({"dataset": "mine.hdf5"} if task is None else {}), **given}
    given = {name: value for name, value in asked.items() if name not in ("method", "config")}
    made = resolved(settings_from(choose_config(Offline, **asked), given))
    assert made.unit_rewards is is_so
    assert ("unit_rewards" in identity_of(made)) is is_so


def test_a_checkpoints_run_has_decided_whether_its_beta_is_found(data, tmp_path):
    """A swept beta is where it began, because its user asked for that."""
    settings = {"config": small("xql", beta_nats=0.5), "save_dir": str(tmp_path), "top_returns": 1.0}
    source = train_run(
        offline_settings(
            data, **settings, sweep="beta=1,2", given=frozenset({"beta_nats"}), max_steps=4, eval_episodes=0
        )
    )
    made = resolved(finetune_settings(data, checkpoint=str(source.path)))
    assert (made.learner.value.beta_nats, made.unit_rewards) == (0.5, False)
