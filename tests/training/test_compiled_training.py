"""Acting, inserting and learning in one program: what is learned from, in which order, what comes back."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import online_fakes
import pytest
from jax_point_mass import FRICTION, PUSH, Breaking, PointMass
from online_fakes import BadActor, Counter, Flickering, buffer_of, same, save
from slow_cases import slow_but

from xql_jax.data import replay
from xql_jax.learners.fields import hyperparameters, with_hyperparameters
from xql_jax.learners.registry import make_learner
from xql_jax.training import compiled
from xql_jax.training.compiled import Compiled
from xql_jax.training.members import Member
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.schedule import OnlineSchedule
from xql_jax.training.strategy import Divergence, member_keys

N = 3
SCHEDULE = OnlineSchedule(num_environments=N, round_steps=N, buffer_size=256, batch_size=4, warmup_steps=6)
ONE, THREE = (Member(0, {}),), (Member(0, {}), Member(1, {}), Member(0, {"rate": 2.0}))


def make(tmp_path, members=ONE, environment=PointMass, learner=None, together=False, **changes):
    strategy = Compiled(environment(), dataclasses.replace(SCHEDULE, **changes), ReplayFiles(tmp_path))
    return Population(learner or Counter(), members, strategy, together)


def transitions(population, index=0):
    """What a member's buffer holds, oldest first, before it is full; [steps, N, ...]."""
    rows = online_fakes.transitions(population, index)
    return jax.tree.map(lambda field: field.reshape(-1, N, *field.shape[1:]), rows)


def ends_of(population):
    """All that is to be the same bit by bit."""
    return [group.members for group in population.groups]


@pytest.mark.slow
def test_one_row_a_step_which_the_environments_made(tmp_path):
    """The buffer against NumPy, from the first observations and the actions that it holds itself."""
    population = make(tmp_path)
    population.advance(90)
    assert int(buffer_of(population).inserted) == 90
    rows = transitions(population)
    for number in range(N):
        keys = jax.random.split(jax.random.key(0), 4)[3], number
        for step in range(30):
            if step % PointMass.episode_limit == 0:  # nobody comes beyond 2
                key = jax.random.fold_in(jax.random.fold_in(*keys), step // PointMass.episode_limit)
                (position, velocity), episode_return = np.asarray(PointMass().reset(key)[1]), 0.0
            np.testing.assert_allclose(
                rows.observations[step, number], [position, velocity], rtol=1e-4, atol=1e-6
            )
            velocity = FRICTION * velocity + PUSH * rows.actions[step, number, 0]
            position = position + velocity
            episode_return += 1.0 - abs(position)
            np.testing.assert_allclose(
                rows.next_observations[step, number], [position, velocity], rtol=1e-4, atol=1e-6
            )
            np.testing.assert_allclose(rows.rewards[step, number], 1.0 - abs(position), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(rows.masks, 1.0)  # also at the time limit


def test_the_warm_up_s_actions_are_uniform_within_the_bounds(tmp_path):
    population = make(tmp_path, warmup_steps=240)
    population.advance(240)
    actions = np.sort(transitions(population).actions, axis=None)
    # Kolmogorov's distance from the uniform law: of 0.1% of the samples it is beyond 1.95 / sqrt(n).
    assert np.abs((actions + 1.0) / 2.0 - np.linspace(0.0, 1.0, 240)).max() < 1.95 / np.sqrt(240)


def test_who_acts_has_learned_all_that_was_due(tmp_path):
    population = make(tmp_path)
    population.advance(30)
    rows = transitions(population)
    acted = np.round(1000 * rows.actions[2:, :, 0]).astype(int)  # after the warm-up
    due = [[population.strategy.schedule.updates_by(step)] * N for step in range(6, 30, N)]
    np.testing.assert_array_equal(acted, due)
    assert float(population.states["updates"][0]) == 24
    random = rows.actions[:2].ravel()
    assert len(np.unique(random)) == 2 * N  # each environment has its own at every step
    assert np.abs(random).max() > 0.1


def test_updates_come_every_few_steps_or_several_at_a_time(tmp_path):
    slow = make(tmp_path / "slow", updates_per_step=0.25)
    slow.advance(30)
    assert float(slow.states["updates"][0]) == 6
    fast = make(tmp_path / "fast", updates_per_step=2.0)
    fast.advance(30)
    assert float(fast.states["updates"][0]) == 48


def test_numbers_beyond_those_of_floats(tmp_path):
    """Updates that are due are counted exactly, where float32 has no odd numbers any more."""
    population = make(tmp_path)
    start = 2**24 + 3
    updates = next(population.strategy.pieces(population.groups[0], start, start + 4 * N)).data
    np.testing.assert_array_equal(updates[:5], start - 6 + N * np.arange(5))


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True])
def test_the_ring_is_written_in_place(tmp_path, together):
    """The program needs no room for another one."""
    population = make(tmp_path, THREE[:2], together=together, buffer_size=1_000_000)
    population.compile()
    needed = population._programs[population.groups[0].split].memory_analysis().temp_size_in_bytes
    assert needed < replay.num_bytes(1_000_000, 2, 1) / 10


