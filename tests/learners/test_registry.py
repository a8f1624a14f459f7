"""From names to learners: what each method is composed of, the paper's defaults, and METHOD+POLICY."""

import importlib
from pathlib import Path

import jax
import pytest
from learner_runs import METHODS, REPLACED, init, make, make_batch, same, update

from xql_jax.errors import UserError
from xql_jax.learners import value_fits
from xql_jax.learners.awac import AWAC, AdvantageWeighted
from xql_jax.learners.bc import BC, BC10, Cloning
from xql_jax.learners.bear import BEAR, Constrained, SupportConstrained
from xql_jax.learners.behavior_regularized import BehaviorRegularized
from xql_jax.learners.brac_p import BRACP, Penalized
from xql_jax.learners.cql import CQL, ConservativeActorCritic, ConservativeCritic
from xql_jax.learners.critics import Critic, NormalizedCritic, TemporalDifference
from xql_jax.learners.decision_transformer import DT, DecisionTransformer
from xql_jax.learners.deterministic_gradient import DeterministicGradient
from xql_jax.learners.fields import hyperparameters
from xql_jax.learners.heads import Gaussian
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.maximum_entropy import MaximumEntropy
from xql_jax.learners.onestep import BehaviorEvaluation, OneStep
from xql_jax.learners.policy_objectives import ForwardKL, PolicyObjective
from xql_jax.learners.q_iteration import ExtremeQIteration, QIteration
from xql_jax.learners.rebrac import PenalizedGradient, PenalizedTwin, ReBRAC
from xql_jax.learners.registry import OFFLINE, make_learner
from xql_jax.learners.rlpd import RLPD, MeanEntropy, SubsetTargets
from xql_jax.learners.sac import SAC, SoftValues
from xql_jax.learners.td3 import TD3, TD3_DQ, DelayedTwin, OnlineTwin
from xql_jax.learners.td3_bc import TD3_BC, ClonedGradient
from xql_jax.learners.value_fit import ValueFit
from xql_jax.learners.value_fits.expectile import IQL, Expectile
from xql_jax.learners.value_fits.gumbel import XQL, Gumbel
from xql_jax.learners.value_iteration import ExtremeValueIteration, ValueIteration
from xql_jax.learners.xsac import XSAC, ExtremeValues
from xql_jax.learners.xtd3 import XTD3, XTD3_DQ, GumbelCritic

# Name, what makes it, the learner, how V is fitted, the policy and Q, how many networks Q. Of the in-sample
# family only two: another test finds the rest in their files. A method that comes later need not be here.
COMPOSITIONS = [
    ("xql", XQL, InSample, Gumbel, ForwardKL, TemporalDifference, 2),
    ("iql", IQL, InSample, Expectile, ForwardKL, TemporalDifference, 2),
    ("value_iteration", ValueIteration, ExtremeValueIteration, Gumbel, ForwardKL, None, None),
    ("q_iteration", QIteration, ExtremeQIteration, Gumbel, ForwardKL, Critic, 2),
    ("bc", BC, Cloning, None, PolicyObjective, None, None),
    ("bc10", BC10, Cloning, None, PolicyObjective, None, None),
    ("cql", CQL, ConservativeActorCritic, None, MaximumEntropy, ConservativeCritic, 2),
    ("brac_p", BRACP, BehaviorRegularized, None, Penalized, Critic, 2),
    ("bear", BEAR, SupportConstrained, None, Constrained, Critic, 2),
    ("td3_bc", TD3_BC, DelayedTwin, None, ClonedGradient, Critic, 2),
    ("rebrac", ReBRAC, PenalizedTwin, None, PenalizedGradient, NormalizedCritic, 2),
    ("awac", AWAC, AdvantageWeighted, None, ForwardKL, Critic, 2),
    ("onestep", OneStep, BehaviorEvaluation, None, ForwardKL, Critic, 1),
    ("dt", DT, DecisionTransformer, None, None, None, None),
    ("rlpd", RLPD, SubsetTargets, None, MeanEntropy, NormalizedCritic, 10),
    ("sac", SAC, SoftValues, ValueFit, MaximumEntropy, Critic, 2),
    ("xsac", XSAC, ExtremeValues, Gumbel, MaximumEntropy, Critic, 2),
    ("td3", TD3, OnlineTwin, None, DeterministicGradient, Critic, 2),
    ("td3_dq", TD3_DQ, OnlineTwin, None, DeterministicGradient, Critic, 1),
    ("xtd3", XTD3, OnlineTwin, None, DeterministicGradient, GumbelCritic, 2),
    ("xtd3_dq", XTD3_DQ, OnlineTwin, None, DeterministicGradient, GumbelCritic, 1),
]


