"""Settings that several tools have."""

import dataclasses

from xql_jax.settings import TEXT, Checked, setting

EVALUATION_START_SEED = 20_000  # default seed of initial states; evaluations during training use another one
MOST_EPISODES = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToolSettings(Checked):
    """Settings of tools that open a run."""

    method: str | None = setting(
        None, TEXT, "MODULE:NAME, the run's method if it is one of your own: MODULE is imported."
    )
