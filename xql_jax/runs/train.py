"""Trains with the settings of any kind of run. What a kind needs is imported where it is trained."""

from collections.abc import Sequence
from typing import Any

from xql_jax.runs.kinds import Finetune, Online, Training
from xql_jax.runs.load import Run
from xql_jax.runs.offline import run_offline
from xql_jax.runs.resolve import resolved
from xql_jax.training.loop import RowCallback
from xql_jax.training.signals import StopSignals


def train_run(
    settings: Training, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()
) -> Run:
    """Trains, or goes on with, the run that has these settings."""
    made: Any = resolved(settings)
    if isinstance(settings, Online):
        from xql_jax.runs.online import run_online

        return run_online(made, stop, callbacks)
    if isinstance(settings, Finetune):
        from xql_jax.runs.finetuning import run_finetuning

        return run_finetuning(made, stop, callbacks)
    return run_offline(made, stop, callbacks)
