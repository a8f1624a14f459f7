"""From names to learners: what each method is composed of, the paper's defaults, and METHOD+POLICY."""

import jax
import pytest
from learner_runs import METHODS, REPLACED, init, make, make_batch, same, update

from xql_jax.errors import UserError
from xql_jax.learners.bc import BC, Cloning
from xql_jax.learners.critics import Critic, TemporalDifference
from xql_jax.learners.decision_transformer import DT, DecisionTransformer
from xql_jax.learners.deterministic_gradient import DeterministicGradient
from xql_jax.learners.fields import hyperparameters
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.iql import IQL
from xql_jax.learners.maximum_entropy import MaximumEntropy
from xql_jax.learners.policy_objectives import ForwardKL, Gaussian, PolicyObjective
from xql_jax.learners.q_iteration import ExtremeQIteration, QIteration
from xql_jax.learners.registry import make_learner
from xql_jax.learners.sac import SAC, SoftValues
from xql_jax.learners.td3 import TD3, TD3_DQ, DelayedTwin
from xql_jax.learners.value_fits import Expectile, Gumbel, ValueFit
from xql_jax.learners.value_iteration import ExtremeValueIteration, ValueIteration
from xql_jax.learners.xql import XQL
from xql_jax.learners.xsac import XSAC, ExtremeValues
from xql_jax.learners.xtd3 import XTD3, XTD3_DQ, GumbelCritic

# Name, what makes it, the learner, how V is fitted, the policy and Q, and how many networks Q.
COMPOSITIONS = [
    ("xql", XQL, InSample, Gumbel, ForwardKL, TemporalDifference, 2),
    ("iql", IQL, InSample, Expectile, ForwardKL, TemporalDifference, 2),
    ("value_iteration", ValueIteration, ExtremeValueIteration, Gumbel, ForwardKL, None, None),
    ("q_iteration", QIteration, ExtremeQIteration, Gumbel, ForwardKL, Critic, 2),
    ("bc", BC, Cloning, None, PolicyObjective, None, None),
    ("dt", DT, DecisionTransformer, None, None, None, None),
    ("sac", SAC, SoftValues, ValueFit, MaximumEntropy, Critic, 2),
    ("xsac", XSAC, ExtremeValues, Gumbel, MaximumEntropy, Critic, 2),
    ("td3", TD3, DelayedTwin, None, DeterministicGradient, Critic, 2),
    ("td3_dq", TD3_DQ, DelayedTwin, None, DeterministicGradient, Critic, 1),
    ("xtd3", XTD3, DelayedTwin, None, DeterministicGradient, GumbelCritic, 2),
    ("xtd3_dq", XTD3_DQ, DelayedTwin, None, DeterministicGradient, GumbelCritic, 1),
]


def test_names_are_the_methods():
    found = []
    for name, method in METHODS.items():
        learner = make_learner(name)
        same(learner, method())
        parts = [getattr(learner, part, None) for part in ("value", "policy", "critic")]
        kinds = [part if part is None else type(part) for part in parts]
        found.append((name, method, type(learner), *kinds, getattr(parts[-1], "num_critics", None)))
    assert sorted(found, key=str) == sorted(COMPOSITIONS, key=str)


def test_defaults_are_the_papers():
    # The paper's word where its code differs from it, and the code's where the paper has none.
    config = hyperparameters(make_learner("xql"))
    expected = {"actor_lr": 3e-4, "value_lr": 3e-4, "critic_lr": 3e-4, "discount": 0.99, "tau": 0.005}
    expected |= dict.fromkeys(("actor_hidden_dims", "value_hidden_dims", "critic_hidden_dims"), (256, 256))
    expected |= {"num_critics": 2, "v_updates": 1, "max_weight": 100.0, "decay_actor_lr": True}
    expected |= {"loss": "rescaled", "clip_rule": "both", "critic_loss": "mse", "action_noise": 0.0}
    assert {field: config[field] for field in expected} == expected


def test_unknown_algorithm():
    known = "bc, dt, iql, q_iteration, sac, td3, td3_dq, value_iteration, xql, xsac, xtd3, xtd3_dq"
    for name in ("xqll", "xqll+forward_kl"):
        with pytest.raises(UserError, match=f"^unknown algorithm 'xqll'; known: {known}$"):
            make_learner(name)


@pytest.mark.parametrize("policy", ["forward_kl", "gaussian", "forward_kl+gaussian"])
def test_a_methods_own_policy_by_its_name_changes_nothing(policy):
    config = {"beta": 0.6, "awr_temperature": 1.0, "dropout_rate": 0.1}
    plain, named = make("xql", **config), make(f"xql+{policy}", **config)
    assert (type(named.policy), type(named.policy.head)) == (ForwardKL, Gaussian)
    same(named, plain)
    batch = make_batch()
    after = [update(learner, init(learner, batch), batch, jax.random.key(1)) for learner in (plain, named)]
    same(*after)


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
        ("xql+zzzz", "xql has no policy 'zzzz'; known: forward_kl, gaussian$"),
        ("xql+gaussian+zzzz", "xql has no policy 'zzzz'; known: forward_kl, gaussian$"),
        ("xql+", "xql has no policy ''; known: forward_kl, gaussian$"),
        ("xql+iql", "xql has no policy 'iql'; known: forward_kl, gaussian$"),
        ("sac+forward_kl", "sac has a policy of its own, and takes no other: leave out .forward_kl"),
        ("td3+gaussian", "td3 has a policy of its own, and takes no other: leave out .gaussian"),
        ("dt+gaussian", "dt has a policy of its own, and takes no other: leave out .gaussian"),
        ("bc+forward_kl", "bc has no policy 'forward_kl'"),  # it has no advantages
    ],
)
def test_policies_that_a_method_does_not_have(name, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make_learner(name)
