"""Flow policies: draws from pi* = mu exp(Q / beta) / Z, the best of several, FQL's optimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from learner_runs import init, make, make_batch
from slow_cases import slow_but

from xql_jax.errors import UserError
from xql_jax.learners.flow_policies import Flow, FlowHead, OneStepFlow, WeightedFlow, fixed_noise
from xql_jax.learners.parts import CriticState, Estimates, LearnerState
from xql_jax.learners.registry import make_learner
from xql_jax.networks.flow import integrate
from xql_jax.types import Batch

MEAN, STD = 0.2, 0.4
MODES, SHARES, Q = np.array([-0.5, 0.5]), np.array([0.7, 0.3]), np.array([0.0, 0.6])
TEMPERATURE = 2.0  # 1 / beta
HEAD = FlowHead(actor_hidden_dims=(64, 64))
FINE = FlowHead(actor_hidden_dims=(64, 64), flow_steps=30)  # 10 steps blur modes that are this narrow
SOFT_OPTIMAL = SHARES * np.exp(TEMPERATURE * Q) / (SHARES * np.exp(TEMPERATURE * Q)).sum()


def q_of_nearest_mode(observations, actions):
    """Q of the nearest of the MODES, f32[...]."""
    return jnp.asarray(Q, jnp.float32)[jnp.abs(actions - MODES).argmin(-1)]


def trained(policy, sample, updates=4_000, q_of=q_of_nearest_mode):
    """The policy's state after updates on actions f32[B, 1] that `sample(key, shape)` draws."""
    policy = policy.scheduled(updates)

    @jax.jit
    def train(actor):
        def step(actor, key):
            key_batch, key_update = jax.random.split(key)
            actions, ones, states = sample(key_batch, (512, 1)), jnp.ones(512), jnp.zeros((512, 1))
            batch = Batch(states, actions, ones, ones, states)
            q = q_of(batch.observations, batch.actions)
            v = jnp.full_like(q, np.log((SHARES * np.exp(TEMPERATURE * Q)).sum()) / TEMPERATURE)
            return policy.update(actor, Estimates(q, v, q_of=q_of), batch, key_update)[0], None

        return jax.lax.scan(step, actor, jax.random.split(jax.random.key(1), updates))[0]

    first = policy.init(jax.random.key(0), jnp.zeros((1, 1)), jnp.zeros((1, 1)))
    return train(first)


def around_modes(key, shape):
    """Actions near the MODES, as often as their SHARES."""
    key_mode, key_noise = jax.random.split(key)
    modes = jax.random.choice(key_mode, jnp.asarray(MODES, jnp.float32), shape, p=jnp.asarray(SHARES))
    return modes + 0.06 * jax.random.normal(key_noise, shape)


@functools.cache
def flow_of_modes():
    """A clone of the actions around the modes."""
    return trained(Flow(head=HEAD, actor_lr=1e-2, decay_actor_lr=True), around_modes)


def acting(policy, actor, size):
    """The distribution of the policy over `size` equal states, with Q of the nearest mode as its critic."""

    class Known:
        def apply(self, params, observations, actions):
            return q_of_nearest_mode(observations, actions)

    state = LearnerState(0, actor, critic=CriticState(Known(), ({},)))
    return policy.actor(state)(jnp.zeros((size, 1)))


def shares(actions):
    """How often each mode is the nearest."""
    return np.bincount(np.abs(np.asarray(actions) - MODES).argmin(-1), minlength=len(MODES)) / len(actions)


@pytest.mark.parametrize("count", slow_but([1, 4, 32], 4))
def test_actions_of_a_flow_are_drawn_from_pi_star(count):
    """With one candidate from mu; the frequency with N, of which k ~ Bin(N, mu_1) are at mode 1, is exact."""
    policy = Flow(head=FINE, candidates=count, awr_temperature=TEMPERATURE)
    distribution = acting(policy, flow_of_modes(), 4_000)
    actions = distribution.sample(jax.random.key(7))
    assert np.mean(np.abs(actions - MODES).min(-1) < 0.2) > 0.85  # few lie between the modes
    k, weight = np.arange(count + 1), np.exp(TEMPERATURE * (Q[1] - Q[0]))
    expected = scipy.stats.binom.pmf(k, count, SHARES[1]) @ (k * weight / (k * weight + count - k))
    np.testing.assert_allclose(shares(actions)[1], expected, atol=0.03)
    if count == 32:  # enough candidates for pi*
        np.testing.assert_allclose(shares(actions), SOFT_OPTIMAL, atol=0.03)


