"""Algorithm 1: updates against plain JAX and optax, weights by hand, smoothing, beta of xql_bellman."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learner_runs import FROZEN, flat, init, make, make_batch, update
from linear_runs import linear, run_updates

from xql_jax.learners.qql import W
from xql_jax.learners.xql import smoothed
from xql_jax.types import Batch

SIZE = 16


class Reference:
    """Algorithm 1 in plain JAX and optax: V, then pi, then Q, then the target."""

    def __init__(self, learner, config, state):
        self.learner, self.config, self.start = learner, config, state
        self.params = {name: getattr(state, name).params for name in ("value", "policy", "critic")}
        self.targets = state.critic.params
        clip = optax.clip_by_global_norm(config["max_grad_norm"])
        rates = {"value": "value_lr", "policy": "actor_lr", "critic": "critic_lr"}
        self.optimizers = {name: optax.chain(clip, optax.adam(config[rate])) for name, rate in rates.items()}
        self.moments = {name: self.optimizers[name].init(params) for name, params in self.params.items()}

    def step(self, name, loss):
        gradient = jax.grad(loss)(self.params[name])
        updates, self.moments[name] = self.optimizers[name].update(gradient, self.moments[name])
        self.params[name] = optax.apply_updates(self.params[name], updates)

    def update(self, batch):
        """One update; returns what metrics are the means of."""
        config, s, a = self.config, batch.observations, batch.actions
        v_of, pi_of, q_of = (getattr(self.start, name).network.apply for name in self.params)
        q = jnp.min(jnp.stack([q_of(params, s, a) for params in self.targets]), axis=0)
        for _ in range(config["v_updates"]):
            old_v = v_of(self.params["value"], s)
            self.step("value", lambda params: self.learner.value.loss_of(v_of(params, s), q).mean())
        advantage = q - v_of(self.params["value"], s)
        weight = jnp.minimum(jnp.exp(config["awr_temperature"] * advantage), config["max_weight"])

        def policy_loss(params):
            mean, std = pi_of(params, s)
            return -(weight * jax.scipy.stats.norm.logpdf(a, mean, std).sum(-1)).mean()

        self.step("policy", policy_loss)
        next_v = v_of(self.params["value"], batch.next_observations)
        target = batch.rewards + config["discount"] * batch.masks * next_v

        def critic_loss(params):
            errors = jnp.stack([q_of(one, s, a) - target for one in params])
            if config["critic_loss"] == "huber":  # these are added up, squared errors averaged
                return optax.huber_loss(errors, delta=20.0).sum(0).mean()
            return jnp.square(errors).mean()

        self.step("critic", critic_loss)
        self.targets = optax.incremental_update(self.params["critic"], self.targets, config["tau"])
        return {"value/v": old_v, "actor/advantage": advantage, "actor/weight": weight}


COMMON = {
    "discount": 0.8, "tau": 0.3, "actor_lr": 0.01, "value_lr": 0.02, "critic_lr": 0.03, "num_critics": 2,
    "awr_temperature": 2.0, "max_weight": 3.0, "max_grad_norm": np.inf, "v_updates": 1, "critic_loss": "mse",
}  # fmt: skip
CASES = [
    ("xql", {"beta": 0.7, "clip": 3.0}, 1.0),
    ("xql", {"beta": 0.7, "clip": 3.0, "num_critics": 1, "v_updates": 2}, 1.0),
    ("iql", {"critic_loss": "huber"}, 30.0),
    ("iql", {"max_grad_norm": 0.5, "num_critics": 3}, 3.0),
]


@pytest.mark.parametrize(("name", "changes", "reward_scale"), CASES)
def test_three_updates(name, changes, reward_scale):
    config = COMMON | changes
    learner = make(name, **config)
    batches = [make_batch(seed) for seed in range(3)]
    state = init(learner, batches[0])
    reference = Reference(learner, config, state)
    for batch in batches:
        batch = batch._replace(rewards=reward_scale * batch.rewards)
        state, metrics = update(learner, state, batch, jax.random.key(1))
        for metric, values in reference.update(batch).items():
            np.testing.assert_allclose(metrics[metric], values.mean(), rtol=1e-4, atol=1e-5, err_msg=metric)
    assert state.step == 3
    learnt = state.value.params, state.policy.params, state.critic.params, state.critic.target
    expected = (*reference.params.values(), reference.targets)
    np.testing.assert_allclose(flat(learnt), flat(expected), atol=1e-5)


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
    # By a rate of 0, Q stays what its target is.
    q = tuple(linear([[0.0], [1.0]]) for _ in state.critic.params)
    state = state.replace(critic=state.critic.replace(params=q, target=q))
    v = run_updates(learner, state, batch, KEY, 2000).value(jnp.zeros((1, 1)))[0]
    # Half weight on exp(1), half on the mean of exp over [-1, 1], which is sinh(1). The largest z is always
    # the data's, so the rescaling does not shift the optimum.
    np.testing.assert_allclose(v, np.log((np.e + np.sinh(1.0)) / 2), atol=0.03)
