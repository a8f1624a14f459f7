"""Trainers: each drives a population on the host, step by step, saves it and resumes it.

`OfflineTrainer` has members learn from data. Those that act, in environments on the host or in the program,
have `HostTrainer` (acting.py) and `CompiledTrainer` (compiled_acting.py).
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.sampling import Packed, Trajectories, sample
from xql_jax.rollout.acting import Act, deterministic_policy
from xql_jax.training.checkpoints import Items, Progress, Snapshot
from xql_jax.training.members import Divergence, MemberState, Ramp, Sums, at_place, ramped, stacked
from xql_jax.training.population import Population, Source
from xql_jax.types import AnyBatch, Array, Json, Metrics, Minibatch, PRNGKey, State

EPISODE_METRICS = ("episode/return", "episode/length")  # of members that act: means over the last episodes


class Trainer:
    """Drives a population. The results do not depend on how the steps are split into calls of `advance`.

    Args:
        handover: the step from which ramps are counted: the updates of an offline phase before.
    """

    unit = "update"  # the name of one step
    failures: int | None = None  # episodes that ended because their simulation failed; None: not counted
    stride = 1  # calls of `advance` end at its multiples, counted from the hand-over, unless something is due

    def __init__(self, population: Population, handover: int = 0):
        self.population, self.handover = population, handover
        self.step = 0  # steps done so far; if `advance` failed, fewer than it was asked for

    def advance(self, stop: int) -> Metrics:
        """Trains until step `stop`; returns the last update's metrics, each f32[M], or {} before the first.

        Raises EnvironmentFailure if an environment fails; `step` is then the last that can be saved.
        """
        raise NotImplementedError

    def end_of_call(self, start: int, steps: int) -> int:
        """Returns where a call of about so many steps is to end: at a multiple of the stride."""
        return start + max(1, steps // self.stride) * self.stride - (start - self.handover) % self.stride

    def close(self) -> None:
        """Closes environments and threads, if there are any."""

    def policy(self, states: State = None, step: int | None = None, on_host: bool = False) -> Act:
        """Returns the members' deterministic policies: f32[M, K, O] to f32[M, K, A].

        Args:
            states: stacked; None: as they are now.
            step: of the states; a policy has the values that its ramps have then. None: the last step.
            on_host: act on the CPU, where no program that trains is in the way.
        """
        population = self.population
        device = jax.local_devices(backend="cpu" if on_host else None)[0]
        since = (self.step if step is None else step) - self.handover
        learners = population.gathered(lambda members: members.learner)
        learners = ramped(learners, population.source.ramps, since, len(population.members))
        return deterministic_policy(learners, population.states if states is None else states, device)

    def saved(self, members: MemberState) -> dict[str, State]:
        """Returns the items of a checkpoint, arrays of some members."""
        return {"states": members.state}

    def saved_shapes(self) -> dict[str, State]:
        """Returns what one member has of each item of a checkpoint."""
        return jax.eval_shape(self.saved, jax.eval_shape(at_place, self.population.groups[0].members, 0))

    def snapshot(self, progress: Progress) -> Snapshot:
        """Returns what a checkpoint of this step holds: the progress gets what the members need."""
        population = self.population
        sums, metrics = jax.device_get(population.gathered(lambda members: (members.sums, members.metrics)))
        contents: dict[str, Json] = {}
        for index, member in enumerate(population.members):
            divergence = population.diverged.get(index)
            contents[member.name] = {
                "diverged": dataclasses.asdict(divergence) if divergence else None,
                "sums": jax.tree.map(lambda leaf, index=index: leaf[index].item(), sums._asdict()),
                "metrics": {name: values[index].item() for name, values in metrics.items()},
            }
        return Snapshot(population.gathered(self.saved), dataclasses.replace(progress, members=contents))

    def resume(self, items: Items, progress: Progress) -> None:
        """Sets all as it was at the checkpoint; Damaged if a file is that the checkpoint needs."""
        population, self.step = self.population, progress.step
        contents = [progress.members[member.name] for member in population.members]
        divergences = [content["diverged"] for content in contents]
        population.diverged = {index: Divergence(**each) for index, each in enumerate(divergences) if each}
        names = list(population.groups[0].members.metrics)
        sums = stacked([Sums.restored(content["sums"], names) for content in contents])
        population.set_in_members(state=items["states"], sums=sums)
        if all("metrics" in content for content in contents):  # else of an earlier version
            saved = [content["metrics"] for content in contents]  # without those of later versions
            metrics = [{name: jnp.float32(of.get(name, np.nan)) for name in names} for of in saved]
            population.set_in_members(metrics=stacked(metrics))

    def take_over(self, other: "Trainer") -> None:
        """Goes on with the states of another trainer's members; before the first `advance`."""
        new, old, self.step = self.population, other.population, other.step
        new.diverged = dict(old.diverged)
        new.compile_seconds, new.matmul_precision = old.compile_seconds, old.matmul_precision
        new.set_in_members(state=old.states)


class OfflineTrainer(Trainer):
    """Members learn from data, which are on every device; minibatches are drawn in the program.

    A member that diverges goes back to the last multiple of the stride, or the last step at which something
    was due: where it stays does not depend on the length of calls.
    """

    stride = 10

    def advance(self, stop: int) -> Metrics:
        population, start = self.population, self.step
        population.compile()
        begun, known = [group.members for group in population.groups], dict(population.diverged)
        population.train(start, stop)
        if population.diverged != known:  # again, part by part: where a member stays does not depend on calls
            for group, members in zip(population.groups, begun, strict=True):
                group.members = members
            population.diverged = known
            for first in range(start - start % self.stride, stop, self.stride):
                population.train(max(start, first), min(first + self.stride, stop))
        self.step = stop
        return population.gathered(lambda members: members.metrics)


def resident(
    data: AnyBatch | Trajectories, batch_size: int, ramps: Sequence[Ramp] = (), together: bool | None = None
) -> Source:
    """Returns the source of minibatches of these data, which are drawn uniformly.

    They are packed where members share a program: a CPU would gain nothing, and lose 9% with ant's rows.
    """
    is_packed = jax.default_backend() != "cpu" if together is None else together
    rows = Packed.of(data) if is_packed and isinstance(data, AnyBatch) else data
    drawn = functools.partial(sample, batch_size=batch_size)

    def draw(member: MemberState, data: State, key: PRNGKey, step: Array) -> Minibatch:
        return drawn(data, key)

    return Source(draw, jax.eval_shape(drawn, rows, jax.random.key(0)), rows, ramps)