def test_results_do_not_depend_on_calls(tmp_path, monkeypatch):
    ends = []
    for number, stops in enumerate(((90,), (3, 15, 18, 90), (90,))):
        if number == 2:
            monkeypatch.setattr(compiled, "TIMES_PER_CALL", 4)
        population = make(tmp_path / str(number), THREE)
        for stop in stops:
            metrics = population.advance(stop) | population.interval_means()
        ends.append((ends_of(population), metrics))
    same(ends[0], ends[1])
    same(ends[0], ends[2])


@pytest.mark.parametrize(
    ("together", "buffer_size"),
    [
        (False, 20),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(True, 20), (False, 256), (True, 256)]),
    ],
)
def test_a_resumed_run_is_the_unbroken_one(tmp_path, together, buffer_size):
    """The stop is in the midst of episodes, and before the first has ended."""
    unbroken = make(tmp_path / "unbroken", THREE, together=together, buffer_size=buffer_size)
    expected = unbroken.advance(90) | unbroken.interval_means()
    population = make(tmp_path / "broken", THREE, together=together, buffer_size=buffer_size)
    population.advance(15)
    saved = save(population)
    population.advance(45)
    saved = save(population)
    population.advance(60)  # and is killed
    resumed = make(tmp_path / "broken", THREE, together=together, buffer_size=buffer_size)
    shapes = resumed.saved_shapes()
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), saved[0]
    )
    resumed.resume(*saved)
    assert resumed.step == 45
    found = resumed.advance(90) | resumed.interval_means()
    same((ends_of(resumed), found), (ends_of(unbroken), expected))


@pytest.mark.slow
def test_members_together_are_what_they_are_in_turns(tmp_path):
    ends = []
    for together in (False, True):
        population = make(tmp_path / str(together), THREE, together=together)
        metrics = population.advance(90) | population.interval_means()
        ends.append((population.states, transitions(population, 1), metrics))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *ends)
    states, _, metrics = ends[0]
    assert float(states["seen"][2]) != float(states["seen"][0])
    assert len(np.unique(metrics["loss"])) == 2  # of two seeds
    lone = make(tmp_path / "lone", (THREE[1],))
    lone.advance(90)
    same(transitions(lone), ends[0][1])


@pytest.mark.parametrize("together", slow_but([False, True], False))
def test_means_over_an_interval_are_those_of_its_updates(tmp_path, together):
    """With an update each time that all act, the last metrics of each time are all there are."""
    population = make(tmp_path, THREE[:2], together=together, updates_per_step=1 / N)
    population.advance(30)
    population.begin_interval()
    assert np.isnan(population.interval_means()["loss_mean"]).all()
    lasts = [np.asarray(population.advance(stop)["loss"]) for stop in range(30 + N, 61, N)]
    assert len(np.unique(lasts)) > 10
    np.testing.assert_allclose(population.interval_means()["loss_mean"], np.mean(lasts, 0), rtol=1e-5)


def test_return_and_length_of_the_episodes_that_ended_last(tmp_path):
    population = make(tmp_path)
    metrics = population.advance(57)
    assert np.isnan(metrics["episode/return"]).all()
    metrics = population.advance(75)
    rows = transitions(population)
    np.testing.assert_allclose(metrics["episode/return"], rows.rewards[:20].sum(0).mean(), rtol=1e-5)
    np.testing.assert_array_equal(metrics["episode/length"], 20.0)


