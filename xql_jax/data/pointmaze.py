"""The embedded datasets `pointmaze-*-v0`: D4RL's maze2d data made anew, on this machine, in seconds.

Source: D4RL's generate_maze2d_datasets.py (with its noise switched on, as the released data seem to be), its
waypoint controller and its relabelling of rewards. Differs: when a target is reached, the script repeats one
observation in the next row, here each row holds its own; arrivals are stored as `timeouts`, as in the
released files.
"""

import hashlib
import io
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path

import h5py
import mujoco
import numpy as np
import tqdm

from xql_jax.data.cache import cached_file
from xql_jax.data.d4rl_hdf5 import H5PY_ERRORS
from xql_jax.envs.mazes import Cell, Maze, maze_of
from xql_jax.envs.point_maze import GOAL_RADIUS, point_mass_model, push, random_start, random_target
from xql_jax.errors import UserError
from xql_jax.files import locked_in_turn, replacing, set_aside
from xql_jax.tasks import Task

LOG = logging.getLogger(__name__)
NUM_STEPS = 200_000
SEED = 0
RECIPE = 1  # raise it with any change by which `generate` returns other arrays: cached files are made anew
USER_BLOCK = 512  # bytes, the least that HDF5 grants
ACTION_NOISE = 0.5
ARRIVAL_RADIUS = 0.1
WAYPOINT_NOISE = 0.2  # a waypoint lies up to this much below its cell's integer position, per axis


class WaypointController:
    """Walks the shortest path to a target cell: a PD controller towards one waypoint after another.

    A waypoint is a cell's integer position less U(0, 0.2) per axis; the last is the target cell's, exactly.
    Source: D4RL's controller. Its test of the speed is left out: it compares a step's displacement, which is
    at most 0.05, with 0.1. So is its habit of rounding the position to find the cell it starts from, which
    near a cell's lower edge names the neighbour.
    """

    def __init__(self, maze: Maze, rng: np.random.Generator):
        self._maze = maze
        self._rng = rng
        self._target: Cell | None = None
        self._waypoints: list[list[float]] = []

    def set_target(self, position: np.ndarray, target: np.ndarray) -> None:
        """Plans a path from one position [2] to another; one in the last target's cell changes nothing."""
        cell = _cell_at(target)
        if cell == self._target:
            return
        path = np.array(self._maze.shortest_path(_cell_at(position), cell), dtype=float)
        path[:-1] -= WAYPOINT_NOISE * self._rng.uniform(size=path[:-1].shape)
        self._target, self._waypoints = cell, path.tolist()

    def act(self, x: float, y: float, vx: float, vy: float) -> tuple[float, float, bool]:
        """Returns an action in [-1, 1]^2 and whether the position has arrived at the target cell's."""
        goal_x, goal_y = self._waypoints[0]
        action = _clip(10.0 * (goal_x - x) - vx), _clip(10.0 * (goal_y - y) - vy)
        near = math.hypot(goal_x - x, goal_y - y) < ARRIVAL_RADIUS
        if near and len(self._waypoints) > 1:
            del self._waypoints[0]
            near = False
        return *action, near


