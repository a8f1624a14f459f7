"""Names of methods, of policy objectives and of heads: the only place where a string becomes code."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from xql_jax.errors import UserError, nearest
from xql_jax.learners import value_fits
from xql_jax.learners.awac import AWAC
from xql_jax.learners.bc import BC, BC10
from xql_jax.learners.bear import BEAR
from xql_jax.learners.brac_p import BRACP
from xql_jax.learners.climbing import MaxQ, ReverseKL, TrustRegion
from xql_jax.learners.cql import CQL
from xql_jax.learners.decision_transformer import DT
from xql_jax.learners.fields import Part, hyperparameters, with_hyperparameters
from xql_jax.learners.heads import Gaussian, Mixture, NarrowGaussian, Squashed, StateGaussian
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.methods import Method
from xql_jax.learners.onestep import OneStep
from xql_jax.learners.policy_objectives import ForwardKL
from xql_jax.learners.q_iteration import QIteration
from xql_jax.learners.rebrac import ReBRAC
from xql_jax.learners.rlpd import RLPD
from xql_jax.learners.sac import SAC
from xql_jax.learners.td3 import TD3, TD3_DQ
from xql_jax.learners.td3_bc import TD3_BC
from xql_jax.learners.value_iteration import ValueIteration
from xql_jax.learners.xsac import XSAC
from xql_jax.learners.xtd3 import XTD3, XTD3_DQ


def in_sample_methods() -> dict[str, Method[Any]]:
    """Returns the METHODS of every file in value_fits/."""
    files = (
        importlib.import_module(f"{value_fits.__name__}.{file.name}")
        for file in pkgutil.iter_modules(value_fits.__path__)
    )
    return {name: method for file in files for name, method in file.METHODS.items()}


OFFLINE: dict[str, Method[Any]] = {
    **in_sample_methods(),
    "value_iteration": ValueIteration,
    "q_iteration": QIteration,
    "bc": BC,
    "bc10": BC10,
    "cql": CQL,
    "brac_p": BRACP,
    "bear": BEAR,
    "td3_bc": TD3_BC,
    "rebrac": ReBRAC,
    "awac": AWAC,
    "onestep": OneStep,
    "dt": DT,
    "rlpd": RLPD,
}
ONLINE: dict[str, Method[Any]] = {
    "xsac": XSAC,
    "sac": SAC,
    "xtd3": XTD3,
    "xtd3_dq": XTD3_DQ,
    "td3": TD3,
    "td3_dq": TD3_DQ,
}
POLICIES: dict[str, Callable[..., Part]] = {
    "forward_kl": ForwardKL,
    "reverse_kl": ReverseKL,
    "trust_region": TrustRegion,
    "max_q": MaxQ,
}
HEADS: dict[str, Callable[..., Part]] = {
    "gaussian": Gaussian,
    "state_gaussian": StateGaussian,
    "narrow_gaussian": NarrowGaussian,
    "squashed": Squashed,
    "mixture": Mixture,
}


def method_of(algorithm: str) -> str:
    """Returns METHOD of METHOD+POLICY."""
    return algorithm.partition("+")[0]


def make_learner(name: str, config: Mapping[str, Any] | None = None) -> Any:
    """Returns METHOD or METHOD+POLICY with these hyperparameters; those left out keep their defaults.

    Args:
        name: a method; after it, instead of the method's own, a policy objective, a head or both.
        config: hyperparameters by their flat names.
    Raises:
        UserError: if a name is unknown, or a value impossible.
    """
    method, *replaced = str(name).split("+")  # a config may hold anything
    known = OFFLINE | ONLINE
    if method not in known:
        raise UserError(f"unknown algorithm {method!r}; known: {', '.join(sorted(known))}")
    learner = known[method]()
    for policy in replaced:
        learner = _with_policy(learner, policy, method)
    fields = hyperparameters(learner)
    defaults = {name: value for name, value in known[method].defaults.items() if name in fields}
    return with_hyperparameters(learner, {**defaults, **(config or {})})


def _with_policy(learner: Any, name: str, method: str) -> Any:
    known = _policies_of(learner)
    if not known:
        raise UserError(f"{method} has a policy of its own, and takes no other: leave out +{name}")
    if name not in known:
        raise UserError(f"{method} has no policy {name!r}; known: {nearest(name, known)}")
    if name in HEADS:
        policy = dataclasses.replace(learner.policy, head=HEADS[name]())
    else:
        policy = POLICIES[name](head=learner.policy.head)
    return dataclasses.replace(learner, policy=policy)


def _policies_of(learner: Any) -> Mapping[str, Any]:
    """Policies that the learner can take. All need a head; policy objectives need V, and most of them Q."""
    if not hasattr(getattr(learner, "policy", None), "head"):
        return {}
    if isinstance(learner, InSample):
        return POLICIES | HEADS
    return {"forward_kl": ForwardKL, **HEADS} if hasattr(learner, "value") else HEADS
