"""Flag parsing and error handling of the commands, whose mains are the scripts in experiments/.

A user's mistake ends the program with exit code 2 and one line on stderr, without a traceback.

The way of --beta=0.5, which is no flag because which hyperparameters there are depends on the method:
`_parsed` leaves it, `hyperparameters_in` reads it, `with_fields` checks it and sets it in `settings.config`,
and `learner_from_config` (all but the first in configuration.py) in the learner.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from absl import app, flags
from absl import logging as absl_logging

import xql_jax
from xql_jax.configuration import choose_config, field_names, with_fields
from xql_jax.errors import NO_HOME, UserError
from xql_jax.learners.registry import unknown_setting
from xql_jax.method_settings import METHOD
from xql_jax.paths import as_written, paths_from_here
from xql_jax.runs.run_settings import RunSettings
from xql_jax.settings import settings_of
from xql_jax.tasks import own_attribute
from xql_jax.training.progress import print_lines

S = TypeVar("S")

flags.disclaim_key_flags()  # flags defined here count as the main's own, so that its `--help` lists them

# Errors that end the program with one line: mistakes of the user, and what the system refuses.
ONE_LINE_ERRORS = (UserError, flags.Error, MemoryError, OSError, RuntimeError)


def define_flags(kind: type) -> None:
    """Defines a flag for each setting of a class, and those that all commands or all trainings have."""
    flags.DEFINE_boolean("version", False, "Print the version. Do nothing.")
    for name, one in settings_of(kind).items():
        if one.positional:
            continue
        if one.kind is bool:
            flags.DEFINE_boolean(name, one.default, one.meaning)
        elif one.kind is list:
            define = flags.DEFINE_list if one.by_commas else flags.DEFINE_multi_string
            define(name, list(one.default), one.meaning)
        else:
            default = None if one.default is None else str(one.default)  # `Setting.checked` reads numbers
            flags.DEFINE_string(name, default, f"{one.meaning}\n({one.valid})")
        if one.alias:
            flags.DEFINE_alias(one.alias, name)
    if issubclass(kind, RunSettings):
        flags.DEFINE_string(
            "method",
            None,
            "METHOD, METHOD+POLICY (xql+reverse_kl) for another policy than its own, or MODULE:NAME: "
            f"{', '.join(sorted(kind.methods))}. Default: {kind.default_method}. A "
            "hyperparameter is set by its name, as in --discount=0.9; docs/hyperparameters.md lists all.",
        )
        flags.DEFINE_string(
            "config",
            None,
            "File of hyperparameters: configs/NAME.py, or configs/NAME.py:METHOD. Default: the method's own "
            "for the task. --config.FIELD=VALUE is the same as --FIELD=VALUE.",
        )
        flags.DEFINE_boolean(
            "print_config",
            False,
            "Print every setting, its value, its source and its meaning. Train nothing.",
        )


def run(
    main: Callable[[S], int | None], kind: type[S], expanded: Callable[[Sequence[str]], list[str]] = list
) -> None:
    """Parses the command line to settings and runs main with them; its result is the exit code.

    Args:
        expanded: returns the arguments to parse, given those that were typed.
    """
    define_flags(kind)

    def parse(arguments: Sequence[str]) -> list[str]:
        try:
            return _parsed(expanded(arguments))
        except ONE_LINE_ERRORS as error:
            sys.exit(fail(error))

    def guarded(arguments: Sequence[str]) -> int | None:
        try:
            return main(settings_from(kind, arguments[1:]))
        except ONE_LINE_ERRORS as error:
            return fail(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(128 + signal.SIGINT)  # if XLA was compiling, the interpreter's clean-up would crash

    absl_logging.set_verbosity(absl_logging.WARNING)  # otherwise JAX logs every step
    print_lines()
    with paths_from_here():
        app.run(guarded, flags_parser=parse)


def fail(error: Exception) -> int:
    """Prints such an error as one line and returns the exit code; raises those of the program itself."""
    text = str(error).removeprefix("ERROR:: ")  # absl's prefix
    if isinstance(error, MemoryError):
        text = f"there is too little memory ({error}): use less data, or more memory"
    elif isinstance(error, RuntimeError):
        if "home directory" not in text:
            raise error
        text = NO_HOME
    elif isinstance(error, OSError):
        if error.strerror is None:
            raise error
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        text = where + error.strerror
    print("error:", as_written(" ".join(text.split())), file=sys.stderr)
    return 2


def settings_from(kind: type[S], arguments: Sequence[str]) -> S:
    """Makes settings of class `kind` from the flags, and from the arguments that are no flags."""
    known, values = settings_of(kind), flags.FLAGS
    names = [name for name in (*known, "config", "method") if name in values]
    given: dict[str, Any] = {name: values[name].value for name in names if name in known}
    if issubclass(kind, RunSettings):
        file = choose_config(
            kind,
            values.method,
            values.config,
            env_name=values.env_name,
            has_data="dataset" in values and bool(values.dataset),
            network=values.network if "network" in values else "paper",
        )
        given["config_file"] = file
        positional, fields = hyperparameters_in(arguments, field_names(file.config))
        # A run of --checkpoint has its own hyperparameters, and refuses what is given.
        is_of_run = "member" in values and values.checkpoint and not values.method
        try:
            given["config"] = with_fields(
                file.config, {} if is_of_run else fields, {**known, "method": METHOD}
            )
        except UserError as error:
            raise UserError(f"--{error}") from None
    else:
        positional, fields = hyperparameters_in(arguments, ())
        for name in fields:
            raise UserError(f"--{unknown_setting(name, known)}")
    if given.get("method"):
        own_attribute(given["method"], "--method")  # imports it, before a run names it
    for name in (name for name in known if known[name].positional):
        several = known[name].kind is list
        if known[name].meaning and not positional:
            raise UserError(f"name {known[name].meaning}")
        given[name] = list(positional) if several else next(iter(positional), None)
        positional = [] if several else positional[1:]
    if positional:
        raise UserError(
            f"unexpected argument {positional[0]!r}: no path, or one too many (a * may match several), is "
            "taken here; flags are --name=value, see --help"
        )
    if hasattr(kind, "given"):
        given["given"] = frozenset({*(name for name in names if values[name].present), *fields})
    try:
        return kind(**given)
    except UserError as error:
        raise UserError(f"--{error}") from None


def _parsed(arguments: Sequence[str]) -> list[str]:
    """Parses the flags, of which --config.NAME is another form of --NAME; returns the other arguments.

    Hyperparameters are among these, because which there are depends on the method: `known_only` leaves them.
    """
    try:
        typed = [re.sub(r"^(--?(?:no)?)config\.", r"\1", one) for one in arguments]
        rest = flags.FLAGS(["--help" if one == "-h" else one for one in typed], known_only=True)
    except SystemExit:  # absl ends with 1 after --help
        sys.exit(0)
    except flags.IllegalFlagValueError as error:  # absl checks none but those that are true or false
        given = str(error).removeprefix("flag ").partition(": ")[0]
        raise UserError(f"{given}: must be true or false") from None
    except ValueError as error:  # --noFLAG=VALUE
        raise UserError(str(error)) from None
    if flags.FLAGS.version:
        print(f"xql_jax {xql_jax.__version__}")
        sys.exit(0)
    return rest


def hyperparameters_in(arguments: Sequence[str], known: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """Takes what is given as a hyperparameter out of the arguments that are no flags.

    These forms are taken: --NAME=VALUE, --NAME VALUE, --NAME for true and --noNAME for false.

    Args:
        known: the names of the hyperparameters, which tell --noNAME from one that begins with no.
    Returns:
        The other arguments, and the text of each value by its name.
    """
    rest: list[str] = []
    fields: dict[str, str] = {}
    waiting = ""  # the hyperparameter whose value may come next
    for argument in arguments:
        if waiting and not argument.startswith("--"):
            fields[waiting], waiting = argument, ""
        elif re.match("--?[a-zA-Z]", argument):
            name, has_value, value = argument.lstrip("-").partition("=")
            waiting = ""
            if has_value:
                fields[name] = value
            elif name not in known and name.removeprefix("no") in known:
                fields[name.removeprefix("no")] = "false"
            else:
                fields[name], waiting = "true", name
        elif argument != "--":
            rest.append(argument)
    return rest, fields
