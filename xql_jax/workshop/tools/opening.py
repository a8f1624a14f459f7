"""How tools open a run."""

from typing import Any

from xql_jax.errors import UserError
from xql_jax.learners.registry import method_of
from xql_jax.runs.load import Run, load_run
from xql_jax.settings import TEXT, setting
from xql_jax.suites.tasks import own_attribute


def own_method() -> Any:
    return setting(None, TEXT, "MODULE:NAME, the run's method if it is your own: MODULE is imported.")


def open_run(path: str, method: str | None, **chosen: Any) -> Run:
    """Opens a run, see `load_run`; UserError if its method is not the user's."""
    if method:
        own_attribute(method, "--method")  # imports it, before the run names it
    run = load_run(path, **chosen)
    if method not in (None, run.method, method_of(run.method)):
        raise UserError(f"--method={method}: the run is of {run.method}: {run.path}")
    return run
