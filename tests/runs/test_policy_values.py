"""Values of policies and their errors: exact values of tables, errors of means, equal and other policies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_cases import slow_but

from xql_jax.data.dataset import Dataset
from xql_jax.learners.fitted_q_evaluation import FittedQEvaluation
from xql_jax.learners.method import Part
from xql_jax.settings import with_values
from xql_jax.types import Batch
from xql_jax.workshop.tools.choose import ChoiceSettings
from xql_jax.workshop.tools.policy_values import (
    ALL,
    CRITICS,
    HALF,
    OTHER,
    error_of,
    evaluated,
    halved,
    moving,
    steps_needed,
    told_apart,
    unit_of_values,
    verdict,
)

DEFAULTS = ChoiceSettings(checkpoint="none")


class Table(Part):
    """Acts by a row of its table for each one-hot observation."""

    def init(self, key, observations, actions):
        return jnp.zeros((observations.shape[-1], actions.shape[-1]))

    def actor(self, state):
        return state

    def act(self, actor, observations, key, deterministic):
        return observations @ actor


def values_of(dataset, tables, discount, **changes):
    """`Evaluated` by the default settings of xql-choose; these tables are the policies."""
    settings = {
        "discount": discount, "critic_hidden_dims": DEFAULTS.hidden_dims, "tau": DEFAULTS.tau,
        "critic_layer_norm": DEFAULTS.critic_layer_norm, "critic_lr": DEFAULTS.critic_lr,
    }  # fmt: skip
    table = jax.tree.map(jnp.asarray, Table())
    evaluation = with_values(FittedQEvaluation(table), settings)
    steps = changes.get("steps") or steps_needed(DEFAULTS.tau, discount)
    policies = [(table, jnp.asarray(one, jnp.float32)) for one in tables]
    return evaluated(evaluation, policies, dataset, steps, DEFAULTS.batch_size, 0, False)


def solved(transition, rewards, policy, alive, discount):
    """V of a policy i64[S], by P[S, A, S] and R[S, A]; no value follows states that are not alive."""
    states = np.arange(len(rewards))
    after = transition[states, policy] * alive
    return np.linalg.solve(np.eye(len(states)) - discount * after, rewards[states, policy])


STATES, ACTIONS = 10, 3


def mixing(generator):
    """Any state follows any: a constant is the slowest part of an error."""
    return generator.dirichlet(np.full(STATES, 0.2), (STATES, ACTIONS)), generator.uniform(0, 1, (STATES, 3))


def two_rooms(generator):
    """No way leads from one to the other, and their rewards differ: an error has two slow parts."""
    half, transition = STATES // 2, np.zeros((STATES, ACTIONS, STATES))
    for room in (slice(0, half), slice(half, STATES)):
        transition[room, :, room] = generator.dirichlet(np.full(half, 0.3), (half, ACTIONS))
    rewards = generator.uniform(0, 0.2, (STATES, ACTIONS))
    rewards[half:] += 0.8
    return transition, rewards


def chain(generator):
    """Left, right or stay; the reward is 1 where the last state is entered, in which an episode ends."""
    transition, rewards = np.zeros((STATES, ACTIONS, STATES)), np.zeros((STATES, ACTIONS))
    for state in range(STATES):
        for action, step in enumerate((-1, 1, 0)):
            transition[state, action, np.clip(state + step, 0, STATES - 1)] = 1.0
    rewards[STATES - 2, 1] = 1.0
    return transition, rewards


@pytest.mark.parametrize("make", slow_but([mixing, two_rooms, chain], mixing))
def test_values_are_the_exact_ones_within_2_percent_by_default(make):
    """Rewards and all are multiplied by 50: no default depends on their unit."""
    generator, discount = np.random.default_rng(0), 0.99
    transition, rewards = make(generator)
    rewards, alive = 50.0 * rewards, np.ones(STATES)
    policy = generator.integers(0, ACTIONS, STATES)
    if make is chain:
        alive[-1], policy[:] = 0.0, 1
    states = generator.integers(0, STATES - (make is chain), 6_000)
    actions = generator.integers(0, ACTIONS, 6_000)
    after = np.array(
        [generator.choice(STATES, p=transition[s, a]) for s, a in zip(states, actions, strict=True)]
    )
    counts = np.zeros(transition.shape)
    np.add.at(counts, (states, actions, after), 1.0)  # the MDP of the data
    v = solved(counts / np.maximum(counts.sum(-1, keepdims=True), 1.0), rewards, policy, alive, discount)
    rows = np.eye(STATES)[states], np.eye(ACTIONS)[actions], rewards[states, actions], alive[after]
    batch = Batch(*(np.asarray(each, np.float32) for each in (*rows, np.eye(STATES)[after])))
    dataset = Dataset(batch, np.ones(6_000, bool), "a table", begins=np.ones(6_000, bool))
    found = values_of(dataset, [np.eye(ACTIONS)[policy]], discount)
    value = found.values[1, 0, ALL] * found.scale
    assert value == pytest.approx(v[states].mean(), rel=0.02)
    assert not moving(found.values).any()
    error = error_of(found.values[:, 0]) * found.scale
    assert abs(value - v[states].mean()) < 3 * error + 0.02 * value


def bandit(noise, slope, size=400, spread=1.0):
    """One state, rewards slope * a + noise; every step is an episode."""
    generator = np.random.default_rng(1)
    actions = generator.uniform(-spread, spread, (size, 1)).astype(np.float32)
    ones = np.ones((size, 1), np.float32)
    rewards = (slope * actions[:, 0] + noise * generator.normal(size=size)).astype(np.float32)
    batch = Batch(ones, actions, rewards, np.zeros(size, np.float32), ones)
    return Dataset(batch, np.ones(size, bool), "a bandit")


def ranked(found):
    entries = [
        {"index": index, "member": f"policy {index}", "fqe_value": value}
        for index, value in enumerate(found.values[1, :, ALL].tolist())
    ]
    ordered = sorted(entries, key=lambda one: -one["fqe_value"])
    return told_apart(ordered, found.values, lambda one: [one["index"]])


def test_a_better_policy_is_told_and_noise_is_not():
    tables = [[[-0.5]], [[0.5]]]
    better = ranked(values_of(bandit(0.1, 1.0), tables, 0.9, steps=1_500))
    assert (better[0]["index"], better[1]["told_apart"]) == (1, True)
    assert "policy 1 is best" in verdict(better, "member")
    equal = ranked(values_of(bandit(3.0, 0.0), tables, 0.9, steps=1_500))
    assert not equal[1]["told_apart"]
    assert verdict(equal, "member").startswith("fitted-Q evaluation cannot tell which is best")


def test_the_error_of_a_mean_is_its_standard_error():
    """Of n numbers of variance 4 it is 2 / sqrt(n), whether two or all of the draws are compared."""
    draws = 2.0 * np.random.default_rng(0).normal(size=(4_000, 50))
    errors = []
    for row in draws:
        values = np.zeros((2, CRITICS))
        values[:, [ALL, HALF, OTHER]] = row.mean(), row[:25].mean(), row[25:].mean()
        errors.append(error_of(values))
    assert np.mean(np.square(errors)) == pytest.approx(4.0 / 50, rel=0.05)


def test_an_error_by_hand():
    """The square of a mean: 4, of halves 1 and 9. The sample's part is 4, its bias 1, and it moved by 2."""
    assert error_of(np.array([[2.0, 0.0, 0.0], [4.0, 1.0, 9.0]])) == pytest.approx(np.sqrt(16 + 1 + 4))
    assert error_of(np.array([[2.0, 0.0, 0.0], [4.0, 1.0, np.nan]])) == np.inf


