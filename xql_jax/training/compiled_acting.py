"""Online training in environments that are part of the compiled program."""

import logging
from collections.abc import Mapping, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import replay
from xql_jax.envs import compiled
from xql_jax.envs.compiled import Ended, Episodes, JaxEnvironment
from xql_jax.training.checkpoints import Items, Progress
from xql_jax.training.members import AXIS, STATE, Divergence, Loop, Member, MemberState, member_keys, stacked
from xql_jax.training.population import Population, not_finite, updates
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.replaying import ActingTrainer
from xql_jax.training.schedule import ActingSchedule
from xql_jax.training.trainer import EPISODE_METRICS
from xql_jax.types import Array, Learner, Metrics, PRNGKey, State

LOG = logging.getLogger(__name__)
TIMES_PER_CALL = 1_024  # most times that all environments act in one call of the program
ACTIONS = "actions"  # what is checked to be finite, besides each metric and the state


class Running(flax.struct.PyTreeNode):
    """A member's running episodes, and what the logs report about its episodes."""

    episodes: Episodes
    key_acting: PRNGKey  # folded with the step
    key_episodes: PRNGKey  # folded with the environment's number and the episode's
    episode_return: Array  # f32[], mean over the environments that ended an episode last; NaN before
    episode_length: Array  # f32[], likewise, steps
    failures: Array  # i32[], episodes that ended because their simulation failed
    diverged_at: Array  # i32[], the step at which the member diverged; -1: it has not


class CompiledTrainer(ActingTrainer):
    """Each member acts in its own compiled environments and fills its own buffer.

    One program repeats three things: it acts in N environments, inserts N transitions, and does the updates
    that these make due. So the policy that acts has always seen all updates that were due. A checkpoint also
    holds the environments, so a resumed run equals an uninterrupted one bit for bit.

    Args:
        environment: each member has `schedule.num_environments` copies of it.
        schedule: `round_steps` must be N. Exploration noise, ramps and processes are not supported.
    """

    failures = 0  # over all members

    def __init__(
        self,
        learner: Learner,
        members: Sequence[Member],
        environment: JaxEnvironment,
        schedule: ActingSchedule,
        files: ReplayFiles,
        together: bool | None = None,
    ):
        self._environment = environment
        sizes = environment.observation_size, environment.action_size
        training = self.act_and_learn
        super().__init__(learner, members, schedule, files, sizes, together=together, training=training)
        population = self.population
        for group in population.groups:
            group.data = jax.device_put(np.zeros(TIMES_PER_CALL + 1, np.int32), group.shared)
        self._together = population.together and population.groups[0].per_device > 1
        first, nan = jnp.zeros(self.stride, jnp.int32), jnp.float32(jnp.nan)
        failures, diverged_at = jnp.int32(0), jnp.int32(-1)
        begin = jax.jit(lambda key: compiled.begin(self._environment, key, first))
        running = []
        for member in population.members:
            keys = member_keys(member)
            episodes = begin(keys.episodes)
            running.append(Running(episodes, keys.acting, keys.episodes, nan, nan, failures, diverged_at))
        population.set_in_members(running=stacked(running))

    def act_and_learn(
        self, member: MemberState, due: Array, start: Array, stop: Array, loop: Loop | None = None
    ) -> tuple[MemberState, Metrics]:
        """Acts in all N environments, and does the due updates, each time from step `start` to `stop`.

        The program runs it for each member. One that diverges keeps its last finite state, acts by it, and
        continues to fill its buffer. `due` are the updates that are due by each time of acting,
        i32[TIMES_PER_CALL + 1].
        """
        number, source = self.stride, self.population.source

        def act_once(turn: Array, carry: tuple[MemberState, Metrics]) -> tuple[MemberState, Metrics]:
            member, finite = carry
            running, step = member.running, start + turn * number
            actions = self._act(member, step)
            usable = jnp.where(jnp.isfinite(actions), actions, 0.0)
            episodes, transitions, ended = compiled.step(
                self._environment,
                running.episodes,
                usable,
                running.key_episodes,
                self._anywhere,
            )
            member = member.replace(buffer=replay.insert(member.buffer, transitions))

            updated, was_finite = updates(source, member, None, due[turn], due[turn + 1], loop)
            was_finite = {**was_finite, ACTIONS: jnp.isfinite(actions).all()}
            # Actions diverge at the step that they are for, everything else at the end of that step.
            at = jnp.where(was_finite[ACTIONS], step + number, step)
            updated = updated.replace(running=_counted(running, ended).replace(episodes=episodes))
            return _frozen_if_diverged(member, updated, was_finite, finite, at)

        finite = dict.fromkeys((*member.metrics, STATE, ACTIONS), jnp.bool_(True))
        return jax.lax.fori_loop(0, (stop - start) // number, act_once, (member, finite))

    def advance(self, stop: int) -> Metrics:
        population = self.population
        population.compile()
        for first in range(self.step, stop, TIMES_PER_CALL * self.stride):
            after = min(first + TIMES_PER_CALL * self.stride, stop)
            # Counted on the host, in 64 bits; the program, with 32-bit floats, would miscount from 2^24 on.
            times = np.minimum(first + self.stride * np.arange(TIMES_PER_CALL + 1), after)
            due = np.array([self.schedule.updates_by(int(step)) for step in times], np.int32)
            for group in population.groups:
                group.data = jax.device_put(due, group.shared)
            self._note_divergences(population.run(population.groups, first, after))
        self.step = stop
        before, self.failures = self.failures, _failures(population)
        if self.failures > before:
            words = "ended because their simulation gave numbers that are not finite"
            LOG.warning(f"{self.failures:,} episode(s) so far {words}")
        if not self.schedule.updates_by(stop):
            return {}
        metrics, *means = population.gathered(
            lambda of: (of.metrics, of.running.episode_return, of.running.episode_length)
        )
        return metrics | dict(zip(EPISODE_METRICS, means, strict=True))

    def _note_divergences(self, finite: Sequence[Mapping[str, np.ndarray]]) -> None:
        diverged = self.population.diverged
        for group, was_finite in zip(self.population.groups, finite, strict=True):
            at = np.asarray(group.members.running.diverged_at)
            for place, index in enumerate(group.indices):
                if at[place] >= 0 and index not in diverged:
                    of_member = {name: of[place] for name, of in was_finite.items()}
                    diverged[index] = Divergence(int(at[place]), not_finite(of_member))

    def saved(self, members: MemberState) -> dict[str, State]:
        rest = {"episodes": members.running, "metrics": members.metrics}
        rest = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, rest)
        return {**super().saved(members), "episodes": rest}  # with keys' numbers: files hold no keys

    def resume(self, items: Items, progress: Progress) -> None:
        super().resume(items, progress)
        population = self.population

        def restored(like: Array, numbers: np.ndarray) -> Array:
            return jax.random.wrap_key_data(jnp.array(numbers)) if _is_key(like) else jnp.array(numbers)

        saved = items["episodes"]
        running = jax.tree.map(restored, population.groups[0].members.running, saved["episodes"])
        population.set_in_members(running=running, metrics=saved["metrics"])
        self.failures = _failures(population)

    def _anywhere(self, condition: Array) -> Array:
        """Whether it holds for any of the members that share the program's control flow."""
        if not self._together:
            return condition
        return jax.lax.psum(condition.astype(jnp.int32), AXIS) > 0

    def _act(self, member: MemberState, step: Array) -> Array:
        """Returns actions f32[N, A] at `step`: sampled from the policy, or uniform during the warm-up."""
        key = jax.random.fold_in(member.running.key_acting, step)
        shape = self.stride, self._environment.action_size

        def random(key: PRNGKey) -> Array:
            return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)

        def by_policy(key: PRNGKey) -> Array:
            learner, observations = member.learner, member.running.episodes.observations
            return learner.act(learner.actor(member.state), observations, key, False)

        return jax.lax.cond(step < self.schedule.warmup_steps, random, by_policy, key)


