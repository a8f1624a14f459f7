"""Flag parsing and error handling of the scripts in experiments/ (the "mains").

A user's mistake ends the program with exit code 2 and one line on stderr, without a traceback.
"""

import itertools
import logging
import math
import os
import re
import signal
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser
from tqdm import tqdm

from xql_jax.config_files import OFFLINE, Kind, find_config, load_config
from xql_jax.envs import BACKENDS
from xql_jax.errors import UserError, nearest

flags.disclaim_key_flags()  # flags defined here count as the main's own, so that its `--help` lists them

# Exceptions that absl and ml_collections raise for a flag or a config file that they cannot read.
PARSE_ERRORS = (
    flags.Error,
    AttributeError,
    ImportError,
    KeyError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    UserError,
)

# Flags of earlier versions, or NAME=VALUE for one value that a flag took, with what to use instead.
GONE = {
    "coordinator_address": "experiments/sweep.py trains shares of the seeds on several hosts",
    "num_processes": "one process uses all devices of its host; experiments/sweep.py trains on several hosts",
    "process_id": "experiments/sweep.py trains on several hosts, as runs of their own",
    "join_seconds": "experiments/sweep.py trains on several hosts, as runs of their own",
    "shard_data": "the data are on each device if they fit, else give --data_on=host",
    "data_on=disk": "the data are in memory: give --data_on=host",
    "external_data": "store the arrays in the HDF5 file itself: h5repack copies it so",
    "serve": "the report is a static page: run the same command again to renew it",
    "port": "the report is a static page: open index.html in --out",
    "halve_at": "a sweep trains every setting to its end; Ray Tune stops bad ones early",
    "keep": "a sweep trains every setting to its end",
    "mixture": "collect from each policy into a file of its own, with --episodes, and append with --append",
    "recipe": "collect each set by a command of its own: docs/data.md has the five lines",
    "run": "collect each set by a command of its own: docs/data.md has the five lines",
}

COMMAND = "INSTALLED_COMMAND"  # name of the global variable that `xql_jax.commands.installed` sets in a main
MOST_EXACT = 2**53  # up to this number, a float represents every whole number exactly


class _ConfigFinder(ConfigFileFlagParser):
    """Config parser that looks the file up with `find_config`, so that short names work, too."""

    def parse(self, path: str) -> ConfigDict:
        name, *method = path.split(":", 1)
        return super().parse(":".join([str(find_config(name)), *method]))


class WholeNumber(flags.IntegerParser):
    """Integer parser that also takes 1e5 and 100_000."""

    def convert(self, argument: str | int) -> int:
        try:
            return super().convert(argument)
        except ValueError:
            number = float(argument)
            if not number.is_integer() or abs(number) > MOST_EXACT:  # not for infinity either
                raise
            return int(number)


