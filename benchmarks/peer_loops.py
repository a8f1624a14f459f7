"""Other projects' compiled loops of updates, beside which `accelerator.py` times ours. Their files are the user's.

  unifloral   algorithms/iql.py of EmptyJackson/unifloral: IQL, all updates of a call in one `lax.scan`, seeds by `vmap`
  jaxcorl     algos/xql.py of nissymori/JAX-CORL: XQL, eight updates a call, one seed

Only functions of these files run. What they import and do not need for an update has a stand-in: data, logs, the command
line, and the two distributions of distrax whose log-density they take.
"""

# ruff: noqa: E501
import dataclasses
import math
import os
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

ABSENT = ("d4rl", "wandb", "gym", "tyro", "pyrallis", "pydantic", "omegaconf", "distrax")
MAIN = 'if __name__ == "__main__":'
SCANNED = 2_000  # updates in a call of unifloral's
Data = Mapping[str, jax.Array]  # observations, actions, rewards and next_observations
Run = Callable[[int], int]  # makes about that number of updates, waits, and returns the exact number


class Normal:
    """Stands in for distrax's."""

    def __init__(self, loc: Any, scale: Any):
        self.loc, self.scale = loc, scale

    def log_prob(self, x: Any) -> Any:
        return (
            -0.5 * jnp.square((x - self.loc) / self.scale) - jnp.log(self.scale) - 0.5 * math.log(2 * math.pi)
        )


class Diagonal(Normal):
    """Stands in for distrax's MultivariateNormalDiag."""

    def __init__(self, loc: Any, scale_diag: Any):
        super().__init__(loc, scale_diag)

    def log_prob(self, x: Any) -> Any:
        return super().log_prob(x).sum(-1)


class Fields:
    """Stands in for pydantic's BaseModel."""

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(cls)


def functions_of(file: str) -> types.ModuleType:
    """Returns a peer's file as a module, without what it does as a main."""
    stand_ins: dict[str, dict[str, Any]] = {name: {} for name in ABSENT}
    stand_ins["gym"] = {"Env": object}
    stand_ins["pydantic"] = {"BaseModel": Fields}
    stand_ins["omegaconf"] = {"OmegaConf": types.SimpleNamespace(from_cli=dict, create=dict)}
    stand_ins["distrax"] = {"Normal": Normal, "MultivariateNormalDiag": Diagonal, "Distribution": Normal}
    stand_ins["distrax"]["Deterministic"] = lambda loc: loc
    for name, content in stand_ins.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)
    module = types.ModuleType(Path(file).stem)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    with mock.patch.dict(os.environ):  # one sets XLA's flags, which would be ours, too
        exec(compile(Path(file).read_text().partition(MAIN)[0], file, "exec"), vars(module))
    return module


def unifloral(file: str, data: Data, members: int) -> Run:
    peer = functions_of(file)
    rows = {"obs": "observations", "action": "actions", "reward": "rewards", "next_obs": "next_observations"}
    ended = jnp.zeros_like(data["rewards"])
    dataset = peer.Transition(**{theirs: data[ours] for theirs, ours in rows.items()}, done=ended)
    args, moments = peer.Args(), (dataset.obs.mean(0), dataset.obs.std(0))
    sizes = dataset.obs.shape[1], dataset.action.shape[1]
    actor, q = peer.TanhGaussianActor(sizes[1], *moments), peer.DualQNetwork(*moments)
    value = peer.StateValueFunction(*moments)

    def begin(key: jax.Array) -> Any:
        key, key_actor, key_q, key_value = jax.random.split(key, 4)
        state, action = (jnp.zeros(size) for size in sizes)
        make = peer.create_train_state
        return key, peer.AgentTrainState(
            actor=make(args, key_actor, actor, [state]),
            dual_q=make(args, key_q, q, [state, action]),
            dual_q_target=make(args, key_q, q, [state, action]),
            value=make(args, key_value, value, [state]),
        )

    step = peer.make_train_step(args, actor.apply, q.apply, value.apply, dataset)

    def scanned(state: Any) -> Any:
        return jax.lax.scan(step, state, None, SCANNED)[0]

    program = jax.jit(jax.vmap(scanned) if members > 1 else scanned)
    held = [
        jax.vmap(begin)(jax.random.split(jax.random.PRNGKey(0), members))
        if members > 1
        else begin(jax.random.PRNGKey(0))
    ]

    def run(updates: int) -> int:
        calls = max(1, updates // SCANNED)
        for _ in range(calls):
            held[0] = program(held[0])
        jax.block_until_ready(held)
        return calls * SCANNED

    return run


def jaxcorl(file: str, data: Data, members: int) -> Run:
    if members > 1:
        raise ValueError("JAX-CORL trains one seed")
    peer = functions_of(file)
    dataset = peer.Transition(dones=jnp.zeros_like(data["rewards"]), **data)
    config = peer.XQLConfig()
    config.layer_norm = False
    held = [
        peer.create_xql_train_state(
            jax.random.PRNGKey(0), data["observations"][0], data["actions"][0], config
        ),
        jax.random.PRNGKey(1),
    ]
    several = jax.jit(peer.XQL().update_n_times, static_argnums=3)

    def run(updates: int) -> int:
        calls = max(1, updates // config.n_jitted_updates)
        for _ in range(calls):
            held[1], key = jax.random.split(held[1])
            held[0], _ = several(held[0], dataset, key, config)
        jax.block_until_ready(held)
        return calls * config.n_jitted_updates

    return run


PEERS: Mapping[str, Callable[[str, Data, int], Run]] = {"unifloral": unifloral, "jaxcorl": jaxcorl}
