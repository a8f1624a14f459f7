"""Environments in JAX: users' own, and MuJoCo Playground's versions of DM Control's tasks."""

import dataclasses
import re
from collections.abc import Iterator

from xql_jax.suites import dm_control
from xql_jax.suites.record import Suite, Task

PLAYGROUND_MODULE = "playground"  # in the names of Playground's tasks, playground:NAME
# The tasks of DM Control that Playground has, under names such as CheetahRun.
_IN_PLAYGROUND = """
acrobot-swingup acrobot-swingup_sparse ball_in_cup-catch cartpole-balance cartpole-balance_sparse
cartpole-swingup cartpole-swingup_sparse cheetah-run finger-spin finger-turn_easy finger-turn_hard fish-swim
hopper-hop hopper-stand humanoid-run humanoid-stand humanoid-walk pendulum-swingup point_mass-easy
reacher-easy reacher-hard swimmer-swimmer6 walker-run walker-stand walker-walk
"""
_SHORTENED = {"ball_in_cup-catch": "BallInCup", "point_mass-easy": "PointMass"}


def _name(twin: str) -> str:
    words = re.split("[-_]", twin)
    return f"{PLAYGROUND_MODULE}:{_SHORTENED.get(twin) or ''.join(map(str.capitalize, words))}"


DM_CONTROL_NAMES = {_name(twin): twin for twin in _IN_PLAYGROUND.split()}


def _tasks() -> Iterator[Task]:
    for name in DM_CONTROL_NAMES:
        yield Task(name, PLAYGROUND, None, *dm_control.REFERENCES_AND_STEPS)


SUITE = Suite(
    "compiled",
    config="own",
    tasks=_tasks,
    guide="compiled.md#your-own-environment",
    environment="xql_jax.envs.compiled:CompiledEnv",
    is_compiled=True,
    packages=("jax",),
    max_environments=4096,
)
PLAYGROUND = dataclasses.replace(
    SUITE,
    guide="compiled.md#what-differs",
    jax_environment="xql_jax.envs.playground:Playground",
    packages=("mujoco-mjx", "playground", "mujoco", "jax"),
)
