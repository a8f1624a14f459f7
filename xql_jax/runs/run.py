"""What all kinds of training do: members, evaluator, folder, loop, learning curve and summary."""

import contextlib
import dataclasses
import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from xql_jax.config_files import ONLINE
from xql_jax.configuration import learner_from_config
from xql_jax.data.dataset import checked_references
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs import describe_environment, environment_maker
from xql_jax.errors import UserError, needing
from xql_jax.files import writing
from xql_jax.jax_settings import settings_of_jax
from xql_jax.learners.registry import LEADING
from xql_jax.logs.csv_rows import Row, parse_rows
from xql_jax.reports.run_summary import summarize
from xql_jax.rollout.acting import prepared
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.folder import RunFolder, run_label
from xql_jax.runs.run_settings import EVALUATION_SEED, RunSettings
from xql_jax.settings import as_typed
from xql_jax.tasks import References, Task, referenced
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.members import Member, fields_given, make_members, parse_sweep
from xql_jax.training.population import Population
from xql_jax.training.signals import StopSignals

LOG = logging.getLogger(__name__)


class Job(NamedTuple):
    """A run as far as its settings tell, before data are read or environments made."""

    settings: Any  # resolved; of the run's kind
    learner: Any
    members: list[Member]  # one per seed and setting of the swept hyperparameters
    identity: Mapping[str, Any]  # what its numbers depend on, except the data's content
    acting: Any = None  # the `ActingSchedule`, how acting and learning alternate, if it acts
    source: Any = None  # the `SavedRun` of --checkpoint, of whose members it is the fine-tuning


@dataclasses.dataclass(frozen=True)
class Summary:
    """How a training ended."""

    path: Path  # of the run's folder
    unit: str  # the name of one step
    content: Mapping[str, Any]  # of summary.json
    had_ended: bool = False  # before, so that nothing was done
    stopped_by: signal.Signals | None = None  # the signal that ended it before its last step


def make_job(settings: RunSettings, updates: float, **identity: Any) -> Job:
    """Makes learner and members from resolved settings.

    Args:
        updates: the number after which decaying learning rates reach 0; inf: no decay.
        identity: what the run's numbers depend on besides the settings.
    """
    if settings.wandb:  # before the data are loaded
        with needing("--wandb", "wandb"):
            import wandb  # noqa: F401
    learner = learner_from_config(settings.config, updates)
    grid = parse_sweep(settings.sweep, learner)
    if twice := [name for name in grid if name in settings.given]:
        raise UserError(f"--{twice[0]}: --sweep varies {twice[0]}, too: leave out one of them")
    members = make_members(settings.seeds, grid)
    return Job(settings, learner, members, {**settings.identity, **identity})


def request(settings: RunSettings) -> str:
    """Returns a line that describes the training that is asked for."""
    seeds = settings.seeds
    numbers = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{settings.config.algorithm}: {settings.schedule.max_steps:,} {settings.unit}s, {numbers}"


def scored(task: Task, given: tuple[float | None, float | None], of_data: References | None = None) -> Task:
    """Returns the task with the user's returns of scores 0 and 100, else the data's, if it has none.

    Args:
        given: `random_return` and `expert_return` of the user's settings.
    """
    of_user = checked_references(given, "--random_return and --expert_return")
    found = referenced(task, of_user or of_data)
    if of_user and found is task:
        raise UserError(f"--random_return: {task.name} has references of its own")
    if found is not task:
        LOG.info(f"score 0 is a return of {found.min_return:g}, 100 of {found.max_return:g}")
    return found


@contextlib.contextmanager
def running(job: Job) -> Iterator[tuple[contextlib.ExitStack, Evaluator | None]]:
    """Context manager around a run: fixes JAX's settings, and tells in one line of a lack of memory.

    Yields:
        What is closed at the end, and the members' evaluator: None without a task or with --eval_episodes=0.
    """
    settings, task, evaluator = job.settings, job.settings.task, None
    try:
        with contextlib.ExitStack() as held:
            held.enter_context(settings_of_jax())
            if task is None or not settings.eval_episodes:
                LOG.info("no evaluation: " + ("--eval_episodes=0" if task else "no --env_name is given"))
            else:
                maker = environment_maker(task, settings.simulation)
                evaluator = Evaluator(
                    task, len(job.members), settings.eval_episodes, EVALUATION_SEED, maker=maker
                )
                held.enter_context(contextlib.closing(evaluator))
            yield held, evaluator
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "not enough memory: give fewer members, smaller batches or, offline, --data_on=host "
            f"({str(error)[:200]})"
        ) from error


def folder_of(
    job: Job, name: str, task: Task | None, sizes: Sequence[int], about: Mapping[str, Any], **identity: Any
) -> RunFolder:
    """Returns the run's folder, whose name is derived from its identity.

    Args:
        name: ENV in SAVE_DIR/ENV/ALGORITHM/RUN.
        task: scored as the run scores it.
        sizes: the lengths of an observation and of an action.
        about: further entries of config.json, on which no number depends.
        identity: what the numbers depend on besides the job's identity.
    """
    settings = job.settings
    identity = {**identity, **job.identity}
    if task and settings.task and task != settings.task:  # the user's or the data's references
        identity["references"] = [task.min_return, task.max_return]
    if settings.random_return is not None:
        about = {**about, "given_references": True}
    return RunFolder(
        Path(settings.save_dir).expanduser(),
        name,
        settings.config.algorithm,
        settings.seeds,
        job.members,
        identity,
        run_label(settings.config.to_dict(), identity),
        {"sizes": list(sizes), **about},
        (settings.task, settings.simulation),
    )


