"""Flag parsing and error handling of the commands, whose mains are the scripts in experiments/.

A user's mistake ends the program with exit code 2 and one line on stderr, without a traceback.
"""

import itertools
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from absl import app, flags
from absl import logging as absl_logging

from xql_jax.config_files import OFFLINE, file_for_task, load_config, shipped
from xql_jax.configuration import with_fields
from xql_jax.errors import UserError
from xql_jax.runs.settings import RunSettings
from xql_jax.settings import Setting, settings_of
from xql_jax.training.progress import print_lines

S = TypeVar("S")

flags.disclaim_key_flags()  # flags defined here count as the main's own, so that its `--help` lists them

# Flags of earlier versions, or NAME=VALUE for one value that a flag took, with what to use instead.
GONE = {
    "coordinator_address": "xql-sweep trains shares of the seeds on several hosts",
    "num_processes": "one process uses all devices of its host; xql-sweep trains on several hosts",
    "process_id": "xql-sweep trains on several hosts, as runs of their own",
    "join_seconds": "xql-sweep trains on several hosts, as runs of their own",
    "shard_data": "the data are on each device if they fit, else give --data_on=host",
    "data_on=disk": "the data are in memory: give --data_on=host",
    "on_damaged_replay": "--resume goes on from the last checkpoint whose replay buffer is whole",
    "external_data": "store the arrays in the HDF5 file itself: h5repack copies it so",
    "serve": "the report is a static page: run the same command again to renew it",
    "port": "the report is a static page: open index.html in --output",
    "halve_at": "a sweep trains every setting to its end; Ray Tune stops bad ones early",
    "keep": "a sweep trains every setting to its end",
    "mixture": "collect from each policy into a file of its own, with --episodes, and append with --append",
    "recipe": "collect each set by a command of its own: docs/data.md has the five lines",
    "save_dir": "give --output",
    "out": "give --output",
    "run": "collect each set by a command of its own: docs/data.md has the five lines",
}


class Value(flags.ArgumentParser):
    """Parser of text, or of a number such as 1e5 or 100_000. `Setting.check` checks the value."""

    def __init__(self, setting: Setting):
        self.setting, self.syntactic_help = setting, setting.valid

    def parse(self, argument: Any) -> Any:
        if self.setting.kind is str:
            return argument
        try:
            number = float(argument)
        except ValueError:
            return argument
        return int(number) if self.setting.kind is int and number.is_integer() else number


def define_flags(kind: type) -> None:
    """Defines a flag for each setting of a class of settings, and those that all trainings have."""
    for one in settings_of(kind).values():
        if one.positional:
            continue
        if one.kind is bool:
            flags.DEFINE_boolean(one.name, one.default, one.meaning)
        elif one.kind in (int, float, str):
            flags.DEFINE(Value(one), one.name, one.default, one.meaning)
        else:
            define = flags.DEFINE_list if one.by_commas else flags.DEFINE_multi_string
            define(one.name, list(one.default), one.meaning)
        if one.alias:
            flags.DEFINE_alias(one.alias, one.name)
    if issubclass(kind, RunSettings):
        flags.DEFINE_string(
            "config",
            None,
            "Hyperparameters: configs/NAME.py, or configs/NAME.py:METHOD (all methods: docs/methods.md), or "
            "METHOD+POLICY (xql+reverse_kl) for another policy than its own. --config.FIELD=VALUE changes "
            "one; --print_config shows all. The default is the file of the task's suite, online X-SAC's.",
        )
        flags.DEFINE_boolean(
            "print_config",
            False,
            "Print every setting, its value, its source and its meaning. Train nothing.",
        )


