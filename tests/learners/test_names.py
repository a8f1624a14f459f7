"""The names of methods, policies, heads and hyperparameters: what they make, mean and refuse."""

import runpy

import jax
import pytest
from guides import ROOT
from learner_runs import METHODS, REPLACED, init, make, make_batch, update

from xql_jax.errors import UserError
from xql_jax.learners.registry import HEADS, IN_SAMPLE, OFFLINE, POLICIES, make_learner
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
        ("sac+forward_kl", "sac has a policy of its own, and takes no other: leave out .forward_kl"),
        ("xql+mixture+flow", "xql.mixture.flow: a flow has a network of its own, and takes no head"),
    ],
)
def test_names_that_are_unknown_and_policies_that_a_method_does_not_have(name, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make_learner(name)


def test_each_hyperparameter_has_a_meaning_and_says_where_its_default_is_from():
    names = (*METHODS, *(f"xql+{name}" for name in (*POLICIES, *HEADS)))
    describe_fields = runpy.run_path(str(ROOT / "docs/site/hyperparameters.py"))["describe_fields"]
    described = {name: describe_fields(name) for name in names}
    rows = {(name, row.name): row for name, rows in described.items() for row in rows}
    assert [row for row in rows.values() if not row.meaning] == []
    awacs, xqls = (rows[name, "awr_temperature"] for name in ("awac", "xql"))
    # AWAC's temperature is its own, not that of the objective that it shares with XQL.
    assert (awacs.default, awacs.source, xqls.default, xqls.source) == (0.5, "method awac", 3.0, "ForwardKL")
