"""What a run learns from: its data in the learner's form, the preprocessing, and the task as it is scored."""

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xql_jax.data.comparison import (
    RESETS,
    Met,
    Ranges,
    action_range,
    first_rewards_told,
    observations_told,
    small_units_told,
    warned,
)
from xql_jax.data.dataset import Dataset, check_spaces, drawn_rows
from xql_jax.data.loading import load_dataset
from xql_jax.data.preprocessing import Preprocessing, fit_preprocessing, has_data_rewards
from xql_jax.data.suspicions import warn_of_suspicions
from xql_jax.data.views import view_for
from xql_jax.envs import action_bounds, environment_maker, own_sizes
from xql_jax.errors import UserError
from xql_jax.rollout.evaluation import Evaluator, episode_seed
from xql_jax.runs.kinds import EVALUATION_SEED, Acting, Finetune, FromData, Online, Training
from xql_jax.runs.load import Run
from xql_jax.suites.tasks import Task, referenced
from xql_jax.types import UNKNOWN, ActionBounds

LOG = logging.getLogger(__name__)


class RunData(NamedTuple):
    """What a run learns from."""

    preprocessing: Preprocessing
    task: Task | None  # with the returns of scores 0 and 100 that the data give
    sizes: tuple[int, int]  # the lengths of an observation and of an action
    warnings: Sequence[str]  # what was warned of in the data and the environment
    dataset: Dataset | None = None  # in the learner's form, preprocessed; None if it learns from no data
    rewards: np.ndarray | None = None  # f32[N], preprocessed, of single steps, whatever the learner's form
    ranges: Ranges | None = None  # of the observations, before any preprocessing


def load_data(settings: Training, evaluator: Evaluator | None) -> RunData:
    """Loads the data in the learner's form, preprocessed; for fine-tuning as in the run of --checkpoint."""
    task, source = settings.task, settings.source
    if isinstance(settings, Online):
        assert task is not None
        preprocessing = Preprocessing(action_bounds=action_bounds(task), action_chunk=settings.action_chunk)
        own = environment_maker(task).sizes(task)
        return RunData(preprocessing, task, own, evaluator.caveats if evaluator else ())
    assert isinstance(settings, FromData)
    sizes = evaluator.sizes if evaluator else own_sizes(task)  # before a download
    bounds = action_bounds(task)
    if source:
        bounds = bounds_of_data(source, task, settings.dataset, settings.unused_arrays)
    dataset = load_dataset(task, settings.dataset, bounds, settings.unused_arrays)
    references = dataset.references
    if source and task and source.env_name == settings.env_name and not task.is_normalised:
        references = source.references or references
    if task and (scored := referenced(task, references)) is not task:
        LOG.info(f"score 0 is a return of {scored.min_return:g}, 100 of {scored.max_return:g}")
        task = scored
    if sizes and task:
        check_spaces(dataset, *sizes, task.name)
    for note in dataset.notes:
        if not note.is_suspicion:
            LOG.info(str(note) if dataset.parts else f"{dataset.source}: {note}")
    warnings = warn_of_suspicions(dataset, task, settings.unit_rewards)
    warnings += evaluator.caveats if evaluator else ()
    ranges = Ranges.of(dataset)
    if task:
        warnings += _compared(settings, task, evaluator, dataset, ranges)
    else:
        warnings += warned(small_units_told(dataset))
    if source:
        warnings += source.content.get("warnings", ())
        # Who acts in an environment may leave the data's range of actions.
        preprocessing = dataclasses.replace(source.preprocessing_of(dataset), action_range=UNKNOWN)
    else:
        preprocessing = fit_preprocessing(dataset, task, settings, settings.unit_rewards)
        preprocessing = dataclasses.replace(
            preprocessing, action_bounds=bounds, action_chunk=settings.action_chunk
        )
    if isinstance(settings, Acting) and task and task.suite.data_rewards:
        # Anew, because --checkpoint's run may have had other data.
        as_in_data = has_data_rewards(dataset, task)
        whose = "of the state before a step, as in the data" if as_in_data else "the environment's"
        LOG.info(f"online rewards: {whose}")
        preprocessing = dataclasses.replace(preprocessing, rewards_as_in=task.name if as_in_data else "")
    dataset = preprocessing.dataset(dataset)
    if task is None:
        within = action_range(dataset.batch.actions)
        preprocessing = dataclasses.replace(preprocessing, action_range=within)
        LOG.info(
            "no environment tells the bounds of actions: the policy stays within the data's range, entry by "
            f"entry, in all {min(within.low):.4g} to {max(within.high):.4g}"
        )
    view = view_for(settings.learner, dataset, settings.horizon)
    if dropped := dataset.size - view.size:
        why = "the data do not tell the next action"
        if settings.action_chunk > 1:
            why = f"no {settings.action_chunk} actions follow before their trajectory's time-out"
        LOG.info(f"left out {dropped:,} of {dataset.size:,} transitions: {why}")
    if isinstance(settings, Finetune):
        view = _prior_data(settings, view)
    own = view.observation_dim, view.action_dim // settings.action_chunk
    return RunData(preprocessing, task, own, warnings, view, dataset.batch.rewards, ranges)


def _compared(
    settings: Training, task: Task, evaluator: Evaluator | None, dataset: Dataset, ranges: Ranges
) -> list[str]:
    """Warns if the data cannot be those of the run's environment; returns the lines."""
    with contextlib.ExitStack() as stack:
        if evaluator:
            env = evaluator.env
        elif isinstance(settings, Acting):
            env = stack.enter_context(contextlib.closing(environment_maker(task).vector_env(task, 1)))
        else:
            return []
        seeds = [episode_seed(EVALUATION_SEED, episode) for episode in range(RESETS)]
        told = observations_told(ranges, Met.of(env, seeds), task.name)
        if isinstance(settings, Finetune) and not task.suite.data_rewards:  # these are recomputed online
            told += first_rewards_told(dataset, env, seeds, task.name)
        return warned(told)


def _prior_data(settings: Finetune, dataset: Dataset) -> Dataset:
    """Returns the data of both phases, of which --init_dataset_size may leave a part."""
    number, size, source = settings.init_dataset_size, settings.replay_buffer_size, settings.source
    expected = source.content["dataset_fingerprint"] if source else None
    is_same = not source or dataset.fingerprint() == expected
    if number is not None and number < dataset.size:
        dataset = dataset.part(drawn_rows(dataset.size, number, settings.data_seed))
        is_same = is_same or dataset.fingerprint() == expected
    if not is_same:
        LOG.warning(f"{dataset.source}: not the data that the checkpoint was trained on")
    if settings.offline_fraction is None and dataset.size > size:
        raise UserError(
            f"--replay_buffer_size={size}: smaller than the data, {dataset.size:,} transitions: give a "
            "larger one, or --init_dataset_size or --offline_fraction"
        )
    return dataset


def bounds_of_data(
    run: Run, task: Task | None, sources: Sequence[str | Dataset], unused_arrays: Sequence[str] = ()
) -> ActionBounds:
    """Returns the bounds of the actions of data that are given for a run: its own data's, or its task's.

    Data are its own by the name or, whatever they are called, by the content.
    """
    own, acting = run.fitted.action_bounds, run.preprocessing.action_bounds
    if own == acting or [*sources] == run.content.get("dataset", []):
        return own
    dataset = load_dataset(task, sources, own, unused_arrays)
    check_spaces(dataset, *run.sizes, run.dataset)
    learned = view_for(run.learner, run.preprocessing_of(dataset).dataset(dataset), run.horizon)
    return own if learned.fingerprint() == run.content["dataset_fingerprint"] else acting
