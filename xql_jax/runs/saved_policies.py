"""Learner and members of a run that has checkpoints, and their states. Nothing in the folder is changed."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from xql_jax.configuration import learner_from_config, settings_by_name
from xql_jax.data.dataset import Dataset
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs import BACKENDS, Simulation
from xql_jax.errors import UserError
from xql_jax.evaluation.policies import Act, prepared
from xql_jax.files import with_numbers
from xql_jax.runs.folder import RunFolder, differing_settings
from xql_jax.runs.record import NO_SETTINGS, RunRecord, open_record
from xql_jax.tasks import Task
from xql_jax.training.checkpoints import Checkpoints, Progress
from xql_jax.training.manifests import UnfitCheckpoint, leaves_of
from xql_jax.training.members import Member, learners_of, make_members, parse_sweep, stacked
from xql_jax.training.policies import deterministic_policy
from xql_jax.types import Learner, State

TRIES = 10  # to read a checkpoint of a run that is still training
MAX_SEEDS = 100_000  # per run; a larger number means that the file is damaged
T = TypeVar("T")
Axis = tuple[str, int]  # of an array: the array's name, and the axis's number


@dataclasses.dataclass(frozen=True)
class SavedPolicies:
    """The learner and members of a run that has checkpoints.

    A member is one seed with one setting of the swept hyperparameters.
    """

    record: RunRecord
    config: ConfigDict  # without `about`
    learner: Learner
    members: list[Member]
    preprocessing: Preprocessing
    simulation: Simulation  # of the run's evaluations

    def restore(self, step: int, *dimensions: int) -> dict[str, State]:
        """Returns the members' states after `step`, by name; raises the errors of `Checkpoints.restore`.

        Args:
            dimensions: the lengths of an observation and of an action.
        """
        return self.restore_with_progress(step, *dimensions)[0]

    def restore_with_progress(self, step: int, *dimensions: int) -> tuple[dict[str, State], Progress]:
        """Returns the members' states after `step`, by name, and the progress of the whole run."""
        return restore_members(self.record, self.learner, self.members, step, *dimensions)

    def restore_at(self, step: int | None, *dimensions: int) -> tuple[dict[str, State], int]:
        """Returns the states after `step` (None: of the last checkpoint), and that step."""
        return read_checkpoint(self.record, step, lambda step: self.restore(step, *dimensions))

    def restore_for(self, task: Task, step: int | None, *dimensions: int) -> tuple[dict[str, State], int]:
        """Returns the states after `step` and that step.

        Args:
            task: on which the policies will act; it need not be the one that the run was trained on.
            step: None for the last checkpoint.
            dimensions: the lengths of the task's observations and actions.
        Raises:
            UserError: if the task's dimensions do not fit the run, or as `Checkpoints.restore`.
        """
        try:
            return self.restore_at(step, *dimensions)
        except UnfitCheckpoint as error:
            trained_on = self.record.env_name
            if task.name == trained_on or "other states" not in error.reason:
                raise
            raise UserError(
                f"{task.name} does not fit the run, which was trained on {trained_on or 'data alone'}: the "
                f"task's observations have {dimensions[0]} entries and its actions {dimensions[1]}, and the "
                f"run has other sizes:{error.reason.partition(':')[2]}"
            ) from error

    def sizes(self, step: int | None) -> tuple[int, int]:
        """Returns the lengths of an observation and of an action, derived from a checkpoint's arrays.

        Args:
            step: None for the last checkpoint.
        Raises:
            UserError: if the checkpoint cannot be read, or belongs to another learner.
        """
        with Checkpoints(self.record.files.checkpoints, self.record.run) as checkpoints:
            leaves, _ = read_checkpoint(self.record, step, checkpoints.leaves)
        sizes = sizes_from(self.learner, lengths_of(next(iter(leaves.values()))))
        if sizes is None:
            raise UserError(f"{self.record.path}: its checkpoint is not one of {self.record.algorithm}")
        return sizes

    def preprocessing_of(self, dataset: Dataset) -> Preprocessing:
        """Returns the run's preprocessing for data that may be others: `top_returns` is a share of these."""
        share = self.record.content.get("top_returns", 1.0)
        if share == 1.0:
            return self.preprocessing
        return dataclasses.replace(self.preprocessing, most_rows=float(share * dataset.size))

    def policy(self, states: Mapping[str, State]) -> Act:
        """Returns the members' deterministic policies, f32[M, K, O] to f32[M, K, A]."""
        of_members = stacked([states[member.name] for member in self.members])
        act = deterministic_policy(stacked(learners_of(self.learner, self.members)), of_members)
        return prepared(act, self.preprocessing)

    def only(self, index: int) -> "SavedPolicies":
        """Returns the run reduced to the member with that index."""
        if not 0 <= index < len(self.members):
            raise UserError(f"--member={index}: the run has members 0 to {len(self.members) - 1}")
        return dataclasses.replace(self, members=[self.members[index]])


def read_checkpoint(record: RunRecord, step: int | None, read: Callable[[int], T]) -> tuple[T, int]:
    """Reads a checkpoint of a run that may still be training, which removes old checkpoints.

    Args:
        step: None for the last checkpoint. If it disappears while it is read, the newest one is read instead.
        read: called with the step.
    Returns:
        What `read` returns, and the step.
    """
    if step is not None:
        return read(step), step
    for _ in range(TRIES):
        if not (steps := record.steps):
            raise UserError(f"{record.path}: the run has no checkpoint")
        last = steps[-1]
        try:
            return read(last), last
        except UserError:
            if last in record.steps:
                raise
    raise UserError(f"{record.path}: its checkpoints go faster than they can be read: stop the run")


