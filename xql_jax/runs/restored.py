"""Restoring a run's policies from a checkpoint, for the run's own task or another one."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from xql_jax.envs import Simulation, Suite, choose_suite
from xql_jax.errors import UserError
from xql_jax.runs.saved_policies import SavedPolicies, open_run, split_checkpoint
from xql_jax.tasks import Task, get_task, referenced
from xql_jax.types import State


@dataclasses.dataclass(frozen=True)
class RestoredPolicies:
    """Members of a run (one per seed and setting) as they were after `step`."""

    run: SavedPolicies
    path: Path  # of the run
    step: int
    states: Mapping[str, State]  # by the member's name
    dimensions: tuple[int, int]  # lengths of an observation and of an action

    @property
    def what(self) -> str:
        """A description of the members, for messages."""
        return f"{self.run.record.algorithm}, {self.step:,} {self.run.record.unit}s, {self.path}"


@dataclasses.dataclass(frozen=True)
class Restored(RestoredPolicies):
    """A run's members, and a task on which they can act."""

    task: Task
    simulation: Simulation

    @property
    def suite(self) -> Suite:
        return choose_suite(self.task, self.simulation)


def restore_policies(checkpoint: str, *, member: int | None = None) -> RestoredPolicies:
    """Opens a run's folder or one of its checkpoints, and reads its states, without a simulator.

    Args:
        checkpoint: a run's folder, for its last checkpoint; or the folder of one of its checkpoints.
        member: None for all.
    Raises:
        UserError: if there is no such run, checkpoint or member, or it cannot be read.
    """
    path, step = split_checkpoint(checkpoint)
    run = open_run(path)
    if member is not None:
        run = run.only(member)
    dimensions = run.sizes(step)
    states, step = run.restore_at(step, *dimensions)
    return RestoredPolicies(run, path, step, states, dimensions)


def restore_run(
    checkpoint: str,
    *,
    env_name: str | None = None,
    member: int | None = None,
    env_backend: str | None = None,
    legacy_inertia: bool | None = None,
) -> Restored:
    """Opens a run's folder or one of its checkpoints, and reads its states.

    Args:
        checkpoint: a run's folder, for its last checkpoint; or the folder of one of its checkpoints.
        env_name, env_backend, legacy_inertia: None for the run's own.
        member: None for all.
    Raises:
        UserError: if there is no such run, checkpoint, member or task, or they do not fit together.
    """
    path, step = split_checkpoint(checkpoint)
    run = open_run(path)
    record = run.record
    name = env_name or record.env_name
    if name is None:
        raise UserError(f"{path}: the run was trained without an environment: give --env_name")
    task = get_task(name)
    if task.name == record.env_name:
        task = referenced(task, record.references)
    simulation = run.simulation.overridden(env_backend, legacy_inertia)
    dimensions = choose_suite(task, simulation).sizes(task)
    if member is not None:
        run = run.only(member)
    states, step = run.restore_for(task, step, *dimensions)
    return Restored(run, path, step, states, dimensions, task, simulation)
