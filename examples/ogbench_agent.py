"""Our methods as an agent of OGBench's own programs: XQL and others in seohongpark/fql and its forks.

Copy this file to agents/xql.py of the fork, and register it in agents/__init__.py:

    from agents.xql import XQLAgent
    agents = dict(xql=XQLAgent, ...)

Run:    python main.py --env_name=cube-single-play-singletask-v0 --agent=agents/xql.py
Flags:  --agent.method=iql, or xql+flow, ...: any method of ours that learns from single transitions.
        --agent.env_name=TASK: the values that the library's suite ogbench has for the task.
        --agent.beta=0.5: a hyperparameter of the method, or --agent.hidden_dims=256,256 for every network.

From the same seed and batches the parameters are those of `xql_jax.train`.
"""

from typing import Any

import flax.struct
import jax
import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from xql_jax import UserError
from xql_jax.learners.registry import HEADS, OFFLINE, POLICIES
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.kinds import Offline
from xql_jax.runs.resolve import settings_from
from xql_jax.settings import values_of
from xql_jax.types import Array, Batch, Learner, Metrics, PRNGKey, State

# What is no hyperparameter of a method.
PROGRAM = {"agent_name": "xql", "method": "xql", "env_name": "", "batch_size": 256, "max_steps": 1_000_000}


def get_config() -> ConfigDict:
    """Returns the config of `--agent`: a hyperparameter that is None has the method's value for OGBench."""
    config = ConfigDict(PROGRAM)
    config.hidden_dims = placeholder(tuple)  # of every network
    for make in (*OFFLINE.values(), *POLICIES.values(), *HEADS.values()):
        for name, value in values_of(make()).items():
            config[name] = placeholder(type(value))
    return config


def make_learner(config: ConfigDict) -> Learner:
    """Returns the method with its values for OGBench, changed by those of the config that are not None."""
    method, env_name = config["method"], config["env_name"] or None
    file = choose_config(Offline, method, "ogbench", env_name=env_name, dataset=True)
    given = {name: value for name, value in config.items() if name not in PROGRAM and value is not None}
    settings = settings_from(file, given)
    learner = settings.learner.scheduled(config["max_steps"])  # a decaying rate falls to 0 by then
    if learner.batch_type is not Batch:
        raise UserError(f"{method} learns from {learner.batch_type.__name__}, which main.py does not have")
    if settings.normalize_observations or settings.top_returns < 1:
        raise UserError(f"{method} changes its data, which main.py does not: use xql-train-offline")
    print(f"{method}: " + ", ".join(f"{name}={value}" for name, value in values_of(settings.learner).items()))
    return learner


@jax.jit
def update_learner(
    learner: Learner, state: State, batch: Batch, key: PRNGKey, step: Array
) -> tuple[State, Metrics]:
    key_update = jax.random.split(jax.random.fold_in(key, step))[1]  # as the library's program does
    return learner.update(state, batch, key_update)


@jax.jit(static_argnames="deterministic")
def act(learner: Learner, state: State, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
    return learner.act(learner.actor(state), observations, key, deterministic)


class XQLAgent(flax.struct.PyTreeNode):
    """A learner with its state; what is saved and restored is all but the learner, which is the config's."""

    state: State
    key: PRNGKey  # update t uses it folded with t
    step: Array  # i32[], updates done
    learner: Learner = flax.struct.field(pytree_node=False)

    @classmethod
    def create(cls, seed: int, ex_observations: Array, ex_actions: Array, config: ConfigDict) -> "XQLAgent":
        """Returns a new agent for observations [B, O] and actions [B, A] within ±1."""
        learner = make_learner(config)
        key_init, key_updates, _, _ = jax.random.split(jax.random.PRNGKey(seed), 4)
        state = jax.jit(learner.init)(key_init, ex_observations, ex_actions)
        return cls(state, key_updates, np.int32(0), learner)

    def update(self, batch: dict[str, Array]) -> tuple["XQLAgent", Metrics]:
        """Returns the agent after one update on the arrays of a batch, [B, ...] by name, and its metrics."""
        transitions = Batch(*(batch[name] for name in Batch._fields))
        if np.ndim(transitions.actions) != 2 or np.ndim(transitions.rewards) != 1:
            raise UserError(f"single transitions have actions [B, A], not {np.shape(transitions.actions)}")
        state, metrics = update_learner(self.learner, self.state, transitions, self.key, self.step)
        return self.replace(state=state, step=self.step + 1), metrics

    def total_loss(self, batch: dict[str, Array], grad_params: Any = None) -> tuple[float, Metrics]:
        """Returns no total, since V, Q and the policy have a loss each, and the metrics on a batch."""
        return float("nan"), self.update(batch)[1]

    def sample_actions(self, observations: Array, seed: PRNGKey = None, temperature: float = 1.0) -> Array:
        """Acts on observations [O] or [B, O]: by the policy's centre at temperature 0, else by a draw."""
        observations = np.asarray(observations, np.float32)
        batch = np.atleast_2d(observations)
        key = jax.random.PRNGKey(0) if seed is None else seed
        actions = act(self.learner, self.state, batch, key, deterministic=temperature == 0)
        return actions.reshape(*observations.shape[:-1], -1)
