"""Trains with the settings of any kind of run."""

from collections.abc import Callable, Sequence
from typing import Any

from xql_jax.runs.finetuning import finetune_job, finetuning_data, run_finetuning
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.groups import Training
from xql_jax.runs.job import Job
from xql_jax.runs.kinds import Finetune, Offline, Online
from xql_jax.runs.offline import offline_job, run_offline
from xql_jax.runs.online import online_job, run_online
from xql_jax.runs.run import Summary
from xql_jax.runs.run_data import data_folder, load_data
from xql_jax.training.loop import RowCallback
from xql_jax.training.signals import StopSignals

# By the settings' class, the functions that make a run's job and that train it.
KINDS: dict[type, tuple[Callable[[Any], Job], Callable[..., Summary]]] = {
    Offline: (offline_job, run_offline),
    Online: (online_job, run_online),
    Finetune: (finetune_job, run_finetuning),
}


def train_run(
    settings: Training, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()
) -> Summary:
    """Trains, or goes on with, the run that has these settings."""
    return KINDS[type(settings)][1](job_of(settings), stop, callbacks)


def job_of(settings: Training) -> Job:
    """Returns the job of a run; raises UserError for mistakes in the settings."""
    return KINDS[type(settings)][0](settings)


def data_run_folder(settings: Training) -> RunFolder:
    """Returns the folder of a run that learns from data; reads the data, whose digest is in its name."""
    job, load = job_of(settings), finetuning_data if isinstance(settings, Finetune) else load_data
    return data_folder(job, load(job, None))
