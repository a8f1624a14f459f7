"""Settings that several tools have."""

import dataclasses
from typing import Any

from xql_jax.errors import UserError
from xql_jax.learners.registry import method_of
from xql_jax.runs.load import SavedRun, load_run
from xql_jax.settings import TEXT, Checked, setting

EVALUATION_START_SEED = 20_000  # default seed of initial states; evaluations during training use another one
MOST_EPISODES = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToolSettings(Checked):
    """Settings of tools that open a run."""

    method: str | None = setting(
        None, TEXT, "MODULE:NAME, the run's method if it is one of your own: MODULE is imported."
    )

    def open_run(self, path: str, **chosen: Any) -> SavedRun:
        """Opens a run, see `load_run`; UserError if its method is another one than the user's."""
        run = load_run(path, **chosen)
        if self.method not in (None, run.algorithm, method_of(run.algorithm)):
            raise UserError(f"--method={self.method}: the run is of {run.algorithm}: {run.path}")
        return run
