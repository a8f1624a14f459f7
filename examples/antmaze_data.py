"""Makes antmaze data: an ant walks from waypoint to waypoint, as in D4RL's own generator.

python examples/antmaze_data.py antmaze-umaze-v2 umaze.hdf5 --transitions=200000

The file has D4RL's layout. The same command makes the same bytes.
"""

import argparse
import functools
import math
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import tqdm

from xql_jax.data.rows import Rows, cut_off, joined_rows, write_hdf5
from xql_jax.envs.ant_maze import START_CELL, AntMaze, cell_middle, draw_goal
from xql_jax.envs.mazes import GOAL_RADIUS, MAZES, Cell
from xql_jax.files import replacing
from xql_jax.suites.tasks import Task, get_task
from xql_jax.workshop.tools.act import load

WALKER = Path(__file__).with_name("ant_walker.npz")
WALKER_NOISE = 0.2
VIEW_SIZE = 29  # of `seen_from_ant`
NEAR = 1.0  # metres; once a waypoint is nearer than this, the ant heads for the next one
# The targets of D4RL's `play`, chosen by hand.
PLAY_CELLS: dict[str, tuple[Cell, ...]] = {
    "medium": ((2, 6), (5, 1), (6, 5)),
    "large": ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
}


@functools.cache
def walker() -> Callable[[np.ndarray], np.ndarray]:
    """Returns the walking policy, which acts on `seen_from_ant`: SAC, 400,000 steps in `ant_field.py`."""
    return load(WALKER)[0]


def generate_antmaze(
    task: Task, num_steps: int, seed: int, on_steps: Callable[[int], object] = lambda made: None
) -> Rows:
    """Returns N rows of an ant that walks to targets along shortest paths, with one waypoint in each cell.

    An episode ends at the walker's target, at the evaluation's goal, or at the task's limit. The goal alone
    is a terminal; other ends, that of the last episode included, are time-outs.

    Differs from D4RL: the walking policy is our own, and acts by its mode plus noise. It heads for the next
    waypoint once it is near the current one; D4RL's looks up its cell in every step, by cell boundaries 2 m
    off the walls. D4RL's ant stays at its target until the limit.

    The observations are f32[N, 29], the actions f32[N, 8]; rewards are 1 at the evaluation's goal, infos/goal
    f32[N, 2]; the walker's is infos/target f32[N, 2]. `on_steps` gets each episode's number of rows.
    """
    environment, rng = AntMaze(task), np.random.default_rng(seed)
    episodes, made = list[Rows](), 0
    while made < num_steps:
        episodes.append(_walk(environment, rng, *set_out(task, environment, rng)))
        made += len(episodes[-1]["rewards"])
        on_steps(len(episodes[-1]["rewards"]))
    return cut_off(joined_rows(episodes), num_steps)


