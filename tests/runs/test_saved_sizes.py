"""The lengths of observations and actions that a run's files do not name, from its checkpoints' arrays."""

import jax
import jax.numpy as jnp
import pytest

from xql_jax.learners.registry import HEADS, OFFLINE, ONLINE, make_learner
from xql_jax.runs.saved_policies import lengths_of, sizes_from
from xql_jax.training.manifests import leaves_of

METHODS = (*OFFLINE, *ONLINE, *(f"iql+{head}" for head in HEADS), "xql+trust_region", "xql+reverse_kl")


def lengths(learner, observation_dim, action_dim):
    example = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
    return lengths_of(leaves_of(jax.eval_shape(learner.init, jax.random.key(0), *example)))


@pytest.mark.parametrize("method", METHODS)
def test_a_states_arrays_tell_the_sizes_it_was_made_for(method):
    learner = make_learner(method)
    for sizes in ((5, 3), (1, 1), (3, 7)):
        assert sizes_from(learner, lengths(learner, *sizes)) == sizes


def test_another_learners_arrays_do_not():
    assert sizes_from(make_learner("td3"), lengths(make_learner("dt"), 5, 3)) is None
