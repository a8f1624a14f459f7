"""What the pictures show, read from the figures before they become pixels; and how they reach the disk."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from xql_jax.envs.mazes import maze_of
from xql_jax.logs.csv_rows import Row
from xql_jax.reports import run_pictures, style
from xql_jax.reports.style import BLUE, VERMILION


@pytest.fixture
def figures(monkeypatch):
    """The figures saved while the test ran."""
    saved = []
    monkeypatch.setattr(style, "save", lambda figure, path: saved.append(figure))
    return saved


def test_learning_curve_of_a_sweep(figures, tmp_path):
    rows = [
        Row(step, seed, (("beta", beta),), {"score": step * beta + seed})
        for step in (5, 10)
        for beta in (10, 0.5)
        for seed in (0, 4)
    ]
    run_pictures.plot_learning_curve(rows, "a title", tmp_path / "curve.png")
    (axes,) = figures[0].axes
    # A colour a setting, in the order of the numbers: the mean over seeds 0 and 4, and each seed.
    lines = {(line.get_color(), tuple(line.get_ydata())) for line in axes.lines}
    assert lines == {
        (BLUE, (4.5, 7.0)), (BLUE, (2.5, 5.0)), (BLUE, (6.5, 9.0)),
        (VERMILION, (52.0, 102.0)), (VERMILION, (50.0, 100.0)), (VERMILION, (54.0, 104.0)),
    }  # fmt: skip
    assert all(list(line.get_xdata()) == [5, 10] for line in axes.lines)
    assert [text.get_text() for text in axes.get_legend().texts] == ["beta=0.5", "beta=10"]
    assert not axes.collections  # no band of two seeds


def test_three_seeds_have_a_band_which_is_students_interval(figures, tmp_path):
    values = enumerate((1.0, 2.0, 6.0))
    rows = [Row(step, seed, (), {"score": step * value}) for seed, value in values for step in (5, 10)]
    run_pictures.plot_learning_curve(rows, "", tmp_path / "curve.png")
    (axes,) = figures[0].axes
    (band,) = axes.collections
    # t of two degrees of freedom, times sqrt(7), the deviation of 1, 2 and 6, over sqrt(3)
    half_width = 4.3026527 * np.sqrt(7.0) / np.sqrt(3.0)
    ends = band.get_paths()[0].vertices[:, 1]
    assert (ends.min(), ends.max()) == pytest.approx((30 - 10 * half_width, 30 + 10 * half_width))


def test_looks_of_many_lines_differ():
    looks = style.looks_of(f"beta={number}" for number in range(style.MOST_LINES))
    assert len({(look["color"], look["linestyle"]) for look in looks.values()}) == style.MOST_LINES


def test_values_inside_walls_are_not_drawn_and_stretch_no_colours(figures, tmp_path):
    maze = maze_of("pointmaze-medium-v0")
    positions = run_pictures.position_grid(maze)  # D4RL's free cell (r, c) spans [r - 0.7, r + 0.3]
    cells = np.floor(positions + 0.7).astype(int)
    in_wall = maze.walls[cells[..., 0], cells[..., 1]]
    np.testing.assert_array_equal(in_wall, maze.walls.repeat(24, 0).repeat(24, 1))
    values = np.where(in_wall, 1000.0, positions.sum(-1)).astype(np.float32)
    run_pictures.plot_maze(maze, values, [np.zeros((2, 4))], "", tmp_path / "maze.png")
    image, walls = figures[0].axes[0].images
    np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), in_wall)
    assert image.get_clim() == (values[~in_wall].min(), values[~in_wall].max())
    np.testing.assert_array_equal(walls.get_array()[..., 3] == 1, maze.walls)


def test_a_picture_is_saved_as_png_and_svg(tmp_path):
    style.save(Figure(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg"]
