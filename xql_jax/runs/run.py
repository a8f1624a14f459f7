"""What all kinds of training do: resources, evaluator, loop, pictures and summary."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs import describe_environment, environment_maker
from xql_jax.errors import UserError
from xql_jax.files import writing
from xql_jax.logs.csv_rows import Row, parse_rows
from xql_jax.logs.wandb import WandbLogger
from xql_jax.numerics.jax_settings import check_matmul_precision, settings_of_jax
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.rollout.run_summary import summarize
from xql_jax.rollout.scores import steps_in_words
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.job import Job, log_settings
from xql_jax.runs.kinds import EVALUATION_SEED, Training
from xql_jax.runs.load import Run, load_run
from xql_jax.suites.tasks import Task
from xql_jax.training.loop import RowCallback, TrainingLoop
from xql_jax.training.population import Population
from xql_jax.training.signals import StopSignals
from xql_jax.training.values import watch_divergence
from xql_jax.types import Json

LOG = logging.getLogger(__name__)


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


def make_evaluator(job: Job, resources: contextlib.ExitStack) -> Evaluator | None:
    """Returns the members' evaluator; None without a task or with --eval_episodes=0."""
    settings, task = job.settings, job.settings.task
    if task is None or not settings.eval_episodes:
        LOG.info("no evaluation: " + ("--eval_episodes=0" if task else "no --env_name is given"))
        return None
    maker = environment_maker(task, settings.simulation)
    evaluator = Evaluator(task, len(job.members), settings.eval_episodes, EVALUATION_SEED, maker=maker)
    return resources.enter_context(contextlib.closing(evaluator))


def train_and_summarize(
    job: Job,
    folder: RunFolder,
    population: Population,
    evaluator: Evaluator | None,
    task: Task | None,
    stop: StopSignals,
    preprocessing: Preprocessing,
    callbacks: Sequence[RowCallback] = (),
    *,
    details: Callable[[Population, Sequence[Row]], Json] = lambda population, rows: {},
    make_online: Callable[[Population], Population] | None = None,
) -> Run:
    """Trains to the end, or until a signal, then draws the learning curve and writes the summary.

    Args:
        task: scored as the run scores it.
        details: returns entries of summary.json, given the rows of evaluations.csv.
        make_online: see `TrainingLoop`.
    """
    settings, files = job.settings, folder.files
    population.matmul_precision = settings.matmul_precision
    callbacks = *callbacks, watch_divergence(job.members, settings.batch_size)
    with contextlib.ExitStack() as resources:
        resources.callback(population.kind.close)
        loop = TrainingLoop(
            population, evaluator, task, settings.schedule, files, preprocessing, make_online,
            _loggers(job, files.folder), callbacks,
        )  # fmt: skip
        resources.enter_context(loop)
        log_settings(job)
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
            _save_learning_curve(job, rows, task, folder.path)
        content = {
            "env_name": folder.env_name,
            **_results_of(job, loop, rows),
            **details(loop.population, rows),
            "quantity": task.quantity if task else None,
        }
        folder.write_summary(content, loop.csv_files)  # last: "finished" means that all else exists
        run = load_run(folder.path)
        run.stopped_by = None if loop.finished else stop.received
        return run


def _save_learning_curve(job: Job, rows: Sequence[Row], task: Task, folder: Path) -> None:
    """Draws learning_curve.png from the rows of evaluations.csv."""
    from xql_jax.pictures.run_pictures import plot_learning_curve  # matplotlib takes a second

    settings, picture = job.settings, folder / "learning_curve.png"
    title = f"{settings.method} on {task.name}"
    quantity = "normalised score" if task.is_normalised else "return"
    with writing(picture):
        plot_learning_curve(rows, title, picture, f"{settings.unit}s", settings.schedule.handover, quantity)


def _results_of(job: Job, loop: TrainingLoop, rows: Sequence[Row]) -> Json:
    """Returns what every summary.json has of a training, from the rows of evaluations.csv."""
    settings, progress, environment = job.settings, loop.progress, None
    if settings.task and settings.eval_episodes:
        environment = describe_environment(settings.task, settings.simulation)
    updates = progress.step * len(job.members)
    return {
        "status": "finished" if loop.finished else "interrupted",
        "algorithm": settings.method,
        "step": progress.step,
        "results": summarize(rows),
        "diverged": [
            {"member": str(job.members[index]), **dataclasses.asdict(divergence)}
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


def _loggers(job: Job, folder: Path) -> list[WandbLogger]:
    settings = job.settings
    if not settings.wandb:
        return []
    names, config = [member.name for member in job.members], {**job.identity, **job.identity["config"]}
    return [WandbLogger(folder, names, settings.wandb_project, config)]
