"""Trains with the settings of any kind of run."""

from xql_jax.runs.acting_settings import FinetuneSettings, OnlineSettings
from xql_jax.runs.finetuning import finetune_job, finetuning_data, train_finetuned
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.offline import data_folder, load_data, offline_job, train_offline
from xql_jax.runs.online import online_job, train_online
from xql_jax.runs.run import Job, Summary
from xql_jax.runs.settings import OfflineSettings, RunSettings
from xql_jax.training.signals import StopSignals


def train_run(settings: RunSettings, stop: StopSignals | None = None) -> Summary:
    """Trains, or goes on with, the run that has these settings."""
    if isinstance(settings, OnlineSettings):
        return train_online(settings, stop)
    if isinstance(settings, FinetuneSettings):
        return train_finetuned(settings, stop)
    assert isinstance(settings, OfflineSettings)
    return train_offline(settings, stop)


def job_of(settings: RunSettings) -> Job:
    """Returns the job of a run; raises UserError for mistakes in the settings."""
    if isinstance(settings, OnlineSettings):
        return online_job(settings)
    if isinstance(settings, FinetuneSettings):
        return finetune_job(settings)
    assert isinstance(settings, OfflineSettings)
    return offline_job(settings)


def data_run_folder(settings: RunSettings) -> RunFolder:
    """Returns the folder of a run that learns from data; reads the data, whose digest is in its name."""
    if isinstance(settings, FinetuneSettings):
        job = finetune_job(settings)
        return data_folder(job, finetuning_data(job, None))
    assert isinstance(settings, OfflineSettings)
    job = offline_job(settings)
    return data_folder(job, load_data(job, None))
