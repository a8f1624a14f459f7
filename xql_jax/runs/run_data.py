"""What a run learns from: its data in the learner's form, the preprocessing, and the task as it is scored."""

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xql_jax.data.comparison import (
    RESETS,
    Ranges,
    action_range,
    compared,
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
from xql_jax.types import UNKNOWN, ActionBounds, Json

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
    caveats = evaluator.caveats if evaluator else ()
    if isinstance(settings, Online):
        own = settings.task
        assert own is not None
        bounds = action_bounds(own)
        preprocessing = Preprocessing(action_bounds=bounds, action_chunk=settings.action_chunk)
        return RunData(preprocessing, own, environment_maker(own).sizes(own), caveats)
    assert isinstance(settings, FromData)
    dataset, bounds = _read(settings, evaluator)
    task, ranges = _scored_task(settings, dataset), Ranges.of(dataset)
    for note in dataset.notes:
        if not note.is_suspicion:
            LOG.info(str(note) if dataset.parts else f"{dataset.source}: {note}")
    warnings = [*warn_of_suspicions(dataset, task, settings.unit_rewards), *caveats]
    warnings += (
        _compared(settings, task, evaluator, dataset, ranges) if task else warned(small_units_told(dataset))
    )
    warnings += settings.source.record.get("warnings", ()) if settings.source else ()
    preprocessing = _preprocessing(settings, task, dataset, bounds)
    learned = preprocessing.dataset(dataset)
    if task is None:
        preprocessing = _within_range(preprocessing, learned)
    view = _view(settings, learned)
    sizes = view.observation_dim, view.action_dim // settings.action_chunk
    return RunData(preprocessing, task, sizes, warnings, view, learned.batch.rewards, ranges)


def _read(settings: FromData, evaluator: Evaluator | None) -> tuple[Dataset, ActionBounds]:
    """Reads the data, which must fit the task's spaces; returns them with the bounds of their actions."""
    task, source, sources, unused = settings.task, settings.source, settings.dataset, settings.unused_arrays
    sizes = evaluator.sizes if evaluator else own_sizes(task)  # before a download
    bounds = bounds_of_data(source, task, sources, unused) if source else action_bounds(task)
    dataset = load_dataset(task, sources, bounds, unused)
    if sizes and task:
        check_spaces(dataset, *sizes, task.name)
    return dataset, bounds


def _scored_task(settings: FromData, dataset: Dataset) -> Task | None:
    """Returns the task with the returns of scores 0 and 100 that the data, or --checkpoint's run, give."""
    task, source = settings.task, settings.source
    if task is None:
        return None
    of_source = source and source.env_name == settings.env_name and not task.is_normalised
    references = (source.references if of_source else None) or dataset.references
    scored = referenced(task, references)
    if scored is not task:
        LOG.info(f"score 0 is a return of {scored.min_return:g}, 100 of {scored.max_return:g}")
    return scored


def _preprocessing(
    settings: FromData, task: Task | None, dataset: Dataset, bounds: ActionBounds
) -> Preprocessing:
    """Returns the preprocessing, fitted to the data or, for fine-tuning, of --checkpoint's run."""
    if settings.source:
        # Who acts in an environment may leave the data's range of actions.
        changes: Json = {"action_range": UNKNOWN}
        preprocessing = settings.source.preprocessing_of(dataset)
    else:
        changes = {"action_bounds": bounds, "action_chunk": settings.action_chunk}
        preprocessing = fit_preprocessing(dataset, task, settings, settings.unit_rewards)
    if isinstance(settings, Acting) and task and task.suite.data_rewards:
        # Anew, because --checkpoint's run may have had other data.
        as_in_data = has_data_rewards(dataset, task)
        whose = "of the state before a step, as in the data" if as_in_data else "the environment's"
        LOG.info(f"online rewards: {whose}")
        changes["rewards_as_in"] = task.name if as_in_data else ""
    return dataclasses.replace(preprocessing, **changes)


def _within_range(preprocessing: Preprocessing, learned: Dataset) -> Preprocessing:
    """Returns the preprocessing of data without an environment: policies stay within the data's actions."""
    bounds = action_range(learned.batch.actions)
    LOG.info(
        "no environment tells the bounds of actions: the policy stays within the data's range, entry by "
        f"entry, in all {min(bounds.low):.4g} to {max(bounds.high):.4g}"
    )
    return dataclasses.replace(preprocessing, action_range=bounds)


def _view(settings: FromData, learned: Dataset) -> Dataset:
    """Returns the data in the learner's form; in fine-tuning, what --init_dataset_size leaves of them."""
    view = view_for(settings.learner, learned, settings.horizon)
    if dropped := learned.size - view.size:
        why = "the data do not tell the next action"
        if settings.action_chunk > 1:
            why = f"no {settings.action_chunk} actions follow before their trajectory's time-out"
        LOG.info(f"left out {dropped:,} of {learned.size:,} transitions: {why}")
    return _prior_data(settings, view) if isinstance(settings, Finetune) else view


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
        # Rewards of some suites are computed online as in the data.
        has_rewards = isinstance(settings, Finetune) and not task.suite.data_rewards
        return compared(ranges, env, seeds, task.name, dataset if has_rewards else None)


def _prior_data(settings: Finetune, dataset: Dataset) -> Dataset:
    """Returns the data of both phases, of which --init_dataset_size may leave a part."""
    number, size, source = settings.init_dataset_size, settings.replay_buffer_size, settings.source
    expected = source.record["dataset_fingerprint"] if source else None
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
    if own == acting or [*sources] == run.record.get("dataset", []):
        return own
    dataset = load_dataset(task, sources, own, unused_arrays)
    check_spaces(dataset, *run.sizes, run.dataset)
    learned = view_for(run.learner, run.preprocessing_of(dataset).dataset(dataset), run.horizon)
    return own if learned.fingerprint() == run.record["dataset_fingerprint"] else acting
