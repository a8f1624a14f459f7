"""A run as far as its settings tell: its learner, its members, its identity, its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xql_jax.configuration import learner_from_config
from xql_jax.errors import UserError, needing
from xql_jax.runs.folder import RunFolder, run_label
from xql_jax.runs.load import SavedRun
from xql_jax.runs.run_settings import RunSettings
from xql_jax.tasks import Task
from xql_jax.training.members import Member, make_members, parse_sweep
from xql_jax.types import Json


class Job(NamedTuple):
    """A run as far as its settings tell, before data are read or environments made."""

    settings: Any  # resolved; of the run's kind
    learner: Any
    members: list[Member]  # one per seed and setting of the swept hyperparameters
    identity: Json  # what its numbers depend on, except the data's content
    acting: Any = None  # the `ActingSchedule`, how acting and learning alternate, if it acts
    source: SavedRun | None = None  # the run of --checkpoint whose members it fine-tunes


def make_job(settings: RunSettings, updates: float, **identity: object) -> Job:
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


def folder_of(
    job: Job, name: str, task: Task | None, sizes: Sequence[int], about: Json, **identity: object
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
    about = {"sizes": list(sizes), **about}
    if settings.random_return is not None:
        about["given_references"] = True
    return RunFolder(
        Path(settings.save_dir).expanduser(),
        name,
        settings.config.algorithm,
        settings.seeds,
        job.members,
        identity,
        run_label(settings.config.to_dict(), identity),
        about,
        (settings.task, settings.simulation),
    )
