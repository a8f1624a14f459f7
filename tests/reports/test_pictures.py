"""What the pictures show, read from the figures before they become pixels."""

import numpy as np
import pytest

from xql_jax.logs.csv_rows import Row
from xql_jax.pictures import run_pictures, style


@pytest.fixture
def figures(monkeypatch):
    """The figures rendered while the test ran."""
    rendered = []
    monkeypatch.setattr(style, "render", lambda figure: rendered.append(figure) or b"")
    return rendered


def test_a_learning_curve_has_the_seeds_their_mean_and_students_interval(figures, tmp_path):
    rows = [
        Row(step, seed, (("beta", beta),), {"score": step * value * beta})
        for step in (5, 10)
        for beta in (10, 1)
        for seed, value in enumerate((1.0, 2.0, 6.0))
    ]
    run_pictures.plot_learning_curve(rows, "a title", tmp_path / "curve.png")
    (axes,) = figures[0].axes
    lines = {tuple(line.get_ydata()) for line in axes.lines}
    assert lines == {(5 * beta * value, 10 * beta * value) for beta in (1, 10) for value in (1, 2, 3, 6)}
    assert [text.get_text() for text in axes.get_legend().texts] == ["beta=1", "beta=10"]
    # t of two degrees of freedom, times sqrt(7), the deviation of 1, 2 and 6, over sqrt(3)
    half_width = 4.3026527 * np.sqrt(7.0) / np.sqrt(3.0)
    ends = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (ends.min(), ends.max()) == pytest.approx((30 - 10 * half_width, 30 + 10 * half_width))
