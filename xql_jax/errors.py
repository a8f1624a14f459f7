"""The exceptions for mistakes that the user can correct, and helpers for their messages."""

import contextlib
import difflib
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

# The beginnings of the paths of code that is not the user's; "<" begins code without a file.
_FOLDERS = (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), Path(__file__).parent)
NOT_USERS_CODE = (*(f"{folder}{os.sep}" for folder in _FOLDERS), "<")

UNGUARDED = (
    "new processes run the main script again: put it into a file if it comes from stdin, train below "
    '`if __name__ == "__main__":`, and put environments of your own, as a notebook\'s, into a module'
)


# Other programs' names for settings, by ours, where the nearest known name is another.
SYNONYMS = {
    **dict.fromkeys(("actor_lr", "critic_lr", "value_lr"), "lr learning_rate"),
    **dict.fromkeys(("brac_alpha", "cql_alpha", "initial_entropy_coef", "q_weight"), "alpha"),
    "awr_temperature": "beta temperature temp inverse_temperature",
    "beta": "alpha temperature temp inverse_temperature",
    "checkpoint_interval": "save_freq save_interval",
    "datasets": "env env_id env_name env_names task tasks",
    "discount": "gamma",
    "env_name": "env env_id env_names task tasks",
    "expectile": "quantile iql_tau",
    "max_steps": "steps num_steps total_steps total_timesteps epochs updates num_updates",
    **dict.fromkeys(("method", "methods"), "algo algorithm agent"),
    "save_dir": "out output output_dir logdir log_dir",
    "tau": "polyak target_update_rate soft_target_update_rate",
    "tqdm": "verbose quiet progress",
    "updates_per_step": "utd utd_ratio",
}


class UserError(Exception):
    """A mistake in the user's input. Its message is one line that names what, where and the valid choices.

    Entry points print the message without a traceback and exit with code 2.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))

    def _render_traceback_(self) -> list[str]:
        """Returns what a notebook shows: the message and its notes, without a traceback."""
        return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", [])]


class EnvironmentFailure(UserError):
    """An environment failed, as simulators sometimes do. The run's checkpoints are kept."""


class Busy(UserError):
    """Another process is using the run, and will release it later."""


class Damaged(UserError):
    """A file is missing or its content has changed, and waiting will not help."""


def place_of(error: BaseException) -> str:
    """Returns where in the user's code it was raised, such as " (own.py:12, in step)"; "" if elsewhere."""
    calls = traceback.extract_tb(error.__traceback__)
    own = [call for call in calls if not call.filename.startswith(NOT_USERS_CODE)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name})" if own else ""


def described(error: BaseException) -> str:
    said = re.sub("Other fields present: .*(?=Did you)", "", " ".join(str(error).split()))  # ConfigDict's
    if not said and (calls := traceback.extract_tb(error.__traceback__)):  # as of `assert spec is not None`
        said = f"at {calls[-1].line!r} of {Path(calls[-1].filename).name}"
    return f"{type(error).__name__}: {said}{place_of(error)}"


@contextlib.contextmanager
def others_code(what: str, *passing: type[Exception]) -> Iterator[None]:
    """Context manager that turns what fails in code of others into a UserError, but for errors `passing`.

    `what` begins its message, which says how it failed and where.
    """
    try:
        yield
    except passing:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what}: {described(error)}") from error


@contextlib.contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Context manager that turns a failed import into a UserError: `what`, the message's subject, needs it.

    The message names the extra in setup.py that installs the package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} needs {error.name}, which is not installed: pip install 'xql_jax[{extra}]'"
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the known names closest to `name`, as text; if there are at most 40 and none is close, all."""
    as_known = {choice.casefold(): choice for choice in sorted(known)}
    cutoff = 0.5 if len(as_known) <= 40 else 0.0  # of many names, show the closest, however distant
    close = difflib.get_close_matches(name.casefold(), as_known, cutoff=cutoff) or as_known
    return ", ".join(as_known[choice] for choice in close)


def advice(name: str, known: Iterable[str]) -> str:
    """Returns which of the known settings to give: settings that other programs call so, or the nearest."""
    ours = [choice for choice in known if name in SYNONYMS.get(choice, "").split()]
    return f"give {' or '.join(ours)}" if ours else f"nearest known: {nearest(name, known)}"
