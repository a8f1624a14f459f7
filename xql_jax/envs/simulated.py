"""Base classes of simulated environments and robots: spaces, time limits, pictures without a screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from xql_jax.envs.vector import GymStep, Info, Start

WIDTH, HEIGHT = 640, 480
ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
INERTIAL_FIELDS = ("body_mass", "body_inertia", "body_ipos", "body_iquat")

# What `act` returns: the observation [O], the reward, whether the state is terminal, and `info`.
ActResult = tuple[np.ndarray, float, bool, Info]


class View(NamedTuple):
    """From where pictures are taken. None: as MuJoCo chooses for the model."""

    through_model: bool = False  # through the model's first camera, if it has one
    follow: str | None = None  # the name of a body; None: the camera stands still
    lookat: Sequence[float] | None = None  # metres
    distance: float | None = None  # metres
    azimuth: float = 90.0  # degrees
    elevation: float = -30.0  # degrees


class SimulatedEnv(gymnasium.Env):
    """Base class of environments with observations f32[O] and actions f32[A], usually in [-1, 1].

    A subclass defines `start` and `act`. Pictures show its `model` and `data`; without MuJoCo it has neither.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    simulation: Any = None  # of another package, to be closed

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        *,
        episode_limit: int,
        steps_per_second: float,
        view: View | None = None,
    ):
        self.observation_space: spaces.Box = spaces.Box(-np.inf, np.inf, (observation_size,), np.float32)
        self.action_space: spaces.Box = spaces.Box(-1.0, 1.0, (action_size,), np.float32)
        self.steps_per_second = steps_per_second
        self._view, self._episode_limit, self._steps = view or View(), episode_limit, 0
        self._camera: Camera | None = None

    def start(self, seed: int | None) -> np.ndarray:
        """Starts an episode, determined by `seed`; returns the observation [O]."""
        raise NotImplementedError

    def act(self, action: np.ndarray) -> ActResult:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Start:
        super().reset(seed=seed)
        self._steps = 0
        return np.asarray(self.start(seed), np.float32), {}

    def step(self, action: np.ndarray) -> GymStep:
        """Acts once; the episode is truncated at its limit."""
        observation, reward, terminated, info = self.act(np.asarray(action))
        self._steps += 1
        truncated = not terminated and self._steps >= self._episode_limit
        return np.asarray(observation, np.float32), float(reward), bool(terminated), truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """Returns a picture of the state, u8[height, width, 3]."""
        if not hasattr(self, "model"):  # an environment without MuJoCo
            raise NotImplementedError
        if self._camera is None:
            self._camera = Camera(self.model, self.data, self._view)
        return self._camera.picture()

    def close(self) -> None:
        if self._camera:
            self._camera.close()
        self._camera = None
        if self.simulation is not None:
            self.simulation.close()


class Camera:
    """Looks at a MuJoCo simulation; made on first use, since it needs OpenGL.

    A suite's own renderer must not be used beside this: each would return the other's pictures, because it
    does not notice that OpenGL now draws to another canvas. Height fields stay as they are when it is made.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, view: View):
        self._model, self._data = model, data
        width, height = int(model.vis.global_.offwidth), int(model.vis.global_.offheight)
        self._renderer = mujoco.Renderer(model, min(HEIGHT, height), min(WIDTH, width))
        self._camera = camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, camera)
        if view.through_model and model.ncam:
            camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        if view.follow is not None:
            camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, model.body(view.follow).id
        camera.azimuth, camera.elevation = view.azimuth, view.elevation
        if view.lookat is not None:
            camera.lookat = view.lookat
        if view.distance is not None:
            camera.distance = view.distance

    def picture(self) -> np.ndarray:
        """Returns u8[height, width, 3]."""
        # Updates bodies and lights to the state after the step; nothing dynamic depends on this.
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()


class MujocoRobot(SimulatedEnv):
    """Base class of a robot's task; starts and steps are those of Gymnasium's MujocoEnv.

    Args:
        frame_skip: simulator steps per step of the environment.
        noise: scale of a start's deviations from the model's rest pose; those of positions are uniform.
        normal_velocities: whether those of velocities are normal; else they are uniform, too.
        legacy_inertia: see `compile_with_legacy_inertia`.
    """

    def __init__(
        self,
        spec: mujoco.MjSpec,
        *,
        frame_skip: int,
        noise: float = 0.1,
        normal_velocities: bool = True,
        legacy_inertia: bool = False,
        episode_limit: int,
        view: View,
    ):
        self.model = model = compile_with_legacy_inertia(spec) if legacy_inertia else spec.compile()
        self.data = mujoco.MjData(model)
        self._frame_skip, self._noise, self._normal_velocities = frame_skip, noise, normal_velocities
        rate = 1 / (frame_skip * model.opt.timestep)
        super().__init__(
            len(self.observe()), model.nu, episode_limit=episode_limit, steps_per_second=rate, view=view
        )

    def observe(self) -> np.ndarray:
        raise NotImplementedError

    def start(self, seed: int | None) -> np.ndarray:
        """Starts near the model's rest pose, determined by `seed`."""
        return self.set_state(*self.random_start())

    def random_start(self) -> tuple[np.ndarray, np.ndarray]:
        """Draws positions and velocities, in Gym's order, so that the same generator gives the same ones."""
        rng, noise, model = self.np_random, self._noise, self.model
        position = model.qpos0 + rng.uniform(-noise, noise, model.nq)
        if self._normal_velocities:
            return position, noise * rng.standard_normal(model.nv)
        return position, rng.uniform(-noise, noise, model.nv)

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
    cylindrical part by half a radius at each end, and lighter than the capsule. MuJoCo's own compiler adds up
    the cylinders' masses, and scales them if the robot's file fixes the total.

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
