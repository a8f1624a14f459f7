"""What the commands that open a run share: settings, and the words for them."""

import dataclasses

from xql_jax.settings import Settings, setting

PROGRESS = "Show a progress bar, if stderr is a terminal."
SEED = "Seed for the initial states. Evaluations during training use another one."
MEMBER = "Member of the run, counted from 0. Needed for runs with several members."
RUN = "a run's folder or one of its checkpoints"
INITIAL_STATES = 20_000  # seed of the initial states; evaluations during training use another one
MOST = 1_000_000  # episodes


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfRun(Settings):
    """Settings of commands that open a run."""

    method: str | None = setting(
        None, "MODULE:NAME, the run's method if it is one of your own: MODULE is imported."
    )
