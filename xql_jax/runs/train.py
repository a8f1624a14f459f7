"""Trains with the settings of any kind of run. What a kind needs is imported where it is trained."""

from collections.abc import Callable, Sequence
from typing import Any

from xql_jax.runs.folder import RunFolder
from xql_jax.runs.job import Job
from xql_jax.runs.kinds import Finetune, Online, Training
from xql_jax.runs.load import Run
from xql_jax.runs.offline import offline_job, run_offline
from xql_jax.runs.run_data import load_data, run_folder
from xql_jax.training.loop import RowCallback
from xql_jax.training.signals import StopSignals


def train_run(
    settings: Training, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()
) -> Run:
    """Trains, or goes on with, the run that has these settings."""
    return functions_of(settings)[1](job_of(settings), stop, callbacks)


def job_of(settings: Training) -> Job:
    """Returns the job of a run; raises UserError for mistakes in the settings."""
    return functions_of(settings)[0](settings)


def functions_of(settings: Training) -> tuple[Callable[[Any], Job], Callable[..., Run]]:
    """Returns the functions that make a run's job and that train it."""
    if isinstance(settings, Online):
        from xql_jax.runs.online import online_job, run_online

        return online_job, run_online
    if isinstance(settings, Finetune):
        from xql_jax.runs.finetuning import finetune_job, run_finetuning

        return finetune_job, run_finetuning
    return offline_job, run_offline


def data_run_folder(settings: Training) -> RunFolder:
    """Returns the folder of a run that learns from data; reads the data, whose digest is in its name."""
    job = job_of(settings)
    if isinstance(settings, Finetune):
        from xql_jax.runs.finetuning import finetuning_data

        return run_folder(job, finetuning_data(job, None))
    return run_folder(job, load_data(job, None))
