"""Chunks of actions in policies' losses: what was not carried out is not cloned."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.learners.flow_policies import matching_loss
from xql_jax.learners.parts import Estimates
from xql_jax.learners.registry import make_learner
from xql_jax.settings import values_of
from xql_jax.types import ChunkBatch

FLOWS = ("xql+flow", "xql+weighted_flow", "xql+one_step_flow")
POLICIES = ("bc", "bc+squashed", "bc+mixture", "xql", "xql+max_q", "td3_bc", "brac_p", *FLOWS)
KEY = jax.random.key(0)


def fields_of(actions):
    """Two chunks of two actions of two entries, of which a terminal ended the second after one action."""
    observations = np.random.default_rng(0).normal(size=(2, 3))
    valid = [[1, 1], [1, 0]]
    return ChunkBatch(
        *map(jnp.float32, (observations, actions, np.ones(2), np.zeros(2), observations, valid))
    )


def cloned(method, batch):
    """The policy after one step on the batch, of a learner whose Q is 1 for all actions."""
    learner = make_learner(method)
    small = {name: (8,) for name in values_of(learner) if name.endswith("_hidden_dims")}
    blind = {"td3_bc": {"q_weight": 0.0, "actor_period": 1}}.get(method, {})
    learner = make_learner(method, small | blind)
    state = learner.init(KEY, batch.observations, batch.actions)
    if method == "td3_bc":
        return learner.update(state, batch, KEY)[0].policy.params
    if method == "brac_p":
        return learner.update(state, batch, KEY)[0].policy.behavior.params
    if method.startswith("bc"):
        return learner.policy.clone(state.policy, batch, KEY)[0].params
    zero = jnp.zeros(2)
    estimates = Estimates(zero, zero, q_of=lambda states, actions: 1.0 + 0.0 * actions.sum(-1))
    return learner.policy.update(state.policy, estimates, batch, KEY)[0].params


def equal(tree, other):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, tree, other)))


@pytest.mark.parametrize("method", POLICIES)
def test_actions_after_a_terminal_are_not_cloned(method):
    actions = np.random.default_rng(1).uniform(-0.9, 0.9, (2, 4))
    beyond, within = actions.copy(), actions.copy()
    beyond[1, 2:] *= -1
    within[1, :2] *= -1
    one, same, other = (cloned(method, fields_of(given)) for given in (actions, beyond, within))
    assert equal(one, same)
    assert not equal(one, other)


@pytest.mark.parametrize("method", ["bc", "bc+squashed", "bc+mixture"])
def test_the_density_of_the_actions_that_were_carried_out(method):
    """That of independent entries is the product of theirs; of a mixture, of each component's."""
    learner = make_learner(method, {"actor_hidden_dims": (8,)})
    batch = fields_of(np.random.default_rng(1).uniform(-0.9, 0.9, (2, 4)))
    policy = learner.actor(learner.init(KEY, batch.observations, batch.actions))(batch.observations)
    known = jnp.array([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    # By quadrature over the two entries that are not known.
    grid = np.linspace(-1, 1, 402)[1:-1] if "squashed" in method else np.linspace(-9, 9, 801)
    free = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 1, 2)
    both = np.broadcast_to(np.asarray(batch.actions), (len(free), 2, 4)).copy()
    both[:, 1:, 2:] = free
    densities = jnp.exp(policy.log_prob(jnp.asarray(both)))[:, 1]
    marginal = np.log(densities.sum() * (grid[1] - grid[0]) ** 2)
    found = policy.log_prob(batch.actions, known)
    np.testing.assert_allclose(found[1], marginal, atol=2e-3)
    np.testing.assert_allclose(found[0], policy.log_prob(batch.actions)[0], rtol=1e-6)


def test_the_flows_loss_is_the_mean_over_all_entries_of_those_carried_out():
    """Li et al. 2025: the squared errors times `valid`, over as many entries as if all counted."""
    batch = fields_of(np.random.default_rng(1).uniform(-0.9, 0.9, (2, 4)))
    flow = SimpleNamespace(apply=lambda params, observations, x, t: params * x + t)
    drawn = jax.random.split(KEY)
    noise, t = jax.random.normal(drawn[0], (2, 4)), jax.random.uniform(drawn[1], (2, 1))
    error = 0.5 * ((1 - t) * noise + t * batch.actions) + t - (batch.actions - noise)
    expected = (np.square(error)[0].sum() + np.square(error)[1, :2].sum()) / 8
    found = matching_loss(flow, 0.5, jnp.ones(2), batch, KEY)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
