"""Command lines: flags, what the mains print, and how they end.

A main imports this before all else: the imports that follow take seconds, in which Ctrl-C may come, and fail
in ways of their own where the environment's variables are wrong.
"""

import contextlib
import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, or another's
    with contextlib.suppress(ValueError):  # not the main thread: this is used as a library
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends the process at once, as it ends other programs

from xql_jax.commands import streams, surroundings

streams.open_closed()
surroundings.prepare()
