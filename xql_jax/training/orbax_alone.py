"""orbax without its log messages."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import orbax.checkpoint as ocp


def checkpointer() -> ocp.Checkpointer:
    """Returns a checkpointer for a member's arrays."""
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


@contextlib.contextmanager
def silent_orbax() -> Iterator[None]:
    """Silences what orbax prints about an error that is raised here anyway.

    orbax logs an error with its traceback in every thread that the error passes through. After the first
    error, tensorstore's other writes report to an event loop that is closed already, and asyncio and Python
    warn about tasks that were never awaited or a loop that could not be opened. These warnings can come at
    any later time, so they stay silenced after an error.
    """
    loggers, hook = (logging.getLogger("absl"), logging.getLogger("asyncio")), sys.unraisablehook

    def is_of_others(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname + record.getMessage()

    def tell_of_others(unraisable: Any) -> None:
        is_loops = str(getattr(unraisable.object, "__module__", "")).startswith("asyncio")
        if str(unraisable.exc_value) != "Event loop is closed" and not is_loops:
            hook(unraisable)

    for logger in loggers:
        logger.addFilter(is_of_others)
    sys.unraisablehook = tell_of_others
    try:
        yield
    except Exception:
        warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)
        raise
    sys.unraisablehook = hook
    for logger in loggers:
        logger.removeFilter(is_of_others)
