"""Policies that collect data: a run's policy, random actions, or a policy from a file."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xql_jax.data.policy_files import Layers, read_policy
from xql_jax.envs import Simulation, Suite, choose_suite, describe_environment
from xql_jax.errors import UserError
from xql_jax.runs.collecting import Behaviour, Chance
from xql_jax.runs.load import load_run
from xql_jax.tasks import Task
from xql_jax.training.members import learners_of
from xql_jax.types import Params

RANDOM = "random"


@dataclasses.dataclass(frozen=True)
class Place:
    """The task and simulator in which data are collected."""

    task: Task
    suite: Suite
    observation_dim: int
    action_dim: int
    environment: dict[str, Any]  # a description, see `describe_environment`

    @classmethod
    def of(cls, task: Task, simulation: Simulation) -> "Place":
        """Makes the place for a task; raises UserError if its environment is not available here."""
        suite = choose_suite(task, simulation)
        return cls(task, suite, *suite.sizes(task), describe_environment(task, simulation))


def open_behaviour(
    name: str, place: Place, *, member: int | None, deterministic: bool, noise: float = 0.0
) -> Behaviour:
    """Opens a policy by its name.

    Args:
        name: `random`, FILE.npz (a `GaussianMLP`, or an exported policy, which always acts by its mode), a
            run's folder or one of its checkpoints.
        member: index of the run's member (one seed and hyperparameter setting); needed if it has several.
        deterministic: act by the mean or mode instead of a sample; does not affect random actions.
        noise: standard deviation of noise that is added to the actions.
    Raises:
        UserError: if there is no such policy, or it does not fit the place.
    """
    if name == RANDOM:
        return Behaviour(name, "uniformly random actions", lambda _, chance: 2 * chance.uniform - 1, noise)
    if Path(name).suffix.lower() == ".npz":
        return _from_file(name, place, deterministic, noise)
    if not Path(name).expanduser().is_dir():
        raise UserError(
            f"policy {name}: unknown; give {RANDOM}, FILE.npz, a run's folder or one of its checkpoints"
        )
    return _of_run(name, place, member, deterministic, noise)


def _from_file(name: str, place: Place, deterministic: bool, noise: float) -> Behaviour:
    path = Path(name).expanduser()
    policy = read_policy(path, place.observation_dim, place.action_dim)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def act(observations: np.ndarray, chance: Chance) -> np.ndarray:
        if isinstance(policy, Layers):
            return policy.act(observations)
        return policy.act(observations, None if deterministic else chance.normal)

    kind = "exported policy" if isinstance(policy, Layers) else "Gaussian MLP"
    how = _how(deterministic or isinstance(policy, Layers))
    return Behaviour(name, f"{kind}, {how}, file of sha256 {digest}", act, noise)


def _of_run(name: str, place: Place, member: int | None, deterministic: bool, noise: float) -> Behaviour:
    run = load_run(name, member=member)
    one = run.one_member()
    if hasattr(run.learner, "act_remembering"):
        raise UserError(f"policy {name}: {run.algorithm} acts by what it remembers, and cannot collect")
    run.check_fits(place.task, place.observation_dim, place.action_dim)
    (learner,) = learners_of(run.learner, [one])
    actor = learner.actor(run.states[one.name])
    on_device = jax.device_put((learner, actor), jax.devices()[0])
    observe = run.preprocessing.observations

    def act(observations: np.ndarray, chance: Chance) -> np.ndarray:
        return np.asarray(_act(*on_device, observe(observations), chance.keys, deterministic))

    how = f"{_how(deterministic)}, run {run.run}"
    what = f"{run.algorithm}, {one}, {run.step:,} {run.unit}s, {how}"
    return Behaviour(name, what, act, noise)


def _how(deterministic: bool) -> str:
    return "deterministic" if deterministic else "sampled"


@functools.partial(jax.jit, static_argnames="deterministic")
def _act(learner: Any, actor: Params, observations: Any, keys: Any, deterministic: bool) -> jax.Array:
    """Returns actions f32[K, A]; each has its own key."""

    def one(observation: jax.Array, key: jax.Array) -> jax.Array:
        return learner.act(actor, observation[None], jax.random.wrap_key_data(key), deterministic)[0]

    return jax.vmap(one)(observations, keys)
