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
from xql_jax.workshop.tools import policy_values
from xql_jax.workshop.tools.choose import ChoiceSettings
from xql_jax.workshop.tools.policy_values import (
    ALL,
    CRITICS,
    FAR,
    NEAR,
    Evaluated,
    errors_of,
    evaluated,
    is_near,
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
    within = changes.get("within")
    evaluation = with_values(FittedQEvaluation(table, within=within), settings)
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
    error = errors_of(found.values)[0] * found.scale
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
    return told_apart(ordered, found, lambda one: [one["index"]])


def test_a_better_policy_is_told_and_noise_is_not():
    tables = [[[-0.5]], [[0.5]]]
    better = ranked(values_of(bandit(0.1, 1.0), tables, 0.9, steps=1_500))
    assert (better[0]["index"], better[1]["told_apart"]) == (1, True)
    assert "policy 1 is best" in verdict(better, "member")
    equal = ranked(values_of(bandit(3.0, 0.0), tables, 0.9, steps=1_500))
    assert not equal[1]["told_apart"]
    assert verdict(equal, "member").startswith("fitted-Q evaluation cannot tell which is best")


def test_a_policy_is_judged_as_it_acts_within_the_data_s_range():
    """A policy that would act by 3, but carries out 0.2, has the values of 0.2, bit for bit."""
    data = bandit(0.1, 1.0, spread=0.2)
    within = np.float32([[-0.2], [0.2]])
    clipped, plain = (
        values_of(data, [[[action]]], 0.9, steps=200, within=bounds)
        for action, bounds in ((3.0, within), (0.2, None))
    )
    np.testing.assert_array_equal(clipped.values, plain.values)
    assert values_of(data, [[[3.0]]], 0.9, steps=200).values[1, 0, ALL] != plain.values[1, 0, ALL]


def of_critics(near, far, now, earlier=None):
    """Numbers f64[2, 1, CRITICS] of one policy."""
    values = np.zeros((2, 1, CRITICS))
    values[0, 0, ALL] = now if earlier is None else earlier
    values[1, 0, [ALL, NEAR, FAR]] = now, near, far
    return values


def test_the_error_of_a_mean_is_its_standard_error():
    """The standard error of n numbers of variance 4 is 2 / sqrt(n)."""
    draws = 2.0 * np.random.default_rng(0).normal(size=(4_000, 50))
    errors = [errors_of(of_critics(row[:25].mean(), row[25:].mean(), row.mean()))[0] for row in draws]
    assert np.mean(np.square(errors)) == pytest.approx(4.0 / 50, rel=0.05)


def test_errors_by_hand():
    """The square of a mean: 4, of halves 1 and 9. The sample's part is 4, its bias 1, and it moved by 2."""
    first = of_critics(1.0, 9.0, 4.0, earlier=2.0)
    assert errors_of(first) == pytest.approx(np.sqrt(16 + 1 + 4))
    agreeing, diverged = of_critics(3.0, 3.0, 3.0), of_critics(3.0, np.nan, 3.0)
    found = errors_of(np.concatenate([first, agreeing, diverged], 1))
    np.testing.assert_allclose(found, [np.sqrt(21), np.sqrt(21 / 2), np.inf])  # not 0: the mean of 21 and 0


def test_what_the_first_is_told_from_by_hand():
    """Each policy has an error of 1, a difference one of sqrt 2; seeds and initial states add theirs."""
    now = np.array([10.0, 7.5, 7.0, 1.0, 9.0])
    values = np.concatenate([of_critics(value - 1, value + 1, value) for value in now], 1)

    def told(*groups, spread=0.0):
        entries = [{"index": group, "member": str(group), "fqe_value": 0.0} for group in groups]
        found = Evaluated([], values, now[:, None] + np.zeros((5, 2)) + spread, 1.0)
        marked = told_apart(entries, found, lambda one: one["index"], unit=5.0)
        return [one["told_apart"] for one in marked], marked[0]["fqe_uncertainty"]

    assert told([0], [1], [2]) == ([False, False, True], 5.0)  # 2.5 and 3, of twice 1.41; an error of 1 in 5
    assert told([0], [3, 4])[0] == [False, False]  # 5; the mean of 1 and 9 has an error of 4
    common = np.tile([-3.0, 3.0], (5, 1))  # initial states that differ alike for all
    of_means = np.sqrt(1 + 18 / 2)  # the variance of -3 and 3 is 18
    assert told([0], [2], spread=common) == ([False, True], pytest.approx(5 * of_means))
    own = common * np.array([[1.0], [1.0], [-1.0], [1.0], [1.0]])
    assert told([0], [2], spread=own)[0] == [False, False]


def test_half_of_the_rows_are_near_to_the_policy_s_action():
    actions = np.float32([[-0.9], [0.1], [0.4], [0.6], [0.9], [-0.2]])
    rows = np.ones((6, 1), np.float32)
    dataset = Dataset(Batch(rows, actions, rows[:, 0], rows[:, 0], rows), np.ones(6, bool), "six rows")
    near = is_near(Table(), jnp.float32([[0.5]]), dataset)  # distances 1.4, 0.4, 0.1, 0.1, 0.4, 0.7
    assert near[[2, 3]].all()
    assert not near[[0, 5]].any()


def test_each_critic_learns_from_its_own_rows():
    """The reward is 1 where actions are near to the policy's, else -1; so are the halves' values."""
    generator = np.random.default_rng(0)
    actions = generator.uniform(-1, 1, (1_000, 1)).astype(np.float32)
    ones = np.ones((1_000, 1), np.float32)
    near = np.abs(actions[:, 0] - 0.2) < np.median(np.abs(actions[:, 0] - 0.2))
    batch = Batch(
        ones, np.zeros_like(actions), np.where(near, 1.0, -1.0).astype(np.float32), 0 * ones[:, 0], ones
    )
    dataset = Dataset(batch, np.ones(1_000, bool), "halves")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_values, "is_near", lambda *given: near)  # Q itself does not see the actions
        found = values_of(dataset, [[[0.0]]], 0.9, steps=1_000)
    values = found.values[1, 0] * found.scale
    np.testing.assert_allclose(values[[ALL, NEAR, FAR]], [near.mean() * 2 - 1, 1.0, -1.0], atol=0.05)


def test_the_unit_of_values_by_hand():
    """Returns of an episode of two rewards of 3 at a discount of 0.5: 4.5 and 3; zeros have no unit."""
    zeros = np.zeros((2, 1), np.float32)
    batch = Batch(zeros, zeros, np.full(2, 3.0, np.float32), np.ones(2, np.float32), zeros)
    dataset = Dataset(batch, np.array([False, True]), "two rows")
    assert unit_of_values(dataset, 0.5) == pytest.approx(np.sqrt((4.5**2 + 3**2) / 2))
    assert np.isfinite(unit_of_values(dataset, 1.0))
    still = Dataset(batch._replace(rewards=zeros[:, 0]), dataset.ends, "zeros")
    assert unit_of_values(still, 0.5) == 1.0
