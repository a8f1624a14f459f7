"""Makes the configs for the files in configs/, decides what they leave open, and builds learners from them.

A config is flat: `algorithm` and the learner's hyperparameters by name. An online config also has the fields
of `OnlineFields`, and `network`. The entry `about` says what the config is for; a user cannot change it.
"""

import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import flax.struct
import ml_collections

from xql_jax import config_files
from xql_jax.config_files import check_method, file_for_suite
from xql_jax.errors import UserError, nearest
from xql_jax.learners import fields
from xql_jax.learners.registry import IN_SAMPLE, OFFLINE, ONLINE, make_learner, method_of
from xql_jax.tasks import Task

# Variants of an algorithm, which take its values for the fields that they share.
VARIANT_OF = {"value_iteration": "xql", "q_iteration": "xql"}
# After a hand-over methods that clone collect by the centre of their policy, and learn slowly and mostly from
# the data. At the full rate, and the more of their own actions they imitate, the sooner they forget what the
# data show: docs/finetune.md has the measurements. The values of `finetune` in `suite_config`.
CLONE_SLOWLY = {
    method: {"online": "actor_lr=1e-5", "acting_temperature": 0.0, "offline_fraction": 0.9}
    for method in ("xql", "xql_bellman", "mxql", "iql", "bc")
}
TABLE_4_COLUMNS = ("beta", "clip", "batch_size", "v_updates")  # the columns of the paper's table
NO_FIELDS = ("algorithm", "about")  # entries of a config that are no hyperparameters

TO_10E8 = fields.Domain("from 1 to 100,000,000", lambda x: 1 <= x <= 1e8)


@flax.struct.dataclass
class OnlineFields(fields.Part):
    """The hyperparameters of online training that do not belong to the learner."""

    batch_size: int = fields.static(256, TO_10E8, "Transitions in a minibatch.")
    buffer_size: int = fields.static(
        1_000_000,
        TO_10E8,
        "Transitions that the replay buffer of each seed holds; the oldest are overwritten.",
    )
    warmup_steps: int = fields.static(
        1_000,
        fields.NOT_NEGATIVE,
        "Number of environment steps at the start with random actions and without updates.",
    )
    updates_per_step: float = fields.static(
        1.0,
        fields.Domain("above 0, at most 1,000", lambda x: 0 < x <= 1000),
        "Updates per step of the environment.",
    )


def suite_config(
    algorithm: str,
    *,
    suites: Sequence[str],
    differences: Mapping[str, Mapping[str, Any]],
    shared: Mapping[str, Any] | None = None,
    in_sample: Mapping[str, Any] | None = None,
    tuned: Mapping[str, Sequence[float]] | None = None,
    finetune: Mapping[str, Mapping[str, Any]] | None = None,
    by_environment: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
) -> ml_collections.ConfigDict:
    """Returns a locked config with every field of METHOD or METHOD+POLICY; UserError if there is none such.

    Later ones of these values win: the learner's defaults, `shared`, `in_sample`, the method's own for the
    first suite (`Method.by_suite`), `differences`. In each, `hidden_dims` sets the widths of every network.

    Args:
        suites: the suites (see `Task.suite`) that the values are meant for.
        differences: by method, the fields that differ. A variant (see `VARIANT_OF`) also takes those of the
            algorithm that it varies. With +POLICY, fields that the policy lacks are ignored.
        shared: the fields that differ for every method that has them.
        in_sample: those that differ for methods like XQL and for users' own, unless one has its own default.
        tuned: by dataset, the row of Table 4 (beta, clip, batch size, v_updates) for XQL with `--tuned`.
        finetune: by method, the fields of `FinetuneDefaults` that differ from the method's own.
        by_environment: by the beginning of a task's name and by method ("": every one that has them), fields
            that differ for it; a variant takes them as it does `differences`.
    """
    method, policy = method_of(algorithm), algorithm.partition("+")[2]
    check_method(algorithm, config_files.OFFLINE)
    known = fields.hyperparameters(make_learner(algorithm))
    recipe, values = OFFLINE[method], dict[str, Any]()
    in_family = {name: value for name, value in (in_sample or {}).items() if name not in recipe.defaults}
    own = not policy  # values not meant for this method alone may be for fields that it lacks
    for some, is_own in (
        (shared or {}, False),
        (in_family if method in IN_SAMPLE or ":" in method else {}, False),
        (differences.get(VARIANT_OF.get(method, ""), {}), False),
        (recipe.by_suite.get(suites[0] if suites else "", {}), own),
        (differences.get(method, {}), own),
    ):
        widened = _every_width(some, known)
        values |= {name: value for name, value in widened.items() if is_own or name in known}
    rows = (tuned or {}) if method == "xql" else {}
    takes = ("", VARIANT_OF.get(method, ""), method)
    about = {
        "suites": tuple(suites),
        "tuned": {dataset: dict(zip(TABLE_4_COLUMNS, row, strict=True)) for dataset, row in rows.items()},
        "run": dataclasses.asdict(recipe.run),
        "finetune": {**dataclasses.asdict(recipe.finetune), **(finetune or {}).get(method, {})},
        "by_environment": {
            start: {k: v for one in takes for k, v in of.get(one, {}).items() if k in known}
            for start, of in (by_environment or {}).items()
        },
    }
    return _config(algorithm, known, values, about)


