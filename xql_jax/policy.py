"""A run's policy in Python. It takes the environment's own observations and applies the preprocessing."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from xql_jax.errors import UserError
from xql_jax.rollout.policies import Act, RecurrentPolicy
from xql_jax.runs.load import SavedRun, load_run
from xql_jax.training.members import Member, learners_of


def load_policy(run: str | Path, *, seed: int | None = None, **hyperparameters: float) -> "Policy":
    """Returns the policy of a run, finished or stopped.

    Args:
        run: the run's folder, for its last checkpoint, or RUN/checkpoints/STEP.
        seed, hyperparameters: select members of a run with several seeds or a sweep. If several members are
            left, choose one with `Policy.select` before acting.
    Raises:
        UserError: if there is no such run, checkpoint or member, or it is damaged.
    """
    saved = load_run(run)
    _ = saved.states  # raises if they cannot be read
    return Policy(saved, saved.members).select(seed=seed, **hyperparameters)


class Policy:
    """The policies of a run's members, each trained with one seed and one setting of the hyperparameters.

    With a single member, it acts: call it with the environment's own observations.

    Attributes:
        run: the saved run, see `SavedRun`.
        path: the run's folder.
        step: the number of updates, or online of environment steps, that it was trained for.
        members: the seeds and hyperparameters of the members.
        observation_dim, action_dim: numbers of entries of an observation and of an action.
    """

    def __init__(self, run: SavedRun, members: list[Member]):
        self.run, self.members = run, members
        self.path, self.step = run.path, run.step
        self.observation_dim, self.action_dim = run.sizes

    @property
    def summary(self) -> dict[str, Any]:
        """The content of the run's summary.json: scores, seconds, divergences; {} while the run goes on."""
        return self.run.summary

    def select(self, *, seed: int | None = None, **hyperparameters: float) -> "Policy":
        """Returns the policy of the members with this seed and these hyperparameters.

        Raises:
            UserError: if there is no such member.
        """
        known = self.members[0].hyperparameters
        for name in hyperparameters:
            if name not in known:
                varied = ", ".join(known) or "only its seeds"
                raise UserError(f"{self.path}: the run does not vary {name}: it varies {varied}")
        chosen = []
        for member in self.members:
            own = [(member.hyperparameters[name], value) for name, value in hyperparameters.items()]
            if seed in (None, member.seed) and all(np.isclose(x, value, 1e-6, 0.0) for x, value in own):
                chosen.append(member)
        if not chosen:
            raise UserError(f"{self.path}: no such member; there are {self._listed()}")
        return Policy(self.run, chosen)

    def __call__(self, observations: ArrayLike, key: int | jax.Array | None = None) -> np.ndarray:
        """Returns the actions for one observation or a batch, in the units that `env.step` takes.

        They are within the environment's bounds; within [-1, 1] if the run learned from data alone.

        Args:
            observations: f32[O] or f32[B, O], the environment's own: the run's preprocessing is applied.
            key: None returns the likeliest actions, as in evaluations. A JAX key, or a seed for one, draws
                actions from the policy; the same key gives the same actions.
        Returns:
            f32[A] or f32[B, A].
        Raises:
            UserError: if the observations have the wrong size, there is more than one member, or a key is
                given to a policy with a memory, which cannot draw actions.
        """
        seen = np.asarray(observations, np.float32)
        if seen.ndim not in (1, 2) or seen.shape[-1] != self.observation_dim:
            raise UserError(
                f"observations have the shape {seen.shape}; the policy takes ({self.observation_dim},) or "
                f"(batch, {self.observation_dim})"
            )
        batch = seen.reshape(-1, self.observation_dim)
        actions = self._act(batch[None])[0] if key is None else self._drawn(batch, key)
        return actions.reshape(*seen.shape[:-1], self.action_dim)

    def begin(self) -> None:
        """Clears the memory of a policy that has one (Decision Transformer). Call it when episodes begin."""
        if isinstance(act := self._act, RecurrentPolicy):
            act.begin()

    def remember(self, rewards: ArrayLike) -> None:
        """Tells a policy with a memory the rewards of its last actions, a number or f32[B]. See `begin`.

        In the kitchen, whose data have another reward than its environment, the observations tell the reward.
        """
        if isinstance(act := self._act, RecurrentPolicy):
            act.remember(np.asarray(rewards, np.float32).reshape(1, -1))

    def __repr__(self) -> str:
        run = self.run
        return f"<{run.algorithm} on {run.name} after {self.step:,} {run.unit}s: {self._listed()}>"

    def _drawn(self, batch: np.ndarray, key: int | jax.Array) -> np.ndarray:
        run, member = self.run, self._only()
        [learner] = learners_of(run.learner, [member])
        if hasattr(learner, "act_remembering"):
            raise UserError(f"{run.algorithm} acts by what it remembers: leave out key")
        key = jax.random.key(key) if isinstance(key, int | np.integer) else key
        actor = learner.actor(run.states[member.name])
        drawn = np.asarray(_draw(learner, actor, run.preprocessing.observations(batch), key))
        return run.preprocessing.to_environment(drawn)

    @functools.cached_property
    def _act(self) -> Act:
        return self.run.policy([self._only()])

    def _only(self) -> Member:
        if len(self.members) > 1:
            number, listed = len(self.members), self._listed()
            raise UserError(f"the run has {number} members: choose one with policy.select(...): {listed}")
        return self.members[0]

    def _listed(self) -> str:
        return "; ".join([*map(str, self.members[:10]), *["..."] * (len(self.members) > 10)])


@jax.jit
def _draw(learner: Any, actor: Any, observations: jax.Array, key: jax.Array) -> jax.Array:
    return learner.act(actor, observations, key, deterministic=False)