def run(
    main: Callable[[S], int | None],
    kind: type[S],
    expanded: Callable[[Sequence[str]], list[str]] = list,
) -> None:
    """Parses the command line to settings and runs main with them; its result is the exit code.

    Args:
        expanded: returns the arguments to parse, given those that were typed.
    """
    define_flags(kind)
    fields: dict[str, str] = {}  # given by --config.FIELD=VALUE

    def parse(arguments: Sequence[str]) -> list[str]:
        try:
            positional, found = _parsed(expanded(arguments))
            fields.update(found)
            return positional
        except (UserError, flags.Error) as error:
            sys.exit(fail(error))
        except OSError as error:
            sys.exit(fail(_refusal(error)))

    def guarded(arguments: Sequence[str]) -> int | None:
        try:
            return main(settings_from(kind, arguments[1:], fields))
        except UserError as error:
            return fail(error)
        except MemoryError as error:
            return fail(UserError(f"there is too little memory ({error}): use less data, or more memory"))
        except OSError as error:
            if error.strerror is None:
                raise
            return fail(_refusal(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(128 + signal.SIGINT)  # if XLA was compiling, the interpreter's clean-up would crash

    absl_logging.set_verbosity(absl_logging.WARNING)  # otherwise JAX logs every step
    print_lines()
    app.run(guarded, flags_parser=parse)


def _refusal(error: OSError) -> UserError:
    """Returns what the system refused, and of which file."""
    place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return UserError(f"{place}{error.strerror}")


def fail(error: Exception) -> int:
    """Prints the error as one line; returns the exit code."""
    print("error:", " ".join(str(error).split()).removeprefix("ERROR:: "), file=sys.stderr)  # absl's prefix
    return 2


def settings_from(kind: type[S], positional: Sequence[str], fields: Mapping[str, str]) -> S:
    """Makes settings of class `kind` from the flags.

    Args:
        positional: the arguments without a flag.
        fields: hyperparameters of the config that are given, as they were typed.
    """
    known, values = settings_of(kind), flags.FLAGS
    given: dict[str, Any] = {name: values[name].value for name in known if name in values}
    for name in (name for name in known if known[name].positional):
        several = known[name].kind is Sequence
        if known[name].meaning and not positional:
            raise UserError(f"name {known[name].meaning}")
        given[name] = list(positional) if several else next(iter(positional), None)
        positional = () if several else positional[1:]
    if positional:
        raise UserError(
            f"unexpected argument {positional[0]!r}: it belongs to no flag; write --name=value, see --help"
        )
    if "given" in kind.__dataclass_fields__:  # type: ignore[attr-defined]
        present = {name for name in (*known, "config") if name in values and values[name].present}
        given["given"] = frozenset({*present, *fields})
    if issubclass(kind, RunSettings):
        if values.config is None:
            is_offline = kind.config_kind is OFFLINE
            name = file_for_task(values.env_name, bool(values.dataset)) if is_offline else "xsac_config.py"
            values["config"].value = str(shipped("configs") / name)
        config = load_config(values.config, kind.config_kind)
        try:
            given["config"] = with_fields(config, fields)
        except UserError as error:
            raise UserError(f"--config.{error}") from None
    try:
        return kind(**given)
    except UserError as error:
        raise UserError(f"--{error}") from None


def _parsed(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Parses the flags; returns the other arguments, and the config's fields that are given, by name."""
    arguments, fields = _without_fields(flags.FLAGS.read_flags_from_files(list(arguments)))
    _refuse_gone(arguments)
    try:
        return flags.FLAGS(["--help" if one == "-h" else one for one in arguments]), fields
    except SystemExit:  # absl ends with 1 after --help
        sys.exit(0)
    except flags.IllegalFlagValueError as error:  # absl checks none but those that are true or false
        given = str(error).removeprefix("flag ").partition(": ")[0]
        raise UserError(f"{given}: must be true or false") from None


def _without_fields(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes --config.FIELD=VALUE, --config.FIELD VALUE and --[no]config.FIELD out of the arguments."""
    rest: list[str] = []
    fields: dict[str, str] = {}
    waiting: str | None = None  # the field whose value may come next
    for argument in arguments:
        match = re.fullmatch(r"--?(no)?config\.([^=]*)(?:=(.*))?", argument, re.DOTALL)
        if match:
            fields[match[2]] = match[3] if match[3] is not None else "false" if match[1] else "true"
            waiting = match[2] if match[3] is None and not match[1] else None
        elif waiting is not None and not argument.startswith("--"):
            fields[waiting], waiting = argument, None
        else:
            rest.append(argument)
            waiting = None
    return rest, fields


def _refuse_gone(arguments: Sequence[str]) -> None:
    """Raises UserError for a flag, or a flag's value, of an earlier version."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        name, has_value, value = argument.lstrip("-").partition("=")
        pair = f"{name}={value if has_value else following}"
        for gone in (name, name.removeprefix("no"), pair) if argument.startswith("-") else ():
            if gone in GONE and gone not in flags.FLAGS:
                raise UserError(f"--{gone} has left: {GONE[gone]}")
