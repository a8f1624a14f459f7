"""Environments of Gymnasium's registry: its own MuJoCo tasks, such as HalfCheetah-v5, and those of users."""

import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from xql_jax.envs.simulated import SimulatedEnv, View
from xql_jax.envs.vector import UNKNOWN_SUCCESS, GymStep, Info, Start, act, start
from xql_jax.errors import EnvironmentFailure, UserError, described
from xql_jax.suites import LONGEST
from xql_jax.tasks import Task
from xql_jax.types import ActionBounds

STEPS_PER_SECOND = 30.0  # of videos, if an environment does not state its rate


class Registered(SimulatedEnv):
    """An environment of the registry, with flat observations f32[O] and actions f32[A], in C order.

    Actions are clipped to the environment's own bounds. Rewards, terminations and `info["success"]` are its
    own. So are truncations, except in a step that also terminates. The task's episode limit replaces the
    registry's; without one, an episode of more than `longest` steps fails. `simulation` is an environment
    to use instead of a new one, which Gymnasium makes with the options.
    """

    def __init__(
        self, task: Task, simulation: gymnasium.Env | None = None, longest: int = LONGEST, **options: object
    ):
        name = self._name = task.name
        try:  # without the checker, which only costs time
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*initialised with render_mode")  # `render` reports it
                self.simulation = simulation = simulation or gymnasium.make(
                    name, max_episode_steps=task.episode_limit, disable_env_checker=True, **options
                )
        except Exception as error:  # it may be the user's code, and fail in any way
            what = " ".join(["cannot be made", *(f"with {key}={value!r}" for key, value in options.items())])
            raise UserError(f"{name}: {what}: {described(error)}") from error
        observed, acted = simulation.observation_space, simulation.action_space
        if not isinstance(observed, spaces.Box) or 0 in observed.shape:
            flatten = "gymnasium.wrappers.FlattenObservation"
            raise UserError(f"{name}: its observations must be a Box (wrap it in {flatten}), not {observed}")
        if not isinstance(acted, spaces.Box) or 0 in acted.shape or not _are_bounded(acted):
            raise UserError(f"{name}: its actions are {acted}, and must be a Box of floats with bounds")
        self._acted, self._shape = acted, observed.shape
        self._longest = max(longest, task.episode_limit or 0)
        robot: Any = None if task.suite.draws_itself else simulation.unwrapped
        rate = 1 / robot.dt if robot else float(simulation.metadata.get("render_fps") or STEPS_PER_SECOND)
        self._robot = robot
        super().__init__(
            int(np.prod(observed.shape)),
            int(np.prod(acted.shape)),
            episode_limit=task.longest,
            steps_per_second=rate,
            view=View(through_model=True),
        )
        low, high = np.array(ActionBounds.of(acted), np.float32)
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Start:
        """Starts as the environment does, determined by `seed`."""
        self._steps = 0
        return start(self.simulation, seed, self._shape).flatten(), {}

    def step(self, action: np.ndarray) -> GymStep:
        acted = self._acted
        control = np.reshape(action, acted.shape).astype(acted.dtype, copy=False)
        control = np.asarray(np.minimum(np.maximum(control, acted.low), acted.high))  # faster than np.clip
        observation, reward, terminated, truncated, success = act(self.simulation, control, self._shape)
        self._steps += 1
        if self._steps > self._longest:
            raise EnvironmentFailure(
                f"an episode goes on after {self._longest:,} steps: end it by gymnasium.wrappers.TimeLimit, "
                "or register it with max_episode_steps"
            )
        info: Info = {} if success == UNKNOWN_SUCCESS else {"success": bool(success)}
        return observation.flatten(), reward, terminated, truncated and not terminated, info

    def render(self) -> np.ndarray:
        """Returns a picture of the state, u8[height, width, 3]; UserError if the environment draws none."""
        if self._robot:
            self.model, self.data = self._robot.model, self._robot.data
            return super().render()
        if self.simulation.render_mode != "rgb_array":
            raise UserError(f"{self._name}: no pictures: it has no render_mode 'rgb_array'")
        try:
            return np.asarray(self.simulation.render())
        except NotImplementedError:  # `check_draws` reports it
            raise
        except Exception as error:  # the user's code, or a package that is missing
            raise UserError(f"{self._name}: no pictures: {described(error)}") from error


def _are_bounded(actions: spaces.Box) -> bool:
    """Whether the actions are floats whose bounds, and the range between these, are finite in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        ranges = actions.high.astype(np.float32) - actions.low.astype(np.float32)
    return actions.dtype.kind == "f" and bool(np.isfinite(ranges).all())
