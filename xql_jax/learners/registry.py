"""Names of methods, of policy objectives and of heads: the only place where a string becomes code.

A name's module is imported when the name is used, so a command loads only the methods that it trains.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

from xql_jax.errors import UserError, nearest
from xql_jax.learners import value_fits
from xql_jax.learners.fields import Method, hyperparameters, with_hyperparameters


class Modules(Mapping[str, Any]):
    """Objects by name, each imported at its first use.

    `places` maps a name to MODULE below `xql_jax.learners`, whose METHODS have it, or to MODULE:OBJECT.
    """

    def __init__(self, places: dict[str, str]):
        self.places = places

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self.places[name].partition(":")
        found = importlib.import_module(f"xql_jax.learners.{module}")
        return getattr(found, attribute) if attribute else found.METHODS[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def in_sample_methods() -> dict[str, str]:
    """Returns the modules of the files in value_fits/, each by its method's name, which is the file's."""
    files = pkgutil.iter_modules(value_fits.__path__)
    return {file.name: f"value_fits.{file.name}" for file in files}


OFFLINE = Modules(
    in_sample_methods()
    | {"value_iteration": "value_iteration", "q_iteration": "q_iteration", "bc": "bc", "bc10": "bc"}
    | {"cql": "cql", "brac_p": "brac_p", "bear": "bear", "td3_bc": "td3_bc", "rebrac": "rebrac"}
    | {"awac": "awac", "onestep": "onestep", "dt": "dt", "rlpd": "rlpd"}
)
ONLINE = Modules(
    {"xsac": "xsac", "sac": "sac", "xtd3": "xtd3", "xtd3_dq": "xtd3", "td3": "td3", "td3_dq": "td3"}
)
POLICIES = Modules(
    {
        "forward_kl": "parts:ForwardKL",
        "reverse_kl": "maximize_q:ReverseKL",
        "trust_region": "maximize_q:TrustRegion",
        "max_q": "maximize_q:MaxQ",
    }
)
HEADS = Modules(
    {
        "gaussian": "parts:Gaussian",
        "state_gaussian": "heads:StateGaussian",
        "narrow_gaussian": "heads:NarrowGaussian",
        "squashed": "heads:Squashed",
        "mixture": "heads:Mixture",
    }
)


def method_of(algorithm: str) -> str:
    """Returns METHOD of METHOD+POLICY."""
    return algorithm.partition("+")[0]


def is_in_sample(method: str) -> bool:
    """Whether the method is XQL or one of its kin, which share settings; see `InSample`."""
    from xql_jax.learners.in_sample import InSample

    return method == "value_iteration" or issubclass(OFFLINE[method].learner, InSample)


def method_named(name: str) -> Method[Any]:
    """Returns the offline or online method; UserError if there is none."""
    for methods in (OFFLINE, ONLINE):
        if name in methods:
            return methods[name]
    raise UserError(f"unknown algorithm {name!r}; known: {', '.join(sorted((*OFFLINE, *ONLINE)))}")


def make_learner(name: str, config: Mapping[str, Any] | None = None) -> Any:
    """Returns METHOD or METHOD+POLICY with these hyperparameters; those left out keep their defaults.

    Args:
        name: a method; after it, instead of the method's own, a policy objective, a head or both.
        config: hyperparameters by their flat names.
    Raises:
        UserError: if a name is unknown, or a value impossible.
    """
    method, *replaced = str(name).split("+")  # a config may hold anything
    made = method_named(method)
    learner = made()
    for policy in replaced:
        learner = _with_policy(learner, policy, method)
    fields = hyperparameters(learner)
    defaults = {name: value for name, value in made.defaults.items() if name in fields}
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


def _policies_of(learner: Any) -> list[str]:
    """Policies that the learner can take. All need a head; policy objectives need V, and most of them Q."""
    if not hasattr(getattr(learner, "policy", None), "head"):
        return []
    if not hasattr(learner, "value"):
        return [*HEADS]
    return [*POLICIES, *HEADS] if hasattr(learner, "critic") else ["forward_kl", *HEADS]
