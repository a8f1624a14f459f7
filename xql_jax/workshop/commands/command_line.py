"""The command line: a flag for each setting of a command and, in training, for each hyperparameter.

Which hyperparameters there are depends on the method, so absl parses the flags of the run first, and then
what is left. `--config.NAME` is another form of `--NAME`.

A user's mistake ends the program with exit code 2 and one line on stderr, without a traceback.
"""

import contextlib
import io
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from absl import app, flags
from absl import logging as absl_logging

import xql_jax
from xql_jax.errors import UserError
from xql_jax.files.paths import as_written, paths_from_here
from xql_jax.learners.registry import unknown_setting
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.kinds import Finetune, Training
from xql_jax.runs.resolve import resolved, settings_from
from xql_jax.settings import ANY, EITHER, Command, Setting, settings_of
from xql_jax.training.progress import AS_SPELLED, print_lines

S = TypeVar("S")
FLAGS = flags.FLAGS


class TextParser(flags.ArgumentParser):
    """absl's parser of a setting's flag: the text, which the settings check when they are made of it."""

    def __init__(self, setting: Setting):
        self.syntactic_help = setting.valid


def define_flags(known: Mapping[str, Setting]) -> None:
    """Defines a flag for each setting that has none, but for those that are given by their position."""
    for name, setting in known.items():
        if setting.positional or name in FLAGS:
            continue
        if setting.value_type is bool:
            flags.DEFINE_boolean(name, setting.default, setting.meaning, FLAGS)
        elif setting.value_type is list:
            flags.DEFINE_multi_string(name, setting.default, setting.meaning, FLAGS)
        else:
            default = "the method's own" if setting.by_config else setting.as_plain(setting.default)
            note = "" if default is None else f"\n(default: {default})"
            flags.DEFINE(TextParser(setting), name, None, setting.meaning + note, FLAGS)
        FLAGS[name].allow_overwrite = False  # several texts are joined, anything else is given once


def further_flags(kind: type[Any]) -> dict[str, Setting]:
    """Returns the flags that are no settings: what chooses a method and its file, and what is printed."""
    version = Setting(False, EITHER, "Print the version. Do nothing.", bool)
    if not issubclass(kind, Training):
        return {"version": version}
    method = (
        "METHOD, METHOD+POLICY (xql+reverse_kl) for another policy than its own, or MODULE:NAME: "
        f"{', '.join(sorted(kind.methods))}. Default: {kind.default_method}. A hyperparameter is set by its "
        "name, as in --discount=0.9; --print_config lists all."
    )
    config = (
        "File of hyperparameters: configs/NAME.py, or configs/NAME.py:METHOD. Default: the suite's. "
        "--config.FIELD=VALUE is the same as --FIELD=VALUE."
    )
    printed = "Print every setting, its value, its source and its meaning. Train nothing."
    return {
        "version": version,
        "method": Setting(None, ANY, method, str),
        "config": Setting(None, ANY, config, str),
        "print_config": Setting(False, EITHER, printed, bool),
    }


def parse(argv: Sequence[str], kind: type[S]) -> S:
    """Parses argv into absl's FLAGS; returns the settings of the kind."""
    typed = ["--help" if word == "-h" else re.sub(r"^(--?(?:no)?)config\.", r"\1", word) for word in argv]
    known, config, method = settings_of(kind), None, ""
    further = further_flags(kind)
    define_flags(further | known)
    for defined in FLAGS.get_flags_for_module(__name__):  # `--help` lists them
        FLAGS.register_key_flag_for_module(sys.argv[0], defined)
    try:
        typed = FLAGS(typed, known_only=True)
        if FLAGS.version:
            print(f"xql_jax {xql_jax.__version__}")
            sys.exit(0)
        if issubclass(kind, Training):
            config = choose_config(kind, **FLAGS.flag_values_dict())  # the values below the user's
            method = config.method
            known |= config.may_be_given
            define_flags(known)
        _, *arguments = FLAGS(typed)
    except SystemExit:  # absl ends with 1 after --help
        sys.exit(0)
    except flags.UnrecognizedFlagError as error:
        raise UserError(f"--{unknown_setting(error.flagname, [*known, 'method'], method)}") from None
    except BrokenPipeError:
        sys.exit(0)  # in the midst of --help, after which nothing is done
    except flags.IllegalFlagValueError as error:
        flag, is_second = str(error).split()[1].rstrip(":"), ": already defined as " in str(error)
        twice = f"{flag.partition('=')[0]} is given twice: give it once, with all of it"
        raise UserError(twice if is_second else f"{flag}: must be true or false") from None
    except ValueError as error:  # --noFLAG=VALUE
        raise UserError(str(error)) from None
    values = {name: FLAGS[name].value for name in known if name in FLAGS and FLAGS[name].present}
    values |= by_position(known, arguments)
    try:
        if config:  # a hyperparameter, such as beta, goes into the learner
            named = [name for name in ("method", "config") if FLAGS[name].present]
            return cast("S", settings_from(config, values, [*values, *named]))
        return kind(**values)
    except UserError as error:
        raise UserError(f"--{error}") from None


