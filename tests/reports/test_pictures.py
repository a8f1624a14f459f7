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


def row(step, seed, beta, score):
    return Row(step, seed, (("beta", beta),), {"score": score})


def drawn(figures, tmp_path, rows, title=""):
    run_pictures.plot_learning_curve(rows, title, tmp_path / "curve.png")
    (axes,) = figures[0].axes
    return axes, [text.get_text() for text in axes.get_legend().texts]


def test_learning_curve_of_a_sweep(figures, tmp_path):
    rows = [row(s, seed, beta, s * beta + seed) for s in (5, 10) for beta in (0.5, 2) for seed in (0, 4)]
    axes, labels = drawn(figures, tmp_path, rows, "a title")
    # A colour a setting: the mean over seeds 0 and 4, and each seed.
    lines = {(line.get_color(), tuple(line.get_ydata())) for line in axes.lines}
    assert lines == {
        (BLUE, (4.5, 7.0)), (BLUE, (2.5, 5.0)), (BLUE, (6.5, 9.0)),
        (VERMILION, (12.0, 22.0)), (VERMILION, (10.0, 20.0)), (VERMILION, (14.0, 24.0)),
    }  # fmt: skip
    assert all(list(line.get_xdata()) == [5, 10] for line in axes.lines)
    assert (labels, axes.get_title()) == (["beta=0.5", "beta=2"], "a title")
    assert not axes.collections  # no band of two seeds


def test_three_seeds_have_a_band_which_is_students_interval(figures, tmp_path):
    rows = [row(s, seed, 1, s * value) for s in (5, 10) for seed, value in enumerate((1.0, 2.0, 6.0))]
    axes, labels = drawn(figures, tmp_path, rows)
    (band,) = axes.collections
    # t of two degrees of freedom, times sqrt(7), the deviation of 1, 2 and 6, over sqrt(3)
    half_width = 4.3026527 * np.sqrt(7.0) / np.sqrt(3.0)
    ends = band.get_paths()[0].vertices[:, 1]
    assert (ends.min(), ends.max()) == pytest.approx((30 - 10 * half_width, 30 + 10 * half_width))
    assert axes.get_ylim() == pytest.approx((5 - 2.75, 60 + 2.75))  # as high as the seeds go
    assert labels == ["mean of 3 seeds, 95% interval"]


def test_a_sweep_of_twelve_is_in_order_and_no_colour_repeats(figures, tmp_path):
    betas = (10, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 2, 3, 5, 7, 20)
    rows = [row(s, seed, beta, s + beta) for s in (5, 10) for seed in (0, 1, 2) for beta in betas]
    axes, labels = drawn(figures, tmp_path, rows)
    assert labels == [f"beta={beta:g}" for beta in sorted(betas)]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == len(axes.lines) == 12


@pytest.mark.parametrize("values", [[12.5, 12.5 + 1e-11], [0.0], [1e30, -1e30], [np.nan]])
def test_an_axis_needs_no_offset(values):
    figure = Figure()
    with style.styled():
        axes = figure.add_subplot()
        curve = range(len(values)), [0], np.array([values])
        style.draw_curves(axes, {"": curve}, {"": {"color": BLUE}}, with_seeds=False)
        figure.draw_without_rendering()
    low, high = axes.get_ylim()
    assert np.isfinite([low, high]).all()
    assert high - low >= max(0.02 * abs(high), 1e-3)
    assert axes.yaxis.get_major_formatter().get_offset() in ("", "1e30")


def test_values_inside_walls_are_not_drawn_and_stretch_no_colours(figures, tmp_path):
    maze = maze_of("pointmaze-medium-v0")
    positions = run_pictures.position_grid(maze)  # D4RL's free cell (r, c) spans [r - 0.7, r + 0.3]
    cells = np.floor(positions + 0.7).astype(int)
    np.testing.assert_array_equal(
        cells, np.indices(maze.walls.shape).transpose(1, 2, 0).repeat(24, 0).repeat(24, 1)
    )
    in_wall = maze.walls[cells[..., 0], cells[..., 1]]
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
