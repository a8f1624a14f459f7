"""TD3, X-TD3, TD3+BC and ReBRAC: updates against NumPy accounts with linear networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import act, flat, init, make, make_batch, update
from linear_runs import Adam, features, gumbel_slope, one_update, stacked, transition

from xql_jax.learners.fields import with_hyperparameters
from xql_jax.networks.policies import DeterministicPolicy, td3_init

SIZE = 16
SETTINGS = {
    "hidden_dims": (), "target_noise": 0.0, "discount": 0.8, "tau": 0.3, "actor_lr": 0.02, "critic_lr": 0.03,
}  # fmt: skip


class Reference:
    """Q, and when it is due pi and the targets, in NumPy; gradients by hand."""

    def __init__(self, state, slope, actor_period, target_period):
        self.actor, *self.critics = (Adam(stacked(p)) for p in (state.policy.params, *state.critic.params))
        self.target_actor, *self.targets = map(stacked, (state.policy.target, *state.critic.target))
        self.slope, self.actor_period, self.target_period = slope, actor_period, target_period

    def update(self, step, batch):
        after = features(
            batch.next_observations, np.tanh(features(batch.next_observations) @ self.target_actor)
        )
        next_q = np.min([after @ target for target in self.targets], axis=0)[:, 0]
        targets = batch.rewards + SETTINGS["discount"] * batch.masks * next_q
        pairs = features(batch.observations, batch.actions)
        for critic in self.critics:
            slope = self.slope(targets - (pairs @ critic.value)[:, 0])
            critic.step(pairs.T @ slope[:, None] / SIZE, SETTINGS["critic_lr"])
        if step % self.actor_period == 0:
            s = features(batch.observations)
            actions = np.tanh(s @ self.actor.value)
            by_action = self.critics[0].value[3:5].T  # observations have 3 components, actions 2
            self.actor.step(-s.T @ (by_action * (1 - actions**2)) / SIZE, SETTINGS["actor_lr"])
        if step % self.target_period == 0:
            tau = SETTINGS["tau"]
            self.target_actor = tau * self.actor.value + (1 - tau) * self.target_actor
            pairs_of_weights = zip(self.critics, self.targets, strict=True)
            self.targets = [tau * critic.value + (1 - tau) * target for critic, target in pairs_of_weights]


def squared_slope(difference):
    return -2 * difference


CASES = {
    "TD3": ("td3", {}, squared_slope),
    "TD3 - DQ": ("td3", {"num_critics": 1}, squared_slope),
    "other periods": ("td3", {"actor_period": 3, "target_period": 1}, squared_slope),
    "X-TD3": ("xtd3", {"beta": 0.7, "clip": 3.0}, gumbel_slope(0.7, 3.0)),
    "X-TD3 - DQ": ("xtd3", {"beta": 4.0, "num_critics": 1}, gumbel_slope(4.0, 8.0)),
}


@pytest.mark.parametrize("case", CASES)
def test_five_updates(case):
    """Eq. 41 and 42 with Table 6's beta as the scale of Eq. 42 for X-TD3, squared errors for TD3."""
    name, changes, slope = CASES[case]
    learner = make(name, **SETTINGS | changes)
    batches = [make_batch(seed) for seed in range(5)]
    state = init(learner, batches[0])
    # Targets of their own, so that a target taken for its network shows.
    target_actor = jax.tree.map(lambda leaf: leaf - 0.2, state.policy.target)
    target_critic = jax.tree.map(lambda leaf: leaf + 0.1, state.critic.target)
    state = state.replace(
        policy=state.policy.replace(target=target_actor), critic=state.critic.replace(target=target_critic)
    )
    reference = Reference(state, slope, learner.actor_period, learner.target_period)
    for step, batch in enumerate(batches, start=1):
        state, _ = update(learner, state, batch, jax.random.key(step))
        reference.update(step, batch)
        learnt = [state.policy.params, *state.critic.params, state.policy.target, *state.critic.target]
        expected = [reference.actor.value, *(critic.value for critic in reference.critics)]
        expected += [reference.target_actor, *reference.targets]
        for params, weights in zip(learnt, expected, strict=True):
            np.testing.assert_allclose(stacked(params), weights, atol=2e-4)
    assert int(state.step) == 5


def test_noise_of_the_target_action():
    learner = make("td3")
    observations, key = jnp.zeros((20_000, 3)), jax.random.key(0)
    policy = init(learner, make_batch()).policy  # biases are 0: in the zero state the action is 0
    noise = np.asarray(learner.target_actions(policy, observations, key))
    inside = noise[np.abs(noise) < 0.499]
    np.testing.assert_allclose([inside.mean(), inside.std()], [0.0, 0.19], atol=0.01)  # 0.2 cut at 2.5 of it
    np.testing.assert_allclose(np.abs(noise).max(), 0.5, rtol=1e-6)
    np.testing.assert_allclose(np.mean(np.abs(noise) > 0.499), 0.0124, atol=0.002)  # P(|normal| > 2.5)

    wide = with_hyperparameters(learner, {"target_noise": 100.0, "target_noise_clip": 5.0})
    actions = np.asarray(wide.target_actions(policy, observations, key))
    assert (actions.min(), actions.max()) == (-1.0, 1.0)


