"""The base class of D4RL's robots: Gym's rules of starts and steps, on MuJoCo alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from xql_jax.envs.camera import CameraEnvironment, Start
from xql_jax.envs.legacy_inertia import compile_with_legacy_inertia

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"

Noise = Callable[[np.random.Generator, float, int], np.ndarray]  # takes a generator, a scale and a size


def uniform(rng: np.random.Generator, scale: float, size: int) -> np.ndarray:
    return rng.uniform(-scale, scale, size)


def normal(rng: np.random.Generator, scale: float, size: int) -> np.ndarray:
    return scale * rng.standard_normal(size)


class MujocoRobot(CameraEnvironment):
    """Base class of a robot's task; starts and steps are those of Gymnasium's MujocoEnv.

    A subclass defines `observation_space`, `step`, `_observation` and `_make_camera`.

    Args:
        spec: of the model; it is changed if `legacy_inertia` is true.
        frame_skip: simulator steps per step of the environment.
        episode_limit: steps after which an episode is truncated.
        noise: scale of a start's deviations from the model's rest pose; those of positions are uniform.
        velocity_noise: distribution of a start's velocities.
        legacy_inertia: see `compile_with_legacy_inertia`.
    """

    def __init__(
        self,
        spec: mujoco.MjSpec,
        *,
        frame_skip: int,
        episode_limit: int,
        noise: float,
        velocity_noise: Noise,
        legacy_inertia: bool,
    ):
        self.model = compile_with_legacy_inertia(spec) if legacy_inertia else spec.compile()
        self.data = mujoco.MjData(self.model)
        self.action_space = spaces.Box(-1.0, 1.0, (self.model.nu,), np.float32)
        self.steps_per_second = 1 / (frame_skip * self.model.opt.timestep)
        self._frame_skip = frame_skip
        self._episode_limit = episode_limit
        self._noise, self._velocity_noise = noise, velocity_noise
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        """Starts near the model's rest pose, determined by `seed`."""
        super().reset(seed=seed)
        return self.set_state(*self._random_start()), {}

    def set_state(self, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Begins an episode at these positions [nq] and velocities [nv]; returns the observation."""
        mujoco.mj_resetData(self.model, self.data)  # also resets the solver's warm start
        self.data.qpos[:] = position
        self.data.qvel[:] = velocity
        # Until MuJoCo 3.2.0 `mj_forward` did this itself; since then, only the first step does.
        mujoco.mj_normalizeQuat(self.model, self.data.qpos)
        mujoco.mj_forward(self.model, self.data)  # not needed by steps, but by the camera: the centre of mass
        self._steps = 0
        return self._observation()

    def _random_start(self) -> tuple[np.ndarray, np.ndarray]:
        """Draws positions and velocities, in Gym's order, so that the same generator gives the same ones."""
        position = self.model.qpos0 + uniform(self.np_random, self._noise, self.model.nq)
        return position, self._velocity_noise(self.np_random, self._noise, self.model.nv)

    def _advance(self, action: np.ndarray) -> bool:
        """Moves by one step; returns whether it is the episode's last. The control range clips the action."""
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, self._frame_skip)
        self._steps += 1
        return self._steps >= self._episode_limit

    def _observation(self) -> np.ndarray:
        raise NotImplementedError
