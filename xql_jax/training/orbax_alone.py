"""orbax set up so that each process saves only its own arrays, and without orbax's log messages."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint._src.multihost import multihost


def checkpointer() -> ocp.Checkpointer:
    """Returns a checkpointer for a member's arrays that does not wait for other processes."""
    alone = ocp.options.MultiprocessingOptions(active_processes={0})
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def hide_other_processes() -> None:
    """Makes orbax believe that this is the only process, even if JAX knows of others.

    Otherwise all processes except the first would write no arrays, and would contact JAX's distributed
    service, which the processes have left by then. orbax has no option for this, so two of its functions are
    replaced.
    """
    multihost.process_index = lambda: 0
    multihost.process_count = lambda: 1


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