def test_what_the_first_is_told_from_by_hand():
    """Errors of the differences from 10: 1, 1 and 0, which counts as their mean, 0.816; seeds have more."""
    values = np.zeros((2, 6, CRITICS))
    for index, (value, sample) in enumerate(
        [(10.0, 0.0), (8.5, 1.0), (7.5, 1.0), (8.4, 0.0), (1, 0), (9, 0)]
    ):
        values[:, index] = value, value + sample, value - sample

    def told(*groups):
        entries = [{"index": group, "member": str(group), "fqe_value": 0.0} for group in groups]
        return [one["told_apart"] for one in told_apart(entries, values, lambda one: one["index"])]

    assert told([0], [1], [2]) == [False, False, True]  # 1.5 and 2.5, of an error of 1
    assert told([0], [1], [2], [3]) == [False, False, True, False]  # 1.6, of twice 0.816
    assert told([0], [3]) == [False, True]
    assert told([0], [4, 5]) == [False, False]  # 5; the mean of 1 and 9 has an error of 4


def test_halves_are_of_whole_episodes_and_each_row_is_in_one():
    lengths, size = [3, 50, 7, 30, 10], 100
    starts = np.cumsum([0, *lengths[:-1]])
    begins = np.isin(np.arange(size), starts)
    numbers = np.arange(size, dtype=np.float32)
    batch = Batch(numbers[:, None], numbers[:, None], numbers, numbers, numbers[:, None])
    dataset = Dataset(batch, np.append(begins[1:], True), "numbered", begins=begins)
    for seed in range(5):
        rows, half = halved(dataset, seed)
        assert sorted(rows.batch.rewards) == numbers.tolist()
        assert rows.begins[0]
        assert rows.begins[half]
        stops = np.flatnonzero(rows.begins)[1:]
        assert abs(half - 50) == np.abs(stops - 50).min()
    rows, half = halved(dataset.part(slice(3, 53)), 0)  # one episode
    assert half == 25


def test_the_unit_of_values_by_hand():
    """Returns of an episode of two rewards of 3 at a discount of 0.5: 4.5 and 3; zeros have no unit."""
    zeros = np.zeros((2, 1), np.float32)
    batch = Batch(zeros, zeros, np.full(2, 3.0, np.float32), np.ones(2, np.float32), zeros)
    dataset = Dataset(batch, np.array([False, True]), "two rows")
    assert unit_of_values(dataset, 0.5) == pytest.approx(np.sqrt((4.5**2 + 3**2) / 2))
    assert np.isfinite(unit_of_values(dataset, 1.0))
    still = Dataset(batch._replace(rewards=zeros[:, 0]), dataset.ends, "zeros")
    assert unit_of_values(still, 0.5) == 1.0
