"""The names of methods, policies, heads and hyperparameters: what they make, mean and refuse."""

import jax
import pytest
from learner_runs import REPLACED, init, make, make_batch, update

from xql_jax.errors import UserError
from xql_jax.learners.registry import IN_SAMPLE, OFFLINE, make_learner
from xql_jax.learners.xql import InSample


def test_in_sample_methods_are_those_that_run_algorithm_1():
    names = {name for name in OFFLINE if isinstance(make_learner(name), InSample)} | {"value_iteration"}
    assert names == IN_SAMPLE.keys()


@pytest.mark.parametrize("name", REPLACED)
def test_every_method_trains_with_every_policy(name):
    learner, batch = make(name), make_batch()
    state = jax.eval_shape(init, learner, batch)
    after, metrics = jax.eval_shape(update, learner, state, batch, jax.random.key(0))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert "actor/loss" in metrics


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("xqll+forward_kl", "unknown method 'xqll'; known: "),
        ("xql+zzzz", "xql has no policy 'zzzz'; known: "),
        ("value_iteration+max_q", "value_iteration has no policy 'max_q'"),  # it has no Q
        ("bc+max_q", "bc has no policy 'max_q'; known: "),  # it has neither; but a flow clones
        ("bc+weighted_flow", "bc has no policy 'weighted_flow'; known: flow"),
        ("sac+forward_kl", "sac has a policy of its own, and takes no other: leave out .forward_kl"),
        ("xql+mixture+flow", "xql.mixture.flow: a flow has a network of its own, and takes no head"),
    ],
)
def test_names_that_are_unknown_and_policies_that_a_method_does_not_have(name, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make_learner(name)
