"""From a name and a config to a learner: the only place where a string becomes code."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.errors import UserError, nearest
from xql_jax.learners.bc import BC
from xql_jax.learners.iql import IQL
from xql_jax.learners.q_iteration import QIteration
from xql_jax.learners.sac import SAC
from xql_jax.learners.td3 import TD3, SingleCriticTD3
from xql_jax.learners.value_iteration import ValueIteration
from xql_jax.learners.xql import XQL
from xql_jax.learners.xsac import XSAC
from xql_jax.learners.xtd3 import XTD3, SingleCriticXTD3
from xql_jax.losses import critic, gumbel
from xql_jax.types import Learner

OFFLINE: dict[str, type] = {
    "xql": XQL,
    "value_iteration": ValueIteration,
    "q_iteration": QIteration,
    "iql": IQL,
    "bc": BC,
}
ONLINE: dict[str, type] = {
    "xsac": XSAC,
    "sac": SAC,
    "xtd3": XTD3,
    "xtd3_dq": SingleCriticXTD3,
    "td3": TD3,
    "td3_dq": SingleCriticTD3,
}
LEARNERS = OFFLINE | ONLINE

# Fields whose value is a function: the names that a config may give. The first is the paper's.
CHOICES: dict[str, dict[str, Callable]] = {
    "loss": {
        "rescaled": gumbel.gumbel_rescaled_loss,
        "plain": gumbel.gumbel_loss,
        "log": gumbel.gumbel_log_loss,
    },
    "clip_rule": {"both": gumbel.clip_both, "above": gumbel.clip_above},
    "critic_loss": {"mse": critic.mse_loss, "huber": critic.huber_loss},
}

# Valid values of numeric fields: (what to say, test). Unlisted fields are unbounded.
Domain = tuple[str, Callable[[float], bool]]
POSITIVE: Domain = ("positive", lambda x: x > 0)
NOT_NEGATIVE: Domain = ("at least 0", lambda x: x >= 0)
AT_LEAST_ONE: Domain = ("at least 1", lambda x: x >= 1)
DOMAINS: dict[str, Domain] = {
    **dict.fromkeys(
        (
            "actor_lr",
            "value_lr",
            "critic_lr",
            "actor_decay_steps",
            "max_grad_norm",
            "max_weight",
            "beta",
            "clip",
            "entropy_coef_lr",
            "initial_entropy_coef",
        ),
        POSITIVE,
    ),
    **dict.fromkeys(
        (
            "awr_temperature",
            "uniform_actions",
            "action_noise",
            "exploration_noise",
            "target_noise",
            "target_noise_clip",
        ),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(("num_critics", "v_updates", "actor_period", "target_period"), AT_LEAST_ONE),
    **dict.fromkeys(("batch_size", "buffer_size"), ("from 1 to 100,000,000", lambda x: 1 <= x <= 1e8)),
    "warmup_steps": NOT_NEGATIVE,
    "updates_per_step": ("above 0, at most 1,000", lambda x: 0 < x <= 1000),
    "discount": ("within [0, 1]", lambda x: 0 <= x <= 1),
    "tau": ("within (0, 1]", lambda x: 0 < x <= 1),
    "expectile": ("within (0, 1)", lambda x: 0 < x < 1),
    "dropout_rate": ("within [0, 1)", lambda x: 0 <= x < 1),
}
# And those that hold for one learner alone.
OWN_DOMAINS: dict[tuple[str, str], Domain] = {
    ("q_iteration", "discount"): ("within (0, 1], as it scales beta", lambda x: 0 < x <= 1),
}
INFINITE_IS_OFF = ("clip", "max_weight", "max_grad_norm", "actor_decay_steps")  # all others are finite


def default_config(name: str) -> dict[str, Any]:
    """Returns the learner's fields with their defaults, functions by their names.

    Raises:
        UserError: if there is no such learner.
    """
    return {field.name: _to_config(field.name, field.default) for field in _fields(name)}


def traced_fields(name: str) -> list[str]:
    """Returns the names of the learner's traced hyperparameters: those that a sweep may vary."""
    return [field.name for field in _fields(name) if field.metadata.get("pytree_node", True)]


def make_learner(name: str, config: Mapping[str, Any]) -> Learner:
    """Builds a learner from a complete or partial config; fields left out keep their defaults.

    Raises:
        UserError: if the name or a field is unknown, or a value is impossible.
    """
    fields = {field.name: field for field in _fields(name)}
    values: dict[str, Any] = {}
    for key, value in config.items():
        if key not in fields:
            raise UserError(f"unknown config field {key!r} for {name}; nearest known: {nearest(key, fields)}")
        values[key] = _from_config(name, key, value, fields[key].default)
    learner = LEARNERS[name](**values)
    # Python floats would be weakly typed leaves and cost a second trace.
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), learner)


def check_domain(where: str, name: str, field: str, value: float) -> None:
    """Raises UserError if learner `name` cannot have this value, judged as the float32 that it becomes."""
    text, holds = OWN_DOMAINS.get((name, field)) or DOMAINS.get(field, ("a number", lambda x: True))
    with np.errstate(over="ignore", under="ignore"):
        number = float(np.float32(value))
    if np.isinf(number) and field not in INFINITE_IS_OFF:
        raise UserError(f"{where} must be finite in float32, not {value:g}")
    if np.isnan(number) or not holds(number):
        raise UserError(f"{where} must be {text}, not {value:g}")


def _fields(name: str) -> tuple[dataclasses.Field, ...]:
    if name not in LEARNERS:
        raise UserError(f"unknown algorithm {name!r}; known: {', '.join(sorted(LEARNERS))}")
    return dataclasses.fields(LEARNERS[name])


def _to_config(field: str, value: Any) -> Any:
    if field in CHOICES:
        return next(choice for choice, function in CHOICES[field].items() if function is value)
    return value if isinstance(value, tuple | bool | int) else float(value)


def _from_config(name: str, field: str, value: Any, default: Any) -> Any:
    if field in CHOICES:
        if not isinstance(value, str) or value not in CHOICES[field]:
            raise UserError(f"config.{field} must be one of {', '.join(CHOICES[field])}, not {value!r}")
        return CHOICES[field][value]
    if isinstance(default, tuple):
        if not isinstance(value, tuple | list) or any(type(width) is not int or width < 1 for width in value):
            raise UserError(f"config.{field} must be positive whole numbers, not {value!r}")
        return tuple(value)
    known = int | float if isinstance(default, float) else type(default)
    if not isinstance(value, known) or isinstance(value, bool) != isinstance(default, bool):  # bools are ints
        raise UserError(f"config.{field} must be {type(default).__name__}, not {value!r}")
    if not isinstance(default, bool):
        check_domain(f"config.{field}", name, field, value)
    return float(value) if isinstance(default, float) else value
