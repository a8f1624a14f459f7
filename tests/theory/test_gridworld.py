"""The maze as an MDP against short corridors worked by hand and the shortest paths of `Maze`."""

import itertools

import numpy as np
import pytest
from cases import dense_transitions

from xql_jax.envs.mazes import MAZES, MOVES, Maze
from xql_jax.theory.gridworld import FIGURE_4, greedy_path, gridworld
from xql_jax.theory.soft_mdp import value_iteration

LEFT, RIGHT, UP, DOWN = range(4)
TWO = Maze(("####", "#GO#", "####"))
THREE = Maze(("#####", "#GOO#", "#####"))


def cells_of(maze):
    return [tuple(cell) for cell in maze.free_cells.tolist()]


def test_two_cells_by_hand():
    # Left of cell 1 is the goal, cell 0. Of the four equally likely actions one earns 1, three wait:
    # exp(V / beta) = (exp(1 / beta) + 3 exp(discount * V / beta)) / 4.
    mdp = gridworld(TWO, discount=0.5, beta=0.25)
    np.testing.assert_array_equal(mdp.next_states[..., 0], [[0, 0, 0, 0], [0, 1, 1, 1]])
    np.testing.assert_array_equal(mdp.rewards, [[0, 0, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(mdp.behavior, 0.25)
    v = value_iteration(mdp, 1e-12).v
    y = np.exp(2.0 * v[1])  # then exp(V / beta) is y^2 and exp(discount * V / beta) is y
    np.testing.assert_allclose(y, (3.0 + np.sqrt(9.0 + 16.0 * np.exp(4.0))) / 8.0, rtol=1e-10)
    assert v[0] == 0.0


def test_a_slip_by_hand():
    # With slip 0.4 the chosen move is made with 0.6 + 0.1, each other with 0.1.
    mdp = gridworld(THREE, discount=0.5, slip=0.4)
    dense = dense_transitions(mdp)
    np.testing.assert_allclose(dense[1, LEFT], [0.7, 0.2, 0.1], atol=1e-15)
    np.testing.assert_allclose(dense[1, RIGHT], [0.1, 0.2, 0.7], atol=1e-15)
    np.testing.assert_allclose(dense[1, UP], [0.1, 0.8, 0.1], atol=1e-15)
    np.testing.assert_allclose(dense[2, DOWN], [0.0, 0.1, 0.9], atol=1e-15)
    np.testing.assert_allclose(mdp.rewards[1], [0.7, 0.1, 0.1, 0.1], atol=1e-15)
    np.testing.assert_array_equal(mdp.rewards[[0, 2]], 0.0)


@pytest.mark.parametrize("slip", [0.0, 0.3, 1.0])
def test_the_goal_is_absorbing_and_pays_once(slip):
    mdp = gridworld(FIGURE_4, slip=slip, goal_reward=3.0)
    goal = cells_of(FIGURE_4).index(FIGURE_4.goal)
    dense = dense_transitions(mdp)
    np.testing.assert_allclose(dense[goal, :, goal], 1.0, atol=1e-15)
    np.testing.assert_array_equal(mdp.rewards[goal], 0.0)
    # Elsewhere the reward is that of entering, as often as it happens.
    elsewhere = np.arange(len(dense)) != goal
    np.testing.assert_allclose(mdp.rewards[elsewhere], 3.0 * dense[elsewhere, :, goal], atol=1e-15)
    assert value_iteration(mdp).v[goal] == 0.0


@pytest.mark.parametrize("maze", [FIGURE_4, *MAZES.values()], ids=["figure_4", *MAZES])
def test_small_beta_discounts_by_the_shortest_path(maze):
    v = value_iteration(gridworld(maze, discount=0.9, beta=1e-9, goal_reward=2.0), 1e-12).v
    for value, cell in zip(v, cells_of(maze), strict=True):
        moves = len(maze.shortest_path(cell, maze.goal))
        expected = 0.0 if cell == maze.goal else 2.0 * 0.9 ** (moves - 1)
        np.testing.assert_allclose(value, expected, atol=1e-7, err_msg=str(cell))


@pytest.mark.parametrize("maze", [FIGURE_4, *MAZES.values()], ids=["figure_4", *MAZES])
def test_greedy_path_is_a_shortest_one(maze):
    q = value_iteration(gridworld(maze, beta=1e-3), 1e-12).q
    for start in cells_of(maze):
        if start != maze.goal:
            path = greedy_path(maze, q, start)
            assert path[0] == start
            assert path[-1] == maze.goal
            assert len(path) == 1 + len(maze.shortest_path(start, maze.goal))
            steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(path)]
            assert set(steps) <= set(MOVES)


def prefer(*actions):
    q = np.zeros((len(actions), 4))
    q[np.arange(len(actions)), actions] = 1.0
    return q


@pytest.mark.parametrize(
    ("actions", "path"),
    [
        ((UP, LEFT, LEFT), [(1, 3), (1, 2), (1, 1)]),
        ((UP, RIGHT, LEFT), [(1, 3), (1, 2)]),  # to and fro
        ((UP, UP, LEFT), [(1, 3), (1, 2)]),  # into a wall
        ((UP, LEFT, DOWN), [(1, 3)]),
    ],
)
def test_greedy_path_ends_before_a_loop(actions, path):
    assert greedy_path(THREE, prefer(*actions), (1, 3)) == path