def test_a_clone_by_a_flow_has_the_data_s_modes_and_their_shares():
    """`bc+flow` has no Q that could choose: a Gaussian would act between the modes, at -0.2."""
    learner, states = make_learner("bc+flow", {"actor_hidden_dims": (64, 64)}), jnp.zeros((4_000, 1))
    state = learner.init(jax.random.key(0), states[:1], states[:1])
    state = state.replace(policy=flow_of_modes())
    drawn = learner.act(learner.actor(state), states, jax.random.key(7), False)
    np.testing.assert_allclose(shares(drawn), SHARES, atol=0.03)
    central = learner.act(learner.actor(state), states, jax.random.key(7), True)
    expected = integrate(flow_of_modes(), states, jnp.zeros((4_000, 1)), 10)
    np.testing.assert_allclose(central, expected, atol=1e-6)
    with pytest.raises(UserError, match="candidates"):
        make_learner("bc+flow", {"candidates": 8})


def test_the_clone_s_update_is_a_step_of_flow_matching():
    learner, batch = make("bc+flow", (8,)), make_batch()
    before = init(learner, batch)
    after, info = learner.update(before, batch, jax.random.key(3))
    cloned, expected = learner.policy.clone(before.policy, batch, jax.random.key(3))
    assert info["actor/loss"] == pytest.approx(float(expected["actor/loss"]), rel=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), after.policy.params, cloned.params)


def test_a_weighted_flow_is_pi_star():
    policy = WeightedFlow(head=FINE, actor_lr=1e-2, decay_actor_lr=True, awr_temperature=TEMPERATURE)
    actor = trained(policy, around_modes)
    drawn = acting(policy, actor, 20_000).sample(jax.random.key(3))
    np.testing.assert_allclose(shares(drawn), SOFT_OPTIMAL, atol=0.03)


def test_the_deterministic_action_is_the_best_of_the_same_noise_in_all_states():
    actor = flow_of_modes()
    for count in (32, 1):
        policy = Flow(head=HEAD, candidates=count)
        central = acting(policy, actor, 3).central_action()
        noise = fixed_noise(count, 1)
        assert noise[0] == 0.0
        every = integrate(actor, jnp.zeros_like(noise), noise, 10)
        best = every[q_of_nearest_mode(None, every).argmax(), 0]
        np.testing.assert_allclose(central, jnp.full((3, 1), best), atol=1e-6)
        assert count == 1 or np.abs(best - MODES[1]) < 0.15


@pytest.mark.slow
def test_a_one_step_policy_is_the_flow_moved_up_the_slope_of_q():
    """For Q = c * a the best is flow(z) + c / (2 flow_alpha)."""
    slope, weight = 0.4, 2.0
    policy = OneStepFlow(head=HEAD, actor_lr=1e-2, decay_actor_lr=True, flow_alpha=weight, normalize_q=False)

    def sample(key, shape):
        return MEAN + STD * jax.random.normal(key, shape)

    actor = trained(policy, sample, 1_500, lambda observations, actions: slope * actions[..., 0])
    noise = jnp.linspace(-1.5, 1.5, 31)[:, None]
    flow = integrate(actor.replace(params=actor.params[0]), jnp.zeros_like(noise), noise, 10)
    moved = policy.carry(actor, jnp.zeros_like(noise), noise)
    np.testing.assert_allclose(moved, jnp.clip(flow + slope / (2 * weight), -1, 1), atol=0.04)


@pytest.mark.parametrize("name", ["xql+flow", "xql+weighted_flow", "fql"])
def test_what_is_off_in_updates_leaves_an_actor_finite(name):
    """Else a fitted-Q evaluation, whose state it is part of, would count as diverged."""
    off = {"max_grad_norm": np.inf} | ({"max_weight": np.inf} if "weighted" in name else {})
    learner, batch = make(name, **off), make_batch()
    actor = learner.actor(init(learner, batch))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(actor))
