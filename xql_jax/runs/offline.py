"""Offline run: trains a population on a dataset."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xql_jax.config_files import file_for_suite
from xql_jax.configuration import learner_from_config
from xql_jax.data.dataset import FILE_SUFFIXES, SOURCE_PREFIXES, check_spaces, name_of
from xql_jax.data.loading import load_dataset, stamps
from xql_jax.data.preprocessing import Preprocessing, counts_kitchen_tasks, fit_preprocessing
from xql_jax.data.sampling import Trajectories, fits_on_device
from xql_jax.data.suspicions import warn_of_suspicions
from xql_jax.data.views import view_for
from xql_jax.envs import action_bounds
from xql_jax.errors import UserError
from xql_jax.learners.fields import hyperparameters
from xql_jax.learners.registry import FIRST_PHASES, method_of
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.machine import prepare_acting
from xql_jax.runs.run import Job, Summary, folder_of, make_job, running, scored, train_and_summarize
from xql_jax.runs.run_settings import OfflineSettings
from xql_jax.tasks import OWN, Task
from xql_jax.training.data_population import offline_population
from xql_jax.training.signals import StopSignals
from xql_jax.types import AnyBatch, Transitions

LOG = logging.getLogger(__name__)


class RunData(NamedTuple):
    """What a run learns from."""

    dataset: Any  # in the learner's form, preprocessed
    preprocessing: Preprocessing
    task: Task | None  # with the returns of scores 0 and 100 that the user or the data give

    @property
    def sizes(self) -> tuple[int, int]:
        """The lengths of an observation and of an action."""
        return self.dataset.observation_dim, self.dataset.action_dim


def offline_job(settings: OfflineSettings) -> Job:
    """Returns the run's job; raises UserError for mistakes in the settings."""
    if settings.extend and settings.checkpoint:
        raise UserError("--extend finds the run that it goes on from by itself: leave out --checkpoint")
    settings = settings.resolved()
    return make_job(settings, learner_from_config(settings.config, settings.max_steps))


def run_offline(job: Job, stop: StopSignals | None = None) -> Summary:
    """Trains a population on a dataset, and evaluates it in the task's environment.

    Args:
        stop: ends it after saving a checkpoint; it takes the signals SIGINT and SIGTERM meanwhile.
    Raises:
        UserError: if a setting or the data are invalid; earlier runs are not changed then.
    """
    settings, stop = job.settings, stop or StopSignals()
    if settings.background_evaluation:
        prepare_acting()
    with running(job) as (held, evaluator):
        data = load_data(job, evaluator)
        folder = data_folder(job, data)
        beginning = None
        if (settings.extend or settings.checkpoint) and not folder.steps:
            from xql_jax.runs import extension  # which few runs need

            if settings.extend and (missing := extension.with_missing_seeds(settings, folder)):
                held.close()
                return run_offline(offline_job(missing), stop)
            beginning = (
                extension.members_of_another(settings.checkpoint, folder)
                if settings.checkpoint
                else extension.end_of_shorter(folder, job)
            )
        resume = settings.resume or (settings.extend and folder.has_begun)
        if resume and (finished := folder.finished_summary()):
            return Summary(folder.path, settings.unit, finished, had_ended=True)

        held.enter_context(folder.locked(resume))
        data.preprocessing.save(folder.files.preprocessing, folder.run_id)
        if beginning:
            beginning.save(folder)
        placed = for_population(data.dataset, job, folder)
        population = offline_population(job.learner, job.members, placed, job.settings.batch_size)
        return train_and_summarize(job, folder, population, evaluator, data.task, stop, data.preprocessing)


