"""Command lines: their flags, what they print, and how they end.

The scripts in experiments/ (the "mains") import this before anything else. The imports that follow take
seconds, in which the user may press Ctrl-C, and they raise obscure errors if environment variables are wrong.
"""

import contextlib
import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored or handled elsewhere
    with contextlib.suppress(ValueError):  # raised outside the main thread, when used as a library
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # end the process at once, as in other programs

from xql_jax.commands import streams, surroundings

streams.open_closed()
surroundings.prepare()