def test_names_are_the_methods():
    found = []
    for name, method in METHODS.items():
        learner = make_learner(name)
        same(learner, method())
        parts = [getattr(learner, part, None) for part in ("value", "policy", "critic")]
        kinds = [part if part is None else type(part) for part in parts]
        found.append((name, method, type(learner), *kinds, getattr(parts[-1], "num_critics", None)))
    listed = {composition[0] for composition in COMPOSITIONS}
    assert sorted((x for x in found if x[0] in listed), key=str) == sorted(COMPOSITIONS, key=str)


def test_every_file_of_value_fits_gives_its_methods():
    """V of a method is fitted by a class of the very file that names the method."""
    names = set()
    for path in Path(value_fits.__file__).parent.glob("*.py"):
        module = (
            importlib.import_module(f"{value_fits.__name__}.{path.stem}") if path.stem[0] != "_" else None
        )
        for name, method in getattr(module, "METHODS", {}).items():
            assert OFFLINE[name] is method
            assert type(make_learner(name).value).__module__ == module.__name__
            names.add(name)
    in_sample = {name for name in OFFLINE if type(make_learner(name)) is InSample}
    assert (
        {"xql", "iql", "sql", "eql", "mxql", "dvl_chi2", "dvl_tv", "qql", "xql_bellman"} <= names == in_sample
    )


def test_defaults_are_the_papers():
    # The paper's word where its code differs from it, and the code's where the paper has none.
    config = hyperparameters(make_learner("xql"))
    expected = {"actor_lr": 3e-4, "value_lr": 3e-4, "critic_lr": 3e-4, "discount": 0.99, "tau": 0.005}
    expected |= dict.fromkeys(("actor_hidden_dims", "value_hidden_dims", "critic_hidden_dims"), (256, 256))
    expected |= {"num_critics": 2, "v_updates": 1, "max_weight": 100.0, "decay_actor_lr": True}
    expected |= {"loss": "rescaled", "clip_rule": "both", "critic_loss": "mse", "action_noise": 0.0}
    assert {field: config[field] for field in expected} == expected


def test_unknown_algorithm():
    known = ", ".join(sorted(METHODS))
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


ALL = (
    "forward_kl, gaussian, max_q, mixture, narrow_gaussian, reverse_kl, squashed, state_gaussian, "
    "trust_region"
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "xql+zzzz",
            f"xql has no policy 'zzzz'; known: {ALL}$",
        ),
        (
            "xql+gaussian+zzzz",
            f"xql has no policy 'zzzz'; known: {ALL}$",
        ),
        ("xql+", f"xql has no policy ''; known: {ALL}$"),
        (
            "xql+iql",
            f"xql has no policy 'iql'; known: {ALL}$",
        ),
        ("sac+forward_kl", "sac has a policy of its own, and takes no other: leave out .forward_kl"),
        ("cql+gaussian", "cql has a policy of its own, and takes no other: leave out .gaussian"),
        ("bear+forward_kl", "bear has no policy 'forward_kl'"),  # it has no V
        ("td3_bc+squashed", "td3_bc has a policy of its own, and takes no other: leave out .squashed"),
        ("td3+gaussian", "td3 has a policy of its own, and takes no other: leave out .gaussian"),
        ("dt+gaussian", "dt has a policy of its own, and takes no other: leave out .gaussian"),
        ("bc+forward_kl", "bc has no policy 'forward_kl'"),  # it has no advantages
    ],
)
def test_policies_that_a_method_does_not_have(name, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make_learner(name)
