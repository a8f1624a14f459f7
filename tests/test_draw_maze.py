"""The example that draws a policy in its maze: what it draws, and that it finds a run and writes there."""

import importlib

import numpy as np
import pytest
from driver import ROOT

from xql_jax.envs.mazes import maze_of


@pytest.fixture
def draw_maze(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module("draw_maze")


def test_values_inside_walls_are_not_drawn_and_stretch_no_colours(draw_maze):
    maze = maze_of("pointmaze-medium-v0")
    positions = draw_maze.position_grid(maze)  # D4RL's free cell (r, c) spans [r - 0.7, r + 0.3]
    cells = np.floor(positions + 0.7).astype(int)
    in_wall = maze.walls[cells[..., 0], cells[..., 1]]
    np.testing.assert_array_equal(in_wall, maze.walls.repeat(24, 0).repeat(24, 1))
    values = np.where(in_wall, 1000.0, positions.sum(-1)).astype(np.float32)
    image, walls = draw_maze.draw(maze, values, [np.zeros((2, 4))], "").axes[0].images
    np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), in_wall)
    assert image.get_clim() == (values[~in_wall].min(), values[~in_wall].max())
    np.testing.assert_array_equal(walls.get_array()[..., 3] == 1, maze.walls)
