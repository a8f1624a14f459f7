"""How the files in configs/ are made, and how a config becomes a learner."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ml_collections

from xql_jax.errors import UserError, nearest
from xql_jax.learners.registry import OFFLINE, ONLINE, check_domain, default_config, make_learner
from xql_jax.tasks import Task
from xql_jax.types import Learner

# Entries of a config that say what it is for, and are not for the command line to change.
ABOUT = ("algorithm", "suites", "tuned", "small", "by_task")

# In configs/, where the names differ.
FILE_BY_SUITE = {"locomotion": "mujoco", "bullet": "mujoco", "maze2d": "pointmaze"}

# Variants that take another algorithm's values in the fields that they share.
VARIANT_OF = {"value_iteration": "xql", "q_iteration": "xql"}

# Of an online config beside the learner's own.
RUN_FIELDS = ("batch_size", "buffer_size", "warmup_steps", "updates_per_step")

TABLE_4_COLUMNS = ("beta", "clip", "batch_size", "v_updates")  # the columns of the paper's table


def suite_config(
    algorithm: str,
    *,
    suites: Sequence[str],
    differences: Mapping[str, Mapping[str, Any]],
    tuned: Mapping[str, Sequence[float]] | None = None,
) -> ml_collections.ConfigDict:
    """A config of every field of the algorithm, locked: a misspelt override raises instead of vanishing.

    Args:
        algorithm: a registered learner's name.
        suites: the suites (see `Task.suite`) that the values are meant for.
        differences: by algorithm, the fields that differ from the learner's own defaults (a variant, see
            `VARIANT_OF`, takes those of what it varies), and `decay_actor_lr` (true unless given): whether
            the actor's rate falls to 0 along a half cosine over max_steps.
        tuned: by dataset, the row of Table 4 (beta, clip, batch size, v_updates) that `--tuned` applies to
            XQL.
    Raises:
        UserError: if there is no such algorithm.
    """
    _check_algorithm(algorithm, OFFLINE, ONLINE, "experiments/train_online.py")
    config = ml_collections.ConfigDict(default_config(algorithm))
    del config.actor_decay_steps  # known when max_steps is
    config.decay_actor_lr = True
    if algorithm in VARIANT_OF:
        shared = differences.get(VARIANT_OF[algorithm], {})
        config.update({field: value for field, value in shared.items() if field in config})
    config.update(differences.get(algorithm, {}))
    config.algorithm = algorithm
    config.suites = tuple(suites)
    rows = (tuned or {}) if algorithm == "xql" else {}
    config.tuned = {dataset: dict(zip(TABLE_4_COLUMNS, row, strict=True)) for dataset, row in rows.items()}
    return config.lock()


def online_config(
    algorithm: str,
    *,
    algorithms: Sequence[str],
    run: Mapping[str, Any],
    differences: Mapping[str, Any],
    small: Mapping[str, Any],
    by_task: Mapping[str, Mapping[str, Any]],
) -> ml_collections.ConfigDict:
    """A config of every field of an online algorithm and of its run, locked.

    Args:
        algorithm: a registered learner's name.
        algorithms: those that the values are meant for.
        run: those of `RUN_FIELDS`.
        differences: the fields that differ from the learner's own defaults.
        small: what `--config.network=small` changes, among the fields and those of `run`.
        by_task: the fields that differ for some tasks.
    Raises:
        UserError: if there is no such algorithm, or the values are not for it.
    """
    _check_algorithm(algorithm, ONLINE, OFFLINE, "experiments/train_offline.py")
    if algorithm not in algorithms:
        raise UserError(
            f"--config: its values are for {' and '.join(algorithms)}, not for {algorithm}, which has a file "
            "of its own in configs/"
        )
    config = ml_collections.ConfigDict({**default_config(algorithm), **run, **differences})
    config.network = "paper"
    config.algorithm = algorithm
    config.small = dict(small)
    config.by_task = {task: dict(fields) for task, fields in by_task.items()}
    return config.lock()


def _check_algorithm(algorithm: str, known: Collection[str], others: Collection[str], main: str) -> None:
    """Raises UserError unless the algorithm is known; if it is one of the others, with the main for it."""
    if algorithm not in known:
        hint = f" ({main} trains that one)" if algorithm in others else ""
        raise UserError(f"unknown algorithm {algorithm!r} here{hint}; known: {', '.join(sorted(known))}")


def resolve_online(
    config: ml_collections.ConfigDict, env_name: str, explicit: Collection[str]
) -> dict[str, Any]:
    """Sets the task's own values and those of the network's size, but for the fields given explicitly.

    Returns:
        What was set for the task.
    Raises:
        UserError: if the network's size is unknown, or a field of the run impossible.
    """
    for field in RUN_FIELDS:
        check_domain(f"config.{field}", config.algorithm, field, config[field])
    sizes = {"paper": {}, "small": config.small.to_dict()}
    if config.network not in sizes:
        raise UserError(f"config.network must be one of {', '.join(sizes)}, not {config.network!r}")
    by_task = config.by_task.to_dict().get(env_name, {})
    for values in (sizes[config.network], by_task):
        config.update({field: value for field, value in values.items() if field not in explicit})
    return {field: value for field, value in by_task.items() if field not in explicit}


def settings_by_name(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's settings, as its config.json has them, by their names on the command line."""
    settings = {name: value for name, value in identity.items() if name != "config"}
    config = identity.get("config")
    fields = config if isinstance(config, Mapping) else {}  # a damaged one is none
    return settings | {f"config.{name}": value for name, value in fields.items()}


def check_suite(config: ml_collections.ConfigDict, task: Task) -> None:
    """Raises UserError if the config is meant for other suites than the task's."""
    if task.suite not in config.suites:
        raise UserError(
            f"--config is for {', '.join(config.suites)}, and {task.name} is of the suite {task.suite}: "
            f"give configs/{FILE_BY_SUITE.get(task.suite, task.suite)}_config.py, or a file of "
            "your own"
        )


def apply_tuned(config: ml_collections.ConfigDict, env_name: str, explicit: Collection[str]) -> int | None:
    """Sets the dataset's tuned values (Table 4, in parentheses) but for the fields given explicitly.

    Returns:
        The tuned batch size.
    Raises:
        UserError: if there are none for the dataset.
    """
    if env_name not in config.tuned:
        known = nearest(env_name, config.tuned) if config.tuned else "none in this config"
        raise UserError(f"--tuned has no values for {env_name} with {config.algorithm}; it has: {known}")
    values = dict(config.tuned[env_name])
    batch_size = values.pop("batch_size", None)
    config.update({field: value for field, value in values.items() if field not in explicit})
    return batch_size


def learner_from_config(config: ml_collections.ConfigDict, max_steps: int) -> Learner:
    """Builds the learner; raises UserError if a value is impossible."""
    if "network" in config:  # an online one, whose config also has fields of the run
        known = default_config(config.algorithm)
        return make_learner(config.algorithm, {name: config[name] for name in known})
    fields = {name: value for name, value in config.items() if name not in ABOUT}
    if fields.pop("decay_actor_lr"):
        fields["actor_decay_steps"] = float(max_steps)
    return make_learner(config.algorithm, fields)
