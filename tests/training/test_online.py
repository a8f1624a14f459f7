"""What members that act on the host, and those that act in the compiled program, do alike."""

import functools

import jax
import numpy as np
import pytest
from online_fakes import (
    BadActor,
    Counting,
    Flickering,
    Slow,
    buffer_of,
    make_in_program,
    make_trainer,
    same,
    save,
    transitions,
)

from xql_jax.training import compiled_acting
from xql_jax.training.members import Divergence, Member
from xql_jax.training.replaying import NUM_ERRORS
from xql_jax.training.trainer import EPISODE_METRICS

KINDS = {"host": make_trainer, "compiled": make_in_program}
TWO = (Member(3, {"rate": 1.0}), Member(4, {"rate": 5.0}))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def make(kind, tmp_path):
    """Makes a trainer of the kind; those of one name share their files."""
    return lambda name="run", *arguments, **options: KINDS[kind](tmp_path / name, *arguments, **options)


def trained(trainer, *stops):
    for stop in stops:
        metrics = trainer.advance(stop) | trainer.population.interval_means()
    return trainer, metrics


def test_results_depend_neither_on_calls_nor_on_time(make, kind, monkeypatch):
    ends = []
    for number, stops in enumerate(((60,), (6, 18, 24, 60), (30, 60))):
        if number == 2:
            monkeypatch.setattr(compiled_acting, "TIMES_PER_CALL", 4)
            monkeypatch.setattr(Counting, "delay", Slow.delay)
        trainer, metrics = trained(make(str(number), TWO), *stops)
        ends.append((trainer.population.states, buffer_of(trainer, 0), buffer_of(trainer, 1), metrics))
    same(ends[0], ends[1])
    same(ends[0], ends[2])


def test_members_do_not_know_of_each_other(make):
    both, _ = trained(make("both", TWO), 30)
    assert float(both.population.states["seen"][0]) != float(both.population.states["seen"][1])
    for index, member in enumerate(TWO):
        alone, _ = trained(make(str(index), [member]), 30)
        same(both.population.member(index)[1], alone.population.member(0)[1])
        same(transitions(both, index), transitions(alone))
    assert both.policy()(np.zeros((2, 5, 2), np.float32)).shape == (2, 5, 1)


def test_the_last_episodes_are_among_the_metrics(make, kind):
    environments, length = {"host": (2, 7), "compiled": (3, 20)}[kind]
    trainer = make(num_environments=environments, round_steps=environments)
    assert trainer.advance(6) == {}  # nothing is learned yet
    metrics = trainer.advance(environments * (length - 1))
    assert np.isnan(metrics["episode/return"]).all()
    metrics = trainer.advance(environments * (length + 2))
    rewards = transitions(trainer).rewards[: environments * length].reshape(length, environments)
    np.testing.assert_allclose(metrics["episode/return"], rewards.sum(0).mean(), rtol=1e-5)
    np.testing.assert_array_equal(metrics["episode/length"], length)
    resumed = make(num_environments=environments, round_steps=environments)
    resumed.resume(*save(trainer))
    after = resumed.advance(trainer.step + environments)  # in which none ends
    same([after[name] for name in EPISODE_METRICS], [metrics[name] for name in EPISODE_METRICS])


def test_means_over_an_interval_are_those_of_its_updates(make, kind):
    """With an update each time that all act, the last metrics of each time are all there are."""
    stride = {"host": 2, "compiled": 3}[kind]
    trainer = make("run", TWO, updates_per_step=1 / stride)
    trainer.advance(30)
    trainer.population.begin_interval()
    assert np.isnan(trainer.population.interval_means()["loss_mean"]).all()
    lasts = [np.asarray(trainer.advance(stop)["loss"]) for stop in range(30 + stride, 61, stride)]
    assert len(np.unique(lasts)) > 10
    np.testing.assert_allclose(trainer.population.interval_means()["loss_mean"], np.mean(lasts, 0), rtol=1e-5)


def test_bellman_errors_are_of_what_was_met(make):
    """They are of a member's own transitions and state, drawn anew each time; measuring changes nothing."""
    measured, untouched = make("a", TWO), make("b", TWO)
    for stop in (24, 30):
        measured.advance(stop)
        errors = measured.bellman_errors()["error"]
        assert errors.shape == (2, NUM_ERRORS)
        for index in range(2):
            own = transitions(measured, index).rewards + (stop - 6)  # updates
            assert set(errors[index]) == set(own)  # over a thousand of 30 at most
    untouched.advance(30)
    same(measured.population.states, untouched.population.states)


def test_a_member_that_diverges_stays_where_it_was(make, kind):
    members = [Member(0, {"breaks_at": 11.0}), Member(1, {})]
    trainer = make("run", members)
    trainer.advance(30)
    # Updates 10 to 12 are those of steps 15 to 17. On the host a round has two updates, here three.
    frozen = {"host": 10.0, "compiled": 9.0}[kind]
    assert trainer.population.diverged == {
        0: Divergence(18, "loss", after={"host": 16, "compiled": None}[kind])
    }
    assert trainer.population.states["updates"].tolist() == [frozen, 24.0]
    trainer.advance(42)
    assert trainer.population.states["updates"].tolist() == [frozen, 36.0]
    assert buffer_of(trainer).inserted == 42  # it inserts, and learns no more
    again = make("run", members)
    again.resume(*save(trainer))
    assert again.population.diverged == trainer.population.diverged


def test_one_update_that_is_not_finite_is_enough(make, kind):
    trainer = make(learner=Flickering(breaks_at=9.0), **({"round_steps": 8} if kind == "host" else {}))
    trainer.advance(24)  # on the host updates 3 to 10 are of one program
    assert trainer.population.diverged == {
        0: {"host": Divergence(16, "loss", after=8), "compiled": Divergence(15, "loss")}[kind]
    }
    # Before the round; in the program, after the last time that all acted.
    assert float(trainer.population.states["updates"][0]) == {"host": 2.0, "compiled": 6.0}[kind]


def test_actions_that_are_not_finite_are_told_and_replaced(make, kind):
    """From 12 updates on the policy gives NaN, though parameters and metrics are finite."""
    trainer = make(learner=BadActor())
    trainer.advance(30)
    actions = transitions(trainer).actions[:, 0]
    assert np.isfinite(actions).all()
    # 6 steps of warm-up and 12 updates end at step 18; on the host the round from 20 on acts by them.
    at = {"host": 20, "compiled": 18}[kind]
    assert (actions[10:at] != 0.0).all()
    np.testing.assert_array_equal(actions[at : at + trainer.stride], 0.0)
    assert trainer.population.diverged == {0: Divergence(at, "actions")}
    assert float(trainer.population.states["updates"][0]) == at - 6.0


def test_together_equals_in_turn(make):
    """One member diverges at its ninth update and stays, and the other goes on."""
    members = [Member(3, {"breaks_at": 1e9}), Member(4, {"rate": 5.0, "breaks_at": 9.0})]
    first, metrics = trained(make("a", members, together=True), 6, 18, 24, 42)
    second, others = trained(make("b", members, together=False), 42)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for index in range(2):
        jax.tree.map(close, transitions(first, index), transitions(second, index))
    jax.tree.map(close, (first.population.states, metrics), (second.population.states, others))
    assert first.population.diverged == second.population.diverged
    assert len(first.population.diverged) == 1
