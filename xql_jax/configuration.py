"""How the files in configs/ are made, and how a config becomes a learner.

A config is flat: `algorithm`, the learner's hyperparameters by their names, and online those of
`OnlineFields` and `network`. What it is for is under `about`, and not for the command line to change.
"""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import flax.struct
import ml_collections
from ml_collections import config_dict

from xql_jax.errors import UserError, nearest
from xql_jax.learners import fields
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner
from xql_jax.tasks import Task

# In configs/, where the names differ.
FILE_BY_SUITE = {"locomotion": "mujoco", "bullet": "mujoco", "gymnasium": "mujoco", "maze2d": "pointmaze"}

# Variants that take another algorithm's values in the fields that they share.
VARIANT_OF = {"value_iteration": "xql", "q_iteration": "xql"}

TABLE_4_COLUMNS = ("beta", "clip", "batch_size", "v_updates")  # the columns of the paper's table

TO_10E8 = fields.Domain("from 1 to 100,000,000", lambda x: 1 <= x <= 1e8)


@flax.struct.dataclass
class OnlineFields(fields.Part):
    """The hyperparameters of online training that are no learner's."""

    batch_size: int = fields.static(256, TO_10E8)
    buffer_size: int = fields.static(1_000_000, TO_10E8)  # transitions
    warmup_steps: int = fields.static(1_000, fields.NOT_NEGATIVE)  # of random actions, before any learning
    updates_per_step: float = fields.static(
        1.0, fields.Domain("above 0, at most 1,000", lambda x: 0 < x <= 1000)
    )


def suite_config(
    algorithm: str,
    *,
    suites: Sequence[str],
    differences: Mapping[str, Mapping[str, Any]],
    shared: Mapping[str, Any] | None = None,
    in_sample: Mapping[str, Any] | None = None,
    tuned: Mapping[str, Sequence[float]] | None = None,
) -> ml_collections.ConfigDict:
    """A config of every field of the algorithm, locked; UserError if there is no such algorithm.

    Later ones win: the learner's own defaults, `shared`, `in_sample`, what the method's file says of the
    first suite (`Method.by_suite`), `differences`. In all, `hidden_dims` is that of every network.

    Args:
        algorithm: METHOD or METHOD+POLICY, see `registry.make_learner`.
        suites: the suites (see `Task.suite`) that the values are meant for.
        differences: by method, the fields that differ. A variant (see `VARIANT_OF`) takes those of what it
            varies, another policy than the method's own those that it has.
        shared: the fields that differ for every method that has them.
        in_sample: the same for the in-sample family alone, XQL's and IQL's kin, but for those fields that a
            method gives a default of its own.
        tuned: by dataset, the row of Table 4 (beta, clip, batch size, v_updates) that `--tuned` applies to
            XQL.
    """
    method, _, policy = algorithm.partition("+")
    known = _defaults(algorithm, OFFLINE, ONLINE, "experiments/train_online.py")
    recipe = OFFLINE[method]
    own = {**recipe.by_suite.get(suites[0] if suites else "", {}), **differences.get(method, {})}
    in_family = {name: value for name, value in (in_sample or {}).items() if name not in recipe.defaults}
    layers = [
        shared or {},
        in_family if issubclass(recipe.learner, InSample) or method in VARIANT_OF else {},
        differences.get(VARIANT_OF.get(method, ""), {}),
    ]
    rows = (tuned or {}) if method == "xql" else {}
    about = {
        "suites": tuple(suites),
        "tuned": {dataset: dict(zip(TABLE_4_COLUMNS, row, strict=True)) for dataset, row in rows.items()},
        "run": dataclasses.asdict(recipe.run),
    }
    config = _config(algorithm, known, about)
    for layer in layers:
        values = _every_width(layer, known).items()
        config.update({name: value for name, value in values if name in known})
    values = _every_width(own, known).items()
    config.update({name: value for name, value in values if not policy or name in known})
    return config.lock()


def online_config(
    algorithm: str,
    *,
    algorithms: Sequence[str],
    differences: Mapping[str, Any],
    small: Mapping[str, Any],
    by_task: Mapping[str, Mapping[str, Any]],
) -> ml_collections.ConfigDict:
    """A config of every field of an online algorithm and of `OnlineFields`, locked; UserError as above.

    Args:
        algorithm: a registered learner's name.
        algorithms: those that the values are meant for.
        differences: the fields that differ from the defaults; `hidden_dims` is that of all networks.
        small: what `--config.network=small` changes.
        by_task: the fields that differ for some tasks.
    """
    known = _defaults(algorithm, ONLINE, OFFLINE, "experiments/train_offline.py")
    if algorithm not in algorithms:
        raise UserError(
            f"--config: its values are for {' and '.join(algorithms)}, not for {algorithm}, which has a file "
            "of its own in configs/"
        )
    known |= fields.hyperparameters(OnlineFields())
    values_by_task = {task: dict(values) for task, values in by_task.items()}
    about = {"small": _every_width(small, known), "by_task": values_by_task}
    config = _config(algorithm, known | {"network": "paper"}, about)
    config.update(_every_width(differences, known))
    return config.lock()


def _config(algorithm: str, values: Mapping[str, Any], about: Mapping[str, Any]) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "algorithm": algorithm,
            **values,
            "hidden_dims": config_dict.placeholder(tuple),  # of all networks, for those not given themselves
            "about": about,
        }
    )