class _Printer(logging.Handler):
    """Prints the library's log messages without breaking a progress bar. Errors of printing are raised."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(prefix + record.getMessage())
        sys.stdout.flush()


def define_config(default: Path, help_text: str, kind: Kind = OFFLINE) -> None:
    """Defines `--config=FILE[:ALGORITHM]` and `--config.FIELD=VALUE`.

    config_flags reads the command line immediately, while the main's module is being loaded, and its error
    messages are hard to understand. So the file and the names of the fields are checked here first.

    Args:
        default: the file to use if no --config is given.
        help_text: the flag's help; the names of the fields are added to it.
        kind: the kind of training that the config must be for, offline or online.
    """
    try:
        fields = _check_config(sys.argv[1:], default, kind)
        help_text = f"{help_text} Its fields: {', '.join(sorted(fields))}."
        config_flags.DEFINE_config_file("config", str(default), help_text, lock_config=True)
        flags.FLAGS["config"].parser = _ConfigFinder("config", lock_config=True)
    except PARSE_ERRORS as error:
        sys.exit(fail(error))


def define_environment_flags(of_run: bool = False) -> None:
    """Defines the flags that say how a task's environment is made.

    Args:
        of_run: whether the defaults are the settings of the run that is evaluated or exported.
    """
    otherwise = " The run's own when left out." if of_run else ""
    flags.DEFINE_enum(
        "env_backend",
        None if of_run else "mujoco",
        BACKENDS,
        "mujoco: the environments of this project; d4rl: those of the d4rl package with gym and mujoco-py."
        + otherwise,
    )
    flags.DEFINE_boolean(
        "legacy_inertia",
        None if of_run else False,
        "Give Hopper, Walker2d, HalfCheetah and Ant the capsule masses of the MuJoCo that made D4RL's data."
        + otherwise,
    )


def names_among(flag: str, values: Iterable[str], choices: Sequence[str]) -> list[str]:
    """Returns the names that a flag gives, spelt as in `choices`.

    The flag may give several names separated by commas, in upper or lower case.

    Raises:
        UserError: if a name is not one of the choices.
    """
    known = {choice.lower(): choice for choice in choices}
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name.lower() not in known:
            raise UserError(f"--{flag}={name}: must be one of {', '.join(choices)}")
    return [known[name.lower()] for name in names]


def refuse(names: Sequence[str], why: str) -> None:
    """Raises UserError if the user gives one of these flags or, for a config, one of its fields."""
    for name in flags.FLAGS:
        if flags.FLAGS[name].present and name.split(".")[0] in names:
            raise UserError(f"--{name}: {why}")


def run(main: Callable[..., int | None], max_arguments: int = 0) -> None:
    """Parses the flags and runs main, whose result is the exit code.

    Args:
        main: called with the positional arguments.
        max_arguments: the largest number of positional arguments.
    """

    def guarded(arguments: Sequence[str]) -> int | None:
        positional, unexpected = arguments[1 : 1 + max_arguments], arguments[1 + max_arguments :]
        try:
            if unexpected:
                raise UserError(
                    f"unexpected argument {unexpected[0]!r}: it belongs to no flag; write "
                    "--name=value, see --help"
                )
            return main(*positional)
        except UserError as error:
            return fail(error)
        except MemoryError as error:
            return fail(UserError(f"there is too little memory ({error}): use less data, or more memory"))
        except OSError as error:
            if error.strerror is None:
                raise
            place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            return fail(UserError(f"{place}{error.strerror}"))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(128 + signal.SIGINT)  # if XLA was compiling, the interpreter's clean-up would crash

    _name_command(sys.modules["__main__"])
    absl_logging.set_verbosity(absl_logging.WARNING)  # otherwise JAX and orbax log every step
    library = logging.getLogger("xql_jax")
    library.setLevel(logging.INFO)
    library.propagate = False
    library.handlers = [_Printer()]
    app.run(guarded, flags_parser=_parse)


def fail(error: Exception) -> int:
    """Prints the error as one line; returns the exit code."""
    print("error:", " ".join(str(error).split()).removeprefix("ERROR:: "), file=sys.stderr)  # absl's prefix
    return 2


def _name_command(main: types.ModuleType) -> None:
    """Makes the examples in `--help` name the command that was typed, if it is an installed one."""
    command = getattr(main, COMMAND, None)
    if command and main.__doc__ and main.__file__:
        main.__doc__ = main.__doc__.replace(f"python experiments/{Path(main.__file__).name}", command)


def _check_config(arguments: Sequence[str], default: Path, kind: Kind) -> list[str]:
    """Returns the fields that the command line may change in the config file that it names.

    Raises:
        UserError: if the file cannot be used, or lacks a field that the arguments change.
    """
    path = str(default)
    overridden: list[str] = []
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        if match := re.fullmatch(r"--?config(?:=(.*))?", argument):
            path = following if match[1] is None else match[1]
            if overridden:
                raise UserError(f"give --config before --config.{overridden[0]}: it sets every field anew")
        elif match := re.match(r"--?(?:no)?config\.([^=]*)(=?$)?", argument):
            overridden.append(match[1])
            if match[2] == "=":  # config_flags would ignore it
                raise UserError(f"--config.{match[1]} is empty: give it a value or leave it out")
    config = load_config(path, kind)
    known = [field for field in config if field not in ("algorithm", "about")]
    for field in overridden:
        if field == "algorithm":
            raise UserError(
                f"--config.algorithm: the algorithm is chosen by --config={path.split(':')[0]}:ALGORITHM"
            )
        if field not in known:
            raise UserError(
                f"unknown config field {field!r} in {path}; nearest known: {nearest(field, known)}"
            )
        if config.get_type(field) is tuple and overridden.count(field) > 1:  # config_flags would join them
            raise UserError(f"--config.{field} is given {overridden.count(field)} times: give it once")
    return known


def _parse(arguments: Sequence[str]) -> list[str]:
    try:
        for argument in arguments:
            # Python represents bytes that are not UTF-8 by these code points.
            if any("\ud800" <= character <= "\udfff" for character in argument):
                raise UserError(f"{argument!r} is not UTF-8: file names must be")
        _refuse_gone(arguments)
        _accept_numbers()
        positional = flags.FLAGS(["--help" if argument == "-h" else argument for argument in arguments])
        _check_values()
        return positional
    except SystemExit:  # absl ends with 1 after --help
        sys.stdout.flush()
        sys.exit(0)
    except flags.IllegalFlagValueError as error:
        sys.exit(fail(in_words(error)))
    except PARSE_ERRORS as error:
        sys.exit(fail(error))


def _refuse_gone(arguments: Sequence[str]) -> None:
    """Raises UserError for a flag, or a flag's value, of an earlier version."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        name, has_value, value = argument.lstrip("-").partition("=")
        typed = f"{name}={value if has_value else following}"
        known = name in flags.FLAGS
        if not argument.startswith("-") or (known and typed not in GONE):
            continue
        gone = typed if known else name if name in GONE else name.removeprefix("no")
        if gone in GONE and not (known and typed.partition("=")[2] in _choices(name)):
            raise UserError(f"--{gone} has left: {GONE[gone]}")