def _frozen_if_diverged(
    before: MemberState, after: MemberState, was_finite: Metrics, finite: Metrics, at: Array
) -> tuple[MemberState, Metrics]:
    """Returns `after`, but with the state, sums and metrics of `before` once the member has diverged.

    That is chosen in the program, each time that all environments have acted. `Population.train` chooses
    after a call, but a call of this program is many such times.

    Args:
        was_finite: by name whether all was finite in the updates between, bool[].
        finite: the same of the updates at which the member diverged; returned unless these are those.
        at: i32[], the step that is reported if they are.
    """
    known = after.running.diverged_at
    is_new = (known < 0) & ~jnp.stack(list(was_finite.values())).all()
    diverged_at = jnp.where(is_new, at, known)
    new = after.state, after.sums, after.metrics
    old = before.state, before.sums, before.metrics
    state, sums, metrics = jax.tree.map(lambda a, b: jnp.where(diverged_at >= 0, a, b), old, new)
    finite = jax.tree.map(lambda a, b: jnp.where(is_new, a, b), was_finite, finite)
    running = after.running.replace(diverged_at=diverged_at)
    return after.replace(state=state, sums=sums, metrics=metrics, running=running), finite


def _counted(running: Running, ended: Ended) -> Running:
    count = ended.now.sum()

    def mean(values: Array, before: Array) -> Array:
        total = jnp.where(ended.now, values, 0).sum().astype(jnp.float32)
        return jnp.where(count > 0, total / jnp.maximum(count, 1), before)

    return running.replace(
        episode_return=mean(ended.returns, running.episode_return),
        episode_length=mean(ended.lengths, running.episode_length),
        failures=running.failures + ended.failed.sum(),
    )


def _failures(population: Population) -> int:
    return int(population.gathered(lambda members: members.running.failures).sum())


def _is_key(leaf: Array) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
