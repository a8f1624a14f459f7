"""Algorithm 1: updates against a float64 NumPy account, weights by hand, smoothing, beta of xql_bellman."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import FROZEN, init, make, make_batch, update
from linear_runs import Adam, features, gumbel_slope, linear, run_updates, stacked

from xql_jax.learners.qql import W
from xql_jax.learners.xql import smoothed
from xql_jax.types import Batch

SIZE = 16


class Reference:
    """V, then pi, then Q, then the target, in NumPy; gradients by hand."""

    def __init__(self, config, state):
        self.config = config
        self.value, *self.critics = (Adam(stacked(p)) for p in (state.value.params, *state.critic.params))
        self.targets = [critic.value for critic in self.critics]
        self.actor = Adam(stacked(state.policy.params))
        self.log_std = Adam(state.policy.params["params"]["log_std"])

    def step(self, rate, *steps):
        """Steps of matrices along their slopes, which share one norm."""
        norm = np.sqrt(sum((slope**2).sum() for _, slope in steps))
        for matrix, slope in steps:
            matrix.step(slope * min(1.0, self.config["max_grad_norm"] / norm), self.config[rate])

    def update(self, batch, slope_of_value_loss):
        """One update; returns what the metrics are the means of."""
        config = self.config
        s, pair = features(batch.observations), features(batch.observations, batch.actions)
        q = np.min([pair @ target for target in self.targets], axis=0)[:, 0]

        for _ in range(config["v_updates"]):
            old_v = (s @ self.value.value)[:, 0]
            slope = slope_of_value_loss(q - old_v)
            self.step("value_lr", (self.value, s.T @ slope[:, None] / SIZE))
        v = (s @ self.value.value)[:, 0]

        weight = np.minimum(np.exp(config["awr_temperature"] * (q - v)), config["max_weight"])[:, None]
        mean, std = np.tanh(s @ self.actor.value), np.exp(self.log_std.value)
        error = (batch.actions - mean) / std
        by_mean, by_log_std = -weight * error / std * (1 - mean**2), -weight * (error**2 - 1)
        self.step("actor_lr", (self.actor, s.T @ by_mean / SIZE), (self.log_std, by_log_std.mean(0)))

        next_v = (features(batch.next_observations) @ self.value.value)[:, 0]
        target = batch.rewards + config["discount"] * batch.masks * next_v
        steps, errors = [], [(pair @ critic.value)[:, 0] - target for critic in self.critics]
        huber = config["critic_loss"] == "huber"  # these losses are added up, squared errors averaged
        for critic, error in zip(self.critics, errors, strict=True):
            slope = np.clip(error, -20, 20) if huber else 2 * error / len(self.critics)
            steps.append((critic, pair.T @ slope[:, None] / SIZE))
        self.step("critic_lr", *steps)
        tau, pairs = config["tau"], zip(self.critics, self.targets, strict=True)
        self.targets = [tau * critic.value + (1 - tau) * target for critic, target in pairs]
        found = {"value/v": old_v, "actor/advantage": q - v, "actor/weight": weight}
        return found if huber else found | {"critic/loss": np.square(errors)}


def slope_of(config):
    """The slope of V's loss, XQL's or IQL's, by targets - V."""
    if "beta" in config:
        return gumbel_slope(config["beta"], config["clip"])
    tail = config["expectile"]
    return lambda difference: -2 * np.where(difference > 0, tail, 1 - tail) * difference


COMMON = {
    "discount": 0.8, "tau": 0.3, "actor_lr": 0.01, "value_lr": 0.02, "critic_lr": 0.03, "num_critics": 2,
    "awr_temperature": 2.0, "max_weight": 3.0, "max_grad_norm": np.inf, "v_updates": 1, "critic_loss": "mse",
}  # fmt: skip
CASES = {
    "xql": ("xql", {"beta": 0.7, "clip": 3.0}, 1.0),
    "iql": ("iql", {"expectile": 0.8}, 1.0),
    "one critic, two V updates": ("xql", {"beta": 0.7, "clip": 3.0, "num_critics": 1, "v_updates": 2}, 1.0),
    "huber": ("iql", {"expectile": 0.8, "critic_loss": "huber"}, 30.0),
    "gradient norm": ("iql", {"expectile": 0.8, "max_grad_norm": 0.5, "num_critics": 3}, 3.0),
}


@pytest.mark.parametrize("case", CASES)
def test_three_updates(case):
    algorithm, changes, reward_scale = CASES[case]
    config = COMMON | changes
    learner = make(algorithm, (), **config)
    batches = [make_batch(seed) for seed in range(3)]
    batches = [batch._replace(rewards=reward_scale * batch.rewards) for batch in batches]
    state = init(learner, batches[0])
    reference = Reference(config, state)
    for batch in batches:
        state, metrics = update(learner, state, batch, jax.random.key(1))
        for name, values in reference.update(batch, slope_of(config)).items():
            np.testing.assert_allclose(metrics[name], values.mean(), rtol=1e-4, atol=1e-5, err_msg=name)

    assert state.step == 3
    learnt = [state.value.params, state.policy.params, *state.critic.params, *state.critic.target]
    expected = [x.value for x in (reference.value, reference.actor, *reference.critics)] + reference.targets
    for params, matrix in zip(learnt, expected, strict=True):
        np.testing.assert_allclose(stacked(params), matrix, atol=1e-5)
    log_std = state.policy.params["params"]["log_std"]
    np.testing.assert_allclose(log_std, reference.log_std.value, atol=1e-5)


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_beta_follows_the_bellman_errors_themselves(loss):
    """Not the loss of Q: Huber's is half the squared error, and a sum over the critics."""
    settings = {"num_critics": 4, "critic_loss": loss, "beta_rate": 0.5, "errors_share": 2.0}
    learner, batch = make("xql_bellman", **settings), make_batch(size=SIZE)
    state = init(learner, batch)
    after, metrics = update(learner, state, batch, jax.random.key(0))
    targets = batch.rewards + learner.discount * batch.masks * after.value(batch.next_observations)
    errors = targets - state.critic.all_q(batch.observations, batch.actions)
    scale = 2.0 * np.sqrt(6.0) / np.pi * np.sqrt(np.mean(np.square(errors)))
    np.testing.assert_allclose(after.value.log_beta, 0.5 * np.log(scale), rtol=1e-5)  # it began at beta = 1
    assert float(metrics["value/beta"]) == 1.0