def set_out(
    task: Task, environment: AntMaze, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Puts the ant at a start; returns its state, its target and the waypoints to it, the target last.

    `umaze` starts where evaluations start, and its target is their goal. `diverse` starts in any free cell
    and walks to any free cell. `play` starts in any free cell and walks to one of D4RL's targets.
    """
    name, *kind = task.name.split("-")[1:-1]
    maze = MAZES[name]
    free: list[Cell] = [(row, column) for row, column in maze.free_cells.tolist()]
    environment.reset(seed=int(rng.integers(2**31)))
    start, cell, target = START_CELL, environment.goal_cell, environment.goal
    position, velocity = environment.data.qpos.copy(), environment.data.qvel.copy()
    if kind:
        start = free[int(rng.integers(len(free)))]
        position[:2] += _somewhere(start, rng)
    state = environment.set_state(position, velocity)
    if kind:
        targets = PLAY_CELLS[name] if kind == ["play"] else free
        cell = targets[int(rng.integers(len(targets)))]
        target = draw_goal(cell, rng)
    path = maze.shortest_path(start, cell)
    return state, target, [*(_somewhere(each, rng) for each in path[:-1]), target]


def _walk(
    environment: AntMaze,
    rng: np.random.Generator,
    state: np.ndarray,
    target: np.ndarray,
    waypoints: list[np.ndarray],
) -> Rows:
    """Returns the rows of an episode from `set_out`."""
    states, actions, rewards = [state], [], []
    terminated = truncated = arrived = False
    while not (terminated or truncated or arrived):
        if len(waypoints) > 1 and math.dist(state[:2], waypoints[0]) < NEAR:
            del waypoints[0]
        mode = walker()(seen_from_ant(state, waypoints[0])[None])[0]
        action = np.clip(mode + WALKER_NOISE * rng.standard_normal(mode.shape), -1.0, 1.0)
        state, reward, terminated, truncated, _ = environment.step(action.astype(np.float32))
        arrived = math.dist(state[:2], target) <= GOAL_RADIUS
        states.append(state)
        actions.append(action)
        rewards.append(reward)
    number = len(rewards)
    is_last = np.arange(number) == number - 1
    observations = np.array(states, np.float32)
    return {
        "observations": observations[:-1],
        "actions": np.array(actions, np.float32),
        "rewards": np.array(rewards, np.float32),
        "terminals": is_last & terminated,
        "timeouts": is_last & (not terminated),
        "next_observations": observations[1:],
        "infos/goal": np.tile(environment.goal.astype(np.float32), (number, 1)),
        "infos/target": np.tile(target.astype(np.float32), (number, 1)),
    }


def _somewhere(cell: Cell, rng: np.random.Generator) -> np.ndarray:
    """Draws a position f64[2] in a cell: its middle plus U(0, 1) m in x and in y."""
    return cell_middle(cell) + rng.uniform(0.0, 1.0, 2)


def seen_from_ant(state: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns what a walking policy needs, turned so that the ant faces along x: the same wherever it is.

    Args:
        state: f64[29], antmaze's observation: positions with x and y first, velocities.
        target: f64[2], metres.
    Returns:
        f32[29]: the torso's height and its quaternion without the turn about z, 8 joint angles, the torso's
        velocity, its angular velocity, 8 joint velocities, and the unit vector to the target.
    """
    w, x, y, z = state[3:7] / np.linalg.norm(state[3:7])
    turn = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    cos, sin = math.cos(turn), math.sin(turn)
    tilt = turned(np.array([w, x, y, z]), -turn)
    way = target - state[:2]
    way = way / max(np.linalg.norm(way), 1e-6)

    def seen(vector: np.ndarray) -> list[float]:
        return [cos * vector[0] + sin * vector[1], cos * vector[1] - sin * vector[0]]

    tilt = tilt if tilt[0] >= 0 else -tilt
    speeds = seen(state[15:17]), state[17:29]  # MuJoCo gives the angular velocity in the torso's own frame
    return np.concatenate((state[2:3], tilt, state[7:15], *speeds, seen(way)), dtype=np.float32)


def turned(quaternion: np.ndarray, angle: float) -> np.ndarray:
    """Returns the rotation f64[4], w first, followed by one about z."""
    product = np.zeros(4)
    about_z = np.array([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)])
    mujoco.mju_mulQuat(product, about_z, quaternion)
    return product


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes antmaze data: an ant walks to waypoints.")
    parser.add_argument("env_name", help="antmaze-MAZE-KIND-v2, such as antmaze-medium-diverse-v2")
    parser.add_argument("output", type=Path, help="FILE.hdf5, which must not exist yet")
    parser.add_argument("--transitions", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not given.env_name.startswith("antmaze-") or given.output.exists():
        parser.error("give a task of AntMaze, and a file that does not exist")
    task = get_task(given.env_name)
    with tqdm.tqdm(total=given.transitions, unit="transition", disable=None) as bar:
        rows = generate_antmaze(task, given.transitions, given.seed, bar.update)
    about = {"env_name": task.name, "policy": "ant_walker", "seed": given.seed}
    with replacing(given.output) as unfinished:
        write_hdf5(unfinished, rows, about)


if __name__ == "__main__":
    main()
