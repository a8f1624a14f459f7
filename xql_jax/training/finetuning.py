"""Fine-tuning: a population trains offline, then online with the same learner."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from xql_jax.rollout.policies import Act
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Member, parted
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.population import Population
from xql_jax.training.rounds import EPISODE_METRICS
from xql_jax.training.trainable import Divergence, Saving
from xql_jax.types import Metrics, State

# Makes the online phase from the offline phase's results, by the member's name: states and divergences.
Begin = Callable[[Mapping[str, State], Mapping[str, Divergence]], OnlinePopulation]


class FinetuningPopulation:
    """A population that learns from a dataset first, and then also from its own environments.

    The step at which the offline phase ends is called the hand-over. Steps before it are updates, steps after
    it are environment steps. A checkpoint up to the hand-over is one of an offline population, a later one
    that of an online population, so a run can be resumed in either phase. The online population counts its
    own steps from 0 at the hand-over.

    Args:
        offline: the first phase; if the hand-over is at 0, only its states are used.
        handover: updates of the first phase.
        begin_online: makes the second phase, at the hand-over or when a run is resumed after it.
        stride: the fewest steps that the second phase can advance at once.
    """

    unit = "step"

    def __init__(self, offline: Population, handover: int, begin_online: Begin, stride: int):
        self.members: list[Member] = offline.members
        self.handover = handover
        self._offline = offline
        self._online: OnlinePopulation | None = None
        self._begin_online, self._online_stride = begin_online, stride

    @property
    def _phase(self) -> Population | OnlinePopulation:
        return self._online or self._offline

    @property
    def step(self) -> int:
        return self.handover + self._online.step if self._online else self._offline.step

    @property
    def stride(self) -> int:
        return self._offline.stride if self.step < self.handover else self._online_stride

    @property
    def states(self) -> State:
        """The members' states, stacked."""
        return self._phase.states

    @property
    def diverged(self) -> dict[int, Divergence]:
        """The divergences, by member index; a diverged member's state is frozen."""
        if self._online is None:
            return self._offline.diverged
        return {index: self._later(found, self.handover) for index, found in self._online.diverged.items()}

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on tracing and compiling, in both phases."""
        return self._offline.compile_seconds + (self._online.compile_seconds if self._online else 0.0)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that the acting thread has spent on each kind of work in the online phase."""
        return self._online.seconds if self._online else {}

    def compile(self) -> None:
        """Compiles the phase of the next step; at the hand-over it also makes the online phase."""
        if self.step == self.handover and self._online is None:
            self._online = self._begin()
        self._phase.compile()

    def advance(self, stop: int) -> Metrics:
        """Trains until `stop`; a call must not cross the hand-over.

        Returns:
            The metrics of the current phase; the episode metrics are NaN in the offline phase.
        """
        self.compile()
        if self._online:
            return self._online.advance(stop - self.handover)
        metrics = self._offline.advance(stop)
        return {**metrics, **dict.fromkeys(EPISODE_METRICS, jnp.full(len(self.members), jnp.nan))}

    def interval_means(self) -> Metrics:
        """Returns the metrics' means over the updates since `begin_interval` or the hand-over, each [M]."""
        return self._phase.interval_means()

    def begin_interval(self) -> None:
        """Begins a new interval of `interval_means`."""
        self._phase.begin_interval()

    def policy(self) -> Act:
        """The members' current deterministic policies; see `Population.policy`."""
        return self._phase.policy()

    def member(self, index: int) -> tuple[Any, State]:
        """Returns one member's learner and state."""
        return self._phase.member(index)

    def saved_shapes(self) -> dict[str, Any]:
        """Shapes and types of the arrays in a checkpoint of the current phase, by name."""
        return self._phase.saved_shapes()

    def resume(self, states: Mapping[str, State], progress: Progress) -> None:
        """Continues from a checkpoint of either phase."""
        self._end_online()
        if progress.step <= self.handover:
            self._offline.resume(states, progress)
            return
        self._online = self._begin()
        self._online.resume(states, dataclasses.replace(progress, step=progress.step - self.handover))

    def saving(self) -> Saving:
        """Returns what a checkpoint at the current step must hold."""
        return self._online.saving() if self._online and self.step > self.handover else self._offline.saving()

    def close(self) -> None:
        self._end_online()
        self._offline.close()

    def _begin(self) -> OnlinePopulation:
        diverged = {
            self.members[index].name: self._later(found, -self.handover)
            for index, found in self._offline.diverged.items()
        }
        return self._begin_online(parted(self._offline.states, self.members), diverged)

    def _end_online(self) -> None:
        if self._online:
            self._online.close()
        self._online = None

    def _later(self, divergence: Divergence, steps: int) -> Divergence:
        return dataclasses.replace(divergence, step=divergence.step + steps)
