"""Online training of a population, whose members act and learn in rounds."""

import concurrent.futures
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.envs.vector import Counters, VectorEnvironment
from xql_jax.envs.workers import PATIENT, Patience
from xql_jax.errors import EnvironmentFailure
from xql_jax.evaluation.policies import Act
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Member, learners_of, parted, stacked
from xql_jax.training.policies import deterministic_policy, finite_policy
from xql_jax.training.population import Divergence, Saving
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.rounds import MemberRounds, OnlineSchedule
from xql_jax.types import Batch, Environment, Metrics, OnlineLearner, State

LOG = logging.getLogger(__name__)


class OnlinePopulation:
    """Members that act in environments of their own and learn from replay buffers of their own.

    A round is `round_steps` steps of acting and the updates that these make due, which run in a thread while
    the next round acts. Round j acts by the policy after round j - 2's updates, even where those of round
    j - 1 are done: the results do not depend on the time that anything takes.

    Everything random comes from the member's key by the number of the step or the update. Episodes in
    progress are no part of a checkpoint: after `resume` they begin again at their starts.

    Args:
        learner: its traced fields are overridden by each member's hyperparameters.
        members: M of them.
        make: one environment.
        schedule: with `round_steps` a multiple of N.
        folder: of the buffers' files.
        patience: how long environments in processes of their own are waited for.
        owner: the digest of the run's identity, which they carry.
        drops_damaged: `resume` goes on without what of the buffers is damaged.
    Attributes:
        step: of the environments of one member, at the end of the last round that all members acted.
        seconds: spent so far on each kind of work, by the thread that acts.
    """

    unit = "step"

    def __init__(
        self,
        learner: OnlineLearner,
        members: Sequence[Member],
        make: Callable[[], Environment],
        schedule: OnlineSchedule,
        folder: Path,
        patience: Patience = PATIENT,
        owner: str = "",
        drops_damaged: bool = False,
    ):
        self.members = list(members)
        self.schedule = schedule
        self.stride = schedule.round_steps
        self.step = 0
        self.seconds = dict.fromkeys(("environment", "acting", "waiting for the learner"), 0.0)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="learner")
        self._runs = [
            MemberRounds(
                own,
                member.seed,
                VectorEnvironment(
                    make, schedule.num_environments, processes=schedule.processes, patience=patience
                ),
                schedule,
                ReplayFiles(folder / member.name, f"{owner} {member.name}", drops_damaged),
            )
            for member, own in zip(members, learners_of(learner, members), strict=True)
        ]
        self._counters = self._counters_now()
        started = time.perf_counter()
        for run in self._runs:
            run.compile()
        self.compile_seconds = time.perf_counter() - started

    @property
    def states(self) -> State:
        """The members' states, stacked; a member that diverged stays at its last finite one."""
        return stacked([run.state for run in self._runs])

    @property
    def diverged(self) -> dict[int, Divergence]:
        """By the index of the member that stays where it was."""
        return {index: run.diverged for index, run in enumerate(self._runs) if run.diverged}

    @property
    def restarts(self) -> dict[int, list[Divergence]]:
        """By the member's index, where its networks began anew; its buffer stays."""
        return {index: run.restarts for index, run in enumerate(self._runs) if run.restarts}

    def advance(self, stop: int) -> Metrics:
        """Acts and learns until every member's step is `stop`, a multiple of the stride.

        Returns:
            The last update's metrics, and return and length of the episodes that ended last (NaN before one
            has), each f32[M]; nothing before the first update.
        Raises:
            EnvironmentFailure: naming the environment. All members are at the end of the last round that all
                acted, `step`, and can be saved, but not advance.
        """
        known = [len(run.restarts) for run in self._runs]
        for run in self._runs:
            run.settle(self.step)
        while self.step < stop:
            acted = self._act()
            for run, rows in zip(self._runs, acted, strict=True):
                run.await_learner(self.seconds)  # of the round before, if the two overlap
                run.settle(self.step)
                run.learn(self.step, rows, self._thread)
            self.step += self.stride
            self._counters = self._counters_now()
        for member, run, count in zip(self.members, self._runs, known, strict=True):
            run.await_learner(self.seconds)
            for divergence in run.restarts[count:]:
                LOG.info(
                    f"{member} diverged at step {divergence.step} ({divergence.quantity} not finite); its "
                    "networks begin anew"
                )
        if not self._has_learned:
            return {}
        return jax.tree.map(lambda *metrics: jnp.stack(metrics), *(run.metrics for run in self._runs))

    def _act(self) -> list[Batch]:
        """The transitions of a round of each member; none of them learns from it before all have acted."""
        acted = []
        for member, run in zip(self.members, self._runs, strict=True):
            try:
                acted.append(run.act(self.step, self.seconds))
            except EnvironmentFailure as error:
                for each in self._runs:
                    each.await_learner(self.seconds)
                whose = f"{member}: " if len(self.members) > 1 else ""
                raise EnvironmentFailure(f"{whose}{error}") from error
        return acted

    def _counters_now(self) -> list[Counters]:
        """The members' episodes, as they are to be saved: also when an environment has failed since."""
        return [run.environments.state() for run in self._runs]

    @property
    def _has_learned(self) -> bool:
        return self.schedule.updates_by(self.step) > 0

    def policy(self) -> Act:
        """The members' deterministic policies as they are now: f32[M, K, O] to f32[M, K, A].

        A member of which an action is not finite has diverged; see `finite_policy`.
        """
        learners = stacked([run.learner for run in self._runs])
        step = self.step
        return finite_policy(
            deterministic_policy(learners, self.states),
            lambda index: self._runs[index].diverge(step, "actions"),
        )

    def bellman_errors(self) -> np.ndarray:
        """The members' errors in transitions drawn from their buffers, f32[M, `NUM_ERRORS`].

        Before the first update f32[M, 0]: initial networks say nothing of the method.
        """
        if not self._has_learned:
            return np.empty((len(self._runs), 0), np.float32)
        return np.stack([run.bellman_errors(self.step) for run in self._runs])

    def resume(self, states: Mapping[str, State], progress: Progress) -> None:
        """Goes on from a checkpoint: buffers and networks as they were, episodes from their starts."""
        self.step, self.seconds = progress.step, dict(progress.held["seconds"])
        for member, run in zip(self.members, self._runs, strict=True):
            held = progress.members[member.name]
            run.diverged = Divergence(**held["diverged"]) if held["diverged"] else None
            run.restarts = [Divergence(**restart) for restart in held["restarts"]]
            state = jax.tree.map(jnp.array, states[member.name])
            run.resume(state, progress.step, Counters(*map(np.asarray, held["counters"])))
        self._counters = self._counters_now()

    def saving(self) -> Saving:
        """The states, episodes' counters, restarts and seconds; and what the buffers took since the last."""
        writers = [run.saving(self.step) for run in self._runs]

        def write() -> None:
            for writer in writers:
                writer()

        members = {
            member.name: {
                "diverged": dataclasses.asdict(run.diverged) if run.diverged else None,
                "restarts": [dataclasses.asdict(restart) for restart in run.restarts],
                "counters": [column.tolist() for column in counters],
            }
            for member, run, counters in zip(self.members, self._runs, self._counters, strict=True)
        }
        return Saving(parted(self.states, self.members), members, {"seconds": dict(self.seconds)}, write)

    def close(self) -> None:
        self._thread.shutdown()
        for run in self._runs:
            run.environments.close()
