"""Environments of Gymnasium's registry: its own MuJoCo tasks, such as HalfCheetah-v5, and users' tasks."""

import warnings

import gymnasium
import numpy as np
from gymnasium import spaces

from xql_jax.envs.simulated import SimulatedEnv
from xql_jax.envs.vector import RESET, STEP, GymStep, Info, Start
from xql_jax.errors import EnvironmentFailure, UserError, others_code
from xql_jax.suites import LONGEST
from xql_jax.suites.tasks import Task
from xql_jax.types import ActionBounds

SUCCESSES = ("success", "is_success")  # in `info`


class Registered(SimulatedEnv):
    """An environment of the registry, with flat observations f32[O] and actions f32[A], in C order.

    Actions are clipped to the environment's own bounds. Rewards, terminations and `info` are its own, but for
    `info["success"]`, which stands for both names of a success. Truncations are its own, except in a step
    that also terminates. The task's episode limit replaces the registry's; without it, an episode of more
    than `longest` steps fails. `simulation` is an environment to use instead of a new one, which Gymnasium
    makes with the options.
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
            rate = float(simulation.metadata.get("render_fps") or 30.0)  # of videos
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
            steps_per_second=rate,
        )
        with np.errstate(over="ignore"):  # what is no float32 is no bound
            least, most = (np.ravel(bound).astype(np.float32) for bound in (observed.low, observed.high))
        self.observation_space = spaces.Box(least, most, dtype=np.float32)
        low, high = np.array(ActionBounds.of(acted), np.float32)
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Start:
        """Starts as the environment does, determined by `seed`."""
        self._steps = 0
        [observation], _ = _returned("reset", RESET, self.simulation.reset(seed=seed))
        return self._flat(observation), {}

    def step(self, action: np.ndarray) -> GymStep:
        acted = self._acted
        control = np.reshape(action, acted.shape).astype(acted.dtype, copy=False)
        control = np.asarray(np.minimum(np.maximum(control, acted.low), acted.high))  # faster than np.clip
        values, info = _returned("step", STEP, self.simulation.step(control))
        observation = self._flat(values[0])
        reward = values[1] if isinstance(values[1], float) else float(_numbers("reward", values[1], ()))
        terminated, truncated = _truth("terminated", values[2]), _truth("truncated", values[3])
        if terminated and info.get("TimeLimit.truncated"):
            raise EnvironmentFailure("it terminates at a time limit: return truncated instead")
        if (terminated or truncated) and not {"final_observation", "final_obs"}.isdisjoint(info):
            raise EnvironmentFailure(
                "it resets itself (final_observation): return the last observation instead"
            )
        self._steps += 1
        if self._steps > self._longest:
            raise EnvironmentFailure(
                f"an episode goes on after {self._longest:,} steps: end it by gymnasium.wrappers.TimeLimit "
                "or register it with max_episode_steps"
            )
        told = [_truth(name, info[name]) for name in SUCCESSES if info.get(name) is not None]
        others = {name: value for name, value in info.items() if name not in SUCCESSES}
        success: Info = {"success": any(told)} if told else {}
        return observation, reward, terminated, truncated and not terminated, {**others, **success}

    def render(self) -> np.ndarray:
        """Returns a picture of the state, u8[height, width, 3]; UserError if the environment draws none."""
        if getattr(self.simulation, "render_mode", None) != "rgb_array":  # `human` would open a window
            raise UserError(f"{self._name}: no pictures: it has no render_mode 'rgb_array'")
        with others_code(f"{self._name}: no pictures", NotImplementedError):  # which xql-evaluate reports
            picture = np.asarray(self.simulation.render())
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            is_now = f"{picture.dtype}{list(picture.shape)}"
            raise UserError(f"{self._name}: no pictures: render must return uint8[H, W, 3], not {is_now}")
        return picture

    def _flat(self, seen: object) -> np.ndarray:
        return _numbers("observation", seen, self._shape).astype(np.float32).ravel()


def _returned(method: str, names: str, returned: object) -> tuple[list[object], Info]:
    """Returns what `reset` or `step` gave, its `info` apart; EnvironmentFailure if it is anything else."""
    if isinstance(returned, tuple | list) and len(returned) == names.count(",") + 1:
        *values, info = returned
        if isinstance(info, dict):
            return values, info
    raise EnvironmentFailure(f"{method} must return ({names}), and returned {returned!r:.80}")


def _numbers(name: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a value as an array of this shape; EnvironmentFailure if it is another, or no real numbers."""
    array = np.asarray(value)
    if array.shape == shape and array.dtype.kind in "biuf" and not isinstance(value, np.ma.MaskedArray):
        return array
    is_now = f"{value!r:.80}" if array.shape in (shape, ()) else f"of shape {array.shape}"
    wanted = f"numbers of shape {shape}" if shape else "a number"
    raise EnvironmentFailure(f"its {name} must be {wanted}, and is {is_now}")


def _truth(name: str, value: object) -> bool:
    """Returns a bool, or the number 0 or 1, alone or in an array of size 1, as a bool."""
    if isinstance(value, bool):
        return value
    number = _numbers(name, np.squeeze(value), ()).item()  # type: ignore[call-overload]
    if number not in (0, 1):
        raise EnvironmentFailure(f"its {name} must be true or false, and is {number}")
    return bool(number)


def _are_bounded(actions: spaces.Box) -> bool:
    """Whether the actions are floats whose bounds, and the range between these, are finite in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        ranges = actions.high.astype(np.float32) - actions.low.astype(np.float32)
    return actions.dtype.kind == "f" and bool(np.isfinite(ranges).all())
