"""The one exception that means "the user can mend this"."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: its message is one line naming what, where and the valid choices.

    Entry points print the message without a traceback and exit with code 2.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class EnvironmentFailure(UserError):
    """An environment failed, as simulators do: one line says how, and the run's checkpoints stay."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Returns the known names most like `name`, or if none is near all of a few, as text for a message."""
    known = sorted(known)
    cutoff = 0.5 if len(known) <= 40 else 0.0  # of a hundred names, the least unlike say more than all
    return ", ".join(difflib.get_close_matches(name, known, n=count, cutoff=cutoff) or known)
