"""D4RL's own environments, from the package `d4rl`, instead of this project's (--env_backend=d4rl)."""

import importlib
import os
import sys
import types
import warnings

import numpy as np
from gymnasium import spaces

from xql_jax.envs.simulated import SimulatedEnv
from xql_jax.envs.vector import GymStep, Info, Start
from xql_jax.errors import UserError, needing
from xql_jax.suites.tasks import Task


def check_d4rl(task: Task) -> None:
    """Raises UserError unless D4RL's own environment of the task can be made here."""
    if not task.suite.is_in_d4rl:
        raise UserError(f"{task.name} is not D4RL's: leave out --env_backend=d4rl")
    _import_d4rl()
    if sys.modules["mujoco_py"] is None:
        raise UserError(
            f"D4RL's own environment of {task.name} (suite {task.suite.name}) needs MuJoCo 2.1 and "
            "mujoco-py, which do not work here: leave out --env_backend"
        )


class D4RLEnvironment(SimulatedEnv):
    """D4RL's environment of a task behind today's interface; rewards and rules are D4RL's.

    Observations are float32. The old interface's `done` is a truncation if D4RL's time limit says so, else a
    termination. The goal of antmaze-*-v0 and -v1, which D4RL draws when an environment is made, is always the
    same one here.
    """

    def __init__(self, task: Task):
        gym = _import_d4rl()
        np.random.seed(0)  # noqa: NPY002  (AntMaze draws its goals from the global generator)
        try:
            self.simulation = env = gym.make(task.name, disable_env_checker=True)
        except gym.error.Error as error:
            raise UserError(f"D4RL has no environment {task.name} here: {error}") from error
        super().__init__(
            episode_limit=task.longest,
            steps_per_second=float(env.metadata.get("video.frames_per_second", 30)),
        )
        self.action_space = spaces.Box(env.action_space.low, env.action_space.high, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Start:
        """Starts an episode; `seed` seeds all generators that D4RL's environments draw from."""
        env = self.simulation
        if seed is not None:
            env.seed(seed)
            innermost = env.unwrapped
            while hasattr(innermost, "wrapped_env"):  # AntMaze's proxy has no `seed` that reaches it
                innermost = innermost.wrapped_env
            innermost.seed(seed)
            env.action_space.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
        return env.reset().astype(np.float32), {}

    def step(self, action: np.ndarray) -> GymStep:
        observation, reward, done, info = self.simulation.step(action)
        truncated = bool(info.get("TimeLimit.truncated", False))
        return observation.astype(np.float32), float(reward), bool(done) and not truncated, truncated, info

    def render(self) -> np.ndarray:
        """Returns D4RL's picture, u8[height, width, 3]."""
        return self.simulation.render(mode="rgb_array")


def _import_d4rl() -> types.ModuleType:
    """Imports D4RL, which creates `$D4RL_DATASET_DIR`; returns gym, where it registers its environments."""
    os.environ["D4RL_SUPPRESS_IMPORT_ERROR"] = "1"
    try:
        importlib.import_module("mujoco_py")
    except Exception:  # it looks for MuJoCo and compiles: it may raise anything
        sys.modules["mujoco_py"] = None  # type: ignore[assignment]  # D4RL expects an ImportError
    with needing("--env_backend=d4rl", "d4rl"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("d4rl")
        gym = importlib.import_module("gym")
    gym.logger.set_level(gym.logger.ERROR)
    return gym