def restore_members(
    record: RunRecord, learner: Learner, members: Sequence[Member], step: int, *dimensions: int
) -> tuple[dict[str, State], Progress]:
    """Reads members' states, by name, and the progress; raises the errors of `Checkpoints.restore`."""
    example = [jnp.zeros((1, dimension)) for dimension in dimensions]
    shapes = jax.eval_shape(learner.init, jax.random.key(0), *example)
    with Checkpoints(record.files.checkpoints, record.run) as checkpoints:
        return checkpoints.restore({member.name: shapes for member in members}, step)


def open_run(path: Path) -> SavedPolicies:
    """Opens a run's folder, which holds `config.json` and `checkpoints/`.

    Raises:
        UserError: if it is not a run's folder, or if its config.json or preprocessing cannot be read.
    """
    record = open_record(path)
    content, damaged = record.content, f"{path / 'config.json'}: damaged or of another version"
    try:
        config = ConfigDict(with_numbers(record.config))
        learner = learner_from_config(config, content["max_steps"])
        first, last = content["seeds"]
        if not 0 <= first <= last < first + MAX_SEEDS:
            raise ValueError(f"seeds {first} to {last}")
        grid = parse_sweep(content["sweep"], learner, record.algorithm)
        members = make_members(range(first, last + 1), grid)
        simulation = Simulation(content["env_backend"], content["legacy_inertia"])
        if simulation.env_backend not in BACKENDS or not isinstance(simulation.legacy_inertia, bool):
            raise ValueError(
                f"env_backend {simulation.env_backend!r}, legacy_inertia {simulation.legacy_inertia!r}"
            )
    except UserError as error:
        raise UserError(f"{damaged} ({error})") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{damaged} ({type(error).__name__}: {error})") from error
    if not record.steps:
        raise UserError(f"{path}: the run has no checkpoint yet")
    preprocessing = (
        Preprocessing() if record.is_online else Preprocessing.load(record.files.preprocessing, record.run)
    )
    return SavedPolicies(record, config, learner, members, preprocessing, simulation)


def split_checkpoint(name: str) -> tuple[Path, int | None]:
    """Splits the path of a run or a checkpoint into the run's folder and the step (None for the last)."""
    path = Path(name).expanduser()
    if path.parent.name == "checkpoints" and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return (path.parent if path.name == "checkpoints" else path), None


def members_of_another(
    source: Path, folder: RunFolder, learner: Learner, *dimensions: int
) -> tuple[dict[str, State], Progress]:
    """Reads the members of a new run from the last checkpoint of another run that includes them.

    The progress is that of the new members: it has their share of the other run's seconds.

    Raises:
        UserError: if the other run lacks a member, has no checkpoint, has ended, or has other settings.
    """
    record = open_record(source)
    theirs = {name: value for name, value in record.settings.items() if name != "sweep"}
    ours = {
        name: value
        for name, value in settings_by_name(folder.recorded).items()
        if name not in (*NO_SETTINGS, "sweep")
        and (name in theirs or not name.startswith("config."))  # else their version did not have the field
    }
    changed = differing_settings(theirs, ours)
    if changed or record.name != folder.env_name:
        raise UserError(f"--checkpoint={source}: another run: {'; '.join(changed[:3]) or record.name}")
    if not record.steps:
        raise UserError(f"--checkpoint={source}: the run has no checkpoint yet")
    (states, progress), step = read_checkpoint(
        record, None, lambda step: restore_members(record, learner, folder.members, step, *dimensions)
    )
    if step >= record.content["max_steps"]:
        raise UserError(f"--checkpoint={source}: the run has ended: there is nothing left to train")
    share = len(folder.members) / len(progress.members)
    return states, dataclasses.replace(
        progress,
        update_seconds=share * progress.update_seconds,
        evaluation_seconds=share * progress.evaluation_seconds,
        members={member.name: progress.members[member.name] for member in folder.members},
    )


def sizes_from(learner: Learner, lengths: Mapping[Axis, int]) -> tuple[int, int] | None:
    """Returns the lengths of an observation and of an action for which a learner's arrays have these lengths.

    The learner is initialised (shapes only) with observations and actions of lengths 1 and 2. An array's axis
    that grows with the observations only is a multiple of their length plus a constant: a squashed Gaussian's
    last layer has two outputs per action entry. The same holds for actions.

    Args:
        lengths: of a state's arrays, see `lengths_of`.
    Returns:
        None if there are no such lengths: the arrays are not the learner's.
    """

    def with_sizes(*sizes: int) -> dict[Axis, int]:
        example = [jnp.zeros((1, size)) for size in sizes]
        return lengths_of(leaves_of(jax.eval_shape(learner.init, jax.random.key(0), *example)))

    smallest, wide, tall = with_sizes(1, 1), with_sizes(2, 1), with_sizes(1, 2)

    def size_by(grown: Mapping[Axis, int], other: Mapping[Axis, int]) -> int | None:
        for axis, length in smallest.items():
            slope = grown[axis] - length
            if slope and other[axis] == length and axis in lengths:
                return 1 + (lengths[axis] - length) // slope
        return None

    observation, action = size_by(wide, tall), size_by(tall, wide)
    return None if observation is None or action is None else (observation, action)


def lengths_of(leaves: Mapping[str, str]) -> dict[Axis, int]:
    """Returns the length of each axis of each array, by the array's name and the axis.

    Args:
        leaves: types and shapes by name, as in a checkpoint's manifest.
    """
    return {
        (name, axis): int(length)
        for name, text in leaves.items()
        for axis, length in enumerate(re.findall(r"\d+", text.partition("[")[2]))
    }
