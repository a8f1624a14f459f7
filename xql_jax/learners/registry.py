"""Names of methods, of policy objectives and of heads, where a string becomes code; and hyperparameters.

A name's module is imported when the name is used.
"""

import functools
import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from xql_jax.errors import UserError, nearest
from xql_jax.learners import fields
from xql_jax.learners.fields import Method, hyperparameters, with_hyperparameters
from xql_jax.settings import settings_of


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


class Methods(Modules):
    """Methods by name, and users' own as MODULE:NAME: a `Method`, a learner or the class of one.

    Imports nothing of theirs, because a run of somebody else's may name it: `check_method` does.
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
            found = getattr(sys.modules[module], attribute)
            is_class = isinstance(found, type) and issubclass(found, fields.Part)
            method = found if isinstance(found, Method) else Method(found if is_class else lambda: found)
            learner = method()
            for needed in ("update", "init", "actor", "act", "batch_type"):
                getattr(learner, needed)
        except Exception as error:  # it is the user's code, and may fail in any way
            raise UserError(f"--method={name}: no Method and no learner: {error}") from error
        return method


# Methods like XQL, which share values in configs/
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
HEADS = Modules(
    {
        "gaussian": "parts:Gaussian",
        "state_gaussian": "policy_objectives:StateGaussian",
        "narrow_gaussian": "policy_objectives:NarrowGaussian",
        "squashed": "policy_objectives:Squashed",
        "mixture": "policy_objectives:Mixture",
    }
)


def method_of(algorithm: str) -> str:
    """Returns METHOD of METHOD+POLICY."""
    return algorithm.partition("+")[0]


def method_named(name: str) -> Method[Any]:
    """Returns the offline or online method; UserError if there is none."""
    for methods in (OFFLINE, ONLINE):
        if name in methods:
            return methods[name]
    raise UserError(f"unknown algorithm {name!r}; known: {', '.join(sorted((*OFFLINE, *ONLINE)))}")


def make_learner(name: str, config: Mapping[str, Any] | None = None) -> Any:
    """Returns METHOD or METHOD+POLICY with these hyperparameters; those left out keep their defaults.

    POLICY is a policy objective, a head or both (OBJECTIVE+HEAD), instead of the method's own.
    """
    method, *replaced = str(name).split("+")  # a config may hold anything
    made = method_named(method)
    learner = made()
    if len(replaced) > 1 and {*FLOWS} & {*replaced}:
        raise UserError(f"{name}: a flow has a network of its own, and takes no head: leave it out")
    for policy in replaced:
        learner = _with_policy(learner, policy, method)
    known = hyperparameters(learner)
    defaults = {name: value for name, value in made.defaults.items() if name in known}
    return with_hyperparameters(learner, {**defaults, **(config or {})})


@functools.cache
def all_hyperparameters() -> Mapping[str, type]:
    """Returns the types of the hyperparameters of all methods, policy objectives and heads, by name."""
    parts = [make_learner(name) for name in (*OFFLINE, *ONLINE)]
    parts += [part() for part in (*POLICIES.values(), *HEADS.values())]
    return {name: type(value) for part in parts for name, value in hyperparameters(part).items()}


def _with_policy(learner: Any, name: str, method: str) -> Any:
    """The learner with that head or policy objective. All need a head; objectives need V, most of them Q."""
    head = getattr(getattr(learner, "policy", None), "head", None)
    if not isinstance(head, HEADS["gaussian"]):
        raise UserError(f"{method} has a policy of its own, and takes no other: leave out +{name}")
    objectives = POLICIES if hasattr(learner, "critic") else ["forward_kl"]
    known = [*(objectives if hasattr(learner, "value") else ()), *HEADS]
    if name not in known:
        raise UserError(f"{method} has no policy {name!r}; known: {nearest(name, known)}")
    if name in HEADS:
        policy = learner.policy.replace(head=HEADS[name]())
    else:
        policy = POLICIES[name]() if name in FLOWS else POLICIES[name](head=head)
    return learner.replace(policy=policy)


# Meanings of hyperparameters that several classes declare, or that do not fit in the line of their field.
MEANINGS = {
    "alpha": "Scale of the soft maximum of Q that V is fitted to, reward units: if small the maximum.",
    "tradeoff": "Lambda of f-DVL. The larger it is, the nearer V is to the maximum of Q.",
    "expectile": "Expectile of Q that V is fitted to: 0.5: the mean, near 1: the maximum.",
    "least_scale": "Constant, in reward units, added to beta(s) in the scale of advantages.",
    "awr_temperature": "Multiplies the advantage in the policy's objective, in 1 / reward units: 0 clones the"
    " data, a large value follows only the best actions.",
    "max_weight": "Largest weight that an action of the data may have in the policy's loss; inf: no bound.",
    "candidates": "Flows among which the deterministic action is the one with the largest Q; `flow` draws its"
    " sampled actions among as many.",
    "flow_alpha": "Weight of the one-step policy's squared distance from the flow: FQL's alpha.",
    "normalize_q": "In the one-step policy's loss, divide Q by its mean size over the batch.",
    "target_q": "What Q's targets take over the critics: mean or min.",
    "actor_lr": "Learning rate of the policy.",
    "actor_hidden_dims": "Widths of the hidden layers of the policy.",
    "dropout_rate": "Dropout rate of the policy's hidden layers in training.",
    "q_weight": "Weight of Q relative to cloning the data; 0: only cloning.",
    "discount": "Discount of rewards, per step.",
    "tau": "Polyak rate: the share by which targets move to the trained networks, per update of the targets.",
    "max_grad_norm": "Gradients with a larger norm are scaled down to this norm; inf: never.",
    "uniform_actions": "Uniformly random actions that are added to V's loss, per action of the data.",
    "action_noise": "Standard deviation of the noise on the data's actions in V's loss.",
    "critic_loss": "Loss of Q: mse (averaged over the critics) or huber (summed over them).",
    "loss": "Form of the Gumbel loss. rescaled: divided by exp of the batch's largest exponent (App. D.3);"
    " plain: as in Eq. 11; log: the logarithm of 1 + its mean; normalized: divided by the batch's mean of"
    " max(1, exp(z)).",
    "clip_rule": "Effect of the clip. both: no gradient beyond +-clip; above: none beyond +clip; saturate:"
    " beyond +clip the loss continues as its tangent.",
    "errors_share": "Beta as a multiple of the Gumbel scale of the Bellman errors.",
    "cloning_updates": "Updates at the start in which the policy only clones the data.",
    "value_actions": "Number of the policy's actions over which Q is averaged to give V(s).",
    "target_noise": "Standard deviation of the noise on the action in Q's targets.",
    "target_noise_clip": "Bound on the noise that is added to the action in Q's targets.",
    "exploration_noise": "Standard deviation of the noise on actions that collect data.",
    "kernel_init": "Initial kernels of TD3's networks: orthogonal of gain 1, or uniform (1 / sqrt(inputs)).",
    "actor_bc_coef": "Weight of the policy's squared distance from the data: ReBRAC's beta_1.",
    "critic_bc_coef": "Penalty in Q's targets per squared distance, in reward units: ReBRAC's beta_2.",
    "entropy_coef_lr": "Learning rate of the entropy coefficient.",
    "initial_entropy_coef": "Entropy coefficient before the first update, in reward units per nat.",
    "uses_value_network": "Learn Q's targets with a network for V; if false, with the policy's actions.",
    "target_entropy_share": "Target entropy of the policy in units of SAC's, -1 nat per action dimension.",
    "num_min_critics": "Critics, drawn anew in each update, whose minimum gives Q's targets.",
    "cql_alpha": "Weight of the penalty that lowers Q at actions that are not in the data.",
    "cql_threshold": "Target for cql_alpha * Q gap (sampled - data) of a tuned multiplier; inf: none.",
    "cql_actions": "Actions at which Q is lowered, of each kind: uniform, the policy's at s and at s'.",
    "warm_start": "Updates at the start in which the policy only follows the clone.",
    "min_share": "Weight of the smallest critic in Q's targets; the largest has the rest.",
    "backup_actions": "Actions of the policy sampled per next state; the best gives Q's target.",
    "divergence_samples": "Actions per state that estimate the distance of policy and clone.",
    "divergence": "Distance between the policy and the clone: kl, or mmd, the maximum mean discrepancy.",
    "kernel": "Kernel of the maximum mean discrepancy.",
    "evaluation_actions": "Actions per state sampled in evaluation; the one with the largest Q is taken.",
    "actor_warmup_steps": "Updates over which the learning rate grows to its full value.",
    "max_timesteps": "Timesteps with an embedding of their own; later steps share the last one.",
}

# The most important hyperparameters. The line that describes a run shows those that its method has.
LEADING = (
    "beta", "expectile", "alpha", "tradeoff", "order", "errors_share", "least_scale", "clip", "clip_rule",
    "critic_loss", "awr_temperature", "q_weight", "actor_bc_coef", "critic_bc_coef", "cql_alpha",
    "brac_alpha", "mmd_threshold", "target_return", "discount", "actor_lr", "num_critics", "network",
    "batch_size", "warmup_steps", "updates_per_step",
)  # fmt: skip

# Hyperparameters that count the updates of a first phase, in which a part learns in another way.
FIRST_PHASES = ("warm_start", "cloning_updates", "actor_warmup_steps")


class FieldDescription(NamedTuple):
    """A hyperparameter of a method."""

    name: str  # flat, as in `--NAME`
    default: object  # as a config has it: functions by their names
    domain: str  # the values that it may have, in words
    meaning: str  # empty for a field that has none, such as one of your own method
    source: str  # which class or method has the default


def describe_fields(algorithm: str) -> list[FieldDescription]:
    """Describes the hyperparameters of METHOD or METHOD+POLICY, in the order of its config."""
    learner, method = make_learner(algorithm), method_of(algorithm)
    own, values = method_named(method).defaults, hyperparameters(learner)
    found = {}
    known = settings_of(learner)
    for owner, name, _ in fields.declared(learner):
        source = f"method {method}" if name in own else type(owner).__name__
        meaning = known[name].meaning or MEANINGS.get(name, "")
        found[name] = FieldDescription(name, values[name], known[name].valid, meaning, source)
    return list(found.values())
