"""TD3 and X-TD3: updates against a float64 NumPy account with linear networks; the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import act, flat, init, make_batch, update
from online_runs import make

from xql_jax.learners.td3 import TD3
from xql_jax.learners.xtd3 import XTD3
from xql_jax.losses.gumbel import clip_both, gumbel_rescaled_loss

SIZE = 16
SETTINGS = {
    "hidden_dims": (), "target_noise": 0.0, "discount": 0.8, "tau": 0.3, "actor_lr": 0.02, "critic_lr": 0.03,
}  # fmt: skip


class Weights:
    """A linear map's weights, stacked with its bias, and Adam's moments."""

    def __init__(self, params):
        layer = params["params"]["Dense_0"]
        self.value = np.vstack([layer["kernel"], layer["bias"]]).astype(np.float64)
        self.first, self.second, self.steps = 0.0, 0.0, 0

    def step(self, slope, rate):
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope**2
        first, second = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.999**self.steps)
        self.value = self.value - rate * first / (np.sqrt(second) + 1e-8)


def features(*arrays):
    """The arrays side by side, and a column of ones for the bias."""
    return np.hstack([*(np.float64(array) for array in arrays), np.ones((SIZE, 1))])


class Reference:
    """Q, and when it is due pi and the targets, in NumPy; gradients by hand."""

    def __init__(self, state, slope, actor_period, target_period):
        self.actor, self.critics = Weights(state.actor.params), [Weights(p) for p in state.critic.params]
        self.target_actor = Weights(state.target_actor).value
        self.targets = [Weights(params).value for params in state.target_critic]
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


def gumbel_slope(beta, clip):
    """d loss / d Q of the max-rescaled loss with the paper's clip."""

    def slope(difference):
        z = difference / beta
        m = max(np.clip(z, -clip, clip).max(), -1.0)
        return np.where(np.abs(z) < clip, -np.exp(-m) * np.expm1(z) / beta, 0.0)

    return slope


def squared_slope(difference):
    return -2 * difference


CASES = {
    "TD3": (TD3, {}, squared_slope),
    "TD3 - DQ": (TD3, {"num_critics": 1}, squared_slope),
    "other periods": (TD3, {"actor_period": 3, "target_period": 1}, squared_slope),
    "X-TD3": (XTD3, {"beta": 0.7, "clip": 3.0}, gumbel_slope(0.7, 3.0)),
    "X-TD3 - DQ": (XTD3, {"beta": 4.0, "num_critics": 1}, gumbel_slope(4.0, 8.0)),
}


@pytest.mark.parametrize("case", CASES)
def test_five_updates(case):
    """Eq. 41 and 42 with Table 6's beta as the scale of Eq. 42 for X-TD3, squared errors for TD3."""
    learner_class, changes, slope = CASES[case]
    learner = make(learner_class, **SETTINGS | changes)
    batches = [make_batch(seed) for seed in range(5)]
    state = init(learner, batches[0])
    # Targets of their own, so that a target taken for its network shows.
    state = state.replace(
        target_actor=jax.tree.map(lambda leaf: leaf - 0.2, state.target_actor),
        target_critic=jax.tree.map(lambda leaf: leaf + 0.1, state.target_critic),
    )
    reference = Reference(state, slope, learner.actor_period, learner.target_period)
    for step, batch in enumerate(batches, start=1):
        state, _ = update(learner, state, batch, jax.random.key(step))
        reference.update(step, batch)
        learnt = [state.actor.params, *state.critic.params, state.target_actor, *state.target_critic]
        expected = [reference.actor.value, *(critic.value for critic in reference.critics)]
        expected += [reference.target_actor, *reference.targets]
        for params, weights in zip(learnt, expected, strict=True):
            layer = params["params"]["Dense_0"]
            np.testing.assert_allclose(layer["kernel"], weights[:-1], atol=2e-4)
            np.testing.assert_allclose(layer["bias"], weights[-1], atol=2e-4)
    assert int(state.step) == 5


def test_noise_of_the_target_action():
    learner = make(TD3)
    observations, key = jnp.zeros((20_000, 3)), jax.random.key(0)
    params = init(learner, make_batch()).target_actor  # biases are 0: in the zero state the action is 0
    noise = np.asarray(learner.target_actions(params, observations, key))
    inside = noise[np.abs(noise) < 0.499]
    np.testing.assert_allclose([inside.mean(), inside.std()], [0.0, 0.19], atol=0.01)  # 0.2 cut at 2.5 of it
    np.testing.assert_allclose(np.abs(noise).max(), 0.5, rtol=1e-6)
    np.testing.assert_allclose(np.mean(np.abs(noise) > 0.499), 0.0124, atol=0.002)  # P(|normal| > 2.5)

    wide = learner.replace(target_noise=jnp.float32(100.0), target_noise_clip=jnp.float32(5.0))
    actions = np.asarray(wide.target_actions(params, observations, key))
    assert (actions.min(), actions.max()) == (-1.0, 1.0)


def test_the_target_noise_reaches_q():
    learner, batch = make(TD3), make_batch()
    state = init(learner, batch)
    means = [
        flat(
            update(learner.replace(target_noise=jnp.float32(noise)), state, batch, jax.random.key(key))[
                0
            ].critic
        )
        for noise, key in ((0.2, 0), (0.2, 1), (0.0, 0), (0.0, 1))
    ]
    assert np.abs(means[0] - means[1]).max() > 1e-6
    np.testing.assert_array_equal(means[2], means[3])


def test_actions():
    learner, key = make(TD3), jax.random.key(0)
    state = init(learner, make_batch())
    observations = jnp.tile(jnp.array([[0.5, -1.0, 2.0]]), (20_000, 1))
    means = np.asarray(act(learner, state, observations, key, deterministic=True))
    np.testing.assert_array_equal(means, learner.policy(2).apply(state.actor.params, observations))
    noise = np.asarray(act(learner, state, observations, key, deterministic=False)) - means
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.005)
    np.testing.assert_allclose(noise.std(axis=0), 0.1, rtol=0.03)
    loud = learner.replace(exploration_noise=jnp.float32(10.0))
    actions = np.asarray(act(loud, state, observations, key, deterministic=False))
    assert (actions.min(), actions.max()) == (-1.0, 1.0)


def test_table_5_and_the_papers_loss_and_clip_are_the_defaults():
    learner = XTD3()
    assert (learner.actor_lr, learner.critic_lr, learner.hidden_dims) == (1e-3, 1e-3, (256, 256))
    assert (learner.actor_period, learner.target_period, learner.num_critics) == (2, 2, 2)
    assert (learner.target_noise, learner.target_noise_clip, learner.exploration_noise) == (0.2, 0.5, 0.1)
    assert (learner.clip, learner.loss, learner.clip_rule) == (8.0, gumbel_rescaled_loss, clip_both)
    assert (learner.tau, learner.discount) == (0.005, 0.99)
