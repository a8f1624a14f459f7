"""Descriptions of all hyperparameters, for `--print_config` and the documentation."""

import dataclasses
from typing import Any

from xql_jax.learners import fields
from xql_jax.learners.registry import make_learner, method_named, method_of

# Meanings of the names that several classes use alike. All other fields say their own.
SHARED = {
    "alpha": "Scale of the soft maximum of Q that V is fitted to, in reward units: the maximum for alpha near"
    " 0, the mean for a large alpha.",
    "tradeoff": "Lambda of f-DVL. The larger it is, the nearer V is to the maximum of Q.",
    "awr_temperature": "Multiplies the advantage in the policy's objective, in 1 / reward units: 0 clones the"
    " data, a large value follows only the best actions.",
    "max_weight": "Largest weight that an action of the data may have in the policy's loss; inf: no bound.",
    "actor_lr": "Learning rate of the policy.",
    "actor_hidden_dims": "Widths of the hidden layers of the policy.",
    "dropout_rate": "Dropout rate of the policy's hidden layers in training.",
    "q_weight": "Weight of Q relative to cloning the data; 0: only cloning.",
    "discount": "Discount of rewards, per step.",
    "tau": "Polyak rate: the share by which target networks move to the trained ones, per update of the "
    "targets.",
    "max_grad_norm": "Gradients with a larger norm are scaled down to this norm; inf: never.",
}

# The most important hyperparameters. The line that describes a run shows those that its method has.
LEADING = (
    "beta", "expectile", "alpha", "tradeoff", "order", "errors_share", "least_scale", "clip",
    "awr_temperature", "q_weight", "actor_bc_coef", "critic_bc_coef", "cql_alpha", "brac_alpha",
    "mmd_threshold", "target_return", "discount", "actor_lr", "num_critics", "network",
    "batch_size", "warmup_steps", "updates_per_step",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FieldDescription:
    """A hyperparameter of a method."""

    name: str  # flat, as in `--config.NAME`
    default: Any  # as a config has it: functions by their names
    domain: str  # the values that it may have, in words
    meaning: str  # empty for a field that has none, such as one of your own method
    source: str  # which class or method has the default


def describe_fields(algorithm: str | fields.Part) -> list[FieldDescription]:
    """Describes the hyperparameters of a method, in the order of its config.

    Args:
        algorithm: METHOD or METHOD+POLICY, see `registry.make_learner`; or a learner or another `Part`, whose
            values are taken for the defaults.
    Raises:
        UserError: if there is no such method.
    """
    learner = make_learner(algorithm) if isinstance(algorithm, str) else algorithm
    method = method_of(algorithm) if isinstance(algorithm, str) else ""
    own = method_named(method).defaults if method else {}
    values = fields.hyperparameters(learner)
    found = {}
    for owner, field in fields.declared(learner):
        domain, meaning = field.metadata["domain"], field.metadata["meaning"] or SHARED.get(field.name, "")
        source = f"method {method}" if field.name in own else type(owner).__name__
        found[field.name] = FieldDescription(field.name, values[field.name], domain, meaning, source)
    return list(found.values())
