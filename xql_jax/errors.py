"""The one exception that means "the user can mend this"."""

import difflib
from collections.abc import Iterable

LONGEST_MESSAGE = 600  # characters


class UserError(Exception):
    """A mistake in what the user gave: its message is one line naming what, where and the valid choices.

    Entry points print the message without a traceback and exit with code 2. It may quote what files and
    servers say, and is made fit for a terminal, see `printable`.
    """

    def __init__(self, message: str):
        super().__init__(printable(" ".join(message.split()), LONGEST_MESSAGE))


class EnvironmentFailure(UserError):
    """An environment failed, as simulators do: one line says how, and the run's checkpoints stay."""


class Damaged(UserError):
    """Something that was written is not there, or not as it was written, and never will be."""


def printable(text: str, longest: int) -> str:
    """Returns the text with control characters as Python writes them (`\\x1b`): a terminal obeys none.

    What is longer than `longest` characters loses its middle: what happened stands first, what to do last.
    """
    text = text if len(text) <= longest else _without_middle(text, longest)
    shown = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )
    return shown if len(shown) <= longest else _without_middle(shown, longest)


def _without_middle(text: str, longest: int) -> str:
    gap = " ... "
    first = 2 * (longest - len(gap)) // 3
    return text[:first] + gap + text[len(text) - (longest - len(gap) - first) :]


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Returns the known names most like `name`, or if none is near all of a few, as text for a message."""
    known = sorted(known)
    cutoff = 0.5 if len(known) <= 40 else 0.0  # of a hundred names, the least unlike say more than all
    return ", ".join(difflib.get_close_matches(name, known, n=count, cutoff=cutoff) or known)