def online_config(
    algorithm: str,
    *,
    algorithms: Sequence[str],
    differences: Mapping[str, Any],
    small: Mapping[str, Any],
    by_task: Mapping[str, Mapping[str, Any]] | None = None,
) -> ml_collections.ConfigDict:
    """Returns a locked config with every field of an online algorithm and of `OnlineFields`.

    Args:
        algorithms: those for which the values are meant.
        differences: the fields that differ from the defaults; `hidden_dims` sets the widths of all networks.
        small: the fields that `--network=small` changes.
        by_task: by task, the fields that differ for it.
    """
    check_method(algorithm, config_files.ONLINE)
    known = fields.hyperparameters(make_learner(algorithm))
    if algorithm not in algorithms:
        raise UserError(
            f"--config: its values are for {' and '.join(algorithms)}, not for {algorithm}, which has a file "
            "of its own in configs/"
        )
    known |= fields.hyperparameters(OnlineFields())
    about = {"small": _every_width(small, known), "by_task": dict(by_task or {})}
    return _config(algorithm, known | {"network": "paper"}, _every_width(differences, known), about)


def _config(
    algorithm: str, known: Mapping[str, Any], values: Mapping[str, Any], about: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """Returns a locked config with these values, each of its default's type, and also in `about.base`."""
    config = ml_collections.ConfigDict(known)
    config.update(values)
    base = config.to_dict()
    return ml_collections.ConfigDict(
        {"algorithm": algorithm, **base, "about": {**about, "base": base}}
    ).lock()


def _every_width(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Returns the values with `hidden_dims`, if given, replaced by the widths of every network."""
    values = dict(values)
    widths = values.pop("hidden_dims", None)
    names = [name for name in known if name.endswith("_hidden_dims")] if widths is not None else []
    return {**dict.fromkeys(names, widths), **values}


def field_names(config: Mapping[str, Any]) -> list[str]:
    """Returns the names of the hyperparameters that a user may set."""
    names = [name for name in config if name not in NO_FIELDS]
    return [*names, "hidden_dims"] if any(name.endswith("_hidden_dims") for name in names) else names


def with_fields(
    config: ml_collections.ConfigDict, values: Mapping[str, Any], settings: Iterable[str] = ()
) -> ml_collections.ConfigDict:
    """Returns a copy of the config with hyperparameters set, to values of their type or as a user types them.

    Args:
        settings: the names of what else can be set, which a message about an unknown name may suggest.
    Raises:
        UserError: if a name is unknown or a value has another type.
    """
    changed = config.copy_and_resolve_references()
    for name in values:
        if name not in field_names(config):
            from xql_jax.unknown import unknown_setting  # whose table only a mistake needs

            raise unknown_setting(name, {*settings, *field_names(config)}, config.algorithm)
    for name, value in _every_width(values, config).items():
        changed[name] = typed(name, value, config.get_type(name))
    return changed


def typed(name: str, value: Any, kind: type) -> Any:
    """Returns the value as a `kind`: text is parsed, lists are tuples; UserError if that cannot be."""
    words = {bool: "true or false", int: "a whole number", float: "a number", tuple: "widths, as 256,256"}
    with contextlib.suppress(KeyError, OverflowError, TypeError, ValueError):
        if kind is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        if kind is tuple and isinstance(value, str | int):
            value = [int(width) for width in re.split("[,/]", str(value).strip("()")) if width.strip()]
        if kind is tuple and isinstance(value, list):
            return tuple(value)
        if kind in (int, float) and not isinstance(value, bool):
            number = float(value)
            value = number if kind is float else int(number) if number.is_integer() else value
        if isinstance(value, kind):
            return value
    raise UserError(f"{name}={value!r}: must be {words.get(kind, 'text')}")


def resolve_offline(
    config: ml_collections.ConfigDict, env_name: str | None, tuned: bool, given: Collection[str]
) -> tuple[ml_collections.ConfigDict, int | None]:
    """Returns the config with the task's own values, with `tuned` also Table 4's for it, and its batch size.

    The fields that the user gave, `given`, stay.
    """
    config = config.copy_and_resolve_references()
    for start, values in config.about.get("by_environment", {}).items():
        if (env_name or "").startswith(start):
            config.update({name: value for name, value in values.items() if name not in given})
            config.about.base.update(values)  # what a run's name need not tell
    if not tuned:
        return config, None
    if env_name is None:
        raise UserError("--tuned needs --env_name: its values are those of a task")
    rows = config.about.tuned
    if env_name not in rows:
        known = nearest(env_name, rows) if rows else "none in this config"
        raise UserError(f"--tuned has no values for {env_name} with {config.algorithm}; it has: {known}")
    values = dict(rows[env_name])
    batch_size = values.pop("batch_size", None)
    config.update({name: value for name, value in values.items() if name not in given})
    return config, batch_size


def resolve_online(
    config: ml_collections.ConfigDict, env_name: str, given: Collection[str]
) -> ml_collections.ConfigDict:
    """Returns the config with the values for the networks' size and for the task, see `resolve_offline`."""
    config = config.copy_and_resolve_references()
    _check_names(config)
    sizes = {"paper": {}, "small": config.about.small.to_dict()}
    if config.network not in sizes:
        raise UserError(f"network must be one of {', '.join(sizes)}, not {config.network!r}")
    fixed = {*given, *(name for name in config if name.endswith("_hidden_dims") and "hidden_dims" in given)}
    for values in (sizes[config.network], config.about.by_task.to_dict().get(env_name, {})):
        config.update({name: value for name, value in values.items() if name not in fixed})
        config.about.base.update(values)  # what a run's name need not tell
    return config


def learner_from_config(config: ml_collections.ConfigDict, max_steps: float) -> Any:
    """Builds the learner, whose decaying learning rates reach 0 at `max_steps`; UserError for a bad field."""
    _check_names(config)
    learner = make_learner(config.algorithm)
    values = {name: config[name] for name in fields.hyperparameters(learner)}
    return fields.with_hyperparameters(learner, values).scheduled(max_steps)


def _check_names(config: ml_collections.ConfigDict) -> None:
    """Raises UserError unless the config has each field of its algorithm, and no other."""
    known = fields.hyperparameters(make_learner(config.algorithm))
    if config.algorithm in ONLINE:
        known |= fields.hyperparameters(OnlineFields()) | {"network": "paper"}
    given = set(config) - set(NO_FIELDS)
    for name in sorted(given - known.keys()):
        raise UserError(
            f"unknown config field {name!r} for {config.algorithm}; nearest known: {nearest(name, known)}"
        )
    for name in sorted(known.keys() - given):
        raise UserError(f"the config has no {name}, a field of {config.algorithm}")


def check_suite(config: ml_collections.ConfigDict, task: Task) -> None:
    """Raises UserError if the config is not meant for the task's suite."""
    if task.suite.name not in config.about.suites and not task.suite.takes_any_config:
        raise UserError(
            f"--config is for {', '.join(config.about.suites)}, and {task.name} is of the suite "
            f"{task.suite.name}: give configs/{file_for_suite(task.suite)}, or a file of your own"
        )


def settings_by_name(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings in a run's config.json by their names on the command line."""
    settings = {name: value for name, value in identity.items() if name != "config"}
    return settings | {f"config.{name}": value for name, value in identity["config"].items()}
