"""What the mains in experiments/ share: a user's mistake ends with exit code 2 and a line, no traceback."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from xql_jax.errors import UserError

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


def run(main: Callable[[], int | None]) -> None:
    """Parses the flags and runs main, whose result is the exit code."""

    def guarded(arguments: Sequence[str]) -> int | None:
        try:
            if len(arguments) > 1:
                raise UserError(f"unexpected argument {arguments[1]!r}; flags are --name=value, see --help")
            return main()
        except UserError as error:
            return _fail(error)

    logging.set_verbosity(logging.WARNING)  # JAX and orbax tell of every step otherwise
    app.run(guarded, flags_parser=_parse)


def _parse(arguments: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except PARSE_ERRORS as error:
        sys.exit(_fail(error))


def _fail(error: Exception) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
