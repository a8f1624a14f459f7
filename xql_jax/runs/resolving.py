"""A config file's values and what a user gives become the settings of a run."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner, unknown_setting
from xql_jax.runs.kinds import METHOD_SETTINGS, Preset, Training
from xql_jax.settings import TEXT, WIDTHS, Setting, settings_of

K = TypeVar("K", bound=Training)
METHOD = Setting(None, TEXT, "The method, and after a plus its policy.", str)
EVERY_WIDTH = Setting(None, WIDTHS, "Widths of the hidden layers of all networks.", tuple)


def hyperparameters_of(method: str) -> dict[str, Setting]:
    """Returns what a user may give for a method: its hyperparameters, and the widths of all networks."""
    known = settings_of(make_learner(method))
    has_widths = any(name.endswith("_hidden_dims") for name in known)
    return known | ({"hidden_dims": EVERY_WIDTH} if has_widths else {})


def with_every_width(values: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Returns the values with `hidden_dims`, if given, replaced by the widths of every network."""
    others = {name: value for name, value in values.items() if name != "hidden_dims"}
    if "hidden_dims" not in values:
        return others
    return {name: values["hidden_dims"] for name in known if name.endswith("_hidden_dims")} | others


def settings_from(
    kind: type[K],
    preset: Preset,
    values: Mapping[str, object],
    given: Iterable[str] | None = None,
    flag: str = "",
) -> K:
    """Returns the settings of a kind of training; UserError for a name or a value that cannot be.

    Args:
        preset: the method, its hyperparameters, and the settings that a config file chooses.
        values: settings and hyperparameters by name, which may be text; those left out are the config's.
        given: the names of what the user gave; None: those of the values.
        flag: what is before a name in messages, such as --.
    """
    method, of_run = preset.config.method, settings_of(kind)
    of_method = hyperparameters_of(method)
    known = of_run | of_method
    for name in values:
        if name not in known:
            raise UserError(f"{flag}{unknown_setting(name, known | {'method': METHOD}, method)}")
    checked = {name: known[name].checked(flag + name, value) for name, value in values.items()}
    every = with_every_width({name: known[name].as_plain(one) for name, one in checked.items()}, of_method)
    if missing := [name for name in of_method if name not in preset.config and name != "hidden_dims"]:
        raise UserError(f"the config has no {missing[0]}, a field of {method}")
    for name in preset.config:
        if name not in of_method and name not in METHOD_SETTINGS and name not in ("method", "suite"):
            raise unknown_setting(name, of_method, method)
    changed = {**preset.config, **every}
    by_file = [name for name, one in of_run.items() if one.by_config and name in preset.config]
    return kind(
        method=method,
        config=ConfigDict({name: changed[name] for name in of_method if name != "hidden_dims"}),
        preset=preset,
        given=frozenset(with_every_width(dict.fromkeys(values if given is None else given), of_method)),
        **{name: changed[name] for name in (*by_file, *every) if name in of_run},
    )