@pytest.mark.slow
def test_a_member_that_diverges_stays_where_it_was(tmp_path):
    for together in (False, True):
        members = (Member(0, {}), Member(0, {"breaks_at": 11.0}))
        population = make(tmp_path / str(together), members, together=together)
        population.advance(60)
        # Updates 10 to 12 are those of steps 15 to 17.
        assert population.diverged == {1: Divergence(18, "loss")}
        assert population.states["updates"].tolist() == [54.0, 9.0]
        rows = transitions(population, 1)
        np.testing.assert_allclose(rows.actions[6:], 0.009)
        assert all(np.isfinite(field).all() for field in rows)
        other = make(tmp_path / str(together), members, together=together)
        other.resume(*save(population))
        assert other.diverged == population.diverged


def test_one_update_that_is_not_finite_is_enough(tmp_path):
    population = make(tmp_path, learner=Flickering(breaks_at=11.0))
    population.advance(60)
    assert population.diverged == {0: Divergence(18, "loss")}


def test_actions_that_are_not_finite(tmp_path):
    population = make(tmp_path, learner=BadActor())
    population.advance(60)
    assert population.diverged == {0: Divergence(18, "actions")}
    assert float(population.states["updates"][0]) == 12
    assert all(np.isfinite(field).all() for field in transitions(population))


def test_simulations_that_fail_are_counted_and_told(tmp_path, caplog):
    population = make(tmp_path, environment=Breaking)
    with caplog.at_level(logging.WARNING):
        population.advance(36)
    assert population.strategy.failures == 2 * N
    assert "6 episode(s) so far ended because their simulation gave numbers" in caplog.text
    assert all(np.isfinite(field).all() for field in transitions(population))


def test_keys_are_never_shared():
    keys = [key for seed in (0, 1) for key in member_keys(Member(seed, {}))]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 8


def small(learner):
    names = hyperparameters(learner)
    rates = {name: 1e-3 for name in names if name.endswith("_lr")}
    return with_hyperparameters(
        learner, {name: (32, 32) for name in names if name.endswith("_hidden_dims")} | rates
    )


def best_returns(starts, limit):
    """The most that an episode of `PointMass` can pay from rest at each start: by linear programming."""
    from scipy.optimize import linprog

    # Actions u and distances d: position t is the start plus the sum over s <= t of PUSH * w[t - s] * u[s].
    weights = PUSH * (1.0 - FRICTION ** np.arange(1, limit + 1)) / (1.0 - FRICTION)
    reach = np.array([[weights[t - s] if s <= t else 0.0 for s in range(limit)] for t in range(limit)])
    eye = np.eye(limit)
    cost = np.r_[np.zeros(limit), np.ones(limit)]
    bounds = [(-1.0, 1.0)] * limit + [(0.0, None)] * limit
    sides = np.block([[reach, -eye], [-reach, -eye]])
    return [
        limit - linprog(cost, sides, np.r_[[-start] * limit, [start] * limit], bounds=bounds).fun
        for start in starts
    ]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["xsac", "sac"])
def test_learning_comes_near_the_optimum(tmp_path, algorithm):
    learner = with_hyperparameters(small(make_learner(algorithm)), {"discount": 0.95})
    schedule = {"num_environments": 8, "round_steps": 8, "buffer_size": 20_000, "batch_size": 64}
    population = make(tmp_path, (Member(0, {}), Member(1, {})), learner=learner, warmup_steps=400, **schedule)
    population.advance(8_000)
    states, observations = jax.vmap(PointMass().reset)(jax.random.split(jax.random.key(99), 20))
    act, returns = population.policy(), np.zeros((2, 20))
    for member in range(2):
        state, seen = states, observations
        for _ in range(PointMass.episode_limit):
            actions = act(np.broadcast_to(seen, (2, *seen.shape)))[member]
            state, given = jax.vmap(PointMass().step)(state, jnp.clip(actions, -1.0, 1.0))
            seen, returns[member] = given.observation, returns[member] + np.asarray(given.reward)
    best = np.mean(best_returns(np.asarray(observations)[:, 0], PointMass.episode_limit))
    nothing = np.mean(PointMass.episode_limit * (1.0 - np.abs(np.asarray(observations)[:, 0])))
    share = (returns.mean(1) - nothing) / (best - nothing)  # of what is to be gained over standing still
    assert (share > 0.9).all(), share
    assert (share <= 1.0 + 1e-4).all(), share
