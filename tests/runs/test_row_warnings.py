"""A warning where V is above every return that the rewards allow."""

import logging
import math

import numpy as np
import pytest
from tiny_runs import finetune_settings, offline_settings, small, write_dataset

from xql_jax.learners.registry import make_learner
from xql_jax.runs.train import offline_trainers, train_run
from xql_jax.training.members import Ramp, make_members
from xql_jax.training.row_warnings import watch_divergence, watch_policy, watch_values, watch_weights


def warnings_of(caplog, words="V is"):
    warned = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    return [line for line in warned if words in line]


def watched(rewards, rows, caplog, sweep=None):
    """The warnings after rows of value/v_mean."""
    caplog.clear()
    members = make_members([0] if sweep else range(len(rows[0])), sweep or {})
    watch = watch_values(make_learner("xql", {}), members, np.float32(rewards))
    for step, row in enumerate(rows):
        watch(step, {"value/v_mean": row, "value/v": [np.inf] * len(row)})
    return warnings_of(caplog)


def test_the_best_return_is_no_reason_and_more_is(caplog):
    """At a discount of 0.99: 1 a step for ever is 100, -1 a step in episodes that end at most 0."""
    assert watched([0, 1], [[100, 109.9]], caplog) == []
    assert watched([-1, -1], [[0, 9.9]], caplog) == []
    (warning,) = watched([0, 1], [[100, 110.1]], caplog)
    assert warning.startswith("seed 1: V is 110.1 on average, but the rewards, as they are learned from, ")
    assert "allow no return above 100: " in warning
    (warning,) = watched([-1, -1], [[-50, 147.0]], caplog)
    assert "no return above 0:" in warning


def test_weights_of_few_rows_are_told_without_knowing_rewards(caplog):
    """With 256 rows log(256) = 5.55 nats are the most, where one row has all of the weight."""
    watch = watch_divergence(make_members([0, 1], {}), 256)
    for step, row in enumerate([[0.2, 4.9], [0.3, 5.2], [np.nan, 5.5]]):
        watch(step, {"value/divergence_mean": row})
    (warning,) = warnings_of(caplog, "V follows")
    assert warning.startswith("seed 1: V follows single rows: their weights are 5.2 nats from the data")
    watch(3, {"value/v_mean": [1.0, 1.0]})  # a method without a soft maximum
    assert len(warnings_of(caplog, "V follows")) == 1
    watch(4, {"critic/divergence_mean": [5.2, 5.2]})  # X-TD3
    assert [one[:26] for one in warnings_of(caplog, "Q follows")] == ["seed 0: Q follows single r"]


def test_less_than_the_least_return_is_a_reason(caplog):
    """-1 a step for ever is -100 at a discount of 0.99; no return is below 0 if rewards are positive."""
    assert watched([-1, 0], [[-109.9]], caplog) == []
    (warning,) = watched([-1, 0], [[-110.1]], caplog)
    assert (
        "V is -110.1 on average, but the rewards, as they are learned from, allow no return below" in warning
    )
    assert "no return below -100" in warning
    (warning,) = watched([0, 1], [[-11]], caplog)
    assert "no return below 0" in warning


def test_the_bound_is_that_of_the_ramps_discount_so_far(caplog):
    """From 0.9 up to 0.99 at step 2, then down: returns of up to 10, then 100, which V keeps for a while."""
    members, ramp = make_members([0], {}), Ramp("discount", (0.9, 0.99, 0.9), (0.0, 2.0, 4.0))

    def told(*rows):
        caplog.clear()
        watch = watch_values(make_learner("iql", {"discount": 0.5}), members, np.float32([0, 1]), [ramp])
        for step, value in rows:
            watch(step, {"value/v_mean": [value]})
        return warnings_of(caplog)

    assert told((0, 10.9), (2, 109.0), (4, 109.0)) == []
    (warning,) = told((0, 11.1))
    assert "no return above 10: V has run away" in warning
    assert "beta" not in warning  # IQL has none
    assert "needs a larger beta, which --beta_nats=0.1 finds" in watched([0, 1], [[111]], caplog)[0]
    caplog.clear()
    watch_values(make_learner("mxql"), members, np.float32([0, 1]))(9, {"value/v_mean": [1e4]})
    assert warnings_of(caplog)[0].endswith("it needs a larger beta")  # it has no beta_nats


@pytest.mark.parametrize(("beta", "is_warned_of"), [(1e-3, True), (1.0, False)])
def test_a_run_whose_v_runs_away_says_so(tmp_path, caplog, beta, is_warned_of):
    """With steps of V that are large enough for sixty updates, and rewards of -1."""
    write_dataset(tmp_path / "data.npz", rewards=-np.ones(120, np.float32))
    config = small("xql", beta=beta, value_lr=0.3, critic_lr=0.3, tau=0.5, layer_norm=False)
    train_run(offline_settings(tmp_path, config=config, max_steps=60, top_returns=1.0, eval_episodes=0))
    assert bool(warnings_of(caplog)) == is_warned_of