def _choices(name: str) -> Sequence[str]:
    return getattr(flags.FLAGS[name].parser, "enum_values", None) or ()


def _accept_numbers() -> None:
    """Makes all integer flags, those of config fields included, accept numbers such as 1e5."""
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if type(flag.parser) is flags.IntegerParser:
            flag.parser = WholeNumber(flag.parser.lower_bound, flag.parser.upper_bound)
    config_flags.register_flag_parser_for_type(int, WholeNumber())


def _check_values() -> None:
    """Raises UserError for bad values that absl accepts."""
    for name in flags.FLAGS:
        is_config_field = "." in name  # these are checked against their own domains
        if flags.FLAGS[name].present and not is_config_field:
            check_value(flags.FLAGS[name])


def check_value(flag: flags.Flag) -> None:
    """Raises UserError for a bad value that absl accepts: empty text or a number that is not finite."""
    values = flag.value if isinstance(flag.value, list) else [flag.value]
    if "" in values and flag.default != "":
        raise UserError(f"--{flag.name} is empty: give it a value or leave it out")
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{flag.name}={value}: must be {_expected(flag)}")


def in_words(error: flags.IllegalFlagValueError) -> UserError:
    """Returns absl's error in plain words: what the flag expects, instead of the error of Python's int()."""
    match = re.match(r"flag --([^=]+)=(.*)", str(error), re.DOTALL)
    if match is None or match[1] not in flags.FLAGS:
        return UserError(str(error))
    value = match[2].removesuffix(f": {error.__context__}")
    hint = "; is its value missing?" if value.startswith("--") else ""
    return UserError(f"--{match[1]}={value}: must be {_expected(flags.FLAGS[match[1]])}{hint}")


def _expected(flag: flags.Flag) -> str:
    """Describes the values that the flag takes."""
    if choices := getattr(flag.parser, "enum_values", None):
        return f"one of {', '.join(choices)}"
    kinds = {"int": "a whole number", "float": "a finite number", "bool": "true or false"}
    text = kinds.get(flag.flag_type(), flag.flag_type())
    lower, upper = (getattr(flag.parser, f"{side}_bound", None) for side in ("lower", "upper"))
    if lower is not None and upper is not None:
        return f"{text} from {lower:,} to {upper:,}"
    if lower is not None:
        return f"{text}, at least {lower:g}"
    return text if upper is None else f"{text}, at most {upper:g}"
