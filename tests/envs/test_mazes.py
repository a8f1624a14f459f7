"""The maps against Gymnasium-Robotics' copy of them, the planner against tabular Q-iteration."""

import numpy as np
import pytest

from xql_jax.envs.mazes import MAZES, Maze, maze_of

ALL_MAZES = pytest.mark.parametrize("name", MAZES)


@pytest.mark.parametrize(
    ("name", "other_name", "goal"),
    [("umaze", "U_MAZE", (1, 1)), ("medium", "MEDIUM_MAZE", (6, 6)), ("large", "LARGE_MAZE", (7, 9))],
)
def test_walls_are_those_of_gymnasium_robotics(name, other_name, goal):
    maps = pytest.importorskip("gymnasium_robotics.envs.maze.maps")
    np.testing.assert_array_equal(MAZES[name].walls, np.array(getattr(maps, other_name)) == 1)
    assert MAZES[name].goal == goal


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


def test_no_path_is_an_error():
    divided = Maze(("#####", "#G#O#", "#####"))
    with pytest.raises(ValueError, match="no path"):
        divided.shortest_path((1, 1), (1, 3))
    with pytest.raises(ValueError, match="no path"):
        divided.shortest_path((0, 0), (1, 1))
    with pytest.raises(ValueError, match="no path"):
        divided.shortest_path((1, 1), (0, 1))


def test_task_names_their_maze():
    assert maze_of("maze2d-large-dense-v1") is MAZES["large"]
    assert maze_of("pointmaze-umaze-v0") is MAZES["umaze"]
