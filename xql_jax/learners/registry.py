"""Names of methods, of policy objectives and of heads: the only place where a string becomes code."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from xql_jax.errors import UserError, nearest
from xql_jax.learners.bc import BC
from xql_jax.learners.decision_transformer import DT
from xql_jax.learners.fields import Part, with_hyperparameters
from xql_jax.learners.iql import IQL
from xql_jax.learners.methods import Method
from xql_jax.learners.policy_objectives import ForwardKL, Gaussian, PolicyObjective
from xql_jax.learners.q_iteration import QIteration
from xql_jax.learners.sac import SAC
from xql_jax.learners.td3 import TD3, TD3_DQ
from xql_jax.learners.value_iteration import ValueIteration
from xql_jax.learners.xql import XQL
from xql_jax.learners.xsac import XSAC
from xql_jax.learners.xtd3 import XTD3, XTD3_DQ

OFFLINE: dict[str, Method[Any]] = {
    "xql": XQL,
    "value_iteration": ValueIteration,
    "q_iteration": QIteration,
    "iql": IQL,
    "bc": BC,
    "dt": DT,
}
ONLINE: dict[str, Method[Any]] = {
    "xsac": XSAC,
    "sac": SAC,
    "xtd3": XTD3,
    "xtd3_dq": XTD3_DQ,
    "td3": TD3,
    "td3_dq": TD3_DQ,
}
POLICIES: dict[str, Callable[..., Part]] = {"forward_kl": ForwardKL}
HEADS: dict[str, Callable[[], Part]] = {"gaussian": Gaussian}


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
    return with_hyperparameters(learner, config or {})


def _with_policy(learner: Any, name: str, method: str) -> Any:
    known = POLICIES | HEADS if hasattr(learner, "value") else HEADS  # an objective needs V
    if not isinstance(getattr(learner, "policy", None), PolicyObjective):
        raise UserError(f"{method} has a policy of its own, and takes no other: leave out +{name}")
    if name not in known:
        raise UserError(f"{method} has no policy {name!r}; known: {nearest(name, known)}")
    if name in HEADS:
        policy = dataclasses.replace(learner.policy, head=HEADS[name]())
    else:
        policy = POLICIES[name](head=learner.policy.head)
    return dataclasses.replace(learner, policy=policy)
