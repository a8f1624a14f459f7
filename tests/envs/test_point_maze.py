"""The point maze against Gymnasium-Robotics' PointMaze, tabular Q-iteration, and D4RL's reference returns."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from xql_jax.envs import environment_maker
from xql_jax.envs.mazes import MAZES, Maze
from xql_jax.envs.point_maze import PointMaze
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.suites.tasks import get_task

ALL_MAZES = pytest.mark.parametrize("name", MAZES)
AT_REST = np.zeros(2)


def point_maze_of(name: str = "umaze") -> PointMaze:
    return PointMaze(get_task(f"maze2d-{name}-v1"))


@pytest.fixture
def other_env(request):
    """Gymnasium-Robotics' environment of a maze in D4RL's orientation, and what to add to its xy."""
    point_maze = pytest.importorskip("gymnasium_robotics.envs.maze.point_maze")
    walls = MAZES[request.param].walls
    env = point_maze.PointMazeEnv(maze_map=np.rot90(walls).astype(int).tolist())
    Path(env.tmp_xml_file_path).unlink()  # it leaves this one behind
    yield request.param, env.point_env, np.array(walls.shape) / 2 - 0.7
    env.close()


def greedy_paths_by_q_iteration(maze: Maze, target: tuple[int, int]) -> dict:
    """D4RL's planner from its definition: 50 sweeps, discount 0.99, reward 1 at the target."""
    cells = [tuple(cell) for cell in maze.free_cells.tolist()]
    moves = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]

    def after(cell, move):
        moved = cell[0] + move[0], cell[1] + move[1]
        return cell if maze.walls[moved] else moved

    successors = np.array([[cells.index(after(cell, move)) for move in moves] for cell in cells])
    rewards = np.array([[float(cell == target)] for cell in cells])
    q = np.zeros(successors.shape)
    for _ in range(50):
        q = rewards + 0.99 * q.max(1)[successors]
    paths = {}
    for start in cells:
        path = [start]
        while path[-1] != target or len(path) == 1:
            state = cells.index(path[-1])
            path.append(cells[successors[state, q[state].argmax()]])
        paths[start] = path[1:]
    return paths


@ALL_MAZES
def test_paths_are_greedy_for_q_iteration(name):
    maze = MAZES[name]
    for target in map(tuple, maze.free_cells.tolist()):
        for start, path in greedy_paths_by_q_iteration(maze, target).items():
            assert maze.shortest_path(start, target) == path, (start, target)


@pytest.mark.parametrize("other_env", MAZES, indirect=True)
def test_moves_as_in_gymnasium_robotics(other_env):
    name, other, offset = other_env
    env = point_maze_of(name)

    def walls(m, start):
        boxes = m.geom_type == 6  # mjGEOM_BOX
        return sorted(np.round(m.geom_pos[boxes, :2] - start, 9).tolist())

    # Relative to where the ball is at position 0: (1.2, 1.2) here, the offset away from the origin there.
    np.testing.assert_allclose(walls(env.model, 1.2), walls(other.model, -offset), atol=1e-9)
    np.testing.assert_allclose(env.model.body_mass[1], other.model.body_mass[1])
    rng, contacts = np.random.default_rng(0), 0
    env.reset(seed=0)
    other.reset(seed=0)
    other.set_state(env.data.qpos - offset, env.data.qvel)
    for t in range(1000):
        if t % 20 == 0:  # pushes long enough to bump into many walls
            action = rng.uniform(-1.3, 1.3, 2)
        env.step(action)
        other.step(action)
        contacts += env.data.ncon
        np.testing.assert_allclose(env.data.qpos - offset, other.data.qpos, atol=1e-6)
        np.testing.assert_allclose(env.data.qvel, other.data.qvel, atol=1e-5)
    assert contacts > 100


def test_starts():
    env = point_maze_of()
    starts = np.array([env.reset(seed=seed)[0] for seed in range(2000)])
    cells = np.round(starts[:, :2])
    assert np.abs(starts[:, :2] - cells).max() == pytest.approx(0.1, abs=1e-3)
    free, counts = np.unique(cells, axis=0, return_counts=True)
    np.testing.assert_array_equal(free, env.maze.free_cells)
    np.testing.assert_allclose(counts / 2000, 1 / 7, atol=5 * np.sqrt(1 / 7 * 6 / 7 / 2000))
    np.testing.assert_allclose(starts[:, 2:].std(0), 0.1, rtol=0.08)


@pytest.mark.parametrize(("distance", "speed", "reward"), [(0.505, -1.0, 1.0), (0.495, 1.0, 0.0)])
def test_reward_is_that_of_the_position_after_the_step(distance, speed, reward):
    env = point_maze_of()
    env.set_state(np.array([1.0, 1.0 + distance]), np.array([0.0, speed]))
    assert env.step(AT_REST)[1] == reward
    env = PointMaze(get_task("maze2d-large-dense-v1"))
    env.reset(seed=0)
    observation, reward, *_ = env.step(np.array([1.0, -1.0]))
    assert reward == pytest.approx(np.exp(-np.linalg.norm(observation[:2] - [7.0, 9.0])), rel=1e-5)


@pytest.mark.slow
@ALL_MAZES
def test_reference_returns(name):
    """D4RL's references are means of 100 episodes, of a random policy and of its controller.

    That controller is made once and plans only when the goal changes: from its second episode on it pushes
    straight towards the goal, through walls if need be. (Planning in each episode gives 229, 416 and 534.)
    """
    task = get_task(f"maze2d-{name}-v1")
    rng = np.random.default_rng(0)
    goal = np.array(MAZES[name].goal)
    maker = dataclasses.replace(environment_maker(task), max_environments=100)
    evaluator = Evaluator(task, num_members=2, num_episodes=50, seed=0, maker=maker)

    def act(observations):
        straight = 10.0 * (goal - observations[1, :, :2]) - observations[1, :, 2:]
        return np.stack([rng.uniform(-1, 1, straight.shape), straight])

    returns = evaluator.run(act).returns
    error = returns.std(1) * np.sqrt(1 / 50 + 1 / 100)
    np.testing.assert_array_less(np.abs(returns.mean(1) - [task.min_return, task.max_return]), 3 * error)
    evaluator.close()
