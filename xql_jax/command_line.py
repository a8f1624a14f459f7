"""What the mains in experiments/ share: a user's mistake ends with exit code 2 and a line, no traceback."""

import re
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from xql_jax.configuration import ABOUT
from xql_jax.envs import BACKENDS
from xql_jax.errors import UserError, nearest

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


def define_config(default: Path, help_text: str) -> None:
    """Defines `--config=FILE[:ALGORITHM]` and `--config.FIELD=VALUE`.

    config_flags reads the command line at once, while the main's module is being loaded, and tells of a
    mistake in words of its own; so the file and the names of the fields are looked at before.
    """
    try:
        fields = _check_config(sys.argv[1:], default)
        help_text = f"{help_text} Its fields: {', '.join(sorted(fields))}."
        config_flags.DEFINE_config_file("config", str(default), help_text, lock_config=True)
    except PARSE_ERRORS as error:
        sys.exit(_fail(error))


def define_environment_flags() -> None:
    """Defines the flags that say how a task's environment is made."""
    flags.DEFINE_enum(
        "env_backend",
        "mujoco",
        BACKENDS,
        "mujoco: the environments of this project; d4rl: those of the d4rl package with gym and mujoco-py.",
    )
    flags.DEFINE_boolean(
        "legacy_inertia",
        False,
        "Give Hopper, Walker2d, HalfCheetah and Ant the capsule masses of the MuJoCo that made D4RL's data.",
    )
    for name in ("env_backend", "legacy_inertia"):
        flags.declare_key_flag(name)


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
            return main(*positional)
        except UserError as error:
            return _fail(error)
        except KeyboardInterrupt:  # before or after the training, which itself takes it for a stop
            print("interrupted", file=sys.stderr)
            return 130

    logging.set_verbosity(logging.WARNING)  # JAX and orbax tell of every step otherwise
    app.run(guarded, flags_parser=_parse)


def _check_config(arguments: Sequence[str], default: Path) -> list[str]:
    """Returns the fields of the config file that the arguments name, those that they may change.

    Raises:
        UserError: if the file cannot be used, or lacks a field that the arguments change.
    """
    path = str(default)
    overridden: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if match := re.fullmatch(r"--?config(?:=(.*))?", argument):
            path = following if match[1] is None else match[1]
            if overridden:
                raise UserError(f"give --config before --config.{overridden[0]}: it sets every field anew")
        elif match := re.match(r"--?(?:no)?config\.([^=]+)", argument):
            overridden.append(match[1])
    config = _load_config(path)
    known = [field for field in config if field not in ABOUT]
    for field in overridden:
        if field == "algorithm":
            raise UserError(
                f"--config.algorithm: the algorithm is chosen by --config={path.split(':')[0]}:ALGORITHM"
            )
        if field not in known:
            raise UserError(
                f"unknown config field {field!r} in {path}; nearest known: {nearest(field, known)}"
            )
    return known


def _load_config(path: str) -> ConfigDict:
    """Returns what the file's get_config gives for `path`, FILE or FILE:ALGORITHM."""
    name, *algorithm = path.split(":", 1)
    file = Path(name)
    if not file.is_file():
        known = sorted(str(other) for other in file.parent.glob("*_config.py"))
        raise UserError(
            f"--config: no file {name!r}; " + (f"there are: {', '.join(known)}" if known else "see configs/")
        )
    try:
        config = runpy.run_path(name)["get_config"](*algorithm)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code, and may fail in any way
        raise UserError(f"--config: {name} does not load: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config: get_config of {name} returns {type(config).__name__}, not a ConfigDict")
    return config


def _parse(arguments: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except PARSE_ERRORS as error:
        sys.exit(_fail(error))


def _fail(error: Exception) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
