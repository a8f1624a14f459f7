"""The maze as an MDP against short corridors worked by hand and the shortest paths of `Maze`."""

import itertools

import numpy as np
import pytest

from xql_jax.envs.mazes import MAZES, MOVES, Maze
from xql_jax.theory.gridworld import FIGURE_4, greedy_path, gridworld
from xql_jax.theory.soft_mdp import value_iteration

LEFT, RIGHT, UP = range(3)
TWO = Maze(("####", "#GO#", "####"))
THREE = Maze(("#####", "#GOO#", "#####"))


def test_two_cells_by_hand():
    # Left of cell 1 is the goal, cell 0.
    mdp = gridworld(TWO, discount=0.5, beta=0.25)
    np.testing.assert_array_equal(mdp.next_states[..., 0], [[0, 0, 0, 0], [0, 1, 1, 1]])
    np.testing.assert_array_equal(mdp.rewards, [[0, 0, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(mdp.behavior, 0.25)


@pytest.mark.parametrize("maze", [FIGURE_4, *MAZES.values()], ids=["figure_4", *MAZES])
def test_a_small_beta_discounts_by_the_shortest_path_and_acts_along_one(maze):
    v = value_iteration(gridworld(maze, discount=0.9, beta=1e-9), 1e-12).v
    q = value_iteration(gridworld(maze, beta=1e-3), 1e-12).q
    for value, cell in zip(v, map(tuple, maze.free_cells.tolist()), strict=True):
        if cell == maze.goal:
            assert value == 0.0
            continue
        moves = len(maze.shortest_path(cell, maze.goal))
        np.testing.assert_allclose(value, 0.9 ** (moves - 1), atol=1e-7, err_msg=str(cell))
        path = greedy_path(maze, q, cell)
        assert (path[0], path[-1], len(path)) == (cell, maze.goal, 1 + moves)
        assert {(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(path)} <= set(MOVES)


@pytest.mark.parametrize(
    ("actions", "path"),
    [
        ((UP, LEFT, LEFT), [(1, 3), (1, 2), (1, 1)]),
        ((UP, RIGHT, LEFT), [(1, 3), (1, 2)]),  # to and fro
        ((UP, UP, LEFT), [(1, 3), (1, 2)]),  # into a wall
    ],
)
def test_greedy_path_ends_before_a_loop(actions, path):
    assert greedy_path(THREE, np.eye(4)[list(actions)], (1, 3)) == path
