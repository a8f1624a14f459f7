"""A run's policy in Python. It takes the environment's own observations and applies the preprocessing."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from xql_jax.errors import UserError
from xql_jax.evaluation.policies import Act, Remembering
from xql_jax.runs.saved_policies import SavedPolicies, open_run, split_checkpoint
from xql_jax.training.members import Member, learners_of
from xql_jax.types import State


def load_policy(run: str | Path, *, seed: int | None = None, **hyperparameters: float) -> "Policy":
    """Returns the policy of a run, finished or stopped.

    Args:
        run: the run's folder, for its last checkpoint, or RUN/checkpoints/STEP.
        seed, hyperparameters: select members of a run with several seeds or a sweep. If several members are
            left, choose one with `Policy.select` before acting.
    Raises:
        UserError: if there is no such run, checkpoint or member, or it is damaged.
    """
    path, step = split_checkpoint(str(run))
    saved = open_run(path)
    members = _chosen(saved, seed, hyperparameters)
    saved = dataclasses.replace(saved, members=members)
    sizes = saved.sizes(step)
    states, step = saved.restore_at(step, *sizes)
    return Policy(saved, states, step, sizes)


class Policy:
    """The policies of a run's members, each trained with one seed and one setting of the hyperparameters.

    With a single member, it acts: call it with the environment's own observations.

    Attributes:
        path: the run's folder.
        step: the number of updates, or online of environment steps, that it was trained for.
        members: the seeds and hyperparameters of the members.
        observation_dim, action_dim: numbers of entries of an observation and of an action.
    """

    def __init__(self, run: SavedPolicies, states: Mapping[str, State], step: int, sizes: tuple[int, int]):
        self._run, self._states, self.step = run, states, step
        self.observation_dim, self.action_dim = sizes
        self.folders: contextlib.ExitStack | None = None  # temporary folders, deleted with the policy
        self._act: Act | None = None

    @property
    def path(self) -> Path:
        return self._run.record.path

    @property
    def members(self) -> list[Member]:
        return self._run.members

    @property
    def summary(self) -> dict[str, Any]:
        """The content of the run's summary.json: scores, seconds, divergences; {} while the run goes on."""
        return self._run.record.summary

    def select(self, *, seed: int | None = None, **hyperparameters: float) -> "Policy":
        """Returns the policy of the members with this seed and these hyperparameters.

        Raises:
            UserError: if there is no such member.
        """
        members = _chosen(self._run, seed, hyperparameters)
        run = dataclasses.replace(self._run, members=members)
        selected = Policy(run, self._states, self.step, (self.observation_dim, self.action_dim))
        selected.folders = self.folders
        return selected

    def __call__(self, observations: ArrayLike, key: int | jax.Array | None = None) -> np.ndarray:
        """Returns the actions for one observation or a batch, each entry within [-1, 1].

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
        actions = self._likeliest(batch) if key is None else self._drawn(batch, key)
        return actions.reshape(*seen.shape[:-1], self.action_dim)

    def begin(self) -> None:
        """Clears the memory of a policy that has one (Decision Transformer). Call it when episodes begin."""
        if isinstance(act := self._deterministic(), Remembering):
            act.begin()

    def remember(self, rewards: ArrayLike) -> None:
        """Tells a policy with a memory the rewards of its last actions, a number or f32[B]. See `begin`.

        In the kitchen, whose data have another reward than its environment, the observations tell the reward.
        """
        if isinstance(act := self._deterministic(), Remembering):
            act.remember(np.asarray(rewards, np.float32).reshape(1, -1))

    def __repr__(self) -> str:
        members = "; ".join(map(str, self.members[:3])) + ("; ..." if len(self.members) > 3 else "")
        record = self._run.record
        return f"<{record.algorithm} on {record.name} after {self.step:,} {record.unit}s: {members}>"

    def _likeliest(self, batch: np.ndarray) -> np.ndarray:
        return self._deterministic()(batch[None])[0]

    def _drawn(self, batch: np.ndarray, key: int | jax.Array) -> np.ndarray:
        run, [member] = self._alone(), self.members
        [learner] = learners_of(run.learner, [member])
        if hasattr(learner, "act_remembering"):
            raise UserError(f"{run.record.algorithm} acts by what it remembers: leave out key")
        key = jax.random.key(key) if isinstance(key, int | np.integer) else key
        actor = learner.actor(self._states[member.name])
        return np.asarray(_draw(learner, actor, run.preprocessing.observations(batch), key))

    def _deterministic(self) -> Act:
        if self._act is None:
            self._act = self._alone().policy(self._states)
        return self._act

    def _alone(self) -> SavedPolicies:
        if len(self.members) > 1:
            raise UserError(
                f"the run has {len(self.members)} members: choose one with policy.select(...): "
                f"{_listed(self.members)}"
            )
        return self._run


@jax.jit
def _draw(learner: Any, actor: Any, observations: jax.Array, key: jax.Array) -> jax.Array:
    return learner.act(actor, observations, key, deterministic=False)


def _chosen(run: SavedPolicies, seed: int | None, hyperparameters: Mapping[str, float]) -> list[Member]:
    """Returns the members with this seed and these hyperparameters."""
    known = list(run.members[0].hyperparameters)
    for name in hyperparameters:
        if name not in known:
            varied = f"it varies {', '.join(known)}" if known else "its members differ only in their seeds"
            raise UserError(f"{run.record.path}: the run does not vary {name}: {varied}")
    chosen = [
        member
        for member in run.members
        if seed in (None, member.seed)
        and all(
            np.isclose(member.hyperparameters[name], x, rtol=1e-6, atol=0.0)
            for name, x in hyperparameters.items()
        )
    ]
    if not chosen:
        raise UserError(f"{run.record.path}: no such member; there are {_listed(run.members)}")
    return chosen


def _listed(members: Sequence[Member], most: int = 10) -> str:
    return "; ".join(map(str, members[:most])) + ("; ..." if len(members) > most else "")
