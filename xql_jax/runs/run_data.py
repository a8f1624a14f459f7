"""What a run learns from: its data in the learner's form, the preprocessing, and the task as it is scored."""

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xql_jax.data.advice import cloning_to_beat
from xql_jax.data.comparison import RESETS, Ranges, compared
from xql_jax.data.dataset import (
    Dataset,
    best_trajectories,
    check_order,
    check_spaces,
    drawn_rows,
    with_scaled_actions,
)
from xql_jax.data.loading import load_dataset, stamps
from xql_jax.data.preprocessing import Preprocessing, fit_preprocessing, task_of_rewards
from xql_jax.data.suspicions import warn_of_suspicions
from xql_jax.data.views import view_for
from xql_jax.envs import action_bounds, environment_maker, own_sizes
from xql_jax.errors import UserError
from xql_jax.learners.bc import BC
from xql_jax.rollout.evaluation import Evaluator, episode_seed
from xql_jax.runs.kinds import EVALUATION_SEED, Acting, Finetune, FromData, Online, Training
from xql_jax.runs.load import DATA_ROWS, FINGERPRINT, Run, digests_of
from xql_jax.suites.tasks import Task, referenced
from xql_jax.types import UNKNOWN, ActionBounds, Batch

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
    rows: str | None = None  # the digest of the transitions as they were read, if no task tells their units


def load_data(settings: Training, evaluator: Evaluator | None) -> RunData:
    """Loads a run's data from their sources, and gives them the form in which the learner learns from them.

    The data are read and checked, warned of, preprocessed, and turned into the learner's batches; for
    fine-tuning with the preprocessing of --checkpoint's run. A run that learns online has no data.
    """
    if isinstance(settings, Online):
        return _without_data(settings, evaluator)
    assert isinstance(settings, FromData)
    dataset, bounds, rows = _read(settings, evaluator)
    kept = best_trajectories(dataset, settings.top_returns)
    task, ranges = _scored_task(settings, dataset), Ranges.of(dataset)
    warnings = _warnings(settings, task, evaluator, dataset, ranges)
    preprocessing = _preprocessing(settings, task, bounds, dataset, kept)
    learned = preprocessing.dataset(kept)
    view = _view(settings, learned)
    sizes = view.observation_dim, view.action_dim // settings.action_chunk
    return RunData(preprocessing, task, sizes, warnings, view, learned.batch.rewards, ranges, rows)


def _without_data(settings: Online, evaluator: Evaluator | None) -> RunData:
    """Returns what a run knows that learns from its own steps alone."""
    task = settings.task
    assert task is not None
    preprocessing = Preprocessing(action_bounds=action_bounds(task), action_chunk=settings.action_chunk)
    sizes, warnings = environment_maker(task).sizes(task), evaluator.caveats if evaluator else ()
    return RunData(preprocessing, task, sizes, warnings)


def _read(settings: FromData, evaluator: Evaluator | None) -> tuple[Dataset, ActionBounds, str | None]:
    """Reads the data, which must fit the task's spaces and, if sequences are learned from, be in order.

    Returns them with actions as learners see them, the bounds from which these were scaled and, if there is
    no task, a digest of the transitions as they were read.
    """
    task, source = settings.task, settings.source
    # What an environment may refuse comes before a download.
    sizes = evaluator.sizes if evaluator else own_sizes(task)
    bounds = source.preprocessing.action_bounds if source else action_bounds(task)
    dataset = load_dataset(task, settings.dataset, settings.unused_arrays)
    if source:
        bounds = bounds_of_data(source, dataset, settings.dataset)
    if sizes and task:
        check_spaces(dataset, *sizes, task.name)
    if settings.learner.batch_type is not Batch or settings.horizon.steps > 1:
        check_order(dataset, "the method learns from sequences")
    rows = dataset.fingerprint() if task is None else None
    return with_scaled_actions(dataset, bounds), bounds, rows


