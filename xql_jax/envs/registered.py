"""Environments of Gymnasium's registry: its own MuJoCo tasks, such as HalfCheetah-v5, and those of users."""

import warnings

import gymnasium
import numpy as np
from gymnasium import spaces

from xql_jax.envs.simulated import SimulatedEnv
from xql_jax.envs.vector import UNKNOWN_SUCCESS, GymStep, Info, Start, act, start, warn_once
from xql_jax.errors import EnvironmentFailure, UserError, described, others_code
from xql_jax.suites import LONGEST
from xql_jax.suites.tasks import Task
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
        what = " ".join(["cannot be made", *(f"with {key}={value!r}" for key, value in options.items())])
        with others_code(f"{name}: {what}"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*initialised with render_mode")  # `render` reports it
            self.simulation = simulation = simulation or gymnasium.make(  # its checker only costs time
                name, max_episode_steps=task.episode_limit, disable_env_checker=True, **options
            )
            observed, acted = simulation.observation_space, simulation.action_space
        if not isinstance(observed, spaces.Box) or 0 in observed.shape:
            flatten = "gymnasium.wrappers.FlattenObservation"
            raise UserError(f"{name}: its observations must be a Box (wrap it in {flatten}), not {observed}")
        if not isinstance(acted, spaces.Box) or 0 in acted.shape or not _are_bounded(acted):
            raise UserError(f"{name}: its actions are {acted}, and must be a Box of floats with bounds")
        self._acted, self._shape = acted, observed.shape
        self._longest = max(longest, task.episode_limit or 0)
        super().__init__(
            int(np.prod(observed.shape)),
            int(np.prod(acted.shape)),
            episode_limit=task.longest,
            steps_per_second=self._pictures_per_second(),
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
        with others_code(f"{self._name}: no pictures", NotImplementedError):  # which `check_draws` reports
            mode, picture = self.simulation.render_mode, None
            if mode == "rgb_array":
                picture = np.asarray(self.simulation.render())
        if picture is None:
            raise UserError(f"{self._name}: no pictures: it has no render_mode 'rgb_array'")
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            is_now = f"{picture.dtype}{list(picture.shape)}"
            raise UserError(f"{self._name}: no pictures: render must return uint8[H, W, 3], not {is_now}")
        return picture

    def _pictures_per_second(self) -> float:
        """Returns the rate that it states for videos; if it states none that is one, the usual rate."""
        try:
            rate = float(self.simulation.metadata.get("render_fps") or STEPS_PER_SECOND)
            if not 0 < rate < np.inf:
                raise ValueError(f"render_fps={rate}")
        except (Exception, SystemExit) as error:
            warn_once(f"{self._name}: its metadata are not used: {described(error)}")
            return STEPS_PER_SECOND
        return rate


def _are_bounded(actions: spaces.Box) -> bool:
    """Whether the actions are floats whose bounds, and the range between these, are finite in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        ranges = actions.high.astype(np.float32) - actions.low.astype(np.float32)
    return actions.dtype.kind == "f" and bool(np.isfinite(ranges).all())
