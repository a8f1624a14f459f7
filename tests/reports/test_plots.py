"""What the pictures show, read from the figures before they become pixels; and how they reach the disk."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from xql_jax.envs.mazes import maze_of
from xql_jax.logs.csv_reader import Row
from xql_jax.reports import plots


@pytest.fixture
def figures(monkeypatch):
    """The figures saved while the test ran."""
    saved = []
    monkeypatch.setattr(plots, "save", lambda figure, path: saved.append(figure))
    return saved


def row(step, seed, beta, score):
    return Row(step, seed, (("beta", beta),), {"score": score})


def test_learning_curve_of_a_sweep(figures, tmp_path):
    rows = [row(s, seed, beta, s * beta + seed) for s in (5, 10) for beta in (0.5, 2) for seed in (0, 4)]
    plots.plot_learning_curve(rows, "a title", tmp_path / "curve.png")
    (axes,) = figures[0].axes
    # A colour a setting: the mean over seeds 0 and 4 first, then each seed.
    lines = {(line.get_color(), tuple(line.get_ydata())) for line in axes.lines}
    assert lines == {
        ("C0", (4.5, 7.0)), ("C0", (2.5, 5.0)), ("C0", (6.5, 9.0)),
        ("C1", (12.0, 22.0)), ("C1", (10.0, 20.0)), ("C1", (14.0, 24.0)),
    }  # fmt: skip
    assert all(list(line.get_xdata()) == [5, 10] for line in axes.lines)
    assert [text.get_text() for text in axes.get_legend().texts] == ["beta=0.5", "beta=2"]
    assert axes.get_title() == "a title"


def test_one_evaluation_is_a_point(figures, tmp_path):
    # A line through one point would not be seen.
    plots.plot_learning_curve([row(5, 0, 1, 7.0)], "", tmp_path / "curve.png")
    (line,) = figures[0].axes[0].lines
    assert line.get_marker() == "o"


def test_maze_shows_rows_downwards_and_columns_across(figures, tmp_path):
    maze = maze_of("pointmaze-umaze-v0")
    path = np.array([[1.0, 3.0, 0, 0], [2.0, 3.5, 0, 0]], np.float32)
    plots.plot_maze(maze, np.zeros((4, 4)), [path], "", tmp_path / "maze.png")
    axes = figures[0].axes[0]
    (drawn,) = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert (list(drawn.get_xdata()), list(drawn.get_ydata())) == ([3.0, 3.5], [1.0, 2.0])
    bottom, top = axes.get_ylim()
    assert bottom > top
    (goal,) = [line for line in axes.lines if line.get_marker() == "*"]
    assert (goal.get_xdata()[0], goal.get_ydata()[0]) == (maze.goal[1], maze.goal[0])


def test_position_grid_is_in_the_cell_that_the_picture_puts_it_in():
    # D4RL's free cell (r, c) spans [r - 0.7, r + 0.3], as the picture's extent does.
    maze = maze_of("pointmaze-medium-v0")
    grid = plots.position_grid(maze, points_per_cell=5)
    rows, columns = maze.walls.shape
    assert grid.shape == (5 * rows, 5 * columns, 2)
    cells = np.floor(grid + 0.7).astype(int)
    np.testing.assert_array_equal(
        cells[..., 0], np.repeat(np.arange(rows), 5)[:, None].repeat(5 * columns, 1)
    )
    np.testing.assert_array_equal(cells[..., 1], np.repeat(np.arange(columns), 5)[None].repeat(5 * rows, 0))
    np.testing.assert_allclose(np.diff(grid[:, 0, 0]), 0.2, rtol=1e-5)


def words(figure):
    """What is written somewhere in a figure, as matplotlib takes it."""
    return {text.get_text(): text.get_parse_math() for text in figure.findobj(Text)}


def test_names_between_dollars_are_no_mathematics():
    name = r"$\foo$ $x^{$"
    figure = Figure()
    figure.suptitle(name)
    left, right = figure.subplots(1, 2)
    left.plot([1, 10], [1, 10], label=name)
    left.set(title=name, xlabel=name, ylabel=name, yscale="log")
    left.legend(title=name)
    image = right.imshow(np.eye(2))
    figure.colorbar(image, label=name)
    figure.text(0, 0, name)
    pixels = plots.png(figure)
    assert pixels[:8] == b"\x89PNG\r\n\x1a\n"
    assert not words(figure)[name]
    powers = [is_math for text, is_math in words(figure).items() if "mathdefault" in text]
    assert powers
    assert all(powers)  # at the axis, a power of ten still is one


def test_a_picture_appears_whole(tmp_path, monkeypatch):
    figure = Figure()
    plots.save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    before = (tmp_path / "a.png").read_bytes()

    def fail(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(KeyboardInterrupt):
        plots.save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
