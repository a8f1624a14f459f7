"""A finished or stopped run, read from its folder to be looked at: nothing in it is changed."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from xql_jax.configuration import learner_from_config
from xql_jax.envs import BACKENDS
from xql_jax.errors import UserError
from xql_jax.learners.registry import ONLINE
from xql_jax.training.checkpoint import Checkpoints
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.population import (
    Member,
    Population,
    deterministic_policy,
    make_members,
    parse_sweep,
    stacked_learners,
)
from xql_jax.types import Learner, State

MAX_SEEDS = 100_000  # of a run; more are damage


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """What defined a run, and where its checkpoints are."""

    path: Path
    env_name: str | None
    algorithm: str
    members: list[Member]
    learner: Learner
    env_backend: str  # of its evaluations, as the next
    legacy_inertia: bool
    steps: list[int]  # of the checkpoints

    @property
    def unit(self) -> str:
        """Of its checkpoints' steps."""
        return (OnlinePopulation if self.algorithm in ONLINE else Population).unit

    def restore(self, step: int, observation_dim: int, action_dim: int) -> State:
        """Returns the members' states [M, ...] after `step` units.

        Raises:
            UserError: if there is no such checkpoint, it is damaged, or it is of other dimensions.
        """
        if step not in self.steps:
            known = ", ".join(map(str, self.steps))
            raise UserError(f"{self.path}: no checkpoint of step {step}; there are: {known}")
        observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
        shapes = jax.eval_shape(self.learner.init, jax.random.key(0), observations, actions)
        count = len(self.members)
        like = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), shapes)
        checkpoints = Checkpoints(self.path / "checkpoints")
        try:
            return checkpoints.restore(like, step)[0]
        finally:
            checkpoints.close()

    def policy(self, states: State) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the members' deterministic policies, f32[M, K, O] to f32[M, K, A]."""
        return deterministic_policy(stacked_learners(self.learner, self.members), states)

    def only(self, index: int, states: State) -> tuple["SavedRun", State]:
        """Returns the run and the states as if there had been but the member of that index."""
        if not 0 <= index < len(self.members):
            raise UserError(f"--member={index}: the run has members 0 to {len(self.members) - 1}")
        run = dataclasses.replace(self, members=[self.members[index]])
        return run, jax.tree.map(lambda leaf: leaf[index : index + 1], states)


def open_run(path: Path) -> SavedRun:
    """Opens a run's folder, which holds `config.json` and `checkpoints/`.

    Raises:
        UserError: if it is no run's folder, or what defines the run cannot be read.
    """
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"{path}: not the folder of a run: it has no config.json")
    damaged = f"{file}: damaged or of another version"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        config = ConfigDict({name: _number(value) for name, value in content["config"].items()})
        env_name = content["env_name"]
        if not isinstance(env_name, str | None):
            raise TypeError(f"env_name is {env_name!r}")
        first, last = content["seeds"]
        if not 0 <= first <= last < first + MAX_SEEDS:
            raise ValueError(f"seeds {first} to {last}")
        members = make_members(range(first, last + 1), parse_sweep(content["sweep"], config.algorithm))
        learner = learner_from_config(config, content["max_steps"])
        env_backend, legacy_inertia = content["env_backend"], content["legacy_inertia"]
        if env_backend not in BACKENDS or not isinstance(legacy_inertia, bool):
            raise ValueError(f"env_backend {env_backend!r}, legacy_inertia {legacy_inertia!r}")
    except UserError as error:
        raise UserError(f"{damaged} ({error})") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{damaged} ({type(error).__name__}: {error})") from error
    checkpoints = Checkpoints(path / "checkpoints")
    steps = checkpoints.steps
    checkpoints.close()
    if not steps:
        raise UserError(f"{path}: the run has no checkpoint yet")
    return SavedRun(
        path=path,
        env_name=env_name,
        algorithm=config.algorithm,
        members=members,
        learner=learner,
        env_backend=env_backend,
        legacy_inertia=legacy_inertia,
        steps=steps,
    )


def _number(value: object) -> object:
    """JSON has no infinity: `write_json` writes it as text."""
    return float(value) if value in ("inf", "-inf", "nan") else value