def test_actions():
    learner, key = make("td3"), jax.random.key(0)
    state = init(learner, make_batch())
    observations = jnp.tile(jnp.array([[0.5, -1.0, 2.0]]), (20_000, 1))
    means = np.asarray(act(learner, state, observations, key, deterministic=True))
    network = DeterministicPolicy(2, (8,))
    np.testing.assert_array_equal(means, network.apply(state.policy.params, observations))
    noise = np.asarray(act(learner, state, observations, key, deterministic=False)) - means
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.005)
    np.testing.assert_allclose(noise.std(axis=0), 0.1, rtol=0.03)
    loud = with_hyperparameters(learner, {"exploration_noise": 10.0})
    actions = np.asarray(act(loud, state, observations, key, deterministic=False))
    assert (actions.min(), actions.max()) == (-1.0, 1.0)


# Two states and actions of two components. Q_1 = s . (1, -4) + a . (2, 0) is 1 and -2.8 at the policy's.
EYE = np.eye(2)
POLICY = np.array([[0.0, 0.5], [0.6, -0.2]])
ACTIONS = np.array([[0.5, 0.5], [-1.0, 0.2]])
CRITICS = np.array([[1.0, -4.0], [50.0, 50.0]]), np.array([[2.0, 0.0], [0.0, -7.0]])
BATCH = transition(EYE, ACTIONS, np.zeros(2), EYE, ACTIONS, np.ones(2))

UNIFORM = {"kernel_init": td3_init}  # TD3+BC begins as the first TD3


def test_td3_bcs_actor_loss_by_hand():
    """lambda is 2.5 / ((1 + 2.8) / 2); the errors are -0.5, 0, 1.6, -0.4, of squares 2.97 in all."""
    slopes, _, metrics = one_update("td3_bc", BATCH, POLICY, CRITICS)
    weight = 2.5 / 1.9
    np.testing.assert_allclose(metrics["actor/loss"], -weight * (1.0 - 2.8) / 2 + 2.97 / 4, rtol=1e-5)
    by_action = -weight * np.array([2.0, 0.0]) / 2 + 2.0 * (POLICY - ACTIONS) / 4
    np.testing.assert_allclose(slopes, by_action * (1.0 - POLICY**2), rtol=1e-5)


def test_the_critic_is_td3s():
    batch = make_batch()
    learners = make("td3_bc"), make("td3", critic_lr=3e-4, **UNIFORM)
    first, second = (update(x, init(x, batch), batch, jax.random.key(0))[0].critic for x in learners)
    np.testing.assert_array_equal(flat(first), flat(second))


# One state, in which the policy does (0.5, 0), and two critics: Q_1 = 2 a_1 + 1, Q_2 = a_2 + 3.
ONE_POLICY = np.array([[0.5, 0.0]])
TWO_CRITICS = np.array([[1.0], [3.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])
# Their targets, at the policy's action: 2.5 and 2.
TARGETS = np.array([[2.0], [3.0]]), np.array([[1.0, 0.0], [-2.0, 0.0]])
# The data's next action is (-0.5, 0.5) away: at a coefficient of 0.3, 0.3 * (1 + 0.25) is taken off.
NEXT_ACTION = [[-0.5, 0.5]]
COEFFICIENTS = {"actor_bc_coef": 0.2, "critic_bc_coef": 0.3, "discount": 0.5}


def rebrac_updated(mask, **changes):
    batch = transition([[1.0]], [[0.25, -0.5]], [1.0], [[1.0]], NEXT_ACTION, [mask])
    return one_update("rebrac", batch, ONE_POLICY, TWO_CRITICS, TARGETS, **{**COEFFICIENTS, **changes})


@pytest.mark.parametrize(
    ("changes", "mask", "target"),
    [
        ({}, 1.0, 1.0 + 0.5 * (2.0 - 0.375)),
        ({"critic_bc_coef": 0.0}, 1.0, 1.0 + 0.5 * 2.0),
        ({}, 0.0, 1.0),  # after a terminal state nothing is penalised, whatever action stands there
    ],
)
def test_the_target_by_hand(changes, mask, target):
    """Q_1 of the data's action is 1.5 and Q_2 is 2.5; the loss is the sum of both squared errors."""
    _, slopes, metrics = rebrac_updated(mask, **changes)
    q = np.array([1.5, 2.5])
    np.testing.assert_allclose(metrics["critic/loss"], ((q - target) ** 2).sum(), rtol=1e-5)
    inputs = np.array([[1.0], [0.25], [-0.5]])
    np.testing.assert_allclose(slopes, [2.0 * (x - target) * inputs for x in q], rtol=1e-4)


@pytest.mark.parametrize("first", [0, 1])
def test_rebracs_actor_loss_by_hand(first):
    """The least Q, whichever critic's, is 2 at the policy's action, and its own unit; errors 0.25, 0.5."""
    order = [first, 1 - first]
    batch = transition([[1.0]], [[0.25, -0.5]], [1.0], [[1.0]], NEXT_ACTION, [1.0])
    critics = tuple(part[order] for part in TWO_CRITICS)
    slopes, _, metrics = one_update("rebrac", batch, ONE_POLICY, critics, **COEFFICIENTS)
    np.testing.assert_allclose(metrics["actor/loss"], 0.2 * (0.0625 + 0.25) - 1.0, rtol=1e-5)
    by_action = 0.2 * 2.0 * np.array([0.25, 0.5]) - np.array([2.0, 0.0]) / 2.0
    np.testing.assert_allclose(slopes, [by_action * (1.0 - ONE_POLICY[0] ** 2)], rtol=1e-5)