def load_data(job: Job, evaluator: Evaluator | None) -> RunData:
    """Loads the data in the learner's form, preprocessed; for fine-tuning as in the run of --checkpoint."""
    settings, task = job.settings, job.settings.task
    sizes = evaluator.sizes if evaluator else None  # before a download
    bounds = job.source.preprocessing.action_bounds if job.source else action_bounds(task)
    dataset = load_dataset(task, settings.dataset, settings.dataset_url, bounds)
    if task:
        task = scored(task, settings.returns_given, dataset.references)
    if sizes and task:
        check_spaces(dataset, *sizes, task.name)
    for note in dataset.notes:
        LOG.info(f"{dataset.source}: {note}")
    warn_of_suspicions(dataset)
    if job.source:
        preprocessing = job.source.preprocessing_of(dataset)
    else:
        preprocessing = fit_preprocessing(
            dataset,
            task,
            normalize_observations=settings.normalize_observations,
            scale_rewards=settings.scale_rewards,
            top_returns=settings.top_returns,
        )
        preprocessing = dataclasses.replace(preprocessing, action_bounds=bounds)
    if job.acting and task and task.suite.data_count_tasks:
        # If the kitchen's data have D4RL's rewards, which are not the environment's, online rewards become
        # those of the data. Those of --checkpoint's run may be other data.
        counts = counts_kitchen_tasks(dataset, task)
        whose = "the number of tasks that are done, as in the data" if counts else "the environment's"
        LOG.info(f"online rewards: {whose}")
        preprocessing = dataclasses.replace(preprocessing, counts_kitchen_tasks=counts)
    dataset = preprocessing.dataset(dataset)
    view = view_for(job.learner, dataset)
    if dropped := dataset.size - view.size:
        LOG.info(
            f"left out {dropped:,} of {dataset.size:,} transitions: the data do not tell the next action"
        )
    return RunData(view, preprocessing, task)


def data_folder(job: Job, data: RunData) -> RunFolder:
    """Returns the folder of a run that learns from data."""
    sources, task = job.settings.dataset, data.task
    name = task.name if task else _name_of([name_of(source) for source in sources])
    about = {"data_files": stamps(task, sources), "data_source": data.dataset.source}
    return folder_of(job, name, task, data.sizes, about, dataset_fingerprint=data.dataset.fingerprint())


def for_population(dataset: Any, job: Job, folder: RunFolder) -> AnyBatch | Trajectories | Transitions:
    """Returns NumPy arrays to put on the device, or the dataset to stream from; logs which, and warns."""
    settings = job.settings
    on_host = settings.data_on == "host" or (settings.data_on == "auto" and not fits_on_device(dataset.batch))
    where = "in the host's memory, streamed in blocks" if on_host else "on the device"
    LOG.info(f"{folder.env_name}: {dataset.size:,} transitions from {dataset.source}")
    LOG.info(
        f"{settings.config.algorithm}: {len(job.members)} member(s), {settings.schedule.max_steps:,} "
        f"{settings.unit}s, data {where}; files in {folder.path}"
    )
    if not settings.checkpoint:  # else the phase began in another run
        _warn_of_first_phases(job)
        _warn_of_a_guessed_beta(job)
    return dataset if on_host else dataset.batch


def _warn_of_first_phases(job: Job) -> None:
    """Warns if the run, or its offline phase, ends before a first phase of learning does."""
    updates = job.settings.schedule.handover or job.settings.max_steps
    base = hyperparameters(job.learner)
    for name in (name for name in FIRST_PHASES if name in base):
        longest = max(float(member.hyperparameters.get(name, base[name])) for member in job.members)
        if longest >= updates:
            LOG.warning(
                f"{name}={longest:g}: this first phase of learning takes all {updates:,} updates: shorten it "
                f"by --{name}=N, or train for longer"
            )


def _warn_of_a_guessed_beta(job: Job) -> None:
    """Tells users of data of their own that XQL's default `beta`, in their reward units, is a guess."""
    settings, config = job.settings, job.settings.config
    suite = (settings.task.suite if settings.task else OWN).name
    chosen = {"beta", "config"} & {*settings.given, *job.members[0].hyperparameters}
    if (
        method_of(config.algorithm) == "xql"
        and file_for_suite(suite) == file_for_suite(OWN.name)
        and not chosen
    ):
        LOG.info(
            f"beta={config.beta:g} is a guess, for the rewards' scale is unknown: --method=xql_bellman finds "
            "it from the data, --sweep='beta=0.1,0.3,1,3' tries several"
        )


def _name_of(sources: Sequence[str]) -> str:
    """Returns a folder's name for data without a task.

    For example mine for mine.npz, and door-human-v2 for minari:door/human-v2.
    """
    kind, _, name = (
        sources[0].rpartition(":") if sources[0].startswith(SOURCE_PREFIXES) else ("", "", sources[0])
    )
    if kind == "minari" and not Path(name).expanduser().exists():
        stem = name.replace("/", "-")
    else:
        path = Path(name).expanduser().resolve()
        stem = path.stem if path.suffix.lower() in FILE_SUFFIXES else path.name
    stem = stem.strip(".") or "data"
    return stem if len(sources) == 1 else f"{stem}-and-{len(sources) - 1}-more"