ONE = jnp.ones((1, 1))
BATCH = Batch(ONE, 0.5 * ONE, jnp.zeros(1), jnp.ones(1), ONE)


@pytest.mark.parametrize(
    ("name", "changes", "q", "v", "weight"),
    [
        ("sql", {"alpha": 7.0}, 3.0, 1.0, 2.0),  # alpha has no part in it
        ("sql", {}, 1.0, 3.0, 0.0),
        ("eql", {"alpha": 4.0}, 1.4, 1.0, np.e),  # 10 (q - v) / alpha
        ("eql", {"alpha": 0.1}, 2.0, 1.0, 100.0),
        # Both advantages, over V and the upper quantile, 2, in units of beta and the least scale.
        ("qql", {"least_scale": 0.25}, 2.5, 1.0, np.exp((1.5 + 0.5) / (0.25 + 1 / W))),
    ],
)
def test_weights_by_hand(name, changes, q, v, weight):
    """At networks that have these constant values."""
    learner = make(name, (), value_lr=FROZEN, critic_lr=FROZEN, layer_norm=False, **changes)
    state = init(learner, BATCH)
    critics = tuple(linear(np.zeros((2, 1)), bias=q) for _ in state.critic.params)
    value = state.value.replace(params=linear(np.zeros((1, 1)), bias=v))
    if name == "qql":
        value = value.replace(upper=value.upper.replace(params=linear(np.zeros((1, 1)), bias=2.0)))
    state = state.replace(value=value, critic=state.critic.replace(params=critics, target=critics))
    _, metrics = update(learner, state, BATCH, jax.random.key(0))
    assert float(metrics["actor/weight"]) == pytest.approx(weight, rel=1e-4)


MANY = 2000
KEY = jax.random.key(0)
OBSERVATIONS = jnp.arange(2.0 * MANY).reshape(MANY, 2)
ACTIONS = jnp.tile(jnp.array([0.0, 0.9, -0.5]), (MANY, 1))
PAIRS = Batch(OBSERVATIONS, ACTIONS, *jnp.zeros((2, MANY)), OBSERVATIONS)


def test_uniform_actions_follow_the_data_with_their_states():
    observations, actions = smoothed(PAIRS, KEY, uniform_actions=3, action_noise=0.0)
    np.testing.assert_array_equal(observations, np.tile(OBSERVATIONS, (4, 1)))
    np.testing.assert_array_equal(actions[:MANY], ACTIONS)  # no noise
    uniform = np.asarray(actions[MANY:])
    # Uniform on [-1, 1]: mean 0, variance 1 / 3, fourth moment 1 / 5, and no two alike.
    np.testing.assert_allclose([np.mean(uniform**p) for p in (1, 2, 4)], [0, 1 / 3, 1 / 5], atol=0.02)
    assert len(np.unique(uniform, axis=0)) == 3 * MANY


def test_noise_and_actions_are_clipped():
    _, actions = smoothed(PAIRS, KEY, uniform_actions=0, action_noise=10.0)
    # With so much noise nearly every draw lies on a bound: +-0.5 of the noise, 1 of the action.
    for column, bounds in enumerate(([-0.5, 0.5], [0.4, 1.0], [-1.0, 0.0])):
        assert (actions[:, column].min(), actions[:, column].max()) == pytest.approx(bounds)
        assert np.mean(np.isclose(actions[:, column], bounds[0])) > 0.4


def test_the_value_fits_the_smoothed_actions():
    # Q(s, a) is the action itself and the data's are all 1: V goes to L^beta over those and one uniform each.
    rates = {"value_lr": 0.01, "actor_lr": FROZEN, "critic_lr": FROZEN}
    learner = make("xql", (), beta=1.0, uniform_actions=1, **rates)
    size = 64
    batch = Batch(jnp.zeros((size, 1)), jnp.ones((size, 1)), *jnp.ones((2, size)), jnp.zeros((size, 1)))
    state = init(learner, batch)
    q = jax.tree.map(jnp.zeros_like, state.critic.params)
    for params in q:
        params["params"]["Dense_0"]["kernel"] = jnp.array([[0.0], [1.0]])
    # By a rate of 0, Q stays what its target is.
    state = state.replace(critic=state.critic.replace(params=q, target=q))
    v = run_updates(learner, state, batch, KEY, 2000).value(jnp.zeros((1, 1)))[0]
    # Half weight on exp(1), half on the mean of exp over [-1, 1], which is sinh(1). The largest z is always
    # the data's, so the rescaling does not shift the optimum.
    np.testing.assert_allclose(v, np.log((np.e + np.sinh(1.0)) / 2), atol=0.03)
