"""The example that draws a policy in its maze: what it draws, and that it finds a run and writes there."""

import importlib

import numpy as np
import pytest
from driver import ROOT, run_main

import xql_jax
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


@pytest.mark.parametrize("method", ["xql", "bc"])
def test_each_run_below_a_folder_gets_its_picture(method, tmp_path, draw_maze):
    options = {"env_name": "pointmaze-umaze-v0", "max_steps": 2, "hidden_dims": (8,), "batch_size": 8}
    run = xql_jax.train(method=method, save_dir=tmp_path, eval_episodes=1, progress=False, **options)
    assert (draw_maze.values_in(maze_of("pointmaze-umaze-v0"), run) is None) == (method == "bc")
    outcome = run_main([str(tmp_path)], main=ROOT / "examples" / "draw_maze.py")
    assert (outcome.code, outcome.out) == (0, f"written: {run.path / 'maze.png'}\n")
    assert (run.path / "maze.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