@pytest.mark.parametrize("horizon", [{}, {"n_step": 5}, {"action_chunk": 5}], ids=str)
def test_rewards_of_several_steps_raise_no_bound(tmp_path, caplog, monkeypatch, horizon):
    """1 a step is at most 10 at a discount of 0.9, however many steps a transition spans."""
    write_dataset(tmp_path / "data.npz", rewards=np.ones(120, np.float32))
    row = {"value/v_mean": [11.5]}

    def warned(*given):
        for watch in (trainers := offline_trainers(*given)).watches:
            watch(1, row)
        return trainers

    monkeypatch.setattr("xql_jax.runs.train.offline_trainers", warned)
    config = small("xql", discount=0.9)
    settings = offline_settings(
        tmp_path, config=config, top_returns=1.0, eval_episodes=0, num_seeds=1, **horizon
    )
    train_run(settings)
    (warning,) = [line for line in warnings_of(caplog) if "V is" in line]
    assert "no return above 10:" in warning


@pytest.mark.parametrize(("updates", "is_warned_of"), [(60, True), (6, False)])
def test_fine_tuning_watches_what_learns_from_the_data_alone(tmp_path, caplog, updates, is_warned_of):
    """After the hand-over the environment may give more than the data did."""
    write_dataset(tmp_path / "data.npz", rewards=-np.ones(120, np.float32))
    config = small("xql", beta=1e-3, value_lr=0.3, critic_lr=0.3, tau=0.5, layer_norm=False)
    train_run(
        finetune_settings(
            tmp_path, config=config, num_pretraining_steps=updates, max_steps=60, num_seeds=1, eval_episodes=0
        )
    )
    assert bool(warnings_of(caplog)) == is_warned_of


@pytest.mark.parametrize(
    ("method", "given", "told"),
    [
        ("bear", {}, "warm_start=40000: the policy only clones in all 3 updates"),
        ("brac_p", {"sweep": "warm_start=2,3"}, "warm_start=3: the policy only clones"),
        ("brac_p", {"sweep": "warm_start=1,2"}, ""),
        ("xql+trust_region", {}, "cloning_updates=5000: the policy only clones"),
    ],
)
def test_a_policy_that_only_clones_is_told(tmp_path, caplog, method, given, told):
    write_dataset(tmp_path / "data.npz")
    train_run(offline_settings(tmp_path, config=small(method), eval_episodes=0, max_steps=3, **given))
    assert [told in one for one in warnings_of(caplog, "the policy only clones")] == [True] * bool(told)


@pytest.mark.parametrize(
    ("nats", "told", "told_at"),
    [
        ((0.0, 0.004, 0.005, 0.006), "this is cloning", 600),
        ((0.0, 0.004, 0.005, 0.03), "", None),  # it goes further before it is judged
        ((2.2, 3.2, 3.3, 3.4), "few rows have all the weight", 200),  # Q and V are alike at the start
        ((1.0, 4.0, 2.9, 2.5), "", None),
        ((math.nan,) * 4, "", None),  # of steps without an update
    ],
)
def test_a_policy_that_clones_or_follows_few_rows_is_told(caplog, nats, told, told_at):
    """Few rows after a fifth of 1,000 updates, cloning in the second half; once, by the row at hand.

    So one that goes on from a checkpoint is told the same.
    """
    for begin in (0, 2):
        caplog.clear()
        watch, steps = watch_policy(make_members([0], {}), 1_000), []
        rows = [*zip((50, 100, 200, 600), nats, strict=True), (700, nats[-1])]
        for step, one in rows[begin:]:
            watch(step, {"actor/divergence_mean": [one]})
            steps += [step] * bool(warnings_of(caplog, ""))
        assert (steps or [None])[0] == told_at
        assert len(warnings_of(caplog, "")) == bool(told)
        assert told in caplog.text


@pytest.mark.parametrize(("weight", "told"), [(0.4, "too high"), (1.9, ""), (2.1, "too low")])
@pytest.mark.parametrize(("method", "fit", "column"), [("xql", "V", "value"), ("xtd3", "Q", "critic")])
def test_a_fit_that_is_no_soft_maximum_is_told(caplog, weight, told, method, fit, column):
    """The mean of exp((target - fit) / beta) is 1 at the minimum of the loss, whatever beta is."""
    watch = watch_weights(make_learner(method, {"beta_nats": 0.1}), make_members([0], {}), 1_000)
    watch(100, {f"{column}/weight_mean": [weight]})  # too early
    assert not warnings_of(caplog, "")
    for step in (200, 300):
        watch(step, {f"{column}/weight_mean": [weight]})
    assert len(warnings_of(caplog, "")) == bool(told)
    assert (f"so {fit} is {told}" in caplog.text) == bool(told)


