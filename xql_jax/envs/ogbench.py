"""OGBench's single-task environments (Park et al. 2025), and their rewards for its data."""

import contextlib
import importlib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np

from xql_jax.envs.simulated import FIRST_CAMERA, ActResult, SimulatedEnv
from xql_jax.errors import needing
from xql_jax.suites.tasks import Task

# It rounds the bounds of its actions anew whenever it is asked for them.
warnings.filterwarnings("ignore", ".*precision lowered", module="gymnasium")


def make_simulation(name: str, **options: Any) -> Any:
    """Makes one of OGBench's environments; UserError if the package is missing."""
    with needing("the simulation of OGBench's tasks", "ogbench"):
        importlib.import_module("ogbench")  # registers them
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="glfw")  # no screen: other backends are tried then
        return gymnasium.make(name, disable_env_checker=True, **options)


def environment_of(task: Task) -> str:
    """Returns the name of a task's environment, which has no type of dataset: cube-single-singletask-v0."""
    return re.sub(r"-(\w+)-singletask", "-singletask", task.name)


@contextlib.contextmanager
def drawing_from(own: np.random.RandomState) -> Iterator[None]:
    """Within it NumPy's global random numbers, of which OGBench draws some, come from `own`."""
    others = np.random.get_state()  # noqa: NPY002  (OGBench uses it)
    np.random.set_state(own.get_state())  # noqa: NPY002
    try:
        yield
    finally:
        own.set_state(np.random.get_state())  # noqa: NPY002
        np.random.set_state(others)  # noqa: NPY002


class OGBench(SimulatedEnv):
    """A robot that has one of five tasks in a maze, with a ball, or with cubes, buttons, a drawer, a window.

    Observations, actions in [-1, 1], rewards and terminations are OGBench's: in the mazes -1 a step until the
    goal is reached, at the table minus the number of parts of the task that are not done. Success ends an
    episode.

    Source: Park et al. 2025, "OGBench: Benchmarking Offline Goal-Conditioned RL"; package ogbench, 1.2.2.
    """

    def __init__(self, task: Task):
        self.simulation = simulation = make_simulation(environment_of(task))
        self._robot, self._random = simulation.unwrapped, np.random.RandomState(0)
        self._is_table = hasattr(self._robot, "_control_timestep")
        super().__init__(
            episode_limit=task.longest,
            steps_per_second=1 / (self._robot._control_timestep if self._is_table else self._robot.dt),
            view=FIRST_CAMERA if self._is_table else {},
        )

    def start(self, seed: int | None) -> np.ndarray:
        if seed is not None:
            self._random.seed(seed)
        with drawing_from(self._random):
            return super().start(seed)

    def act(self, action: np.ndarray) -> ActResult:
        with drawing_from(self._random):
            observation, reward, terminated, _, info = self.simulation.step(action.astype(np.float32))
        return observation, reward, terminated, {**info, "success": bool(info["success"])}

    def render(self) -> np.ndarray:  # type: ignore[override]
        names = ("_model", "_data") if self._is_table else ("model", "data")
        self.model, self.data = (getattr(self._robot, name) for name in names)
        return super().render()


def rewarded(task: Task, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of OGBench's data with the task's rewards and masks, by OGBench's own function.

    Args:
        arrays: rows with `qpos` f32[N, Q], for buttons also `button_states` i64[N, K].
    """
    name = environment_of(task)
    own, labelled = np.random.RandomState(0), dict(arrays)
    with contextlib.closing(make_simulation(name)) as simulation, drawing_from(own):
        importlib.import_module("ogbench.relabel_utils").relabel_dataset(name, simulation, labelled)
    return labelled
