"""What all kinds of training do: resources, evaluator, loop, pictures and summary."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from xql_jax.envs import environment_maker, versions_of
from xql_jax.errors import UserError
from xql_jax.files import writing
from xql_jax.logs.csv_rows import Row, parse_rows
from xql_jax.logs.wandb import WandbLogger
from xql_jax.numerics.jax_settings import check_matmul_precision, settings_of_jax
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.rollout.run_summary import summarize, summarize_finetuning
from xql_jax.rollout.scores import steps_in_words
from xql_jax.runs.beginning import log_settings
from xql_jax.runs.folder import RunFolder, identity_of
from xql_jax.runs.kinds import EVALUATION_SEED, Acting, Training
from xql_jax.runs.load import Run, load_run
from xql_jax.runs.run_data import RunData
from xql_jax.suites.tasks import Task
from xql_jax.training.loop import RowCallback, TrainingLoop
from xql_jax.training.population import Population
from xql_jax.training.signals import StopSignals
from xql_jax.training.values import watch_divergence
from xql_jax.types import Json, State

LOG = logging.getLogger(__name__)


class Populations(NamedTuple):
    """What a run trains."""

    first: Population
    watches: tuple[RowCallback, ...] = ()  # warn of its values
    make_online: Callable[[Population], Population] | None = None  # in fine-tuning, see `TrainingLoop`


@contextlib.contextmanager
def run_resources(settings: Training) -> Iterator[contextlib.ExitStack]:
    """Context manager around a run: sets JAX's settings, and reports a lack of memory in one line.

    Yields:
        A stack for what is to be closed when the run ends.
    """
    try:
        with contextlib.ExitStack() as resources:
            resources.enter_context(settings_of_jax())
            check_matmul_precision(settings.matmul_precision, jax.default_backend())
            yield resources
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "not enough memory: give fewer members, smaller batches or, offline, --data_on=host "
            f"({str(error)[:200]})"
        ) from error


def make_evaluator(settings: Training, resources: contextlib.ExitStack) -> Evaluator | None:
    """Returns the members' evaluator; None without a task or with --eval_episodes=0."""
    task = settings.task
    if task is None or not settings.eval_episodes:
        LOG.info("no evaluation: " + ("--eval_episodes=0" if task else "no --env_name is given"))
        return None
    maker = environment_maker(task)
    evaluator = Evaluator(task, len(settings.members), settings.eval_episodes, EVALUATION_SEED, maker=maker)
    return resources.enter_context(contextlib.closing(evaluator))


def states_of_source(settings: Any, sizes: tuple[int, int]) -> list[State]:
    """Returns the members' states in the run of --checkpoint; UserError if they do not fit the data."""
    source, members = settings.source, settings.members
    if source.sizes != sizes:
        raise UserError(
            f"--checkpoint={source.path}: its observations and actions have {source.sizes} entries, those "
            f"of the data {sizes}"
        )
    for member in members:
        if source.progress.members[member.name]["diverged"]:
            raise UserError(f"--checkpoint={source.path}: {member} has diverged: choose another --member")
    return [source.states[member.name] for member in members]


def train_and_summarize(
    folder: RunFolder,
    data: RunData,
    populations: Populations,
    evaluator: Evaluator | None,
    stop: StopSignals,
    callbacks: Sequence[RowCallback] = (),
) -> Run:
    """Trains to the end, or until a signal, then draws the learning curve and writes the summary."""
    settings, files, task = folder.settings, folder.files, data.task
    population, watches, make_online = populations
    population.matmul_precision = settings.matmul_precision
    callbacks = *callbacks, *watches, watch_divergence(settings.members, settings.batch_size)
    with contextlib.ExitStack() as resources:
        resources.callback(population.kind.close)
        loop = TrainingLoop(
            population, evaluator, task, settings.schedule, files, data.preprocessing, make_online,
            _loggers(settings, files.folder), callbacks,
        )  # fmt: skip
        resources.enter_context(loop)
        log_settings(settings)
        if step := loop.progress.step:
            done, all_steps = (
                steps_in_words(each, settings.unit, settings.schedule.handover)
                for each in (step, settings.schedule.max_steps)
            )
            LOG.info(f"resuming after {done} of {all_steps}")
        files.summary.unlink(missing_ok=True)  # only now, so a run that cannot be resumed keeps it
        with stop:
            loop.run(stop, show_progress=settings.tqdm)

        rows = parse_rows(files.evaluations.read_bytes(), folder.setting_columns, files.evaluations)
        if loop.finished and task and rows:  # an interrupted run skips the picture
            _save_learning_curve(settings, rows, task, folder.path)
        content = {
            "env_name": folder.env_name,
            **_results_of(settings, loop, rows),
            **_details_of(settings, loop.population),
            "quantity": task.quantity if task else None,
        }
        if (handover := settings.schedule.handover) is not None:
            is_normalised = task is not None and task.is_normalised
            content["finetuning"] = summarize_finetuning(rows, handover, is_normalised)
        folder.write_summary(content, loop.csv_files)  # last: "finished" means that all else exists
        run = load_run(folder.path)
        run.stopped_by = None if loop.finished else stop.received
        return run


def _save_learning_curve(settings: Training, rows: Sequence[Row], task: Task, folder: Path) -> None:
    """Draws learning_curve.png from the rows of evaluations.csv."""
    from xql_jax.pictures.run_pictures import plot_learning_curve  # matplotlib takes a second

    picture, title = folder / "learning_curve.png", f"{settings.method} on {task.name}"
    quantity = "normalised score" if task.is_normalised else "return"
    with writing(picture):
        plot_learning_curve(rows, title, picture, f"{settings.unit}s", settings.schedule.handover, quantity)


def _results_of(settings: Training, loop: TrainingLoop, rows: Sequence[Row]) -> Json:
    """Returns what every summary.json has of a training, from the rows of evaluations.csv."""
    progress, environment = loop.progress, None
    if settings.task and settings.eval_episodes:
        environment = {"versions": versions_of(settings.task)}
    updates = progress.step * len(settings.members)
    return {
        "status": "finished" if loop.finished else "interrupted",
        "algorithm": settings.method,
        "step": progress.step,
        "results": summarize(rows),
        "diverged": [
            {"member": str(settings.members[index]), **dataclasses.asdict(divergence)}
            for index, divergence in loop.population.diverged.items()
        ],
        "environment": environment,
        "seconds": {
            "compile": round(loop.population.compile_seconds, 3),
            "update": round(progress.update_seconds, 3),
            "evaluation": round(progress.evaluation_seconds, 3),
        },
        f"{settings.unit}s_per_second": round(updates / progress.update_seconds, 1) if updates else None,
    }


def _details_of(settings: Any, population: Population) -> Json:
    """Returns the entries of summary.json that only runs that act have."""
    if not isinstance(settings, Acting):
        return {}
    seconds = {name: round(value, 3) for name, value in population.seconds.items()}
    details: Json = {"seconds_by_work": seconds, "policy_lag": settings.acting.policy_lag}
    if (failures := getattr(population.kind, "failures", None)) is not None:  # in the compiled program
        details |= {"policy_lag": 0, "failed_episodes": failures}
    return details


def _loggers(settings: Training, folder: Path) -> list[WandbLogger]:
    if not settings.wandb:
        return []
    names, identity = [member.name for member in settings.members], identity_of(settings)
    return [WandbLogger(folder, names, settings.wandb_project, {**identity, **identity["config"]})]
