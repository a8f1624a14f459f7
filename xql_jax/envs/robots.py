"""D4RL's robots on MuJoCo alone: Gym's rules of starts and steps, and the masses of D4RL's time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

from xql_jax.envs.simulated import SimulatedEnv

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
INERTIAL_FIELDS = ("body_mass", "body_inertia", "body_ipos", "body_iquat")

Noise = Callable[[np.random.Generator, float, int], np.ndarray]  # takes a generator, a scale and a size


def uniform(rng: np.random.Generator, scale: float, size: int) -> np.ndarray:
    return rng.uniform(-scale, scale, size)


def normal(rng: np.random.Generator, scale: float, size: int) -> np.ndarray:
    return scale * rng.standard_normal(size)


class MujocoRobot(SimulatedEnv):
    """Base class of a robot's task; starts and steps are those of Gymnasium's MujocoEnv.

    A subclass defines `observe` and `act`.

    Args:
        spec: of the model; it is changed if `legacy_inertia` is true.
        frame_skip: simulator steps per step of the environment.
        noise: scale of a start's deviations from the model's rest pose; those of positions are uniform.
        velocity_noise: distribution of a start's velocities.
        legacy_inertia: see `compile_with_legacy_inertia`.
        observation_size, episode_limit, view: see `SimulatedEnv`.
    """

    def __init__(
        self,
        spec: mujoco.MjSpec,
        observation_size: Callable[[mujoco.MjModel], int],
        *,
        frame_skip: int,
        episode_limit: int,
        noise: float,
        velocity_noise: Noise,
        legacy_inertia: bool,
        view: dict[str, Any],
    ):
        self.model = model = compile_with_legacy_inertia(spec) if legacy_inertia else spec.compile()
        self.data = mujoco.MjData(model)
        super().__init__(
            observation_size(model),
            model.nu,
            episode_limit=episode_limit,
            steps_per_second=1 / (frame_skip * model.opt.timestep),
            view=view,
        )
        self._frame_skip = frame_skip
        self._noise, self._velocity_noise = noise, velocity_noise

    def observe(self) -> np.ndarray:
        raise NotImplementedError

    def start(self, seed: int | None) -> np.ndarray:
        """Starts near the model's rest pose, determined by `seed`."""
        return self.set_state(*self.random_start())

    def random_start(self) -> tuple[np.ndarray, np.ndarray]:
        """Draws positions and velocities, in Gym's order, so that the same generator gives the same ones."""
        position = self.model.qpos0 + uniform(self.np_random, self._noise, self.model.nq)
        return position, self._velocity_noise(self.np_random, self._noise, self.model.nv)

    def set_state(self, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Begins an episode at these positions [nq] and velocities [nv]; returns the observation."""
        mujoco.mj_resetData(self.model, self.data)  # also resets the solver's warm start
        self.data.qpos[:] = position
        self.data.qvel[:] = velocity
        # Until MuJoCo 3.2.0 `mj_forward` did this itself; since then, only the first step does.
        mujoco.mj_normalizeQuat(self.model, self.data.qpos)
        mujoco.mj_forward(self.model, self.data)  # not needed by steps, but by the camera: the centre of mass
        self._steps = 0
        return self.observe()

    def advance(self, action: np.ndarray) -> None:
        """Moves by one step. The model's control range clips the action."""
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, self._frame_skip)


def compile_with_legacy_inertia(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compiles `spec`, and changes it: capsules get the mass and inertia of a cylinder in their place.

    They had these before MuJoCo 2.1.2, when D4RL's data was made. That cylinder is longer than the capsule's
    cylindrical part by half a radius at each end, which makes it lighter than the capsule. Shapes, contacts,
    joints and motors are today's. MuJoCo's own compiler adds up the cylinders' masses, and scales them if the
    robot's file fixes the total.

    Source: MuJoCo's changelog, version 2.1.2. Differs: MuJoCo 2.1 itself was not available for comparison;
    the resulting masses are those that others quote for Gym's v2 robots.
    """
    model = spec.compile()
    # Ids are collected first, because they shift as geoms are added.
    capsules = [(geom, geom.id) for geom in spec.geoms if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE]
    for capsule, i in capsules:
        radius, half_length, _ = model.geom_size[i]
        capsule.parent.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[radius, half_length + radius / 2, 0.0],
            pos=model.geom_pos[i],
            quat=model.geom_quat[i],
            density=capsule.density,
        )
        capsule.mass = 0.0
    cylinders = spec.compile()
    for field in INERTIAL_FIELDS:
        getattr(model, field)[:] = getattr(cylinders, field)
    mujoco.mj_setConst(model, mujoco.MjData(model))  # recomputes derived values, such as the solver's weights
    return model
