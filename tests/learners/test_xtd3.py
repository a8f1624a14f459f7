"""X-TD3: Lemma C.1 through its update on a tabular problem, and its limit TD3."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import init
from online_runs import train_alone
from scipy import stats

from xql_jax.learners.fields import with_hyperparameters
from xql_jax.learners.parts import TrainState
from xql_jax.learners.registry import make_learner
from xql_jax.learners.xtd3 import GumbelCritic
from xql_jax.theory.soft_mdp import SoftMDP, q_iteration
from xql_jax.types import Batch

STATES, DISCOUNT, NOISE = 4, 0.8, 0.3
# The policy's action in each state: the noise, clipped at 0.5, takes it to either side of 0.
POLICY = np.array([-0.3, 0.1, 0.4, 0.0])
NEXT_STATES = np.array([[1, 2], [3, 0], [0, 3], [2, 2]])  # after a negative action, after a positive one
REWARDS = np.array([[0.0, 1.0], [-1.0, 0.5], [2.0, 0.0], [0.3, -0.5]])


class Table(NamedTuple):
    """In the network's place: a critic that knows the state, one-hot, and the action's sign."""

    def init(self, key, observations, actions):
        return jax.random.normal(key, (STATES, 2))

    def apply(self, table, observations, actions):
        row = observations @ table
        return jnp.where(actions[:, 0] > 0, row[:, 1], row[:, 0])


@flax.struct.dataclass
class TabularCritic(GumbelCritic):
    def init(self, keys, observations, actions, with_target=True):
        network = Table()
        params = tuple(network.init(key, observations, actions) for key in keys)
        return TrainState.create(network, params, with_target)


def transitions(repeats):
    """Every pair of state and sign `repeats` times, so that an update sees many target actions of each."""
    states, signs = (np.repeat(index.ravel(), repeats) for index in np.indices((STATES, 2)))
    return Batch(
        observations=jnp.eye(STATES)[states],
        actions=jnp.asarray(2.0 * signs[:, None] - 1.0, jnp.float32),
        rewards=jnp.asarray(REWARDS[states, signs], jnp.float32),
        masks=jnp.ones(len(states)),
        next_observations=jnp.eye(STATES)[NEXT_STATES[states, signs]],
    )


def soft_optimum(beta):
    """Q of the soft-Bellman equation with mu the target action's sign, exactly."""
    positive = stats.norm.cdf(POLICY / NOISE)
    behavior = np.stack([1 - positive, positive], axis=-1)
    mdp = SoftMDP(
        NEXT_STATES[..., None], np.ones((STATES, 2, 1)), REWARDS, behavior, discount=DISCOUNT, beta=beta
    )
    return q_iteration(mdp, 1e-10).q


def learnt_q(beta, num_critics):
    config = {"discount": DISCOUNT, "tau": 0.1, "target_noise": NOISE, "actor_hidden_dims": ()}
    learner = make_learner("xtd3", config)
    learner = learner.replace(critic=TabularCritic(num_critics=num_critics))
    learner, batch = with_hyperparameters(learner, {"beta": beta, "clip": 8.0}), transitions(repeats=128)
    state = init(learner, batch)
    # Held there by a rate of 0. Without hidden layers tanh of the kernel's row is the action.
    kernel = jnp.asarray(np.arctanh(POLICY)[:, None], jnp.float32)
    actor = {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(1)}}}
    state = state.replace(policy=state.policy.replace(params=actor, target=actor))
    stages = ((1e-2, 1500), (1e-3, 1500), (3e-4, 1000))
    return train_alone(learner, state, batch, "critic_lr", stages).critic.params


@pytest.mark.slow
@pytest.mark.parametrize(("beta", "num_critics"), [(0.5, 1), (2.0, 1), (0.5, 2)])
def test_the_update_solves_the_soft_bellman_equation(beta, num_critics):
    """Lemma C.1, Eq. 41 and 42: Q = r + discount * L^(beta / discount)[Q(s', .)], here within 1%.

    The target actor's noise spreads a' over both signs, which makes mu. `beta` is Eq. 42's discount * beta.
    """
    expected = soft_optimum(beta / DISCOUNT)
    for table in learnt_q(beta, num_critics):
        np.testing.assert_allclose(table, expected, atol=0.01 * np.ptp(expected))


def test_the_meanings_of_beta_are_told_apart():
    # Otherwise the test above would pass with a beta that the discount did not scale, or with TD3's mean.
    meant, unscaled, mean = soft_optimum(0.5 / DISCOUNT), soft_optimum(0.5), soft_optimum(1e6)
    assert np.abs(meant - unscaled).max() > 0.02 * np.ptp(meant)
    assert np.abs(meant - mean).max() > 0.1 * np.ptp(meant)