def _defaults(algorithm: str, known: Collection[str], others: Collection[str], main: str) -> dict[str, Any]:
    """The algorithm's hyperparameters; raises UserError unless it is known, with the main for the others."""
    method = algorithm.split("+")[0]
    if method not in known:
        hint = f" ({main} trains that one)" if method in others else ""
        raise UserError(f"unknown algorithm {method!r} here{hint}; known: {', '.join(sorted(known))}")
    return fields.hyperparameters(make_learner(algorithm))


def _every_width(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The values with `hidden_dims`, if it is among them, as those of every network."""
    values = dict(values)
    widths = values.pop("hidden_dims", None)
    names = [name for name in known if name.endswith("_hidden_dims")] if widths is not None else []
    return {**dict.fromkeys(names, widths), **values}


def resolve_widths(config: ml_collections.ConfigDict, explicit: Collection[str]) -> None:
    """Gives `hidden_dims`, where it was given, to the networks whose own widths were not."""
    widths = config.get("hidden_dims")
    if widths is not None:
        networks = [name for name in config if name.endswith("_hidden_dims")]
        if not networks:
            raise UserError(f"config.hidden_dims: {config.algorithm} has no network of hidden layers")
        fields.check_value(make_learner(config.algorithm), "config.hidden_dims", networks[0], widths)
        values = _every_width({"hidden_dims": widths}, config.keys())
        config.update({name: value for name, value in values.items() if name not in explicit})
    if "hidden_dims" in config:
        with config.unlocked():
            del config.hidden_dims


def resolve_online(
    config: ml_collections.ConfigDict, env_name: str, explicit: Collection[str]
) -> dict[str, Any]:
    """Sets the task's own values and those of the network's size, but for the fields given explicitly.

    Returns what was set for the task. UserError if a field or the network's size is unknown or impossible.
    """
    _check_names(config)
    sizes = {"paper": {}, "small": config.about.small.to_dict()}
    if config.network not in sizes:
        raise UserError(f"config.network must be one of {', '.join(sizes)}, not {config.network!r}")
    given = {*explicit, *_every_width({"hidden_dims": config.get("hidden_dims")}, config.keys())}
    by_task = config.about.by_task.to_dict().get(env_name, {})
    for values in (sizes[config.network], by_task):
        config.update({name: value for name, value in values.items() if name not in given})
    resolve_widths(config, explicit)
    online_fields(config)
    return {name: value for name, value in by_task.items() if name not in explicit}


def online_fields(config: ml_collections.ConfigDict) -> OnlineFields:
    """Returns the config's fields of that class; raises UserError if one is impossible."""
    known = fields.hyperparameters(OnlineFields())
    with _of_config():
        return OnlineFields(**{name: config[name] for name in known})


def _check_names(config: ml_collections.ConfigDict) -> None:
    """Raises UserError unless the config has each field of its algorithm, and no other."""
    known = fields.hyperparameters(make_learner(config.algorithm))
    if config.algorithm in ONLINE:
        known |= fields.hyperparameters(OnlineFields()) | {"network": "paper"}
    given = set(config) - {"algorithm", "about", "hidden_dims"}
    for name in sorted(given - known.keys()):
        raise UserError(
            f"unknown config field {name!r} for {config.algorithm}; nearest known: {nearest(name, known)}"
        )
    for name in sorted(known.keys() - given):
        raise UserError(f"the config has no {name}, a field of {config.algorithm}")


@contextlib.contextmanager
def _of_config() -> Iterator[None]:
    """Has errors name fields as the command line does."""
    try:
        yield
    except UserError as error:
        raise UserError(f"config.{error}") from error


def settings_by_name(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's settings, as its config.json has them, by their names on the command line."""
    settings = {name: value for name, value in identity.items() if name != "config"}
    config = identity.get("config")
    values = config if isinstance(config, Mapping) else {}  # a damaged one is none
    return settings | {f"config.{name}": value for name, value in values.items()}


def check_suite(config: ml_collections.ConfigDict, task: Task) -> None:
    """Raises UserError if the config is meant for other suites than the task's."""
    if task.suite not in config.about.suites:
        raise UserError(
            f"--config is for {', '.join(config.about.suites)}, and {task.name} is of the suite "
            f"{task.suite}: "
            f"give configs/{FILE_BY_SUITE.get(task.suite, task.suite)}_config.py, or a file of "
            "your own"
        )


def apply_tuned(config: ml_collections.ConfigDict, env_name: str, explicit: Collection[str]) -> int | None:
    """Sets the dataset's tuned values (Table 4, in parentheses) but for the fields given explicitly.

    Returns the tuned batch size. UserError if there are none for the dataset.
    """
    tuned = config.about.tuned
    if env_name not in tuned:
        known = nearest(env_name, tuned) if tuned else "none in this config"
        raise UserError(f"--tuned has no values for {env_name} with {config.algorithm}; it has: {known}")
    values = dict(tuned[env_name])
    batch_size = values.pop("batch_size", None)
    config.update({name: value for name, value in values.items() if name not in explicit})
    return batch_size


def learner_from_config(config: ml_collections.ConfigDict, max_steps: int) -> Any:
    """Builds the learner, decaying rates 0 after `max_steps`.

    Raises:
        UserError: if a field is missing or unknown, or a value impossible.
    """
    _check_names(config)
    learner = make_learner(config.algorithm)
    known = fields.hyperparameters(learner)
    with _of_config():
        values = {name: config[name] for name in known}
        return fields.with_hyperparameters(learner, values).scheduled(max_steps)
