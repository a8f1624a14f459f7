"""Configs: hyperparameters and settings with their defaults, a user's changes, and the learner made of them.

A config is flat: `algorithm` and `suite` say what it is for, and all else are hyperparameters and settings
of `method_settings.py`, by name. The defaults come in three layers, of which later ones win: the fields' own
(in the learner's classes and in `method_settings.py`), the method's (`Method`, with its values for the
suite), and the config file's. After these come --tuned, what the user gives, and --sweep.
"""

import contextlib
from collections.abc import Collection, Iterable, Mapping

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from xql_jax.errors import UserError, nearest
from xql_jax.learners import fields
from xql_jax.learners.registry import (
    IN_SAMPLE,
    ONLINE,
    all_hyperparameters,
    make_learner,
    method_named,
    method_of,
)
from xql_jax.method_settings import METHOD_SETTINGS, BufferSettings, FinetuningSettings
from xql_jax.settings import settings_of
from xql_jax.tasks import own_attribute
from xql_jax.types import Json, Learner

NO_VALUES = ("algorithm", "suite")  # entries of a config that a user does not set
IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", tuple: "widths: 256,256"}
VARIANTS_OF_XQL = ("xql", "value_iteration", "q_iteration")  # methods that take XQL's values


def defaults(algorithm: str, suite: str = "", only: Collection[str] = ()) -> ConfigDict:
    """Returns the config of METHOD or METHOD+POLICY from which a config file starts; it is locked.

    Its values are the fields' own defaults, or the method's.

    Args:
        suite: the one of which it takes the method's values, see `Method.by_suite`.
        only: the methods that the file is for; empty: all. UserError for another.
    """
    method = method_of(algorithm)
    if ":" in method:
        own_attribute(method, "--method")  # imports it: a user named it, not a file of a run
    if only and method not in only:
        raise UserError(f"--config: its values are for {' and '.join(only)}, not for {algorithm}")
    settings = settings_of(BufferSettings if method in ONLINE else FinetuningSettings)
    values = {name: one.usual for name, one in settings.items()}
    values |= fields.hyperparameters(make_learner(algorithm))  # the fields' own, and `Method.defaults`
    config = ConfigDict({"algorithm": algorithm, "suite": suite, **values}).lock()
    recipe = method_named(method)
    config.update(recipe.settings)  # the method's, as what follows
    own = recipe.by_suite.get(suite, {})
    config.update({name: value for name, value in own.items() if method == algorithm or name in config})
    return config


def update_all(config: ConfigDict, **values: object) -> None:
    """Sets the values whose fields the method has: for values that are meant for all methods.

    `hidden_dims` are the widths of every network. Raises ValueError for a name that no method has.
    """
    known = with_every_width(values, config)
    _check_names(known, config)
    config.update({name: value for name, value in known.items() if name in config})


def update_in_sample(config: ConfigDict, **values: object) -> None:
    """Does the same for methods like XQL and users' own, except for values that the method itself gives."""
    _check_names(with_every_width(values, config), config)
    method = method_of(config.algorithm)
    if method in IN_SAMPLE or ":" in method:
        recipe = method_named(method)
        own = {*recipe.defaults, *recipe.by_suite.get(config.suite, {})}
        update_all(config, **{name: value for name, value in values.items() if name not in own})


def _check_names(values: Iterable[str], config: ConfigDict) -> None:
    """Raises ValueError for a name that neither the config nor any method has."""
    for name in values:
        if name not in config and name not in (known := all_hyperparameters().keys() | METHOD_SETTINGS):
            raise ValueError(f"no method has {name!r}; nearest known: {nearest(name, known)}")


def with_every_width(values: Mapping[str, object], known: Collection[str]) -> dict[str, object]:
    """Returns the values with `hidden_dims`, if given, replaced by the widths of every network."""
    values = dict(values)
    if "hidden_dims" not in values:
        return values
    widths = values.pop("hidden_dims")
    every = {name: widths for name in known if name.endswith("_hidden_dims")}
    return every | values


def field_names(config: Mapping[str, object]) -> list[str]:
    """Returns the names of the values that a user may set."""
    names = [name for name in config if name not in NO_VALUES]
    return [*names, "hidden_dims"] if any(name.endswith("_hidden_dims") for name in names) else names


def with_fields(config: ConfigDict, values: Mapping[str, object], settings: Iterable[str] = ()) -> ConfigDict:
    """Returns a copy of the config with values set, which may be text as a user types it.

    Args:
        settings: the names of what else can be set, which a message about an unknown name may suggest.
    Raises:
        UserError: if a name is unknown or a value has another type.
    """
    for name in values:
        if name not in field_names(config):
            from xql_jax.unknown import unknown_setting  # whose table only a mistake needs

            raise unknown_setting(name, {*settings, *field_names(config)}, config.algorithm)
    changed = config.copy_and_resolve_references()
    for name, value in with_every_width(values, config).items():
        kind = config.get_type(name)
        arguments = ["", f"--config.{name}={_as_text(value, kind)}"]
        parsed = flags.FlagValues()
        # ml_collections converts the text to the field's type, and writes it into `changed`.
        config_flags.DEFINE_config_dict("config", changed, flag_values=parsed, sys_argv=arguments)
        try:
            parsed(arguments)
        except (flags.Error, ValueError) as error:
            raise UserError(f"{name}={value!r}: must be {IN_WORDS.get(kind, 'text')}") from error
    return changed


def _as_text(value: object, kind: type) -> str:
    """Returns a value as ml_collections parses it: "1e3" and 1000.0 as 1000 for a field that is an int."""
    text = value if isinstance(value, str) else repr(value)
    if kind is tuple:
        return text.replace("/", ",")  # 256/256, where commas separate other things
    if kind is int:
        with contextlib.suppress(ValueError, OverflowError):
            number = float(text)
            return str(int(number)) if number.is_integer() else text
    return text


def learner_from_config(config: ConfigDict, max_steps: float) -> Learner:
    """Builds the learner, whose decaying learning rates reach 0 at `max_steps`; UserError for a bad field."""
    learner = make_learner(config.algorithm)
    values = {name: value for name, value in config.items() if name not in {*NO_VALUES, *METHOD_SETTINGS}}
    for name in fields.hyperparameters(learner):
        if name not in values:
            raise UserError(f"the config has no {name}, a field of {config.algorithm}")
    return fields.with_hyperparameters(learner, values).scheduled(max_steps)


def settings_by_name(identity: Json) -> Json:
    """Returns the settings in a run's config.json by their names on the command line."""
    settings = {name: value for name, value in identity.items() if name != "config"}
    return settings | {f"config.{name}": value for name, value in identity["config"].items()}
