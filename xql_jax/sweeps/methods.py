"""A method as a user types it, METHOD+POLICY:FIELD=VALUE:..., and the config that it stands for."""

import runpy
from collections.abc import Collection, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.config_files import file_for
from xql_jax.errors import UserError, nearest
from xql_jax.learners.fields import traced_names
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner, method_of
from xql_jax.runs.settings import SweepSettings
from xql_jax.tasks import Task

TUNED = "xql_t"  # XQL with the values of Table 4 for each dataset


def check_methods(methods: Sequence[str], known: Collection[str] = (*OFFLINE, *ONLINE, TUNED)) -> None:
    """Raises UserError if one is not among the known."""
    for method in methods:
        name = method_of(method.split(":")[0])
        if name.isdigit():  # the second width of METHOD:hidden_dims=256,256
            raise UserError(f"--methods: {name} is no method: type several widths as hidden_dims=256/256")
        if name not in known:
            raise UserError(f"--methods: unknown method {name!r}; nearest known: {nearest(name, known)}")


def traced_fields(method: str) -> list[str]:
    """Returns the traced fields of a method: one compiled program serves all their values."""
    algorithm = method.split(":")[0]
    return traced_names(make_learner("xql" if algorithm == TUNED else algorithm))


def settable_fields(config: ConfigDict) -> list[str]:
    """Returns the names that METHOD:FIELD=VALUE may set: fields of the config and run defaults."""
    of_run = config.about.get("run", {})
    return [name for name in (*config, *of_run) if name not in ("algorithm", "about")]


def config_of(method: str, task: Task, settings: SweepSettings) -> ConfigDict:
    """Returns the config for the method on the task, before the fields in METHOD:FIELD=VALUE are set."""
    algorithm = method.split(":")[0]
    return _config(
        Path(settings.config_dir), task, "xql" if algorithm == TUNED else algorithm, settings.finetune
    )


def set_field(config: ConfigDict, text: str) -> str:
    """Sets a field of the config, or of the run's defaults for the method (`about.run`), to a value.

    Args:
        text: FIELD=VALUE.
    Returns:
        The field's name.
    """
    name, _, value = text.partition("=")
    known = settable_fields(config)
    if name not in known:
        raise UserError(f"--methods: unknown config field {name!r}; nearest known: {nearest(name, known)}")
    of_run = config.about.get("run", {})
    owner = of_run if name in of_run else config
    kind = owner.get_type(name)
    try:
        if kind is bool:
            owner[name] = {"true": True, "false": False}[value]
        elif kind is tuple:
            owner[name] = tuple(int(width) for width in value.strip("()").replace("/", " ").split())
        else:
            owner[name] = kind(value)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"--methods: {name} must be a {kind.__name__}, not {value!r}") from None
    return name


def _config(folder: Path, task: Task, method: str, is_finetuning: bool) -> ConfigDict:
    """Returns the suite's config (its config for fine-tuning, if there is one) or, online, the method's."""
    file = file_for(method, task, is_finetuning, folder)
    if file is None:
        raise UserError(
            f"--datasets: there is no config for {task.name}, of the suite {task.suite}, in {folder}"
        )
    return runpy.run_path(str(file))["get_config"](method)
