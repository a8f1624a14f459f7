"""Names of methods, of policy objectives and of heads, where a string becomes code; and hyperparameters.

A name's module is imported when the name is used.
"""

import importlib
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from xql_jax.errors import UserError, advice, nearest
from xql_jax.learners.method import Method, Part
from xql_jax.settings import as_typed, declared, values_of, with_values


class Modules(Mapping[str, Any]):
    """Objects by name, imported when used: MODULE:OBJECT of `xql_jax.learners`, or of METHODS in MODULE."""

    def __init__(self, places: dict[str, str]):
        self.places = places

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self.places[name].partition(":")
        source = importlib.import_module(f"xql_jax.learners.{module}")
        return getattr(source, attribute) if attribute else source.METHODS[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class Methods(Modules):
    """Methods by name, and users' own as MODULE:NAME: a `Method`, a learner or the class of one.

    A lookup imports no module of a user's, because the name may come from somebody else's run. `check_method`
    imports it, when the user names the method.
    """

    def __getitem__(self, name: str) -> Any:
        module, is_own, attribute = name.partition(":")
        if not is_own:
            return super().__getitem__(name)
        if module not in sys.modules:
            raise UserError(
                f"the method {name} is code in the module {module}, which is not imported: if you trust it, "
                f"give --method={name}, in Python import {module}"
            )
        try:
            own = getattr(sys.modules[module], attribute)
            is_class = isinstance(own, type) and issubclass(own, Part)
            if not (is_class or isinstance(own, Method | Part)):
                raise TypeError("it is no Method, and has not the base xql_jax.learners.method.Part")
            method = own if isinstance(own, Method) else Method(own if is_class else lambda: own)
            learner = method()
            for needed in ("update", "init", "actor", "act", "batch_type"):
                getattr(learner, needed)
        except Exception as error:  # it is the user's code, and may fail in any way
            raise UserError(f"--method={name}: no Method and no learner: {error}") from error
        return method


# Methods whose learner is `InSample`, and value iteration; they share the rows `in_sample` in suites/.
IN_SAMPLE = {
    "dvl_chi2": "f_dvl",
    "dvl_tv": "f_dvl",
    "eql": "ivr",
    "iql": "iql",
    "mxql": "mxql",
    "qql": "qql",
    "sql": "ivr",
    "xql": "xql",
    "xql_bellman": "xql_bellman",
    "value_iteration": "deterministic_dynamics",
    "q_iteration": "deterministic_dynamics",
}
# Each in its own file.
OTHERS = ("cql", "cal_ql", "brac_p", "bear", "td3_bc", "rebrac", "awac", "onestep", "dt", "rlpd", "fql")
OFFLINE = Methods(IN_SAMPLE | {"bc": "bc", "bc10": "bc"} | {name: name for name in OTHERS})
ONLINE = Modules(
    {"xsac": "sac", "sac": "sac", "xtd3": "td3", "xtd3_dq": "td3", "td3": "td3", "td3_dq": "td3"}
)
FLOWS = ("flow", "weighted_flow", "one_step_flow")
POLICIES = Modules(
    {
        "forward_kl": "parts:ForwardKL",
        "reverse_kl": "policy_objectives:ReverseKL",
        "trust_region": "policy_objectives:TrustRegion",
        "max_q": "policy_objectives:MaxQ",
        "flow": "flow_policies:Flow",
        "weighted_flow": "flow_policies:WeightedFlow",
        "one_step_flow": "flow_policies:OneStepFlow",
    }
)
CLONING = Modules({"flow": "flow_policies:CloningFlow"})  # of methods with neither V nor Q
HEADS = Modules(
    {
        "gaussian": "parts:Gaussian",
        "state_gaussian": "policy_objectives:StateGaussian",
        "narrow_gaussian": "policy_objectives:NarrowGaussian",
        "squashed": "policy_objectives:Squashed",
        "mixture": "policy_objectives:Mixture",
    }
)


def method_of(name: str) -> str:
    """Returns METHOD of METHOD+POLICY."""
    return name.partition("+")[0]


def method_named(name: str) -> Method[Any]:
    """Returns the offline or online method; UserError if there is none."""
    for methods in (OFFLINE, ONLINE):
        if name in methods:
            return methods[name]
    raise UserError(f"unknown method {name!r}; known: {', '.join(sorted((*OFFLINE, *ONLINE)))}")


def make_learner(name: str, config: Mapping[str, Any] | None = None) -> Any:
    """Returns METHOD or METHOD+POLICY with these hyperparameters; those left out keep their defaults.

    POLICY is a policy objective, a head or both (OBJECTIVE+HEAD), instead of the method's own.
    """
    method, *replaced = str(name).split("+")  # a config may hold anything
    made = method_named(method)
    learner = made.assembled()
    if len(replaced) > 1 and {*FLOWS} & {*replaced}:
        raise UserError(f"{name}: a flow has a network of its own, and takes no head: leave it out")
    for policy in replaced:
        learner = _with_policy(learner, policy, method)
    known = values_of(learner)
    defaults = {name: value for name, value in made.defaults.items() if name in known}
    values = values_of(learner := with_values(learner, {**defaults, **(config or {})}))
    if "hidden_dims" in values:
        raise UserError(f"{name}: hidden_dims means the widths of all networks: name its own ..._hidden_dims")
    for owner, field, setting in declared(learner):
        if (value := setting.as_plain(getattr(owner, field))) != values[field]:
            raise UserError(
                f"{name}: {field} is {as_typed(value)} in a part and {as_typed(values[field])} in another, "
                f"but is one setting: Method(..., defaults={{{field!r}: VALUE}}) gives all one, or rename it"
            )
    return learner


def _with_policy(learner: Any, name: str, method: str) -> Any:
    """The learner with that head or policy objective. All need a head; objectives need V, most of them Q.

    Without V and Q a flow clones.
    """
    head = getattr(getattr(learner, "policy", None), "head", None)
    if not isinstance(head, HEADS["gaussian"]):
        raise UserError(f"{method} has a policy of its own, and takes no other: leave out +{name}")
    has_v, has_q = hasattr(learner, "value"), hasattr(learner, "critic")
    made = POLICIES if has_v else CLONING
    objectives = {(True, True): made, (True, False): ["forward_kl"], (False, False): made}
    known = [*objectives.get((has_v, has_q), ()), *HEADS]
    if name not in known:
        raise UserError(f"{method} has no policy {name!r}; known: {nearest(name, known)}")
    if name in HEADS:
        policy = learner.policy.replace(head=HEADS[name]())
    else:
        policy = made[name]() if name in FLOWS else made[name](head=head)
    return learner.replace(policy=policy)


def unknown_setting(name: str, known: Collection[str], method: str = "") -> UserError:
    """Returns the error for an unknown name: it says who has it, and what to give. `method` is trained."""
    methods = (*OFFLINE, *ONLINE) if method or "methods" in known else ()
    having = [other for other in methods if name in values_of(make_learner(other))]
    if having and not method:
        return UserError(
            f"{name}: a hyperparameter: give --sweep={name}=VALUES or --methods=METHOD:{name}=VALUE"
        )
    what = f"no hyperparameter of {method}, but of {', '.join(having)}" if having else "unknown setting"
    return UserError(f"{name}: {what}; {advice(name, known)}")