def generate(task: Task, num_steps: int, seed: int) -> dict[str, np.ndarray]:
    """Runs the noisy controller from target to random target, in one unbroken run without resets.

    Args:
        task: names the maze; its episode limit bounds the steps to one target.
        num_steps: rows, N.
        seed: the only source of randomness.
    Returns:
        D4RL's arrays. observations f32[N, 4]; actions f32[N, 2], about a third of the entries at ±1; rewards
        f32[N], 1 where `observations` (not the next one) are within 0.5 of the *evaluation* goal, which the
        controller does not know; terminals bool[N], all false; timeouts bool[N], arrivals at targets;
        infos/goal f32[N, 2], the targets; infos/qpos, infos/qvel f32[N, 2].
    """
    maze = maze_of(task.name)
    rng = np.random.default_rng(seed)
    noise = ACTION_NOISE * rng.standard_normal((num_steps, 2))
    states = np.empty((num_steps, 4), np.float32)
    actions = np.empty((num_steps, 2), np.float32)
    targets = np.empty((num_steps, 2), np.float32)
    timeouts = np.zeros(num_steps, bool)

    model = point_mass_model(maze)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = random_start(maze, rng)
    controller = WaypointController(maze, rng)
    target = random_target(maze, rng)
    controller.set_target(data.qpos, target)
    steps_to_target = 0
    progress = tqdm.tqdm(noise.tolist(), desc=f"making {task.name}", disable=None)  # none where no one looks
    for t, (noise_x, noise_y) in enumerate(progress):
        state = *data.qpos.tolist(), *data.qvel.tolist()
        action_x, action_y, arrived = controller.act(*state)
        done = arrived or steps_to_target >= task.episode_limit
        states[t] = state
        actions[t] = _clip(action_x + noise_x), _clip(action_y + noise_y)
        targets[t] = target
        timeouts[t] = done
        push(model, data, actions[t])  # the rounded action, so that the stored one explains the next row
        steps_to_target += 1
        if done:
            target = random_target(maze, rng)
            controller.set_target(data.qpos, target)
            steps_to_target = 0

    positions, velocities = states[:, :2], states[:, 2:]
    distances = np.linalg.norm(positions - np.array(maze.goal, np.float32), axis=-1)
    return {
        "observations": states,
        "actions": actions,
        "rewards": (distances <= GOAL_RADIUS).astype(np.float32),
        "terminals": np.zeros(num_steps, bool),
        "timeouts": timeouts,
        "infos/goal": targets,
        "infos/qpos": positions,
        "infos/qvel": velocities,
    }


def generated_file(task: Task) -> Path:
    """Returns the task's HDF5 file in D4RL's dataset folder, made on first use: the same bytes each time.

    Its attributes say how it was made, and its first bytes hold a digest of the others. A file that was made
    otherwise is replaced. What is not as it was made is set aside. Of several processes one makes the file.
    Raises:
        UserError: if the folder or the file cannot be written.
    """
    path = cached_file(task)
    recipe = {"num_steps": NUM_STEPS, "recipe": RECIPE, "seed": SEED}
    if _recipe_of(path) == recipe:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock")
        with locked_in_turn(lock, f"making {path.name}", path.exists):
            found = _recipe_of(path)  # another process may have made it while this one waited
            if found == recipe:
                return path
            if found:
                LOG.info(f"{path}: making it anew, with {_text(recipe)}; it has {_text(found)}")
            elif os.path.lexists(path):
                aside = set_aside(path, "replaced")
                LOG.warning(
                    f"{path}: changed since it was made, or made by an earlier version: making it anew, the "
                    f"old one is {aside.name}"
                )
            _make(task, recipe, path)
    except OSError as error:
        raise UserError(f"{path}: cannot write the dataset of {task.name}: {error}") from error
    return path


def _make(task: Task, recipe: Mapping[str, int], path: Path) -> None:
    arrays = generate(task, NUM_STEPS, SEED)
    with replacing(path, f"{path.name}.{os.getpid()}.tmp") as unfinished:
        with h5py.File(unfinished, "w", userblock_size=USER_BLOCK) as file:
            file.attrs.update(recipe)
            for key, array in arrays.items():
                file.create_dataset(key, data=array, track_times=False)  # times would change the bytes
        with unfinished.open("r+b") as content:
            line = _proof(content)
            content.seek(0)
            content.write(line)


def _recipe_of(path: Path) -> dict[str, int]:
    """How the file was made: the whole numbers among its attributes; none if it is not as it was made."""
    try:
        if not path.is_file():  # nor is a pipe opened, which waits
            return {}
        with path.open("rb") as content:
            line = _proof(content)
            content.seek(0)
            if content.read(USER_BLOCK) != line:
                return {}
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
    except H5PY_ERRORS:
        return {}
    return {name: int(value) for name, value in attributes.items() if isinstance(value, np.integer)}


def _proof(content: io.BufferedIOBase) -> bytes:
    """What HDF5 leaves to its users at a file's beginning: here, the digest of what follows."""
    content.seek(USER_BLOCK)
    digest = hashlib.file_digest(content, "sha256").hexdigest()
    return f"sha256 of what follows byte {USER_BLOCK}: {digest}\n".encode().ljust(USER_BLOCK)


def _text(attributes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in attributes.items())


def _cell_at(position: np.ndarray) -> Cell:
    """The cell around a position: (r, c) spans [r - 0.7, r + 0.3] x [c - 0.7, c + 0.3]."""
    x, y = position.tolist()
    return math.floor(x + 0.7), math.floor(y + 0.7)


def _clip(action: float) -> float:
    return min(max(action, -1.0), 1.0)
