"""Online training of a population. Each member acts and learns in rounds of a fixed number of steps."""

import concurrent.futures
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.envs.vector import PATIENT, Local, Patience, VectorEnv
from xql_jax.errors import EnvironmentFailure
from xql_jax.rollout.policies import Act
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Member, learners_of, member_shapes, parted, stacked
from xql_jax.training.policies import deterministic_policy, finite_policy
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.rounds import MemberRounds, OnlineSchedule, Pretrained
from xql_jax.training.together import TogetherRounds
from xql_jax.training.trainable import Divergence, Saving
from xql_jax.training.updates import Sums
from xql_jax.types import Batch, Environment, Learner, Metrics, State

LOG = logging.getLogger(__name__)


class OnlinePopulation:
    """A population whose members each act in their own environments and fill their own replay buffers.

    A member is one seed with one setting of the swept hyperparameters. A round consists of `round_steps`
    steps of acting and the updates that these make due. The updates run in a thread while the next round
    acts. Round j acts by the policy after the updates of round j - 2, even if those of round j - 1 are
    already done. So the results do not depend on timing.

    Every random draw uses the member's key folded with the number of the step or the update. A checkpoint
    does not hold the episodes in progress: after `resume` new episodes start.

    Args:
        learner: its traced fields are overridden by each member's hyperparameters. It learns from a `Batch`.
        members: M of them.
        make: makes one environment.
        schedule: `round_steps` must be a multiple of N.
        files: of the replay buffers; each member has its own folder in them.
        patience: how long to wait for environments that run in their own processes.
        pretrained: the offline training to continue from; None for new networks that learn only from the
            replay buffers.
        together: run the members' updates as one program, or one member after the other. None: together if
            there are several members and an accelerator, where it is faster (on a CPU it is slower).
    Attributes:
        step: environment steps of each member, at the end of the last round that all members finished acting.
        stride: `round_steps`; training can stop only at multiples of it.
        seconds: spent so far on each kind of work, by the thread that acts.
    """

    unit = "step"

    def __init__(
        self,
        learner: Learner,
        members: Sequence[Member],
        make: Callable[[], Environment],
        schedule: OnlineSchedule,
        files: ReplayFiles,
        patience: Patience = PATIENT,
        pretrained: Pretrained | None = None,
        together: bool | None = None,
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
                member,
                _environments(make, schedule, patience),
                schedule,
                files.of(member.name),
                pretrained,
            )
            for member, own in zip(members, learners_of(learner, members), strict=True)
        ]
        if together is None:
            together = len(members) > 1 and jax.default_backend() != "cpu"
        self._together = TogetherRounds(self._runs) if together else None
        self._episodes = self._episodes_now()
        self.compile_seconds = 0.0

    def compile(self) -> None:
        """Compiles the members' programs if they are not compiled yet."""
        if self.compile_seconds:
            return
        started = time.perf_counter()
        for run in self._runs:
            run.compile(together=self._together is not None)
        if self._together:
            self._together.compile()
        self.compile_seconds = time.perf_counter() - started

    @property
    def states(self) -> State:
        """The members' states, stacked; a member that diverged keeps its last finite state."""
        return stacked([run.state for run in self._runs])

    @property
    def diverged(self) -> dict[int, Divergence]:
        """The divergences, by member index; a diverged member's state is frozen."""
        return {index: run.diverged for index, run in enumerate(self._runs) if run.diverged}

    @property
    def restarts(self) -> dict[int, list[Divergence]]:
        """The divergences after which a member's networks were reinitialised, by index; its buffer stays."""
        return {index: run.restarts for index, run in enumerate(self._runs) if run.restarts}

    def advance(self, stop: int) -> Metrics:
        """Acts and learns until every member's step is `stop`, a multiple of the stride.

        Returns:
            The last update's metrics, and the return and length of the last finished episodes (NaN before the
            first one), each f32[M]. Empty before the first update.
        Raises:
            EnvironmentFailure: if an environment fails; the message names it. All members are then at `step`,
                the end of the last round that all finished acting. They can be saved but not advanced.
        """
        self.compile()
        known = [len(run.restarts) for run in self._runs]
        for run in self._runs:
            run.settle(self.step)
        while self.step < stop:
            acted = self._act()
            for run, rows in zip(self._runs, acted, strict=True):
                run.await_learner(self.seconds)  # of the round before, if the two overlap
                run.settle(self.step)
                if not self._together:
                    run.learn(self.step, rows, self._thread)
            if self._together:
                self._together.learn(self.step, acted, self._thread)
            self.step += self.stride
            self._episodes = self._episodes_now()
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

    def interval_means(self) -> Metrics:
        """Returns the metrics' means over the updates since `begin_interval`, each [M]."""
        return stacked([run.sums for run in self._runs]).means()

    def begin_interval(self) -> None:
        """Begins a new interval of `interval_means`."""
        for run in self._runs:
            run.begin_interval()

    def _act(self) -> list[Batch]:
        """Acts for one round in all members' environments; returns one batch of transitions per member."""
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

    def _episodes_now(self) -> list[list[int]]:
        """The running episodes' numbers at `step`; a checkpoint needs them if an environment fails later."""
        return [list(run.seeds.episodes) for run in self._runs]

    @property
    def _has_learned(self) -> bool:
        return self.schedule.updates_by(self.step) > 0

    def policy(self) -> Act:
        """The members' deterministic policies as they are now: f32[M, K, O] to f32[M, K, A].

        A member with an action that is not finite counts as diverged; see `finite_policy`.
        """
        learners = stacked([run.learner for run in self._runs])
        step = self.step
        return finite_policy(
            deterministic_policy(learners, self.states),
            lambda index: self._runs[index].diverge(step, "actions"),
        )

    def bellman_errors(self) -> np.ndarray:
        """Bellman errors of the members on transitions drawn from their buffers, f32[M, `NUM_ERRORS`].

        The learner must be an `OnlineLearner`. Before the first update the result is f32[M, 0], because the
        errors of initial networks say nothing about the method.
        """
        if not self._has_learned:
            return np.empty((len(self._runs), 0), np.float32)
        return np.stack([run.bellman_errors(self.step) for run in self._runs])

    def member(self, index: int) -> tuple[Learner, State]:
        """Returns one member's learner and state."""
        return self._runs[index].learner, self._runs[index].state

    def saved_shapes(self) -> dict[str, Any]:
        """Shapes and types of the members' states, by name, as a checkpoint holds them."""
        return member_shapes(self.states, self.members)

    def resume(self, states: Mapping[str, State], progress: Progress) -> None:
        """Continues from a checkpoint: buffers and networks are restored, and new episodes start."""
        self.step, self.seconds = progress.step, dict(progress.held["seconds"])
        for member, run in zip(self.members, self._runs, strict=True):
            held = progress.members[member.name]
            run.diverged = Divergence(**held["diverged"]) if held["diverged"] else None
            run.restarts = [Divergence(**restart) for restart in held["restarts"]]
            state = jax.tree.map(jnp.array, states[member.name])
            sums = Sums.restored(held["sums"]) if held.get("sums") else None
            run.resume(state, sums, progress.step, held["episodes"])
        self._episodes = self._episodes_now()

    def saving(self) -> Saving:
        """Returns a checkpoint's content: states, counters, restarts, and transitions since the last one."""
        writers = [run.saving(self.step) for run in self._runs]

        def write() -> None:
            for writer in writers:
                writer()

        members = {
            member.name: {
                "diverged": dataclasses.asdict(run.diverged) if run.diverged else None,
                "restarts": [dataclasses.asdict(restart) for restart in run.restarts],
                "sums": run.sums.saved(),
                "episodes": episodes,
            }
            for member, run, episodes in zip(self.members, self._runs, self._episodes, strict=True)
        }
        return Saving(parted(self.states, self.members), members, {"seconds": dict(self.seconds)}, write)

    def close(self) -> None:
        self._thread.shutdown()
        for run in self._runs:
            run.environments.close()


def _environments(make: Callable[[], Environment], schedule: OnlineSchedule, patience: Patience) -> VectorEnv:
    if not schedule.processes:
        return VectorEnv(Local(make, schedule.num_environments))
    from xql_jax.envs.processes import Processes  # half a second of imports

    return VectorEnv(Processes(make, schedule.num_environments, patience))