@pytest.mark.parametrize(("divergence", "is_told"), [(0.2, True), (0.3, False), (0.9, False), (1.1, True)])
@pytest.mark.parametrize(("method", "column"), [("xql", "value"), ("xtd3", "critic")])
def test_a_beta_that_has_not_been_found_at_the_end_is_told(caplog, method, column, divergence, is_told):
    """E e^z is near 1 also where beta is much too large."""
    learner, row = make_learner(method, {"beta_nats": 0.5}), {f"{column}/divergence_mean": [divergence]}
    watch = watch_weights(learner, make_members([0], {}), 1_000)
    watch(900, {**row, f"{column}/weight_mean": [1.0]})
    assert not warnings_of(caplog, "")
    watch(1_000, {**row, f"{column}/weight_mean": [1.0]})
    assert ("beta has not been found" in caplog.text) is is_told
    caplog.clear()
    watch_weights(make_learner(method), make_members([0], {}), 1_000)(1_000, row)  # given
    assert not warnings_of(caplog, "")


@pytest.mark.parametrize("name", ["uniform_actions", "action_noise"])
def test_v_of_other_actions_is_not_judged_by_the_datas(caplog, name):
    """Fitted to the data's and as many other actions, V's weights may be 2 over the data's alone."""
    learner = make_learner("xql", {"beta_nats": 1.0, name: 1})
    watch_weights(learner, make_members([0], {}), 1_000)(500, {"value/weight_mean": [3.0]})
    assert not warnings_of(caplog, "")


def test_a_beta_that_is_given_may_lag_and_one_that_is_found_may_not(caplog):
    """Each member of a sweep is judged by its own, until a hand-over that ends it for all."""
    watch = watch_weights(make_learner("xql"), make_members([0], {"beta_nats": [0.0, 0.5]}), 1_000)
    watch(500, {"value/weight_mean": [9.0, 9.0]})
    (warning,) = warnings_of(caplog, "")
    assert warning.startswith("seed 0, beta_nats=0.5: ")
    caplog.clear()
    ended = Ramp("beta_nats", (0.0,), (0.0,))
    watch = watch_weights(
        make_learner("xql"), make_members([0], {"beta_nats": [0.1, 0.5]}), 1_000, [ended], 300
    )
    watch(500, {"value/weight_mean": [9.0, 9.0]})
    assert not warnings_of(caplog, "")
    watch(300, {"value/weight_mean": [9.0, 9.0]})
    assert len(warnings_of(caplog, "")) == 2


@pytest.mark.parametrize(
    ("own", "values", "handover", "told_at"),
    [
        (0.0, (0.5, 0.1), None, 200),  # found all the time
        (0.5, (0.0, 0.5), None, 600),  # from the second half on
        (0.5, (0.5, 0.0), None, 200),  # until the end
        (0.0, (0.5, 0.5), 500, 600),  # from the hand-over on
        (0.5, (0.0, 0.0), 400, 200),  # until then
        (0.0, (0.0, 0.0), 400, None),
    ],
)
def test_a_beta_is_judged_while_it_is_found(caplog, own, values, handover, told_at):
    ramp = Ramp("beta_nats", values, (499.0, 500.0))
    learner, members = make_learner("xql", {"beta_nats": own}), make_members([0], {})
    watch = watch_weights(learner, members, 1_000, [ramp], handover)
    steps = []
    for step in (100, 200, 400, 600, 1_000):
        watch(step, {"value/weight_mean": [9.0]})
        steps += [step] * bool(warnings_of(caplog, ""))
    assert (steps or [None])[0] == told_at


@pytest.mark.parametrize(("method", "is_told"), [("brac_p", False), ("awac", True)])
def test_only_weights_are_judged_as_weights(tmp_path, caplog, monkeypatch, method, is_told):
    """`actor/divergence` of BRAC is the one from its clone, which may be large, and no setting holds it."""
    write_dataset(tmp_path / "data.npz")
    monkeypatch.setattr("xql_jax.training.row_warnings.SINGLE_ROWS", -1.0)  # so that all are beyond it
    monkeypatch.setattr("xql_jax.training.row_warnings.CLONING", -2.0)
    given = {"warm_start": 0.0} if method == "brac_p" else {}
    settings = {"config": small(method, **given), "eval_episodes": 0, "max_steps": 6, "top_returns": 1.0}
    run = train_run(offline_settings(tmp_path, **settings))
    assert "actor/divergence_mean" in run.files.metrics.read_text()
    assert bool(warnings_of(caplog, "the policy's weights are")) is is_told
