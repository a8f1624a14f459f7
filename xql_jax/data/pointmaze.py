"""The embedded datasets `pointmaze-*-v0`: D4RL's maze2d data, generated anew on this machine in seconds.

Source: D4RL's generate_maze2d_datasets.py (with its noise switched on, as the released data seem to be), its
waypoint controller and its relabelling of rewards. Differs: when a target is reached, the script repeats one
observation in the next row; here each row holds its own. Arrivals are stored as `timeouts`, as in the
released files. In `pointmaze-large-rare-v0` trajectories that come near the goal are rare.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

import mujoco
import numpy as np
import tqdm

from xql_jax.data.d4rl_rewards import maze_rewards
from xql_jax.data.rows import write_hdf5
from xql_jax.envs.mazes import Cell, Maze, maze_of
from xql_jax.envs.point_maze import point_mass_model, push, random_start, random_target
from xql_jax.files import replacing, writing
from xql_jax.suites.tasks import Task

NUM_STEPS = 200_000
DATA_SEED = 0
CONTROLLER_NOISE = 0.5
ARRIVAL_RADIUS = 0.1
RARE_WITHIN = 3  # moves from the goal's cell
RARE_EVERY = 3  # a `-rare-` dataset keeps every so many-th of the trajectories that come there
WAYPOINT_NOISE = 0.2  # a waypoint lies up to this much below its cell's integer position, per axis


def generate_pointmaze(task: Task, num_steps: int, seed: int) -> dict[str, np.ndarray]:
    """Runs the noisy controller from target to random target, in one unbroken run without resets.

    The task's episode limit bounds the steps to one target. Returns D4RL's arrays: rewards are 1 where
    `observations` (not the next one) are within 0.5 of the *evaluation* goal, which the controller does not
    know; terminals are all false; timeouts mark arrivals at targets, which are infos/goal f32[N, 2].
    """
    maze = maze_of(task.name)
    rng = np.random.default_rng(seed)
    noise = CONTROLLER_NOISE * rng.standard_normal((num_steps, 2))
    states = np.empty((num_steps, 4), np.float32)
    actions = np.empty((num_steps, 2), np.float32)
    targets = np.empty((num_steps, 2), np.float32)
    timeouts = np.zeros(num_steps, bool)

    model = point_mass_model(maze)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = random_start(maze, rng)
    target = random_target(maze, rng)
    waypoints = _waypoints(maze, data.qpos, target, rng)
    steps_to_target = 0
    progress = tqdm.tqdm(noise.tolist(), desc=f"making {task.name}", disable=None)  # none without a terminal
    for t, (noise_x, noise_y) in enumerate(progress):
        state = (*data.qpos.tolist(), *data.qvel.tolist())
        action_x, action_y, arrived = _act(waypoints, *state)
        states[t] = state
        done = arrived or steps_to_target >= task.longest
        actions[t] = _clip(action_x + noise_x), _clip(action_y + noise_y)
        targets[t] = target
        timeouts[t] = done
        push(model, data, actions[t])  # the rounded action, so that the stored one explains the next row
        steps_to_target += 1
        if done:
            reached, target = target, random_target(maze, rng)
            if _cell_at(target) != _cell_at(reached):
                waypoints = _waypoints(maze, data.qpos, target, rng)
            steps_to_target = 0

    positions, velocities = states[:, :2], states[:, 2:]
    return {
        "observations": states,
        "actions": actions,
        "rewards": maze_rewards(task, states),
        "terminals": np.zeros(num_steps, bool),
        "timeouts": timeouts,
        "infos/goal": targets,
        "infos/qpos": positions,
        "infos/qvel": velocities,
    }


def _waypoints(
    maze: Maze, position: np.ndarray, target: np.ndarray, rng: np.random.Generator
) -> list[list[float]]:
    """Returns the shortest path from one position [2] to another, one waypoint for each cell.

    A waypoint is a cell's integer position less U(0, 0.2) per axis; the last is the target cell's, exactly.
    Source: D4RL's controller, without its rounding of the position, which near a cell's lower edge gives the
    neighbouring cell.
    """
    path = np.array(maze.shortest_path(_cell_at(position), _cell_at(target)), dtype=float)
    path[:-1] -= WAYPOINT_NOISE * rng.uniform(size=path[:-1].shape)
    return path.tolist()


def _act(waypoints: list[list[float]], x: float, y: float, vx: float, vy: float) -> tuple[float, float, bool]:
    """Returns a PD controller's action in [-1, 1]^2 and whether the last waypoint has been reached.

    Removes the first waypoint once it has been reached, unless it is the last. Source: D4RL's controller,
    without its test of the speed, always met.
    """
    goal_x, goal_y = waypoints[0]
    action = _clip(10.0 * (goal_x - x) - vx), _clip(10.0 * (goal_y - y) - vy)
    near = math.hypot(goal_x - x, goal_y - y) < ARRIVAL_RADIUS
    if near and len(waypoints) > 1:
        del waypoints[0]
        near = False
    return *action, near


def made_rare(arrays: Mapping[str, np.ndarray], maze: Maze) -> dict[str, np.ndarray]:
    """Leaves out most of the trajectories that come near the goal, so that fine-tuning has something to gain.

    Of those that enter a cell at most `RARE_WITHIN` moves from the goal, it keeps every `RARE_EVERY`-th, from
    the first on. Rows after the last arrival are left out, too.
    """
    moves = maze.distances(maze.goal)
    near = np.array([moves[_cell_at(position)] <= RARE_WITHIN for position in arrays["observations"][:, :2]])
    stops = np.flatnonzero(arrays["timeouts"]) + 1
    comes_near = np.add.reduceat(near[: stops[-1]], [0, *stops[:-1]]) > 0
    is_kept = ~comes_near | ((np.cumsum(comes_near) - 1) % RARE_EVERY == 0)
    rows = np.flatnonzero(np.repeat(is_kept, np.diff(stops, prepend=0)))
    return {name: array[rows] for name, array in arrays.items()}


def write_generated(task: Task, path: Path) -> None:
    """Generates the task's HDF5 file: the same bytes each time."""
    arrays = generate_pointmaze(task, NUM_STEPS, DATA_SEED)
    if "-rare-" in task.name:
        arrays = made_rare(arrays, maze_of(task.name))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, f"{path.name}.{os.getpid()}.tmp") as unfinished:
            write_hdf5(unfinished, arrays, {})


def _cell_at(position: np.ndarray) -> Cell:
    """Returns the cell around a position: (r, c) spans [r - 0.7, r + 0.3] x [c - 0.7, c + 0.3]."""
    x, y = position.tolist()
    return math.floor(x + 0.7), math.floor(y + 0.7)


def _clip(action: float) -> float:
    return min(max(action, -1.0), 1.0)
