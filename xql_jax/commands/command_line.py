"""What the mains in experiments/ share: a user's mistake ends with exit code 2 and a line, no traceback."""

from xql_jax.commands import streams, surroundings
from xql_jax.commands.interrupts import Interruptible
from xql_jax.commands.streams import fail

import itertools
import logging
import math
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from xql_jax.envs import BACKENDS
from xql_jax.errors import UserError, nearest

flags.disclaim_key_flags()  # those defined here are the main's, whose `--help` lists them

# What absl and ml_collections raise for a flag or a config file that they cannot read.
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

# What configs that a main takes say of themselves under `about`, as what, and the function that makes them.
Kind = tuple[Mapping[str, type], str]
OFFLINE: Kind = ({"suites": tuple, "tuned": ConfigDict}, "suite_config")
ONLINE: Kind = ({"small": ConfigDict, "by_task": ConfigDict}, "online_config")


class _Printer(logging.Handler):
    """Prints what the library logs, around a progress bar; what printing raises is not swallowed."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(prefix + record.getMessage())
        sys.stdout.flush()


def define_config(default: Path, help_text: str, kind: Kind = OFFLINE) -> None:
    """Defines `--config=FILE[:ALGORITHM]` and `--config.FIELD=VALUE`.

    config_flags reads the command line at once, while the main's module is being loaded, and tells of a
    mistake in words of its own; so the file and the names of the fields are looked at before.
    """
    try:
        fields = _check_config(sys.argv[1:], default, kind)
        help_text = f"{help_text} Its fields: {', '.join(sorted(fields))}."
        config_flags.DEFINE_config_file("config", str(default), help_text, lock_config=True)
    except PARSE_ERRORS as error:
        sys.exit(fail(error))


def define_environment_flags(of_run: bool = False) -> None:
    """Defines the flags that say how a task's environment is made; `of_run`: by default a run's own."""
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


def run(main: Callable[..., int | None], max_arguments: int = 0) -> None:
    """Parses the flags and runs main, whose result is the exit code.

    Args:
        main: called with the arguments that are no flags.
        max_arguments: how many of those there may be.
    """

    def guarded(arguments: Sequence[str]) -> int | None:
        try:
            positional, unexpected = arguments[1 : 1 + max_arguments], arguments[1 + max_arguments :]
            if unexpected:
                raise UserError(f"unexpected argument {unexpected[0]!r}; flags are --name=value, see --help")
            surroundings.check()
            return main(*positional)
        except (BrokenPipeError, streams.Unwritable):
            raise
        except Exception as error:
            if known := surroundings.told(error):
                return fail(known)
            raise

    absl_logging.set_verbosity(absl_logging.WARNING)  # JAX and orbax tell of every step otherwise
    library = logging.getLogger("xql_jax")
    library.setLevel(logging.INFO)
    library.propagate = False
    library.handlers = [_Printer()]
    with Interruptible(), streams.output():
        app.run(guarded, flags_parser=_parse)


def _check_config(arguments: Sequence[str], default: Path, kind: Kind) -> list[str]:
    """Returns the fields of the config file that the arguments name, those that they may change.

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
            if match[2] == "=":  # which config_flags would pass over
                raise UserError(f"--config.{match[1]} is empty: give it a value or leave it out")
    config = _load_config(path, kind)
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


def _load_config(path: str, kind: Kind) -> ConfigDict:
    """Returns what the file's get_config gives for `path`, FILE or FILE:ALGORITHM."""
    name, *algorithm = path.split(":", 1)
    if not name:
        raise UserError("--config is empty: give it a file, see configs/")
    file = Path(name)
    try:
        is_file = file.is_file()
    except OSError as error:  # a name that is too long
        raise UserError(f"--config={name}: {error.strerror}") from error
    if not is_file:
        known = sorted(str(other) for other in file.parent.glob("*_config.py"))
        raise UserError(
            f"--config: no file {name!r}; "
            + (f"nearest there: {nearest(name, known)}" if known else "see configs/")
        )
    try:
        config = runpy.run_path(name)["get_config"](*algorithm)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code, and may fail in any way
        raise UserError(f"--config: {name} does not load: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config: get_config of {name} returns {type(config).__name__}, not a ConfigDict")
    entries, maker = kind
    about = config.get("about")
    other, main = (ONLINE, "train_online.py") if kind is OFFLINE else (OFFLINE, "train_offline.py")
    if isinstance(about, ConfigDict) and all(entry in about for entry in other[0]):
        raise UserError(f"--config={name}: that is for experiments/{main}")
    for owner, types in ((config, {"algorithm": str, "about": ConfigDict}), (about, entries)):
        for entry, expected in types.items():
            if not isinstance(owner.get(entry), expected):
                raise UserError(
                    f"--config: {name} must give {entry} as a {expected.__name__}, not "
                    f"{owner.get(entry)!r}: make it with xql_jax.configuration.{maker}"
                )
    return config


def _parse(arguments: Sequence[str]) -> list[str]:
    try:
        for argument in arguments:
            if any("\ud800" <= character <= "\udfff" for character in argument):  # Python's for other bytes
                raise UserError(f"{argument!r} is not UTF-8: file names must be")
        positional = flags.FLAGS(arguments)
        _check_values()
        return positional
    except BrokenPipeError:  # from --help
        raise
    except SystemExit:  # absl ends with 1 after --help
        sys.stdout.flush()
        sys.exit(0)
    except flags.IllegalFlagValueError as error:
        sys.exit(fail(_in_words(error)))
    except PARSE_ERRORS as error:
        sys.exit(fail(error))


def _check_values() -> None:
    """Raises UserError for what absl lets pass: text that is empty, numbers that are not finite."""
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        values = flag.value if isinstance(flag.value, list) else [flag.value]
        if not flag.present or "." in name:  # a config's fields have domains of their own
            continue
        if "" in values and flag.default != "":
            raise UserError(f"--{name} is empty: give it a value or leave it out")
        for value in values:
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"--{name}={value}: must be {_expected(flag)}")


def _in_words(error: flags.IllegalFlagValueError) -> UserError:
    """absl tells of Python's int() and float(); this of what the flag wants."""
    match = re.match(r"flag --([^=]+)=(.*)", str(error), re.DOTALL)
    if match is None or match[1] not in flags.FLAGS:
        return UserError(str(error))
    value = match[2].removesuffix(f": {error.__context__}")
    hint = "; is its value missing?" if value.startswith("--") else ""
    return UserError(f"--{match[1]}={value}: must be {_expected(flags.FLAGS[match[1]])}{hint}")


def _expected(flag: flags.Flag) -> str:
    """What the flag takes, in words."""
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