def bounds_of_data(run: Run, dataset: Dataset, sources: Sequence[str | Dataset]) -> ActionBounds:
    """Returns the bounds of the actions of a dataset that was read from these sources for a run.

    A run on data alone knows no bounds. Its own data keep the units in which it learned from them, and other
    data have the units of the environment that it acts in. Data are its own by the names of the sources or,
    whatever these are called, by the transitions; earlier versions recorded digests of the files instead.
    """
    own, acting = run.fitted.action_bounds, run.preprocessing.action_bounds
    if own == acting or [*sources] == run.record.get("dataset", []):
        return own
    if DATA_ROWS not in run.record:
        files = digests_of(stamps(None, sources))
        return own if files and files == digests_of(run.record.get("data_files")) else acting
    return own if dataset.fingerprint() == run.record[DATA_ROWS] else acting


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


def _warnings(
    settings: FromData, task: Task | None, evaluator: Evaluator | None, dataset: Dataset, ranges: Ranges
) -> list[str]:
    """Says how the data were read, and warns of what speaks against them; returns the warnings.

    They are judged alone, and beside the run's environment.
    """
    for note in dataset.notes:
        if not note.is_suspicion:
            LOG.info(str(note) if dataset.parts else f"{dataset.source}: {note}")
    if task is None and not isinstance(settings.learner, BC):
        for advice in cloning_to_beat(dataset):
            LOG.info(f"to train beside it: {advice}")
    lines = [
        *warn_of_suspicions(dataset, task, settings.unit_rewards),
        *(evaluator.caveats if evaluator else ()),
        *(_warn_of_environment(settings, task, evaluator, dataset, ranges) if task else ()),
    ]
    return lines + list(settings.source.record.get("warnings", ())) if settings.source else lines


def _warn_of_environment(
    settings: FromData, task: Task, evaluator: Evaluator | None, dataset: Dataset, ranges: Ranges
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


def _preprocessing(
    settings: FromData, task: Task | None, bounds: ActionBounds, dataset: Dataset, kept: Dataset
) -> Preprocessing:
    """Returns the preprocessing, fitted to the data that are kept or, for fine-tuning, of --checkpoint's run.

    Whose rewards the data have is asked anew, because --checkpoint's run may have had other data.
    """
    if settings.source:
        # Who acts in an environment may leave the data's range of actions.
        preprocessing = dataclasses.replace(settings.source.preprocessing, action_range=UNKNOWN)
    else:
        fitted = fit_preprocessing(kept, task, settings, settings.unit_rewards, whole=dataset)
        is_scaled = settings.unit_rewards or (task and task.suite.scales_rewards)
        if settings.scale_rewards and "scale_rewards" in settings.choices and not is_scaled:
            LOG.warning(
                f"--scale_rewards has no effect: {settings.method} has values of {settings.origin} for the "
                "rewards as they are; --config=own finds them for any unit"
            )
        chunk = settings.action_chunk
        preprocessing = dataclasses.replace(fitted, action_bounds=bounds, action_chunk=chunk)
    rewards_as_in = task_of_rewards(dataset, task)
    if isinstance(settings, Acting) and task and task.suite.data_rewards:
        whose = "of the state before a step, as in the data" if rewards_as_in else "the environment's"
        LOG.info(f"online rewards: {whose}")
    return dataclasses.replace(preprocessing, rewards_as_in=rewards_as_in)


def _view(settings: FromData, learned: Dataset) -> Dataset:
    """Returns the data in the learner's form; in fine-tuning, what --init_dataset_size leaves of them."""
    view = view_for(settings.learner, learned, settings.horizon)
    if dropped := learned.size - view.size:
        why = "the data do not tell the next action"
        if settings.action_chunk > 1:
            why = f"no {settings.action_chunk} actions follow before their trajectory's time-out"
        LOG.info(f"left out {dropped:,} of {learned.size:,} transitions: {why}")
    if not isinstance(settings, Finetune):
        return view
    number, room, source = settings.init_dataset_size, settings.replay_buffer_size, settings.source
    digests = [view.fingerprint()] if source else []
    if number is not None and number < view.size:
        view = view.part(drawn_rows(view.size, number, settings.data_seed))
        digests += [view.fingerprint()] if source else []
    if source and source.record[FINGERPRINT] not in digests:
        LOG.warning(f"{view.source}: not the data that the checkpoint was trained on")
    if settings.offline_fraction is None and view.size > room:
        raise UserError(
            f"--replay_buffer_size={room}: smaller than the data, {view.size:,} transitions: give a "
            "larger one, or --init_dataset_size or --offline_fraction"
        )
    return view