def by_position(known: Mapping[str, Setting], arguments: Sequence[str]) -> dict[str, Any]:
    """Returns the setting that is given without a flag: a path, or several."""
    values: dict[str, Any] = {}
    for name, setting in known.items():
        if setting.positional and not arguments:
            raise UserError(f"name {setting.meaning}")
        if setting.positional and setting.value_type is list:
            return {name: arguments}
        if setting.positional:
            values[name], *arguments = arguments
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: {_meant(known, arguments[0])}")
    return values


def _meant(known: Mapping[str, Setting], argument: str) -> str:
    """Says which flag an argument without one may be meant for: a setting, data, or a task."""
    name = "dataset" if os.path.exists(argument) else "env_name"
    pair = argument if "=" in argument else f"{name}={argument}"
    if pair.partition("=")[0] in known and not any(setting.positional for setting in known.values()):
        return f"did you mean --{pair}?"
    return "flags are --name=value, see --help"


def run(
    main: Callable[[S], int | None] | Command,
    kind: type[S] | None = None,
    expanded: Callable[[Sequence[str]], list[str]] = list,
) -> None:
    """Parses the command line to settings and runs main with them; its result is the exit code.

    Args:
        kind: of the settings that main takes; a `Command` has its own, as keyword arguments.
        expanded: returns the arguments to parse, from the typed arguments.
    """
    call: Any = (lambda settings: main(**vars(settings))) if isinstance(main, Command) else main
    wanted: Any = main.settings if isinstance(main, Command) else kind
    absl_logging.set_verbosity(absl_logging.WARNING)  # otherwise JAX logs every step
    print_lines()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=AS_SPELLED)
    try:
        with paths_from_here(), _output_may_end_early():
            app.run(call, flags_parser=lambda argv: parse(expanded(argv), wanted))
    except (UserError, flags.Error, MemoryError, OSError) as error:  # also what the system refuses
        sys.exit(fail(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(128 + signal.SIGINT)  # if XLA was compiling, the interpreter's clean-up would crash


def train_and_print(settings: Training) -> int:
    """Prints the settings for --print_config, else trains and prints how it went; returns the exit code."""
    from xql_jax.workshop.commands.messages import print_end, print_settings  # --help need not wait for it

    made = resolved(settings)  # what the user leaves open is decided; what the user gave stays
    if FLAGS.print_config:
        return print_settings(made)
    # Before training, so that a full disk is not found out after hours.
    line = f"{made}; values of {made.origin}"
    if isinstance(made, Finetune) and made.source:
        line = f"fine-tuning of {made.checkpoint}: {made.max_steps:,} steps"
    print(line, flush=True)
    from xql_jax.runs.train import train_resolved  # nor --print_config for this

    return print_end(train_resolved(made))


@contextlib.contextmanager
def _output_may_end_early() -> Iterator[None]:
    """Ends the program quietly if nobody reads its output any more, as `head` does after some lines.

    A program that could not print all then ends by a shell's code for SIGPIPE.
    """
    try:
        yield
    except BaseException as ended:  # also the end by `sys.exit`
        broken = isinstance(ended, BrokenPipeError)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            broken = True
        if broken and _nobody_reads():
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # for what Python writes at its end
            if isinstance(ended, BrokenPipeError):
                sys.exit(128 + signal.SIGPIPE)
        raise


def _nobody_reads() -> bool:
    """Returns whether the output is a pipe without a reader; else it was another pipe that broke."""
    output = select.poll()
    output.register(sys.stdout, 0)
    return bool(output.poll(0))


def fail(error: Exception) -> int:
    """Prints such an error as one line and returns the exit code; raises the program's own errors."""
    text = str(error).removeprefix("ERROR:: ")  # absl's prefix
    if isinstance(error, MemoryError):
        text = f"there is too little memory ({error}): use less data, or more memory"
    elif isinstance(error, OSError):
        if error.strerror is None:
            raise error
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        text = where + error.strerror
    print("error:", as_written(" ".join(text.split())), file=sys.stderr)
    return 2