def train_and_summarize(
    job: Job,
    folder: RunFolder,
    population: Population,
    evaluator: Evaluator | None,
    task: Task | None,
    stop: StopSignals,
    preprocessing: Preprocessing,
    *,
    details: Callable[[Population, Sequence[Row]], Mapping[str, Any]] = lambda population, rows: {},
    hand_over: Callable[[Population], Population] | None = None,
) -> Summary:
    """Trains to the end, or until a signal, then draws the learning curve and writes the summary.

    Args:
        task: scored as the run scores it.
        details: returns entries of summary.json, given the rows of evaluations.csv.
        hand_over: see `TrainingLoop`.
    """
    settings, files, loggers = job.settings, folder.files, []
    with contextlib.ExitStack() as held:
        held.callback(population.close)
        if settings.wandb:
            from xql_jax.logs.wandb import WandbLogger  # which few runs need

            names, place = [member.name for member in job.members], settings.wandb_project
            config = {**job.identity, **job.identity["config"]}
            loggers = [WandbLogger(files.folder, names, place, settings.wandb_group, config)]
        loop = TrainingLoop(
            population, evaluator, task, settings.schedule, files, preprocessing, hand_over, loggers
        )
        held.enter_context(loop)
        _log_settings(job)
        if step := loop.progress.step:
            LOG.info(f"resuming from {settings.unit} {step:,} of {settings.schedule.max_steps:,}")
        files.summary.unlink(missing_ok=True)  # only now, so a run that cannot be resumed keeps it
        with stop:
            loop.run(stop, show_progress=settings.tqdm)
        rows = parse_rows(files.evaluations.read_bytes(), folder.setting_columns, files.evaluations)
        if loop.finished:  # an interrupted run skips the pictures
            if task and rows:
                _draw_curve(rows, settings, task, folder)
            if task and evaluator and task.suite.draws_maze and settings.config_kind is not ONLINE:
                _draw_maze(job, loop.population, evaluator, preprocessing, folder)
        content = {**_results(loop, rows, job, folder), **details(loop.population, rows)}
        content["quantity"] = task.quantity if task else None
        summary = folder.write_summary(content, loop.csv_files)  # last: "finished" means that all else exists
        return Summary(
            folder.path, settings.unit, summary, stopped_by=None if loop.finished else stop.received
        )


def _log_settings(job: Job) -> None:
    """Logs the swept hyperparameters, the leading ones, and those that the user gave."""
    settings = job.settings
    values = {**job.identity["config"], **job.identity}
    widths = [name for name in settings.config if name.endswith("_hidden_dims")]
    own = settings.given & set(settings.config) | set(widths if "hidden_dims" in settings.given else ())
    names = (*LEADING, *sorted(own))
    told = {name: as_typed(values[name]) for name in names if values.get(name) is not None}
    swept = dict(fields_given(settings.sweep))
    shown = " ".join(f"{name}={value}" for name, value in {**swept, **told, **swept}.items())
    LOG.info(f"settings: {shown}; --print_config tells all")


def _draw_curve(rows: Sequence[Row], settings: Any, task: Task, folder: RunFolder) -> None:
    from xql_jax.reports.run_pictures import plot_learning_curve  # matplotlib takes a second

    picture = folder.path / "learning_curve.png"
    title = f"{settings.config.algorithm} on {task.name}"
    quantity = "normalised score" if task.is_normalised else "return"
    with writing(picture):
        plot_learning_curve(rows, title, picture, f"{settings.unit}s", settings.schedule.handover, quantity)


def _draw_maze(
    job: Job, population: Population, evaluator: Evaluator, preprocessing: Preprocessing, folder: RunFolder
) -> None:
    """Draws maze.png: V over the maze, if the method has one, and the paths of the first member's policy."""
    from xql_jax.envs.mazes import maze_of
    from xql_jax.reports.run_pictures import plot_maze, position_grid

    name, state, values = job.settings.task.name, population.member(0)[1], None
    maze = maze_of(name)
    if state.value is not None:
        positions = position_grid(maze)
        at_rest = np.concatenate([positions, np.zeros_like(positions)], axis=-1).reshape(-1, 4)
        values = state.value(preprocessing.observations(at_rest)).reshape(positions.shape[:2])
    paths = evaluator.run(prepared(population.policy(), preprocessing), record_paths=True).paths
    assert paths is not None  # they were asked for
    picture = folder.path / "maze.png"
    title = f"{job.settings.config.algorithm} on {name}, {job.members[0]}"
    with writing(picture):
        plot_maze(maze, values, paths[0], title, picture)


def _results(loop: TrainingLoop, rows: Sequence[Row], job: Job, folder: RunFolder) -> dict[str, Any]:
    """Returns the entries of summary.json that all kinds of training have."""
    settings, population, progress = job.settings, loop.population, loop.progress
    is_evaluated = settings.task is not None and settings.eval_episodes > 0
    steps = progress.step * len(job.members)
    return {
        "status": "finished" if loop.finished else "interrupted",
        "env_name": folder.env_name,
        "algorithm": settings.config.algorithm,
        "step": progress.step,
        "results": summarize(rows),
        "diverged": [
            {"member": str(job.members[index]), **dataclasses.asdict(divergence)}
            for index, divergence in population.diverged.items()
        ],
        "environment": describe_environment(settings.task, settings.simulation) if is_evaluated else None,
        "seconds": {
            "compile": round(population.compile_seconds, 3),
            "update": round(progress.update_seconds, 3),
            "evaluation": round(progress.evaluation_seconds, 3),
        },
        f"{settings.unit}s_per_second": round(steps / progress.update_seconds, 1) if steps else None,
    }
